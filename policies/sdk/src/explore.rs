//! Trying out what does not seem best, at a price. An estimate that says "this
//! loses" is never proved wrong by avoiding it; but every try costs time.
//!
//! The explorer keeps an account in milliseconds. A set share of all time is
//! paid in; what a try lost, against what would have been done otherwise, is
//! taken out. A try must be covered by the account, so that in the long run no
//! more than the share is spent; one that cost more than foreseen leaves a debt
//! that is paid off before the next. Each thing to try (an arm) waits after each
//! try: [`FIRST_WAIT`] rounds at first, twice as long after each loss up to
//! [`LONGEST_WAIT`], and the first wait again after a win.
//!
//! There is no chance in it: the same rounds give the same tries. It knows
//! nothing of what is tried.

/// Rounds between two tries of an arm that has just won, or was never tried.
pub const FIRST_WAIT: u32 = 8;
/// Rounds between two tries of an arm that always loses.
pub const LONGEST_WAIT: u32 = 4096;

/// Milliseconds of running whose share the account holds at most.
const MOST_SAVED: f32 = 60_000.0;

/// The account and the arms.
#[derive(Debug, Clone, PartialEq)]
pub struct Explorer {
    share: f32,
    balance: f32,
    lost: f64,
    elapsed: f64,
    round: u64,
    arms: Vec<Arm>,
    /// The earliest round at which an arm may be tried.
    earliest: u64,
}

#[derive(Debug, Clone, Copy, PartialEq)]
struct Arm {
    due: u64,
    wait: u32,
}

impl Explorer {
    /// An explorer of so many arms that may spend a share of time (0 to 1; 0
    /// never tries anything).
    pub fn new(share: f32, arms: usize) -> Self {
        let share = if (0.0..=1.0).contains(&share) { share } else { 0.0 };
        let arm = Arm { due: 0, wait: FIRST_WAIT };
        Self {
            share,
            balance: 0.0,
            lost: 0.0,
            elapsed: 0.0,
            round: 0,
            arms: vec![arm; arms],
            earliest: 0,
        }
    }

    /// A round went by and took so many milliseconds.
    pub fn round(&mut self, milliseconds: f32) {
        self.round += 1;
        if milliseconds.is_finite() && milliseconds > 0.0 {
            self.elapsed += f64::from(milliseconds);
            let most = self.share * MOST_SAVED;
            let paid_in = (self.balance + self.share * milliseconds).min(most);
            self.balance = self.balance.max(paid_in);
        }
    }

    /// Puts milliseconds into the account that no round has earned: for what has
    /// to be tried before anything can be known. Counts beside the share.
    pub fn credit(&mut self, milliseconds: f32) {
        if self.share > 0.0 && milliseconds.is_finite() {
            self.balance += milliseconds.max(0.0);
        }
    }

    /// Whether any arm has waited long enough and something is in the account:
    /// ask this first, it costs next to nothing.
    pub fn is_ready(&self) -> bool {
        self.share > 0.0 && self.balance > 0.0 && self.round >= self.earliest
    }

    /// Whether an arm may be tried, when that is expected to lose so many
    /// milliseconds (0 or less where it may even win).
    pub fn may_try(&self, arm: usize, loss: f32) -> bool {
        self.is_ready()
            && loss <= self.balance
            && self.arms.get(arm).is_some_and(|arm| self.round >= arm.due)
    }

    /// A try is under way: no other is begun before [`Explorer::settle`] or until
    /// the first wait is over.
    pub fn begin(&mut self, arm: usize) {
        if let Some(arm) = self.arms.get_mut(arm) {
            arm.due = self.round + u64::from(FIRST_WAIT);
        }
        self.find_earliest();
    }

    /// What a try lost, in milliseconds, against what would have been done
    /// otherwise; less than 0 when it won.
    pub fn settle(&mut self, arm: usize, loss: f32) {
        let loss = if loss.is_finite() { loss } else { 0.0 };
        if loss > 0.0 {
            self.balance -= loss;
            self.lost += f64::from(loss);
        }
        let Some(arm) = self.arms.get_mut(arm) else { return };
        arm.wait = if loss < 0.0 { FIRST_WAIT } else { (arm.wait * 2).min(LONGEST_WAIT) };
        arm.due = self.round + u64::from(arm.wait);
        self.find_earliest();
    }

