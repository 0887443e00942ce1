//! A profile of this machine for the cost model (`npu-sim`): passes of the `cpu` device are
//! measured, the profile's numbers fitted to at most half of them, and the others predicted.
//!
//! As elsewhere in this crate, passes are measured in rounds that go through all of them in
//! alternating order, and times are the least over rounds: whoever
//! shares the machine only ever adds to them.

mod fit;
mod measure;
mod report;
mod simplex;

use aio_engine::device::cpu::CpuDevice;
use aio_engine::device::npu_sim::{Calibration, CostModel, MeasuredPass, Profile};
use aio_serve::TierSource;

use crate::bandwidth::Bandwidth;
use crate::machine::{CpuTime, Disturbance, Machine};
use crate::stats::Summary;
use crate::{BenchError, Progress};
use fit::{Known, Timed};
use measure::{Pass, Shape, Subject};
pub use report::{CheckedPass, Report, profile_text};

/// Fewest passes that a profile is made of: it has to be fitted to half of them.
const FEWEST: usize = 12;

/// What to measure of each model.
#[derive(Debug, Clone)]
pub struct CalibrateOptions {
    /// Rounds.
    pub rounds: usize,
    /// Contexts of decoding and verifying.
    pub contexts: Vec<usize>,
    /// Rows of those passes.
    pub rows: Vec<usize>,
    /// Rows of prefills, from nothing.
    pub prefill: Vec<usize>,
}

impl CalibrateOptions {
    /// Says what is wrong with the request before models are fetched and loaded.
    ///
    /// # Errors
    /// When it measures nothing, or too little to make a profile of.
    pub fn check(&self) -> Result<(), BenchError> {
        let request = |what: String| Err(BenchError::Request(what));
        if self.rounds == 0 {
            return request("0 rounds measure nothing; ask for at least one with --rounds".into());
        }
        if self.rows.contains(&0) || self.prefill.contains(&0) {
            return request(
                "a pass of 0 rows cannot be measured; leave it out of --rows and --prefill".into(),
            );
        }
        let passes = self.passes().len();
        if passes < FEWEST {
            return request(format!(
                "{passes} passes are too few to make a profile of; ask for {FEWEST} or more with \
                 --rows, --context and --prefill"
            ));
        }
        Ok(())
    }

    /// The passes, each once.
    fn passes(&self) -> Vec<Pass> {
        let mut passes: Vec<Pass> = Vec::new();
        let wide = self.prefill.iter().map(|&rows| Pass { rows, context: 0, logits: 1 });
        let narrow = self.contexts.iter().flat_map(|&context| {
            self.rows.iter().map(move |&rows| Pass { rows, context, logits: rows })
        });
        for pass in narrow.chain(wide) {
            if !passes.contains(&pass) {
                passes.push(pass);
            }
        }
        passes.sort_by_key(|pass| (pass.context, pass.rows, pass.logits));
        passes
    }
}

/// Measures the models on the device and makes a profile called `name`. `models` is how each
/// source is named where the profile is checked later.
///
/// # Errors
/// When the options measure too little, a model cannot be opened or run, or the device fails.
pub fn calibrate(
    sources: &[TierSource],
    models: Vec<String>,
    device: &CpuDevice,
    name: &str,
    options: &CalibrateOptions,
    progress: &mut dyn Progress,
) -> Result<(Profile, Report), BenchError> {
    options.check()?;
    let of_each = options.passes();
    let passes: Vec<(usize, Pass)> = (0..sources.len())
        .flat_map(|model| of_each.iter().map(move |&pass| (model, pass)))
        .collect();
    let measured = measure(sources, device, &passes, options.rounds, progress)?;
    let fitted = fit::fitted(&passes);
    let machine = Machine::here();
    let known = Known {
        name: name.to_owned(),
        about: format!(
            "{}, {} threads, {}: the cpu device, as measured",
            machine.cpu,
            device.threads(),
            device.instruction_set()
        ),
        bandwidth: measured.bandwidth.max * 1e9,
        capacity: machine.memory_bytes,
        kv_bytes: measured.kv_bytes,
        tile: device.tile(),
    };
    let mut profile = fit::fit(&measured.shapes, &measured.timed(&fitted), &known);
    let row = |(&(model, pass, summary), &fitted): (&(usize, Pass, Summary), &bool)| {
        let tidy = |number: f64| (number * 1e3).round() / 1e3;
        MeasuredPass {
            model: measured.shapes[model].name.clone(),
            rows: pass.rows,
            context: pass.context,
            logits: pass.logits,
            milliseconds: tidy(summary.min * 1e3),
            spread: tidy(summary.median / summary.min - 1.0),
            fitted,
        }
    };
    profile.calibration = Some(Calibration {
        machine: machine.line(),
        instruction_set: device.instruction_set().to_owned(),
        threads: device.threads(),
        rounds: options.rounds,
        models,
        rows: measured.passes.iter().zip(&fitted).map(row).collect(),
    });
    let report = measured.report(&profile, &fitted);
    Ok((profile, report))
}

