//! AVX2 with FMA and F16C: two registers hold sixteen lanes.

use std::arch::x86_64::*;

use super::{Kernel, LANES, Simd};

/// The proof that this machine has AVX2, FMA and F16C.
#[derive(Debug, Clone, Copy)]
pub struct Avx2(());

impl Avx2 {
    /// The proof, if the machine has all of it.
    pub(super) fn detect() -> Option<Self> {
        (is_x86_feature_detected!("avx2")
            && is_x86_feature_detected!("fma")
            && is_x86_feature_detected!("f16c"))
        .then_some(Self(()))
    }

    /// Runs a kernel compiled for this instruction set.
    #[inline]
    pub(super) fn run<K: Kernel>(self, kernel: K) -> K::Output {
        #[target_feature(enable = "avx2,fma,f16c")]
        fn compiled<K: Kernel>(simd: Avx2, kernel: K) -> K::Output {
            kernel.run(simd)
        }
        // SAFETY: `self` exists, so `detect` found the features.
        unsafe { compiled(self, kernel) }
    }
}

// SAFETY (of every block below): the intrinsics need the instruction sets that
// `self` proves; loads and stores go through references to arrays of their size,
// at offsets within them.
macro_rules! proven {
    ($e:expr) => {{
        // SAFETY: see above.
        #[allow(unused_unsafe)]
        unsafe {
            $e
        }
    }};
}

macro_rules! both {
    ($f:ident, $a:expr, $b:expr) => {
        proven!(($f($a.0, $b.0), $f($a.1, $b.1)))
    };
}

type Pair = (__m256i, __m256i);

/// Its argument, computed at this place and no earlier: an instruction that the compiler
/// neither moves past its like nor sees through, and that does nothing. Without it all
/// lines of a sub-block are unpacked before the first is used, and wait on the stack.
#[inline(always)]
fn here(mut x: Pair) -> Pair {
    #[cfg(not(miri))]
    // SAFETY: no instruction.
    unsafe {
        std::arch::asm!("/* {0} {1} */", inout(ymm_reg) x.0, inout(ymm_reg) x.1, options(nomem, nostack, preserves_flags));
    }
    #[cfg(miri)]
    let _ = &mut x;
    x
}

/// Four bytes as a lane.
#[inline(always)]
fn splat4(x: [i8; 4]) -> i32 {
    i32::from_le_bytes(x.map(|x| x as u8))
}

impl Simd for Avx2 {
    type F = (__m256, __m256);
    type I = Pair;
    type B = Pair;
    type P = Pair;

    // Not what registers hold: sums lie in memory and lines in registers
    // (`matrix/sums.rs`), so that twelve rows share what unpacking costs.
    const TILE: usize = 12;
    const PAIRS_FIRST: bool = true;
    // A line takes two of sixteen registers: twelve for sums, two for what they are made of.
    const QUERIES: usize = 6;
    const QUERY_LINES: usize = 1;

