//! Requests as `aio run` makes them, on a tier that computes nothing: each takes a
//! decider, plans, asks about its rounds and tells its end; every answer is looked
//! at for where it comes from.

use std::collections::HashMap;
use std::os::unix::fs::FileExt;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::Sender;
use std::time::{Duration, Instant};

use aio_core::{
    Failure, FinishReason, Granted, Outcome, Plan, RequestFacts, RoundContext, RoundFacts, Verdict,
};
use aio_policy::{Decider, PolicyHost};

use super::kinds::stamp_of;
use super::notes::{Note, Notes, Pause};
use crate::common::{facts, round};

/// Rounds of one request, at most.
const ROUNDS: u64 = 4;

/// The first decision of a generation, and when it was there.
pub type First = (u64, Instant);

/// What all request threads share.
pub struct Serving<'a> {
    policies: &'a PolicyHost,
    /// What a round takes.
    round: Duration,
    stopped: AtomicBool,
    requests: AtomicU64,
    newest: AtomicU64,
    first: Mutex<Option<Sender<First>>>,
}

/// What a request thread sees.
#[derive(Debug, Default)]
pub struct Seeing {
    requests: u64,
    decisions: u64,
    failed: Vec<String>,
    mixed: Vec<String>,
    /// The generation that planned last, and what it said.
    last: Option<(u64, String)>,
    notes: Notes,
}

/// What all request threads saw.
#[derive(Debug, Default)]
pub struct Seen {
    pub requests: u64,
    pub decisions: u64,
    /// Requests that got a safe plan, or of which a call failed.
    pub failed: Vec<String>,
    /// Decisions that are not of the generation that planned.
    pub mixed: Vec<String>,
    /// What each generation said.
    pub stamps: HashMap<u64, String>,
    /// How long it took to get a decider and a plan, and to give the decider back.
    pub plans: Vec<Pause>,
    pub ends: Vec<Pause>,
}

impl Seen {
    pub fn of(threads: Vec<Seeing>) -> Seen {
        let mut sum = Seen::default();
        for Seeing { requests, decisions, failed, mixed, last: _, notes } in threads {
            sum.requests += requests;
            sum.decisions += decisions;
            sum.failed.extend(failed);
            sum.mixed.extend(mixed);
            for note in notes.read() {
                match note {
                    Note::Plan(pause) => sum.plans.push(pause),
                    Note::End(pause) => sum.ends.push(pause),
                    Note::Stamp(generation, stamp) => sum.stamp(generation, stamp),
                }
            }
        }
        sum
    }

    fn stamp(&mut self, generation: u64, stamp: String) {
        let known = self.stamps.entry(generation).or_insert_with(|| stamp.clone());
        if *known != stamp {
            self.mixed.push(format!("generation {generation} said {known} and {stamp}"));
        }
    }
}

impl<'a> Serving<'a> {
    pub fn new(policies: &'a PolicyHost, round: Duration) -> Self {
        Self {
            policies,
            round,
            stopped: AtomicBool::new(false),
            requests: AtomicU64::new(0),
            newest: AtomicU64::new(0),
            first: Mutex::new(None),
        }
    }

    /// Tells of each generation's first decision from now on.
    pub fn tell(&self, first: Sender<First>) {
        *self.first.lock().unwrap() = Some(first);
    }

    pub fn stop(&self) {
        self.stopped.store(true, Ordering::Relaxed);
    }

    /// Serves until it is stopped.
    pub fn serve(&self) -> Seeing {
        let (mut seen, mut clock) = (Seeing::default(), Clock::default());
        while !self.stopped.load(Ordering::Relaxed) {
            let request = self.requests.fetch_add(1, Ordering::Relaxed) + 1;
            let facts = RequestFacts { request, ..facts(vec![]) };
            clock.start();
            let decider = self.policies.for_request(request);
            let asked = decider.plan(&facts, &Granted::default());
            seen.notes.add(&Note::Plan(clock.stop()));
            self.decided(&decider);
            self.policies.remember(&facts);
            seen.requests += 1;
            seen.failed(&decider, &asked.failures);
            if let Some((stamp, ask_every)) = seen.plan(&decider, &asked.answer) {
                for number in 1..=request % (ROUNDS + 1) {
                    std::thread::sleep(self.round);
                    if ask_every > 0 {
                        seen.round(&decider, request, number, &stamp);
                    }
                }
            }
            let told = decider.finished(&[outcome(request)]);
            seen.failed(&decider, &told.failures);
            clock.start();
            drop(decider);
            seen.notes.add(&Note::End(clock.stop()));
        }
        seen
    }

