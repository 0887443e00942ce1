//! A static setting as configuration: one tier and one way of drafting, checked
//! against the host when the policy starts, so that a mistake is an error at
//! load and not a correction on every request.

use serde::{Deserialize, Serialize};

use crate::{Draft, Drafter, HostInfo, Plan};

/// A tier in a configuration: its index from small to large (negative ones
/// count from the largest, so -1 is the largest), or its name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged, expecting = "a tier's index (-1: the largest) or its name")]
pub enum TierChoice {
    /// By index.
    Index(i64),
    /// By name.
    Name(String),
}

impl TierChoice {
    /// The smallest tier.
    pub const SMALLEST: Self = Self::Index(0);
    /// The largest tier.
    pub const LARGEST: Self = Self::Index(-1);

    /// The tier's index on this host.
    ///
    /// # Errors
    /// One sentence that names the tiers there are; `field` is where the choice
    /// stands in the configuration.
    pub fn resolve(&self, host: &HostInfo, field: &str) -> Result<u32, String> {
        let count = host.tiers.len() as i64;
        let index = match self {
            Self::Index(i) if *i < 0 => Some(i + count),
            Self::Index(i) => Some(*i),
            Self::Name(name) => {
                host.tiers.iter().position(|tier| &tier.name == name).map(|i| i as i64)
            }
        };
        index.filter(|i| (0..count).contains(i)).and_then(|i| u32::try_from(i).ok()).ok_or_else(
            || {
                let names: Vec<_> = host.tiers.iter().map(|tier| tier.name.as_str()).collect();
                let asked = match self {
                    Self::Index(i) => i.to_string(),
                    Self::Name(name) => format!("\"{name}\""),
                };
                format!(
                    "`{field}` is {asked}, but the tiers are {} (indices 0 to {}, or -1 for the largest)",
                    names.join(", "),
                    count - 1
                )
            },
        )
    }
}

/// One tier and one way of drafting, as an operator writes them.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Setting {
    /// The tier that answers.
    pub tier: TierChoice,
    /// Where draft tokens come from.
    #[serde(with = "DrafterName")]
    pub drafter: Drafter,
    /// Most tokens to draft in one round.
    pub draft_length: u32,
    /// Shortest suffix that lookup may match, in tokens.
    pub ngram_min: u32,
    /// Longest suffix that lookup tries to match, in tokens.
    pub ngram_max: u32,
    /// The tier that drafts; absent: the smallest that shares the tokenizer.
    pub draft_tier: Option<TierChoice>,
    /// The draft model stops before a token less probable than this.
    pub min_confidence: f32,
}

/// Drafters by the names that the contract gives them.
#[derive(Serialize, Deserialize)]
#[serde(remote = "Drafter", rename_all = "kebab-case")]
enum DrafterName {
    None,
    Lookup,
    Model,
    LookupThenModel,
}

impl Default for Setting {
    /// The largest tier without drafts: what can only be too slow. The other
    /// fields count once a drafter is chosen: 8 tokens is what a pass verifies
    /// for little more than the price of one, and a repetition of two tokens is
    /// the shortest that says more than chance.
    fn default() -> Self {
        Self {
            tier: TierChoice::LARGEST,
            drafter: Drafter::None,
            draft_length: 8,
            ngram_min: 2,
            ngram_max: 4,
            draft_tier: None,
            min_confidence: 0.0,
        }
    }
}

impl Setting {
    /// The JSON Schema of a setting.
    pub const SCHEMA: &'static str = include_str!("setting.schema.json");

    /// Checks the setting against the host's tiers and bounds. `within` is put
    /// before field names in errors: empty, or for example `classes[0].`.
    ///
    /// # Errors
    /// One sentence that names the field and what is allowed.
    pub fn settle(&self, host: &HostInfo, within: &str) -> Result<Settled, String> {
        let field = |name: &str| format!("{within}{name}");
        let tier = self.tier.resolve(host, &field("tier"))?;
        let mut draft = Draft {
            drafter: self.drafter,
            length: self.draft_length,
            ngram_min: self.ngram_min,
            ngram_max: self.ngram_max,
            draft_tier: None,
            min_confidence: self.min_confidence,
        };
        if self.drafter == Drafter::None {
            return Ok(Settled { tier, draft: Draft::NONE });
        }
        in_range(&field("draft_length"), draft.length, 1, host.max_draft_length)?;
        if uses_lookup(self.drafter) {
            in_range(&field("ngram_max"), draft.ngram_max, 1, host.max_ngram)?;
            in_range(&field("ngram_min"), draft.ngram_min, 1, draft.ngram_max)?;
        }
        if uses_model(self.drafter) {
            draft.draft_tier = Some(self.settle_draft_tier(tier, host, &field)?);
            if !(0.0..=1.0).contains(&draft.min_confidence) {
                return Err(format!(
                    "`{}` is {}, but a probability from 0 to 1 is allowed",
                    field("min_confidence"),
                    draft.min_confidence
                ));
            }
        }
        Ok(Settled { tier, draft })
    }

