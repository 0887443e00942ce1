//! What became of a request.

use serde::{Deserialize, Serialize};

/// Why an answer ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum FinishReason {
    /// The model ended its answer, or a stop string was met.
    Stop,
    /// The token limit or the context's end was reached.
    Length,
    /// The client went away or the user interrupted.
    Cancelled,
    /// The device failed.
    Error,
}

/// What became of a request, for the policy to learn from.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Outcome {
    /// The request meant.
    pub request: u64,
    /// The tier that ended it.
    pub tier: u32,
    /// The plan's label.
    pub label: String,
    /// Why it ended.
    pub finish: FinishReason,
    /// Length of the prompt.
    pub prompt_tokens: u32,
    /// Tokens generated.
    pub committed: u32,
    /// Rounds it took.
    pub rounds: u32,
    /// Tokens drafted.
    pub drafted: u32,
    /// Drafted tokens that were accepted.
    pub accepted: u32,
    /// Time spent on the prompt.
    pub prefill_milliseconds: f32,
    /// Time spent generating.
    pub decode_milliseconds: f32,
}
