//! {{name}}: short prompts go to the smallest tier, all others to the largest; both
//! draft by looking up repeated text.

use aio_policy_sdk::prelude::*;
use serde::Deserialize;

/// What an operator may set with `--policy-config`.
#[derive(Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Config {
    short_tokens: u32,
    draft_length: u32,
}

impl Default for Config {
    fn default() -> Self {
        Self { short_tokens: 200, draft_length: 8 }
    }
}

/// The same for people and programs, as JSON Schema.
const SCHEMA: &str = r#"{
  "type": "object",
  "properties": {
    "short_tokens": {
      "description": "Prompts with fewer tokens are short.", "type": "integer", "minimum": 0
    },
    "draft_length": {
      "description": "Most tokens that a round drafts; 0: none.", "type": "integer", "minimum": 0
    }
  },
  "additionalProperties": false
}"#;

struct {{Name}} {
    config: Config,
}

impl Policy for {{Name}} {
    type Config = Config;

    fn describe() -> Description {
        let summary = "Short prompts go to the smallest tier.";
        Description::new("{{name}}", env!("CARGO_PKG_VERSION"), summary).schema(SCHEMA)
    }

    fn new(config: Config, _: Start<'_>) -> Result<Self, String> {
        Ok(Self { config })
    }

    fn plan(&mut self, facts: &RequestFacts, host: &HostInfo) -> Verdict {
        let Config { short_tokens, draft_length } = self.config;
        // One count a tier, by its own tokenizer.
        let tokens = facts.prompt_tokens[0];
        let (tier, label) =
            if tokens < short_tokens { (0, "short") } else { (host.largest_tier(), "long") };
        Plan::on(tier)
            .draft(draft(draft_length, host))
            .label(label)
            .reason(format!("the prompt has {tokens} tokens, short are those below {short_tokens}"))
            .into()
    }
}

/// Lookup, as far as the host goes along: it would cut what is longer.
fn draft(length: u32, host: &HostInfo) -> Draft {
    let length = length.min(host.max_draft_length);
    if length == 0 {
        return Draft::NONE;
    }
    let lookup = Draft::lookup(length);
    let most = host.max_ngram.max(1);
    Draft {
        ngram_min: lookup.ngram_min.min(most),
        ngram_max: lookup.ngram_max.min(most),
        ..lookup
    }
}

export_policy!({{Name}});

#[cfg(test)]
mod tests {
    use super::*;
    use aio_policy_sdk::testing::assert_schema_matches;

    #[test]
    fn the_schema_is_the_configurations() {
        assert_schema_matches::<Config>(SCHEMA);
    }
}
