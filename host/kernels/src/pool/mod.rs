//! Threads that run a pass together: the same job on each, meeting at barriers.
//!
//! A pass has hundreds of short steps, so threads wait for each other by spinning,
//! and give the core away only after a while (something else may need it). Between
//! passes they spin a little longer, since the next round usually follows at once,
//! and then sleep.
//!
//! The caller's thread is thread 0.

mod stealing;

use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

use stealing::Deals;
pub use stealing::Pieces;

/// Spins at a barrier before the core is offered to others: some 15 µs, several
/// times what an even share of a step differs by. With more threads than free cores,
/// whoever waits longer would keep the one from running that is waited for.
const BARRIER_SPINS: u32 = 1_500;
/// Times that an idle thread offers its core to others before it sleeps: some
/// milliseconds, since the next pass usually follows soon.
const IDLE_YIELDS: u32 = 5_000;

/// A job and the number of the run it belongs to.
type Job = *const (dyn Fn(&Team<'_>) + Sync);

struct State {
    /// Counts runs; a worker that sees a new number has a job.
    run: AtomicU32,
    job: Mutex<Option<SendJob>>,
    /// Workers that are not done with the run.
    busy: AtomicUsize,
    sleeping: AtomicUsize,
    stop: AtomicBool,
    barrier: Barrier,
    deals: Deals,
}

#[derive(Clone, Copy)]
struct SendJob(Job);
// SAFETY: the job is `Sync`, and `Pool::run` keeps it alive until all are done.
unsafe impl Send for SendJob {}

/// Where the threads of a run meet.
struct Barrier {
    threads: usize,
    arrived: AtomicUsize,
    generation: AtomicU32,
    /// A thread panicked and will not come.
    broken: AtomicBool,
}

/// A thread's place in a run.
pub struct Team<'a> {
    /// This thread, from 0.
    pub thread: usize,
    /// How many there are.
    pub threads: usize,
    barrier: &'a Barrier,
    deals: &'a Deals,
    /// Deals so far in this run.
    deal: Cell<u32>,
}

impl Team<'_> {
    /// Waits until all threads of the run are here. What each wrote before, all
    /// see after.
    ///
    /// # Panics
    /// When another thread panicked.
    pub fn meet(&self) {
        let barrier = self.barrier;
        if barrier.threads == 1 {
            return;
        }
        let generation = barrier.generation.load(Ordering::Acquire);
        if barrier.arrived.fetch_add(1, Ordering::AcqRel) + 1 == barrier.threads {
            barrier.arrived.store(0, Ordering::Relaxed);
            barrier.generation.store(generation.wrapping_add(1), Ordering::Release);
            return;
        }
        let mut spins = 0u32;
        while barrier.generation.load(Ordering::Acquire) == generation {
            assert!(!barrier.broken.load(Ordering::Relaxed), "another thread panicked");
            spins = spins.saturating_add(1);
            if spins < BARRIER_SPINS {
                std::hint::spin_loop();
            } else {
                std::thread::yield_now();
            }
        }
    }

    /// This thread's part of `0..total`: contiguous, nearly equal.
    pub fn share(&self, total: usize) -> std::ops::Range<usize> {
        crate::matrix::share(total, self.thread, self.threads)
    }

    /// What this thread is to do of `0..total`, in pieces of at most `size` (more, where
    /// there would be more than 65,535 of them): first of its [`Team::share`], then of
    /// what others have not come to. Each piece goes to one thread. Which one differs from
    /// run to run, so it must not matter who does it.
    ///
    /// All threads of a run must ask for the same deals in the same order, and take
    /// pieces until there are none. They need not [`Team::meet`] between deals whose
    /// pieces do not depend on each other.
    pub fn pieces(&self, total: usize, size: usize) -> Pieces<'_> {
        self.deal.set(self.deal.get() + 1);
        Pieces::new(self.deals, self.deal.get(), self.thread, total, size)
    }
}

/// The threads.
pub struct Pool {
    state: Arc<State>,
    workers: Vec<JoinHandle<()>>,
    /// One run at a time.
    running: Mutex<()>,
}

