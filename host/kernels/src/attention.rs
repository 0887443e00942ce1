//! Attention over a KV cache in blocks, several query rows at once, without
//! materialising scores beyond one block.
//!
//! A cache block holds [`BLOCK`] positions of one key-value head in half precision:
//! keys in groups of sixteen positions, transposed (`[group][component][16]`), so
//! that sixteen scores grow in one register without sums across lanes; then values
//! as they are (`[position][component]`).
//!
//! Softmax runs online (Milakov and Gimelshein 2018; Dao et al. 2022), with a fixed
//! unit: each block yields a maximum, a sum and a weighted sum of values from its
//! own scores alone, and blocks are merged in order. Positions that a row does not
//! see weigh exactly zero, and a block of which it sees nothing changes nothing, so
//! a row's result is the same bits whatever rows share its tile (law 1).

use crate::elementwise::exp;
use crate::matrix::{Tile, Tiles};
use crate::shared::{Shared, SharedRows};
use crate::simd::{Isa, Kernel, LANES, Simd, prefetch};

/// Positions in a cache block.
pub const BLOCK: usize = 128;

/// Most queries that a tile has on any instruction set ([`Simd::QUERIES`]).
const TILE: usize = 8;

/// Half-precision numbers that one head's part of a block takes.
pub fn block_length(head_width: usize) -> usize {
    2 * BLOCK * head_width
}

/// Largest finite half-precision number. Values are bounded by it, so that a
/// position that weighs zero adds zero.
const LARGEST: f32 = 65_504.0;

/// Stores the key and the value of one position in a head's part of a block.
///
/// # Safety
/// Nobody else uses this position's numbers; other positions of the block may be
/// written at the same time.
///
/// # Panics
/// When the slot or a length does not fit the block.
pub unsafe fn store(isa: Isa, slot: usize, k: &[f32], v: &[f32], block: Shared<'_, u16>) {
    assert!(slot < BLOCK && k.len() == v.len() && block.len() == block_length(k.len()));
    assert!(k.len().is_multiple_of(LANES), "heads of {} components", k.len());
    isa.run(Store { slot, k, v, block });
}

struct Store<'a> {
    slot: usize,
    k: &'a [f32],
    v: &'a [f32],
    block: Shared<'a, u16>,
}

impl Kernel for Store<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        let width = self.k.len();
        let half = |x: &[f32; LANES]| {
            let x = simd.f_min(simd.f_load(x), simd.f_splat(LARGEST));
            let mut half = [0; LANES];
            simd.f_to_f16(simd.f_max(x, simd.f_splat(-LARGEST)), &mut half);
            half
        };
        // Single numbers of the position are written, and nothing of its neighbours.
        let group = self.slot / LANES * LANES * width + self.slot % LANES;
        for (i, part) in self.k.as_chunks::<LANES>().0.iter().enumerate() {
            for (j, bits) in half(part).into_iter().enumerate() {
                let at = group + (i * LANES + j) * LANES;
                // SAFETY: the promise of `store`'s caller.
                unsafe { self.block.write(at, 1)[0] = bits };
            }
        }
        for (i, part) in self.v.as_chunks::<LANES>().0.iter().enumerate() {
            let at = BLOCK * width + self.slot * width + i * LANES;
            // SAFETY: the promise of `store`'s caller.
            unsafe { self.block.write(at, LANES).copy_from_slice(&half(part)) };
        }
    }
}

/// One key-value head's work for some rows of one sequence.
#[derive(Clone, Copy)]
pub struct Attend<'a> {
    /// Components of a head; a multiple of 32.
    pub head_width: usize,
    /// Query heads that share the key-value head.
    pub group: usize,
    /// Factor of the scores.
    pub scale: f32,
    /// How many of the latest positions a row sees, itself included.
    pub window: usize,
    /// The head's part of each of the sequence's blocks: where a block is, and
    /// where in it.
    pub blocks: &'a [Shared<'a, u16>],
    /// Where in a block the head's part begins.
    pub offset: usize,
    /// Queries, rotated.
    pub q: SharedRows<'a>,
    /// Results.
    pub out: SharedRows<'a>,
    /// First column, in `q` and `out`, of the head's queries.
    pub column: usize,
    /// First row of the pass.
    pub row: usize,
    /// Rows.
    pub rows: usize,
    /// Position of the first row in its sequence.
    pub position: usize,
}

