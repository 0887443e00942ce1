//! When a policy has failed too often: strikes, and how long it is set aside.
//! Knows only times; the caller says what counts as a failure.

use std::time::{Duration, Instant};

use crate::limits::Limits;

/// No policy is set aside for longer, whatever the limits say: a clock may not
/// reach further.
const YEAR: Duration = Duration::from_secs(365 * 24 * 3600);

/// A policy's recent failures, and what follows from them.
#[derive(Debug)]
pub(crate) struct Strikes {
    most: usize,
    window: Duration,
    first_pause: Duration,
    longest_pause: Duration,
    recent: Vec<Instant>,
    /// Times it was set aside since it was last trusted.
    pauses: u32,
    aside_until: Option<Instant>,
    /// Whether it was asked since.
    asked_again: bool,
}

/// Whether a policy may be asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Standing {
    /// It may.
    Asked,
    /// It may, for the first time since it was set aside.
    AskedAgain,
    /// It is set aside for so much longer.
    Aside(Duration),
}

impl Strikes {
    pub(crate) fn new(limits: &Limits) -> Self {
        Self {
            most: (limits.strikes as usize).max(1),
            window: limits.strike_window,
            first_pause: limits.aside.min(YEAR),
            longest_pause: limits.longest_aside.min(YEAR),
            recent: Vec::new(),
            pauses: 0,
            aside_until: None,
            asked_again: false,
        }
    }

    /// Counts a failure. Returns the length of the pause when this one sets
    /// the policy aside.
    pub(crate) fn failed(&mut self, now: Instant) -> Option<Duration> {
        self.recent.retain(|&at| now.saturating_duration_since(at) < self.window);
        self.recent.push(now);
        // A policy that was set aside before is on probation: one failure is enough.
        if self.recent.len() < self.most && self.pauses == 0 {
            return None;
        }
        let pause = self.next_pause();
        self.pauses = self.pauses.saturating_add(1);
        self.recent.clear();
        self.aside_until = Some(now + pause);
        self.asked_again = false;
        Some(pause)
    }

    /// How long the policy would be set aside by one more failure too many.
    pub(crate) fn next_pause(&self) -> Duration {
        self.first_pause.saturating_mul(1 << self.pauses.min(16)).min(self.longest_pause)
    }

    /// Whether the policy may be asked; to be called before each time.
    pub(crate) fn standing(&mut self, now: Instant) -> Standing {
        let Some(until) = self.aside_until else { return Standing::Asked };
        if now < until {
            return Standing::Aside(until - now);
        }
        let first = !std::mem::replace(&mut self.asked_again, true);
        // Probation ends when a whole window goes by after the pause without a failure.
        if now - until >= self.window {
            (self.pauses, self.aside_until) = (0, None);
            self.recent.clear();
        }
        if first { Standing::AskedAgain } else { Standing::Asked }
    }

    /// Failures that count at `now`.
    pub(crate) fn recent(&self, now: Instant) -> usize {
        let counts = |at: &&Instant| now.saturating_duration_since(**at) < self.window;
        self.recent.iter().filter(counts).count()
    }

    /// How much longer the policy is set aside, if it is.
    pub(crate) fn aside(&self, now: Instant) -> Option<Duration> {
        self.aside_until?.checked_duration_since(now).filter(|left| !left.is_zero())
    }

    /// Times it was set aside since it was last trusted.
    pub(crate) fn pauses(&self) -> u32 {
        self.pauses
    }

    /// Failures that set a policy aside, and the time within which they add up.
    pub(crate) fn rule(&self) -> (usize, Duration) {
        (self.most, self.window)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seconds(n: u64) -> Duration {
        Duration::from_secs(n)
    }

    fn strikes() -> (Strikes, Instant) {
        (Strikes::new(&Limits::default()), Instant::now())
    }

    #[test]
    fn three_failures_within_a_minute_set_aside() {
        let (mut strikes, start) = strikes();
        assert_eq!(strikes.failed(start), None);
        assert_eq!(strikes.failed(start + seconds(30)), None);
        assert_eq!(strikes.recent(start + seconds(59)), 2);
        assert_eq!(strikes.failed(start + seconds(59)), Some(seconds(10)));
        assert_eq!(strikes.standing(start + seconds(60)), Standing::Aside(seconds(9)));
        assert_eq!(strikes.aside(start + seconds(60)), Some(seconds(9)));
        assert_eq!(strikes.standing(start + seconds(69)), Standing::AskedAgain);
        assert_eq!(strikes.aside(start + seconds(69)), None);
        assert_eq!(strikes.standing(start + seconds(70)), Standing::Asked, "said once");
        assert_eq!((strikes.pauses(), strikes.next_pause()), (1, seconds(20)));
    }

    #[test]
    fn failures_far_apart_do_not_add_up() {
        let (mut strikes, start) = strikes();
        for i in 0..10 {
            assert_eq!(strikes.failed(start + seconds(31 * i)), None);
        }
        assert_eq!(strikes.standing(start + seconds(310)), Standing::Asked);
        assert_eq!(strikes.recent(start + seconds(310)), 1);
        assert_eq!(strikes.recent(start + seconds(400)), 0);
    }

    #[test]
    fn each_failed_retry_doubles_the_pause_up_to_a_bound() {
        let (mut strikes, mut now) = strikes();
        strikes.failed(now);
        strikes.failed(now);
        let mut pauses = Vec::new();
        for _ in 0..8 {
            let pause = strikes.failed(now).unwrap();
            pauses.push(pause.as_secs());
            now += pause;
            assert_eq!(strikes.standing(now), Standing::AskedAgain);
        }
        assert_eq!(pauses, [10, 20, 40, 80, 160, 320, 600, 600]);
        assert_eq!(strikes.pauses(), 8);
    }

    #[test]
    fn a_clean_minute_after_the_pause_ends_probation() {
        let (mut strikes, start) = strikes();
        for _ in 0..3 {
            strikes.failed(start);
        }
        let later = start + seconds(10 + 60);
        assert_eq!(strikes.standing(later), Standing::AskedAgain);
        assert_eq!(strikes.failed(later), None);
        assert_eq!((strikes.pauses(), strikes.recent(later)), (0, 1));
    }

    #[test]
    fn limits_without_sense_do_no_harm() {
        let limits = Limits {
            strikes: 0,
            aside: Duration::MAX,
            longest_aside: Duration::MAX,
            ..Limits::default()
        };
        let (mut strikes, now) = (Strikes::new(&limits), Instant::now());
        assert_eq!(strikes.failed(now), Some(YEAR), "0 counts as 1");
        assert_eq!(strikes.standing(now), Standing::Aside(YEAR));
    }
}
