//! Asking a policy what was asked then.

use std::collections::BTreeMap;

use aio_core::{
    Action, FailureKind, Granted, MAX_PROBES, ProbeResult, RequestFacts, RoundDecision, Verdict,
};
use aio_policy::{Carried, LoadError, LoadedPolicy, Prepared, Role, Setup};

use super::compare::Difference;
use super::estimate::Seen;
use super::log::{HostRun, Recorded, RecordedCall};
use super::report::PolicyReplay;
use super::{Answers, Candidate, ReplayOptions};

/// Asks a candidate what a host's generations were asked. Where it is the component
/// that was recorded, its answers must be the recorded ones.
///
/// # Errors
/// When it cannot be started.
pub(super) fn ask(
    run: &HostRun,
    candidate: &Candidate,
    prepared: &Prepared,
    options: &ReplayOptions<'_>,
    replayed: &mut PolicyReplay,
) -> Result<(), LoadError> {
    for generation in &run.generations {
        let same = generation.policy.digest == prepared.digest()
            && (candidate.config.is_none() || candidate.config == generation.config);
        let config = match &candidate.config {
            None if same => generation.config.clone(),
            config => config.clone(),
        };
        // What a shadow answered was never done: there is nothing to lay another beside.
        if !same && generation.role == Role::Shadow {
            continue;
        }
        // What a policy had learnt is its own.
        let carried = generation.carried.clone().filter(|_| same);
        let setup = Setup {
            host: generation.host.clone(),
            config,
            carried: carried.map(|state| Carried { policy: None, state }),
            set_aside: false,
            ..options.setup.clone()
        };
        let policy = LoadedPolicy::start(options.runtime, prepared, setup)?;
        if replayed.identity.is_none() {
            replayed.identity = Some(policy.identity().clone());
        }
        if same {
            again(policy, generation, replayed);
        } else {
            anew(policy, run, generation, replayed);
        }
    }
    Ok(())
}

/// The same component: every call as it was, every answer compared.
fn again(mut policy: LoadedPolicy, generation: &Recorded, replayed: &mut PolicyReplay) {
    for (line, call) in &generation.calls {
        let (hook, was, is) = match call {
            RecordedCall::Plan { facts, granted, answer, failures, fuel } if *fuel > 0 => {
                let asked = policy.plan_granted(facts, granted);
                let is = (to_value(&asked.answer), asked.failures, asked.fuel);
                ("plan", (to_value(answer), failures.clone(), *fuel), is)
            }
            RecordedCall::Rounds { context, requests, answer, failures, fuel } if *fuel > 0 => {
                let asked = policy.rounds(context, requests);
                let is = (to_value(&asked.answer), asked.failures, asked.fuel);
                ("rounds", (to_value(answer), failures.clone(), *fuel), is)
            }
            RecordedCall::Finished { outcomes, failures, fuel } if *fuel > 0 => {
                let asked = policy.finished(outcomes);
                let is = (to_value(&()), asked.failures, asked.fuel);
                ("finished", (to_value(&()), failures.clone(), *fuel), is)
            }
            RecordedCall::Snapshot { state } => {
                let asked = policy.snapshot();
                // The record has no fuel of it.
                let (was, is) = (to_value(state), to_value(&asked.answer));
                ("snapshot", (was, Vec::new(), 0), (is, Vec::new(), 0))
            }
            // The policy was set aside then, and was not asked.
            _ => {
                replayed.not_asked += 1;
                continue;
            }
        };
        replayed.repeated += 1;
        let (answer, mut failures, fuel) = was;
        // Being set aside is a matter of when calls fail, which a replay has not.
        failures.retain(|failure| failure.kind != FailureKind::SetAside);
        let was = (answer, failures, fuel);
        if was != is {
            replayed.differences.push(Difference::new(*line, hook, was, is));
        }
    }
}

fn to_value(value: &impl serde::Serialize) -> serde_json::Value {
    // Answers are plain data: numbers, strings and lists of them.
    serde_json::to_value(value).unwrap_or_default()
}

/// Another component, or another configuration: the same facts, its own answers.
fn anew(
    mut policy: LoadedPolicy,
    run: &HostRun,
    generation: &Recorded,
    replayed: &mut PolicyReplay,
) {
    let (mut theirs, mut ours) = (BTreeMap::new(), BTreeMap::new());
    for (_, call) in &generation.calls {
        match call {
            RecordedCall::Plan { facts, granted, answer, .. } => {
                let recorded: &mut Answers = theirs.entry(facts.request).or_default();
                if let Verdict::Decided(plan) = answer {
                    recorded.plan = Some(plan.clone());
                }
                // A candidate asks for its own probes: once for each request is enough.
                if ours.contains_key(&facts.request) {
                    continue;
                }
                let plan = plan(&mut policy, run, facts, granted, replayed);
                ours.insert(facts.request, Answers { plan, ..Answers::default() });
            }
            RecordedCall::Rounds { context, requests, answer, .. } => {
                let round_of =
                    |request| requests.iter().find(|r| r.request == request).map(|r| r.round);
                note(&mut theirs, answer, round_of);
                // Who asks never to be asked is not.
                let mut asked = requests.clone();
                asked.retain(|facts| {
                    ours.get(&facts.request)
                        .and_then(|a| a.plan.as_ref())
                        .is_some_and(|plan| plan.ask_every > 0)
                });
                if asked.is_empty() {
                    continue;
                }
                let decided = policy.rounds(context, &asked);
                replayed.failed(&decided.failures);
                note(&mut ours, &decided.answer, round_of);
            }
            RecordedCall::Finished { outcomes, .. } => {
                replayed.failed(&policy.finished(outcomes).failures);
            }
            RecordedCall::Snapshot { .. } => {}
        }
    }
    let seen = Seen::of(run, generation);
    for (request, recorded) in theirs {
        let answers = ours.remove(&request).unwrap_or_default();
        replayed.compare(run, &seen, generation, request, [&recorded, &answers]);
    }
}

/// Notes decisions by the round that they were made before.
fn note(
    answers: &mut BTreeMap<u64, Answers>,
    decisions: &[RoundDecision],
    round_of: impl Fn(u64) -> Option<u32>,
) {
    for decision in decisions.iter().filter(|decision| decision.action != Action::Keep) {
        if let (Some(round), Some(answers)) =
            (round_of(decision.request), answers.get_mut(&decision.request))
        {
            answers.rounds.insert(round, decision.clone());
        }
    }
}

/// A candidate's plan, with the results of probes that were recorded. `None` where
/// it wants one that was not.
fn plan(
    policy: &mut LoadedPolicy,
    run: &HostRun,
    facts: &RequestFacts,
    granted: &Granted,
    replayed: &mut PolicyReplay,
) -> Option<aio_core::Plan> {
    let mut facts = RequestFacts { probes: Vec::new(), ..facts.clone() };
    for _ in 0..=MAX_PROBES {
        let asked = policy.plan_granted(&facts, granted);
        replayed.failed(&asked.failures);
        match asked.answer {
            Verdict::Decided(plan) => return Some(plan),
            Verdict::Probe(probe) => {
                let recorded = run.requests.get(&facts.request)?;
                let found: Option<&ProbeResult> = recorded
                    .probes
                    .iter()
                    .find(|recorded| recorded.probe == probe)
                    .map(|recorded| &recorded.result);
                facts.probes.push(found?.clone());
            }
        }
    }
    None
}
