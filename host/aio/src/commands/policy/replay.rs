//! `aio policy replay`: what policies answer about what was recorded.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::process::ExitCode;

use aio_bench::Table;
use aio_core::{Grant, HostInfo};
use aio_policy::{BUILTINS, PolicySource, Setup};
use aio_policy_tools::replay::{
    Candidate, Difference, Estimate, LIMITS_OF_ESTIMATES, PolicyReplay, ReplayOptions,
    ReplayReport, read, replay,
};
use anyhow::{anyhow, bail};
use clap::Args;

use super::publish;
use crate::commands::policy_options::{limits, runtime, text_or_file};
use crate::terminal;

/// Changes that are shown.
const CHANGES_SHOWN: usize = 12;
/// Differences that are shown.
const DIFFERENCES_SHOWN: usize = 5;

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
    publish(&report, args.json, || text(&report))?;
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

fn text(report: &ReplayReport) -> String {
    let ReplayReport { requests, calls, recorded, policies, notes, .. } = report;
    let names: BTreeSet<String> =
        recorded.iter().map(|of| format!("{} {}", of.name, of.version)).collect();
    let names: Vec<String> = names.into_iter().collect();
    let mut text = format!("{requests} requests, {calls} calls recorded of {}\n", names.join(", "));
    for policy in policies {
        text += &format!("\n{}{}{}", name(policy), repeated(policy), compared(policy));
    }
    let estimates = policies.iter().any(|policy| policy.estimate.is_some());
    let limits = LIMITS_OF_ESTIMATES.iter().filter(|_| estimates);
    let notes: Vec<&str> = notes.iter().map(String::as_str).chain(limits.copied()).collect();
    if !notes.is_empty() {
        text += "\nNotes\n";
        notes.iter().for_each(|note| text += &format!("  - {note}\n"));
    }
    text
}

fn name(of: &PolicyReplay) -> String {
    let version = of.identity.as_ref().map_or(String::new(), |identity| {
        let digest = identity.digest.get(..12).unwrap_or(&identity.digest);
        format!(": {} {} ({digest})", identity.name, identity.version)
    });
    format!("{}{version}\n", of.name)
}

/// What the recorded component answers now.
fn repeated(of: &PolicyReplay) -> String {
    let mut text = String::new();
    if of.repeated + of.not_asked > 0 {
        let again = of.repeated.saturating_sub(of.differences.len());
        text += &format!(
            "  the recorded component: {again} of {} calls answered the same, bit for bit\n",
            of.repeated
        );
    }
    if of.not_asked > 0 {
        text += &format!("  {} calls were not made then: the policy was set aside\n", of.not_asked);
    }
    for Difference { line, hook, recorded, replayed } in
        of.differences.iter().take(DIFFERENCES_SHOWN)
    {
        text += &format!("  line {line}, {hook}:\n");
        for (when, answered) in [("then", recorded), ("now", replayed)] {
            let failures: String =
                answered.failures.iter().map(|failure| format!(" [{failure}]")).collect();
            text += &format!("    {when} {}, fuel {}{failures}\n", answered.answer, answered.fuel);
        }
    }
    text
}

/// What another component, or another configuration, would have decided.
fn compared(of: &PolicyReplay) -> String {
    let mut text = String::new();
    if of.compared > 0 {
        let (alike, compared) = (of.alike, of.compared);
        text += &format!("  {alike} of {compared} requests would have been decided alike\n");
    }
    if !of.changes.is_empty() {
        let mut table = Table::new().right(|column| column == 0).indent(2);
        table.row(["times", "of", "recorded", "replayed"]);
        for change in of.changes.iter().take(CHANGES_SHOWN) {
            let times = change.times.to_string();
            table.row([times.as_str(), change.of, &change.recorded, &change.replayed]);
        }
        text += &table.text();
    }
    if let Some(more) = of.changes.len().checked_sub(CHANGES_SHOWN).filter(|&more| more > 0) {
        text += &format!("  and {more} other changes; --json has them all\n");
    }
    if let Some(failure) = of.failures.first() {
        text += &format!("  {} failures, the first: {failure}\n", of.failures.len());
    }
    text + &of.estimate.as_ref().map_or(String::new(), estimate)
}

