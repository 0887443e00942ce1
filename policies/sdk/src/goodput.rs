//! What a way of drafting is worth: expected tokens against expected
//! milliseconds, and the best length.
//!
//! The measure of a round is its goodput, `rate = tokens / milliseconds`: what it
//! commits on average, by what it takes on average. Acceptance alone misleads: it
//! can be 0.9 while drafting loses. The best length, and whether lookup beats a
//! plain round, go by it.
//!
//! Where a slow draft that commits much stands against a quick round that commits
//! little, rates mislead too: tokens that a draft model works out now may be
//! tokens that the next round would have copied in no time. There time has a
//! price, the `pace`: the tokens per millisecond that the answer makes of late.
//! What brings the whole furthest is the option with the highest
//!
//! `value = tokens - pace * milliseconds`   (in tokens)
//!
//! which is one step of Dinkelbach's method for ratios, taken each round.
//!
//! Costs: a draft of L tokens is verified in a pass of L + 1 rows, and of the
//! rows of the other requests that stand in the same pass. By lookup that is
//! all. A draft model adds its passes: the first brings it up to date with what
//! it has not read, each further one has one row; where it stops early, the
//! passes after that are not run.
//!
//! It knows costs and acceptance, not where they were learned.

use crate::acceptance::{CLASSES, class_of};
use crate::cost::{CostTable, GearCost};

/// The pass that a tier runs for a round, whatever is drafted: one row for each
/// request. The same for all of them, so that it is looked up once.
#[derive(Debug, Clone, Copy)]
pub struct Pass<'a> {
    /// Costs of the tier that answers.
    pub costs: &'a CostTable,
    /// Its rows.
    pub rows: u32,
    /// The gears that hold more: those that a draft could fill.
    wider: &'a [GearCost],
    costed: Costed,
}

/// What a pass costs without a draft: to be kept for as long as costs are the same.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Costed {
    pub(crate) rows: u32,
    /// Gears that hold more.
    wider: usize,
    /// Expected milliseconds.
    milliseconds: f32,
    /// One request's share of them.
    share: f32,
    /// Whether its gear was measured.
    measured: bool,
}

impl<'a> Pass<'a> {
    /// The pass of a request and of so many others.
    pub fn new(costs: &'a CostTable, alongside: u32) -> Self {
        let rows = alongside.saturating_add(1);
        let milliseconds = costs.milliseconds(rows);
        let costed = Costed {
            rows,
            wider: costs.wider_than(rows).len(),
            milliseconds,
            share: milliseconds / rows as f32,
            measured: costs.gear(rows).is_some_and(|gear| gear.measured),
        };
        Self::of(costs, costed)
    }

    /// The pass that was costed before, by the same costs.
    pub(crate) fn of(costs: &'a CostTable, costed: Costed) -> Self {
        let gears = costs.gears();
        let wider = &gears[gears.len().saturating_sub(costed.wider)..];
        Self { costs, rows: costed.rows, wider, costed }
    }

    /// Whether a draft of at most so many tokens could be worth its time, if all of it
    /// were accepted and drafting took no time at all.
    pub(crate) fn may_pay(&self, most: u32) -> bool {
        let pays = |gear: &GearCost| {
            let tokens = (gear.rows - self.rows).min(most) as f32;
            tokens * self.costed.share > gear.milliseconds - self.costed.milliseconds
        };
        self.wider.iter().any(pays)
    }

    pub(crate) fn costed(&self) -> Costed {
        self.costed
    }
}

/// A round of a request that is to be decided.
#[derive(Debug, Clone, Copy)]
pub struct Round<'a> {
    /// What is run even without a draft.
    pub pass: Pass<'a>,
    /// What time is worth, in tokens per millisecond.
    pub pace: f32,
    /// Most tokens that may be drafted.
    pub most: u32,
    /// The length in force: kept where another is hardly better.
    pub held: Option<u32>,
}

/// Tokens of an answer that a draft model catches up on before it drafts, at most. What
/// it missed before them, while another drafter or none was at work, the host does not
/// show it.
pub const CATCH_UP: u32 = 16;

