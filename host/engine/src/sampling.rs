//! Choosing a token from logits.
//!
//! The choice is a function of the logits, the tokens before, the settings, the
//! seed and the position in the answer, and of nothing else (law 1). Noise is
//! not drawn from a stream but computed from (seed, position, token), by the
//! Gumbel-max method: the token with the highest `logit / temperature + noise`
//! is a draw from the softmax (Gumbel 1954; Maddison et al. 2014, "A* Sampling").
//! A draft model that samples with the same noise tends to draw the same token
//! as the target does, which is what makes its drafts accepted when the
//! temperature is not 0.
//!
//! This module must not know models, tokenizers or drafts.

use aio_core::mix;
use serde::{Deserialize, Serialize};

/// How tokens are chosen.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Sampling {
    /// 0 takes the likeliest token; 1 samples from the model's own distribution.
    pub temperature: f32,
    /// Keeps this many of the likeliest tokens; 0 keeps all.
    pub top_k: usize,
    /// Keeps the smallest set of likeliest tokens whose probabilities sum to
    /// this; 1 keeps all.
    pub top_p: f32,
    /// Keeps tokens with at least this share of the likeliest one's probability;
    /// 0 keeps all.
    pub min_p: f32,
    /// Divides positive (multiplies negative) logits of tokens that occurred
    /// lately; 1 does nothing (Keskar et al. 2019, CTRL).
    pub repetition_penalty: f32,
    /// How many of the last tokens, prompt included, the penalty looks at.
    pub repetition_window: usize,
    /// Keys the noise.
    pub seed: u64,
}

impl Default for Sampling {
    fn default() -> Self {
        Self {
            temperature: 0.0,
            top_k: 0,
            top_p: 1.0,
            min_p: 0.0,
            repetition_penalty: 1.0,
            repetition_window: 64,
            seed: 0,
        }
    }
}

impl Sampling {
    /// Checks that every setting is in its range.
    ///
    /// # Errors
    /// One sentence that names the setting and its range.
    pub fn check(&self) -> Result<(), String> {
        let wrong = |what: &str, range: &str| Err(format!("{what} must be {range}"));
        if !(self.temperature.is_finite() && self.temperature >= 0.0) {
            return wrong("temperature", "0 (greedy) or a positive number");
        }
        if !(self.top_p > 0.0 && self.top_p <= 1.0) {
            return wrong("top_p", "above 0 and at most 1");
        }
        if !(0.0..=1.0).contains(&self.min_p) {
            return wrong("min_p", "from 0 to 1");
        }
        if !(self.repetition_penalty.is_finite() && self.repetition_penalty > 0.0) {
            return wrong("repetition_penalty", "a positive number (1 does nothing)");
        }
        Ok(())
    }
}

/// Applies [`Sampling`] to rows of logits; keeps its buffers between calls.
#[derive(Debug)]
pub struct Sampler {
    settings: Sampling,
    logits: Vec<f32>,
    kept: Vec<u32>,
}

impl Sampler {
    /// A sampler with these settings.
    pub fn new(settings: Sampling) -> Self {
        Self { settings, logits: Vec::new(), kept: Vec::new() }
    }

    /// The settings.
    pub fn settings(&self) -> &Sampling {
        &self.settings
    }

    /// Chooses the token at `position` of the answer (from 0), given its logits
    /// and all tokens before it, prompt included.
    pub fn choose(&mut self, logits: &[f32], before: &[u32], position: usize) -> u32 {
        let penalised = self.settings.repetition_penalty != 1.0;
        if self.settings.temperature == 0.0 && !penalised {
            return argmax(logits);
        }
        self.logits.clear();
        self.logits.extend_from_slice(logits);
        if penalised {
            self.penalise(before);
        }
        if self.settings.temperature == 0.0 {
            return argmax(&self.logits);
        }
        let scale = 1.0 / self.settings.temperature;
        for logit in &mut self.logits {
            // A NaN can never be chosen; -inf is what a masked token has.
            *logit = if logit.is_nan() { f32::NEG_INFINITY } else { *logit * scale };
        }
        self.keep();
        self.draw(position)
    }

    fn penalise(&mut self, before: &[u32]) {
        let start = before.len().saturating_sub(self.settings.repetition_window);
        let mut lately = before[start..].to_vec();
        lately.sort_unstable();
        lately.dedup();
        for token in lately {
            if let Some(logit) = self.logits.get_mut(token as usize) {
                let penalty = self.settings.repetition_penalty;
                *logit = if *logit > 0.0 { *logit / penalty } else { *logit * penalty };
            }
        }
    }

