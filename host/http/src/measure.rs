//! Times of answers as their clients see them, and how fast answers have come lately.

use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Ends of answers that the pace is taken from.
const ENDS: usize = 32;
/// The longest time that a client is told to wait, in seconds.
const LONGEST_WAIT: u64 = 120;

/// Why a request was not answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Unfinished {
    /// Its client went away.
    Client,
    /// It took too long.
    Timeout,
    /// It cannot be answered, or the host failed.
    Failed,
}

impl Unfinished {
    /// What metrics and traces call it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Client => "client_gone",
            Self::Timeout => "timeout",
            Self::Failed => "failed",
        }
    }
}

/// When text came.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Progress {
    pub(crate) start: Instant,
    pub(crate) planned: Option<Instant>,
    pub(crate) first: Option<Instant>,
    pub(crate) last: Option<Instant>,
}

impl Progress {
    pub(crate) fn start() -> Self {
        Self { start: Instant::now(), planned: None, first: None, last: None }
    }

    /// The policy made its plan.
    pub(crate) fn planned(&mut self, at: Instant) {
        self.planned.get_or_insert(at);
    }

    /// More text came.
    pub(crate) fn text(&mut self, at: Instant) {
        self.first.get_or_insert(at);
        self.last = Some(at);
    }

    /// From the start to the first token.
    pub(crate) fn until_first(&self) -> Option<Duration> {
        Some(self.first?.duration_since(self.start))
    }

    /// From one token to the next, on average.
    pub(crate) fn per_token(&self, tokens: u32) -> Option<Duration> {
        let time = self.last?.duration_since(self.first?);
        (tokens > 1).then(|| time / (tokens - 1))
    }
}

/// How fast answers have come lately.
#[derive(Debug, Default)]
pub(crate) struct Pace(Mutex<VecDeque<Instant>>);

impl Pace {
    /// An answer has ended.
    pub(crate) fn ended(&self) {
        let mut ends = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if ends.len() == ENDS {
            ends.pop_front();
        }
        ends.push_back(Instant::now());
    }

    /// Seconds in which as many answers may be expected to end, at least 1: a client
    /// that comes back then finds those that wait now answered.
    pub(crate) fn seconds_for(&self, answers: usize) -> u64 {
        let ends = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(first) = ends.front() else { return 1 };
        let each = first.elapsed().as_secs_f64() / ends.len() as f64;
        ((each * answers as f64).ceil() as u64).clamp(1, LONGEST_WAIT)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_wait_grows_with_the_queue() {
        let pace = Pace::default();
        assert_eq!(pace.seconds_for(100), 1);
        let ago = |seconds| Instant::now().checked_sub(Duration::from_secs(seconds)).unwrap();
        *pace.0.lock().unwrap() = [ago(40), ago(30), ago(20), ago(10)].into();
        assert!((20..=22).contains(&pace.seconds_for(2)));
        assert_eq!(pace.seconds_for(1000), LONGEST_WAIT);
    }

    #[test]
    fn times_are_those_between_tokens() {
        let mut progress = Progress::start();
        let start = progress.start;
        for seconds in [2, 3, 6] {
            progress.text(start + Duration::from_secs(seconds));
        }
        assert_eq!(progress.until_first(), Some(Duration::from_secs(2)));
        assert_eq!(progress.per_token(5), Some(Duration::from_secs(1)));
        assert_eq!(progress.per_token(1), None);
    }
}
