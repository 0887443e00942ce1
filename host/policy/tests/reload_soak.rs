//! Two policies take turns, by calls and by a watched file, while requests are
//! served: none fails, and each decision is of the generation that planned, as it
//! was configured. `examples/reload_soak` does it ten thousand times and measures.

#![allow(clippy::unwrap_used, reason = "tests")]
#![cfg(unix)]

mod common;
mod soak;
mod zoo;

use std::sync::Arc;
use std::time::Duration;

use aio_policy::{Options, PolicyHost, PolicyRuntime, PolicySource, Setup};
use common::host;
use soak::{kinds, reloading};

#[test]
fn requests_and_reloads_do_not_get_into_each_others_way() {
    let kinds = vec![kinds::stamped(), kinds::fixed()];
    let setup = Setup::new(host()).config((kinds[0].config)(0));
    let source = PolicySource::Bytes { name: "soak".into(), bytes: kinds[0].bytes.clone() };
    let runtime = PolicyRuntime::new().unwrap();
    let policies = PolicyHost::load(&runtime, &source, setup, Options::default()).unwrap();
    let policies = Arc::new(policies);
    let first = policies.current().identity().generation;
    let round = Duration::from_micros(200);
    let soaked = reloading::soak(&policies, kinds, 3, round, |reloading, path, decided| {
        (0..180).for_each(|_| reloading.reload());
        (0..20).filter_map(|_| reloading.write(path, decided)).collect()
    });
    assert_eq!(soaked.told.failed, Vec::<String>::new());
    assert_eq!(soaked.seen.failed, Vec::<String>::new());
    assert_eq!(soaked.mixed(first), Vec::<String>::new());
    assert_eq!((soaked.told.stamps.len(), soaked.latencies.len()), (200, 20));
    assert!(soaked.seen.stamps.len() > 20, "requests saw {}", soaked.seen.stamps.len());
    assert!(soaked.seen.decisions > soaked.seen.requests, "rounds were asked about");
    assert_eq!(policies.live().len(), 1, "generations go with their last request");
    drop(policies);
}
