//! Weights in the order in which the matrix kernels read them.
//!
//! Sixteen output components (a *group*) are interleaved: a 64-byte line holds four
//! consecutive columns of each, one component a lane. Lines follow one another as
//! the kernel walks the columns, so that a group is one stream of memory. Scales
//! stay as compact as in the file: Q4_K takes 4.5 bits a weight, as there, and Q6_K
//! 6.625 (6.5625 there), so that its blocks are whole lines.
//!
//! A matrix whose components are no multiple of sixteen is padded with zeros; its
//! columns are padded to whole packed blocks.

use bytemuck::{Pod, Zeroable};

use crate::activation::RecordKind;
use crate::block::{self, BlockFormat};

/// Output components that are interleaved.
pub const GROUP: usize = 16;

type Line = [u8; 64];

/// 16 components x 256 columns of Q4_K. Nibbles of line i: columns 8i to 8i + 3 low,
/// 8i + 4 to 8i + 7 high.
#[derive(Debug, Clone, Copy, Pod, Zeroable)]
#[repr(C, align(64))]
pub struct PackedQ4K {
    /// Scales and mins, six bits each, as in the file: four lines in three, as the quants
    /// of [`PackedQ6K`]. Two lines of scales, of four sub-blocks each, one after the other;
    /// two of mins, of four sub-blocks a lane, to be multiplied as if they were weights.
    pub(crate) scales_and_mins: [Line; 3],
    pub(crate) d: [u16; GROUP],
    pub(crate) dmin: [u16; GROUP],
    pub(crate) quants: [[Line; 4]; 8],
}

/// As [`PackedQ4K`] with a fifth line a sub-block: bit i of its bytes is the fifth
/// bit of the sub-block's columns 4i to 4i + 3. Nibbles of line i: columns from 4i
/// low, from 16 + 4i high.
#[derive(Debug, Clone, Copy, Pod, Zeroable)]
#[repr(C, align(64))]
pub struct PackedQ5K {
    pub(crate) scales_and_mins: [Line; 3],
    pub(crate) d: [u16; GROUP],
    pub(crate) dmin: [u16; GROUP],
    pub(crate) quants: [[Line; 5]; 8],
}

/// 16 components x 256 columns of Q6_K. Three lines a sub-block of 16: their low six
/// bits are columns 0 to 11, their top two bits are bits 4-5, 2-3 and 0-1 of 12 to 15.
#[derive(Debug, Clone, Copy, Pod, Zeroable)]
#[repr(C, align(64))]
pub struct PackedQ6K {
    pub(crate) scales: [[i8; GROUP]; 16],
    pub(crate) d: [f32; GROUP],
    pub(crate) quants: [[Line; 3]; 16],
}

/// 16 components x 64 columns of Q4_0; nibbles as in [`PackedQ4K`].
#[derive(Debug, Clone, Copy, Pod, Zeroable)]
#[repr(C, align(64))]
pub struct PackedQ4_0 {
    pub(crate) d: [[u16; GROUP]; 2],
    pub(crate) quants: [[Line; 4]; 2],
}

/// 16 components x 64 columns of Q4_1; nibbles as in [`PackedQ4K`].
#[derive(Debug, Clone, Copy, Pod, Zeroable)]
#[repr(C, align(64))]
pub struct PackedQ4_1 {
    pub(crate) d: [[u16; GROUP]; 2],
    pub(crate) m: [[u16; GROUP]; 2],
    pub(crate) quants: [[Line; 4]; 2],
}

/// 16 components x 64 columns of Q5_0; bits as in [`PackedQ5K`].
#[derive(Debug, Clone, Copy, Pod, Zeroable)]
#[repr(C, align(64))]
pub struct PackedQ5_0 {
    pub(crate) d: [[u16; GROUP]; 2],
    pub(crate) quants: [[Line; 5]; 2],
}

/// 16 components x 64 columns of Q8_0, each plus 128.
#[derive(Debug, Clone, Copy, Pod, Zeroable)]
#[repr(C, align(64))]
pub struct PackedQ8_0 {
    pub(crate) d: [[u16; GROUP]; 2],
    pub(crate) quants: [[Line; 8]; 2],
}

