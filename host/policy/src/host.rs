//! The generations of a host's policy: the one in place behind an atomic pointer, the way
//! to the next (prepare, start, canary, swap) and back to the one before.
//!
//! Whoever serves takes a [`Decider`] for a request ([`PolicyHost::for_request`])
//! and keeps it until the request ends: a reload changes what later requests
//! take. All of a reload but the swap happens on the thread that asks for it; a
//! failure at any step leaves everything as it was. Knows no files but the
//! policy's, and nothing of what requests are. `canaries.rs` and `shadows.rs` put
//! other policies beside the one in place.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::{Duration, Instant};

use aio_core::{HostInfo, PolicyIdentity, RequestFacts};
use arc_swap::ArcSwap;

use crate::canary::try_out;
use crate::decider::Decider;
use crate::error::{LoadError, Step};
use crate::event::{Recorder, Role};
use crate::generation::Generation;
use crate::load::Prepared;
use crate::loaded::LoadedPolicy;
use crate::runtime::PolicyRuntime;
use crate::setup::Setup;
use crate::shadow::Shadow;
use crate::source::PolicySource;
use crate::state::{Carried, StateStore};
use crate::status::PolicyStatus;

mod canaries;
mod shadows;

pub use canaries::{CanaryInPlace, Withdrawn};
pub use shadows::MOST_SHADOWS;

/// Facts of earlier requests that a new generation is asked about before it serves.
const CANARY_FACTS: usize = 16;
/// Policies that can be gone back to.
const HISTORY: usize = 8;

/// How policies are replaced.
#[derive(Debug)]
pub struct Options {
    /// Where learned state is kept over restarts; nowhere where absent.
    pub store: Option<StateStore>,
    /// Where calls are recorded.
    pub recorder: Option<Arc<Recorder>>,
    /// Most generations that live at once, by default 8; one is in place, so less
    /// than 2 allows no reload. Each with requests keeps its instance: some MiB
    /// for a compiled policy, tens for a script's.
    pub most_live: usize,
}

impl Default for Options {
    fn default() -> Self {
        Self { store: None, recorder: None, most_live: 8 }
    }
}

/// What a reload did.
#[derive(Debug, Clone, PartialEq)]
pub struct Reloaded {
    /// The policy now in place.
    pub policy: PolicyIdentity,
    /// The one before.
    pub replaced: PolicyIdentity,
    /// What each step took, in seconds.
    pub steps: Vec<(Step, f64)>,
    /// Answers of the canary that had to be brought into bounds: no reason to
    /// refuse it, but one to look at it.
    pub changes: Vec<String>,
}

/// What starting a policy beside the one in place did.
#[derive(Debug, Clone, PartialEq)]
pub struct Started {
    /// The policy started.
    pub policy: PolicyIdentity,
    /// What each step took, in seconds.
    pub steps: Vec<(Step, f64)>,
    /// Answers that had to be brought into bounds when it was tried out.
    pub changes: Vec<String>,
}

/// The policy in place, what stands beside it, and how they are replaced.
pub struct PolicyHost {
    runtime: PolicyRuntime,
    place: ArcSwap<Place>,
    /// What a policy is started with, its configuration and state apart.
    setup: Setup,
    options: Options,
    /// Held by who replaces a policy, one at a time: what can be gone back to.
    history: Mutex<Vec<(Prepared, Option<String>)>>,
    /// Generations that requests may have.
    live: Mutex<Vec<Weak<Generation>>>,
    /// The canary that was withdrawn last.
    withdrawn: Mutex<Option<Withdrawn>>,
    /// What the last requests were, for canaries.
    facts: Mutex<VecDeque<RequestFacts>>,
    saved: Mutex<Instant>,
}

/// What requests are given to; replaced as a whole.
#[derive(Clone)]
struct Place {
    current: Arc<Generation>,
    canary: Option<CanaryInPlace>,
    shadows: Arc<[Arc<Shadow>]>,
}

impl std::fmt::Debug for PolicyHost {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PolicyHost").field("current", &self.current()).finish_non_exhaustive()
    }
}

