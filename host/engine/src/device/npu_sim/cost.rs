//! What a pass of a model costs on a profile's hardware: a roofline over the model's real
//! graph, beside what the host does for it.
//!
//! The device takes the longer of reading (weights once, each sequence's keys and values
//! once) and computing; the host runs ahead of it, and takes its work for the pass and one
//! launch for each kernel, or one for a compiled graph. The pass takes the longer of the
//! two, and then the synchronisation. Activations are not counted: at the widths of decoding
//! they are thousandths of the weights, and a prompt is bound by arithmetic.

use serde::Serialize;

use super::profile::{Mode, Profile};
use crate::graph::{self, Op};
use crate::model::ModelDescription;

/// What a pass does with one sequence.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sequence {
    /// Its rows in the pass.
    pub rows: usize,
    /// Tokens in its cache after the pass.
    pub context: usize,
}

/// What a pass costs, and of what.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
pub struct Cost {
    /// All of it.
    pub seconds: f64,
    /// The device's reading.
    pub memory_seconds: f64,
    /// The device's computing, beside which it reads.
    pub arithmetic_seconds: f64,
    /// The host's work, beside which the device runs.
    pub host_seconds: f64,
    /// The synchronisation after both.
    pub synchronisation_seconds: f64,
    /// Part of `seconds` that rows cost which only fill the gear.
    pub padding_seconds: f64,
    /// Rows computed: those of the pass, or the gear's.
    pub rows: usize,
    /// Bytes of weights read.
    pub weight_bytes: f64,
    /// Bytes of keys and values read and written.
    pub kv_bytes: f64,
    /// Arithmetic operations.
    pub operations: f64,
    /// Launches by the host.
    pub launches: u32,
}

/// What compiling graphs costs.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Compiling {
    /// Seconds for a model's first graph.
    pub first: f64,
    /// Seconds for each further one.
    pub further: f64,
    /// Bytes that each keeps.
    pub bytes: u64,
}

/// A model on a profile's hardware.
#[derive(Debug, Clone)]
pub struct CostModel {
    profile: Profile,
    /// Operations of the graph.
    operations: usize,
    launches: u32,
    /// Components of weights that each pass reads, whatever its rows.
    weights: f64,
    /// Products of a row in front of the selection of rows, and behind it.
    products: [f64; 2],
    /// Components that a row reads of the embedding table.
    embedding: f64,
    layers: Vec<Layer>,
}

/// What attention costs in one layer.
#[derive(Debug, Clone, Copy)]
struct Layer {
    /// Width of the queries of a row, over all heads.
    query_width: usize,
    /// Components of keys and values of a token.
    kv_width: usize,
    window: Option<usize>,
}

impl CostModel {
    /// The model of that shape on the profile's hardware.
    pub fn new(profile: Profile, model: &ModelDescription) -> Self {
        let graph = graph::build(model, 1);
        let mut this = Self {
            operations: graph.ops.len(),
            launches: 1,
            weights: 0.0,
            products: [0.0; 2],
            embedding: 0.0,
            layers: Vec::new(),
            profile,
        };
        if let (Mode::Eager, Some(launches)) = (this.profile.mode, &this.profile.launches) {
            this.launches = graph.ops.iter().map(|op| launches.of(op)).sum();
        }
        let mut selected = false;
        for op in &graph.ops {
            match op {
                Op::Embed { table, .. } => this.embedding = table.columns as f64,
                Op::RmsNorm { weight, .. } => this.weights += components(weight),
                Op::Linear { weight, bias, .. } => {
                    this.weights += components(weight) + bias.as_ref().map_or(0.0, components);
                    this.products[usize::from(selected)] += components(weight);
                }
                Op::Attention { q, heads, kv_heads, window, .. } => {
                    let query_width = graph.values[*q].columns;
                    let kv_width = 2 * kv_heads * (query_width / heads);
                    this.layers.push(Layer { query_width, kv_width, window: *window });
                }
                Op::SelectRows { .. } => selected = true,
                Op::Rope { .. } | Op::StoreKv { .. } | Op::Add { .. } | Op::Gated { .. } => {}
            }
        }
        this
    }