/// What a thread needs to attend with; made once.
#[derive(Debug, Default)]
pub struct Scratch {
    /// Queries, tile by tile, `[component][query]`.
    queries: Vec<f32>,
    /// Weighted sums of values so far, `[query][component]`.
    sums: Vec<f32>,
    states: Vec<State>,
    /// Scores, then weights, of a tile's queries over a block.
    scores: Vec<[f32; BLOCK]>,
}

impl Scratch {
    /// Most queries that [`attend`] takes at once.
    pub const QUERIES: usize = 64;

    /// Scratch for heads of this width.
    pub fn new(head_width: usize) -> Self {
        Self {
            queries: vec![0.0; Self::QUERIES * head_width],
            sums: vec![0.0; Self::QUERIES * head_width],
            states: vec![State::EMPTY; Self::QUERIES],
            scores: vec![[0.0; BLOCK]; TILE],
        }
    }
}

/// A query's softmax so far, and what it sees of the block at hand.
#[derive(Debug, Clone, Copy)]
struct State {
    largest: f32,
    total: f32,
    from: usize,
    to: usize,
}

impl State {
    const EMPTY: Self = Self { largest: f32::NEG_INFINITY, total: 0.0, from: 0, to: 0 };
}

/// Attends. Rows times group are at most [`Scratch::QUERIES`].
///
/// # Safety
/// The cache blocks hold the positions up to the last row's, nobody writes them or
/// the queries, and nobody else uses the results' columns of these rows.
///
/// # Panics
/// When there are more queries than the scratch holds, or something lies outside
/// its memory.
pub unsafe fn attend(isa: Isa, work: &Attend<'_>, scratch: &mut Scratch) {
    isa.run(Run { work, scratch });
}

struct Run<'a, 'b> {
    work: &'a Attend<'b>,
    scratch: &'a mut Scratch,
}

impl Kernel for Run<'_, '_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        const { assert!(S::QUERIES <= TILE && (S::QUERY_LINES == 1 || S::QUERY_LINES == 2)) };
        let Self { work, scratch } = self;
        let (width, queries) = (work.head_width, work.rows * work.group);
        assert!(width.is_multiple_of(2 * LANES), "heads of {width} components");
        scratch.states[..queries].fill(State::EMPTY);
        scratch.sums[..queries * width].fill(0.0);
        work.gather(S::QUERIES, &mut scratch.queries);
        let last = work.position + work.rows - 1;
        let first_seen = (work.position + 1).saturating_sub(work.window);
        let part = block_length(width);
        for b in first_seen / BLOCK..=last / BLOCK {
            // SAFETY: `attend`'s caller promises that nobody writes the blocks.
            let block = unsafe { work.blocks[b].read(work.offset, part) };
            let (k, v) = block.split_at(BLOCK * width);
            // Asked for meanwhile; after the last one it is this one again.
            let next = work.blocks.get(b + 1).unwrap_or(&work.blocks[b]).part(work.offset, part);
            for Tile { first, rows: n } in Tiles::new(queries, S::QUERIES).iter() {
                let states = &mut scratch.states[first..first + n];
                let (low, high) = work.look(first, b * BLOCK, states);
                if low >= high {
                    continue;
                }
                let q = &scratch.queries[first * width..][..n * width];
                let sums = &mut scratch.sums[first * width..][..n * width];
                let scores = &mut scratch.scores;
                // Positions in pairs of lines.
                let range = (low / (2 * LANES), high.div_ceil(2 * LANES));
                macro_rules! tile {
                    ($n:literal, $lines:literal) => {{
                        score::<S, $n, $lines>(simd, q, (k, v), range, scores);
                        weigh::<S, $n>(simd, states, range, scores, sums);
                        gather_values::<S, $n, $lines>(simd, scores, (v, next), range, sums);
                    }};
                }
                // Tiles wider than the instruction set's never come: `Tiles` bounds them.
                macro_rules! widths {
                    ($($n:literal)*) => {
                        match n {
                            $($n if $n <= S::QUERIES => match S::QUERY_LINES {
                                1 => tile!($n, 1),
                                _ => tile!($n, 2),
                            },)*
                            _ => {}
                        }
                    };
                }
                widths!(1 2 3 4 5 6 7 8);
            }
        }
        work.finish(simd, &scratch.states, &scratch.sums);
    }
}

