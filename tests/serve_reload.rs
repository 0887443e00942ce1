//! Policies replaced under load: by their file and over HTTP, some of them broken. No
//! request fails or says anything else than it does alone, and each is of one generation
//! from its first word to its record.
//!
//! `AIO_SOAK_MINUTES=15 cargo test --release --test serve_reload -- --nocapture` does it
//! for that long, in turns with a third of the time without, and says what a token took.

#![cfg(unix)]
#![allow(clippy::unwrap_used)]

mod support;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::{scope, sleep};
use std::time::{Duration, Instant};

use aio_core::RequestRecord;
use aio_engine::sampling::Sampling;
use aio_serve::Request;
use support::client;
use support::load::{Random, numbers, said_alone};
use support::server::Server;

const MODEL: &str = "smollm2-135m";
const CLIENTS: usize = 8;
/// Ways to replace a policy: by file and over HTTP, with good ones and broken ones.
const KINDS: usize = 5;
/// What each request generates: enough that a reload falls into most of them.
const TOKENS: usize = 48;

/// How long, in turns of reloading and not.
struct Schedule {
    turns: usize,
    quiet: Duration,
    reloading: Duration,
    /// Between two reloads.
    pause: Duration,
    /// The policies that take turns: one where times are to be compared.
    policies: &'static [&'static str],
    /// Bytes that memory may grow by in the second half. In a short run what is kept of
    /// code, prompts and records is still filling.
    growth: f64,
}

impl Schedule {
    fn from_environment() -> Self {
        let minutes = std::env::var("AIO_SOAK_MINUTES").ok().and_then(|text| text.parse().ok());
        match minutes {
            // 200 reloads in a quarter of an hour.
            Some(minutes) => Self {
                turns: 2 * usize::max(minutes, 1),
                quiet: Duration::from_secs(20),
                reloading: Duration::from_secs(60),
                pause: Duration::from_millis(4500),
                policies: &["goodput"],
                growth: 24e6,
            },
            None => Self {
                turns: 4,
                quiet: Duration::from_secs(4),
                reloading: Duration::from_secs(4),
                pause: Duration::from_secs(1),
                policies: &["goodput", "fixed", "aio"],
                growth: 100e6,
            },
        }
    }
}

/// One answer, as its client saw it.
struct Seen {
    turn: usize,
    seconds_per_token: f64,
    generation: u64,
}

/// Policies that are put in place, in turns.
struct Reloader<'a> {
    server: &'a Server,
    watched: PathBuf,
    policies: Vec<Vec<u8>>,
    /// By what came of them.
    placed: usize,
    refused: usize,
}

impl Reloader<'_> {
    fn reload(&mut self, i: usize) {
        let policy = never_seen(&self.policies[i % self.policies.len()], i);
        let broken = policy[..policy.len() / 2].to_vec();
        match i % KINDS {
            0 | 3 => {
                self.write(&policy);
                self.placed += 1;
            }
            1 => self.send(&policy, 200),
            2 => self.send(&broken, 422),
            _ => {
                self.write(&broken);
                self.refused += 1;
            }
        }
    }

    /// As an editor or a deployment does it: whole, or not at all.
    fn write(&self, bytes: &[u8]) {
        let new = self.watched.with_extension("new");
        std::fs::write(&new, bytes).unwrap();
        std::fs::rename(&new, &self.watched).unwrap();
    }

    fn send(&mut self, bytes: &[u8], expected: u16) {
        let request = client::agent().post(format!("{}/policies", self.server.admin));
        let response = request.header("content-type", "application/wasm").send(bytes).unwrap();
        assert_eq!(response.status(), expected);
        *if expected == 200 { &mut self.placed } else { &mut self.refused } += 1;
    }
}

/// The policy in a file that no host has compiled yet: with a section of its own (id 0)
/// behind everything.
fn never_seen(policy: &[u8], number: usize) -> Vec<u8> {
    let name = format!("{number}-{}", std::process::id());
    let length = name.len() as u8;
    [policy, &[0, length + 1, length], name.as_bytes()].concat()
}

fn requests() -> Vec<Request> {
    let request = |i: usize| {
        let sampling = match i % 2 {
            0 => Sampling::default(),
            _ => Sampling { temperature: 0.8, seed: i as u64, ..Default::default() },
        };
        numbers(i, TOKENS, sampling)
    };
    (0..16).map(request).collect()
}

