//! The whole zoo (`zoo/`): each animal is refused with one sentence, or its
//! answer is replaced by the safe one with the right kind of failure, and the
//! request after it is answered by an instance built anew.

#![allow(clippy::unwrap_used, reason = "tests")]

mod common;
mod zoo;

use std::time::Duration;

use aio_core::{FailureKind, Hook, Verdict};
use aio_policy::{Limits, LoadedPolicy, PolicyRuntime, PolicySource, Setup};
use common::{facts, host};
use zoo::build::{Builder, GOOD_REASON, for_request_1, words};
use zoo::{Animal, End, plan_of, provoke};

/// The longest sentence: a name, what is wrong, and 1 KiB of a policy's own words.
const SENTENCE_BYTES: usize = 1400;

/// All the time in the world, so that a slow machine changes nothing.
fn unhurried() -> Limits {
    let hour = Duration::from_secs(3600);
    Limits { deadline: hour, init_deadline: hour, ..Limits::default() }
}

/// Unhurried, except for an animal that only the clock ends.
fn setup(animal: &Animal) -> Setup {
    let deadline = animal.deadline.unwrap_or(unhurried().deadline);
    Setup::new(host()).limits(Limits { deadline, ..unhurried() })
}

fn one_sentence(animal: &Animal, sentence: &str) {
    let name = animal.name;
    assert!(!sentence.chars().any(char::is_control), "{name}: {sentence:?}");
    assert!(sentence.len() <= SENTENCE_BYTES, "{name}: {} bytes: {sentence}", sentence.len());
}

fn check(runtime: &PolicyRuntime, animal: &Animal) {
    let name = animal.name;
    let loaded = animal.load(runtime, setup(animal));
    if let End::Refused(says) = animal.end {
        let Err(error) = loaded else { panic!("{name} was loaded") };
        let sentence = error.to_string();
        assert!(sentence.contains(says), "{name}: {sentence}");
        one_sentence(animal, &sentence);
        return;
    }
    let mut policy = loaded.unwrap_or_else(|error| panic!("{name}: {error}"));
    for text in [policy.summary(), &policy.identity().name, &policy.identity().version] {
        one_sentence(animal, text);
    }
    let given = provoke(&mut policy, animal.hook());
    for failure in &given.failures {
        one_sentence(animal, &failure.message);
    }
    let said: Vec<_> =
        given.failures.iter().map(|f| (f.hook, f.kind, f.message.as_str())).collect();
    match animal.end {
        End::Fails(hook, kind, says) => {
            assert!(!given.own, "{name}: its answer was used");
            assert_eq!(said.len(), 1, "{name}: {said:?}");
            assert_eq!((said[0].0, said[0].1), (hook, kind), "{name}: {said:?}");
            assert!(said[0].2.contains(says), "{name}: {said:?}");
        }
        End::Clamped(hook, says) => {
            assert!(given.own, "{name}: {said:?}");
            assert_eq!(said.len(), says.len(), "{name}: {said:?}");
            for (said, says) in said.iter().zip(says) {
                assert_eq!((said.0, said.1), (hook, FailureKind::Clamped), "{name}: {said:?}");
                assert!(said.2.contains(says), "{name}: {said:?}");
            }
        }
        End::Harmless(_) => assert!(given.own && said.is_empty(), "{name}: {said:?}"),
        End::Refused(_) => unreachable!(),
    }
    let next = plan_of(&mut policy, 2);
    if animal.always {
        assert_eq!(next.failures, given.failures, "{name}: a new instance fails as the first did");
    } else {
        assert!(next.own && next.failures.is_empty(), "{name}: then {:?}", next.failures);
    }
}

fn check_all(animals: &[Animal]) {
    let runtime = PolicyRuntime::new().unwrap();
    for animal in animals {
        check(&runtime, animal);
    }
}

#[test]
fn animals_that_take_time() {
    check_all(&zoo::time::animals());
}

#[test]
fn animals_that_take_memory() {
    check_all(&zoo::memory::animals());
}

#[test]
fn animals_that_answer_wrongly() {
    check_all(&zoo::answers::animals());
}

#[test]
fn animals_that_abuse_the_log() {
    check_all(&zoo::log::animals());
}

