//! A tier as a chooser sees it. It must know no request.

use std::cell::Cell;

use super::learned::Learned;
use super::strangers::Strangers;
use crate::cost::CostTable;
use crate::goodput::{Costed, Pass};

/// A tier: its costs, what was learned on it, and who can draft for it.
#[derive(Debug)]
pub(super) struct Tier {
    pub(super) costs: CostTable,
    pub(super) learned: Learned,
    /// Whether the host's own acceptance was looked at.
    pub(super) adopted: bool,
    pub(super) draft_tier: Option<usize>,
    /// Milliseconds of one row, guessed from the size of the weights.
    pub(super) by_size: f32,
    pub(super) strangers: Strangers,
    /// The pass of as many requests as run, once it was looked up in this call, and
    /// whether any draft can pay next to it.
    pass: Cell<Option<(Costed, bool)>>,
}

impl Tier {
    /// A tier of which nothing is measured yet. `draft_tier` can draft for it; a row is
    /// guessed to take `by_size` milliseconds.
    pub(super) fn new(learned: Learned, draft_tier: Option<usize>, by_size: f32) -> Self {
        Self {
            costs: CostTable::default(),
            learned,
            adopted: false,
            draft_tier,
            by_size,
            strangers: Strangers::default(),
            pass: Cell::new(None),
        }
    }

    /// The pass that is run for so many requests, in whatever order they are asked about,
    /// and whether a draft of at most so many tokens can pay.
    pub(super) fn pass(&self, running: u32, most: u32) -> (Pass<'_>, bool) {
        if let Some((costed, may_pay)) = self.pass.get()
            && costed.rows == running
        {
            return (Pass::of(&self.costs, costed), may_pay);
        }
        let pass = Pass::new(&self.costs, running.saturating_sub(1));
        let may_pay = pass.may_pay(most);
        self.pass.set(Some((pass.costed(), may_pay)));
        (pass, may_pay)
    }

    /// Forgets what was worked out from costs or from what is learned.
    pub(super) fn forget(&mut self) {
        self.strangers.forget();
        self.pass.set(None);
    }
}
