//! Ways for our decode loop to draft. Each is a policy and its configuration:
//! the static ones are the `fixed` policy's, others are what a user names.

use std::path::Path;

use aio_core::Drafter;
use aio_policy::{LoadError, PolicySource};
use serde::Serialize;
use serde_json::Value;

/// The policy behind the static settings.
const STATIC: &str = "fixed";

/// One way to draft.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Setting {
    /// Its name in reports.
    pub name: String,
    /// The policy that decides: a built-in name or a file's.
    pub policy: String,
    /// Whether every round of every request drafts alike.
    #[serde(rename = "static")]
    pub is_static: bool,
    /// The policy's configuration; absent for its defaults.
    pub config: Option<Value>,
    /// Where the policy comes from.
    #[serde(skip)]
    pub source: PolicySource,
}

impl Setting {
    /// The static settings, plain decoding first; those with a draft model only
    /// where there is one.
    pub fn statics(draft: bool) -> Vec<Self> {
        let new = |name: &str, drafter: Drafter, draft_length: u32, ngram_min: u32| Self {
            name: name.to_owned(),
            policy: STATIC.to_owned(),
            is_static: true,
            config: Some(serde_json::json!({
                "drafter": drafter.to_string(),
                "draft_length": draft_length,
                "ngram_min": ngram_min,
                // Long enough to tell repetitions of a line apart.
                "ngram_max": ngram_min.max(12),
            })),
            source: PolicySource::Builtin(STATIC),
        };
        let mut settings = vec![
            new("plain", Drafter::None, 1, 1),
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

    /// A policy that decides by itself, as `NAME` or `NAME=JSON`: a built-in name
    /// or a component's path, and its configuration.
    ///
    /// # Errors
    /// When there is no such policy, or the configuration is no JSON.
    pub fn policy(argument: &str) -> Result<Self, SettingError> {
        let (policy, config) = match argument.split_once('=') {
            Some((policy, config)) => (policy, Some(config)),
            None => (argument, None),
        };
        let parse = |config| {
            let no_json = |error| SettingError::Config { argument: argument.to_owned(), error };
            serde_json::from_str(config).map_err(no_json)
        };
        let parsed = config.map(parse).transpose()?;
        let source = PolicySource::from_argument(policy)?;
        // A folder is no more part of a setting than of a policy.
        let file = Path::new(policy).file_name();
        let policy = file.map_or_else(|| policy.to_owned(), |name| name.to_string_lossy().into());
        let name = match config {
            Some(config) => format!("{policy} {config}"),
            None => policy.clone(),
        };
        Ok(Self { name, policy, is_static: false, config: parsed, source })
    }

    /// Whether every round drafts with a model.
    pub fn drafts_by_model(&self) -> bool {
        let drafter = self.config.as_ref().and_then(|config| config["drafter"].as_str());
        self.is_static && drafter == Some(&Drafter::Model.to_string())
    }
}

/// Why an argument is no setting.
#[derive(Debug, thiserror::Error)]
pub enum SettingError {
    /// There is no such policy.
    #[error(transparent)]
    Policy(#[from] LoadError),
    /// What follows the `=` is no JSON.
    #[error("the configuration in {argument} is no JSON: {error}")]
    Config {
        /// The argument.
        argument: String,
        /// What is wrong.
        error: serde_json::Error,
    },
}

#[cfg(test)]
mod tests {
    use super::*;
    use aio_core::{HostInfo, TierInfo};
    use aio_policy::{LoadedPolicy, PolicyRuntime, Setup};

    #[test]
    fn policies_take_every_setting() {
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
        let mut settings = Setting::statics(true);
        settings.extend(
            ["goodput", r#"fixed={"drafter":"none"}"#].map(|s| Setting::policy(s).unwrap()),
        );
        for Setting { source, config, .. } in settings {
            let setup = Setup::new(host.clone());
            let setup = match config {
                Some(config) => setup.config(config.to_string()),
                None => setup,
            };
            LoadedPolicy::load(&runtime, &source, setup).unwrap();
        }
    }

    #[test]
    fn plain_decoding_comes_first() {
        for draft in [false, true] {
            let settings = Setting::statics(draft);
            assert_eq!(settings[0].name, "plain");
            assert_eq!(settings.iter().any(Setting::drafts_by_model), draft);
        }
    }

    #[test]
    fn a_policy_is_named_with_its_configuration() {
        let setting = Setting::policy(r#"some/mine.wasm={"a":1}"#).unwrap();
        assert_eq!(setting.name, r#"mine.wasm {"a":1}"#);
        assert_eq!(setting.config, Some(serde_json::json!({"a": 1})));
        assert_eq!(setting.source, PolicySource::File("some/mine.wasm".into()));
        assert!(!setting.is_static && !setting.drafts_by_model());
        let error = Setting::policy("goodput={").unwrap_err().to_string();
        assert!(error.starts_with("the configuration in goodput={ is no JSON"), "{error}");
        let error = Setting::policy("godput").unwrap_err().to_string();
        assert!(error.contains("there is no policy \"godput\""), "{error}");
    }
}
