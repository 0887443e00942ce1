//! What is done, one after the other: each serves requests, replaces policies and
//! adds what it found to the report.

use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::Receiver;
use std::time::{Duration, Instant};

use aio_policy::{
    Limits, Options, PolicyHost, PolicyRuntime, PolicySource, RuntimeOptions, Setup, StateStore,
};

use crate::common::host;
use crate::report::{Cache, Report};
use crate::soak::kinds::{self, Kind, variant};
use crate::soak::reloading::{Reloading, Soaked, soak};
use crate::soak::serving::First;

/// Threads that serve, and what a round takes: four requests at a time, each with
/// some rounds in a millisecond.
const THREADS: usize = 4;
const ROUND: Duration = Duration::from_micros(500);

/// One in so many reloads of the long soak goes through a watched file.
const BY_FILE: u64 = 5;

/// Reloads that are timed, by what a reload is like.
const WARM: usize = 500;
const COLD: usize = 200;
const SCRIPT_WARM: usize = 100;

/// Components that take turns when they are to be found on disk and not in memory:
/// the runtime keeps four.
const ON_DISK: u64 = 6;

/// A host with a policy of the first kind in place, a folder for code and one for
/// what policies learn.
struct Stage {
    policies: Arc<PolicyHost>,
    _folders: [tempfile::TempDir; 2],
}

impl Stage {
    fn new(kind: &Kind, limits: Limits) -> Self {
        let folders = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
        let code_cache = Some(folders[0].path().to_owned());
        let options = RuntimeOptions { code_cache, ..RuntimeOptions::default() };
        let runtime = PolicyRuntime::with(&options).unwrap();
        let source = PolicySource::Bytes { name: "soak".into(), bytes: kind.bytes.clone() };
        let setup = Setup::new(host()).config((kind.config)(0)).limits(limits.clone());
        let store = Some(StateStore::new(folders[1].path(), limits.snapshot_bytes));
        let options = Options { store, ..Options::default() };
        let policies = Arc::new(PolicyHost::load(&runtime, &source, setup, options).unwrap());
        Self { policies, _folders: folders }
    }

    /// Replaces policies while it serves.
    fn soak(
        &self,
        report: &mut Report,
        kinds: Vec<Kind>,
        reload: impl FnOnce(&Reloading, &Path, &Receiver<First>) -> Vec<f64>,
    ) -> Soaked {
        // The last one of the phase before goes on until the first reload of this.
        let first = self.policies.current().identity().generation;
        let soaked = soak(&self.policies, kinds, THREADS, ROUND, reload);
        report.add(&soaked, first);
        soaked
    }

    /// Writes each of these policies to the watched file in turn, so many times in
    /// all, and waits until it decides.
    fn write(&self, report: &mut Report, kinds: Vec<Kind>, times: usize) -> Vec<f64> {
        let by_file = |reloading: &Reloading, path: &Path, decided: &Receiver<First>| {
            (0..times).filter_map(|_| reloading.write(path, decided)).collect()
        };
        self.soak(report, kinds, by_file).latencies
    }
}

/// What serving is like when nothing is replaced.
pub fn without_reloads(report: &mut Report) {
    let stage = Stage::new(&kinds::stamped(), Limits::default());
    let wait = |_: &Reloading, _: &Path, _: &Receiver<First>| {
        std::thread::sleep(Duration::from_secs(10));
        Vec::new()
    };
    let soaked = stage.soak(report, vec![kinds::stamped()], wait);
    report.pauses("without reloads", &soaked);
}

/// The long soak: most reloads as fast as they go, some through a watched file.
pub fn many(report: &mut Report, reloads: u64) {
    let both = vec![kinds::stamped(), kinds::fixed()];
    let stage = Stage::new(&both[0], Limits::default());
    let (mut calls, mut memory) = (Vec::new(), Vec::new());
    let soaked = stage.soak(report, both, |reloading, path, decided| {
        let mut by_file = Vec::new();
        for number in 1..=reloads {
            if number % BY_FILE == 0 {
                by_file.extend(reloading.write(path, decided));
            } else {
                let start = Instant::now();
                reloading.reload();
                calls.push(start.elapsed().as_secs_f64());
            }
            if [reloads / 10, reloads / 2, reloads].contains(&number) {
                memory.push((number, crate::report::resident()));
            }
        }
        by_file
    });
    report.memory(memory);
    report.calls(&calls);
    report.pauses("with reloads", &soaked);
    report.latency("stamped and fixed", Cache::Memory, &soaked.latencies, Some(5.0));
}

/// Rust policies: `fixed` and `goodput`, which also has learnt something.
pub fn rust(report: &mut Report) {
    let both = [kinds::fixed(), kinds::goodput()];
    let of = |number: u64| {
        let kind = &both[(number % 2) as usize];
        Kind { bytes: variant(&kind.bytes, number), ..kind.clone() }
    };
    let stage = Stage::new(&both[0], Limits::default());
    let name = "fixed and goodput";
    let cold = stage.write(report, (0..COLD as u64).map(of).collect(), COLD);
    report.latency(name, Cache::Cold, &cold, Some(100.0));
    let on_disk = stage.write(report, (0..ON_DISK).map(of).collect(), WARM);
    report.latency(name, Cache::Disk, &on_disk, Some(5.0));
    let warm = stage.write(report, both.to_vec(), WARM + 2).split_off(2);
    report.latency(name, Cache::Memory, &warm, Some(5.0));
}

/// A policy that carries a script engine.
pub fn script(report: &mut Report, component: &[u8]) {
    let of = |number: u64| kinds::latency_guard(variant(component, number));
    let stage = Stage::new(&of(0), Limits::for_script_engine());
    let name = "a script";
    let all: Vec<Kind> = (0..ON_DISK).map(of).collect();
    let cold = stage.write(report, (1..ON_DISK).map(of).collect(), ON_DISK as usize - 1);
    report.latency(name, Cache::Cold, &cold, None);
    let on_disk = stage.write(report, all.clone(), SCRIPT_WARM);
    report.latency(name, Cache::Disk, &on_disk, Some(250.0));
    let warm = stage.write(report, all[..2].to_vec(), SCRIPT_WARM + 2).split_off(2);
    report.latency(name, Cache::Memory, &warm, Some(250.0));
}
