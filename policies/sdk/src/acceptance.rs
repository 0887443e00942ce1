//! How likely draft tokens are to be accepted, learned from rounds.
//!
//! - [`Curve`]: acceptance by draft position, over many requests: of the drafts
//!   that got as far as a position, the share whose token there was accepted.
//!   Exponentially weighted, from a prior worth so many samples.
//! - [`Factor`]: how one request differs from the curve: how many times as many
//!   failures as the curve foresaw. One number carries what was seen at one
//!   position, or after one kind of match, over to the others.
//! - [`expected_tokens`]: what a draft is worth: with acceptance `q(i)` at
//!   position i, a round that drafts L tokens commits
//!   `1 + q(0) + q(0) q(1) + ... + q(0) q(1) ... q(L-1)` tokens on average, the 1
//!   being the target's own.
//!
//! Nothing here may know of time or of where drafts come from.

use serde::{Deserialize, Serialize};

/// Classes of draft positions that a [`Curve`] tells apart: 0, 1, 2, 3-4, 5-7,
/// 8-11, 12-19, and all from 20 on. Late positions are rarely reached, so they
/// share what is learned of them.
pub const CLASSES: usize = 8;

/// The class of a draft position, counted from 0.
pub fn class_of(position: u32) -> usize {
    match position {
        0..=2 => position as usize,
        3..=4 => 3,
        5..=7 => 4,
        8..=11 => 5,
        12..=19 => 6,
        _ => 7,
    }
}

/// Acceptance by class of position, learned over many requests.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Curve {
    share: [f32; CLASSES],
    samples: [f32; CLASSES],
}

impl Curve {
    /// Most samples that count: older ones fade.
    pub const MEMORY: f32 = 400.0;

    /// What is believed before anything is seen, worth `samples` observations.
    pub const fn prior(share: [f32; CLASSES], samples: f32) -> Self {
        Self { share, samples: [samples; CLASSES] }
    }

    /// Learns from a round in which `drafted` tokens were drafted and the first
    /// `accepted` of them accepted, with a weight from 0 to 1. Positions after the
    /// first rejected one were not put to the test.
    pub fn observe(&mut self, drafted: u32, accepted: u32, weight: f32) {
        for position in 0..drafted.min(accepted.saturating_add(1)) {
            let hit = if position < accepted { 1.0 } else { 0.0 };
            let class = class_of(position);
            let samples = (self.samples[class] + weight).min(Self::MEMORY);
            self.samples[class] = samples;
            self.share[class] += (hit - self.share[class]) * (weight / samples).clamp(0.0, 1.0);
        }
    }

    /// Believes the shares of a list by position instead of its own where it has
    /// seen nothing yet but its prior, as if they were worth `samples`.
    pub fn adopt(&mut self, by_position: &[f32], samples: f32) {
        for (position, &share) in (0..).zip(by_position).take(CLASSES * 4) {
            let class = class_of(position);
            if !(0.0..=1.0).contains(&share) || samples.is_nan() || samples <= 0.0 {
                continue;
            }
            let total = self.samples[class] + samples;
            self.share[class] += (share - self.share[class]) * (samples / total);
            self.samples[class] = total.min(Self::MEMORY);
        }
    }

    /// Acceptance at a position, from 0 to 1.
    pub fn share(&self, position: u32) -> f32 {
        self.share[class_of(position)]
    }

    /// Acceptance by class of position.
    pub fn shares(&self) -> &[f32; CLASSES] {
        &self.share
    }

    /// Effective number of samples behind [`Curve::share`], the prior's among them.
    pub fn samples(&self, position: u32) -> f32 {
        self.samples[class_of(position)]
    }

    /// Whether all numbers are what they can be; a carried state may hold others.
    pub fn is_sane(&self) -> bool {
        self.share.iter().all(|share| (0.0..=1.0).contains(share))
            && self.samples.iter().all(|samples| (0.0..=Self::MEMORY).contains(samples))
    }
}

/// How many times as many failures as foreseen: the rate of a Poisson process
/// with a gamma prior, with fading memory.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Factor {
    failures: f32,
    foreseen: f32,
}

impl Factor {
    /// What a new observation leaves of the old ones. About the last thirty count.
    const FADE: f32 = 0.97;

