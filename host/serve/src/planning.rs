//! Before an answer: the prompt by each tier's tokenizer, the policy's plan,
//! and the probes that it asks for on the way.

use std::collections::BTreeSet;

use aio_core::{
    Failure, FailureKind, Grant, Granted, Hook, Load, MAX_PROBES, Plan, Probe, ProbeRecord,
    ProbeResult, RequestFacts, Verdict,
};
use aio_engine::Tier;
use aio_engine::chat::{ChatError, Message};
use aio_engine::sampling::probability;
use aio_engine::tokenizer::SpecialTokens;
use aio_policy::Decider;

use crate::request::{Prompt, Request};
use crate::runner::{Runner, ServeError};

/// A request's plan and how it came about.
pub(crate) struct Planned {
    pub(crate) facts: RequestFacts,
    pub(crate) probes: Vec<ProbeRecord>,
    pub(crate) plan: Plan,
    pub(crate) failures: Vec<Failure>,
    pub(crate) policy_seconds: f64,
    pub(crate) policy_fuel: u64,
    pub(crate) probe_seconds: f64,
    /// The prompt by each tier's tokenizer.
    pub(crate) prompts: Vec<Vec<u32>>,
}

impl Runner {
    /// Asks the policy how to answer, running the probes it asks for.
    pub(crate) fn plan(
        &mut self,
        number: u64,
        request: &Request,
        policy: &Decider,
    ) -> Result<Planned, ServeError> {
        let prompts = self.encode_prompts(&request.prompt)?;
        let facts = RequestFacts {
            request: number,
            prompt_tokens: prompts.iter().map(|p| p.len() as u32).collect(),
            max_tokens: u32::try_from(request.max_tokens).unwrap_or(u32::MAX),
            temperature: request.sampling.temperature,
            chat: matches!(request.prompt, Prompt::Chat(_)),
            tiers: self.tiers.facts(),
            load: Load { running: 1, queued: 0 },
            probes: Vec::new(),
        };
        let mut planned = Planned {
            facts,
            probes: Vec::new(),
            plan: Plan::safe(self.tiers.info()),
            failures: Vec::new(),
            policy_seconds: 0.0,
            policy_fuel: 0,
            probe_seconds: 0.0,
            prompts,
        };
        self.ask(request, policy, &mut planned)?;
        self.fit_to_context(&mut planned)?;
        Ok(planned)
    }

    fn ask(
        &mut self,
        request: &Request,
        policy: &Decider,
        planned: &mut Planned,
    ) -> Result<(), ServeError> {
        let granted = granted(&policy.imports(), request, &planned.prompts);
        for _ in 0..=MAX_PROBES {
            let asked = policy.plan(&planned.facts, &granted);
            planned.policy_seconds += asked.seconds;
            planned.policy_fuel += asked.fuel;
            planned.failures.extend(asked.failures);
            let probe = match asked.answer {
                Verdict::Decided(plan) => {
                    planned.plan = plan;
                    return Ok(());
                }
                Verdict::Probe(probe) => probe,
            };
            let Some(result) = self.run_probe(&request.prompt, &probe)? else {
                planned.failures.push(nonsense(format!(
                    "the policy's probe cannot be run on tier {}: prompt and question exceed its \
                     context, or two answers begin with the same token; used the safe plan",
                    probe.tier
                )));
                return Ok(());
            };
            planned.probe_seconds += f64::from(result.milliseconds) / 1e3;
            planned.facts.probes.push(result.clone());
            planned.probes.push(ProbeRecord { probe, result });
        }
        planned.failures.push(nonsense(format!(
            "the policy asked for more than {MAX_PROBES} probes; used the safe plan"
        )));
        Ok(())
    }

