//! `aio device`: the devices there are, what simulated hardware costs, and profiles of this
//! machine.

use std::process::ExitCode;

use aio_bench::Table;
use aio_engine::device::DEVICES;
use aio_engine::device::npu_sim::published::{self, Checked, TOLERANCE};
use aio_engine::device::npu_sim::{CostModel, Profile, SHIPPED, Sequence};
use clap::{Args, Subcommand};
use serde_json::json;

use super::device_calibrate::{self, CalibrateArgs};
use super::device_replay::{self, ReplayArgs};

/// List devices, look at the profiles of simulated hardware, and make one of this machine
#[derive(Args)]
#[command(after_help = "\
Examples:
  aio device show ascend-910b-graph
  aio device check
  aio device check ascend-910b-eager --json | jq '[.[].error]'
  aio device replay records.jsonl --requests 5000 --rate 0.5
  aio device calibrate -o here.toml
  aio device check here.toml")]
pub struct DeviceArgs {
    #[command(subcommand)]
    command: DeviceCommand,
}

#[derive(Subcommand)]
enum DeviceCommand {
    /// List what runs models here, and the profiles of hardware whose costs are known
    List {
        /// Print it as JSON
        #[arg(long)]
        json: bool,
    },
    /// Print a profile, and what passes cost by it
    Show {
        /// A profile: one of `aio device list`, or a file in TOML
        profile: String,
        /// Print it as JSON
        #[arg(long)]
        json: bool,
    },
    Calibrate(CalibrateArgs),
    Replay(ReplayArgs),
    /// Hold a profile's predictions against what was measured of the hardware; exits with 1
    /// where one is off by more than 15 %
    ///
    /// Shipped profiles are held against figures that were published; one that `aio device
    /// calibrate` made is held against this machine, whose passes are measured anew. Machines
    /// are not as fast at one time as at another: how fast this one reads and computes now is
    /// found from the passes that the profile was fitted to, and told.
    Check {
        /// A profile's name or file; all that are shipped where none is named
        profile: Option<String>,
        /// Print it as JSON
        #[arg(long)]
        json: bool,
    },
}

/// Runs the command.
pub fn run(args: &DeviceArgs) -> anyhow::Result<ExitCode> {
    match &args.command {
        DeviceCommand::List { json } => list(*json)?,
        DeviceCommand::Show { profile, json } => show(profile, *json)?,
        DeviceCommand::Calibrate(args) => return device_calibrate::run(args),
        DeviceCommand::Replay(args) => return device_replay::run(args),
        DeviceCommand::Check { profile, json } => return check(profile.as_deref(), *json),
    }
    Ok(ExitCode::SUCCESS)
}

fn list(json: bool) -> anyhow::Result<()> {
    let profiles = SHIPPED.iter().map(|(name, _)| Profile::open(name));
    let profiles = profiles.collect::<Result<Vec<_>, _>>()?;
    if json {
        let named = |name: &str, about: &str| json!({"name": name, "about": about});
        let devices: Vec<_> = DEVICES.iter().map(|(name, about)| named(name, about)).collect();
        let profiles: Vec<_> = profiles.iter().map(|p| named(&p.name, &p.about)).collect();
        return super::print(&format!("{}\n", json!({"devices": devices, "profiles": profiles})));
    }
    let mut devices = Table::new().indent(2);
    DEVICES.iter().for_each(|(name, about)| devices.row([*name, about]));
    let mut known = Table::new().indent(2);
    profiles.into_iter().for_each(|profile| known.row([profile.name, profile.about]));
    let text = format!("devices\n{}\nprofiles of hardware\n{}", devices.text(), known.text());
    super::print(&text)
}

/// Passes that a profile is shown with: rows, and tokens in the cache after them.
const PASSES: [(usize, usize); 7] =
    [(1, 2048), (2, 2048), (4, 2048), (8, 2048), (16, 2048), (1, 32768), (512, 2048)];

