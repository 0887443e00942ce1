//! Shipped components, damaged: cut off, and with bits flipped. Each is refused
//! with one sentence, or still answers within bounds; nothing panics.

#![allow(clippy::unwrap_used, reason = "tests")]

mod common;

use aio_core::{MAX_LABEL_BYTES, MAX_REASON_BYTES, Verdict};
use aio_policy::{LoadError, LoadedPolicy, PolicyRuntime, PolicySource, Setup};
use common::{facts, host};

fn shipped() -> Vec<u8> {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../../policies/prebuilt");
    std::fs::read(std::path::Path::new(folder).join("fixed.wasm")).unwrap()
}

fn load(runtime: &PolicyRuntime, bytes: Vec<u8>) -> Result<LoadedPolicy, LoadError> {
    let source = PolicySource::Bytes { name: "damaged".into(), bytes };
    LoadedPolicy::load(runtime, &source, Setup::new(host()))
}

fn assert_one_sentence(error: &LoadError, damage: &str) {
    let sentence = error.to_string();
    assert!(sentence.starts_with("policy \"damaged\" "), "{damage}: {sentence}");
    assert!(!sentence.chars().any(char::is_control), "{damage}: {sentence:?}");
    assert!(sentence.len() < 1400, "{damage}: {sentence}");
}

#[test]
fn a_component_cut_off_anywhere_is_refused() {
    let (runtime, bytes) = (PolicyRuntime::new().unwrap(), shipped());
    // What ends the component are custom sections, which may be left out whole.
    let mut refused = 0;
    for end in (0..bytes.len()).step_by(97) {
        match load(&runtime, bytes[..end].into()) {
            Err(error) => {
                assert_one_sentence(&error, &format!("cut at {end}"));
                refused += 1;
            }
            Ok(mut policy) => {
                assert!(bytes.len() - end < 4096, "cut at {end} of {}", bytes.len());
                assert_eq!(policy.plan(&facts(vec![])).failures, [], "cut at {end}");
            }
        }
    }
    assert!(refused > bytes.len() / 97 / 2, "{refused}");
}

#[test]
fn a_component_with_a_bit_flipped_is_refused_or_kept_in_bounds() {
    let (runtime, bytes) = (PolicyRuntime::new().unwrap(), shipped());
    // The first bytes hold the structure, where a bit means most; then spots
    // spread over the whole by a fixed sequence.
    let mut spot = 7_usize;
    let spread = std::iter::repeat_with(|| {
        spot = (spot * 48_271 + 11) % 2_147_483_647;
        (spot % bytes.len(), spot / 7 % 8)
    });
    let first = (8..72).map(|place| (place, place * 5 % 8));
    for (place, bit) in first.chain(spread.take(60)) {
        let damage = format!("bit {bit} of byte {place}");
        let mut damaged = bytes.clone();
        damaged[place] ^= 1 << bit;
        match load(&runtime, damaged) {
            Err(error) => assert_one_sentence(&error, &damage),
            Ok(mut policy) => {
                let asked = policy.plan(&facts(vec![]));
                if let Verdict::Decided(plan) = asked.answer {
                    assert!(plan.tier <= 1, "{damage}: {plan:?}");
                    assert!(plan.draft.length <= host().max_draft_length, "{damage}: {plan:?}");
                    assert!(plan.label.len() <= MAX_LABEL_BYTES, "{damage}");
                    assert!(plan.reason.len() <= MAX_REASON_BYTES, "{damage}");
                }
            }
        }
    }
}
