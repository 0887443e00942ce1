//! How a request fails, told apart by what a reader would do about it.

use std::fmt;
use std::io;
use std::time::Duration;

/// Ways to fail.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum FailureKind {
    /// The server turned it away: HTTP 429.
    TurnedAway,
    /// Another status than 200.
    Status(u16),
    /// Nobody listens.
    Refused,
    /// There was no connection, or it was lost before an answer began.
    Connection,
    /// The answer ended before its end, or is not understood.
    Broken,
    /// It took too long.
    Timeout,
}

impl fmt::Display for FailureKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TurnedAway => f.write_str("HTTP 429"),
            Self::Status(status) => write!(f, "HTTP {status}"),
            Self::Refused => f.write_str("connection refused"),
            Self::Connection => f.write_str("no connection"),
            Self::Broken => f.write_str("broken stream"),
            Self::Timeout => f.write_str("timeout"),
        }
    }
}

/// A request that failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Failure {
    /// In which way.
    pub kind: FailureKind,
    /// What was said.
    pub what: String,
    /// When the server wants to be asked again.
    pub retry_after: Option<Duration>,
}

impl Failure {
    /// A failure without a word on when to ask again.
    pub fn new(kind: FailureKind, what: String) -> Self {
        Self { kind, what, retry_after: None }
    }

    /// Why a request was not answered at all.
    pub fn of_request(error: ureq::Error) -> Self {
        Self::of(error, FailureKind::Connection)
    }

    /// Why an answer that had begun was not read to its end.
    pub fn of_stream(error: io::Error) -> Self {
        Self::of(error.into(), FailureKind::Broken)
    }

    fn of(error: ureq::Error, otherwise: FailureKind) -> Self {
        let kind = match &error {
            ureq::Error::Timeout(_) => FailureKind::Timeout,
            ureq::Error::Io(error) => match error.kind() {
                io::ErrorKind::ConnectionRefused => FailureKind::Refused,
                io::ErrorKind::TimedOut => FailureKind::Timeout,
                _ => otherwise,
            },
            _ => otherwise,
        };
        Self::new(kind, error.to_string())
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.kind, self.what)
    }
}
