//! The clock that requests are timed by: the wall's, or a simulated device's, which only
//! its passes and compilations move.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// A clock; clones are the same clock.
#[derive(Debug, Clone)]
pub struct Clock(Kind);

#[derive(Debug, Clone)]
enum Kind {
    /// Since when.
    Wall(Instant),
    /// Nanoseconds so far.
    Virtual(Arc<AtomicU64>),
}

impl Clock {
    /// The wall's clock, from now on.
    pub fn wall() -> Self {
        Self(Kind::Wall(Instant::now()))
    }

    /// A clock at 0, which stands until it is moved.
    pub fn standing() -> Self {
        Self(Kind::Virtual(Arc::default()))
    }

    /// The time since the clock began.
    pub fn now(&self) -> Duration {
        match &self.0 {
            Kind::Wall(start) => start.elapsed(),
            Kind::Virtual(nanoseconds) => Duration::from_nanos(nanoseconds.load(Ordering::Acquire)),
        }
    }

    /// Moves a virtual clock; the wall's goes by itself.
    pub fn advance(&self, seconds: f64) {
        if let Kind::Virtual(nanoseconds) = &self.0 {
            // Negative times and such that are no number move nothing.
            nanoseconds.fetch_add((seconds * 1e9).round() as u64, Ordering::AcqRel);
        }
    }
}

/// Today's date, in UTC: `2026-01-31`.
pub fn today() -> String {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let days = i64::try_from(now.as_secs() / 86_400).unwrap_or_default();
    let (year, month, day) = civil(days);
    format!("{year}-{month:02}-{day:02}")
}

/// Year, month and day of the Gregorian calendar for a count of days since 1970-01-01.
pub(crate) fn civil(days: i64) -> (i64, i64, i64) {
    // Count from 0000-03-01, so that the leap day is the last of its year and every four
    // centuries are alike.
    let shifted = days + 719_468;
    let (era, day_of_era) = (shifted.div_euclid(146_097), shifted.rem_euclid(146_097));
    let year_of_era =
        (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    let year = era * 400 + year_of_era + i64::from(month <= 2);
    (year, month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_virtual_clock_moves_when_it_is_moved() {
        let clock = Clock::standing();
        let same = clock.clone();
        clock.advance(1.5);
        clock.advance(-1.0);
        clock.advance(f64::NAN);
        assert_eq!(same.now(), Duration::from_millis(1500));
        let wall = Clock::wall();
        let before = wall.now();
        wall.advance(1000.0);
        assert!(wall.now() >= before && wall.now() < Duration::from_secs(900));
    }
}
