//! What a shadow's thread does with a question: asks its policy when that wants to
//! be asked, and compares the answer with what was carried out. Knows no threads.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

use aio_core::{
    Action, Agreement, Draft, Drafter, Failure, FailureKind, Granted, HostInfo, Plan,
    PolicyIdentity, RequestFacts, RoundContext, RoundDecision, RoundFacts, ShadowReport, Verdict,
};

use super::Question;
use crate::asked::Asked;
use crate::generation::Generation;

/// Requests that a shadow is in the midst of. More are forgotten, the oldest first:
/// their ends were dropped from the queue, perhaps.
const REQUESTS: usize = 1024;

/// A shadow's policy, and what it said of the requests that run.
pub(super) struct Asking {
    generation: Arc<Generation>,
    host: HostInfo,
    requests: BTreeMap<u64, Known>,
}

/// What is known of a request.
#[derive(Debug, Default)]
struct Known {
    plan: Planned,
    /// What it was told of the request's rounds, counted from the beginning.
    rounds: u32,
    drafted: u32,
    accepted: u32,
}

/// What the shadow would do with a request.
#[derive(Debug, Default)]
enum Planned {
    /// It was not asked: the question was dropped.
    #[default]
    Unknown,
    /// It asked for the probe that the serving policy asked for too.
    Waits,
    /// It asked for one that is not run.
    Lacks,
    /// It was asked and failed.
    Failed,
    Decided(Plan),
}

impl Known {
    /// Every so many rounds it wants to be asked; every round where that is not known.
    fn ask_every(&self) -> u32 {
        match &self.plan {
            Planned::Decided(plan) => plan.ask_every,
            _ => 1,
        }
    }
}

/// What one question adds to the report.
#[derive(Debug, Default)]
pub(super) struct Told {
    calls: u64,
    failures: u64,
    dropped: u64,
    plans: Agreement,
    rounds: Agreement,
    probes_not_run: u64,
    fuel: u64,
    seconds: f64,
    failure: Option<String>,
    difference: Option<String>,
}

/// A report of nothing yet.
pub(super) fn blank(policy: PolicyIdentity) -> ShadowReport {
    ShadowReport {
        policy,
        calls: 0,
        dropped: 0,
        failures: 0,
        plans: Agreement::default(),
        rounds: Agreement::default(),
        probes_not_run: 0,
        fuel: 0,
        seconds: 0.0,
        aside_seconds: None,
        last_failure: None,
        last_difference: None,
    }
}

impl Told {
    pub(super) fn add_to(self, report: &mut ShadowReport) {
        report.calls += self.calls;
        report.failures += self.failures;
        report.dropped += self.dropped;
        report.plans.compared += self.plans.compared;
        report.plans.equal += self.plans.equal;
        report.rounds.compared += self.rounds.compared;
        report.rounds.equal += self.rounds.equal;
        report.probes_not_run += self.probes_not_run;
        report.fuel = report.fuel.saturating_add(self.fuel);
        report.seconds += self.seconds;
        report.last_failure = self.failure.or(report.last_failure.take());
        report.last_difference = self.difference.or(report.last_difference.take());
    }

    /// Counts a call; the answer is `None` where it is not the policy's own.
    fn call<T>(&mut self, asked: Asked<T>) -> Option<T> {
        self.calls += 1;
        self.fuel += asked.fuel;
        self.seconds += asked.seconds;
        let failed = |f: &&Failure| f.kind != FailureKind::Clamped;
        let Some(failure) = asked.failures.iter().find(failed) else { return Some(asked.answer) };
        self.failures += 1;
        self.failure = Some(failure.message.clone());
        None
    }
}

impl Asking {
    pub(super) fn new(generation: Arc<Generation>) -> Self {
        let host = generation.host();
        Self { generation, host, requests: BTreeMap::new() }
    }

    /// Asks what there is to ask.
    pub(super) fn answer(&mut self, question: &Question) -> Told {
        let mut told = Told::default();
        match question {
            Question::Plan { facts, granted, served } => {
                self.plan(&mut told, facts, granted, served);
            }
            Question::Rounds { context, requests, served } => {
                self.rounds(&mut told, context, requests, served);
            }
            Question::Finished { outcomes } => {
                if self.generation.wants_finished() {
                    told.call(self.generation.finished(outcomes));
                }
                for outcome in outcomes {
                    self.requests.remove(&outcome.request);
                }
            }
        }
        while self.requests.len() > REQUESTS {
            self.requests.pop_first();
        }
        told
    }

