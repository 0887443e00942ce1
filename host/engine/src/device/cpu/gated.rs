//! The gate of a feed-forward: from activations to the records that its last product
//! reads, in one step.
//!
//! Gate and up have more columns than anything else in a pass. Written to memory as two
//! products, gated there and read again to be rounded, they are what a layer's weights
//! push out of the caches, time and again. So whoever has a whole block of columns, as
//! many as a record holds, keeps it to itself until there are records of it. Measured with
//! a model of 1.5 billion weights and two threads: a pass of eight rows takes some 5 % less.
//!
//! Whole blocks are large pieces of work, and where all are of that size, threads wait for
//! whoever has one more. The last blocks are therefore dealt out in smaller pieces, and
//! whoever finishes a block rounds it.

use std::ops::Range;
use std::sync::atomic::Ordering;

use aio_kernels::matrix::{Epilogue, Tiles};
use aio_kernels::pack::GROUP;
use aio_kernels::pool::Team;
use aio_kernels::shared::{Shared, SharedRows};
use aio_kernels::{Isa, activation, elementwise};

use super::run::Pass;
use super::step::{Gated, Records};

/// Columns of a block: what the largest kind of record holds, and a whole number of any
/// other kind's.
const BLOCK: usize = 256;
/// Groups of a block; fewer in the last one, where the columns end.
const BLOCK_GROUPS: usize = BLOCK / GROUP;
/// Most rows of which a thread keeps a block to itself.
const ROWS: usize = 32;

/// How many blocks a row has.
pub(super) fn blocks(columns: usize) -> usize {
    columns.div_ceil(BLOCK)
}

/// What a thread keeps to itself.
pub(super) struct Scratch {
    /// A tile's products, before the gate.
    gate: Vec<f32>,
    up: Vec<f32>,
    /// A block, before it is rounded.
    block: Vec<f32>,
}

impl Scratch {
    pub(super) fn new(isa: Isa) -> Self {
        let tile = || vec![0.0; isa.tile() * BLOCK];
        Self { gate: tile(), up: tile(), block: vec![0.0; ROWS * BLOCK] }
    }
}

