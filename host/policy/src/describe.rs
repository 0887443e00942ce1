//! What a policy says of itself, made fit for records and terminals. Knows no
//! configuration: a policy can be described that is never started.

use std::time::Instant;

use aio_core::{Hook, MAX_LABEL_BYTES};
use serde::de::IgnoredAny;

use crate::call::Phase;
use crate::contract::v0_1;
use crate::error::LoadError;
use crate::instance::{Instance, StartError};
use crate::limits::Limits;
use crate::load::Prepared;
use crate::log::{LogGate, printable};
use crate::runtime::PolicyRuntime;

/// Most bytes of a policy's own words (a summary, a refusal) that are kept.
pub(crate) const WORDS_BYTES: usize = 1024;

/// Most bytes of a configuration's schema that are kept.
const SCHEMA_BYTES: usize = 64 * 1024;

/// What a policy says of itself. What it leaves out, or says so that it cannot
/// be kept, is empty.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Description {
    /// Its name.
    pub name: String,
    /// Its own version.
    pub version: String,
    /// One sentence on what it does.
    pub summary: String,
    /// JSON Schema of its configuration: JSON of at most 64 KiB.
    pub config_schema: String,
}

impl From<v0_1::Description> for Description {
    /// The name becomes a label in records and metrics, so it is kept short and
    /// printable.
    fn from(from: v0_1::Description) -> Self {
        let label = |text: &str| {
            let label = printable(text, MAX_LABEL_BYTES);
            if label.trim().is_empty() { String::new() } else { label }
        };
        // JSON may have line ends, but no other control characters.
        let is_schema = from.config_schema.len() <= SCHEMA_BYTES
            && serde_json::from_str::<IgnoredAny>(&from.config_schema).is_ok();
        Self {
            name: label(&from.name),
            version: label(&from.version),
            summary: printable(&from.summary, WORDS_BYTES),
            config_schema: if is_schema { from.config_schema } else { String::new() },
        }
    }
}

/// A failure to instantiate, as the user is told of it.
pub(crate) fn start_error(policy: &str, error: StartError) -> LoadError {
    let policy = policy.to_owned();
    match error {
        StartError::Failed(failure) => LoadError::Failed { policy, failure },
        StartError::WrongType(wrong) => {
            LoadError::HookType { policy, hook: wrong.hook, reason: wrong.reason }
        }
    }
}

impl Prepared {
    /// Asks the policy what it is, on an instance of its own that is thrown away.
    /// `init` is not called, so no configuration is needed. `None` when it exports
    /// no `describe`.
    ///
    /// # Errors
    /// When it does not start, a hook has another type than the contract's, or
    /// `describe` fails; one sentence that names the policy and says what to change.
    pub fn describe(
        &self,
        runtime: &PolicyRuntime,
        limits: &Limits,
    ) -> Result<Option<Description>, LoadError> {
        let log = LogGate::new(self.name().to_owned());
        let mut instance = Instance::start(&runtime.engine, &self.pre, &self.exports, log, limits)
            .map_err(|(error, _)| start_error(self.name(), error))?;
        let said = instance
            .call(Phase::Hook(Hook::Describe), Instant::now(), limits, |hooks, store| {
                hooks.describe(store)
            })
            .map_err(|failure| LoadError::Failed { policy: self.name().to_owned(), failure })?;
        Ok(said.map(Into::into))
    }
}
