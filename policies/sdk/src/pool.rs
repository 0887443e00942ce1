//! The allocator of a policy: freed blocks are kept by size class and given out
//! again, in front of an allocator of all sizes.
//!
//! Each call of a hook hands over a dozen lists, each of which is allocated as the host
//! writes it (and, but for `rounds`, once more as Rust wants it) and freed, and the next
//! call wants the same sizes again. An allocator of all sizes looks for a place and
//! joins what is freed, a quarter of the fuel of a `rounds` that decides nothing; here
//! both ways are a handful of instructions.
//!
//! What is freed stays with its class. So memory does not go back, and may be up to
//! twice what is asked for: blocks are powers of two. Blocks of more than
//! [`LARGEST`] bytes are none of its business.
//!
//! It is `unsafe` because the trait is; nothing but the pointers of free blocks is
//! touched, and a policy is a sandbox of one thread. It must know nothing of policies.

use std::alloc::{GlobalAlloc, Layout};
use std::cell::Cell;
use std::ptr::NonNull;

/// Bytes of the smallest block, and the alignment of all.
const SMALLEST: usize = 16;
/// Bytes of the largest block that is kept.
const LARGEST: usize = 4096;
const CLASSES: usize = (LARGEST / SMALLEST).ilog2() as usize + 1;

/// A free block: it holds where the next one is.
struct Free {
    next: Option<NonNull<Free>>,
}

/// Blocks that were freed, by class, in front of an allocator `A`.
pub(crate) struct Pool<A> {
    free: [Cell<Option<NonNull<Free>>>; CLASSES],
    behind: A,
}

impl<A> Pool<A> {
    pub(crate) const fn new(behind: A) -> Self {
        Self { free: [const { Cell::new(None) }; CLASSES], behind }
    }

    /// The free blocks of the class that a layout belongs to, and that class's
    /// layout; `None` where it is left to the allocator behind.
    fn class(&self, layout: Layout) -> Option<(&Cell<Option<NonNull<Free>>>, Layout)> {
        let bytes = layout.size().max(SMALLEST).checked_next_power_of_two()?;
        if layout.align() > SMALLEST {
            return None;
        }
        let free = self.free.get((bytes.ilog2() - SMALLEST.ilog2()) as usize)?;
        Some((free, Layout::from_size_align(bytes, SMALLEST).ok()?))
    }
}

// SAFETY: WebAssembly without atomics has one thread, and there is no other target
// that this is the allocator of.
#[cfg(all(target_arch = "wasm32", not(target_feature = "atomics")))]
unsafe impl<A> Sync for Pool<A> {}