/// A draft model, and where it stands.
#[derive(Debug, Clone, Copy)]
pub struct DraftModel<'a> {
    /// Costs of the tier that drafts.
    pub costs: &'a CostTable,
    /// Milliseconds of its first pass in this round.
    pub first_pass: f32,
    /// Of the draft tokens that would fail, the share before which it stops: 0
    /// when it never stops early.
    pub stops: f32,
}

/// A draft length, weighed.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Weighed {
    /// Tokens to draft; 0 is a plain round.
    pub length: u32,
    /// Tokens that the round commits on average.
    pub tokens: f32,
    /// Milliseconds that it takes on average: this request's share of a plain
    /// pass, and what the draft adds to that.
    pub milliseconds: f32,
    /// `tokens - pace * milliseconds`, in tokens.
    pub value: f32,
    /// Whether the gear of the verify pass was measured.
    pub measured: bool,
}

/// How costs are read where nothing was measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reading {
    /// As the table guesses them.
    Expected,
    /// As they are at best.
    AtBest,
}

impl Reading {
    /// Milliseconds of a pass in this gear.
    fn of(self, gear: &GearCost) -> f32 {
        match self {
            Self::Expected => gear.milliseconds,
            Self::AtBest => gear.at_best,
        }
    }
}

/// Lead in rate, as a share, below which a change of length is not worth telling.
const LENGTH_MARGIN: f32 = 0.01;

/// No round takes less, in milliseconds, however costs waver.
const LEAST: f32 = 1e-4;

/// Lengths in a row that are no better, after which longer ones are not looked at.
const NO_BETTER: u32 = 4;

/// A draft that gets this far with less than this probability is long enough.
const HARDLY: f32 = 0.02;

impl Round<'_> {
    /// Milliseconds of a plain round: this request's share of the pass.
    pub fn plain_milliseconds(&self) -> f32 {
        self.pass.costed.share
    }

    /// A plain round.
    pub fn plain(&self) -> Weighed {
        self.weigh(0, 1.0, self.pass.costed.share, self.pass.costed.measured)
    }

    /// The length with the best rate of a draft by lookup, given acceptance by class
    /// of position: among the lengths that fill a gear, and the longest allowed.
    /// `None` where no gear holds a draft.
    pub fn lookup(&self, acceptance: &[f32; CLASSES], reading: Reading) -> Option<Weighed> {
        let (mut tokens, mut reached, mut length) = (1.0, 1.0, 0);
        let mut best = Best::of(self);
        let share = self.pass.costed.share - self.pass.costed.milliseconds;
        for gear in self.pass.wider {
            let milliseconds = (share + reading.of(gear)).max(LEAST);
            let fills = (gear.rows - self.pass.rows).min(self.most);
            while length < fills {
                reached *= acceptance[class_of(length)];
                tokens += reached;
                length += 1;
                if self.held == Some(length) {
                    best.held =
                        Some(Weight { length, tokens, milliseconds, measured: gear.measured });
                }
            }
            if length > 0 {
                best.consider(Weight { length, tokens, milliseconds, measured: gear.measured });
            }
            if length >= self.most || reached < HARDLY {
                break;
            }
        }
        best.take()
    }

    /// The length with the best rate of a draft by model: every length is looked at, since
    /// each token costs a pass, until some in a row are no better. `None` where no
    /// gear holds a draft.
    pub fn model(
        &self,
        model: &DraftModel<'_>,
        acceptance: &[f32; CLASSES],
        reading: Reading,
    ) -> Option<Weighed> {
        let one_row = model.costs.milliseconds(1);
        let (mut tokens, mut reached, mut drafting, mut going) = (1.0, 1.0, model.first_pass, 1.0);
        let (mut best, mut length, mut enough) = (Best::of(self), 0, NO_BETTER);
        let share = self.pass.costed.share - self.pass.costed.milliseconds;
        for gear in self.pass.wider {
            let verifying = share + reading.of(gear);
            let fills = (gear.rows - self.pass.rows).min(self.most);
            while length < fills {
                let share = acceptance[class_of(length)];
                reached *= share;
                tokens += reached;
                if length > 0 {
                    drafting += going * one_row;
                }
                length += 1;
                going *= 1.0 - model.stops * (1.0 - share);
                let milliseconds = (drafting + verifying).max(LEAST);
                let weighed = Weight { length, tokens, milliseconds, measured: gear.measured };
                if self.held == Some(length) {
                    best.held = Some(weighed);
                }
                if best.consider(weighed) {
                    enough = length + NO_BETTER;
                }
                if reached < HARDLY || length >= enough {
                    return best.take();
                }
            }
        }
        best.take()
    }

    /// What was weighed for a round that differs in its pace alone: the best length
    /// is the same, since it goes by the rate.
    pub fn again(&self, weighed: Option<Weighed>) -> Option<Weighed> {
        weighed.map(|w| self.weigh(w.length, w.tokens, w.milliseconds, w.measured))
    }

    fn weigh(&self, length: u32, tokens: f32, milliseconds: f32, measured: bool) -> Weighed {
        let milliseconds = milliseconds.max(LEAST);
        let value = tokens - self.pace * milliseconds;
        Weighed { length, tokens, milliseconds, value, measured }
    }
}