    /// The hardware.
    pub fn profile(&self) -> &Profile {
        &self.profile
    }

    /// Launches of a pass.
    pub fn launches(&self) -> u32 {
        self.launches
    }

    /// Bytes that the weights take, the embedding table apart where it is no output
    /// projection as well.
    pub fn weight_bytes(&self) -> f64 {
        self.weights * self.profile.weight_bytes
    }

    /// Bytes of keys and values that a token takes.
    pub fn kv_bytes_per_token(&self) -> f64 {
        let components: usize = self.layers.iter().map(|layer| layer.kv_width).sum();
        components as f64 * self.profile.kv_bytes
    }

    /// A pass over these sequences in a gear of so many rows, with `logits` rows' logits.
    /// Where kernels are launched one by one, only the rows that there are cost anything.
    pub fn pass(&self, gear: usize, sequences: &[Sequence], logits: usize) -> Cost {
        let rows = sequences.iter().map(|sequence| sequence.rows).sum();
        match self.profile.mode {
            Mode::Eager => self.of_rows(rows, logits, sequences),
            Mode::Graph => {
                let padded = gear.max(rows);
                // The output projection is part of the graph, in as many rows.
                let cost = self.of_rows(padded, if logits == 0 { 0 } else { padded }, sequences);
                let bare = self.of_rows(rows, logits, sequences);
                Cost { padding_seconds: cost.seconds - bare.seconds, ..cost }
            }
        }
    }

    fn of_rows(&self, rows: usize, logits: usize, sequences: &[Sequence]) -> Cost {
        let Profile { memory, arithmetic, host, .. } = &self.profile;
        let weight_bytes =
            (self.weights + self.embedding * rows as f64) * self.profile.weight_bytes;
        let (mut kv, mut attended) = (0.0, 0.0);
        for layer in &self.layers {
            for sequence in sequences {
                kv += layer.kv_width as f64 * (layer.read(sequence) + sequence.rows as f64);
                attended += layer.query_width as f64 * layer.attended(sequence);
            }
        }
        let kv_bytes = kv * self.profile.kv_bytes;
        let products = self.products[0] * rows as f64 + self.products[1] * logits as f64;
        // Scores and their sums: two products for each component of a query and each token.
        let operations = 2.0 * (products + 2.0 * attended);
        let memory_seconds = (weight_bytes + kv_bytes) / (memory.bandwidth * memory.efficiency);
        let arithmetic_seconds = operations / (arithmetic.operations * arithmetic.efficiency);
        let host_seconds = host.pass + f64::from(self.launches) * host.launch;
        let device_seconds = memory_seconds.max(arithmetic_seconds);
        Cost {
            seconds: host_seconds.max(device_seconds) + host.synchronisation,
            memory_seconds,
            arithmetic_seconds,
            host_seconds,
            synchronisation_seconds: host.synchronisation,
            padding_seconds: 0.0,
            rows,
            weight_bytes,
            kv_bytes,
            operations,
            launches: self.launches,
        }
    }

    /// What compiling costs; `None` where nothing is compiled.
    pub fn compiling(&self) -> Option<Compiling> {
        let graphs = match self.profile.mode {
            Mode::Eager => None,
            Mode::Graph => self.profile.graphs.as_ref(),
        }?;
        let traced = self.operations as f64 * graphs.first_per_operation;
        Some(Compiling { first: traced + graphs.each, further: graphs.each, bytes: graphs.bytes })
    }
}

impl Layer {
    /// Tokens whose keys and values a pass reads of a sequence.
    fn read(&self, sequence: &Sequence) -> f64 {
        let seen = self.window.map_or(usize::MAX, |window| window + sequence.rows);
        sequence.context.min(seen) as f64
    }