/// 16 components x 32 columns in half precision.
#[derive(Debug, Clone, Copy, Pod, Zeroable)]
#[repr(C, align(64))]
pub struct PackedF16(pub(crate) [[u16; GROUP]; 32]);

/// 16 components x 32 columns in single precision.
#[derive(Debug, Clone, Copy, Pod, Zeroable)]
#[repr(C, align(64))]
pub struct PackedF32(pub(crate) [[f32; GROUP]; 32]);

/// What a format becomes: bytes of a packed block, its columns, and the records
/// that its kernel reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Layout {
    /// Bytes of a packed block of 16 components.
    pub bytes: usize,
    /// Columns of a packed block.
    pub columns: usize,
    /// Activations that go with it.
    pub records: RecordKind,
}

impl Layout {
    /// The layout of a format.
    pub fn of(format: BlockFormat) -> Self {
        let (bytes, columns, records) = match format {
            BlockFormat::F32 => (size_of::<PackedF32>(), 32, RecordKind::Floats),
            BlockFormat::F16 => (size_of::<PackedF16>(), 32, RecordKind::Floats),
            BlockFormat::Q4_0 => (size_of::<PackedQ4_0>(), 64, RecordKind::Q8),
            BlockFormat::Q4_1 => (size_of::<PackedQ4_1>(), 64, RecordKind::Q8),
            BlockFormat::Q5_0 => (size_of::<PackedQ5_0>(), 64, RecordKind::Q8),
            BlockFormat::Q8_0 => (size_of::<PackedQ8_0>(), 64, RecordKind::Q8),
            BlockFormat::Q4K => (size_of::<PackedQ4K>(), 256, RecordKind::Q8K),
            BlockFormat::Q5K => (size_of::<PackedQ5K>(), 256, RecordKind::Q8K),
            BlockFormat::Q6K => (size_of::<PackedQ6K>(), 256, RecordKind::Q8K),
        };
        Self { bytes, columns, records }
    }

    /// Bytes of a group of 16 components with this many columns.
    pub fn group_bytes(self, columns: usize) -> usize {
        columns.div_ceil(self.columns) * self.bytes
    }

    /// Bytes of a whole matrix.
    pub fn matrix_bytes(self, rows: usize, columns: usize) -> usize {
        rows.div_ceil(GROUP) * self.group_bytes(columns)
    }
}

/// Packs up to sixteen rows of a matrix, given as they stand in the file one after
/// the other, into one group. `out` must be zero.
///
/// # Panics
/// When `rows` is no whole number of rows or more than sixteen, or `out` is not
/// [`Layout::group_bytes`] long and 64-byte aligned.
pub fn pack_group(format: BlockFormat, columns: usize, rows: &[u8], out: &mut [u8]) {
    let layout = Layout::of(format);
    assert_eq!(out.len(), layout.group_bytes(columns), "a group of another size");
    let row_bytes = format.row_bytes(columns);
    assert!(rows.len() <= GROUP * row_bytes && rows.len().is_multiple_of(row_bytes.max(1)));
    let per_packed = layout.columns / format.weights();
    for (r, row) in rows.chunks_exact(row_bytes).enumerate() {
        for (i, block) in row.chunks_exact(format.bytes()).enumerate() {
            let (packed, part) = (i / per_packed, i % per_packed);
            let to = &mut out[packed * layout.bytes..][..layout.bytes];
            pack_block(format, block, r, part, to);
        }
    }
}

