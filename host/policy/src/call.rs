//! What a failed call into a component means: trap, timeout, memory or
//! nonsense, as one sentence. Knows no policy in particular.

use std::time::Duration;

use aio_core::{Failure, FailureKind, Hook};
use wasmtime::Trap;

use crate::limits::Limits;
use crate::log::printable;

/// Most bytes of an error's text that a message repeats.
const MESSAGE_BYTES: usize = 512;

/// The innermost cause of an error, on one line: the outer ones only say that
/// something went wrong in WebAssembly.
pub(crate) fn one_line(error: &wasmtime::Error) -> String {
    printable(error.root_cause().to_string().trim(), MESSAGE_BYTES)
}

/// What runs in a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Phase {
    /// Instantiation: memories, tables, data, start functions.
    Start,
    /// A hook.
    Hook(Hook),
}

impl Phase {
    /// The hook that a record names; starting is part of `init` there.
    fn hook(self) -> Hook {
        match self {
            Self::Start => Hook::Init,
            Self::Hook(hook) => hook,
        }
    }

    /// Whether this runs once for an instance, under the wider bounds.
    fn is_once(self) -> bool {
        matches!(self, Self::Start | Self::Hook(Hook::Describe | Hook::Init))
    }

    pub(crate) fn fuel(self, limits: &Limits) -> u64 {
        if self.is_once() { limits.init_fuel } else { limits.fuel }
    }

    pub(crate) fn deadline(self, limits: &Limits) -> Duration {
        if self.is_once() { limits.init_deadline } else { limits.deadline }
    }

    /// Bytes that the call may hand to the host.
    pub(crate) fn answer_bytes(self, limits: &Limits) -> usize {
        if self == Self::Hook(Hook::Snapshot) { limits.snapshot_bytes } else { limits.answer_bytes }
    }
}

impl std::fmt::Display for Phase {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Start => f.write_str("start"),
            Self::Hook(hook) => hook.fmt(f),
        }
    }
}

/// Names what went wrong. `refused`: whether the limiter refused memory during
/// the call.
pub(crate) fn failure(
    phase: Phase,
    error: &wasmtime::Error,
    refused: bool,
    limits: &Limits,
) -> Failure {
    let (kind, what) = match error.downcast_ref::<Trap>() {
        Some(Trap::OutOfFuel) => {
            (FailureKind::Timeout, format!("used up its {} units of fuel", phase.fuel(limits)))
        }
        Some(Trap::Interrupt) => {
            let milliseconds = phase.deadline(limits).as_millis();
            (FailureKind::Timeout, format!("ran longer than {milliseconds} ms"))
        }
        _ if refused => {
            let bytes = limits.memory_bytes;
            (FailureKind::Memory, format!("asked for more than its {bytes} bytes of memory"))
        }
        Some(Trap::StackOverflow) => (FailureKind::Trap, "ran out of stack".into()),
        Some(Trap::UnreachableCodeReached) => {
            (FailureKind::Trap, "gave up (a panic, an abort or an unreachable instruction)".into())
        }
        Some(_) => (FailureKind::Trap, format!("trapped ({})", one_line(error))),
        None if handed_over_too_much(error) => {
            let most = phase.answer_bytes(limits);
            (FailureKind::Nonsense, format!("handed the host more than {most} bytes at once"))
        }
        None if phase == Phase::Start => {
            (FailureKind::Memory, format!("needs more than the limits allow ({})", one_line(error)))
        }
        None => (FailureKind::Nonsense, format!("gave an unreadable answer ({})", one_line(error))),
    };
    Failure { hook: phase.hook(), kind, message: format!("the policy's {phase} {what}") }
}

/// wasmtime does not export the type of this error, so it is known by its
/// text; a test holds the text in place.
fn handed_over_too_much(error: &wasmtime::Error) -> bool {
    error.root_cause().to_string().contains("fuel allocated for hostcalls has been exhausted")
}