    /// Notes one token put to the test, which was foreseen to fail with a
    /// probability.
    pub fn note(&mut self, failed: bool, foreseen: f32) {
        self.failures = self.failures * Self::FADE + if failed { 1.0 } else { 0.0 };
        self.foreseen = self.foreseen * Self::FADE + foreseen;
    }

    /// The factor, given what it is believed to be where nothing is seen, with a
    /// belief worth so many foreseen failures (over 0).
    pub fn value(&self, belief: f32, strength: f32) -> f32 {
        (strength * belief + self.failures) / (strength + self.foreseen)
    }

    /// Failures that were foreseen in what was seen: the evidence there is.
    pub fn evidence(&self) -> f32 {
        self.foreseen
    }
}

/// Acceptance when failures are `factor` times as many as a share says; within
/// 0.01 and 0.995, since nothing is certain.
pub fn adjusted(share: f32, factor: f32) -> f32 {
    (1.0 - (1.0 - share) * factor).clamp(0.01, 0.995)
}

/// Tokens that a round commits on average when it drafts `length` tokens, given
/// the acceptance at each position: `1 + sum of products`.
pub fn expected_tokens(length: u32, acceptance: impl Fn(u32) -> f32) -> f32 {
    let (mut tokens, mut reached) = (1.0, 1.0);
    for position in 0..length {
        reached *= acceptance(position);
        tokens += reached;
    }
    tokens
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_draft_is_worth_one_and_the_sum_of_products() {
        assert_eq!(expected_tokens(0, |_| 0.5), 1.0);
        assert_eq!(expected_tokens(3, |_| 0.5), 1.875);
        assert_eq!(expected_tokens(5, |_| 1.0), 6.0);
    }

    #[test]
    fn only_positions_that_were_tested_are_learned() {
        let prior = Curve::prior([0.5; CLASSES], 1.0);
        let mut curve = prior;
        curve.observe(8, 1, 1.0);
        assert_eq!((curve.share(0), curve.share(1)), (0.75, 0.25));
        assert_eq!(curve.share(2), 0.5);
        let mut nothing = prior;
        nothing.observe(0, 0, 1.0);
        assert_eq!(nothing, prior);
    }

    #[test]
    fn a_prior_yields_to_what_is_seen_and_the_past_fades() {
        let mut curve = Curve::prior([0.2; CLASSES], 10.0);
        (0..2000).for_each(|_| curve.observe(1, 1, 1.0));
        assert!(curve.share(0) > 0.98);
        assert_eq!(curve.samples(0), Curve::MEMORY);
        (0..2000).for_each(|_| curve.observe(1, 0, 1.0));
        assert!(curve.share(0) < 0.02);
    }

    #[test]
    fn a_factor_learns_from_successes_and_from_failures() {
        let (mut good, mut bad) = (Factor::default(), Factor::default());
        assert_eq!(good.value(1.0, 1.5), 1.0);
        for _ in 0..10 {
            good.note(false, 0.5);
            bad.note(true, 0.5);
        }
        assert!(adjusted(0.5, good.value(1.0, 1.5)) > 0.8);
        assert!(adjusted(0.5, bad.value(1.0, 1.5)) < 0.2);
    }

    #[test]
    fn what_others_measured_is_adopted_by_weight() {
        let mut curve = Curve::prior([0.5; CLASSES], 10.0);
        curve.adopt(&[1.0, f32::NAN], 30.0);
        assert_eq!((curve.share(0), curve.share(1)), (0.875, 0.5));
    }

    proptest! {
        #[test]
        fn a_curve_stays_within_bounds(
            rounds in prop::collection::vec((0u32..100, 0u32..100, 0.0f32..1.0), 0..200),
        ) {
            let mut curve = Curve::prior([0.7; CLASSES], 20.0);
            for (drafted, accepted, weight) in rounds {
                curve.observe(drafted, accepted.min(drafted), weight);
            }
            prop_assert!(curve.is_sane(), "{curve:?}");
        }

        #[test]
        fn a_longer_draft_is_never_worth_less(q in prop::collection::vec(0.0f32..=1.0, 1..48)) {
            let worth = |length| expected_tokens(length, |i| q[i as usize]);
            for length in 0..q.len() as u32 {
                prop_assert!(worth(length + 1) >= worth(length));
                prop_assert!(worth(length) <= length as f32 + 1.0);
            }
        }
    }
}
