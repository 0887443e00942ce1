//! Policies that say in each answer which component and which configuration it
//! comes from: what a half-loaded one, or two mixed up, could not say.

use aio_core::Hook;

use crate::zoo::build::{Builder, RawVerdict, bytes, words};

const LABEL: u32 = 512;
const VERDICT: u32 = 128;

/// What `stamped` takes as its configuration: JSON, ten bytes long.
pub fn config(number: u64) -> String {
    format!("\"{number:08}\"")
}

/// What a policy of that letter and number says in each answer.
pub fn stamp(letter: char, number: u64) -> String {
    format!("{letter}{number:08}")
}

/// A component that labels each plan, and gives as the reason of each round
/// decision, its letter and the number that it was configured with.
pub fn stamped(letter: char, ask_every: u32) -> Vec<u8> {
    let label = [LABEL, 9];
    let plan = RawVerdict { ask_every, label, reason: label, ..RawVerdict::PLAIN };
    // Keep, with a reason; the request's number is put in front.
    let decision = [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, LABEL, 9];
    let init = format!(
        "(if (i32.ne (local.get 1) (i32.const 10)) (then (unreachable))) \
         (i64.store align=1 (i32.const {}) \
          (i64.load align=1 (i32.add (local.get 0) (i32.const 1)))) (i32.const 80)",
        LABEL + 1
    );
    let rounds = "(i64.store (i32.const 256) (i64.load (local.get 6))) (i32.const 240)";
    Builder::new()
        .fields(&bytes(LABEL, format!("{letter}unloaded").as_bytes()))
        .fields(&plan.at(VERDICT))
        .fields(&words(80, &[0, 0, 0]))
        .fields(&words(240, &[256, 1]))
        .fields(&words(256, &decision))
        .hook(Hook::Init, &init)
        .hook(Hook::Plan, &format!("(i32.const {VERDICT})"))
        .hook(Hook::Rounds, rounds)
        .bytes()
}
