//! Weights of a sub-block, unpacked line by line.

use crate::simd::Simd;

/// The weights of a sub-block as `L` lines, each of them unpacked when it is asked for.
pub(super) trait Lines<const L: usize> {
    /// Lines whose products with a row, summed in pairs, fit 16 bits together: with
    /// weights of b bits, `n` lines come to at most `2 * n * (2^b - 1) * 127`.
    const PAIRED: usize;
    /// Whether they are bytes that stand for themselves less 128.
    const BIASED: bool = false;
    /// Whether sums of pairs start where sums of these weights do ([`Start::pairs`]).
    /// Weights of b bits that are stored half their range too large come to at most
    /// `n * 2^b * 127` then: twice as many lines fit. On the way a sum may leave 16 bits
    /// and come back, since it wraps.
    ///
    /// [`Start::pairs`]: super::sums::Start::pairs
    const FROM_PAIRS: bool = false;

    /// Line `i`, which is a constant where this is called.
    fn line<S: Simd>(&self, simd: S, i: usize) -> S::B;
}

/// Four lines of nibbles are eight lines of weights: low, high, low, high, ...
pub(super) struct Nibbles<'a>(pub &'a [[u8; 64]; 4]);

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
pub(super) struct FiveBits<'a, const LESS_16: bool>(&'a [[u8; 64]; 5]);

/// Weights of 0 to 31.
#[inline(always)]
pub(super) fn five_bits(lines: &[[u8; 64]; 5]) -> FiveBits<'_, false> {
    FiveBits(lines)
}

/// Weights of -16 to 15.
#[inline(always)]
pub(super) fn five_bits_less_16(lines: &[[u8; 64]; 5]) -> FiveBits<'_, true> {
    FiveBits(lines)
}

impl<const LESS_16: bool> Lines<8> for FiveBits<'_, LESS_16> {
    const PAIRED: usize = if LESS_16 { 8 } else { 4 };
    const FROM_PAIRS: bool = LESS_16;

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

/// Three lines whose top two bits are a fourth: weights of -32 to 31.
pub(super) struct SixBits<'a>(pub &'a [[u8; 64]; 3]);

impl Lines<4> for SixBits<'_> {
    const PAIRED: usize = 4;
    const FROM_PAIRS: bool = true;

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
pub(super) struct Bytes<'a>(pub &'a [[u8; 64]; 8]);

impl Lines<8> for Bytes<'_> {
    const PAIRED: usize = 1;
    const BIASED: bool = true;

    #[inline(always)]
    fn line<S: Simd>(&self, simd: S, i: usize) -> S::B {
        simd.b_load(&self.0[i])
    }
}
