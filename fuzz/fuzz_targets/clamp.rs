//! Arbitrary answers of a policy, on arbitrary hosts: clamped they are within
//! bounds, and clamping again changes nothing.

#![no_main]

#[path = "../../host/core/tests/clamped/mod.rs"]
mod clamped;

use aio_core::{Action, Draft, Drafter, HostInfo, Plan, Probe, RoundDecision, TierInfo};
use arbitrary::Arbitrary;
use clamped::{check_decision, check_plan, check_probe};
use libfuzzer_sys::fuzz_target;

#[derive(Debug, Arbitrary)]
struct Input {
    tokenizers: Vec<u8>,
    max_draft_length: u32,
    max_ngram: u32,
    answer: Answer,
}

#[derive(Debug, Arbitrary)]
enum Answer {
    Plan { tier: u32, draft: RawDraft, ask_every: u32, label: String, reason: String },
    Probe { tier: u32, question: String, answers: Vec<String> },
    Decision { tier: u32, action: RawAction, reason: String },
}

#[derive(Debug, Arbitrary)]
enum RawAction {
    Keep,
    Draft(RawDraft),
    MoveTo(u32),
}

#[derive(Debug, Arbitrary)]
struct RawDraft {
    drafter: u8,
    length: u32,
    ngram_min: u32,
    ngram_max: u32,
    draft_tier: Option<u32>,
    min_confidence: f32,
}

impl From<RawDraft> for Draft {
    fn from(from: RawDraft) -> Self {
        let drafter = match from.drafter % 4 {
            0 => Drafter::None,
            1 => Drafter::Lookup,
            2 => Drafter::Model,
            _ => Drafter::LookupThenModel,
        };
        let RawDraft { length, ngram_min, ngram_max, draft_tier, min_confidence, .. } = from;
        Self { drafter, length, ngram_min, ngram_max, draft_tier, min_confidence }
    }
}

fn host(tokenizers: &[u8], max_draft_length: u32, max_ngram: u32) -> HostInfo {
    let tier = |&tokenizer: &u8| TierInfo {
        name: String::new(),
        parameters: 1,
        weight_bytes: 1,
        kv_bytes_per_token: 1,
        context: 1,
        tokenizer: u32::from(tokenizer % 3),
    };
    HostInfo {
        version: String::new(),
        device: String::new(),
        tiers: tokenizers.iter().take(6).map(tier).collect(),
        max_draft_length,
        max_ngram,
    }
}

fuzz_target!(|input: Input| {
    let host = host(&input.tokenizers, input.max_draft_length, input.max_ngram);
    match input.answer {
        Answer::Plan { tier, draft, ask_every, label, reason } => {
            check_plan(Plan { tier, draft: draft.into(), ask_every, label, reason }, &host);
        }
        Answer::Probe { tier, question, answers } => {
            check_probe(Probe { tier, question, answers }, &host);
        }
        Answer::Decision { tier, action, reason } => {
            let action = match action {
                RawAction::Keep => Action::Keep,
                RawAction::Draft(draft) => Action::Draft(draft.into()),
                RawAction::MoveTo(to) => Action::MoveTo(to),
            };
            check_decision(RoundDecision { request: 1, action, reason }, tier, &host);
        }
    }
});
