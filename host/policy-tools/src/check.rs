//! Whether a host would take a policy, and how the policy stands what a host may
//! tell it: a list of named steps, each with a sentence that says what to change.

mod behaviour;

use std::collections::BTreeSet;

use aio_core::{Grant, Hook};
use aio_policy::{
    Description, Limits, LoadError, LoadedPolicy, PolicyRuntime, PolicySource, Prepared,
    Step as LoadStep,
};
use serde::Serialize;

use crate::facts;
use crate::schema;
use crate::situation::Subject;

/// The form of [`Checked`] as JSON.
pub const CHECK_SCHEMA: &str = "aio-policy-check/1";

/// Bytes from which on a component is called large: compiling it takes seconds,
/// and so does the first start on a new machine.
const LARGE_BYTES: u64 = 4 * 1024 * 1024;

/// The steps, in order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Step {
    /// It is a component.
    Component,
    /// It imports nothing but what the contract offers and is granted.
    Imports,
    /// It exports hooks of the contract.
    Exports,
    /// It is small.
    Size,
    /// It says what it is, and what its configuration looks like.
    Describe,
    /// Its `init` accepts the configuration.
    Init,
    /// It decides in situations that every host meets.
    DryRun,
    /// It stands facts at the ends of their types.
    HostileFacts,
    /// It answers the same to the same.
    Determinism,
    /// Its state is carried over, and a damaged one does no harm.
    Snapshot,
}

impl Step {
    /// All there are.
    pub const ALL: [Self; 10] = [
        Self::Component,
        Self::Imports,
        Self::Exports,
        Self::Size,
        Self::Describe,
        Self::Init,
        Self::DryRun,
        Self::HostileFacts,
        Self::Determinism,
        Self::Snapshot,
    ];
}

impl std::fmt::Display for Step {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Component => "component",
            Self::Imports => "imports",
            Self::Exports => "exports",
            Self::Size => "size",
            Self::Describe => "describe",
            Self::Init => "init",
            Self::DryRun => "dry run",
            Self::HostileFacts => "hostile facts",
            Self::Determinism => "determinism",
            Self::Snapshot => "snapshot",
        })
    }
}

/// How a step ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Status {
    /// Nothing to say against it.
    Ok,
    /// It was not come to: an earlier step failed.
    Skipped,
    /// A host would take it, but its author should look at it.
    Warning,
    /// It must be changed.
    Failed,
}

/// One step.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct StepReport {
    /// Which.
    pub step: Step,
    /// How it ended.
    pub status: Status,
    /// One sentence on what was found, and on what to change.
    pub message: String,
    /// What there is to say beyond that: one sentence for each finding.
    pub details: Vec<String>,
}

impl StepReport {
    fn new(step: Step, status: Status, message: impl Into<String>) -> Self {
        Self { step, status, message: message.into(), details: Vec::new() }
    }

    fn ok(step: Step, message: impl Into<String>) -> Self {
        Self::new(step, Status::Ok, message)
    }

    fn details(mut self, details: Vec<String>) -> Self {
        self.details = details;
        self
    }
}

/// All steps of one policy.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Checked {
    /// [`CHECK_SCHEMA`].
    pub schema: &'static str,
    /// As it calls itself; else as its source is called.
    pub policy: String,
    /// SHA-256 of the component; `None` when there is no component.
    pub digest: Option<String>,
    /// Whether no step failed.
    pub passed: bool,
    /// Each of [`Step::ALL`], in order.
    pub steps: Vec<StepReport>,
}

/// What a policy is checked with.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct CheckOptions {
    /// Its configuration as JSON text; the policy's own default where absent.
    pub config: Option<String>,
    /// What it may use.
    pub limits: Limits,
    /// What it may import.
    pub grants: BTreeSet<Grant>,
}

/// Checks a policy. A step that fails is in the report; what cannot be tried
/// after it is skipped.
pub fn check(runtime: &PolicyRuntime, source: &PolicySource, options: &CheckOptions) -> Checked {
    let mut checked = Checked {
        schema: CHECK_SCHEMA,
        policy: source.name(),
        digest: None,
        passed: false,
        steps: Vec::new(),
    };
    steps(runtime, source, options, &mut checked);
    for step in Step::ALL.into_iter().skip(checked.steps.len()) {
        let message = "not tried, since a step before it failed";
        checked.steps.push(StepReport::new(step, Status::Skipped, message));
    }
    checked.passed = checked.steps.iter().all(|step| step.status != Status::Failed);
    checked
}

