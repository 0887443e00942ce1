//! The clock behind deadlines: a thread that advances the engine's epoch. At each
//! tick a running call looks at the time. It knows no policies.

use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread::JoinHandle;
use std::time::Duration;

use wasmtime::Engine;

/// Time between two ticks. A deadline is met to within one tick: short enough
/// for deadlines of tens of milliseconds, and 200 wake-ups a second cost an
/// idle machine nothing that can be measured.
const PERIOD: Duration = Duration::from_millis(5);

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
