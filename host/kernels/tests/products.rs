//! Matrix products: what weights mean, that a row's result is the same bits
//! whatever the pass, the tiles, the parts and the instruction set, and that it is
//! as near to the exact result as its roundings allow.

#![allow(clippy::unwrap_used)]

mod common;

use aio_kernels::block::dequantise;
use aio_kernels::matrix::Epilogue;
use aio_kernels::pack::{GROUP, Layout};
use aio_kernels::{BlockFormat, Isa, RecordKind};
use common::*;
use proptest::prelude::*;

/// candle is the reference for what blocks mean. (Not under Miri: the reference
/// itself uses what Miri does not know.)
#[cfg(not(miri))]
mod candle {
    use super::*;
    use candle_core::quantized::{GgmlDType, QStorage, QTensor};
    use candle_core::{Device, Tensor};

    fn dtype(format: BlockFormat) -> GgmlDType {
        match format {
            BlockFormat::F32 => GgmlDType::F32,
            BlockFormat::F16 => GgmlDType::F16,
            BlockFormat::Q4_0 => GgmlDType::Q4_0,
            BlockFormat::Q4_1 => GgmlDType::Q4_1,
            BlockFormat::Q5_0 => GgmlDType::Q5_0,
            BlockFormat::Q8_0 => GgmlDType::Q8_0,
            BlockFormat::Q4K => GgmlDType::Q4K,
            BlockFormat::Q5K => GgmlDType::Q5K,
            BlockFormat::Q6K => GgmlDType::Q6K,
        }
    }

    fn reference(format: BlockFormat, bytes: &[u8], weights: usize) -> Vec<f32> {
        let storage = QStorage::from_data(bytes.into(), &Device::Cpu, dtype(format)).unwrap();
        let tensor: Tensor =
            QTensor::new(storage, weights).unwrap().dequantize(&Device::Cpu).unwrap();
        tensor.to_vec1().unwrap()
    }

    proptest! {
        #![proptest_config(config(300))]
        #[test]
        fn weights_mean_what_candle_says(
            format in prop::sample::select(BlockFormat::ALL.to_vec()),
            count in 1..5usize, scales in any_scales(), seed: u64,
        ) {
            // candle wants whole multiples of what its vectors hold for F32 and F16.
            let count = if format.weights() == 1 { 32 * count } else { count };
            let bytes = blocks(format, count, scales, &mut Random(seed));
            let mut ours = vec![f32::NAN; count * format.weights()];
            dequantise(format, &bytes, &mut ours);
            let theirs = reference(format, &bytes, ours.len());
            prop_assert_eq!(bits(&ours), bits(&theirs), "{:?}", format);
        }
    }
}

/// A format's rows come back from being packed: what the kernel multiplies are the
/// same weights. A row that is 1 in one column and 0 elsewhere is exact in 8 bits
/// up to the rounding of 1/127, so each weight shows by itself.
#[test]
fn each_weight_is_at_its_place() {
    let mut random = Random(7);
    for format in BlockFormat::ALL {
        let columns = if format.weights() == 256 { 256 } else { 96 };
        let weights = Weights::random(format, 19, columns, Scales::Ordinary, &mut random);
        let isa = isas()[0];
        for column in (0..columns).step_by(if cfg!(miri) { 29 } else { 1 }) {
            let mut x = vec![0.0; columns];
            x[column] = 1.0;
            let out = product(isa, &weights, &[&x], 1, 1);
            for row in 0..weights.rows {
                let (got, want) = (out.row(0)[row], weights.floats(row)[column]);
                let terms = weights.magnitudes(row)[column] as f32;
                assert!((got - want).abs() <= 1e-6 * terms, "{format:?} {row} {column}");
            }
        }
    }
}

