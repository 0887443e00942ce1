//! One loaded policy: asks it, checks what it says, and answers in its place
//! when it fails. Knows no scheduler and no tiers beyond what [`HostInfo`] says, and
//! not how a policy is started (`loaded/starting.rs`).

use std::collections::BTreeSet;
use std::time::Instant;

use aio_core::{
    Clamped, Failure, FailureKind, Grant, Granted, Hook, HostInfo, MAX_PROBES, Outcome, Plan,
    PolicyIdentity, RequestFacts, RoundContext, RoundDecision, RoundFacts, Verdict,
};

use crate::asked::{Asked, Call};
use crate::call::Phase;
use crate::contract::v0_1::Hooks;
use crate::describe::Description;
use crate::event::Role;
use crate::instance::{Guest, Instance};
use crate::load::Prepared;
use crate::log::{LogGate, make_printable};
use crate::runtime::PolicyRuntime;
use crate::setup::Setup;
use crate::state::Carried;
use crate::status::{Counts, PolicyStatus};
use crate::strikes::{Standing, Strikes};
use crate::undecided::Undecided;

mod starting;

/// One loaded policy. One thread asks it at a time.
pub struct LoadedPolicy {
    runtime: PolicyRuntime,
    prepared: Prepared,
    /// `None` after a failed call, until the next one starts it anew.
    instance: Option<Instance>,
    /// The log while there is no instance.
    log: Option<LogGate>,
    identity: PolicyIdentity,
    description: Description,
    setup: Setup,
    strikes: Strikes,
    counts: Counts,
}

impl std::fmt::Debug for LoadedPolicy {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("LoadedPolicy").field("identity", &self.identity).finish_non_exhaustive()
    }
}

impl LoadedPolicy {
    /// Which policy this is, for records.
    pub fn identity(&self) -> &PolicyIdentity {
        &self.identity
    }

    /// One sentence on what the policy does, in its own words; may be empty.
    pub fn summary(&self) -> &str {
        &self.description.summary
    }

    /// JSON Schema of its configuration, as it describes it; empty when it gives
    /// none that is JSON of at most 64 KiB.
    pub fn config_schema(&self) -> &str {
        &self.description.config_schema
    }

    /// What it imports of that which was granted.
    pub fn imports(&self) -> &BTreeSet<Grant> {
        self.prepared.imports()
    }

    /// What it was started with, and the state it would be started with anew.
    pub fn setup(&self) -> &Setup {
        &self.setup
    }

    /// The component that it is an instance of.
    pub fn prepared(&self) -> &Prepared {
        &self.prepared
    }

    /// What the policy was told of the host.
    pub fn host(&self) -> &HostInfo {
        &self.setup.host
    }

    /// What it runs on.
    pub(crate) fn runtime(&self) -> &PolicyRuntime {
        &self.runtime
    }

    /// Whether it exports `rounds`; if not, asking costs nothing and changes nothing.
    pub fn wants_rounds(&self) -> bool {
        self.prepared.exports.has(Hook::Rounds)
    }

    /// Whether it exports `finished`.
    pub fn wants_finished(&self) -> bool {
        self.prepared.exports.has(Hook::Finished)
    }

    /// Log lines dropped because there were too many.
    pub fn log_lines_dropped(&mut self) -> u64 {
        match (&mut self.instance, &self.log) {
            (Some(instance), _) => instance.log().dropped(),
            (None, Some(log)) => log.dropped(),
            (None, None) => 0,
        }
    }

    /// Until when it stays set aside, if it is.
    pub(crate) fn aside_until(&self) -> Option<Instant> {
        let now = Instant::now();
        self.strikes.aside(now).map(|left| now + left)
    }

    /// How it fares. `role`: what it is for, which it does not know itself.
    pub fn status(&mut self, role: Role) -> PolicyStatus {
        let now = Instant::now();
        let hooks =
            self.counts.hooks.iter().filter(|totals| self.prepared.exports.has(totals.hook));
        PolicyStatus {
            policy: self.identity.clone(),
            role,
            recent_failures: u32::try_from(self.strikes.recent(now)).unwrap_or(u32::MAX),
            aside_seconds: self.strikes.aside(now).map(|left| left.as_secs_f64()),
            retries: self.strikes.pauses(),
            next_aside_seconds: self.strikes.next_pause().as_secs_f64(),
            times_aside: self.counts.times_aside,
            instances: self.counts.instances,
            last_failure: self.counts.last_failure.clone(),
            hooks: hooks.copied().collect(),
            log_lines_dropped: self.log_lines_dropped(),
        }
    }

