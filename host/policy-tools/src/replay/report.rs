//! What a replay found, as data (the stable JSON).

use std::collections::{BTreeMap, BTreeSet};

use aio_core::{Failure, PolicyIdentity};
use serde::Serialize;

use super::Answers;
use super::compare::{Change, Difference, action_words, draft_words, plan_words};
use super::estimate::{Estimate, Seen};
use super::log::{HostRun, Recorded};

/// The whole report.
#[derive(Debug, Clone, Serialize)]
pub struct ReplayReport {
    /// Name and version of this JSON's form.
    pub schema: &'static str,
    /// Requests in the record.
    pub requests: usize,
    /// Calls of policies in the record.
    pub calls: usize,
    /// Policies that were recorded.
    pub recorded: Vec<PolicyIdentity>,
    /// Candidate by candidate.
    pub policies: Vec<PolicyReplay>,
    /// What a reader must know to judge the figures.
    pub notes: Vec<String>,
}

/// What one candidate answered.
#[derive(Debug, Clone, Default, Serialize)]
pub struct PolicyReplay {
    /// What it was called by.
    pub name: String,
    /// What it is.
    pub identity: Option<PolicyIdentity>,
    /// Calls of the same component with the same configuration, made again.
    pub repeated: usize,
    /// Of those, recorded while the policy was set aside: it was not asked then.
    pub not_asked: usize,
    /// Answers that were not given again, bit for bit: must be none.
    pub differences: Vec<Difference>,
    /// Requests that another component, or another configuration, was asked about.
    pub compared: usize,
    /// Of those, the ones that it answers in the same way throughout.
    pub alike: usize,
    /// What it decides otherwise, by how often, most often first.
    pub changes: Vec<Change>,
    /// Its calls that failed or had to be brought into bounds.
    pub failures: Vec<Failure>,
    /// What its decisions would have cost; absent where it is the same component.
    pub estimate: Option<Estimate>,
    #[serde(skip)]
    counts: BTreeMap<(&'static str, String, String), usize>,
}

impl PolicyReplay {
    pub(super) fn new(name: &str) -> Self {
        Self { name: name.to_owned(), ..Self::default() }
    }

    /// Notes what went wrong in a call of a candidate that was not recorded.
    pub(super) fn failed(&mut self, failures: &[Failure]) {
        self.failures.extend_from_slice(failures);
    }

    /// Lays a candidate's answers about a request beside the recorded ones.
    pub(super) fn compare(
        &mut self,
        run: &HostRun,
        seen: &Seen,
        generation: &Recorded,
        request: u64,
        [recorded, replayed]: [&Answers; 2],
    ) {
        let host = &generation.host;
        self.compared += 1;
        let mut alike = true;
        let mut change = |of, recorded: String, replayed: String| {
            if recorded != replayed {
                alike = false;
                *self.counts.entry((of, recorded, replayed)).or_default() += 1;
            }
        };
        let plans = [recorded, replayed].map(|answers| plan_words(answers.plan.as_ref(), host));
        let [was, is] = plans;
        change("plan", was, is);
        let rounds: BTreeSet<u32> =
            recorded.rounds.keys().chain(replayed.rounds.keys()).copied().collect();
        // What is in force counts, not which call put it there.
        let force = |answers: &Answers| {
            answers.plan.as_ref().map_or("-".into(), |plan| draft_words(&plan.draft))
        };
        let (mut was, mut is) = (force(recorded), force(replayed));
        for round in rounds {
            let words = |answers: &Answers, so_far: &String| {
                let decision = answers.rounds.get(&round);
                decision.map_or(so_far.clone(), |d| action_words(&d.action, host))
            };
            (was, is) = (words(recorded, &was), words(replayed, &is));
            change("round", was.clone(), is.clone());
        }
        self.alike += usize::from(alike);
        let estimate = self.estimate.get_or_insert_default();
        estimate.add(run.requests.get(&request), seen, recorded, replayed);
    }

    pub(super) fn finish(&mut self) {
        let counts = std::mem::take(&mut self.counts).into_iter();
        self.changes = counts
            .map(|((of, recorded, replayed), times)| Change { of, recorded, replayed, times })
            .collect();
        // Stable: equally frequent ones stay in the order of their words.
        self.changes.sort_by_key(|change| std::cmp::Reverse(change.times));
    }
}

impl ReplayReport {
    pub(super) fn new(runs: &[HostRun]) -> Self {
        let generations = || runs.iter().flat_map(|run| &run.generations);
        Self {
            schema: "aio-policy-replay/1",
            requests: runs.iter().map(|run| run.requests.len()).sum(),
            calls: generations().map(|generation| generation.calls.len()).sum(),
            recorded: generations().map(|generation| generation.policy.clone()).collect(),
            policies: Vec::new(),
            notes: Vec::new(),
        }
    }

    /// Answers of the recorded component that it did not give again.
    pub fn differences(&self) -> usize {
        self.policies.iter().map(|policy| policy.differences.len()).sum()
    }
}
