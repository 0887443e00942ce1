//! Generations of policies: the one in place behind an atomic pointer, the way
//! to the next (prepare, start, canary, swap) and back to the one before.
//!
//! Whoever serves takes a [`Generation`] for a request ([`Generations::current`])
//! and keeps it until the request ends: a reload changes what later requests
//! take. All of a reload but the swap happens on the thread that asks for it; a
//! failure at any step leaves everything as it was. Knows no files but the
//! policy's, and nothing of what requests are.

use std::collections::{BTreeSet, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant};

use aio_core::{
    Acceptance, Draft, Drafter, FailureKind, Grant, Granted, HostInfo, MAX_PROBES, Outcome,
    PolicyIdentity, RequestFacts, RequestRecord, RoundContext, RoundDecision, RoundFacts, Verdict,
};
use arc_swap::ArcSwap;

use crate::error::{LoadError, Step};
use crate::event::{Event, Recorder, Role, to_hex};
use crate::host::{Asked, PolicyHost, Setup};
use crate::load::Prepared;
use crate::runtime::PolicyRuntime;
use crate::source::PolicySource;
use crate::state::{Carried, StateStore};

/// Facts of earlier requests that a new generation is asked about before it serves.
const CANARY_FACTS: usize = 16;
/// Policies that can be gone back to.
const HISTORY: usize = 8;

/// A policy that serves, or has served and still has requests.
pub struct Generation {
    identity: PolicyIdentity,
    imports: BTreeSet<Grant>,
    wants_rounds: bool,
    wants_finished: bool,
    policy: Mutex<PolicyHost>,
    recorder: Option<Arc<Recorder>>,
}

impl std::fmt::Debug for Generation {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Generation").field("identity", &self.identity).finish_non_exhaustive()
    }
}

impl Generation {
    pub(crate) fn new(policy: PolicyHost, role: Role, recorder: Option<Arc<Recorder>>) -> Self {
        let generation = Self {
            identity: policy.identity().clone(),
            imports: policy.imports().clone(),
            wants_rounds: policy.wants_rounds(),
            wants_finished: policy.wants_finished(),
            policy: Mutex::new(policy),
            recorder,
        };
        generation.record(|| {
            let policy = generation.policy();
            let setup = policy.setup();
            Event::Generation {
                policy: generation.identity.clone(),
                role,
                config: setup.config.clone(),
                carried: setup.carried.as_ref().map(|carried| to_hex(&carried.state)),
                host: setup.host.clone(),
            }
        });
        generation
    }

    /// Which policy this is, for records.
    pub fn identity(&self) -> &PolicyIdentity {
        &self.identity
    }

    /// What it imports of that which was granted: what a request has of it is to
    /// be handed to [`Generation::plan`].
    pub fn imports(&self) -> &BTreeSet<Grant> {
        &self.imports
    }

    /// Whether asking `rounds` changes anything.
    pub fn wants_rounds(&self) -> bool {
        self.wants_rounds
    }

    /// See [`PolicyHost::plan`].
    pub fn plan(&self, facts: &RequestFacts, granted: &Granted) -> Asked<Verdict> {
        let asked = self.policy().plan_granted(facts, granted);
        self.record(|| Event::Plan {
            generation: self.identity.generation,
            facts: Box::new(facts.clone()),
            granted: granted.clone().bounded(),
            answer: asked.answer.clone(),
            failures: asked.failures.clone(),
            fuel: asked.fuel,
        });
        asked
    }

    /// See [`PolicyHost::rounds`].
    pub fn rounds(
        &self,
        context: &RoundContext,
        requests: &[RoundFacts],
    ) -> Asked<Vec<RoundDecision>> {
        let asked = self.policy().rounds(context, requests);
        self.record(|| Event::Rounds {
            generation: self.identity.generation,
            context: Box::new(context.clone()),
            requests: requests.to_vec(),
            answer: asked.answer.clone(),
            failures: asked.failures.clone(),
            fuel: asked.fuel,
        });
        asked
    }

    /// See [`PolicyHost::finished`].
    pub fn finished(&self, outcomes: &[Outcome]) -> Asked<()> {
        let asked = self.policy().finished(outcomes);
        if self.wants_finished {
            self.record(|| Event::Finished {
                generation: self.identity.generation,
                outcomes: outcomes.to_vec(),
                failures: asked.failures.clone(),
                fuel: asked.fuel,
            });
        }
        asked
    }

    /// Notes that a request has ended, where calls are recorded.
    pub fn ended(&self, record: &RequestRecord) {
        self.record(|| Event::Request { record: Box::new(record.clone()) });
    }

    /// See [`PolicyHost::snapshot`].
    pub fn snapshot(&self) -> Asked<Option<Vec<u8>>> {
        let asked = self.policy().snapshot();
        self.record(|| Event::Snapshot {
            generation: self.identity.generation,
            state: asked.answer.as_deref().map(to_hex),
        });
        asked
    }

