//! Matrix products: the formats mean what ggml says, a row's bits depend on nothing
//! but the row, and the error stays within its derived bound.
#![allow(clippy::unwrap_used)]

mod common;

use aio_kernels::BlockFormat;
use aio_kernels::block::dequantise;
use aio_kernels::matrix::{Epilogue, Tiles};
use aio_kernels::pack::Layout;
use common::{Packed, Random, activations, cases, instruction_sets};
use half::f16;

/// A shape that the format allows.
fn shape(format: BlockFormat, random: &mut Random) -> (usize, usize) {
    let unit = format.weights().max(32);
    let most = if cfg!(miri) { 2 } else { 1200 / unit + 1 };
    let rows = 1 + random.below(if cfg!(miri) { 17 } else { 70 });
    (rows, unit * (1 + random.below(most)))
}

/// Row `r` as floats.
fn row_floats(packed: &Packed, r: usize) -> Vec<f32> {
    let bytes = packed.format.row_bytes(packed.columns);
    let mut floats = vec![0.0; packed.columns];
    dequantise(packed.format, &packed.source[r * bytes..][..bytes], &mut floats);
    floats
}

/// Law 1 at its root: rows in company, in other tiles, at other places, shared
/// otherwise over threads, and on other instruction sets give the same bits.
#[test]
fn a_rows_bits_depend_on_the_row_alone() {
    for seed in 0..u64::from(cases(40)) {
        for format in BlockFormat::ALL {
            let mut random = Random(seed * 100 + format as u64);
            let (rows, columns) = shape(format, &mut random);
            let packed = Packed::random(format, rows, columns, &mut random);
            let most = if cfg!(miri) { 5 } else { 40 };
            let x: Vec<Vec<f32>> = (0..most).map(|_| activations(columns, &mut random)).collect();
            let best = instruction_sets()[0];
            let alone: Vec<Vec<u32>> = x
                .iter()
                .flat_map(|x| packed.product(best, std::slice::from_ref(x), 1, 1))
                .collect();
            for isa in instruction_sets() {
                for _ in 0..6 {
                    let first = random.below(most);
                    let count = 1 + random.below(most - first);
                    let tile = 1 + random.below(isa.tile());
                    let parts = 1 + random.below(4);
                    let got = packed.product(isa, &x[first..first + count], tile, parts);
                    assert!(
                        got == alone[first..first + count],
                        "{format:?} {rows} x {columns}, {count} rows from {first} in tiles of \
                         {tile}, {parts} parts, {}",
                        isa.name()
                    );
                }
            }
        }
    }
}

/// Every width of tile that an instruction set has, over one more row than fits it.
#[test]
fn every_tile_gives_the_same_bits() {
    for format in BlockFormat::ALL {
        let mut random = Random(7 + format as u64);
        let columns = format.weights().max(32) * 3;
        let packed = Packed::random(format, 33, columns, &mut random);
        let x: Vec<Vec<f32>> = (0..13).map(|_| activations(columns, &mut random)).collect();
        let expected = packed.product(instruction_sets()[0], &x, 1, 1);
        for isa in instruction_sets() {
            for tile in 1..=isa.tile() {
                let got = packed.product(isa, &x, tile, 2);
                assert!(got == expected, "{format:?}, tiles of {tile}, {}", isa.name());
            }
        }
    }
}

/// The largest that a weight's parts are: where a format subtracts a min, a small
/// weight may be the difference of large numbers, each of them rounded.
fn magnitude(format: BlockFormat, block: &[u8], weight: f32) -> f64 {
    let second = || f64::from(f16::from_le_bytes([block[2], block[3]]).to_f32()).abs();
    let min = match format {
        BlockFormat::Q4_1 => second(),
        BlockFormat::Q4K | BlockFormat::Q5K => second() * 63.0,
        _ => 0.0,
    };
    f64::from(weight.abs()) + 2.0 * min
}

/// The bound. A product is `sum(w x)`, and ours differs by two things.
///
/// Rounding of activations: within a block of 256 (formats of 256) or 32 columns, x
/// becomes a multiple of `s = max|x| / 127` at most s / 2 away; 1e-3 s more covers
/// that the quotient is computed with a rounded inverse. Blocks whose largest value
/// is below 1e-30 count as zero. So the error is at most `sum |w| (0.501 s)`.
///
/// Rounding of sums: integer sums within a sub-block are exact; each is scaled and
/// added in at most four roundings. With `a` the magnitude of a weight's parts and n
/// the number of sub-blocks (of 16 columns at least; of 1 in floating point), the
/// error is at most `(n + 16) u sum(a |x'|)`, u = 2^-24, x' the rounded x, and what
/// falls below the smallest normal number.
fn bound(packed: &Packed, r: usize, x: &[f32]) -> f64 {
    let format = packed.format;
    let weights = row_floats(packed, r);
    let bytes = format.row_bytes(packed.columns);
    let row = &packed.source[r * bytes..][..bytes];
    let floats = matches!(format, BlockFormat::F32 | BlockFormat::F16);
    let block = Layout::of(format).records.columns();
    let (mut rounding, mut sums) = (0.0, 0.0);
    for (b, x) in x.chunks(block).enumerate() {
        let largest = f64::from(x.iter().fold(0.0f32, |m, x| m.max(x.abs())));
        let step = if floats { 0.0 } else { largest / 127.0 };
        let away = if !floats && largest <= 1e-30 { largest } else { 0.501 * step };
        for (i, x) in x.iter().enumerate() {
            let column = b * block + i;
            let at = column / format.weights() * format.bytes();
            let weight = weights[column];
            let a = magnitude(format, &row[at..at + format.bytes()], weight);
            rounding += f64::from(weight.abs()) * away;
            sums += a * (f64::from(x.abs()) + away);
        }
    }
    let terms = if floats { packed.columns } else { packed.columns / 16 };
    rounding + (terms + 16) as f64 * 2f64.powi(-24) * sums + packed.columns as f64 * 1e-37
}

