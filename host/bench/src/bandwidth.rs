//! How fast this machine reads memory: the bound on decoding, measured beside
//! it, because on shared machines it changes from minute to minute.

use std::sync::Barrier;
use std::thread;
use std::time::Instant;

use memmap2::{Advice, MmapMut};

use crate::stats;

/// Bytes that all threads together sweep: about what a token reads of a model of one to two
/// billion weights, and far beyond what is a machine's own of any cache. On a virtual
/// machine beside others, whose processor has a cache of 480 MB, two threads read 64 MB at
/// 54 GB/s, 256 MB at 34, 512 MB at 31.4, 1 GB at 30.7 and 4 GB at 29.8.
pub const BYTES: usize = 1 << 30;
/// Sweeps of a measurement.
const SWEEPS: usize = 8;

/// Buffers to sweep, one for each thread.
pub struct Bandwidth {
    buffers: Vec<MmapMut>,
}

impl Bandwidth {
    /// Takes `threads` buffers, [`BYTES`] together, and touches every page.
    ///
    /// # Errors
    /// When the memory is not to be had.
    pub fn new(threads: usize) -> std::io::Result<Self> {
        Self::with_bytes(threads, BYTES / threads.max(1))
    }

    fn with_bytes(threads: usize, bytes: usize) -> std::io::Result<Self> {
        let buffer = |i: usize| {
            let mut buffer = MmapMut::map_anon(bytes)?;
            // The yardstick is what the memory can do at its best; where huge
            // pages are not to be had, it is what can be had here.
            let _ = buffer.advise(Advice::HugePage);
            buffer.fill(i as u8 + 1);
            Ok(buffer)
        };
        Ok(Self { buffers: (0..threads.max(1)).map(buffer).collect::<std::io::Result<_>>()? })
    }

    /// Threads that read.
    pub fn threads(&self) -> usize {
        self.buffers.len()
    }

    /// Gigabytes (10^9 bytes) a second that all threads together read now: the
    /// median of a few sweeps, in a fraction of a second.
    pub fn measure(&self) -> f64 {
        let barrier = Barrier::new(self.buffers.len());
        let bytes: usize = self.buffers.iter().map(|b| b.len()).sum();
        // Each thread's start and end of each sweep; all start together.
        let sweep_all = |buffer: &MmapMut| {
            let mut spans = Vec::with_capacity(SWEEPS);
            for _ in 0..SWEEPS {
                barrier.wait();
                let start = Instant::now();
                std::hint::black_box(sum(buffer));
                spans.push((start, Instant::now()));
            }
            spans
        };
        let spans: Vec<Vec<(Instant, Instant)>> = thread::scope(|scope| {
            let threads: Vec<_> =
                self.buffers.iter().map(|buffer| scope.spawn(|| sweep_all(buffer))).collect();
            threads.into_iter().filter_map(|thread| thread.join().ok()).collect()
        });
        let speed = |i: usize| {
            let start = spans.iter().map(|s| s[i].0).min();
            let end = spans.iter().map(|s| s[i].1).max();
            let seconds = start.zip(end).map_or(f64::NAN, |(s, e)| (e - s).as_secs_f64());
            bytes as f64 / 1e9 / seconds
        };
        let speeds: Vec<f64> = (0..SWEEPS).map(speed).collect();
        stats::median(&speeds).unwrap_or(0.0)
    }
}

/// The sum of all 64-bit words, so that every byte is read. A plain fold, which
/// the compiler turns into wide loads and several accumulators: written out by
/// hand with arrays of accumulators it was measured at a quarter of the speed.
fn sum(bytes: &[u8]) -> u64 {
    let (words, _) = bytes.as_chunks::<8>();
    words.iter().fold(0, |sum, word| sum.wrapping_add(u64::from_ne_bytes(*word)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_word_is_read() {
        let bytes: Vec<u8> = (0u64..64).flat_map(u64::to_ne_bytes).collect();
        assert_eq!(sum(&bytes), 63 * 64 / 2);
    }

    #[test]
    fn a_measurement_is_a_speed() {
        let bandwidth = Bandwidth::with_bytes(2, 1 << 20).unwrap();
        assert_eq!(bandwidth.threads(), 2);
        assert!(bandwidth.measure() > 0.0);
    }
}
