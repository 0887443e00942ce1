//! How each weight format is unpacked and multiplied: one packed block times the
//! records of a tile.

use bytemuck::Pod;

use super::PREFETCH;
use crate::activation::{Floats, Q8, Q8K};
use crate::pack::{
    PackedF16, PackedF32, PackedQ4_0, PackedQ4_1, PackedQ4K, PackedQ5_0, PackedQ5K, PackedQ6K,
    PackedQ8_0,
};
use crate::simd::{Simd, prefetch};

/// Repeats `body` for each row of a tile of `n`, with the row as a constant, so
/// that arrays of sums become registers.
macro_rules! each_row {
    ($n:ident, $t:ident, $body:block) => {
        $crate::matrix::formats::each_row!(@ $n, $t, $body, 0 1 2 3 4 5 6 7 8 9 10 11)
    };
    (@ $n:ident, $t:ident, $body:block, $($i:literal)*) => {
        $( if $n > $i { const $t: usize = $i; $body } )*
    };
}
pub(super) use each_row;

/// A packed block of 16 components.
pub(super) trait Format: Pod {
    /// The activations it goes with.
    type Record: Pod;
    /// Records, for each row, that a block needs.
    const RECORDS: usize;
    /// Widest tile whose sums stay in registers beside all else.
    const IN_REGISTERS: usize;

    /// Adds the block's products with each row to the row's sum. `records` are
    /// `RECORDS x N`, block by block.
    fn accumulate<S: Simd, const N: usize>(
        &self,
        simd: S,
        records: &[Self::Record],
        sums: &mut [S::F; N],
    );
}

/// The weights of a sub-block as `L` lines, each of them unpacked when it is asked for.
trait Lines<const L: usize> {
    /// Lines whose products with a row, summed in pairs, fit 16 bits together: with
    /// weights of b bits, `n` lines come to at most `2 * n * (2^b - 1) * 127`.
    const PAIRED: usize;
    /// Whether they are bytes that stand for themselves less 128.
    const BIASED: bool = false;

    /// Line `i`, which is a constant where this is called.
    fn line<S: Simd>(&self, simd: S, i: usize) -> S::B;

    /// All of them.
    #[inline(always)]
    fn all<S: Simd>(&self, simd: S) -> [S::B; L] {
        // Not `map`: the compiler may leave a call there, with its closure compiled for
        // the baseline and the lines passed through memory.
        let mut lines = [simd.b_splat(0); L];
        each_row!(L, I, {
            lines[I] = self.line(simd, I);
        });
        lines
    }
}

/// Four lines of nibbles are eight lines of weights: low, high, low, high, ...
struct Nibbles<'a>(&'a [[u8; 64]; 4]);

impl Lines<8> for Nibbles<'_> {
    const PAIRED: usize = 8;

    #[inline(always)]
    fn line<S: Simd>(&self, simd: S, i: usize) -> S::B {
        let line = simd.b_load(&self.0[i / 2]);
        simd.b_and(if i.is_multiple_of(2) { line } else { simd.b_shr::<4>(line) }, simd.b_splat(15))
    }
}

/// Four lines of nibbles and one of fifth bits are eight lines of weights: those of
/// the low nibbles first.
struct FiveBits<'a>(&'a [[u8; 64]; 5]);

impl Lines<8> for FiveBits<'_> {
    const PAIRED: usize = 4;

    #[inline(always)]
    fn line<S: Simd>(&self, simd: S, i: usize) -> S::B {
        let (nibbles, h) = (simd.b_load(&self.0[i % 4]), simd.b_load(&self.0[4]));
        let nibbles = if i < 4 { nibbles } else { simd.b_shr::<4>(nibbles) };
        let fifth = match i {
            0 => simd.b_shl::<4>(h),
            1 => simd.b_shl::<3>(h),
            2 => simd.b_shl::<2>(h),
            3 => simd.b_shl::<1>(h),
            4 => h,
            5 => simd.b_shr::<1>(h),
            6 => simd.b_shr::<2>(h),
            _ => simd.b_shr::<3>(h),
        };
        let (low, bit) = (simd.b_splat(15), simd.b_splat(16));
        simd.b_or(simd.b_and(nibbles, low), simd.b_and(fifth, bit))
    }
}

