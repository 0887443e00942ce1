//! Where the quants of a sub-block are, row by row of a tile.

use std::marker::PhantomData;

use crate::activation::{Q8, Q8K};
use crate::simd::{Simd, one_base};

/// Rounded columns of a row, of which the quants come first.
pub(super) trait Record {
    /// How many fours of columns.
    const FOURS: usize;
}

impl Record for Q8K {
    const FOURS: usize = {
        assert!(std::mem::offset_of!(Q8K, quants) == 0);
        64
    };
}

impl Record for Q8 {
    const FOURS: usize = {
        assert!(std::mem::offset_of!(Q8, quants) == 0);
        8
    };
}

/// The same `L` times four columns of `N` rows; where products are made with quants in
/// memory, all addressed from one register by constants: see [`one_base`]. (Measured: with a
/// register for each row, which needs no pointer here, eight rows of Q4_K take 5 % longer.)
#[derive(Clone, Copy)]
pub(super) struct Quants<'a, R, const L: usize, const N: usize> {
    /// Those of the first row.
    first: *const [[i8; 4]; L],
    rows: PhantomData<&'a [R; N]>,
}

impl<'a, R: Record, const L: usize, const N: usize> Quants<'a, R, L, N> {
    /// The `part`-th `L` times four columns.
    ///
    /// # Panics
    /// When a record has none such.
    #[inline(always)]
    pub fn of<S: Simd>(_: S, rows: &'a [R; N], part: usize) -> Self {
        assert!((part + 1) * L <= R::FOURS, "beyond a record's quants");
        let first = std::ptr::from_ref(rows).cast::<[[i8; 4]; L]>().wrapping_add(part);
        // Pairs are made of quants that were loaded before.
        let first = if S::PAIRS_FIRST { first } else { one_base(first) };
        Self { first, rows: PhantomData }
    }

    /// Those of row `row`.
    ///
    /// # Panics
    /// When there is no such row.
    #[inline(always)]
    pub fn row(self, row: usize) -> &'a [[i8; 4]; L] {
        assert!(row < N, "beyond the tile");
        // SAFETY: `first` was made from the reference to all rows and lies within the
        // first one's quants, which begin a record, with `L` fours left as `of` saw. So
        // this lies within the quants of the row.
        unsafe { &*self.first.byte_add(row * size_of::<R>()) }
    }
}
