//! `check` on the shipped policies, on small components that each have one
//! defect, and on the whole zoo of hostile ones.

#![allow(clippy::unwrap_used, reason = "tests")]

#[path = "../../policy/tests/common/mod.rs"]
mod common;
#[path = "../../policy/tests/zoo/mod.rs"]
mod zoo;

use std::time::Duration;

use aio_core::{Grant, Hook};
use aio_policy::{Limits, PolicyRuntime, PolicySource};
use aio_policy_tools::{CheckOptions, Checked, Status, Step, StepReport, check, inspect};
use zoo::build::{Builder, bytes, words};
use zoo::{Animal, End};

fn runtime() -> PolicyRuntime {
    PolicyRuntime::new().unwrap()
}

fn check_bytes(bytes: Vec<u8>) -> Checked {
    let source = PolicySource::Bytes { name: "subject".into(), bytes };
    check(&runtime(), &source, &CheckOptions::default())
}

#[track_caller]
fn assert_step(checked: &Checked, step: Step, status: Status, says: &str) {
    let report = checked.steps.iter().find(|report| report.step == step).unwrap();
    assert_eq!(report.status, status, "{report:?}");
    assert!(report.message.contains(says), "{report:?}");
}

#[test]
fn the_shipped_policies_pass() {
    for name in ["aio", "fixed", "goodput"] {
        let source = PolicySource::from_argument(name).unwrap();
        let checked = check(&runtime(), &source, &CheckOptions::default());
        assert!(checked.passed, "{checked:#?}");
        assert_eq!(checked.policy, name);
        let steps: Vec<Step> = checked.steps.iter().map(|report| report.step).collect();
        assert_eq!(steps, Step::ALL);
        assert_step(&checked, Step::DryRun, Status::Ok, "all in bounds");
        assert_step(&checked, Step::Determinism, Status::Ok, "the same answers for the same fuel");
        assert_step(&checked, Step::Snapshot, Status::Ok, "carried over");
    }
}