impl Weighed {
    /// Tokens per millisecond of this round by itself.
    pub fn rate(&self) -> f32 {
        self.tokens / self.milliseconds
    }
}

/// A length of which only the rate counts yet.
#[derive(Clone, Copy)]
struct Weight {
    length: u32,
    tokens: f32,
    milliseconds: f32,
    measured: bool,
}

impl Weight {
    /// Whether its rate is more than a share of the other's: without the divisions, of
    /// which there would be one for each length.
    fn beats(&self, share: f32, other: &Self) -> bool {
        self.tokens * other.milliseconds > share * other.tokens * self.milliseconds
    }
}

/// The best length so far, and the one in force.
struct Best<'a> {
    round: &'a Round<'a>,
    best: Weight,
    held: Option<Weight>,
}

impl<'a> Best<'a> {
    fn of(round: &'a Round<'a>) -> Self {
        // Nothing is worse than this.
        let best = Weight { length: 0, tokens: 0.0, milliseconds: 1.0, measured: false };
        Self { round, best, held: None }
    }

    /// Whether it is the best so far.
    fn consider(&mut self, weight: Weight) -> bool {
        let is_best = weight.beats(1.0, &self.best);
        if is_best {
            self.best = weight;
        }
        is_best
    }

    fn take(self) -> Option<Weighed> {
        if self.best.length == 0 {
            return None;
        }
        let held = self.held.filter(|held| held.beats(1.0 - LENGTH_MARGIN, &self.best));
        let Weight { length, tokens, milliseconds, measured } = held.unwrap_or(self.best);
        Some(self.round.weigh(length, tokens, milliseconds, measured))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Gear;
    use proptest::prelude::*;

    fn costs(gears: &[(u32, f32)]) -> CostTable {
        let gear = |&(rows, ms): &(u32, f32)| Gear {
            rows,
            compiled: true,
            milliseconds: Some(ms),
            compile_milliseconds: None,
        };
        let mut table = CostTable::default();
        table.update(&gears.iter().map(gear).collect::<Vec<_>>(), 1.0);
        table
    }

    fn flat() -> CostTable {
        costs(&[(1, 22.3), (2, 22.5), (4, 24.0), (8, 23.4), (12, 30.0), (16, 40.6), (32, 76.0)])
    }

    fn round(costs: &CostTable, pace: f32) -> Round<'_> {
        Round { pass: Pass::new(costs, 0), pace, most: 31, held: None }
    }

    #[test]
    fn a_sure_draft_fills_a_wide_gear_and_an_unsure_one_a_narrow_one() {
        let costs = flat();
        let best = |q| round(&costs, 0.05).lookup(&[q; CLASSES], Reading::Expected).unwrap();
        assert_eq!([best(0.97).length, best(0.8).length, best(0.1).length], [11, 7, 1]);
    }

    #[test]
    fn where_more_rows_cost_more_an_unsure_draft_loses() {
        let costs = costs(&[(1, 28.4), (2, 41.0), (4, 61.9), (8, 103.6)]);
        let round = round(&costs, 1.0 / 28.4);
        assert!(round.plain().value.abs() < 1e-6);
        let unsure = round.lookup(&[0.3; CLASSES], Reading::Expected).unwrap();
        assert!(unsure.value < 0.0, "{unsure:?}");
        let sure = round.lookup(&[0.95; CLASSES], Reading::Expected).unwrap();
        assert!(sure.value > 0.0, "{sure:?}");
    }