/// How far a product may be from the exact product of the weights with the
/// activations as they were before rounding.
///
/// Rounding activations. A quant is the nearest integer to `x / scale`, so it is
/// wrong by half, and the kernel's `x * (127 / max)` in place of `x / scale` moves
/// the value that is rounded by at most 3 roundings of a number up to 127, which is
/// below 0.0001. So `|x' - x| <= 0.5001 * scale`, where the scale is `max|x| / 127`
/// over the 256 or 32 columns of a record; or all of x where max|x| is so small
/// (1e-30) that the scale counts as zero. Floats are not rounded.
///
/// Accumulating. Integer sums are exact: they stay below 2^24. Every term
/// `weight x activation` then passes through: the product of the block's and the
/// sub-block's scale, of that with the record's scale (2), the addition of its
/// sub-block's sum to the block's (at most 16) and of the block's to the row's
/// (one for each record or column), and the minimum's own (2). Its error is at most
/// gamma of that many times its magnitude. The reference's weights are rounded to
/// f32 themselves: 3 more. A weight's magnitude is that of its terms, since
/// `d * q` and the minimum are added apart.
///
/// Underflow. A rounded scale or sum may be subnormal, off by 2^-150, and is then
/// multiplied by an integer below 2^24 or a scale: less than 2^-125 for each
/// sub-block as long as the record's scale is below 1, and in proportion above.
fn bound(weights: &Weights, row: usize, x: &[f32]) -> f64 {
    let kind = Layout::of(weights.format).records;
    let (mut rounding, mut sum, mut largest) = (0.0, 0.0, 0.0f64);
    let magnitudes = weights.magnitudes(row);
    let floats = weights.floats(row);
    for (i, record) in x.chunks(kind.columns()).enumerate() {
        let max = record.iter().fold(0f32, |max, x| max.max(x.abs()));
        largest = largest.max(f64::from(max));
        for (j, x) in record.iter().enumerate() {
            let column = i * kind.columns() + j;
            let off = match kind {
                RecordKind::Floats => 0.0,
                _ if max <= 1e-30 => f64::from(x.abs()),
                _ => 0.5001 * f64::from(max) / 127.0,
            };
            rounding += f64::from(floats[column].abs()) * off;
            sum += magnitudes[column] * (f64::from(x.abs()) + off);
        }
    }
    let additions = match kind {
        RecordKind::Floats => weights.columns,
        _ => x.len().div_ceil(32) + 16,
    };
    let underflow = weights.columns as f64 * 2f64.powi(-125) * largest.max(1.0);
    rounding + gamma(additions + 7) * sum + underflow
}

fn exact(weights: &Weights, row: usize, x: &[f32]) -> f64 {
    weights.floats(row).iter().zip(x).map(|(&w, &x)| f64::from(w) * f64::from(x)).sum()
}

const ROWS: usize = if cfg!(miri) { 18 } else { 50 };