    /// There is nothing to try now: [`Explorer::is_ready`] is false for so many
    /// rounds, which spares looking again every round.
    pub fn postpone(&mut self, rounds: u32) {
        self.earliest = self.earliest.max(self.round + u64::from(rounds));
    }

    /// Milliseconds that may be lost now; below 0 a debt.
    pub fn balance(&self) -> f32 {
        self.balance
    }

    /// The share of time lost to tries so far, 0 to 1.
    pub fn spent(&self) -> f32 {
        if self.elapsed > 0.0 { (self.lost / self.elapsed) as f32 } else { 0.0 }
    }

    fn find_earliest(&mut self) {
        self.earliest = self.arms.iter().map(|arm| arm.due).min().unwrap_or(u64::MAX);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn nothing_is_tried_before_it_is_paid_for() {
        let mut explorer = Explorer::new(0.02, 1);
        assert!(!explorer.may_try(0, 0.0));
        (0..10).for_each(|_| explorer.round(20.0));
        assert!(explorer.may_try(0, 3.9));
        assert!(!explorer.may_try(0, 4.1));
        assert!(!explorer.may_try(1, 0.0), "there is no such arm");
    }

    #[test]
    fn without_a_share_nothing_is_ever_tried() {
        for share in [0.0, -1.0, f32::NAN] {
            let mut explorer = Explorer::new(share, 1);
            (0..1000).for_each(|_| explorer.round(1e6));
            assert!(!explorer.may_try(0, 0.0));
        }
    }

    #[test]
    fn an_arm_that_loses_waits_twice_as_long_each_time_and_one_that_wins_does_not() {
        let tries = |loss: f32| {
            let mut explorer = Explorer::new(0.5, 1);
            let mut at = Vec::new();
            for round in 0..200 {
                explorer.round(10.0);
                if explorer.may_try(0, loss) {
                    explorer.begin(0);
                    explorer.settle(0, loss);
                    at.push(round);
                }
            }
            at
        };
        assert_eq!(tries(1.0), [0, 16, 48, 112]);
        assert_eq!(tries(-1.0).len(), 25);
    }

    #[test]
    fn what_is_postponed_is_ready_again_after_so_many_rounds() {
        let mut explorer = Explorer::new(0.5, 1);
        explorer.round(10.0);
        explorer.postpone(2);
        assert!(!explorer.is_ready() && !explorer.may_try(0, 0.0));
        explorer.round(10.0);
        assert!(!explorer.is_ready());
        explorer.round(10.0);
        assert!(explorer.is_ready());
    }

    #[test]
    fn a_debt_is_paid_off_first() {
        let mut explorer = Explorer::new(0.01, 2);
        (0..100).for_each(|_| explorer.round(10.0));
        explorer.settle(0, 20.0);
        assert!((explorer.balance() + 10.0).abs() < 1e-3);
        (0..95).for_each(|_| explorer.round(10.0));
        assert!(!explorer.may_try(1, 0.0));
        (0..10).for_each(|_| explorer.round(10.0));
        assert!(explorer.may_try(1, 0.0));
    }

    proptest! {
        #[test]
        fn no_more_than_the_share_is_spent_when_losses_are_as_foreseen(
            rounds in prop::collection::vec((0.1f32..100.0, 0.0f32..50.0), 1..2000),
            share in 0.0f32..0.2,
        ) {
            let mut explorer = Explorer::new(share, 2);
            for (i, (ms, loss)) in rounds.into_iter().enumerate() {
                explorer.round(ms);
                if explorer.may_try(i % 2, loss) {
                    explorer.settle(i % 2, loss);
                }
            }
            prop_assert!(explorer.spent() <= share * 1.001 + 1e-6, "{} of {share}", explorer.spent());
        }
    }
}
