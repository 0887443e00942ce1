//! When a policy has failed too often: strikes, and how long it is set aside.
//! Knows only times; the caller says what counts as a failure.

use std::time::{Duration, Instant};

/// Failures within [`WINDOW`] that set a policy aside.
pub(crate) const STRIKES: usize = 3;
/// The time within which failures add up.
pub(crate) const WINDOW: Duration = Duration::from_secs(60);
/// How long a policy is set aside for the first time; doubled each time that
/// it fails when tried again.
const FIRST_PAUSE: Duration = Duration::from_secs(10);
/// The longest pause.
const LONGEST_PAUSE: Duration = Duration::from_secs(600);

/// A policy's recent failures.
#[derive(Debug, Default)]
pub(crate) struct Strikes {
    recent: Vec<Instant>,
    pauses: u32,
    aside_until: Option<Instant>,
}

impl Strikes {
    /// Counts a failure. Returns the length of the pause when this one sets
    /// the policy aside.
    pub(crate) fn failed(&mut self, now: Instant) -> Option<Duration> {
        self.recent.retain(|&at| now.saturating_duration_since(at) < WINDOW);
        self.recent.push(now);
        // A policy that was set aside before is on probation: one failure is enough.
        if self.recent.len() < STRIKES && self.pauses == 0 {
            return None;
        }
        let pause = FIRST_PAUSE.saturating_mul(1 << self.pauses.min(16)).min(LONGEST_PAUSE);
        self.pauses = self.pauses.saturating_add(1);
        self.recent.clear();
        self.aside_until = Some(now + pause);
        Some(pause)
    }

    /// How much longer the policy is set aside; `None` when it may be asked.
    pub(crate) fn aside(&mut self, now: Instant) -> Option<Duration> {
        let until = self.aside_until?;
        if now < until {
            return Some(until - now);
        }
        // Probation ends when a whole window goes by after the pause without a failure.
        if now - until >= WINDOW {
            *self = Self::default();
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seconds(n: u64) -> Duration {
        Duration::from_secs(n)
    }

    #[test]
    fn three_failures_within_a_minute_set_aside() {
        let (mut strikes, start) = (Strikes::default(), Instant::now());
        assert_eq!(strikes.failed(start), None);
        assert_eq!(strikes.failed(start + seconds(30)), None);
        assert_eq!(strikes.failed(start + seconds(59)), Some(seconds(10)));
        assert_eq!(strikes.aside(start + seconds(60)), Some(seconds(9)));
        assert_eq!(strikes.aside(start + seconds(69)), None);
    }

    #[test]
    fn failures_far_apart_do_not_add_up() {
        let (mut strikes, start) = (Strikes::default(), Instant::now());
        for i in 0..10 {
            assert_eq!(strikes.failed(start + seconds(31 * i)), None);
        }
        assert_eq!(strikes.aside(start + seconds(310)), None);
    }

    #[test]
    fn each_failed_retry_doubles_the_pause_up_to_a_bound() {
        let (mut strikes, mut now) = (Strikes::default(), Instant::now());
        strikes.failed(now);
        strikes.failed(now);
        let mut pauses = Vec::new();
        for _ in 0..8 {
            let pause = strikes.failed(now).unwrap();
            pauses.push(pause.as_secs());
            now += pause;
            assert_eq!(strikes.aside(now), None);
        }
        assert_eq!(pauses, [10, 20, 40, 80, 160, 320, 600, 600]);
    }

    #[test]
    fn a_clean_minute_after_the_pause_ends_probation() {
        let (mut strikes, start) = (Strikes::default(), Instant::now());
        for _ in 0..3 {
            strikes.failed(start);
        }
        let later = start + seconds(10 + 60);
        assert_eq!(strikes.aside(later), None);
        assert_eq!(strikes.failed(later), None);
    }
}
