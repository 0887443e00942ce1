//! Ways to serve two models: the paper's, and ours. What the paper measured stands beside
//! them ("A-IO: Adaptive Inference Orchestration", arXiv 2604.09752; HF Transformers on one
//! Ascend 910B, 2K contexts).

use aio_policy::PolicySource;
use serde::Serialize;
use serde_json::{Value, json};

use super::Kind;

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
    /// Another one for prompts of a kind, where what kind they are is taken as known.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub by_kind: Vec<(Kind, Value)>,
}

/// Tokens that a draft model guesses each round.
const DRAFT_LENGTH: u32 = 4;

/// The small model, plain: the paper's first row, and what others are compared with.
pub const SMALL: &str = "static 1B";
/// The large model, plain.
pub const LARGE: &str = "static 7B";
/// The large one with the small one's drafts.
pub const LARGE_DRAFT: &str = "static 7B, draft model";
/// The paper's own orchestration, with the acting small model's probe.
pub const PAPERS: &str = "A-IO, the paper's rules";
/// The same with a probe that is always right.
pub const PAPERS_KNOWN: &str = "A-IO, classes known";

impl Deployment {
    /// All of them, for models of these names.
    pub fn all(small: &str, large: &str) -> Vec<Self> {
        let fixed = |name, about, published, config| Self {
            name,
            about,
            adapts: false,
            ours: false,
            published,
            policy: "fixed",
            config,
            by_kind: Vec::new(),
        };
        // "n-gram 6, lookahead 2".
        let lookup = |tier: &str| {
            json!({
                "tier": tier, "drafter": "lookup", "draft_length": 2,
                "ngram_min": 1, "ngram_max": 6,
            })
        };
        let plain = |tier: &str| json!({"tier": tier, "drafter": "none"});
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
                    "tier": large, "drafter": "model", "draft_length": DRAFT_LENGTH,
                    "draft_tier": small,
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
                by_kind: Vec::new(),
            },
            Self {
                name: PAPERS_KNOWN,
                about: "the same, the probe's answer replaced by what kind the prompt is: the \
                        paper's probe is right of 92 in 100, that of the model that acts here is \
                        mostly not sure",
                adapts: false,
                ours: false,
                published: Some(19.8),
                policy: "aio",
                config: json!({"preset": "paper"}),
                // Never sure, and then what the kind's rule is.
                by_kind: [
                    (Kind::Code, plain(small)),
                    (Kind::Qa, lookup(large)),
                    (Kind::Math, lookup(large)),
                ]
                .map(|(kind, setting)| {
                    let rules =
                        json!({"preset": "paper", "entropy_threshold": 0.0, "unsure": setting});
                    (kind, rules)
                })
                .into(),
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
                by_kind: Vec::new(),
            },
            Self {
                name: "goodput on the 7B",
                about: "the large model answers all, drafting what is worth most, round by round",
                adapts: true,
                ours: true,
                published: None,
                policy: "goodput",
                config: json!({}),
                by_kind: Vec::new(),
            },
        ]
    }

    /// Drafts of fixed lengths, for the question of how long they should be: by the small
    /// model, and by lookup.
    pub fn sweep(small: &str, large: &str) -> Vec<(Drafts, u32, Value)> {
        let model = [1, 2, 3, 4, 6, 8, 12].map(|length| {
            let config = json!({
                "tier": large, "drafter": "model", "draft_length": length,
                "draft_tier": small,
            });
            (Drafts::Model, length, config)
        });
        let lookup = [1, 2, 4, 7, 15, 31].map(|length| {
            let config = json!({
                "tier": large, "drafter": "lookup", "draft_length": length, "ngram_max": 12,
            });
            (Drafts::Lookup, length, config)
        });
        model.into_iter().chain(lookup).collect()
    }

    /// Where its policy comes from.
    pub fn source(&self) -> PolicySource {
        PolicySource::Builtin(self.policy)
    }

    /// Its configuration for prompts of a kind.
    pub fn config_for(&self, kind: Kind) -> &Value {
        let of_kind = self.by_kind.iter().find(|(of, _)| *of == kind);
        of_kind.map_or(&self.config, |(_, config)| config)
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
