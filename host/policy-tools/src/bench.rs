//! What calls of a policy cost, in time and in fuel, with all limits on: on a
//! simulated fleet of requests, so that facts vary as they do on a host.

mod fleet;

use std::collections::BTreeSet;
use std::time::Instant;

use aio_core::{Failure, Grant, Hook};
use aio_policy::{
    Limits, LoadError, LoadedPolicy, PolicyRuntime, PolicySource, Prepared, RuntimeOptions,
};
use serde::Serialize;

use crate::facts;
use crate::situation::Subject;
use fleet::Fleet;

/// The form of [`Benched`] as JSON.
pub const BENCH_SCHEMA: &str = "aio-policy-bench/1";

/// Requests in the rounds that are measured.
const BATCHES: [usize; 3] = [1, 8, 64];

/// How a policy is measured.
#[derive(Debug, Clone, PartialEq)]
pub struct BenchOptions {
    /// Calls of `plan`, and of `rounds` for each number of requests. Other hooks,
    /// which are called less often, are measured on a part of that.
    pub calls: usize,
    /// Its configuration as JSON text; the policy's own default where absent.
    pub config: Option<String>,
    /// What it may use.
    pub limits: Limits,
    /// What it may import.
    pub grants: BTreeSet<Grant>,
}

/// What a policy costs.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Benched {
    /// [`BENCH_SCHEMA`].
    pub schema: &'static str,
    /// As it calls itself.
    pub policy: String,
    /// As it says.
    pub version: String,
    /// SHA-256 of the component.
    pub digest: String,
    /// What was measured.
    pub rows: Vec<Row>,
    /// Failures met meanwhile: how many, and the first of them.
    pub failures: Option<(usize, Failure)>,
}

/// The cost of one kind of call.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Row {
    /// Which.
    pub what: What,
    /// Requests in one call of `rounds` or `finished`.
    pub requests: Option<usize>,
    /// Calls measured.
    pub calls: usize,
    /// Wall time of one call, in nanoseconds.
    pub nanoseconds: Spread,
    /// Fuel of one call; `None` where the host does not count it apart.
    pub fuel: Option<Spread>,
}

/// What can be measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum What {
    /// Reading, compiling, checking and starting a component that this machine has
    /// not compiled before.
    LoadCold,
    /// The same with its code in the cache.
    LoadWarm,
    /// Instantiating a compiled component and calling `describe` and `init`: what a
    /// policy's next call costs beside itself after a failure.
    Start,
    /// `plan`.
    Plan,
    /// `rounds`.
    Rounds,
    /// `finished`.
    Finished,
    /// `snapshot`.
    Snapshot,
}

impl std::fmt::Display for What {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::LoadCold => "load, cold",
            Self::LoadWarm => "load, warm",
            Self::Start => "start",
            Self::Plan => "plan",
            Self::Rounds => "rounds",
            Self::Finished => "finished",
            Self::Snapshot => "snapshot",
        })
    }
}

/// How values are spread.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Spread {
    /// Half of all are at most this.
    pub p50: u64,
    /// 90 % are.
    pub p90: u64,
    /// 99 % are.
    pub p99: u64,
    /// All are.
    pub max: u64,
}

impl Spread {
    /// By nearest rank; `None` of nothing.
    fn of(mut values: Vec<u64>) -> Option<Self> {
        values.sort_unstable();
        let rank =
            |percent: usize| values.get((values.len() * percent).div_ceil(100).max(1) - 1).copied();
        Some(Self { p50: rank(50)?, p90: rank(90)?, p99: rank(99)?, max: rank(100)? })
    }
}

