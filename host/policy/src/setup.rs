//! What a policy is started with. Knows nothing of how it is started.

use std::collections::BTreeSet;

use aio_core::{Grant, HostInfo};

use crate::limits::Limits;
use crate::state::Carried;

/// What a policy is started with.
#[derive(Debug, Clone)]
pub struct Setup {
    /// Configuration as JSON text; `None` when the operator gave none.
    pub config: Option<String>,
    /// What an earlier generation's `snapshot` returned. A policy of another name
    /// than it is meant for does not get it.
    pub carried: Option<Carried>,
    /// What the policy is told of the host, and what its answers are held against.
    pub host: HostInfo,
    /// What it may use.
    pub limits: Limits,
    /// What it may import beyond the log.
    pub grants: BTreeSet<Grant>,
    /// Whether repeated failures set it aside for a while, as they must where
    /// requests wait; a replay asks for each answer however many failed.
    pub set_aside: bool,
}

impl Setup {
    /// No configuration, no carried state, default limits.
    pub fn new(host: HostInfo) -> Self {
        Self {
            config: None,
            carried: None,
            host,
            limits: Limits::default(),
            grants: BTreeSet::new(),
            set_aside: true,
        }
    }

    /// With a configuration, as JSON text.
    #[must_use]
    pub fn config(mut self, json: impl Into<String>) -> Self {
        self.config = Some(json.into());
        self
    }

    /// With an earlier generation's state, for whichever policy is started.
    #[must_use]
    pub fn carried(mut self, state: Vec<u8>) -> Self {
        self.carried = Some(Carried { policy: None, state });
        self
    }

    /// With more to see than facts.
    #[must_use]
    pub fn grants(mut self, grants: impl IntoIterator<Item = Grant>) -> Self {
        self.grants = grants.into_iter().collect();
        self
    }

    /// With other limits.
    #[must_use]
    pub fn limits(mut self, limits: Limits) -> Self {
        self.limits = limits;
        self
    }
}
