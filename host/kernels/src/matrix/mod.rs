//! Matrix products: packed weights times the rows of a pass.
//!
//! One kernel a format, over tiles of 1 to [`Isa::tile`] rows: a weight block is
//! unpacked once, in registers, and applied to every row of the tile. A pass of
//! more rows goes tile by tile over a few groups of weights at a time
//! ([`Matrix::groups_at_a_time`]), which then come from the second-level cache.
//!
//! Accumulation order for each output, whatever the tile: over the columns in
//! order; integer sums within a sub-block (exact), each scaled and added in one
//! rounding. That fixed order is what makes a row's result independent of the
//! pass (law 1).

mod ahead;
mod formats;
mod lines;
mod quants;
mod sums;

use std::ops::Range;

use crate::block::BlockFormat;
use crate::pack::{self, GROUP, Layout};
use crate::shared::{Shared, SharedRows};
use crate::simd::{Isa, Kernel, Simd};
use formats::Format;

/// Bytes of weights that tile after tile goes over: a fraction of the second-level cache
/// (half a MiB a core, or more), and short enough work that threads end together.
/// Measured with two threads, the size in turns: 50,000 to 200,000 differ by less than
/// the runs do.
const CACHED_WEIGHTS: usize = 100_000;

/// A packed matrix.
#[derive(Debug, Clone, Copy)]
pub struct Matrix<'a> {
    /// The format it came in.
    pub format: BlockFormat,
    /// Output components.
    pub rows: usize,
    /// Input components.
    pub columns: usize,
    /// All groups, as [`pack::pack_group`] makes them.
    pub packed: &'a [u8],
}

impl Matrix<'_> {
    /// Groups that should be multiplied with all tiles of a pass before the next ones are:
    /// their weights stay in the cache meanwhile. 1 at least.
    pub fn groups_at_a_time(&self) -> usize {
        let group_bytes = Layout::of(self.format).group_bytes(self.columns);
        (CACHED_WEIGHTS / group_bytes.max(1)).max(1)
    }
}

/// What becomes of a product.
#[derive(Clone, Copy)]
pub enum Epilogue<'a> {
    /// It is stored.
    Store,
    /// It is stored with this added: a component for each output, padded with
    /// zeros to whole groups.
    Bias(&'a [f32]),
    /// It is stored past the caches, for results that are more than those hold and read
    /// much later. Otherwise what is there is read first, for nothing.
    Stream,
    /// It is added to what is there.
    Accumulate,
}

/// Rows of a pass in tiles: as few as possible, of nearly equal size.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Tiles {
    rows: usize,
    count: usize,
}

impl Tiles {
    /// Tiles of at most `largest` rows.
    ///
    /// # Panics
    /// When `largest` is 0.
    pub fn new(rows: usize, largest: usize) -> Self {
        Self { rows, count: rows.div_ceil(largest) }
    }

    /// All tiles.
    pub fn iter(self) -> impl Iterator<Item = Tile> {
        let start = move |i: usize| self.rows * i / self.count;
        (0..self.count).map(move |i| Tile { first: start(i), rows: start(i + 1) - start(i) })
    }

    /// Where the records of a row go, of `records` a row.
    pub fn place(self, row: usize, records: usize) -> crate::activation::Place {
        // The tile is the last one that does not begin after the row.
        let i = ((row + 1) * self.count - 1) / self.rows;
        let (start, end) = (self.rows * i / self.count, self.rows * (i + 1) / self.count);
        crate::activation::Place { first: start * records + row - start, step: end - start }
    }
}

/// Rows of a pass that a kernel goes over together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Tile {
    /// The first of them.
    pub first: usize,
    /// How many.
    pub rows: usize,
}

/// The groups of `total` that part `part` of `parts` has: contiguous, nearly equal.
pub fn share(total: usize, part: usize, parts: usize) -> Range<usize> {
    total * part / parts..total * (part + 1) / parts
}

/// Multiplies the given groups of the matrix with a tile of a pass, whose records (of
/// the layout's kind) lie in `records` as [`Tiles`] says; results go to the tile's rows
/// and the groups' columns of `out`. Where a pass has several tiles, let each have the
/// same groups before the next ones come, at most [`Matrix::groups_at_a_time`], or the
/// weights come from memory for each tile.
///
/// # Safety
/// Nobody writes the records, and nobody else uses these rows and columns of `out`.
///
/// # Panics
/// When the groups, the records or the outputs lie outside their memory, or a tile
/// is wider than the instruction set's.
pub unsafe fn product(
    isa: Isa,
    matrix: Matrix<'_>,
    groups: Range<usize>,
    records: Shared<'_, u8>,
    tile: Tile,
    out: SharedRows<'_>,
    epilogue: Epilogue<'_>,
) {
    let layout = Layout::of(matrix.format);
    let group_bytes = layout.group_bytes(matrix.columns);
    let row_records = layout.records.records(matrix.columns);
    let weights = &matrix.packed[groups.start * group_bytes..groups.end * group_bytes];
    let Tile { first, rows } = tile;
    assert!(rows <= isa.tile(), "a tile of {rows} rows");
    let bytes = layout.records.bytes();
    // SAFETY: the caller's promise that nobody writes them.
    let records = unsafe { records.read(first * row_records * bytes, rows * row_records * bytes) };
    let out = Output { out, row: first, group: groups.start, epilogue };
    isa.run(TileProduct { matrix, weights, records, rows, out });
}

