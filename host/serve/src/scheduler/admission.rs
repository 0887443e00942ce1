//! How requests come to run: their prompts by each tier's tokenizer, the order in
//! which they wait, the policy's plan, and the probes that it asks for on the way.

use std::collections::BTreeSet;

use aio_core::{
    Draft, Failure, FailureKind, Grant, Granted, Hook, MAX_PROBES, Plan, Probe, ProbeRecord,
    RequestFacts, Verdict,
};
use aio_engine::Tier;
use aio_engine::drafter::context::DraftContext;
use aio_engine::sampling::{Sampler, probability};

use super::Scheduler;
use super::running::{Drafted, Phase, Running, RunningProbe};
use crate::error::ServeError;
use crate::event::{Event, PlannedEvent};
use crate::prompt;
use crate::request::{Prompt, Request};
use crate::text::AnswerText;

impl Scheduler {
    /// Looks at a request: what is wrong with it is told before it waits.
    pub(super) fn enter(&self, number: u64, request: Request) -> Result<Running, ServeError> {
        request.sampling.check().map_err(ServeError::Setting)?;
        if request.max_tokens == 0 {
            return Err(ServeError::NoTokens);
        }
        let tiers = self.tiers.all();
        let prompts: Vec<Vec<u32>> = tiers
            .iter()
            .map(|tier| prompt::encode(tier, &request.prompt))
            .collect::<Result<_, _>>()?;
        let facts = RequestFacts {
            request: number,
            prompt_tokens: prompts
                .iter()
                .zip(tiers)
                .map(|(prompt, tier)| (prompt.len() + tier.tokens_before()) as u32)
                .collect(),
            max_tokens: u32::try_from(request.max_tokens).unwrap_or(u32::MAX),
            temperature: request.sampling.temperature,
            chat: matches!(request.prompt, Prompt::Chat(_)),
            tiers: Vec::new(),
            load: Default::default(),
            probes: Vec::new(),
        };
        let now = self.tiers.clock().now();
        let plan = Plan::safe(self.tiers.info());
        let tier = plan.tier as usize;
        Ok(Running {
            number,
            start: now,
            waited: 0.0,
            since: now,
            // Whatever is loaded meanwhile, it stays with what plans it.
            policy: self.policies.for_request(request.key.unwrap_or(number)),
            phase: Phase::New,
            facts,
            probes: Vec::new(),
            failures: Vec::new(),
            policy_seconds: 0.0,
            policy_fuel: 0,
            tier,
            draft: Draft::NONE,
            ask_every: 0,
            tokens: prompts[tier].clone(),
            drafted: Drafted::NONE,
            prompt_tokens: prompts[tier].len(),
            cached_tokens: 0,
            sampler: Sampler::new(request.sampling.clone()),
            text: AnswerText::new(tiers[tier].tokenizer(), &request.stop),
            choices: Vec::new(),
            rounds: Vec::new(),
            told: 0,
            decided: (None, String::new()),
            spent: Default::default(),
            prefill_rows: 0,
            prefill_seconds: 0.0,
            probe_seconds: 0.0,
            preemptions: 0,
            finish: None,
            sequences: tiers.iter().map(|_| None).collect(),
            draft_contexts: vec![DraftContext::default(); tiers.len()],
            prompts,
            plan,
            request,
        })
    }

    /// Lets a request wait for its turn.
    pub(super) fn wait(&mut self, mut request: Running) {
        request.waits(self.tiers.clock().now());
        let at = self.waiting.partition_point(|other| other.rank() < request.rank());
        self.waiting.insert(at, request);
    }

    /// Takes waiting requests in, by rank, as long as there is room for them.
    pub(super) fn admit(&mut self) {
        while self.running.len() < self.options.max_running && !self.waiting.is_empty() {
            let mut request = self.waiting.remove(0);
            request.runs(self.tiers.clock().now());
            match self.try_admit(&mut request) {
                Ok(true) => {
                    let at = self.running.partition_point(|other| other.rank() < request.rank());
                    self.running.insert(at, request);
                }
                Ok(false) => {
                    // Who comes later waits with it: else a large one might wait forever.
                    // What it found kept is kept, for it or for others.
                    self.release(&mut request);
                    self.wait(request);
                    return;
                }
                Err(error) => self.fail(request, error),
            }
        }
    }

