//! Changing one's mind only for a reason that lasts: a challenger must lead the
//! choice in force by a margin, several times in a row.
//!
//! Use it where a change costs something by itself, for example a draft model
//! that must read what it missed. It knows nothing of what is chosen.

/// When to change.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Hysteresis {
    /// What the challenger must lead by, in the unit of the values compared.
    pub margin: f32,
    /// How often in a row; at least 1.
    pub times: u32,
}

/// A choice in force.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Held<T> {
    current: T,
    challenger: T,
    leads: u32,
}

impl<T: Copy + PartialEq> Held<T> {
    /// A first choice.
    pub fn new(first: T) -> Self {
        Self { current: first, challenger: first, leads: 0 }
    }

    /// The choice in force.
    pub fn current(&self) -> T {
        self.current
    }
}

impl Hysteresis {
    /// Looks at who is best now and by how much it leads the choice in force;
    /// returns what is in force from here on.
    pub fn settle<T: Copy + PartialEq>(&self, held: &mut Held<T>, best: T, lead: f32) -> T {
        let leads = best != held.current && lead > self.margin;
        held.leads = match (leads, held.challenger == best) {
            (false, _) => 0,
            (true, true) => held.leads + 1,
            (true, false) => 1,
        };
        held.challenger = best;
        if leads && held.leads >= self.times {
            *held = Held::new(best);
        }
        held.current
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TWICE: Hysteresis = Hysteresis { margin: 0.1, times: 2 };

    #[test]
    fn a_lead_must_be_large_and_last() {
        let mut held = Held::new('a');
        assert_eq!(TWICE.settle(&mut held, 'b', 0.05), 'a');
        assert_eq!(TWICE.settle(&mut held, 'b', 0.2), 'a');
        assert_eq!(TWICE.settle(&mut held, 'b', 0.05), 'a', "the lead did not last");
        assert_eq!(TWICE.settle(&mut held, 'b', 0.2), 'a');
        assert_eq!(TWICE.settle(&mut held, 'b', 0.2), 'b');
    }

    #[test]
    fn another_challenger_begins_anew() {
        let mut held = Held::new('a');
        TWICE.settle(&mut held, 'b', 1.0);
        assert_eq!(TWICE.settle(&mut held, 'c', 1.0), 'a');
        assert_eq!(TWICE.settle(&mut held, 'c', 1.0), 'c');
    }

    #[test]
    fn a_lead_that_is_no_number_changes_nothing() {
        let mut held = Held::new(1);
        (0..5).for_each(|_| assert_eq!(TWICE.settle(&mut held, 2, f32::NAN), 1));
    }
}
