//! From logits to tokens of an answer: the only place where tokens become part of one.

use aio_core::{FinishReason, RoundRecord};
use aio_engine::Tier;
use aio_engine::device::Logits;
use aio_engine::sampling::log_probabilities;

use super::Scheduler;
use super::running::{Drafted, Phase, Running};
use crate::event::{Event, Likelihood, TextEvent, TokenChoice};

impl Scheduler {
    /// A request's tokens were run, the logits of its last one and of its draft begin
    /// at row `row`: commits what the target itself would have said, rolls the rest
    /// back, and shows the text.
    pub(super) fn commit(&mut self, index: usize, row: usize) {
        let Self { tiers, running, logits, acceptance, status, events, .. } = self;
        let request = &mut running[index];
        let tier = &mut tiers.tiers[request.tier];
        let drafted = std::mem::replace(&mut request.drafted, Drafted::NONE);
        let known = request.tokens.len() - drafted.tokens;
        let accepted = choose(request, tier, logits, row, known);
        let committed = request.tokens.len() - known;
        status.committed_tokens += committed as u64;
        let held = request.tokens.len().saturating_sub(1);
        if let Some(sequence) = &mut request.sequences[request.tier] {
            tier.roll_back(sequence, held);
        }
        let spent = std::mem::take(&mut request.spent);
        if request.phase == Phase::Prompt {
            request.phase = Phase::Rounds;
            request.prefill_rows = spent.rows;
            request.prefill_seconds = spent.seconds;
        } else {
            acceptance.note(
                request.tier as u32,
                drafted.drafter,
                drafted.tokens as u32,
                accepted as u32,
            );
            let (action, reason) = std::mem::take(&mut request.decided);
            request.rounds.push(RoundRecord {
                tier: request.tier as u32,
                drafter: drafted.drafter,
                drafted: drafted.tokens as u32,
                accepted: accepted as u32,
                committed: committed as u32,
                rows: spent.rows as u32,
                draft_tier: drafted.tier.map(|tier| tier as u32),
                draft_passes: drafted.passes as u32,
                draft_rows: drafted.rows as u32,
                draft_milliseconds: (drafted.seconds * 1e3) as f32,
                verify_milliseconds: (spent.seconds * 1e3) as f32,
                action,
                reason,
            });
        }
        events.extend(request.more().map(|more| (request.number, Event::Text(more))));
    }
}

impl Running {
    /// What the client was not told of yet.
    pub(super) fn more(&mut self) -> Option<TextEvent> {
        let text = self.text.take(self.finish.is_some()).to_owned();
        let tokens = std::mem::take(&mut self.choices);
        (!text.is_empty() || !tokens.is_empty()).then_some(TextEvent { text, tokens })
    }
}

/// Chooses the target's own token at each verified position and keeps the draft as
/// long as it says the same; returns how many drafted tokens were accepted. The first
/// `known` tokens are committed already. It looks at one token at a time: ends of
/// answers, limits and stop strings cut at the same token whatever was drafted.
fn choose(request: &mut Running, tier: &Tier, logits: &Logits, row: usize, known: usize) -> usize {
    let drafted = request.tokens.len() - known;
    let mut accepted = 0;
    for i in 0..=drafted {
        let (before, position) = (known + i, known + i - request.prompt_tokens);
        let logits = logits.row(row + i);
        let token = request.sampler.choose(logits, &request.tokens[..before], position);
        let confirmed = i < drafted && request.tokens[before] == token;
        accepted += usize::from(confirmed);
        if tier.tokenizer().is_end_of_generation(token) {
            request.tokens.truncate(before);
            request.finish.get_or_insert(FinishReason::Stop);
            break;
        }
        if let Some(top) = request.request.logprobs {
            request.choices.push(choice(tier, logits, token, top));
        }
        if !confirmed {
            request.tokens.truncate(before);
            request.tokens.push(token);
        }
        let stopped = request.text.push(token);
        let generated = before + 1 - request.prompt_tokens;
        let full = generated >= request.request.max_tokens || before + 1 >= tier.context();
        if stopped || full {
            request.tokens.truncate(before + 1);
            let finish = if stopped { FinishReason::Stop } else { FinishReason::Length };
            request.finish.get_or_insert(finish);
            break;
        }
        if !confirmed {
            break;
        }
    }
    if request.finish.is_some() {
        request.text.finish();
    }
    accepted
}

/// A token and its likelihood, and the likeliest `top`.
fn choice(tier: &Tier, logits: &[f32], token: u32, top: usize) -> TokenChoice {
    let likelihood = |(token, logprob): (u32, f64)| Likelihood {
        token,
        bytes: tier.tokenizer().token_bytes(token).to_vec(),
        logprob: logprob as f32,
    };
    let (chosen, top) = log_probabilities(logits, token, top);
    TokenChoice {
        chosen: likelihood((token, chosen)),
        top: top.into_iter().map(likelihood).collect(),
    }
}
