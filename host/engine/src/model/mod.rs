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

/// The function that bends a feed-forward layer's gate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Activation {
    /// `x / (1 + e^-x)`.
    Silu,
    /// `x / 2 * (1 + tanh(sqrt(2 / pi) * (x + 0.044715 x^3)))`: the usual
    /// approximation of GELU, which models that name it were trained with.
    GeluTanh,
}

/// How an architecture whose files name a sliding window uses it.
#[derive(Debug)]
pub struct Alternation {
    /// Each layer of this many is global, the last of them; the others are local:
    /// they see the window only. Where the file names no other number.
    pub global_every: usize,
    /// Base of the local layers' rotary frequencies, where the file names none.
    pub local_rope_base: f32,
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
    /// Whether each head of Q and K is normalised before it is rotated.
    pub head_norms: bool,
    /// Whether what attention and feed-forward give is normalised before it is
    /// added to the residual stream.
    pub post_norms: bool,
    /// What bends the feed-forward layer's gate.
    pub activation: Activation,
    /// Whether embeddings are multiplied by the root of the width.
    pub scaled_embedding: bool,
    /// Which layers see a sliding window; none where absent.
    pub alternation: Option<Alternation>,
}

/// The architectures this engine runs.
pub const ARCHITECTURES: &[Architecture] = &[
    Architecture {
        name: "llama",
        rope: RopeStyle::Neighbours,
        qkv_bias: false,
        head_norms: false,
        post_norms: false,
        activation: Activation::Silu,
        scaled_embedding: false,
        alternation: None,
    },
    Architecture {
        name: "qwen2",
        rope: RopeStyle::Halves,
        qkv_bias: true,
        head_norms: false,
        post_norms: false,
        activation: Activation::Silu,
        scaled_embedding: false,
        alternation: None,
    },
    Architecture {
        name: "gemma3",
        rope: RopeStyle::Halves,
        qkv_bias: false,
        head_norms: true,
        post_norms: true,
        activation: Activation::GeluTanh,
        scaled_embedding: true,
        alternation: Some(Alternation { global_every: 6, local_rope_base: 10_000.0 }),
    },
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

/// Layers that see only the most recent tokens.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct LocalLayers {
    /// Tokens that they see, the row's own included.
    pub window: usize,
    /// Each layer of this many is global, the last of them.
    pub global_every: usize,
    /// Base of their rotary frequencies.
    pub rope_base: f32,
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
    /// Factor of the embeddings.
    pub embedding_scale: f32,
    /// Base of the rotary frequencies in global layers.
    pub global_rope_base: f32,
    /// Which layers are not global, and how they differ; all are where absent.
    pub local: Option<LocalLayers>,
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
        let global_rope_base =
            if gguf.has_key(&rope_key) { gguf.float(&rope_key)? } else { 10_000.0 };
        let embedding_scale =
            if architecture.scaled_embedding { (width as f64).sqrt() as f32 } else { 1.0 };
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
            embedding_scale,
            global_rope_base,
            local: local_layers(gguf, architecture)?,
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
        let cap = format!("{name}.final_logit_softcapping");
        let capped = gguf.has_key(&cap) && gguf.float(&cap)? != 0.0;
        let problems = [
            (self.layers == 0 || self.layers > 4096, "an impossible number of layers"),
            (self.context == 0, "a context of no tokens"),
            (u32::try_from(self.context).is_err(), "an impossibly long context"),
            (
                self.kv_heads == 0 || !self.heads.is_multiple_of(self.kv_heads.max(1)),
                "query heads that are no multiple of the key and value heads",
            ),
            (self.head_width == 0 || !self.head_width.is_multiple_of(2), "heads of odd width"),
            (self.width == 0, "no width"),
            (self.global_rope_base <= 0.0, "a rotary base that is not positive"),
            (self.local.is_some_and(|l| l.global_every == 0), "a pattern of no layers"),
            (
                self.local.is_some_and(|l| l.rope_base <= 0.0),
                "a rotary base of local layers that is not positive",
            ),
            (partial_rope, "rotary embedding of a part of each head"),
            (scaled || gguf.has_tensor("rope_freqs.weight"), "scaled rotary frequencies"),
            (capped, "capped logits"),
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

    /// Base of a layer's rotary frequencies.
    pub fn rope_base(&self, layer: usize) -> f32 {
        self.local_layer(layer).map_or(self.global_rope_base, |local| local.rope_base)
    }

    /// The most recent tokens that a layer's rows see, each itself included; all
    /// where absent.
    pub fn window(&self, layer: usize) -> Option<usize> {
        self.local_layer(layer).map(|local| local.window)
    }

    /// Factor of attention scores.
    pub fn attention_scale(&self) -> f32 {
        (1.0 / (self.head_width as f64).sqrt()) as f32
    }

    fn local_layer(&self, layer: usize) -> Option<LocalLayers> {
        self.local.filter(|local| !(layer + 1).is_multiple_of(local.global_every))
    }
}

/// The local layers of a file of this architecture; none where it has no such
/// layers or the file names no window.
fn local_layers(
    gguf: &GgufFile,
    architecture: &Architecture,
) -> Result<Option<LocalLayers>, GgufError> {
    let Some(alternation) = &architecture.alternation else { return Ok(None) };
    let key = |suffix: &str| format!("{}.{suffix}", architecture.name);
    let window_key = key("attention.sliding_window");
    if !gguf.has_key(&window_key) {
        return Ok(None);
    }
    let window = gguf.integer(&window_key)?;
    let base_key = key("rope.freq_base_swa");
    let rope_base =
        if gguf.has_key(&base_key) { gguf.float(&base_key)? } else { alternation.local_rope_base };
    let pattern_key = key("attention.sliding_window_pattern");
    let global_every = if gguf.has_key(&pattern_key) {
        gguf.integer(&pattern_key)?
    } else {
        alternation.global_every
    };
    Ok((window > 0).then_some(LocalLayers { window, global_every, rope_base }))
}

#[cfg(test)]
pub(crate) mod tests;
