//! `aio bench paper`: the paper's deployments and ours on simulated hardware.

use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::process::ExitCode;

use aio_bench::paper::{self, PaperOptions};
use aio_engine::device::DeviceOptions;
use aio_serve::TierSource;
use anyhow::{Context, anyhow};
use clap::Args;

use super::progress::BenchProgress;
use super::{prepare, publish};
use crate::commands::open_device;
use crate::commands::sources::tier_sources;
use crate::terminal;

/// Put the A-IO paper's deployments and ours on simulated Ascend 910Bs
///
/// Two small models act: their tokens are real, and drafts are accepted as often as they
/// really are. The paper's models, openPangu 1B and 7B, are costed, by profiles of the
/// hardware that `aio device check` holds against published figures. Every figure of ours
/// stands beside the paper's where it has one. Nothing is measured, so it may run beside
/// other work. Exit code 1 if an answer depends on how it was drafted.
#[derive(Args)]
#[command(after_help = "\
Examples:
  aio bench paper
  aio bench paper --out report          # paper.html, paper.json
  aio bench paper --count 10 --max-tokens 128 --json | jq '.explanations'
  aio bench paper --data ~/evaluation   # humaneval.jsonl, spec_bench.jsonl, gsm8k.jsonl")]
pub(super) struct PaperArgs {
    /// The models that act, small and large, with the same tokenizer
    #[arg(
        long, value_name = "SMALL,LARGE", value_delimiter = ',', num_args = 2,
        default_values = ["qwen2.5-coder-0.5b", "qwen2.5-coder-1.5b"]
    )]
    tiers: Vec<String>,
    /// Folder with humaneval.jsonl, spec_bench.jsonl and gsm8k.jsonl; where they are not
    /// there, a few prompts that are part of this program are answered
    #[arg(long, value_name = "DIR", default_value = "../shared/data")]
    data: PathBuf,
    /// Tokens of context that prompts stand at the end of; of all but 512 of them only the
    /// costs are there
    #[arg(
        long, value_name = "TOKENS", value_delimiter = ',', default_values_t = paper::CONTEXTS
    )]
    context: Vec<usize>,
    /// Prompts of each kind: code, questions and maths
    #[arg(long, value_name = "N", default_value_t = 3)]
    count: usize,
    /// Most tokens of an answer
    #[arg(long, value_name = "N", default_value_t = 64)]
    max_tokens: usize,
    /// Threads that compute the tokens (default: one for each physical core)
    #[arg(long, value_name = "N", value_parser = crate::commands::at_least_one)]
    threads: Option<NonZeroUsize>,
    /// Folder for the report as JSON and as a page
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// Print the report as JSON instead of tables
    #[arg(long)]
    json: bool,
}

/// Runs the command.
pub(super) fn run(args: PaperArgs) -> anyhow::Result<ExitCode> {
    let PaperArgs { data, context: contexts, count, max_tokens, .. } = args;
    let options = PaperOptions { data, contexts, count, max_tokens };
    options.check()?;
    let device = open_device("cpu", DeviceOptions { threads: args.threads })?;
    prepare(args.out.as_deref())?;
    let sources = tier_sources(&args.tiers)?;
    let models: [TierSource; 2] = sources
        .try_into()
        .map_err(|_| anyhow!("name two models with --tiers, the small one first"))?;
    let report = paper::run(&models, device, &options, &mut BenchProgress::default())?;
    if let Some(folder) = &args.out {
        let path = folder.join("paper.html");
        std::fs::write(&path, report.page()?)
            .with_context(|| format!("cannot write {}", path.display()))?;
        eprintln!("wrote {}", path.display());
    }
    publish(&report, &report.text(), args.json, args.out.as_deref(), "paper", &[])?;
    if report.mismatches > 0 {
        let times = report.mismatches;
        terminal::complain(&anyhow!("{times} answers depend on how they were drafted"));
        return Ok(ExitCode::FAILURE);
    }
    Ok(ExitCode::SUCCESS)
}
