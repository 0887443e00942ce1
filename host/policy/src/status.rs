//! How a policy fares: what it was asked, what that took, what it did wrong and
//! whether it is set aside. Counts; decides nothing.

use aio_core::{Failure, FailureKind, Hook, PolicyIdentity};
use serde::{Deserialize, Serialize};

use crate::asked::Asked;
use crate::event::Role;

/// How a policy fares, since it was started.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PolicyStatus {
    /// Which policy.
    pub policy: PolicyIdentity,
    /// What it is for.
    pub role: Role,
    /// Failures that count towards being set aside
    /// ([`Limits::strikes`](crate::Limits::strikes) of them do it).
    pub recent_failures: u32,
    /// Seconds for which it stays set aside, the safe plan in its place; `None`
    /// when it is asked.
    pub aside_seconds: Option<f64>,
    /// Times it was set aside in a row: each was twice as long as the one before.
    /// 0 when it is trusted.
    pub retries: u32,
    /// Seconds for which the next failure too many sets it aside.
    pub next_aside_seconds: f64,
    /// Times it was set aside in all.
    pub times_aside: u64,
    /// Times its component was instantiated: once, and again after each failure.
    pub instances: u64,
    /// Its last failure, as one sentence.
    pub last_failure: Option<String>,
    /// Lines that it logged and that were dropped because there were too many.
    pub log_lines_dropped: u64,
    /// Totals of `plan`, `rounds`, `finished` and `snapshot`, where it exports them.
    pub hooks: Vec<HookTotals>,
}

impl PolicyStatus {
    /// The totals of a hook; `None` when it does not export it.
    pub fn hook(&self, hook: Hook) -> Option<&HookTotals> {
        self.hooks.iter().find(|totals| totals.hook == hook)
    }
}

/// What calls of one hook came to.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct HookTotals {
    /// The hook.
    pub hook: Hook,
    /// Times it was called.
    pub calls: u64,
    /// Calls that failed: the safe answer took the place of the policy's.
    pub failures: u64,
    /// Calls whose answer was brought into bounds.
    pub clamped: u64,
    /// Times it was not called, because the policy was set aside.
    pub skipped: u64,
    /// Fuel of all calls.
    pub fuel: u64,
    /// Wall time of all calls, starting instances anew included.
    pub seconds: f64,
    /// The longest of them.
    pub longest_seconds: f64,
}

/// The counts behind a [`PolicyStatus`].
#[derive(Debug)]
pub(crate) struct Counts {
    pub(crate) hooks: [HookTotals; 4],
    pub(crate) times_aside: u64,
    pub(crate) instances: u64,
    pub(crate) last_failure: Option<String>,
}

impl Default for Counts {
    fn default() -> Self {
        let totals = |hook| HookTotals {
            hook,
            calls: 0,
            failures: 0,
            clamped: 0,
            skipped: 0,
            fuel: 0,
            seconds: 0.0,
            longest_seconds: 0.0,
        };
        Self {
            hooks: [Hook::Plan, Hook::Rounds, Hook::Finished, Hook::Snapshot].map(totals),
            times_aside: 0,
            instances: 0,
            last_failure: None,
        }
    }
}

impl Counts {
    /// Counts a call; `called`: whether it reached the policy.
    pub(crate) fn call<T>(&mut self, hook: Hook, asked: &Asked<T>, called: bool) {
        let Some(totals) = self.hooks.iter_mut().find(|totals| totals.hook == hook) else { return };
        if !called {
            totals.skipped += 1;
            return;
        }
        let failed = |f: &Failure| !matches!(f.kind, FailureKind::Clamped | FailureKind::SetAside);
        totals.calls += 1;
        totals.failures += u64::from(asked.failures.iter().any(failed));
        totals.clamped += u64::from(asked.failures.iter().any(|f| f.kind == FailureKind::Clamped));
        totals.fuel = totals.fuel.saturating_add(asked.fuel);
        totals.seconds += asked.seconds;
        totals.longest_seconds = totals.longest_seconds.max(asked.seconds);
    }
}
