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

/// Bytes of a page of memory, which hardware that reads ahead does not look beyond.
const PAGE: usize = 4096;
/// How many lines of a page are asked for before its turn.
const FIRST_LINES: usize = 8;

/// The page after the one that is being asked for. Memory is quick with a page that was
/// begun: the hardware reads ahead by itself. But it is slow to begin one, so that
/// everything waits there. Therefore a page's first lines are asked for while those of the
/// one before still are, again one by one: with eight rows a seventh faster, with one as
/// fast as before. Half a page or a page further ahead is slower, more lines at once too.
#[derive(Clone, Copy)]
pub(super) struct NextPage(*const [u8; 64]);

impl NextPage {
    /// As seen from a block.
    #[inline(always)]
    pub fn of<F>(block: &F) -> Self {
        let at = std::ptr::from_ref(block);
        let asked = at.addr() + AHEAD;
        Self(at.wrapping_byte_add(AHEAD + PAGE - asked % PAGE).cast())
    }

    /// Asks for its share after part `part` of the block's `all`, of which there are as
    /// many as lines at least.
    #[inline(always)]
    pub fn ask(self, part: usize, all: usize) {
        let parts = all / FIRST_LINES;
        if part.is_multiple_of(parts) {
            prefetch(self.0.wrapping_add(part / parts));
        }
    }

    /// For blocks that are smaller than a page divided by its lines, about: asks for the
    /// line whose turn it is at the block.
    #[inline(always)]
    pub fn ask_once<F>(block: &F) {
        let asked = std::ptr::from_ref(block).addr() + AHEAD;
        prefetch(Self::of(block).0.wrapping_add(asked % PAGE / (PAGE / FIRST_LINES)));
    }
}
