//! What a call into a policy gave: its answer in bounds or the safe one in its
//! place, what it did wrong, and what it took. Knows no hook in particular.

use std::time::Instant;

use aio_core::{Failure, FailureKind, Hook};

/// A policy's answer, or the safe one in its place, and what it took.
#[derive(Debug, Clone, PartialEq)]
pub struct Asked<T> {
    /// The answer, in the host's bounds: it can be carried out as it is.
    pub answer: T,
    /// What the policy did wrong; empty when all was well.
    pub failures: Vec<Failure>,
    /// Wall time, starting the instance anew included.
    pub seconds: f64,
    /// Fuel that the call used, about one unit per WebAssembly instruction.
    pub fuel: u64,
}

/// A call under way: the policy's raw answer, and what is known of it so far.
pub(crate) struct Call<T> {
    pub(crate) start: Instant,
    pub(crate) answer: Option<T>,
    pub(crate) failures: Vec<Failure>,
    pub(crate) fuel: u64,
    /// Whether the policy was asked at all.
    pub(crate) asked: bool,
}

impl<T> Call<T> {
    pub(crate) fn begin() -> Self {
        let start = Instant::now();
        Self { start, answer: None, failures: Vec::new(), fuel: 0, asked: false }
    }

    /// Records what was changed about the answer.
    pub(crate) fn clamped(&mut self, hook: Hook, changes: Vec<String>) {
        self.failures.extend(changes.into_iter().map(|change| Failure {
            hook,
            kind: FailureKind::Clamped,
            message: format!("the policy's {hook} answer was brought into bounds: {change}"),
        }));
    }

    pub(crate) fn with<U>(self, answer: U) -> Asked<U> {
        let seconds = self.start.elapsed().as_secs_f64();
        Asked { answer, failures: self.failures, seconds, fuel: self.fuel }
    }
}
