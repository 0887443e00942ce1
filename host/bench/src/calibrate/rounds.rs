//! Passes measured in rounds that go through all of them in alternating order.
//!
//! A pass's time is the mean over its rounds. Elsewhere in this crate medians count; here
//! that fails: whoever shares a core with us slows passes down by a third to a half for
//! seconds, then leaves. A short pass meets one state or the other, a long one some of
//! both, so that medians, or the least times, of long and short passes are of different
//! machines; means are of one, the machine as it is shared.

use aio_engine::device::cpu::CpuDevice;
use aio_serve::TierSource;

use super::measure::{Pass, Shape, Subject};
use crate::bandwidth::Bandwidth;
use crate::machine::{CpuTime, Disturbance};
use crate::stats::Summary;
use crate::{BenchError, Progress};

/// Seconds from which a pass is long: it meets all states of the machine in fewer rounds.
const LONG: f64 = 1.0;
/// Of so many rounds long passes are measured in one.
const LONG_EVERY: usize = 2;

/// What was measured.
pub(super) struct Measured {
    pub shapes: Vec<Shape>,
    /// Model, pass and how long it takes.
    pub passes: Vec<(usize, Pass, Took)>,
    /// Gigabytes a second that the memory was read at.
    pub bandwidth: Summary,
    /// Bytes of a component of a key or value.
    pub kv_bytes: f64,
    /// What the reader should know.
    pub notes: Vec<String>,
}

/// How long a pass takes.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Took {
    /// Seconds, the mean over rounds.
    pub mean: f64,
    /// Half the distance between the quartiles of the rounds, as a share of it.
    pub spread: f64,
}

impl Took {
    /// Of the seconds of each round; `None` where there were none.
    fn of(seconds: &[f64]) -> Option<Self> {
        let summary = Summary::of(seconds)?;
        let mean = seconds.iter().sum::<f64>() / seconds.len() as f64;
        Some(Self { mean, spread: (summary.q3 - summary.q1) / 2.0 / mean })
    }
}

/// Measures these passes of these models.
///
/// # Errors
/// When a model cannot be opened or run, or a pass is beyond what it can do.
pub(super) fn measure(
    sources: &[TierSource],
    device: &CpuDevice,
    passes: &[(usize, Pass)],
    rounds: usize,
    progress: &mut dyn Progress,
) -> Result<Measured, BenchError> {
    let bandwidth = Bandwidth::new(device.threads())
        .map_err(|e| BenchError::Request(format!("no memory to measure bandwidth with: {e}")))?;
    progress.started((sources.len() * (1 + rounds)) as u64);
    let mut subjects = Vec::new();
    for (model, source) in sources.iter().enumerate() {
        progress.step(&format!("{}: loading and filling contexts", source.name));
        let mut subject = Subject::open(source, device)?;
        let of_it = passes.iter().filter(|(m, _)| *m == model).map(|(_, pass)| *pass);
        let of_it: Vec<Pass> = of_it.collect();
        if let Some(reason) = subject.refuses(&of_it) {
            return Err(BenchError::Request(reason));
        }
        subject.prepare(&of_it)?;
        subjects.push(subject);
    }
    let mut seconds: Vec<Vec<f64>> = vec![Vec::new(); passes.len()];
    let (mut speeds, mut disturbance) = (Vec::new(), Disturbance::default());
    for round in 0..rounds {
        // Whoever comes first finds the machine otherwise than who comes last.
        let mut order: Vec<usize> = (0..passes.len()).collect();
        if round % 2 == 1 {
            order.reverse();
        }
        let mut at_work = None;
        let mut start = CpuTime::now();
        for i in order {
            let (model, pass) = passes[i];
            if at_work.replace(model) != Some(model) {
                let name = &subjects[model].shape.name;
                progress.step(&format!("{name}: round {} of {rounds}", round + 1));
                disturbance.ours(start);
                speeds.push(bandwidth.measure());
                start = CpuTime::now();
            }
            let is_long = seconds[i].first().is_some_and(|&first| first >= LONG);
            if !is_long || round % LONG_EVERY == 0 {
                seconds[i].push(subjects[model].measure(pass)?);
            }
        }
        disturbance.ours(start);
    }
    progress.finished();
    let timed = passes.iter().zip(&seconds);
    let timed = timed.filter_map(|(&(model, pass), s)| Some((model, pass, Took::of(s)?)));
    let no_rounds = || BenchError::Request("no round was measured".to_owned());
    Ok(Measured {
        passes: timed.collect(),
        bandwidth: Summary::of(&speeds).ok_or_else(no_rounds)?,
        kv_bytes: subjects.first().map_or(2.0, Subject::kv_bytes),
        shapes: subjects.into_iter().map(|subject| subject.shape).collect(),
        notes: disturbance.notes(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pass_takes_what_its_rounds_took_on_average() {
        let took = Took::of(&[1.0, 2.0, 1.0, 2.0]).unwrap();
        assert_eq!(took, Took { mean: 1.5, spread: 1.0 / 3.0 });
        assert_eq!(Took::of(&[3.0]), Some(Took { mean: 3.0, spread: 0.0 }));
        assert_eq!(Took::of(&[]), None);
    }
}