fn steps(
    runtime: &PolicyRuntime,
    source: &PolicySource,
    options: &CheckOptions,
    to: &mut Checked,
) -> Option<()> {
    // All grants, so that a missing one is told once and does not hide the rest.
    let all = Grant::ALL.into();
    let prepared = match Prepared::new(runtime, source, &options.limits, &all) {
        Ok(prepared) => prepared,
        Err(error) => {
            not_prepared(&error, &mut to.steps);
            return None;
        }
    };
    to.digest = Some(prepared.digest().to_owned());
    to.steps
        .push(StepReport::ok(Step::Component, format!("it is one, for {}", prepared.contract())));
    to.steps.push(imports(&prepared, &options.grants));

    // What it says comes before `init` and tells more of a wrong type.
    let said = prepared.describe(runtime, &options.limits);
    to.steps.push(exports(&prepared, said.as_ref().err()));
    to.steps.push(size(&prepared, &options.limits));
    let said = match said {
        Ok(said) => said,
        Err(LoadError::HookType { .. }) => return None,
        Err(error) => {
            to.steps.push(StepReport::new(Step::Describe, Status::Failed, error.to_string()));
            return None;
        }
    };
    if let Some(name) = said.as_ref().map(|said| &said.name).filter(|name| !name.is_empty()) {
        to.policy.clone_from(name);
    }
    to.steps.push(describe(said.as_ref(), prepared.hooks().contains(&Hook::Init)));

    let subject = Subject {
        runtime,
        prepared: &prepared,
        config: options.config.as_deref(),
        limits: &options.limits,
        grants: &all,
    };
    match subject.start(facts::two_tiers(), None) {
        Ok(policy) => to.steps.push(init(&policy, options)),
        Err(error) => {
            to.steps.push(StepReport::new(Step::Init, Status::Failed, init_error(&error, options)));
            return None;
        }
    }
    to.steps.extend(behaviour::steps(&subject));
    Some(())
}

/// Which of the first three steps it is that an error of preparing belongs to.
fn not_prepared(error: &LoadError, steps: &mut Vec<StepReport>) {
    let failed = |step| StepReport::new(step, Status::Failed, error.to_string());
    if error.step() != LoadStep::Check {
        steps.push(failed(Step::Component));
        return;
    }
    steps.push(StepReport::ok(Step::Component, "it is one"));
    if matches!(error, LoadError::NoHooks { .. } | LoadError::HookType { .. }) {
        steps.push(StepReport::ok(Step::Imports, "none beyond the contract"));
        steps.push(failed(Step::Exports));
    } else {
        steps.push(failed(Step::Imports));
    }
}

fn imports(prepared: &Prepared, grants: &BTreeSet<Grant>) -> StepReport {
    let list =
        |grants: &[Grant]| grants.iter().map(ToString::to_string).collect::<Vec<_>>().join(",");
    let wanted: Vec<Grant> = prepared.imports().iter().copied().collect();
    let missing: Vec<Grant> = prepared.imports().difference(grants).copied().collect();
    let unused: Vec<Grant> = grants.difference(prepared.imports()).copied().collect();
    let details = prepared.import_names().to_vec();
    let report = if !missing.is_empty() {
        let missing = list(&missing);
        let message = format!(
            "it wants {missing}, which was not granted: give --grant {missing} here and on every \
             host, or build it without"
        );
        StepReport::new(Step::Imports, Status::Failed, message)
    } else if !unused.is_empty() {
        let message =
            format!("it does not import {}: leave the grant out, here and on hosts", list(&unused));
        StepReport::new(Step::Imports, Status::Warning, message)
    } else if wanted.is_empty() {
        StepReport::ok(Step::Imports, "nothing that would have to be granted")
    } else {
        let wanted = list(&wanted);
        StepReport::ok(
            Step::Imports,
            format!("every host must grant it {wanted} (--grant {wanted})"),
        )
    };
    report.details(details)
}

