//! `aio policy diff`: two policies side by side.

use std::process::ExitCode;

use aio_bench::Table;
use aio_policy::PolicySource;
use aio_policy_tools::{Change, Differences, Side};
use anyhow::Context;
use clap::Args;
use serde_json::Value;

use super::{publish, quietly};
use crate::commands::policy_options::{limits, runtime, text_or_file};
use crate::terminal;

/// Exit code of an error, as `diff` has it: 1 says that there are differences.
const ERROR: u8 = 2;

/// Most characters of a value in a table.
const CELL: usize = 60;

/// Compare two policies: what they are, what they want, what they answer
///
/// Both are put into the situations of `aio policy check`, and asked the same there.
#[derive(Args)]
#[command(after_help = "\
Examples:
  aio policy diff aio mine.wasm
  aio policy diff old.wasm new.wasm --json | jq '.answers[] | .situation'
  aio policy diff aio aio --config-b '{\"preset\":\"paper\"}'

Exit code: 0 if nothing differs, 1 if something does, 2 for an error. What the calls
cost in fuel is told, and is no difference.")]
pub(super) struct DiffArgs {
    /// The first policy: aio, fixed, goodput, or the path of a component (.wasm)
    a: String,
    /// The second policy
    b: String,
    /// The first policy's configuration: JSON, or @FILE
    #[arg(long, value_name = "JSON|@FILE")]
    config_a: Option<String>,
    /// The second policy's configuration
    #[arg(long, value_name = "JSON|@FILE")]
    config_b: Option<String>,
    /// What both may use, beside the defaults: JSON, or @FILE
    #[arg(long, value_name = "JSON|@FILE")]
    policy_limits: Option<String>,
    /// Print the differences as JSON (schema aio-policy-diff/1)
    #[arg(long)]
    json: bool,
}

/// Runs the command.
pub(super) fn run(args: &DiffArgs) -> ExitCode {
    match compare(args) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            terminal::complain(&error);
            ExitCode::from(ERROR)
        }
    }
}

fn compare(args: &DiffArgs) -> anyhow::Result<bool> {
    let a = side(&args.a, args.config_a.as_deref(), "--config-a")?;
    let b = side(&args.b, args.config_b.as_deref(), "--config-b")?;
    let limits = limits(args.policy_limits.as_deref())?;
    let runtime = runtime()?;
    let differences = quietly(|| aio_policy_tools::diff(&runtime, &a, &b, &limits))?;
    publish(&differences, args.json, || text(&differences, [&args.a, &args.b]))?;
    Ok(differences.same)
}

fn side(policy: &str, config: Option<&str>, option: &str) -> anyhow::Result<Side> {
    let config = config.map(|config| text_or_file(config, option)).transpose();
    let config = config.with_context(|| format!("{option} cannot be used"))?;
    Ok(Side { source: PolicySource::from_argument(policy)?, config: config.map(|(text, _)| text) })
}

fn text(of: &Differences, [a, b]: [&str; 2]) -> String {
    let mut text = String::new();
    let mut part =
        |title: &str, heading: Vec<String>, rows: Vec<Vec<String>>, right: fn(usize) -> bool| {
            if !rows.is_empty() {
                let table: Table = std::iter::once(heading).chain(rows).collect();
                text += &format!("{title}\n{}\n", table.right(right).text());
            }
        };
    let words: fn(usize) -> bool = |_| false;
    let numbers: fn(usize) -> bool = |column| column > 0;
    let heading = |columns: &[&str]| {
        columns.iter().chain(&[a, b]).map(|column| (*column).to_owned()).collect::<Vec<_>>()
    };
    let change = |change: &Change| vec![change.what.clone(), cell(&change.a), cell(&change.b)];
    part("Component", heading(&[""]), of.component.iter().map(change).collect(), words);
    part("Configuration", heading(&["field"]), of.config.iter().map(change).collect(), words);
    let answers = of.answers.iter().map(|change| {
        let times = if change.times > 1 { format!(" ({}x)", change.times) } else { String::new() };
        vec![
            change.situation.clone(),
            format!("{} {}{times}", change.hook, change.field),
            cell(&change.a),
            cell(&change.b),
        ]
    });
    part("Answers", heading(&["situation", "field"]), answers.collect(), words);
    let units = |units: Option<f64>| units.map_or("none".to_owned(), |units| format!("{units:.0}"));
    let fuel = of.fuel.iter().map(|of| vec![of.hook.to_string(), units(of.a), units(of.b)]);
    part("Fuel of a call, on average", heading(&["hook"]), fuel.collect(), numbers);
    text + if of.same { "nothing differs\n" } else { "they differ\n" }
}

/// A value on one line, texts without their quotes.
fn cell(value: &Value) -> String {
    let text = match value {
        Value::Null => "none".to_owned(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    };
    if text.chars().count() <= CELL {
        return text;
    }
    text.chars().take(CELL - 1).chain(['…']).collect()
}
