//! Arbitrary answers of a policy, on arbitrary hosts: clamped they are within
//! bounds, and clamping again changes nothing.

#![no_main]

use aio_core::{
    Action, Draft, Drafter, HostInfo, MAX_ANSWERS, MAX_LABEL_BYTES, MAX_QUESTION_BYTES,
    MAX_REASON_BYTES, Plan, Probe, RoundDecision, TierInfo,
};
use arbitrary::Arbitrary;
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

fn check_draft(draft: &Draft, tier: u32, host: &HostInfo) {
    assert!(draft.length <= host.max_draft_length);
    assert!((0.0..=1.0).contains(&draft.min_confidence));
    if draft.drafter.uses_lookup() {
        assert!(1 <= draft.ngram_min && draft.ngram_min <= draft.ngram_max);
        assert!(draft.ngram_max <= host.max_ngram.max(1));
    }
    if draft.drafter.uses_model() {
        let drafts = draft.draft_tier.expect("a draft model is named");
        let tokenizer = |tier: u32| host.tiers[tier as usize].tokenizer;
        assert!(drafts < tier && tokenizer(drafts) == tokenizer(tier));
    }
}

fuzz_target!(|input: Input| {
    let host = host(&input.tokenizers, input.max_draft_length, input.max_ngram);
    match input.answer {
        Answer::Plan { tier, draft, ask_every, label, reason } => {
            let plan = Plan { tier, draft: draft.into(), ask_every, label, reason };
            let once = plan.clamped(&host).value;
            assert!(once.tier <= host.largest_tier());
            assert!(once.label.len() <= MAX_LABEL_BYTES && once.reason.len() <= MAX_REASON_BYTES);
            check_draft(&once.draft, once.tier, &host);
            let twice = once.clone().clamped(&host);
            assert!(twice.changes.is_empty() && twice.value == once, "{:?}", twice.changes);
        }
        Answer::Probe { tier, question, answers } => {
            let Some(once) = (Probe { tier, question, answers }).clamped(&host) else { return };
            let once = once.value;
            assert!(once.tier <= host.largest_tier());
            assert!(once.question.len() <= MAX_QUESTION_BYTES);
            assert!((2..=MAX_ANSWERS).contains(&once.answers.len()));
            assert!(once.answers.iter().all(|a| (1..=MAX_LABEL_BYTES).contains(&a.len())));
            let twice = once.clone().clamped(&host).expect("what was in bounds stays so");
            assert!(twice.changes.is_empty() && twice.value == once, "{:?}", twice.changes);
        }
        Answer::Decision { tier, action, reason } => {
            let action = match action {
                RawAction::Keep => Action::Keep,
                RawAction::Draft(draft) => Action::Draft(draft.into()),
                RawAction::MoveTo(to) => Action::MoveTo(to),
            };
            // The host only asks about requests that run on a tier that there is.
            let tier = tier.min(host.largest_tier());
            let once = RoundDecision { request: 1, action, reason }.clamped(tier, &host).value;
            assert!(once.reason.len() <= MAX_REASON_BYTES);
            match once.action {
                Action::Keep => {}
                Action::Draft(draft) => check_draft(&draft, tier, &host),
                Action::MoveTo(to) => assert!((to as usize) < host.tiers.len()),
            }
            let twice = once.clone().clamped(tier, &host);
            assert!(twice.changes.is_empty() && twice.value == once, "{:?}", twice.changes);
        }
    }
});