impl PolicyHost {
    /// Loads the first policy. State that the store has of it is carried.
    ///
    /// # Errors
    /// As [`LoadedPolicy::load`].
    pub fn load(
        runtime: &PolicyRuntime,
        source: &PolicySource,
        setup: Setup,
        options: Options,
    ) -> Result<Self, LoadError> {
        let prepared = Prepared::new(runtime, source, &setup.limits, &setup.grants)?;
        let kept = |name: &str| options.store.as_ref()?.load(name);
        let number = runtime.next_generation();
        let policy = LoadedPolicy::start_as(runtime, &prepared, setup.clone(), number, kept)?;
        let current = Arc::new(Generation::new(policy, Role::Serving, options.recorder.clone()));
        let live = vec![Arc::downgrade(&current)];
        Ok(Self {
            runtime: runtime.clone(),
            place: ArcSwap::from_pointee(Place { current, canary: None, shadows: Arc::new([]) }),
            setup: Setup { config: None, carried: None, ..setup },
            options,
            history: Mutex::default(),
            live: Mutex::new(live),
            withdrawn: Mutex::default(),
            facts: Mutex::default(),
            saved: Mutex::new(Instant::now()),
        })
    }

    /// The policy in place.
    pub fn current(&self) -> Arc<Generation> {
        Arc::clone(&self.place.load().current)
    }

    /// What decides about a request: the policy in place, or the canary where the
    /// request belongs to its share, and the shadows. To be kept to the request's
    /// end. `key` is what is stable about the request: its number, or what
    /// [`request_key`](crate::request_key) makes of a name; requests of one key go
    /// the same way.
    pub fn for_request(&self, key: u64) -> Decider {
        let mut place = self.place.load_full();
        if let Some(canary) = place.canary.as_ref().filter(|canary| canary.has_failed()) {
            self.withdraw_failed(canary);
            place = self.place.load_full();
        }
        let generation = match &place.canary {
            Some(canary) if canary.share.takes(key) => &canary.generation,
            _ => &place.current,
        };
        Decider::new(Arc::clone(generation), Arc::clone(&place.shadows))
    }

    /// What policies are told of the host.
    pub fn host(&self) -> &HostInfo {
        &self.setup.host
    }

    /// Keeps the facts of a request, for the canaries of later reloads.
    pub fn remember(&self, facts: &RequestFacts) {
        let mut kept = self.facts.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.len() == CANARY_FACTS {
            kept.pop_front();
        }
        kept.push_back(facts.clone());
    }

    /// Generations that are in place or still have requests; shadows apart.
    pub fn live(&self) -> Vec<PolicyIdentity> {
        self.generations().iter().map(|generation| generation.identity().clone()).collect()
    }

    /// How each policy fares: those in place or with requests, and the shadows.
    /// Waits for calls under way.
    pub fn status(&self) -> Vec<PolicyStatus> {
        let mut all = self.generations();
        let place = self.place.load();
        all.extend(place.shadows.iter().map(|shadow| Arc::clone(shadow.generation())));
        all.iter().map(|generation| generation.status()).collect()
    }

    fn generations(&self) -> Vec<Arc<Generation>> {
        let mut live = self.live.lock().unwrap_or_else(PoisonError::into_inner);
        live.retain(|generation| generation.strong_count() > 0);
        live.iter().filter_map(Weak::upgrade).collect()
    }

    /// Puts another policy in place: reads, verifies, compiles and checks it, starts it
    /// with the configuration and what the current one has learnt (where it is
    /// of the same name; else with what is kept of its own), asks it about facts of
    /// earlier requests, and swaps.
    ///
    /// # Errors
    /// What failed ([`LoadError::step`] says where); the policy in place stays.
    pub fn reload(
        &self,
        source: &PolicySource,
        config: Option<String>,
    ) -> Result<Reloaded, LoadError> {
        let mut history = self.history.lock().unwrap_or_else(PoisonError::into_inner);
        let (prepared, steps) = self.prepare(source)?;
        let before = self.current().prepared();
        let reloaded = self.put(&prepared, config, steps)?;
        remember_policy(&mut history, before);
        Ok(reloaded)
    }

    /// Puts the policy before the current one in place again, with the
    /// configuration that it had.
    ///
    /// # Errors
    /// [`LoadError::NothingToRollBackTo`], or as [`PolicyHost::reload`].
    pub fn roll_back(&self) -> Result<Reloaded, LoadError> {
        let mut history = self.history.lock().unwrap_or_else(PoisonError::into_inner);
        let Some((prepared, config)) = history.last().cloned() else {
            return Err(LoadError::NothingToRollBackTo);
        };
        let reloaded = self.put(&prepared, config, Vec::new())?;
        history.pop();
        Ok(reloaded)
    }