    /// One sentence on what the policy does, in its own words; may be empty.
    pub fn summary(&self) -> String {
        self.policy().summary().to_owned()
    }

    fn prepared(&self) -> (Prepared, Option<String>) {
        let policy = self.policy();
        (policy.prepared().clone(), policy.setup().config.clone())
    }

    /// A call that panicked left the policy without an instance at worst, which
    /// the next call makes anew: so a poisoned lock is no reason to stop.
    fn policy(&self) -> MutexGuard<'_, PolicyHost> {
        self.policy.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn record(&self, event: impl FnOnce() -> Event) {
        if let Some(recorder) = &self.recorder {
            recorder.write(&event());
        }
    }
}

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
pub struct Generations {
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

impl std::fmt::Debug for Generations {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Generations").field("current", &self.current()).finish_non_exhaustive()
    }
}

impl Generations {
    /// Loads the first policy. State that the store has of it is carried.
    ///
    /// # Errors
    /// As [`PolicyHost::load`].
    pub fn load(
        runtime: &PolicyRuntime,
        source: &PolicySource,
        setup: Setup,
        options: Options,
    ) -> Result<Self, LoadError> {
        let prepared = Prepared::new(runtime, source, &setup.limits, &setup.grants)?;
        let kept = |name: &str| options.store.as_ref()?.load(name);
        let number = runtime.next_generation();
        let policy = PolicyHost::start_as(runtime, &prepared, setup.clone(), number, kept)?;
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
    /// [`LoadError::NothingToRollBackTo`], or as [`Generations::reload`].
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
        let mut canary = PolicyHost::start_as(&self.runtime, prepared, setup.clone(), 0, |_| None)?;
        step(Step::Init, start);
        let start = Instant::now();
        let facts = self.facts.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let changes = try_out(&mut canary, &facts)?;
        step(Step::Canary, start);

        let start = Instant::now();
        let policy = PolicyHost::start(&self.runtime, prepared, setup)?;
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

    /// [`Generations::save`], if it was not done within the last `period`: to be
    /// called now and then.
    pub fn save_every(&self, period: Duration) {
        let last = *self.saved.lock().unwrap_or_else(PoisonError::into_inner);
        if last.elapsed() >= period {
            self.save();
        }
    }
}

/// Asks a policy that is not to serve about facts of earlier requests (made-up
/// ones where there are none) and about a round. Returns what was brought into
/// bounds.
fn try_out(
    policy: &mut PolicyHost,
    facts: &VecDeque<RequestFacts>,
) -> Result<Vec<String>, LoadError> {
    let made_up = [made_up_request(policy.host())];
    let facts: Vec<&RequestFacts> =
        if facts.is_empty() { made_up.iter().collect() } else { facts.iter().collect() };
    let mut failures = Vec::new();
    for facts in facts {
        // With room for a probe more: that a policy asks for one is no fault, and
        // results of another policy's probes are no answer to it.
        let mut facts = facts.clone();
        facts.probes.truncate(MAX_PROBES - 1);
        failures.extend(policy.plan(&facts).failures);
        let (context, round) = made_up_round(&facts, policy.host());
        failures.extend(policy.rounds(&context, &[round]).failures);
    }
    failures.extend(policy.snapshot().failures);
    let mut changes = Vec::new();
    for failure in failures {
        if failure.kind != FailureKind::Clamped {
            return Err(LoadError::Canary { policy: policy.identity().name.clone(), failure });
        }
        changes.push(failure.message);
    }
    Ok(changes)
}

fn made_up_request(host: &HostInfo) -> RequestFacts {
    RequestFacts {
        request: 0,
        prompt_tokens: vec![100; host.tiers.len()],
        max_tokens: 256,
        temperature: 0.0,
        chat: true,
        tiers: vec![aio_core::TierFacts::default(); host.tiers.len()],
        load: aio_core::Load { running: 1, queued: 0 },
        probes: Vec::new(),
    }
}

fn made_up_round(facts: &RequestFacts, host: &HostInfo) -> (RoundContext, RoundFacts) {
    let tier = host.largest_tier();
    let acceptance =
        Acceptance { tier, drafter: Drafter::Lookup, by_position: vec![0.8, 0.7, 0.5], rounds: 20 };
    let context =
        RoundContext { tiers: facts.tiers.clone(), acceptance: vec![acceptance], load: facts.load };
    let round = RoundFacts {
        request: facts.request,
        tier,
        round: 1,
        prompt_tokens: facts.prompt_tokens.last().copied().unwrap_or(1),
        committed: 2,
        remaining: facts.max_tokens,
        draft: Draft::NONE,
        recent_rounds: 1,
        recent_drafted: 0,
        recent_accepted: 0,
        lookup_match: 3,
    };
    (context, round)
}
