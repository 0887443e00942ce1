//! What the kernels' tests share: random numbers, blocks and rows, products.
#![allow(dead_code, clippy::unwrap_used)] // Each test binary uses a part of it.

use aio_kernels::activation;
use aio_kernels::block::BlockFormat;
use aio_kernels::matrix::{self, Epilogue, Matrix, Tiles};
use aio_kernels::memory::Memory;
use aio_kernels::pack::{self, Layout};
use aio_kernels::shared::{Shared, SharedRows};
use aio_kernels::simd::Isa;

/// SplitMix64: enough for test data, the same everywhere.
pub struct Random(pub u64);

impl Random {
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Below `n`.
    pub fn below(&mut self, n: usize) -> usize {
        (self.next() % n as u64) as usize
    }

    /// Between -1 and 1.
    pub fn unit(&mut self) -> f32 {
        (self.next() >> 40) as f32 / (1u64 << 23) as f32 - 1.0
    }
}

/// A scale as half-precision bits: mostly ordinary, sometimes zero, subnormal,
/// negative, or the largest there is.
fn scale(random: &mut Random) -> u16 {
    match random.below(12) {
        0 => 0,
        1 => 1 + random.below(0x3fe) as u16,
        2 => 0x7bff,
        3 => 0xfbff,
        4 => 0x9000 + random.below(0x400) as u16,
        _ => 0x1000 + random.below(0x800) as u16,
    }
}

/// A row of random valid blocks.
pub fn weight_row(format: BlockFormat, columns: usize, random: &mut Random) -> Vec<u8> {
    let mut row: Vec<u8> = Vec::with_capacity(format.row_bytes(columns));
    while row.len() < format.row_bytes(columns) {
        if format == BlockFormat::F32 {
            row.extend(random.unit().to_le_bytes());
            continue;
        }
        let start = row.len();
        row.extend((0..format.bytes()).map(|_| random.next() as u8));
        let scales: &[usize] = match format {
            BlockFormat::Q4_1 | BlockFormat::Q4K | BlockFormat::Q5K => &[0, 2],
            BlockFormat::Q6K => &[208],
            _ => &[0],
        };
        for &at in scales {
            row[start + at..start + at + 2].copy_from_slice(&scale(random).to_le_bytes());
        }
    }
    row
}

/// Activations of very different sizes, with outliers, zeros and tiny values.
pub fn activations(columns: usize, random: &mut Random) -> Vec<f32> {
    let size = [1.0, 1e-3, 1e4, 1e15, 1e-25, 0.0][random.below(6)];
    let mut value = || {
        let outlier = if random.below(40) == 0 { 100.0 } else { 1.0 };
        random.unit() * size * outlier
    };
    (0..columns).map(|_| value()).collect()
}

/// A packed matrix with its own memory.
pub struct Packed {
    pub format: BlockFormat,
    pub rows: usize,
    pub columns: usize,
    /// As in a file, row after row.
    pub source: Vec<u8>,
    memory: Memory,
}

impl Packed {
    pub fn random(format: BlockFormat, rows: usize, columns: usize, random: &mut Random) -> Self {
        let row = |_| weight_row(format, columns, random);
        let source: Vec<u8> = (0..rows).flat_map(row).collect();
        let layout = Layout::of(format);
        let mut memory = Memory::zeroed(layout.matrix_bytes(rows, columns)).unwrap();
        let groups = memory.bytes_mut().chunks_exact_mut(layout.group_bytes(columns));
        let rows_bytes = pack::GROUP * format.row_bytes(columns);
        for (group, rows) in groups.zip(source.chunks(rows_bytes)) {
            pack::pack_group(format, columns, rows, group);
        }
        Self { format, rows, columns, source, memory }
    }

    pub fn matrix(&self) -> Matrix<'_> {
        let (rows, columns) = (self.rows, self.columns);
        Matrix { format: self.format, rows, columns, packed: self.memory.bytes() }
    }

    pub fn groups(&self) -> usize {
        self.rows.div_ceil(pack::GROUP)
    }

    /// Floats of a result row: whole groups.
    pub fn stride(&self) -> usize {
        self.groups() * pack::GROUP
    }

    /// The product with each row of `x`, in tiles of at most `tile` rows, its groups
    /// in `parts` parts, added to `out`'s rows as the epilogue says.
    pub fn product_into(
        &self,
        isa: Isa,
        x: &[Vec<f32>],
        (tile, parts): (usize, usize),
        out: &mut [f32],
        epilogue: Epilogue<'_>,
    ) {
        let kind = Layout::of(self.format).records;
        let count = kind.records(self.columns);
        let tiles = Tiles::new(x.len(), tile);
        let mut records = Memory::zeroed(x.len() * count * kind.bytes()).unwrap();
        let records = Shared::new(records.bytes_mut());
        for (row, x) in x.iter().enumerate() {
            let place = tiles.place(row, count);
            // SAFETY: nothing else runs.
            unsafe { activation::quantise_row(isa, kind, x, 0..count, records, place) };
        }
        let out = SharedRows { floats: Shared::new(out), stride: self.stride() };
        for part in 0..parts {
            let groups = matrix::share(self.groups(), part, parts);
            // SAFETY: nothing else runs.
            unsafe { matrix::product(isa, self.matrix(), groups, records, tiles, out, epilogue) };
        }
    }

    /// Bits of the product, a row of outputs for each row of `x`.
    pub fn product(&self, isa: Isa, x: &[Vec<f32>], tile: usize, parts: usize) -> Vec<Vec<u32>> {
        let mut out = vec![0.0f32; x.len() * self.stride()];
        self.product_into(isa, x, (tile, parts), &mut out, Epilogue::Store);
        let row = |row: &[f32]| row[..self.rows].iter().map(|y| y.to_bits()).collect();
        out.chunks_exact(self.stride()).map(row).collect()
    }
}

/// Instruction sets to test: all that there are; under Miri, which knows no vector
/// intrinsics, the portable one.
pub fn instruction_sets() -> Vec<Isa> {
    let all = Isa::available();
    if cfg!(miri) { all[all.len() - 1..].to_vec() } else { all }
}

/// Cases of a random test; few under Miri, which is thousands of times slower.
pub fn cases(n: u32) -> u32 {
    if cfg!(miri) { 2 } else { n }
}