    /// Until when its policy stays set aside, if it is.
    pub(super) fn aside_until(&self) -> Option<Instant> {
        self.generation.aside_until()
    }

    fn plan(&mut self, told: &mut Told, facts: &RequestFacts, granted: &Granted, served: &Verdict) {
        // Results of a probe that it did not ask for are no answer to it.
        if facts.probes.is_empty() {
            self.requests.insert(facts.request, Known::default());
        }
        let known = self.requests.entry(facts.request).or_default();
        let asks = facts.probes.is_empty() || matches!(known.plan, Planned::Waits);
        if asks {
            let answer = told.call(self.generation.plan(facts, granted));
            known.plan = match (answer, served) {
                (None, _) => Planned::Failed,
                (Some(Verdict::Decided(plan)), _) => Planned::Decided(plan),
                (Some(Verdict::Probe(probe)), Verdict::Probe(run)) if probe == *run => {
                    Planned::Waits
                }
                (Some(Verdict::Probe(_)), _) => Planned::Lacks,
            };
        }
        let Verdict::Decided(served) = served else { return };
        match &known.plan {
            Planned::Unknown => told.dropped += 1,
            Planned::Failed => {}
            Planned::Waits | Planned::Lacks => told.probes_not_run += 1,
            Planned::Decided(plan) => {
                let equal = (plan.tier, plan.draft) == (served.tier, served.draft);
                told.plans = Agreement { compared: 1, equal: u64::from(equal) };
                if !equal {
                    told.difference = Some(format!(
                        "request {} was planned as {}, and it would have had {}",
                        facts.request,
                        in_words(served, &self.host),
                        in_words(plan, &self.host)
                    ));
                }
            }
        }
    }

    fn rounds(
        &mut self,
        told: &mut Told,
        context: &RoundContext,
        requests: &[RoundFacts],
        served: &[RoundDecision],
    ) {
        if !self.generation.wants_rounds() {
            return;
        }
        let due: Vec<RoundFacts> = requests.iter().filter_map(|facts| self.due(facts)).collect();
        if due.is_empty() {
            return;
        }
        let Some(decisions) = told.call(self.generation.rounds(context, &due)) else { return };
        for facts in &due {
            told.rounds.compared += 1;
            told.rounds.equal += u64::from(comes_to(facts, &decisions) == comes_to(facts, served));
        }
    }

    /// What to ask about a request now, if it is time: what has happened since it
    /// was last asked about, not since the beginning.
    fn due(&mut self, facts: &RoundFacts) -> Option<RoundFacts> {
        let known = self.requests.entry(facts.request).or_default();
        let recent = facts.recent_rounds.saturating_sub(known.rounds);
        let every = known.ask_every();
        if every == 0 || recent < every {
            return None;
        }
        let recent = RoundFacts {
            recent_rounds: recent,
            recent_drafted: facts.recent_drafted.saturating_sub(known.drafted),
            recent_accepted: facts.recent_accepted.saturating_sub(known.accepted),
            ..*facts
        };
        (known.rounds, known.drafted, known.accepted) =
            (facts.recent_rounds, facts.recent_drafted, facts.recent_accepted);
        Some(recent)
    }
}

fn in_words(plan: &Plan, host: &HostInfo) -> String {
    let name = host.tiers.get(plan.tier as usize).map_or("?", |tier| tier.name.as_str());
    match plan.draft.drafter {
        Drafter::None => format!("{name} with no drafts"),
        drafter => format!("{name} with {drafter} up to {}", plan.draft.length),
    }
}

/// The tier and the setting that hold after a round's decisions.
fn comes_to(facts: &RoundFacts, decisions: &[RoundDecision]) -> (u32, Draft) {
    let decision = decisions.iter().find(|decision| decision.request == facts.request);
    match decision.map(|decision| decision.action) {
        None | Some(Action::Keep) => (facts.tier, facts.draft),
        Some(Action::Draft(draft)) => (facts.tier, draft),
        Some(Action::MoveTo(tier)) => (tier, facts.draft),
    }
}
