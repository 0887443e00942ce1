//! Our side of the engine benchmark: a tier, driven as the decode loop drives
//! it, with token ids that are the same in every run.

use std::time::Instant;

use aio_engine::device::{Device, Logits};
use aio_engine::{Tier, TokenSequence};
use aio_serve::TierSource;

use super::{Fitting, Found, REPETITIONS};
use crate::{BenchError, stats};

/// A model under measurement.
pub(super) struct Subject {
    pub(super) tier: Tier,
    pub(super) load_seconds: f64,
    tokens: Vec<u32>,
    /// For prefills, from nothing each time.
    scratch: TokenSequence,
    /// One for each context, filled once.
    filled: Vec<TokenSequence>,
    logits: Logits,
}

impl Subject {
    /// Opens the model.
    pub(super) fn open(source: &TierSource, device: &dyn Device) -> Result<Self, BenchError> {
        let start = Instant::now();
        let mut tier = Tier::open(&source.name, &source.path, device, None)
            .map_err(|e| BenchError::Open { name: source.name.clone(), source: Box::new(e) })?;
        let load_seconds = start.elapsed().as_secs_f64();
        let scratch = tier.open_sequence();
        let (tokens, filled, logits) = (Vec::new(), Vec::new(), Logits::default());
        Ok(Self { tier, load_seconds, tokens, scratch, filled, logits })
    }

    /// Longest sequence that the model holds.
    pub(super) fn context(&self) -> usize {
        self.tier.context()
    }

    /// Most rows of a pass.
    pub(super) fn widest_gear(&self) -> usize {
        self.tier.facts().gears.last().map_or(1, |gear| gear.rows as usize)
    }

    /// Fills a sequence up to each context, and runs each size once so that no
    /// round meets cold memory or compiles a gear.
    pub(super) fn prepare(&mut self, fitting: &Fitting) -> Result<(), BenchError> {
        let most = fitting.rows.iter().copied().max().unwrap_or(0).max(fitting.decode);
        let longest = fitting.contexts.iter().copied().max().unwrap_or(0);
        let needed = (longest + most).max(fitting.prefill);
        self.tokens = tokens(needed, self.tier.description().vocabulary as u32);
        for &context in &fitting.contexts {
            let mut sequence = self.tier.open_sequence();
            self.tier.extend(&mut sequence, &self.tokens[..context], 1, &mut self.logits)?;
            self.filled.push(sequence);
        }
        for &rows in fitting.rows.iter().chain([&1]) {
            self.pass(0, fitting.contexts[0], rows)?;
        }
        self.prefill(fitting)?;
        Ok(())
    }

    /// One measurement of everything.
    pub(super) fn round(&mut self, fitting: &Fitting) -> Result<Found, BenchError> {
        let mut found = Found { prefill: self.prefill(fitting)?, ..Found::default() };
        for (i, &context) in fitting.contexts.iter().enumerate() {
            found.decode.push(self.decode(i, context, fitting.decode)?);
            let mut passes = Vec::with_capacity(fitting.rows.len());
            for &rows in &fitting.rows {
                let mut seconds = [0.0; REPETITIONS];
                for seconds in &mut seconds {
                    *seconds = self.pass(i, context, rows)?;
                }
                passes.push(1e3 * stats::median(&seconds).unwrap_or(f64::NAN));
            }
            found.passes.push(passes);
        }
        Ok(found)
    }

    /// Tokens a second of a prefill, with the last token's logits.
    fn prefill(&mut self, fitting: &Fitting) -> Result<f64, BenchError> {
        self.tier.roll_back(&mut self.scratch, 0);
        let tokens = &self.tokens[..fitting.prefill];
        let pass = self.tier.extend(&mut self.scratch, tokens, 1, &mut self.logits)?;
        Ok(fitting.prefill as f64 / pass.seconds)
    }

    /// Tokens a second of decoding one by one from a context on.
    fn decode(&mut self, i: usize, context: usize, count: usize) -> Result<f64, BenchError> {
        let mut seconds = 0.0;
        for n in 1..=count {
            let tokens = &self.tokens[..context + n];
            seconds += self.tier.extend(&mut self.filled[i], tokens, 1, &mut self.logits)?.seconds;
        }
        self.tier.roll_back(&mut self.filled[i], context);
        Ok(count as f64 / seconds)
    }

    /// Seconds of one pass of `rows` rows at a context, with the logits of all.
    fn pass(&mut self, i: usize, context: usize, rows: usize) -> Result<f64, BenchError> {
        let tokens = &self.tokens[..context + rows];
        let pass = self.tier.extend(&mut self.filled[i], tokens, rows, &mut self.logits)?;
        self.tier.roll_back(&mut self.filled[i], context);
        Ok(pass.seconds)
    }
}

/// `count` token ids that look like chance and are always the same (Knuth's
/// linear congruential generator); the peer takes chance ones as well.
pub(crate) fn tokens(count: usize, vocabulary: u32) -> Vec<u32> {
    let mut state = 0u64;
    let mut next = || {
        state =
            state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        ((state >> 32) as u32) % vocabulary.max(1)
    };
    (0..count).map(|_| next()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_are_in_the_vocabulary_and_always_the_same() {
        let some = tokens(100, 1000);
        assert_eq!(some, tokens(100, 1000));
        assert_eq!(some[..50], tokens(50, 1000)[..]);
        assert!(some.iter().all(|&t| t < 1000));
        assert!(some.windows(2).any(|pair| pair[0] != pair[1]));
    }
}
