//! What an operator says about policies beside the one in place: a canary that
//! serves a share of the requests, and shadows that are asked and never obeyed.

use aio_policy::{Limits, MOST_SHADOWS, PolicyHost, PolicyRuntime, PolicySource, Share};
use anyhow::bail;
use clap::Args;

use super::policy_options::text_or_file;
use crate::terminal;

/// The options, as part of a command's.
#[derive(Debug, Clone, Default, Args)]
pub struct CandidateOptions {
    /// Let another policy serve a share of the requests, for example next.wasm=10%.
    /// The same prompt always goes the same way, and a larger share keeps what a
    /// smaller one took. If it fails three times within a minute it is withdrawn
    #[arg(long, value_name = "NAME|FILE=PERCENT", value_parser = policy_and_share)]
    canary: Option<(String, Share)>,
    /// The canary's configuration: JSON, or @FILE
    #[arg(long, value_name = "JSON|@FILE", requires = "canary")]
    canary_config: Option<String>,
    /// Ask another policy the same questions, on a thread of its own, and never obey
    /// it; what it would have done is reported (may be given up to four times)
    #[arg(long, value_name = "NAME|FILE")]
    shadow: Vec<String>,
    /// A shadow's configuration: JSON, or @FILE; '' for none. The first is the first
    /// shadow's, and so on
    #[arg(long, value_name = "JSON|@FILE", requires = "shadow")]
    shadow_config: Vec<String>,
}

/// Policies to be placed beside the one in place, with their configurations.
#[derive(Debug)]
pub struct Candidates {
    canary: Option<(PolicySource, Option<String>, Share)>,
    shadows: Vec<(PolicySource, Option<String>)>,
}

impl CandidateOptions {
    /// What is to be placed; tells what is wrong with the options.
    ///
    /// # Errors
    /// When a policy's name or a configuration is no good, or a file is absent.
    pub fn candidates(&self) -> anyhow::Result<Candidates> {
        let config = |argument: &str, option: &str| match argument {
            "" => Ok(None),
            given => text_or_file(given, option).map(|(text, _)| Some(text)),
        };
        let source = |argument: &str| -> anyhow::Result<PolicySource> {
            let source = PolicySource::from_argument(argument)?;
            source.check_exists()?;
            Ok(source)
        };
        let canary = match &self.canary {
            None => None,
            Some((policy, share)) => {
                let given = self.canary_config.as_deref().unwrap_or_default();
                let config = config(given, "--canary-config")?;
                Some((source(policy)?, config, *share))
            }
        };
        if self.shadow.len() > MOST_SHADOWS {
            bail!(
                "--shadow is given {} times, but at most {MOST_SHADOWS} shadows run at once",
                self.shadow.len()
            );
        }
        if self.shadow_config.len() > self.shadow.len() {
            bail!(
                "--shadow-config is given {} times and --shadow {} times: give one for each shadow \
                 at most",
                self.shadow_config.len(),
                self.shadow.len()
            );
        }
        let configs = self.shadow_config.iter().map(String::as_str).chain(std::iter::repeat(""));
        let shadows = self
            .shadow
            .iter()
            .zip(configs)
            .map(|(policy, given)| Ok((source(policy)?, config(given, "--shadow-config")?)));
        Ok(Candidates { canary, shadows: shadows.collect::<anyhow::Result<_>>()? })
    }
}

impl Candidates {
    /// Tells whether they are signed as the runtime requires.
    ///
    /// # Errors
    /// When one cannot be read or is not.
    pub fn verify(&self, runtime: &PolicyRuntime, limits: &Limits) -> anyhow::Result<()> {
        let canary = self.canary.iter().map(|(source, ..)| source);
        for source in canary.chain(self.shadows.iter().map(|(source, _)| source)) {
            runtime.verify(source, limits)?;
        }
        Ok(())
    }

    /// Places them.
    ///
    /// # Errors
    /// When one cannot be loaded.
    pub fn place(self, policies: &PolicyHost) -> anyhow::Result<()> {
        if let Some((source, config, share)) = self.canary {
            for change in policies.set_canary(&source, config, share)?.changes {
                terminal::warn(&change);
            }
        }
        for (source, config) in self.shadows {
            policies.add_shadow(&source, config)?;
        }
        Ok(())
    }
}

fn policy_and_share(text: &str) -> Result<(String, Share), String> {
    match text.rsplit_once('=') {
        Some((policy, share)) if !policy.is_empty() => Ok((policy.to_owned(), share.parse()?)),
        _ => Err("write it as POLICY=PERCENT, for example next.wasm=10%".into()),
    }
}
