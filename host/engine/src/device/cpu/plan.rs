//! Compiling: from a graph's operations to fused steps over one arena.
//!
//! What is fused, each to save a pass over memory: a norm with the rounding of its
//! result to activation records; products that share an input (Q, K and V) in one step;
//! gate, up, the activation between them and the rounding of what they make; bias and
//! residual addition into the product they follow; rotation with the store into the KV
//! cache.
//!
//! Where values go is `arena`'s business.

use aio_kernels::RecordKind;
use aio_kernels::elementwise::Gate;
use aio_kernels::pack::{GROUP, Layout};

use super::arena::{self, Buffer};
use super::step::{Ending, Factors, Gated, Part, Records, Rotation, Rows, Step, StoreKv, Target};
use super::weights::Weights;
use crate::device::DeviceError;
use crate::graph::{Activation, Graph, Op, ValueId, Weight};

/// Rotary angles that a pass computes once: base and head width, and where cosines
/// and sines go.
#[derive(Debug, Clone)]
pub(super) struct Angles {
    pub base: f32,
    /// `1 / base^(2i / head width)` for each pair of components.
    pub frequencies: Vec<f64>,
    pub cos: Rows,
    pub sin: Rows,
}

/// A compiled graph.
#[derive(Debug)]
pub(super) struct Plan {
    pub gear: usize,
    pub steps: Vec<Step>,
    pub angles: Vec<Angles>,
    pub buffers: Vec<Buffer>,
    /// Bytes of arena that a pass needs.
    pub arena: usize,
    pub vocabulary: usize,
}

impl Plan {
    /// Compiles a graph.
    ///
    /// # Errors
    /// When a weight is not loaded or the graph does what this device cannot.
    pub fn compile(graph: &Graph, weights: &Weights) -> Result<Self, DeviceError> {
        let mut compiler = Compiler {
            graph,
            weights,
            steps: Vec::new(),
            angles: Vec::new(),
            sizes: Vec::new(),
            rows: vec![None; graph.values.len()],
            records: vec![Vec::new(); graph.values.len()],
        };
        let mut at = 0;
        while at < graph.ops.len() {
            at += compiler.step(at)?;
        }
        let uses = arena::lifetimes(&compiler.steps, &compiler.angles, compiler.sizes.len());
        let buffers = arena::place(&compiler.sizes, &uses);
        let arena = buffers.iter().map(|b| b.start + b.bytes).max().unwrap_or(0);
        Ok(Self {
            gear: graph.gear,
            steps: compiler.steps,
            angles: compiler.angles,
            buffers,
            arena,
            vocabulary: graph.values[graph.logits].columns,
        })
    }
}

struct Compiler<'a> {
    graph: &'a Graph,
    weights: &'a Weights,
    steps: Vec<Step>,
    angles: Vec<Angles>,
    /// Bytes of each buffer.
    sizes: Vec<usize>,
    /// Where each value is, once it has been computed.
    rows: Vec<Option<Rows>>,
    /// Records made of each value so far.
    records: Vec<Vec<Records>>,
}

