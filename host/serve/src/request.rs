//! What is asked of the host, and where its answer goes.

use std::collections::BTreeMap;

use aio_core::{Draft, Plan};
use aio_engine::chat::Message;
use aio_engine::sampling::Sampling;

/// The text to answer.
#[derive(Debug, Clone, PartialEq)]
pub enum Prompt {
    /// A conversation, put through the answering model's chat template.
    Chat(Vec<Message>),
    /// Text to go on with, as it is.
    Raw(String),
}

/// One request.
#[derive(Debug, Clone)]
pub struct Request {
    /// The text to answer.
    pub prompt: Prompt,
    /// Most tokens to generate.
    pub max_tokens: usize,
    /// How tokens are chosen.
    pub sampling: Sampling,
    /// Texts that end the answer; they are not part of it.
    pub stop: Vec<String>,
    /// What the client says of the request, for policies that are granted it.
    pub metadata: BTreeMap<String, String>,
    /// What is stable about the request, where a canary serves a share of them:
    /// requests of one key go the same way (see [`aio_policy::request_key`]).
    /// `None`: the request's number.
    pub key: Option<u64>,
    /// Who waits less than others: higher goes first, also where memory runs out.
    /// Among equals the older request goes first.
    pub priority: i32,
    /// How many of the likeliest tokens to tell of at each place, beside the one
    /// that was chosen; `None`: nothing is told of probabilities.
    pub logprobs: Option<usize>,
    /// What the client decides instead of the policy.
    pub overrides: Overrides,
}

/// What a client decides instead of the policy, where the operator lets it.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Overrides {
    /// The tier that answers, to the end; the policy keeps the drafting.
    pub tier: Option<u32>,
    /// How tokens are drafted, to the end; the policy keeps the tier.
    pub draft: Option<Draft>,
    /// The policy's generation, if that is still in place.
    pub generation: Option<u64>,
}

impl Request {
    /// A request with nothing set but this.
    pub fn new(prompt: Prompt, max_tokens: usize, sampling: Sampling) -> Self {
        Self {
            prompt,
            max_tokens,
            sampling,
            stop: Vec::new(),
            metadata: BTreeMap::new(),
            key: None,
            priority: 0,
            logprobs: None,
            overrides: Overrides::default(),
        }
    }
}

/// Where an answer goes as it comes.
pub trait Sink {
    /// The plan is made; `tier` is the answering tier's name.
    fn planned(&mut self, plan: &Plan, tier: &str) {
        let _ = (plan, tier);
    }

    /// More of the answer: whole characters.
    fn text(&mut self, text: &str);

    /// Whether nobody wants the rest. Asked once a round.
    fn cancelled(&self) -> bool {
        false
    }
}
