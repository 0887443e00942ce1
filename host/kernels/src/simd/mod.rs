//! Sixteen lanes at a time, on whatever vector unit the machine has.
//!
//! Every kernel of the `cpu` device is written once, over the trait [`Simd`], and
//! compiled for each instruction set. All operations here are exactly defined
//! (IEEE arithmetic, exact integers), so that a kernel gives the same bits on
//! AVX-512, AVX2 and portable code: tests compare them by equality, and an answer
//! does not depend on the machine.
//!
//! A value of an instruction set's type is the proof that the machine has it:
//! [`Isa::detect`] is the only place that makes one. That is what makes the
//! methods safe to call.
//!
//! This module must not know models, weights or what its numbers mean.

#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;
mod portable;

#[cfg(target_arch = "x86_64")]
pub use avx2::Avx2;
#[cfg(target_arch = "x86_64")]
pub use avx512::Avx512;
pub use portable::Portable;

/// Lanes of a vector.
pub const LANES: usize = 16;

/// Sixteen-lane arithmetic. Names: `f_` on 16 x f32, `i_` on 16 x i32, `b_` on
/// 64 bytes seen as 16 lanes of four.
pub trait Simd: Copy + Send + Sync + 'static {
    /// 16 x f32.
    type F: Copy;
    /// 16 x i32.
    type I: Copy;
    /// 64 bytes.
    type B: Copy;
    /// Sums of products of bytes: in pairs, 32 x i16, where [`Simd::PAIRS_FIRST`].
    type P: Copy;

    /// Most rows of a pass that a matrix kernel goes over with a block of weights.
    const TILE: usize;
    /// Whether products of bytes are summed in pairs before they are in fours, by
    /// instructions of their own. Then sums of several products should stay pairs as
    /// long as they fit 16 bits.
    const PAIRS_FIRST: bool = false;

    /// Most queries of a tile of attention, at most 8: as many as have their sums in
    /// registers.
    const QUERIES: usize = 8;
    /// Lines of sixteen positions, or components, that a tile sums at a time: one or two.
    const QUERY_LINES: usize = 2;

    /// All lanes `x`.
    fn f_splat(self, x: f32) -> Self::F;
    /// Lanes from memory.
    fn f_load(self, x: &[f32; LANES]) -> Self::F;
    /// Lanes to memory.
    fn f_store(self, x: Self::F, to: &mut [f32; LANES]);
    /// Lanes to memory, past the caches if they begin at a cache line: without reading
    /// what was there first. Other threads may see them only after
    /// [`Simd::end_of_stream`].
    #[inline(always)]
    fn f_stream(self, x: Self::F, to: &mut [f32; LANES]) {
        self.f_store(x, to);
    }
    /// After the last [`Simd::f_stream`]: what was written so comes before all that this
    /// thread writes later.
    #[inline(always)]
    fn end_of_stream(self) {}
    /// `a + b`.
    fn f_add(self, a: Self::F, b: Self::F) -> Self::F;
    /// `a - b`.
    fn f_sub(self, a: Self::F, b: Self::F) -> Self::F;
    /// `a * b`.
    fn f_mul(self, a: Self::F, b: Self::F) -> Self::F;
    /// `a / b`.
    fn f_div(self, a: Self::F, b: Self::F) -> Self::F;
    /// `a * b + c`, rounded once.
    fn f_fma(self, a: Self::F, b: Self::F, c: Self::F) -> Self::F;
    /// `c - a * b`, rounded once.
    fn f_fnma(self, a: Self::F, b: Self::F, c: Self::F) -> Self::F;
    /// The larger; `b` where `a` is no number.
    fn f_max(self, a: Self::F, b: Self::F) -> Self::F;
    /// The smaller; `b` where `a` is no number.
    fn f_min(self, a: Self::F, b: Self::F) -> Self::F;
    /// The absolute value.
    fn f_abs(self, a: Self::F) -> Self::F;
    /// Integers as floats, rounded to even.
    fn f_from_i(self, a: Self::I) -> Self::F;
    /// The low six bits of bytes as floats.
    fn f_from_u6(self, x: &[u8; LANES]) -> Self::F;
    /// Signed bytes as floats.
    fn f_from_i8(self, x: &[i8; LANES]) -> Self::F;
    /// Half-precision bits as floats, exactly.
    fn f_from_f16(self, x: &[u16; LANES]) -> Self::F;
    /// Floats to half-precision bits, rounded to even.
    fn f_to_f16(self, a: Self::F, to: &mut [u16; LANES]);
    /// `2^a`, for a in -126..=127.
    fn f_exp2_i(self, a: Self::I) -> Self::F;

    /// All lanes `x`.
    fn i_splat(self, x: i32) -> Self::I;
    /// `a + b`, wrapping.
    fn i_add(self, a: Self::I, b: Self::I) -> Self::I;
    /// `a << 7`.
    fn i_shl7(self, a: Self::I) -> Self::I;
    /// Rounds to even; for values whose magnitude is below 2^22.
    fn i_round(self, a: Self::F) -> Self::I;
    /// Lanes to memory as bytes; for values in -128..=127.
    fn i_store_i8(self, a: Self::I, to: &mut [i8; LANES]);
    /// The sum of all lanes, wrapping.
    fn i_sum(self, a: Self::I) -> i32;

    /// Bytes from memory.
    fn b_load(self, x: &[u8; 64]) -> Self::B;
    /// Each byte `x`.
    fn b_splat(self, x: u8) -> Self::B;
    /// `a & b`.
    fn b_and(self, a: Self::B, b: Self::B) -> Self::B;
    /// `a | b`.
    fn b_or(self, a: Self::B, b: Self::B) -> Self::B;
    /// `a >> N`, in 16-bit units: mask off what crosses into the next byte.
    fn b_shr<const N: u32>(self, a: Self::B) -> Self::B;
    /// `a << N`, in 16-bit units: mask off what crosses into the next byte.
    fn b_shl<const N: u32>(self, a: Self::B) -> Self::B;

    /// In each lane, `acc` plus the four products of the lane's bytes of `w`
    /// (unsigned, at most 127) with the four of `x` (signed, the same for all lanes).
    fn dot(self, acc: Self::I, w: Self::B, x: [i8; 4]) -> Self::I;
    /// As [`Simd::dot`], for bytes of `w` up to 255.
    fn dot_full(self, acc: Self::I, w: Self::B, x: [i8; 4]) -> Self::I;

    /// `w` as it is, but not before the sums that stand before it: where registers are
    /// few, lines that are unpacked early wait in memory.
    fn p_line(self, w: Self::B) -> Self::B;
    /// No products.
    fn p_zero(self) -> Self::P;
    /// In each lane, `x[0]` where products of bytes 0 and 1 are summed and `x[1]` where
    /// those of 2 and 3 are.
    fn p_splat(self, x: [i16; 2]) -> Self::P;
    /// `acc` plus products as of [`Simd::dot`]. Sums of pairs wrap at 16 bits, so only
    /// what they come to in the end must fit.
    fn p_dot(self, acc: Self::P, w: Self::B, x: [i8; 4]) -> Self::P;
    /// As [`Simd::p_dot`], for any bytes of `w`, which stand for themselves less 128, and
    /// bytes of `x` above -128.
    fn p_dot_biased(self, acc: Self::P, w: Self::B, x: [i8; 4]) -> Self::P;
    /// In each lane, `acc` plus the sums of its products.
    fn p_add(self, acc: Self::I, sums: Self::P) -> Self::I;

    /// The largest lane.
    #[inline(always)]
    fn f_reduce_max(self, a: Self::F) -> f32 {
        let mut lanes = [0.0; LANES];
        self.f_store(a, &mut lanes);
        let mut width = LANES / 2;
        while width > 0 {
            for i in 0..width {
                lanes[i] = lanes[i].max(lanes[i + width]);
            }
            width /= 2;
        }
        lanes[0]
    }

    /// The sum of all lanes, in a fixed order: halves onto halves.
    #[inline(always)]
    fn f_reduce_add(self, a: Self::F) -> f32 {
        let mut lanes = [0.0; LANES];
        self.f_store(a, &mut lanes);
        let mut width = LANES / 2;
        while width > 0 {
            for i in 0..width {
                lanes[i] += lanes[i + width];
            }
            width /= 2;
        }
        lanes[0]
    }
}