/// Why nothing was measured.
#[derive(Debug, thiserror::Error)]
pub enum BenchError {
    /// The policy cannot be loaded.
    #[error(transparent)]
    Load(#[from] LoadError),
    /// There is no folder for compiled code.
    #[error("no temporary folder can be made for compiled code: {0}")]
    Folder(std::io::Error),
    /// Nothing is to be measured.
    #[error("at least 100 calls are needed for a 99th percentile")]
    TooFew,
}

/// Measures a policy.
///
/// # Errors
/// When it cannot be loaded, or there is nowhere to put compiled code.
pub fn bench(source: &PolicySource, options: &BenchOptions) -> Result<Benched, BenchError> {
    if options.calls < 100 {
        return Err(BenchError::TooFew);
    }
    let mut rows = loads(source, options)?;
    let runtime = PolicyRuntime::new()?;
    let prepared = Prepared::new(&runtime, source, &options.limits, &options.grants)?;
    let subject = Subject {
        runtime: &runtime,
        prepared: &prepared,
        config: options.config.as_deref(),
        limits: &options.limits,
        grants: &options.grants,
    };
    rows.push(starts(&subject, options)?);
    let mut samples = Samples::default();
    let identity = hooks(&subject, options, &mut rows, &mut samples)?;
    Ok(Benched {
        schema: BENCH_SCHEMA,
        policy: identity.name,
        version: identity.version,
        digest: identity.digest,
        rows,
        failures: samples.first_failure.map(|failure| (samples.failures, failure)),
    })
}

/// Loads in runtimes of their own, which know nothing of each other but the cache.
fn loads(source: &PolicySource, options: &BenchOptions) -> Result<Vec<Row>, BenchError> {
    let (cold, warm) = ((options.calls / 2000).clamp(3, 10), (options.calls / 500).clamp(5, 50));
    let folder = tempfile::tempdir().map_err(BenchError::Folder)?;
    let cached =
        RuntimeOptions { code_cache: Some(folder.path().to_owned()), ..RuntimeOptions::default() };
    let load = |runtime: &RuntimeOptions| -> Result<u64, LoadError> {
        let runtime = PolicyRuntime::with(runtime)?;
        let start = Instant::now();
        let prepared = Prepared::new(&runtime, source, &options.limits, &options.grants)?;
        let subject = Subject {
            runtime: &runtime,
            prepared: &prepared,
            config: options.config.as_deref(),
            limits: &options.limits,
            grants: &options.grants,
        };
        subject.start(facts::two_tiers(), None)?;
        Ok(nanoseconds(start))
    };
    let times = |runtime: &RuntimeOptions, count| {
        (0..count).map(|_| load(runtime)).collect::<Result<Vec<u64>, LoadError>>()
    };
    let cold = row(What::LoadCold, None, times(&RuntimeOptions::default(), cold)?, None);
    load(&cached)?; // Fills the cache.
    let warm = row(What::LoadWarm, None, times(&cached, warm)?, None);
    Ok([cold, warm].into_iter().flatten().collect())
}

fn starts(subject: &Subject<'_>, options: &BenchOptions) -> Result<Row, BenchError> {
    let count = (options.calls / 20).clamp(5, 1000);
    let mut times = Vec::with_capacity(count);
    for i in 0..count + count / 10 {
        let start = Instant::now();
        subject.start(facts::two_tiers(), None)?;
        if i >= count / 10 {
            times.push(nanoseconds(start));
        }
    }
    // At least five were measured.
    row(What::Start, None, times, None).ok_or(BenchError::TooFew)
}

fn hooks(
    subject: &Subject<'_>,
    options: &BenchOptions,
    rows: &mut Vec<Row>,
    samples: &mut Samples,
) -> Result<aio_core::PolicyIdentity, BenchError> {
    let hooks = subject.prepared.hooks();
    let mut policy = subject.start(facts::two_tiers(), None)?;
    if hooks.contains(&Hook::Plan) {
        let mut fleet = Fleet::new();
        let run = |policy: &mut LoadedPolicy, calls: usize, samples: &mut Samples| {
            while samples.count() < calls {
                fleet.plan_and_end(policy, samples);
            }
        };
        rows.extend(measure(What::Plan, None, &mut policy, options.calls, samples, run));
    }
    for batch in BATCHES {
        if !hooks.contains(&Hook::Rounds) {
            break;
        }
        // A fresh instance: what it has learnt of one fleet is not about the next.
        policy = subject.start(facts::two_tiers(), None)?;
        let mut fleet = Fleet::new();
        let run = |policy: &mut LoadedPolicy, calls: usize, samples: &mut Samples| {
            fleet.fill(policy, batch);
            while samples.count() < calls {
                fleet.round(policy, samples);
                fleet.replace_ended(policy);
            }
        };
        rows.extend(measure(What::Rounds, Some(batch), &mut policy, options.calls, samples, run));
    }
    let fewer = (options.calls / 10).max(100);
    if hooks.contains(&Hook::Finished) {
        let run = |policy: &mut LoadedPolicy, calls: usize, samples: &mut Samples| {
            let mut fleet = Fleet::new();
            while samples.count() < calls {
                fleet.finish_one(policy, samples);
            }
        };
        rows.extend(measure(What::Finished, Some(1), &mut policy, fewer, samples, run));
    }
    if hooks.contains(&Hook::Snapshot) {
        let run = |policy: &mut LoadedPolicy, calls: usize, samples: &mut Samples| {
            while samples.count() < calls {
                let start = Instant::now();
                let asked = policy.snapshot();
                samples.add(start, asked.fuel, asked.failures);
            }
        };
        rows.extend(measure(What::Snapshot, None, &mut policy, fewer, samples, run));
    }
    Ok(policy.identity().clone())
}

/// Runs until there are so many samples; those of a tenth as many calls before
/// are thrown away.
fn measure(
    what: What,
    requests: Option<usize>,
    policy: &mut LoadedPolicy,
    calls: usize,
    samples: &mut Samples,
    mut run: impl FnMut(&mut LoadedPolicy, usize, &mut Samples),
) -> Option<Row> {
    run(policy, calls / 10, samples);
    samples.clear();
    run(policy, calls, samples);
    let (times, fuel) = samples.take();
    row(what, requests, times, Some(fuel))
}

fn row(
    what: What,
    requests: Option<usize>,
    times: Vec<u64>,
    fuel: Option<Vec<u64>>,
) -> Option<Row> {
    let calls = times.len();
    let nanoseconds = Spread::of(times)?;
    Some(Row { what, requests, calls, nanoseconds, fuel: fuel.and_then(Spread::of) })
}

fn nanoseconds(start: Instant) -> u64 {
    u64::try_from(start.elapsed().as_nanos()).unwrap_or(u64::MAX)
}

/// What calls took.
#[derive(Debug, Default)]
struct Samples {
    times: Vec<u64>,
    fuel: Vec<u64>,
    failures: usize,
    first_failure: Option<Failure>,
}

impl Samples {
    fn add(&mut self, start: Instant, fuel: u64, failures: Vec<Failure>) {
        self.times.push(nanoseconds(start));
        self.fuel.push(fuel);
        self.failures += failures.len();
        if self.first_failure.is_none() {
            self.first_failure = failures.into_iter().next();
        }
    }

