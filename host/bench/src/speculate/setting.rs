//! Ways for our decode loop to draft: configurations of the `fixed` policy.

use aio_core::Drafter;
use serde::Serialize;

/// One way to draft.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Setting {
    /// Its name in reports.
    pub name: String,
    /// Where draft tokens come from.
    pub drafter: Drafter,
    /// Most tokens a round.
    pub draft_length: u32,
    /// Shortest suffix that lookup matches.
    pub ngram_min: u32,
    /// Longest suffix that lookup tries.
    pub ngram_max: u32,
}

impl Setting {
    /// All settings that are measured, plain decoding first; those with a draft
    /// model only where there is one.
    pub fn all(draft: bool) -> Vec<Self> {
        let new = |name: &str, drafter, draft_length, ngram_min| Self {
            name: name.to_owned(),
            drafter,
            draft_length,
            ngram_min,
            // Long enough to tell repetitions of a line apart.
            ngram_max: ngram_min.max(12),
        };
        let mut settings = vec![
            new("plain", Drafter::None, 0, 1),
            // In the sizes that the peer's ngram-simple is measured with.
            new("lookup 3/8", Drafter::Lookup, 8, 3),
            // Drafts from a single token's match: a wrong draft costs little where
            // verifying does, and an edit is picked up again at once.
            new("lookup 1/8", Drafter::Lookup, 8, 1),
            new("lookup 12/48", Drafter::Lookup, 48, 12),
        ];
        if draft {
            settings.push(new("lookup, then model 8", Drafter::LookupThenModel, 8, 3));
            let model = |length| new(&format!("model {length}"), Drafter::Model, length, 1);
            settings.extend([2, 4, 8].map(model));
        }
        settings
    }

    /// The configuration for the `fixed` policy.
    pub fn config(&self) -> String {
        let drafter = self.drafter.to_string();
        let Self { draft_length, ngram_min, ngram_max, .. } = self;
        serde_json::json!({
            "drafter": drafter,
            "draft_length": (*draft_length).max(1),
            "ngram_min": ngram_min,
            "ngram_max": ngram_max,
        })
        .to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use aio_core::{HostInfo, TierInfo};
    use aio_policy::{PolicyHost, PolicyRuntime, PolicySource, Setup};

    #[test]
    fn the_fixed_policy_takes_every_setting() {
        let tier = |name: &str| TierInfo {
            name: name.into(),
            parameters: 1,
            weight_bytes: 1,
            kv_bytes_per_token: 1,
            context: 2048,
            tokenizer: 0,
        };
        let host = HostInfo {
            version: "0".into(),
            device: "none".into(),
            tiers: vec![tier("small"), tier("large")],
            max_draft_length: 64,
            max_ngram: 64,
        };
        let runtime = PolicyRuntime::new().unwrap();
        let fixed = PolicySource::from_argument("fixed").unwrap();
        for setting in Setting::all(true) {
            let setup = Setup::new(host.clone()).config(setting.config());
            PolicyHost::load(&runtime, &fixed, setup).unwrap();
        }
    }

    #[test]
    fn plain_decoding_comes_first() {
        for draft in [false, true] {
            let settings = Setting::all(draft);
            assert_eq!(settings[0].drafter, Drafter::None);
            assert_eq!(settings.iter().any(|s| s.drafter.uses_model()), draft);
        }
    }
}
