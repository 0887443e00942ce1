//! How fast passes are: prefill, decode, and the verify curve (what a pass of n
//! rows costs), beside the peer and beside the machine's read bandwidth.
//!
//! Measurements come in rounds. Each round measures us and the peer once, in an
//! order that alternates, and the bandwidth before each; figures are medians
//! over rounds, and comparisons are made within rounds.

mod ours;
mod plot;
mod report;

use std::num::NonZeroUsize;
use std::path::PathBuf;

use aio_engine::device::Device;
use aio_serve::TierSource;

use crate::bandwidth::Bandwidth;
use crate::machine::{CpuTime, Machine, physical_cores};
use crate::peer::llama_bench::{LlamaBench, Measured, Mode, Sizes};
use crate::{BenchError, Progress};
use ours::Subject;
pub(crate) use ours::tokens;
pub use report::{
    Compared, Curve, CurvePoint, Decode, EngineReport, PeerFigures, Reading, TierReport,
};

/// Repetitions of a pass within a round, of which the median counts.
const REPETITIONS: usize = 3;

/// What to measure.
#[derive(Debug, Clone)]
pub struct EngineOptions {
    /// Threads of our device, and of the peer; the physical cores where absent.
    pub threads: Option<NonZeroUsize>,
    /// The peer's `llama-bench`.
    pub peer: Option<PathBuf>,
    /// Rounds.
    pub rounds: usize,
    /// Contexts at which to measure decoding and the verify curve.
    pub contexts: Vec<usize>,
    /// Rows of the verify curve's passes.
    pub rows: Vec<usize>,
    /// Tokens of the prefill.
    pub prefill: usize,
    /// Tokens to decode.
    pub decode: usize,
}

impl EngineOptions {
    /// Says what is wrong with the request before models are fetched and loaded.
    ///
    /// # Errors
    /// When it measures nothing, or the peer's binary is not there.
    pub fn check(&self) -> Result<(), BenchError> {
        self.clone().checked()?;
        self.peer()?;
        Ok(())
    }

    /// Threads of the peer and of the bandwidth measurement.
    fn threads(&self) -> usize {
        self.threads.map_or_else(physical_cores, usize::from)
    }

    fn peer(&self) -> Result<Option<LlamaBench>, BenchError> {
        let open = |path: &PathBuf| LlamaBench::new(path, self.threads());
        self.peer.as_ref().map(open).transpose()
    }

    /// Brings lists into order and refuses what measures nothing.
    fn checked(mut self) -> Result<Self, BenchError> {
        let request = |what: &str| Err(BenchError::Request(what.to_owned()));
        for list in [&mut self.contexts, &mut self.rows] {
            list.sort_unstable();
            list.dedup();
        }
        if self.rounds == 0 {
            return request("0 rounds measure nothing; ask for at least one with --rounds");
        }
        if self.rows.contains(&0) {
            return request("a pass of 0 rows cannot be measured; leave it out of --rows");
        }
        if self.contexts.contains(&0) || self.contexts.is_empty() {
            return request("give contexts of at least one token with --context");
        }
        if self.prefill == 0 || self.decode == 0 {
            return request("--prefill and --decode must be at least one token");
        }
        Ok(self)
    }
}

/// What one round found of us or of one mode of the peer.
#[derive(Debug, Clone, Default, PartialEq)]
struct Found {
    /// Tokens a second.
    prefill: f64,
    /// Tokens a second, by context.
    decode: Vec<f64>,
    /// Milliseconds a pass, by context and rows.
    passes: Vec<Vec<f64>>,
}

/// The sizes that fit one model.
#[derive(Debug, Clone, PartialEq)]
struct Fitting {
    contexts: Vec<usize>,
    rows: Vec<usize>,
    prefill: usize,
    decode: usize,
}

/// Measures every source on `device`, one after the other.
///
/// # Errors
/// When the options measure nothing, a model cannot be opened, or the device or
/// the peer fails.
pub fn run(
    sources: &[TierSource],
    device: &dyn Device,
    options: EngineOptions,
    progress: &mut dyn Progress,
) -> Result<EngineReport, BenchError> {
    let options = options.checked()?;
    let machine = Machine::here();
    let (threads, peer) = (options.threads(), options.peer()?);
    let bandwidth = Bandwidth::new(threads)
        .map_err(|e| BenchError::Request(format!("no memory to measure bandwidth with: {e}")))?;
    let modes = peer.as_ref().map_or(0, |peer| peer.modes().len());
    progress.started((sources.len() * (1 + options.rounds * (1 + modes))) as u64);
    let mut bench =
        Bench { options, peer, bandwidth, report: EngineReport::new(machine, device, threads) };
    for source in sources {
        let tier = bench.tier(source, device, progress)?;
        bench.report.tiers.push(tier);
    }
    let Bench { options, peer, mut report, .. } = bench;
    report.rounds = options.rounds;
    report.add_notes(peer.is_some());
    progress.finished();
    Ok(report)
}

struct Bench {
    options: EngineOptions,
    peer: Option<LlamaBench>,
    bandwidth: Bandwidth,
    report: EngineReport,
}

