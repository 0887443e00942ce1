//! Integer sums of a sub-block's products, row by row of a tile.
//!
//! They are exact, so that an instruction set may add in whatever order its registers
//! favour: all of them agree in every bit.

use super::ahead::Ahead;
use super::lines::Lines;
use crate::simd::{Simd, here};

/// Repeats `body` for each row of a tile of `n`, with the row as a constant, so
/// that arrays of sums become registers.
macro_rules! each_row {
    ($n:ident, $t:ident, $body:block) => {
        $crate::matrix::sums::each_row!(@ $n, $t, $body, 0 1 2 3 4 5 6 7 8 9 10 11)
    };
    (@ $n:ident, $t:ident, $body:block, $($i:literal)*) => {
        $( if $n > $i { const $t: usize = $i; $body } )*
    };
}
pub(super) use each_row;

/// For each row `$t` of a tile of `$n`, its products with a sub-block as `$sum`: the
/// quants `$x` times the lines `$w`, and `$start`, which is where the sum of weights
/// that are stored too large begins. Meanwhile `$ahead` asks for what comes later.
///
/// Where products are summed in pairs first, two registers make a line or a row's sum,
/// and sixteen are all there are. Up to four rows keep their sums there, and each line is
/// needed once. More rows have theirs in memory and go, one after the other, over four
/// lines that stay in registers: more loads, but each line is unpacked once for up to
/// twelve rows, and two threads of a core get less in each other's way.
macro_rules! each_sum {
    (
        $s:ident, $simd:ident, $n:ident, $t:ident,
        $w:expr, $x:expr, $start:expr, $ahead:expr, |$sum:ident| $body:block
    ) => {
        let w = $w;
        if !$s::PAIRS_FIRST {
            let lines = some($simd, &w, 0);
            each_row!($n, $t, {
                let start = $simd.i_splat($start.sum);
                let $sum = dots::<_, _, _, $n>($simd, &w, start, &lines, $x, ($ahead, $t));
                $body
            });
        } else if $n <= FEW_ROWS && fours(&w) > 1 {
            let mut sums = [($simd.i_splat(0), $simd.p_zero()); $n];
            let mut quants = [{
                const $t: usize = 0;
                $x
            }; $n];
            each_row!($n, $t, {
                sums[$t] = start($simd, &w, $start);
                quants[$t] = $x;
            });
            line_by_line($simd, &w, &quants, &mut sums);
            each_row!($n, $t, {
                let $sum = sums[$t].0;
                $ahead.ask($t, $n);
                $body
            });
        } else {
            let mut sums = [$simd.i_splat(0); $n];
            let mut pairs = [$simd.p_zero(); $n];
            let whole = one_sum_of_pairs(&w);
            if fours(&w) > 1 {
                let lines: [_; 4] = some($simd, &w, 0);
                each_row!($n, $t, {
                    let start = start($simd, &w, $start);
                    let (sum, pair) = some_lines($simd, &w, &lines, 0, $x, start);
                    if whole {
                        pairs[$t] = pair;
                    } else {
                        sums[$t] = sum;
                    }
                });
                if whole {
                    in_memory::<$s, _, $n>(&mut pairs);
                } else {
                    in_memory::<$s, _, $n>(&mut sums);
                }
            }
            let last = 4 * (fours(&w) - 1);
            let lines: [_; 4] = some($simd, &w, last);
            each_row!($n, $t, {
                let (sum, pair) = start($simd, &w, $start);
                let so_far = match (fours(&w), whole) {
                    (1, _) => (sum, pair),
                    (_, true) => (sum, pairs[$t]),
                    (_, false) => (sums[$t], $simd.p_zero()),
                };
                let ($sum, _) = some_lines($simd, &w, &lines, last, $x, so_far);
                $ahead.ask($t, $n);
                $body
            });
        }
    };
}
pub(super) use each_sum;

/// Rows whose sums stay in registers where two make one and products are summed in pairs
/// first.
pub(super) const FEW_ROWS: usize = 4;

/// Has sums of a tile lie in memory, if they are too many for registers: left alone, the
/// compiler keeps them there and spills what the inner loop needs instead.
#[inline(always)]
pub(super) fn in_memory<S: Simd, T, const N: usize>(sums: &mut [T; N]) {
    if S::PAIRS_FIRST && N > FEW_ROWS {
        std::hint::black_box(sums);
    }
}

/// Four lines at a time are all of them.
#[inline(always)]
pub(super) const fn fours<W: Lines<L>, const L: usize>(_: &W) -> usize {
    L / 4
}