/// Puts one block of row `r` into its packed block, as its `part`-th.
fn pack_block(format: BlockFormat, block: &[u8], r: usize, part: usize, to: &mut [u8]) {
    match format {
        BlockFormat::F32 => {
            let weight = f32::from_le_bytes([block[0], block[1], block[2], block[3]]);
            bytemuck::from_bytes_mut::<PackedF32>(to).0[part][r] = weight;
        }
        BlockFormat::F16 => {
            bytemuck::from_bytes_mut::<PackedF16>(to).0[part][r] = block::half_at(block, 0);
        }
        BlockFormat::Q4_0 => {
            let to = bytemuck::from_bytes_mut::<PackedQ4_0>(to);
            to.d[part][r] = block::half_at(block, 0);
            put_nibbles(&block::words_q4(block, 2), r, &mut to.quants[part]);
        }
        BlockFormat::Q4_1 => {
            let to = bytemuck::from_bytes_mut::<PackedQ4_1>(to);
            to.d[part][r] = block::half_at(block, 0);
            to.m[part][r] = block::half_at(block, 2);
            put_nibbles(&block::words_q4(block, 4), r, &mut to.quants[part]);
        }
        BlockFormat::Q5_0 => {
            let to = bytemuck::from_bytes_mut::<PackedQ5_0>(to);
            to.d[part][r] = block::half_at(block, 0);
            put_five_bits(&block::words_q5_0(block), r, &mut to.quants[part]);
        }
        BlockFormat::Q8_0 => {
            let to = bytemuck::from_bytes_mut::<PackedQ8_0>(to);
            to.d[part][r] = block::half_at(block, 0);
            for (line, word) in to.quants[part].iter_mut().zip(block::words_q8_0(block)) {
                put_word(line, r, word);
            }
        }
        BlockFormat::Q4K => {
            let to = bytemuck::from_bytes_mut::<PackedQ4K>(to);
            to.d[r] = block::half_at(block, 0);
            to.dmin[r] = block::half_at(block, 2);
            put_scales(block, r, &mut to.scales_and_mins);
            let words = block::words_q4k(block);
            for (words, lines) in words.as_chunks::<8>().0.iter().zip(&mut to.quants) {
                put_nibbles(words, r, lines);
            }
        }
        BlockFormat::Q5K => {
            let to = bytemuck::from_bytes_mut::<PackedQ5K>(to);
            to.d[r] = block::half_at(block, 0);
            to.dmin[r] = block::half_at(block, 2);
            put_scales(block, r, &mut to.scales_and_mins);
            let words = block::words_q5k(block);
            for (words, lines) in words.as_chunks::<8>().0.iter().zip(&mut to.quants) {
                put_five_bits(words, r, lines);
            }
        }
        BlockFormat::Q6K => {
            let to = bytemuck::from_bytes_mut::<PackedQ6K>(to);
            to.d[r] = half::f16::from_bits(block::half_at(block, 208)).to_f32();
            for (scales, &scale) in to.scales.iter_mut().zip(&block[192..208]) {
                scales[r] = scale as i8;
            }
            let words = block::words_q6k(block);
            for (words, lines) in words.as_chunks::<4>().0.iter().zip(&mut to.quants) {
                put_six_bits(words, r, lines);
            }
        }
    }
}

/// Four bytes into lane `r` of a line.
fn put_word(line: &mut Line, r: usize, word: u32) {
    line[4 * r..4 * r + 4].copy_from_slice(&word.to_le_bytes());
}

fn put_nibbles(words: &block::Words32, r: usize, lines: &mut [Line; 4]) {
    for (i, line) in lines.iter_mut().enumerate() {
        put_word(line, r, words[2 * i] | words[2 * i + 1] << 4);
    }
}

fn put_five_bits(words: &block::Words32, r: usize, lines: &mut [Line; 5]) {
    const LOW: u32 = 0x0f0f_0f0f;
    for i in 0..4 {
        put_word(&mut lines[i], r, words[i] & LOW | (words[i + 4] & LOW) << 4);
    }
    let fifth = words.iter().enumerate().map(|(i, word)| ((word >> 4) & 0x0101_0101) << i);
    put_word(&mut lines[4], r, fifth.fold(0, |all, bits| all | bits));
}

fn put_six_bits(words: &[u32; 4], r: usize, lines: &mut [Line; 3]) {
    let last = words[3];
    for (i, line) in lines.iter_mut().enumerate() {
        let bits = (last >> (4 - 2 * i)) & 0x0303_0303;
        put_word(line, r, words[i] | bits << 6);
    }
}

/// Lines of other rows are there already, so that bits are only added.
fn put_scales(block: &[u8], r: usize, to: &mut [Line; 3]) {
    let (scales, mins) = block::scales_and_mins(block);
    for j in 0..8 {
        to[j / 4][GROUP * (j % 4) + r] |= scales[j];
    }
    for j in 0..4 {
        let at = 4 * r + j;
        to[2][at] |= mins[j];
        for (i, line) in to.iter_mut().enumerate() {
            line[at] |= mins[j + 4] >> (4 - 2 * i) << 6;
        }
    }
}