    #[inline(always)]
    fn f_splat(self, x: f32) -> Self::F {
        proven!((_mm256_set1_ps(x), _mm256_set1_ps(x)))
    }
    #[inline(always)]
    fn f_load(self, x: &[f32; LANES]) -> Self::F {
        proven!((_mm256_loadu_ps(x.as_ptr()), _mm256_loadu_ps(x[8..].as_ptr())))
    }
    #[inline(always)]
    fn f_store(self, x: Self::F, to: &mut [f32; LANES]) {
        proven!({
            _mm256_storeu_ps(to.as_mut_ptr(), x.0);
            _mm256_storeu_ps(to[8..].as_mut_ptr(), x.1);
        })
    }
    #[inline(always)]
    fn f_stream(self, x: Self::F, to: &mut [f32; LANES]) {
        let at = to.as_mut_ptr();
        if at.cast::<__m256>().is_aligned() {
            proven!({
                _mm256_stream_ps(at, x.0);
                _mm256_stream_ps(at.add(8), x.1);
            });
        } else {
            self.f_store(x, to);
        }
    }
    #[inline(always)]
    fn end_of_stream(self) {
        proven!(_mm_sfence());
    }
    #[inline(always)]
    fn f_add(self, a: Self::F, b: Self::F) -> Self::F {
        both!(_mm256_add_ps, a, b)
    }
    #[inline(always)]
    fn f_sub(self, a: Self::F, b: Self::F) -> Self::F {
        both!(_mm256_sub_ps, a, b)
    }
    #[inline(always)]
    fn f_mul(self, a: Self::F, b: Self::F) -> Self::F {
        both!(_mm256_mul_ps, a, b)
    }
    #[inline(always)]
    fn f_div(self, a: Self::F, b: Self::F) -> Self::F {
        both!(_mm256_div_ps, a, b)
    }
    #[inline(always)]
    fn f_fma(self, a: Self::F, b: Self::F, c: Self::F) -> Self::F {
        proven!((_mm256_fmadd_ps(a.0, b.0, c.0), _mm256_fmadd_ps(a.1, b.1, c.1)))
    }
    #[inline(always)]
    fn f_fnma(self, a: Self::F, b: Self::F, c: Self::F) -> Self::F {
        proven!((_mm256_fnmadd_ps(a.0, b.0, c.0), _mm256_fnmadd_ps(a.1, b.1, c.1)))
    }
    #[inline(always)]
    fn f_max(self, a: Self::F, b: Self::F) -> Self::F {
        both!(_mm256_max_ps, a, b)
    }
    #[inline(always)]
    fn f_min(self, a: Self::F, b: Self::F) -> Self::F {
        both!(_mm256_min_ps, a, b)
    }
    #[inline(always)]
    fn f_abs(self, a: Self::F) -> Self::F {
        let magnitude = self.f_splat(f32::from_bits(0x7fff_ffff));
        both!(_mm256_and_ps, a, magnitude)
    }
    #[inline(always)]
    fn f_from_i(self, a: Pair) -> Self::F {
        proven!((_mm256_cvtepi32_ps(a.0), _mm256_cvtepi32_ps(a.1)))
    }
    #[inline(always)]
    fn f_from_u6(self, x: &[u8; LANES]) -> Self::F {
        proven!({
            let low = _mm_and_si128(_mm_loadu_si128(x.as_ptr().cast()), _mm_set1_epi8(63));
            let high = _mm256_cvtepu8_epi32(_mm_unpackhi_epi64(low, low));
            (_mm256_cvtepi32_ps(_mm256_cvtepu8_epi32(low)), _mm256_cvtepi32_ps(high))
        })
    }
    #[inline(always)]
    fn f_from_i8(self, x: &[i8; LANES]) -> Self::F {
        let (low, high) = x.split_at(8);
        proven!({
            let low = _mm256_cvtepi8_epi32(_mm_loadl_epi64(low.as_ptr().cast()));
            let high = _mm256_cvtepi8_epi32(_mm_loadl_epi64(high.as_ptr().cast()));
            (_mm256_cvtepi32_ps(low), _mm256_cvtepi32_ps(high))
        })
    }
    #[inline(always)]
    fn f_from_f16(self, x: &[u16; LANES]) -> Self::F {
        let (low, high) = x.split_at(8);
        proven!((
            _mm256_cvtph_ps(_mm_loadu_si128(low.as_ptr().cast())),
            _mm256_cvtph_ps(_mm_loadu_si128(high.as_ptr().cast()))
        ))
    }
    #[inline(always)]
    fn f_to_f16(self, a: Self::F, to: &mut [u16; LANES]) {
        let (low, high) = to.split_at_mut(8);
        proven!({
            const NEAREST: i32 = _MM_FROUND_TO_NEAREST_INT;
            _mm_storeu_si128(low.as_mut_ptr().cast(), _mm256_cvtps_ph::<NEAREST>(a.0));
            _mm_storeu_si128(high.as_mut_ptr().cast(), _mm256_cvtps_ph::<NEAREST>(a.1));
        })
    }
    #[inline(always)]
    fn f_exp2_i(self, a: Pair) -> Self::F {
        let biased = self.i_add(a, self.i_splat(127));
        proven!((
            _mm256_castsi256_ps(_mm256_slli_epi32::<23>(biased.0)),
            _mm256_castsi256_ps(_mm256_slli_epi32::<23>(biased.1))
        ))
    }
    #[inline(always)]
    fn i_splat(self, x: i32) -> Pair {
        proven!((_mm256_set1_epi32(x), _mm256_set1_epi32(x)))
    }
    #[inline(always)]
    fn i_add(self, a: Pair, b: Pair) -> Pair {
        both!(_mm256_add_epi32, a, b)
    }
    #[inline(always)]
    fn i_shl7(self, a: Pair) -> Pair {
        proven!((_mm256_slli_epi32::<7>(a.0), _mm256_slli_epi32::<7>(a.1)))
    }
    #[inline(always)]
    fn i_round(self, a: Self::F) -> Pair {
        proven!((_mm256_cvtps_epi32(a.0), _mm256_cvtps_epi32(a.1)))
    }
    #[inline(always)]
    fn i_store_i8(self, a: Pair, to: &mut [i8; LANES]) {
        let mut lanes = [0i32; LANES];
        proven!({
            _mm256_storeu_si256(lanes.as_mut_ptr().cast(), a.0);
            _mm256_storeu_si256(lanes[8..].as_mut_ptr().cast(), a.1);
        });
        for i in 0..LANES {
            to[i] = lanes[i].clamp(-128, 127) as i8;
        }
    }
    #[inline(always)]
    fn i_sum(self, a: Pair) -> i32 {
        let mut lanes = [0i32; 8];
        proven!({
            let sum = _mm256_add_epi32(a.0, a.1);
            _mm256_storeu_si256(lanes.as_mut_ptr().cast(), sum);
        });
        lanes.iter().fold(0, |sum, &lane| sum.wrapping_add(lane))
    }
    #[inline(always)]
    fn b_load(self, x: &[u8; 64]) -> Pair {
        proven!((
            _mm256_loadu_si256(x.as_ptr().cast()),
            _mm256_loadu_si256(x[32..].as_ptr().cast())
        ))
    }
    #[inline(always)]
    fn b_splat(self, x: u8) -> Pair {
        proven!((_mm256_set1_epi8(x as i8), _mm256_set1_epi8(x as i8)))
    }
    #[inline(always)]
    fn b_and(self, a: Pair, b: Pair) -> Pair {
        both!(_mm256_and_si256, a, b)
    }
    #[inline(always)]
    fn b_or(self, a: Pair, b: Pair) -> Pair {
        both!(_mm256_or_si256, a, b)
    }
    #[inline(always)]
    fn b_shr<const N: u32>(self, a: Pair) -> Pair {
        let by = N as i32;
        proven!({
            let by = _mm_cvtsi32_si128(by);
            (_mm256_srl_epi16(a.0, by), _mm256_srl_epi16(a.1, by))
        })
    }
    #[inline(always)]
    fn b_shl<const N: u32>(self, a: Pair) -> Pair {
        let by = N as i32;
        proven!({
            let by = _mm_cvtsi32_si128(by);
            (_mm256_sll_epi16(a.0, by), _mm256_sll_epi16(a.1, by))
        })
    }
    #[inline(always)]
    fn dot(self, acc: Pair, w: Pair, x: [i8; 4]) -> Pair {
        self.p_add(acc, self.p_dot(self.p_zero(), w, x))
    }
    #[inline(always)]
    fn dot_full(self, acc: Pair, w: Pair, x: [i8; 4]) -> Pair {
        // The top bit by itself, so that no pair of products leaves 16 bits.
        let low = self.b_and(w, self.b_splat(0x7f));
        let top = self.b_and(w, self.b_splat(0x80));
        self.dot(self.dot(acc, low, x), top, x)
    }
    #[inline(always)]
    fn p_line(self, w: Pair) -> Pair {
        here(w)
    }
    #[inline(always)]
    fn p_zero(self) -> Pair {
        proven!((_mm256_setzero_si256(), _mm256_setzero_si256()))
    }
    #[inline(always)]
    fn p_splat(self, [low, high]: [i16; 2]) -> Pair {
        self.i_splat(i32::from(low as u16) | i32::from(high) << 16)
    }
    #[inline(always)]
    fn p_dot(self, acc: Pair, w: Pair, x: [i8; 4]) -> Pair {
        // Two products of at most 127 * 128 each fit the 16 bits they are added in.
        proven!({
            let x = _mm256_set1_epi32(splat4(x));
            let products = (_mm256_maddubs_epi16(w.0, x), _mm256_maddubs_epi16(w.1, x));
            here(both!(_mm256_add_epi16, acc, products))
        })
    }
    #[inline(always)]
    fn p_dot_biased(self, acc: Pair, w: Pair, x: [i8; 4]) -> Pair {
        // The instruction wants one side without signs: |w| and x with w's sign. Two
        // products of at most 128 * 127 each fit 16 bits.
        proven!({
            let x = _mm256_set1_epi32(splat4(x));
            let bias = _mm256_set1_epi8(-128);
            let w = (_mm256_xor_si256(w.0, bias), _mm256_xor_si256(w.1, bias));
            let x = (_mm256_sign_epi8(x, w.0), _mm256_sign_epi8(x, w.1));
            let w = (_mm256_abs_epi8(w.0), _mm256_abs_epi8(w.1));
            let products = both!(_mm256_maddubs_epi16, w, x);
            here(both!(_mm256_add_epi16, acc, products))
        })
    }
    #[inline(always)]
    fn p_add(self, acc: Pair, sums: Pair) -> Pair {
        proven!({
            let one = _mm256_set1_epi16(1);
            let fours = (_mm256_madd_epi16(sums.0, one), _mm256_madd_epi16(sums.1, one));
            here(both!(_mm256_add_epi32, acc, fours))
        })
    }
}