    /// Asks how to answer a request.
    ///
    /// A policy that exports no `plan` has the host's safe plan, which is no
    /// failure; if it exports `rounds` it is asked there from the first round
    /// on. A policy that asks for more than [`MAX_PROBES`] probes gets the safe
    /// plan too.
    pub fn plan(&mut self, facts: &RequestFacts) -> Asked<Verdict> {
        self.plan_granted(facts, &Granted::default())
    }

    /// [`LoadedPolicy::plan`], lending what was granted for the time of the call.
    /// What the policy does not import is not lent.
    pub fn plan_granted(&mut self, facts: &RequestFacts, granted: &Granted) -> Asked<Verdict> {
        let lent = (!self.imports().is_empty()).then(|| granted.clone().bounded());
        let mut call = self.ask(Hook::Plan, |hooks, store| {
            store.data_mut().lent = lent;
            let verdict = hooks.plan(&mut *store, facts);
            store.data_mut().lent = None;
            verdict
        });
        let checked = match call.answer.take() {
            Some(Verdict::Decided(plan)) => {
                let Clamped { mut value, changes } = plan.clamped(&self.setup.host);
                make_printable(&mut value.label);
                make_printable(&mut value.reason);
                call.clamped(Hook::Plan, changes);
                Ok(Verdict::Decided(value))
            }
            Some(Verdict::Probe(_)) if facts.probes.len() >= MAX_PROBES => {
                Err(format!("the policy asked for more than {MAX_PROBES} probes for one request"))
            }
            Some(Verdict::Probe(probe)) => match probe.clamped(&self.setup.host) {
                Some(Clamped { value, changes }) => {
                    call.clamped(Hook::Plan, changes);
                    Ok(Verdict::Probe(value))
                }
                None => Err("the policy asked for a probe without two non-empty answers".into()),
            },
            None if call.failures.is_empty() => Ok(Verdict::Decided(self.plan_of_no_plan_hook())),
            None => Ok(Verdict::Decided(self.safe_plan(&call.failures))),
        };
        let answer = checked.unwrap_or_else(|message| {
            let failure = Failure { hook: Hook::Plan, kind: FailureKind::Nonsense, message };
            self.strike(failure, &mut call.failures);
            Verdict::Decided(Plan::safe(&self.setup.host))
        });
        self.counted(Hook::Plan, call, answer)
    }

    /// The safe plan, which says why where the policy was not even asked.
    fn safe_plan(&self, failures: &[Failure]) -> Plan {
        let safe = Plan::safe(&self.setup.host);
        match failures {
            [Failure { kind: FailureKind::SetAside, message, .. }] => {
                Plan { reason: format!("safe plan: {message}"), ..safe }
            }
            _ => safe,
        }
    }

    fn plan_of_no_plan_hook(&self) -> Plan {
        Plan {
            ask_every: u32::from(self.wants_rounds()),
            reason: "the policy exports no plan hook: the host's safe plan".into(),
            ..Plan::safe(&self.setup.host)
        }
    }

    /// Asks about running requests. Requests without a decision in the answer
    /// keep their setting; the answer has at most one decision for each.
    pub fn rounds(
        &mut self,
        context: &RoundContext,
        requests: &[RoundFacts],
    ) -> Asked<Vec<RoundDecision>> {
        let mut call =
            self.ask(Hook::Rounds, |hooks, store| hooks.rounds(store, context, requests));
        let decisions = call.answer.take().unwrap_or_default();
        if decisions.is_empty() {
            return self.counted(Hook::Rounds, call, Vec::new());
        }
        let mut undecided = Undecided::new(requests);
        let mut answer = Vec::with_capacity(decisions.len().min(requests.len()));
        let (mut unknown, mut changes) = (Vec::new(), Vec::new());
        for decision in decisions {
            let Some(facts) = undecided.take(decision.request) else {
                unknown.push(decision.request);
                continue;
            };
            let mut clamped = decision.clamped(facts.tier, &self.setup.host);
            make_printable(&mut clamped.value.reason);
            changes.extend(clamped.changes);
            answer.push(clamped.value);
        }
        if let Some(first) = unknown.first() {
            changes.push(format!(
                "{} decisions dropped for requests that were not asked about or were decided \
                 already (the first: {first})",
                unknown.len()
            ));
        }
        call.clamped(Hook::Rounds, changes);
        self.counted(Hook::Rounds, call, answer)
    }

