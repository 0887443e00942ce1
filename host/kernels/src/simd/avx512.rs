//! AVX-512 with VNNI: one register holds sixteen lanes.

use std::arch::x86_64::*;

use super::{Kernel, LANES, Simd};

/// The proof that this machine has AVX-512 F, BW, DQ, VL and VNNI, FMA and F16C.
#[derive(Debug, Clone, Copy)]
pub struct Avx512(());

impl Avx512 {
    /// The proof, if the machine has all of it.
    pub(super) fn detect() -> Option<Self> {
        (is_x86_feature_detected!("avx512f")
            && is_x86_feature_detected!("avx512bw")
            && is_x86_feature_detected!("avx512dq")
            && is_x86_feature_detected!("avx512vl")
            && is_x86_feature_detected!("avx512vnni")
            && is_x86_feature_detected!("avx2")
            && is_x86_feature_detected!("fma")
            && is_x86_feature_detected!("f16c"))
        .then_some(Self(()))
    }

    /// Runs a kernel compiled for this instruction set.
    #[inline]
    pub(super) fn run<K: Kernel>(self, kernel: K) -> K::Output {
        #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,avx2,fma,f16c")]
        fn compiled<K: Kernel>(simd: Avx512, kernel: K) -> K::Output {
            kernel.run(simd)
        }
        // SAFETY: `self` exists, so `detect` found the features.
        unsafe { compiled(self, kernel) }
    }
}

// SAFETY (of every block below): the intrinsics need the instruction sets that
// `self` proves; loads and stores go through references to arrays of their size.
macro_rules! proven {
    ($e:expr) => {{
        // SAFETY: see above.
        #[allow(unused_unsafe)]
        unsafe {
            $e
        }
    }};
}

impl Simd for Avx512 {
    type F = __m512;
    type I = __m512i;
    type B = __m512i;
    type P = __m512i;

    // 12 sums, 8 registers of weights and a scale fit 32 registers; 13 spill.
    const TILE: usize = 12;

