//! What a pass costs, in milliseconds, from the gear facts: what was measured
//! where it was measured, and a careful guess where it was not.
//!
//! - A pass of n rows runs in the smallest gear that holds n, and costs what
//!   that gear was measured to cost.
//! - Between two measured gears of a and b rows, a gear of n rows is taken to
//!   cost `cost(a) * (n/a)^e`, where `e` makes it meet `cost(b)`. Costs that
//!   first rise steeply and then flatten lie below that line never by much, and
//!   costs that are flat come out flat.
//! - Beyond the measured gears, and on a tier where nothing is measured yet, `e`
//!   is [`UNKNOWN_EXPONENT`].
//! - A gear that is not compiled costs, beside its pass, its compile time over the
//!   passes that are to come ([`CostTable::expect_passes`]; [`COMPILE_PASSES`] where
//!   nobody says how many): with few tokens left, a graph is not won back.
//!
//! Nothing here may know of drafts or requests.

use crate::Gear;

/// How cost grows with rows where nothing else is known: 2 rows cost 1.5 times
/// one row, 8 rows 3.5 times. Processors whose kernels unpack weights for every
/// row measure 1.4 and 3.6; those that unpack once measure hardly more than 1,
/// and get to show that as soon as one wider pass is run.
pub const UNKNOWN_EXPONENT: f32 = 0.6;

/// Passes over which the compile time of a gear is spread where nobody knows better.
pub const COMPILE_PASSES: f32 = 32.0;
/// Passes that are told apart: what is compiled for more than that is as good as there.
const MOST_PASSES: f32 = 4096.0;

/// Change of a measured cost, as a share, from which on guesses are made anew.
const REGUESS: f32 = 0.03;

/// Costs outside of this are taken for mistakes of measurement, in milliseconds.
const SANE: std::ops::RangeInclusive<f32> = 1e-4..=1e8;

/// What passes on one tier are expected to cost.
#[derive(Debug, Clone)]
pub struct CostTable {
    /// By rows, ascending.
    gears: Vec<GearCost>,
    /// Milliseconds of one row where nothing is measured.
    unmeasured: f32,
    /// Passes that a compilation is spread over.
    passes: f32,
    /// Whether any gear is to be compiled yet.
    compiles: bool,
    /// By rows, the index of the smallest gear that holds them.
    holds: [u8; LOOKED_UP],
}

/// Rows whose gear is looked up in one step: those of most passes.
const LOOKED_UP: usize = 65;

impl Default for CostTable {
    fn default() -> Self {
        Self {
            gears: Vec::new(),
            unmeasured: 0.0,
            passes: COMPILE_PASSES,
            compiles: false,
            holds: [0; LOOKED_UP],
        }
    }
}

/// A gear as a [`CostTable`] sees it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct GearCost {
    /// Most rows of a pass.
    pub rows: u32,
    /// Expected milliseconds of a pass, with its share of a compilation to come.
    pub milliseconds: f32,
    /// The least that a pass can be hoped to cost, in milliseconds: what the next
    /// smaller measured gear costs, and the share of a compilation. The same as
    /// `milliseconds` for a measured gear.
    pub at_best: f32,
    /// Whether its pass was measured.
    pub measured: bool,
    /// Whether its graph is there.
    pub compiled: bool,
    /// Milliseconds of a pass alone.
    pass: f32,
    /// Milliseconds of the compilation to come; 0 for a compiled gear.
    to_compile: f32,
    /// Index among the facts.
    given: u32,
    /// The measured value that guesses were last made from; 0: none.
    guessed_from: f32,
}

impl CostTable {
    /// Takes in what the host measures now. `unmeasured` is what one row may cost
    /// on this tier as long as nothing is measured, in milliseconds; only its
    /// ratio to other tiers' matters then. Cheap when little has changed.
    pub fn update(&mut self, facts: &[Gear], unmeasured: f32) {
        let unmeasured = sane(unmeasured).unwrap_or(1.0);
        let mut guess = false;
        if differs(unmeasured, self.unmeasured) {
            self.unmeasured = unmeasured;
            guess = !self.is_measured();
        }
        guess |= match self.take_in(facts) {
            Some(guess) => guess,
            None => {
                self.reshape(facts);
                // Every gear has its fact now.
                self.take_in(facts);
                true
            }
        };
        if guess {
            self.guess(facts);
        }
    }

