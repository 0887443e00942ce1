//! One generation: a policy that serves, shared by the requests that it planned,
//! and the log of what it was asked. Knows nothing of the generations before and
//! after it.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use aio_core::{
    FailureKind, Grant, Granted, HostInfo, Outcome, PolicyIdentity, RequestFacts, RequestRecord,
    RoundContext, RoundDecision, RoundFacts, Verdict,
};

use crate::asked::Asked;
use crate::cleaner::Cleaner;
use crate::event::{Event, Recorder, Role, to_hex};
use crate::load::Prepared;
use crate::loaded::LoadedPolicy;
use crate::status::PolicyStatus;

/// A policy that serves, or has served and still has requests.
pub struct Generation {
    identity: PolicyIdentity,
    role: Role,
    /// A canary that was put in place.
    promoted: AtomicBool,
    /// Whether it was ever set aside.
    set_aside: AtomicBool,
    imports: BTreeSet<Grant>,
    wants_rounds: bool,
    wants_finished: bool,
    /// `None` only while this is dropped. In a box, which is handed over as it is.
    policy: Option<Box<Mutex<LoadedPolicy>>>,
    cleaner: Arc<Cleaner>,
    recorder: Option<Arc<Recorder>>,
}

impl Drop for Generation {
    /// It goes with its last request, on the thread that served that: which drops
    /// nothing of what is large, and not a part of what another thread drops.
    fn drop(&mut self) {
        if let Some(policy) = self.policy.take() {
            self.cleaner.discard(policy);
        }
    }
}

impl std::fmt::Debug for Generation {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Generation").field("identity", &self.identity).finish_non_exhaustive()
    }
}

impl Generation {
    pub(crate) fn new(policy: LoadedPolicy, role: Role, recorder: Option<Arc<Recorder>>) -> Self {
        let generation = Self {
            identity: policy.identity().clone(),
            role,
            promoted: AtomicBool::new(false),
            set_aside: AtomicBool::new(false),
            imports: policy.imports().clone(),
            wants_rounds: policy.wants_rounds(),
            wants_finished: policy.wants_finished(),
            cleaner: Arc::clone(policy.runtime().cleaner()),
            policy: Some(Box::new(Mutex::new(policy))),
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

    /// What it is for.
    pub fn role(&self) -> Role {
        if self.promoted.load(Ordering::Relaxed) { Role::Serving } else { self.role }
    }

    /// From now on it serves.
    pub(crate) fn promote(&self) {
        self.promoted.store(true, Ordering::Relaxed);
        self.record(|| Event::Promoted { generation: self.identity.generation });
    }

    /// Whether it has ever failed so often that it was set aside.
    pub fn was_set_aside(&self) -> bool {
        self.set_aside.load(Ordering::Relaxed)
    }

    /// How it fares. Waits for the call under way, if there is one.
    pub fn status(&self) -> PolicyStatus {
        self.policy().status(self.role())
    }

    /// Until when it stays set aside, if it is. Waits as [`Generation::status`] does.
    pub(crate) fn aside_until(&self) -> Option<Instant> {
        self.policy().aside_until()
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

    pub(crate) fn wants_finished(&self) -> bool {
        self.wants_finished
    }

    /// See [`LoadedPolicy::plan_granted`].
    pub fn plan(&self, facts: &RequestFacts, granted: &Granted) -> Asked<Verdict> {
        let granted = granted.only(&self.imports);
        let asked = self.note(self.policy().plan_granted(facts, &granted));
        self.record(|| Event::Plan {
            generation: self.identity.generation,
            facts: Box::new(facts.clone()),
            granted: granted.bounded(),
            answer: asked.answer.clone(),
            failures: asked.failures.clone(),
            fuel: asked.fuel,
        });
        asked
    }

    /// See [`LoadedPolicy::rounds`].
    pub fn rounds(
        &self,
        context: &RoundContext,
        requests: &[RoundFacts],
    ) -> Asked<Vec<RoundDecision>> {
        let asked = self.note(self.policy().rounds(context, requests));
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

    /// See [`LoadedPolicy::finished`].
    pub fn finished(&self, outcomes: &[Outcome]) -> Asked<()> {
        let asked = self.note(self.policy().finished(outcomes));
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

    /// See [`LoadedPolicy::snapshot`].
    pub fn snapshot(&self) -> Asked<Option<Vec<u8>>> {
        let asked = self.note(self.policy().snapshot());
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

    pub(crate) fn host(&self) -> HostInfo {
        self.policy().host().clone()
    }

    pub(crate) fn prepared(&self) -> (Prepared, Option<String>) {
        let policy = self.policy();
        (policy.prepared().clone(), policy.setup().config.clone())
    }

    /// A call that panicked left the policy without an instance at worst, which
    /// the next call makes anew: so a poisoned lock is no reason to stop.
    #[expect(clippy::expect_used, reason = "no method is called in or after drop")]
    fn policy(&self) -> MutexGuard<'_, LoadedPolicy> {
        let policy = self.policy.as_ref().expect("only drop takes it");
        policy.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn note<T>(&self, asked: Asked<T>) -> Asked<T> {
        if asked.failures.iter().any(|failure| failure.kind == FailureKind::SetAside) {
            self.set_aside.store(true, Ordering::Relaxed);
        }
        asked
    }

    fn record(&self, event: impl FnOnce() -> Event) {
        if let Some(recorder) = &self.recorder {
            recorder.write(&event());
        }
    }
}
