//! What must hold of every answer that was clamped: it is within bounds, and
//! clamping again changes nothing. Property tests and the fuzz target `clamp` hold
//! their answers against it.

use std::fmt::Debug;

use aio_core::{
    Action, Clamped, Draft, HostInfo, MAX_ANSWERS, MAX_LABEL_BYTES, MAX_QUESTION_BYTES,
    MAX_REASON_BYTES, Plan, Probe, RoundDecision,
};

/// Clamps a plan, twice.
pub fn check_plan(plan: Plan, host: &HostInfo) {
    let once = plan.clamped(host).value;
    assert!(once.tier <= host.largest_tier());
    assert!(once.label.len() <= MAX_LABEL_BYTES && once.reason.len() <= MAX_REASON_BYTES);
    check_draft(&once.draft, once.tier, host);
    assert_settled(once.clone().clamped(host), &once);
}

/// Clamps a probe, twice; returns whether it asks anything.
pub fn check_probe(probe: Probe, host: &HostInfo) -> bool {
    let Some(Clamped { value: once, .. }) = probe.clamped(host) else { return false };
    assert!(once.tier <= host.largest_tier());
    assert!(once.question.len() <= MAX_QUESTION_BYTES);
    assert!((2..=MAX_ANSWERS).contains(&once.answers.len()));
    assert!(once.answers.iter().all(|a| (1..=MAX_LABEL_BYTES).contains(&a.len())));
    let Some(twice) = once.clone().clamped(host) else { panic!("a probe in bounds was refused") };
    assert_settled(twice, &once);
    true
}

/// Clamps a decision for a request on a tier, twice.
pub fn check_decision(decision: RoundDecision, tier: u32, host: &HostInfo) {
    // The host only asks about requests that run on a tier that there is.
    let tier = tier.min(host.largest_tier());
    let once = decision.clamped(tier, host).value;
    assert!(once.reason.len() <= MAX_REASON_BYTES);
    match once.action {
        Action::Keep => {}
        Action::Draft(draft) => check_draft(&draft, tier, host),
        Action::MoveTo(to) => assert!((to as usize) < host.tiers.len()),
    }
    assert_settled(once.clone().clamped(tier, host), &once);
}

fn check_draft(draft: &Draft, tier: u32, host: &HostInfo) {
    assert!(draft.length <= host.max_draft_length);
    assert!((0.0..=1.0).contains(&draft.min_confidence));
    if draft.drafter.uses_lookup() {
        assert!(1 <= draft.ngram_min && draft.ngram_min <= draft.ngram_max);
        assert!(draft.ngram_max <= host.max_ngram.max(1));
    }
    if draft.drafter.uses_model() {
        let Some(drafts) = draft.draft_tier else { panic!("no draft model is named") };
        let tokenizer = |tier: u32| host.tiers[tier as usize].tokenizer;
        assert!(drafts < tier, "tier {drafts} drafts for tier {tier}");
        assert_eq!(tokenizer(drafts), tokenizer(tier));
    }
}

fn assert_settled<T: PartialEq + Debug>(twice: Clamped<T>, once: &T) {
    assert_eq!(twice.value, *once);
    assert!(twice.changes.is_empty(), "{:?}", twice.changes);
}
