//! Ways to serve two models: the paper's, and ours. What the paper measured stands beside
//! them ("A-IO: Adaptive Inference Orchestration", arXiv 2604.09752; HF Transformers on one
//! Ascend 910B, 2K contexts).

use aio_core::TierInfo;
use aio_policy::PolicySource;
use serde::Serialize;
use serde_json::{Value, json};

/// A way to serve the two models.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Deployment {
    /// Its name in tables.
    pub name: &'static str,
    /// What it does, in one line.
    pub about: &'static str,
    /// Whether its decisions depend on what passes cost, so that they are others on other
    /// hardware.
    pub adapts: bool,
    /// Whose idea it is.
    pub ours: bool,
    /// Tokens a second that the paper measured under HF Transformers at 2K.
    pub published: Option<f64>,
    /// The policy, a built-in one.
    pub policy: &'static str,
    /// Its configuration.
    pub config: Value,
}

/// Tokens that a draft model guesses each round.
const DRAFT_LENGTH: u32 = 4;

/// The small model, plain: the paper's first row, and what others are compared with.
pub const SMALL: &str = "static 1B";
/// The large model, plain.
pub const LARGE: &str = "static 7B";
/// The large one with the small one's drafts.
pub const LARGE_DRAFT: &str = "static 7B, draft model";
/// The paper's own orchestration.
pub const PAPERS: &str = "A-IO, the paper's rules";

impl Deployment {
    /// All of them, for models of these names.
    pub fn all(small: &TierInfo, large: &TierInfo) -> Vec<Self> {
        let fixed = |name, about, published, config| Self {
            name,
            about,
            adapts: false,
            ours: false,
            published,
            policy: "fixed",
            config,
        };
        // "n-gram 6, lookahead 2".
        let lookup = |tier: &TierInfo| {
            json!({
                "tier": tier.name, "drafter": "lookup", "draft_length": 2,
                "ngram_min": 1, "ngram_max": 6,
            })
        };
        let plain = |tier: &TierInfo| json!({"tier": tier.name, "drafter": "none"});
        vec![
            fixed(SMALL, "the small model answers all, token by token", Some(21.5), plain(small)),
            fixed(
                "static 1B, lookup",
                "the small model, with the paper's prompt lookup (n-grams up to 6, 2 tokens)",
                Some(27.0),
                lookup(small),
            ),
            fixed(LARGE, "the large model answers all, token by token", Some(16.6), plain(large)),
            fixed(
                "static 7B, lookup",
                "the large model, with the paper's prompt lookup",
                None,
                lookup(large),
            ),
            fixed(
                LARGE_DRAFT,
                "the large model verifies 4 tokens that the small one drafts, each round",
                None,
                json!({
                    "tier": large.name, "drafter": "model", "draft_length": DRAFT_LENGTH,
                    "draft_tier": small.name,
                }),
            ),
            Self {
                name: PAPERS,
                about: "a probe of the small model tells code (small model) from questions and \
                        maths (large model with lookup); long prompts go to the large model",
                adapts: false,
                ours: false,
                published: Some(19.8),
                policy: "aio",
                config: json!({"preset": "paper"}),
            },
            Self {
                name: "aio",
                about: "the default policy: the same routes, drafting what is worth most by what \
                        was measured, round by round",
                adapts: true,
                ours: true,
                published: None,
                policy: "aio",
                config: json!({}),
            },
            Self {
                name: "goodput on the 7B",
                about: "the large model answers all, drafting what is worth most, round by round",
                adapts: true,
                ours: true,
                published: None,
                policy: "goodput",
                config: json!({}),
            },
        ]
    }

    /// Drafts of fixed lengths, for the question of how long they should be: by the small
    /// model, and by lookup.
    pub fn sweep(small: &TierInfo, large: &TierInfo) -> Vec<(Drafts, u32, Value)> {
        let model = [1, 2, 3, 4, 6, 8, 12, 16].map(|length| {
            let config = json!({
                "tier": large.name, "drafter": "model", "draft_length": length,
                "draft_tier": small.name,
            });
            (Drafts::Model, length, config)
        });
        let lookup = [1, 2, 4, 7, 15, 31].map(|length| {
            let config = json!({
                "tier": large.name, "drafter": "lookup", "draft_length": length, "ngram_max": 12,
            });
            (Drafts::Lookup, length, config)
        });
        model.into_iter().chain(lookup).collect()
    }

    /// Where its policy comes from.
    pub fn source(&self) -> PolicySource {
        PolicySource::Builtin(self.policy)
    }
}

/// Whose drafts a sweep goes over.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Drafts {
    /// The small model's.
    Model,
    /// Found in the prompt and the answer.
    Lookup,
}
