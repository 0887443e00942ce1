//! `aio bench speculate`: what drafting buys.

use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::process::ExitCode;

use aio_bench::speculate::{self, Setting, SpeculateOptions};
use aio_engine::device::DeviceOptions;
use aio_serve::TierSource;
use anyhow::{anyhow, bail};
use clap::Args;

use super::progress::BenchProgress;
use super::{prepare, publish};
use crate::commands::open_device;
use crate::commands::sources::tier_sources;
use crate::terminal;

/// Measure what drafting buys on real prompts, and that it changes no token
///
/// Every prompt is answered greedily in every setting: plain, drafted by lookup
/// (short and long), and, with --draft, by a model; and by each --policy, which
/// learns from prompt to prompt. Exit code 1 if one setting
/// says another token than plain decoding. With --vs, llama.cpp's server answers
/// the same prompts in its own ways of drafting.
#[derive(Args)]
#[command(after_help = "\
Examples:
  aio bench speculate --target qwen2.5-coder-1.5b --draft qwen2.5-coder-0.5b \\
      --prompts edits.jsonl --prompts write.jsonl --count 20 --out report
  aio bench speculate --target qwen2.5-coder-1.5b --draft qwen2.5-coder-0.5b \\
      --prompts edits.jsonl,maths.jsonl --policy goodput --policy mine.wasm='{\"eager\":true}'
  aio bench speculate --target smollm2-135m --prompts questions.jsonl --count 3 --max-tokens 64
  aio bench speculate --target qwen2.5-coder-1.5b --prompts edits.jsonl \\
      --vs ~/llama.cpp/build/bin/llama-server --json | jq '.groups'

Prompt files are JSON Lines. A row is code to fix (declaration + buggy_solution, or
instruction + buggy), a file to change (instruction + before), code to complete
(prompt + entry_point), or text (prompt, question, or turns). FILE.jsonl:FIELD=VALUE
takes those rows alone whose field has that value.

Files written to --out: speculate.json and speculate.svg.")]
pub(super) struct SpeculateArgs {
    /// The model that answers: a catalogue name or a GGUF file
    #[arg(long, value_name = "MODEL")]
    target: String,
    /// A smaller model with the same tokenizer, to draft
    #[arg(long, value_name = "MODEL")]
    draft: Option<String>,
    /// Prompt files (may be given several times, or separated by commas)
    #[arg(long, required = true, value_delimiter = ',', value_name = "FILE.jsonl[:FIELD=VALUE]")]
    prompts: Vec<PathBuf>,
    /// Policies to measure beside the static settings: a name or a component, with a
    /// configuration after = (may be given several times)
    #[arg(long = "policy", value_name = "NAME|FILE[=JSON]")]
    policies: Vec<String>,
    /// Prompts in all, the same number from each file, evenly spread over its rows
    #[arg(long, value_name = "N", default_value_t = 20)]
    count: usize,
    /// Most tokens of an answer
    #[arg(long, value_name = "N", default_value_t = 256)]
    max_tokens: usize,
    /// Tokens of answers to earlier prompts that our lookup may draft from, each setting
    /// from its own answers; 0: from the prompt and the answer so far alone
    #[arg(long, value_name = "N", default_value_t = 16_384)]
    recent_answers: usize,
    /// Prompts that we and the peer answer in turns; the peer's server starts anew
    /// for each mode and turn
    #[arg(long, value_name = "N", default_value_t = 5)]
    block: usize,
    /// llama.cpp's llama-server, to measure in turns with us
    #[arg(long, value_name = "LLAMA-SERVER")]
    vs: Option<PathBuf>,
    /// The device that runs the models
    #[arg(long, default_value = aio_engine::device::DEFAULT)]
    device: String,
    /// Threads, ours and the peer's (default: one for each physical core)
    #[arg(long, value_name = "N", value_parser = crate::commands::at_least_one)]
    threads: Option<NonZeroUsize>,
    /// Folder for the report as JSON and a picture
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// Print the report as JSON instead of tables
    #[arg(long)]
    json: bool,
}

/// Runs the command.
pub(super) fn run(args: SpeculateArgs) -> anyhow::Result<ExitCode> {
    let device = open_device(&args.device, DeviceOptions { threads: args.threads })?;
    let policies =
        args.policies.iter().map(|p| Setting::policy(p)).collect::<Result<Vec<_>, _>>()?;
    let options = SpeculateOptions {
        prompts: args.prompts,
        policies,
        count: args.count,
        max_tokens: args.max_tokens,
        recent_tokens: args.recent_answers,
        block: args.block,
        peer: args.vs,
        threads: args.threads,
    };
    options.check()?;
    prepare(args.out.as_deref())?;
    let target = one(&args.target, "--target")?;
    let draft = args.draft.as_deref().map(|name| one(name, "--draft")).transpose()?;
    if draft.as_ref().is_some_and(|draft| draft.name == target.name) {
        bail!("{} cannot draft for itself; name a smaller model with --draft", target.name);
    }
    let progress = &mut BenchProgress::default();
    let report = speculate::run(&target, draft.as_ref(), &*device, &options, progress)?;
    let pictures = [("speculate".to_owned(), report.plot())];
    publish(&report, &report.text(), args.json, args.out.as_deref(), "speculate", &pictures)?;
    if report.mismatches > 0 {
        let times = report.mismatches;
        terminal::complain(&anyhow!(
            "{times} answers are not what plain decoding says; their prompts are in the report"
        ));
        return Ok(ExitCode::FAILURE);
    }
    Ok(ExitCode::SUCCESS)
}

/// The one model that `name` stands for.
fn one(name: &str, option: &str) -> anyhow::Result<TierSource> {
    let mut sources = tier_sources(&[name.to_owned()])?;
    match (sources.pop(), sources.is_empty()) {
        (Some(source), true) => Ok(source),
        _ => bail!("{name} is a set of models; name one of them with {option}"),
    }
}
