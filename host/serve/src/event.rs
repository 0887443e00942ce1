//! What happens to a request, as its client hears of it.

use aio_core::{Plan, PolicyIdentity, RequestRecord};

use crate::ServeError;

/// One thing that happened to a request, in the order in which they did:
/// [`Event::Planned`] first, then [`Event::Text`] as often as there is more, and
/// [`Event::Ended`] or [`Event::Failed`] last. A request that cannot be answered
/// has [`Event::Failed`] alone.
#[derive(Debug)]
pub enum Event {
    /// The plan is made.
    Planned(Box<PlannedEvent>),
    /// More of the answer.
    Text(TextEvent),
    /// The answer is whole, or its client gave up. The record has all of it.
    Ended(Box<RequestRecord>),
    /// There will be no answer, or no more of it.
    Failed(ServeError),
}

/// What is known once the plan is made.
#[derive(Debug, Clone, PartialEq)]
pub struct PlannedEvent {
    /// The plan.
    pub plan: Plan,
    /// Name of the answering tier.
    pub tier: String,
    /// Who made it.
    pub policy: PolicyIdentity,
    /// Tokens of the prompt, by that tier's tokenizer.
    pub prompt_tokens: u32,
}

/// More of an answer.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct TextEvent {
    /// Whole characters, none of which can be part of a stop string. Empty where
    /// tokens came and none of them may be shown yet.
    pub text: String,
    /// The tokens that were committed since the last event, with their
    /// probabilities; empty unless the request asked for them.
    pub tokens: Vec<TokenChoice>,
}

/// A committed token and how likely it was.
#[derive(Debug, Clone, PartialEq)]
pub struct TokenChoice {
    /// The token and its probability.
    pub chosen: Likelihood,
    /// The likeliest tokens at this place, likeliest first: as many as the request
    /// asked for. The one that was chosen need not be among them.
    pub top: Vec<Likelihood>,
}

/// A token and how likely the model found it, by its own distribution: before
/// temperature, top-p and penalties.
#[derive(Debug, Clone, PartialEq)]
pub struct Likelihood {
    /// Token id.
    pub token: u32,
    /// The token's bytes, which need not be whole characters.
    pub bytes: Vec<u8>,
    /// Natural logarithm of its probability.
    pub logprob: f32,
}
