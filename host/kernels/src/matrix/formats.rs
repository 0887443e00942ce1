//! How each weight format is unpacked and multiplied: one packed block times the
//! records of a tile.

use bytemuck::Pod;

use super::ahead::{Ahead, NextPage, ask_header, ask_line};
use super::lines::{Bytes, Nibbles, SixBits, five_bits, five_bits_less_16};
use super::quants::Quants;
use super::sums::*;
use crate::activation::{Floats, Q8, Q8K};
use crate::pack::{
    PackedF16, PackedF32, PackedQ4_0, PackedQ4_1, PackedQ4K, PackedQ5_0, PackedQ5K, PackedQ6K,
    PackedQ8_0,
};
use crate::simd::Simd;

/// A packed block of 16 components.
pub(super) trait Format: Pod {
    /// The activations it goes with.
    type Record: Pod;
    /// Records, for each row, that a block needs.
    const RECORDS: usize;
    /// Lines that come before a block's quants; no more than it has sub-blocks.
    const HEADER: usize;
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

/// The rows' records of one block.
#[inline(always)]
fn rows<R, const N: usize>(records: &[R], block: usize) -> &[R; N] {
    &records.as_chunks().0[block]
}

/// The sum of `min x activations` over 256 columns, as integers.
#[inline(always)]
fn mins<S: Simd>(simd: S, mins: &[S::B; 2], x: &Q8K) -> S::F {
    // Mins have six bits and both halves at most seven and a sign: pairs of two fit.
    let sum = |x: &[[i8; 4]; 2]| {
        let pairs = simd.p_dot(simd.p_dot(simd.p_zero(), mins[0], x[0]), mins[1], x[1]);
        simd.p_add(simd.i_splat(0), pairs)
    };
    simd.f_from_i(simd.i_add(sum(&x.low), simd.i_shl7(sum(&x.high))))
}

macro_rules! k_format {
    ($packed:ident, $lines:ident) => {
        impl Format for $packed {
            type Record = Q8K;
            const RECORDS: usize = 1;
            const HEADER: usize = 4;
            const IN_REGISTERS: usize = 10;

            #[inline(always)]
            fn accumulate<S: Simd, const N: usize>(
                &self,
                simd: S,
                records: &[Q8K],
                sums: &mut [S::F; N],
            ) {
                let x = rows::<Q8K, N>(records, 0);
                let mut part = [simd.f_splat(0.0); N];
                let d = simd.f_from_f16(&self.d);
                let page = NextPage::of(self);
                for j in 0..8 {
                    ask_header(self, j);
                    page.ask(j, 8);
                    let (lines, quants) = (&self.quants[j], Quants::of(simd, x, j));
                    let scales = &self.scales_and_mins.as_flattened().as_chunks().0[j];
                    let scale = simd.f_mul(simd.f_from_u6(scales), d);
                    each_sum!(
                        S,
                        simd,
                        N,
                        T,
                        $lines(lines),
                        quants.row(T),
                        Start::at(0),
                        Ahead(lines),
                        |a| {
                            part[T] = simd.f_fma(simd.f_from_i(a), scale, part[T]);
                        }
                    );
                    in_memory::<S, _, N>(&mut part);
                }
                let dmin = simd.f_from_f16(&self.dmin);
                let m: [_; 2] = some(simd, &SixBits(&self.scales_and_mins), 2);
                each_row!(N, T, {
                    let sum = simd.f_fnma(mins(simd, &m, &x[T]), dmin, part[T]);
                    sums[T] = simd.f_fma(sum, simd.f_splat(x[T].scale), sums[T]);
                });
            }
        }
    };
}
k_format!(PackedQ4K, Nibbles);
k_format!(PackedQ5K, five_bits);

impl Format for PackedQ6K {
    type Record = Q8K;
    const RECORDS: usize = 1;
    const HEADER: usize = 5;
    const IN_REGISTERS: usize = 10;

