//! The scheduler on a thread of its own, and a handle to it that any number of
//! clients share. Knows no HTTP.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use aio_core::HostInfo;
use aio_policy::PolicyHost;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

use crate::event::Event;
use crate::request::Request;
use crate::scheduler::{Scheduler, SchedulerStatus};

/// How long the thread sleeps where there is no work: to notice that it is to stop.
const IDLE: Duration = Duration::from_secs(1);

/// Why a request was not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// As many are waiting as may wait.
    #[error("{waiting} requests are waiting already; try again later")]
    QueueFull {
        /// How many wait.
        waiting: usize,
    },
    /// The host is being stopped: it ends what runs and takes nothing new.
    #[error("the host is shutting down and takes no more requests")]
    Draining,
}

/// An answer as it comes. Dropping it gives the request up within a round.
#[derive(Debug)]
pub struct Answer {
    number: u64,
    events: UnboundedReceiver<Event>,
}

impl Answer {
    /// The request's number, as in its record.
    pub fn number(&self) -> u64 {
        self.number
    }

    /// What happens next; `None` after the last event.
    pub async fn next(&mut self) -> Option<Event> {
        self.events.recv().await
    }

    /// As [`Answer::next`], for callers outside of an asynchronous runtime.
    pub fn blocking_next(&mut self) -> Option<Event> {
        self.events.blocking_recv()
    }
}

/// A running scheduler; cheap to clone, and all clones are one service.
#[derive(Clone)]
pub struct Service {
    inner: Arc<Inner>,
}

struct Inner {
    commands: Sender<Command>,
    /// Requests handed over that the scheduler's thread has not taken yet.
    inbox: AtomicUsize,
    most_waiting: usize,
    next: AtomicU64,
    draining: AtomicBool,
    status: Mutex<SchedulerStatus>,
    host: HostInfo,
    policies: Arc<PolicyHost>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

enum Command {
    Submit(Box<Submitted>),
    /// Something changed that the thread has to look at.
    Wake,
}

struct Submitted {
    number: u64,
    request: Request,
    events: UnboundedSender<Event>,
}

impl Service {
    /// Moves a scheduler to a thread of its own. `most_waiting` requests may wait
    /// before more are refused.
    ///
    /// # Errors
    /// When the thread cannot be started.
    pub fn start(scheduler: Scheduler, most_waiting: usize) -> std::io::Result<Self> {
        let (commands, received) = channel();
        let inner = Arc::new(Inner {
            commands,
            inbox: AtomicUsize::new(0),
            most_waiting,
            next: AtomicU64::new(1),
            draining: AtomicBool::new(false),
            status: Mutex::new(scheduler.status()),
            host: scheduler.tiers().info().clone(),
            policies: Arc::clone(scheduler.policies()),
            thread: Mutex::new(None),
        });
        let of_thread = Arc::clone(&inner);
        let thread = std::thread::Builder::new()
            .name("scheduler".into())
            .spawn(move || run(scheduler, &of_thread, &received))?;
        *inner.thread.lock().unwrap_or_else(PoisonError::into_inner) = Some(thread);
        Ok(Self { inner })
    }

    /// Hands a request over. What comes of it comes from the [`Answer`].
    ///
    /// # Errors
    /// When too many wait, or the service is being stopped.
    pub fn submit(&self, request: Request) -> Result<Answer, Refused> {
        // Counted before looking whether the service is being stopped: the thread looks
        // the other way round, so one of the two sees the other.
        let inbox = self.inner.inbox.fetch_add(1, Ordering::SeqCst);
        let waiting = inbox + self.status().waiting;
        let refused = if self.inner.draining.load(Ordering::SeqCst) {
            Some(Refused::Draining)
        } else {
            (waiting >= self.inner.most_waiting).then_some(Refused::QueueFull { waiting })
        };
        if let Some(refused) = refused {
            self.inner.inbox.fetch_sub(1, Ordering::SeqCst);
            return Err(refused);
        }
        let number = self.inner.next.fetch_add(1, Ordering::Relaxed);
        let (events, received) = unbounded_channel();
        let submitted = Box::new(Submitted { number, request, events });
        match self.inner.commands.send(Command::Submit(submitted)) {
            Ok(()) => Ok(Answer { number, events: received }),
            Err(_) => Err(Refused::Draining),
        }
    }

    /// How much work there is, as of the last iteration.
    pub fn status(&self) -> SchedulerStatus {
        *self.inner.status.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What policies are told of the host, the tiers among it.
    pub fn host(&self) -> &HostInfo {
        &self.inner.host
    }

    /// The policies: the one in place may be replaced through this while requests
    /// run.
    pub fn policies(&self) -> &Arc<PolicyHost> {
        &self.inner.policies
    }

    /// Takes no more requests; those taken are answered.
    pub fn drain(&self) {
        self.inner.draining.store(true, Ordering::SeqCst);
        let _ = self.inner.commands.send(Command::Wake);
    }

    /// Whether requests are refused because the service is being stopped.
    pub fn is_draining(&self) -> bool {
        self.inner.draining.load(Ordering::SeqCst)
    }

    /// [`Service::drain`], and waits until the last request has ended, what policies
    /// learnt is saved, and the thread is gone.
    pub fn stop(&self) {
        self.drain();
        let thread = self.inner.thread.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(thread) = thread {
            // It does not panic; if it did, there is nothing left to wait for.
            let _ = thread.join();
        }
    }
}

/// The thread: takes commands, iterates as long as there is work, hands events out.
fn run(mut scheduler: Scheduler, inner: &Inner, commands: &Receiver<Command>) {
    let mut clients: HashMap<u64, UnboundedSender<Event>> = HashMap::new();
    loop {
        // Without work there is nothing to do until somebody brings some.
        if scheduler.is_idle() {
            if inner.draining.load(Ordering::SeqCst) && inner.inbox.load(Ordering::SeqCst) == 0 {
                break;
            }
            match commands.recv_timeout(IDLE) {
                Ok(command) => take(command, &mut scheduler, &mut clients, inner),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => break,
            }
        }
        while let Ok(command) = commands.try_recv() {
            take(command, &mut scheduler, &mut clients, inner);
        }
        // Who dropped the answer wants no more of it.
        for (&number, _) in clients.iter().filter(|(_, client)| client.is_closed()) {
            scheduler.cancel(number);
        }
        scheduler.step();
        *inner.status.lock().unwrap_or_else(PoisonError::into_inner) = scheduler.status();
        for (number, event) in scheduler.take_events() {
            hand_out(&mut clients, number, event);
        }
    }
    scheduler.policies().save();
}

fn take(
    command: Command,
    scheduler: &mut Scheduler,
    clients: &mut HashMap<u64, UnboundedSender<Event>>,
    inner: &Inner,
) {
    let Command::Submit(submitted) = command else { return };
    let Submitted { number, request, events } = *submitted;
    clients.insert(number, events);
    scheduler.submit(number, request);
    // First it counts as waiting, then it no longer counts as handed over: who is
    // submitting meanwhile sees it twice rather than not at all.
    inner.status.lock().unwrap_or_else(PoisonError::into_inner).waiting += 1;
    inner.inbox.fetch_sub(1, Ordering::SeqCst);
}

fn hand_out(clients: &mut HashMap<u64, UnboundedSender<Event>>, number: u64, event: Event) {
    let last = matches!(event, Event::Ended(_) | Event::Failed(_));
    if let Some(client) = clients.get(&number) {
        // Who is gone is noticed with the next iteration.
        let _ = client.send(event);
    }
    if last {
        clients.remove(&number);
    }
}
