//! The clock that requests are timed by: the wall's, or a simulated device's, which only
//! its passes and compilations move.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

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
