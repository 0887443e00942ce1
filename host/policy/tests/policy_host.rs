//! Replacing policies while requests run: what is in place, what requests keep,
//! and that a reload which fails changes nothing.

#![allow(clippy::unwrap_used, reason = "tests")]

mod common;

use std::path::Path;
use std::sync::Arc;

use aio_core::{Failure, Granted, Plan, Verdict};
use aio_policy::{
    Event, Generation, LoadedPolicy, Options, PolicyHost, PolicyRuntime, PolicySource, Recorder,
    Setup, StateStore, Step,
};
use common::{facts, host, hostile, probe_result};

fn fixed(options: Options) -> PolicyHost {
    let runtime = PolicyRuntime::new().unwrap();
    let setup = Setup::new(host()).config(r#"{"tier": 0}"#);
    PolicyHost::load(&runtime, &PolicySource::Builtin("fixed"), setup, options).unwrap()
}

fn tier(generation: &Generation) -> u32 {
    let asked =
        generation.plan(&facts(vec![probe_result([1.0, 0.0, 0.0], 0.0)]), &Granted::default());
    assert_eq!(asked.failures, Vec::<Failure>::new());
    match asked.answer {
        Verdict::Decided(Plan { tier, .. }) => tier,
        Verdict::Probe(probe) => panic!("probed: {probe:?}"),
    }
}

fn reload(policies: &PolicyHost, config: &str) -> u64 {
    let reloaded =
        policies.reload(&PolicySource::Builtin("fixed"), Some(config.to_owned())).unwrap();
    assert_eq!(reloaded.policy, *policies.current().identity());
    reloaded.policy.generation
}

#[test]
fn a_request_keeps_the_generation_that_planned_it() {
    let policies = fixed(Options::default());
    let first = policies.current();
    assert_eq!(reload(&policies, r#"{"tier": 1}"#), 2);
    assert_eq!((tier(&first), tier(&policies.current())), (0, 1));
    assert_eq!(policies.live().len(), 2);
    drop(first);
    assert_eq!(policies.live().len(), 1, "a generation goes with its last request");
}

#[test]
fn a_reload_that_fails_says_where_and_changes_nothing() {
    let policies = fixed(Options::default());
    policies.remember(&facts(vec![]));
    let before = policies.current().identity().clone();
    let absent = PolicySource::File(Path::new("nowhere/none.wasm").into());
    let no_component = PolicySource::Bytes { name: "text".into(), bytes: b"text".into() };
    let refused = PolicySource::Builtin("fixed");
    for (source, config, step) in [
        (absent, None, Step::Read),
        (no_component, None, Step::Compile),
        (hostile("imports-wasi"), None, Step::Check),
        (hostile("init-refuses"), None, Step::Init),
        (refused, Some(r#"{"tier": 9}"#), Step::Init),
        (hostile("traps"), None, Step::Canary),
        (hostile("loops"), None, Step::Canary),
        (hostile("nonsense"), None, Step::Canary),
    ] {
        let error = policies.reload(&source, config.map(str::to_owned)).unwrap_err();
        assert_eq!(error.step(), step, "{error}");
        assert_eq!(*policies.current().identity(), before);
        assert_eq!(tier(&policies.current()), 0);
    }
    assert_eq!(policies.roll_back().unwrap_err().step(), Step::Swap, "nothing was replaced");
}

#[test]
fn what_is_brought_into_bounds_is_told_and_no_reason_to_refuse() {
    let policies = fixed(Options::default());
    let reloaded = policies.reload(&hostile("out-of-bounds"), None).unwrap();
    assert!(reloaded.changes[0].contains("the plan's tier 99 does not exist"), "{reloaded:?}");
    assert_eq!(reloaded.replaced.name, "fixed");
    assert!(reloaded.steps.iter().map(|(step, _)| *step).eq([
        Step::Compile,
        Step::Init,
        Step::Canary,
        Step::Swap
    ]));
}

#[test]
fn rolling_back_goes_back_one_by_one_with_the_configuration_of_then() {
    let policies = fixed(Options::default());
    reload(&policies, r#"{"tier": 1}"#);
    policies.reload(&PolicySource::Builtin("aio"), None).unwrap();
    assert_eq!(policies.roll_back().unwrap().policy.name, "fixed");
    assert_eq!(tier(&policies.current()), 1);
    assert_eq!(policies.roll_back().unwrap().policy.generation, 5);
    assert_eq!(tier(&policies.current()), 0);
    assert!(policies.roll_back().is_err());
}

#[test]
fn only_so_many_generations_live_at_once() {
    let policies = fixed(Options { most_live: 3, ..Options::default() });
    let mut held = vec![policies.current()];
    for _ in 0..2 {
        reload(&policies, r#"{"tier": 1}"#);
        held.push(policies.current());
    }
    let error = policies.reload(&PolicySource::Builtin("aio"), None).unwrap_err().to_string();
    assert!(error.starts_with("3 generations of policies still have requests"), "{error}");
    held.clear();
    reload(&policies, r#"{"tier": 1}"#);
}

#[test]
fn requests_are_served_while_policies_are_replaced() {
    let policies = Arc::new(fixed(Options::default()));
    let served = std::thread::scope(|scope| {
        let replacing = scope.spawn(|| {
            for i in 0..100 {
                reload(&policies, &format!(r#"{{"tier": {}}}"#, i % 2));
            }
        });
        let mut served = 0;
        while !replacing.is_finished() {
            let generation = policies.current();
            // The first has tier 0, and then tiers 0 and 1 take turns.
            let number = generation.identity().generation;
            let expected = if number == 1 || number.is_multiple_of(2) { 0 } else { 1 };
            assert_eq!(tier(&generation), expected);
            served += 1;
        }
        replacing.join().unwrap();
        served
    });
    assert!(served > 0);
    assert_eq!(policies.live().len(), 1);
}

#[test]
fn what_was_learnt_is_kept_over_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let store = StateStore::new(folder.path(), 1 << 20);
    let load = || {
        let options = Options { store: Some(store.clone()), ..Options::default() };
        let source = PolicySource::Builtin("goodput");
        PolicyHost::load(&PolicyRuntime::new().unwrap(), &source, Setup::new(host()), options)
            .unwrap()
    };
    let first = load();
    let generation = first.current();
    generation.plan(&facts(vec![]), &Granted::default());
    first.save();
    let saved = store.load("goodput").unwrap().state;
    assert!(!saved.is_empty());
    assert_eq!(load().current().snapshot().answer, Some(saved), "carried over");

    std::fs::write(store.path("goodput"), "damaged").unwrap();
    assert_eq!(load().current().identity().name, "goodput", "a cold start");
}

#[test]
fn a_reload_to_a_policy_of_another_name_finds_what_that_one_has_learnt() {
    let folder = tempfile::tempdir().unwrap();
    let store = StateStore::new(folder.path(), 1 << 20);
    let options = Options { store: Some(store.clone()), ..Options::default() };
    let goodput = PolicySource::Builtin("goodput");
    let policies =
        PolicyHost::load(&PolicyRuntime::new().unwrap(), &goodput, Setup::new(host()), options)
            .unwrap();
    policies.current().plan(&facts(vec![]), &Granted::default());
    policies.reload(&PolicySource::Builtin("fixed"), None).unwrap();
    let kept = store.load("goodput").unwrap().state;
    assert!(!kept.is_empty(), "the reload has saved it");
    assert_eq!(policies.current().identity().name, "fixed");
    policies.reload(&goodput, None).unwrap();
    assert_eq!(policies.current().snapshot().answer, Some(kept));
}

#[test]
fn the_same_component_gives_the_recorded_answers_again() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("calls.jsonl");
    let recorder = Arc::new(Recorder::append(&path).unwrap());
    let policies = fixed(Options { recorder: Some(recorder), ..Options::default() });
    tier(&policies.current());
    reload(&policies, r#"{"tier": 1}"#);
    tier(&policies.current());
    drop(policies);

    let text = std::fs::read_to_string(path).unwrap();
    let runtime = PolicyRuntime::new().unwrap();
    let (mut policy, mut replayed) = (None, 0);
    for line in text.lines() {
        match serde_json::from_str(line).unwrap() {
            Event::Generation { config, host, .. } => {
                let setup = Setup { config, ..Setup::new(host) };
                let source = PolicySource::Builtin("fixed");
                policy = Some(LoadedPolicy::load(&runtime, &source, setup).unwrap());
            }
            Event::Plan { facts, granted, answer, fuel, .. } => {
                let asked = policy.as_mut().unwrap().plan_granted(&facts, &granted);
                assert_eq!((asked.answer, asked.fuel), (answer, fuel));
                replayed += 1;
            }
            _ => {}
        }
    }
    assert_eq!(replayed, 2);
}

#[test]
fn a_policy_sees_of_the_prompt_what_was_granted_and_nothing_else() {
    let asks = |interface: &str| {
        let text = format!(
            r#"(component
                (import "aio:policy/{interface}@0.1.0" (instance))
                (core module $m (memory (export "memory") 1))
            )"#
        );
        PolicySource::Bytes { name: "asks".into(), bytes: wat::parse_str(text).unwrap() }
    };
    let runtime = PolicyRuntime::new().unwrap();
    let error = LoadedPolicy::load(&runtime, &asks("prompt-text"), Setup::new(host())).unwrap_err();
    assert_eq!(
        error.to_string(),
        "policy \"asks\" imports prompt-text, which was not granted: allow it with --grant \
         prompt-text, or choose a policy that does without"
    );
    let granted = Setup::new(host()).grants([aio_core::Grant::PromptText]);
    let error = LoadedPolicy::load(&runtime, &asks("prompt-text"), granted.clone()).unwrap_err();
    assert!(error.to_string().contains("exports none of the hooks"), "granted: {error}");
    let error = LoadedPolicy::load(&runtime, &asks("prompt-tokens"), granted).unwrap_err();
    assert!(error.to_string().contains("imports prompt-tokens, which was not granted"), "{error}");
}