    /// Tells what became of requests.
    pub fn finished(&mut self, outcomes: &[Outcome]) -> Asked<()> {
        let call = self.ask(Hook::Finished, |hooks, store| hooks.finished(store, outcomes));
        self.counted(Hook::Finished, call, ())
    }

    /// Asks for learned state, to be carried to the next generation. A fresh
    /// instance of this one gets it too. `None` when the policy exports no
    /// `snapshot` or failed.
    pub fn snapshot(&mut self) -> Asked<Option<Vec<u8>>> {
        let mut call = self.ask(Hook::Snapshot, |hooks, store| hooks.snapshot(store));
        let state = call.answer.take();
        if state.is_some() {
            self.setup.carried = state.clone().map(|state| Carried { policy: None, state });
        }
        self.counted(Hook::Snapshot, call, state)
    }

    fn counted<T, U>(&mut self, hook: Hook, call: Call<T>, answer: U) -> Asked<U> {
        let called = call.asked;
        let asked = call.with(answer);
        self.counts.call(hook, &asked, called);
        asked
    }

    /// Calls a hook, on a fresh instance if need be. The answer is `None` when
    /// the hook is not exported, or failed, or the policy is set aside.
    fn ask<T>(
        &mut self,
        hook: Hook,
        call: impl FnOnce(&mut Hooks, &mut wasmtime::Store<Guest>) -> wasmtime::Result<Option<T>>,
    ) -> Call<T> {
        let mut asked = Call::begin();
        if !self.prepared.exports.has(hook) {
            return asked;
        }
        let standing = self.strikes.standing(asked.start);
        if let Standing::Aside(left) = standing {
            // Only a plan's record says so: rounds come by the thousand.
            if hook == Hook::Plan {
                asked.failures.push(Failure {
                    hook,
                    kind: FailureKind::SetAside,
                    message: format!(
                        "the policy is set aside after repeated failures and is tried again in {} s",
                        left.as_secs() + 1
                    ),
                });
            }
            return asked;
        }
        if standing == Standing::AskedAgain {
            tracing::warn!(
                policy = self.identity.name.as_str(),
                "the policy is asked again; if it fails it is set aside for {} s",
                self.strikes.next_pause().as_secs_f64()
            );
        }
        asked.asked = true;
        let mut start = asked.start;
        if self.instance.is_none() {
            match self.start_anew() {
                Ok(instance) => self.instance = Some(instance),
                Err(failure) => {
                    self.strike(failure, &mut asked.failures);
                    return asked;
                }
            }
            // Starting it takes its own time.
            start = Instant::now();
        }
        // There is one by now.
        let Some(instance) = &mut self.instance else { return asked };
        let phase = Phase::Hook(hook);
        let result = instance.call(phase, start, &self.setup.limits, call);
        asked.fuel = instance.fuel_used(phase, &self.setup.limits);
        match result {
            Ok(answer) => asked.answer = answer,
            Err(failure) => {
                self.log = self.instance.take().map(Instance::end);
                self.strike(failure, &mut asked.failures);
            }
        }
        asked
    }

    /// Counts a failure, and says so when it sets the policy aside.
    fn strike(&mut self, failure: Failure, failures: &mut Vec<Failure>) {
        tracing::warn!(policy = self.identity.name.as_str(), "{failure}");
        let hook = failure.hook;
        self.counts.last_failure = Some(failure.message.clone());
        failures.push(failure);
        if !self.setup.set_aside {
            return;
        }
        if let Some(pause) = self.strikes.failed(Instant::now()) {
            self.counts.times_aside += 1;
            let (most, window) = self.strikes.rule();
            let message = format!(
                "the policy is set aside for {} s: the safe plan is used instead (after {most} \
                 failures within {} s, or one when it is tried again)",
                pause.as_secs_f64(),
                window.as_secs_f64()
            );
            tracing::warn!(policy = self.identity.name.as_str(), "{message}");
            failures.push(Failure { hook, kind: FailureKind::SetAside, message });
        }
    }
}
