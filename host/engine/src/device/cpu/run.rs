//! Running a plan: every thread walks the steps, does its share of each, and meets
//! the others.
//!
//! Shares follow the step: groups of output components for products, rows for
//! everything that works on whole rows, sequences and heads for attention. What takes
//! long, products and attention, is dealt out in pieces while it is done. Both decide
//! who computes a number, never how: that is why neither the number of threads nor
//! their speed changes results.

use std::ops::Range;
use std::sync::atomic::AtomicUsize;
use std::sync::{Mutex, PoisonError};

use aio_kernels::attention::{self, Attend};
use aio_kernels::elementwise;
use aio_kernels::matrix::{self, Epilogue, Tile, Tiles};
use aio_kernels::pack::{GROUP, Layout};
use aio_kernels::pool::Team;
use aio_kernels::shared::{Shared, SharedRows};
use aio_kernels::{Isa, activation, block};

use super::gated;
use super::kv::KvShape;
use super::plan::Plan;
use super::step::{Ending, Factors, Part, Records, Rows, Step, Target};
use super::weights::Weights;
use crate::device::Row;
use crate::device::spans::Span;
use crate::graph::RopeStyle;

/// What a thread needs to itself.
pub(super) struct ThreadScratch {
    pub row: Vec<f32>,
    pub attention: attention::Scratch,
    pub gated: gated::Scratch,
}

/// A span's cache, for the length of a pass.
#[derive(Clone, Copy)]
pub(super) struct SpanCache<'a> {
    pub span: Span,
    pub blocks: &'a [Shared<'static, u16>],
}

/// A pass under way.
pub(super) struct Pass<'a> {
    pub isa: Isa,
    pub plan: &'a Plan,
    pub weights: &'a Weights,
    pub shape: KvShape,
    pub rows: &'a [Row],
    /// Indices of the rows that want logits.
    pub selected: &'a [usize],
    pub spans: &'a [SpanCache<'a>],
    pub arena: Shared<'a, u8>,
    pub logits: SharedRows<'a>,
    /// Groups that are done, of each block of a [`Step::Gated`]'s columns.
    pub done: &'a [AtomicUsize],
    pub scratch: &'a [Mutex<ThreadScratch>],
}

