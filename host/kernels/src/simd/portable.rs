//! The portable instruction set: arrays and loops, which the compiler turns into
//! whatever vectors it was allowed to use. Also the definition of what the others
//! must compute.

use super::{LANES, Simd};

/// Plain Rust.
#[derive(Debug, Clone, Copy)]
pub struct Portable;

/// Adding and subtracting this rounds a float of small magnitude to an integer,
/// to even on ties: its unit in the last place is 1.
const ROUND: f32 = 12_582_912.0;

#[inline(always)]
fn map<T: Copy, U: Copy + Default>(a: [T; LANES], f: impl Fn(T) -> U) -> [U; LANES] {
    let mut out = [U::default(); LANES];
    for i in 0..LANES {
        out[i] = f(a[i]);
    }
    out
}

#[inline(always)]
fn zip<T: Copy + Default>(a: [T; LANES], b: [T; LANES], f: impl Fn(T, T) -> T) -> [T; LANES] {
    let mut out = [T::default(); LANES];
    for i in 0..LANES {
        out[i] = f(a[i], b[i]);
    }
    out
}

#[inline(always)]
fn shift(a: [u8; 64], f: impl Fn(u16) -> u16) -> [u8; 64] {
    let mut out = [0; 64];
    for i in (0..64).step_by(2) {
        let shifted = f(u16::from_le_bytes([a[i], a[i + 1]]));
        [out[i], out[i + 1]] = shifted.to_le_bytes();
    }
    out
}

impl Simd for Portable {
    type F = [f32; LANES];
    type I = [i32; LANES];
    type B = [u8; 64];
    type P = Self::I;

    const TILE: usize = 4;