fn estimate(of: &Estimate) -> String {
    let Estimate { requests, left_out, measured_seconds, recorded_seconds, replayed_seconds } = of;
    let mut text = String::new();
    if *requests > 0 {
        let factor = recorded_seconds / replayed_seconds;
        text += &format!(
            "  estimated for {requests} requests: {replayed_seconds:.2} s, {factor:.2} times as fast\n    \
             as the recorded decisions' {recorded_seconds:.2} s by the same estimate (measured \
             {measured_seconds:.2} s)\n"
        );
    }
    if *left_out > 0 {
        text += &format!(
            "  {left_out} requests cannot be estimated: nothing was measured that tells\n"
        );
    }
    text
}

#[cfg(test)]
mod tests {
    use aio_policy_tools::replay::{Answered, Change};

    use super::*;

    fn report(policy: PolicyReplay) -> ReplayReport {
        ReplayReport {
            schema: "aio-policy-replay/1",
            requests: 200,
            calls: 600,
            recorded: Vec::new(),
            policies: vec![policy],
            notes: vec!["the last line was cut off".into()],
        }
    }

    fn replayed(name: &str, change: impl FnOnce(&mut PolicyReplay)) -> PolicyReplay {
        let mut policy = PolicyReplay::default();
        policy.name.push_str(name);
        change(&mut policy);
        policy
    }

    #[test]
    fn what_was_not_answered_again_is_shown_up_to_a_bound() {
        let answered =
            |fuel| Answered { answer: serde_json::json!([]), failures: Vec::new(), fuel };
        let difference = |line| Difference {
            line,
            hook: "rounds",
            recorded: answered(7),
            replayed: answered(8),
        };
        let same = replayed("same", |policy| {
            policy.repeated = 600;
            policy.differences = (1..=DIFFERENCES_SHOWN + 1).map(difference).collect();
        });
        let text = text(&report(same));
        assert!(text.contains("594 of 600 calls answered the same, bit for bit\n"), "{text}");
        assert!(text.contains("  line 1, rounds:\n    then [], fuel 7\n    now [], fuel 8\n"));
        assert_eq!(text.matches(", rounds:").count(), DIFFERENCES_SHOWN, "{text}");
        assert!(text.ends_with("\nNotes\n  - the last line was cut off\n"), "{text}");
    }

    #[test]
    fn changes_line_up_and_an_estimate_says_what_it_cannot_know() {
        let change = |times| Change {
            of: "plan",
            recorded: "small, plain".into(),
            replayed: format!("large, lookup {times}"),
            times,
        };
        let other = replayed("other", |policy| {
            policy.compared = 200;
            policy.changes = (1..=CHANGES_SHOWN + 3).rev().map(change).collect();
            policy.estimate = Some(Estimate {
                requests: 150,
                left_out: 50,
                measured_seconds: 3.0,
                recorded_seconds: 4.0,
                replayed_seconds: 2.0,
            });
        });
        let text = text(&report(other));
        assert!(text.contains("  0 of 200 requests would have been decided alike\n"), "{text}");
        let table = "  times  of    recorded      replayed\n     \
                     15  plan  small, plain  large, lookup 15\n";
        assert!(text.contains(table), "{text}");
        assert!(text.contains("  and 3 other changes; --json has them all\n"), "{text}");
        assert!(
            text.contains("estimated for 150 requests: 2.00 s, 2.00 times as fast\n"),
            "{text}"
        );
        assert!(text.contains("  50 requests cannot be estimated"), "{text}");
        assert!(text.contains(LIMITS_OF_ESTIMATES[0]), "{text}");
    }
}