    /// Takes in what is measured of the gears that the table has; returns whether
    /// guesses are to be made anew. `None` when the facts are of other gears. This
    /// runs for every gear of every tier in every round: in one go, and what is as
    /// it was costs a comparison.
    fn take_in(&mut self, facts: &[Gear]) -> Option<bool> {
        let usable = || facts.iter().filter(|fact| fact.rows > 0).count();
        if self.gears.len() != facts.len() && self.gears.len() != usable() {
            return None;
        }
        let mut guess = false;
        for gear in &mut self.gears {
            let fact = facts.get(gear.given as usize)?;
            if fact.rows != gear.rows {
                return None;
            }
            if fact.compiled != gear.compiled {
                gear.compiled = fact.compiled;
                guess = true;
            }
            match fact.milliseconds {
                Some(now) if gear.measured && now == gear.pass => {}
                None if !gear.measured => {}
                now => match now.and_then(sane) {
                    Some(now) => {
                        guess |= !gear.measured || differs(now, gear.guessed_from);
                        gear.measured = true;
                        gear.pass = now;
                        gear.spread(now, self.passes);
                    }
                    None if gear.measured => return None,
                    None => {}
                },
            }
        }
        Some(guess)
    }

    /// Says how many passes are to come, as far as one can see: what a compilation costs
    /// is spread over them. Only the power of two counts, so that little changes from
    /// round to round. Cheap where all gears are compiled.
    pub fn expect_passes(&mut self, passes: f32) {
        // A positive number without its fraction is the power of two below it.
        const EXPONENT: u32 = 0xff80_0000;
        let passes = f32::from_bits(passes.clamp(1.0, MOST_PASSES).to_bits() & EXPONENT);
        if passes == self.passes {
            return;
        }
        self.passes = passes;
        for gear in self.gears.iter_mut().filter(|gear| gear.to_compile > 0.0) {
            // Its pass at best, without the share that it had.
            let at_best = gear.at_best - (gear.milliseconds - gear.pass);
            gear.spread(at_best, passes);
        }
    }

    /// Whether any gear is to be compiled yet: whether it matters how many passes are to
    /// come.
    pub fn compiles(&self) -> bool {
        self.compiles
    }

    /// Gears by rows, ascending.
    pub fn gears(&self) -> &[GearCost] {
        &self.gears
    }

    /// The smallest gear that holds that many rows.
    #[inline]
    pub fn gear(&self, rows: u32) -> Option<&GearCost> {
        match self.holds.get(rows as usize) {
            // Beyond the last gear where none holds so many.
            Some(&index) => self.gears.get(usize::from(index)),
            None => self.wider_than(rows - 1).first(),
        }
    }

    /// The gears of more than that many rows, ascending.
    pub fn wider_than(&self, rows: u32) -> &[GearCost] {
        let from = self.gears.partition_point(|gear| gear.rows <= rows);
        // No place lies beyond the end.
        self.gears.get(from..).unwrap_or_default()
    }

    /// Most rows of a pass; 0 without gears.
    pub fn widest(&self) -> u32 {
        self.gears.last().map_or(0, |gear| gear.rows)
    }

    /// Expected milliseconds for running that many rows, in several passes if no
    /// gear holds them. Without any gears, the guess for a single wide one.
    #[inline]
    pub fn milliseconds(&self, rows: u32) -> f32 {
        match self.gear(rows) {
            Some(gear) => gear.milliseconds,
            None => self.milliseconds_beyond(rows),
        }
    }

    /// The same where no gear holds them.
    #[cold]
    fn milliseconds_beyond(&self, rows: u32) -> f32 {
        let Some(widest) = self.gears.last() else {
            return self.unmeasured.max(*SANE.start())
                * (rows.max(1) as f32).powf(UNKNOWN_EXPONENT);
        };
        let (full, rest) = (rows / widest.rows, rows % widest.rows);
        let rest = self.gear(rest).filter(|_| rest > 0).map_or(0.0, |gear| gear.milliseconds);
        full as f32 * widest.milliseconds + rest
    }

    /// Whether anything was measured.
    pub fn is_measured(&self) -> bool {
        self.gears.iter().any(|gear| gear.measured)
    }

    /// Makes the list of gears that of the facts, of which nothing is taken in yet.
    fn reshape(&mut self, facts: &[Gear]) {
        self.gears.clear();
        for (given, fact) in (0..).zip(facts).filter(|(_, fact)| fact.rows > 0) {
            // They are a dozen at most, and mostly in order: no sort is worth its code.
            let at = self.gears.partition_point(|gear| gear.rows <= fact.rows);
            self.gears.insert(
                at,
                GearCost {
                    rows: fact.rows,
                    milliseconds: 0.0,
                    at_best: 0.0,
                    measured: false,
                    compiled: fact.compiled,
                    pass: 0.0,
                    to_compile: 0.0,
                    given,
                    guessed_from: 0.0,
                },
            );
        }
        let mut narrower = 0;
        for (rows, index) in (0..).zip(&mut self.holds) {
            while self.gears.get(narrower).is_some_and(|gear| gear.rows < rows) {
                narrower += 1;
            }
            // So many are narrower than 64 rows only where the same ones are there often.
            *index = u8::try_from(narrower).unwrap_or(u8::MAX);
        }
    }

