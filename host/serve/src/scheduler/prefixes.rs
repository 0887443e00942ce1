//! Sequences that outlive their requests, for prompts that begin alike.

use aio_engine::device::DeviceError;
use aio_engine::{Tier, TokenSequence};

/// Beginnings shorter than this are not worth sharing: computing them costs about as
/// much as copying the block in which they end.
const SHORTEST: usize = 16;

/// What is kept, by when it was last of use.
pub(super) struct Prefixes {
    /// Least recently used first.
    kept: Vec<Kept>,
    most: usize,
    reused: u64,
}

struct Kept {
    tier: usize,
    sequence: TokenSequence,
}

/// Where a sequence with a common beginning is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Found {
    index: usize,
    /// Tokens in common.
    pub common: usize,
}

impl Prefixes {
    pub fn new(most: usize) -> Self {
        Self { kept: Vec::new(), most, reused: 0 }
    }

    /// Tokens kept.
    pub fn tokens(&self) -> u64 {
        self.kept.iter().map(|kept| kept.sequence.cached() as u64).sum()
    }

    /// Tokens that needed not be computed, so far.
    pub fn reused(&self) -> u64 {
        self.reused
    }

    /// Notes that so many tokens need not be computed.
    pub fn note_reused(&mut self, tokens: usize) {
        self.reused += tokens as u64;
    }

    /// Keeps a sequence; the one that was not used for longest goes where there are
    /// too many of its tier. Returns what goes.
    pub fn keep(&mut self, tier: usize, sequence: TokenSequence) -> Option<(usize, TokenSequence)> {
        if sequence.cached() == 0 || self.most == 0 {
            return Some((tier, sequence));
        }
        // What is the beginning of another one adds nothing.
        let covered = self
            .of(tier)
            .find(|(_, kept)| kept.common(sequence.tokens()) == sequence.cached())
            .map(|(i, _)| i);
        if let Some(i) = covered {
            let kept = self.kept.remove(i);
            self.kept.push(kept);
            return Some((tier, sequence));
        }
        self.kept.push(Kept { tier, sequence });
        if self.of(tier).count() <= self.most {
            return None;
        }
        self.first(|kept| kept.tier == tier)
    }

    /// The kept sequence that has most in common with `tokens`.
    pub fn find(&self, tier: usize, tokens: &[u32]) -> Option<Found> {
        self.of(tier)
            .map(|(index, kept)| Found { index, common: kept.common(tokens) })
            .filter(|found| is_worth_sharing(found.common))
            .max_by_key(|found| found.common)
    }

    /// A sequence with what was found: the kept one itself where nobody else could use
    /// more of it or no more may be kept, else one that shares its beginning.
    ///
    /// # Errors
    /// When there is not enough memory.
    pub fn take(&mut self, found: Found, tier: &mut Tier) -> Result<TokenSequence, DeviceError> {
        let of_tier = self.kept[found.index].tier;
        let whole = self.kept[found.index].sequence.cached() == found.common;
        let mut kept = self.kept.remove(found.index);
        if whole || self.of(of_tier).count() + 1 >= self.most {
            tier.roll_back(&mut kept.sequence, found.common);
            return Ok(kept.sequence);
        }
        let fork = tier.fork(&kept.sequence, found.common);
        // It was of use: it goes last.
        self.kept.push(kept);
        fork
    }

    /// Gives up the sequence that was not used for longest.
    pub fn oldest(&mut self) -> Option<(usize, TokenSequence)> {
        self.first(|_| true)
    }

    /// Gives up the first one of such a kind.
    fn first(&mut self, is: impl Fn(&Kept) -> bool) -> Option<(usize, TokenSequence)> {
        let index = self.kept.iter().position(is)?;
        let Kept { tier, sequence } = self.kept.remove(index);
        Some((tier, sequence))
    }

    fn of(&self, tier: usize) -> impl Iterator<Item = (usize, &TokenSequence)> {
        let kept = self.kept.iter().enumerate();
        kept.filter(move |(_, kept)| kept.tier == tier).map(|(i, kept)| (i, &kept.sequence))
    }
}

/// Whether sharing a beginning of `common` tokens is worth it.
pub(super) fn is_worth_sharing(common: usize) -> bool {
    common >= SHORTEST
}
