//! Situations that a policy is put into: a host, and the calls that it gets
//! there. [`canned()`] are such as every host meets; [`hostile()`] have facts at
//! the ends of what their types allow.

mod canned;
mod hostile;

use std::collections::BTreeSet;

use aio_core::{
    Failure, Grant, Granted, Hook, HostInfo, MAX_PROBES, Outcome, RequestFacts, RoundContext,
    RoundDecision, RoundFacts, Verdict,
};
use aio_policy::{Limits, LoadError, LoadedPolicy, PolicyRuntime, Prepared, Setup};
use serde::Serialize;

use crate::facts;

pub use canned::canned;
pub use hostile::hostile;

/// One call of a hook, with all that the policy is told.
#[derive(Debug, Clone, PartialEq)]
pub enum Call {
    /// How to answer a request.
    Plan {
        /// What is known of it.
        facts: Box<RequestFacts>,
        /// What the policy is lent of it, if it may have that.
        granted: Granted,
    },
    /// How running requests go on.
    Rounds {
        /// What they have in common.
        context: RoundContext,
        /// Which.
        requests: Vec<RoundFacts>,
    },
    /// What became of requests.
    Finished(Vec<Outcome>),
    /// Learned state.
    Snapshot,
}

impl Call {
    /// The hook that is called.
    pub fn hook(&self) -> Hook {
        match self {
            Self::Plan { .. } => Hook::Plan,
            Self::Rounds { .. } => Hook::Rounds,
            Self::Finished(_) => Hook::Finished,
            Self::Snapshot => Hook::Snapshot,
        }
    }
}

/// What a hook answered, in the host's bounds.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(untagged)]
pub enum Answer {
    /// To `plan`.
    Verdict(Verdict),
    /// To `rounds`.
    Decisions(Vec<RoundDecision>),
    /// To `finished`: nothing.
    Nothing,
    /// To `snapshot`: the state, if there is any.
    State(Option<Vec<u8>>),
}

/// What came of one call.
#[derive(Debug, Clone, PartialEq)]
pub struct Given {
    /// The hook that was called.
    pub hook: Hook,
    /// Results of probes among the facts of a `plan`.
    pub probes: usize,
    /// Its answer, or the safe one in its place.
    pub answer: Answer,
    /// What the policy did wrong.
    pub failures: Vec<Failure>,
    /// Fuel that the call took.
    pub fuel: u64,
}

/// Calls a hook once.
pub fn ask(policy: &mut LoadedPolicy, call: &Call) -> Given {
    let hook = call.hook();
    let (answer, failures, fuel, probes) = match call {
        Call::Plan { facts, granted } => {
            let asked = policy.plan_granted(facts, granted);
            (Answer::Verdict(asked.answer), asked.failures, asked.fuel, facts.probes.len())
        }
        Call::Rounds { context, requests } => {
            let asked = policy.rounds(context, requests);
            (Answer::Decisions(asked.answer), asked.failures, asked.fuel, 0)
        }
        Call::Finished(outcomes) => {
            let asked = policy.finished(outcomes);
            (Answer::Nothing, asked.failures, asked.fuel, 0)
        }
        Call::Snapshot => {
            let asked = policy.snapshot();
            (Answer::State(asked.answer), asked.failures, asked.fuel, 0)
        }
    };
    Given { hook, probes, answer, failures, fuel }
}

/// A host, and the calls that a policy gets there.
#[derive(Debug, Clone, PartialEq)]
pub struct Situation {
    /// What it is about, in a few words.
    pub name: String,
    /// What the policy is told of the host.
    pub host: HostInfo,
    /// What it is asked, in order.
    pub calls: Vec<Call>,
    /// Whether a probe that it asks for is sure of its first answer, or of none.
    pub probes_are_sure: bool,
}

impl Situation {
    /// Starts a policy on the situation's host and asks it everything, running
    /// probes that it asks for as a host would. What it learns stays in the
    /// situation: each has an instance of its own.
    ///
    /// # Errors
    /// When it does not start there.
    pub fn play(&self, with: &Subject<'_>) -> Result<Vec<Given>, LoadError> {
        let mut policy = with.start(self.host.clone(), None)?;
        let mut given = Vec::new();
        for call in &self.calls {
            self.ask_with_probes(&mut policy, call, &mut given);
        }
        Ok(given)
    }

    fn ask_with_probes(&self, policy: &mut LoadedPolicy, call: &Call, given: &mut Vec<Given>) {
        let mut call = call.clone();
        // One time more than it may: the host's refusal is among what is given.
        for _ in 0..=MAX_PROBES {
            let answered = ask(policy, &call);
            let asked_for = match &answered.answer {
                Answer::Verdict(Verdict::Probe(probe)) => Some((probe.tier, probe.answers.len())),
                _ => None,
            };
            given.push(answered);
            let (Some((tier, answers)), Call::Plan { facts, .. }) = (asked_for, &mut call) else {
                return;
            };
            facts.probes.push(facts::probe_result(tier, answers, self.probes_are_sure));
        }
    }
}

/// A component with all that it is started with but the host.
#[derive(Debug, Clone, Copy)]
pub struct Subject<'a> {
    /// What it runs in.
    pub runtime: &'a PolicyRuntime,
    /// The component.
    pub prepared: &'a Prepared,
    /// Its configuration as JSON text, if it is given one.
    pub config: Option<&'a str>,
    /// What it may use.
    pub limits: &'a Limits,
    /// What it may import.
    pub grants: &'a BTreeSet<Grant>,
}

impl Subject<'_> {
    /// Starts it on a host, with an earlier instance's state if there is one.
    ///
    /// # Errors
    /// As [`LoadedPolicy::start`].
    pub fn start(
        &self,
        host: HostInfo,
        carried: Option<Vec<u8>>,
    ) -> Result<LoadedPolicy, LoadError> {
        let setup = Setup { config: self.config.map(str::to_owned), ..Setup::new(host) };
        let setup = setup.limits(self.limits.clone()).grants(self.grants.iter().copied());
        let setup = match carried {
            Some(state) => setup.carried(state),
            None => setup,
        };
        LoadedPolicy::start(self.runtime, self.prepared, setup)
    }
}