impl Pass<'_> {
    /// One thread's part of the pass.
    pub fn run(&self, team: &Team<'_>) {
        let mut scratch = self.scratch[team.thread].lock().unwrap_or_else(PoisonError::into_inner);
        self.angles(team);
        // Rows that the steps see: all, until those that want logits are selected.
        let mut rows = self.rows.len();
        for step in &self.plan.steps {
            if let Step::Select { x, out } = step {
                if self.selected.is_empty() {
                    return; // The caches are filled, and nobody wants the rest.
                }
                rows = self.selected.len();
                self.select(team, *x, *out);
            } else {
                self.step(step, rows, team, &mut scratch);
            }
            team.meet();
        }
    }

    fn step(&self, step: &Step, rows: usize, team: &Team<'_>, scratch: &mut ThreadScratch) {
        match step {
            Step::Embed { table, scale, out } => self.embed(*table, *scale, *out, team),
            Step::Norm { x, weight, heads, epsilon, out } => {
                self.norm(team.share(rows), *x, *weight, (*heads, *epsilon), *out);
            }
            Step::NormQuantise { x, weight, epsilon, out } => {
                let x = self.rows_of(*x);
                let weight = &self.weights.vector(*weight)[..out[0].columns];
                let to = &mut scratch.row[..weight.len()];
                for row in rows_to_quantise(rows, team) {
                    // SAFETY: the step before wrote these rows, and none does now.
                    let from = unsafe { x.read(row, 0, weight.len()) };
                    elementwise::rms_norm(self.isa, from, weight, *epsilon, to);
                    self.quantise(row, to, rows, out, team);
                }
            }
            Step::Quantise { x, out } => {
                let (x, columns) = (self.rows_of(*x), x.columns);
                for row in rows_to_quantise(rows, team) {
                    // SAFETY: the step before wrote these rows, and none does now.
                    self.quantise(row, unsafe { x.read(row, 0, columns) }, rows, out, team);
                }
            }
            Step::Product { parts } => self.products(parts, rows, team),
            Step::Gated(gated) => self.gated(gated, rows, team, &mut scratch.gated),
            Step::RotateStore { .. } => self.rotate_and_store(step, team),
            Step::Attention { .. } => self.attend(step, team, &mut scratch.attention),
            Step::Add { x, y } => {
                let (to, from, columns) = (self.rows_of(*x), self.rows_of(*y), x.columns);
                for row in team.share(rows) {
                    // SAFETY: a row belongs to one thread's share.
                    elementwise::add(unsafe { to.write(row, 0, columns) }, unsafe {
                        from.read(row, 0, columns)
                    });
                }
            }
            Step::Select { .. } => {}
        }
    }

    /// A buffer of rows.
    pub(super) fn rows_of(&self, rows: Rows) -> SharedRows<'_> {
        let buffer = self.plan.buffers[rows.buffer];
        let bytes = self.arena.part(buffer.start, buffer.bytes);
        SharedRows::new(bytes.cast(), rows.columns.next_multiple_of(GROUP))
    }

    pub(super) fn records_of(&self, records: Records) -> Shared<'_, u8> {
        let buffer = self.plan.buffers[records.buffer];
        self.arena.part(buffer.start, buffer.bytes)
    }

    /// Cosines and sines, in f64: at long contexts an f32 product would lose the
    /// fraction that matters.
    fn angles(&self, team: &Team<'_>) {
        for angles in &self.plan.angles {
            let (cos, sin) = (self.rows_of(angles.cos), self.rows_of(angles.sin));
            let pairs = angles.frequencies.len();
            for row in team.share(self.rows.len()) {
                let position = f64::from(self.rows[row].position);
                // SAFETY: a row belongs to one thread's share.
                let (cos, sin) = unsafe { (cos.write(row, 0, pairs), sin.write(row, 0, pairs)) };
                for ((cos, sin), frequency) in cos.iter_mut().zip(sin).zip(&angles.frequencies) {
                    let (s, c) = (position * frequency).sin_cos();
                    (*cos, *sin) = (c as f32, s as f32);
                }
            }
        }
        // Embedding follows, and the threads meet after it: nobody rotates before.
    }

    fn embed(&self, table: usize, scale: f32, out: Rows, team: &Team<'_>) {
        let (format, bytes) = self.weights.table(table);
        let row_bytes = format.row_bytes(out.columns);
        let to = self.rows_of(out);
        for row in team.share(self.rows.len()) {
            let from = &bytes[self.rows[row].token as usize * row_bytes..][..row_bytes];
            // SAFETY: a row belongs to one thread's share.
            let to = unsafe { to.write(row, 0, out.columns) };
            block::dequantise(format, from, to);
            if scale != 1.0 {
                to.iter_mut().for_each(|x| *x *= scale);
            }
        }
    }

    fn norm(
        &self,
        share: Range<usize>,
        x: Rows,
        weight: usize,
        (heads, epsilon): (usize, f32),
        out: Rows,
    ) {
        let columns = x.columns / heads;
        let weight = &self.weights.vector(weight)[..columns];
        let (from, to) = (self.rows_of(x), self.rows_of(out));
        for row in share {
            // SAFETY: a row belongs to one thread's share.
            let (from, to) = unsafe { (from.read(row, 0, x.columns), to.write(row, 0, x.columns)) };
            for (from, to) in from.chunks_exact(columns).zip(to.chunks_exact_mut(columns)) {
                elementwise::rms_norm(self.isa, from, weight, epsilon, to);
            }
        }
    }

    /// Rounds this thread's blocks of one of `rows` rows to records.
    fn quantise(&self, row: usize, x: &[f32], rows: usize, out: &[Records], team: &Team<'_>) {
        let tiles = Tiles::new(rows, self.isa.tile());
        for &records in out {
            let Records { kind, columns, .. } = records;
            let to = self.records_of(records);
            let count = kind.records(columns);
            let blocks = if by_blocks(rows, team) { team.share(count) } else { 0..count };
            let place = tiles.place(row, count);
            // SAFETY: a block of a row belongs to one thread's share.
            unsafe { activation::quantise_row(self.isa, kind, x, blocks, to, place) };
        }
    }

    fn products(&self, parts: &[Part], rows: usize, team: &Team<'_>) {
        let tiles = Tiles::new(rows, self.isa.tile());
        for part in parts {
            let (out, store) = match part.target {
                Target::Rows(rows) => (self.rows_of(rows), Epilogue::Store),
                Target::Logits => (self.logits, Epilogue::Stream),
            };
            let ending = match part.ending {
                Ending::Store => store,
                Ending::Bias(bias) => Epilogue::Bias(self.weights.vector(bias)),
                Ending::Accumulate => Epilogue::Accumulate,
            };
            let at_a_time = self.weights.matrix(part.factors.matrix).groups_at_a_time();
            for groups in team.pieces(part.rows.div_ceil(GROUP), at_a_time) {
                for tile in tiles.iter() {
                    // SAFETY: the groups are of this thread's piece.
                    unsafe { self.product(part.factors, groups.clone(), tile, out, ending) };
                }
            }
        }
    }

    /// A tile's product with some groups of outputs.
    ///
    /// # Safety
    /// Nobody else uses the tile's rows and the groups' columns of `out`.
    pub(super) unsafe fn product(
        &self,
        factors: Factors,
        groups: Range<usize>,
        tile: Tile,
        out: SharedRows<'_>,
        ending: Epilogue<'_>,
    ) {
        let matrix = self.weights.matrix(factors.matrix);
        debug_assert_eq!(Layout::of(matrix.format).records, factors.records.kind);
        let records = self.records_of(factors.records);
        // SAFETY: the step before wrote the records; for `out`, the caller's promise.
        unsafe { matrix::product(self.isa, matrix, groups, records, tile, out, ending) };
    }

    fn rotate_and_store(&self, step: &Step, team: &Team<'_>) {
        let Step::RotateStore { rotations, store } = step else { return };
        let share = team.share(self.rows.len());
        for rotation in rotations {
            let angles = &self.plan.angles[rotation.angles];
            let (cos, sin) = (self.rows_of(angles.cos), self.rows_of(angles.sin));
            let (x, pairs) = (self.rows_of(rotation.x), angles.frequencies.len());
            let rotate = match rotation.style {
                RopeStyle::Halves => elementwise::rotate_halves,
                RopeStyle::Neighbours => elementwise::rotate_neighbours,
            };
            for row in share.clone() {
                // SAFETY: a row belongs to one thread's share.
                let (cos, sin, x) = unsafe {
                    (
                        cos.read(row, 0, pairs),
                        sin.read(row, 0, pairs),
                        x.write(row, 0, rotation.x.columns),
                    )
                };
                x.chunks_exact_mut(2 * pairs).for_each(|head| rotate(head, cos, sin));
            }
        }
        let Some(store) = store else { return };
        let (k, v, columns) = (self.rows_of(store.k), self.rows_of(store.v), store.k.columns);
        let width = self.shape.head_width;
        for cache in self.spans {
            let span = cache.span;
            for row in share.start.max(span.first)..share.end.min(span.first + span.rows) {
                let position = span.position + row - span.first;
                let block = cache.blocks[position / attention::BLOCK];
                // SAFETY: the step before wrote the rows, and this thread just now.
                let (k, v) = unsafe { (k.read(row, 0, columns), v.read(row, 0, columns)) };
                for (head, (k, v)) in k.chunks_exact(width).zip(v.chunks_exact(width)).enumerate() {
                    let offset = self.shape.offset(store.layer, head);
                    let part = block.part(offset, attention::block_length(width));
                    // SAFETY: a position belongs to one row, and that to one share; the
                    // kernel writes that position alone.
                    unsafe { attention::store(self.isa, position % attention::BLOCK, k, v, part) };
                }
            }
        }
    }

    /// Work is dealt out by sequence, rows and heads; where that makes few pieces,
    /// query heads that share keys are dealt out one by one.
    fn attend(&self, step: &Step, team: &Team<'_>, scratch: &mut attention::Scratch) {
        let &Step::Attention { layer, q, heads, kv_heads, scale, window, out } = step else {
            return;
        };
        let (q, out) = (self.rows_of(q), self.rows_of(out));
        let (group, width) = (heads / kv_heads, self.shape.head_width);
        let rows_at_once = (attention::Scratch::QUERIES / group).max(1);
        let chunks = |cache: &SpanCache<'_>| cache.span.rows.div_ceil(rows_at_once);
        let all_chunks = self.spans.iter().map(chunks).sum::<usize>();
        let pieces = all_chunks * kv_heads;
        let uneven = !pieces.is_multiple_of(team.threads) && pieces < 8 * team.threads;
        let (parts, group) = if uneven { (group, 1) } else { (1, group) };
        for piece in team.pieces(pieces * parts, 1).flatten() {
            let (mut chunk, head) = (piece / (kv_heads * parts), piece % (kv_heads * parts));
            let of_chunk = self.spans.iter().find(|cache| {
                let is_here = chunk < chunks(cache);
                chunk -= if is_here { 0 } else { chunks(cache) };
                is_here
            });
            let Some(cache) = of_chunk else { continue };
            let (span, first) = (cache.span, chunk * rows_at_once);
            let work = Attend {
                head_width: width,
                group,
                window,
                scale,
                blocks: cache.blocks,
                offset: self.shape.offset(layer, head / parts),
                q,
                out,
                column: head * group * width,
                row: span.first + first,
                rows: rows_at_once.min(span.rows - first),
                position: span.position + first,
            };
            // SAFETY: the steps before wrote queries and cache; no two pieces have the
            // same rows and heads.
            unsafe { attention::attend(self.isa, &work, scratch) };
        }
    }

    fn select(&self, team: &Team<'_>, x: Rows, out: Rows) {
        let (from, to) = (self.rows_of(x), self.rows_of(out));
        for i in team.share(self.selected.len()) {
            // SAFETY: a row belongs to one thread's share, and the results have a
            // buffer of their own.
            let (from, to) =
                unsafe { (from.read(self.selected[i], 0, x.columns), to.write(i, 0, x.columns)) };
            to.copy_from_slice(from);
        }
    }
}

/// Whether few rows are shared by blocks. Each thread then makes every row's values,
/// which is cheaper than waiting for whoever does.
fn by_blocks(rows: usize, team: &Team<'_>) -> bool {
    rows < team.threads
}

/// The rows of which this thread makes records.
fn rows_to_quantise(rows: usize, team: &Team<'_>) -> Range<usize> {
    if by_blocks(rows, team) { 0..rows } else { team.share(rows) }
}
