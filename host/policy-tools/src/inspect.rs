//! What a component is and what it wants, without starting it as a policy: no
//! configuration and no grant is needed.

use std::collections::BTreeSet;

use aio_core::{Grant, Hook};
use aio_policy::{Limits, LoadError, PolicyRuntime, PolicySource, Prepared};
use serde::Serialize;
use serde_json::Value;

/// The form of [`Inspection`] as JSON.
pub const INSPECT_SCHEMA: &str = "aio-policy-inspect/1";

/// A policy, as far as it can be told without asking it anything but what it is.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Inspection {
    /// [`INSPECT_SCHEMA`].
    pub schema: &'static str,
    /// As it calls itself; else as its source is called.
    pub name: String,
    /// As it says; empty when it says none.
    pub version: String,
    /// One sentence in its own words; may be empty.
    pub summary: String,
    /// SHA-256 of the component, in hexadecimal.
    pub digest: String,
    /// Bytes of the component.
    pub bytes: u64,
    /// The version of the contract that it speaks.
    pub contract: &'static str,
    /// All that it imports.
    pub imports: Vec<String>,
    /// What of that an operator must grant.
    pub grants: BTreeSet<Grant>,
    /// The contract's hooks that it exports.
    pub hooks: Vec<Hook>,
    /// What else it exports; the host does not look at it.
    pub other_exports: Vec<String>,
    /// JSON Schema of its configuration; `None` when it gives none that is JSON.
    pub config_schema: Option<Value>,
    /// What it may use.
    pub limits: Limits,
}

/// Looks at a policy.
///
/// # Errors
/// When it is no component of the contract, or does not say what it is within the
/// limits; one sentence that says what to change.
pub fn inspect(
    runtime: &PolicyRuntime,
    source: &PolicySource,
    limits: &Limits,
) -> Result<Inspection, LoadError> {
    // Looking at what it wants gives it nothing: no request is ever lent to it.
    let prepared = Prepared::new(runtime, source, limits, &Grant::ALL.into())?;
    let said = prepared.describe(runtime, limits)?.unwrap_or_default();
    let hooks = prepared.hooks();
    let is_hook = |name: &str| hooks.iter().any(|hook| hook.to_string() == name);
    let others = prepared.export_names().iter().filter(|name| !is_hook(name));
    Ok(Inspection {
        schema: INSPECT_SCHEMA,
        name: if said.name.is_empty() { prepared.name().to_owned() } else { said.name },
        version: said.version,
        summary: said.summary,
        digest: prepared.digest().to_owned(),
        bytes: prepared.bytes(),
        contract: prepared.contract(),
        imports: prepared.import_names().to_vec(),
        grants: prepared.imports().clone(),
        other_exports: others.cloned().collect(),
        hooks,
        config_schema: serde_json::from_str(&said.config_schema).ok(),
        limits: limits.clone(),
    })
}
