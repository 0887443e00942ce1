//! What came of measuring, for people and programs; and a profile as text.

use std::fmt::Write as _;

use aio_engine::device::npu_sim::published::TOLERANCE;
use aio_engine::device::npu_sim::{MeasuredPass, Profile};
use serde::Serialize;

use super::measure::Pass;
use crate::Table;
use crate::stats::Summary;

/// A measured time beside its prediction.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct CheckedPass {
    /// The profile.
    pub profile: String,
    /// The model.
    pub model: String,
    /// What such a pass is for: "decode", "verify" or "prefill".
    pub phase: &'static str,
    /// Rows of the pass.
    pub rows: usize,
    /// Tokens in the cache before it.
    pub context: usize,
    /// Milliseconds measured, the mean over rounds.
    pub measured: f64,
    /// Half the distance between the rounds' quartiles, as a share of it.
    pub spread: f64,
    /// Milliseconds by the profile.
    pub predicted: f64,
    /// How far the prediction is off, as a share of what was measured.
    pub error: f64,
    /// "jointly" where the profile's numbers were fitted to this pass, together with the
    /// others that were; `None` for a prediction.
    pub fitted: Option<&'static str>,
}

/// A profile held against a machine.
#[derive(Debug, Clone, PartialEq)]
pub struct Report {
    /// Pass by pass.
    pub rows: Vec<CheckedPass>,
    /// Gigabytes a second that the memory was read at meanwhile.
    pub bandwidth: Summary,
    /// What the reader should know.
    pub notes: Vec<String>,
}

impl Report {
    /// Passes that are off by more than the tolerance.
    pub fn off(&self) -> usize {
        self.rows.iter().filter(|row| row.error.abs() > TOLERANCE).count()
    }

    /// For people.
    pub fn text(&self) -> String {
        let mut table = Table::new().right(|column| (2..8).contains(&column));
        table.row([
            "model",
            "phase",
            "rows",
            "context",
            "measured ms",
            "spread",
            "predicted ms",
            "error",
            "",
        ]);
        for row in &self.rows {
            let mark = if row.error.abs() > TOLERANCE { "off" } else { "" };
            let fitted =
                row.fitted.map_or(mark, |_| if mark.is_empty() { "fitted" } else { "fitted, off" });
            table.row([
                row.model.clone(),
                row.phase.to_owned(),
                row.rows.to_string(),
                row.context.to_string(),
                format!("{:.1}", row.measured),
                format!("±{:.0} %", row.spread * 100.0),
                format!("{:.1}", row.predicted),
                format!("{:+.1} %", row.error * 100.0),
                fitted.to_owned(),
            ]);
        }
        let count =
            |fitted: bool| self.rows.iter().filter(|r| r.fitted.is_some() == fitted).count();
        let worst = |fitted: bool| {
            let of_kind = self.rows.iter().filter(|row| row.fitted.is_some() == fitted);
            100.0 * of_kind.map(|row| row.error.abs()).fold(0.0, f64::max)
        };
        let mut text = table.text();
        let _ = writeln!(
            text,
            "\n{} of {} passes were fitted to (at most {:.1} % off), {} are predictions (at most \
             {:.1} % off); {} off by more than {:.0} %\nmemory was read at {:.1} GB/s ({:.1} to \
             {:.1})",
            count(true),
            self.rows.len(),
            worst(true),
            count(false),
            worst(false),
            self.off(),
            TOLERANCE * 100.0,
            self.bandwidth.max,
            self.bandwidth.min,
            self.bandwidth.median
        );
        self.notes.iter().for_each(|note| {
            let _ = writeln!(text, "{note}");
        });
        text
    }
}

/// What such a pass is for.
pub(super) fn phase(pass: Pass) -> &'static str {
    let Pass { rows, context, logits } = pass;
    let (model, milliseconds, spread, fitted) = (String::new(), 0.0, 0.0, false);
    MeasuredPass { model, rows, context, logits, milliseconds, spread, fitted }.phase()
}