    /// Plans a request, if that is still to be done, and finds room for its tokens.
    fn try_admit(&mut self, request: &mut Running) -> Result<bool, ServeError> {
        if request.finish.is_some() {
            return Ok(true);
        }
        if request.phase == Phase::New {
            self.choose_generation(request)?;
            self.plan(request)?;
        }
        self.open(request, request.tier)?;
        let needed = self.needed_to_begin(request) + self.needed_next();
        Ok(self.room_among_kept(needed) || self.running.is_empty())
    }

    /// The generation that the client asked for, where it did.
    fn choose_generation(&self, request: &mut Running) -> Result<(), ServeError> {
        let current = request.policy.identity().generation;
        match request.request.overrides.generation {
            Some(asked) if asked != current => Err(ServeError::Generation { asked, current }),
            _ => Ok(()),
        }
    }

    /// Asks the policy how to answer. The request is then in [`Phase::Prompt`], or in
    /// [`Phase::Probing`], and is planned again with what the probe found.
    pub(super) fn plan(&mut self, request: &mut Running) -> Result<(), ServeError> {
        request.facts.tiers = self.tiers.facts();
        request.facts.load = self.load();
        let granted = lend(&request.policy.imports(), &request.request, &request.prompts);
        let asked = request.policy.plan(&request.facts, &granted);
        request.policy_seconds += asked.seconds;
        request.policy_fuel += asked.fuel;
        request.failures.extend(asked.failures);
        match asked.answer {
            Verdict::Decided(plan) => self.decided(request, plan),
            Verdict::Probe(_) if request.probes.len() >= MAX_PROBES => {
                let message = format!(
                    "the policy asked for more than {MAX_PROBES} probes; used the safe plan"
                );
                request.failures.push(nonsense(message));
                self.decided(request, Plan::safe(self.tiers.info()))
            }
            Verdict::Probe(probe) => match self.probe(&request.request.prompt, &probe)? {
                Some((tokens, answers)) => {
                    request.tier = probe.tier as usize;
                    request.prompt_tokens = tokens.len();
                    request.tokens = tokens;
                    request.phase = Phase::Probing(RunningProbe { probe, answers });
                    Ok(())
                }
                None => {
                    request.failures.push(nonsense(format!(
                        "the policy's probe cannot be run on tier {}: prompt and question exceed \
                         its context, or two answers begin with the same token; used the safe plan",
                        probe.tier
                    )));
                    self.decided(request, Plan::safe(self.tiers.info()))
                }
            },
        }
    }

    /// The tokens of a probe's question after the prompt, and those that its answers
    /// may begin with; `None` where it cannot be run.
    #[allow(clippy::type_complexity)] // Two lists, used once.
    fn probe(
        &self,
        prompt: &Prompt,
        probe: &Probe,
    ) -> Result<Option<(Vec<u32>, Vec<Vec<u32>>)>, ServeError> {
        let tier = &self.tiers.all()[probe.tier as usize];
        let tokens = prompt::encode_question(tier, prompt, &probe.question)?;
        let Some(answers) = prompt::first_tokens(tier, &probe.answers)? else { return Ok(None) };
        Ok((tokens.len() <= tier.context()).then_some((tokens, answers)))
    }

    /// A probe has run, its logits are in row `row`: plans again.
    pub(super) fn probed(&mut self, request: &mut Running, row: usize) -> Result<(), ServeError> {
        let Phase::Probing(RunningProbe { probe, answers }) =
            std::mem::replace(&mut request.phase, Phase::New)
        else {
            return Ok(());
        };
        let logits = self.logits.row(row);
        let mass: Vec<f64> = answers
            .iter()
            .map(|tokens| tokens.iter().map(|&t| f64::from(probability(logits, t))).sum())
            .collect();
        let spent = std::mem::take(&mut request.spent);
        let result = prompt::probe_result(probe.tier, &mass, spent.seconds);
        request.probe_seconds += f64::from(result.milliseconds) / 1e3;
        request.facts.probes.push(result.clone());
        let (tokens, rows) = (request.prompt_tokens as u32, spent.rows as u32);
        request.probes.push(ProbeRecord { probe, result, tokens, rows });
        self.plan(request)?;
        self.open(request, request.tier)
    }

