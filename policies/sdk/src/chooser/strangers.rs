//! What drafts are worth to requests of which nothing is known yet: the same for
//! all of them, so it is worked out once for a call, by what was learned up to the
//! first of them. Among many requests at once most are such, since next to them
//! hardly anything is worth drafting.

use std::cell::Cell;

use super::learned::MATCHES;
use crate::goodput::Weighed;

/// All that the worth depends on, the tier and the class of a match apart: the most
/// tokens that may be drafted, the length in force, and the bits of the draft
/// model's first pass.
pub(super) type Key = (u32, Option<u32>, u32);

/// Draft models' first passes that are told apart: they are as many as gears that
/// catch up with what was not read.
const FIRST_PASSES: usize = 8;

/// Since when it is known, for what, and the worth.
type Known = Option<(u64, Key, Option<Weighed>)>;

/// What was worked out in this call on one tier.
#[derive(Debug, Default)]
pub(super) struct Strangers {
    /// Times that everything was forgotten: what is known since an earlier one is not
    /// known any more. Counting is cheaper than going over all of it in each call.
    forgotten: u64,
    lookup: [Cell<Known>; MATCHES],
    model: [Cell<Known>; FIRST_PASSES],
}

impl Strangers {
    /// Forgets everything: another call begins, with other costs, and more is learned.
    pub(super) fn forget(&mut self) {
        self.forgotten += 1;
    }

    /// A draft by lookup after a match of this class.
    pub(super) fn lookup(
        &self,
        class: usize,
        key: Key,
        weigh: impl FnOnce() -> Option<Weighed>,
    ) -> Option<Weighed> {
        self.of(self.lookup.get(class), key, weigh)
    }

    /// A draft by model.
    pub(super) fn model(
        &self,
        key: Key,
        weigh: impl FnOnce() -> Option<Weighed>,
    ) -> Option<Weighed> {
        // Costs that differ do so in the leading bits of the fraction.
        self.of(self.model.get((key.2 >> 18) as usize % FIRST_PASSES), key, weigh)
    }

    fn of(
        &self,
        known: Option<&Cell<Known>>,
        key: Key,
        weigh: impl FnOnce() -> Option<Weighed>,
    ) -> Option<Weighed> {
        if let Some((since, before, weighed)) = known.and_then(Cell::get)
            && since == self.forgotten
            && before == key
        {
            return weighed;
        }
        let weighed = weigh();
        if let Some(known) = known {
            known.set(Some((self.forgotten, key, weighed)));
        }
        weighed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn weighed(length: u32) -> Option<Weighed> {
        Some(Weighed { length, tokens: 2.0, milliseconds: 1.0, value: 0.0, measured: true })
    }

    #[test]
    fn the_same_is_worked_out_once_until_it_is_forgotten() {
        let mut strangers = Strangers::default();
        let key = (31, None, 8.7f32.to_bits());
        assert_eq!(strangers.lookup(2, key, || weighed(5)), weighed(5));
        assert_eq!(strangers.lookup(2, key, || weighed(6)), weighed(5));
        assert_eq!(strangers.model(key, || None), None);
        assert_eq!(strangers.model(key, || weighed(6)), None);
        strangers.forget();
        assert_eq!(strangers.lookup(2, key, || weighed(6)), weighed(6));
        assert_eq!(strangers.model(key, || weighed(7)), weighed(7));
    }

    #[test]
    fn what_differs_in_anything_is_worked_out_anew() {
        let strangers = Strangers::default();
        let key = (31, None, 8.7f32.to_bits());
        strangers.lookup(2, key, || weighed(5));
        for (class, key) in [
            (1, key),
            (2, (30, None, key.2)),
            (2, (31, Some(4), key.2)),
            (2, (31, None, 8.8f32.to_bits())),
        ] {
            assert_eq!(strangers.lookup(class, key, || weighed(9)), weighed(9));
        }
    }
}