// `layout` gives the same class in both, as the trait promises that it is the same.
// SAFETY: a block comes from the allocator behind with the layout of its class,
// which is at least what is asked for; it is in the list of its class exactly
// while it is free, since only `dealloc` puts it there and `alloc` takes it off.
unsafe impl<A: GlobalAlloc> GlobalAlloc for Pool<A> {
    #[inline(never)]
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let Some((free, block)) = self.class(layout) else {
            // SAFETY: the caller's promise.
            return unsafe { self.behind.alloc(layout) };
        };
        match free.get() {
            Some(first) => {
                // SAFETY: what is in the list was written by `dealloc`, and nobody
                // has had the block since.
                free.set(unsafe { first.read().next });
                first.as_ptr().cast()
            }
            // SAFETY: no class is of no bytes.
            None => unsafe { self.behind.alloc(block) },
        }
    }

    #[inline(never)]
    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        match (self.class(layout), NonNull::new(pointer.cast::<Free>())) {
            (Some((free, _)), Some(block)) => {
                // SAFETY: the caller gives the block up; it is large enough and aligned,
                // being of its class.
                unsafe { block.write(Free { next: free.get() }) };
                free.set(Some(block));
            }
            // SAFETY: the caller's promise; `alloc` left it to the allocator behind too.
            _ => unsafe { self.behind.dealloc(pointer, layout) },
        }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        // SAFETY: the caller promises that the new size is one that a layout can have.
        let wanted = unsafe { Layout::from_size_align_unchecked(size, layout.align()) };
        match (self.class(layout), self.class(wanted)) {
            // SAFETY: the caller's promise; the block was never this one's.
            (None, None) => unsafe { self.behind.realloc(pointer, layout, size) },
            (Some((_, block)), Some((_, same))) if block == same => pointer,
            _ => {
                // SAFETY: as in the trait's own: both blocks are at least as long as what
                // is copied, and they are two.
                unsafe {
                    let moved = self.alloc(wanted);
                    if !moved.is_null() {
                        let bytes = layout.size().min(size);
                        std::ptr::copy_nonoverlapping(pointer, moved, bytes);
                        self.dealloc(pointer, layout);
                    }
                    moved
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::alloc::System;

    /// A pool that gives back what it kept, so that a test leaks nothing.
    struct Emptied(Pool<System>);

    impl Drop for Emptied {
        fn drop(&mut self) {
            for (class, free) in self.0.free.iter().enumerate() {
                let block = Layout::from_size_align(SMALLEST << class, SMALLEST).unwrap();
                while let Some(first) = free.get() {
                    // SAFETY: it is free, and came from there with that layout.
                    unsafe {
                        free.set(first.read().next);
                        System.dealloc(first.as_ptr().cast(), block);
                    }
                }
            }
        }
    }

    /// A block that is held, and what was written into it.
    struct Held {
        pointer: *mut u8,
        layout: Layout,
        fill: u8,
    }

    impl Held {
        fn write(&self) {
            // SAFETY: the block is ours and that long.
            unsafe { self.pointer.write_bytes(self.fill, self.layout.size()) };
        }

        fn is_intact(&self, bytes: usize) -> bool {
            // SAFETY: the block is ours, and that much of it was written.
            let written = unsafe { std::slice::from_raw_parts(self.pointer, bytes) };
            written.iter().all(|byte| *byte == self.fill)
        }
    }

    #[derive(Debug, Clone)]
    enum Step {
        Take(usize, usize),
        Give(usize),
        Resize(usize, usize),
    }

    fn size() -> impl Strategy<Value = usize> {
        prop_oneof![1usize..200, 1usize..9000, (4usize..14).prop_map(|log| 1 << log)]
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            (size(), 0usize..7).prop_map(|(size, log)| Step::Take(size, 1 << log)),
            any::<usize>().prop_map(Step::Give),
            (any::<usize>(), size()).prop_map(|(which, size)| Step::Resize(which, size)),
        ]
    }

    proptest! {
        #![proptest_config(ProptestConfig {
            cases: if cfg!(miri) { 4 } else { 256 },
            // Miri's machine has no files.
            failure_persistence: None,
            ..ProptestConfig::default()
        })]

        #[test]
        fn blocks_are_aligned_apart_and_keep_what_is_written(
            steps in prop::collection::vec(step(), 0..80),
        ) {
            let pool = Emptied(Pool::new(System));
            let mut held: Vec<Held> = Vec::new();
            for (fill, step) in (0u8..).zip(steps) {
                match step {
                    Step::Take(size, align) => {
                        let layout = Layout::from_size_align(size, align).unwrap();
                        // SAFETY: no size is 0.
                        let pointer = unsafe { pool.0.alloc(layout) };
                        prop_assert!((pointer as usize).is_multiple_of(align) && !pointer.is_null());
                        held.push(Held { pointer, layout, fill });
                        held.last().unwrap().write();
                    }
                    Step::Give(which) if !held.is_empty() => {
                        let block = held.swap_remove(which % held.len());
                        prop_assert!(block.is_intact(block.layout.size()));
                        // SAFETY: it was allocated with that layout and is not used again.
                        unsafe { pool.0.dealloc(block.pointer, block.layout) };
                    }
                    Step::Resize(which, size) if !held.is_empty() => {
                        let which = which % held.len();
                        let block = &mut held[which];
                        let kept = block.layout.size().min(size);
                        // SAFETY: it was allocated with that layout; no size is 0.
                        block.pointer = unsafe { pool.0.realloc(block.pointer, block.layout, size) };
                        prop_assert!(block.is_intact(kept));
                        block.layout = Layout::from_size_align(size, block.layout.align()).unwrap();
                        prop_assert!((block.pointer as usize).is_multiple_of(block.layout.align()));
                        block.write();
                    }
                    _ => {}
                }
            }
            for block in held {
                prop_assert!(block.is_intact(block.layout.size()));
                // SAFETY: as above.
                unsafe { pool.0.dealloc(block.pointer, block.layout) };
            }
        }
    }

    #[test]
    fn what_is_freed_is_given_out_again_to_its_class_alone() {
        let pool = Emptied(Pool::new(System));
        let layout = |size| Layout::from_size_align(size, 8).unwrap();
        // SAFETY: no size is 0, and each block is freed once, with its layout.
        unsafe {
            let first = pool.0.alloc(layout(100));
            pool.0.dealloc(first, layout(100));
            let other = pool.0.alloc(layout(64));
            assert_ne!(other, first);
            let again = pool.0.alloc(layout(128));
            assert_eq!(again, first);
            pool.0.dealloc(other, layout(64));
            pool.0.dealloc(again, layout(128));
        }
    }
}
