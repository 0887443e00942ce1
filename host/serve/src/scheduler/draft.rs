//! Drafting for everything that comes to a round: by lookup one by one, by draft
//! models in passes that all requests of one draft tier share.

use aio_core::{Draft, Drafter};
use aio_engine::drafter::{lookup, model};

use super::Scheduler;
use super::running::{Drafted, Running};

impl Scheduler {
    /// Appends a draft to the tokens of every request whose round comes.
    pub(super) fn draft(&mut self) {
        let drafting: Vec<usize> = (0..self.running.len())
            .filter(|&i| self.running[i].is_in_rounds() && self.running[i].is_caught_up())
            .collect();
        // Draft tier, request, length.
        let mut by_model: Vec<(usize, usize, usize)> = Vec::new();
        for &i in &drafting {
            let length = self.draft_length(i, drafting.len());
            let request = &mut self.running[i];
            let Draft { drafter, ngram_min, ngram_max, draft_tier, .. } = request.draft;
            if length == 0 {
                continue;
            }
            let others = self.recent.of(self.tiers.info().tiers[request.tier].tokenizer);
            let find =
                || lookup::find(&request.tokens, others, ngram_min as usize, ngram_max as usize);
            if let Some(found) = drafter.uses_lookup().then(find).flatten() {
                let tokens = lookup::draft(&mut request.tokens, others, found, length);
                request.drafted = Drafted { drafter: Drafter::Lookup, tokens, ..Drafted::NONE };
            } else if let Some(tier) = draft_tier.filter(|_| drafter.uses_model()) {
                by_model.push((tier as usize, i, length));
            }
        }
        for tier in 0..self.tiers.all().len() {
            let of_tier = by_model.iter().filter(|(t, ..)| *t == tier);
            let of_tier: Vec<(usize, usize)> = of_tier.map(|&(_, i, length)| (i, length)).collect();
            if !of_tier.is_empty() {
                self.draft_by_model(tier, of_tier);
            }
        }
    }

    /// How many tokens may be drafted for a request when so many come to a round.
    fn draft_length(&self, i: usize, rounds: usize) -> usize {
        let request = &self.running[i];
        let tier = &self.tiers.all()[request.tier];
        // The round commits a token beyond the draft, which must fit as well.
        let room = request
            .request
            .max_tokens
            .saturating_sub(request.committed())
            .min(tier.context() - request.known())
            .saturating_sub(1);
        // All rounds of a tier stand in one pass.
        let share = (tier.widest() / rounds).saturating_sub(1);
        (request.draft.length as usize).min(room).min(share)
    }

    /// Lets one draft tier draft for several requests, so many tokens for each. What goes
    /// wrong costs the draft and nothing else.
    fn draft_by_model(&mut self, tier: usize, mut with_room: Vec<(usize, usize)>) {
        with_room.retain(|&(i, length)| self.has_draft_room(tier, i, length));
        let alone = self.running.len() == 1;
        let chunk = if alone { usize::MAX } else { self.options.prefill_chunk };
        let Self { tiers, running, logits, .. } = self;
        let mut drafts = Vec::with_capacity(with_room.len());
        let mut wanted = with_room.iter().peekable();
        for (i, request) in running.iter_mut().enumerate() {
            let Some((_, length)) = wanted.next_if(|(wanted, _)| *wanted == i) else { continue };
            drafts.extend(drafting(request, tier, *length));
        }
        let result = model::draft(&mut tiers.tiers[tier], &mut drafts, chunk, logits);
        let done = drafts.iter().map(|done| Drafted {
            drafter: if done.drafted == 0 { Drafter::None } else { Drafter::Model },
            tokens: done.drafted,
            tier: Some(tier),
            passes: done.passes,
            rows: done.rows,
            seconds: done.seconds,
        });
        let done: Vec<Drafted> = done.collect();
        for (&(i, _), drafted) in with_room.iter().zip(done) {
            self.running[i].drafted = drafted;
        }
        if let Err(error) = result {
            tracing::warn!("nothing was drafted: {error}");
        }
    }

    /// Opens the request's sequence on the draft tier and finds memory for the draft.
    fn has_draft_room(&mut self, tier: usize, i: usize, length: usize) -> bool {
        if self.running[i].sequences[tier].is_none() && self.open_running(i, tier).is_err() {
            return false;
        }
        let request = &self.running[i];
        let needed = request.sequences[tier].as_ref().map_or(0, |sequence| {
            self.tiers.all()[tier].kv_needed(sequence, request.tokens.len() + length)
        });
        self.room_among_kept(needed)
    }
}

/// A request as the draft model sees it.
fn drafting(request: &mut Running, tier: usize, length: usize) -> Option<model::Drafting<'_>> {
    let position = request.committed();
    let min_confidence = request.draft.min_confidence;
    let sequence = request.sequences[tier].as_mut()?;
    Some(model::Drafting {
        sequence,
        context: &mut request.draft_contexts[tier],
        tokens: &mut request.tokens,
        length,
        min_confidence,
        sampler: &mut request.sampler,
        position,
        drafted: 0,
        passes: 0,
        rows: 0,
        seconds: 0.0,
    })
}