    /// A tier whose context cannot hold the prompt and a token more is replaced
    /// by the smallest one that can.
    fn fit_to_context(&self, planned: &mut Planned) -> Result<(), ServeError> {
        let tiers = self.tiers.all();
        let fits = |i: usize| planned.prompts[i].len() < tiers[i].context();
        let chosen = planned.plan.tier as usize;
        if fits(chosen) {
            return Ok(());
        }
        let Some(other) = (0..tiers.len()).find(|&i| fits(i)) else {
            return Err(ServeError::PromptTooLong {
                tokens: planned.prompts[chosen].len(),
                context: tiers.iter().map(Tier::context).max().unwrap_or(0),
            });
        };
        planned.failures.push(Failure {
            hook: Hook::Plan,
            kind: FailureKind::Clamped,
            message: format!(
                "the prompt of {} tokens exceeds the context of tier {chosen}; used tier {other}",
                planned.prompts[chosen].len()
            ),
        });
        planned.plan.tier = other as u32;
        planned.plan = planned.plan.clone().clamped(self.tiers.info()).value;
        Ok(())
    }

    /// Puts the question after the prompt and reads the next token's
    /// probabilities. The tier's cache keeps the prompt: if the tier then
    /// answers, or drafts, only what differs is computed again. `None` when the
    /// probe cannot be run.
    fn run_probe(
        &mut self,
        prompt: &Prompt,
        probe: &Probe,
    ) -> Result<Option<ProbeResult>, ServeError> {
        let index = probe.tier as usize;
        let tier = &mut self.tiers.tiers[index];
        let tokens = encode_question(tier, prompt, &probe.question)?;
        let Some(answers) = first_tokens(tier, &probe.answers)? else { return Ok(None) };
        if tokens.len() > tier.context() {
            return Ok(None);
        }
        let pass = tier.extend(&mut self.sequences[index], &tokens, 1, &mut self.logits)?;
        let logits = self.logits.row(0);
        let mass: Vec<f64> = answers
            .iter()
            .map(|tokens| tokens.iter().map(|&t| f64::from(probability(logits, t))).sum())
            .collect();
        Ok(Some(probe_result(probe.tier, &mass, pass.seconds)))
    }

    fn encode_prompts(&self, prompt: &Prompt) -> Result<Vec<Vec<u32>>, ServeError> {
        self.tiers.all().iter().map(|tier| encode(tier, prompt)).collect()
    }
}

/// What the policy and its shadows import of that which was granted.
fn granted(imports: &BTreeSet<Grant>, request: &Request, prompts: &[Vec<u32>]) -> Granted {
    let mut granted = Granted::default();
    for import in imports {
        match import {
            Grant::PromptText => granted.prompt_text = Some(text(&request.prompt)),
            Grant::PromptTokens => granted.prompt_tokens = prompts.to_vec(),
            Grant::Metadata => granted.metadata.clone_from(&request.metadata),
        }
    }
    granted
}

fn text(prompt: &Prompt) -> String {
    match prompt {
        Prompt::Raw(text) => text.clone(),
        Prompt::Chat(messages) => {
            let texts: Vec<&str> = messages.iter().map(|m| m.content.as_str()).collect();
            texts.join("\n\n")
        }
    }
}

fn probe_result(tier: u32, mass: &[f64], seconds: f64) -> ProbeResult {
    let total: f64 = mass.iter().sum();
    // Where no answer has any mass to speak of, none is likelier than another.
    let share = |m: &f64| if total > 1e-12 { m / total } else { 1.0 / mass.len() as f64 };
    let probabilities: Vec<f64> = mass.iter().map(share).collect();
    let entropy: f64 = probabilities.iter().filter(|&&p| p > 0.0).map(|p| -p * p.ln()).sum();
    ProbeResult {
        tier,
        probabilities: probabilities.iter().map(|&p| p as f32).collect(),
        other: (1.0 - total).clamp(0.0, 1.0) as f32,
        entropy: entropy as f32,
        milliseconds: (seconds * 1e3) as f32,
    }
}

/// The prompt by a tier's tokenizer.
fn encode(tier: &Tier, prompt: &Prompt) -> Result<Vec<u32>, ServeError> {
    let tokens = match prompt {
        Prompt::Chat(messages) => encode_chat(tier, messages)?,
        Prompt::Raw(text) => encode_raw(tier, text)?,
    };
    if tokens.is_empty() { Err(ServeError::EmptyPrompt) } else { Ok(tokens) }
}

