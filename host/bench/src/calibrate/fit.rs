//! From measured passes to a profile. Pure functions: they measure nothing, and the same
//! times give the same profile.
//!
//! The numbers are fitted together: those at which the cost model's predictions are off by
//! the least, as shares of what was measured. Large errors count by their size rather than
//! their square (Huber's loss), so that a pass that a neighbour disturbed does not bend the
//! rest; and each number is held, very loosely, to a usual value, which decides those that
//! the passes say nothing of.

use std::collections::BTreeMap;

use aio_engine::device::npu_sim::{
    Arithmetic, CostModel, Host, Launches, Memory, Mode, Profile, Sequence, Unpacking,
};

use super::measure::{Pass, Shape};
use super::simplex;

/// Error from which it counts by its size.
const LARGE_ERROR: f64 = 0.05;
/// How loosely numbers are held to usual values, and formats to the same speed.
const HOLD: f64 = 0.0005;
const HOLD_FORMATS: f64 = 0.002;
/// Numbers in front of the formats' in a point.
const COMMON: usize = 5;

/// A measured pass.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Timed {
    /// Index of its model.
    pub model: usize,
    pub pass: Pass,
    pub seconds: f64,
}

/// What a profile says that no fit finds.
#[derive(Debug, Clone)]
pub(super) struct Known {
    pub name: String,
    pub about: String,
    /// Bytes a second that the machine's memory was measured at.
    pub bandwidth: f64,
    /// Bytes of memory.
    pub capacity: u64,
    /// Bytes of a component of a key or value.
    pub kv_bytes: f64,
    /// Most rows that weights are unpacked for at once.
    pub tile: usize,
}

/// Which passes to fit to: of each model's passes at each context every other one, the first
/// of one context and the second of the next, so that what is predicted lies between and
/// beside what was fitted. At most half.
pub(super) fn fitted(passes: &[(usize, Pass)]) -> Vec<bool> {
    let mut groups: BTreeMap<(usize, usize, bool), Vec<usize>> = BTreeMap::new();
    for (i, (model, pass)) in passes.iter().enumerate() {
        let prefill = pass.logits < pass.rows;
        groups.entry((*model, pass.context, prefill)).or_default().push(i);
    }
    let mut odd = vec![false; passes.len()];
    for (g, group) in groups.values_mut().enumerate() {
        group.sort_by_key(|&i| passes[i].1.rows);
        group.iter().enumerate().for_each(|(n, &i)| odd[i] = (g + n) % 2 == 1);
    }
    let ones = odd.iter().filter(|&&odd| odd).count();
    // The smaller half.
    let which = 2 * ones <= odd.len();
    odd.into_iter().map(|odd| odd == which).collect()
}

/// Seconds that a profile gives to a pass.
pub(super) fn predict(model: &CostModel, pass: Pass) -> f64 {
    let sequence = Sequence { rows: pass.rows, context: pass.context + pass.rows };
    model.pass(pass.rows, &[sequence], pass.logits).seconds
}

/// The profile whose predictions are closest to these passes.
pub(super) fn fit(shapes: &[Shape], timed: &[Timed], known: &Known) -> Profile {
    let formats: Vec<&str> = {
        let mut names: Vec<&str> = shapes
            .iter()
            .flat_map(|shape| shape.stored.formats.values())
            .map(String::as_str)
            .collect();
        names.sort_unstable();
        names.dedup();
        // Vectors are not multiplied.
        names.retain(|name| *name != "F32");
        names
    };
    let start = usual(shapes, timed, known, formats.len());
    let loss = |point: &[f64]| {
        let errors = off(&profile(point, &formats, shapes, known), shapes, timed);
        let held = point.iter().zip(&start).enumerate().map(|(i, (number, usual))| {
            let hold = if i < COMMON { HOLD } else { HOLD_FORMATS };
            hold * (number - usual).powi(2)
        });
        // Sums of each: passes pull the harder the more there are.
        errors + held.sum::<f64>()
    };
    let point = simplex::least(loss, &start);
    rounded(profile(&point, &formats, shapes, known))
}

/// How far a profile's predictions are off, all passes together.
fn off(profile: &Profile, shapes: &[Shape], timed: &[Timed]) -> f64 {
    let models: Vec<CostModel> = shapes
        .iter()
        .map(|shape| CostModel::stored(profile.clone(), &shape.description, &shape.stored))
        .collect();
    let errors = timed.iter().map(|timed| {
        let error = (predict(&models[timed.model], timed.pass) / timed.seconds).ln().abs();
        if error < LARGE_ERROR { error * error } else { LARGE_ERROR * (2.0 * error - LARGE_ERROR) }
    });
    errors.sum()
}

/// How fast a machine is now, to what it was for its profile.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Speed {
    /// Reading.
    pub reading: f64,
    /// Computing.
    pub computing: f64,
}

impl Speed {
    /// The profile of a machine at that speed.
    pub(super) fn of(self, profile: &Profile) -> Profile {
        let mut now = profile.clone();
        now.memory.bandwidth *= self.reading;
        now.arithmetic.operations *= self.computing;
        if let Some(unpacking) = &mut now.unpacking {
            unpacking.components *= self.computing;
        }
        now
    }
}

