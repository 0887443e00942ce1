//! `aio policy replay`: what policies answer about what was recorded.

use std::path::PathBuf;
use std::process::ExitCode;

use aio_core::{Grant, HostInfo};
use aio_policy::{BUILTINS, PolicySource, Setup};
use aio_policy_tools::replay::{Candidate, ReplayOptions, read, replay};
use anyhow::{anyhow, bail};
use clap::Args;

use super::publish;
use crate::commands::policy_options::{limits, runtime, text_or_file};
use crate::terminal;

/// Ask policies again what was recorded with `aio run --record`
///
/// The component that was recorded must give the same answers, bit for bit: exit
/// code 1 if it does not. Another one, or the same one configured otherwise, is
/// asked about the same facts; what it would have decided otherwise is shown, and
/// what that would have cost, by an estimate from the times and acceptances that
/// were recorded. No model is needed.
#[derive(Args)]
#[command(after_help = "\
Examples:
  aio run --policy goodput --record day.jsonl --chat
  aio policy replay day.jsonl                            # does goodput answer the same?
  aio policy replay day.jsonl --policy mine.wasm --policy fixed='{\"drafter\":\"lookup\"}'
  aio policy replay day.jsonl --policy mine.wasm --json | jq '.policies[].estimate'

Without --policy the recorded policies are asked, as far as they are part of this
program.")]
pub(super) struct ReplayArgs {
    /// The record
    #[arg(value_name = "FILE.jsonl")]
    record: PathBuf,
    /// Policies to ask: a name or a component, with a configuration after = (may be
    /// given several times)
    #[arg(long = "policy", value_name = "NAME|FILE[=JSON]")]
    policies: Vec<String>,
    /// Let policies see what was granted then: prompt-text, prompt-tokens, metadata
    #[arg(long, value_delimiter = ',', value_name = "GRANT")]
    grant: Vec<Grant>,
    /// What policies may use, beside the defaults: JSON, or @FILE
    #[arg(long, value_name = "JSON|@FILE")]
    policy_limits: Option<String>,
    /// Print the report as JSON (schema aio-policy-replay/1)
    #[arg(long)]
    json: bool,
}

/// Runs the command.
pub(super) fn run(args: &ReplayArgs) -> anyhow::Result<ExitCode> {
    let limits = limits(args.policy_limits.as_deref())?;
    let mut candidates =
        args.policies.iter().map(|p| candidate(p)).collect::<anyhow::Result<Vec<_>>>()?;
    let (runs, note) = read(&args.record)?;
    if candidates.is_empty() {
        let recorded = runs.iter().flat_map(|run| &run.generations);
        let mut names: Vec<&str> = recorded.map(|g| g.policy.name.as_str()).collect();
        names.sort_unstable();
        names.dedup();
        let part_of_us = names.iter().filter(|name| BUILTINS.contains(name));
        candidates = part_of_us.map(|name| candidate(name)).collect::<anyhow::Result<_>>()?;
        if candidates.is_empty() {
            bail!("{} was recorded, which is in a file: name it with --policy", names.join(", "));
        }
    }
    // Of the host each generation is told what the recorded one was told.
    let nowhere = HostInfo {
        version: String::new(),
        device: String::new(),
        tiers: Vec::new(),
        max_draft_length: 0,
        max_ngram: 0,
    };
    let setup = Setup::new(nowhere).grants(args.grant.iter().copied()).limits(limits);
    let runtime = runtime()?;
    let options = ReplayOptions { runtime: &runtime, setup: &setup };
    let mut report = replay(&runs, &candidates, &options)?;
    report.notes.extend(note);
    publish(&report, args.json, || report.text())?;
    let different = report.differences();
    if different > 0 {
        terminal::complain(&anyhow!(
            "{different} answers are not what the same component answered then; the report has them"
        ));
        return Ok(ExitCode::FAILURE);
    }
    Ok(ExitCode::SUCCESS)
}

fn candidate(argument: &str) -> anyhow::Result<Candidate> {
    let (policy, config) = match argument.split_once('=') {
        Some((policy, config)) => (policy, Some(text_or_file(config, "--policy")?.0)),
        None => (argument, None),
    };
    let source = PolicySource::from_argument(policy)?;
    let name = match &config {
        Some(config) => format!("{} {config}", source.name()),
        None => source.name(),
    };
    Ok(Candidate { name, source, config })
}
