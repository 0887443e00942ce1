//! From arguments to a [`Runner`]: fetch what is absent, open the tiers, load
//! the policy, and load it anew when that is asked for.

use std::path::Path;
use std::sync::Arc;

use aio_engine::device::{self, DeviceOptions};
use aio_policy::{FileWatch, PolicyHost, PolicySource};
use aio_serve::{Runner, Tiers};
use anyhow::bail;

use super::RunArgs;
use crate::commands::policy_options::text_or_file;
use crate::commands::sources::tier_sources;
use crate::terminal;

/// Everything that a request needs, ready.
pub(super) fn runner(args: &RunArgs) -> anyhow::Result<Runner> {
    let device = device::by_name(&args.device, DeviceOptions { threads: args.threads })
        .map_err(anyhow::Error::msg)?;
    // Anything wrong with what is said of policies is told before models are
    // fetched and loaded.
    let policy_source = PolicySource::from_argument(&args.policy)?;
    policy_source.check_exists()?;
    let config = policy_config(args)?;
    watched(args, &policy_source)?;
    let candidates = args.candidates.candidates()?;
    let limits = args.policy_options.limits()?;
    let runtime = args.policy_options.runtime()?;
    runtime.verify(&policy_source, &limits)?;
    candidates.verify(&runtime, &limits)?;
    let options = args.policy_options.options(&limits)?;
    let sources = tier_sources(&args.tiers)?;
    let tiers = Tiers::open(&sources, &*device, args.context.map(|n| n as usize))?;
    let setup = args.policy_options.setup(tiers.info().clone(), config, limits);
    let policies = PolicyHost::load(&runtime, &policy_source, setup, options)?;
    candidates.place(&policies)?;
    Ok(Runner::new(tiers, Arc::new(policies)))
}

fn policy_config(args: &RunArgs) -> anyhow::Result<Option<String>> {
    let Some(config) = &args.policy_config else { return Ok(None) };
    Ok(Some(text_or_file(config, "--policy-config")?.0))
}

/// The file to be watched, if one is.
fn watched<'a>(args: &RunArgs, source: &'a PolicySource) -> anyhow::Result<Option<&'a Path>> {
    match source {
        _ if !args.policy_options.watch => Ok(None),
        PolicySource::File(path) => Ok(Some(path)),
        _ => bail!("--watch needs a policy in a file; {} is part of this program", args.policy),
    }
}

/// Loads the policy anew on SIGHUP, and with `--watch` when its file changes,
/// as long as the guard lives.
pub(super) fn reload_when_asked(
    args: &RunArgs,
    policies: &Arc<PolicyHost>,
) -> anyhow::Result<Option<FileWatch>> {
    let source = PolicySource::from_argument(&args.policy)?;
    let reload = {
        let (args_config, policies) = (args.policy_config.clone(), Arc::clone(policies));
        let source = source.clone();
        move || reload(&policies, &source, args_config.as_deref())
    };
    terminal::on_hangup(reload.clone())?;
    let watch = |path| FileWatch::start(path, reload).map_err(anyhow::Error::msg);
    watched(args, &source)?.map(watch).transpose()
}

/// Loads the policy anew and says what came of it. The configuration's file is
/// read anew too.
fn reload(policies: &PolicyHost, source: &PolicySource, config: Option<&str>) {
    let config = match config.map(|config| text_or_file(config, "--policy-config")).transpose() {
        Ok(config) => config.map(|(text, _)| text),
        Err(error) => {
            terminal::warn(&format!("the policy stays as it is: {error:#}"));
            return;
        }
    };
    match policies.reload(source, config) {
        Ok(reloaded) => {
            let milliseconds: f64 = reloaded.steps.iter().map(|(_, seconds)| seconds * 1e3).sum();
            let policy = &reloaded.policy;
            eprintln!(
                "policy {} {} is in place as generation {} ({milliseconds:.1} ms)",
                policy.name, policy.version, policy.generation
            );
            for change in &reloaded.changes {
                terminal::warn(change);
            }
        }
        Err(error) => terminal::warn(&format!(
            "the policy stays as it is, loading failed at the step {}: {error}",
            error.step()
        )),
    }
}
