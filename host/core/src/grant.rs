//! What an operator may let a policy see beyond the facts: the prompt, and what
//! the client says of its request. Each is granted by name and is a separate
//! import of the contract.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

/// Most bytes of a prompt's text that a policy is lent.
pub const MAX_GRANTED_TEXT_BYTES: usize = 64 * 1024;
/// Most tokens of a prompt that a policy is lent, for each tier.
pub const MAX_GRANTED_TOKENS: usize = 32_768;
/// Most bytes of one metadata value that a policy is lent.
pub const MAX_GRANTED_VALUE_BYTES: usize = 1024;

/// Something that a policy sees only when the operator grants it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Grant {
    /// The prompt as text.
    PromptText,
    /// The prompt by each tier's tokenizer.
    PromptTokens,
    /// What the client says of its request.
    Metadata,
}

impl Grant {
    /// All there are.
    pub const ALL: [Self; 3] = [Self::PromptText, Self::PromptTokens, Self::Metadata];

    /// Its name on the command line and in the contract.
    pub fn name(self) -> &'static str {
        match self {
            Self::PromptText => "prompt-text",
            Self::PromptTokens => "prompt-tokens",
            Self::Metadata => "metadata",
        }
    }
}

impl std::fmt::Display for Grant {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}

impl std::str::FromStr for Grant {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        Self::ALL.into_iter().find(|grant| grant.name() == name).ok_or_else(|| {
            let names = Self::ALL.map(Self::name).join(", ");
            format!("there is no grant \"{name}\": name one of {names}")
        })
    }
}

/// What one request has of that which can be granted. It is filled with what the
/// policy imports, and lent to it while it plans.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Granted {
    /// The prompt: the texts of a conversation's messages with an empty line
    /// between them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub prompt_text: Option<String>,
    /// The prompt by each tier's tokenizer, in the order of the tiers.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub prompt_tokens: Vec<Vec<u32>>,
    /// What the client says of its request.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub metadata: BTreeMap<String, String>,
}

impl Granted {
    /// Whether there is nothing in it.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// The part of it that `grants` name.
    #[must_use]
    pub fn only(&self, grants: &BTreeSet<Grant>) -> Self {
        let mut part = Self::default();
        for grant in grants {
            match grant {
                Grant::PromptText => part.prompt_text.clone_from(&self.prompt_text),
                Grant::PromptTokens => part.prompt_tokens.clone_from(&self.prompt_tokens),
                Grant::Metadata => part.metadata.clone_from(&self.metadata),
            }
        }
        part
    }

    /// Cut to what a policy may be lent.
    #[must_use]
    pub fn bounded(mut self) -> Self {
        if let Some(text) = &mut self.prompt_text {
            cut(text, MAX_GRANTED_TEXT_BYTES);
        }
        for tokens in &mut self.prompt_tokens {
            tokens.truncate(MAX_GRANTED_TOKENS);
        }
        for value in self.metadata.values_mut() {
            cut(value, MAX_GRANTED_VALUE_BYTES);
        }
        self
    }
}

/// Cuts a text to at most so many bytes, at a character's end.
fn cut(text: &mut String, most: usize) {
    if text.len() > most {
        text.truncate((0..=most).rev().find(|&i| text.is_char_boundary(i)).unwrap_or(0));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn grants_are_read_by_name_and_a_misspelt_one_is_told_the_names() {
        for grant in Grant::ALL {
            assert_eq!(grant.to_string().parse(), Ok(grant));
            assert_eq!(serde_json::to_value(grant).unwrap(), grant.name());
        }
        assert_eq!(
            "prompt".parse::<Grant>(),
            Err("there is no grant \"prompt\": name one of prompt-text, prompt-tokens, metadata"
                .into())
        );
    }

    #[test]
    fn a_part_has_what_is_named_and_no_more() {
        let granted = Granted {
            prompt_text: Some("text".into()),
            prompt_tokens: vec![vec![7]],
            metadata: [("k".to_owned(), "v".to_owned())].into(),
        };
        assert_eq!(granted.only(&Grant::ALL.into()), granted);
        assert!(granted.only(&BTreeSet::new()).is_empty());
        let part = granted.only(&[Grant::PromptTokens].into());
        assert_eq!(part, Granted { prompt_tokens: vec![vec![7]], ..Granted::default() });
    }

    #[test]
    fn what_is_lent_is_bounded() {
        let granted = Granted {
            prompt_text: Some("é".repeat(MAX_GRANTED_TEXT_BYTES)),
            prompt_tokens: vec![vec![7; MAX_GRANTED_TOKENS + 1], vec![7]],
            metadata: [("k".to_owned(), "v".repeat(5000))].into(),
        };
        let bounded = granted.bounded();
        assert_eq!(bounded.prompt_text.as_ref().map(String::len), Some(MAX_GRANTED_TEXT_BYTES));
        assert_eq!(bounded.prompt_tokens.iter().map(Vec::len).sum::<usize>(), 32_769);
        assert_eq!(bounded.metadata["k"].len(), MAX_GRANTED_VALUE_BYTES);
        assert_eq!(bounded.clone().bounded(), bounded);
        assert!(!bounded.is_empty() && Granted::default().is_empty());
    }
}