    #[test]
    fn where_the_answer_is_quick_a_slow_draft_has_less_value_than_a_plain_round() {
        let (target, draft) = (flat(), costs(&[(1, 8.7), (8, 10.2)]));
        let model = DraftModel { costs: &draft, first_pass: 8.7, stops: 0.0 };
        let lead = |pace: f32| {
            let round = round(&target, pace / 22.3);
            let best = round.model(&model, &[0.8; CLASSES], Reading::Expected).unwrap();
            assert!(best.rate() > round.plain().rate());
            best.value - round.plain().value
        };
        assert!(lead(1.0) > 0.0 && lead(4.0) < 0.0);
    }

    #[test]
    fn a_draft_model_is_paid_for_each_token_and_stopping_early_saves() {
        let (target, draft) = (flat(), costs(&[(1, 8.7), (8, 10.2)]));
        let round = round(&target, 1.4 / 22.3);
        let model = |stops| DraftModel { costs: &draft, first_pass: 8.7, stops };
        let best = round.model(&model(0.0), &[0.8; CLASSES], Reading::Expected).unwrap();
        assert!((2..=4).contains(&best.length), "{best:?}");
        let four = Round { held: Some(4), most: 4, ..round };
        let ms = |stops| four.model(&model(stops), &[0.9; CLASSES], Reading::Expected).unwrap();
        assert!((ms(0.0).milliseconds - (4.0 * 8.7 + 23.4)).abs() < 1e-3, "{:?}", ms(0.0));
        assert!(ms(1.0).milliseconds < ms(0.0).milliseconds);
    }

    #[test]
    fn the_length_in_force_is_kept_where_another_is_hardly_better() {
        let costs = costs(&[(1, 10.0), (8, 10.0), (9, 10.0)]);
        let round = Round { held: Some(7), ..round(&costs, 0.1) };
        assert_eq!(round.lookup(&[0.6; CLASSES], Reading::Expected).unwrap().length, 7);
        let free = Round { held: None, ..round };
        assert_eq!(free.lookup(&[0.6; CLASSES], Reading::Expected).unwrap().length, 8);
    }

    #[test]
    fn in_company_a_draft_pays_for_the_rows_that_it_adds() {
        let costs = costs(&[(1, 20.0), (8, 20.0), (64, 150.0), (128, 300.0)]);
        let crowd = Round { pass: Pass::new(&costs, 63), ..round(&costs, 64.0 / 150.0) };
        assert!((crowd.plain_milliseconds() - 150.0 / 64.0).abs() < 1e-4);
        let best = crowd.lookup(&[0.9; CLASSES], Reading::Expected).unwrap();
        assert!(best.value < crowd.plain().value);
        // All of a gear's rows at its price are what there is without drafts.
        assert!(!crowd.pass.may_pay(u32::MAX) && Pass::new(&costs, 0).may_pay(1));
        let cheaper = self::costs(&[(64, 150.0), (128, 290.0)]);
        let pass = Pass::new(&cheaper, 63);
        assert!(pass.may_pay(63) && !pass.may_pay(50));
    }

    proptest! {
        #[test]
        fn whatever_the_facts_lengths_are_within_bounds(
            gears in prop::collection::vec((0u32..200, any::<f32>()), 0..10),
            q in 0.0f32..=1.0, most in 0u32..64, alongside in 0u32..100, pace in 0.0f32..1.0,
        ) {
            let costs = costs(&gears);
            let round = Round { pass: Pass::new(&costs, alongside), pace, most, held: Some(3) };
            let model = DraftModel { costs: &costs, first_pass: 1.0, stops: 0.5 };
            let found = [
                round.lookup(&[q; CLASSES], Reading::AtBest),
                round.model(&model, &[q; CLASSES], Reading::Expected),
            ];
            for weighed in found.into_iter().flatten() {
                prop_assert!((1..=most).contains(&weighed.length));
                prop_assert!(weighed.tokens <= weighed.length as f32 + 1.001);
                prop_assert!(costs.gear(alongside + 1 + weighed.length).is_some());
            }
        }
    }
}
