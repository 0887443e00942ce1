//! The zoo: components that mean harm, what each does, and how it must end.
//! Tests check the endings, `examples/zoo.rs` measures how long they take.

#![allow(dead_code, reason = "each test file visits its own part")]
#![allow(clippy::unwrap_used, reason = "tests")]

pub mod answers;
pub mod build;
pub mod components;
pub mod log;
pub mod memory;
pub mod time;

use std::time::Duration;

use aio_core::{Failure, FailureKind, FinishReason, Hook, Outcome, RoundContext, Verdict};
use aio_policy::{LoadError, LoadedPolicy, PolicyRuntime, PolicySource, Setup};

use crate::common::{facts, host, round};

/// How an animal ends.
#[derive(Debug, Clone, Copy)]
pub enum End {
    /// It is not loaded; the sentence contains this.
    Refused(&'static str),
    /// The hook fails in this way, once; the sentence contains this.
    Fails(Hook, FailureKind, &'static str),
    /// The hook's answer is brought into bounds; each sentence contains its part.
    Clamped(Hook, &'static [&'static str]),
    /// Nothing happens.
    Harmless(Hook),
}

/// A component that means harm.
pub struct Animal {
    pub name: &'static str,
    pub bytes: Vec<u8>,
    pub end: End,
    /// The wall time that its calls may take, where the clock is what ends it.
    pub deadline: Option<Duration>,
    /// It fails for every request, not only for request 1.
    pub always: bool,
}

impl Animal {
    pub fn new(name: &'static str, bytes: Vec<u8>, end: End) -> Self {
        Self { name, bytes, end, deadline: None, always: false }
    }

    /// One of which `plan` fails.
    pub fn fails(
        name: &'static str,
        bytes: Vec<u8>,
        kind: FailureKind,
        says: &'static str,
    ) -> Self {
        Self::new(name, bytes, End::Fails(Hook::Plan, kind, says))
    }

    pub fn refused(name: &'static str, bytes: Vec<u8>, says: &'static str) -> Self {
        Self::new(name, bytes, End::Refused(says))
    }

    pub fn wat(name: &'static str, text: &str, says: &'static str) -> Self {
        Self::refused(name, wat::parse_str(text).unwrap(), says)
    }

    pub fn deadline(mut self, deadline: Duration) -> Self {
        self.deadline = Some(deadline);
        self
    }

    pub fn always(mut self) -> Self {
        self.always = true;
        self
    }

    pub fn load(&self, runtime: &PolicyRuntime, setup: Setup) -> Result<LoadedPolicy, LoadError> {
        let source = PolicySource::Bytes { name: self.name.into(), bytes: self.bytes.clone() };
        LoadedPolicy::load(runtime, &source, setup)
    }

    /// The hook that does the harm, when it is loaded at all.
    pub fn hook(&self) -> Hook {
        match self.end {
            End::Refused(_) => Hook::Plan,
            End::Fails(hook, ..) | End::Clamped(hook, _) | End::Harmless(hook) => hook,
        }
    }
}

/// All animals.
pub fn all() -> Vec<Animal> {
    let parts = [
        time::animals(),
        memory::animals(),
        answers::animals(),
        log::animals(),
        components::animals(),
    ];
    parts.into_iter().flatten().collect()
}

/// What a call gave, for any hook: whether the policy's own answer was used, and
/// the failures.
pub struct Given {
    pub own: bool,
    pub failures: Vec<Failure>,
}

/// Calls a hook for request 1.
pub fn provoke(policy: &mut LoadedPolicy, hook: Hook) -> Given {
    match hook {
        Hook::Plan | Hook::Describe | Hook::Init => plan_of(policy, 1),
        Hook::Rounds => {
            let asked = policy.rounds(&RoundContext::default(), &[round(1), round(2)]);
            // No decision is an answer too: keep all settings.
            let own = asked.failures.iter().all(|f| f.kind == FailureKind::Clamped);
            assert!(own || asked.answer.is_empty());
            Given { own, failures: asked.failures }
        }
        Hook::Finished => {
            let asked = policy.finished(&[outcome()]);
            Given { own: asked.failures.is_empty(), failures: asked.failures }
        }
        Hook::Snapshot => {
            let asked = policy.snapshot();
            Given { own: asked.answer.is_some(), failures: asked.failures }
        }
    }
}

/// Asks for a plan.
pub fn plan_of(policy: &mut LoadedPolicy, request: u64) -> Given {
    let asked = policy.plan(&aio_core::RequestFacts { request, ..facts(vec![]) });
    let safe = Verdict::Decided(aio_core::Plan::safe(&host()));
    Given { own: asked.answer != safe, failures: asked.failures }
}

fn outcome() -> Outcome {
    Outcome {
        request: 1,
        tier: 1,
        label: String::new(),
        finish: FinishReason::Stop,
        prompt_tokens: 1,
        committed: 1,
        rounds: 1,
        drafted: 0,
        accepted: 0,
        prefill_milliseconds: f32::NAN,
        decode_milliseconds: f32::INFINITY,
    }
}
