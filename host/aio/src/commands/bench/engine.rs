//! `aio bench engine`: what passes cost.

use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::process::ExitCode;

use aio_bench::engine::{self, EngineOptions};
use aio_engine::device::DeviceOptions;
use clap::Args;

use super::progress::BenchProgress;
use super::{prepare, publish};
use crate::commands::open_device;
use crate::commands::sources::tier_sources;

/// Measure prefill, decode, and what a pass of n rows costs
///
/// The verify curve is the point: drafting pays when a pass that checks several
/// tokens costs little more than a pass for one. Beside every decode figure
/// stands how much of the machine's read bandwidth it uses.
#[derive(Args)]
#[command(after_help = "\
Examples:
  aio bench engine --tiers smollm2-135m --rounds 3 --context 512
  aio bench engine --vs ~/llama.cpp/build/bin/llama-bench --out report
  aio bench engine --tiers model.gguf --rows 1,2,4,8 --json | jq '.tiers[].curves'

Files written to --out: engine.json, and engine-NAME.svg for each model.
The peer is run in both of its modes (weights repacked, and as in the file), and
the better one is what we are compared with.")]
pub(super) struct EngineArgs {
    /// The models: catalogue names or GGUF files, separated by commas
    #[arg(long, value_delimiter = ',', value_name = "MODELS")]
    tiers: Vec<String>,
    /// The device that runs them
    #[arg(long, default_value = aio_engine::device::DEFAULT)]
    device: String,
    /// Threads, ours and the peer's (default: one for each physical core)
    #[arg(long, value_name = "N", value_parser = crate::commands::at_least_one)]
    threads: Option<NonZeroUsize>,
    /// llama.cpp's llama-bench, to measure in turns with us
    #[arg(long, value_name = "LLAMA-BENCH")]
    vs: Option<PathBuf>,
    /// Rounds; figures are medians over them
    #[arg(long, value_name = "N", default_value_t = 5)]
    rounds: usize,
    /// Tokens in the context of decoding and of the verify curve
    #[arg(long, value_delimiter = ',', value_name = "TOKENS", default_value = "512,4096")]
    context: Vec<usize>,
    /// Rows of the verify curve's passes
    #[arg(
        long,
        value_delimiter = ',',
        value_name = "ROWS",
        default_value = "1,2,3,4,6,8,12,16,32,64"
    )]
    rows: Vec<usize>,
    /// Tokens of the prefill
    #[arg(long, value_name = "TOKENS", default_value_t = 512)]
    prefill: usize,
    /// Tokens to decode, one by one
    #[arg(long, value_name = "TOKENS", default_value_t = 64)]
    decode: usize,
    /// Folder for the report as JSON and pictures
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// Print the report as JSON instead of tables
    #[arg(long)]
    json: bool,
}

/// Runs the command.
pub(super) fn run(args: EngineArgs) -> anyhow::Result<ExitCode> {
    let device = open_device(&args.device, DeviceOptions { threads: args.threads })?;
    let options = EngineOptions {
        threads: args.threads,
        peer: args.vs,
        rounds: args.rounds,
        contexts: args.context,
        rows: args.rows,
        prefill: args.prefill,
        decode: args.decode,
    };
    options.check()?;
    prepare(args.out.as_deref())?;
    let sources = tier_sources(&args.tiers)?;
    let report = engine::run(&sources, &*device, options, &mut BenchProgress::default())?;
    let pictures: Vec<_> =
        report.plots().into_iter().map(|(tier, svg)| (format!("engine-{tier}"), svg)).collect();
    publish(&report, &report.text(), args.json, args.out.as_deref(), "engine", &pictures)?;
    Ok(ExitCode::SUCCESS)
}
