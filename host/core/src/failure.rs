//! How a policy can fail, as data for records and metrics.

use serde::{Deserialize, Serialize};

/// The hooks of the policy contract.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Hook {
    /// What the policy is.
    Describe,
    /// Configuration and carried state.
    Init,
    /// How to answer a request.
    Plan,
    /// How running requests go on.
    Rounds,
    /// What became of requests.
    Finished,
    /// Learned state.
    Snapshot,
}

impl Hook {
    /// All there are, in the order in which they are called.
    pub const ALL: [Self; 6] =
        [Self::Describe, Self::Init, Self::Plan, Self::Rounds, Self::Finished, Self::Snapshot];
}

impl std::fmt::Display for Hook {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Describe => "describe",
            Self::Init => "init",
            Self::Plan => "plan",
            Self::Rounds => "rounds",
            Self::Finished => "finished",
            Self::Snapshot => "snapshot",
        })
    }
}

/// What went wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum FailureKind {
    /// The component trapped.
    Trap,
    /// It used up its fuel or its time.
    Timeout,
    /// It asked for more memory than it may have.
    Memory,
    /// Its answer was out of bounds; the host used the nearest that is in bounds.
    Clamped,
    /// Its answer could not be used at all.
    Nonsense,
    /// It is set aside after repeated failures.
    SetAside,
}

/// One failure of a policy, as the request's record keeps it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    /// The hook that was called.
    pub hook: Hook,
    /// What went wrong.
    pub kind: FailureKind,
    /// One sentence for people.
    pub message: String,
}

impl std::fmt::Display for Failure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.message)
    }
}