impl Bench {
    fn tier(
        &mut self,
        source: &TierSource,
        device: &dyn Device,
        progress: &mut dyn Progress,
    ) -> Result<TierReport, BenchError> {
        let name = &source.name;
        progress.step(&format!("{name}: loading and filling contexts"));
        let mut subject = Subject::open(source, device)?;
        let fitting = self.fitting(&subject, name)?;
        subject.prepare(&fitting)?;
        let modes: Vec<Mode> = self.peer.iter().flat_map(|p| p.modes().to_vec()).collect();
        let mut ours = Vec::new();
        let mut theirs: Vec<Vec<Found>> = vec![Vec::new(); modes.len()];
        let mut bandwidth = Vec::new();
        for round in 0..self.options.rounds {
            // Whoever comes first finds the machine otherwise than who comes last.
            let mut turns: Vec<Option<usize>> =
                std::iter::once(None).chain((0..modes.len()).map(Some)).collect();
            let shift = round % turns.len();
            turns.rotate_left(shift);
            for turn in turns {
                let which = turn.map_or("ours", |mode| modes[mode].name());
                progress.step(&format!(
                    "{name}: round {} of {}, {which}",
                    round + 1,
                    self.options.rounds
                ));
                bandwidth.push(self.bandwidth.measure());
                let start = CpuTime::now();
                match turn {
                    None => {
                        ours.push(subject.round(&fitting)?);
                        self.report.disturbance.ours(start);
                    }
                    Some(mode) => {
                        theirs[mode].push(self.peer_round(source, modes[mode], &fitting)?);
                        self.report.disturbance.peer(start);
                    }
                }
            }
        }
        let theirs = modes.into_iter().zip(theirs).collect();
        self.report.bandwidth_samples.extend_from_slice(&bandwidth);
        Ok(TierReport::new(&subject, &fitting, &ours, theirs, &bandwidth))
    }

    /// Leaves out what does not fit the model, and says so.
    fn fitting(&mut self, subject: &Subject, name: &str) -> Result<Fitting, BenchError> {
        let options = &self.options;
        let (holds, widest) = (subject.context(), subject.widest_gear());
        let (rows, wide): (Vec<_>, Vec<_>) = options.rows.iter().partition(|&&r| r <= widest);
        let most = rows.iter().copied().max().unwrap_or(0).max(options.decode);
        let (contexts, long): (Vec<_>, Vec<_>) =
            options.contexts.iter().partition(|&&context| context + most <= holds);
        if contexts.is_empty() || options.prefill > holds {
            let ask = "ask for less with --context, --rows, --decode and --prefill";
            let what = format!("{name} holds only {holds} tokens; {ask}");
            return Err(BenchError::Request(what));
        }
        if !long.is_empty() {
            let note = format!("{name} holds {holds} tokens: left out contexts {}", listed(&long));
            self.report.notes.push(note);
        }
        if !wide.is_empty() {
            let note =
                format!("{name}'s passes have up to {widest} rows: left out {}", listed(&wide));
            self.report.notes.push(note);
        }
        let (prefill, decode) = (options.prefill, options.decode);
        Ok(Fitting { contexts, rows, prefill, decode })
    }

    /// Two processes: prefill starts from nothing, all else from a context.
    fn peer_round(
        &mut self,
        source: &TierSource,
        mode: Mode,
        fitting: &Fitting,
    ) -> Result<Found, BenchError> {
        let Some(peer) = &self.peer else { return Ok(Found::default()) };
        let prefill = Sizes { prompts: vec![fitting.prefill], generated: vec![], depths: vec![0] };
        let (measured, version) = peer.run(&source.path, mode, &prefill, 1)?;
        self.report.peer_version.get_or_insert(version);
        let seconds = seconds(&measured, fitting.prefill, 0, 0);
        let mut found = Found { prefill: fitting.prefill as f64 / seconds, ..Found::default() };
        let sizes = Sizes {
            prompts: fitting.rows.clone(),
            generated: vec![fitting.decode],
            depths: fitting.contexts.clone(),
        };
        let (measured, _) = peer.run(&source.path, mode, &sizes, REPETITIONS)?;
        for &context in &fitting.contexts {
            let decode = self::seconds(&measured, 0, fitting.decode, context);
            found.decode.push(fitting.decode as f64 / decode);
            let pass = |&rows: &usize| 1e3 * self::seconds(&measured, rows, 0, context);
            found.passes.push(fitting.rows.iter().map(pass).collect());
        }
        Ok(found)
    }
}

/// Seconds of one of the peer's measurements; no number where it made none.
fn seconds(measured: &[Measured], prompt: usize, generated: usize, depth: usize) -> f64 {
    let is = |m: &&Measured| (m.prompt, m.generated, m.depth) == (prompt, generated, depth);
    measured.iter().find(is).map_or(f64::NAN, |m| m.seconds)
}

fn listed(numbers: &[usize]) -> String {
    numbers.iter().map(usize::to_string).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options() -> EngineOptions {
        EngineOptions {
            threads: None,
            peer: None,
            rounds: 1,
            contexts: vec![512, 64, 64],
            rows: vec![8, 1],
            prefill: 16,
            decode: 4,
        }
    }

    #[test]
    fn lists_are_brought_into_order() {
        let checked = options().checked().unwrap();
        assert_eq!((checked.contexts, checked.rows), (vec![64, 512], vec![1, 8]));
    }

    #[test]
    fn what_measures_nothing_is_refused() {
        let refused = |change: fn(&mut EngineOptions)| {
            let mut options = options();
            change(&mut options);
            options.checked().is_err()
        };
        assert!(refused(|o| o.rounds = 0));
        assert!(refused(|o| o.rows.push(0)));
        assert!(refused(|o| o.contexts.clear()));
        assert!(refused(|o| o.decode = 0));
    }
}