    /// Fills in what is not measured.
    fn guess(&mut self, facts: &[Gear]) {
        let compile =
            |gear: &GearCost| facts[gear.given as usize].compile_milliseconds.and_then(sane);
        let dearest = self
            .gears
            .iter()
            .filter_map(compile)
            .fold(None, |most: Option<f32>, ms| Some(most.map_or(ms, |most| most.max(ms))));
        let known = |gear: &GearCost| Some((gear.rows, gear.pass)).filter(|_| gear.measured);
        for i in 0..self.gears.len() {
            let rows = self.gears[i].rows;
            if self.gears[i].measured {
                let gear = &mut self.gears[i];
                gear.guessed_from = gear.pass;
                // Its graph may be gone again: some devices have room for a few.
                gear.to_compile = match gear.compiled {
                    true => 0.0,
                    false => compile(gear).or(dearest).unwrap_or(0.0),
                };
                gear.spread(gear.pass, self.passes);
                continue;
            }
            let below = self.gears[..i].iter().rev().find_map(known);
            let above = self.gears[i..].iter().find_map(known);
            let pass = match (below, above) {
                (Some(below), Some(above)) => between(below, above, rows),
                (Some((r, ms)), None) | (None, Some((r, ms))) => {
                    ms * (rows as f32 / r as f32).powf(UNKNOWN_EXPONENT)
                }
                (None, None) => self.unmeasured * (rows as f32).powf(UNKNOWN_EXPONENT),
            };
            let gear = &mut self.gears[i];
            gear.pass = pass.clamp(*SANE.start(), *SANE.end());
            gear.to_compile =
                if gear.compiled { 0.0 } else { compile(gear).or(dearest).unwrap_or(pass) };
            let at_best = below.map_or(gear.pass, |(_, ms)| ms.min(gear.pass));
            gear.spread(at_best, self.passes);
        }
        self.compiles = self.gears.iter().any(|gear| gear.to_compile > 0.0);
    }
}

impl GearCost {
    /// Adds a compilation's share to the pass, and to what that costs at best. Passes
    /// are sane, and at best not dearer.
    fn spread(&mut self, at_best: f32, passes: f32) {
        if self.to_compile <= 0.0 {
            (self.milliseconds, self.at_best) = (self.pass, at_best);
            return;
        }
        let share = self.to_compile / passes;
        self.milliseconds = (self.pass + share).clamp(*SANE.start(), *SANE.end());
        self.at_best = (at_best + share).clamp(*SANE.start(), self.milliseconds);
    }
}

/// The power law through two measured points, at a number of rows between them.
fn between((a, cost_a): (u32, f32), (b, cost_b): (u32, f32), rows: u32) -> f32 {
    if a >= b {
        return cost_a.max(cost_b);
    }
    let exponent = (cost_b / cost_a).ln() / (b as f32 / a as f32).ln();
    cost_a * (rows as f32 / a as f32).powf(exponent)
}

fn sane(milliseconds: f32) -> Option<f32> {
    SANE.contains(&milliseconds).then_some(milliseconds)
}

