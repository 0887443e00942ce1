//! What two policies' answers about the same facts have not in common.

use aio_core::{Action, Draft, Drafter, Failure, HostInfo, Plan};
use serde::Serialize;
use serde_json::Value;

/// An answer of the recorded component that it did not give again.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Difference {
    /// The line of the record.
    pub line: usize,
    /// The hook that was called.
    pub hook: &'static str,
    /// What was answered then.
    pub recorded: Answered,
    /// What is answered now.
    pub replayed: Answered,
}

/// An answer, and what the call took.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Answered {
    /// The answer.
    pub answer: Value,
    /// What went wrong.
    pub failures: Vec<Failure>,
    /// Fuel used.
    pub fuel: u64,
}

impl Difference {
    pub(super) fn new(
        line: usize,
        hook: &'static str,
        was: (Value, Vec<Failure>, u64),
        is: (Value, Vec<Failure>, u64),
    ) -> Self {
        let answered = |(answer, failures, fuel)| Answered { answer, failures, fuel };
        Self { line, hook, recorded: answered(was), replayed: answered(is) }
    }
}

/// What another policy decides otherwise, and how often.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Change {
    /// What is decided: the plan, or the setting of a round.
    pub of: &'static str,
    /// The recorded decision.
    pub recorded: String,
    /// The candidate's.
    pub replayed: String,
    /// How often.
    pub times: usize,
}

/// A plan in a few words: tier, drafts, label.
pub(super) fn plan_words(plan: Option<&Plan>, host: &HostInfo) -> String {
    let Some(plan) = plan else { return "wants a probe that was not recorded".into() };
    let tier = host.tiers.get(plan.tier as usize).map_or("?", |tier| tier.name.as_str());
    let label = match plan.label.as_str() {
        "" => String::new(),
        label => format!(" ({label})"),
    };
    format!("{tier}, {}{label}", draft_words(&plan.draft))
}

/// A way to draft in a few words.
pub(super) fn draft_words(draft: &Draft) -> String {
    match draft.drafter {
        Drafter::None => "plain".into(),
        _ if draft.length == 0 => "plain".into(),
        drafter => format!("{drafter} {}", draft.length),
    }
}

/// A decision in a few words.
pub(super) fn action_words(action: &Action, host: &HostInfo) -> String {
    match action {
        Action::Keep => "keep".into(),
        Action::Draft(draft) => draft_words(draft),
        Action::MoveTo(tier) => {
            let name = host.tiers.get(*tier as usize).map_or("?", |tier| tier.name.as_str());
            format!("move to {name}")
        }
    }
}