#[test]
fn animals_that_are_no_policies() {
    check_all(&zoo::components::animals());
}

#[test]
fn no_two_animals_have_one_name() {
    let mut names: Vec<_> = zoo::all().iter().map(|animal| animal.name).collect();
    let count = names.len();
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len(), count);
    assert!(count >= 25, "{count}");
}

fn load_bytes(bytes: Vec<u8>) -> LoadedPolicy {
    let source = PolicySource::Bytes { name: "animal".into(), bytes };
    common::load(&source, Setup::new(host()).limits(unhurried())).unwrap()
}

#[test]
fn the_well_behaved_plan_is_the_policys_own() {
    let asked = load_bytes(Builder::new().bytes()).plan(&facts(vec![]));
    let Verdict::Decided(plan) = asked.answer else { panic!("{:?}", asked.answer) };
    assert_eq!((plan.tier, plan.reason.as_str()), (0, GOOD_REASON));
    assert_eq!(asked.failures, []);
}

#[test]
fn a_policy_that_traps_on_its_third_call_starts_counting_anew() {
    let mut policy = load_bytes(zoo::time::traps_on_the_third_call());
    let own: Vec<bool> = (0..5).map(|request| plan_of(&mut policy, request).own).collect();
    assert_eq!(own, [true, true, false, true, true]);
}

#[test]
fn a_flood_of_log_lines_is_dropped_and_counted() {
    let flood = zoo::log::animals().into_iter().find(|a| a.name == "log-flood").unwrap();
    let mut policy = load_bytes(flood.bytes);
    plan_of(&mut policy, 1);
    let dropped = policy.log_lines_dropped();
    assert!(dropped > 100_000, "{dropped}");
    // The allowance belongs to the policy, not to the instance.
    plan_of(&mut policy, 1);
    assert!(policy.log_lines_dropped() > dropped);
}

#[test]
fn control_characters_of_a_policy_never_reach_a_terminal() {
    let all = zoo::answers::animals();
    let animal = all.into_iter().find(|a| a.name == "label-with-an-escape").unwrap();
    let asked = load_bytes(animal.bytes).plan(&facts(vec![]));
    let Verdict::Decided(plan) = asked.answer else { panic!("{:?}", asked.answer) };
    assert_eq!(plan.label, " ]0;owned    [2J");
}

#[test]
fn an_init_that_succeeds_only_the_first_time_leaves_the_safe_plan() {
    // `carried` is parameter 2 (whether), 3 and 4: with a state it refuses.
    let init = "(if (result i32) (local.get 2) (then (i32.const 64)) (else (i32.const 80)))";
    let bytes = Builder::new()
        .fields(&words(16, &[512, 1]))
        .fields(&words(64, &[1, 512, 0]))
        .fields(&words(80, &[0, 0, 0]))
        .hook(Hook::Init, init)
        .hook(Hook::Snapshot, "(i32.const 16)")
        .hook(Hook::Plan, &for_request_1("(unreachable)"))
        .bytes();
    let mut policy = load_bytes(bytes);
    assert!(plan_of(&mut policy, 2).own);
    assert_eq!(policy.snapshot().answer, Some(vec![0]));
    assert_eq!(plan_of(&mut policy, 1).failures[0].kind, FailureKind::Trap);
    let asked = plan_of(&mut policy, 2);
    assert!(!asked.own);
    assert_eq!(
        (asked.failures[0].hook, asked.failures[0].kind, asked.failures[0].message.as_str()),
        (Hook::Init, FailureKind::Nonsense, "the policy refuses to start again: ")
    );
}

#[test]
fn a_configuration_schema_that_is_none_is_not_kept() {
    let with = |schema: &[u8]| {
        let bytes = Builder::new()
            .fields(&words(16, &[0, 0, 0, 0, 0, 0, 512, schema.len() as u32]))
            .fields(&zoo::build::bytes(512, schema))
            .hook(Hook::Describe, "(i32.const 16)")
            .bytes();
        load_bytes(bytes).config_schema().to_owned()
    };
    assert_eq!(with(b"{\n  \"type\": \"object\"\n}"), "{\n  \"type\": \"object\"\n}");
    assert_eq!(with(b"{\"\x1b[2J\": 1}"), "");
    assert_eq!(with(b"no schema"), "");
}
