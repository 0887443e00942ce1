//! A graph becomes the vendor's operators at static shapes: steps over buffers, each
//! buffer placed in one arena. Plain data; nothing is called here.

use std::collections::HashMap;

use aio_ascendcl::{Activation, DataType, Rotation};

use crate::device::DeviceError;
use crate::device::cpu::arena;
use crate::graph::{self, Graph, Op, RopeStyle, ValueId, Weight};

/// Most rows that the head computes logits of at once.
pub(super) const HEAD_ROWS: usize = 64;

/// Index of a buffer in [`Plan::buffers`].
pub(super) type Id = usize;

/// A buffer within the arena.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Place {
    pub dtype: DataType,
    pub elements: usize,
    /// First byte in the arena.
    pub start: usize,
}

/// A table of angles: cosines and sines of each position.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Angles {
    pub base: f32,
    /// Components of a head.
    pub width: usize,
    pub rotation: Rotation,
}

/// One operator. `rows` are those of the piece that it is in.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Step {
    /// Rows of a weight by the pass's tokens.
    Lookup {
        table: Weight,
        out: Id,
    },
    /// Rows of tables of angles by the pass's positions.
    LookupAngles {
        angles: usize,
        cos: Id,
        sin: Id,
    },
    /// Those of x's `of` rows whose logits are wanted.
    Pick {
        x: Id,
        of: usize,
        columns: usize,
        out: Id,
    },
    Scale {
        x: Id,
        columns: usize,
        factor: f32,
    },
    Cast {
        x: Id,
        columns: usize,
        out: Id,
    },
    Norm {
        x: Id,
        weight: Weight,
        heads: usize,
        epsilon: f32,
        out: Id,
        roots: Id,
    },
    Product {
        x: Id,
        weight: Weight,
        out: Id,
    },
    Bias {
        x: Id,
        bias: Weight,
    },
    Rotate {
        x: Id,
        heads: usize,
        angles: usize,
        cos: Id,
        sin: Id,
        out: Id,
    },
    Activate {
        activation: Activation,
        x: Id,
        columns: usize,
        out: Id,
    },
    Multiply {
        x: Id,
        y: Id,
        columns: usize,
    },
    Add {
        x: Id,
        y: Id,
        columns: usize,
    },
}

/// What is captured as one.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Piece {
    pub rows: usize,
    pub steps: Vec<Step>,
}

/// What happens between two pieces: keys and values go to the caches, queries attend.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Attention {
    pub layer: usize,
    pub q: Id,
    pub k: Id,
    pub v: Id,
    pub out: Id,
    pub heads: usize,
    pub kv_heads: usize,
    pub width: usize,
    pub scale: f32,
    pub window: Option<usize>,
}

/// The last norm and the output projection, for passes that want some rows' logits.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Head {
    pub piece: Piece,
    pub logits: Id,
}

/// A lowered graph: piece, attention, piece, ..., piece, and then a head.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Plan {
    pub pieces: Vec<Piece>,
    /// One fewer than pieces.
    pub attentions: Vec<Attention>,
    /// By rows, few to many.
    pub heads: Vec<Head>,
    pub buffers: Vec<Place>,
    pub angles: Vec<Angles>,
    pub arena_bytes: usize,
}

/// The types that a graph's weights are held in: norms f32, what is read or projected into
/// logits f16, all else (matrices and their biases) `block`.
pub(super) fn weight_types(graph: &Graph, block: DataType) -> HashMap<String, DataType> {
    let mut types = HashMap::new();
    for op in &graph.ops {
        match op {
            Op::Embed { table, .. } => {
                types.insert(table.name.clone(), DataType::F16);
            }
            Op::RmsNorm { weight, .. } => {
                types.insert(weight.name.clone(), DataType::F32);
            }
            Op::Linear { weight, bias, out, .. } => {
                let dtype = if *out == graph.logits { DataType::F16 } else { block };
                for weight in [weight].into_iter().chain(bias) {
                    types.entry(weight.name.clone()).or_insert(dtype);
                }
            }
            _ => {}
        }
    }
    types
}

