//! Animals that abuse what they may import: the log.

use aio_core::FailureKind::{Nonsense, Timeout, Trap};
use aio_core::Hook;

use super::build::{Builder, GOOD, bytes, for_ever};
use super::{Animal, End};

pub fn animals() -> Vec<Animal> {
    let line = |level: u32, place: u32, length: u32| {
        format!("(call $log (i32.const {level}) (i32.const {place}) (i32.const {length}))")
    };
    let plan = |code: &str| Builder::plan(code).log();
    let says = bytes(16, b"\x1b[2J\nforged line");
    let broken = bytes(16, b"\xff\xfe");
    vec![
        Animal::fails(
            "log-flood",
            plan(&for_ever(&line(3, 16, 14))).fields(&says).bytes(),
            Timeout,
            "used up its 10000000 units of fuel",
        ),
        Animal::fails(
            "log-line-of-10-mib",
            plan(&line(1, 0, 10 << 20)).pages(200).bytes(),
            Nonsense,
            "handed the host more than 1048576 bytes at once",
        ),
        Animal::fails(
            "log-line-beyond-memory",
            plan(&line(1, 1 << 30, 1 << 30)).bytes(),
            Nonsense,
            "unreadable",
        ),
        Animal::fails(
            "log-line-not-utf-8",
            plan(&line(1, 16, 2)).fields(&broken).bytes(),
            Nonsense,
            "unreadable",
        ),
        Animal::fails("log-level-9", plan(&line(9, 16, 0)).bytes(), Nonsense, "unreadable"),
        Animal::new(
            "log-line-with-an-escape",
            Builder::new()
                .log()
                .fields(&says)
                .hook(Hook::Plan, &format!("{} (i32.const {GOOD})", line(2, 16, 14)))
                .bytes(),
            End::Harmless(Hook::Plan),
        ),
        Animal::fails(
            "logs-while-arguments-arrive",
            Builder::new().log().realloc(&format!("{} (i32.const 4096)", line(1, 16, 1))).bytes(),
            Trap,
            "trapped",
        )
        .always(),
    ]
}
