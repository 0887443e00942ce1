//! Steps: what a compiled graph is made of. Threads walk them one by one and meet after
//! each.
//!
//! Values are buffers of the arena, weights indices into what is loaded. How a step is
//! done is `run`'s business.

use aio_kernels::RecordKind;
use aio_kernels::elementwise::Gate;

use crate::graph::RopeStyle;

/// Rows of f32 in the arena.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Rows {
    pub buffer: usize,
    pub columns: usize,
}

/// Activation records in the arena.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Records {
    pub buffer: usize,
    pub kind: RecordKind,
    /// Columns of a row.
    pub columns: usize,
}

/// Where a product goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Target {
    Rows(Rows),
    Logits,
}

/// What a product does with its result; vectors by index.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ending {
    Store,
    Bias(usize),
    Accumulate,
}

/// What is multiplied: a matrix by index, and the rows of activations.
#[derive(Debug, Clone, Copy)]
pub(super) struct Factors {
    pub matrix: usize,
    pub records: Records,
}

/// One product of a step.
#[derive(Debug, Clone, Copy)]
pub(super) struct Part {
    pub factors: Factors,
    /// Output components.
    pub rows: usize,
    pub target: Target,
    pub ending: Ending,
}

/// Two products, the activated gate of which is multiplied with the other, as records
/// for the products that read it.
#[derive(Debug, Clone)]
pub(super) struct Gated {
    pub function: Gate,
    pub gate: Factors,
    pub up: Factors,
    /// Where what is not made records of at once waits for that.
    pub rows: Rows,
    pub out: Vec<Records>,
}

/// A rotation by position.
#[derive(Debug, Clone, Copy)]
pub(super) struct Rotation {
    pub x: Rows,
    pub style: RopeStyle,
    /// Index into [`Plan::angles`].
    pub angles: usize,
}

/// Keys and values to store.
#[derive(Debug, Clone, Copy)]
pub(super) struct StoreKv {
    pub layer: usize,
    pub k: Rows,
    pub v: Rows,
}

/// A fused operation; threads meet after each.
#[derive(Debug, Clone)]
pub(super) enum Step {
    Embed {
        table: usize,
        scale: f32,
        out: Rows,
    },
    Norm {
        x: Rows,
        weight: usize,
        heads: usize,
        epsilon: f32,
        out: Rows,
    },
    NormQuantise {
        x: Rows,
        weight: usize,
        epsilon: f32,
        out: Vec<Records>,
    },
    Quantise {
        x: Rows,
        out: Vec<Records>,
    },
    Product {
        parts: Vec<Part>,
    },
    Gated(Gated),
    RotateStore {
        rotations: Vec<Rotation>,
        store: Option<StoreKv>,
    },
    Attention {
        layer: usize,
        q: Rows,
        heads: usize,
        kv_heads: usize,
        scale: f32,
        window: usize,
        out: Rows,
    },
    Add {
        x: Rows,
        y: Rows,
    },
    /// Keeps the rows that want logits; later steps see only these.
    Select {
        x: Rows,
        out: Rows,
    },
}

impl Step {
    /// Calls `f` for each buffer that the step reads or writes.
    pub fn buffers(&self, mut f: impl FnMut(usize)) {
        match self {
            Self::Embed { out, .. } => f(out.buffer),
            Self::Norm { x, out, .. } | Self::Select { x, out } => {
                f(x.buffer);
                f(out.buffer);
            }
            Self::NormQuantise { x, out, .. } | Self::Quantise { x, out } => {
                f(x.buffer);
                out.iter().for_each(|r| f(r.buffer));
            }
            Self::Gated(gated) => {
                f(gated.gate.records.buffer);
                f(gated.up.records.buffer);
                f(gated.rows.buffer);
                gated.out.iter().for_each(|r| f(r.buffer));
            }
            Self::Product { parts } => {
                for part in parts {
                    f(part.factors.records.buffer);
                    if let Target::Rows(rows) = part.target {
                        f(rows.buffer);
                    }
                }
            }
            Self::RotateStore { rotations, store } => {
                rotations.iter().for_each(|r| f(r.x.buffer));
                if let Some(store) = store {
                    f(store.k.buffer);
                    f(store.v.buffer);
                }
            }
            Self::Attention { q, out, .. } => {
                f(q.buffer);
                f(out.buffer);
            }
            Self::Add { x, y } => {
                f(x.buffer);
                f(y.buffer);
            }
        }
    }
}
