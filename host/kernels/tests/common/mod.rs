//! What the tests of the kernels share: random blocks and rows, and products of
//! them through the crate's public functions.
//!
//! Data is made from a seed rather than by a strategy: a failing case then prints
//! as a shape and a number, and shrinks by its shape.

#![allow(dead_code)] // Each test uses a part.
#![allow(clippy::unwrap_used)]

use aio_kernels::activation::quantise_row;
use aio_kernels::block::dequantise;
use aio_kernels::matrix::{self, Epilogue, Matrix, Tiles, share};
use aio_kernels::memory::Memory;
use aio_kernels::pack::{GROUP, Layout, pack_group};
use aio_kernels::shared::{Shared, SharedRows};
use aio_kernels::{BlockFormat, Isa, RecordKind};
use half::f16;
use proptest::prelude::*;

/// Unit roundoff of f32.
pub const U: f64 = f32::EPSILON as f64 / 2.0;

/// The bound on the relative error that `n` roundings in sequence make.
pub fn gamma(n: usize) -> f64 {
    let nu = n as f64 * U;
    nu / (1.0 - nu)
}

/// How proptest runs: few cases under Miri, which is slow and has no files.
pub fn config(cases: u32) -> ProptestConfig {
    ProptestConfig {
        cases: if cfg!(miri) { 2 } else { cases },
        max_shrink_iters: 200,
        failure_persistence: None,
        ..ProptestConfig::default()
    }
}

/// The instruction sets to test, best first. Miri runs only the portable one.
pub fn isas() -> Vec<Isa> {
    let mut all = Isa::available();
    if cfg!(miri) {
        all.drain(..all.len() - 1);
    }
    all
}

/// SplitMix64.
pub struct Random(pub u64);

impl Random {
    pub fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub fn below(&mut self, n: usize) -> usize {
        (self.bits() % n as u64) as usize
    }

    /// In -1..1.
    pub fn signed(&mut self) -> f32 {
        (self.bits() >> 40) as f32 / 8_388_608.0 - 1.0
    }

    pub fn floats(&mut self, n: usize) -> Vec<f32> {
        (0..n).map(|_| self.signed()).collect()
    }

    pub fn pick<T: Copy>(&mut self, of: &[T]) -> T {
        of[self.below(of.len())]
    }
}

/// What the scales of blocks are like.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Scales {
    /// As models have them.
    Ordinary,
    /// Zeros of both signs, subnormals, the largest, any finite number.
    Extreme,
}

pub fn any_scales() -> impl Strategy<Value = Scales> {
    prop::sample::select(vec![Scales::Ordinary, Scales::Extreme])
}

fn scale(random: &mut Random, scales: Scales) -> u16 {
    match scales {
        Scales::Ordinary => f16::from_f32(random.signed() * 0.02).to_bits(),
        Scales::Extreme => match random.below(3) {
            0 => loop {
                let bits = random.bits() as u16;
                if f16::from_bits(bits).is_finite() {
                    break bits;
                }
            },
            _ => random.pick(&[
                0, 0x8000, 1, 0x8001, 0x03ff, 0x83ff, 0x0400, 0x7bff, 0xfbff, 0x7bfe, 0x3c00,
            ]),
        },
    }
}

/// Where a block has half-precision numbers.
pub fn halves(format: BlockFormat) -> &'static [usize] {
    match format {
        BlockFormat::F32 => &[],
        BlockFormat::F16 | BlockFormat::Q4_0 | BlockFormat::Q5_0 | BlockFormat::Q8_0 => &[0],
        BlockFormat::Q4_1 | BlockFormat::Q4K | BlockFormat::Q5K => &[0, 2],
        BlockFormat::Q6K => &[208],
    }
}

/// Where a block has its quants.
pub fn quants(format: BlockFormat) -> std::ops::Range<usize> {
    match format {
        BlockFormat::F32 | BlockFormat::F16 => 0..0,
        BlockFormat::Q4_0 | BlockFormat::Q5_0 | BlockFormat::Q8_0 => 2..format.bytes(),
        BlockFormat::Q4_1 => 4..format.bytes(),
        BlockFormat::Q4K | BlockFormat::Q5K => 16..format.bytes(),
        BlockFormat::Q6K => 0..192,
    }
}

