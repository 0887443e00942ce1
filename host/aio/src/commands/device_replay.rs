//! `aio device replay`: recorded requests on simulated hardware, without weights.

use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::process::ExitCode;

use aio_bench::analytic::{AnalyticReport, SweepOptions, read_records, sweep};
use aio_engine::device::npu_sim::{SHIPPED, Simulation};
use clap::Args;

/// Put recorded requests on simulated hardware, without running weights
///
/// Records are what `aio run --json` prints, a line each: of every request which passes it
/// took, so that a cost model can tell what they would have taken elsewhere. What was
/// decided stays as it was. Requests are answered one at a time; thousands take seconds.
#[derive(Args)]
#[command(after_help = "\
Examples:
  aio run --json \"Name three colours\" >> records.jsonl
  aio device replay records.jsonl
  aio device replay records.jsonl --requests 5000 --rate 0.5
  aio device replay records.jsonl --on ascend-910b-hf=openpangu-1b+openpangu-7b@30000 \\
      --on my.toml=openpangu-1b+openpangu-7b --json | jq '.[].latency.p99'")]
pub struct ReplayArgs {
    /// Records, a line each
    #[arg(value_name = "FILE.jsonl")]
    records: PathBuf,
    /// The hardware, and whose costs the tiers are given (may be given several times;
    /// default: all profiles, with openpangu-1b and openpangu-7b)
    #[arg(long = "on", value_name = "PROFILE=MODEL+...[@TOKENS]")]
    hardware: Vec<String>,
    /// How many requests, the records over and over (default: each once)
    #[arg(long, value_name = "N", value_parser = crate::commands::at_least_one)]
    requests: Option<NonZeroUsize>,
    /// Requests a second, at random (default: each comes when the last one is answered)
    #[arg(long, value_name = "R", allow_negative_numbers = true)]
    rate: Option<f64>,
    /// Keys the random times of arrivals
    #[arg(long, value_name = "N", default_value_t = 0)]
    seed: u64,
    /// Print it as JSON
    #[arg(long)]
    json: bool,
}

/// Runs the command.
pub(super) fn run(args: &ReplayArgs) -> anyhow::Result<ExitCode> {
    let hardware: Vec<String> = if args.hardware.is_empty() {
        SHIPPED.map(|(name, _)| format!("{name}=openpangu-1b+openpangu-7b")).to_vec()
    } else {
        args.hardware.clone()
    };
    let parse = |text: &String| Simulation::parse(text.strip_prefix("npu-sim:").unwrap_or(text));
    let simulations = hardware.iter().map(parse).collect::<Result<Vec<_>, _>>()?;
    let records = read_records(&args.records)?;
    let requests = args.requests.map_or(records.len(), usize::from);
    let options = SweepOptions { requests, rate: args.rate, seed: args.seed };
    let reports = sweep(&records, &simulations, options)?;
    let text = if args.json {
        serde_json::to_string(&reports)? + "\n"
    } else {
        format!(
            "simulated: times are those of the hardware by its cost model, passes those of the \
             records; seconds\n{}",
            AnalyticReport::table(&reports)
        )
    };
    super::print(&text)?;
    Ok(ExitCode::SUCCESS)
}
