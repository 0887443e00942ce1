//! What decides about one request: the generation that serves it to its end, and
//! the shadows that are asked beside it. Knows no requests; the decode loop calls
//! it where it would call a policy.

use std::collections::BTreeSet;
use std::sync::Arc;

use aio_core::{
    Grant, Granted, Outcome, PolicyIdentity, RequestFacts, RequestRecord, RoundContext,
    RoundDecision, RoundFacts, Verdict,
};

use crate::asked::Asked;
use crate::generation::Generation;
use crate::shadow::{Question, Shadow};

/// The policy of one request, with its shadows. Cheap to clone.
#[derive(Clone)]
pub struct Decider {
    generation: Arc<Generation>,
    shadows: Arc<[Arc<Shadow>]>,
}

impl std::fmt::Debug for Decider {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Decider")
            .field("generation", &self.generation)
            .field("shadows", &self.shadows.len())
            .finish()
    }
}

impl Decider {
    pub(crate) fn new(generation: Arc<Generation>, shadows: Arc<[Arc<Shadow>]>) -> Self {
        Self { generation, shadows }
    }

    /// The generation whose answers are carried out.
    pub fn generation(&self) -> &Arc<Generation> {
        &self.generation
    }

    /// Whether both have the same generation and the same shadows, so that one call may
    /// ask about the requests of both.
    pub fn is_same(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.generation, &other.generation)
            && Arc::ptr_eq(&self.shadows, &other.shadows)
    }

    /// Which policy serves, for records.
    pub fn identity(&self) -> &PolicyIdentity {
        self.generation.identity()
    }

    /// What it and its shadows import of that which was granted: what a request has
    /// of it is to be handed to [`Decider::plan`]. Each policy gets its own part.
    pub fn imports(&self) -> BTreeSet<Grant> {
        let shadows = self.shadows.iter().flat_map(|shadow| shadow.generation().imports());
        self.generation.imports().iter().chain(shadows).copied().collect()
    }

    /// Asks how to answer a request.
    pub fn plan(&self, facts: &RequestFacts, granted: &Granted) -> Asked<Verdict> {
        let asked = self.generation.plan(facts, granted);
        self.ask_shadows(
            |_| true,
            || Question::Plan {
                facts: facts.clone(),
                granted: granted.clone().bounded(),
                served: asked.answer.clone(),
            },
        );
        asked
    }

    /// Whether asking [`Decider::rounds`] changes anything.
    pub fn wants_rounds(&self) -> bool {
        self.generation.wants_rounds()
    }

    /// Asks about running requests that are due. Shadows are asked apart, in
    /// [`Decider::round_begins`].
    pub fn rounds(
        &self,
        context: &RoundContext,
        requests: &[RoundFacts],
    ) -> Asked<Vec<RoundDecision>> {
        self.generation.rounds(context, requests)
    }

    /// Whether a shadow wants to be told when a round begins: also where the
    /// serving policy wants to hear of no rounds, or not of this one.
    pub fn shadows_rounds(&self) -> bool {
        self.shadows.iter().any(|shadow| shadow.generation().wants_rounds())
    }

    /// Tells the shadows that a round begins; each is asked about the requests that
    /// it wants to be asked about. In `requests`, `recent_*` count from a request's
    /// beginning; `served` is what [`Decider::rounds`] decided, if that was asked.
    pub fn round_begins(
        &self,
        context: &RoundContext,
        requests: &[RoundFacts],
        served: &[RoundDecision],
    ) {
        self.ask_shadows(Generation::wants_rounds, || Question::Rounds {
            context: context.clone(),
            requests: requests.to_vec(),
            served: served.to_vec(),
        });
    }

    /// Tells what became of requests.
    pub fn finished(&self, outcomes: &[Outcome]) -> Asked<()> {
        let asked = self.generation.finished(outcomes);
        self.ask_shadows(|_| true, || Question::Finished { outcomes: outcomes.to_vec() });
        asked
    }

    /// Notes that a request has ended, where calls are recorded.
    pub fn ended(&self, record: &RequestRecord) {
        self.generation.ended(record);
    }

    /// Puts a question to the shadows that want it and have room for it.
    fn ask_shadows(
        &self,
        wants: impl Fn(&Generation) -> bool,
        question: impl FnOnce() -> Question,
    ) {
        let asked = |shadow: &&Arc<Shadow>| wants(shadow.generation()) && shadow.has_room();
        let mut shadows = self.shadows.iter().filter(asked).peekable();
        if shadows.peek().is_none() {
            return;
        }
        let question = Arc::new(question());
        shadows.for_each(|shadow| shadow.ask(&question));
    }
}
