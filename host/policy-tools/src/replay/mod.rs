//! Replaying a record of calls (`aio run --record`): the same component must give
//! the same answers, bit for bit; another one is asked about the same facts, its
//! answers are laid beside the recorded ones, and what they would have cost is
//! estimated from what was measured then.
//!
//! It must not run models: everything it knows stands in the record.

mod ask;
mod compare;
mod estimate;
mod log;
mod report;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use aio_core::{Plan, RoundDecision};
use aio_policy::{LoadError, PolicyRuntime, PolicySource, Prepared, Setup};

pub use compare::{Answered, Change, Difference};
pub use estimate::{Estimate, LIMITS_OF_ESTIMATES};
pub use log::{HostRun, LogError, Recorded, RecordedCall, read};
pub use report::{PolicyReplay, ReplayReport};

/// A policy to be asked what was asked then.
#[derive(Debug, Clone)]
pub struct Candidate {
    /// What it is called in the report.
    pub name: String,
    /// Where it comes from.
    pub source: PolicySource,
    /// Its configuration, as JSON text. Where it is absent, the component that was
    /// recorded has the recorded one, and another has its defaults.
    pub config: Option<String>,
}

/// What a candidate answered about one recorded request.
#[derive(Debug, Clone, Default)]
pub(crate) struct Answers {
    /// Its plan; absent where it wanted a probe that was not recorded.
    pub plan: Option<Plan>,
    /// Its decisions, by the rounds done when it was asked.
    pub rounds: BTreeMap<u32, RoundDecision>,
}

/// Replays a record under each candidate.
///
/// # Errors
/// When a candidate cannot be loaded or started at all.
pub fn replay(
    runs: &[HostRun],
    candidates: &[Candidate],
    options: &ReplayOptions<'_>,
) -> Result<ReplayReport, LoadError> {
    let mut report = ReplayReport::new(runs);
    for candidate in candidates {
        let mut replayed = PolicyReplay::new(&candidate.name);
        let Setup { limits, grants, .. } = options.setup;
        let prepared = Prepared::new(options.runtime, &candidate.source, limits, grants)?;
        for run in runs {
            ask::ask(run, candidate, &prepared, options, &mut replayed)?;
        }
        replayed.finish();
        report.policies.push(replayed);
    }
    Ok(report)
}

/// What candidates may have.
#[derive(Debug)]
pub struct ReplayOptions<'a> {
    /// What compiles and runs them.
    pub runtime: &'a PolicyRuntime,
    /// What each may see and use; its host, configuration and state are the record's.
    pub setup: &'a Setup,
}
