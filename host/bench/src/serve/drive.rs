//! Sending the requests of a level: a thread for each request that may be in
//! flight. Each takes the next request, waits until it is due, and reads its answer.

use std::sync::Mutex;
use std::thread;
use std::time::{Duration, Instant};

use super::answer::Answer;
use super::client::Client;
use super::failure::{Failure, FailureKind};
use super::options::{Level, ServeOptions};
use super::workload::{Planned, Workload};

/// How often a request is sent again that is turned away.
const MOST_RETRIES: u32 = 20;
/// How long to wait where a server that turns a request away does not say it.
const DEFAULT_WAIT: Duration = Duration::from_secs(1);
/// The longest wait that a server is granted.
const LONGEST_WAIT: Duration = Duration::from_secs(60);
/// A request that is sent so much later than it was due was held back.
pub(super) const HELD_BACK: Duration = Duration::from_millis(20);

/// What it takes to start a thread, on a busy machine, and threads beyond which the
/// beginning is not put off any more.
const THREAD_START: Duration = Duration::from_micros(300);
const MOST_THREADS: usize = 4096;

/// One request and what became of it.
#[derive(Debug)]
pub(super) struct Sample {
    /// Its place in the level.
    pub number: usize,
    /// Most tokens that it asked for.
    pub asked: usize,
    /// How much later than due it was first sent.
    pub lag: Duration,
    /// Times that it was turned away.
    pub turned_away: u32,
    /// Its answer.
    pub outcome: Result<Answer, Failure>,
}

/// A level's requests, to one server, once.
#[derive(Debug)]
pub(super) struct Run {
    /// From the beginning to the last answer's end.
    pub wall: Duration,
    /// The requests, in the order in which they were taken.
    pub samples: Vec<Sample>,
}

/// The requests that are left, counted.
type Queue<'a> = Mutex<std::iter::Enumerate<Box<dyn Iterator<Item = Planned> + Send + 'a>>>;

/// Sends a level's requests and waits for all answers.
///
/// # Errors
/// When the system has no thread for a request.
pub(super) fn run(
    client: &Client<'_>,
    workload: &Workload<'_>,
    options: &ServeOptions,
    level: Level,
    requests: Box<dyn Iterator<Item = Planned> + Send + '_>,
) -> std::io::Result<Run> {
    let queue: Queue<'_> = Mutex::new(requests.enumerate());
    let (threads, begun) = match level {
        Level::Clients(clients) => (clients, Instant::now()),
        // What arrives first must not wait for threads to be made.
        Level::Rate(_) | Level::Speed(_) => {
            let threads = options.most_in_flight;
            (threads, Instant::now() + THREAD_START * threads.min(MOST_THREADS) as u32)
        }
    };
    let work = || {
        let mut samples = Vec::new();
        while let Some((number, planned)) = next(&queue, begun, options.seconds) {
            samples.push(send(client, workload, options.retry, begun, number, &planned));
        }
        samples
    };
    let mut samples = thread::scope(|scope| {
        let start = |_| thread::Builder::new().spawn_scoped(scope, work);
        let threads = (0..threads).map(start).collect::<std::io::Result<Vec<_>>>()?;
        let samples = threads.into_iter().filter_map(|thread| thread.join().ok()).flatten();
        std::io::Result::Ok(samples.collect::<Vec<_>>())
    })?;
    let wall = begun.elapsed();
    samples.sort_by_key(|sample: &Sample| sample.number);
    Ok(Run { wall, samples })
}

/// The next request, unless the time for sending is over.
fn next(queue: &Queue<'_>, begun: Instant, seconds: Option<f64>) -> Option<(usize, Planned)> {
    let is_over = seconds.is_some_and(|seconds| begun.elapsed().as_secs_f64() > seconds);
    let mut queue = queue.lock().ok()?;
    let (number, planned) = queue.next()?;
    // One that was due in time is sent, however late: leaving out those that had to
    // wait would make a slow server look faster.
    (planned.at.is_some() || !is_over).then_some((number, planned))
}

fn send(
    client: &Client<'_>,
    workload: &Workload<'_>,
    retry: bool,
    begun: Instant,
    number: usize,
    planned: &Planned,
) -> Sample {
    let prompt = workload.text(&planned.prompt);
    // Times count from when a request was due, not from when it could be sent: what
    // waits because answers are slow waits for them (Tene's "coordinated omission").
    let due = match planned.at {
        Some(at) => begun + Duration::from_secs_f64(at),
        None => Instant::now(),
    };
    thread::sleep(due.saturating_duration_since(Instant::now()));
    let (lag, mut turned_away) = (due.elapsed(), 0);
    loop {
        let outcome = client.ask(&prompt, planned.max_tokens, due);
        let again = match &outcome {
            Err(Failure { kind: FailureKind::TurnedAway, retry_after, .. }) => {
                turned_away += 1;
                retry.then(|| retry_after.unwrap_or(DEFAULT_WAIT).min(LONGEST_WAIT))
            }
            _ => None,
        };
        match again {
            Some(wait) if turned_away <= MOST_RETRIES => thread::sleep(wait),
            _ => return Sample { number, asked: planned.max_tokens, lag, turned_away, outcome },
        }
    }
}