/// The speed of a machine at which its profile is closest to these passes: whoever shares a
/// machine takes of its memory's speed and of its processor's, and no more than these two
/// numbers are found anew.
pub(super) fn speed(profile: &Profile, shapes: &[Shape], timed: &[Timed]) -> Speed {
    let speed = |point: &[f64]| Speed { reading: point[0].exp(), computing: point[1].exp() };
    let loss = |point: &[f64]| {
        let held: f64 = point.iter().map(|number| HOLD * number * number).sum();
        off(&speed(point).of(profile), shapes, timed) + held
    };
    speed(&simplex::least(loss, &[0.0, 0.0]))
}

/// A point from where to look: logarithms of the memory's efficiency, of the arithmetic's
/// operations a second, of attention's share of them, of the components unpacked a second, of
/// a pass's fixed seconds, and of each format's share.
fn usual(shapes: &[Shape], timed: &[Timed], known: &Known, formats: usize) -> Vec<f64> {
    let mut point = vec![0.0; COMMON + formats];
    // By a profile that does nothing but count.
    let counting = profile(&point, &[], shapes, known);
    let models: Vec<CostModel> = shapes
        .iter()
        .map(|shape| CostModel::stored(counting.clone(), &shape.description, &shape.stored))
        .collect();
    let rates = timed.iter().map(|timed| {
        let Pass { rows, context, logits } = timed.pass;
        let sequence = Sequence { rows, context: context + rows };
        let cost = models[timed.model].pass(rows, &[sequence], logits);
        let bytes = cost.weight_bytes + cost.kv_bytes;
        (bytes / timed.seconds, cost.operations / timed.seconds, timed.seconds)
    });
    let (mut bytes, mut operations, mut shortest) = (0.0f64, 0.0f64, f64::MAX);
    for (b, o, seconds) in rates {
        (bytes, operations) = (bytes.max(b), operations.max(o));
        shortest = shortest.min(seconds);
    }
    point[0] = (bytes / known.bandwidth).ln();
    point[1] = operations.ln();
    point[2] = 0.25f64.ln();
    // Unpacking as dear as multiplying one row.
    point[3] = (operations / 2.0).ln();
    point[4] = (shortest / 100.0).ln();
    point
}

/// The profile at a point.
fn profile(point: &[f64], formats: &[&str], shapes: &[Shape], known: &Known) -> Profile {
    let number = |i: usize| point[i].exp();
    // The fastest format has the full speed.
    let shares = || (0..formats.len()).map(|i| number(COMMON + i));
    let fastest = shares().fold(f64::NAN, f64::max);
    let fastest = if fastest.is_nan() { 1.0 } else { fastest };
    let slower = formats.iter().zip(shares()).map(|(name, share)| (name, share / fastest));
    let bytes: f64 = shapes.iter().map(|shape| shape.stored.bytes as f64).sum();
    let components: f64 = shapes.iter().map(components).sum();
    Profile {
        name: known.name.clone(),
        about: known.about.clone(),
        mode: Mode::Eager,
        weight_bytes: if components > 0.0 { bytes / components } else { 1.0 },
        weights_as_in_file: true,
        kv_bytes: known.kv_bytes,
        memory: Memory {
            bandwidth: known.bandwidth,
            efficiency: number(0),
            capacity: known.capacity,
        },
        arithmetic: Arithmetic {
            operations: number(1) * fastest,
            efficiency: 1.0,
            attention: Some(number(2) / fastest),
        },
        unpacking: Some(Unpacking { tile: known.tile, components: number(3) * fastest }),
        formats: slower
            .filter(|(_, share)| *share < 1.0)
            .map(|(name, share)| ((*name).to_owned(), share))
            .collect(),
        // The processor is device and host: what a pass costs beside reading and computing
        // is never hidden behind them.
        host: Host { pass: 0.0, launch: 0.0, synchronisation: number(4) },
        launches: Some(NO_LAUNCHES),
        graphs: None,
        calibration: None,
    }
}

/// Kernels are calls there.
const NO_LAUNCHES: Launches = Launches {
    embed: 0,
    rms_norm: 0,
    linear: 0,
    rope: 0,
    store_kv: 0,
    attention: 0,
    add: 0,
    gated: 0,
    select_rows: 0,
};

/// Components of the weights that a pass reads.
fn components(shape: &Shape) -> f64 {
    let graph = aio_engine::graph::build(&shape.description, 1);
    let read = graph.ops.iter().filter(|op| op.name() != "embed").flat_map(|op| op.weights());
    read.map(|weight| weight.rows as f64 * weight.columns as f64).sum()
}

/// Its fitted numbers to four digits, which is more than measurements say.
fn rounded(mut profile: Profile) -> Profile {
    let mut numbers = vec![
        &mut profile.weight_bytes,
        &mut profile.memory.bandwidth,
        &mut profile.memory.efficiency,
        &mut profile.arithmetic.operations,
        &mut profile.host.synchronisation,
    ];
    numbers.extend(profile.arithmetic.attention.as_mut());
    numbers.extend(profile.unpacking.as_mut().map(|unpacking| &mut unpacking.components));
    numbers.extend(profile.formats.values_mut());
    for number in numbers {
        // Through text, so that it is what the file will say.
        *number = format!("{number:.3e}").parse().unwrap_or(*number);
    }
    profile
}

#[cfg(test)]
mod tests;