impl Attend<'_> {
    /// Copies the queries, scaled, to where a tile's lie side by side.
    #[inline(always)]
    fn gather(&self, tile: usize, to: &mut [f32]) {
        let (width, queries) = (self.head_width, self.rows * self.group);
        for Tile { first, rows: n } in Tiles::new(queries, tile).iter() {
            let tile = &mut to[first * width..][..n * width];
            for i in 0..n {
                let (row, head) = ((first + i) / self.group, (first + i) % self.group);
                let column = self.column + head * width;
                // SAFETY: `attend`'s caller promises that nobody writes the queries.
                let q = unsafe { self.q.read(self.row + row, 0, column + width) };
                for (d, &q) in q[column..].iter().enumerate() {
                    tile[d * n + i] = q * self.scale;
                }
            }
        }
    }

    /// Notes what each query of a tile sees of the block that begins at position
    /// `start`; returns what any of them sees.
    #[inline(always)]
    fn look(&self, first: usize, start: usize, states: &mut [State]) -> (usize, usize) {
        let (mut low, mut high) = (BLOCK, 0);
        for (i, state) in states.iter_mut().enumerate() {
            let end = self.position + (first + i) / self.group + 1;
            state.to = end.saturating_sub(start).min(BLOCK);
            state.from = end.saturating_sub(self.window).saturating_sub(start).min(BLOCK);
            if state.from < state.to {
                (low, high) = (low.min(state.from), high.max(state.to));
            }
        }
        (low, high)
    }

    /// Divides by the totals and stores.
    #[inline(always)]
    fn finish<S: Simd>(&self, simd: S, states: &[State], sums: &[f32]) {
        let (width, queries) = (self.head_width, self.rows * self.group);
        for (i, sums) in sums[..queries * width].chunks_exact(width).enumerate() {
            let (row, head) = (i / self.group, i % self.group);
            let inverse = simd.f_splat(1.0 / states[i].total);
            for (j, sum) in sums.as_chunks::<LANES>().0.iter().enumerate() {
                let column = self.column + head * width + j * LANES;
                // SAFETY: `attend`'s caller promises that these columns are ours.
                let to = unsafe { self.out.lanes(self.row + row, column) };
                simd.f_store(simd.f_mul(simd.f_load(sum), inverse), to);
            }
        }
    }
}

/// Repeats `body` for each query of a tile of `n`, with the query as a constant.
macro_rules! each_query {
    ($n:ident, $t:ident, $body:block) => { each_query!(@ $n, $t, $body, 0 1 2 3 4 5 6 7) };
    (@ $n:ident, $t:ident, $body:block, $($i:literal)*) => {
        $( if $n > $i { const $t: usize = $i; $body } )*
    };
}

/// Scores of `N` queries with the positions of `range`, in units of two lines: one or two
/// lines (`L`) at a time, as registers hold their sums. No score depends on which. While
/// it reads keys (`k`), it asks for as many bytes of the same positions' values (`v`).
#[inline(always)]
fn score<S: Simd, const N: usize, const L: usize>(
    simd: S,
    q: &[f32],
    (k, v): (&[u16], &[u16]),
    range: (usize, usize),
    scores: &mut [[f32; BLOCK]],
) {
    let width = q.len() / N;
    let scores = &mut scores[..N];
    for line in (2 * range.0..2 * range.1).step_by(L) {
        let keys = &k[line * LANES * width..][..L * LANES * width];
        // One line is its own second one, of which nothing is made.
        let (first, second) = (&keys[..LANES * width], &keys[(L - 1) * LANES * width..]);
        let lines = first.as_chunks::<LANES>().0.iter().zip(second.as_chunks::<LANES>().0);
        let mut a = [simd.f_splat(0.0); N];
        let mut b = [simd.f_splat(0.0); N];
        let values = v[line * LANES * width..].as_chunks::<{ 2 * LANES }>().0;
        for (i, ((first, second), q)) in lines.zip(q.as_chunks::<N>().0).enumerate() {
            if L == 2 || i % 2 == 0 {
                prefetch(&values[i * L / 2]);
            }
            let (first, second) = (simd.f_from_f16(first), simd.f_from_f16(second));
            each_query!(N, T, {
                let q = simd.f_splat(q[T]);
                a[T] = simd.f_fma(q, first, a[T]);
                if L == 2 {
                    b[T] = simd.f_fma(q, second, b[T]);
                }
            });
        }
        each_query!(N, T, {
            let to = &mut scores[T].as_chunks_mut::<LANES>().0[line..line + L];
            simd.f_store(a[T], &mut to[0]);
            if L == 2 {
                simd.f_store(b[T], &mut to[1]);
            }
        });
    }
}