    #[inline(always)]
    fn f_splat(self, x: f32) -> Self::F {
        [x; LANES]
    }
    #[inline(always)]
    fn f_load(self, x: &[f32; LANES]) -> Self::F {
        *x
    }
    #[inline(always)]
    fn f_store(self, x: Self::F, to: &mut [f32; LANES]) {
        *to = x;
    }
    #[inline(always)]
    fn f_add(self, a: Self::F, b: Self::F) -> Self::F {
        zip(a, b, |a, b| a + b)
    }
    #[inline(always)]
    fn f_sub(self, a: Self::F, b: Self::F) -> Self::F {
        zip(a, b, |a, b| a - b)
    }
    #[inline(always)]
    fn f_mul(self, a: Self::F, b: Self::F) -> Self::F {
        zip(a, b, |a, b| a * b)
    }
    #[inline(always)]
    fn f_div(self, a: Self::F, b: Self::F) -> Self::F {
        zip(a, b, |a, b| a / b)
    }
    #[inline(always)]
    fn f_fma(self, a: Self::F, b: Self::F, c: Self::F) -> Self::F {
        let mut out = [0.0; LANES];
        for i in 0..LANES {
            out[i] = a[i].mul_add(b[i], c[i]);
        }
        out
    }
    #[inline(always)]
    fn f_fnma(self, a: Self::F, b: Self::F, c: Self::F) -> Self::F {
        let mut out = [0.0; LANES];
        for i in 0..LANES {
            out[i] = (-a[i]).mul_add(b[i], c[i]);
        }
        out
    }
    #[inline(always)]
    fn f_max(self, a: Self::F, b: Self::F) -> Self::F {
        // Not f32::max: that gives `a` where `b` is no number, vector units give `b`.
        zip(a, b, |a, b| if a > b { a } else { b })
    }
    #[inline(always)]
    fn f_min(self, a: Self::F, b: Self::F) -> Self::F {
        zip(a, b, |a, b| if a < b { a } else { b })
    }
    #[inline(always)]
    fn f_abs(self, a: Self::F) -> Self::F {
        map(a, f32::abs)
    }
    #[inline(always)]
    fn f_from_i(self, a: Self::I) -> Self::F {
        map(a, |a| a as f32)
    }
    #[inline(always)]
    fn f_from_u6(self, x: &[u8; LANES]) -> Self::F {
        map(*x, |x| f32::from(x & 63))
    }
    #[inline(always)]
    fn f_from_i8(self, x: &[i8; LANES]) -> Self::F {
        map(*x, f32::from)
    }
    #[inline(always)]
    fn f_from_f16(self, x: &[u16; LANES]) -> Self::F {
        map(*x, |bits| half::f16::from_bits(bits).to_f32())
    }
    #[inline(always)]
    fn f_to_f16(self, a: Self::F, to: &mut [u16; LANES]) {
        *to = map(a, |a| half::f16::from_f32(a).to_bits());
    }
    #[inline(always)]
    fn f_exp2_i(self, a: Self::I) -> Self::F {
        map(a, |a| f32::from_bits((a.wrapping_add(127) as u32) << 23))
    }
    #[inline(always)]
    fn i_splat(self, x: i32) -> Self::I {
        [x; LANES]
    }
    #[inline(always)]
    fn i_add(self, a: Self::I, b: Self::I) -> Self::I {
        zip(a, b, i32::wrapping_add)
    }
    #[inline(always)]
    fn i_shl7(self, a: Self::I) -> Self::I {
        map(a, |a| a << 7)
    }
    #[inline(always)]
    fn i_round(self, a: Self::F) -> Self::I {
        map(a, |a| (a + ROUND - ROUND) as i32)
    }
    #[inline(always)]
    fn i_store_i8(self, a: Self::I, to: &mut [i8; LANES]) {
        *to = map(a, |a| a.clamp(-128, 127) as i8);
    }
    #[inline(always)]
    fn i_sum(self, a: Self::I) -> i32 {
        a.iter().fold(0, |sum, &a| sum.wrapping_add(a))
    }
    #[inline(always)]
    fn b_load(self, x: &[u8; 64]) -> Self::B {
        *x
    }
    #[inline(always)]
    fn b_splat(self, x: u8) -> Self::B {
        [x; 64]
    }
    #[inline(always)]
    fn b_and(self, mut a: Self::B, b: Self::B) -> Self::B {
        for i in 0..64 {
            a[i] &= b[i];
        }
        a
    }
    #[inline(always)]
    fn b_or(self, mut a: Self::B, b: Self::B) -> Self::B {
        for i in 0..64 {
            a[i] |= b[i];
        }
        a
    }
    #[inline(always)]
    fn b_shr<const N: u32>(self, a: Self::B) -> Self::B {
        shift(a, |x| x >> N)
    }
    #[inline(always)]
    fn b_shl<const N: u32>(self, a: Self::B) -> Self::B {
        shift(a, |x| x << N)
    }
    #[inline(always)]
    fn dot(self, acc: Self::I, w: Self::B, x: [i8; 4]) -> Self::I {
        let mut out = acc;
        for i in 0..LANES {
            for e in 0..4 {
                out[i] += i32::from(w[4 * i + e]) * i32::from(x[e]);
            }
        }
        out
    }
    #[inline(always)]
    fn dot_full(self, acc: Self::I, w: Self::B, x: [i8; 4]) -> Self::I {
        self.dot(acc, w, x)
    }
    #[inline(always)]
    fn p_line(self, w: Self::B) -> Self::B {
        w
    }
    #[inline(always)]
    fn p_zero(self) -> Self::I {
        self.i_splat(0)
    }
    #[inline(always)]
    fn p_splat(self, x: [i16; 2]) -> Self::I {
        self.i_splat(i32::from(x[0]) + i32::from(x[1]))
    }
    #[inline(always)]
    fn p_dot(self, acc: Self::I, w: Self::B, x: [i8; 4]) -> Self::I {
        self.dot(acc, w, x)
    }
    #[inline(always)]
    fn p_dot_biased(self, acc: Self::I, w: Self::B, x: [i8; 4]) -> Self::I {
        let sum: i32 = x.iter().map(|&x| i32::from(x)).sum();
        self.dot_full(self.i_add(acc, self.i_splat(-128 * sum)), w, x)
    }
    #[inline(always)]
    fn p_add(self, acc: Self::I, sums: Self::I) -> Self::I {
        self.i_add(acc, sums)
    }
}
