//! Running cases: each on an instance of its own.

use std::collections::BTreeSet;

use aio_core::{Grant, HostInfo};
use aio_policy::{Limits, LoadedPolicy, PolicyRuntime, Prepared, from_hex};
use serde::Serialize;
use serde_json::{Value, json};

use super::expect::differences;
use super::facts::finished;
use super::{Case, CaseCall, State};
use crate::situation::{Answer, Call, Given, Subject, ask};

/// The form of [`Tested`] as JSON.
pub const TEST_SCHEMA: &str = "aio-policy-test/1";

/// What came of all cases.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Tested {
    /// [`TEST_SCHEMA`].
    pub schema: &'static str,
    /// What the policy's source is called.
    pub policy: String,
    /// SHA-256 of the component.
    pub digest: String,
    /// Cases that passed.
    pub passed: usize,
    /// Cases that did not.
    pub failed: usize,
    /// Each of them.
    pub cases: Vec<CaseReport>,
}

/// What came of one case.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct CaseReport {
    /// The file that it stands in.
    pub file: String,
    /// What it is called.
    pub name: String,
    /// Why it failed, one line for each difference; empty when it passed.
    pub problems: Vec<String>,
    /// Fuel that its calls took.
    pub fuel: u64,
}

/// Runs the cases of each file (its name, and what it holds) in order. A policy
/// is lent what its cases grant and what it may import.
pub fn run_cases(
    runtime: &PolicyRuntime,
    prepared: &Prepared,
    limits: &Limits,
    files: &[(String, Vec<Case>)],
) -> Tested {
    let grants = prepared.imports();
    let run = |(file, case): (&String, &Case)| {
        let mut report = CaseReport {
            file: file.clone(),
            name: case.name.clone(),
            problems: Vec::new(),
            fuel: 0,
        };
        if let Err(problem) = Running::run(runtime, prepared, limits, grants, case, &mut report) {
            report.problems.push(problem);
        }
        report
    };
    let all = files.iter().flat_map(|(file, cases)| cases.iter().map(move |case| (file, case)));
    let cases: Vec<CaseReport> = all.map(run).collect();
    let failed = cases.iter().filter(|case| !case.problems.is_empty()).count();
    Tested {
        schema: TEST_SCHEMA,
        policy: prepared.name().to_owned(),
        digest: prepared.digest().to_owned(),
        passed: cases.len() - failed,
        failed,
        cases,
    }
}

/// A case under way.
struct Running<'a> {
    subject: Subject<'a>,
    host: HostInfo,
    policy: LoadedPolicy,
}

impl<'a> Running<'a> {
    fn run(
        runtime: &'a PolicyRuntime,
        prepared: &'a Prepared,
        limits: &'a Limits,
        grants: &'a BTreeSet<Grant>,
        case: &Case,
        report: &mut CaseReport,
    ) -> Result<(), String> {
        let config = case.config.as_ref().map(Value::to_string);
        let subject = Subject { runtime, prepared, config: config.as_deref(), limits, grants };
        let host = case.host.full()?;
        let carried = case.carried.as_ref().map(bytes);
        let policy = subject.start(host.clone(), carried).map_err(|error| error.to_string())?;
        let mut running = Running { subject, host, policy };
        for (i, call) in case.calls.iter().enumerate() {
            let (what, given) =
                running.call(call).map_err(|problem| format!("call {}: {problem}", i + 1))?;
            report.fuel += given.fuel;
            let place = format!("call {} ({what})", i + 1);
            let problems = problems(call, &given);
            report
                .problems
                .extend(problems.into_iter().map(|problem| format!("{place}: {problem}")));
        }
        Ok(())
    }

    /// Makes the call, which is of exactly one hook.
    fn call(&mut self, call: &CaseCall) -> Result<(&'static str, Given), String> {
        let (what, made) = if let Some(facts) = &call.plan {
            ("plan", facts.call(call.granted.as_ref(), &self.host)?)
        } else if let Some(facts) = &call.rounds {
            ("rounds", facts.call(&self.host)?)
        } else if let Some(outcomes) = &call.finished {
            ("finished", finished(outcomes, &self.host)?)
        } else if call.reload.is_some() {
            ("reload", Call::Snapshot)
        } else {
            ("snapshot", Call::Snapshot)
        };
        let given = ask(&mut self.policy, &made);
        if call.reload.is_some() {
            let state = match &given.answer {
                Answer::State(state) => state.clone(),
                _ => None,
            };
            self.policy = self
                .subject
                .start(self.host.clone(), state)
                .map_err(|error| format!("it does not start with its own state: {error}"))?;
        }
        Ok((what, given))
    }
}

fn bytes(state: &State) -> Vec<u8> {
    match state {
        State::Text(text) => text.clone().into_bytes(),
        // What is no hexadecimal text was refused when the file was read.
        State::Hex { hex } => from_hex(hex).unwrap_or_default(),
    }
}

/// In what a call is not as its case expects.
fn problems(call: &CaseCall, given: &Given) -> Vec<String> {
    let mut problems = Vec::new();
    match call.fails {
        None => problems.extend(given.failures.iter().map(ToString::to_string)),
        Some(kind) if given.failures.iter().any(|failure| failure.kind == kind) => {}
        Some(kind) => {
            let kind = json!(kind);
            let got = match given.failures.first() {
                Some(failure) => format!("{} ({failure})", json!(failure.kind)),
                None => "no failure".into(),
            };
            problems.push(format!("expected a failure of kind {kind}, got {got}"));
        }
    }
    if let Some(expected) = &call.expect {
        let got = as_json(&given.answer);
        problems.extend(differences(expected, &got).into_iter().map(|difference| {
            let place = if difference.place.is_empty() { "answer" } else { &difference.place };
            format!("{place}: expected {}, got {}", difference.expected, difference.got)
        }));
    }
    problems
}

fn as_json(answer: &Answer) -> Value {
    match answer {
        Answer::State(state) => {
            let state = state.as_deref().unwrap_or_default();
            json!({"bytes": state.len(), "text": std::str::from_utf8(state).ok()})
        }
        Answer::Nothing => json!({}),
        // Plain records of numbers and texts always have a JSON form.
        other => serde_json::to_value(other).unwrap_or_default(),
    }
}