    /// Fills `kept` with the tokens that top-k, top-p and min-p leave, in that
    /// order; empty when they leave all.
    fn keep(&mut self) {
        self.kept.clear();
        let Sampling { top_k, top_p, min_p, .. } = self.settings;
        if top_k == 0 && top_p >= 1.0 && min_p <= 0.0 {
            return;
        }
        let logits = &self.logits;
        let likelier =
            |a: &u32, b: &u32| logits[*b as usize].total_cmp(&logits[*a as usize]).then(a.cmp(b));
        self.kept.extend(0..logits.len() as u32);
        if top_k > 0 && top_k < self.kept.len() {
            self.kept.select_nth_unstable_by(top_k - 1, likelier);
            self.kept.truncate(top_k);
        }
        if min_p > 0.0 {
            let most = self.kept.iter().map(|&t| logits[t as usize]).fold(f32::MIN, f32::max);
            let floor = most + min_p.ln();
            self.kept.retain(|&t| logits[t as usize] >= floor);
        }
        if top_p < 1.0 {
            self.kept.sort_unstable_by(likelier);
            let most = self.kept.first().map_or(0.0, |&t| logits[t as usize]);
            let weight = |t: u32| f64::from(logits[t as usize] - most).exp();
            let total: f64 = self.kept.iter().map(|&t| weight(t)).sum();
            let mut sum = 0.0;
            let enough = self.kept.iter().position(|&t| {
                sum += weight(t);
                sum >= f64::from(top_p) * total
            });
            self.kept.truncate(enough.map_or(self.kept.len(), |i| i + 1));
        }
    }

    /// The kept token with the highest logit plus noise.
    fn draw(&self, position: usize) -> u32 {
        let key = mix(self.settings.seed ^ mix(position as u64));
        let mut best = (f64::NEG_INFINITY, argmax(&self.logits));
        let mut consider = |token: u32| {
            let logit = f64::from(self.logits[token as usize]);
            // Even the most noise there is would not lift it: no need to compute it.
            if logit + MOST_NOISE <= best.0 {
                return;
            }
            let value = logit + gumbel(key, token);
            if value > best.0 {
                best = (value, token);
            }
        };
        if self.kept.is_empty() {
            // Starting from the likeliest lets the bound above skip most others.
            consider(argmax(&self.logits));
            (0..self.logits.len() as u32).for_each(&mut consider);
        } else {
            self.kept.iter().copied().for_each(&mut consider);
        }
        best.1
    }
}

/// The first of the highest logits; NaN never wins.
pub fn argmax(logits: &[f32]) -> u32 {
    let mut best = (f32::NEG_INFINITY, 0);
    for (token, &logit) in logits.iter().enumerate() {
        if logit > best.0 {
            best = (logit, token as u32);
        }
    }
    best.1
}

/// Probability of `token` under the softmax of `logits`.
pub fn probability(logits: &[f32], token: u32) -> f32 {
    let most = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let sum: f64 = logits.iter().map(|&l| f64::from(l - most).exp()).sum();
    (f64::from(logits[token as usize] - most).exp() / sum) as f32
}

/// Natural logarithm of `token`'s probability under the softmax of `logits`.
pub fn log_probability(logits: &[f32], token: u32) -> f64 {
    log_probabilities(logits, token, 0).0
}

/// Natural logarithms of probabilities under the softmax of `logits`: `token`'s, and
/// those of the likeliest `top` tokens, likeliest first (of equally likely ones the
/// smaller id first).
pub fn log_probabilities(logits: &[f32], token: u32, top: usize) -> (f64, Vec<(u32, f64)>) {
    let most = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let sum: f64 = logits.iter().map(|&l| f64::from(l - most).exp()).sum();
    let of = |token: u32| f64::from(logits[token as usize] - most) - sum.ln();
    let mut likeliest: Vec<u32> = Vec::with_capacity(top + 1);
    if top > 0 {
        for candidate in 0..logits.len() as u32 {
            let likelier = |&other: &u32| logits[other as usize] >= logits[candidate as usize];
            let place = likeliest.partition_point(likelier);
            if place < top {
                likeliest.insert(place, candidate);
                likeliest.truncate(top);
            }
        }
    }
    (of(token), likeliest.into_iter().map(|token| (token, of(token))).collect())
}

/// -ln(-ln(u)) for the largest u that [`gumbel`] uses, rounded up.
const MOST_NOISE: f64 = 36.8;