fn show(name: &str, json: bool) -> anyhow::Result<()> {
    let profile = Profile::open(name)?;
    let mut passes = Vec::new();
    for name in published::models() {
        let Some(model) = published::model(&name) else { continue };
        let model = CostModel::new(profile.clone(), &model);
        for (rows, context) in PASSES {
            let logits = if rows > 16 { 1 } else { rows };
            let cost = model.pass(rows, &[Sequence { rows, context }], logits);
            passes.push((name.clone(), context, cost, model.compiling()));
        }
    }
    if json {
        let passes = passes.iter().map(|(model, context, cost, compiling)| {
            json!({"model": model, "context": context, "cost": cost, "compiling": compiling})
        });
        let passes: Vec<_> = passes.collect();
        return super::print(&format!("{}\n", json!({"profile": profile, "passes": passes})));
    }
    let mut table = Table::new().right(|column| column > 0).indent(2);
    table.row(["model", "rows", "context", "ms", "reading", "computing", "host", "launches"]);
    for (model, context, cost, _) in &passes {
        let ms = |seconds: f64| format!("{:.2}", seconds * 1e3);
        table.row([
            model.clone(),
            cost.rows.to_string(),
            context.to_string(),
            ms(cost.seconds),
            ms(cost.memory_seconds),
            ms(cost.arithmetic_seconds),
            ms(cost.host_seconds),
            cost.launches.to_string(),
        ]);
    }
    super::print(&format!("{}\n{}", toml::to_string(&profile)?, table.text()))
}

fn check(name: Option<&str>, json: bool) -> anyhow::Result<ExitCode> {
    if let Some(profile) = name.map(Profile::open).transpose()?
        && let Some(calibration) = &profile.calibration
    {
        return device_calibrate::check(&profile, calibration, json);
    }
    let names = match name {
        Some(name) => vec![name],
        None => SHIPPED.map(|(name, _)| name).to_vec(),
    };
    let mut all: Vec<(&str, Checked)> = Vec::new();
    for name in names {
        let rows = published::check(name)?;
        if rows.is_empty() {
            anyhow::bail!("nothing that was published is known of {name}, so it has no check");
        }
        all.extend(rows.into_iter().map(|row| (name, row)));
    }
    let off = all.iter().filter(|(_, row)| row.error.abs() > TOLERANCE).count();
    super::print(&if json { rows_json(&all)? } else { rows_text(&all, off) })?;
    Ok(if off == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn rows_json(all: &[(&str, Checked)]) -> anyhow::Result<String> {
    #[derive(serde::Serialize)]
    struct Row<'a> {
        profile: &'a str,
        #[serde(flatten)]
        row: &'a Checked,
    }
    let rows: Vec<Row<'_>> = all.iter().map(|(profile, row)| Row { profile, row }).collect();
    Ok(serde_json::to_string(&rows)? + "\n")
}

fn rows_text(all: &[(&str, Checked)], off: usize) -> String {
    let mut table = Table::new().right(|column| (3..7).contains(&column));
    table.row(["profile", "model", "phase", "rows", "published ms", "predicted ms", "error", ""]);
    for (profile, row) in all {
        let fitted = row.fitted.as_ref().map(|what| format!("{what} was fitted to it"));
        table.row([
            (*profile).to_owned(),
            row.model.clone(),
            row.phase.to_owned(),
            row.rows.to_string(),
            format!("{:.1}", row.published),
            format!("{:.1}", row.predicted),
            format!("{:+.1} %", row.error * 100.0),
            fitted.unwrap_or_default(),
        ]);
    }
    let fitted = all.iter().filter(|(_, row)| row.fitted.is_some()).count();
    let predicted = all.len() - fitted;
    format!(
        "{}\n{fitted} of {} rows were fitted to, {predicted} are predictions; {off} off by more \
         than {:.0} %\n",
        table.text(),
        all.len(),
        TOLERANCE * 100.0
    )
}