#[test]
fn products_stay_within_the_derived_bound() {
    for seed in 0..u64::from(cases(100)) {
        for format in BlockFormat::ALL {
            let mut random = Random(seed * 1000 + format as u64);
            let (rows, columns) = shape(format, &mut random);
            let packed = Packed::random(format, rows, columns, &mut random);
            let x: Vec<Vec<f32>> = (0..3).map(|_| activations(columns, &mut random)).collect();
            let isa = instruction_sets()[0];
            for (x, y) in x.iter().zip(packed.product(isa, &x, isa.tile(), 1)) {
                for (r, y) in y.into_iter().enumerate() {
                    let weights = row_floats(&packed, r);
                    let terms = weights.iter().zip(x).map(|(w, x)| f64::from(*w) * f64::from(*x));
                    let (exact, got) = (terms.sum::<f64>(), f64::from(f32::from_bits(y)));
                    let (off, most) = ((got - exact).abs(), bound(&packed, r, x));
                    assert!(
                        off <= most,
                        "{format:?} {rows} x {columns}: {got} for {exact}, {off:e} off, at most {most:e}"
                    );
                }
            }
        }
    }
}

#[test]
fn epilogues_add_what_they_say() {
    let mut random = Random(5);
    let packed = Packed::random(BlockFormat::Q8_0, 40, 64, &mut random);
    let x: Vec<Vec<f32>> = (0..3).map(|_| activations(64, &mut random)).collect();
    let isa = instruction_sets()[0];
    let plain = packed.product(isa, &x, isa.tile(), 1);
    let bias: Vec<f32> = (0..packed.stride()).map(|i| i as f32).collect();
    let start: Vec<f32> = (0..3 * packed.stride()).map(|i| i as f32 * 0.5).collect();
    for (epilogue, added) in [(Epilogue::Bias(&bias), &bias), (Epilogue::Accumulate, &start)] {
        let mut out = start.clone();
        packed.product_into(isa, &x, (isa.tile(), 2), &mut out, epilogue);
        for (row, plain) in plain.iter().enumerate() {
            for (r, &plain) in plain.iter().enumerate() {
                let at = row * packed.stride() + r;
                let addend = added[at % added.len()];
                assert_eq!(out[at].to_bits(), (f32::from_bits(plain) + addend).to_bits());
            }
        }
    }
}

#[test]
fn a_rows_place_is_where_its_tile_is_read() {
    for rows in 1..60 {
        for largest in 1..14 {
            let tiles = Tiles::new(rows, largest);
            let mut next = 0;
            for (first, n) in tiles.iter() {
                assert!(first == next && n <= largest && n > 0);
                for row in first..first + n {
                    let place = tiles.place(row, 10);
                    assert_eq!((place.first, place.step), (first * 10 + row - first, n));
                }
                next = first + n;
            }
            assert_eq!(next, rows);
        }
    }
}

/// What a format means is what candle, an independent reader of it, says.
#[cfg(not(miri))]
#[test]
fn dequantisation_equals_candles() {
    use std::borrow::Cow;

    use candle_core::Device;
    use candle_core::quantized::{GgmlDType, QStorage, QTensor};

    for format in BlockFormat::ALL {
        let dtype = match format {
            BlockFormat::F32 => GgmlDType::F32,
            BlockFormat::F16 => GgmlDType::F16,
            BlockFormat::Q4_0 => GgmlDType::Q4_0,
            BlockFormat::Q4_1 => GgmlDType::Q4_1,
            BlockFormat::Q5_0 => GgmlDType::Q5_0,
            BlockFormat::Q8_0 => GgmlDType::Q8_0,
            BlockFormat::Q4K => GgmlDType::Q4K,
            BlockFormat::Q5K => GgmlDType::Q5K,
            BlockFormat::Q6K => GgmlDType::Q6K,
        };
        for seed in 0..20 {
            let columns = 512;
            let row = common::weight_row(format, columns, &mut Random(seed));
            let mut ours = vec![0.0; columns];
            dequantise(format, &row, &mut ours);
            // Aligned: candle reads blocks as typed values.
            let mut words = vec![0u64; row.len().div_ceil(8)];
            let aligned: &mut [u8] = bytemuck::cast_slice_mut(&mut words);
            aligned[..row.len()].copy_from_slice(&row);
            let bytes = Cow::Borrowed(&aligned[..row.len()]);
            let storage = QStorage::from_data(bytes, &Device::Cpu, dtype).unwrap();
            let tensor = QTensor::new(storage, columns).unwrap().dequantize(&Device::Cpu).unwrap();
            let theirs = tensor.to_vec1::<f32>().unwrap();
            for (ours, theirs) in ours.iter().zip(&theirs) {
                assert_eq!(ours, theirs, "{format:?}");
            }
        }
    }
}