/// Standard Gumbel noise of a token.
fn gumbel(key: u64, token: u32) -> f64 {
    // 53 bits, moved off 0 and 1 by half a step.
    let u = ((mix(key ^ u64::from(token)) >> 11) as f64 + 0.5) / (1u64 << 53) as f64;
    -(-u.ln()).ln()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_likeliest_come_first_and_sum_to_one() {
        let logits = [0.5, 2.0, -1.0, 2.0];
        let (chosen, top) = log_probabilities(&logits, 2, 3);
        assert_eq!(top.iter().map(|t| t.0).collect::<Vec<_>>(), [1, 3, 0]);
        let sum: f64 = top.iter().map(|t| t.1.exp()).sum::<f64>() + chosen.exp();
        assert!((sum - 1.0).abs() < 1e-12, "{sum}");
        assert_eq!(chosen, log_probability(&logits, 2));
        let mass = 0.5f64.exp() + 2.0 * 2.0f64.exp() + (-1.0f64).exp();
        assert!((chosen - (-1.0 - mass.ln())).abs() < 1e-12, "{chosen}");
        assert_eq!(log_probabilities(&logits, 0, 0).1, []);
        assert_eq!(log_probabilities(&logits, 0, 9).1.len(), 4);
    }

    fn sampler(change: impl FnOnce(&mut Sampling)) -> Sampler {
        let mut settings = Sampling { temperature: 1.0, ..Sampling::default() };
        change(&mut settings);
        Sampler::new(settings)
    }

    /// Draws at 20,000 positions; the share of each token.
    fn shares(sampler: &mut Sampler, logits: &[f32]) -> Vec<f64> {
        let draws = 20_000;
        let mut counts = vec![0.0; logits.len()];
        for position in 0..draws {
            counts[sampler.choose(logits, &[], position) as usize] += 1.0;
        }
        counts.iter().map(|c| c / draws as f64).collect()
    }

    const LOGITS: [f32; 5] = [2.0, 1.0, 0.0, -1.0, -30.0];

    fn softmax(logits: &[f32], temperature: f64) -> Vec<f64> {
        let weights: Vec<f64> =
            logits.iter().map(|&l| (f64::from(l) / temperature).exp()).collect();
        let sum: f64 = weights.iter().sum();
        weights.iter().map(|w| w / sum).collect()
    }

    #[test]
    fn draws_follow_the_softmax() {
        for temperature in [0.5, 1.0, 2.0] {
            let mut s = sampler(|s| s.temperature = temperature);
            let expected = softmax(&LOGITS, f64::from(temperature));
            for (got, expected) in shares(&mut s, &LOGITS).iter().zip(expected) {
                // Four standard deviations of a share over 20,000 draws.
                let bound = 4.0 * (expected * (1.0 - expected) / 20_000.0).sqrt() + 1e-9;
                assert!((got - expected).abs() <= bound, "{got} for {expected}");
            }
        }
    }

    #[test]
    fn filters_leave_what_they_say() {
        let survivors = |change: fn(&mut Sampling)| -> Vec<usize> {
            let shares = shares(&mut sampler(change), &LOGITS);
            (0..5).filter(|&i| shares[i] > 0.0).collect()
        };
        assert_eq!(survivors(|s| s.top_k = 2), [0, 1]);
        // Probabilities are 0.644, 0.237, 0.087, 0.032.
        assert_eq!(survivors(|s| s.top_p = 0.7), [0, 1]);
        assert_eq!(survivors(|s| s.top_p = 0.6), [0]);
        assert_eq!(survivors(|s| s.min_p = 0.1), [0, 1, 2]);
        assert_eq!(survivors(|s| s.top_k = 1), [0]);
    }

    #[test]
    fn the_choice_depends_on_seed_and_position_alone() {
        let draw = |seed, position| sampler(|s| s.seed = seed).choose(&LOGITS, &[], position);
        let first: Vec<_> = (0..64).map(|p| draw(7, p)).collect();
        let again: Vec<_> = (0..64).rev().map(|p| draw(7, p)).collect();
        assert!(first.iter().eq(again.iter().rev()));
        assert_ne!(first, (0..64).map(|p| draw(8, p)).collect::<Vec<_>>());
    }

    #[test]
    fn skipping_hopeless_tokens_changes_no_choice() {
        let logits: Vec<f32> = (0..3000).map(|i| (mix(i) % 9000) as f32 / 100.0).collect();
        let s = sampler(|_| {});
        for position in 0..200 {
            let key = mix(mix(position));
            let value = |t: u32| f64::from(logits[t as usize]) + gumbel(key, t);
            let best = (0..3000).max_by(|a, b| value(*a).total_cmp(&value(*b))).unwrap();
            let mut s = Sampler::new(s.settings().clone());
            assert_eq!(s.choose(&logits, &[], position as usize), best);
        }
    }

    #[test]
    fn repetition_penalty_turns_the_choice() {
        let mut s = sampler(|s| {
            s.temperature = 0.0;
            s.repetition_penalty = 3.0;
            s.repetition_window = 2;
        });
        assert_eq!(s.choose(&LOGITS, &[0, 9], 0), 1);
        assert_eq!(s.choose(&LOGITS, &[0, 9, 9], 0), 0, "outside of the window");
    }

    #[test]
    fn infinities_and_nan_do_not_win() {
        let logits = [f32::NAN, f32::NEG_INFINITY, 0.5];
        assert_eq!(argmax(&logits), 2);
        for change in [|_: &mut Sampling| {}, |s: &mut Sampling| s.top_p = 0.5] {
            assert_eq!(sampler(change).choose(&logits, &[], 3), 2);
        }
        assert_eq!(argmax(&[f32::NAN]), 0, "some token must be named");
    }

    #[test]
    fn settings_out_of_range_are_named() {
        let check = |change: fn(&mut Sampling)| {
            let mut s = Sampling::default();
            change(&mut s);
            s.check()
        };
        assert!(check(|_| {}).is_ok());
        assert!(check(|s| s.temperature = -1.0).is_err_and(|e| e.contains("temperature")));
        assert!(check(|s| s.top_p = 0.0).is_err_and(|e| e.contains("top_p")));
        assert!(check(|s| s.min_p = f32::NAN).is_err_and(|e| e.contains("min_p")));
        assert!(check(|s| s.repetition_penalty = 0.0).is_err_and(|e| e.contains("repetition")));
    }
}
