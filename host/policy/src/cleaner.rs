//! A thread that drops what others have no time to drop: giving memory back to the
//! system may take milliseconds. It knows not what it drops.

use std::sync::mpsc::{Receiver, Sender, TryRecvError, channel};
use std::thread::Thread;

/// Takes things to drop, until it is dropped itself. Handing one over takes no lock
/// that anything else holds: who serves does not wait for a thread that has lost its
/// processor in the middle of something.
#[derive(Debug)]
pub(crate) struct Cleaner {
    rubbish: Option<Sender<Box<dyn Send>>>,
    thread: Thread,
}

impl Cleaner {
    pub(crate) fn start() -> std::io::Result<Self> {
        let (sender, rubbish) = channel();
        let thread = std::thread::Builder::new()
            .name("policy-cleaner".into())
            .spawn(move || clean(&rubbish))?;
        Ok(Self { rubbish: Some(sender), thread: thread.thread().clone() })
    }

    /// Drops something on the cleaner's thread; here where that is gone.
    pub(crate) fn discard(&self, rubbish: Box<dyn Send>) {
        if let Some(sender) = &self.rubbish {
            let _ = sender.send(rubbish);
            self.thread.unpark();
        }
    }
}

/// Looks and sleeps rather than waits at the channel: a sender that finds somebody
/// waiting takes a lock to wake them.
fn clean(rubbish: &Receiver<Box<dyn Send>>) {
    loop {
        match rubbish.try_recv() {
            Ok(one) => drop(one),
            Err(TryRecvError::Empty) => std::thread::park(),
            Err(TryRecvError::Disconnected) => break,
        }
    }
}

impl Drop for Cleaner {
    fn drop(&mut self) {
        // Nobody waits for the thread: it ends when it has dropped the rest.
        self.rubbish = None;
        self.thread.unpark();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::mpsc::channel;
    use std::thread::ThreadId;
    use std::time::Duration;

    use super::*;

    /// Tells who dropped it.
    struct Tell(Sender<ThreadId>);

    impl Drop for Tell {
        fn drop(&mut self) {
            let _ = self.0.send(std::thread::current().id());
        }
    }

    #[test]
    fn everything_is_dropped_by_one_other_thread() {
        let (told, tells) = channel();
        let cleaner = Arc::new(Cleaner::start().unwrap());
        let threads: Vec<_> = (0..4)
            .map(|_| {
                let (cleaner, told) = (Arc::clone(&cleaner), told.clone());
                std::thread::spawn(move || {
                    (0..100).for_each(|_| cleaner.discard(Box::new(Tell(told.clone()))));
                })
            })
            .collect();
        drop((cleaner, told));
        let seen: Vec<_> = (0..400)
            .map(|number| {
                let seen = tells.recv_timeout(Duration::from_secs(60));
                seen.unwrap_or_else(|_| panic!("number {number} was not dropped"))
            })
            .collect();
        assert!(seen.iter().all(|&thread| thread == seen[0]));
        assert!(threads.iter().all(|thread| thread.thread().id() != seen[0]));
        assert_ne!(std::thread::current().id(), seen[0]);
        // The thread ended too: it held the last of the senders.
        assert!(tells.recv_timeout(Duration::from_secs(60)).is_err());
        threads.into_iter().for_each(|thread| thread.join().unwrap());
    }
}
