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

/// Four lines of nibbles as eight lines of weights: low, high, low, high, ...
#[inline(always)]
fn nibble_pairs<S: Simd>(simd: S, lines: &[[u8; 64]; 4]) -> [S::B; 8] {
    let low = simd.b_splat(15);
    // Not `map`: the compiler may leave a call there, with its closure compiled for
    // the baseline and the lines passed through memory.
    let lines = [
        simd.b_load(&lines[0]),
        simd.b_load(&lines[1]),
        simd.b_load(&lines[2]),
        simd.b_load(&lines[3]),
    ];
    let first = |i: usize| simd.b_and(lines[i], low);
    let second = |i: usize| simd.b_and(simd.b_shr::<4>(lines[i]), low);
    [first(0), second(0), first(1), second(1), first(2), second(2), first(3), second(3)]
}

/// Four lines of nibbles and one of fifth bits as eight lines of weights.
#[inline(always)]
fn five_bits<S: Simd>(simd: S, lines: &[[u8; 64]; 5]) -> [S::B; 8] {
    let (low, fifth) = (simd.b_splat(15), simd.b_splat(16));
    let (l0, l1) = (simd.b_load(&lines[0]), simd.b_load(&lines[1]));
    let (l2, l3) = (simd.b_load(&lines[2]), simd.b_load(&lines[3]));
    let h = simd.b_load(&lines[4]);
    let join = |nibble: S::B, bit: S::B| simd.b_or(simd.b_and(nibble, low), simd.b_and(bit, fifth));
    [
        join(l0, simd.b_shl::<4>(h)),
        join(l1, simd.b_shl::<3>(h)),
        join(l2, simd.b_shl::<2>(h)),
        join(l3, simd.b_shl::<1>(h)),
        join(simd.b_shr::<4>(l0), h),
        join(simd.b_shr::<4>(l1), simd.b_shr::<1>(h)),
        join(simd.b_shr::<4>(l2), simd.b_shr::<2>(h)),
        join(simd.b_shr::<4>(l3), simd.b_shr::<3>(h)),
    ]
}

/// Eight lines of weights times 32 quants.
#[inline(always)]
fn dot32<S: Simd>(simd: S, start: S::I, w: &[S::B; 8], x: &[[i8; 4]; 8]) -> S::I {
    let a = simd.dot(start, w[0], x[0]);
    let a = simd.dot(a, w[1], x[1]);
    let a = simd.dot(a, w[2], x[2]);
    let a = simd.dot(a, w[3], x[3]);
    let a = simd.dot(a, w[4], x[4]);
    let a = simd.dot(a, w[5], x[5]);
    let a = simd.dot(a, w[6], x[6]);
    simd.dot(a, w[7], x[7])
}

