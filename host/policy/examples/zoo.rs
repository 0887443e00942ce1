//! How long hostile policies take to end: a table of the zoo of the tests, with
//! the default limits and with fuel without end, where only the deadline stops a
//! call. Run it with `cargo run --release -p aio-policy --example zoo`.

#![allow(clippy::unwrap_used, reason = "a measurement")]

#[path = "../tests/common/mod.rs"]
mod common;
#[path = "../tests/zoo/mod.rs"]
mod zoo;

use std::time::{Duration, Instant};

use aio_policy::{Limits, LoadedPolicy, PolicyRuntime, PolicySource, Prepared, Setup};
use common::host;
use zoo::{Animal, provoke};

/// How an animal ended, how long that took beside compiling it, and how long it had.
/// Compiling comes before any deadline begins, and takes what the memory's state of the
/// process lets it: up to some 40 ms after components that take a compiler much memory.
fn visit(runtime: &PolicyRuntime, animal: &Animal, limits: &Limits) -> (String, f64, f64) {
    let milliseconds = |time: Duration| time.as_secs_f64() * 1e3;
    let setup = Setup::new(host()).limits(limits.clone());
    let source = PolicySource::Bytes { name: animal.name.into(), bytes: animal.bytes.clone() };
    let mut start = Instant::now();
    let prepared = Prepared::new(runtime, &source, &setup.limits, &setup.grants);
    let loaded = prepared.and_then(|prepared| {
        start = Instant::now();
        LoadedPolicy::start(runtime, &prepared, setup)
    });
    let loading = start.elapsed();
    match loaded {
        // Instantiating, `describe` and `init`; each may take as long as the bound. Or
        // what is refused before.
        Err(error) => {
            (error.to_string(), milliseconds(loading), milliseconds(limits.init_deadline))
        }
        Ok(mut policy) => {
            let start = Instant::now();
            let given = provoke(&mut policy, animal.hook());
            let time = milliseconds(start.elapsed());
            let how = match given.failures.as_slice() {
                [] => "answered".to_owned(),
                [first, ..] => format!("{:?}: {first}", first.kind),
            };
            (how, time, milliseconds(limits.deadline))
        }
    }
}

fn main() {
    let runtime = PolicyRuntime::new().unwrap();
    let default = Limits::default();
    let endless = Limits {
        fuel: u64::MAX,
        init_fuel: u64::MAX,
        init_deadline: Duration::from_millis(500),
        ..Limits::default()
    };
    for (title, limits) in [("default limits", default), ("endless fuel", endless)] {
        println!("\n{title}");
        println!("{:40} {:>9} {:>9}  how it ended", "name", "ms", "beyond");
        let mut worst = (0.0, "");
        for animal in zoo::all() {
            let (how, took, had) = visit(&runtime, &animal, &limits);
            let beyond = (took - had).max(0.0);
            if beyond > worst.0 {
                worst = (beyond, animal.name);
            }
            let how: String = how.chars().take(110).collect();
            println!("{:40} {took:9.1} {beyond:9.1}  {how}", animal.name);
        }
        println!("the longest beyond its deadline: {:.1} ms {}", worst.0, worst.1);
    }
}
