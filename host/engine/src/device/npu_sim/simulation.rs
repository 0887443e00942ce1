//! What is simulated: a profile's hardware, and whose costs the loaded models are given.
//! The costed models may be others than those that act, so that small models here speak at
//! the times of large ones there.

use super::profile::{Profile, ProfileError};
use super::published;
use crate::model::ModelDescription;

/// What to simulate, as in `npu-sim:PROFILE=MODEL+MODEL@TOKENS`.
#[derive(Debug, Clone)]
pub struct Simulation {
    /// The hardware.
    pub profile: Profile,
    /// The models that are costed instead of those that are loaded, in the order of
    /// loading; empty where each is costed as itself.
    pub costed: Vec<CostedModel>,
    /// Tokens that are taken to stand before every sequence: costed, but not there.
    pub document: usize,
}

/// A model whose costs another one is given.
#[derive(Debug, Clone)]
pub struct CostedModel {
    /// Its name.
    pub name: String,
    /// Its shape.
    pub description: ModelDescription,
}

/// Why something cannot be simulated.
#[derive(Debug, thiserror::Error)]
pub enum SimulationError {
    /// There is no such profile.
    #[error(transparent)]
    Profile(#[from] ProfileError),
    /// Nothing is known of a model that is to be costed.
    #[error("there is no model '{name}' to be costed; there are {}", published::models().join(", "))]
    Model {
        /// What was asked for.
        name: String,
    },
}

impl Simulation {
    /// That profile's hardware, with each model costed as itself.
    pub fn new(profile: Profile) -> Self {
        Self { profile, costed: Vec::new(), document: 0 }
    }

    /// From `PROFILE`, `PROFILE=MODEL+MODEL`, or either with `@TOKENS` behind it.
    ///
    /// # Errors
    /// When there is no such profile or model.
    pub fn parse(text: &str) -> Result<Self, SimulationError> {
        let number = |(rest, tokens): (_, &str)| Some((rest, tokens.parse().ok()?));
        let (rest, document) = text.rsplit_once('@').and_then(number).unwrap_or((text, 0));
        // A file may be named as it likes.
        let names = rest.rsplit_once('=').filter(|_| !rest.ends_with(".toml"));
        let (profile, costed) = match names {
            Some((profile, names)) => (profile, names.split('+').map(costed).collect()),
            None => (rest, Ok(Vec::new())),
        };
        Ok(Self { profile: Profile::open(profile)?, costed: costed?, document })
    }

    /// As it is parsed.
    pub fn name(&self) -> String {
        let mut name = self.profile.name.clone();
        let names: Vec<&str> = self.costed.iter().map(|model| model.name.as_str()).collect();
        if !names.is_empty() {
            name = format!("{name}={}", names.join("+"));
        }
        if self.document > 0 {
            name = format!("{name}@{}", self.document);
        }
        name
    }

    /// What whoever reads figures of it must know, in one line.
    pub fn notice(&self) -> String {
        let mut notice =
            format!("simulated: times are those of {} by its cost model", self.profile.name);
        let names: Vec<&str> = self.costed.iter().map(|model| model.name.as_str()).collect();
        if !names.is_empty() {
            notice += &format!(", models costed as {} in their order", names.join(", "));
        }
        if self.document > 0 {
            notice += &format!(", every prompt behind a document of {} tokens", self.document);
        }
        notice + "; tokens are this machine's"
    }
}

fn costed(name: &str) -> Result<CostedModel, SimulationError> {
    let description = published::model(name);
    let description =
        description.ok_or_else(|| SimulationError::Model { name: name.to_owned() })?;
    Ok(CostedModel { name: name.to_owned(), description })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_simulated_is_said_as_it_is_asked_for() {
        for text in [
            "ascend-910b-graph",
            "ascend-910b-hf=openpangu-7b",
            "ascend-910b-hf=openpangu-1b+openpangu-7b@30000",
            "ascend-910b-eager@512",
        ] {
            let simulation = Simulation::parse(text).unwrap();
            assert_eq!(simulation.name(), text);
            let notice = simulation.notice();
            assert!(notice.starts_with("simulated: "), "{notice}");
            assert_eq!(notice.contains("costed as"), text.contains('='));
            assert_eq!(
                notice.contains("tokens,") || notice.contains("tokens;"),
                text.contains('@')
            );
        }
        let told = |text: &str| Simulation::parse(text).unwrap_err().to_string();
        let unknown = told("ascend-910b-hf=openpangu-1b+gpt");
        assert!(unknown.contains("'gpt'") && unknown.contains("openpangu-7b"), "{unknown}");
        assert!(told("ascend-910b-hf@many").contains("no profile 'ascend-910b-hf@many'"));
    }

    #[test]
    fn a_file_may_be_named_as_it_likes() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("a=b.toml");
        let (_, text) = crate::device::npu_sim::SHIPPED[0];
        std::fs::write(&file, text).unwrap();
        let simulation = Simulation::parse(&format!("{}@7", file.display())).unwrap();
        assert_eq!((simulation.document, simulation.costed.len()), (7, 0));
        let costed = Simulation::parse(&format!("{}=openpangu-1b", file.display())).unwrap();
        assert_eq!(costed.costed[0].name, "openpangu-1b");
    }
}
