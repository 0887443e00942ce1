//! A policy that serves a share of the requests: which ones, and how that ends.

#![allow(clippy::unwrap_used, reason = "tests")]

mod common;
mod zoo;

use std::sync::Arc;

use aio_core::{FailureKind, Granted, Plan, Verdict};
use aio_policy::{
    Decider, Event, Options, PolicyHost, PolicyRuntime, PolicySource, Recorder, Role, Setup, Share,
};
use common::{facts, host, hostile};
use zoo::build::Builder;

const FIXED: PolicySource = PolicySource::Builtin("fixed");

fn serving(options: Options) -> PolicyHost {
    let setup = Setup::new(host()).config(r#"{"tier": 0}"#);
    PolicyHost::load(&PolicyRuntime::new().unwrap(), &FIXED, setup, options).unwrap()
}

fn place(policies: &PolicyHost, percent: f64) -> u64 {
    let share = Share::percent(percent).unwrap();
    let started = policies.set_canary(&FIXED, Some(r#"{"tier": 1}"#.into()), share).unwrap();
    assert_eq!(policies.canary().unwrap().share, share);
    started.policy.generation
}

fn plan(decider: &Decider) -> Plan {
    match decider.plan(&facts(vec![]), &Granted::default()).answer {
        Verdict::Decided(plan) => plan,
        Verdict::Probe(probe) => panic!("probed: {probe:?}"),
    }
}

/// A policy that is well as long as nobody asks about request 1.
fn traps_for_request_1() -> PolicySource {
    let bytes = Builder::plan("(unreachable)").bytes();
    PolicySource::Bytes { name: "traps".into(), bytes }
}

#[test]
fn a_canary_takes_its_share_and_the_same_requests_each_time() {
    let policies = serving(Options::default());
    let canary = place(&policies, 10.0);
    let taken = || -> Vec<u64> {
        let goes = |&key: &u64| policies.for_request(key).identity().generation == canary;
        (1..=1000).filter(goes).collect()
    };
    let first = taken();
    assert!((80..=120).contains(&first.len()), "{}", first.len());
    assert_eq!(taken(), first);
    assert_eq!(plan(&policies.for_request(first[0])).tier, 1);
    let other = (1..).find(|key| !first.contains(key)).unwrap();
    assert_eq!(plan(&policies.for_request(other)).tier, 0);

    assert_eq!(policies.withdraw().unwrap().generation, canary);
    assert!(policies.canary().is_none() && policies.withdraw().is_none());
    assert_eq!(policies.for_request(first[0]).identity().generation, 1);
    let all = place(&policies, 100.0);
    assert!((1..100).all(|key| policies.for_request(key).identity().generation == all));
    place(&policies, 0.0);
    assert!((1..100).all(|key| policies.for_request(key).identity().generation == 1));
}

#[test]
fn a_second_canary_takes_the_place_of_the_first_and_one_that_fails_does_not() {
    let policies = serving(Options::default());
    place(&policies, 100.0);
    let request = policies.for_request(1);
    let second = place(&policies, 100.0);
    assert_ne!(request.identity().generation, second);
    assert_eq!(plan(&request).tier, 1, "a request keeps what planned it");
    assert_eq!(policies.live().len(), 3);
    drop(request);
    assert_eq!(policies.live().len(), 2);
    assert!(policies.set_canary(&hostile("traps"), None, Share::ALL).is_err());
    assert_eq!(policies.for_request(1).identity().generation, second);
}

#[test]
fn a_promoted_canary_serves_all_and_can_be_rolled_back() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("calls.jsonl");
    let recorder = Some(Arc::new(Recorder::append(&path).unwrap()));
    let policies = serving(Options { recorder, ..Options::default() });
    let error = policies.promote().unwrap_err().to_string();
    assert!(error.starts_with("there is no canary to put in place"), "{error}");
    let canary = place(&policies, 1.0);
    assert_eq!(policies.canary().unwrap().generation.role(), Role::Canary);
    let promoted = policies.promote().unwrap();
    assert_eq!((promoted.policy.generation, promoted.replaced.generation), (canary, 1));
    assert_eq!(policies.current().identity().generation, canary, "the same instance");
    assert_eq!(policies.current().role(), Role::Serving);
    assert!(policies.canary().is_none());
    assert_eq!(plan(&policies.for_request(2)).tier, 1);
    policies.roll_back().unwrap();
    assert_eq!(plan(&policies.for_request(2)).tier, 0);
    policies.save();

    let text = std::fs::read_to_string(path).unwrap();
    let mut told = Vec::new();
    for line in text.lines() {
        match serde_json::from_str(line).unwrap() {
            Event::Generation { policy, role, .. } => told.push((policy.generation, Some(role))),
            Event::Promoted { generation } => told.push((generation, None)),
            _ => {}
        }
    }
    let serves = Some(Role::Serving);
    assert_eq!(told, [(1, serves), (2, Some(Role::Canary)), (2, None), (3, serves)]);
}

#[test]
fn a_canary_that_is_set_aside_is_withdrawn_and_its_requests_get_the_safe_plan() {
    let policies = serving(Options::default());
    policies.set_canary(&traps_for_request_1(), None, Share::ALL).unwrap();
    let request = policies.for_request(7);
    assert_eq!(request.generation().role(), Role::Canary);
    for strike in 1..=3 {
        assert!(policies.canary().is_some() && policies.withdrawn().is_none());
        let asked = request.plan(&facts(vec![]), &Granted::default());
        let aside = asked.failures.iter().any(|f| f.kind == FailureKind::SetAside);
        assert_eq!(aside, strike == 3, "{:?}", asked.failures);
    }
    assert_eq!(policies.for_request(7).identity().name, "fixed");
    assert!(policies.canary().is_none());
    let withdrawn = policies.withdrawn().unwrap();
    assert_eq!(withdrawn.policy, *request.identity());
    assert_eq!(
        withdrawn.reason,
        "the canary traps unknown (generation 2) is withdrawn, it failed so often that it was set \
         aside: all requests go to fixed again"
    );
    // The request that it planned goes on under it, that is under the safe plan.
    assert!(plan(&request).reason.starts_with("safe plan: the policy is set aside after repeated"));
    place(&policies, 50.0);
    assert!(policies.withdrawn().is_none(), "that was another one");
}

#[test]
fn a_canary_counts_among_the_generations_that_may_live() {
    let policies = serving(Options { most_live: 2, ..Options::default() });
    place(&policies, 10.0);
    let error = policies.reload(&FIXED, None).unwrap_err().to_string();
    assert!(error.starts_with("2 generations of policies still have requests"), "{error}");
    policies.withdraw();
    policies.reload(&FIXED, None).unwrap();
}
