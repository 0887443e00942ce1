//! One pass of a tier: the rows of all rounds that it verifies, and of prompts, or of
//! whatever else a tier has to catch up on, as much as fits.

use std::sync::Arc;

use aio_engine::device::DeviceError;
use aio_engine::{Part, Pass};

use super::Scheduler;
use super::running::{Phase, Running};
use crate::error::ServeError;

/// What a request has in a pass.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Share {
    /// The request's place among those that run.
    index: usize,
    /// Its tokens up to here.
    end: usize,
    /// Rows that it adds.
    rows: usize,
    /// Of how many of the last of them logits are wanted; 0 where the prompt goes on
    /// in another pass.
    wanted: usize,
}

impl Scheduler {
    /// Runs one pass of a tier over everything that it has to do, and commits what
    /// comes of it.
    pub(super) fn run_tier(&mut self, tier: usize) {
        for request in &mut self.running {
            if request.tier == tier {
                let of_tier = &mut self.tiers.tiers[tier];
                // It has none where the one that it was to begin with could not be had.
                let sequence =
                    request.sequences[tier].get_or_insert_with(|| of_tier.open_sequence());
                of_tier.prepare(sequence, &request.tokens, request.drafted.tokens + 1);
            }
        }
        let shares = self.shares_with_room(tier);
        if shares.is_empty() {
            return;
        }
        match self.pass(tier, &shares) {
            Ok(pass) => self.passed(&shares, pass),
            Err(error) => self.pass_failed(&shares, error),
        }
    }

    /// The shares of a pass, after there is memory for all of them.
    fn shares_with_room(&mut self, tier: usize) -> Vec<Share> {
        loop {
            let shares = self.shares(tier);
            let needed = |share: &Share| {
                let sequence = self.running[share.index].sequences[tier].as_ref();
                sequence.map_or(0, |s| self.tiers.all()[tier].kv_needed(s, share.end))
            };
            let needed: u64 = shares.iter().map(needed).sum();
            // A request takes a pass with what it has before another one loses all.
            if self.room_among_idle(needed, Some(tier)) || self.room_among_idle(needed, None) {
                return shares;
            }
            if self.preempt_lowest() {
                continue;
            }
            // Alone, with a prompt and an answer that fit: what it holds elsewhere is
            // gone by now, so this cannot be; but a wrong sum must not hang the loop.
            let Some(share) = shares.first() else { return shares };
            let request = self.running.remove(share.index);
            let budget = self.options.kv_budget.unwrap_or(u64::MAX);
            let error = ServeError::kv_budget(self.kv_bytes() + needed, budget);
            self.fail(request, error);
        }
    }

    /// What everybody has in the next pass of a tier: rounds whole, then prompts in
    /// order of rank.
    fn shares(&self, tier: usize) -> Vec<Share> {
        let on_tier = |(_, r): &(usize, &Running)| r.tier == tier && r.finish.is_none();
        let here = self.running.iter().enumerate().filter(on_tier);
        let (rounds, prompts): (Vec<_>, Vec<_>) =
            here.partition(|(_, r)| r.is_in_rounds() && r.is_caught_up());
        let mut shares: Vec<Share> = Vec::with_capacity(rounds.len() + 1);
        let widest = self.tiers.all()[tier].widest();
        let mut left = widest;
        for (index, request) in rounds {
            let wanted = request.drafted.tokens + 1;
            if wanted <= left {
                left -= wanted;
                let end = request.tokens.len();
                shares.push(Share { index, end, rows: wanted, wanted });
            }
        }
        if !shares.is_empty() {
            left = left.min(self.options.prefill_chunk);
        }
        for (index, request) in prompts {
            if left == 0 {
                break;
            }
            let held = request.sequences[tier].as_ref().map_or(0, |s| s.cached());
            let rows = (request.tokens.len() - held).min(left);
            left -= rows;
            let end = held + rows;
            let wanted = usize::from(end == request.tokens.len());
            shares.push(Share { index, end, rows, wanted });
        }
        shares.sort_unstable_by_key(|share| share.index);
        shares
    }

    fn pass(&mut self, tier: usize, shares: &[Share]) -> Result<Pass, DeviceError> {
        let Self { tiers, running, logits, .. } = self;
        let mut parts = Vec::with_capacity(shares.len());
        let mut shares = shares.iter().peekable();
        for (index, request) in running.iter_mut().enumerate() {
            let Some(share) = shares.next_if(|share| share.index == index) else { continue };
            if let Some(sequence) = &mut request.sequences[tier] {
                let tokens = &request.tokens[..share.end];
                parts.push(Part { sequence, tokens, wanted: share.wanted });
            }
        }
        tiers.tiers[tier].pass(&mut parts, logits)
    }

    /// Takes in what a pass brought.
    fn passed(&mut self, shares: &[Share], pass: Pass) {
        self.status.passes += 1;
        self.status.rows += pass.rows as u64;
        let mut row = 0;
        let mut probed = Vec::new();
        for share in shares {
            let request = &mut self.running[share.index];
            request.spent.rows += share.rows;
            request.spent.seconds += pass.seconds;
            if share.wanted > 0 {
                match request.phase {
                    Phase::Probing(_) => probed.push((request.number, row)),
                    _ => self.commit(share.index, row),
                }
            }
            row += share.wanted;
        }
        for (number, row) in probed {
            self.probe_passed(number, row);
        }
    }

    fn probe_passed(&mut self, number: u64, row: usize) {
        let Some(i) = self.running.iter().position(|r| r.number == number) else { return };
        let mut request = self.running.remove(i);
        match self.probed(&mut request, row) {
            Ok(()) => self.running.insert(i, request),
            Err(error) => self.fail(request, error),
        }
    }

    /// Whoever stood in the pass cannot go on.
    fn pass_failed(&mut self, shares: &[Share], error: DeviceError) {
        let error = Arc::new(error);
        for share in shares.iter().rev() {
            let request = self.running.remove(share.index);
            self.fail(request, ServeError::Device(Arc::clone(&error)));
        }
    }
}
