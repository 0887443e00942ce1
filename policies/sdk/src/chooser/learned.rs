//! What is learned over all requests on one tier, and what is believed before
//! anything is.

use serde::{Deserialize, Serialize};

use crate::acceptance::{CLASSES, Curve};

/// Classes of match lengths that are told apart: 1, 2, 3, 4-6, 7-11, 12 and more
/// tokens. How long a suffix has occurred before says more than anything else
/// about whether what followed it then follows now.
pub const MATCHES: usize = 6;

/// The class of a match length; 0 counts as 1.
pub fn match_class(length: u32) -> usize {
    match length {
        0..=1 => 0,
        2 => 1,
        3 => 2,
        4..=6 => 3,
        7..=11 => 4,
        _ => 5,
    }
}

/// What was learned on one tier, over all requests.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Learned {
    /// The tier's name: indices may mean other models after a restart.
    pub tier: String,
    /// Acceptance of lookup, by class of match length.
    pub lookup: [Curve; MATCHES],
    /// Acceptance of the draft model; its stopping early counts as a failure.
    pub model: Curve,
    /// Of the draft model's failures, the share that was stopping early.
    pub stops: f32,
    /// Mean length of an answer, in tokens.
    pub answer_tokens: f32,
}

/// Samples that a prior of lookup is worth: a few requests overrule it.
const LOOKUP_PRIOR: f32 = 20.0;
/// Samples that the draft model's prior is worth.
const MODEL_PRIOR: f32 = 12.0;

impl Learned {
    /// Before anything is seen.
    ///
    /// A single token has occurred before almost anywhere in prose, by chance; a
    /// dozen never do: such a text is being copied. So the first token's chance
    /// rises with the match from 1 in 4 to 9 in 10. And a draft that has held for
    /// some tokens is a copy, however it began, so the chance rises with the
    /// position as well. A draft model of a third of the target's size guesses
    /// code right 9 times in 10 and prose 7 in 10; code and prose are mixed here.
    /// Answers run to 150 tokens until it is known better.
    pub fn prior(tier: &str) -> Self {
        let curve = |share| Curve::prior(share, LOOKUP_PRIOR);
        Self {
            tier: tier.into(),
            lookup: [
                curve([0.25, 0.50, 0.62, 0.72, 0.80, 0.85, 0.88, 0.90]),
                curve([0.40, 0.60, 0.70, 0.78, 0.84, 0.88, 0.90, 0.91]),
                curve([0.52, 0.68, 0.75, 0.82, 0.87, 0.90, 0.91, 0.92]),
                curve([0.65, 0.76, 0.81, 0.86, 0.89, 0.91, 0.92, 0.93]),
                curve([0.80, 0.86, 0.88, 0.90, 0.92, 0.93, 0.94, 0.94]),
                curve([0.92, 0.94, 0.94, 0.95, 0.95, 0.95, 0.95, 0.95]),
            ],
            model: Curve::prior([0.80; CLASSES], MODEL_PRIOR),
            stops: 0.3,
            answer_tokens: 150.0,
        }
    }

    /// Whether all numbers are what they can be.
    pub fn is_sane(&self) -> bool {
        self.lookup.iter().chain([&self.model]).all(Curve::is_sane)
            && (0.0..=1.0).contains(&self.stops)
            && (1.0..=1e7).contains(&self.answer_tokens)
    }

    /// An answer of so many tokens ended.
    pub fn answered(&mut self, tokens: u32) {
        self.answer_tokens += 0.1 * ((tokens as f32).clamp(1.0, 1e7) - self.answer_tokens);
    }

    /// Tokens that an answer is expected to go on for, when it has `committed`
    /// and may go on for `remaining`: up to the mean length, and an answer that
    /// is past that has shown that it is a long one.
    pub fn to_come(&self, committed: u32, remaining: u32) -> f32 {
        let committed = committed as f32;
        let expected = (self.answer_tokens - committed).max(committed / 2.0).max(16.0);
        expected.min(remaining as f32).max(1.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_prior_is_sane_and_trusts_longer_matches_and_later_positions_more() {
        let prior = Learned::prior("t");
        assert!(prior.is_sane());
        for pair in prior.lookup.windows(2) {
            assert!((0..32).all(|i| pair[1].share(i) >= pair[0].share(i)));
        }
        let rises = |curve: &Curve| (0..31).all(|i| curve.share(i + 1) >= curve.share(i));
        assert!(prior.lookup.iter().all(rises));
    }

    #[test]
    fn match_lengths_fall_into_six_classes() {
        let classes: Vec<_> = (1..=13).map(match_class).collect();
        assert_eq!(classes, [0, 1, 2, 3, 3, 3, 4, 4, 4, 4, 4, 5, 5]);
    }

    #[test]
    fn an_answer_past_the_mean_is_expected_to_go_on() {
        let prior = Learned::prior("t");
        assert_eq!(prior.to_come(0, 1000), 150.0);
        assert_eq!(prior.to_come(400, 1000), 200.0);
        assert_eq!(prior.to_come(400, 5), 5.0);
    }
}
