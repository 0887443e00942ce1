//! One loaded policy: asks it, checks what it says, and answers in its place
//! when it fails. Knows no scheduler and no tiers beyond what [`HostInfo`] says.

use std::collections::BTreeSet;
use std::time::Instant;

use aio_core::{
    Clamped, Failure, FailureKind, Grant, Granted, Hook, HostInfo, MAX_PROBES, Outcome, Plan,
    PolicyIdentity, RequestFacts, RoundContext, RoundDecision, RoundFacts, Verdict,
};
use serde::de::IgnoredAny;

use crate::call::Phase;
use crate::contract::v0_1::Hooks;
use crate::describe::{Description, WORDS_BYTES, start_error};
use crate::error::LoadError;
use crate::instance::{Guest, Instance, StartError};
use crate::limits::Limits;
use crate::load::Prepared;
use crate::log::{LogGate, make_printable, printable};
use crate::runtime::PolicyRuntime;
use crate::source::PolicySource;
use crate::state::Carried;
use crate::strikes::{STRIKES, Strikes, WINDOW};
use crate::undecided::Undecided;

/// What a policy is started with.
#[derive(Debug, Clone)]
pub struct Setup {
    /// Configuration as JSON text; `None` when the operator gave none.
    pub config: Option<String>,
    /// What an earlier generation's `snapshot` returned. A policy of another name
    /// than it is meant for does not get it.
    pub carried: Option<Carried>,
    /// What the policy is told of the host, and what its answers are held against.
    pub host: HostInfo,
    /// What it may use.
    pub limits: Limits,
    /// What it may import beyond the log.
    pub grants: BTreeSet<Grant>,
}

impl Setup {
    /// No configuration, no carried state, default limits.
    pub fn new(host: HostInfo) -> Self {
        Self {
            config: None,
            carried: None,
            host,
            limits: Limits::default(),
            grants: BTreeSet::new(),
        }
    }

    /// With a configuration, as JSON text.
    #[must_use]
    pub fn config(mut self, json: impl Into<String>) -> Self {
        self.config = Some(json.into());
        self
    }

    /// With an earlier generation's state, for whichever policy is started.
    #[must_use]
    pub fn carried(mut self, state: Vec<u8>) -> Self {
        self.carried = Some(Carried { policy: None, state });
        self
    }

    /// With more to see than facts.
    #[must_use]
    pub fn grants(mut self, grants: impl IntoIterator<Item = Grant>) -> Self {
        self.grants = grants.into_iter().collect();
        self
    }

    /// With other limits.
    #[must_use]
    pub fn limits(mut self, limits: Limits) -> Self {
        self.limits = limits;
        self
    }
}

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
}

impl std::fmt::Debug for LoadedPolicy {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("LoadedPolicy").field("identity", &self.identity).finish_non_exhaustive()
    }
}

impl LoadedPolicy {
    /// Compiles a policy, checks what it imports and exports, starts it and
    /// calls its `describe` and `init`.
    ///
    /// A policy that exports no `describe` is called by its source's name; one
    /// without `init` takes no configuration. One without `plan` leaves every
    /// plan to the host (see [`LoadedPolicy::plan`]).
    ///
    /// # Errors
    /// One sentence that names the policy and says what to change.
    pub fn load(
        runtime: &PolicyRuntime,
        source: &PolicySource,
        setup: Setup,
    ) -> Result<Self, LoadError> {
        let prepared = Prepared::new(runtime, source, &setup.limits, &setup.grants)?;
        Self::start(runtime, &prepared, setup)
    }

    /// Starts a component that was prepared: a generation of its own.
    ///
    /// # Errors
    /// As [`LoadedPolicy::load`].
    pub fn start(
        runtime: &PolicyRuntime,
        prepared: &Prepared,
        setup: Setup,
    ) -> Result<Self, LoadError> {
        Self::start_as(runtime, prepared, setup, runtime.next_generation(), |_| None)
    }

