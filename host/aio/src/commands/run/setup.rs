//! From arguments to a [`Runner`]: fetch what is absent, open the tiers, load
//! the policy.

use aio_core::HostInfo;
use aio_engine::device::{self, DeviceOptions};
use aio_policy::{PolicyHost, PolicyRuntime, PolicySource, Setup};
use aio_serve::{Runner, Tiers};
use anyhow::{Context, bail};

use super::RunArgs;
use crate::commands::sources::tier_sources;

/// Everything that a request needs, ready.
pub(super) fn runner(args: &RunArgs) -> anyhow::Result<Runner> {
    let device = device::by_name(&args.device, DeviceOptions { threads: args.threads })
        .map_err(anyhow::Error::msg)?;
    let policy_source = PolicySource::from_argument(&args.policy)?;
    let config = policy_config(args)?;
    let sources = tier_sources(&args.tiers)?;
    let tiers = Tiers::open(&sources, &*device, args.context.map(|n| n as usize))?;
    let policy = policy(&policy_source, config, tiers.info().clone())?;
    Ok(Runner::new(tiers, policy))
}

fn policy(
    source: &PolicySource,
    config: Option<String>,
    host: HostInfo,
) -> anyhow::Result<PolicyHost> {
    let setup = Setup { config, ..Setup::new(host) };
    Ok(PolicyHost::load(&PolicyRuntime::new()?, source, setup)?)
}

/// The configuration's text: given, or read from the file after `@`.
fn policy_config(args: &RunArgs) -> anyhow::Result<Option<String>> {
    let Some(config) = &args.policy_config else { return Ok(None) };
    let (text, from) = match config.strip_prefix('@') {
        Some(path) => {
            let text = std::fs::read_to_string(path)
                .with_context(|| format!("cannot read the policy's configuration from {path}"))?;
            (text, path)
        }
        None => (config.clone(), "--policy-config"),
    };
    if let Err(error) = serde_json::from_str::<serde::de::IgnoredAny>(&text) {
        bail!("the policy's configuration in {from} is no JSON: {error}");
    }
    Ok(Some(text))
}