/// Work that is compiled for each instruction set. `run` must be
/// `#[inline(always)]`, and so must all it calls that takes an [`Simd`]: only then
/// does the code around it get the instruction set's own instructions.
pub(crate) trait Kernel {
    /// What it returns.
    type Output;
    /// Does the work.
    fn run<S: Simd>(self, simd: S) -> Self::Output;
}

/// The instruction sets that kernels exist for.
#[derive(Debug, Clone, Copy)]
pub enum Isa {
    /// AVX-512 with VNNI.
    #[cfg(target_arch = "x86_64")]
    Avx512(Avx512),
    /// AVX2 with FMA and F16C.
    #[cfg(target_arch = "x86_64")]
    Avx2(Avx2),
    /// Whatever the compiler was told that the machine has.
    Portable(Portable),
}

impl Isa {
    /// The best that this machine has; bounded by `wanted`, an instruction set's
    /// name, if given.
    ///
    /// # Errors
    /// One sentence, when the name is unknown or the machine lacks the set.
    pub fn detect(wanted: Option<&str>) -> Result<Self, String> {
        let found = Self::available();
        let Some(wanted) = wanted else { return Ok(found[0]) };
        found.iter().find(|isa| isa.name() == wanted).copied().ok_or_else(|| {
            let names: Vec<_> = found.iter().map(|isa| isa.name()).collect();
            format!(
                "AIO_CPU is '{wanted}', but this machine has kernels for {}; set it to one of \
                 these or leave it unset",
                names.join(", ")
            )
        })
    }