    fn settle_draft_tier(
        &self,
        tier: u32,
        host: &HostInfo,
        field: &dyn Fn(&str) -> String,
    ) -> Result<u32, String> {
        let name = host.tier_name(tier);
        let Some(choice) = &self.draft_tier else {
            return (0..tier).find(|&i| host.can_draft(i, tier)).ok_or_else(|| {
                format!(
                    "`{}` needs a draft model, but no tier is smaller than {name} and shares its \
                     tokenizer: choose `none` or `lookup`, or load such a tier",
                    field("drafter")
                )
            });
        };
        let chosen = choice.resolve(host, &field("draft_tier"))?;
        if host.can_draft(chosen, tier) {
            return Ok(chosen);
        }
        Err(format!(
            "`{}` is {}, which cannot draft for {name}: a draft tier must be smaller and share \
             the tokenizer",
            field("draft_tier"),
            host.tier_name(chosen)
        ))
    }
}

/// A [`Setting`] that was checked against the host.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Settled {
    /// Index of the tier that answers.
    pub tier: u32,
    /// How its rounds draft.
    pub draft: Draft,
}

impl Settled {
    /// A plan with this setting.
    pub fn plan(self) -> Plan {
        Plan::on(self.tier).draft(self.draft)
    }
}

fn in_range(field: &str, value: u32, least: u32, most: u32) -> Result<(), String> {
    if (least..=most).contains(&value) {
        return Ok(());
    }
    Err(format!("`{field}` is {value}, but {least} to {most} is allowed"))
}

fn uses_lookup(drafter: Drafter) -> bool {
    matches!(drafter, Drafter::Lookup | Drafter::LookupThenModel)
}

fn uses_model(drafter: Drafter) -> bool {
    matches!(drafter, Drafter::Model | Drafter::LookupThenModel)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{parse_config, testing};

    /// A host with a tier for each of these tokenizers.
    fn host(tokenizers: &[u32]) -> HostInfo {
        let mut host = testing::host(&["t0", "t1", "t2"][..tokenizers.len()]);
        for (tier, &tokenizer) in host.tiers.iter_mut().zip(tokenizers) {
            tier.tokenizer = tokenizer;
        }
        host
    }

    fn settle(json: &str, tokenizers: &[u32]) -> Result<Settled, String> {
        parse_config::<Setting>(json).unwrap().settle(&host(tokenizers), "")
    }

    #[test]
    fn the_default_is_the_largest_tier_without_drafts() {
        let settled = settle("", &[0, 0]).unwrap();
        assert_eq!(settled, Settled { tier: 1, draft: Draft::NONE });
    }

    #[test]
    fn tiers_by_index_from_either_end_and_by_name() {
        for (choice, tier) in [("0", 0), ("2", 2), ("-1", 2), ("-3", 0), ("\"t1\"", 1)] {
            let json = format!(r#"{{"tier": {choice}}}"#);
            assert_eq!(settle(&json, &[0, 0, 0]).unwrap().tier, tier, "{choice}");
        }
        assert_eq!(
            settle(r#"{"tier": "big"}"#, &[0, 0]).unwrap_err(),
            "`tier` is \"big\", but the tiers are t0, t1 (indices 0 to 1, or -1 for the largest)"
        );
    }

    #[test]
    fn everything_out_of_bounds_is_refused_by_name() {
        for (json, sentence) in [
            (
                r#"{"drafter": "lookup", "draft_length": 49}"#,
                "`draft_length` is 49, but 1 to 48 is allowed",
            ),
            (
                r#"{"drafter": "lookup", "ngram_max": 13}"#,
                "`ngram_max` is 13, but 1 to 12 is allowed",
            ),
            (r#"{"drafter": "lookup", "ngram_min": 5}"#, "`ngram_min` is 5, but 1 to 4 is allowed"),
            (
                r#"{"drafter": "model", "min_confidence": 2}"#,
                "`min_confidence` is 2, but a probability from 0 to 1 is allowed",
            ),
            (
                r#"{"drafter": "model", "draft_tier": -1}"#,
                "`draft_tier` is t1, which cannot draft for t1: a draft tier must be smaller and share the tokenizer",
            ),
        ] {
            assert_eq!(settle(json, &[0, 0]).unwrap_err(), sentence);
        }
    }

    #[test]
    fn a_draft_model_needs_a_smaller_tier_with_the_same_tokenizer() {
        let json = r#"{"drafter": "lookup-then-model"}"#;
        assert_eq!(settle(json, &[1, 0, 0]).unwrap().draft.draft_tier, Some(1));
        assert!(settle(json, &[1, 0]).unwrap_err().starts_with("`drafter` needs a draft model"));
    }

    #[test]
    fn an_unknown_drafter_is_refused_with_those_there_are() {
        let error = parse_config::<Setting>(r#"{"drafter": "guess"}"#).unwrap_err();
        assert_eq!(
            error,
            "its configuration is not valid at `drafter`: unknown variant `guess`, expected one \
             of `none`, `lookup`, `model`, `lookup-then-model` at line 1 column 19"
        );
    }

    #[test]
    fn the_schema_names_every_field() {
        let schema: serde_json::Value = serde_json::from_str(Setting::SCHEMA).unwrap();
        let default = serde_json::to_value(Setting::default()).unwrap();
        let names = |value: &serde_json::Value| {
            value.as_object().unwrap().keys().cloned().collect::<Vec<_>>()
        };
        assert_eq!(names(&schema["properties"]), names(&default));
    }
}