    #[inline(always)]
    fn accumulate<S: Simd, const N: usize>(&self, simd: S, records: &[Q8K], sums: &mut [S::F; N]) {
        let x = rows::<Q8K, N>(records, 0);
        let mut part = [simd.f_splat(0.0); N];
        let d = simd.f_load(&self.d);
        let page = NextPage::of(self);
        for j in 0..16 {
            ask_header(self, j);
            page.ask(j, 16);
            let (lines, quants) = (&self.quants[j], Quants::of(simd, x, j));
            let scale = simd.f_mul(simd.f_from_i8(&self.scales[j]), d);
            let start =
                |row: usize| Start { sum: x[row].minus_32[j], pairs: x[row].minus_32_pairs[j] };
            each_sum!(S, simd, N, T, SixBits(lines), quants.row(T), start(T), Ahead(lines), |a| {
                part[T] = simd.f_fma(simd.f_from_i(a), scale, part[T]);
            });
            in_memory::<S, _, N>(&mut part);
        }
        each_row!(N, T, {
            sums[T] = simd.f_fma(part[T], simd.f_splat(x[T].scale), sums[T]);
        });
    }
}

macro_rules! offset_format {
    ($packed:ident, $start:ident, $lines:ident) => {
        impl Format for $packed {
            type Record = Q8;
            const RECORDS: usize = 2;
            const HEADER: usize = 1;
            const IN_REGISTERS: usize = 12;

            #[inline(always)]
            fn accumulate<S: Simd, const N: usize>(
                &self,
                simd: S,
                records: &[Q8],
                sums: &mut [S::F; N],
            ) {
                NextPage::ask_once(self);
                for j in 0..2 {
                    ask_header(self, j);
                    let (lines, x) = (&self.quants[j], rows::<Q8, N>(records, j));
                    let quants = Quants::of(simd, x, 0);
                    let d = simd.f_from_f16(&self.d[j]);
                    each_sum!(
                        S,
                        simd,
                        N,
                        T,
                        $lines(lines),
                        quants.row(T),
                        x[T].$start(),
                        Ahead(lines),
                        |a| {
                            let scale = simd.f_mul(d, simd.f_splat(x[T].scale));
                            sums[T] = simd.f_fma(simd.f_from_i(a), scale, sums[T]);
                        }
                    );
                    in_memory::<S, _, N>(sums);
                }
            }
        }
    };
}
offset_format!(PackedQ4_0, minus_8, Nibbles);
offset_format!(PackedQ5_0, minus_16, five_bits_less_16);
offset_format!(PackedQ8_0, minus_128, Bytes);

/// Where sums of weights start that are stored too large.
impl Q8 {
    #[inline(always)]
    fn minus_8(&self) -> Start {
        Start::at(self.minus_8)
    }

    #[inline(always)]
    fn minus_16(&self) -> Start {
        Start { sum: self.minus_16, pairs: self.minus_16_pairs }
    }

    #[inline(always)]
    fn minus_128(&self) -> Start {
        Start::at(self.minus_128)
    }
}

impl Format for PackedQ4_1 {
    type Record = Q8;
    const RECORDS: usize = 2;
    const HEADER: usize = 2;
    const IN_REGISTERS: usize = 12;

    #[inline(always)]
    fn accumulate<S: Simd, const N: usize>(&self, simd: S, records: &[Q8], sums: &mut [S::F; N]) {
        NextPage::ask_once(self);
        for j in 0..2 {
            ask_header(self, j);
            let (lines, x) = (&self.quants[j], rows::<Q8, N>(records, j));
            let quants = Quants::of(simd, x, 0);
            let (d, m) = (simd.f_from_f16(&self.d[j]), simd.f_from_f16(&self.m[j]));
            each_sum!(
                S,
                simd,
                N,
                T,
                Nibbles(lines),
                quants.row(T),
                Start::at(0),
                Ahead(lines),
                |a| {
                    let scale = simd.f_mul(d, simd.f_splat(x[T].scale));
                    let sum = simd.f_fma(simd.f_from_i(a), scale, sums[T]);
                    sums[T] = simd.f_fma(m, simd.f_splat(x[T].scaled_sum), sum);
                }
            );
            in_memory::<S, _, N>(sums);
        }
    }
}

macro_rules! float_format {
    ($packed:ident, $load:ident) => {
        impl Format for $packed {
            type Record = Floats;
            const RECORDS: usize = 1;
            const HEADER: usize = 0;
            const IN_REGISTERS: usize = 12;

            #[inline(always)]
            fn accumulate<S: Simd, const N: usize>(
                &self,
                simd: S,
                records: &[Floats],
                sums: &mut [S::F; N],
            ) {
                let x = rows::<Floats, N>(records, 0);
                NextPage::ask_once(self);
                // Rows whose sums are in registers at once; the weights stay in the cache.
                let rows = const { if S::PAIRS_FIRST { 5 } else { N } };
                each_row!(N, PART, {
                    if PART * rows < N {
                        for c in 0..32 {
                            let w = simd.$load(&self.0[c]);
                            if PART == 0 {
                                ask_line(&self.0[c]);
                            }
                            each_row!(N, T, {
                                if T / rows == PART {
                                    sums[T] = simd.f_fma(w, simd.f_splat(x[T].0[c]), sums[T]);
                                }
                            });
                        }
                    }
                });
            }
        }
    };
}
float_format!(PackedF32, f_load);
float_format!(PackedF16, f_from_f16);
