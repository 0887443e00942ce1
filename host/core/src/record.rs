//! The record of one request: every decision can say why.

use serde::{Deserialize, Serialize};

use crate::{
    Action, Drafter, Failure, FinishReason, Plan, Probe, ProbeResult, RequestFacts, ShadowReport,
};

/// Which policy decided.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PolicyIdentity {
    /// The policy's name.
    pub name: String,
    /// Its own version.
    pub version: String,
    /// SHA-256 of the component's whole file, its signature included if it has one, in
    /// hexadecimal.
    pub digest: String,
    /// Counts the generations loaded by this host, from 1.
    pub generation: u64,
}

/// Which tier answered.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Answerer {
    /// Index among the tiers, small to large.
    pub index: u32,
    /// The tier's name.
    pub name: String,
}

/// A probe that was run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ProbeRecord {
    /// What was asked.
    pub probe: Probe,
    /// What it found.
    pub result: ProbeResult,
    /// Tokens of the prompt with the question.
    #[serde(default)]
    pub tokens: u32,
    /// Rows that were run for it: those of its tokens that no cache held.
    #[serde(default)]
    pub rows: u32,
}

/// One round: draft, verify, commit.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RoundRecord {
    /// The tier that verified.
    pub tier: u32,
    /// Where this round's drafts came from (`none` when nothing was drafted).
    pub drafter: Drafter,
    /// Tokens drafted.
    pub drafted: u32,
    /// Drafted tokens that were accepted.
    pub accepted: u32,
    /// Tokens committed: those accepted and the one the target added, up to the
    /// answer's end.
    pub committed: u32,
    /// Rows of the verify pass.
    pub rows: u32,
    /// The tier that was asked for a draft, if one was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub draft_tier: Option<u32>,
    /// Its passes.
    #[serde(default)]
    pub draft_passes: u32,
    /// Rows of those passes: what it caught up on in the first, then one in each.
    #[serde(default)]
    pub draft_rows: u32,
    /// Time spent drafting.
    pub draft_milliseconds: f32,
    /// Time spent verifying.
    pub verify_milliseconds: f32,
    /// What the policy changed before this round, if it was asked and did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub action: Option<Action>,
    /// Why, in the policy's words.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub reason: String,
}

/// Sums over a request.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Totals {
    /// Tokens drafted.
    pub drafted: u32,
    /// Drafted tokens that were accepted.
    pub accepted: u32,
    /// Tokens generated.
    pub committed: u32,
    /// Wall time from the request's start to its last token.
    pub seconds: f64,
    /// Part of it spent in passes with the prompt.
    pub prefill_seconds: f64,
    /// Part of it spent generating: in passes that drafted for it or verified.
    pub decode_seconds: f64,
    /// Part of it spent in the policy.
    pub policy_seconds: f64,
    /// Part of it spent on probes.
    pub probe_seconds: f64,
    /// Part of it spent waiting for its turn, at first and after it was preempted.
    #[serde(default)]
    pub waiting_seconds: f64,
    /// Fuel that the policy used.
    pub policy_fuel: u64,
}

/// Memory, in bytes, by what it is for. All tiers together, at the request's end.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct MemoryRecord {
    /// The most that the process ever had in memory (Linux: `VmHWM`); 0 where the
    /// system does not tell.
    pub peak_resident: u64,
    /// Weights, as the device holds them.
    pub weights: u64,
    /// KV caches, what is kept for later prompts included.
    pub kv: u64,
    /// Intermediate results of passes.
    pub arena: u64,
    /// What of the peak is none of these: tokenizers, the policy runtime, logits,
    /// code.
    pub other: u64,
}

/// Everything about one request: what was decided, by whom, on which facts,
/// and what came of it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RequestRecord {
    /// The device that answered, with all that is simulated about it.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub device: String,
    /// The request's number.
    pub request: u64,
    /// The answer.
    pub text: String,
    /// The answer's tokens, without the end-of-answer token.
    pub token_ids: Vec<u32>,
    /// Length of the prompt by the answering tier's tokenizer.
    pub prompt_tokens: u32,
    /// How many of them needed not be computed, because another request's cache had them
    /// when this one began.
    #[serde(default)]
    pub cached_tokens: u32,
    /// Rows that were run for the prompt, until the answer's first token was there.
    #[serde(default)]
    pub prefill_rows: u32,
    /// Why the answer ended.
    pub finish_reason: FinishReason,
    /// The tier that answered (the last one, if the request moved).
    pub tier: Answerer,
    /// The policy that decided.
    pub policy: PolicyIdentity,
    /// The facts that the plan was made from.
    pub facts: RequestFacts,
    /// Probes run on the policy's behalf.
    pub probes: Vec<ProbeRecord>,
    /// The plan as used, after clamping.
    pub plan: Plan,
    /// Why speculation is off, when it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub speculation_off: Option<String>,
    /// Round by round.
    pub rounds: Vec<RoundRecord>,
    /// Sums.
    pub totals: Totals,
    /// How often it lost its KV cache to requests of a higher rank, and was run anew.
    #[serde(default)]
    pub preemptions: u32,
    /// Memory in use.
    #[serde(default)]
    pub memory: MemoryRecord,
    /// What the policy did wrong, if anything.
    pub failures: Vec<Failure>,
    /// What shadows said beside it, over all requests so far. A shadow may be
    /// behind when a request ends: whoever wants this waits, and fills it in.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub shadows: Vec<ShadowReport>,
}
