//! A steady decode round allocates nothing: memory is taken when a gear is compiled
//! and when a sequence grows into a new cache block, not in between.
#![allow(clippy::unwrap_used)]

#[path = "../../../tests/support/models.rs"]
mod models;

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicUsize, Ordering};

use aio_engine::Tier;
use aio_engine::device::{DeviceOptions, Logits, by_name};

/// The system's allocator, counting.
struct Counting;

static ALLOCATIONS: AtomicUsize = AtomicUsize::new(0);

// SAFETY: everything is passed on to the system's allocator as it came.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
        // SAFETY: the caller's promise.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        // SAFETY: the caller's promise.
        unsafe { System.dealloc(at, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Allocations, on any thread, while `work` runs.
fn allocations(work: impl FnOnce()) -> usize {
    let before = ALLOCATIONS.load(Ordering::Relaxed);
    work();
    ALLOCATIONS.load(Ordering::Relaxed) - before
}

// The only test of this file: another one beside it would be counted as well.
#[test]
fn a_steady_round_allocates_nothing() {
    let Some(path) = models::model_path("smollm2-135m") else { return };
    let threads = std::num::NonZeroUsize::new(2);
    let device = by_name("cpu", DeviceOptions { threads }).unwrap();
    let mut tier = Tier::open("smollm2-135m", &path, &*device, None).unwrap();
    let mut sequence = tier.open_sequence();
    let mut logits = Logits::default();
    let mut tokens: Vec<u32> = (1..40).collect();
    tokens.reserve(64);
    // A verify pass of eight rows of which some are rejected, then a plain one.
    let mut round = |tokens: &mut Vec<u32>| {
        let known = tokens.len();
        tokens.extend((1000..).take(7));
        tier.extend(&mut sequence, tokens, 8, &mut logits).unwrap();
        tokens.truncate(known + 2);
        tier.roll_back(&mut sequence, tokens.len() - 1);
        tier.extend(&mut sequence, tokens, 1, &mut logits).unwrap();
        tokens.push(7);
    };
    assert!(allocations(|| round(&mut tokens)) > 0, "the first round compiles its gears");
    round(&mut tokens);
    // Up to position 63: within the first cache block.
    assert_eq!(allocations(|| (0..6).for_each(|_| round(&mut tokens))), 0);
}
