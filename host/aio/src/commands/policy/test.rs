//! `aio policy test`: a policy against its author's test cases.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use aio_core::Grant;
use aio_policy::Prepared;
use aio_policy_tools::{Case, Tested, cases, read_cases, run_cases};
use anyhow::{Context, bail};
use clap::Args;

use super::{Subject, print, publish, quietly};
use crate::commands::policy_options::runtime;

/// Run test cases: facts in, answer expected
///
/// No model is needed. A file (JSON) holds one case or a list of them; a folder
/// stands for the .json files in it.
#[derive(Args)]
#[command(after_help = "\
Examples:
  aio policy test mine.wasm cases/*.json
  aio policy test aio policies/aio/cases
  aio policy test mine.wasm cases --json | jq '.cases[] | select(.problems != [])'
  aio policy test --defaults          what facts are when they are left out

A case:
  {
    \"name\": \"long prompts go to the large tier\",
    \"config\": {\"preset\": \"paper\"},
    \"calls\": [
      {\"plan\": {\"prompt_tokens\": 3000, \"max_tokens\": 100},
       \"expect\": {\"decided\": {\"tier\": 1, \"draft\": {\"length\": {\"at-most\": 8}},
                              \"reason\": {\"contains\": \"long\"}}}},
      {\"rounds\": {\"requests\": [{\"request\": 1, \"lookup_match\": 5}]},
       \"expect\": [{\"request\": 1, \"action\": {\"draft\": {\"drafter\": \"lookup\"}}}]},
      {\"finished\": [{\"request\": 1, \"committed\": 90}]},
      {\"reload\": {}},
      {\"snapshot\": {}, \"expect\": {\"bytes\": {\"at-least\": 1}}}
    ]
  }

Beside name, config and calls a case may have `host` and `carried` (state, as a text
or as {\"hex\": \"00ff\"}). A call is one of plan (with `granted` beside it: prompt_text,
prompt_tokens, metadata), rounds, finished, snapshot, and reload (a new instance with
the state of the old one). Every field of facts may be left out. Of what is expected,
objects need only have the fields named; lists, numbers and texts are compared
exactly, unless {\"at-least\": N, \"at-most\": N} or {\"contains\": TEXT} stands there.
A failure of the policy fails the case, unless \"fails\" beside the call names its kind:
trap, timeout, memory, clamped, nonsense, set-aside.
Exit code: 0 if all cases passed, 1 if one failed or a file is no test case.")]
pub(super) struct TestArgs {
    #[command(flatten)]
    subject: Option<Subject>,
    /// Files of cases, or folders of them
    #[arg(value_name = "CASES")]
    cases: Vec<PathBuf>,
    /// Print the facts that a case leaves out, as JSON, and do nothing else
    #[arg(long, exclusive = true)]
    defaults: bool,
    /// Print the results as JSON (schema aio-policy-test/1)
    #[arg(long)]
    json: bool,
}

/// Runs the command.
pub(super) fn run(args: &TestArgs) -> anyhow::Result<ExitCode> {
    if args.defaults {
        print(&format!("{:#}\n", cases::defaults()))?;
        return Ok(ExitCode::SUCCESS);
    }
    let Some(subject) = &args.subject else {
        bail!("name a policy and its test cases, for example `aio policy test aio cases`");
    };
    if args.cases.is_empty() {
        bail!(
            "name the files or folders with test cases, for example `aio policy test {} cases`",
            subject.policy
        );
    }
    let (source, limits) = (subject.source()?, subject.limits()?);
    let cases = files(&args.cases)?.iter().map(|file| read(file)).collect::<Result<Vec<_>, _>>()?;
    let runtime = runtime()?;
    let prepared = Prepared::new(&runtime, &source, &limits, &Grant::ALL.into())?;
    let tested = quietly(|| run_cases(&runtime, &prepared, &limits, &cases));
    publish(&tested, args.json, || text(&tested))?;
    Ok(if tested.failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// The files that are named, and those in the folders that are.
fn files(named: &[PathBuf]) -> anyhow::Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for path in named {
        if !path.is_dir() {
            files.push(path.clone());
            continue;
        }
        let unreadable = || format!("cannot read the folder {}", path.display());
        let mut found = Vec::new();
        for entry in std::fs::read_dir(path).with_context(unreadable)? {
            let file = entry.with_context(unreadable)?.path();
            if file.extension().is_some_and(|extension| extension == "json") {
                found.push(file);
            }
        }
        if found.is_empty() {
            bail!("the folder {} has no .json file with test cases", path.display());
        }
        found.sort();
        files.extend(found);
    }
    Ok(files)
}

fn read(file: &Path) -> anyhow::Result<(String, Vec<Case>)> {
    let name = file.display().to_string();
    let text = std::fs::read_to_string(file).with_context(|| format!("cannot read {name}"))?;
    let cases = read_cases(&text).with_context(|| name.clone())?;
    Ok((name, cases))
}

fn text(tested: &Tested) -> String {
    let mut text = String::new();
    for case in &tested.cases {
        let status = if case.problems.is_empty() { "ok    " } else { "FAILED" };
        text += &format!("{status}  {}: {}\n", case.file, case.name);
        for problem in &case.problems {
            text += &format!("          {problem}\n");
        }
    }
    text + &format!("\n{}: {} passed, {} failed\n", tested.policy, tested.passed, tested.failed)
}
