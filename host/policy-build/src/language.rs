//! The languages that policies are written in.

use std::fmt;
use std::str::FromStr;

use serde::Serialize;

use crate::Error;

/// A language with a template.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Language {
    /// Rust, with the SDK.
    #[default]
    Rust,
    /// JavaScript, with an engine in the component.
    #[serde(rename = "js")]
    JavaScript,
    /// Python, with an interpreter in the component.
    Python,
    /// C, without a library.
    C,
}

impl Language {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Rust, Self::JavaScript, Self::Python, Self::C];

    /// How it is named on the command line and in JSON.
    pub fn id(self) -> &'static str {
        match self {
            Self::Rust => "rust",
            Self::JavaScript => "js",
            Self::Python => "python",
            Self::C => "c",
        }
    }
}

/// The language's name as people write it.
impl fmt::Display for Language {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Rust => "Rust",
            Self::JavaScript => "JavaScript",
            Self::Python => "Python",
            Self::C => "C",
        })
    }
}

impl FromStr for Language {
    type Err = Error;

    fn from_str(id: &str) -> Result<Self, Error> {
        let found = Self::ALL.into_iter().find(|language| language.id() == id);
        found.ok_or_else(|| Error::UnknownLanguage(id.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_is_found_by_its_id_and_an_unknown_one_is_refused_with_those_there_are() {
        for language in Language::ALL {
            assert_eq!(language.id().parse::<Language>().unwrap(), language);
            assert_eq!(serde_json::to_value(language).unwrap(), language.id());
        }
        let error = "go".parse::<Language>().unwrap_err().to_string();
        for language in Language::ALL {
            assert!(error.contains(language.id()), "{error}");
        }
    }
}
