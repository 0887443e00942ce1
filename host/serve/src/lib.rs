//! The decode loop: plan, prefill, then rounds of draft, verify and commit,
//! under a policy.
//!
//! This is where `aio-engine` (models) and `aio-policy` (decisions) meet,
//! through the types of `aio-core`. It decides nothing that a policy may decide,
//! and must not know tensors or WebAssembly.

mod error;
mod event;
mod measure;
mod process;
mod prompt;
mod request;
mod runner;
mod scheduler;
mod service;
mod text;
mod tiers;

pub use error::ServeError;
pub use event::{Event, Likelihood, PlannedEvent, TextEvent, TokenChoice};
pub use process::ProcessMemory;
pub use request::{Overrides, Prompt, Request, Sink};
pub use runner::Runner;
pub use scheduler::{Events, Recent, Scheduler, SchedulerOptions, SchedulerStatus};
pub use service::{Answer, Refused, Service};
pub use tiers::{TierSource, Tiers, TiersError};
