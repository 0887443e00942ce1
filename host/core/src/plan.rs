//! What a policy may answer: plans, probes and round decisions.

use serde::{Deserialize, Serialize};

/// Tokens of an answer that a draft model catches up on before it drafts, at most: the
/// last of those that it missed while another drafter or none was at work. It never sees
/// what it missed before them.
///
/// Measured on edits of 12 functions (Qwen2.5-Coder 0.5B for 1.5B, `goodput`): so, 75 % of
/// its drafts are accepted, and 77 % if it reads everything; but being ready in the time of
/// one small pass, it drafts in a tenth to a third more rounds.
pub const CATCH_UP: u32 = 16;

/// Where a round's draft tokens come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Drafter {
    /// No drafts: one token a round.
    #[default]
    None,
    /// The longest suffix match in the request's own tokens.
    Lookup,
    /// A smaller tier with the same tokenizer. It reads the prompt first, and before it
    /// drafts the last [`CATCH_UP`] tokens of what it missed of the answer.
    Model,
    /// Lookup, and the draft model where lookup finds nothing.
    LookupThenModel,
}

impl Drafter {
    /// Whether a draft model takes part.
    pub fn uses_model(self) -> bool {
        matches!(self, Self::Model | Self::LookupThenModel)
    }

    /// Whether prompt lookup takes part.
    pub fn uses_lookup(self) -> bool {
        matches!(self, Self::Lookup | Self::LookupThenModel)
    }
}

impl std::fmt::Display for Drafter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::None => "none",
            Self::Lookup => "lookup",
            Self::Model => "model",
            Self::LookupThenModel => "lookup-then-model",
        })
    }
}

/// How a round drafts.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Draft {
    /// Where the tokens come from.
    pub drafter: Drafter,
    /// Most tokens to draft in one round.
    pub length: u32,
    /// Shortest suffix that lookup may match, in tokens; at least 1.
    pub ngram_min: u32,
    /// Longest suffix that lookup tries to match, in tokens.
    pub ngram_max: u32,
    /// The tier that drafts; `None`: the smallest one that shares the tokenizer.
    pub draft_tier: Option<u32>,
    /// The draft model stops before a token that it gives less than this probability.
    pub min_confidence: f32,
}

impl Draft {
    /// Plain decoding: one token a round.
    pub const NONE: Self = Self {
        drafter: Drafter::None,
        length: 0,
        ngram_min: 1,
        ngram_max: 1,
        draft_tier: None,
        min_confidence: 0.0,
    };
}

/// How a request is to be answered.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Plan {
    /// Index of the tier that answers.
    pub tier: u32,
    /// How its rounds draft, until a round decision changes it.
    pub draft: Draft,
    /// Ask `rounds` about this request every so many rounds; 0: never.
    pub ask_every: u32,
    /// What the policy took the request for, for example "code"; may be empty.
    pub label: String,
    /// Why, in one sentence.
    pub reason: String,
}

impl Plan {
    /// The plan the host falls back to when a policy fails: plain decoding on
    /// the largest tier, the choice that can only cost speed.
    pub fn safe(host: &crate::HostInfo) -> Self {
        Self {
            tier: host.largest_tier(),
            draft: Draft::NONE,
            ask_every: 0,
            label: String::new(),
            reason: "safe plan: the policy gave no usable answer".into(),
        }
    }
}

/// A question about the prompt, read as the probabilities of a few one-token answers.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Probe {
    /// The tier that is asked.
    pub tier: u32,
    /// Text put after the prompt.
    pub question: String,
    /// Each answer is recognised by its first token.
    pub answers: Vec<String>,
}

/// A policy's answer about a new request.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Verdict {
    /// Answer it so.
    Decided(Plan),
    /// Run this first, then ask again.
    Probe(Probe),
}

/// What to change about a running request.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Action {
    /// Nothing.
    Keep,
    /// Draft so from the next round on.
    Draft(Draft),
    /// Go on with another tier from the next round on.
    MoveTo(u32),
}

/// A policy's answer about one running request.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RoundDecision {
    /// The request meant.
    pub request: u64,
    /// What to change.
    pub action: Action,
    /// Why; may be empty for `Keep`.
    pub reason: String,
}
