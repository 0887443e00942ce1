//! Answering requests one at a time: the decode loop with one request in it.

use std::sync::Arc;
use std::time::{Duration, Instant};

use aio_core::{Answerer, Drafter, FinishReason, Outcome, RequestRecord, Totals};
use aio_engine::chat::ChatError;
use aio_engine::device::{DeviceError, Logits};
use aio_engine::sampling::Sampler;
use aio_engine::tokenizer::TokenizerError;
use aio_engine::{Tier, TokenSequence};
use aio_policy::PolicyHost;

use crate::measure::{self, AcceptanceTable};
use crate::planning::Planned;
use crate::request::{Request, Sink};
use crate::round::Running;
use crate::text::AnswerText;
use crate::tiers::Tiers;

/// Why a request cannot be answered.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// The prompt fits no tier.
    #[error(
        "the prompt has {tokens} tokens, but the context holds {context}, one of them for the answer; shorten the prompt or raise --context if the model allows it"
    )]
    PromptTooLong {
        /// Tokens in the prompt.
        tokens: usize,
        /// The longest context among the tiers.
        context: usize,
    },
    /// There is nothing to answer.
    #[error("the prompt is empty; give some text")]
    EmptyPrompt,
    /// No tokens were asked for.
    #[error("max_tokens is 0; ask for at least one token")]
    NoTokens,
    /// A setting is out of range.
    #[error("{0}")]
    Setting(String),
    /// A conversation was put to a model without a template.
    #[error(
        "tier {tier} has no chat template, so it cannot take a conversation; give the prompt as plain text with --raw"
    )]
    NoTemplate {
        /// The tier.
        tier: String,
    },
    /// The chat template failed.
    #[error(transparent)]
    Chat(#[from] ChatError),
    /// The tokenizer failed.
    #[error(transparent)]
    Tokenizer(#[from] TokenizerError),
    /// The device failed.
    #[error(transparent)]
    Device(#[from] DeviceError),
}

/// How often what a policy has learnt is saved, at most.
const SAVE_PERIOD: Duration = Duration::from_secs(60);

/// Owns the tiers and answers requests under a policy, one at a time. Each
/// tier's KV cache outlives the request: what the next prompt has in common
/// with it is not computed again.
pub struct Runner {
    pub(crate) tiers: Tiers,
    pub(crate) policies: Arc<PolicyHost>,
    pub(crate) sequences: Vec<TokenSequence>,
    pub(crate) acceptance: AcceptanceTable,
    pub(crate) logits: Logits,
    requests: u64,
}

impl Runner {
    /// A runner over resident tiers, under policies that were loaded for them.
    pub fn new(mut tiers: Tiers, policies: Arc<PolicyHost>) -> Self {
        let sequences = tiers.tiers.iter_mut().map(|tier| tier.open_sequence()).collect();
        let acceptance = AcceptanceTable::default();
        Self { tiers, policies, sequences, acceptance, logits: Logits::default(), requests: 0 }
    }

    /// The tiers.
    pub fn tiers(&self) -> &Tiers {
        &self.tiers
    }

    /// Decides under other policies from the next request on; returns the old ones.
    pub fn replace_policies(&mut self, policies: Arc<PolicyHost>) -> Arc<PolicyHost> {
        std::mem::replace(&mut self.policies, policies)
    }

    /// The policies: the one in place may be replaced through this while requests
    /// run.
    pub fn policies(&self) -> &Arc<PolicyHost> {
        &self.policies
    }

    /// Answers one request: text goes to `sink` as it comes, and all that was
    /// decided and done is in the record.
    ///
    /// # Errors
    /// When the request cannot be answered at all. Whatever the policy does is
    /// no such case: it ends up in the record's failures.
    pub fn run(
        &mut self,
        request: &Request,
        sink: &mut dyn Sink,
    ) -> Result<RequestRecord, ServeError> {
        let start = Instant::now();
        request.sampling.check().map_err(ServeError::Setting)?;
        if request.max_tokens == 0 {
            return Err(ServeError::NoTokens);
        }
        self.requests += 1;
        // Whatever is loaded meanwhile, this request stays with what plans it.
        let policy = self.policies.for_request(request.key.unwrap_or(self.requests));
        let mut planned = self.plan(self.requests, request, &policy)?;
        self.policies.remember(&planned.facts);
        let tier = planned.plan.tier as usize;
        sink.planned(&planned.plan, self.tiers.all()[tier].name());
        let tokens = std::mem::take(&mut planned.prompts[tier]);
        let mut running = Running {
            policy,
            request: self.requests,
            tier,
            draft: planned.plan.draft,
            ask_every: planned.plan.ask_every,
            prompt_tokens: tokens.len(),
            tokens,
            max_tokens: request.max_tokens,
            sampler: Sampler::new(request.sampling.clone()),
            text: AnswerText::new(self.tiers.all()[tier].tokenizer(), &request.stop),
            rounds: Vec::new(),
            told: 0,
            failures: std::mem::take(&mut planned.failures),
            policy_seconds: planned.policy_seconds,
            policy_fuel: planned.policy_fuel,
            finish: None,
        };
        let prefill_seconds = self.prefill(&mut running, sink)?;
        while running.finish.is_none() {
            if sink.cancelled() {
                running.finish = Some(FinishReason::Cancelled);
                running.text.finish();
                sink.text(running.text.take(true));
                break;
            }
            self.round(&mut running, sink)?;
        }
        let totals = totals(&running, &planned, prefill_seconds);
        self.tell_outcome(&mut running, &planned, &totals);
        let seconds = start.elapsed().as_secs_f64();
        let policy = running.policy.clone();
        let record = self.record(running, planned, Totals { seconds, ..totals });
        policy.ended(&record);
        self.policies.save_every(SAVE_PERIOD);
        Ok(record)
    }

    /// Runs the prompt and commits the answer's first token.
    fn prefill(&mut self, running: &mut Running, sink: &mut dyn Sink) -> Result<f64, ServeError> {
        let sequence = &mut self.sequences[running.tier];
        let tier = &mut self.tiers.tiers[running.tier];
        let pass = tier.extend(sequence, &running.tokens, 1, &mut self.logits)?;
        let known = running.tokens.len();
        self.commit(running, known, 0);
        sink.text(running.text.take(running.finish.is_some()));
        Ok(pass.seconds)
    }

    fn tell_outcome(&mut self, running: &mut Running, planned: &Planned, totals: &Totals) {
        let outcome = Outcome {
            request: running.request,
            tier: running.tier as u32,
            label: planned.plan.label.clone(),
            finish: running.finish.unwrap_or(FinishReason::Error),
            prompt_tokens: running.prompt_tokens as u32,
            committed: totals.committed,
            rounds: running.rounds.len() as u32,
            drafted: totals.drafted,
            accepted: totals.accepted,
            prefill_milliseconds: (totals.prefill_seconds * 1e3) as f32,
            decode_milliseconds: (totals.decode_seconds * 1e3) as f32,
        };
        let asked = running.policy.finished(std::slice::from_ref(&outcome));
        running.policy_seconds += asked.seconds;
        running.policy_fuel += asked.fuel;
        running.failures.extend(asked.failures);
    }

    fn record(&self, running: Running, planned: Planned, totals: Totals) -> RequestRecord {
        let speculation_off = speculation_off(&planned, &running);
        let tier = Answerer {
            index: running.tier as u32,
            name: self.tiers.all()[running.tier].name().to_owned(),
        };
        RequestRecord {
            request: running.request,
            token_ids: running.answer().to_vec(),
            text: running.text.into_text(),
            prompt_tokens: running.prompt_tokens as u32,
            finish_reason: running.finish.unwrap_or(FinishReason::Error),
            tier,
            policy: running.policy.identity().clone(),
            facts: planned.facts,
            probes: planned.probes,
            plan: planned.plan,
            speculation_off,
            rounds: running.rounds,
            totals: Totals {
                policy_seconds: running.policy_seconds,
                policy_fuel: running.policy_fuel,
                ..totals
            },
            memory: measure::memory(self.tiers.all().iter().map(Tier::memory)),
            failures: running.failures,
            shadows: Vec::new(),
        }
    }
}

fn totals(running: &Running, planned: &Planned, prefill_seconds: f64) -> Totals {
    let milliseconds = |r: &aio_core::RoundRecord| {
        f64::from(r.draft_milliseconds) + f64::from(r.verify_milliseconds)
    };
    Totals {
        drafted: running.rounds.iter().map(|r| r.drafted).sum(),
        accepted: running.rounds.iter().map(|r| r.accepted).sum(),
        committed: running.committed() as u32,
        seconds: 0.0,
        prefill_seconds,
        decode_seconds: running.rounds.iter().map(milliseconds).sum::<f64>() / 1e3,
        policy_seconds: running.policy_seconds,
        probe_seconds: planned.probe_seconds,
        policy_fuel: running.policy_fuel,
    }
}

/// Why nothing was drafted, if nothing was.
fn speculation_off(planned: &Planned, running: &Running) -> Option<String> {
    if running.rounds.iter().any(|r| r.drafted > 0) {
        return None;
    }
    let draft = planned.plan.draft;
    Some(if draft.drafter == Drafter::None || draft.length == 0 {
        format!("the plan drafts nothing ({})", planned.plan.reason)
    } else if running.rounds.is_empty() {
        "the answer ended before its first round".into()
    } else {
        match draft.drafter {
            Drafter::Lookup => "lookup found no match".into(),
            _ => "the draft model was never confident enough".into(),
        }
    })
}
