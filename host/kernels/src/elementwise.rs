//! Operations on whole rows: norms, activations, rotary positions.

use crate::simd::{Isa, Kernel, LANES, Simd};

/// Gates of a feed-forward layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Gate {
    /// `x / (1 + exp(-x))`.
    Silu,
    /// `x / 2 * (1 + tanh(sqrt(2 / pi) * (x + 0.044715 x^3)))`.
    GeluTanh,
}

/// `out = x / sqrt(mean(x^2) + epsilon) * weight`.
///
/// # Panics
/// When the lengths differ or are no multiple of 16.
pub fn rms_norm(isa: Isa, x: &[f32], weight: &[f32], epsilon: f32, out: &mut [f32]) {
    assert!(x.len() == weight.len() && x.len() == out.len(), "rows of different lengths");
    assert!(x.len().is_multiple_of(LANES), "a row of {} floats", x.len());
    isa.run(RmsNorm { x, weight, epsilon, out });
}

struct RmsNorm<'a> {
    x: &'a [f32],
    weight: &'a [f32],
    epsilon: f32,
    out: &'a mut [f32],
}

impl Kernel for RmsNorm<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        let x = self.x.as_chunks::<LANES>().0;
        // Two sums, so that an addition need not wait for the one before it.
        let mut sums = [simd.f_splat(0.0); 2];
        for (i, part) in x.iter().enumerate() {
            let part = simd.f_load(part);
            sums[i % 2] = simd.f_fma(part, part, sums[i % 2]);
        }
        let mean = simd.f_reduce_add(simd.f_add(sums[0], sums[1])) / self.x.len() as f32;
        let inverse = simd.f_splat(1.0 / (mean + self.epsilon).sqrt());
        let weight = self.weight.as_chunks::<LANES>().0;
        for ((x, weight), out) in x.iter().zip(weight).zip(self.out.as_chunks_mut::<LANES>().0) {
            let scaled = simd.f_mul(simd.f_load(x), inverse);
            simd.f_store(simd.f_mul(scaled, simd.f_load(weight)), out);
        }
    }
}

/// `out = f(gate) * up`.
///
/// # Panics
/// When the lengths differ or are no multiple of 16.
pub fn gated(isa: Isa, f: Gate, gate: &[f32], up: &[f32], out: &mut [f32]) {
    assert!(gate.len() == up.len() && up.len() == out.len(), "rows of different lengths");
    assert!(gate.len().is_multiple_of(LANES), "a row of {} floats", gate.len());
    isa.run(Gated { f, gate, up, out });
}

struct Gated<'a> {
    f: Gate,
    gate: &'a [f32],
    up: &'a [f32],
    out: &'a mut [f32],
}

impl Kernel for Gated<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        let gates = self.gate.as_chunks::<LANES>().0.iter().zip(self.up.as_chunks::<LANES>().0);
        for ((gate, up), out) in gates.zip(self.out.as_chunks_mut::<LANES>().0) {
            let x = simd.f_load(gate);
            let exponent = match self.f {
                Gate::Silu => simd.f_sub(simd.f_splat(0.0), x),
                Gate::GeluTanh => {
                    // x / 2 * (1 + tanh(u)) = x / (1 + exp(-2u)).
                    let square = simd.f_mul(x, x);
                    let inner = simd.f_fma(square, simd.f_splat(0.044_715), simd.f_splat(1.0));
                    // -2 sqrt(2 / pi).
                    simd.f_mul(simd.f_mul(x, inner), simd.f_splat(-1.595_769))
                }
            };
            let one = simd.f_splat(1.0);
            let activated = simd.f_div(x, simd.f_add(one, exp(simd, exponent)));
            simd.f_store(simd.f_mul(activated, simd.f_load(up)), out);
        }
    }
}

/// `e^x`, to about 1 unit in the last place; `x` is bounded to -87.3 to 88.3, which
/// is where the result is a normal number. `e^0` is exactly 1.
///
/// Cody and Waite: `x = n ln 2 + r` with the two-part `ln 2`, a polynomial in `r`
/// (the minimax coefficients of Cephes' `expf`), times `2^n`.
#[inline(always)]
pub(crate) fn exp<S: Simd>(simd: S, x: S::F) -> S::F {
    let x = simd.f_max(simd.f_min(x, simd.f_splat(88.3)), simd.f_splat(-87.3));
    let n = simd.i_round(simd.f_mul(x, simd.f_splat(std::f32::consts::LOG2_E)));
    let whole = simd.f_from_i(n);
    let r = simd.f_fnma(whole, simd.f_splat(0.693_359_4), x);
    let r = simd.f_fnma(whole, simd.f_splat(-2.121_944_4e-4), r);
    let mut p = simd.f_splat(1.987_569_1e-4);
    for c in [1.398_199_9e-3, 8.333_452e-3, 4.166_579_6e-2, 1.666_666_5e-1, 0.5] {
        p = simd.f_fma(p, r, simd.f_splat(c));
    }
    let p = simd.f_add(simd.f_fma(p, simd.f_mul(r, r), r), simd.f_splat(1.0));
    simd.f_mul(p, simd.f_exp2_i(n))
}

/// Adds `y` to `x`.
///
/// # Panics
/// When the lengths differ.
pub fn add(x: &mut [f32], y: &[f32]) {
    assert_eq!(x.len(), y.len(), "rows of different lengths");
    for (x, y) in x.iter_mut().zip(y) {
        *x += y;
    }
}

/// Rotates one head by its position, pairing component i with i + half (GPT-NeoX,
/// Qwen). `cos` and `sin` have an angle for each pair.
///
/// # Panics
/// When the lengths do not fit each other.
pub fn rotate_halves(head: &mut [f32], cos: &[f32], sin: &[f32]) {
    assert!(head.len() == 2 * cos.len() && cos.len() == sin.len(), "angles for another head");
    let (first, second) = head.split_at_mut(cos.len());
    for (((a, b), c), s) in first.iter_mut().zip(second).zip(cos).zip(sin) {
        (*a, *b) = (*a * c - *b * s, *a * s + *b * c);
    }
}

/// As [`rotate_halves`], pairing neighbouring components (llama).
///
/// # Panics
/// When the lengths do not fit each other.
pub fn rotate_neighbours(head: &mut [f32], cos: &[f32], sin: &[f32]) {
    assert!(head.len() == 2 * cos.len() && cos.len() == sin.len(), "angles for another head");
    for ((pair, c), s) in head.chunks_exact_mut(2).zip(cos).zip(sin) {
        let (a, b) = (pair[0], pair[1]);
        (pair[0], pair[1]) = (a * c - b * s, a * s + b * c);
    }
}