    #[inline(always)]
    fn f_splat(self, x: f32) -> __m512 {
        proven!(_mm512_set1_ps(x))
    }
    #[inline(always)]
    fn f_load(self, x: &[f32; LANES]) -> __m512 {
        proven!(_mm512_loadu_ps(x.as_ptr()))
    }
    #[inline(always)]
    fn f_store(self, x: __m512, to: &mut [f32; LANES]) {
        proven!(_mm512_storeu_ps(to.as_mut_ptr(), x))
    }
    #[inline(always)]
    fn f_stream(self, x: __m512, to: &mut [f32; LANES]) {
        let at = to.as_mut_ptr();
        if at.cast::<__m512>().is_aligned() {
            proven!(_mm512_stream_ps(at, x));
        } else {
            self.f_store(x, to);
        }
    }
    #[inline(always)]
    fn end_of_stream(self) {
        proven!(_mm_sfence());
    }
    #[inline(always)]
    fn f_add(self, a: __m512, b: __m512) -> __m512 {
        proven!(_mm512_add_ps(a, b))
    }
    #[inline(always)]
    fn f_sub(self, a: __m512, b: __m512) -> __m512 {
        proven!(_mm512_sub_ps(a, b))
    }
    #[inline(always)]
    fn f_mul(self, a: __m512, b: __m512) -> __m512 {
        proven!(_mm512_mul_ps(a, b))
    }
    #[inline(always)]
    fn f_div(self, a: __m512, b: __m512) -> __m512 {
        proven!(_mm512_div_ps(a, b))
    }
    #[inline(always)]
    fn f_fma(self, a: __m512, b: __m512, c: __m512) -> __m512 {
        proven!(_mm512_fmadd_ps(a, b, c))
    }
    #[inline(always)]
    fn f_fnma(self, a: __m512, b: __m512, c: __m512) -> __m512 {
        proven!(_mm512_fnmadd_ps(a, b, c))
    }
    #[inline(always)]
    fn f_max(self, a: __m512, b: __m512) -> __m512 {
        proven!(_mm512_max_ps(a, b))
    }
    #[inline(always)]
    fn f_min(self, a: __m512, b: __m512) -> __m512 {
        proven!(_mm512_min_ps(a, b))
    }
    #[inline(always)]
    fn f_abs(self, a: __m512) -> __m512 {
        proven!(_mm512_abs_ps(a))
    }
    #[inline(always)]
    fn f_from_i(self, a: __m512i) -> __m512 {
        proven!(_mm512_cvtepi32_ps(a))
    }
    #[inline(always)]
    fn f_from_u6(self, x: &[u8; LANES]) -> __m512 {
        proven!({
            let bits = _mm_and_si128(_mm_loadu_si128(x.as_ptr().cast()), _mm_set1_epi8(63));
            _mm512_cvtepi32_ps(_mm512_cvtepu8_epi32(bits))
        })
    }
    #[inline(always)]
    fn f_from_i8(self, x: &[i8; LANES]) -> __m512 {
        proven!(_mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(_mm_loadu_si128(x.as_ptr().cast()))))
    }
    #[inline(always)]
    fn f_from_f16(self, x: &[u16; LANES]) -> __m512 {
        proven!(_mm512_cvtph_ps(_mm256_loadu_si256(x.as_ptr().cast())))
    }
    #[inline(always)]
    fn f_to_f16(self, a: __m512, to: &mut [u16; LANES]) {
        proven!(_mm256_storeu_si256(
            to.as_mut_ptr().cast(),
            _mm512_cvtps_ph::<{ _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC }>(a)
        ))
    }
    #[inline(always)]
    fn f_exp2_i(self, a: __m512i) -> __m512 {
        proven!(_mm512_castsi512_ps(_mm512_slli_epi32::<23>(_mm512_add_epi32(
            a,
            _mm512_set1_epi32(127)
        ))))
    }
    #[inline(always)]
    fn i_splat(self, x: i32) -> __m512i {
        proven!(_mm512_set1_epi32(x))
    }
    #[inline(always)]
    fn i_add(self, a: __m512i, b: __m512i) -> __m512i {
        proven!(_mm512_add_epi32(a, b))
    }
    #[inline(always)]
    fn i_shl7(self, a: __m512i) -> __m512i {
        proven!(_mm512_slli_epi32::<7>(a))
    }
    #[inline(always)]
    fn i_round(self, a: __m512) -> __m512i {
        proven!(_mm512_cvtps_epi32(a))
    }
    #[inline(always)]
    fn i_store_i8(self, a: __m512i, to: &mut [i8; LANES]) {
        proven!(_mm_storeu_si128(to.as_mut_ptr().cast(), _mm512_cvtsepi32_epi8(a)))
    }
    #[inline(always)]
    fn i_sum(self, a: __m512i) -> i32 {
        proven!(_mm512_reduce_add_epi32(a))
    }
    #[inline(always)]
    fn b_load(self, x: &[u8; 64]) -> __m512i {
        proven!(_mm512_loadu_si512(x.as_ptr().cast()))
    }
    #[inline(always)]
    fn b_splat(self, x: u8) -> __m512i {
        proven!(_mm512_set1_epi8(x as i8))
    }
    #[inline(always)]
    fn b_and(self, a: __m512i, b: __m512i) -> __m512i {
        proven!(_mm512_and_si512(a, b))
    }
    #[inline(always)]
    fn b_or(self, a: __m512i, b: __m512i) -> __m512i {
        proven!(_mm512_or_si512(a, b))
    }
    #[inline(always)]
    fn b_shr<const N: u32>(self, a: __m512i) -> __m512i {
        proven!(_mm512_srli_epi16::<N>(a))
    }
    #[inline(always)]
    fn b_shl<const N: u32>(self, a: __m512i) -> __m512i {
        proven!(_mm512_slli_epi16::<N>(a))
    }
    #[inline(always)]
    fn dot(self, acc: __m512i, w: __m512i, x: [i8; 4]) -> __m512i {
        let x = i32::from_le_bytes(x.map(|x| x as u8));
        proven!(_mm512_dpbusd_epi32(acc, w, _mm512_set1_epi32(x)))
    }
    #[inline(always)]
    fn dot_full(self, acc: __m512i, w: __m512i, x: [i8; 4]) -> __m512i {
        self.dot(acc, w, x)
    }
    #[inline(always)]
    fn p_line(self, w: __m512i) -> __m512i {
        w
    }
    #[inline(always)]
    fn p_zero(self) -> __m512i {
        self.i_splat(0)
    }
    #[inline(always)]
    fn p_splat(self, x: [i16; 2]) -> __m512i {
        self.i_splat(i32::from(x[0]) + i32::from(x[1]))
    }
    #[inline(always)]
    fn p_dot(self, acc: __m512i, w: __m512i, x: [i8; 4]) -> __m512i {
        self.dot(acc, w, x)
    }
    #[inline(always)]
    fn p_dot_biased(self, acc: __m512i, w: __m512i, x: [i8; 4]) -> __m512i {
        let sum: i32 = x.iter().map(|&x| i32::from(x)).sum();
        self.dot_full(self.i_add(acc, self.i_splat(-128 * sum)), w, x)
    }
    #[inline(always)]
    fn p_add(self, acc: __m512i, sums: __m512i) -> __m512i {
        self.i_add(acc, sums)
    }
}
