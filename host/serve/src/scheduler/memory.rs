//! KV memory under a budget: who has it, and who gives it up.
//!
//! Where there is too little, first go the sequences kept for later prompts, least
//! recently used first; then what requests hold on tiers that do not answer them
//! (drafts can be done without); then the request of the lowest rank loses all that it
//! holds and waits again. What it has said stays, and is run anew when its turn comes.

use super::Scheduler;
use super::prefixes::is_worth_sharing;
use super::running::Running;
use crate::error::ServeError;

/// Tokens beyond those that it has for which a request must find room before it runs:
/// else it would be let in only to lose its memory again.
const HEADROOM: usize = 64;

impl Scheduler {
    /// Bytes of KV cache in use.
    pub(super) fn kv_bytes(&self) -> u64 {
        self.tiers.all().iter().map(|tier| tier.memory().kv).sum()
    }

    /// Makes room for `bytes` more without taking anything from a request that runs.
    pub(super) fn room_among_kept(&mut self, bytes: u64) -> bool {
        let Some(budget) = self.options.kv_budget else { return true };
        while bytes > 0 && self.kv_bytes() + bytes > budget {
            let Some((tier, sequence)) = self.prefixes.oldest() else { return false };
            self.tiers.tiers[tier].close_sequence(sequence);
        }
        true
    }

    /// As [`Scheduler::room_among_kept`]; also takes what requests hold on tiers that
    /// do not answer them, but for those on tier `but`.
    pub(super) fn room_among_idle(&mut self, bytes: u64, but: Option<usize>) -> bool {
        while !self.room_among_kept(bytes) {
            let idle = |request: &Running| {
                (0..request.sequences.len()).find(|&tier| {
                    tier != request.tier
                        && Some(tier) != but
                        && request.sequences[tier].as_ref().is_some_and(|s| s.cached() > 0)
                })
            };
            // The lowest rank first.
            let found =
                (0..self.running.len()).rev().find_map(|i| Some((i, idle(&self.running[i])?)));
            let Some((i, tier)) = found else { return false };
            if let Some(sequence) = self.running[i].sequences[tier].take() {
                self.tiers.tiers[tier].close_sequence(sequence);
            }
        }
        true
    }

    /// Takes the memory of the request of the lowest rank, or its turn to get some; it
    /// waits from now on. False where it is the only one that runs.
    pub(super) fn preempt_lowest(&mut self) -> bool {
        if self.running.len() < 2 {
            return false;
        }
        let Some(mut request) = self.running.pop() else { return false };
        request.drop_draft();
        request.preemptions += 1;
        self.status.preemptions += 1;
        self.close(&mut request);
        self.wait(request);
        true
    }

    /// Frees all that a request holds.
    pub(super) fn close(&mut self, request: &mut Running) {
        for (tier, sequence) in request.sequences.iter_mut().enumerate() {
            if let Some(sequence) = sequence.take() {
                self.tiers.tiers[tier].close_sequence(sequence);
            }
        }
    }

    /// Keeps what a request held for prompts that begin alike.
    pub(super) fn release(&mut self, request: &mut Running) {
        if !request.has_begun() {
            request.cached_tokens = 0;
        }
        for (tier, sequence) in request.sequences.iter_mut().enumerate() {
            let Some(sequence) = sequence.take() else { continue };
            if let Some((tier, sequence)) = self.prefixes.keep(tier, sequence) {
                self.tiers.tiers[tier].close_sequence(sequence);
            }
        }
    }

    /// Opens a request's sequence on a tier, if it has none, with as much of `tokens`
    /// as anybody holds.
    pub(super) fn open(&mut self, request: &mut Running, tier: usize) -> Result<(), ServeError> {
        let held = request.sequences[tier].as_ref().map_or(0, |s| s.common(&request.tokens));
        let kept = self.prefixes.find(tier, &request.tokens).filter(|kept| kept.common > held);
        let at_least = kept.map_or(held, |kept| kept.common);
        let opened = match self.running_prefix(tier, &request.tokens, at_least) {
            Some((other, common)) => {
                let others = self.running[other].sequences[tier].as_ref();
                others.map(|s| self.tiers.tiers[tier].fork(s, common)).transpose()?
            }
            None => {
                let take = |kept| self.prefixes.take(kept, &mut self.tiers.tiers[tier]);
                kept.map(take).transpose()?
            }
        };
        let opened = match opened {
            Some(opened) => {
                let reused = opened.cached() - held;
                self.prefixes.note_reused(reused);
                if tier == request.tier && !request.has_begun() {
                    request.cached_tokens = reused;
                }
                opened
            }
            None if request.sequences[tier].is_some() => return Ok(()),
            None => self.tiers.tiers[tier].open_sequence(),
        };
        if let Some(old) = request.sequences[tier].replace(opened) {
            self.tiers.tiers[tier].close_sequence(old);
        }
        Ok(())
    }

    /// As [`Scheduler::open`], for a request that runs.
    pub(super) fn open_running(&mut self, i: usize, tier: usize) -> Result<(), ServeError> {
        // Out of the list meanwhile: it is not to share with itself.
        let mut request = self.running.remove(i);
        let opened = self.open(&mut request, tier);
        self.running.insert(i, request);
        opened
    }

    /// The running request that has more than `at_least` tokens in common with these
    /// on a tier, and how many.
    fn running_prefix(
        &self,
        tier: usize,
        tokens: &[u32],
        at_least: usize,
    ) -> Option<(usize, usize)> {
        let common = |r: &Running| r.sequences[tier].as_ref().map_or(0, |s| s.common(tokens));
        (0..self.running.len())
            .map(|i| (i, common(&self.running[i])))
            .filter(|&(_, common)| common > at_least && is_worth_sharing(common))
            .max_by_key(|&(_, common)| common)
    }

    /// Refuses what can never fit: prompt and answer on the tier that answers.
    pub(super) fn check_budget(&self, request: &Running) -> Result<(), ServeError> {
        let Some(budget) = self.options.kv_budget else { return Ok(()) };
        let tier = &self.tiers.all()[request.tier];
        let most = (request.prompt_tokens + request.request.max_tokens).min(tier.context());
        let needed = tier.kv_needed_anew(most);
        if needed <= budget { Ok(()) } else { Err(ServeError::kv_budget(needed, budget)) }
    }

    /// Bytes that those who run need for their next pass: more than nothing where their
    /// last block is full, or has come to be shared.
    pub(super) fn needed_next(&self) -> u64 {
        let of = |request: &Running| {
            let tier = &self.tiers.all()[request.tier];
            let length = (request.tokens.len() + 1).min(tier.context());
            let sequence = request.sequences[request.tier].as_ref();
            sequence.map_or(0, |sequence| tier.kv_needed(sequence, length))
        };
        self.running.iter().map(of).sum()
    }

    /// Bytes that a request's tier needs to hold all of its tokens and some more.
    pub(super) fn needed_to_begin(&self, request: &Running) -> u64 {
        let tier = &self.tiers.all()[request.tier];
        let left = request.request.max_tokens.saturating_sub(request.committed());
        let length = (request.tokens.len() + left.min(HEADROOM)).min(tier.context());
        match &request.sequences[request.tier] {
            Some(sequence) => tier.kv_needed(sequence, length),
            None => tier.kv_needed_anew(length),
        }
    }
}
