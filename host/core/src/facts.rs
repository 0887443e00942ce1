//! What a policy is told: facts about a request, a round and the load.

use serde::{Deserialize, Serialize};

use crate::{Draft, Drafter, TierFacts};

/// How much work there is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Load {
    /// Requests being decoded.
    pub running: u32,
    /// Requests that wait.
    pub queued: u32,
}

/// What a probe found.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ProbeResult {
    /// The tier that was asked.
    pub tier: u32,
    /// Probability of each answer, given that it is one of them; sums to 1.
    pub probabilities: Vec<f32>,
    /// Probability mass of all tokens that are no answer.
    pub other: f32,
    /// Entropy of `probabilities`, in nats.
    pub entropy: f32,
    /// Time that the probe took.
    pub milliseconds: f32,
}

/// What is known of a request before it is answered.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RequestFacts {
    /// Identifies the request in all later calls.
    pub request: u64,
    /// Length of the prompt by each tier's tokenizer, in the order of the tiers.
    pub prompt_tokens: Vec<u32>,
    /// Most tokens to generate.
    pub max_tokens: u32,
    /// 0 is greedy.
    pub temperature: f32,
    /// Whether the prompt is a conversation put through a chat template.
    pub chat: bool,
    /// In the order of the tiers.
    pub tiers: Vec<TierFacts>,
    /// How much work there is.
    pub load: Load,
    /// Results of the probes this request has asked for, in order.
    pub probes: Vec<ProbeResult>,
}

/// How often drafts were accepted on a tier, measured over all requests.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Acceptance {
    /// The tier that verified.
    pub tier: u32,
    /// Where the drafts came from.
    pub drafter: Drafter,
    /// Of the drafts that got as far as position i (from 0), the share whose
    /// token there was accepted; exponentially weighted.
    pub by_position: Vec<f32>,
    /// Rounds measured.
    pub rounds: u64,
}

/// What is common to all requests of one `rounds` call.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct RoundContext {
    /// In the order of the tiers.
    pub tiers: Vec<TierFacts>,
    /// Measured acceptance by tier and drafter.
    pub acceptance: Vec<Acceptance>,
    /// How much work there is.
    pub load: Load,
}

/// Where one running request stands.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RoundFacts {
    /// The request meant.
    pub request: u64,
    /// The tier that answers it.
    pub tier: u32,
    /// Rounds done.
    pub round: u32,
    /// Length of the prompt.
    pub prompt_tokens: u32,
    /// Tokens generated.
    pub committed: u32,
    /// Tokens it may still generate.
    pub remaining: u32,
    /// The setting in force.
    pub draft: Draft,
    /// Rounds since this request was last asked about.
    pub recent_rounds: u32,
    /// Tokens drafted since then.
    pub recent_drafted: u32,
    /// Tokens accepted since then.
    pub recent_accepted: u32,
    /// Length of the suffix that lookup matches at this point; 0: none.
    pub lookup_match: u32,
}
