//! The generations of a host's policy: the one in place behind an atomic pointer, the way
//! to the next (prepare, start, canary, swap) and back to the one before.
//!
//! Whoever serves takes a [`Generation`] for a request ([`PolicyHost::current`])
//! and keeps it until the request ends: a reload changes what later requests
//! take. All of a reload but the swap happens on the thread that asks for it; a
//! failure at any step leaves everything as it was. Knows no files but the
//! policy's, and nothing of what requests are.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::{Duration, Instant};

use aio_core::{HostInfo, PolicyIdentity, RequestFacts};
use arc_swap::ArcSwap;

use crate::canary::try_out;
use crate::error::{LoadError, Step};
use crate::event::{Recorder, Role};
use crate::generation::Generation;
use crate::load::Prepared;
use crate::loaded::{LoadedPolicy, Setup};
use crate::runtime::PolicyRuntime;
use crate::source::PolicySource;
use crate::state::{Carried, StateStore};

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

/// The policy in place, and how it is replaced.
pub struct PolicyHost {
    runtime: PolicyRuntime,
    current: ArcSwap<Generation>,
    /// What a policy is started with, its configuration and state apart.
    setup: Setup,
    options: Options,
    /// Held by who replaces the policy: one at a time.
    replacing: Mutex<Replacing>,
    /// What the last requests were, for canaries.
    facts: Mutex<VecDeque<RequestFacts>>,
    saved: Mutex<Instant>,
}

#[derive(Default)]
struct Replacing {
    history: Vec<(Prepared, Option<String>)>,
    live: Vec<Weak<Generation>>,
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
        let replacing = Replacing { live: vec![Arc::downgrade(&current)], ..Replacing::default() };
        Ok(Self {
            runtime: runtime.clone(),
            current: ArcSwap::new(current),
            setup: Setup { config: None, carried: None, ..setup },
            options,
            replacing: Mutex::new(replacing),
            facts: Mutex::default(),
            saved: Mutex::new(Instant::now()),
        })
    }

    /// The policy in place. Whoever takes it for a request keeps it to the
    /// request's end.
    pub fn current(&self) -> Arc<Generation> {
        self.current.load_full()
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

    /// Generations that are in place or still have requests.
    pub fn live(&self) -> Vec<PolicyIdentity> {
        let mut replacing = self.replacing.lock().unwrap_or_else(PoisonError::into_inner);
        replacing.live.retain(|generation| generation.strong_count() > 0);
        let live = replacing.live.iter().filter_map(Weak::upgrade);
        live.map(|generation| generation.identity().clone()).collect()
    }

    /// Puts another policy in place: reads, compiles and checks it, starts it
    /// with the configuration and what the current one has learnt (where it is
    /// of the same name), asks it about facts of earlier requests, and swaps.
    ///
    /// # Errors
    /// What failed ([`LoadError::step`] says where); the policy in place stays.
    pub fn reload(
        &self,
        source: &PolicySource,
        config: Option<String>,
    ) -> Result<Reloaded, LoadError> {
        let mut replacing = self.replacing.lock().unwrap_or_else(PoisonError::into_inner);
        let start = Instant::now();
        let prepared =
            Prepared::new(&self.runtime, source, &self.setup.limits, &self.setup.grants)?;
        let steps = vec![(Step::Compile, start.elapsed().as_secs_f64())];
        let before = self.current().prepared();
        let reloaded = self.put(&mut replacing, &prepared, config, steps)?;
        replacing.history.push(before);
        if replacing.history.len() > HISTORY {
            replacing.history.remove(0);
        }
        Ok(reloaded)
    }

    /// Puts the policy before the current one in place again, with the
    /// configuration that it had.
    ///
    /// # Errors
    /// [`LoadError::NothingToRollBackTo`], or as [`PolicyHost::reload`].
    pub fn roll_back(&self) -> Result<Reloaded, LoadError> {
        let mut replacing = self.replacing.lock().unwrap_or_else(PoisonError::into_inner);
        let Some((prepared, config)) = replacing.history.last().cloned() else {
            return Err(LoadError::NothingToRollBackTo);
        };
        let reloaded = self.put(&mut replacing, &prepared, config, Vec::new())?;
        replacing.history.pop();
        Ok(reloaded)
    }

    fn put(
        &self,
        replacing: &mut Replacing,
        prepared: &Prepared,
        config: Option<String>,
        mut steps: Vec<(Step, f64)>,
    ) -> Result<Reloaded, LoadError> {
        self.make_room(replacing)?;
        let current = self.current();
        let setup = Setup { config, carried: self.learnt(&current), ..self.setup.clone() };
        let mut step = |step, start: Instant| steps.push((step, start.elapsed().as_secs_f64()));

        // The canary is an instance of its own: what it is asked must not be
        // what the serving one has learnt.
        let start = Instant::now();
        let mut canary =
            LoadedPolicy::start_as(&self.runtime, prepared, setup.clone(), 0, |_| None)?;
        step(Step::Init, start);
        let start = Instant::now();
        let facts = self.facts.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let changes = try_out(&mut canary, &facts)?;
        step(Step::Canary, start);

        let start = Instant::now();
        let policy = LoadedPolicy::start(&self.runtime, prepared, setup)?;
        let next = Generation::new(policy, Role::Serving, self.options.recorder.clone());
        let next = Arc::new(next);
        replacing.live.push(Arc::downgrade(&next));
        let policy = next.identity().clone();
        self.current.store(next);
        step(Step::Swap, start);
        Ok(Reloaded { policy, replaced: current.identity().clone(), steps, changes })
    }

    fn make_room(&self, replacing: &mut Replacing) -> Result<(), LoadError> {
        replacing.live.retain(|generation| generation.strong_count() > 0);
        let live = replacing.live.len();
        if live >= self.options.most_live {
            Err(LoadError::TooManyGenerations { live })
        } else {
            Ok(())
        }
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

    /// Saves what the current policy has learnt: to be called at exit.
    pub fn save(&self) {
        *self.saved.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
        if self.options.store.is_some() {
            self.learnt(&self.current());
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
