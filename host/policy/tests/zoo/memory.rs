//! Animals that take memory: linear, tables, stack.

use aio_core::FailureKind::{Memory, Timeout, Trap};
use aio_core::Hook;

use super::Animal;
use super::build::{Builder, for_ever};

const TOO_MUCH: &str = "asked for more than its 16777216 bytes of memory";
const CANNOT_START: &str = "the policy's start needs more than the limits allow";

pub fn animals() -> Vec<Animal> {
    let grow = "(loop $more (br_if $more (i32.ne (memory.grow (i32.const 1)) (i32.const -1)))) \
                (unreachable)";
    let grow_table = "(loop $more (br_if $more (i32.ne (table.grow $t (ref.null func) \
                      (i32.const 1000)) (i32.const -1)))) (unreachable)";
    let deeper = "(func $deeper (param i32) (result i32) \
                  (i32.add (i32.const 1) (call $deeper (local.get 0))))";
    let logs_deeper = "(func $deeper (param i32) (result i32) \
                       (call $log (i32.const 0) (i32.const 0) (i32.const 10)) \
                       (i32.add (i32.const 1) (call $deeper (local.get 0))))";
    let go_deeper = "(drop (call $deeper (i32.const 0)))";
    // Five thousand values that are all alive across the call.
    let wide = format!(
        "(func $deeper (param i32) (result i32) {} (call $deeper (local.get 0)) {})",
        (0..5000).map(|i| format!("(i32.load offset={} (local.get 0))", 4 * i)).collect::<String>(),
        "(i32.add)".repeat(5000)
    );
    let start = |fields: String| Builder::new().fields(&fields).bytes();
    vec![
        Animal::fails("allocates", Builder::plan(grow).bytes(), Memory, TOO_MUCH),
        Animal::refused(
            "allocates-in-init",
            Builder::new().hook(Hook::Init, grow).bytes(),
            TOO_MUCH,
        ),
        Animal::fails(
            "table-bomb",
            Builder::plan(grow_table).fields("(table $t 1 funcref)").bytes(),
            Memory,
            TOO_MUCH,
        ),
        Animal::refused("starts-with-4-gib", Builder::new().pages(65_536).bytes(), TOO_MUCH),
        Animal::wat(
            "starts-with-a-huge-64-bit-memory",
            &other_module("(memory i64 0x100000000)"),
            "failed while it was loaded",
        ),
        Animal::refused(
            "starts-with-a-huge-table",
            start("(table 5000000 funcref)".into()),
            TOO_MUCH,
        ),
        Animal::refused("20-memories", start("(memory 1)".repeat(20)), CANNOT_START),
        Animal::refused("20-tables", start("(table 1 funcref)".repeat(20)), CANNOT_START),
        Animal::wat("100-instances", &many_instances(), CANNOT_START),
        Animal::fails(
            "recurses",
            Builder::plan(go_deeper).fields(deeper).bytes(),
            Trap,
            "ran out of stack",
        ),
        Animal::fails(
            "recurses-with-wide-frames",
            Builder::plan(go_deeper).fields(&wide).bytes(),
            Trap,
            "ran out of stack",
        ),
        Animal::fails(
            "recurses-and-logs",
            Builder::plan(go_deeper).fields(logs_deeper).log().bytes(),
            Trap,
            "ran out of stack",
        ),
        Animal::fails(
            "asks-for-64-mib-again-and-again",
            Builder::plan(&for_ever("(drop (memory.grow (i32.const 1000)))")).bytes(),
            Timeout,
            "used up its 10000000 units of fuel",
        ),
    ]
}

/// A good policy with another core module beside its own.
fn other_module(fields: &str) -> String {
    let good = Builder::new().text();
    let body = good.strip_prefix("(component").unwrap();
    format!("(component (core module $other {fields}) (core instance (instantiate $other)) {body}")
}

fn many_instances() -> String {
    let good = Builder::new().text();
    let body = good.strip_prefix("(component").unwrap();
    let instances = "(core instance (instantiate $other))".repeat(100);
    format!("(component (core module $other) {instances} {body}")
}
