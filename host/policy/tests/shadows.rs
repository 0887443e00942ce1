//! Policies that are asked and never obeyed: what they are asked, what is counted,
//! and that whatever they do harms nobody.

#![allow(clippy::unwrap_used, reason = "tests")]

mod common;
mod soak;
mod zoo;

use std::sync::Arc;
use std::time::Duration;

use aio_core::{
    Action, Agreement, Draft, Drafter, FinishReason, Grant, Granted, Outcome, Plan, RequestFacts,
    RoundContext, RoundDecision, RoundFacts, ShadowReport, Verdict,
};
use aio_policy::{
    Decider, Event, Limits, MOST_SHADOWS, Options, PolicyHost, PolicyRuntime, PolicySource,
    Recorder, Role, Setup, StateStore,
};
use common::{facts, host, probe_result, round};
use soak::stamped::{config, stamp, stamped};
use zoo::build::Builder;
use zoo::{Animal, End};

const FIXED: PolicySource = PolicySource::Builtin("fixed");
/// For what must come to an end on the slowest machine.
const LONG: Duration = Duration::from_secs(60);

fn serving(source: &PolicySource, setup: Setup, options: Options) -> PolicyHost {
    PolicyHost::load(&PolicyRuntime::new().unwrap(), source, setup, options).unwrap()
}