/// Three lines whose top two bits are a fourth.
struct SixBits<'a>(&'a [[u8; 64]; 3]);

impl Lines<4> for SixBits<'_> {
    const PAIRED: usize = 2;

    #[inline(always)]
    fn line<S: Simd>(&self, simd: S, i: usize) -> S::B {
        if i < 3 {
            return simd.b_and(simd.b_load(&self.0[i]), simd.b_splat(63));
        }
        let (b0, b1) = (simd.b_load(&self.0[0]), simd.b_load(&self.0[1]));
        let b2 = simd.b_load(&self.0[2]);
        let top = simd.b_and(simd.b_shr::<2>(b0), simd.b_splat(0x30));
        let mid = simd.b_and(simd.b_shr::<4>(b1), simd.b_splat(0x0c));
        let low = simd.b_and(simd.b_shr::<6>(b2), simd.b_splat(0x03));
        simd.b_or(simd.b_or(top, mid), low)
    }
}

/// Eight lines of bytes, each plus 128.
struct Bytes<'a>(&'a [[u8; 64]; 8]);

impl Lines<8> for Bytes<'_> {
    const PAIRED: usize = 1;
    const BIASED: bool = true;

    #[inline(always)]
    fn line<S: Simd>(&self, simd: S, i: usize) -> S::B {
        simd.b_load(&self.0[i])
    }
}

/// For each row `$t` of a tile of `$n`, its products with a sub-block as `$sum`: the
/// quants `$x` times the lines `$w`, and `$start`, which is where the sum of weights
/// that are stored too large begins.
///
/// Where the lines fit in registers, they stay there and row after row goes over them.
/// Where products are summed in pairs first and the lines are too many, the sums of pairs
/// of all rows stay in registers instead, and each line is needed once. All of it is
/// exact, so both ways agree in every bit.
macro_rules! each_sum {
    (
        $s:ident, $simd:ident, $n:ident, $t:ident,
        $w:expr, $x:expr, $start:expr, |$sum:ident| $body:block
    ) => {
        let w = $w;
        if $s::PAIRS_FIRST && !are_few(&w) {
            let mut totals = [$simd.i_splat(0); $n];
            let mut quants = [{
                const $t: usize = 0;
                $x
            }; $n];
            each_row!($n, $t, {
                if !biased(&w) {
                    totals[$t] = $simd.i_splat($start);
                }
                quants[$t] = $x;
            });
            pairs_first($simd, &w, |i| $simd.p_line(w.line($simd, i)), &quants, &mut totals);
            each_row!($n, $t, {
                let $sum = totals[$t];
                $body
            });
        } else {
            let lines = w.all($simd);
            each_row!($n, $t, {
                let $sum = row_by_row($simd, &w, $simd.i_splat($start), &lines, $x);
                $body
            });
        }
    };
}

/// [`Lines::BIASED`] of a value whose type has no name where it is asked.
#[inline(always)]
const fn biased<W: Lines<L>, const L: usize>(_: &W) -> bool {
    W::BIASED
}

/// Whether the lines stay in registers, beside the sums of one row, where two registers
/// make a line.
#[inline(always)]
const fn are_few<W: Lines<L>, const L: usize>(_: &W) -> bool {
    L <= 4
}

/// A row's products with all lines.
#[inline(always)]
fn row_by_row<S: Simd, W: Lines<L>, const L: usize>(
    simd: S,
    w: &W,
    start: S::I,
    lines: &[S::B; L],
    x: &[[i8; 4]; L],
) -> S::I {
    let mut sum = start;
    if S::PAIRS_FIRST {
        let mut sums = [sum];
        pairs_first(simd, w, |i| lines[i], &[x], &mut sums);
        return sums[0];
    }
    each_row!(L, I, {
        sum = if W::BIASED {
            simd.dot_full(sum, lines[I], x[I])
        } else {
            simd.dot(sum, lines[I], x[I])
        };
    });
    sum
}