    /// All that this machine can run, best first.
    pub fn available() -> Vec<Self> {
        let mut found = Vec::new();
        #[cfg(target_arch = "x86_64")]
        {
            found.extend(Avx512::detect().map(Self::Avx512));
            found.extend(Avx2::detect().map(Self::Avx2));
        }
        found.push(Self::Portable(Portable));
        found
    }

    /// As `AIO_CPU` names it.
    pub fn name(self) -> &'static str {
        match self {
            #[cfg(target_arch = "x86_64")]
            Self::Avx512(_) => "avx512",
            #[cfg(target_arch = "x86_64")]
            Self::Avx2(_) => "avx2",
            Self::Portable(_) => "portable",
        }
    }

    /// Most rows that one run over a weight block serves.
    pub fn tile(self) -> usize {
        match self {
            #[cfg(target_arch = "x86_64")]
            Self::Avx512(_) => Avx512::TILE,
            #[cfg(target_arch = "x86_64")]
            Self::Avx2(_) => Avx2::TILE,
            Self::Portable(_) => Portable::TILE,
        }
    }

    /// Runs a kernel, compiled for this instruction set.
    #[inline]
    pub(crate) fn run<K: Kernel>(self, kernel: K) -> K::Output {
        match self {
            #[cfg(target_arch = "x86_64")]
            Self::Avx512(simd) => simd.run(kernel),
            #[cfg(target_arch = "x86_64")]
            Self::Avx2(simd) => simd.run(kernel),
            Self::Portable(simd) => kernel.run(simd),
        }
    }
}

/// Asks for the cache line at `at`, which may point anywhere, into the second-level cache:
/// the first level belongs to the activations. A hint, without effect elsewhere.
#[inline(always)]
pub(crate) fn prefetch<T>(at: *const T) {
    #[cfg(all(target_arch = "x86_64", not(miri)))]
    {
        use std::arch::x86_64::{_MM_HINT_T1, _mm_prefetch};
        // SAFETY: a prefetch reads nothing that the program can see and does not
        // fault, wherever it points.
        unsafe { _mm_prefetch::<_MM_HINT_T1>(at.cast()) };
    }
    #[cfg(not(all(target_arch = "x86_64", not(miri))))]
    let _ = at;
}

/// The same pointer, of which the compiler knows no more than that, and a place that it
/// moves no access to memory across.
///
/// What is read through the pointer is addressed from one register. Left alone, the
/// compiler addresses it by two, a base and a loop's counter, and Intel's cores split an
/// instruction that adds a product with such an operand to a register; split, fewer fit
/// into the window within which a core looks ahead, and less of the arithmetic is done
/// while memory is waited for.
#[inline(always)]
pub(crate) fn one_base<T>(at: *const T) -> *const T {
    #[cfg(all(target_arch = "x86_64", not(miri)))]
    {
        let mut at = at;
        // SAFETY: no instruction.
        #[expect(clippy::pointers_in_nomem_asm_block, reason = "nothing is read there")]
        unsafe {
            std::arch::asm!("/* {0} */", inout(reg) at, options(nomem, nostack, preserves_flags));
        }
        at
    }
    #[cfg(not(all(target_arch = "x86_64", not(miri))))]
    at
}

/// The same, at this place: what is read through it comes after what was read before, and
/// what memory was asked for, in between. The compiler would rather ask for all at once.
#[inline(always)]
pub(crate) fn here<T>(x: &T) -> &T {
    // SAFETY: the same reference.
    unsafe { &*one_base(x) }
}

#[cfg(test)]
mod tests;
