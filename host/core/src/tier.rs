//! What the host tells of its tiers: what stays fixed, and what it measures.

use serde::{Deserialize, Serialize};

/// A model that stays resident and can answer or draft.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TierInfo {
    /// Catalogue name, or the file's name.
    pub name: String,
    /// Number of weights.
    pub parameters: u64,
    /// Bytes of weights that one pass reads.
    pub weight_bytes: u64,
    /// Bytes of KV cache that one token takes.
    pub kv_bytes_per_token: u32,
    /// Longest context, in tokens.
    pub context: u32,
    /// Tiers with the same number share token ids, so one can draft for another.
    pub tokenizer: u32,
}

/// What does not change while the host runs.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct HostInfo {
    /// Version of the host.
    pub version: String,
    /// The device that runs the tiers.
    pub device: String,
    /// Tiers in order of size, small to large; the index is the tier's name elsewhere.
    pub tiers: Vec<TierInfo>,
    /// Longer drafts are cut to this many tokens.
    pub max_draft_length: u32,
    /// Longer lookup n-grams are cut to this many tokens.
    pub max_ngram: u32,
}

impl HostInfo {
    /// Index of the largest tier: where the safe plan goes.
    pub fn largest_tier(&self) -> u32 {
        u32::try_from(self.tiers.len().saturating_sub(1)).unwrap_or(u32::MAX)
    }

    /// The smallest tier that shares `tier`'s tokenizer and is smaller than it:
    /// the default draft model.
    pub fn default_draft_tier(&self, tier: u32) -> Option<u32> {
        let target = self.tiers.get(tier as usize)?;
        (0..tier).find(|&i| self.tiers[i as usize].tokenizer == target.tokenizer)
    }
}

/// A compiled width. A pass of n rows runs in the smallest gear that holds it.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Gear {
    /// Rows of tokens in one pass.
    pub rows: u32,
    /// Whether its graph is compiled already.
    pub compiled: bool,
    /// Measured time of one pass, exponentially weighted; `None` before the first.
    pub milliseconds: Option<f32>,
    /// Measured or predicted time to compile it.
    pub compile_milliseconds: Option<f32>,
}

/// What the host has measured of one tier.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct TierFacts {
    /// The tier's gears, narrow to wide.
    pub gears: Vec<Gear>,
}