/// The tables of angles that a graph needs, each once, in order of use.
pub(super) fn angles(graph: &Graph) -> Vec<Angles> {
    let mut tables = Vec::new();
    for op in &graph.ops {
        if let Op::Rope { x, heads, style, base } = op {
            let table = angles_of(graph.values[*x].columns / heads, *style, *base);
            if !tables.contains(&table) {
                tables.push(table);
            }
        }
    }
    tables
}

fn angles_of(width: usize, style: RopeStyle, base: f32) -> Angles {
    let rotation = match style {
        RopeStyle::Halves => Rotation::Halves,
        RopeStyle::Neighbours => Rotation::Neighbours,
    };
    Angles { base, width, rotation }
}

/// Lowers a graph whose blocks compute in `block`.
///
/// # Errors
/// When its operations are not in an order that can be cut into pieces.
pub(super) fn lower(graph: &Graph, block: DataType) -> Result<Plan, DeviceError> {
    let mut lowering = Lowering {
        graph,
        block,
        types: weight_types(graph, block),
        angles: angles(graph),
        rows: graph.gear,
        at: vec![None; graph.values.len()],
        stored: None,
        steps: Vec::new(),
        pieces: Vec::new(),
        attentions: Vec::new(),
        buffers: Vec::new(),
        uses: Vec::new(),
        time: 0,
        looked_up: Vec::new(),
        picked_from: None,
    };
    let body = graph.ops.iter().take_while(|op| !matches!(op, Op::SelectRows { .. })).count();
    lowering.look_up_angles();
    for op in &graph.ops[..body] {
        lowering.op(op)?;
    }
    lowering.end_piece()?;
    let mut heads = Vec::new();
    let mut widths = vec![1, graph.gear.min(HEAD_ROWS)];
    widths.dedup();
    for rows in widths {
        let at = lowering.at.clone();
        lowering.rows = rows;
        for op in &graph.ops[body..] {
            if matches!(op, Op::StoreKv { .. } | Op::Attention { .. } | Op::Rope { .. }) {
                return Err(unsupported("attends after rows were selected"));
            }
            lowering.op(op)?;
        }
        let logits = lowering.typed(graph.logits, DataType::F16)?;
        lowering.use_until_now(logits);
        // A pass may run heads several times, in any order: what they pick from stays.
        lowering.picked_from.into_iter().for_each(|x| lowering.use_until_now(x));
        let steps = std::mem::take(&mut lowering.steps);
        heads.push(Head { piece: Piece { rows, steps }, logits });
        lowering.at = at;
    }
    Ok(lowering.placed(heads))
}

fn unsupported(what: &str) -> DeviceError {
    DeviceError::Unsupported(format!("the ascend device cannot run a model that {what}"))
}

struct Lowering<'a> {
    graph: &'a Graph,
    block: DataType,
    types: HashMap<String, DataType>,
    angles: Vec<Angles>,
    /// Of the piece at hand.
    rows: usize,
    /// Where each value is now.
    at: Vec<Option<Id>>,
    /// Keys and values that wait for their attention: layer, k, v.
    stored: Option<(usize, Id, Id)>,
    steps: Vec<Step>,
    pieces: Vec<Piece>,
    attentions: Vec<Attention>,
    /// Type and elements.
    buffers: Vec<(DataType, usize)>,
    /// First and last step that uses each buffer.
    uses: Vec<(usize, usize)>,
    /// Steps so far.
    time: usize,
    /// Cosines and sines by table.
    looked_up: Vec<(Id, Id)>,
    /// What heads select rows of.
    picked_from: Option<Id>,
}