/// Adds each row's products with all lines, summed in pairs in 16 bits as long as they
/// fit.
#[inline(always)]
fn pairs_first<S: Simd, W: Lines<L>, const L: usize, const N: usize>(
    simd: S,
    _: &W,
    line: impl Fn(usize) -> S::B,
    x: &[&[[i8; 4]; L]; N],
    sums: &mut [S::I; N],
) {
    let mut pairs = [simd.p_zero(); N];
    each_row!(L, I, {
        let line = line(I);
        each_row!(N, T, {
            pairs[T] = if W::BIASED {
                simd.p_dot_biased(pairs[T], line, x[T][I])
            } else {
                simd.p_dot(pairs[T], line, x[T][I])
            };
            if (I + 1).is_multiple_of(W::PAIRED) {
                sums[T] = simd.p_add(sums[T], std::mem::replace(&mut pairs[T], simd.p_zero()));
            }
        });
    });
}

/// Quants `8j` to `8j + 7` of a record of 256.
#[inline(always)]
fn eight(quants: &[[i8; 4]; 64], j: usize) -> &[[i8; 4]; 8] {
    &quants.as_chunks::<8>().0[j]
}

/// Quants `4j` to `4j + 3` of a record of 256.
#[inline(always)]
fn four(quants: &[[i8; 4]; 64], j: usize) -> &[[i8; 4]; 4] {
    &quants.as_chunks::<4>().0[j]
}

/// The sum of `min x activations` over 256 columns, as integers.
#[inline(always)]
fn mins<S: Simd>(simd: S, mins: &[S::B; 2], x: &Q8K) -> S::F {
    let zero = simd.i_splat(0);
    let low = simd.dot(simd.dot(zero, mins[0], x.low[0]), mins[1], x.low[1]);
    let high = simd.dot(simd.dot(zero, mins[0], x.high[0]), mins[1], x.high[1]);
    simd.f_from_i(simd.i_add(low, simd.i_shl7(high)))
}

macro_rules! k_format {
    ($packed:ident, $lines:ident) => {
        impl Format for $packed {
            type Record = Q8K;
            const RECORDS: usize = 1;
            const IN_REGISTERS: usize = 10;

            #[inline(always)]
            fn accumulate<S: Simd, const N: usize>(
                &self,
                simd: S,
                records: &[Q8K],
                sums: &mut [S::F; N],
            ) {
                let x = &records[..N];
                let mut part = [simd.f_splat(0.0); N];
                let d = simd.f_from_f16(&self.d);
                for j in 0..8 {
                    let lines = &self.quants[j];
                    for line in lines {
                        prefetch(line, PREFETCH);
                    }
                    let scale = simd.f_mul(simd.f_from_u8(&self.scales[j]), d);
                    each_sum!(S, simd, N, T, $lines(lines), eight(&x[T].quants, j), 0, |a| {
                        part[T] = simd.f_fma(simd.f_from_i(a), scale, part[T]);
                    });
                }
                let dmin = simd.f_from_f16(&self.dmin);
                let m = [simd.b_load(&self.mins[0]), simd.b_load(&self.mins[1])];
                prefetch(&self.scales, PREFETCH);
                prefetch(&self.scales[4], PREFETCH);
                prefetch(&self.mins[0], PREFETCH);
                prefetch(&self.mins[1], PREFETCH);
                prefetch(&self.d, PREFETCH);
                each_row!(N, T, {
                    let sum = simd.f_fnma(mins(simd, &m, &x[T]), dmin, part[T]);
                    sums[T] = simd.f_fma(sum, simd.f_splat(x[T].scale), sums[T]);
                });
            }
        }
    };
}
k_format!(PackedQ4K, Nibbles);
k_format!(PackedQ5K, FiveBits);

impl Format for PackedQ6K {
    type Record = Q8K;
    const RECORDS: usize = 1;
    const IN_REGISTERS: usize = 10;

