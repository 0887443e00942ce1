//! A request on its way from its prompt to its answer.

use std::time::Duration;

use aio_core::{
    Draft, Failure, FinishReason, Plan, Probe, ProbeRecord, RequestFacts, RoundFacts, RoundRecord,
};
use aio_engine::drafter::context::DraftContext;
use aio_engine::drafter::lookup::{self, RecentAnswers};
use aio_engine::sampling::Sampler;
use aio_engine::{Pass, TokenSequence};
use aio_policy::Decider;

use crate::event::TokenChoice;
use crate::request::Request;
use crate::text::AnswerText;

/// How far a request is.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Phase {
    /// The policy was not asked yet.
    New,
    /// A probe that the policy asked for runs, or is to run: `tokens` are its prompt.
    Probing(RunningProbe),
    /// The plan is made; the answer has no token yet.
    Prompt,
    /// The answer has begun.
    Rounds,
}

/// A probe on its way.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct RunningProbe {
    pub probe: Probe,
    /// The tokens that each of its answers may begin with.
    pub answers: Vec<Vec<u32>>,
}

/// A request that waits or runs.
pub(super) struct Running {
    pub number: u64,
    pub request: Request,
    /// When it came.
    pub start: Duration,
    /// Seconds that it has waited; `since` is when it last began to wait.
    pub waited: f64,
    pub since: Duration,
    /// The policy that plans it, to the end, and its shadows.
    pub policy: Decider,
    /// The prompt by each tier's tokenizer.
    pub prompts: Vec<Vec<u32>>,
    pub phase: Phase,

    // The plan and how it came about.
    pub facts: RequestFacts,
    pub probes: Vec<ProbeRecord>,
    pub plan: Plan,
    pub failures: Vec<Failure>,
    pub policy_seconds: f64,
    pub policy_fuel: u64,

    // The setting in force.
    pub tier: usize,
    pub draft: Draft,
    pub ask_every: u32,

    // The answer.
    /// Prompt, then what is committed, then this round's draft.
    pub tokens: Vec<u32>,
    /// How many of the tokens are a draft.
    pub drafted: Drafted,
    pub prompt_tokens: usize,
    /// How many of them other requests had computed when this one began.
    pub cached_tokens: usize,
    pub sampler: Sampler,
    pub text: AnswerText,
    /// Probabilities that the client was not told of yet.
    pub choices: Vec<TokenChoice>,
    pub rounds: Vec<RoundRecord>,
    /// How many of `rounds` the policy was last told of.
    pub told: usize,
    /// What the policy decided for the round that comes.
    pub decided: (Option<aio_core::Action>, String),
    /// What was run for the token that comes next.
    pub spent: Pass,
    pub prefill_rows: usize,
    pub prefill_seconds: f64,
    pub probe_seconds: f64,
    pub preemptions: u32,
    pub finish: Option<FinishReason>,

    /// What each tier holds of it.
    pub sequences: Vec<Option<TokenSequence>>,
    /// What each tier was shown of it as its draft model.
    pub draft_contexts: Vec<DraftContext>,
}

/// What was drafted for the round that comes.
#[derive(Debug, Clone, Copy)]
pub(super) struct Drafted {
    pub drafter: aio_core::Drafter,
    pub tokens: usize,
    /// The tier that was asked, its passes and its rows in them.
    pub tier: Option<usize>,
    pub passes: usize,
    pub rows: usize,
    pub seconds: f64,
}

impl Drafted {
    pub const NONE: Self = Self {
        drafter: aio_core::Drafter::None,
        tokens: 0,
        tier: None,
        passes: 0,
        rows: 0,
        seconds: 0.0,
    };
}

impl Running {
    /// Who goes first: smaller ranks do.
    pub fn rank(&self) -> (i64, u64) {
        (-i64::from(self.request.priority), self.number)
    }

    /// Whether any of its tokens ran.
    pub fn has_begun(&self) -> bool {
        self.prefill_seconds > 0.0 || self.probe_seconds > 0.0 || !self.rounds.is_empty()
    }

    /// Tokens that are no draft.
    pub fn known(&self) -> usize {
        self.tokens.len() - self.drafted.tokens
    }

    /// Tokens generated.
    pub fn committed(&self) -> usize {
        self.known() - self.prompt_tokens
    }

    /// Tokens of the answer.
    pub fn answer(&self) -> &[u32] {
        &self.tokens[self.prompt_tokens..self.known()]
    }

    /// Whether all but its last token is held on its tier: whether its next pass may
    /// verify a draft.
    pub fn is_caught_up(&self) -> bool {
        let held = self.sequences[self.tier].as_ref().map_or(0, TokenSequence::cached);
        held + 1 == self.known()
    }

    /// Whether a round of it comes next.
    pub fn is_in_rounds(&self) -> bool {
        self.phase == Phase::Rounds && self.finish.is_none()
    }

    /// Forgets a draft that was not verified.
    pub fn drop_draft(&mut self) {
        self.tokens.truncate(self.known());
        self.drafted = Drafted::NONE;
    }

    /// Nobody wants the rest.
    pub fn cancel(&mut self) {
        self.finish.get_or_insert(FinishReason::Cancelled);
    }

    /// Begins to wait.
    pub fn waits(&mut self, now: Duration) {
        self.since = now;
    }

    /// Waits no longer.
    pub fn runs(&mut self, now: Duration) {
        self.waited += now.saturating_sub(self.since).as_secs_f64();
    }

    /// Where it stands; what is recent is what came after round `told`, and `before` are
    /// tokens that its prompt is taken to stand behind.
    pub fn round_facts(
        &self,
        told: usize,
        before: usize,
        longest_match: u32,
        others: &RecentAnswers,
    ) -> RoundFacts {
        let own = &self.tokens[..self.known()];
        let found = lookup::find(own, others, 1, longest_match as usize);
        let recent = &self.rounds[told..];
        RoundFacts {
            request: self.number,
            tier: self.tier as u32,
            round: self.rounds.len() as u32,
            prompt_tokens: (self.prompt_tokens + before) as u32,
            committed: self.committed() as u32,
            remaining: self.request.max_tokens.saturating_sub(self.committed()) as u32,
            draft: self.draft,
            recent_rounds: recent.len() as u32,
            recent_drafted: recent.iter().map(|r| r.drafted).sum(),
            recent_accepted: recent.iter().map(|r| r.accepted).sum(),
            lookup_match: found.map_or(0, |m| m.length as u32),
        }
    }
}