/// Measures anew what a profile was made of, and holds its predictions against that.
///
/// # Errors
/// When the profile was not measured or names other models than `sources`, or one of them
/// cannot be opened or run.
pub fn check(
    profile: &Profile,
    sources: &[TierSource],
    device: &CpuDevice,
    progress: &mut dyn Progress,
) -> Result<Report, BenchError> {
    let Some(calibration) = &profile.calibration else {
        let what = format!("{} was not measured on a machine", profile.name);
        return Err(BenchError::Request(what));
    };
    let mut passes = Vec::new();
    for row in &calibration.rows {
        let Some(model) = sources.iter().position(|source| source.name == row.model) else {
            return Err(BenchError::Request(format!(
                "{} has passes of {}, which is not among its models",
                profile.name, row.model
            )));
        };
        let pass = Pass { rows: row.rows, context: row.context, logits: row.logits };
        passes.push((model, pass));
    }
    let measured = measure(sources, device, &passes, calibration.rounds, progress)?;
    let fitted: Vec<bool> = calibration.rows.iter().map(|row| row.fitted).collect();
    let speed = fit::speed(profile, &measured.shapes, &measured.timed(&fitted));
    let mut report = measured.report(&speed.of(profile), &fitted);
    report.notes.push(format!(
        "the machine reads at {:.2} times and computes at {:.2} times the profile's speed now, by \
         the fitted passes; predictions are for that speed",
        speed.reading, speed.computing
    ));
    let (here, isa) = (Machine::here(), device.instruction_set());
    if !calibration.machine.starts_with(&here.cpu) || calibration.instruction_set != isa {
        report.notes.push(format!(
            "this is another machine ({}, {isa}) than the profile's: expect other times",
            here.cpu
        ));
    }
    Ok(report)
}

/// What was measured.
struct Measured {
    shapes: Vec<Shape>,
    /// Model, pass and seconds.
    passes: Vec<(usize, Pass, Summary)>,
    /// Gigabytes a second that the memory was read at.
    bandwidth: Summary,
    /// Bytes of a component of a key or value.
    kv_bytes: f64,
    notes: Vec<String>,
}

fn measure(
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
            seconds[i].push(undisturbed(&mut subjects[model], pass)?);
        }
        disturbance.ours(start);
    }
    progress.finished();
    let summaries = seconds.iter().map(|seconds| Summary::of(seconds));
    let timed = passes.iter().zip(summaries);
    let timed = timed.filter_map(|(&(model, pass), summary)| Some((model, pass, summary?)));
    let no_rounds = || BenchError::Request("no round was measured".to_owned());
    Ok(Measured {
        passes: timed.collect(),
        bandwidth: Summary::of(&speeds).ok_or_else(no_rounds)?,
        kv_bytes: subjects.first().map_or(2.0, Subject::kv_bytes),
        shapes: subjects.into_iter().map(|subject| subject.shape).collect(),
        notes: disturbance.notes(),
    })
}

/// Seconds of a pass; measured once more where other processes had a good part of the
/// processors meanwhile, and then those of the quieter time.
fn undisturbed(subject: &mut Subject, pass: Pass) -> Result<f64, BenchError> {
    let mut timed = || -> Result<(f64, f64), BenchError> {
        let start = CpuTime::now();
        let seconds = subject.measure(pass)?;
        Ok((start.since().others, seconds))
    };
    let first = timed()?;
    if first.0 < DISTURBED {
        return Ok(first.1);
    }
    let second = timed()?;
    Ok(if second.0 < first.0 { second.1 } else { first.1 })
}

/// Share of the processors from which a measurement is made again. Time is counted in
/// hundredths of a second, so that less would mean little.
const DISTURBED: f64 = 0.1;

impl Measured {
    fn report(&self, profile: &Profile, fitted: &[bool]) -> Report {
        let models: Vec<CostModel> = self
            .shapes
            .iter()
            .map(|shape| CostModel::stored(profile.clone(), &shape.description, &shape.stored))
            .collect();
        let rows = self.passes.iter().zip(fitted).map(|(&(model, pass, summary), &fitted)| {
            let predicted = fit::predict(&models[model], pass);
            CheckedPass {
                profile: profile.name.clone(),
                model: self.shapes[model].name.clone(),
                phase: report::phase(pass),
                rows: pass.rows,
                context: pass.context,
                measured: summary.min * 1e3,
                spread: summary.median / summary.min - 1.0,
                predicted: predicted * 1e3,
                error: predicted / summary.min - 1.0,
                fitted: fitted.then_some("jointly"),
            }
        });
        Report { rows: rows.collect(), bandwidth: self.bandwidth, notes: self.notes.clone() }
    }

    /// The passes to fit to.
    fn timed(&self, fitted: &[bool]) -> Vec<Timed> {
        let fitted = self.passes.iter().zip(fitted).filter(|(_, fitted)| **fitted);
        let timed = |(&(model, pass, summary), _): (&(usize, Pass, Summary), _)| Timed {
            model,
            pass,
            seconds: summary.min,
        };
        fitted.map(timed).collect()
    }
}
