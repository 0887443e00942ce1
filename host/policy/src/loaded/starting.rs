//! Starting a policy: the first time, when what goes wrong is the user's to mend, and
//! anew after a call that failed. Asks it nothing but `describe` and `init`.

use std::time::Instant;

use aio_core::{Failure, FailureKind, Hook, PolicyIdentity};
use serde::de::IgnoredAny;

use super::LoadedPolicy;
use crate::call::Phase;
use crate::describe::{Description, WORDS_BYTES, start_error};
use crate::error::LoadError;
use crate::instance::{Instance, StartError};
use crate::load::Prepared;
use crate::log::{LogGate, printable};
use crate::runtime::PolicyRuntime;
use crate::setup::Setup;
use crate::source::PolicySource;
use crate::state::Carried;
use crate::status::Counts;
use crate::strikes::Strikes;

impl LoadedPolicy {
    /// Compiles a policy, checks what it imports and exports, starts it and
    /// calls its `describe` and `init`.
    ///
    /// A policy that exports no `describe` is called by its source's name; one
    /// without `init` takes no configuration. One without `plan` leaves every
    /// plan to the host (see [`LoadedPolicy::plan`]).
    ///
    /// # Errors
    /// One sentence that names the policy and says what to change.
    pub fn load(
        runtime: &PolicyRuntime,
        source: &PolicySource,
        setup: Setup,
    ) -> Result<Self, LoadError> {
        let prepared = Prepared::new(runtime, source, &setup.limits, &setup.grants)?;
        Self::start(runtime, &prepared, setup)
    }

    /// Starts a component that was prepared: a generation of its own.
    ///
    /// # Errors
    /// As [`LoadedPolicy::load`].
    pub fn start(
        runtime: &PolicyRuntime,
        prepared: &Prepared,
        setup: Setup,
    ) -> Result<Self, LoadError> {
        Self::start_as(runtime, prepared, setup, runtime.next_generation(), |_| None)
    }

    /// [`LoadedPolicy::start`] with a generation's number (0 is for one that never
    /// serves), and where state is to be had for a policy of a name: what it is
    /// called it tells itself, once it is started. Asked when the setup carries none
    /// for a policy of that name.
    pub(crate) fn start_as(
        runtime: &PolicyRuntime,
        prepared: &Prepared,
        setup: Setup,
        generation: u64,
        kept: impl FnOnce(&str) -> Option<Carried>,
    ) -> Result<Self, LoadError> {
        let policy = prepared.name().to_owned();
        check_config(&policy, setup.config.as_deref())?;
        if setup.config.is_some() && !prepared.exports.has(Hook::Init) {
            return Err(LoadError::Refused {
                policy,
                message: "it takes no configuration (it exports no `init`); leave it out".into(),
            });
        }
        let mut host = Self {
            runtime: runtime.clone(),
            prepared: prepared.clone(),
            instance: None,
            log: Some(LogGate::new(policy.clone())),
            identity: PolicyIdentity {
                name: policy.clone(),
                version: "unknown".into(),
                digest: prepared.digest().to_owned(),
                generation,
            },
            description: Description::default(),
            strikes: Strikes::new(&setup.limits),
            setup,
            counts: Counts::default(),
        };
        host.first_start(&policy, kept)?;
        Ok(host)
    }

    /// Another instance, initialised: what answers after the last one failed.
    pub(super) fn start_anew(&mut self) -> Result<Instance, Failure> {
        let mut instance = self.instantiate().map_err(|error| match error {
            StartError::Failed(failure) => failure,
            StartError::WrongType(wrong) => Failure {
                hook: wrong.hook,
                kind: FailureKind::Nonsense,
                message: format!("the policy's {} has another type than before", wrong.hook),
            },
        })?;
        let refusal = match self.init(&mut instance) {
            Ok(None) => return Ok(instance),
            Ok(Some(message)) => Failure {
                hook: Hook::Init,
                kind: FailureKind::Nonsense,
                message: format!("the policy refuses to start again: {message}"),
            },
            Err(failure) => failure,
        };
        self.log = Some(instance.end());
        Err(refusal)
    }

    fn instantiate(&mut self) -> Result<Instance, StartError> {
        self.counts.instances += 1;
        let log = self.log.take().unwrap_or_else(|| LogGate::new(self.identity.name.clone()));
        let (engine, limits) = (&self.runtime.engine, &self.setup.limits);
        Instance::start(engine, &self.prepared.pre, &self.prepared.exports, log, limits).map_err(
            |(error, log)| {
                self.log = Some(log);
                error
            },
        )
    }

    /// Calls `init`. The text, if any, is the policy's refusal.
    fn init(&self, instance: &mut Instance) -> Result<Option<String>, Failure> {
        let Setup { config, carried, host, limits, .. } = &self.setup;
        let config = config.as_deref().unwrap_or_default();
        let result =
            instance.call(Phase::Hook(Hook::Init), Instant::now(), limits, |hooks, store| {
                hooks.init(store, config, carried.as_ref().map(|c| c.state.as_slice()), host)
            })?;
        Ok(result.and_then(Result::err).map(|text| printable(&text, WORDS_BYTES)))
    }

    /// Starts the first instance: here failures are the user's to mend.
    fn first_start(
        &mut self,
        policy: &str,
        kept: impl FnOnce(&str) -> Option<Carried>,
    ) -> Result<(), LoadError> {
        let failed = |failure| LoadError::Failed { policy: policy.to_owned(), failure };
        let mut instance = self.instantiate().map_err(|error| start_error(policy, error))?;
        let describe = Phase::Hook(Hook::Describe);
        let description = instance
            .call(describe, Instant::now(), &self.setup.limits, |hooks, store| {
                hooks.describe(store)
            })
            .map_err(failed)?;
        if let Some(description) = description {
            self.describe(description.into());
            instance.log().rename(self.identity.name.clone());
        }
        // Another policy's state would be nonsense to this one at best.
        let given = self.setup.carried.take();
        let given = given.filter(|carried| carried.is_for(&self.identity.name));
        self.setup.carried = given.or_else(|| kept(&self.identity.name));
        if let Some(message) = self.init(&mut instance).map_err(failed)? {
            return Err(LoadError::Refused { policy: policy.to_owned(), message });
        }
        self.instance = Some(instance);
        Ok(())
    }

    /// Takes over what the policy says of itself.
    fn describe(&mut self, description: Description) {
        if !description.name.is_empty() {
            self.identity.name.clone_from(&description.name);
        }
        if !description.version.is_empty() {
            self.identity.version.clone_from(&description.version);
        }
        self.description = description;
    }
}

fn check_config(policy: &str, config: Option<&str>) -> Result<(), LoadError> {
    match config.map(serde_json::from_str::<IgnoredAny>) {
        Some(Err(error)) => {
            Err(LoadError::ConfigNotJson { policy: policy.to_owned(), reason: error.to_string() })
        }
        _ => Ok(()),
    }
}