/// Turns scores into weights, and rescales the sums so far to the new maximum.
#[inline(always)]
fn weigh<S: Simd, const N: usize>(
    simd: S,
    states: &mut [State],
    range: (usize, usize),
    scores: &mut [[f32; BLOCK]],
    sums: &mut [f32],
) {
    let width = sums.len() / N;
    let sums = sums.chunks_exact_mut(width);
    for ((state, scores), sums) in states.iter_mut().zip(scores).zip(sums) {
        let (start, end) = (range.0 * 32, range.1 * 32);
        let (from, to) = (state.from.clamp(start, end), state.to.clamp(start, end));
        if from >= to {
            scores[start..end].fill(0.0); // It sees nothing here.
            continue;
        }
        scores[start..from].fill(f32::NEG_INFINITY);
        scores[to..end].fill(f32::NEG_INFINITY);
        let mut largest = simd.f_splat(f32::NEG_INFINITY);
        for part in scores[start..end].as_chunks::<LANES>().0 {
            largest = simd.f_max(simd.f_load(part), largest);
        }
        let largest = simd.f_reduce_max(largest).max(state.largest);
        for part in scores[start..end].as_chunks_mut::<LANES>().0 {
            let x = simd.f_sub(simd.f_load(part), simd.f_splat(largest));
            simd.f_store(exp(simd, x), part);
        }
        scores[start..from].fill(0.0);
        scores[to..end].fill(0.0);
        let mut total = simd.f_splat(0.0);
        for part in scores[start..end].as_chunks::<LANES>().0 {
            total = simd.f_add(total, simd.f_load(part));
        }
        let total = simd.f_reduce_add(total);
        if state.largest == f32::NEG_INFINITY {
            state.total = total;
        } else if state.largest < largest {
            let mut lanes = [0.0; LANES];
            let by = exp(simd, simd.f_splat(state.largest - largest));
            simd.f_store(by, &mut lanes);
            state.total = state.total * lanes[0] + total;
            for sum in sums.as_chunks_mut::<LANES>().0 {
                simd.f_store(simd.f_mul(simd.f_load(sum), by), sum);
            }
        } else {
            state.total += total;
        }
        state.largest = largest;
    }
}

/// Adds the weighted values of a block's positions to the sums: of one or two lines of
/// components (`L`) at a time. While it reads values (`v`), it asks for as many bytes of
/// the next block's keys.
#[inline(always)]
fn gather_values<S: Simd, const N: usize, const L: usize>(
    simd: S,
    weights: &[[f32; BLOCK]],
    (v, next): (&[u16], Shared<'_, u16>),
    range: (usize, usize),
    sums: &mut [f32],
) {
    let width = sums.len() / N;
    let weights = &weights[..N];
    for column in (0..width).step_by(L * LANES) {
        let mut a = [simd.f_splat(0.0); N];
        let mut b = [simd.f_splat(0.0); N];
        for position in range.0 * 2 * LANES..range.1 * 2 * LANES {
            let line = v[position * width + column..].as_chunks::<LANES>().0;
            next.ask(column * BLOCK + position * L * LANES);
            let (first, second) = (simd.f_from_f16(&line[0]), simd.f_from_f16(&line[L - 1]));
            each_query!(N, T, {
                let weight = simd.f_splat(weights[T][position]);
                a[T] = simd.f_fma(weight, first, a[T]);
                if L == 2 {
                    b[T] = simd.f_fma(weight, second, b[T]);
                }
            });
        }
        each_query!(N, T, {
            let to = &mut sums[T * width + column..][..L * LANES];
            let to = to.as_chunks_mut::<LANES>().0;
            simd.f_store(simd.f_add(simd.f_load(&to[0]), a[T]), &mut to[0]);
            if L == 2 {
                simd.f_store(simd.f_add(simd.f_load(&to[1]), b[T]), &mut to[1]);
            }
        });
    }
}
