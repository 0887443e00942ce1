//! The configuration of the goodput policy, checked against the host when it
//! starts.

use aio_policy_sdk::chooser::Options;
use aio_policy_sdk::{HostInfo, TierChoice};
use serde::Deserialize;

/// What the operator writes: all fields may be left out.
#[derive(Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Config {
    tier: TierChoice,
    drafters: Option<Vec<DrafterChoice>>,
    max_length: Option<u32>,
    exploration: f32,
    margin: f32,
    min_confidence: f32,
}

/// A drafter that may be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum DrafterChoice {
    Lookup,
    Model,
}

impl Default for Config {
    fn default() -> Self {
        let Options { exploration, margin, min_confidence, .. } = Options::default();
        Self {
            tier: TierChoice::LARGEST,
            drafters: None,
            max_length: None,
            exploration,
            margin,
            min_confidence,
        }
    }
}

impl Config {
    /// The JSON Schema of the configuration.
    pub(crate) const SCHEMA: &'static str = include_str!("config.schema.json");

    /// The tier that answers, and what the chooser may do.
    ///
    /// # Errors
    /// One sentence that names the field and what is allowed.
    pub(crate) fn settle(self, host: &HostInfo) -> Result<(u32, Options), String> {
        let tier = self.tier.resolve(host, "tier")?;
        let allowed = |drafter| self.drafters.as_ref().is_none_or(|all| all.contains(&drafter));
        let model = allowed(DrafterChoice::Model);
        if model && self.drafters.is_some() && !(0..tier).any(|draft| host.can_draft(draft, tier)) {
            return Err(format!(
                "`drafters` has \"model\", but no tier is smaller than {} and shares its \
                 tokenizer: leave it out, or load such a tier",
                host.tier_name(tier)
            ));
        }
        let most = host.max_draft_length;
        if let Some(length) = self.max_length.filter(|length| !(1..=most).contains(length)) {
            return Err(format!("`max_length` is {length}, but 1 to {most} is allowed"));
        }
        within("exploration", self.exploration, 0.5, "a share of time")?;
        within("margin", self.margin, 1.0, "a number of tokens")?;
        within("min_confidence", self.min_confidence, 1.0, "a probability")?;
        let options = Options {
            lookup: allowed(DrafterChoice::Lookup),
            model,
            max_length: self.max_length.unwrap_or(Options::default().max_length),
            exploration: self.exploration,
            margin: self.margin,
            min_confidence: self.min_confidence,
        };
        Ok((tier, options))
    }
}

fn within(field: &str, value: f32, most: f32, what: &str) -> Result<(), String> {
    if (0.0..=most).contains(&value) {
        return Ok(());
    }
    Err(format!("`{field}` is {value}, but {what} from 0 to {most} is allowed"))
}