/// Whether the products with all lines fit 16 bits.
#[inline(always)]
pub(super) const fn one_sum_of_pairs<W: Lines<L>, const L: usize>(_: &W) -> bool {
    W::PAIRED == L
}

/// Where a row's sum starts: below zero, where weights are stored too large.
#[derive(Debug, Clone, Copy)]
pub(super) struct Start {
    /// The whole sum.
    pub sum: i32,
    /// The same in two parts: columns 0 and 1 of each four, and 2 and 3. Used where lines
    /// are [`Lines::FROM_PAIRS`].
    pub pairs: [i16; 2],
}

impl Start {
    /// For lines that do not start from pairs.
    #[inline(always)]
    pub(super) fn at(sum: i32) -> Self {
        Self { sum, pairs: [0; 2] }
    }
}

/// Where a row's sum and its sum of pairs start, if products are summed in pairs: the
/// bias of biased lines is taken off with each of them.
#[inline(always)]
pub(super) fn start<S: Simd, W: Lines<L>, const L: usize>(
    simd: S,
    _: &W,
    at: Start,
) -> (S::I, S::P) {
    if W::FROM_PAIRS {
        (simd.i_splat(0), simd.p_splat(at.pairs))
    } else {
        (simd.i_splat(if W::BIASED { 0 } else { at.sum }), simd.p_zero())
    }
}

/// `M` lines from line `first` on, unpacked.
#[inline(always)]
pub(super) fn some<S: Simd, W: Lines<L>, const L: usize, const M: usize>(
    simd: S,
    w: &W,
    first: usize,
) -> [S::B; M] {
    // Not `map`: the compiler may leave a call there, with its closure compiled for the
    // baseline and the lines passed through memory.
    let mut lines = [simd.b_splat(0); M];
    each_row!(M, I, {
        lines[I] = w.line(simd, first + I);
    });
    lines
}

/// Adds a row's products with all lines, in fours, and asks for the row's part of what
/// lies ahead, of a tile of `N`.
#[inline(always)]
pub(super) fn dots<S: Simd, W: Lines<L>, const L: usize, const N: usize>(
    simd: S,
    _: &W,
    mut sum: S::I,
    lines: &[S::B; L],
    mut x: &[[i8; 4]; L],
    (ahead, row): (Ahead<'_>, usize),
) -> S::I {
    each_row!(L, I, {
        sum = if W::BIASED {
            simd.dot_full(sum, lines[I], x[I])
        } else {
            simd.dot(sum, lines[I], x[I])
        };
        if ahead.ask(row * L + I, N * L) {
            x = here(x);
        }
    });
    sum
}

/// Adds each row's products with line after line to its sums.
#[inline(always)]
pub(super) fn line_by_line<S: Simd, W: Lines<L>, const L: usize, const N: usize>(
    simd: S,
    w: &W,
    x: &[&[[i8; 4]; L]; N],
    sums: &mut [(S::I, S::P); N],
) {
    each_row!(L, I, {
        let line = simd.p_line(w.line(simd, I));
        each_row!(N, T, {
            sums[T] = add_line::<S, W, L>(simd, line, I, x[T][I], sums[T]);
        });
    });
}

/// Adds a row's products with the lines from `first` on to its sum; or, as long as they
/// fit 16 bits, to its sum of pairs.
#[inline(always)]
pub(super) fn some_lines<S: Simd, W: Lines<L>, const L: usize, const M: usize>(
    simd: S,
    _: &W,
    lines: &[S::B; M],
    first: usize,
    x: &[[i8; 4]; L],
    mut sums: (S::I, S::P),
) -> (S::I, S::P) {
    each_row!(M, I, {
        sums = add_line::<S, W, L>(simd, lines[I], first + I, x[first + I], sums);
    });
    sums
}

/// Adds the products with line `i`; those in pairs to the sum as often as they must be.
#[inline(always)]
fn add_line<S: Simd, W: Lines<L>, const L: usize>(
    simd: S,
    line: S::B,
    i: usize,
    x: [i8; 4],
    (sum, pairs): (S::I, S::P),
) -> (S::I, S::P) {
    let pairs =
        if W::BIASED { simd.p_dot_biased(pairs, line, x) } else { simd.p_dot(pairs, line, x) };
    if (i + 1).is_multiple_of(W::PAIRED) {
        (simd.p_add(sum, pairs), simd.p_zero())
    } else {
        (sum, pairs)
    }
}
