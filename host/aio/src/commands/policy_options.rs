//! What an operator says about policies beside which one: grants, limits, where
//! learned state, compiled code and records of calls are kept.

use std::path::PathBuf;
use std::sync::Arc;

use aio_core::{Grant, HostInfo};
use aio_policy::{
    Limits, Options, PolicyRuntime, Recorder, RuntimeOptions, Setup, StateStore, TrustedKeys,
};
use anyhow::{Context, bail};
use clap::Args;

/// The options, as part of a command's.
#[derive(Debug, Clone, Default, Args)]
pub struct PolicyOptions {
    /// Let the policy see more than facts: prompt-text, prompt-tokens, metadata (may
    /// be given several times, or separated by commas)
    #[arg(long, value_delimiter = ',', value_name = "GRANT")]
    pub grant: Vec<Grant>,
    /// What the policy may use, beside the defaults: JSON, or @FILE, for example
    /// {"memory_bytes":134217728} for a policy that brings a script engine along
    #[arg(long, value_name = "JSON|@FILE")]
    pub policy_limits: Option<String>,
    /// Load the policy anew when its file changes
    #[arg(long)]
    pub watch: bool,
    /// Take no policy that is not signed with one of the keys in this file (`aio policy
    /// sign`), at the start, on a reload, as a canary or as a shadow; policies that are
    /// part of this program are taken. The file is read once, at the start
    #[arg(long, value_name = "KEYS")]
    pub require_signature: Option<PathBuf>,
    /// Append what the policy is asked and answers to a file, for `aio policy replay`
    #[arg(long, value_name = "FILE.jsonl")]
    pub record: Option<PathBuf>,
    /// The folder where policies keep what they learn (default: in the cache folder)
    #[arg(long, value_name = "DIR", conflicts_with = "no_state")]
    pub state: Option<PathBuf>,
    /// Forget what policies learn when the program ends
    #[arg(long)]
    pub no_state: bool,
}

impl PolicyOptions {
    /// What a policy is started with on this host.
    pub fn setup(&self, host: HostInfo, config: Option<String>, limits: Limits) -> Setup {
        let setup = Setup { config, ..Setup::new(host) };
        setup.grants(self.grant.iter().copied()).limits(limits)
    }

    /// How policies are replaced, and what is kept of them.
    ///
    /// # Errors
    /// When the record cannot be written.
    pub fn options(&self, limits: &Limits) -> anyhow::Result<Options> {
        let folder = match &self.state {
            Some(folder) => Some(folder.clone()),
            None if self.no_state => None,
            // Without a cache folder there is nowhere to remember anything.
            None => {
                aio_models::Cache::from_env().ok().map(|cache| cache.root().join("policy-state"))
            }
        };
        let store = folder.map(|folder| StateStore::new(folder, limits.snapshot_bytes));
        let recorder = match &self.record {
            Some(path) => {
                let recorder = Recorder::append(path)
                    .with_context(|| format!("cannot record to {}", path.display()))?;
                Some(Arc::new(recorder))
            }
            None => None,
        };
        Ok(Options { store, recorder, ..Options::default() })
    }

    /// A runtime that takes what is signed as is required, and keeps compiled code.
    ///
    /// # Errors
    /// When the trusted keys cannot be read, or this machine cannot run WebAssembly.
    pub fn runtime(&self) -> anyhow::Result<PolicyRuntime> {
        let trusted = self.require_signature.as_deref().map(TrustedKeys::read).transpose()?;
        start_runtime(trusted)
    }

    /// What a policy may use.
    ///
    /// # Errors
    /// When the limits cannot be read.
    pub fn limits(&self) -> anyhow::Result<Limits> {
        limits(self.policy_limits.as_deref())
    }
}

/// What a policy may use: the defaults, and what the argument of `--policy-limits`
/// has beside them.
///
/// # Errors
/// When the limits cannot be read.
pub fn limits(argument: Option<&str>) -> anyhow::Result<Limits> {
    let Some(argument) = argument else { return Ok(Limits::default()) };
    let (text, from) = text_or_file(argument, "--policy-limits")?;
    serde_json::from_str(&text)
        .with_context(|| format!("the policy's limits in {from} are not valid"))
}

/// A runtime that keeps compiled code in the cache folder, where there is one.
///
/// # Errors
/// When this machine cannot run WebAssembly.
pub fn runtime() -> anyhow::Result<PolicyRuntime> {
    start_runtime(None)
}

fn start_runtime(require_signature: Option<TrustedKeys>) -> anyhow::Result<PolicyRuntime> {
    let folder = aio_models::Cache::from_env().ok().map(|cache| cache.root().join("policy-code"));
    let cached =
        RuntimeOptions { code_cache: folder, require_signature, ..RuntimeOptions::default() };
    match PolicyRuntime::with(&cached) {
        Ok(runtime) => Ok(runtime),
        Err(error) if cached.code_cache.is_some() => {
            // A cache only saves time; a folder that cannot be written is no reason to stop.
            tracing::debug!("{error}");
            Ok(PolicyRuntime::with(&RuntimeOptions { code_cache: None, ..cached })?)
        }
        Err(error) => Err(error.into()),
    }
}

/// An argument's JSON: given, or read from the file after `@`; and where it stood.
///
/// # Errors
/// When the file cannot be read, or it is no JSON.
pub fn text_or_file(argument: &str, option: &str) -> anyhow::Result<(String, String)> {
    let (text, from) = match argument.strip_prefix('@') {
        Some(path) => {
            let text =
                std::fs::read_to_string(path).with_context(|| format!("cannot read {path}"))?;
            (text, path.to_owned())
        }
        None => (argument.to_owned(), option.to_owned()),
    };
    if let Err(error) = serde_json::from_str::<serde::de::IgnoredAny>(&text) {
        bail!("what {from} holds is no JSON: {error}");
    }
    Ok((text, from))
}
