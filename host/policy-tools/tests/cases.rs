//! Test cases as files: those of the shipped policies hold, and a case that does
//! not hold says where.

#![allow(clippy::unwrap_used, reason = "tests")]

use std::path::Path;

use aio_policy::{Limits, PolicyRuntime, PolicySource, Prepared};
use aio_policy_tools::{Tested, read_cases, run_cases};

fn test(policy: &'static str, files: &[(String, String)]) -> Tested {
    let runtime = PolicyRuntime::new().unwrap();
    let source = PolicySource::Builtin(policy);
    let limits = Limits::default();
    let prepared = Prepared::new(&runtime, &source, &limits, &Default::default()).unwrap();
    let read = |(name, text): &(String, String)| {
        (name.clone(), read_cases(text).unwrap_or_else(|error| panic!("{name}: {error}")))
    };
    let files: Vec<_> = files.iter().map(read).collect();
    run_cases(&runtime, &prepared, &limits, &files)
}

/// What is wrong with a single case.
fn problems(policy: &'static str, case: &str) -> Vec<String> {
    let tested = test(policy, &[("case.json".into(), case.into())]);
    assert_eq!(tested.cases.len(), 1);
    assert_eq!(tested.failed, usize::from(!tested.cases[0].problems.is_empty()));
    tested.cases[0].problems.clone()
}

#[test]
fn the_cases_of_the_shipped_policies_hold() {
    for policy in ["aio", "fixed", "goodput"] {
        let folder =
            Path::new(env!("CARGO_MANIFEST_DIR")).join("../../policies").join(policy).join("cases");
        let file = |entry: std::io::Result<std::fs::DirEntry>| {
            let path = entry.unwrap().path();
            (path.display().to_string(), std::fs::read_to_string(&path).unwrap())
        };
        let files: Vec<_> = std::fs::read_dir(folder).unwrap().map(file).collect();
        let tested = test(policy, &files);
        assert!(tested.passed > 0 && tested.failed == 0, "{tested:#?}");
    }
}

#[test]
fn what_is_not_as_expected_is_told_by_its_place() {
    let case = r#"{"name": "wrong", "config": {"drafter": "lookup"}, "calls": [
        {"plan": {}, "expect": {"decided": {"tier": 0, "draft": {"length": {"at-most": 4}}}}},
        {"plan": {}, "expect": {"probe": {"tier": 0}}},
        {"rounds": {}, "expect": [{"request": 1}]},
        {"snapshot": {}, "expect": {"bytes": 1}},
        {"finished": [], "expect": {}}
    ]}"#;
    assert_eq!(
        problems("fixed", case),
        [
            "call 1 (plan): decided.draft.length: expected at most 4, got 8",
            "call 1 (plan): decided.tier: expected 0, got 1",
            "call 2 (plan): probe: expected {\"tier\":0}, got no such field, but decided",
            "call 3 (rounds): answer: expected 1 elements, got 0: []",
            "call 4 (snapshot): bytes: expected 1, got 0",
        ]
    );
}

#[test]
fn a_policy_that_refuses_the_configuration_fails_the_case() {
    let problems =
        problems("fixed", r#"{"name": "a", "config": {"tear": 1}, "calls": [{"plan": {}}]}"#);
    assert_eq!(problems.len(), 1);
    assert!(problems[0].contains("unknown field `tear`"), "{problems:?}");
}

#[test]
fn facts_that_do_not_fit_the_host_fail_the_case() {
    let case = r#"{"name": "a", "host": {"tiers": [{}]}, "calls": [
        {"plan": {}}, {"plan": {"prompt_tokens": [1, 2]}}]}"#;
    assert_eq!(
        problems("fixed", case),
        ["call 2: `prompt_tokens` has 2 entries, but the host has 1 tiers: give one for each"]
    );
}

#[test]
fn a_failure_fails_the_case_unless_it_is_meant() {
    // Where no draft may be longer than 4 tokens, one of 8 is cut.
    let case = |fails: &str| {
        format!(
            r#"{{"name": "a", "config": {{"drafters": []}}, "calls": [
                {{"plan": {{}}, "expect": {{"decided": {{"tier": 1}}}}{fails}}}]}}"#
        )
    };
    assert_eq!(problems("goodput", &case("")), [""; 0]);
    assert_eq!(
        problems("goodput", &case(r#", "fails": "trap""#)),
        ["call 1 (plan): expected a failure of kind \"trap\", got no failure"]
    );
    // A policy with too little fuel to answer.
    let runtime = PolicyRuntime::new().unwrap();
    let limits = Limits { fuel: 100, ..Limits::default() };
    let source = PolicySource::Builtin("fixed");
    let prepared = Prepared::new(&runtime, &source, &limits, &Default::default()).unwrap();
    let run = |text: &str| {
        let files = [("case.json".to_owned(), read_cases(text).unwrap())];
        run_cases(&runtime, &prepared, &limits, &files).cases[0].problems.clone()
    };
    let plan =
        |fails: &str| run(&format!(r#"{{"name": "a", "calls": [{{"plan": {{}}{fails}}}]}}"#));
    assert_eq!(plan(""), ["call 1 (plan): the policy's plan used up its 100 units of fuel"]);
    assert_eq!(plan(r#", "fails": "timeout""#), [""; 0]);
    let other = plan(r#", "fails": "memory""#);
    assert!(
        other[0].contains("expected a failure of kind \"memory\", got \"timeout\""),
        "{other:?}"
    );
}

#[test]
fn state_is_carried_into_a_case_and_over_a_reload() {
    let case = |carried: &str| {
        format!(
            r#"{{"name": "a", "carried": {carried}, "calls": [
                {{"snapshot": {{}}, "expect": {{"text": {{"contains": "answer_tokens\":150"}}}}}},
                {{"plan": {{}}}},
                {{"finished": [{{"committed": 250}}]}},
                {{"reload": {{}}}},
                {{"snapshot": {{}}, "expect": {{"text": {{"contains": "answer_tokens\":160"}}}}}}]}}"#
        )
    };
    assert_eq!(problems("goodput", &case(r#""damaged""#)), [""; 0]);
    assert_eq!(problems("goodput", &case(r#"{"hex": "00ff"}"#)), [""; 0]);
}
