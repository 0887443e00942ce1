//! The zoo leaves nothing behind: after all animals have done their harm, the
//! process holds as much memory as before. It is a process of its own, because other
//! tests in the same one would be counted too.

#![allow(clippy::unwrap_used, reason = "tests")]

mod common;
mod zoo;

use aio_policy::{Limits, PolicyRuntime, Setup};
use common::host;

/// What an allocator may keep.
const SLACK_MIB: f64 = 8.0;
/// Visits until compiling the larger animals has made the heap as large as it
/// gets, and visits after that.
const VISITS: [usize; 2] = [3, 2];
/// Set in the process that is measured.
const MEASURED: &str = "AIO_ZOO_MEASURED";

/// Memory that the process holds, in MiB.
fn resident() -> Option<f64> {
    let statm = std::fs::read_to_string("/proc/self/statm").ok()?;
    let pages: f64 = statm.split(' ').nth(1)?.parse().ok()?;
    Some(pages * 4096.0 / f64::from(1 << 20))
}

fn visit_all(runtime: &PolicyRuntime, animals: &[zoo::Animal]) {
    for animal in animals {
        let mut limits = Limits::default();
        limits.deadline = animal.deadline.unwrap_or(limits.deadline);
        let Ok(mut policy) = animal.load(runtime, Setup::new(host()).limits(limits)) else {
            continue;
        };
        zoo::provoke(&mut policy, animal.hook());
        zoo::plan_of(&mut policy, 2);
    }
}

#[test]
fn the_zoo_leaves_no_memory_behind() {
    if resident().is_none() {
        eprintln!("skipped: this system has no /proc/self/statm");
        return;
    }
    if std::env::var_os(MEASURED).is_none() {
        // With a heap for each of the compiler's threads, which pieces of what it
        // has freed go back to the system is a matter of chance.
        let status = std::process::Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "the_zoo_leaves_no_memory_behind", "--nocapture"])
            .envs([(MEASURED, "1"), ("MALLOC_ARENA_MAX", "1"), ("RAYON_NUM_THREADS", "1")])
            .env("MALLOC_TRIM_THRESHOLD_", "65536")
            .status()
            .unwrap();
        assert!(status.success());
        return;
    }
    let (runtime, animals) = (PolicyRuntime::new().unwrap(), zoo::all());
    let [first, then] = VISITS;
    (0..first).for_each(|_| visit_all(&runtime, &animals));
    let before = resident().unwrap();
    for visit in 1..=then {
        visit_all(&runtime, &animals);
        let after = resident().unwrap();
        eprintln!("visit {visit}: {before:.1} MiB before, {after:.1} after");
        assert!(after < before + SLACK_MIB, "{before:.1} MiB before, {after:.1} after");
    }
}