    /// The plan is made: what is left of it after the client's wishes and the prompt's
    /// length is what will be done.
    fn decided(&mut self, request: &mut Running, plan: Plan) -> Result<(), ServeError> {
        let info = self.tiers.info();
        let overrides = request.request.overrides;
        let mut plan = Plan {
            tier: overrides.tier.unwrap_or(plan.tier),
            draft: overrides.draft.unwrap_or(plan.draft),
            ..plan
        };
        if overrides != Default::default() {
            plan = plan.clamped(info).value;
        }
        fit_to_context(self.tiers.all(), request, &mut plan)?;
        plan = plan.clamped(info).value;
        let tier = plan.tier as usize;
        request.tier = tier;
        request.draft = plan.draft;
        request.ask_every = plan.ask_every;
        request.plan = plan;
        request.tokens = request.prompts[tier].clone();
        request.prompt_tokens = request.tokens.len();
        request.text = AnswerText::new(self.tiers.all()[tier].tokenizer(), &request.request.stop);
        request.phase = Phase::Prompt;
        self.check_budget(request)?;
        self.policies.remember(&request.facts);
        self.status.prompt_tokens += request.prompt_tokens as u64;
        let planned = PlannedEvent {
            plan: request.plan.clone(),
            tier: self.tiers.all()[tier].name().to_owned(),
            policy: request.policy.identity().clone(),
            prompt_tokens: request.prompt_tokens as u32,
        };
        self.events.push((request.number, Event::Planned(Box::new(planned))));
        Ok(())
    }
}

/// A tier whose context cannot hold the prompt and a token more is replaced by the
/// smallest one that can, unless the client insists on it.
fn fit_to_context(
    tiers: &[Tier],
    request: &mut Running,
    plan: &mut Plan,
) -> Result<(), ServeError> {
    let fits = |i: usize| request.prompts[i].len() < tiers[i].context();
    let chosen = plan.tier as usize;
    if fits(chosen) {
        return Ok(());
    }
    let too_long =
        |context| ServeError::PromptTooLong { tokens: request.prompts[chosen].len(), context };
    if request.request.overrides.tier.is_some() {
        return Err(too_long(tiers[chosen].context()));
    }
    let Some(other) = (0..tiers.len()).find(|&i| fits(i)) else {
        return Err(too_long(tiers.iter().map(Tier::context).max().unwrap_or(0)));
    };
    request.failures.push(Failure {
        hook: Hook::Plan,
        kind: FailureKind::Clamped,
        message: format!(
            "the prompt of {} tokens exceeds the context of tier {chosen}; used tier {other}",
            request.prompts[chosen].len()
        ),
    });
    plan.tier = other as u32;
    Ok(())
}

/// What the policy and its shadows import of that which was granted.
fn lend(imports: &BTreeSet<Grant>, request: &Request, prompts: &[Vec<u32>]) -> Granted {
    let mut granted = Granted::default();
    for import in imports {
        match import {
            Grant::PromptText => granted.prompt_text = Some(prompt::text(&request.prompt)),
            Grant::PromptTokens => granted.prompt_tokens = prompts.to_vec(),
            Grant::Metadata => granted.metadata.clone_from(&request.metadata),
        }
    }
    granted
}

fn nonsense(message: String) -> Failure {
    Failure { hook: Hook::Plan, kind: FailureKind::Nonsense, message }
}

#[cfg(test)]
mod tests {
    use aio_engine::chat::Message;

    use super::*;

    #[test]
    fn a_policy_is_lent_what_it_imports_and_no_more() {
        let messages = vec![Message::system("Be brief."), Message::user("Hi")];
        let request = Request {
            metadata: [("client".to_owned(), "a".to_owned())].into(),
            ..Request::new(Prompt::Chat(messages), 1, Default::default())
        };
        let prompts = [vec![1, 2], vec![3]];
        let lent = |grants: &[Grant]| lend(&grants.iter().copied().collect(), &request, &prompts);
        assert!(lent(&[]).is_empty());
        let text = lent(&[Grant::PromptText]);
        assert_eq!(text.prompt_text.as_deref(), Some("Be brief.\n\nHi"));
        assert!(text.prompt_tokens.is_empty() && text.metadata.is_empty());
        let all = lent(&Grant::ALL);
        assert_eq!(all.prompt_tokens, prompts);
        assert_eq!(all.metadata["client"], "a");
    }
}
