//! Short ways to make the contract's records.

use crate::{Description, Draft, Drafter, HostInfo, Plan, Probe, Verdict};

impl Description {
    /// A policy that accepts any configuration its type does.
    pub fn new(name: &str, version: &str, summary: &str) -> Self {
        Self {
            name: name.into(),
            version: version.into(),
            summary: summary.into(),
            config_schema: "{}".into(),
        }
    }

    /// With the JSON Schema of its configuration.
    #[must_use]
    pub fn schema(mut self, json: &str) -> Self {
        self.config_schema = json.into();
        self
    }
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

    /// Up to `length` tokens after the longest repetition of at least 2 and at
    /// most 4 tokens.
    pub fn lookup(length: u32) -> Self {
        Self { drafter: Drafter::Lookup, length, ngram_min: 2, ngram_max: 4, ..Self::NONE }
    }

    /// Up to `length` tokens from the smallest tier that shares the tokenizer.
    pub fn model(length: u32) -> Self {
        Self { drafter: Drafter::Model, length, ..Self::NONE }
    }

    /// [`Draft::lookup`], and [`Draft::model`] where lookup finds nothing.
    pub fn lookup_then_model(length: u32) -> Self {
        Self { drafter: Drafter::LookupThenModel, ..Self::lookup(length) }
    }
}

impl Plan {
    /// Plain decoding on a tier.
    pub fn on(tier: u32) -> Self {
        Self { tier, draft: Draft::NONE, ask_every: 0, label: String::new(), reason: String::new() }
    }

    /// Drafting so.
    #[must_use]
    pub fn draft(mut self, draft: Draft) -> Self {
        self.draft = draft;
        self
    }

    /// Asking `rounds` about the request every so many rounds.
    #[must_use]
    pub fn ask_every(mut self, rounds: u32) -> Self {
        self.ask_every = rounds;
        self
    }

    /// What the policy took the request for.
    #[must_use]
    pub fn label(mut self, label: impl Into<String>) -> Self {
        self.label = label.into();
        self
    }

    /// Why, in one sentence.
    #[must_use]
    pub fn reason(mut self, reason: impl Into<String>) -> Self {
        self.reason = reason.into();
        self
    }
}

impl From<Plan> for Verdict {
    fn from(plan: Plan) -> Self {
        Self::Decided(plan)
    }
}

impl From<Probe> for Verdict {
    fn from(probe: Probe) -> Self {
        Self::Probe(probe)
    }
}

impl HostInfo {
    /// Index of the largest tier.
    pub fn largest_tier(&self) -> u32 {
        u32::try_from(self.tiers.len().saturating_sub(1)).unwrap_or(u32::MAX)
    }

    /// A tier's name; its number where there is no such tier.
    pub fn tier_name(&self, tier: u32) -> String {
        self.tiers.get(tier as usize).map_or_else(|| tier.to_string(), |info| info.name.clone())
    }

    /// Whether `draft_tier` can draft for `tier`: smaller, with the same tokenizer.
    pub fn can_draft(&self, draft_tier: u32, tier: u32) -> bool {
        let tokenizer = |i: u32| self.tiers.get(i as usize).map(|info| info.tokenizer);
        draft_tier < tier && tokenizer(draft_tier) == tokenizer(tier)
    }
}
