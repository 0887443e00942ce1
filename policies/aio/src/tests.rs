//! The default policy on hand-made facts.

use aio_policy_sdk::testing::{self, Answer, Engine, Kind, host};
use aio_policy_sdk::{Setting, parse_config, start};

use super::*;

fn facts(prompt_tokens: u32, probes: Vec<ProbeResult>) -> RequestFacts {
    RequestFacts { probes, ..testing::request_facts(2, prompt_tokens) }
}

fn probed(probabilities: [f32; 3]) -> Vec<ProbeResult> {
    let entropy = -probabilities.iter().filter(|p| **p > 0.0).map(|p| p * p.ln()).sum::<f32>();
    vec![ProbeResult {
        tier: 0,
        probabilities: probabilities.into(),
        other: 0.1,
        entropy,
        milliseconds: 5.0,
    }]
}

fn verdict(config: &str, tiers: &[&str], facts: &RequestFacts) -> Verdict {
    let host = host(tiers);
    let mut policy: Aio = start(config, Start { host: &host, carried: None }).unwrap();
    policy.plan(facts, &host)
}

fn plan(config: &str, facts: &RequestFacts) -> Plan {
    match verdict(config, &["small", "large"], facts) {
        Verdict::Decided(plan) => plan,
        Verdict::Probe(probe) => panic!("probed: {probe:?}"),
    }
}

fn refusal(config: &str) -> String {
    let host = host(&["small", "large"]);
    start::<Aio>(config, Start { host: &host, carried: None }).err().unwrap_or_default()
}

#[test]
fn a_short_prompt_is_probed_on_the_small_tier() {
    let verdict = verdict("", &["small", "large"], &facts(100, vec![]));
    let Verdict::Probe(probe) = verdict else { panic!("not probed: {verdict:?}") };
    assert_eq!(probe.tier, 0);
    assert_eq!(probe.answers, ["Code", "QA", "Math"]);
    assert!(probe.answers.iter().all(|answer| probe.question.contains(answer.as_str())));
}

#[test]
fn a_sure_probe_decides_tier_and_drafts_by_class() {
    let code = plan("", &facts(100, probed([0.97, 0.02, 0.01])));
    assert_eq!((code.tier, code.label.as_str()), (0, "code"));
    assert_eq!((code.draft.drafter, code.draft.length), (Drafter::Lookup, 8));
    assert_eq!(code.reason, "probe: code 0.97, entropy 0.15 below 0.45; code goes to small");
    let math = plan("", &facts(100, probed([0.01, 0.01, 0.98])));
    assert_eq!((math.tier, math.label.as_str()), (1, "math"));
}

#[test]
fn a_probe_that_is_not_sure_goes_to_the_large_tier() {
    let plan = plan("", &facts(100, probed([0.5, 0.3, 0.2])));
    assert_eq!((plan.tier, plan.label.as_str()), (1, "unsure"));
    assert_eq!(
        plan.reason,
        "probe: code 0.50, entropy 1.03 not below 0.45, so not sure; it goes to large"
    );
}

#[test]
fn a_long_prompt_goes_to_the_large_tier_unprobed() {
    let plan = plan("", &facts(2049, vec![]));
    assert_eq!((plan.tier, plan.label.as_str()), (1, "long"));
    assert_eq!(plan.reason, "prompt of 2049 tokens, over 2048, so no probe: it goes to large");
    assert!(matches!(verdict("", &["s", "l"], &facts(2048, vec![])), Verdict::Probe(_)));
}

#[test]
fn one_tier_is_not_probed() {
    let verdict = verdict("", &["only"], &facts(100, vec![]));
    let Verdict::Decided(plan) = verdict else { panic!("probed: {verdict:?}") };
    assert_eq!((plan.tier, plan.draft.drafter), (0, Drafter::Lookup));
    assert_eq!(plan.reason, "one tier, so no probe: only answers");
}

#[test]
fn classes_that_are_answered_alike_are_not_probed() {
    let config = r#"{"unsure": {}, "classes": [
        {"label": "a", "answer": "A"}, {"label": "b", "answer": "B"}]}"#;
    let plan = plan(config, &facts(100, vec![]));
    assert_eq!((plan.tier, plan.draft), (1, Draft::NONE));
}

#[test]
fn the_paper_looks_up_for_questions_and_maths_only() {
    let config = r#"{"preset": "paper"}"#;
    let draft = |p| plan(config, &facts(100, probed(p))).draft;
    let lookup = Draft {
        drafter: Drafter::Lookup,
        length: 2,
        ngram_min: 1,
        ngram_max: 6,
        draft_tier: None,
        min_confidence: 0.0,
    };
    assert_eq!(draft([1.0, 0.0, 0.0]), Draft::NONE);
    assert_eq!(draft([0.0, 1.0, 0.0]), lookup);
    assert_eq!(draft([0.0, 0.0, 1.0]), lookup);
    assert_eq!(draft([0.4, 0.3, 0.3]), Draft::NONE);
    assert_eq!(plan(config, &facts(3000, vec![])).draft, Draft::NONE);
}

#[test]
fn parts_of_a_preset_can_be_replaced() {
    let config = r#"{"preset": "paper", "entropy_threshold": 0.1,
        "unsure": {"tier": "small", "drafter": "lookup", "draft_length": 3}}"#;
    let plan = plan(config, &facts(100, probed([0.97, 0.02, 0.01])));
    assert_eq!((plan.tier, plan.draft.length), (0, 3));
}

