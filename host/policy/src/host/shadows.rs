//! Policies that are asked beside the one in place and never obeyed: placed, read,
//! removed.

use std::sync::{Arc, PoisonError};
use std::time::{Duration, Instant};

use aio_core::ShadowReport;

use super::{Place, PolicyHost, Started};
use crate::error::{LoadError, Step};
use crate::event::Role;
use crate::loaded::LoadedPolicy;
use crate::setup::Setup;
use crate::shadow::Shadow;
use crate::source::PolicySource;

/// Shadows that a host may have at once: each has a thread and an instance.
pub const MOST_SHADOWS: usize = 4;

/// How long the end of a host waits for the threads of its shadows: longer than a
/// call takes as a rule.
const LAST_WORDS: Duration = Duration::from_millis(500);

impl PolicyHost {
    /// Places a policy that is asked what the serving one is asked, from the next
    /// request on, and never obeyed. It begins with what is known to a policy of
    /// its name; what it learns is not kept. It is not tried out first: that is
    /// what it is for.
    ///
    /// # Errors
    /// [`LoadError::TooManyShadows`], or as [`LoadedPolicy::load`].
    pub fn add_shadow(
        &self,
        source: &PolicySource,
        config: Option<String>,
    ) -> Result<Started, LoadError> {
        let _replacing = self.history.lock().unwrap_or_else(PoisonError::into_inner);
        if self.place.load().shadows.len() >= MOST_SHADOWS {
            return Err(LoadError::TooManyShadows { most: MOST_SHADOWS });
        }
        let (prepared, mut steps) = self.prepare(source)?;
        let start = Instant::now();
        let setup = Setup { config, carried: self.learnt(&self.current()), ..self.setup.clone() };
        let number = self.runtime.next_generation();
        let policy = LoadedPolicy::start_as(&self.runtime, &prepared, setup, number, self.kept())?;
        let generation = self.generation(policy, Role::Shadow);
        let policy = generation.identity().clone();
        let shadow = Shadow::start(generation)
            .map_err(|error| LoadError::Runtime { reason: error.to_string() })?;
        let shadow = Arc::new(shadow);
        self.place.rcu(|place| {
            let shadows = place.shadows.iter().chain([&shadow]).cloned().collect();
            Place { shadows, ..(**place).clone() }
        });
        steps.push((Step::Init, start.elapsed().as_secs_f64()));
        Ok(Started { policy, steps, changes: Vec::new() })
    }

    /// Takes all shadows away. Requests that run tell them of their ends still.
    pub fn remove_shadows(&self) {
        self.place.rcu(|place| Place { shadows: Arc::new([]), ..(**place).clone() });
    }

    /// What each shadow said so far.
    pub fn shadow_reports(&self) -> Vec<ShadowReport> {
        self.place.load().shadows.iter().map(|shadow| shadow.report()).collect()
    }

    /// Waits until the shadows have answered what they were asked so far, at most
    /// for `time`: for reports at an end, never while anybody is served.
    pub fn settle_shadows(&self, time: Duration) {
        let until = Instant::now() + time;
        for shadow in self.place.load_full().shadows.iter() {
            shadow.settle(until);
        }
    }
}

impl Drop for PolicyHost {
    fn drop(&mut self) {
        let until = Instant::now() + LAST_WORDS;
        for shadow in self.place.load_full().shadows.iter() {
            shadow.stop(until);
        }
    }
}