    /// Tokens that a sequence's rows attend to, all together: each to those before it and
    /// to itself, within the window.
    fn attended(&self, sequence: &Sequence) -> f64 {
        let (rows, context) = (sequence.rows as f64, sequence.context as f64);
        let first = context - rows + 1.0;
        let all = rows * (first + context) / 2.0;
        match self.window {
            Some(window) => all.min(rows * window as f64),
            None => all,
        }
    }
}

fn components(weight: &graph::Weight) -> f64 {
    weight.rows as f64 * weight.columns as f64
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::device::npu_sim::published;

    fn model(profile: &str) -> CostModel {
        let seven = published::model("openpangu-7b").unwrap();
        CostModel::new(Profile::open(profile).unwrap(), &seven)
    }

    fn rows(rows: usize, context: usize) -> Sequence {
        Sequence { rows, context }
    }

    #[test]
    fn sizes_are_those_that_were_published() {
        let model = model("ascend-910b-graph");
        // 34 layers of 8 heads of 128 components, keys and values, two bytes each.
        assert_eq!(model.kv_bytes_per_token(), 139_264.0);
        let embedding = 153_376.0 * 4096.0 * 2.0;
        let gib = (model.weight_bytes() + embedding) / (1u64 << 30) as f64;
        assert!((gib - 14.97).abs() < 0.03, "{gib}");
    }

    #[test]
    fn launches_are_counted_from_the_graph() {
        // 2 norms, 7 products, 2 rotations, 1 store, 1 attention, 2 sums and 1 gate a layer.
        let layer = 2 * 6 + 7 + 2 * 7 + 3 + 10 + 2 + 2;
        assert_eq!(model("ascend-910b-eager").launches(), 34 * layer + 1 + 1 + 6 + 1);
        assert_eq!(model("ascend-910b-graph").launches(), 1);
    }

    #[test]
    fn a_wider_pass_costs_what_it_adds() {
        let model = model("ascend-910b-graph");
        let one = model.pass(1, &[rows(1, 1000)], 1);
        let eight = model.pass(8, &[rows(8, 1007)], 8);
        assert_eq!(one.rows, 1);
        // Both read all weights: verifying eight is nearly free.
        assert!(eight.seconds < 1.01 * one.seconds && eight.operations > 7.9 * one.operations);
        let far = model.pass(1, &[rows(1, 30_000)], 1);
        let more = (far.kv_bytes - one.kv_bytes) / 139_264.0;
        assert!((more - 29_000.0).abs() < 1.0, "{more}");
    }

    #[test]
    fn a_gear_that_is_not_full_costs_as_one_that_is() {
        let model = model("ascend-910b-graph");
        let full = model.pass(512, &[rows(512, 512)], 512);
        let padded = model.pass(512, &[rows(300, 300)], 1);
        assert_eq!(padded.rows, 512);
        assert!(padded.seconds > 0.95 * full.seconds && padded.padding_seconds > 0.0);
        let bare = model.pass(300, &[rows(300, 300)], 1);
        assert!(bare.seconds < 0.8 * full.seconds);
    }

    #[test]
    fn rows_attend_to_what_is_before_them() {
        let layer = Layer { query_width: 1, kv_width: 2, window: None };
        assert_eq!(layer.attended(&rows(3, 5)), 3.0 + 4.0 + 5.0);
        let local = Layer { window: Some(2), ..layer };
        assert_eq!(local.attended(&rows(3, 5)), 6.0);
        assert_eq!((layer.read(&rows(3, 5)), local.read(&rows(1, 5))), (5.0, 3.0));
    }

    #[test]
    fn the_first_graph_is_the_dear_one() {
        let compiling = model("ascend-910b-graph").compiling().unwrap();
        assert!((compiling.first - 11.74).abs() < 0.2, "{compiling:?}");
        assert_eq!(compiling.further, 86e-3);
        assert_eq!(model("ascend-910b-hf").compiling(), None);
    }
}