fn encode_chat(tier: &Tier, messages: &[Message]) -> Result<Vec<u32>, ServeError> {
    let template =
        tier.template().ok_or_else(|| ServeError::NoTemplate { tier: tier.name().to_owned() })?;
    Ok(template.encode(tier.tokenizer(), messages, true)?)
}

fn encode_raw(tier: &Tier, text: &str) -> Result<Vec<u32>, ServeError> {
    let tokenizer = tier.tokenizer();
    let mut tokens: Vec<u32> =
        tokenizer.bos().filter(|_| tokenizer.adds_bos()).into_iter().collect();
    tokens.extend(tokenizer.encode(text, SpecialTokens::AsText)?);
    Ok(tokens)
}

/// The prompt with a question after it: a further user turn where the template
/// allows two in a row, else part of the last one.
fn encode_question(tier: &Tier, prompt: &Prompt, question: &str) -> Result<Vec<u32>, ServeError> {
    let messages = match prompt {
        Prompt::Raw(text) => return encode_raw(tier, &format!("{text}\n\n{question}\n")),
        Prompt::Chat(messages) => messages,
    };
    let mut asked = messages.clone();
    asked.push(Message::user(question));
    match encode_chat(tier, &asked) {
        Err(ServeError::Chat(ChatError::Render { .. })) => {
            let mut merged = messages.clone();
            if let Some(last) = merged.last_mut() {
                last.content = format!("{}\n\n{question}", last.content);
            }
            encode_chat(tier, &merged)
        }
        other => other,
    }
}

/// The tokens that each answer may begin with: as it is, and after a space.
/// `None` when two answers share one.
fn first_tokens(tier: &Tier, answers: &[String]) -> Result<Option<Vec<Vec<u32>>>, ServeError> {
    let mut all = Vec::new();
    let mut firsts = Vec::new();
    for answer in answers {
        let mut tokens = Vec::new();
        for text in [answer.clone(), format!(" {answer}")] {
            let encoded = tier.tokenizer().encode(&text, SpecialTokens::AsText)?;
            if let Some(&first) = encoded.first()
                && !tokens.contains(&first)
            {
                tokens.push(first);
            }
        }
        if tokens.is_empty() || tokens.iter().any(|t| all.contains(t)) {
            return Ok(None);
        }
        all.extend(&tokens);
        firsts.push(tokens);
    }
    Ok(Some(firsts))
}

fn nonsense(message: String) -> Failure {
    Failure { hook: Hook::Plan, kind: FailureKind::Nonsense, message }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn probabilities_are_of_the_answers_and_entropy_in_nats() {
        let result = probe_result(0, &[0.3, 0.1], 0.002);
        assert_eq!(result.probabilities, [0.75, 0.25]);
        assert!((result.other - 0.6).abs() < 1e-6);
        assert!((result.entropy - 0.562_335).abs() < 1e-5);
        assert_eq!(result.milliseconds, 2.0);
    }

    #[test]
    fn a_policy_is_lent_what_it_imports_and_no_more() {
        let request = Request {
            prompt: Prompt::Chat(vec![Message::system("Be brief."), Message::user("Hi")]),
            max_tokens: 1,
            sampling: Default::default(),
            stop: Vec::new(),
            metadata: [("client".to_owned(), "a".to_owned())].into(),
            key: None,
        };
        let prompts = [vec![1, 2], vec![3]];
        let lent =
            |grants: &[Grant]| granted(&grants.iter().copied().collect(), &request, &prompts);
        assert!(lent(&[]).is_empty());
        let text = lent(&[Grant::PromptText]);
        assert_eq!(text.prompt_text.as_deref(), Some("Be brief.\n\nHi"));
        assert!(text.prompt_tokens.is_empty() && text.metadata.is_empty());
        let all = lent(&Grant::ALL);
        assert_eq!(all.prompt_tokens, prompts);
        assert_eq!(all.metadata["client"], "a");
    }

    #[test]
    fn no_mass_on_any_answer_is_full_uncertainty() {
        let result = probe_result(0, &[0.0, 0.0], 0.0);
        assert_eq!((result.probabilities, result.other), (vec![0.5, 0.5], 1.0));
    }
}