/// `fixed` on tier 0, without drafts.
fn fixed() -> PolicyHost {
    serving(&FIXED, Setup::new(host()).config(r#"{"tier": 0}"#), Options::default())
}

fn bytes(name: &str, bytes: Vec<u8>) -> PolicySource {
    PolicySource::Bytes { name: name.into(), bytes }
}

fn shadow(policies: &PolicyHost, source: &PolicySource, config: &str) {
    policies.add_shadow(source, (!config.is_empty()).then(|| config.to_owned())).unwrap();
}

fn plan(decider: &Decider, request: u64) -> Plan {
    let asked = decider.plan(&RequestFacts { request, ..facts(vec![]) }, &Granted::default());
    assert_eq!(asked.failures, []);
    match asked.answer {
        Verdict::Decided(plan) => plan,
        Verdict::Probe(probe) => panic!("probed: {probe:?}"),
    }
}

fn outcome(request: u64) -> Outcome {
    Outcome {
        request,
        tier: 0,
        label: String::new(),
        finish: FinishReason::Stop,
        prompt_tokens: 100,
        committed: 20,
        rounds: 10,
        drafted: 12,
        accepted: 9,
        prefill_milliseconds: 30.0,
        decode_milliseconds: 70.0,
    }
}

#[track_caller]
fn report(policies: &PolicyHost) -> ShadowReport {
    policies.settle_shadows(LONG);
    let [report] = policies.shadow_reports().try_into().unwrap();
    report
}

fn agreement(compared: u64, equal: u64) -> Agreement {
    Agreement { compared, equal }
}

#[test]
fn plans_are_compared_and_the_serving_one_is_obeyed() {
    let policies = fixed();
    shadow(&policies, &FIXED, r#"{"tier": 0}"#);
    shadow(&policies, &FIXED, r#"{"tier": 1, "drafter": "lookup", "draft_length": 4}"#);
    for request in 1..=5 {
        assert_eq!(plan(&policies.for_request(request), request).tier, 0);
    }
    policies.settle_shadows(LONG);
    let [same, other] = policies.shadow_reports().try_into().unwrap();
    assert_eq!((same.calls, same.failures, same.dropped), (5, 0, 0));
    assert_eq!((same.plans, same.last_difference), (agreement(5, 5), None));
    assert_eq!(other.plans, agreement(5, 0));
    assert_eq!(
        other.last_difference.as_deref(),
        Some(
            "request 5 was planned as small with no drafts, and it would have had large with \
             lookup up to 4"
        )
    );
    assert!(other.fuel > 0 && other.seconds > 0.0);
    let generations: Vec<u64> = policies.status().iter().map(|s| s.policy.generation).collect();
    assert_eq!(generations, [1, 2, 3]);
    assert_eq!(policies.status()[2].role, Role::Shadow);
    assert_eq!(policies.live().len(), 1, "a shadow has no requests");
}

/// A round's facts, counted from the request's beginning.
fn totals(request: u64, rounds: u32) -> RoundFacts {
    RoundFacts {
        tier: 0,
        round: rounds,
        recent_rounds: rounds,
        recent_drafted: 4 * rounds,
        recent_accepted: 3 * rounds,
        ..round(request)
    }
}

#[test]
fn a_shadow_is_asked_about_rounds_as_its_own_plan_wants() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("calls.jsonl");
    let recorder = Some(Arc::new(Recorder::append(&path).unwrap()));
    // It exports `plan` and nothing else.
    let source = bytes("plans", Builder::new().bytes());
    let policies = serving(&source, Setup::new(host()), Options { recorder, ..Options::default() });
    shadow(&policies, &bytes("stamped", stamped('S', 3)), &config(5));
    let decider = policies.for_request(1);
    assert!(!decider.wants_rounds() && decider.shadows_rounds());
    plan(&decider, 1);
    let draft = Draft { drafter: Drafter::Lookup, length: 4, ..Draft::NONE };
    for rounds in 0..=9 {
        // In the ninth round the serving policy changes what the shadow keeps.
        let action = if rounds == 9 { Action::Draft(draft) } else { Action::Keep };
        let served = [RoundDecision { request: 1, action, reason: String::new() }];
        decider.round_begins(&RoundContext::default(), &[totals(1, rounds)], &served);
    }
    decider.finished(&[outcome(1)]);
    let report = report(&policies);
    assert_eq!((report.calls, report.rounds), (4, agreement(3, 2)));
    policies.save();

    let mut asked = Vec::new();
    for line in std::fs::read_to_string(path).unwrap().lines() {
        if let Event::Rounds { generation, requests, answer, .. } =
            serde_json::from_str(line).unwrap()
        {
            assert_eq!((generation, answer[0].reason.as_str()), (2, stamp('S', 5).as_str()));
            let facts = &requests[0];
            asked.push((facts.round, facts.recent_rounds, facts.recent_drafted));
            assert_eq!(facts.recent_accepted, 9);
        }
    }
    assert_eq!(asked, [(3, 3, 12), (6, 3, 12), (9, 3, 12)]);
}

#[test]
fn rounds_after_a_plan_that_was_dropped_are_asked_about() {
    let policies = fixed();
    shadow(&policies, &bytes("stamped", stamped('S', 1)), &config(1));
    let decider = policies.for_request(1);
    for rounds in 1..=3 {
        decider.round_begins(&RoundContext::default(), &[totals(1, rounds)], &[]);
    }
    // Results of a probe that it never asked for are not put to it.
    let late = facts(vec![probe_result([1.0, 0.0, 0.0], 0.0)]);
    decider.plan(&late, &Granted::default());
    let report = report(&policies);
    assert_eq!((report.calls, report.rounds, report.dropped), (3, agreement(3, 3), 1));
    assert_eq!(report.plans, agreement(0, 0));
}

#[test]
fn probes_are_put_to_a_shadow_that_asked_for_them() {
    let aio = PolicySource::Builtin("aio");
    let policies = serving(&aio, Setup::new(host()), Options::default());
    shadow(&policies, &aio, "");
    shadow(&policies, &FIXED, r#"{"tier": 0}"#);
    let decider = policies.for_request(1);
    let probes = |asked: Verdict| matches!(asked, Verdict::Probe(_));
    assert!(probes(decider.plan(&facts(vec![]), &Granted::default()).answer));
    let found = facts(vec![probe_result([0.97, 0.02, 0.01], 0.15)]);
    assert!(!probes(decider.plan(&found, &Granted::default()).answer));
    policies.settle_shadows(LONG);
    let [same, fixed] = policies.shadow_reports().try_into().unwrap();
    assert_eq!((same.calls, same.plans, same.probes_not_run), (2, agreement(1, 1), 0));
    assert_eq!((fixed.calls, fixed.plans.compared), (1, 1), "it had decided before");

    let policies = self::fixed();
    shadow(&policies, &aio, "");
    plan(&policies.for_request(1), 1);
    let lacks = report(&policies);
    assert_eq!((lacks.calls, lacks.plans, lacks.probes_not_run), (1, agreement(0, 0), 1));
}

#[test]
fn a_shadow_that_is_too_slow_is_asked_less_and_nobody_waits() {
    // It loops until the clock ends it, for every request.
    let bytes_of = Builder::new()
        .hook(aio_core::Hook::Plan, "(loop $l (br $l)) (unreachable)")
        .hook(aio_core::Hook::Rounds, "(loop $l (br $l)) (unreachable)")
        .bytes();
    let limits = Limits { fuel: u64::MAX, ..Limits::default() };
    let setup = Setup::new(host()).config(r#"{"tier": 0}"#).limits(limits);
    let policies = serving(&FIXED, setup, Options::default());
    shadow(&policies, &bytes("loops", bytes_of), "");
    let dropped = |policies: &PolicyHost| policies.shadow_reports()[0].dropped;
    let mut asked = 0;
    while dropped(&policies) == 0 {
        asked += 1;
        assert_eq!(plan(&policies.for_request(asked), asked).tier, 0);
        assert!(asked < 1_000_000, "nothing was ever dropped");
    }
    let report = report(&policies);
    assert_eq!(report.calls + report.dropped, asked);
    assert_eq!(report.failures, report.calls, "it fails, and is set aside");
    assert_eq!(report.plans, agreement(0, 0), "its safe plans are not its own");
    assert!(report.aside_seconds.is_some());
    assert!(policies.status()[0].last_failure.is_none());
}

#[test]
fn hostile_shadows_harm_nobody() {
    let animals: Vec<Animal> =
        zoo::time::animals().into_iter().chain(zoo::memory::animals()).collect();
    let runtime = PolicyRuntime::new().unwrap();
    let mut failed = 0;
    for animal in animals {
        let mut limits = Limits::default();
        limits.deadline = animal.deadline.unwrap_or(limits.deadline);
        let setup = Setup::new(host()).config(r#"{"tier": 0}"#).limits(limits);
        let policies = PolicyHost::load(&runtime, &FIXED, setup, Options::default()).unwrap();
        let added = policies.add_shadow(&bytes(animal.name, animal.bytes.clone()), None);
        if matches!(animal.end, End::Refused(_)) {
            assert!(added.is_err(), "{} was loaded", animal.name);
            continue;
        }
        let decider = policies.for_request(1);
        assert_eq!(plan(&decider, 1).tier, 0, "{}", animal.name);
        for rounds in 1..=2 {
            decider.round_begins(&RoundContext::default(), &[totals(1, rounds)], &[]);
        }
        assert_eq!(decider.finished(&[outcome(1)]).failures, []);
        assert_eq!(plan(&decider, 2).tier, 0, "{}", animal.name);
        failed += u64::from(report(&policies).failures > 0);
    }
    assert!(failed >= 5, "{failed}");
}

#[test]
fn a_shadow_sees_what_it_imports_and_the_serving_one_does_not() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("calls.jsonl");
    let recorder = Some(Arc::new(Recorder::append(&path).unwrap()));
    let setup = Setup::new(host()).grants([Grant::PromptText, Grant::Metadata]);
    let policies = serving(&FIXED, setup, Options { recorder, ..Options::default() });
    let import = "(component\n(import \"aio:policy/prompt-text@0.1.0\" (instance))\n";
    let reads = Builder::new().text().replacen("(component\n", import, 1);
    shadow(&policies, &bytes("reads", wat::parse_str(reads).unwrap()), "");
    let decider = policies.for_request(1);
    assert_eq!(decider.imports(), [Grant::PromptText].into());
    let granted = Granted { prompt_text: Some("secret".into()), ..Granted::default() };
    decider.plan(&facts(vec![]), &granted);
    assert_eq!(report(&policies).calls, 1);
    policies.save();
    let mut lent = Vec::new();
    for line in std::fs::read_to_string(path).unwrap().lines() {
        if let Event::Plan { generation, granted, .. } = serde_json::from_str(line).unwrap() {
            lent.push((generation, granted.prompt_text));
        }
    }
    lent.sort();
    assert_eq!(lent, [(1, None), (2, Some("secret".into()))]);
}

#[test]
fn a_shadow_begins_with_what_is_known_and_keeps_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let store = StateStore::new(folder.path(), 1 << 20);
    let goodput = PolicySource::Builtin("goodput");
    let options = || Options { store: Some(store.clone()), ..Options::default() };
    let learns = serving(&goodput, Setup::new(host()), options());
    plan(&learns.for_request(1), 1);
    learns.save();
    let kept = store.load("goodput").unwrap().state;

    let policies = serving(&FIXED, Setup::new(host()).config(r#"{"tier": 0}"#), options());
    shadow(&policies, &goodput, "");
    let decider = policies.for_request(1);
    plan(&decider, 1);
    decider.finished(&[outcome(1)]);
    assert_eq!(report(&policies).failures, 0);
    policies.save();
    assert_eq!(store.load("goodput").unwrap().state, kept);
}

#[test]
fn there_are_only_so_many_shadows_and_they_can_be_removed() {
    let policies = fixed();
    for _ in 0..MOST_SHADOWS {
        shadow(&policies, &FIXED, "");
    }
    let error = policies.add_shadow(&FIXED, None).unwrap_err().to_string();
    assert_eq!(error, "there are 4 shadows already, and no more may run at once: name fewer");
    let before = policies.for_request(1);
    policies.remove_shadows();
    assert!(policies.shadow_reports().is_empty());
    plan(&before, 1);
    assert_eq!(before.finished(&[outcome(1)]).failures, [], "its request ends as it began");
    assert!(policies.add_shadow(&bytes("text", b"text".into()), None).is_err());
    assert!(policies.shadow_reports().is_empty());
}
