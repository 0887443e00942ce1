//! The decode loop: plan, prefill, then rounds of draft, verify and commit,
//! under a policy.
//!
//! This is where `aio-engine` (models) and `aio-policy` (decisions) meet,
//! through the types of `aio-core`. It decides nothing that a policy may decide,
//! and must not know tensors or WebAssembly.

mod measure;
mod planning;
mod request;
mod round;
mod runner;
mod text;
mod tiers;

pub use request::{Prompt, Request, Sink};
pub use runner::{Runner, ServeError};
pub use tiers::{TierSource, Tiers, TiersError};