    fn count(&self) -> usize {
        self.times.len()
    }

    fn clear(&mut self) {
        self.times.clear();
        self.fuel.clear();
    }

    fn take(&mut self) -> (Vec<u64>, Vec<u64>) {
        (std::mem::take(&mut self.times), std::mem::take(&mut self.fuel))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_by_nearest_rank() {
        let spread = Spread::of((1..=1000).rev().collect()).unwrap();
        assert_eq!(spread, Spread { p50: 500, p90: 900, p99: 990, max: 1000 });
        assert_eq!(Spread::of(vec![7]).unwrap(), Spread { p50: 7, p90: 7, p99: 7, max: 7 });
        assert_eq!(Spread::of(vec![]), None);
    }

    #[test]
    fn every_hook_of_a_policy_is_measured() {
        let options = BenchOptions {
            calls: 100,
            config: None,
            limits: Limits::default(),
            grants: BTreeSet::new(),
        };
        let benched = bench(&PolicySource::Builtin("goodput"), &options).unwrap();
        let rows: Vec<_> = benched.rows.iter().map(|row| (row.what, row.requests)).collect();
        let expected = [
            (What::LoadCold, None),
            (What::LoadWarm, None),
            (What::Start, None),
            (What::Plan, None),
            (What::Rounds, Some(1)),
            (What::Rounds, Some(8)),
            (What::Rounds, Some(64)),
            (What::Finished, Some(1)),
            (What::Snapshot, None),
        ];
        assert_eq!(rows, expected);
        assert_eq!(benched.failures, None);
        for row in &benched.rows[3..] {
            let fuel = row.fuel.unwrap();
            assert!(fuel.p50 > 0 && fuel.p50 <= fuel.p99 && fuel.p99 <= fuel.max, "{row:?}");
            assert!(row.calls >= 100, "{row:?}");
        }
        let none = BenchOptions { calls: 99, ..options };
        assert!(bench(&PolicySource::Builtin("goodput"), &none).is_err());
    }
}
