//! Two policies side by side.

#![allow(clippy::unwrap_used, reason = "tests")]

use aio_core::Hook;
use aio_policy::{Limits, PolicyRuntime, PolicySource};
use aio_policy_tools::{Differences, Side, diff};

fn compare(a: (&'static str, Option<&str>), b: (&'static str, Option<&str>)) -> Differences {
    let side = |(name, config): (&'static str, Option<&str>)| Side {
        source: PolicySource::Builtin(name),
        config: config.map(str::to_owned),
    };
    diff(&PolicyRuntime::new().unwrap(), &side(a), &side(b), &Limits::default()).unwrap()
}

#[test]
fn a_policy_is_the_same_as_itself() {
    for name in ["aio", "fixed", "goodput"] {
        let differences = compare((name, None), (name, None));
        assert!(differences.same, "{differences:#?}");
        for fuel in &differences.fuel {
            assert_eq!((fuel.a, fuel.calls_a), (fuel.b, fuel.calls_b), "{name}");
            assert!(fuel.a > Some(0.0), "{name}: {fuel:?}");
        }
    }
}

#[test]
fn two_policies_differ_in_what_they_are_and_in_what_they_answer() {
    let differences = compare(("fixed", None), ("aio", None));
    assert!(!differences.same);
    let component: Vec<&str> = differences.component.iter().map(|c| c.what.as_str()).collect();
    assert_eq!(component, ["name", "summary", "digest", "bytes"]);
    let field = |name: &str| differences.config.iter().find(|change| change.what == name);
    assert!(field("drafter").unwrap().b.is_null() && field("preset").unwrap().a.is_null());
    let probes = |change: &&aio_policy_tools::AnswerChange| {
        change.situation == "two tiers that share a tokenizer" && change.field == "(probes)"
    };
    let probes = differences.answers.iter().find(probes).unwrap();
    assert_eq!((&probes.a, &probes.b), (&0.into(), &1.into()));
}

#[test]
fn configurations_make_other_answers_of_the_same_component() {
    let small = Some(r#"{"tier": 0}"#);
    let differences = compare(("fixed", None), ("fixed", small));
    assert!(!differences.same && differences.component.is_empty() && differences.config.is_empty());
    let tier = |situation: &str| {
        differences
            .answers
            .iter()
            .find(|change| change.situation == situation && change.field == "decided.tier")
    };
    let two = tier("two tiers that share a tokenizer").unwrap();
    assert_eq!((two.hook, &two.a, &two.b), (Hook::Plan, &1.into(), &0.into()));
    assert_eq!(tier("one tier"), None);
    assert_eq!(tier("64 requests at once and 20 that wait").unwrap().times, 64);
}

#[test]
fn a_host_that_one_of_them_does_not_start_on_is_a_difference() {
    let named = Some(r#"{"tier": "qwen2.5-coder-1.5b"}"#);
    let differences = compare(("fixed", None), ("fixed", named));
    let start: Vec<_> = differences.answers.iter().filter(|c| c.hook == Hook::Init).collect();
    assert_eq!(start.len(), 1, "{start:?}");
    assert_eq!((start[0].situation.as_str(), &start[0].a), ("one tier", &"starts".into()));
    assert!(start[0].b.as_str().unwrap().contains("the tiers are qwen2.5-coder-0.5b"));
}