    fn put(
        &self,
        prepared: &Prepared,
        config: Option<String>,
        steps: Vec<(Step, f64)>,
    ) -> Result<Reloaded, LoadError> {
        let (next, Started { policy, steps, changes }) =
            self.start_tried(prepared, config, steps, Role::Serving)?;
        let replaced = self.replace_current(next);
        Ok(Reloaded { policy, replaced: replaced.identity().clone(), steps, changes })
    }

    /// Puts a generation in place; returns the one before.
    fn replace_current(&self, next: Arc<Generation>) -> Arc<Generation> {
        let before =
            self.place.rcu(|place| Place { current: Arc::clone(&next), ..(**place).clone() });
        Arc::clone(&before.current)
    }

    fn prepare(&self, source: &PolicySource) -> Result<(Prepared, Vec<(Step, f64)>), LoadError> {
        let start = Instant::now();
        let prepared =
            Prepared::new(&self.runtime, source, &self.setup.limits, &self.setup.grants)?;
        Ok((prepared, vec![(Step::Compile, start.elapsed().as_secs_f64())]))
    }

    /// Starts a policy and tries it out: a generation that requests may have.
    fn start_tried(
        &self,
        prepared: &Prepared,
        config: Option<String>,
        mut steps: Vec<(Step, f64)>,
        role: Role,
    ) -> Result<(Arc<Generation>, Started), LoadError> {
        let live = self.generations().len();
        if live >= self.options.most_live {
            return Err(LoadError::TooManyGenerations { live });
        }
        let carried = self.learnt(&self.current());
        let setup = Setup { config, carried, ..self.setup.clone() };
        let mut step = |step, start: Instant| steps.push((step, start.elapsed().as_secs_f64()));

        // What is tried out is an instance of its own: what it is asked must not be
        // what the serving one has learnt.
        let start = Instant::now();
        let mut trial =
            LoadedPolicy::start_as(&self.runtime, prepared, setup.clone(), 0, self.kept())?;
        step(Step::Init, start);
        let start = Instant::now();
        let facts = self.facts.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let changes = try_out(&mut trial, &facts)?;
        step(Step::Canary, start);

        let start = Instant::now();
        let number = self.runtime.next_generation();
        let policy = LoadedPolicy::start_as(&self.runtime, prepared, setup, number, self.kept())?;
        let generation = self.generation(policy, role);
        self.live.lock().unwrap_or_else(PoisonError::into_inner).push(Arc::downgrade(&generation));
        step(Step::Swap, start);
        let policy = generation.identity().clone();
        Ok((generation, Started { policy, steps, changes }))
    }

    fn generation(&self, policy: LoadedPolicy, role: Role) -> Arc<Generation> {
        Arc::new(Generation::new(policy, role, self.options.recorder.clone()))
    }

    /// Finds what the store has of a policy.
    fn kept(&self) -> impl FnOnce(&str) -> Option<Carried> {
        |name| self.options.store.as_ref()?.load(name)
    }

    /// What a generation has learnt; it is saved too, so that a crash of what
    /// follows loses nothing.
    fn learnt(&self, generation: &Generation) -> Option<Carried> {
        let state = generation.snapshot().answer?;
        self.keep(generation, &state);
        Some(Carried { policy: Some(generation.identity().name.clone()), state })
    }

    fn keep(&self, generation: &Generation, state: &[u8]) {
        let Some(store) = &self.options.store else { return };
        // Most policies learn nothing; their empty state is no file.
        if state.is_empty() {
            return;
        }
        if let Err(error) = store.save(generation.identity(), state) {
            tracing::warn!("{error}");
        }
    }

    /// Saves what the current policy has learnt, and writes the record through: to
    /// be called at exit.
    pub fn save(&self) {
        *self.saved.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
        if self.options.store.is_some() {
            self.learnt(&self.current());
        }
        if let Some(recorder) = &self.options.recorder {
            recorder.flush();
        }
    }

    /// [`PolicyHost::save`], if it was not done within the last `period`: to be
    /// called now and then.
    pub fn save_every(&self, period: Duration) {
        let last = *self.saved.lock().unwrap_or_else(PoisonError::into_inner);
        if last.elapsed() >= period {
            self.save();
        }
    }
}

/// Keeps a policy that can be gone back to.
fn remember_policy(
    history: &mut Vec<(Prepared, Option<String>)>,
    policy: (Prepared, Option<String>),
) {
    history.push(policy);
    if history.len() > HISTORY {
        history.remove(0);
    }
}
