//! The clock behind deadlines: a thread that advances the engine's epoch. It
//! knows no policies; a call says how many ticks it may see.

use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread::JoinHandle;
use std::time::Duration;

use wasmtime::Engine;

/// Time between two ticks. A deadline is met to within one tick: short enough
/// for deadlines of tens of milliseconds, and 200 wake-ups a second cost an
/// idle machine nothing that can be measured.
pub(crate) const PERIOD: Duration = Duration::from_millis(5);

/// Ticks until at least `deadline` has passed. The tick under way may end at
/// once, hence one more.
pub(crate) fn ticks(deadline: Duration) -> u64 {
    let whole = deadline.as_nanos().div_ceil(PERIOD.as_nanos());
    u64::try_from(whole).unwrap_or(u64::MAX - 1).saturating_add(1)
}

/// Advances an engine's epoch until it is dropped. It has a thread of its own,
/// because a deadline must be met also when every other thread is busy.
#[derive(Debug)]
pub(crate) struct Ticker {
    stop: Option<Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Ticker {
    pub(crate) fn start(engine: Engine) -> std::io::Result<Self> {
        let (stop, stopped) = channel();
        let thread = std::thread::Builder::new()
            .name("policy-ticker".into())
            .spawn(move || tick_until(&stopped, &engine))?;
        Ok(Self { stop: Some(stop), thread: Some(thread) })
    }
}

fn tick_until(stopped: &Receiver<()>, engine: &Engine) {
    while let Err(RecvTimeoutError::Timeout) = stopped.recv_timeout(PERIOD) {
        engine.increment_epoch();
    }
}

impl Drop for Ticker {
    fn drop(&mut self) {
        // Dropping the sender ends the thread's wait at once.
        self.stop = None;
        if let Some(thread) = self.thread.take() {
            // The thread cannot panic, and there would be nothing to do about it.
            let _ = thread.join();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_deadline_is_never_cut_short() {
        assert_eq!(ticks(Duration::ZERO), 1);
        assert_eq!(ticks(Duration::from_millis(1)), 2);
        assert_eq!(ticks(Duration::from_millis(50)), 11);
        assert_eq!(ticks(Duration::MAX), u64::MAX);
    }
}
