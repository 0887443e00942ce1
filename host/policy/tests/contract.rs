//! The contract's versions: what was released does not change, and what was built
//! against it still loads. The components in `fixtures/v0.1.0` are
//! `examples/policies/lookup-only` (C, two hooks) and `keyword-router` (Rust, with a
//! configuration and a grant) as built when the version was released; they are
//! never built anew.

#![allow(clippy::unwrap_used, reason = "tests")]

mod common;

use std::path::PathBuf;

use aio_core::{CATCH_UP, Drafter, Grant, Granted, Verdict};
use aio_policy::{LoadError, LoadedPolicy, PolicyRuntime, PolicySource, Setup};
use common::{facts, host, load};
use sha2::{Digest, Sha256};

/// SHA-256 of what `wit/v0.1/policy.wit` says, without comments and blank lines.
/// A change to a released version is a new folder beside it, not a new number here.
const V0_1: &str = "ba7b0ba9345906ae24dc67fb140184058497347f0044d5f967f31e3a27982453";

#[test]
fn version_0_1_is_what_was_released() {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../wit/v0.1/policy.wit");
    let text = std::fs::read_to_string(path).unwrap();
    let code: Vec<&str> = text
        .lines()
        .map(|line| line.split("//").next().unwrap_or_default().trim())
        .filter(|line| !line.is_empty())
        .collect();
    assert_eq!(format!("{:x}", Sha256::digest(code.join("\n"))), V0_1);
}

/// A number of the host's that policies reckon with, and that no fact tells them.
#[test]
fn contract_and_sdk_say_what_a_draft_model_catches_up_on() {
    let contract = include_str!("../../../wit/v0.1/policy.wit");
    assert!(contract.contains(&format!("the last {CATCH_UP} tokens of what it missed")));
    let sdk = include_str!("../../../policies/sdk/src/goodput.rs");
    assert!(sdk.contains(&format!("pub const CATCH_UP: u32 = {CATCH_UP};")));
}

fn fixture(name: &str) -> PolicySource {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/v0.1.0");
    PolicySource::File(folder.join(name).with_extension("wasm"))
}

fn decided(policy: &mut LoadedPolicy, granted: &Granted) -> aio_core::Plan {
    let asked = policy.plan_granted(&facts(Vec::new()), granted);
    assert_eq!(asked.failures, []);
    match asked.answer {
        Verdict::Decided(plan) => plan,
        Verdict::Probe(probe) => panic!("probed: {probe:?}"),
    }
}

#[test]
fn a_component_of_version_0_1_still_decides() {
    let mut policy = load(&fixture("lookup-only"), Setup::new(host())).unwrap();
    assert_eq!(decided(&mut policy, &Granted::default()).draft.drafter, Drafter::Lookup);
}

#[test]
fn a_component_of_version_0_1_is_still_granted_and_configured() {
    let rules = r#"{"rules":{"short":{"words":["shorten"],"tier":0}}}"#;
    let setup = Setup::new(host()).config(rules).grants([Grant::PromptText]);
    let mut policy = load(&fixture("keyword-router"), setup).unwrap();
    assert_eq!(policy.identity().name, "keyword-router");
    let says = |text: &str| Granted { prompt_text: Some(text.into()), ..Granted::default() };
    assert_eq!(decided(&mut policy, &says("Shorten this")).tier, 0);
    assert_eq!(decided(&mut policy, &says("Prove this")).tier, 1);
}

#[test]
fn a_component_of_another_version_is_told_which() {
    let bytes = wat::parse_str(
        r#"(component (import "aio:policy/host@0.2.0" (instance (export "log" (func)))))"#,
    );
    let source = PolicySource::Bytes { name: "newer".into(), bytes: bytes.unwrap() };
    let error = LoadedPolicy::load(&PolicyRuntime::new().unwrap(), &source, Setup::new(host()));
    let error = error.unwrap_err();
    assert!(matches!(error, LoadError::Version { .. }), "{error}");
    let says = "built against aio:policy@0.2.0, but this host speaks aio:policy@0.1.0";
    assert!(error.to_string().contains(says), "{error}");
}
