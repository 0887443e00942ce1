//! `aio bench`: measuring, beside a peer or another server where one is given.
//! Arguments to calls of `aio-bench`, and reports to text, JSON and pictures.

mod engine;
mod paper;
pub(super) mod progress;
mod serve;
mod speculate;

use std::path::Path;
use std::process::ExitCode;

use anyhow::Context;
use clap::{Args, Subcommand};
use serde::Serialize;

use super::print;

/// Measure how fast this machine runs models, and how servers answer
///
/// Everything is measured in one run, in turns, because shared machines drift:
/// only figures from the same run may be compared. Nothing else should run
/// meanwhile.
#[derive(Args)]
#[command(after_help = "\
Examples:
  aio bench engine --tiers qwen2.5-coder-1.5b --vs ~/llama.cpp/build/bin/llama-bench
  aio bench speculate --target qwen2.5-coder-1.5b --draft qwen2.5-coder-0.5b \\
      --prompts edits.jsonl --vs ~/llama.cpp/build/bin/llama-server --out report
  aio bench paper --out report
  aio bench serve --url http://127.0.0.1:8080 --prompts questions.jsonl --clients 1,2,4,8")]
pub struct BenchArgs {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    Engine(engine::EngineArgs),
    Speculate(speculate::SpeculateArgs),
    Paper(paper::PaperArgs),
    // Boxed: it has many more options than the others.
    Serve(Box<serve::ServeArgs>),
}

/// Runs the subcommand.
///
/// # Errors
/// One sentence on what was wrong and what to do about it.
pub fn run(args: BenchArgs) -> anyhow::Result<ExitCode> {
    match args.command {
        Command::Engine(args) => engine::run(args),
        Command::Speculate(args) => speculate::run(args),
        Command::Paper(args) => paper::run(args),
        Command::Serve(args) => serve::run(*args),
    }
}

/// Makes the folder for reports before anything is measured, so that a long run
/// does not end in an error about a folder.
fn prepare(out: Option<&Path>) -> anyhow::Result<()> {
    let Some(folder) = out else { return Ok(()) };
    std::fs::create_dir_all(folder)
        .with_context(|| format!("cannot make the folder {}", folder.display()))
}

/// Prints a report as text or JSON, and writes its files to the folder given.
fn publish<R: Serialize>(
    report: &R,
    text: &str,
    json: bool,
    out: Option<&Path>,
    name: &str,
    pictures: &[(String, String)],
) -> anyhow::Result<()> {
    let value = format!("{:#}\n", serde_json::to_value(report)?);
    if let Some(folder) = out {
        let write = |name: &str, contents: &str| {
            let path = folder.join(name);
            std::fs::write(&path, contents)
                .with_context(|| format!("cannot write {}", path.display()))?;
            eprintln!("wrote {}", path.display());
            anyhow::Ok(())
        };
        write(&format!("{name}.json"), &value)?;
        pictures.iter().try_for_each(|(name, svg)| write(&format!("{name}.svg"), svg))?;
    }
    print(if json { &value } else { text })
}
