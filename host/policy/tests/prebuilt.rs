//! The shipped policies, through the runtime: they load, and every field
//! crosses the boundary both ways. `AIO_PREBUILT_DIR` names a folder with other
//! builds of them (`cargo xtask policies --check` does).

#![allow(clippy::unwrap_used, reason = "tests")]

mod common;

use aio_core::{
    Draft, Drafter, HostInfo, Outcome, Plan, Probe, ProbeResult, RoundContext, Verdict,
};
use aio_policy::{Limits, LoadedPolicy, PolicySource, Setup};
use common::{facts, host, load, probe_result, round};

fn source(name: &'static str) -> PolicySource {
    match std::env::var_os("AIO_PREBUILT_DIR") {
        Some(folder) => {
            PolicySource::File(std::path::Path::new(&folder).join(name).with_extension("wasm"))
        }
        None => PolicySource::Builtin(name),
    }
}

fn policy(name: &'static str, config: &str) -> LoadedPolicy {
    load(&source(name), Setup::new(host()).config(config)).unwrap()
}

#[track_caller]
fn decided(policy: &mut LoadedPolicy, probes: Vec<ProbeResult>) -> Plan {
    let asked = policy.plan(&facts(probes));
    assert_eq!(asked.failures, []);
    match asked.answer {
        Verdict::Decided(plan) => plan,
        Verdict::Probe(probe) => panic!("probed: {probe:?}"),
    }
}

#[test]
fn every_field_of_a_plan_crosses_the_boundary() {
    let mut policy = policy(
        "fixed",
        r#"{"tier": "large", "drafter": "lookup-then-model", "draft_length": 5, "ngram_min": 3,
            "ngram_max": 7, "draft_tier": 0, "min_confidence": 0.25}"#,
    );
    let draft = Draft {
        drafter: Drafter::LookupThenModel,
        length: 5,
        ngram_min: 3,
        ngram_max: 7,
        draft_tier: Some(0),
        min_confidence: 0.25,
    };
    let plan = Plan {
        tier: 1,
        draft,
        ask_every: 0,
        label: "fixed".into(),
        reason: "configured: large drafting up to 5 by lookup, then by model".into(),
    };
    assert_eq!(decided(&mut policy, vec![]), plan);
}

#[test]
fn every_drafter_crosses_the_boundary() {
    for drafter in [Drafter::Lookup, Drafter::Model, Drafter::LookupThenModel] {
        let mut policy = policy("fixed", &format!(r#"{{"drafter": "{drafter}"}}"#));
        assert_eq!(decided(&mut policy, vec![]).draft.drafter, drafter);
    }
}

#[test]
fn policies_describe_themselves() {
    for name in ["aio", "fixed"] {
        let policy = policy(name, "{}");
        let identity = policy.identity();
        assert_eq!((identity.name.as_str(), identity.version.as_str()), (name, "0.1.0"));
        assert_eq!(identity.digest.len(), 64);
        assert_eq!(identity.generation, 1);
        assert!(!policy.summary().is_empty());
        let schema: serde_json::Value = serde_json::from_str(policy.config_schema()).unwrap();
        assert_eq!(schema["type"], "object");
    }
}

#[test]
fn the_default_policy_probes_and_then_decides() {
    let mut policy = load(&source("aio"), Setup::new(host())).unwrap();
    let asked = policy.plan(&facts(vec![]));
    assert_eq!(asked.failures, []);
    let Verdict::Probe(Probe { tier, answers, .. }) = asked.answer else { panic!("{asked:?}") };
    assert_eq!((tier, answers.len()), (0, 3));
    assert!(asked.fuel > 0 && asked.fuel < 1_000_000, "{} units of fuel", asked.fuel);

    let code = decided(&mut policy, vec![probe_result([0.97, 0.02, 0.01], 0.15)]);
    assert_eq!((code.tier, code.label.as_str()), (0, "code"));
    assert_eq!(code.reason, "probe: code 0.97, entropy 0.15 below 0.45; code goes to small");
    let unsure = decided(&mut policy, vec![probe_result([0.5, 0.3, 0.2], 1.03)]);
    assert_eq!((unsure.tier, unsure.label.as_str()), (1, "unsure"));
}

#[test]
fn what_the_host_tells_arrives() {
    let mut host = host();
    host.tiers[1].name = "ein Modell mit Ümlaut".into();
    let setup = Setup::new(host).config(r#"{"tier": "ein Modell mit Ümlaut"}"#);
    let mut policy = load(&source("fixed"), setup).unwrap();
    assert_eq!(decided(&mut policy, vec![]).tier, 1);
    assert_eq!(policy.host().tiers[1].context, 32_768);
}

#[test]
fn a_mistaken_configuration_is_the_operators_to_mend() {
    let error = |config: &str| {
        load(&source("fixed"), Setup::new(host()).config(config)).unwrap_err().to_string()
    };
    assert_eq!(
        error(r#"{"tier": 7}"#),
        "policy \"fixed\" refuses to start: `tier` is 7, but the tiers are small, large (indices 0 to 1, or -1 for the largest)"
    );
    assert!(error(r#"{"lenght": 7}"#).contains("unknown field `lenght`, expected one of `tier`"));
}

#[test]
fn hooks_that_learn_nothing_do_no_harm() {
    let mut policy = policy("aio", "{}");
    let outcome = Outcome {
        request: 1,
        tier: 1,
        label: "code".into(),
        finish: aio_core::FinishReason::Stop,
        prompt_tokens: 100,
        committed: 10,
        rounds: 4,
        drafted: 12,
        accepted: 6,
        prefill_milliseconds: 30.0,
        decode_milliseconds: 70.0,
    };
    assert_eq!(policy.finished(&[outcome]).failures, []);
    let rounds = policy.rounds(&RoundContext::default(), &[round(1)]);
    assert_eq!((rounds.answer, rounds.failures), (vec![], vec![]));
    assert_eq!(policy.snapshot().answer, Some(vec![]));
}

#[test]
fn a_policy_that_overran_once_is_asked_again_afresh() {
    // Too little fuel for a plan and enough for init: each plan fails, and the
    // instance after it starts with the same configuration.
    let limits = Limits { fuel: 100, ..Limits::default() };
    let setup = Setup::new(host()).config(r#"{"tier": 0}"#).limits(limits);
    let mut policy = load(&source("fixed"), setup).unwrap();
    for _ in 0..2 {
        let asked = policy.plan(&facts(vec![]));
        assert_eq!(asked.failures.len(), 1, "{asked:?}");
        assert_eq!(asked.answer, Verdict::Decided(Plan::safe(&host())));
    }
}

#[test]
fn one_tier_is_enough() {
    let host = HostInfo { tiers: vec![host().tiers.remove(0)], ..host() };
    let mut policy = load(&source("aio"), Setup::new(host)).unwrap();
    assert_eq!(decided(&mut policy, vec![]).tier, 0);
}