/// Asks, and holds what comes against what the request says alone.
fn ask(server: &Server, request: &Request, alone: &RequestRecord) -> (f64, u64) {
    let mut answer = client::stream(&server.address, &client::form(request));
    let mut text = String::new();
    let (mut first, mut last) = (None, Instant::now());
    for event in answer.by_ref() {
        let more = client::delta(&event);
        if !more.is_empty() {
            last = Instant::now();
            first.get_or_insert(last);
        }
        text.push_str(&more);
    }
    assert!(answer.done && text == alone.text, "{text:?} instead of {:?}", alone.text);
    let record = server.record(client::number(&answer.headers));
    assert!(record.failures.is_empty(), "{:?}", record.failures);
    let generation: u64 = answer.headers["x-aio-generation"].to_str().unwrap().parse().unwrap();
    assert_eq!(record.policy.generation, generation, "it began under another policy");
    let seconds = (last - first.unwrap()).as_secs_f64();
    (seconds / (record.token_ids.len() - 1) as f64, generation)
}

#[test]
fn policies_change_under_load_and_nobody_notices() {
    let Some(tiers) = support::tiers(&[MODEL]) else { return };
    let requests = requests();
    let alone = said_alone(tiers, &requests);
    let folder = tempfile::tempdir().unwrap();
    let watched = folder.path().join("policy.wasm");
    let prebuilt = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../policies/prebuilt");
    let schedule = Schedule::from_environment();
    let policy = |name: &&str| std::fs::read(prebuilt.join(name).with_extension("wasm")).unwrap();
    let policies: Vec<_> = schedule.policies.iter().map(policy).collect();
    std::fs::write(&watched, &policies[0]).unwrap();
    let server = Server::start(MODEL, &["--policy", watched.to_str().unwrap(), "--watch"]);
    let mut reloader = Reloader { server: &server, watched, policies, placed: 0, refused: 0 };

    let (turn, stop) = (AtomicUsize::new(0), AtomicBool::new(false));
    let seen: Mutex<Vec<Seen>> = Mutex::new(Vec::new());
    let work = |client: usize| {
        let mut random = Random(client as u64);
        while !stop.load(Ordering::Relaxed) {
            let i = random.below(requests.len() as u64) as usize;
            let turn = turn.load(Ordering::Relaxed);
            let (seconds_per_token, generation) = ask(&server, &requests[i], &alone[i]);
            seen.lock().unwrap().push(Seen { turn, seconds_per_token, generation });
        }
    };
    let mut resident = Vec::new();
    scope(|scope| {
        for client in 0..CLIENTS {
            let work = &work;
            scope.spawn(move || work(client));
        }
        let mut reloads = 0;
        for i in 0..schedule.turns {
            turn.store(i, Ordering::Relaxed);
            let reloading = i % 2 == 1;
            let length = if reloading { schedule.reloading } else { schedule.quiet };
            let end = Instant::now() + length;
            let least = if reloading { reloads + KINDS } else { reloads };
            while Instant::now() < end || reloads < least {
                if reloading {
                    reloader.reload(reloads);
                    reloads += 1;
                }
                sleep(schedule.pause.min(end.saturating_duration_since(Instant::now())));
            }
            resident.push(server.metric("aio_process_resident_memory_bytes"));
        }
        stop.store(true, Ordering::Relaxed);
    });
    let seen = seen.into_inner().unwrap();
    report(&seen, &reloader, &resident);
    let generations: BTreeSet<u64> = seen.iter().map(|seen| seen.generation).collect();
    assert!(generations.len() > 1, "{generations:?}");
    assert!(reloader.placed >= 6 && reloader.refused >= 4);
    let grown = resident.last().unwrap() - resident[resident.len() / 2];
    assert!(grown < schedule.growth, "memory grows: {resident:?}");
}

fn report(seen: &[Seen], reloader: &Reloader<'_>, resident: &[f64]) {
    let of = |reloading: bool| {
        let mut times: Vec<f64> = seen
            .iter()
            .filter(|seen| (seen.turn % 2 == 1) == reloading)
            .map(|seen| seen.seconds_per_token * 1e3)
            .collect();
        times.sort_by(f64::total_cmp);
        let at = |share: f64| times[((times.len() - 1) as f64 * share) as usize];
        (times.len(), at(0.5), at(0.99))
    };
    let (quiet, reloading) = (of(false), of(true));
    let megabytes: Vec<u64> = resident.iter().map(|bytes| (bytes / 1e6) as u64).collect();
    eprintln!(
        "{} policies placed, {} refused; ms a token, p50 and p99: {:.2} and {:.2} in {} requests \
         without reloads, {:.2} and {:.2} in {} with ({:.3} times the p99); MB in memory after \
         each turn: {megabytes:?}",
        reloader.placed,
        reloader.refused,
        quiet.1,
        quiet.2,
        quiet.0,
        reloading.1,
        reloading.2,
        reloading.0,
        reloading.2 / quiet.2,
    );
}