impl Pool {
    /// A pool of `threads` threads, the caller's included.
    ///
    /// # Errors
    /// When the system gives no more threads.
    pub fn new(threads: usize) -> std::io::Result<Self> {
        let threads = threads.max(1);
        let state = Arc::new(State {
            run: AtomicU32::new(0),
            job: Mutex::new(None),
            busy: AtomicUsize::new(0),
            sleeping: AtomicUsize::new(0),
            stop: AtomicBool::new(false),
            barrier: Barrier {
                threads,
                arrived: AtomicUsize::new(0),
                generation: AtomicU32::new(0),
                broken: AtomicBool::new(false),
            },
            deals: Deals::new(threads),
        });
        let mut pool = Self { state, workers: Vec::new(), running: Mutex::new(()) };
        for thread in 1..threads {
            let state = Arc::clone(&pool.state);
            let builder = std::thread::Builder::new().name(format!("pass-{thread}"));
            pool.workers.push(builder.spawn(move || work(&state, thread))?);
        }
        Ok(pool)
    }

    /// Threads, the caller's included.
    pub fn threads(&self) -> usize {
        self.workers.len() + 1
    }

    /// Runs `job` on every thread and returns when all are done.
    ///
    /// # Panics
    /// When the job panicked on any thread.
    pub fn run(&self, job: &(dyn Fn(&Team<'_>) + Sync)) {
        let _one = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        let state = &*self.state;
        // SAFETY: the lifetime is erased, not outlived: this function returns only
        // when `busy` is 0, which is when every worker is done with the job.
        let erased: Job = unsafe { std::mem::transmute::<&(dyn Fn(&Team<'_>) + Sync), Job>(job) };
        *state.job.lock().unwrap_or_else(PoisonError::into_inner) = Some(SendJob(erased));
        state.busy.store(self.workers.len(), Ordering::Relaxed);
        state.deals.reset();
        state.run.fetch_add(1, Ordering::SeqCst);
        if state.sleeping.load(Ordering::SeqCst) > 0 {
            self.workers.iter().for_each(|worker| worker.thread().unpark());
        }
        let result = take_part(state, 0, job);
        let mut spins = 0u32;
        while state.busy.load(Ordering::Acquire) > 0 {
            spins = spins.saturating_add(1);
            if spins < BARRIER_SPINS {
                std::hint::spin_loop();
            } else {
                std::thread::yield_now();
            }
        }
        let broken = state.barrier.broken.swap(false, Ordering::AcqRel);
        state.barrier.arrived.store(0, Ordering::Release);
        if let Err(panic) = result {
            std::panic::resume_unwind(panic);
        }
        assert!(!broken, "a pass panicked on one of its threads");
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        self.state.stop.store(true, Ordering::SeqCst);
        self.state.run.fetch_add(1, Ordering::SeqCst);
        for worker in self.workers.drain(..) {
            worker.thread().unpark();
            // A worker's panic was reported by the run that it happened in.
            let _ = worker.join();
        }
    }
}

fn take_part(
    state: &State,
    thread: usize,
    job: &(dyn Fn(&Team<'_>) + Sync),
) -> std::thread::Result<()> {
    let team = Team {
        thread,
        threads: state.barrier.threads,
        barrier: &state.barrier,
        deals: &state.deals,
        deal: Cell::new(0),
    };
    let result = catch_unwind(AssertUnwindSafe(|| job(&team)));
    if result.is_err() {
        state.barrier.broken.store(true, Ordering::Release);
    }
    result
}

fn work(state: &State, thread: usize) {
    let mut seen = 0;
    loop {
        wait_for_run(state, seen);
        seen = state.run.load(Ordering::SeqCst);
        if state.stop.load(Ordering::SeqCst) {
            return;
        }
        let job = *state.job.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(SendJob(job)) = job {
            // SAFETY: `Pool::run` waits for this worker, so the job lives.
            let job = unsafe { &*job };
            // A panic is told to the caller by `broken`.
            let _ = take_part(state, thread, job);
        }
        state.busy.fetch_sub(1, Ordering::AcqRel);
    }
}

/// Waits until the run's number is another than `seen`.
fn wait_for_run(state: &State, seen: u32) {
    for turn in 0..BARRIER_SPINS + IDLE_YIELDS {
        if state.run.load(Ordering::Acquire) != seen {
            return;
        }
        if turn < BARRIER_SPINS {
            std::hint::spin_loop();
        } else {
            std::thread::yield_now();
        }
    }
    state.sleeping.fetch_add(1, Ordering::SeqCst);
    // Whoever starts a run looks at `sleeping` after raising `run`: either it sees
    // this thread asleep and wakes it, or this thread sees the new number here.
    while state.run.load(Ordering::SeqCst) == seen {
        std::thread::park();
    }
    state.sleeping.fetch_sub(1, Ordering::SeqCst);
}
