//! How far from exact the kernels are with the rounding of activations taken out,
//! and how far that rounding goes.

mod common;

use aio_kernels::activation::{Place, dequantise_row};
use aio_kernels::elementwise::{self, Gate};
use aio_kernels::pack::Layout;
use aio_kernels::{BlockFormat, Isa, RecordKind};
use common::{Inputs, Random, Scales, U, Weights, activations, gamma, isas, product, quantise};

const INPUTS: [Inputs; 5] =
    [Inputs::Ordinary, Inputs::Extreme, Inputs::Zeros, Inputs::Outlier, Inputs::Denormals];

/// Widths that a format allows: the smallest, odd numbers of blocks, those of models.
fn widths(format: BlockFormat) -> &'static [usize] {
    match (format.weights(), cfg!(miri)) {
        (256, false) => &[256, 512, 768],
        (256, true) => &[256],
        (_, false) => &[32, 64, 96, 576, 896],
        (_, true) => &[32, 96],
    }
}

/// A row as the product sees it.
fn rounded(isa: Isa, kind: RecordKind, x: &[f32]) -> Vec<f32> {
    let records = quantise(isa, kind, &[x], 1);
    let mut out = vec![0.0; x.len()];
    dequantise_row(kind, records.memory.bytes(), Place { first: 0, step: 1 }, &mut out);
    out
}

/// Roundings that a term of a product goes through, at most.
///
/// Sums of a sub-block are integers below 2^24, exact, and so is a K format's scale
/// (11 bits of d times 8). Then:
/// - floating point: one fused addition a column;
/// - blocks of 32: one for `d * scale`, one a block; Q4_1 has another for the scaled
///   sum and two a block;
/// - K formats: one a sub-block (8 of 32, or 16 of 16) and one for the mins within the
///   block, then one a block.
///
/// Two more: the rounded activation is itself a rounded product here, and so is the
/// weight that it is compared with.
fn roundings(format: BlockFormat, columns: usize) -> usize {
    let terms = match format {
        BlockFormat::F32 | BlockFormat::F16 => columns,
        BlockFormat::Q4_0 | BlockFormat::Q5_0 | BlockFormat::Q8_0 => 1 + columns / 32,
        BlockFormat::Q4_1 => 2 + 2 * (columns / 32),
        BlockFormat::Q4K | BlockFormat::Q5K => 9 + columns / 256,
        BlockFormat::Q6K => 16 + columns / 256,
    };
    terms + 2
}

/// Against the activations as they were rounded, only sums are inexact. The bound on
/// a product of the activations before rounding is wider by orders of magnitude: it
/// lets an error of a few parts in a million pass, and this one does not.
///
/// The error is at most `gamma(roundings) * sum(magnitude(w) |x|)`. Where that is next
/// to nothing, what is lost below the smallest normal number counts: a subnormal
/// `d * scale` is off by 2^-150, times integers below 2^24, for each column; and each
/// such loss may be multiplied by a record's scale, `max|x| / 127`.
#[test]
fn given_the_rounded_activations_only_sums_are_rounded() {
    let seeds = if cfg!(miri) { 1 } else { 12 };
    let mut closest = 0.0f64;
    for seed in 0..seeds {
        for format in BlockFormat::ALL {
            for &columns in widths(format) {
                let mut random = Random(seed * 31 + columns as u64 + format as u64 * 977);
                let scales = random.pick(&[Scales::Ordinary, Scales::Extreme]);
                let rows = 1 + random.below(40);
                let weights = Weights::random(format, rows, columns, scales, &mut random);
                let input = random.pick(&INPUTS);
                let x = activations(columns, input, &mut random);
                let isa = isas()[0];
                let got = product(isa, &weights, &[&x], 1, 1);
                let x = rounded(isa, Layout::of(format).records, &x);
                let largest = x.iter().fold(1.0f64, |m, x| m.max(f64::from(x.abs())));
                let lost = columns as f64 * 2f64.powi(-125) * largest;
                for row in 0..rows {
                    let terms = weights.floats(row).into_iter().zip(&x);
                    let exact: f64 = terms.map(|(w, x)| f64::from(w) * f64::from(*x)).sum();
                    let sizes = weights.magnitudes(row).into_iter().zip(&x);
                    let size: f64 = sizes.map(|(w, x)| w * f64::from(x.abs())).sum();
                    let off = (f64::from(got.row(0)[row]) - exact).abs();
                    let most = gamma(roundings(format, columns)) * size + lost;
                    closest = closest.max(off / most);
                    assert!(
                        off <= most,
                        "{format:?} of {columns}, {input:?}: {off:e} off, at most {most:e}"
                    );
                }
            }
        }
    }
    // A bound that nothing comes near would also hold for a wrong kernel.
    assert!(cfg!(miri) || closest > 0.02, "the bound is loose: {closest}");
}

/// Half a step, and a little for the rounded inverse; blocks whose values are too
/// small to have a scale are zeros.
#[test]
fn activations_are_rounded_to_half_a_step() {
    for kind in [RecordKind::Q8K, RecordKind::Q8, RecordKind::Floats] {
        for seed in 0..if cfg!(miri) { 3 } else { 60 } {
            let mut random = Random(seed);
            let columns = 32 * (1 + random.below(20));
            let input = random.pick(&INPUTS);
            let x = activations(columns, input, &mut random);
            let expected = rounded(isas()[0], kind, &x);
            for isa in isas() {
                assert_eq!(rounded(isa, kind, &x), expected, "{kind:?} on {}", isa.name());
            }
            if kind == RecordKind::Floats {
                assert_eq!(x, expected);
                continue;
            }
            let blocks = x.chunks(kind.columns()).zip(expected.chunks(kind.columns()));
            for (x, rounded) in blocks {
                let largest = x.iter().fold(0.0f32, |m, x| m.max(x.abs()));
                for (x, rounded) in x.iter().zip(rounded) {
                    if largest <= 1e-30 {
                        assert_eq!(*rounded, 0.0);
                    } else {
                        assert!((x - rounded).abs() <= 0.501 * largest / 127.0, "{x} as {rounded}");
                    }
                }
            }
        }
    }
}

/// `x / (1 + e^-x)`: an exponential to one unit in the last place (2 U, relatively),
/// then a sum and a quotient, one rounding each. For x well below zero the result is
/// `x e^x`, so the error is the exponential's own.
#[test]
fn exponentials_are_right_to_a_unit_in_the_last_place() {
    let steps = if cfg!(miri) { 64 } else { 200_000 };
    let x: Vec<f32> = (0..steps).map(|i| -87.0 + 175.0 * i as f32 / steps as f32).collect();
    let up = vec![1.0; steps];
    for isa in isas() {
        let mut y = vec![f32::NAN; steps];
        elementwise::gated(isa, Gate::Silu, &x, &up, &mut y);
        for (y, x) in y.iter().zip(&x) {
            let exact = f64::from(*x) / (1.0 + (-f64::from(*x)).exp());
            let off = (f64::from(*y) - exact).abs();
            assert!(off <= 4.01 * U * exact.abs(), "{x}: {} units", off / exact.abs() / U);
        }
    }
}