/// Quants `8j` to `8j + 7` of a record of 256.
#[inline(always)]
fn eight(quants: &[[i8; 4]; 64], j: usize) -> &[[i8; 4]; 8] {
    &quants.as_chunks::<8>().0[j]
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
    ($packed:ident, $unpack:ident) => {
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
                    let w = $unpack(simd, lines);
                    let scale = simd.f_mul(simd.f_from_u8(&self.scales[j]), d);
                    each_row!(N, T, {
                        let a = dot32(simd, simd.i_splat(0), &w, eight(&x[T].quants, j));
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
k_format!(PackedQ4K, nibble_pairs);
k_format!(PackedQ5K, five_bits);

impl Format for PackedQ6K {
    type Record = Q8K;
    const RECORDS: usize = 1;
    const IN_REGISTERS: usize = 10;

    #[inline(always)]
    fn accumulate<S: Simd, const N: usize>(&self, simd: S, records: &[Q8K], sums: &mut [S::F; N]) {
        let x = &records[..N];
        let mut part = [simd.f_splat(0.0); N];
        let d = simd.f_load(&self.d);
        let six = simd.b_splat(63);
        for j in 0..16 {
            let lines = &self.quants[j];
            for line in lines {
                prefetch(line, PREFETCH);
            }
            let (b0, b1) = (simd.b_load(&lines[0]), simd.b_load(&lines[1]));
            let b2 = simd.b_load(&lines[2]);
            let (w0, w1, w2) = (simd.b_and(b0, six), simd.b_and(b1, six), simd.b_and(b2, six));
            let top = simd.b_and(simd.b_shr::<2>(b0), simd.b_splat(0x30));
            let mid = simd.b_and(simd.b_shr::<4>(b1), simd.b_splat(0x0c));
            let low = simd.b_and(simd.b_shr::<6>(b2), simd.b_splat(0x03));
            let w3 = simd.b_or(simd.b_or(top, mid), low);
            let scale = simd.f_mul(simd.f_from_i8(&self.scales[j]), d);
            each_row!(N, T, {
                let q = &x[T].quants.as_chunks::<4>().0[j];
                let a = simd.dot(simd.i_splat(x[T].minus_32[j]), w0, q[0]);
                let a = simd.dot(a, w1, q[1]);
                let a = simd.dot(a, w2, q[2]);
                let a = simd.dot(a, w3, q[3]);
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
    ($packed:ident, $offset:ident, $unpack:ident) => {
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
                    let w = $unpack(simd, lines);
                    let d = simd.f_from_f16(&self.d[j]);
                    each_row!(N, T, {
                        let a = dot32(simd, simd.i_splat(x[T].$offset), &w, &x[T].quants);
                        let scale = simd.f_mul(d, simd.f_splat(x[T].scale));
                        sums[T] = simd.f_fma(simd.f_from_i(a), scale, sums[T]);
                    });
                }
            }
        }
    };
}
offset_format!(PackedQ4_0, minus_8, nibble_pairs);
offset_format!(PackedQ5_0, minus_16, five_bits);

impl Format for PackedQ8_0 {
    type Record = Q8;
    const RECORDS: usize = 2;
    const IN_REGISTERS: usize = 12;

    #[inline(always)]
    fn accumulate<S: Simd, const N: usize>(&self, simd: S, records: &[Q8], sums: &mut [S::F; N]) {
        prefetch(&self.d, PREFETCH);
        for j in 0..2 {
            let x = &records[j * N..][..N];
            let lines = &self.quants[j];
            for line in lines {
                prefetch(line, PREFETCH);
            }
            // Not `map`, as in `nibble_pairs`.
            let w = [
                simd.b_load(&lines[0]),
                simd.b_load(&lines[1]),
                simd.b_load(&lines[2]),
                simd.b_load(&lines[3]),
                simd.b_load(&lines[4]),
                simd.b_load(&lines[5]),
                simd.b_load(&lines[6]),
                simd.b_load(&lines[7]),
            ];
            let d = simd.f_from_f16(&self.d[j]);
            each_row!(N, T, {
                let q = &x[T].quants;
                let a = simd.dot_full(simd.i_splat(x[T].minus_128), w[0], q[0]);
                let a = simd.dot_full(a, w[1], q[1]);
                let a = simd.dot_full(a, w[2], q[2]);
                let a = simd.dot_full(a, w[3], q[3]);
                let a = simd.dot_full(a, w[4], q[4]);
                let a = simd.dot_full(a, w[5], q[5]);
                let a = simd.dot_full(a, w[6], q[6]);
                let a = simd.dot_full(a, w[7], q[7]);
                let scale = simd.f_mul(d, simd.f_splat(x[T].scale));
                sums[T] = simd.f_fma(simd.f_from_i(a), scale, sums[T]);
            });
        }
    }
}

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
            let w = nibble_pairs(simd, lines);
            let (d, m) = (simd.f_from_f16(&self.d[j]), simd.f_from_f16(&self.m[j]));
            each_row!(N, T, {
                let a = dot32(simd, simd.i_splat(0), &w, &x[T].quants);
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
