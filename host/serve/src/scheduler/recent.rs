//! Answers given lately, for lookup, by tokenizer.

use std::collections::BTreeMap;

use aio_engine::drafter::lookup::RecentAnswers;

/// The tokens of answers given lately.
#[derive(Debug, Clone, Default)]
pub struct Recent {
    most: usize,
    by_tokenizer: BTreeMap<u32, RecentAnswers>,
    none: RecentAnswers,
}

impl Recent {
    /// Keeps up to `most` tokens of each tokenizer; none with 0.
    pub fn new(most: usize) -> Self {
        Self { most, ..Self::default() }
    }

    /// Those of a tokenizer.
    pub(super) fn of(&self, tokenizer: u32) -> &RecentAnswers {
        self.by_tokenizer.get(&tokenizer).unwrap_or(&self.none)
    }

    /// Keeps an answer.
    pub(super) fn keep(&mut self, tokenizer: u32, prompt: &[u32], answer: &[u32]) {
        let most = self.most;
        let kept = self.by_tokenizer.entry(tokenizer).or_insert_with(|| RecentAnswers::new(most));
        kept.keep(prompt, answer);
    }
}