impl Pass<'_> {
    pub(super) fn gated(&self, step: &Gated, rows: usize, team: &Team<'_>, scratch: &mut Scratch) {
        let groups = step.rows.columns.div_ceil(GROUP);
        let whole = if rows <= ROWS { whole(blocks(step.rows.columns), team.threads) } else { 0 };
        for block in team.pieces(whole, 1).flatten() {
            let Scratch { gate, up, block: own } = &mut *scratch;
            let here = SharedRows::new(Shared::new(own), BLOCK).from(0, block * BLOCK);
            let of_block = block * BLOCK_GROUPS..(block + 1) * BLOCK_GROUPS;
            // SAFETY: nobody else knows of this memory, and the block is of this
            // thread's piece.
            unsafe {
                self.gate(step, of_block, rows, (gate, up), here);
                self.round(step, block, rows, here);
            }
        }
        let Scratch { gate, up, .. } = scratch;
        let (shared, first) = (self.rows_of(step.rows), whole * BLOCK_GROUPS);
        for piece in team.pieces(groups - first, BLOCK_GROUPS / 4) {
            for part in cut(piece.start + first..piece.end + first, BLOCK_GROUPS) {
                let (block, count) = (part.start / BLOCK_GROUPS, part.len());
                let of_block = BLOCK_GROUPS.min(groups - block * BLOCK_GROUPS);
                // SAFETY: these columns are of this thread's piece.
                unsafe { self.gate(step, part, rows, (gate, up), shared) };
                if self.complete(block, count, of_block) {
                    // SAFETY: the block is written, and to nobody else it is complete.
                    unsafe { self.round(step, block, rows, shared) };
                }
            }
        }
    }

    /// Counts groups of a block that are done. Whether these were the last of them; what
    /// all threads wrote of the block can then be read.
    fn complete(&self, block: usize, count: usize, of_block: usize) -> bool {
        let done = self.done[block].fetch_add(count, Ordering::AcqRel) + count;
        if done == of_block {
            // The next step with a gate, which begins after the threads have met.
            self.done[block].store(0, Ordering::Relaxed);
        }
        done == of_block
    }

    /// The gated values of some groups of columns.
    ///
    /// # Safety
    /// Nobody else uses these columns of `out`.
    unsafe fn gate(
        &self,
        step: &Gated,
        groups: Range<usize>,
        rows: usize,
        (gate, up): (&mut [f32], &mut [f32]),
        out: SharedRows<'_>,
    ) {
        let at_a_time = [step.gate, step.up]
            .map(|factors| self.weights.matrix(factors.matrix).groups_at_a_time())
            .into_iter()
            .fold(BLOCK_GROUPS, usize::min);
        for groups in cut(groups, at_a_time) {
            let (column, columns) = (groups.start * GROUP, groups.len() * GROUP);
            for tile in Tiles::new(rows, self.isa.tile()).iter() {
                for (factors, to) in [(step.gate, &mut *gate), (step.up, &mut *up)] {
                    let to = SharedRows::new(Shared::new(to), columns).from(tile.first, column);
                    // SAFETY: nobody else knows of this memory.
                    unsafe { self.product(factors, groups.clone(), tile, to, Epilogue::Store) };
                }
                let products = gate.chunks(columns).zip(up.chunks(columns));
                for (row, (gate, up)) in (tile.first..tile.first + tile.rows).zip(products) {
                    // SAFETY: the caller's promise.
                    let to = unsafe { out.write(row, column, columns) };
                    elementwise::gated(self.isa, step.function, gate, up, to);
                }
            }
        }
    }

    /// Makes records of a block of all rows.
    ///
    /// # Safety
    /// The block is written, and nobody else makes records of it.
    unsafe fn round(&self, step: &Gated, block: usize, rows: usize, values: SharedRows<'_>) {
        let (tiles, column) = (Tiles::new(rows, self.isa.tile()), block * BLOCK);
        let columns = BLOCK.min(step.rows.columns - column);
        for &made in &step.out {
            let Records { kind, columns: all, .. } = made;
            let (of_row, of_block) = (kind.records(all), BLOCK / kind.columns());
            let records = block * of_block..of_row.min((block + 1) * of_block);
            let to = self.records_of(made);
            for row in 0..rows {
                let mut place = tiles.place(row, of_row);
                place.first += records.start * place.step;
                // SAFETY: the caller's promise.
                unsafe {
                    let x = values.read(row, column, columns);
                    activation::quantise_row(self.isa, kind, x, 0..records.len(), to, place);
                }
            }
        }
    }
}

/// How many blocks are dealt out whole: as many for each thread, and of those that are
/// left some for each, so that whoever was slower can be waited for with them.
fn whole(blocks: usize, threads: usize) -> usize {
    (blocks - blocks % threads).saturating_sub(threads)
}

/// The parts of a range between multiples of `size`.
fn cut(range: Range<usize>, size: usize) -> impl Iterator<Item = Range<usize>> {
    let mut start = range.start;
    std::iter::from_fn(move || {
        let part = start..range.end.min((start / size + 1) * size);
        start = part.end;
        (!part.is_empty()).then_some(part)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_cut_at_multiples() {
        let parts = |range, size| cut(range, size).collect::<Vec<_>>();
        assert_eq!(parts(5..17, 4), [5..8, 8..12, 12..16, 16..17]);
        assert_eq!(parts(0..32, 16), [0..16, 16..32]);
        assert!(parts(3..3, 4).is_empty());
    }

    #[test]
    fn blocks_are_dealt_out_whole_as_long_as_that_is_even() {
        for (blocks, threads, expected) in [(35, 2, 32), (6, 2, 4), (6, 8, 0), (0, 3, 0), (1, 1, 0)]
        {
            assert_eq!(whole(blocks, threads), expected, "{blocks} blocks, {threads} threads");
        }
    }
}
