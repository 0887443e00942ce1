//! Animals that take time.

use std::fmt::Write as _;
use std::time::Duration;

use aio_core::FailureKind::Timeout;
use aio_core::Hook;

use super::build::{Builder, GOOD, ROOM, RawVerdict, for_ever};
use super::{Animal, End};

/// What a call that used up its fuel is told.
const OUT_OF_FUEL: &str = "used up its 10000000 units of fuel";
const OUT_OF_INIT_FUEL: &str = "used up its 200000000 units of fuel";

pub fn animals() -> Vec<Animal> {
    let mut animals = in_each_hook();
    animals.extend(in_other_ways());
    animals.extend(much_work_for_little_code());
    animals.push(beyond_the_deadline());
    animals
}

fn in_each_hook() -> Vec<Animal> {
    let looping = for_ever("");
    let with = |hook, code: &str| Builder::new().hook(hook, code).bytes();
    let result = format!("{looping} (i32.const 16)");
    vec![
        Animal::refused("loops-in-describe", with(Hook::Describe, &result), OUT_OF_INIT_FUEL),
        Animal::refused("loops-in-init", with(Hook::Init, &result), OUT_OF_INIT_FUEL),
        Animal::fails("loops-in-plan", Builder::plan(&looping).bytes(), Timeout, OUT_OF_FUEL),
        Animal::new(
            "loops-in-rounds",
            with(Hook::Rounds, &result),
            End::Fails(Hook::Rounds, Timeout, OUT_OF_FUEL),
        ),
        Animal::new(
            "loops-in-finished",
            with(Hook::Finished, &looping),
            End::Fails(Hook::Finished, Timeout, OUT_OF_FUEL),
        ),
        Animal::new(
            "loops-in-snapshot",
            with(Hook::Snapshot, &result),
            End::Fails(Hook::Snapshot, Timeout, OUT_OF_FUEL),
        ),
    ]
}

fn in_other_ways() -> Vec<Animal> {
    let looping = for_ever("");
    let start = format!("(func $s {looping}) (start $s)");
    let tail = "(func $t (param i32) (return_call $t (local.get 0)))";
    // The post-return function is called with the verdict's place.
    let post = format!("(if (i32.eq (local.get 0) (i32.const 16)) (then {looping}))");
    vec![
        Animal::refused("loops-in-start", Builder::new().fields(&start).bytes(), OUT_OF_INIT_FUEL),
        Animal::fails(
            "loops-in-realloc",
            Builder::new().realloc(&format!("{looping} (i32.const 0)")).bytes(),
            Timeout,
            OUT_OF_FUEL,
        )
        .always(),
        Animal::fails(
            "loops-in-post-return",
            Builder::verdict(RawVerdict::PLAIN).post_return(&post).bytes(),
            Timeout,
            OUT_OF_FUEL,
        ),
        Animal::fails(
            "calls-itself-for-ever",
            Builder::plan("(call $t (i32.const 0))").fields(tail).bytes(),
            Timeout,
            OUT_OF_FUEL,
        ),
    ]
}

/// One instruction that fills or copies much memory, and thousands of them
/// without a loop or a call between, where a deadline could be looked at.
fn much_work_for_little_code() -> Vec<Animal> {
    let bytes = 200 * 65_536;
    let fill = format!("(memory.fill (i32.const 0) (i32.const 7) (i32.const {bytes}))");
    let some = "(memory.fill (i32.const 65536) (i32.const 7) (local.get 3))";
    let sized = "(local.set 3 (i32.const 1000000))";
    let copy = "(memory.copy (i32.const 0) (i32.const 1) (i32.const 13000000))";
    let table = "(table $t 90000 funcref)";
    let fill_table = "(table.fill $t (i32.const 0) (ref.null func) (i32.const 90000))";
    let with = |code: &str| Builder::plan(code).pages(200);
    vec![
        Animal::fails("fills-memory", with(&for_ever(&fill)).bytes(), Timeout, OUT_OF_FUEL),
        Animal::fails("copies-memory", with(&for_ever(copy)).bytes(), Timeout, OUT_OF_FUEL),
        Animal::fails(
            "fills-memory-5000-times-without-a-loop",
            with(&format!("{sized}{}", some.repeat(5000))).bytes(),
            Timeout,
            OUT_OF_FUEL,
        ),
        Animal::fails(
            "fills-a-table",
            Builder::plan(&for_ever(fill_table)).fields(table).bytes(),
            Timeout,
            OUT_OF_FUEL,
        ),
    ]
}

/// Calls into the host cost no fuel by themselves, and there is no loop in which
/// a deadline is looked at: 20,000 log lines of 1 MB each, one after the other.
fn beyond_the_deadline() -> Animal {
    let mut lines = String::new();
    for _ in 0..20_000 {
        write!(lines, "(call $log (i32.const 0) (i32.const {ROOM}) (i32.const 1000000))").unwrap();
    }
    let bytes = Builder::plan(&lines).log().pages(20).bytes();
    Animal::fails("logs-20000-times-without-a-loop", bytes, Timeout, "ran longer than")
        .deadline(Duration::from_millis(50))
}

/// The third call traps, and every third after it: a new instance counts anew.
pub fn traps_on_the_third_call() -> Vec<u8> {
    let code = format!(
        "(global.set $calls (i32.add (global.get $calls) (i32.const 1)))
         (if (i32.eq (global.get $calls) (i32.const 3)) (then (unreachable)))
         (i32.const {GOOD})"
    );
    Builder::new().fields("(global $calls (mut i32) (i32.const 0))").hook(Hook::Plan, &code).bytes()
}
