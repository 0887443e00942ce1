//! What a component is and what it wants, without starting it as a policy: no
//! configuration and no grant is needed.

use std::collections::BTreeSet;

use aio_core::{Grant, Hook};
use aio_policy::{
    Limits, LoadError, PolicyRuntime, PolicySource, Prepared, SignatureError, signer,
};
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
    /// SHA-256 of the whole file, its signature included, in hexadecimal.
    pub digest: String,
    /// Bytes of the component.
    pub bytes: u64,
    /// Whether it is signed, and by which key.
    pub signature: Signature,
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

/// Whether a component is signed. That a signature holds says that the file is what
/// the key has signed; whether to trust the key is for each host to say.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case", tag = "status")]
pub enum Signature {
    /// It is part of the binary and needs none.
    Builtin,
    /// It has none.
    None,
    /// It has one that holds.
    Holds {
        /// The signer's public key, in hexadecimal.
        key: String,
    },
    /// It has one that does not hold: no host that requires one takes it.
    Broken {
        /// What is wrong with it, and what to do about it.
        reason: String,
    },
}

impl Signature {
    fn of(source: &PolicySource, limits: &Limits) -> Result<Self, LoadError> {
        if matches!(source, PolicySource::Builtin(_)) {
            return Ok(Self::Builtin);
        }
        Ok(match signer(&source.read(limits.component_bytes)?) {
            Ok(key) => Self::Holds { key: key.to_string() },
            Err(SignatureError::Unsigned) => Self::None,
            Err(error) => Self::Broken { reason: error.to_string() },
        })
    }
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
        signature: Signature::of(source, limits)?,
        contract: prepared.contract(),
        imports: prepared.import_names().to_vec(),
        grants: prepared.imports().clone(),
        other_exports: others.cloned().collect(),
        hooks,
        config_schema: serde_json::from_str(&said.config_schema).ok(),
        limits: limits.clone(),
    })
}