    fn decided(&self, decider: &Decider) {
        let generation = decider.identity().generation;
        if generation > self.newest.load(Ordering::Relaxed)
            && generation > self.newest.fetch_max(generation, Ordering::Relaxed)
            && let Some(first) = &*self.first.lock().unwrap()
        {
            let _ = first.send((generation, Instant::now()));
        }
    }
}

impl Seeing {
    fn plan(&mut self, decider: &Decider, answer: &Verdict) -> Option<(String, u32)> {
        let generation = decider.identity().generation;
        let Verdict::Decided(plan) = answer else {
            self.failed.push(format!("generation {generation} asked for a probe"));
            return None;
        };
        let Some(stamp) = stamp_of(decider.identity(), plan) else {
            let Plan { label, reason, .. } = plan;
            self.failed.push(format!("generation {generation} planned \"{label}\": {reason}"));
            return None;
        };
        self.decisions += 1;
        if self.last.as_ref().is_none_or(|(g, said)| (*g, said) != (generation, &stamp)) {
            self.notes.add(&Note::Stamp(generation, stamp.clone()));
            self.last = Some((generation, stamp.clone()));
        }
        Some((stamp, plan.ask_every))
    }

    fn round(&mut self, decider: &Decider, request: u64, number: u64, stamp: &str) {
        let facts = RoundFacts { tier: 0, round: number as u32, ..round(request) };
        let asked = decider.rounds(&RoundContext::default(), &[facts]);
        self.failed(decider, &asked.failures);
        self.decisions += 1;
        // One that says nothing keeps the setting; only the stamped one always says
        // who it is.
        let said = asked.answer.first().map(|decision| decision.reason.as_str());
        if stamp.starts_with('S') && said != Some(stamp) {
            self.mixed.push(format!("a request that {stamp} planned went on with {said:?}"));
        }
    }

    fn failed(&mut self, decider: &Decider, failures: &[Failure]) {
        let generation = decider.identity().generation;
        self.failed.extend(failures.iter().map(|f| format!("generation {generation}: {f}")));
    }
}

fn outcome(request: u64) -> Outcome {
    Outcome {
        request,
        tier: 0,
        label: String::new(),
        finish: FinishReason::Stop,
        prompt_tokens: 100,
        committed: 10,
        rounds: 4,
        drafted: 8,
        accepted: 6,
        prefill_milliseconds: 3.0,
        decode_milliseconds: 70.0,
    }
}

/// Times what this thread does; on Linux apart from waiting for a processor.
struct Clock {
    /// Of this thread: time on a processor, and time waiting for one.
    schedule: Option<std::fs::File>,
    started: Instant,
    waited: u64,
}

impl Default for Clock {
    fn default() -> Self {
        let schedule = std::fs::File::open("/proc/thread-self/schedstat").ok();
        Self { schedule, started: Instant::now(), waited: 0 }
    }
}

impl Clock {
    fn start(&mut self) {
        self.waited = self.waited();
        self.started = Instant::now();
    }

    fn stop(&self) -> Pause {
        let seconds = self.started.elapsed().as_secs_f64();
        let waited = self.waited().saturating_sub(self.waited) as f64 / 1e9;
        Pause { seconds, on_processor_or_blocked: (seconds - waited).max(0.0) }
    }

    /// Nanoseconds in which this thread waited for a processor so far.
    fn waited(&self) -> u64 {
        let mut text = [0; 64];
        let read = self.schedule.as_ref().and_then(|file| file.read_at(&mut text, 0).ok());
        let text = std::str::from_utf8(&text[..read.unwrap_or(0)]).unwrap_or_default();
        text.split(' ').nth(1).and_then(|field| field.parse().ok()).unwrap_or(0)
    }
}
