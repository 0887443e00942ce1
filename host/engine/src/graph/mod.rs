//! A tier's forward pass as data: a flat list of operations over named values,
//! for one gear (the most rows of tokens that one pass holds).
//!
//! A device takes a [`Graph`] and makes of it whatever it runs: the `candle`
//! device walks the list, others fuse neighbouring operations, place every
//! value in an arena, or lower the list to a vendor's graph. This module must
//! not know any device, tensor library or file.

mod build;

pub use build::build;

pub use crate::model::{Activation, RopeStyle};

/// Index of a value in [`Graph::values`].
pub type ValueId = usize;

/// An intermediate result: `rows x columns` of f32, where rows is the pass's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Value {
    /// What it is, for people.
    pub name: String,
    /// Components a row.
    pub columns: usize,
}

/// A weight that an operation reads, by its name in the file.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Weight {
    /// Tensor name in the GGUF file.
    pub name: String,
    /// Output components; 1 for a vector.
    pub rows: usize,
    /// Input components.
    pub columns: usize,
}

/// One step of a forward pass. `rows` means the rows of the pass. Everything a
/// step needs is in it: a device need not ask the model's description.
#[derive(Debug, Clone, PartialEq)]
pub enum Op {
    /// `out[r] = table[token of row r] * scale`.
    Embed {
        /// Embedding table, vocabulary x width.
        table: Weight,
        /// Factor of every component; mostly 1.
        scale: f32,
        /// Result.
        out: ValueId,
    },
    /// `out[r][h] = x[r][h] / sqrt(mean(x[r][h]^2) + epsilon) * weight`, where
    /// `[h]` is the h-th of `heads` equal parts of a row.
    RmsNorm {
        /// Input.
        x: ValueId,
        /// Scale of each component of a part; the same for all parts.
        weight: Weight,
        /// Parts that are normalised by themselves; 1 for the whole row. Divides
        /// the columns.
        heads: usize,
        /// Added before the root.
        epsilon: f32,
        /// Result.
        out: ValueId,
    },
    /// `out[r] = weight * x[r] + bias`.
    Linear {
        /// Input.
        x: ValueId,
        /// Output x input components.
        weight: Weight,
        /// Added to each row.
        bias: Option<Weight>,
        /// Result.
        out: ValueId,
    },
    /// Rotates each head of `x` by its row's position, in place: the i-th pair of
    /// components by the angle `position / base^(2i / head width)`.
    Rope {
        /// Queries or keys.
        x: ValueId,
        /// Heads in `x`; the head width is columns / heads.
        heads: usize,
        /// Which components make a pair.
        style: RopeStyle,
        /// Base of the frequencies.
        base: f32,
    },
    /// Puts keys and values of each row into its sequence's KV cache.
    StoreKv {
        /// Transformer block.
        layer: usize,
        /// Keys.
        k: ValueId,
        /// Values.
        v: ValueId,
    },
    /// Each row attends to its sequence's cache, up to its own position:
    /// `out[r][h] = softmax(q[r][h] * K[g]^T * scale) * V[g]`, where `h` is a query
    /// head and `g = h / (heads / kv_heads)` its key and value head.
    Attention {
        /// Transformer block.
        layer: usize,
        /// Queries.
        q: ValueId,
        /// Heads in `q`; the head width is columns / heads.
        heads: usize,
        /// Heads in the cache; divides `heads`.
        kv_heads: usize,
        /// Factor of the scores.
        scale: f32,
        /// The most recent tokens that a row sees, itself included; all of its
        /// sequence where absent.
        window: Option<usize>,
        /// Result.
        out: ValueId,
    },
    /// `x += y`.
    Add {
        /// Changed in place.
        x: ValueId,
        /// Added.
        y: ValueId,
    },
    /// `out = activation(gate) * up`.
    Gated {
        /// Applied to each component of the gate.
        activation: Activation,
        /// Gate.
        gate: ValueId,
        /// Factor.
        up: ValueId,
        /// Result.
        out: ValueId,
    },
    /// Keeps the rows whose logits were asked for, in order. Later operations
    /// see only these.
    SelectRows {
        /// Input, of all rows.
        x: ValueId,
        /// Result, of fewer.
        out: ValueId,
    },
}

/// A forward pass for one gear.
#[derive(Debug, Clone, PartialEq)]
pub struct Graph {
    /// Most rows a pass of this graph holds.
    pub gear: usize,
    /// Intermediate results.
    pub values: Vec<Value>,
    /// Steps in order.
    pub ops: Vec<Op>,
    /// The value that holds the logits when all is done.
    pub logits: ValueId,
}

impl Graph {
    /// The weights that a pass reads, each once, in order of use.
    pub fn weights(&self) -> Vec<&Weight> {
        let mut seen = std::collections::HashSet::new();
        let mut weights = Vec::new();
        for op in &self.ops {
            for weight in op.weights() {
                if seen.insert(&weight.name) {
                    weights.push(weight);
                }
            }
        }
        weights
    }
}

impl Op {
    /// Its name, for people.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Embed { .. } => "embed",
            Self::RmsNorm { .. } => "rms norm",
            Self::Linear { .. } => "linear",
            Self::Rope { .. } => "rope",
            Self::StoreKv { .. } => "store kv",
            Self::Attention { .. } => "attention",
            Self::Add { .. } => "add",
            Self::Gated { .. } => "gated",
            Self::SelectRows { .. } => "select rows",
        }
    }

    /// The value that it computes or changes, if any.
    pub fn result(&self) -> Option<ValueId> {
        match self {
            Self::Embed { out, .. }
            | Self::RmsNorm { out, .. }
            | Self::Linear { out, .. }
            | Self::Attention { out, .. }
            | Self::Gated { out, .. }
            | Self::SelectRows { out, .. } => Some(*out),
            Self::Rope { x, .. } | Self::Add { x, .. } => Some(*x),
            Self::StoreKv { .. } => None,
        }
    }

    /// The weights this operation reads.
    pub fn weights(&self) -> impl Iterator<Item = &Weight> {
        let (first, second) = match self {
            Self::Embed { table, .. } => (Some(table), None),
            Self::RmsNorm { weight, .. } => (Some(weight), None),
            Self::Linear { weight, bias, .. } => (Some(weight), bias.as_ref()),
            _ => (None, None),
        };
        first.into_iter().chain(second)
    }
}

#[cfg(test)]
mod tests;
