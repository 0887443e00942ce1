//! What a model's file says of its weights that costs depend on: formats and bytes.

use std::collections::BTreeMap;

use crate::gguf::{GgufError, GgufFile};
use crate::graph::{self, Op};
use crate::model::ModelDescription;

/// Weights as they stand in a file.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct StoredWeights {
    /// Bytes that each pass reads, whatever its rows: all but an embedding table that is no
    /// output projection as well.
    pub bytes: u64,
    /// Each tensor's format, by the tensor's name.
    pub formats: BTreeMap<String, String>,
}

impl StoredWeights {
    /// The weights of the model in that file.
    ///
    /// # Errors
    /// When the file lacks one of them.
    pub fn of(gguf: &GgufFile, model: &ModelDescription) -> Result<Self, GgufError> {
        let mut this = Self::default();
        let graph = graph::build(model, 1);
        let products = graph.ops.iter().filter(|op| !matches!(op, Op::Embed { .. }));
        for weight in products.flat_map(Op::weights) {
            let tensor = gguf.tensor(&weight.name)?;
            this.bytes += tensor.bytes.len() as u64;
            this.formats.insert(weight.name.clone(), name(&format!("{:?}", tensor.dtype)));
        }
        Ok(this)
    }

    /// A tensor's format; `None` where it is not known.
    pub fn format(&self, tensor: &str) -> Option<&str> {
        self.formats.get(tensor).map(String::as_str)
    }
}

/// The usual name of a format that candle calls so: `Q4_K` for `Q4K`.
fn name(of_candle: &str) -> String {
    match of_candle.strip_suffix('K') {
        Some(bits) if !bits.ends_with('_') => format!("{bits}_K"),
        _ => of_candle.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn formats_have_their_usual_names() {
        assert_eq!(["Q4K", "Q8_0", "F16", "Q6_K"].map(name), ["Q4_K", "Q8_0", "F16", "Q6_K"]);
    }
}
