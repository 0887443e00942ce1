//! A policy that serves a share of the requests: placed, put in place for good,
//! withdrawn by who placed it or when it fails too often.

use std::sync::{Arc, PoisonError};

use aio_core::PolicyIdentity;

use super::{Place, PolicyHost, Reloaded, Started, remember_policy};
use crate::error::LoadError;
use crate::event::Role;
use crate::generation::Generation;
use crate::share::Share;
use crate::source::PolicySource;

/// A policy that serves a share of the requests.
#[derive(Debug, Clone)]
pub struct CanaryInPlace {
    /// The policy.
    pub generation: Arc<Generation>,
    /// Which requests it serves.
    pub share: Share,
}

impl CanaryInPlace {
    pub(super) fn has_failed(&self) -> bool {
        self.generation.was_set_aside()
    }

    fn is(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.generation, &other.generation)
    }
}

/// A canary that was withdrawn because it failed.
#[derive(Debug, Clone, PartialEq)]
pub struct Withdrawn {
    /// The policy.
    pub policy: PolicyIdentity,
    /// Why, as one sentence.
    pub reason: String,
}

impl PolicyHost {
    /// Places a policy beside the one in place, to serve a share of the requests;
    /// it takes the place of an earlier canary. It is loaded and tried out as for a
    /// reload. Requests keep what planned them: only later ones are given to it.
    ///
    /// A canary that fails so often that it is set aside is withdrawn with a
    /// warning ([`PolicyHost::withdrawn`]); its requests end under the safe plan.
    ///
    /// # Errors
    /// What failed; the canary before it, if there is one, stays.
    pub fn set_canary(
        &self,
        source: &PolicySource,
        config: Option<String>,
        share: Share,
    ) -> Result<Started, LoadError> {
        let _replacing = self.history.lock().unwrap_or_else(PoisonError::into_inner);
        let (prepared, steps) = self.prepare(source)?;
        let (generation, started) = self.start_tried(&prepared, config, steps, Role::Canary)?;
        let canary = Some(CanaryInPlace { generation, share });
        self.place.rcu(|place| Place { canary: canary.clone(), ..(**place).clone() });
        *self.withdrawn.lock().unwrap_or_else(PoisonError::into_inner) = None;
        Ok(started)
    }

    /// The canary, if there is one.
    pub fn canary(&self) -> Option<CanaryInPlace> {
        let canary = self.place.load().canary.clone()?;
        if canary.has_failed() {
            self.withdraw_failed(&canary);
            return None;
        }
        Some(canary)
    }

    /// Puts the canary in place, with all that it has learnt: it serves all requests
    /// from now on, and the policy before can be gone back to.
    ///
    /// # Errors
    /// [`LoadError::NoCanary`]
    pub fn promote(&self) -> Result<Reloaded, LoadError> {
        let mut history = self.history.lock().unwrap_or_else(PoisonError::into_inner);
        let canary = self.canary().ok_or(LoadError::NoCanary)?;
        let before = self.current();
        // What is replaced is as good as reloaded: what it has learnt is kept.
        self.learnt(&before);
        self.place.rcu(|place| Place {
            current: Arc::clone(&canary.generation),
            canary: None,
            shadows: Arc::clone(&place.shadows),
        });
        canary.generation.promote();
        remember_policy(&mut history, before.prepared());
        Ok(Reloaded {
            policy: canary.generation.identity().clone(),
            replaced: before.identity().clone(),
            steps: Vec::new(),
            changes: Vec::new(),
        })
    }

    /// Takes the canary away: the policy in place serves all requests again.
    /// Returns which it was; `None` if there is none.
    pub fn withdraw(&self) -> Option<PolicyIdentity> {
        let before = self.place.rcu(|place| Place { canary: None, ..(**place).clone() });
        before.canary.as_ref().map(|canary| canary.generation.identity().clone())
    }

    /// The canary that failed and was withdrawn for it, since the last one was placed.
    pub fn withdrawn(&self) -> Option<Withdrawn> {
        self.withdrawn.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Takes this canary away, if it is there still.
    pub(super) fn withdraw_failed(&self, failed: &CanaryInPlace) {
        let is_there =
            |place: &Place| place.canary.as_ref().is_some_and(|canary| canary.is(failed));
        let before = self.place.rcu(|place| {
            if !is_there(place) {
                return Arc::clone(place);
            }
            Arc::new(Place { canary: None, ..(**place).clone() })
        });
        // Whoever took it away tells of it.
        if !is_there(&before) {
            return;
        }
        let policy = failed.generation.identity().clone();
        let reason = format!(
            "the canary {} {} (generation {}) is withdrawn, it failed so often that it was set \
             aside: all requests go to {} again",
            policy.name,
            policy.version,
            policy.generation,
            before.current.identity().name
        );
        tracing::warn!("{reason}");
        *self.withdrawn.lock().unwrap_or_else(PoisonError::into_inner) =
            Some(Withdrawn { policy, reason });
    }
}