/// Whether a cost is another one than before, by more than what matters; 0 before is none.
fn differs(now: f32, before: f32) -> bool {
    (now - before).abs() > REGUESS * before
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn gear(rows: u32, milliseconds: Option<f32>) -> Gear {
        Gear { rows, compiled: true, milliseconds, compile_milliseconds: None }
    }

    fn table(gears: &[Gear]) -> CostTable {
        let mut table = CostTable::default();
        table.update(gears, 10.0);
        table
    }

    #[test]
    fn a_measured_gear_costs_what_was_measured_for_all_rows_that_it_holds() {
        let table = table(&[gear(1, Some(22.3)), gear(4, Some(24.0)), gear(8, Some(23.4))]);
        let costs: Vec<_> = [1, 2, 4, 5, 8].map(|rows| table.milliseconds(rows)).into();
        assert_eq!(costs, [22.3, 24.0, 24.0, 23.4, 23.4]);
        assert_eq!(table.milliseconds(20), 23.4 + 23.4 + 24.0, "two full passes and one of 4");
    }

    #[test]
    fn between_measured_gears_costs_follow_the_power_law_through_both() {
        let table = table(&[gear(1, Some(10.0)), gear(4, None), gear(16, Some(40.0))]);
        assert!((table.milliseconds(4) - 20.0).abs() < 1e-3);
        assert_eq!(table.gears()[1].at_best, 10.0);
    }

    #[test]
    fn beyond_measured_gears_wider_is_dearer_and_narrower_cheaper() {
        let table = table(&[gear(1, None), gear(8, Some(80.0)), gear(64, None)]);
        assert!((table.milliseconds(64) - 80.0 * 8f32.powf(0.6)).abs() < 1e-2);
        assert!((table.milliseconds(1) - 80.0 / 8f32.powf(0.6)).abs() < 1e-3);
    }

    #[test]
    fn where_nothing_is_measured_the_guess_of_one_row_scales() {
        let table = table(&[gear(1, None), gear(2, None)]);
        assert!(!table.is_measured());
        assert_eq!(table.milliseconds(1), 10.0);
        assert!((table.milliseconds(2) - 15.157).abs() < 1e-2);
    }

    #[test]
    fn a_gear_to_be_compiled_costs_its_share_of_that() {
        let mut wide = gear(2, None);
        wide.compiled = false;
        wide.compile_milliseconds = Some(64.0);
        let table = table(&[gear(1, Some(10.0)), wide]);
        assert!((table.milliseconds(2) - 17.157).abs() < 1e-2);
    }

    #[test]
    fn a_compilation_is_spread_over_the_passes_to_come() {
        let uncompiled = |rows, milliseconds| Gear {
            compiled: false,
            compile_milliseconds: Some(64.0),
            ..gear(rows, milliseconds)
        };
        // A wide one that was never run, and one whose graph made room for another.
        let facts = [gear(1, Some(10.0)), uncompiled(4, None), uncompiled(8, Some(12.0))];
        let mut table = table(&facts);
        let pass = table.gears()[1].pass;
        for (passes, share) in [(700.0, 0.125), (64.0, 1.0), (100.0, 1.0), (2.0, 32.0), (0.0, 64.0)]
        {
            table.expect_passes(passes);
            let costs: Vec<f32> = table.gears().iter().map(|gear| gear.milliseconds).collect();
            let expected = [10.0, pass + share, 12.0 + share];
            let close = costs.iter().zip(expected).all(|(a, b)| (a - b).abs() < 1e-3);
            assert!(close, "{costs:?} for {passes} passes");
            let at_best: Vec<f32> = table.gears().iter().map(|gear| gear.at_best).collect();
            assert!((at_best[1] - 10.0 - share).abs() < 1e-3, "{at_best:?}");
            // The same whether it is said before or after facts come in.
            let mut anew = CostTable::default();
            anew.expect_passes(passes);
            anew.update(&facts, 10.0);
            assert_eq!(anew.milliseconds(8), table.milliseconds(8));
        }
    }

    #[test]
    fn one_wide_measurement_corrects_the_guesses_below_it() {
        let mut table = table(&[gear(1, Some(22.3)), gear(2, None), gear(8, None)]);
        assert!(table.milliseconds(2) > 30.0);
        table.update(&[gear(1, Some(22.3)), gear(2, None), gear(8, Some(23.4))], 10.0);
        assert!(table.milliseconds(2) < 23.4);
    }

    #[test]
    fn gears_that_come_and_go_are_noticed() {
        let facts = [
            vec![gear(0, Some(1.0)), gear(2, Some(7.0))],
            vec![gear(1, Some(5.0)), gear(2, Some(7.0))],
            vec![gear(2, Some(7.0)), gear(0, Some(1.0))],
            vec![gear(2, Some(7.0))],
            vec![gear(2, Some(7.5)), gear(3, Some(8.0))],
            vec![gear(2, Some(7.5)), gear(3, None)],
            vec![],
        ];
        let mut kept = CostTable::default();
        for facts in facts {
            kept.update(&facts, 10.0);
            assert_eq!(kept.gears(), table(&facts).gears(), "{facts:?}");
        }
    }

    #[test]
    fn facts_that_make_no_sense_are_passed_over() {
        for bad in [f32::NAN, f32::INFINITY, -1.0, 0.0] {
            let table = table(&[gear(0, Some(1.0)), gear(2, Some(bad)), gear(1, Some(7.0))]);
            assert_eq!(table.gears().len(), 2);
            assert!((table.milliseconds(2) - 10.61).abs() < 1e-2, "{bad}");
        }
        assert!(table(&[]).milliseconds(4).is_finite());
    }

    proptest! {
        #[test]
        fn costs_are_always_positive_and_finite(
            facts in prop::collection::vec((0u32..600, prop::option::of(any::<f32>()), any::<bool>(),
                prop::option::of(any::<f32>())), 0..14),
            again in prop::collection::vec(prop::option::of(any::<f32>()), 14),
            rows in 0u32..5000,
        ) {
            let mut gears: Vec<_> = facts.into_iter().map(|(rows, milliseconds, compiled, compile)| {
                Gear { rows, compiled, milliseconds, compile_milliseconds: compile }
            }).collect();
            let mut table = table(&gears);
            for (gear, now) in gears.iter_mut().zip(again) {
                gear.milliseconds = now;
            }
            table.update(&gears, f32::NAN);
            let ms = table.milliseconds(rows);
            prop_assert!(ms.is_finite() && ms > 0.0, "{ms} for {rows} rows of {table:?}");
        }
    }
}