/// Where a tile's results go.
#[derive(Clone, Copy)]
struct Output<'a> {
    out: SharedRows<'a>,
    row: usize,
    group: usize,
    epilogue: Epilogue<'a>,
}

impl Output<'_> {
    #[inline(always)]
    fn put<S: Simd>(&self, simd: S, row: usize, group: usize, sum: S::F) {
        let column = (self.group + group) * GROUP;
        // SAFETY: the promise of `product`'s caller: these columns are ours.
        let to = unsafe { self.out.lanes(self.row + row, column) };
        let value = match self.epilogue {
            Epilogue::Store | Epilogue::Stream => sum,
            Epilogue::Bias(bias) => match bias[column..].first_chunk() {
                Some(bias) => simd.f_add(sum, simd.f_load(bias)),
                None => sum,
            },
            Epilogue::Accumulate => simd.f_add(simd.f_load(to), sum),
        };
        if let Epilogue::Stream = self.epilogue {
            simd.f_stream(value, to);
        } else {
            simd.f_store(value, to);
        }
    }
}

struct TileProduct<'a> {
    matrix: Matrix<'a>,
    weights: &'a [u8],
    records: &'a [u8],
    rows: usize,
    out: Output<'a>,
}

impl Kernel for TileProduct<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        match self.matrix.format {
            BlockFormat::F32 => self.of_format::<S, pack::PackedF32>(simd),
            BlockFormat::F16 => self.of_format::<S, pack::PackedF16>(simd),
            BlockFormat::Q4_0 => self.of_format::<S, pack::PackedQ4_0>(simd),
            BlockFormat::Q4_1 => self.of_format::<S, pack::PackedQ4_1>(simd),
            BlockFormat::Q5_0 => self.of_format::<S, pack::PackedQ5_0>(simd),
            BlockFormat::Q8_0 => self.of_format::<S, pack::PackedQ8_0>(simd),
            BlockFormat::Q4K => self.of_format::<S, pack::PackedQ4K>(simd),
            BlockFormat::Q5K => self.of_format::<S, pack::PackedQ5K>(simd),
            BlockFormat::Q6K => self.of_format::<S, pack::PackedQ6K>(simd),
        }
    }
}

impl TileProduct<'_> {
    #[inline(always)]
    fn of_format<S: Simd, F: Format>(self, simd: S) {
        // Tiles wider than the instruction set's never come: `Tiles` bounds them.
        macro_rules! widths {
            ($($n:literal)*) => {
                match self.rows {
                    $($n if $n <= S::TILE => self.of_width::<S, F, $n>(simd),)*
                    _ => debug_assert!(false, "a tile of {} rows", self.rows),
                }
            };
        }
        widths!(1 2 3 4 5 6 7 8 9 10 11 12);
    }

    #[inline(always)]
    fn of_width<S: Simd, F: Format, const N: usize>(self, simd: S) {
        if N > S::TILE {
            return; // Not compiled for this instruction set.
        }
        let blocks = self.matrix.columns.div_ceil(Layout::of(self.matrix.format).columns);
        let weights: &[F] = bytemuck::cast_slice(self.weights);
        let records: &[F::Record] = bytemuck::cast_slice(self.records);
        for (group, weights) in weights.chunks_exact(blocks.max(1)).enumerate() {
            let mut sums = [simd.f_splat(0.0); N];
            let records = records.chunks_exact(F::RECORDS * N);
            for (weights, records) in weights.iter().zip(records) {
                weights.accumulate::<S, N>(simd, records, &mut sums);
                if N > F::IN_REGISTERS {
                    // Wide tiles have no registers left for these sums, which are
                    // touched once a block; left alone, the compiler keeps them in
                    // registers and spills those of the inner loop instead.
                    std::hint::black_box(&mut sums);
                }
            }
            sums::each_row!(N, T, {
                self.out.put(simd, T, group, sums[T]);
            });
        }
        if let Epilogue::Stream = self.out.epilogue {
            simd.end_of_stream();
        }
    }
}
