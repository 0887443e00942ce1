//! Work stealing (OpenMP's schedule `static_steal`). Each thread has a share, which it
//! works off in pieces from its beginning; whoever is done takes pieces from the end of
//! what others have left. So one that is slowed down (by a neighbour on its core, or by
//! the system, which gave the core to something else) holds up the others for a piece
//! only.
//!
//! A range of work that is dealt out so is a deal. This must not know what the work is.

use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::matrix::share;

/// What was taken of each thread's share, in the deal that is under way.
pub(super) struct Deals(Box<[Taken]>);

/// The number of the deal (32 bits), pieces taken from the beginning and from the end of
/// the share (16 bits each). A line of its own: its thread writes it for each piece.
#[repr(align(128))]
struct Taken(AtomicU64);

/// Which end of a share a piece is taken from.
#[derive(Clone, Copy)]
enum End {
    Beginning,
    Last,
}

fn pack(deal: u32, beginning: u16, last: u16) -> u64 {
    u64::from(deal) << 32 | u64::from(beginning) << 16 | u64::from(last)
}

fn unpack(taken: u64) -> (u32, u16, u16) {
    ((taken >> 32) as u32, (taken >> 16) as u16, taken as u16)
}

impl Deals {
    pub(super) fn new(threads: usize) -> Self {
        Self((0..threads).map(|_| Taken(AtomicU64::new(0))).collect())
    }

    /// Before a run, whose deals are numbered from 1.
    pub(super) fn reset(&self) {
        self.0.iter().for_each(|taken| taken.0.store(0, Ordering::Relaxed));
    }

    /// Takes one of the `pieces` of a thread's share.
    ///
    /// A share that was last taken from in an earlier deal is whole: whoever is in this
    /// one has seen that nothing of earlier ones is left. One that was taken from in a
    /// later deal is all taken, for the same reason. No order with other memory is needed,
    /// since pieces do not depend on each other.
    fn take(&self, thread: usize, deal: u32, pieces: u16, end: End) -> Option<u16> {
        let taken = &self.0[thread].0;
        let mut seen = taken.load(Ordering::Relaxed);
        loop {
            let (of, beginning, last) = match unpack(seen) {
                (of, ..) if of > deal => return None,
                (of, ..) if of < deal => (deal, 0, 0),
                now => now,
            };
            if beginning + last >= pieces {
                return None;
            }
            let (piece, next) = match end {
                End::Beginning => (beginning, pack(of, beginning + 1, last)),
                End::Last => (pieces - 1 - last, pack(of, beginning, last + 1)),
            };
            match taken.compare_exchange_weak(seen, next, Ordering::Relaxed, Ordering::Relaxed) {
                Ok(_) => return Some(piece),
                Err(now) => seen = now,
            }
        }
    }
}

/// The pieces of a deal that one thread gets.
pub struct Pieces<'a> {
    deals: &'a Deals,
    deal: u32,
    thread: usize,
    total: usize,
    /// Items of a piece; the last of a share has what is left.
    size: usize,
    /// Shares that were found empty, from this thread's own on.
    empty: usize,
}

impl<'a> Pieces<'a> {
    pub(super) fn new(
        deals: &'a Deals,
        deal: u32,
        thread: usize,
        total: usize,
        size: usize,
    ) -> Self {
        // The number of pieces is counted in 16 bits.
        let size = size.max(total.div_ceil(usize::from(u16::MAX))).max(1);
        Self { deals, deal, thread, total, size, empty: 0 }
    }
}

impl Iterator for Pieces<'_> {
    type Item = Range<usize>;

    fn next(&mut self) -> Option<Range<usize>> {
        let threads = self.deals.0.len();
        while self.empty < threads {
            let whose = (self.thread + self.empty) % threads;
            let share = share(self.total, whose, threads);
            let pieces = share.len().div_ceil(self.size) as u16;
            let end = if self.empty == 0 { End::Beginning } else { End::Last };
            if let Some(piece) = self.deals.take(whose, self.deal, pieces, end) {
                let start = share.start + usize::from(piece) * self.size;
                return Some(start..(start + self.size).min(share.end));
            }
            self.empty += 1;
        }
        None
    }
}
