//! A shadow: a policy that is asked what the serving one is asked, on a thread
//! of its own, and never obeyed. Whoever serves only puts a question into a
//! bounded queue, and drops it where the queue is full: a shadow keeps nobody
//! waiting, whatever it does.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use aio_core::{
    Granted, Outcome, RequestFacts, RoundContext, RoundDecision, RoundFacts, ShadowReport, Verdict,
};

use crate::generation::Generation;
use crate::shadow::asking::Asking;

mod asking;

/// Questions that wait for a shadow. At two or three calls in 10 ms, which is
/// what a fast host asks, it bridges the 200 ms that a call may take at most;
/// more would only make answers late. A question is some KiB as a rule and at
/// most half a MiB (of a prompt that was granted), so a queue is 64 MiB at worst.
pub(crate) const QUEUE: usize = 128;

/// How much the thread of a shadow gives way to all others (Unix: niceness),
/// because a pass waits for the slowest of the threads that compute it.
#[cfg(unix)]
const GIVES_WAY: i32 = 10;

/// What the serving policy was asked, and what it said.
#[derive(Debug)]
pub(crate) enum Question {
    /// Its `plan` was called.
    Plan { facts: RequestFacts, granted: Granted, served: Verdict },
    /// A round begins. `requests` count from each request's beginning, because a
    /// shadow has its own mind about when it wants to be asked.
    Rounds { context: RoundContext, requests: Vec<RoundFacts>, served: Vec<RoundDecision> },
    /// Requests have ended.
    Finished { outcomes: Vec<Outcome> },
}

/// A policy that is asked and never obeyed.
pub(crate) struct Shadow {
    generation: Arc<Generation>,
    queue: SyncSender<Arc<Question>>,
    shared: Arc<Shared>,
}

/// What a shadow's thread and its askers share.
struct Shared {
    /// Questions that are in the queue or being answered.
    waiting: AtomicUsize,
    /// The thread is to end.
    stopped: AtomicBool,
    said: Mutex<Said>,
    /// Whether the thread has ended.
    ended: Mutex<bool>,
    /// Told when `waiting` becomes 0, and when the thread ends.
    changed: Condvar,
}

/// What a shadow said so far. The thread writes it, so that who reads it waits for
/// no call: the policy itself is locked while it is asked.
struct Said {
    report: ShadowReport,
    aside_until: Option<Instant>,
}

impl Shadow {
    /// Starts the thread.
    pub(crate) fn start(generation: Arc<Generation>) -> std::io::Result<Self> {
        let (queue, questions) = sync_channel(QUEUE);
        let shared = Arc::new(Shared {
            waiting: AtomicUsize::new(0),
            stopped: AtomicBool::new(false),
            said: Mutex::new(Said {
                report: asking::blank(generation.identity().clone()),
                aside_until: None,
            }),
            ended: Mutex::new(false),
            changed: Condvar::new(),
        });
        let asking = Asking::new(Arc::clone(&generation));
        std::thread::Builder::new().name("policy-shadow".into()).spawn({
            let shared = Arc::clone(&shared);
            move || {
                give_way();
                answer(&questions, asking, &shared);
                shared.ended();
            }
        })?;
        Ok(Self { generation, queue, shared })
    }

    pub(crate) fn generation(&self) -> &Arc<Generation> {
        &self.generation
    }

    /// Whether a question would find room. One that does not is counted, and
    /// need not even be made.
    pub(crate) fn has_room(&self) -> bool {
        let has_room = self.shared.waiting.load(Ordering::Relaxed) < QUEUE;
        if !has_room {
            self.count_dropped();
        }
        has_room
    }

    /// Puts a question into the queue, if there is room.
    pub(crate) fn ask(&self, question: &Arc<Question>) {
        self.shared.waiting.fetch_add(1, Ordering::Relaxed);
        if self.queue.try_send(Arc::clone(question)).is_err() {
            self.shared.done();
            self.count_dropped();
        }
    }

    fn count_dropped(&self) {
        self.shared.said().report.dropped += 1;
    }

    /// What it said so far. Never waits for a call that goes on.
    pub(crate) fn report(&self) -> ShadowReport {
        let said = self.shared.said();
        let left = said.aside_until.map(|until| until.saturating_duration_since(Instant::now()));
        let aside_seconds = left.filter(|left| !left.is_zero()).map(|left| left.as_secs_f64());
        ShadowReport { aside_seconds, ..said.report.clone() }
    }

    /// Waits until all questions are answered, at most until `until`.
    pub(crate) fn settle(&self, until: Instant) {
        self.shared.wait(until, |shared| shared.waiting.load(Ordering::Relaxed) == 0);
    }

    /// Ends the thread after the call under way; waits for it at most until `until`.
    pub(crate) fn stop(&self, until: Instant) {
        self.shared.stopped.store(true, Ordering::Relaxed);
        // Wakes the thread. Where the queue is full it is awake.
        let _ = self.queue.try_send(Arc::new(Question::Finished { outcomes: Vec::new() }));
        self.shared.wait(until, |_| false);
    }
}

impl Drop for Shadow {
    fn drop(&mut self) {
        // The last request that it was to be asked about may be what drops it:
        // nobody waits for the thread here. It ends with the queue.
        self.shared.stopped.store(true, Ordering::Relaxed);
    }
}

impl Shared {
    fn said(&self) -> MutexGuard<'_, Said> {
        self.said.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn done(&self) {
        if self.waiting.fetch_sub(1, Ordering::Relaxed) == 1 {
            // The lock makes sure that nobody is between looking and waiting.
            drop(self.ended.lock().unwrap_or_else(PoisonError::into_inner));
            self.changed.notify_all();
        }
    }

    fn ended(&self) {
        *self.ended.lock().unwrap_or_else(PoisonError::into_inner) = true;
        self.changed.notify_all();
    }

    /// Waits until this is `enough` or the thread has ended.
    fn wait(&self, until: Instant, enough: impl Fn(&Self) -> bool) {
        let mut ended = self.ended.lock().unwrap_or_else(PoisonError::into_inner);
        while !*ended && !enough(self) {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return;
            }
            let waited = self.changed.wait_timeout(ended, left);
            ended = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
    }
}

/// The shadow's thread.
fn answer(questions: &Receiver<Arc<Question>>, mut asking: Asking, shared: &Shared) {
    for question in questions {
        if shared.stopped.load(Ordering::Relaxed) {
            return;
        }
        let told = asking.answer(&question);
        let aside_until = asking.aside_until();
        let mut said = shared.said();
        told.add_to(&mut said.report);
        said.aside_until = aside_until;
        drop(said);
        shared.done();
    }
}

fn give_way() {
    #[cfg(unix)]
    if let Err(error) = rustix::process::setpriority_process(None, GIVES_WAY) {
        tracing::debug!("a shadow's thread keeps its priority: {error}");
    }
}
