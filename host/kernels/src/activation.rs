//! Activations as the matrix kernels read them: rounded to 8 bits in blocks, with
//! the sums that the weight formats' offsets need beside them.
//!
//! A record holds one block of one row. The records of a tile of rows lie block by
//! block, all rows of a block side by side, which is the order of use.
//!
//! Rounding: `scale = max|x| / 127`, `q = round(x / scale)`, to even on ties; as in
//! ggml's Q8_K (blocks of 256) and Q8_0 (blocks of 32).

use bytemuck::{Pod, Zeroable};

use crate::shared::Shared;
use crate::simd::{Isa, Kernel, LANES, Simd};

/// The kinds of record that weight formats ask for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum RecordKind {
    /// [`Q8K`]: for weights in blocks of 256.
    Q8K,
    /// [`Q8`]: for weights in blocks of 32.
    Q8,
    /// [`Floats`]: for weights in floating point.
    Floats,
}

impl RecordKind {
    /// Columns that a record holds.
    pub fn columns(self) -> usize {
        match self {
            Self::Q8K => 256,
            Self::Q8 | Self::Floats => 32,
        }
    }

    /// Bytes of a record.
    pub fn bytes(self) -> usize {
        match self {
            Self::Q8K => size_of::<Q8K>(),
            Self::Q8 => size_of::<Q8>(),
            Self::Floats => size_of::<Floats>(),
        }
    }

    /// Records of a row of `columns`: enough for every weight format of this kind,
    /// whose blocks span 64 columns or less, or 256.
    pub fn records(self, columns: usize) -> usize {
        match self {
            Self::Q8K => columns.div_ceil(256),
            Self::Q8 => columns.div_ceil(64) * 2,
            Self::Floats => columns.div_ceil(32),
        }
    }
}

/// 256 columns of a row.
#[derive(Debug, Clone, Copy, Pod, Zeroable)]
#[repr(C, align(64))]
pub struct Q8K {
    /// Rounded values.
    pub(crate) quants: [[i8; 4]; 64],
    /// -32 times the sum of each sixteen: where a Q6_K sum starts, since its
    /// weights are stored 32 too large.
    pub(crate) minus_32: [i32; 16],
    /// The same in two parts: columns 0 and 1 of each four, and 2 and 3.
    pub(crate) minus_32_pairs: [[i16; 2]; 16],
    /// The sum of each 32 quants is `128 * high + low`; halves that fit a byte, so
    /// that the mins of Q4_K are dot products as well.
    pub(crate) low: [[i8; 4]; 2],
    pub(crate) high: [[i8; 4]; 2],
    /// What a quant of 1 stands for.
    pub(crate) scale: f32,
    pub(crate) unused: [u8; 44],
}

/// 32 columns of a row; one cache line.
#[derive(Debug, Clone, Copy, Pod, Zeroable)]
#[repr(C, align(64))]
pub struct Q8 {
    /// Rounded values.
    pub(crate) quants: [[i8; 4]; 8],
    /// What a quant of 1 stands for.
    pub(crate) scale: f32,
    /// The scale times the sum of the quants, for the mins of Q4_1.
    pub(crate) scaled_sum: f32,
    /// The sum times -8, -16 and -128: where sums of Q4_0, Q5_0 and Q8_0 start.
    pub(crate) minus_8: i32,
    pub(crate) minus_16: i32,
    pub(crate) minus_128: i32,
    /// `minus_16` in two parts: columns 0 and 1 of each four, and 2 and 3.
    pub(crate) minus_16_pairs: [i16; 2],
    pub(crate) unused: [u8; 8],
}

/// 32 columns of a row as they are.
#[derive(Debug, Clone, Copy, Pod, Zeroable)]
#[repr(C, align(64))]
pub struct Floats(pub(crate) [f32; 32]);

/// Where the records of one row go within its tile.
#[derive(Debug, Clone, Copy)]
pub struct Place {
    /// Index of the row's first record.
    pub first: usize,
    /// Records from one of the row's blocks to its next: the rows of the tile.
    pub step: usize,
}

/// Rounds blocks `blocks` of the row `x` into `records`, which are of `kind` and
/// have the given bytes.
///
/// # Safety
/// Nobody else uses the records that this row's blocks go to.
///
/// # Panics
/// When a record lies outside `records`.
pub unsafe fn quantise_row(
    isa: Isa,
    kind: RecordKind,
    x: &[f32],
    blocks: std::ops::Range<usize>,
    records: Shared<'_, u8>,
    place: Place,
) {
    isa.run(QuantiseRow { kind, x, blocks, records, place });
}

/// What the records of a row stand for: the row as a product sees it, rounded.
///
/// # Panics
/// When a record lies outside `records`, or those are not 64-byte aligned.
pub fn dequantise_row(kind: RecordKind, records: &[u8], place: Place, out: &mut [f32]) {
    let bytes = kind.bytes();
    for (block, out) in out.chunks_mut(kind.columns()).enumerate() {
        let record = &records[(place.first + block * place.step) * bytes..][..bytes];
        let (scale, quants) = match kind {
            RecordKind::Q8K => {
                let record: &Q8K = bytemuck::from_bytes(record);
                (record.scale, record.quants.as_flattened())
            }
            RecordKind::Q8 => {
                let record: &Q8 = bytemuck::from_bytes(record);
                (record.scale, record.quants.as_flattened())
            }
            RecordKind::Floats => {
                let record: &Floats = bytemuck::from_bytes(record);
                out.copy_from_slice(&record.0[..out.len()]);
                continue;
            }
        };
        for (x, quant) in out.iter_mut().zip(quants) {
            *x = scale * f32::from(*quant);
        }
    }
}

