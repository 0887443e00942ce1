//! Whatever a policy answers, and whatever the host's tiers are: clamped, it is
//! within bounds, and clamping again changes nothing.

mod clamped;

use aio_core::{
    Action, Draft, Drafter, HostInfo, MAX_ANSWERS, MAX_LABEL_BYTES, MAX_QUESTION_BYTES,
    MAX_REASON_BYTES, Plan, Probe, RoundDecision, TierInfo,
};
use clamped::{check_decision, check_plan, check_probe};
use proptest::prelude::*;

fn hosts() -> impl Strategy<Value = HostInfo> {
    let tier = |tokenizer| TierInfo {
        name: "tier".into(),
        parameters: 1,
        weight_bytes: 1,
        kv_bytes_per_token: 1,
        context: 2048,
        tokenizer,
    };
    (prop::collection::vec(0_u32..3, 0..5), numbers(), numbers()).prop_map(
        move |(tokenizers, max_draft_length, max_ngram)| HostInfo {
            version: "0".into(),
            device: "none".into(),
            tiers: tokenizers.into_iter().map(tier).collect(),
            max_draft_length,
            max_ngram,
        },
    )
}

/// Small numbers as often as any.
fn numbers() -> impl Strategy<Value = u32> {
    prop_oneof![0_u32..16, any::<u32>(), Just(u32::MAX)]
}

fn drafts() -> impl Strategy<Value = Draft> {
    let drafter = prop::sample::select(vec![
        Drafter::None,
        Drafter::Lookup,
        Drafter::Model,
        Drafter::LookupThenModel,
    ]);
    // Any bits: infinities and all kinds of NaN among them.
    let confidence = prop_oneof![any::<u32>().prop_map(f32::from_bits), 0.0_f32..=1.0];
    let fields =
        (drafter, numbers(), numbers(), numbers(), prop::option::of(numbers()), confidence);
    fields.prop_map(|(drafter, length, ngram_min, ngram_max, draft_tier, min_confidence)| Draft {
        drafter,
        length,
        ngram_min,
        ngram_max,
        draft_tier,
        min_confidence,
    })
}

/// Texts around `most` bytes, of characters of one to four bytes.
fn texts(most: usize) -> impl Strategy<Value = String> {
    let character = prop::sample::select(vec!['a', 'é', '€', '😀', '\u{1b}']);
    (character, 0..most + 3, 0_usize..4).prop_map(|(character, count, before)| {
        "x".repeat(before) + &character.to_string().repeat(count)
    })
}

proptest! {
    #[test]
    fn a_plan_is_brought_into_bounds_once_and_for_all(
        host in hosts(),
        tier in numbers(),
        draft in drafts(),
        ask_every in numbers(),
        label in texts(MAX_LABEL_BYTES),
        reason in texts(MAX_REASON_BYTES),
    ) {
        check_plan(Plan { tier, draft, ask_every, label, reason }, &host);
    }

    #[test]
    fn a_probe_is_brought_into_bounds_once_and_for_all(
        host in hosts(),
        tier in numbers(),
        question in texts(MAX_QUESTION_BYTES),
        answers in prop::collection::vec(texts(MAX_LABEL_BYTES), 0..MAX_ANSWERS + 3),
    ) {
        let asks = answers.len() >= 2 && answers.iter().take(MAX_ANSWERS).all(|a| !a.is_empty());
        prop_assert_eq!(check_probe(Probe { tier, question, answers }, &host), asks);
    }

    #[test]
    fn a_decision_is_brought_into_bounds_once_and_for_all(
        host in hosts(),
        tier in numbers(),
        action in prop_oneof![
            Just(Action::Keep),
            drafts().prop_map(Action::Draft),
            numbers().prop_map(Action::MoveTo),
        ],
        reason in texts(MAX_REASON_BYTES),
    ) {
        check_decision(RoundDecision { request: 1, action, reason }, tier, &host);
    }
}
