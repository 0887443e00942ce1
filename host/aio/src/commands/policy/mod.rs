//! `aio policy`: tools for those who write policies, one module each, and what
//! their arguments have in common. Arguments to calls of `aio-policy-build` and
//! `aio-policy-tools`, and reports to tables and JSON; it must not know what is in
//! a component.

mod bench;
mod build;
mod check;
mod diff;
mod inspect;
mod keygen;
mod new;
mod replay;
mod sign;
mod test;
mod verify;

use std::collections::BTreeSet;
use std::path::Path;
use std::process::ExitCode;

use aio_core::Grant;
use aio_policy::{Limits, PolicySource};
use clap::{Args, Subcommand};
use serde::Serialize;

use super::policy_options::{limits, text_or_file};
use super::print;

/// Make, build, look at, check, measure, test and sign policies
///
/// None of this needs a model: a policy is asked about made-up facts, or about
/// those in its author's test cases.
#[derive(Args)]
#[command(after_help = "\
Examples:
  aio policy new mine
  aio policy build mine
  aio policy inspect aio
  aio policy check mine.wasm
  aio policy test mine.wasm cases
  aio policy bench mine.wasm
  aio policy diff aio mine.wasm
  aio policy replay day.jsonl --policy mine.wasm
  aio policy sign mine.wasm --key me.key")]
pub struct PolicyArgs {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    New(new::NewArgs),
    Build(build::BuildArgs),
    Inspect(inspect::InspectArgs),
    Check(check::CheckArgs),
    Test(test::TestArgs),
    Bench(bench::BenchArgs),
    Diff(diff::DiffArgs),
    Replay(replay::ReplayArgs),
    Keygen(keygen::KeygenArgs),
    Sign(sign::SignArgs),
    Verify(verify::VerifyArgs),
}

/// Runs the subcommand.
///
/// # Errors
/// One sentence on what was wrong and what to do about it.
pub fn run(args: PolicyArgs) -> anyhow::Result<ExitCode> {
    match args.command {
        Command::New(args) => new::run(&args),
        Command::Build(args) => build::run(&args),
        Command::Inspect(args) => inspect::run(&args),
        Command::Check(args) => check::run(&args),
        Command::Test(args) => test::run(&args),
        Command::Bench(args) => bench::run(&args),
        Command::Diff(args) => Ok(diff::run(&args)),
        Command::Replay(args) => replay::run(&args),
        Command::Keygen(args) => keygen::run(&args),
        Command::Sign(args) => sign::run(&args),
        Command::Verify(args) => verify::run(&args),
    }
}

/// Which policy, and what it may use.
#[derive(Args)]
struct Subject {
    /// The policy: aio, fixed, goodput, or the path of a component (.wasm)
    policy: String,
    /// What it may use, beside the defaults: JSON, or @FILE
    #[arg(long, value_name = "JSON|@FILE")]
    policy_limits: Option<String>,
}

impl Subject {
    fn source(&self) -> anyhow::Result<PolicySource> {
        Ok(PolicySource::from_argument(&self.policy)?)
    }

    fn limits(&self) -> anyhow::Result<Limits> {
        limits(self.policy_limits.as_deref())
    }
}

/// How it is configured, and what it may see.
#[derive(Args)]
struct Config {
    /// Its configuration: JSON, or @FILE
    #[arg(long, value_name = "JSON|@FILE")]
    policy_config: Option<String>,
    /// Let it see more than facts: prompt-text, prompt-tokens, metadata (may be given
    /// several times, or separated by commas)
    #[arg(long, value_delimiter = ',', value_name = "GRANT")]
    grant: Vec<Grant>,
}

impl Config {
    fn text(&self) -> anyhow::Result<Option<String>> {
        let Some(argument) = &self.policy_config else { return Ok(None) };
        Ok(Some(text_or_file(argument, "--policy-config")?.0))
    }

    fn grants(&self) -> BTreeSet<Grant> {
        self.grant.iter().copied().collect()
    }
}

/// Runs something without the log: what a policy does wrong is in the report, and
/// a hostile one does much. Whoever sets `AIO_LOG` has the log all the same.
fn quietly<R>(run: impl FnOnce() -> R) -> R {
    if std::env::var_os("AIO_LOG").is_some() {
        return run();
    }
    tracing::subscriber::with_default(tracing::subscriber::NoSubscriber::default(), run)
}

/// The bytes of a component of any size: what is too large, the host that is to run it says.
fn read_component(path: &Path) -> anyhow::Result<Vec<u8>> {
    Ok(PolicySource::File(path.to_owned()).read(u64::MAX)?.into_owned())
}

/// Prints a report for programs, or its text for people.
fn publish<R: Serialize>(
    report: &R,
    json: bool,
    text: impl FnOnce() -> String,
) -> anyhow::Result<()> {
    let text = if json { format!("{:#}\n", serde_json::to_value(report)?) } else { text() };
    print(&text)
}
