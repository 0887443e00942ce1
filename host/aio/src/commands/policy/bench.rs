//! `aio policy bench`: what a policy's calls cost.

use std::process::ExitCode;

use aio_bench::Table;
use aio_bench::machine::Machine;
use aio_policy_tools::{BenchOptions, Benched, Row};
use clap::Args;
use serde::Serialize;

use super::{Config, Subject, publish, quietly};

/// Measure what a policy's calls cost, in time and in fuel
///
/// A simulated fleet of requests on two tiers with ten gears each asks it, with all
/// limits on. Nothing else should run meanwhile: the slowest one in a hundred calls
/// is as slow as what else the machine does.
#[derive(Args)]
#[command(after_help = "\
Examples:
  aio policy bench goodput
  aio policy bench aio --policy-config '{\"preset\":\"paper\"}' --calls 50000
  aio policy bench mine.wasm --json | jq '.rows[] | select(.what == \"plan\") | .nanoseconds'")]
pub(super) struct BenchArgs {
    #[command(flatten)]
    subject: Subject,
    #[command(flatten)]
    config: Config,
    /// Calls of plan, and of rounds for 1, 8 and 64 requests; others fewer
    #[arg(long, value_name = "N", default_value_t = 10_000)]
    calls: usize,
    /// Print the figures as JSON (schema aio-policy-bench/1)
    #[arg(long)]
    json: bool,
}

/// The figures, and where they were measured.
#[derive(Serialize)]
struct Report {
    #[serde(flatten)]
    benched: Benched,
    machine: Machine,
}

/// Runs the command.
pub(super) fn run(args: &BenchArgs) -> anyhow::Result<ExitCode> {
    let source = args.subject.source()?;
    let options = BenchOptions {
        calls: args.calls,
        config: args.config.text()?,
        limits: args.subject.limits()?,
        grants: args.config.grants(),
    };
    let benched = quietly(|| aio_policy_tools::bench(&source, &options))?;
    let report = Report { benched, machine: Machine::here() };
    publish(&report, args.json, || text(&report))?;
    Ok(ExitCode::SUCCESS)
}

fn text(Report { benched, machine }: &Report) -> String {
    let heading = ["call", "requests", "calls", "p50", "p90", "p99", "max", "fuel p50", "fuel p99"];
    let mut table = Table::new().right(|column| column > 0);
    table.row(heading);
    benched.rows.iter().for_each(|row| table.row(line(row)));
    let failures = benched.first_failure.as_ref().map_or(String::new(), |first| {
        let count = benched.failures;
        format!("\n{count} failures, so these figures say little; the first: {first}\n")
    });
    format!(
        "{} {}\n{}\n\n{}{failures}",
        benched.policy,
        benched.version,
        machine.line(),
        table.text()
    )
}

fn line(row: &Row) -> Vec<String> {
    let times = row.nanoseconds;
    let fuel = |of: fn(&aio_policy_tools::Spread) -> u64| {
        row.fuel.as_ref().map_or(String::new(), |fuel| of(fuel).to_string())
    };
    vec![
        row.what.to_string(),
        row.requests.map_or(String::new(), |requests| requests.to_string()),
        row.calls.to_string(),
        time(times.p50),
        time(times.p90),
        time(times.p99),
        time(times.max),
        fuel(|fuel| fuel.p50),
        fuel(|fuel| fuel.p99),
    ]
}

fn time(nanoseconds: u64) -> String {
    match nanoseconds {
        0..10_000_000 => format!("{:.2} µs", nanoseconds as f64 / 1e3),
        _ => format!("{:.1} ms", nanoseconds as f64 / 1e6),
    }
}
