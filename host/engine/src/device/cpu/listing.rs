//! A plan in words, for `aio graph`.

use aio_kernels::RecordKind;

use super::plan::Plan;
use super::step::{Ending, Part, Records, Step, Target};
use super::weights::Weights;
use crate::device::listing::{ArenaPlace, ListedStep, Listing, shape};

/// Lists a plan.
pub(super) fn list(plan: &Plan, weights: &Weights) -> Listing {
    let steps: Vec<ListedStep> = plan.steps.iter().map(|s| step(plan, weights, s)).collect();
    Listing {
        device: "cpu".into(),
        gear: plan.gear,
        arena_bytes: plan.arena as u64,
        weight_bytes: steps.iter().map(|step| step.weight_bytes).sum(),
        steps,
    }
}

fn step(plan: &Plan, weights: &Weights, step: &Step) -> ListedStep {
    let floats = |columns: usize| shape(plan.gear, columns, "f32");
    let (operation, shape) = match step {
        Step::Embed { out, .. } => ("embed".into(), floats(out.columns)),
        Step::Norm { heads: 1, out, .. } => ("rms norm".into(), floats(out.columns)),
        Step::Norm { heads, out, .. } => {
            (format!("rms norm of {heads} heads"), floats(out.columns))
        }
        Step::NormQuantise { out, .. } => ("rms norm + quantise".into(), records(plan.gear, out)),
        Step::Quantise { out, .. } => ("quantise".into(), records(plan.gear, out)),
        Step::Product { parts } => {
            let rows: Vec<String> = parts.iter().map(|part| part.rows.to_string()).collect();
            (product(parts), format!("{} x {} f32", plan.gear, rows.join(" + ")))
        }
        Step::Gated(gated) => {
            let operation = format!("2 products + {:?} gate + quantise", gated.function);
            (operation, records(plan.gear, &gated.out))
        }
        Step::RotateStore { rotations, store } => {
            let rotate = if rotations.is_empty() { "" } else { "rope" };
            let store = if store.is_some() { "store kv (f16)" } else { "" };
            let both = if rotate.is_empty() || store.is_empty() { "" } else { " + " };
            let columns = rotations.iter().map(|r| r.x.columns).sum();
            (format!("{rotate}{both}{store}"), floats(columns))
        }
        Step::Attention { heads, kv_heads, window, out, .. } => {
            let seen = match *window {
                usize::MAX => String::new(),
                window => format!(", window {window}"),
            };
            let operation = format!("attention, {heads} heads on {kv_heads}{seen}");
            (operation, floats(out.columns))
        }
        Step::Add { x, .. } => ("add".into(), floats(x.columns)),
        Step::Select { out, .. } => ("select rows that want logits".into(), floats(out.columns)),
    };
    let (names, weight_bytes) = reads(weights, step);
    let mut arena = Vec::new();
    step.buffers(|buffer| {
        let buffer = plan.buffers[buffer];
        let place = ArenaPlace { start: buffer.start as u64, bytes: buffer.bytes as u64 };
        if !arena.contains(&place) {
            arena.push(place);
        }
    });
    ListedStep { operation, shape, weights: names, weight_bytes, arena }
}

fn records(rows: usize, all: &[Records]) -> String {
    let one = |records: &Records| {
        let kind = match records.kind {
            RecordKind::Q8K => "i8 in 256s",
            RecordKind::Q8 => "i8 in 32s",
            RecordKind::Floats => "f32",
        };
        shape(rows, records.columns, kind)
    };
    all.iter().map(one).collect::<Vec<_>>().join(", ")
}

fn product(parts: &[Part]) -> String {
    let ending = match parts.first().map(|part| part.ending) {
        Some(Ending::Bias(_)) => " + bias",
        Some(Ending::Accumulate) => " + residual",
        _ => "",
    };
    let logits = parts.iter().any(|part| part.target == Target::Logits);
    let what = if logits { "logits" } else { "product" };
    match parts.len() {
        1 => format!("{what}{ending}"),
        n => format!("{n} {what}s{ending}"),
    }
}

/// Names and bytes of the matrices that a step reads.
fn reads(weights: &Weights, step: &Step) -> (Vec<String>, u64) {
    let matrices: Vec<usize> = match step {
        Step::Product { parts } => parts.iter().map(|part| part.factors.matrix).collect(),
        Step::Gated(gated) => vec![gated.gate.matrix, gated.up.matrix],
        _ => Vec::new(),
    };
    let names = matrices.iter().map(|&i| weights.matrix_name(i).to_owned());
    let bytes = matrices.iter().map(|&i| weights.matrix(i).packed.len() as u64);
    (names.collect(), bytes.sum())
}
