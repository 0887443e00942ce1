//! `aio policy inspect`: what a component is and what it wants.

use std::process::ExitCode;

use aio_bench::Table;
use aio_policy_tools::{Inspection, Signature};
use clap::Args;
use serde_json::Value;

use super::{Subject, publish};
use crate::commands::policy_options::runtime;

/// Show what a policy is: identity, signature, imports, hooks, configuration, limits
///
/// Nothing needs to be granted or configured for that.
#[derive(Args)]
#[command(after_help = "\
Examples:
  aio policy inspect aio
  aio policy inspect mine.wasm
  aio policy inspect mine.wasm --json | jq .config_schema.properties")]
pub(super) struct InspectArgs {
    #[command(flatten)]
    subject: Subject,
    /// Print it as JSON (schema aio-policy-inspect/1)
    #[arg(long)]
    json: bool,
}

/// Runs the command.
pub(super) fn run(args: &InspectArgs) -> anyhow::Result<ExitCode> {
    let (source, limits) = (args.subject.source()?, args.subject.limits()?);
    let inspection = aio_policy_tools::inspect(&runtime()?, &source, &limits)?;
    publish(&inspection, args.json, || text(&inspection))?;
    Ok(ExitCode::SUCCESS)
}

fn text(of: &Inspection) -> String {
    let or_none = |items: Vec<String>| {
        if items.is_empty() { "none".to_owned() } else { items.join(", ") }
    };
    let said = |text: &str| if text.is_empty() { "(it says none)" } else { text }.to_owned();
    let grants: Vec<_> = of.grants.iter().map(|grant| format!("--grant {grant}")).collect();
    let hooks = of.hooks.iter().map(ToString::to_string).collect();
    let mut rows = vec![
        vec!["name".to_owned(), of.name.clone()],
        vec!["version".into(), said(&of.version)],
        vec!["summary".into(), said(&of.summary)],
        vec!["digest".into(), format!("sha256:{}", of.digest)],
        vec!["size".into(), format!("{} bytes", of.bytes)],
        vec!["signature".into(), signature(&of.signature)],
        vec!["contract".into(), of.contract.into()],
        vec!["imports".into(), or_none(of.imports.clone())],
        vec!["must be granted".into(), or_none(grants)],
        vec!["hooks".into(), or_none(hooks)],
    ];
    if !of.other_exports.is_empty() {
        rows.push(vec!["other exports".into(), of.other_exports.join(", ")]);
    }
    let schema = match &of.config_schema {
        Some(schema) => format!("{schema:#}"),
        None => "none given".into(),
    };
    let table: Table = rows.into_iter().collect();
    format!("{}\nConfiguration:\n{schema}\n\nLimits:\n{}", table.text(), limits(of))
}

fn signature(of: &Signature) -> String {
    match of {
        Signature::Builtin => "none needed: it is part of this program".into(),
        Signature::None => "none".into(),
        Signature::Holds { key } => format!("by the key {key}"),
        Signature::Broken { reason } => format!("does not hold: {reason}"),
    }
}

/// The limits as they are written for `--policy-limits`.
fn limits(of: &Inspection) -> String {
    let Ok(Value::Object(fields)) = serde_json::to_value(&of.limits) else { return String::new() };
    let rows = fields.into_iter().map(|(name, value)| [name, value.to_string()]);
    rows.collect::<Table>().right(|column| column == 1).text()
}