impl Compiler<'_> {
    /// Compiles the operation at `at` and those fused with it; returns how many.
    fn step(&mut self, at: usize) -> Result<usize, DeviceError> {
        match &self.graph.ops[at] {
            Op::Embed { table, scale, out } => {
                let (table, out) = (self.weights.table_index(table)?, self.define(*out));
                self.steps.push(Step::Embed { table, scale: *scale, out });
                Ok(1)
            }
            Op::RmsNorm { x, weight, heads, epsilon, out } => {
                self.norm(at, *x, weight, *heads, *epsilon, *out)?;
                Ok(1)
            }
            Op::Linear { x, .. } => self.products(at, *x),
            Op::Rope { .. } | Op::StoreKv { .. } => self.rotations(at),
            Op::Attention { layer, q, heads, kv_heads, scale, window, out } => {
                let q = self.of(*q)?;
                let out = self.define(*out);
                self.steps.push(Step::Attention {
                    layer: *layer,
                    q,
                    heads: *heads,
                    kv_heads: *kv_heads,
                    scale: *scale,
                    window: window.unwrap_or(usize::MAX),
                    out,
                });
                Ok(1)
            }
            Op::Add { x: sum, y } => {
                let (x, y) = (self.of(*sum)?, self.of(*y)?);
                self.records[*sum].clear();
                self.steps.push(Step::Add { x, y });
                Ok(1)
            }
            Op::Gated { .. } => Err(unsupported("a gate that follows no product")),
            Op::SelectRows { x, out } => {
                let x = self.of(*x)?;
                let out = self.define(*out);
                self.steps.push(Step::Select { x, out });
                Ok(1)
            }
        }
    }

    /// A norm; straight to records where only products read it.
    fn norm(
        &mut self,
        at: usize,
        x: ValueId,
        weight: &Weight,
        heads: usize,
        epsilon: f32,
        out: ValueId,
    ) -> Result<(), DeviceError> {
        let (x, weight) = (self.of(x)?, self.weights.index(weight)?);
        let kinds = self.kinds_read(at, out)?;
        if heads > 1 || kinds.is_empty() {
            let out = self.define(out);
            self.steps.push(Step::Norm { x, weight, heads, epsilon, out });
            return Ok(());
        }
        let records = self.make_records(out, &kinds);
        self.steps.push(Step::NormQuantise { x, weight, epsilon, out: records });
        Ok(())
    }

    /// The kinds of records that the operations after the one at `at` read of a value;
    /// none where one of them reads the value itself.
    fn kinds_read(&self, at: usize, value: ValueId) -> Result<Vec<RecordKind>, DeviceError> {
        let mut kinds = Vec::new();
        for op in self.graph.ops[at + 1..].iter().filter(|op| reads(op, value)) {
            let Op::Linear { weight, .. } = op else { return Ok(Vec::new()) };
            kinds.push(self.kind(weight)?);
        }
        Ok(kinds)
    }

    /// All products in a row that share their input, and what follows them.
    fn products(&mut self, at: usize, x: ValueId) -> Result<usize, DeviceError> {
        let ops = &self.graph.ops[at..];
        let same = |op: &&Op| matches!(op, Op::Linear { x: input, .. } if *input == x);
        let count = ops.iter().take_while(same).count();
        self.quantise(x, &ops[..count])?;
        if let Some(Op::Gated { .. }) = ops.get(count) {
            self.gated(at, x)?;
            return Ok(count + 1);
        }
        // A single product that is only added to something adds it itself.
        let mut used = count;
        let mut added = None;
        if count == 1
            && let Op::Linear { out, bias: None, .. } = &ops[0]
            && let Some(Op::Add { x: sum, y }) = ops.get(1)
            && y == out
            && self.reads_of(*out) == 1
        {
            (added, used) = (Some(*sum), 2);
        }
        let mut parts = Vec::new();
        for op in &ops[..count] {
            let Op::Linear { weight, bias, out, .. } = op else { continue };
            let factors = self.factors(x, weight)?;
            let ending = match (added, bias) {
                (Some(_), _) => Ending::Accumulate,
                (None, Some(bias)) => Ending::Bias(self.weights.index(bias)?),
                (None, None) => Ending::Store,
            };
            let target = match added {
                Some(sum) => {
                    self.records[sum].clear();
                    Target::Rows(self.of(sum)?)
                }
                None if *out == self.graph.logits => Target::Logits,
                None => Target::Rows(self.define(*out)),
            };
            parts.push(Part { factors, rows: weight.rows, target, ending });
        }
        self.steps.push(Step::Product { parts });
        Ok(used)
    }

    /// Two products, of `x` and from the operation at `at` on, and their gate.
    fn gated(&mut self, at: usize, x: ValueId) -> Result<(), DeviceError> {
        let [
            Op::Linear { weight: first, bias: None, out: a, .. },
            Op::Linear { weight: second, bias: None, out: b, .. },
            Op::Gated { activation, gate, up, out },
            ..,
        ] = &self.graph.ops[at..]
        else {
            return Err(unsupported("a gate that does not follow two products without bias"));
        };
        let (gate_weight, up_weight) = if gate == a { (first, second) } else { (second, first) };
        let theirs = [gate, up] == [a, b] || [gate, up] == [b, a];
        if !theirs || self.reads_of(*gate) != 1 || self.reads_of(*up) != 1 {
            return Err(unsupported("a gate of other values than the two products before it"));
        }
        let kinds = self.kinds_read(at + 2, *out)?;
        if kinds.is_empty() {
            return Err(unsupported("a gate whose result is read by more than products"));
        }
        let step = Gated {
            function: match activation {
                Activation::Silu => Gate::Silu,
                Activation::GeluTanh => Gate::GeluTanh,
            },
            gate: self.factors(x, gate_weight)?,
            up: self.factors(x, up_weight)?,
            rows: self.buffer_of(self.graph.values[*out].columns),
            out: self.make_records(*out, &kinds),
        };
        self.steps.push(Step::Gated(step));
        Ok(())
    }

    fn factors(&self, x: ValueId, weight: &Weight) -> Result<Factors, DeviceError> {
        let (matrix, kind) = (self.weights.index(weight)?, self.kind(weight)?);
        let records = self.records[x].iter().find(|records| records.kind == kind);
        let unknown = || unsupported("a product whose input was never computed");
        Ok(Factors { matrix, records: *records.ok_or_else(unknown)? })
    }

    /// Makes the records of `x` that these products read, if they are not there.
    fn quantise(&mut self, x: ValueId, products: &[Op]) -> Result<(), DeviceError> {
        let mut kinds = Vec::new();
        for op in products {
            if let Op::Linear { weight, .. } = op {
                let kind = self.kind(weight)?;
                if !self.records[x].iter().any(|r| r.kind == kind) {
                    kinds.push(kind);
                }
            }
        }
        if !kinds.is_empty() {
            let from = self.of(x)?;
            let out = self.make_records(x, &kinds);
            self.steps.push(Step::Quantise { x: from, out });
        }
        Ok(())
    }

    /// All rotations in a row, and the store that follows them.
    fn rotations(&mut self, at: usize) -> Result<usize, DeviceError> {
        let mut rotations = Vec::new();
        let mut used = 0;
        for op in &self.graph.ops[at..] {
            let Op::Rope { x, heads, style, base } = op else { break };
            let x = self.of(*x)?;
            let angles = self.angles(*base, x.columns / heads);
            rotations.push(Rotation { x, style: *style, angles });
            used += 1;
        }
        let mut store = None;
        if let Some(Op::StoreKv { layer, k, v }) = self.graph.ops.get(at + used) {
            store = Some(StoreKv { layer: *layer, k: self.of(*k)?, v: self.of(*v)? });
            used += 1;
        }
        self.steps.push(Step::RotateStore { rotations, store });
        Ok(used)
    }

    fn angles(&mut self, base: f32, width: usize) -> usize {
        let pairs = width / 2;
        let known = |a: &Angles| a.base == base && a.frequencies.len() == pairs;
        if let Some(index) = self.angles.iter().position(known) {
            return index;
        }
        let frequency = |i: usize| f64::from(base).powf(-2.0 * i as f64 / width as f64);
        let (cos, sin) = (self.buffer_of(pairs), self.buffer_of(pairs));
        let frequencies = (0..pairs).map(frequency).collect();
        self.angles.push(Angles { base, frequencies, cos, sin });
        self.angles.len() - 1
    }

    fn kind(&self, weight: &Weight) -> Result<RecordKind, DeviceError> {
        let index = self.weights.index(weight)?;
        Ok(Layout::of(self.weights.matrix(index).format).records)
    }

    fn make_records(&mut self, x: ValueId, kinds: &[RecordKind]) -> Vec<Records> {
        let columns = self.graph.values[x].columns;
        let mut made: Vec<Records> = Vec::new();
        for &kind in kinds {
            if !made.iter().any(|r| r.kind == kind) {
                let bytes = self.graph.gear * kind.records(columns) * kind.bytes();
                made.push(Records { buffer: self.buffer(bytes), kind, columns });
            }
        }
        self.records[x].extend(&made);
        made
    }

    fn define(&mut self, value: ValueId) -> Rows {
        let rows = self.buffer_of(self.graph.values[value].columns);
        self.rows[value] = Some(rows);
        rows
    }

    /// Rows of `columns`, padded to whole groups.
    fn buffer_of(&mut self, columns: usize) -> Rows {
        let bytes = self.graph.gear * columns.next_multiple_of(GROUP) * size_of::<f32>();
        Rows { buffer: self.buffer(bytes), columns }
    }

    fn buffer(&mut self, bytes: usize) -> usize {
        self.sizes.push(bytes);
        self.sizes.len() - 1
    }

    fn of(&self, value: ValueId) -> Result<Rows, DeviceError> {
        self.rows[value]
            .ok_or_else(|| unsupported("an operation that reads what was never computed"))
    }

    fn reads_of(&self, value: ValueId) -> usize {
        self.graph.ops.iter().filter(|op| reads(op, value)).count()
    }
}

fn unsupported(what: &str) -> DeviceError {
    DeviceError::Unsupported(format!(
        "the model's graph has {what}, which the cpu device cannot compile; use --device candle"
    ))
}

/// Whether an operation reads a value.
fn reads(op: &Op, value: ValueId) -> bool {
    match op {
        Op::Embed { .. } => false,
        Op::RmsNorm { x, .. } | Op::Linear { x, .. } | Op::Rope { x, .. } => *x == value,
        Op::SelectRows { x, .. } => *x == value,
        Op::StoreKv { k, v, .. } => *k == value || *v == value,
        Op::Attention { q, .. } => *q == value,
        Op::Add { x, y } => *x == value || *y == value,
        Op::Gated { gate, up, .. } => *gate == value || *up == value,
    }
}