/// A calibrated profile as a file, with what its numbers are; `date` is when it was
/// measured.
pub fn profile_text(profile: &Profile, date: &str) -> String {
    let mut text = String::new();
    let quoted = |text: &str| serde_json::Value::from(text).to_string();
    // Writing to a string cannot fail.
    let mut line = |text_of_it: String| {
        text.push_str(&text_of_it);
        text.push('\n');
    };
    line(format!("# What passes of the cpu device cost on one machine, measured on {date} by"));
    line("# `aio device calibrate`. `aio device check` with this file measures them again.".into());
    line(String::new());
    line(format!("name = {}", quoted(&profile.name)));
    line(format!("about = {}", quoted(&profile.about)));
    line("mode = \"eager\"".into());
    line(format!(
        "weight_bytes = {:?} # a component, on an average of the models",
        profile.weight_bytes
    ));
    line(format!("weights_as_in_file = {}", profile.weights_as_in_file));
    line(format!("kv_bytes = {:?}", profile.kv_bytes));
    line("\n[memory]".into());
    line(format!(
        "bandwidth = {:e} # bytes a second, measured by itself",
        profile.memory.bandwidth
    ));
    line(format!(
        "efficiency = {:?} # fitted: the share that kernels reach",
        profile.memory.efficiency
    ));
    line(format!("capacity = {}", profile.memory.capacity));
    line("\n[arithmetic]".into());
    line(format!(
        "operations = {:e} # fitted: products with the fastest format, a second",
        profile.arithmetic.operations
    ));
    line(format!("efficiency = {:?}", profile.arithmetic.efficiency));
    if let Some(attention) = profile.arithmetic.attention {
        line(format!("attention = {attention:?} # fitted: attention's share of that speed"));
    }
    if let Some(unpacking) = &profile.unpacking {
        line("\n[unpacking]".into());
        line(format!("tile = {} # rows that the kernels unpack a weight for", unpacking.tile));
        line(format!("components = {:e} # fitted: a second", unpacking.components));
    }
    if !profile.formats.is_empty() {
        line("\n# Fitted: the share of that speed at which other formats are multiplied.".into());
        line("[formats]".into());
        for (name, share) in &profile.formats {
            line(format!("{} = {share:?}", quoted(name)));
        }
    }
    line("\n[host]".into());
    line(format!("pass = {:?}", profile.host.pass));
    line(format!("launch = {:?}", profile.host.launch));
    line(format!(
        "synchronisation = {:e} # fitted: what each pass costs beside the rest",
        profile.host.synchronisation
    ));
    if let Some(launches) = &profile.launches {
        line("\n# The processor calls its kernels: nothing is launched.".into());
        line("[launches]".into());
        let numbers = serde_json::to_value(launches).unwrap_or_default();
        for (name, number) in numbers.as_object().into_iter().flatten() {
            line(format!("{name} = {number}"));
        }
    }
    if let Some(calibration) = &profile.calibration {
        line(
            "\n# What was measured: the mean over the rounds, in milliseconds. The numbers above"
                .into(),
        );
        line(
            "# were fitted, all together, to the passes that say so; they predict the others."
                .into(),
        );
        line("[calibration]".into());
        line(format!("machine = {}", quoted(&calibration.machine)));
        line(format!("instruction_set = {}", quoted(&calibration.instruction_set)));
        line(format!("threads = {}", calibration.threads));
        line(format!("rounds = {}", calibration.rounds));
        let models: Vec<String> = calibration.models.iter().map(|model| quoted(model)).collect();
        line(format!("models = [{}]", models.join(", ")));
        line("rows = [".into());
        for row in &calibration.rows {
            line(format!(
                "  {{ model = {}, rows = {}, context = {}, logits = {}, milliseconds = {:?}, spread \
                 = {:?}, fitted = {} }},",
                quoted(&row.model),
                row.rows,
                row.context,
                row.logits,
                row.milliseconds,
                row.spread,
                row.fitted
            ));
        }
        line("]".into());
    }
    text
}
