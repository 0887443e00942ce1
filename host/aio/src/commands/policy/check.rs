//! `aio policy check`: whether a host would take a policy, and how it behaves.

use std::process::ExitCode;

use aio_policy_tools::{CheckOptions, Checked, Status};
use clap::Args;

use super::{Config, Subject, publish, quietly};
use crate::commands::policy_options::runtime;

/// Check a policy: would a host take it, and how does it behave?
///
/// Steps: it is a component; its imports and exports are the contract's; it is
/// small; it describes itself; it accepts its configuration; it decides in
/// situations of every day; it stands facts at the ends of their types; it answers
/// the same to the same, for the same fuel; its state is carried over, and a damaged
/// one does no harm. A warning is something that a host puts right; a failure is
/// something that it would refuse, or answer with the safe plan.
#[derive(Args)]
#[command(after_help = "\
Examples:
  aio policy check mine.wasm
  aio policy check mine.wasm --grant prompt-text --policy-config '{\"words\":[\"fn\"]}'
  aio policy check mine.wasm --json | jq -r '.steps[] | select(.status == \"failed\") | .message'

The tiers of the situations are called qwen2.5-coder-0.5b and qwen2.5-coder-1.5b; where
there is only one, or there are others, a policy may refuse to start.
Exit code: 0 if no step failed, 1 if one did.")]
pub(super) struct CheckArgs {
    #[command(flatten)]
    subject: Subject,
    #[command(flatten)]
    config: Config,
    /// Print the steps as JSON (schema aio-policy-check/1)
    #[arg(long)]
    json: bool,
}

/// Runs the command.
pub(super) fn run(args: &CheckArgs) -> anyhow::Result<ExitCode> {
    let source = args.subject.source()?;
    let options = CheckOptions {
        config: args.config.text()?,
        limits: args.subject.limits()?,
        grants: args.config.grants(),
    };
    let runtime = runtime()?;
    let checked = quietly(|| aio_policy_tools::check(&runtime, &source, &options));
    publish(&checked, args.json, || text(&checked))?;
    Ok(if checked.passed { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn text(checked: &Checked) -> String {
    let mut text = String::new();
    for step in &checked.steps {
        let status = match step.status {
            Status::Ok => "ok",
            Status::Skipped => "skipped",
            Status::Warning => "warning",
            Status::Failed => "FAILED",
        };
        let name = step.step.to_string();
        text += &format!("{status:<8} {name:<14} {}\n", step.message);
        if step.status > Status::Skipped {
            for detail in &step.details {
                text += &format!("{:24}{detail}\n", "");
            }
        }
    }
    let count = |status| checked.steps.iter().filter(|step| step.status == status).count();
    let (failed, warnings) = (count(Status::Failed), count(Status::Warning));
    let verdict = match (failed, warnings) {
        (0, 0) => "nothing to say against it".to_owned(),
        (0, warnings) => format!("a host takes it; warnings: {warnings}"),
        (failed, _) => format!("steps that failed: {failed}"),
    };
    text + &format!("\n{}: {verdict}\n", checked.policy)
}
