//! What a model is: the numbers and switches that tell one architecture's
//! forward pass from another's, read from a GGUF file's metadata.
//!
//! A new architecture is a row in [`ARCHITECTURES`] and, where it does something
//! new, an operation in `graph`; it is never a copy of a forward pass. This
//! module must not know how anything is computed.

use crate::gguf::{GgufError, GgufFile};

/// How rotary position embedding pairs the components of a head.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RopeStyle {
    /// Component i with component i + half: GPT-NeoX, Qwen.
    Halves,
    /// Neighbouring components: what llama's GGUF files are permuted for.
    Neighbours,
}

/// What sets one architecture apart, as far as metadata does not say.
#[derive(Debug)]
pub struct Architecture {
    /// Value of `general.architecture`, and the prefix of its keys.
    pub name: &'static str,
    /// How positions are rotated in.
    pub rope: RopeStyle,
    /// Whether the Q, K and V projections have biases.
    pub qkv_bias: bool,
}

/// The architectures this engine runs.
pub const ARCHITECTURES: &[Architecture] = &[
    Architecture { name: "llama", rope: RopeStyle::Neighbours, qkv_bias: false },
    Architecture { name: "qwen2", rope: RopeStyle::Halves, qkv_bias: true },
];

/// Why a model cannot be run.
#[derive(Debug, thiserror::Error)]
pub enum ModelError {
    /// The file is damaged or lacks something.
    #[error(transparent)]
    Gguf(#[from] GgufError),
    /// The architecture is none of ours.
    #[error(
        "{path} has the architecture '{architecture}', which is not supported; supported are {supported}"
    )]
    Architecture {
        /// The file.
        path: std::path::PathBuf,
        /// Its architecture.
        architecture: String,
        /// Ours, for people.
        supported: String,
    },
    /// The numbers do not make a model.
    #[error(
        "{path}: {problem}; the file's metadata is damaged or of a variant that is not supported"
    )]
    Impossible {
        /// The file.
        path: std::path::PathBuf,
        /// What does not fit.
        problem: String,
    },
}

/// One model's shape. Widths are in components, `context` in tokens.
#[derive(Debug, Clone)]
pub struct ModelDescription {
    /// What it is a case of.
    pub architecture: &'static Architecture,
    /// Transformer blocks.
    pub layers: usize,
    /// Width of the residual stream.
    pub width: usize,
    /// Width of the feed-forward layer.
    pub feed_forward: usize,
    /// Query heads.
    pub heads: usize,
    /// Key and value heads; divides `heads`.
    pub kv_heads: usize,
    /// Components of a head; even.
    pub head_width: usize,
    /// Tokens in the vocabulary.
    pub vocabulary: usize,
    /// Longest context.
    pub context: usize,
    /// Base of the rotary frequencies.
    pub rope_base: f32,
    /// Added to the mean square before the root.
    pub norm_epsilon: f32,
    /// Whether the output projection is the embedding table.
    pub tied_output: bool,
}

impl ModelDescription {
    /// Reads the description from a file's metadata.
    ///
    /// # Errors
    /// When the architecture is not supported or its keys are missing or absurd.
    pub fn from_gguf(gguf: &GgufFile) -> Result<Self, ModelError> {
        let name = gguf.string("general.architecture")?;
        let Some(architecture) = ARCHITECTURES.iter().find(|a| a.name == name) else {
            let supported: Vec<_> = ARCHITECTURES.iter().map(|a| a.name).collect();
            return Err(ModelError::Architecture {
                path: gguf.path().to_owned(),
                architecture: name.to_owned(),
                supported: supported.join(", "),
            });
        };
        let key = |suffix: &str| format!("{name}.{suffix}");
        let width = gguf.integer(&key("embedding_length"))?;
        let heads = gguf.integer(&key("attention.head_count"))?;
        let kv_key = key("attention.head_count_kv");
        let kv_heads = if gguf.has_key(&kv_key) { gguf.integer(&kv_key)? } else { heads };
        let head_key = key("attention.key_length");
        let head_width = if gguf.has_key(&head_key) {
            gguf.integer(&head_key)?
        } else {
            width.checked_div(heads).unwrap_or(0)
        };
        let rope_key = key("rope.freq_base");
        // 10,000 is what llama.cpp assumes where the key is absent.
        let rope_base = if gguf.has_key(&rope_key) { gguf.float(&rope_key)? } else { 10_000.0 };
        let description = Self {
            architecture,
            layers: gguf.integer(&key("block_count"))?,
            width,
            feed_forward: gguf.integer(&key("feed_forward_length"))?,
            heads,
            kv_heads,
            head_width,
            vocabulary: gguf.tensor("token_embd.weight")?.rows,
            context: gguf.integer(&key("context_length"))?,
            rope_base,
            norm_epsilon: gguf.float(&key("attention.layer_norm_rms_epsilon"))?,
            tied_output: !gguf.has_tensor("output.weight"),
        };
        description.check(gguf)?;
        Ok(description)
    }

    fn check(&self, gguf: &GgufFile) -> Result<(), ModelError> {
        let name = self.architecture.name;
        let rope_dimensions = format!("{name}.rope.dimension_count");
        let partial_rope =
            gguf.has_key(&rope_dimensions) && gguf.integer(&rope_dimensions)? != self.head_width;
        let scaling = format!("{name}.rope.scaling.type");
        let scaled = gguf.has_key(&scaling) && gguf.string(&scaling)? != "none";
        let problems = [
            (self.layers == 0 || self.layers > 4096, "an impossible number of layers"),
            (self.context == 0, "a context of no tokens"),
            (u32::try_from(self.context).is_err(), "an impossibly long context"),
            (
                self.kv_heads == 0 || !self.heads.is_multiple_of(self.kv_heads.max(1)),
                "query heads that are no multiple of the key and value heads",
            ),
            (self.head_width == 0 || !self.head_width.is_multiple_of(2), "heads of odd width"),
            (self.rope_base <= 0.0, "a rotary base that is not positive"),
            (partial_rope, "rotary embedding of a part of each head"),
            (scaled || gguf.has_tensor("rope_freqs.weight"), "scaled rotary frequencies"),
        ];
        match problems.into_iter().find(|(wrong, _)| *wrong) {
            Some((_, problem)) => Err(ModelError::Impossible {
                path: gguf.path().to_owned(),
                problem: format!("the model has {problem}"),
            }),
            None => Ok(()),
        }
    }

    /// Width of the queries of one token over all heads.
    pub fn query_width(&self) -> usize {
        self.heads * self.head_width
    }

    /// Width of the keys (or the values) of one token over all heads.
    pub fn kv_width(&self) -> usize {
        self.kv_heads * self.head_width
    }
}