    #[inline(always)]
    fn accumulate<S: Simd, const N: usize>(&self, simd: S, records: &[Q8K], sums: &mut [S::F; N]) {
        let x = &records[..N];
        let mut part = [simd.f_splat(0.0); N];
        let d = simd.f_load(&self.d);
        for j in 0..16 {
            let lines = &self.quants[j];
            for line in lines {
                prefetch(line, PREFETCH);
            }
            let scale = simd.f_mul(simd.f_from_i8(&self.scales[j]), d);
            let start = |row: usize| x[row].minus_32[j];
            each_sum!(S, simd, N, T, SixBits(lines), four(&x[T].quants, j), start(T), |a| {
                part[T] = simd.f_fma(simd.f_from_i(a), scale, part[T]);
            });
        }
        for scales in self.scales.chunks(4) {
            prefetch(&scales[0], PREFETCH);
        }
        prefetch(&self.d, PREFETCH);
        each_row!(N, T, {
            sums[T] = simd.f_fma(part[T], simd.f_splat(x[T].scale), sums[T]);
        });
    }
}

macro_rules! offset_format {
    ($packed:ident, $offset:ident, $lines:ident) => {
        impl Format for $packed {
            type Record = Q8;
            const RECORDS: usize = 2;
            const IN_REGISTERS: usize = 12;

            #[inline(always)]
            fn accumulate<S: Simd, const N: usize>(
                &self,
                simd: S,
                records: &[Q8],
                sums: &mut [S::F; N],
            ) {
                prefetch(&self.d, PREFETCH);
                for j in 0..2 {
                    let x = &records[j * N..][..N];
                    let lines = &self.quants[j];
                    for line in lines {
                        prefetch(line, PREFETCH);
                    }
                    let d = simd.f_from_f16(&self.d[j]);
                    each_sum!(S, simd, N, T, $lines(lines), &x[T].quants, x[T].$offset, |a| {
                        let scale = simd.f_mul(d, simd.f_splat(x[T].scale));
                        sums[T] = simd.f_fma(simd.f_from_i(a), scale, sums[T]);
                    });
                }
            }
        }
    };
}
offset_format!(PackedQ4_0, minus_8, Nibbles);
offset_format!(PackedQ5_0, minus_16, FiveBits);
offset_format!(PackedQ8_0, minus_128, Bytes);

impl Format for PackedQ4_1 {
    type Record = Q8;
    const RECORDS: usize = 2;
    const IN_REGISTERS: usize = 12;

    #[inline(always)]
    fn accumulate<S: Simd, const N: usize>(&self, simd: S, records: &[Q8], sums: &mut [S::F; N]) {
        prefetch(&self.d, PREFETCH);
        prefetch(&self.m, PREFETCH);
        for j in 0..2 {
            let x = &records[j * N..][..N];
            let lines = &self.quants[j];
            for line in lines {
                prefetch(line, PREFETCH);
            }
            let (d, m) = (simd.f_from_f16(&self.d[j]), simd.f_from_f16(&self.m[j]));
            each_sum!(S, simd, N, T, Nibbles(lines), &x[T].quants, 0, |a| {
                let scale = simd.f_mul(d, simd.f_splat(x[T].scale));
                let sum = simd.f_fma(simd.f_from_i(a), scale, sums[T]);
                sums[T] = simd.f_fma(m, simd.f_splat(x[T].scaled_sum), sum);
            });
        }
    }
}

macro_rules! float_format {
    ($packed:ident, $load:ident) => {
        impl Format for $packed {
            type Record = Floats;
            const RECORDS: usize = 1;
            const IN_REGISTERS: usize = 12;

            #[inline(always)]
            fn accumulate<S: Simd, const N: usize>(
                &self,
                simd: S,
                records: &[Floats],
                sums: &mut [S::F; N],
            ) {
                let x = &records[..N];
                for c in 0..32 {
                    let w = simd.$load(&self.0[c]);
                    prefetch(&self.0[c], PREFETCH);
                    each_row!(N, T, {
                        sums[T] = simd.f_fma(w, simd.f_splat(x[T].0[c]), sums[T]);
                    });
                }
            }
        }
    };
}
float_format!(PackedF32, f_load);
float_format!(PackedF16, f_from_f16);