proptest! {
    #![proptest_config(config(600))]

    #[test]
    fn products_are_as_exact_as_their_roundings_allow(
        (format, columns) in any_format(), rows in 1..ROWS, scales in any_scales(),
        inputs in any_inputs(), seed: u64,
    ) {
        let mut random = Random(seed);
        let weights = Weights::random(format, rows, columns, scales, &mut random);
        let x = activations(columns, inputs, &mut random);
        let out = product(isas()[0], &weights, &[&x], 1, 1);
        for row in 0..rows {
            let (got, want) = (f64::from(out.row(0)[row]), exact(&weights, row, &x));
            let bound = bound(&weights, row, &x);
            prop_assert!(
                (got - want).abs() <= bound,
                "{format:?} row {row}: {got} for {want}, off by {} > {bound}", (got - want).abs()
            );
        }
        // What pads the last group is zero.
        prop_assert!(out.row(0)[rows..].iter().all(|&x| x == 0.0));
    }

    #[test]
    fn a_row_is_the_same_bits_in_any_pass(
        (format, columns) in any_format(), rows in 1..ROWS, scales in any_scales(),
        inputs in prop::collection::vec(any_inputs(), 1..=if cfg!(miri) { 5 } else { 40usize }),
        limit in 1..=12usize, parts in 1..=4usize, turn in 0..40usize, isa in 0..isas().len(),
        seed: u64,
    ) {
        let isa = isas()[isa];
        let limit = limit.min(isa.tile());
        let mut random = Random(seed);
        let weights = Weights::random(format, rows, columns, scales, &mut random);
        let rows: Vec<_> = inputs.iter().map(|&i| activations(columns, i, &mut random)).collect();
        let mut pass: Vec<&[f32]> = rows.iter().map(Vec::as_slice).collect();
        let n = pass.len();
        pass.rotate_left(turn % n);
        let out = product(isa, &weights, &pass, limit, parts);
        for (i, row) in pass.iter().enumerate() {
            let alone = product(isa, &weights, &[row], 1, 1);
            prop_assert_eq!(out.bits(i), alone.bits(0), "row {} of {} on {}", i, n, isa.name());
        }
    }

    #[test]
    fn instruction_sets_give_the_same_bits(
        (format, columns) in any_format(), rows in 1..ROWS, scales in any_scales(),
        inputs in prop::collection::vec(any_inputs(), 1..=6), seed: u64,
    ) {
        let mut random = Random(seed);
        let weights = Weights::random(format, rows, columns, scales, &mut random);
        let rows: Vec<_> = inputs.iter().map(|&i| activations(columns, i, &mut random)).collect();
        let pass: Vec<&[f32]> = rows.iter().map(Vec::as_slice).collect();
        let all: Vec<(Isa, Out)> = isas()
            .into_iter()
            .map(|isa| (isa, product(isa, &weights, &pass, isa.tile(), 1)))
            .collect();
        let (_, expected) = &all[all.len() - 1];
        for (isa, out) in &all {
            prop_assert_eq!(bits(&out.floats), bits(&expected.floats), "{}", isa.name());
        }
        // So are the records, which another instruction set may have written.
        let kind = Layout::of(format).records;
        let records = |isa| quantise(isa, kind, &pass, 4).memory.bytes().to_vec();
        let portable = records(isas()[isas().len() - 1]);
        for isa in isas() {
            prop_assert!(records(isa) == portable, "records on {}", isa.name());
        }
    }

    #[test]
    fn epilogues_add_in_one_rounding_and_touch_only_their_groups(
        (format, columns) in any_format(), rows in 1..ROWS, n in 1..=5usize,
        parts in 1..=4usize, isa in 0..isas().len(), seed: u64,
    ) {
        let isa = isas()[isa];
        let mut random = Random(seed);
        let weights = Weights::random(format, rows, columns, Scales::Ordinary, &mut random);
        let rows: Vec<_> = (0..n).map(|_| random.floats(columns)).collect();
        let pass: Vec<&[f32]> = rows.iter().map(Vec::as_slice).collect();
        let plain = product(isa, &weights, &pass, isa.tile(), 1);
        let mut bias = random.floats(weights.rows);
        bias.resize(weights.groups() * GROUP, 0.0);
        let mut records = quantise(isa, Layout::of(format).records, &pass, isa.tile());
        let before = random.floats(n * plain.stride);
        let part = random.below(parts);
        let groups = aio_kernels::matrix::share(weights.groups(), part, parts);
        let ours = groups.start * GROUP..groups.end * GROUP;
        let stored = [Epilogue::Store, Epilogue::Stream];
        for epilogue in stored.into_iter().chain([Epilogue::Bias(&bias), Epilogue::Accumulate]) {
            let mut out = Out { floats: before.clone(), stride: plain.stride };
            multiply(isa, &weights, groups.clone(), &mut records, &mut out, epilogue);
            for row in 0..n {
                for column in 0..plain.stride {
                    let (sum, old) = (plain.row(row)[column], before[row * plain.stride + column]);
                    let expected = match epilogue {
                        _ if !ours.contains(&column) => old,
                        Epilogue::Store | Epilogue::Stream => sum,
                        Epilogue::Bias(bias) => sum + bias[column],
                        Epilogue::Accumulate => old + sum,
                    };
                    prop_assert_eq!(out.row(row)[column].to_bits(), expected.to_bits());
                }
            }
        }
    }
}

