//! A profile of this machine for the cost model (`npu-sim`): passes of the `cpu` device are
//! measured, the profile's numbers fitted to at most half of them, and the others predicted.

mod fit;
mod measure;
mod report;
mod rounds;
mod simplex;

use aio_engine::device::cpu::CpuDevice;
use aio_engine::device::npu_sim::{Calibration, CostModel, MeasuredPass, Profile};
use aio_serve::TierSource;

use crate::machine::Machine;
use crate::{BenchError, Progress};
use fit::{Known, Timed};
use measure::Pass;
pub use report::{CheckedPass, Report, profile_text};
use rounds::{Measured, Took, measure};

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
    let row = |(&(model, pass, took), &fitted): (&(usize, Pass, Took), &bool)| {
        let tidy = |number: f64| (number * 1e3).round() / 1e3;
        MeasuredPass {
            model: measured.shapes[model].name.clone(),
            rows: pass.rows,
            context: pass.context,
            logits: pass.logits,
            milliseconds: tidy(took.mean * 1e3),
            spread: tidy(took.spread),
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

impl Measured {
    fn report(&self, profile: &Profile, fitted: &[bool]) -> Report {
        let models: Vec<CostModel> = self
            .shapes
            .iter()
            .map(|shape| CostModel::stored(profile.clone(), &shape.description, &shape.stored))
            .collect();
        let rows = self.passes.iter().zip(fitted).map(|(&(model, pass, took), &fitted)| {
            let predicted = fit::predict(&models[model], pass);
            CheckedPass {
                profile: profile.name.clone(),
                model: self.shapes[model].name.clone(),
                phase: report::phase(pass),
                rows: pass.rows,
                context: pass.context,
                measured: took.mean * 1e3,
                spread: took.spread,
                predicted: predicted * 1e3,
                error: predicted / took.mean - 1.0,
                fitted: fitted.then_some("jointly"),
            }
        });
        Report { rows: rows.collect(), bandwidth: self.bandwidth, notes: self.notes.clone() }
    }

    /// The passes to fit to.
    fn timed(&self, fitted: &[bool]) -> Vec<Timed> {
        let fitted = self.passes.iter().zip(fitted).filter(|(_, fitted)| **fitted);
        let timed = |(&(model, pass, took), _): (&(usize, Pass, Took), _)| Timed {
            model,
            pass,
            seconds: took.mean,
        };
        fitted.map(timed).collect()
    }
}
