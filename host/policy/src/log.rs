//! A policy's log lines on their way to the operator's log: shortened, made
//! printable, and rationed. Knows neither hooks nor decisions.

use std::time::Instant;

/// Most bytes of one line.
const LINE_BYTES: usize = 1024;
/// Lines that may come at once.
const BURST: f64 = 50.0;
/// Lines a second that may come for ever.
const LINES_PER_SECOND: f64 = 10.0;

/// How grave a line is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Level {
    Debug,
    Info,
    Warn,
    Error,
}

/// One policy's allowance of log lines.
#[derive(Debug)]
pub(crate) struct LogGate {
    policy: String,
    allowance: f64,
    filled: Instant,
    /// Lines dropped since the operator was last told.
    untold: u64,
    /// Lines dropped in all.
    dropped: u64,
}

impl LogGate {
    pub(crate) fn new(policy: String) -> Self {
        Self { policy, allowance: BURST, filled: Instant::now(), untold: 0, dropped: 0 }
    }

    /// The name that lines are logged under.
    pub(crate) fn rename(&mut self, policy: String) {
        self.policy = policy;
    }

    /// Lines dropped so far.
    pub(crate) fn dropped(&self) -> u64 {
        self.dropped
    }

    /// Logs the line, or drops it when there were too many.
    pub(crate) fn log(&mut self, level: Level, message: &str) {
        if !self.admit(Instant::now()) {
            return;
        }
        let policy = self.policy.as_str();
        if self.untold > 0 {
            tracing::warn!(target: "policy", policy, "{} log lines dropped, there were too many", self.untold);
            self.untold = 0;
        }
        let line = printable(message, LINE_BYTES);
        match level {
            Level::Debug => tracing::debug!(target: "policy", policy, "{line}"),
            Level::Info => tracing::info!(target: "policy", policy, "{line}"),
            Level::Warn => tracing::warn!(target: "policy", policy, "{line}"),
            Level::Error => tracing::error!(target: "policy", policy, "{line}"),
        }
    }

    fn admit(&mut self, now: Instant) -> bool {
        let refill = now.saturating_duration_since(self.filled).as_secs_f64() * LINES_PER_SECOND;
        self.allowance = (self.allowance + refill).min(BURST);
        self.filled = now;
        if self.allowance < 1.0 {
            self.untold += 1;
            self.dropped += 1;
            return false;
        }
        self.allowance -= 1.0;
        true
    }
}

/// Text from a policy, fit for a terminal: control characters (which could
/// forge lines or move the cursor) become spaces, and it is cut to `most` bytes.
pub(crate) fn printable(text: &str, most: usize) -> String {
    let end = if text.len() > most {
        (0..=most).rev().find(|&i| text.is_char_boundary(i)).unwrap_or(0)
    } else {
        text.len()
    };
    let mut line: String =
        text[..end].chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    if end < text.len() {
        line.push('…');
    }
    line
}

/// [`printable`] in place and at full length; most texts are printable as they are.
pub(crate) fn make_printable(text: &mut String) {
    if text.chars().any(char::is_control) {
        *text = printable(text, text.len());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn a_flood_is_cut_and_a_trickle_is_not() {
        let (mut gate, start) = (LogGate::new("p".into()), Instant::now());
        let admitted = (0..1000).filter(|_| gate.admit(start)).count();
        assert_eq!(admitted, 50);
        assert_eq!(gate.dropped(), 950);
        assert!((1..100).all(|i| gate.admit(start + Duration::from_millis(200 * i))));
    }

    #[test]
    fn lines_are_short_and_printable() {
        assert_eq!(printable("a\u{1b}[2J\nb", 100), "a [2J b");
        assert_eq!(printable("ééé", 3), "é…");
        let mut reason = "up\u{1b}[A".to_owned();
        make_printable(&mut reason);
        assert_eq!(reason, "up [A");
    }
}