/// Random blocks: any bits but for the scales, which are finite.
pub fn blocks(format: BlockFormat, count: usize, scales: Scales, random: &mut Random) -> Vec<u8> {
    let mut bytes: Vec<u8> = (0..count * format.bytes()).map(|_| random.bits() as u8).collect();
    for block in bytes.chunks_exact_mut(format.bytes()) {
        for &at in halves(format) {
            block[at..at + 2].copy_from_slice(&scale(random, scales).to_le_bytes());
        }
        if format == BlockFormat::F32 {
            let exponent = match scales {
                Scales::Ordinary => -5,
                Scales::Extreme => random.below(160) as i32 - 140,
            };
            block.copy_from_slice(&(random.signed() * 2f32.powi(exponent)).to_le_bytes());
        }
    }
    bytes
}

/// Widths that a format's rows may have.
pub fn columns(format: BlockFormat) -> BoxedStrategy<usize> {
    let unit = if format.weights() == 256 { 256 } else { 32 };
    if cfg!(miri) {
        (1..=2usize).prop_map(move |n| n * unit).boxed()
    } else if unit == 256 {
        (1..=4usize).prop_map(|n| n * 256).boxed()
    } else {
        prop_oneof![
            prop::sample::select(vec![32, 64, 96, 576, 896]),
            (1..=30usize).prop_map(|n| n * 32)
        ]
        .boxed()
    }
}

/// A format and a width for it.
pub fn any_format() -> impl Strategy<Value = (BlockFormat, usize)> {
    prop::sample::select(BlockFormat::ALL.to_vec())
        .prop_flat_map(|format| columns(format).prop_map(move |columns| (format, columns)))
}

/// A matrix as a file has it, and packed.
pub struct Weights {
    pub format: BlockFormat,
    pub rows: usize,
    pub columns: usize,
    pub bytes: Vec<u8>,
    pub packed: Memory,
}

impl Weights {
    pub fn random(
        format: BlockFormat,
        rows: usize,
        columns: usize,
        scales: Scales,
        random: &mut Random,
    ) -> Self {
        let bytes = blocks(format, rows * columns / format.weights(), scales, random);
        Self::of_blocks(format, rows, columns, bytes)
    }

    pub fn of_blocks(format: BlockFormat, rows: usize, columns: usize, bytes: Vec<u8>) -> Self {
        let layout = Layout::of(format);
        let mut packed = Memory::zeroed(layout.matrix_bytes(rows, columns)).unwrap();
        let groups = packed.bytes_mut().chunks_exact_mut(layout.group_bytes(columns));
        for (rows, group) in bytes.chunks(GROUP * format.row_bytes(columns)).zip(groups) {
            pack_group(format, columns, rows, group);
        }
        Self { format, rows, columns, bytes, packed }
    }

    pub fn groups(&self) -> usize {
        self.rows.div_ceil(GROUP)
    }

    pub fn matrix(&self) -> Matrix<'_> {
        Matrix {
            format: self.format,
            rows: self.rows,
            columns: self.columns,
            packed: self.packed.bytes(),
        }
    }

    /// A row's weights with the half-precision numbers at `zeroed` (of each block)
    /// taken for zero.
    fn floats_without(&self, row: usize, zeroed: &[usize]) -> Vec<f32> {
        let row_bytes = self.format.row_bytes(self.columns);
        let mut bytes = self.bytes[row * row_bytes..][..row_bytes].to_vec();
        for block in bytes.chunks_exact_mut(self.format.bytes()) {
            for &at in zeroed {
                block[at..at + 2].fill(0);
            }
        }
        let mut floats = vec![0.0; self.columns];
        dequantise(self.format, &bytes, &mut floats);
        floats
    }

    /// A row's weights.
    pub fn floats(&self, row: usize) -> Vec<f32> {
        self.floats_without(row, &[])
    }

    /// For each weight of a row, the sum of the magnitudes of the terms it is made
    /// of: kernels add the multiple of the scale and the minimum by themselves.
    pub fn magnitudes(&self, row: usize) -> Vec<f64> {
        let terms = match halves(self.format) {
            [d, m] => [self.floats_without(row, &[*d]), self.floats_without(row, &[*m])],
            _ => [self.floats(row), vec![0.0; self.columns]],
        };
        terms[0]
            .iter()
            .zip(&terms[1])
            .map(|(a, b)| f64::from(a.abs()) + f64::from(b.abs()))
            .collect()
    }
}