impl Lowering<'_> {
    fn op(&mut self, op: &Op) -> Result<(), DeviceError> {
        match op {
            Op::Embed { table, scale, out } => {
                let columns = table.columns;
                let read = self.buffer(self.types[&table.name], columns);
                self.push(Step::Lookup { table: table.clone(), out: read }, &[read]);
                let x = self.cast(read, columns, DataType::F32);
                if *scale != 1.0 {
                    self.push(Step::Scale { x, columns, factor: *scale }, &[x]);
                }
                self.at[*out] = Some(x);
            }
            Op::RmsNorm { x, weight, heads, epsilon, out } => {
                let columns = self.columns(*x);
                let x = self.typed(*x, DataType::F32)?;
                let normed = self.buffer(DataType::F32, columns);
                let roots = self.buffer(DataType::F32, *heads);
                let (weight, heads, epsilon) = (weight.clone(), *heads, *epsilon);
                let step = Step::Norm { x, weight, heads, epsilon, out: normed, roots };
                self.push(step, &[x, normed, roots]);
                self.at[*out] = Some(normed);
            }
            Op::Linear { x, weight, bias, out } => {
                let dtype = self.types[&weight.name];
                let x = self.typed(*x, dtype)?;
                let y = self.buffer(dtype, weight.rows);
                self.push(Step::Product { x, weight: weight.clone(), out: y }, &[x, y]);
                if let Some(bias) = bias {
                    self.push(Step::Bias { x: y, bias: bias.clone() }, &[y]);
                }
                self.at[*out] = Some(y);
            }
            Op::Rope { x, heads, style, base } => {
                let columns = self.columns(*x);
                let wanted = angles_of(columns / heads, *style, *base);
                let angles = self.angles.iter().position(|table| *table == wanted);
                let angles = angles.ok_or_else(|| unsupported("rotates by unknown angles"))?;
                let (cos, sin) = self.looked_up[angles];
                let from = self.typed(*x, self.block)?;
                let out = self.buffer(self.block, columns);
                let step = Step::Rotate { x: from, heads: *heads, angles, cos, sin, out };
                self.push(step, &[from, cos, sin, out]);
                // The operator does not work in place; the value moves.
                self.at[*x] = Some(out);
            }
            Op::StoreKv { layer, k, v } => {
                let (k, v) = (self.typed(*k, self.block)?, self.typed(*v, self.block)?);
                self.stored = Some((*layer, k, v));
            }
            Op::Attention { layer, q, heads, kv_heads, scale, window, out } => {
                let columns = self.columns(*q);
                let q = self.typed(*q, self.block)?;
                let stored = self.stored.take().filter(|(stored, ..)| stored == layer);
                let (_, k, v) =
                    stored.ok_or_else(|| unsupported("attends to keys of another layer"))?;
                let attended = self.buffer(self.block, columns);
                self.end_piece()?;
                self.attentions.push(Attention {
                    layer: *layer,
                    q,
                    k,
                    v,
                    out: attended,
                    heads: *heads,
                    kv_heads: *kv_heads,
                    width: columns / heads,
                    scale: *scale,
                    window: *window,
                });
                [q, k, v, attended].into_iter().for_each(|id| self.use_until_now(id));
                self.time += 1;
                self.at[*out] = Some(attended);
            }
            Op::Add { x, y } => {
                let columns = self.columns(*x);
                let to = self.typed(*x, DataType::F32)?;
                let y = self.place_of(*y)?;
                self.push(Step::Add { x: to, y, columns }, &[to, y]);
                self.at[*x] = Some(to);
            }
            Op::Gated { activation, gate, up, out } => {
                let columns = self.columns(*gate);
                let (x, up) = (self.typed(*gate, self.block)?, self.typed(*up, self.block)?);
                let bent = self.buffer(self.block, columns);
                let activation = match activation {
                    graph::Activation::Silu => Activation::Silu,
                    graph::Activation::GeluTanh => Activation::GeluTanh,
                };
                self.push(Step::Activate { activation, x, columns, out: bent }, &[x, bent]);
                self.push(Step::Multiply { x: bent, y: up, columns }, &[bent, up]);
                self.at[*out] = Some(bent);
            }
            Op::SelectRows { x, out } => {
                let columns = self.columns(*x);
                let x = self.place_of(*x)?;
                self.picked_from = Some(x);
                let picked = self.buffer(self.buffers[x].0, columns);
                let of = self.graph.gear;
                self.push(Step::Pick { x, of, columns, out: picked }, &[x, picked]);
                self.at[*out] = Some(picked);
            }
        }
        Ok(())
    }

    /// The angles of the pass's positions, once for all layers.
    fn look_up_angles(&mut self) {
        for angles in 0..self.angles.len() {
            let width = self.angles[angles].width;
            let (cos, sin) = (self.buffer(self.block, width), self.buffer(self.block, width));
            self.push(Step::LookupAngles { angles, cos, sin }, &[cos, sin]);
            self.looked_up.push((cos, sin));
        }
    }

    fn end_piece(&mut self) -> Result<(), DeviceError> {
        let steps = std::mem::take(&mut self.steps);
        if steps.is_empty() {
            return Err(unsupported("attends twice with nothing between"));
        }
        self.pieces.push(Piece { rows: self.rows, steps });
        Ok(())
    }

    fn columns(&self, value: ValueId) -> usize {
        self.graph.values[value].columns
    }

    fn place_of(&self, value: ValueId) -> Result<Id, DeviceError> {
        self.at[value].ok_or_else(|| unsupported("reads a value before it is computed"))
    }

    /// Where a value is in that type; it is converted if it is in another.
    fn typed(&mut self, value: ValueId, dtype: DataType) -> Result<Id, DeviceError> {
        let id = self.place_of(value)?;
        if self.buffers[id].0 == dtype {
            return Ok(id);
        }
        let columns = self.columns(value);
        Ok(self.cast(id, columns, dtype))
    }

    fn cast(&mut self, x: Id, columns: usize, dtype: DataType) -> Id {
        let out = self.buffer(dtype, columns);
        self.push(Step::Cast { x, columns, out }, &[x, out]);
        out
    }

    fn buffer(&mut self, dtype: DataType, columns: usize) -> Id {
        self.buffers.push((dtype, self.rows * columns));
        self.uses.push((self.time, self.time));
        self.buffers.len() - 1
    }

    fn push(&mut self, step: Step, used: &[Id]) {
        self.steps.push(step);
        used.iter().for_each(|&id| self.use_until_now(id));
        self.time += 1;
    }

    fn use_until_now(&mut self, id: Id) {
        self.uses[id].1 = self.time;
    }

    fn placed(self, heads: Vec<Head>) -> Plan {
        let sizes: Vec<usize> =
            self.buffers.iter().map(|(dtype, elements)| elements * dtype.bytes()).collect();
        let places = arena::place(&sizes, &self.uses);
        let arena_bytes = places.iter().map(|place| place.start + place.bytes).max().unwrap_or(0);
        let buffers = self.buffers.iter().zip(&places);
        Plan {
            pieces: self.pieces,
            attentions: self.attentions,
            heads,
            buffers: buffers
                .map(|(&(dtype, elements), place)| Place { dtype, elements, start: place.start })
                .collect(),
            angles: self.angles,
            arena_bytes,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::tests::{describe, gemma3};

    #[test]
    fn a_gear_is_a_piece_before_each_attention_and_one_after_the_last() {
        for (model, block) in
            [(gemma3(), DataType::Bf16), (describe("qwen2", &[]).unwrap(), DataType::F16)]
        {
            let plan = lower(&graph::build(&model, 128), block).unwrap();
            assert_eq!((plan.pieces.len(), plan.attentions.len()), (13, 12));
            assert!(plan.pieces.iter().all(|piece| piece.rows == 128));
            let heads: Vec<usize> = plan.heads.iter().map(|head| head.piece.rows).collect();
            assert_eq!(heads, [1, 64]);
            for attention in &plan.attentions {
                let ids = [attention.q, attention.k, attention.v, attention.out];
                assert!(ids.iter().all(|&id| plan.buffers[id].dtype == block));
            }
            let tables = if block == DataType::Bf16 { 2 } else { 1 };
            assert_eq!(plan.angles.len(), tables);
        }
        let narrow = lower(&graph::build(&gemma3(), 1), DataType::Bf16).unwrap();
        assert_eq!(narrow.heads.len(), 1);
    }

    /// The residual stream is added up in f32, and memory is used again layer by layer.
    #[test]
    fn sums_are_f32_and_layers_share_memory() {
        let plan = lower(&graph::build(&gemma3(), 4), DataType::Bf16).unwrap();
        let steps: Vec<&Step> = plan.pieces.iter().flat_map(|piece| &piece.steps).collect();
        let sums = steps.iter().filter_map(|step| match step {
            Step::Add { x, y, .. } => Some((plan.buffers[*x].dtype, plan.buffers[*y].dtype)),
            _ => None,
        });
        assert_eq!(sums.collect::<Vec<_>>(), vec![(DataType::F32, DataType::F32); 24]);
        let all: usize = plan.buffers.iter().map(|b| b.elements * b.dtype.bytes()).sum();
        assert!(plan.arena_bytes * 8 < all, "{} of {all}", plan.arena_bytes);
    }
}
