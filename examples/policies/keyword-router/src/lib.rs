//! Routes by words in the prompt: the first rule that finds one of its words
//! names the tier. It sees the prompt's text, which the operator grants.

use std::collections::BTreeMap;

use aio_policy_sdk::grants;
use aio_policy_sdk::prelude::*;
use serde::Deserialize;

/// By label: the words, in lower case, and the tier of prompts that have one.
#[derive(Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Config {
    rules: BTreeMap<String, Rule>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Rule {
    words: Vec<String>,
    tier: u32,
}

impl Default for Config {
    fn default() -> Self {
        let words = ["translate", "summarise", "summarize", "rename"].map(String::from).into();
        Self { rules: [("simple".into(), Rule { words, tier: 0 })].into() }
    }
}

impl Config {
    /// The first rule, by label, of which a whole word stands in the text.
    fn route(&self, text: &str) -> Option<(&str, &str, u32)> {
        let text = text.to_lowercase();
        let said: Vec<&str> = text.split(|c: char| !c.is_alphanumeric()).collect();
        self.rules.iter().find_map(|(label, rule)| {
            let word = rule.words.iter().find(|word| said.contains(&word.as_str()))?;
            Some((label.as_str(), word.as_str(), rule.tier))
        })
    }
}

struct KeywordRouter(Config);

impl Policy for KeywordRouter {
    type Config = Config;

    fn describe() -> Description {
        Description::new("keyword-router", "0.1.0", "Routes by words in the prompt.")
    }

    fn new(config: Config, start: Start<'_>) -> Result<Self, String> {
        let largest = start.host.largest_tier();
        match config.rules.iter().find(|(_, rule)| rule.tier > largest) {
            Some((label, rule)) => Err(format!(
                "rule `{label}` names tier {}, but the largest is {largest}",
                rule.tier
            )),
            None => Ok(Self(config)),
        }
    }

    fn plan(&mut self, _: &RequestFacts, host: &HostInfo) -> Verdict {
        let text = grants::prompt_text().unwrap_or_default();
        let plan = match self.0.route(&text) {
            Some((label, word, tier)) => {
                Plan::on(tier).label(label).reason(format!("the prompt says \"{word}\""))
            }
            None => Plan::on(host.largest_tier()).label("other").reason("no rule's word is there"),
        };
        plan.draft(Draft::lookup(8)).into()
    }
}

export_policy!(KeywordRouter);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whole_words_route_whatever_their_case() {
        let config = Config::default();
        assert_eq!(config.route("Please TRANSLATE: hello"), Some(("simple", "translate", 0)));
        assert_eq!(config.route("The translated text"), None);
        assert_eq!(config.route(""), None);
    }

    #[test]
    fn the_first_rule_by_label_wins() {
        let rule = |word: &str, tier| Rule { words: vec![word.into()], tier };
        let rules = [("b".into(), rule("proof", 1)), ("a".into(), rule("rename", 0))].into();
        let config = Config { rules };
        assert_eq!(config.route("rename the proof"), Some(("a", "rename", 0)));
        assert_eq!(config.route("a proof"), Some(("b", "proof", 1)));
    }
}