fn exports(prepared: &Prepared, error: Option<&LoadError>) -> StepReport {
    if let Some(error @ LoadError::HookType { .. }) = error {
        return StepReport::new(Step::Exports, Status::Failed, error.to_string());
    }
    let hooks = prepared.hooks();
    let names: Vec<String> = hooks.iter().map(ToString::to_string).collect();
    let others: Vec<&String> =
        prepared.export_names().iter().filter(|name| !names.contains(name)).collect();
    // Interfaces have a slash in their names; a bare name is a hook that was meant.
    if let Some(other) = others.iter().find(|name| !name.contains('/')) {
        let message = format!(
            "it exports `{other}`, which is no hook and is never called: the hooks are {}",
            Hook::ALL.map(|hook| hook.to_string()).join(", ")
        );
        return StepReport::new(Step::Exports, Status::Warning, message).details(names);
    }
    if hooks.contains(&Hook::Snapshot) && !hooks.contains(&Hook::Init) {
        let message = "it exports `snapshot` without `init`, which is how the state would come \
                       back: export both or neither";
        return StepReport::new(Step::Exports, Status::Warning, message).details(names);
    }
    StepReport::ok(Step::Exports, names.join(", "))
}

fn size(prepared: &Prepared, limits: &Limits) -> StepReport {
    let bytes = prepared.bytes();
    if bytes > LARGE_BYTES {
        let message = format!(
            "{bytes} bytes (at most {} are allowed) take long to compile: build it with \
             optimisation for size, or expect its first start on a machine to take seconds",
            limits.component_bytes
        );
        return StepReport::new(Step::Size, Status::Warning, message);
    }
    StepReport::ok(Step::Size, format!("{bytes} bytes"))
}

fn describe(said: Option<&Description>, takes_config: bool) -> StepReport {
    let warning = |message: &str| StepReport::new(Step::Describe, Status::Warning, message);
    let Some(said) = said else {
        return warning("it does not say what it is: export `describe`, so that records name it");
    };
    let empty: Vec<&str> =
        [("name", &said.name), ("version", &said.version), ("summary", &said.summary)]
            .into_iter()
            .filter_map(|(field, text)| text.is_empty().then_some(field))
            .collect();
    if !empty.is_empty() {
        return warning(&format!("its description lacks {}: fill it in", empty.join(", ")));
    }
    let Ok(value) = serde_json::from_str(&said.config_schema) else {
        let message = "its config-schema is not JSON of at most 64 KiB: correct it, or give \"{}\" \
                       for a configuration of any form";
        return StepReport::new(Step::Describe, Status::Failed, message);
    };
    let problems = schema::problems(&value);
    if let Some(first) = problems.first() {
        let message = format!("its config-schema is no JSON Schema, correct it: {first}");
        let report = StepReport::new(Step::Describe, Status::Failed, message);
        return report.details(problems[1..].to_vec());
    }
    let fields = schema::fields(&value);
    if !takes_config && !fields.is_empty() {
        return warning("it describes a configuration, but exports no `init` to take one");
    }
    let names: Vec<&str> = fields.keys().map(String::as_str).collect();
    let fields = if names.is_empty() { "none named".into() } else { names.join(", ") };
    StepReport::ok(
        Step::Describe,
        format!("{} {}; configuration: {fields}", said.name, said.version),
    )
}

fn init(policy: &LoadedPolicy, options: &CheckOptions) -> StepReport {
    let given = options.config.as_ref();
    let unknown = || {
        let schema = serde_json::from_str(policy.config_schema()).ok()?;
        let config = serde_json::from_str(given?).ok()?;
        schema::unknown_field(&schema, &config)
    };
    if let Some(field) = unknown() {
        let message = format!(
            "it accepts the configuration, although its schema knows no field `{field}`: refuse \
             what is misspelt, or describe it"
        );
        return StepReport::new(Step::Init, Status::Warning, message);
    }
    let which = if given.is_some() { "the configuration given" } else { "no configuration" };
    StepReport::ok(Step::Init, format!("it starts with {which}"))
}

fn init_error(error: &LoadError, options: &CheckOptions) -> String {
    let needs_config = options.config.is_none() && matches!(error, LoadError::Refused { .. });
    let hint = if needs_config {
        " (it was given no configuration: give one with --policy-config)"
    } else {
        ""
    };
    format!("{error}{hint}")
}
