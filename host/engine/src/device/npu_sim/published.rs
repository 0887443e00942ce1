//! What was measured of such hardware and published, held against what profiles predict.

use serde::{Deserialize, Serialize};

use super::cost::{CostModel, Sequence};
use super::profile::{Profile, ProfileError};
use crate::model::{ARCHITECTURES, ModelDescription};

const PUBLISHED: &str = include_str!("profiles/published.toml");
/// Error up to which a prediction counts as right.
pub const TOLERANCE: f64 = 0.15;

/// A published time beside its prediction.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Checked {
    /// The model that was measured.
    pub model: String,
    /// What was measured.
    pub phase: &'static str,
    /// Rows of the pass.
    pub rows: usize,
    /// Milliseconds that were published.
    pub published: f64,
    /// Milliseconds by the profile.
    pub predicted: f64,
    /// How far the prediction is off, as a share of what was published.
    pub error: f64,
    /// The number in the profile that was fitted to this row; `None` for a prediction.
    pub fitted: Option<String>,
}

/// The file. It is part of the binary, so that its being right is a matter of tests.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    model: Vec<Model>,
    row: Vec<Row>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Model {
    name: String,
    layers: usize,
    width: usize,
    feed_forward: usize,
    heads: usize,
    kv_heads: usize,
    head_width: usize,
    vocabulary: usize,
    context: usize,
    tied_output: bool,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Row {
    profile: String,
    model: String,
    rows: usize,
    context: usize,
    milliseconds: f64,
    fitted: Option<String>,
}

/// The models that were measured.
pub fn models() -> Vec<String> {
    file().model.into_iter().map(|model| model.name).collect()
}

/// The shape of a model that was measured; `None` where it is none of them.
pub fn model(name: &str) -> Option<ModelDescription> {
    file().describe(name)
}

/// All that was published of a profile's hardware, beside what the profile says.
///
/// # Errors
/// When the profile is none.
pub fn check(profile: &str) -> Result<Vec<Checked>, ProfileError> {
    let profile = Profile::open(profile)?;
    let file = file();
    let rows = file.row.iter().filter(|row| row.profile == profile.name);
    Ok(rows.map(|row| row.check(&profile, &file)).collect())
}

fn file() -> File {
    #[allow(clippy::expect_used, reason = "it is part of the binary and read by tests")]
    toml::from_str(PUBLISHED).expect("the published figures are TOML")
}

impl File {
    fn describe(&self, name: &str) -> Option<ModelDescription> {
        self.model.iter().find(|model| model.name == name).map(Model::describe)
    }
}

impl Model {
    fn describe(&self) -> ModelDescription {
        ModelDescription {
            // What their layers are, as far as costs go.
            architecture: &ARCHITECTURES[0],
            layers: self.layers,
            width: self.width,
            feed_forward: self.feed_forward,
            heads: self.heads,
            kv_heads: self.kv_heads,
            head_width: self.head_width,
            vocabulary: self.vocabulary,
            context: self.context,
            embedding_scale: 1.0,
            global_rope_base: 10_000.0,
            local: None,
            norm_epsilon: 1e-5,
            tied_output: self.tied_output,
        }
    }
}

impl Row {
    fn check(&self, profile: &Profile, file: &File) -> Checked {
        #[allow(clippy::expect_used, reason = "the file is part of the binary and tested")]
        let model = file.describe(&self.model).expect("a published row names a published model");
        let sequence = Sequence { rows: self.rows, context: self.context };
        let cost = CostModel::new(profile.clone(), &model).pass(self.rows, &[sequence], 1);
        let predicted = cost.seconds * 1e3;
        Checked {
            model: self.model.clone(),
            phase: if self.rows == 1 { "decode" } else { "prefill" },
            rows: self.rows,
            published: self.milliseconds,
            predicted,
            error: predicted / self.milliseconds - 1.0,
            fitted: self.fitted.clone(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::device::npu_sim::SHIPPED;

    #[test]
    fn every_published_row_is_met_and_most_are_predictions() {
        let all: Vec<Checked> = SHIPPED.iter().flat_map(|(name, _)| check(name).unwrap()).collect();
        assert_eq!(all.len(), file().row.len(), "a row names no profile that is shipped");
        for row in &all {
            assert!(row.error.abs() <= TOLERANCE, "{row:?}");
        }
        let fitted: Vec<&Checked> = all.iter().filter(|row| row.fitted.is_some()).collect();
        assert!(2 * fitted.len() <= all.len());
        // A number that was fitted to a row meets that row.
        for row in fitted {
            assert!(row.error.abs() < 0.005, "{row:?}");
        }
    }

    #[test]
    fn the_models_are_known_by_their_names() {
        assert_eq!(models(), ["openpangu-7b", "openpangu-1b", "r1-distill-qwen-1.5b"]);
        assert!(models().iter().all(|name| model(name).is_some()));
        assert!(model("gpt").is_none());
    }
}