/// What a row of activations is like.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Inputs {
    Ordinary,
    /// Each 32 columns of another order of magnitude.
    Extreme,
    Zeros,
    /// One column far larger than the others.
    Outlier,
    Denormals,
}

pub fn any_inputs() -> impl Strategy<Value = Inputs> {
    prop::sample::select(vec![
        Inputs::Ordinary,
        Inputs::Extreme,
        Inputs::Zeros,
        Inputs::Outlier,
        Inputs::Denormals,
    ])
}

/// A row of activations.
pub fn activations(columns: usize, inputs: Inputs, random: &mut Random) -> Vec<f32> {
    let mut x = random.floats(columns);
    match inputs {
        Inputs::Ordinary => {}
        Inputs::Extreme => {
            for part in x.chunks_mut(32) {
                let by = 10f32.powi(random.below(53) as i32 - 38);
                part.iter_mut().for_each(|x| *x *= by);
            }
        }
        Inputs::Zeros => x.fill(0.0),
        Inputs::Outlier => {
            let at = random.below(columns);
            x[at] = random.pick(&[1e4, -1e4, 1e15, -1e15, 127.0]);
        }
        Inputs::Denormals => {
            for x in &mut x {
                *x = f32::from_bits(random.bits() as u32 & 0x807f_ffff);
            }
        }
    }
    x
}

/// A pass's activations as the kernels read them.
pub struct Records {
    pub memory: Memory,
    pub tiles: Tiles,
}

/// Rounds the rows of a pass, in tiles of at most `limit`.
pub fn quantise(isa: Isa, kind: RecordKind, rows: &[&[f32]], limit: usize) -> Records {
    let columns = rows.first().map_or(0, |row| row.len());
    let (records, tiles) = (kind.records(columns), Tiles::new(rows.len(), limit));
    let mut memory = Memory::zeroed(rows.len() * records * kind.bytes()).unwrap();
    // What an earlier pass left there must not matter.
    memory.bytes_mut().fill(0xa5);
    let view = Shared::new(memory.bytes_mut());
    for (i, row) in rows.iter().enumerate() {
        // SAFETY: one thread, and the view is the memory's only user.
        unsafe { quantise_row(isa, kind, row, 0..records, view, tiles.place(i, records)) };
    }
    Records { memory, tiles }
}

/// Results of a pass, one component after another, padded to whole groups.
pub struct Out {
    pub floats: Vec<f32>,
    pub stride: usize,
}

impl Out {
    pub fn filled(rows: usize, weights: &Weights, with: f32) -> Self {
        let stride = weights.groups() * GROUP;
        Self { floats: vec![with; rows * stride], stride }
    }

    pub fn row(&self, row: usize) -> &[f32] {
        &self.floats[row * self.stride..][..self.stride]
    }

    pub fn bits(&self, row: usize) -> Vec<u32> {
        bits(self.row(row))
    }
}

pub fn bits(floats: &[f32]) -> Vec<u32> {
    floats.iter().map(|x| x.to_bits()).collect()
}

/// Multiplies some groups of a matrix with the rows of a pass.
pub fn multiply(
    isa: Isa,
    weights: &Weights,
    groups: std::ops::Range<usize>,
    records: &mut Records,
    out: &mut Out,
    epilogue: Epilogue<'_>,
) {
    let tiles = records.tiles;
    let records = Shared::new(records.memory.bytes_mut());
    let out = SharedRows::new(Shared::new(&mut out.floats), out.stride);
    let matrix = weights.matrix();
    for tile in tiles.iter() {
        // SAFETY: one thread, and the views are the only users of their memory.
        unsafe { matrix::product(isa, matrix, groups.clone(), records, tile, out, epilogue) };
    }
}

/// The product of a whole matrix with the rows of a pass, in tiles of at most
/// `limit` rows, the groups in `parts` calls.
pub fn product(isa: Isa, weights: &Weights, rows: &[&[f32]], limit: usize, parts: usize) -> Out {
    let mut records = quantise(isa, Layout::of(weights.format).records, rows, limit);
    let mut out = Out::filled(rows.len(), weights, f32::NAN);
    for part in 0..parts {
        let groups = share(weights.groups(), part, parts);
        multiply(isa, weights, groups, &mut records, &mut out, Epilogue::Store);
    }
    out
}
