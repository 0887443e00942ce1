//! What a compiled graph does, step by step: for `aio graph`, and for whoever wants
//! to know what a pass reads.

use serde::Serialize;

use crate::graph::{Graph, Op};

/// A compiled graph, printable.
#[derive(Debug, Clone, Serialize)]
pub struct Listing {
    /// The device that compiled it.
    pub device: String,
    /// Most rows of a pass.
    pub gear: usize,
    /// Bytes of memory for intermediate results, all steps together.
    pub arena_bytes: u64,
    /// Bytes of weights that a pass reads.
    pub weight_bytes: u64,
    /// What runs, in order.
    pub steps: Vec<ListedStep>,
}

/// One step.
#[derive(Debug, Clone, Serialize)]
pub struct ListedStep {
    /// What it does: an operation, or several fused.
    pub operation: String,
    /// Shape of its result, in rows of the gear and components.
    pub shape: String,
    /// Names of the weights that it reads.
    pub weights: Vec<String>,
    /// Bytes of them that it reads.
    pub weight_bytes: u64,
    /// Where in the arena it reads and writes.
    pub arena: Vec<ArenaPlace>,
}

/// A piece of the arena.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct ArenaPlace {
    /// First byte.
    pub start: u64,
    /// Bytes.
    pub bytes: u64,
}

impl Listing {
    /// The listing of a graph that a device runs operation by operation, without an
    /// arena. `weight_bytes` tells what reading a weight takes.
    pub fn of_graph(device: &str, graph: &Graph, weight_bytes: impl Fn(&str) -> u64) -> Self {
        let step = |op: &Op| {
            let weights: Vec<String> = op.weights().map(|w| w.name.clone()).collect();
            // Of a table, a row a token is read.
            let of_table = matches!(op, Op::Embed { .. });
            let read = |name: &String| if of_table { 0 } else { weight_bytes(name) };
            let columns = op.result().map_or(0, |value| graph.values[value].columns);
            ListedStep {
                operation: op.name().to_owned(),
                shape: shape(graph.gear, columns, "f32"),
                weight_bytes: weights.iter().map(read).sum(),
                weights,
                arena: Vec::new(),
            }
        };
        let steps: Vec<ListedStep> = graph.ops.iter().map(step).collect();
        Self {
            device: device.to_owned(),
            gear: graph.gear,
            arena_bytes: 0,
            weight_bytes: steps.iter().map(|step| step.weight_bytes).sum(),
            steps,
        }
    }
}

/// A shape in words; empty for steps without a result of their own.
pub(super) fn shape(rows: usize, columns: usize, of: &str) -> String {
    if columns == 0 { String::new() } else { format!("{rows} x {columns} {of}") }
}
