//! The vocabulary that the host's parts share: tiers, plans, facts, decisions,
//! outcomes and records, as plain serde types.
//!
//! This crate knows no I/O, no tensors and no WebAssembly. `aio-engine` and
//! `aio-policy` never meet directly; both speak these types to `aio-serve`.
//! Field names are the same here, in the WIT contract (`wit/`), in JSON and in
//! prose.

mod clamp;
mod facts;
mod failure;
mod grant;
mod mix;
mod outcome;
mod plan;
mod record;
mod shadow;
mod tier;

pub use clamp::{
    Clamped, MAX_ANSWERS, MAX_LABEL_BYTES, MAX_PROBES, MAX_QUESTION_BYTES, MAX_REASON_BYTES,
};
pub use facts::{Acceptance, Load, ProbeResult, RequestFacts, RoundContext, RoundFacts};
pub use failure::{Failure, FailureKind, Hook};
pub use grant::{
    Grant, Granted, MAX_GRANTED_TEXT_BYTES, MAX_GRANTED_TOKENS, MAX_GRANTED_VALUE_BYTES,
};
pub use mix::{MIX_STEP, mix};
pub use outcome::{FinishReason, Outcome};
pub use plan::{Action, CATCH_UP, Draft, Drafter, Plan, Probe, RoundDecision, Verdict};
pub use record::{
    Answerer, MemoryRecord, PolicyIdentity, ProbeRecord, RequestRecord, RoundRecord, Totals,
};
pub use shadow::{Agreement, ShadowReport};
pub use tier::{Gear, HostInfo, TierFacts, TierInfo};