#[test]
fn a_configuration_is_tried() {
    let fixed = PolicySource::Builtin("fixed");
    let with = |config: &str| {
        let config = Some(config.to_owned());
        check(&runtime(), &fixed, &CheckOptions { config, ..CheckOptions::default() })
    };
    let accepted = with(r#"{"tier": "qwen2.5-coder-0.5b"}"#);
    assert_step(&accepted, Step::Init, Status::Ok, "with the configuration given");
    assert!(accepted.passed, "{accepted:#?}");
    let refused = with(r#"{"tear": 0}"#);
    assert_step(&refused, Step::Init, Status::Failed, "unknown field `tear`");
    assert_step(&refused, Step::DryRun, Status::Skipped, "");
    assert!(!refused.passed);
    // On a host without that tier it cannot start, which is no defect.
    let elsewhere = with(r#"{"tier": "qwen2.5-coder-1.5b"}"#);
    assert_step(&elsewhere, Step::DryRun, Status::Warning, "one tier: ");
    assert!(elsewhere.passed, "{elsewhere:#?}");
}

/// A component that imports the prompt's text, asks for it and answers well.
fn wants_the_prompt() -> Vec<u8> {
    let text = Builder::new().text();
    let import = "(component (import \"aio:policy/prompt-text@0.1.0\" (instance \
                  (export \"get\" (func (result (option string))))))";
    wat::parse_str(text.replacen("(component", import, 1)).unwrap()
}

#[test]
fn a_grant_that_is_missing_is_one_failed_step_and_hides_nothing() {
    let checked = check_bytes(wants_the_prompt());
    assert_step(&checked, Step::Imports, Status::Failed, "give --grant prompt-text");
    assert_step(&checked, Step::DryRun, Status::Ok, "");
    assert!(!checked.passed);

    let source = PolicySource::Bytes { name: "subject".into(), bytes: wants_the_prompt() };
    let grants = [Grant::PromptText].into();
    let options = CheckOptions { grants, ..CheckOptions::default() };
    let granted = check(&runtime(), &source, &options);
    assert_step(&granted, Step::Imports, Status::Ok, "every host must grant it prompt-text");
    assert!(granted.passed, "{granted:#?}");
    let grants = [Grant::PromptText, Grant::Metadata].into();
    let options = CheckOptions { grants, ..CheckOptions::default() };
    let too_much = check(&runtime(), &source, &options);
    assert_step(&too_much, Step::Imports, Status::Warning, "it does not import metadata");

    let inspection = inspect(&runtime(), &source, &options.limits).unwrap();
    assert_eq!(inspection.grants, [Grant::PromptText].into());
    assert_eq!(inspection.hooks, [Hook::Plan]);
}

#[test]
fn a_misspelt_hook_is_named() {
    let text = Builder::new()
        .hook(Hook::Plan, "(i32.const 1024)")
        .hook(Hook::Finished, "")
        .text()
        .replace(
            "(func (export \"finished\") (param \"outcomes\"",
            "(func (export \"ended\") (param \"outcomes\"",
        );
    let checked = check_bytes(wat::parse_str(text).unwrap());
    assert_step(&checked, Step::Exports, Status::Warning, "exports `ended`, which is no hook");
    assert_step(&checked, Step::Describe, Status::Warning, "export `describe`");
    assert!(checked.passed, "{checked:#?}");
}

/// A component that says what it is, with this schema.
fn described(schema: &str) -> Checked {
    let name = [512, 1, 512, 1, 512, 1];
    let record = [&name[..], &[600, schema.len() as u32]].concat();
    let builder = Builder::new()
        .fields(&words(16, &record))
        .fields(&bytes(512, b"x"))
        .fields(&bytes(600, schema.as_bytes()))
        .hook(Hook::Describe, "(i32.const 16)");
    check_bytes(builder.bytes())
}

#[test]
fn a_schema_that_is_none_fails_and_one_without_init_is_remarked_on() {
    assert_step(&described("{}"), Step::Describe, Status::Ok, "x x");
    assert_step(&described("{"), Step::Describe, Status::Failed, "is not JSON");
    let wrong = described(r#"{"properties": {"a": {"type": "int"}}}"#);
    assert_step(
        &wrong,
        Step::Describe,
        Status::Failed,
        "at /properties/a: there is no type \"int\"",
    );
    assert_step(&wrong, Step::DryRun, Status::Ok, "");
    let no_init = described(r#"{"properties": {"a": {}}}"#);
    assert_step(&no_init, Step::Describe, Status::Warning, "exports no `init`");
}

#[test]
fn an_answer_that_depends_on_more_than_the_facts_is_found() {
    // Each instance counts its calls in memory that all of a component share: the
    // tier of the next plan. A fresh instance starts anew, so this one is the same
    // both times; what differs between instances it cannot see.
    let counts = Builder::new()
        .fields("(global $calls (mut i32) (i32.const 0))")
        .hook(
            Hook::Plan,
            "(global.set $calls (i32.add (global.get $calls) (i32.const 1)))
             (i32.store (i32.const 1028) (i32.and (global.get $calls) (i32.const 1)))
             (i32.const 1024)",
        )
        .bytes();
    let checked = check_bytes(counts);
    assert_step(&checked, Step::Determinism, Status::Ok, "");
    assert_step(&checked, Step::DryRun, Status::Warning, "the plan's tier 1 does not exist");
}

#[test]
fn state_that_does_not_come_back_is_found() {
    // `carried` is parameter 2 (whether), 3 and 4: with a state it refuses.
    let init = "(if (result i32) (local.get 2) (then (i32.const 64)) (else (i32.const 80)))";
    let of = |init: &str| {
        let builder = Builder::new()
            .fields(&words(16, &[512, 4]))
            .fields(&bytes(512, b"good"))
            .fields(&words(64, &[1, 512, 4]))
            .fields(&words(80, &[0, 0, 0]))
            .hook(Hook::Init, init)
            .hook(Hook::Snapshot, "(i32.const 16)");
        check_bytes(builder.bytes())
    };
    let refuses = of(init);
    assert_step(&refuses, Step::Init, Status::Ok, "");
    assert_step(
        &refuses,
        Step::Snapshot,
        Status::Failed,
        "does not start with the state that it returned",
    );
    // Only the state's own length is good enough for this one.
    let picky = "(if (result i32) (i32.and (local.get 2) (i32.ne (local.get 4) (i32.const 4)))
                 (then (i32.const 64)) (else (i32.const 80)))";
    let picky = of(picky);
    assert_step(&picky, Step::Snapshot, Status::Failed, "does not start with an empty state");
    assert!(of("(i32.const 80)").passed);
}

/// Each sentence can be shown to a person as it is.
fn sentences(checked: &Checked) {
    let name = &checked.policy;
    assert_eq!(checked.steps.len(), Step::ALL.len(), "{name}");
    for report in &checked.steps {
        assert!(!report.message.is_empty(), "{name}: {report:?}");
        for text in [&report.message].into_iter().chain(&report.details) {
            assert!(!text.chars().any(char::is_control), "{name}: {text:?}");
            assert!(text.len() <= 1600, "{name}: {text}");
        }
    }
}

trait Says {
    fn says(&self, part: &str) -> bool;
}

impl Says for StepReport {
    fn says(&self, part: &str) -> bool {
        [&self.message].into_iter().chain(&self.details).any(|text| text.contains(part))
    }
}

/// All the time in the world, so that a slow machine changes nothing, except for
/// an animal that only the clock ends.
fn limits(deadline: Option<Duration>) -> Limits {
    let hour = Duration::from_secs(3600);
    Limits { deadline: deadline.unwrap_or(hour), init_deadline: hour, ..Limits::default() }
}

fn check_animals(animals: Vec<Animal>) {
    let runtime = runtime();
    for animal in animals {
        let name = animal.name;
        let source = PolicySource::Bytes { name: name.into(), bytes: animal.bytes };
        let options = CheckOptions { limits: limits(animal.deadline), ..CheckOptions::default() };
        let checked = check(&runtime, &source, &options);
        sentences(&checked);
        let failed = || checked.steps.iter().filter(|report| report.status == Status::Failed);
        match animal.end {
            End::Refused(says) => {
                let first = failed().next().unwrap_or_else(|| panic!("{name}: {checked:#?}"));
                assert!(first.message.contains(says), "{name}: {first:?}");
            }
            End::Fails(_, _, says) => {
                assert!(failed().any(|r| r.says(says)), "{name}: {checked:#?}")
            }
            // Some of them ask for probe after probe, which is another failure.
            End::Clamped(..) => {
                let remarked = checked.steps.iter().any(|r| r.says("brought into bounds"));
                assert!(remarked, "{name}: {checked:#?}");
            }
            // What a host does not mind may still be no description.
            End::Harmless(_) => {
                assert!(failed().all(|r| r.step == Step::Describe), "{name}: {checked:#?}");
            }
        }
    }
}

#[test]
fn animals_that_take_time() {
    check_animals(zoo::time::animals());
}

#[test]
fn animals_that_take_memory() {
    check_animals(zoo::memory::animals());
}

#[test]
fn animals_that_answer_wrongly() {
    check_animals(zoo::answers::animals());
}

#[test]
fn animals_that_abuse_the_log() {
    check_animals(zoo::log::animals());
}

#[test]
fn animals_that_are_no_policies() {
    check_animals(zoo::components::animals());
}
