//! The policy runtime: loads a WebAssembly component behind the `aio:policy`
//! contract, asks it for decisions, and never trusts it.
//!
//! A [`PolicyRuntime`] holds what all policies share: the compiler's settings,
//! what a policy may import (a log, and what an operator grants), and the ticker that
//! enforces deadlines. A [`LoadedPolicy`] is one loaded policy. Its calls cannot
//! fail: when the component traps, overruns its fuel, time or memory, or
//! answers nonsense, the answer is the safe one and the failure is handed back
//! beside it ([`Asked`]). After a trap the instance is thrown away and a fresh
//! one initialised; after repeated failures the policy is set aside for a while.
//!
//! This crate must not know tensors, models, tokens' meaning or HTTP. It is the
//! only one that names the generated WIT types: everything it takes and returns
//! is `aio-core`'s vocabulary.
//!
//! ```
//! use aio_core::{HostInfo, TierInfo};
//! use aio_policy::{LoadedPolicy, PolicyRuntime, PolicySource, Setup};
//!
//! # fn main() -> Result<(), aio_policy::LoadError> {
//! # let tier = TierInfo {
//! #     name: "only".into(),
//! #     parameters: 1,
//! #     weight_bytes: 1,
//! #     kv_bytes_per_token: 1,
//! #     context: 2048,
//! #     tokenizer: 0,
//! # };
//! # let host = HostInfo {
//! #     version: "0".into(),
//! #     device: "none".into(),
//! #     tiers: vec![tier],
//! #     max_draft_length: 16,
//! #     max_ngram: 8,
//! # };
//! let runtime = PolicyRuntime::new()?;
//! let source = PolicySource::from_argument("fixed")?;
//! let setup = Setup::new(host).config(r#"{"drafter": "lookup"}"#);
//! let policy = LoadedPolicy::load(&runtime, &source, setup)?;
//! assert_eq!(policy.identity().name, "fixed");
//! # Ok(())
//! # }
//! ```

mod asked;
mod call;
mod canary;
mod cleaner;
mod code_cache;
mod compiled;
mod contract;
mod decider;
mod describe;
mod error;
mod event;
mod generation;
mod host;
mod instance;
mod limits;
mod load;
mod loaded;
mod log;
mod runtime;
mod setup;
mod shadow;
mod share;
mod signature;
mod source;
mod state;
mod status;
mod strikes;
mod ticker;
mod undecided;
mod watch;

pub use asked::Asked;
pub use decider::Decider;
pub use describe::Description;
pub use error::{LoadError, Step};
pub use event::{Event, RECORD_SCHEMA, Recorder, Role, from_hex};
pub use generation::Generation;
pub use host::{CanaryInPlace, MOST_SHADOWS, Options, PolicyHost, Reloaded, Started, Withdrawn};
pub use limits::Limits;
pub use load::Prepared;
pub use loaded::LoadedPolicy;
pub use runtime::{CONTRACT, PolicyRuntime, RuntimeOptions};
pub use setup::Setup;
pub use share::{Share, request_key};
pub use signature::{
    KeyError, KeyId, PublicKey, SIGNATURE_SECTION, SignatureError, SigningKey, TrustedKeys, sign,
    signer, verify,
};
pub use source::{BUILTINS, DEFAULT_POLICY, PolicySource};
pub use state::{Carried, StateStore};
pub use status::{HookTotals, PolicyStatus};
pub use watch::FileWatch;
