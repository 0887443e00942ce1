//! What a pass of a model costs on a profile's hardware: a roofline over the model's real
//! graph, beside what the host does for it.
//!
//! The device takes the longer of reading (weights once, each sequence's keys and values
//! once) and computing; the host runs ahead of it, and takes its work for the pass and one
//! launch for each kernel, or one for a compiled graph. The pass takes the longer of the
//! two, and then the synchronisation. Activations are not counted: at the widths of decoding
//! they are thousandths of the weights, and a prompt is bound by arithmetic.
//!
//! Where a profile says more of its kernels, so does the model: attention with a speed of its
//! own is a step by itself, after the products, with a roofline of its own; quantised weights
//! are unpacked once for each tile of rows; formats have speeds of their own.

use serde::Serialize;

use super::profile::{Mode, Profile};
use super::stored::StoredWeights;
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
    /// Bytes that they take, where the profile takes that from the model's file.
    in_file: Option<f64>,
    /// Products of a row in front of the selection of rows, and behind it.
    products: [f64; 2],
    /// The same as products at the full speed of arithmetic that take as long.
    effort: [f64; 2],
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
        Self::stored(profile, model, &StoredWeights::default())
    }

    /// The same of a model whose file is at hand, for profiles that ask what it says.
    pub fn stored(profile: Profile, model: &ModelDescription, stored: &StoredWeights) -> Self {
        let graph = graph::build(model, 1);
        let mut this = Self {
            operations: graph.ops.len(),
            launches: 1,
            weights: 0.0,
            in_file: None,
            products: [0.0; 2],
            effort: [0.0; 2],
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
                    let part = usize::from(selected);
                    this.products[part] += components(weight);
                    let format = stored.format(&weight.name);
                    let share = format.and_then(|format| this.profile.formats.get(format));
                    this.effort[part] += components(weight) / share.unwrap_or(&1.0);
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
        if this.profile.weights_as_in_file && stored.bytes > 0 {
            this.in_file = Some(stored.bytes as f64);
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
        self.in_file.unwrap_or(self.weights * self.profile.weight_bytes)
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
                let selected = if logits == 0 { 0 } else { padded };
                let cost = self.of_rows(padded, selected, sequences);
                if (padded, selected) == (rows, logits) {
                    return cost;
                }
                let bare = self.of_rows(rows, logits, sequences);
                Cost { padding_seconds: cost.seconds - bare.seconds, ..cost }
            }
        }
    }

    fn of_rows(&self, rows: usize, logits: usize, sequences: &[Sequence]) -> Cost {
        let host = &self.profile.host;
        let embedded = self.embedding * rows as f64;
        let weight_bytes = match self.in_file {
            Some(bytes) => bytes + embedded * self.profile.weight_bytes,
            None => (self.weights + embedded) * self.profile.weight_bytes,
        };
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
        let Device { memory_seconds, arithmetic_seconds, seconds } =
            self.device(rows, logits, weight_bytes, kv_bytes, attended);
        let host_seconds = host.pass + f64::from(self.launches) * host.launch;
        Cost {
            seconds: host_seconds.max(seconds) + host.synchronisation,
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

    /// The device's part: one roofline over the pass, or one over the products and one over
    /// attention where that is a step by itself.
    fn device(
        &self,
        rows: usize,
        logits: usize,
        weight_bytes: f64,
        kv_bytes: f64,
        attended: f64,
    ) -> Device {
        let Profile { memory, arithmetic, .. } = &self.profile;
        let bandwidth = memory.bandwidth * memory.efficiency;
        let rate = arithmetic.operations * arithmetic.efficiency;
        let effort = self.effort[0] * rows as f64 + self.effort[1] * logits as f64;
        let unpacking = self.profile.unpacking.map_or(0.0, |unpacking| {
            let tiles = |rows: usize| rows.div_ceil(unpacking.tile) as f64;
            let unpacked = self.effort[0] * tiles(rows) + self.effort[1] * tiles(logits);
            unpacked / unpacking.components
        });
        let Some(attention) = arithmetic.attention else {
            let memory_seconds = (weight_bytes + kv_bytes) / bandwidth;
            let arithmetic_seconds = 2.0 * (effort + 2.0 * attended) / rate + unpacking;
            let seconds = memory_seconds.max(arithmetic_seconds);
            return Device { memory_seconds, arithmetic_seconds, seconds };
        };
        let (weights, products) = (weight_bytes / bandwidth, 2.0 * effort / rate + unpacking);
        let (kv, attending) =
            (kv_bytes / bandwidth, 4.0 * attended / (arithmetic.operations * attention));
        Device {
            memory_seconds: weights + kv,
            arithmetic_seconds: products + attending,
            seconds: weights.max(products) + kv.max(attending),
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

/// The device's part in a pass.
struct Device {
    memory_seconds: f64,
    arithmetic_seconds: f64,
    /// Both, as far as one is hidden behind the other.
    seconds: f64,
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
    fn kernels_with_speeds_of_their_own_cost_by_them() {
        let text = toml::to_string(&model("ascend-910b-hf").profile).unwrap();
        let extended = |more: &str, attention: &str| {
            let text = text.replace("[arithmetic]\n", &format!("[arithmetic]\n{attention}\n"));
            let profile = Profile::parse("extended", &format!("{text}\n{more}")).unwrap();
            let shape = published::model("openpangu-7b").unwrap();
            let mut stored = StoredWeights { bytes: 7_000_000_000, ..Default::default() };
            stored.formats.insert("output.weight".to_owned(), "Q8_0".to_owned());
            CostModel::stored(profile, &shape, &stored)
        };
        let plain = model("ascend-910b-hf");
        let of = |model: &CostModel, rows_: usize| model.pass(rows_, &[rows(rows_, 4096)], rows_);
        // What the file says counts only where the profile asks for it.
        assert_eq!(of(&extended("", ""), 64), of(&plain, 64));
        // Attention apart: nothing hides it.
        let apart = of(&extended("", "attention = 0.07"), 64);
        assert_eq!(apart.memory_seconds.to_bits(), of(&plain, 64).memory_seconds.to_bits());
        assert!(apart.arithmetic_seconds > of(&plain, 64).arithmetic_seconds);
        // A tile that is one row too small costs another unpacking of all weights.
        let tiled = extended("[unpacking]\ntile = 5\ncomponents = 1e12", "");
        let step = |from: usize| {
            of(&tiled, from + 1).arithmetic_seconds - of(&tiled, from).arithmetic_seconds
        };
        let unpacked = (tiled.products[0] + tiled.products[1]) / 1e12;
        assert!((step(5) - step(4) - unpacked).abs() < 1e-3 * unpacked);
        // A format at half the speed takes as long as twice as many products.
        let slow = extended("[formats]\nQ8_0 = 0.5", "");
        assert_eq!(slow.effort, [plain.products[0], 2.0 * plain.products[1]]);
        // Bytes as they are in the file.
        let filed = text.replace("[memory]", "weights_as_in_file = true\n[memory]");
        let filed = Profile::parse("filed", &filed).unwrap();
        let shape = published::model("openpangu-7b").unwrap();
        let stored = StoredWeights { bytes: 7_000_000_000, ..Default::default() };
        assert_eq!(CostModel::stored(filed.clone(), &shape, &stored).weight_bytes(), 7e9);
        assert_eq!(CostModel::new(filed, &shape).weight_bytes(), plain.weight_bytes());
    }

    #[test]
    fn the_first_graph_is_the_dear_one() {
        let compiling = model("ascend-910b-graph").compiling().unwrap();
        assert!((compiling.first - 11.74).abs() < 0.2, "{compiling:?}");
        assert_eq!(compiling.further, 86e-3);
        assert_eq!(model("ascend-910b-hf").compiling(), None);
    }
}