/// Weights and activations as large as they get, in every pattern of signs that makes
/// sums of pairs large: none of them may leave its bits for good.
#[test]
fn the_largest_sums_fit() {
    let mut random = Random(19);
    for format in BlockFormat::ALL {
        let columns = if format.weights() == 256 { 256 } else { 96 };
        for fill in [0x00, 0x7f, 0x80, 0xff] {
            let mut bytes =
                blocks(format, 18 * columns / format.weights(), Scales::Ordinary, &mut random);
            for block in bytes.chunks_exact_mut(format.bytes()) {
                block[quants(format)].fill(fill);
            }
            let weights = Weights::of_blocks(format, 18, columns, bytes);
            let rows: Vec<Vec<f32>> = [0b0000, 0b1111, 0b0011, 0b1100, 0b0101, 0b1010]
                .map(|signs| {
                    let sign = |i: usize| if signs >> (i % 4) & 1 == 0 { 1.0 } else { -1.0 };
                    (0..columns).map(sign).collect()
                })
                .to_vec();
            let pass: Vec<&[f32]> = rows.iter().map(Vec::as_slice).collect();
            for isa in isas() {
                for limit in [1, isa.tile()] {
                    let out = product(isa, &weights, &pass, limit, 1);
                    for (i, x) in pass.iter().enumerate() {
                        for row in 0..weights.rows {
                            let got = f64::from(out.row(i)[row]);
                            let off = (got - exact(&weights, row, x)).abs();
                            let bound = bound(&weights, row, x);
                            assert!(off <= bound, "{format:?} {fill:x} {i} {}: {off}", isa.name());
                        }
                    }
                }
            }
        }
    }
}

/// Every size of pass with every limit of tiles, on every instruction set.
#[test]
fn every_tiling_gives_a_row_the_same_bits() {
    let mut random = Random(11);
    let largest = if cfg!(miri) { 5 } else { 40 };
    for format in BlockFormat::ALL {
        let columns = if format.weights() == 256 { 256 } else { 96 };
        let weights = Weights::random(format, 21, columns, Scales::Ordinary, &mut random);
        let rows: Vec<_> = (0..largest).map(|_| random.floats(columns)).collect();
        let rows: Vec<&[f32]> = rows.iter().map(Vec::as_slice).collect();
        for isa in isas() {
            let alone: Vec<_> =
                rows.iter().map(|row| product(isa, &weights, &[row], 1, 1).bits(0)).collect();
            for n in 1..=largest {
                for limit in 1..=isa.tile() {
                    let out = product(isa, &weights, &rows[..n], limit, 1 + n % 4);
                    for (i, alone) in alone[..n].iter().enumerate() {
                        assert_eq!(
                            &out.bits(i),
                            alone,
                            "{format:?}, row {i} of {n}, tiles of {limit}, {}",
                            isa.name()
                        );
                    }
                }
            }
        }
    }
}

/// A matrix that no cache holds goes some groups at a time: the seams do not show.
#[test]
#[cfg_attr(miri, ignore = "too large")]
fn a_matrix_larger_than_the_cache_is_walked_whole() {
    let mut random = Random(13);
    for format in [BlockFormat::Q4K, BlockFormat::Q8_0, BlockFormat::F32] {
        let weights = Weights::random(format, 1000, 1024, Scales::Ordinary, &mut random);
        let rows: Vec<_> = (0..13).map(|_| random.floats(1024)).collect();
        let rows: Vec<&[f32]> = rows.iter().map(Vec::as_slice).collect();
        for isa in isas() {
            let parts = weights.groups().div_ceil(weights.matrix().groups_at_a_time());
            assert!(parts > 3, "{parts} parts");
            // Tiles narrower than the widest, and of more than one width.
            let out = product(isa, &weights, &rows, isa.tile().min(5), parts);
            for (i, row) in rows.iter().enumerate() {
                let alone = product(isa, &weights, &[row], 1, 1);
                assert_eq!(out.bits(i), alone.bits(0), "{format:?}, row {i}, {}", isa.name());
            }
        }
    }
}

#[test]
fn no_rows_and_no_groups_are_no_work() {
    let mut random = Random(17);
    let weights = Weights::random(BlockFormat::Q8_0, 16, 64, Scales::Ordinary, &mut random);
    let isa = isas()[0];
    assert!(product(isa, &weights, &[], 4, 1).floats.is_empty());
    let x = random.floats(64);
    let mut records = quantise(isa, RecordKind::Q8, &[&x], 4);
    let mut out = Out::filled(1, &weights, 3.0);
    multiply(isa, &weights, 0..0, &mut records, &mut out, Epilogue::Store);
    assert!(out.floats.iter().all(|&x| x == 3.0));
}