struct QuantiseRow<'a> {
    kind: RecordKind,
    x: &'a [f32],
    blocks: std::ops::Range<usize>,
    records: Shared<'a, u8>,
    place: Place,
}

impl Kernel for QuantiseRow<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        for block in self.blocks {
            let bytes = self.kind.bytes();
            let at = (self.place.first + block * self.place.step) * bytes;
            // SAFETY: the promise of `quantise_row`'s caller.
            let record = unsafe { self.records.write(at, bytes) };
            match self.kind {
                RecordKind::Q8K => {
                    quantise_q8k(simd, &columns(self.x, block), bytemuck::from_bytes_mut(record));
                }
                RecordKind::Q8 => {
                    quantise_q8(simd, &columns(self.x, block), bytemuck::from_bytes_mut(record));
                }
                RecordKind::Floats => {
                    *bytemuck::from_bytes_mut::<Floats>(record) = Floats(columns(self.x, block));
                }
            }
        }
    }
}

/// The `N` columns of a block; zeros past the row's end.
#[inline(always)]
fn columns<const N: usize>(x: &[f32], block: usize) -> [f32; N] {
    let start = (block * N).min(x.len());
    match x[start..].first_chunk::<N>() {
        Some(whole) => *whole,
        None => {
            let mut padded = [0.0; N];
            padded[..x.len() - start].copy_from_slice(&x[start..]);
            padded
        }
    }
}

/// `max|x|` as the scale of a quant of 1 and its inverse. A scale whose inverse
/// would overflow counts as zero.
#[inline(always)]
fn scale(largest: f32) -> (f32, f32) {
    if largest > 1e-30 { (largest / 127.0, 127.0 / largest) } else { (0.0, 0.0) }
}

/// Sixteen floats as quants; what is no number becomes -127.
#[inline(always)]
fn round16<S: Simd>(simd: S, x: &[f32; LANES], inverse: S::F, to: &mut [i8; LANES]) -> i32 {
    let scaled = simd.f_mul(simd.f_load(x), inverse);
    let bounded = simd.f_max(scaled, simd.f_splat(-127.0));
    let quants = simd.i_round(simd.f_min(bounded, simd.f_splat(127.0)));
    simd.i_store_i8(quants, to);
    simd.i_sum(quants)
}

#[inline(always)]
fn largest<S: Simd>(simd: S, x: &[f32]) -> f32 {
    let mut largest = simd.f_splat(0.0);
    for part in x.as_chunks::<LANES>().0 {
        largest = simd.f_max(simd.f_abs(simd.f_load(part)), largest);
    }
    simd.f_reduce_max(largest)
}

/// A sum of quants in two parts, columns 0 and 1 of each four and 2 and 3, times what
/// weights are stored too large by. 16 bits hold sixteen quants of at most 127 times 16,
/// and eight times 32.
#[inline(always)]
fn in_pairs(sum: i32, quants: &[[i8; 4]], times: i32) -> [i16; 2] {
    let first: i32 = quants.iter().map(|x| i32::from(x[0]) + i32::from(x[1])).sum();
    [(times * first) as i16, (times * (sum - first)) as i16]
}

#[inline(always)]
fn quantise_q8k<S: Simd>(simd: S, x: &[f32; 256], record: &mut Q8K) {
    let (scale, inverse) = scale(largest(simd, x));
    let inverse = simd.f_splat(inverse);
    let mut sums = [0; 16];
    let quants: &mut [i8] = record.quants.as_flattened_mut();
    let parts = x.as_chunks::<LANES>().0.iter().zip(quants.as_chunks_mut::<LANES>().0);
    for ((part, to), sum) in parts.zip(&mut sums) {
        *sum = round16(simd, part, inverse, to);
    }
    for (j, sum) in sums.iter().enumerate() {
        record.minus_32[j] = -32 * sum;
        record.minus_32_pairs[j] = in_pairs(*sum, &record.quants[4 * j..][..4], -32);
    }
    for j in 0..8 {
        let sum = sums[2 * j] + sums[2 * j + 1];
        let high = (sum + 64) >> 7;
        record.low[j / 4][j % 4] = (sum - 128 * high) as i8;
        record.high[j / 4][j % 4] = high as i8;
    }
    record.scale = scale;
}

#[inline(always)]
fn quantise_q8<S: Simd>(simd: S, x: &[f32; 32], record: &mut Q8) {
    let (scale, inverse) = scale(largest(simd, x));
    let inverse = simd.f_splat(inverse);
    let mut sum = 0;
    let quants: &mut [i8] = record.quants.as_flattened_mut();
    for (part, to) in x.as_chunks::<LANES>().0.iter().zip(quants.as_chunks_mut::<LANES>().0) {
        sum += round16(simd, part, inverse, to);
    }
    record.scale = scale;
    record.scaled_sum = scale * sum as f32;
    (record.minus_8, record.minus_16, record.minus_128) = (-8 * sum, -16 * sum, -128 * sum);
    record.minus_16_pairs = in_pairs(sum, &record.quants, -16);
}
