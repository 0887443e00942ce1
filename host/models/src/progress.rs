//! How work that takes a while is reported. Whoever calls decides how to show
//! it; this crate draws nothing and writes to no terminal.

/// Receives the progress of a fetch or a check.
///
/// Each [`started`](Progress::started) is followed by one
/// [`finished`](Progress::finished), whether or not the work succeeds. A fetch
/// that falls back to another source starts again from zero.
pub trait Progress {
    /// Work on `what` (a phrase such as `fetching smollm2-135m`) begins;
    /// `total` is its size in bytes.
    fn started(&mut self, what: &str, total: u64);
    /// The work has got as far as `position`, in bytes from its beginning. A
    /// position may be lower than the one before: a part is being redone.
    fn advanced(&mut self, position: u64);
    /// One sentence that the user should see now.
    fn note(&mut self, message: &str);
    /// The work that was started has ended, well or not.
    fn finished(&mut self);
}

/// Reports nothing to anyone.
#[derive(Debug, Clone, Copy, Default)]
pub struct Silent;

impl Progress for Silent {
    fn started(&mut self, _what: &str, _total: u64) {}
    fn advanced(&mut self, _position: u64) {}
    fn note(&mut self, _message: &str) {}
    fn finished(&mut self) {}
}
