//! Memory that several threads write during one operation, each its own part.
//!
//! Rust's slices cannot say "thread 0 has columns 0 to 800 of every row". These
//! views hold a raw pointer and hand out small pieces; whoever asks for a piece
//! promises that no other thread holds it. Between operations the threads meet
//! at a barrier, which makes what one wrote visible to all.

use std::marker::PhantomData;

use crate::simd::{LANES, prefetch};

/// `T`s that several threads share. Copies of a view see the same memory.
pub struct Shared<'a, T> {
    at: *mut T,
    length: usize,
    owner: PhantomData<&'a mut [T]>,
}

impl<T> Clone for Shared<'_, T> {
    fn clone(&self) -> Self {
        *self
    }
}
impl<T> Copy for Shared<'_, T> {}

// SAFETY: a view is a pointer and a length; what is done with it is promised by
// whoever calls its unsafe methods.
unsafe impl<T: Send> Send for Shared<'_, T> {}
// SAFETY: as above.
unsafe impl<T: Send> Sync for Shared<'_, T> {}

impl<'a, T> Shared<'a, T> {
    /// A view of `items`, which nobody else can touch while it lives.
    pub fn new(items: &'a mut [T]) -> Self {
        Self { at: items.as_mut_ptr(), length: items.len(), owner: PhantomData }
    }

    /// A view of memory known by address.
    ///
    /// # Safety
    /// `at` must be valid for reads and writes of `length` initialised items for
    /// as long as `'a`, and in that time only be used through this view's pieces.
    pub unsafe fn from_raw(at: *mut T, length: usize) -> Self {
        Self { at, length, owner: PhantomData }
    }

    /// Items.
    pub fn len(&self) -> usize {
        self.length
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.length == 0
    }

    /// A part to read.
    ///
    /// # Safety
    /// While the result lives, nobody writes to any of these items.
    ///
    /// # Panics
    /// When the part reaches past the end.
    #[inline(always)]
    pub unsafe fn read(&self, start: usize, length: usize) -> &'a [T] {
        assert!(start <= self.length && length <= self.length - start, "past the end");
        // SAFETY: in bounds; that nobody writes is the caller's promise.
        unsafe { std::slice::from_raw_parts(self.at.add(start), length) }
    }

    /// A part to write.
    ///
    /// # Safety
    /// While the result lives, nobody else reads or writes any of these items.
    ///
    /// # Panics
    /// When the part reaches past the end.
    #[inline(always)]
    #[allow(clippy::mut_from_ref)] // The caller promises that parts do not overlap.
    pub unsafe fn write(&self, start: usize, length: usize) -> &'a mut [T] {
        assert!(start <= self.length && length <= self.length - start, "past the end");
        // SAFETY: in bounds; that nobody else uses it is the caller's promise.
        unsafe { std::slice::from_raw_parts_mut(self.at.add(start), length) }
    }

    /// Asks for the cache line of an item, which need not be there.
    #[inline(always)]
    pub(crate) fn ask(&self, item: usize) {
        prefetch(self.at.wrapping_add(item));
    }

    /// The same memory seen as items of another type.
    ///
    /// # Panics
    /// When it is not aligned to those, or no whole number of them.
    pub fn cast<U: bytemuck::Pod>(self) -> Shared<'a, U>
    where
        T: bytemuck::Pod,
    {
        let bytes = self.length * size_of::<T>();
        assert!(self.at.cast::<U>().is_aligned() && bytes.is_multiple_of(size_of::<U>()));
        // Both types are plain data, for which any bytes are values.
        Shared { at: self.at.cast(), length: bytes / size_of::<U>(), owner: PhantomData }
    }

    /// A view of a part.
    ///
    /// # Panics
    /// When the part reaches past the end.
    pub fn part(&self, start: usize, length: usize) -> Self {
        assert!(start <= self.length && length <= self.length - start, "past the end");
        // SAFETY: in bounds of what this view was made for; the promises of its
        // unsafe methods are about items, whichever view they are reached by.
        Self { at: unsafe { self.at.add(start) }, length, owner: PhantomData }
    }
}

/// Rows of f32 in shared memory, `stride` floats apart: whole ones, or a part of each.
#[derive(Clone, Copy)]
pub struct SharedRows<'a> {
    floats: Shared<'a, f32>,
    stride: usize,
    /// Row and column that the memory begins with.
    origin: (usize, usize),
}

impl<'a> SharedRows<'a> {
    /// Whole rows, from the first on, that begin `stride` floats after each other.
    pub fn new(floats: Shared<'a, f32>, stride: usize) -> Self {
        Self { floats, stride, origin: (0, 0) }
    }

    /// The same memory, as that of rows from `row` and columns from `column` on.
    pub fn from(self, row: usize, column: usize) -> Self {
        Self { origin: (row, column), ..self }
    }

    /// Where a float is.
    #[inline(always)]
    fn index(&self, row: usize, column: usize) -> usize {
        (row - self.origin.0) * self.stride + column - self.origin.1
    }

    /// Sixteen floats of a row, to write.
    ///
    /// # Safety
    /// As for [`Shared::write`].
    #[inline(always)]
    #[allow(clippy::mut_from_ref)] // As for Shared::write.
    pub unsafe fn lanes(&self, row: usize, column: usize) -> &'a mut [f32; LANES] {
        // SAFETY: the caller's promise.
        let part = unsafe { self.floats.write(self.index(row, column), LANES) };
        match part.first_chunk_mut() {
            Some(lanes) => lanes,
            None => unreachable!("the part has LANES floats"),
        }
    }

    /// `columns` floats of a row from `start` on, to read.
    ///
    /// # Safety
    /// As for [`Shared::read`].
    #[inline(always)]
    pub unsafe fn read(&self, row: usize, start: usize, columns: usize) -> &'a [f32] {
        // SAFETY: the caller's promise.
        unsafe { self.floats.read(self.index(row, start), columns) }
    }

    /// `columns` floats of a row from `start` on, to write.
    ///
    /// # Safety
    /// As for [`Shared::write`].
    #[inline(always)]
    #[allow(clippy::mut_from_ref)] // As for Shared::write.
    pub unsafe fn write(&self, row: usize, start: usize, columns: usize) -> &'a mut [f32] {
        // SAFETY: the caller's promise.
        unsafe { self.floats.write(self.index(row, start), columns) }
    }
}