    /// [`LoadedPolicy::start`] with a generation's number (0 is for one that never
    /// serves), and where state is to be had for a policy of a name: what it is
    /// called it tells itself, once it is started. Asked when the setup carries none.
    pub(crate) fn start_as(
        runtime: &PolicyRuntime,
        prepared: &Prepared,
        setup: Setup,
        generation: u64,
        kept: impl FnOnce(&str) -> Option<Carried>,
    ) -> Result<Self, LoadError> {
        let policy = prepared.name().to_owned();
        check_config(&policy, setup.config.as_deref())?;
        if setup.config.is_some() && !prepared.exports.has(Hook::Init) {
            return Err(LoadError::Refused {
                policy,
                message: "it takes no configuration (it exports no `init`); leave it out".into(),
            });
        }
        let mut host = Self {
            runtime: runtime.clone(),
            prepared: prepared.clone(),
            instance: None,
            log: Some(LogGate::new(policy.clone())),
            identity: PolicyIdentity {
                name: policy.clone(),
                version: "unknown".into(),
                digest: prepared.digest().to_owned(),
                generation,
            },
            description: Description::default(),
            setup,
            strikes: Strikes::default(),
        };
        host.first_start(&policy, kept)?;
        Ok(host)
    }

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
            None => Ok(Verdict::Decided(Plan::safe(&self.setup.host))),
        };
        let answer = checked.unwrap_or_else(|message| {
            let failure = Failure { hook: Hook::Plan, kind: FailureKind::Nonsense, message };
            self.strike(failure, &mut call.failures);
            Verdict::Decided(Plan::safe(&self.setup.host))
        });
        call.with(answer)
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
        call.with(answer)
    }

    /// Tells what became of requests.
    pub fn finished(&mut self, outcomes: &[Outcome]) -> Asked<()> {
        self.ask(Hook::Finished, |hooks, store| hooks.finished(store, outcomes)).with(())
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
        call.with(state)
    }

    /// Calls a hook, on a fresh instance if need be. The answer is `None` when
    /// the hook is not exported, or failed, or the policy is set aside.
    fn ask<T>(
        &mut self,
        hook: Hook,
        call: impl FnOnce(&Hooks, &mut wasmtime::Store<Guest>) -> wasmtime::Result<Option<T>>,
    ) -> Call<T> {
        let start = Instant::now();
        let mut asked = Call { start, answer: None, failures: Vec::new(), fuel: 0 };
        if !self.prepared.exports.has(hook) {
            return asked;
        }
        if let Some(left) = self.strikes.aside(start) {
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
        let result = self.running().and_then(|mut instance| {
            let phase = Phase::Hook(hook);
            let result = instance.call(phase, &self.setup.limits, call);
            asked.fuel = instance.fuel_used(phase, &self.setup.limits);
            match result {
                Ok(answer) => {
                    self.instance = Some(instance);
                    Ok(answer)
                }
                Err(failure) => {
                    self.log = Some(instance.end());
                    Err(failure)
                }
            }
        });
        match result {
            Ok(answer) => asked.answer = answer,
            Err(failure) => self.strike(failure, &mut asked.failures),
        }
        asked
    }

    /// The instance, taken out; started anew and initialised if the last one failed.
    fn running(&mut self) -> Result<Instance, Failure> {
        if let Some(instance) = self.instance.take() {
            return Ok(instance);
        }
        let mut instance = self.instantiate().map_err(|error| match error {
            StartError::Failed(failure) => failure,
            StartError::WrongType(wrong) => Failure {
                hook: wrong.hook,
                kind: FailureKind::Nonsense,
                message: format!("the policy's {} has another type than before", wrong.hook),
            },
        })?;
        let refusal = match self.init(&mut instance) {
            Ok(None) => return Ok(instance),
            Ok(Some(message)) => Failure {
                hook: Hook::Init,
                kind: FailureKind::Nonsense,
                message: format!("the policy refuses to start again: {message}"),
            },
            Err(failure) => failure,
        };
        self.log = Some(instance.end());
        Err(refusal)
    }

    fn instantiate(&mut self) -> Result<Instance, StartError> {
        let log = self.log.take().unwrap_or_else(|| LogGate::new(self.identity.name.clone()));
        let (engine, limits) = (&self.runtime.engine, &self.setup.limits);
        Instance::start(engine, &self.prepared.pre, &self.prepared.exports, log, limits).map_err(
            |(error, log)| {
                self.log = Some(log);
                error
            },
        )
    }

    /// Calls `init`. The text, if any, is the policy's refusal.
    fn init(&self, instance: &mut Instance) -> Result<Option<String>, Failure> {
        let Setup { config, carried, host, limits, .. } = &self.setup;
        let config = config.as_deref().unwrap_or_default();
        let result = instance.call(Phase::Hook(Hook::Init), limits, |hooks, store| {
            hooks.init(store, config, carried.as_ref().map(|c| c.state.as_slice()), host)
        })?;
        Ok(result.and_then(Result::err).map(|text| printable(&text, WORDS_BYTES)))
    }

    /// Starts the first instance: here failures are the user's to mend.
    fn first_start(
        &mut self,
        policy: &str,
        kept: impl FnOnce(&str) -> Option<Carried>,
    ) -> Result<(), LoadError> {
        let failed = |failure| LoadError::Failed { policy: policy.to_owned(), failure };
        let mut instance = self.instantiate().map_err(|error| start_error(policy, error))?;
        let describe = Phase::Hook(Hook::Describe);
        let description = instance
            .call(describe, &self.setup.limits, |hooks, store| hooks.describe(store))
            .map_err(failed)?;
        if let Some(description) = description {
            self.describe(description.into());
            instance.log().rename(self.identity.name.clone());
        }
        // Another policy's state would be nonsense to this one at best.
        let given = self.setup.carried.take();
        self.setup.carried = match given {
            Some(carried) => Some(carried).filter(|carried| carried.is_for(&self.identity.name)),
            None => kept(&self.identity.name),
        };
        if let Some(message) = self.init(&mut instance).map_err(failed)? {
            return Err(LoadError::Refused { policy: policy.to_owned(), message });
        }
        self.instance = Some(instance);
        Ok(())
    }

    /// Takes over what the policy says of itself.
    fn describe(&mut self, description: Description) {
        if !description.name.is_empty() {
            self.identity.name.clone_from(&description.name);
        }
        if !description.version.is_empty() {
            self.identity.version.clone_from(&description.version);
        }
        self.description = description;
    }

    /// Counts a failure, and says so when it sets the policy aside.
    fn strike(&mut self, failure: Failure, failures: &mut Vec<Failure>) {
        tracing::warn!(policy = self.identity.name.as_str(), "{failure}");
        let hook = failure.hook;
        failures.push(failure);
        if let Some(pause) = self.strikes.failed(Instant::now()) {
            let message = format!(
                "the policy is set aside for {} s: the safe plan is used instead (after {STRIKES} \
                 failures within {} s, or one when it is tried again)",
                pause.as_secs(),
                WINDOW.as_secs()
            );
            tracing::warn!(policy = self.identity.name.as_str(), "{message}");
            failures.push(Failure { hook, kind: FailureKind::SetAside, message });
        }
    }
}

fn check_config(policy: &str, config: Option<&str>) -> Result<(), LoadError> {
    match config.map(serde_json::from_str::<IgnoredAny>) {
        Some(Err(error)) => {
            Err(LoadError::ConfigNotJson { policy: policy.to_owned(), reason: error.to_string() })
        }
        _ => Ok(()),
    }
}

/// A call under way: the policy's raw answer, and what is known of it so far.
struct Call<T> {
    start: Instant,
    answer: Option<T>,
    failures: Vec<Failure>,
    fuel: u64,
}

impl<T> Call<T> {
    /// Records what was changed about the answer.
    fn clamped(&mut self, hook: Hook, changes: Vec<String>) {
        self.failures.extend(changes.into_iter().map(|change| Failure {
            hook,
            kind: FailureKind::Clamped,
            message: format!("the policy's {hook} answer was brought into bounds: {change}"),
        }));
    }

    fn with<U>(self, answer: U) -> Asked<U> {
        let seconds = self.start.elapsed().as_secs_f64();
        Asked { answer, failures: self.failures, seconds, fuel: self.fuel }
    }
}
