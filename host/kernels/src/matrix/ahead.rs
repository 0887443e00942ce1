//! Asking for weights before the kernel comes to them. Measured: the largest single gain
//! of all that was tried for the kernels.
//!
//! A core can wait for a dozen or two lines of memory at once, and whoever asks for more
//! holds up what comes after, arithmetic too. So lines are asked for one by one, evenly
//! spread over the products of a sub-block: with all of a sub-block's asked for at once, a
//! row takes a tenth longer, and eight take a fifth.

use super::formats::Format;
use crate::simd::prefetch;

/// How many bytes ahead. 4 to 16 KiB make no difference, nor does the level of the cache
/// while there are several rows; for one row the second is better.
const AHEAD: usize = 8192;

/// Asks for the line ahead of the one at `at`.
#[inline(always)]
pub(super) fn ask_line<T>(at: &T) {
    prefetch(std::ptr::from_ref(at).wrapping_byte_add(AHEAD));
}

/// What lies ahead of the lines of a sub-block.
#[derive(Clone, Copy)]
pub(super) struct Ahead<'a>(pub &'a [[u8; 64]]);

impl Ahead<'_> {
    /// Asks for what is due after step `step` of `all`: the first line after the first one,
    /// all of them after all. Whether it was any. A little early is better than a little
    /// late: the other way round, four and eight rows take some 4 % longer.
    #[inline(always)]
    pub fn ask(self, step: usize, all: usize) -> bool {
        let due = |steps: usize| (steps * self.0.len()).div_ceil(all);
        let lines = &self.0[due(step)..due(step + 1)];
        lines.iter().for_each(ask_line);
        !lines.is_empty()
    }
}

/// Asks for what lies ahead of the lines of a block that come before its quants, line by
/// line: `part` counts the sub-blocks, of which there must be as many at least.
#[inline(always)]
pub(super) fn ask_header<F: Format>(block: &F, part: usize) {
    if part < F::HEADER {
        ask_line(&bytemuck::bytes_of(block)[64 * part]);
    }
}