#[test]
fn mistakes_are_refused_by_name() {
    assert!(refusal(r#"{"entropy": 1}"#).contains("unknown field `entropy`, expected one of"));
    assert!(refusal(r#"{"preset": "fast"}"#).contains("expected `default` or `paper`"));
    assert!(refusal(r#"{"probe_tier": 2}"#).starts_with("`probe_tier` is 2, but the tiers are"));
    assert!(refusal(r#"{"entropy_threshold": -1}"#).starts_with("`entropy_threshold` is -1"));
    assert!(refusal(r#"{"classes": []}"#).starts_with("`classes` needs at least two"));
    assert_eq!(
        refusal(
            r#"{"classes": [{"label": "a", "answer": "A"},
                {"label": "b", "answer": "B", "setting": {"tier": "huge"}}]}"#
        ),
        "`classes[1].tier` is \"huge\", but the tiers are small, large (indices 0 to 1, or -1 for the largest)"
    );
}

#[test]
fn the_schema_is_json_and_knows_every_field() {
    let schema: serde_json::Value = serde_json::from_str(&Config::schema()).unwrap();
    assert_eq!(
        schema["$defs"]["setting"],
        serde_json::from_str::<serde_json::Value>(Setting::SCHEMA).unwrap()
    );
    // serde names a struct's fields when it meets one that it does not know.
    let known = parse_config::<Config>(r#"{"?": 0}"#).unwrap_err();
    for name in schema["properties"].as_object().unwrap().keys() {
        assert!(known.contains(&format!("`{name}`")), "{name} is not a field: {known}");
    }
    assert_eq!(schema["properties"].as_object().unwrap().len() * 2, known.matches('`').count() - 4);
}

#[test]
fn the_default_presets_drafts_are_chosen_round_by_round() {
    for probabilities in [[0.97, 0.02, 0.01], [0.01, 0.01, 0.98], [0.5, 0.3, 0.2]] {
        assert_eq!(plan("", &facts(100, probed(probabilities))).ask_every, 1);
    }
    assert_eq!(plan("", &facts(3000, vec![])).ask_every, 1);
}

#[test]
fn what_is_configured_stays_as_it_is_configured() {
    assert_eq!(plan(r#"{"preset": "paper"}"#, &facts(3000, vec![])).ask_every, 0);
    let config = r#"{"long": {"drafter": "lookup", "draft_length": 5}}"#;
    assert_eq!(plan(config, &facts(3000, vec![])).ask_every, 0);
    assert_eq!(plan(config, &facts(100, probed([1.0, 0.0, 0.0]))).ask_every, 1);
    let config = r#"{"classes": [{"label": "a", "answer": "A"}, {"label": "b", "answer": "B"}]}"#;
    assert_eq!(plan(config, &facts(100, probed([1.0, 0.0, 0.0]))).ask_every, 0);
}

#[test]
fn rounds_are_decided_for_requests_that_it_left_open_and_no_others() {
    let host = host(&["small", "large"]);
    let mut policy: Aio = start("", Start { host: &host, carried: None }).unwrap();
    policy.plan(&facts(3000, vec![]), &host);
    let tiers = [testing::FLAT_DRAFT, testing::FLAT].map(testing::measured).into();
    let context = testing::context(tiers);
    let matched = |request| RoundFacts { lookup_match: 12, ..testing::round_facts(request, 1) };
    let decisions = policy.rounds(&context, &[matched(1), matched(2)]);
    assert_eq!(decisions.iter().map(|d| d.request).collect::<Vec<_>>(), [1]);
    assert!(matches!(decisions[0].action, Action::Draft(d) if d.drafter == Drafter::Lookup));
}

#[test]
fn learning_is_carried_over_once_there_is_any() {
    let mut engine = Engine::new(testing::FLAT_DRAFT, testing::FLAT, 1);
    let mut policy: Aio = start("", Start { host: engine.host(), carried: None }).unwrap();
    assert!(policy.snapshot().is_empty());
    engine.run(&mut policy, &Answer::of(Kind::Edit, 200, 1));
    let state = policy.snapshot();
    let carried = Some(state.clone());
    let mut next: Aio = start("", Start { host: engine.host(), carried }).unwrap();
    assert_eq!(next.snapshot(), state);
}

#[test]
fn within_a_request_it_drafts_faster_than_its_fixed_setting_would() {
    let answers: Vec<_> = (0..4).map(|seed| Answer::of(Kind::Edit, 300, seed)).collect();
    let mut engine = Engine::new(testing::FLAT_DRAFT, testing::FLAT, 1);
    let mut policy: Aio = start("", Start { host: engine.host(), carried: None }).unwrap();
    let adaptive: f64 = answers.iter().map(|a| engine.run(&mut policy, a).milliseconds).sum();
    let mut engine = Engine::new(testing::FLAT_DRAFT, testing::FLAT, 1);
    let fixed = Draft::lookup(4);
    let fixed: f64 = answers.iter().map(|a| engine.run_fixed(fixed, a).milliseconds).sum();
    assert!(adaptive < 0.8 * fixed, "{adaptive} ms against {fixed}");
}
