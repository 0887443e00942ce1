//! From options to what a command serves with: fetch what is absent, open the tiers,
//! load the policy, and load it anew when that is asked for.

use std::num::NonZeroUsize;
use std::path::Path;
use std::sync::Arc;

use aio_engine::device::DeviceOptions;
use aio_policy::{FileWatch, PolicyHost, PolicySource};
use aio_serve::Tiers;
use anyhow::bail;

use super::open_device;
use super::policy_candidates::CandidateOptions;
use super::policy_options::{PolicyOptions, text_or_file};
use super::sources::tier_sources;
use crate::terminal;

/// What is to be made resident, and who decides about it.
#[derive(Debug, Clone)]
pub struct Resident {
    /// Catalogue names or GGUF files.
    pub tiers: Vec<String>,
    /// The device's name.
    pub device: String,
    /// Threads that the models run on.
    pub threads: Option<NonZeroUsize>,
    /// Bound on the context in tokens.
    pub context: Option<u32>,
    /// A built-in policy's name, or a file.
    pub policy: String,
    /// Its configuration: JSON, or `@FILE`.
    pub policy_config: Option<String>,
    /// What is said of policies besides.
    pub options: PolicyOptions,
    /// Policies beside the one in place.
    pub candidates: CandidateOptions,
}

impl Resident {
    /// Opens the tiers and loads the policies.
    ///
    /// # Errors
    /// When an option is no good, a model cannot be fetched or opened, or a policy
    /// cannot be loaded.
    pub fn open(&self) -> anyhow::Result<(Tiers, Arc<PolicyHost>)> {
        let device = open_device(&self.device, DeviceOptions { threads: self.threads })?;
        // Anything wrong with what is said of policies is told before models are
        // fetched and loaded.
        let policy_source = PolicySource::from_argument(&self.policy)?;
        policy_source.check_exists()?;
        let config = self.config()?;
        self.watched(&policy_source)?;
        let candidates = self.candidates.candidates()?;
        let limits = self.options.limits()?;
        let runtime = self.options.runtime()?;
        runtime.verify(&policy_source, &limits)?;
        candidates.verify(&runtime, &limits)?;
        let options = self.options.options(&limits)?;
        let sources = tier_sources(&self.tiers)?;
        let tiers = Tiers::open(&sources, &*device, self.context.map(|n| n as usize))?;
        let setup = self.options.setup(tiers.info().clone(), config, limits);
        let policies = PolicyHost::load(&runtime, &policy_source, setup, options)?;
        candidates.place(&policies)?;
        Ok((tiers, Arc::new(policies)))
    }

    fn config(&self) -> anyhow::Result<Option<String>> {
        let Some(config) = &self.policy_config else { return Ok(None) };
        Ok(Some(text_or_file(config, "--policy-config")?.0))
    }

    /// The file to be watched, if one is.
    fn watched<'a>(&self, source: &'a PolicySource) -> anyhow::Result<Option<&'a Path>> {
        match source {
            _ if !self.options.watch => Ok(None),
            PolicySource::File(path) => Ok(Some(path)),
            _ => bail!("--watch needs a policy in a file; {} is part of this program", self.policy),
        }
    }

    /// Loads the policy anew on SIGHUP, and with `--watch` when its file changes,
    /// as long as the guard lives.
    ///
    /// # Errors
    /// When the system refuses the handler, or the file cannot be watched.
    pub fn reload_when_asked(
        &self,
        policies: &Arc<PolicyHost>,
    ) -> anyhow::Result<Option<FileWatch>> {
        let source = PolicySource::from_argument(&self.policy)?;
        let reload = {
            let (config, policies) = (self.policy_config.clone(), Arc::clone(policies));
            let source = source.clone();
            move || reload(&policies, &source, config.as_deref())
        };
        terminal::on_hangup(reload.clone())?;
        let watch = |path| FileWatch::start(path, reload).map_err(anyhow::Error::msg);
        self.watched(&source)?.map(watch).transpose()
    }
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
