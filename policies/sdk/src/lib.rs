//! Write an A-IO policy in Rust: implement [`Policy`], say
//! [`export_policy!`], build for `wasm32-unknown-unknown`.
//!
//! A policy decides speed, never content: which tier answers a request and how
//! its rounds draft. It sees only what it is handed (no clock, no randomness, no
//! files, no network), so the same facts always get the same answer. The host
//! clamps every answer and falls back to a safe plan when a policy fails.
//!
//! # A policy in ten lines
//!
//! Short prompts go to the smallest tier, all others to the largest; both draft
//! by looking up repeated text.
//!
//! ```
//! use aio_policy_sdk::prelude::*;
//!
//! struct ShortIsSmall;
//!
//! impl Policy for ShortIsSmall {
//!     type Config = NoConfig;
//!     fn describe() -> Description {
//!         Description::new("short-is-small", "0.1.0", "Short prompts go to the smallest tier.")
//!     }
//!     fn new(_: NoConfig, _: Start<'_>) -> Result<Self, String> {
//!         Ok(Self)
//!     }
//!     fn plan(&mut self, facts: &RequestFacts, host: &HostInfo) -> Verdict {
//!         let tier = if facts.prompt_tokens[0] < 200 { 0 } else { host.largest_tier() };
//!         Plan::on(tier).draft(Draft::lookup(8)).label("by-length").into()
//!     }
//! }
//!
//! export_policy!(ShortIsSmall);
//! # fn main() {}
//! ```
//!
//! The crate that holds it needs `crate-type = ["cdylib"]`. Build it and make it
//! a component:
//!
//! ```text
//! cargo build --release --target wasm32-unknown-unknown
//! wasm-tools component new target/wasm32-unknown-unknown/release/mine.wasm -o mine.wasm
//! aio run --policy mine.wasm "Hello"
//! ```
//!
//! # Configuration
//!
//! [`Policy::Config`] is read from the JSON that the operator gives with
//! `--policy-config`; no configuration means `Config::default()`. Put
//! `#[serde(default, deny_unknown_fields)]` on it, so that fields may be left
//! out and a misspelt one is refused with the names there are. [`Setting`] is a
//! ready-made configuration for one tier and one way of drafting.
//!
//! # Tests
//!
//! On the machine that builds it a policy is an ordinary type: [`start`] it
//! with a configuration text and hand-made facts in a `#[test]`. Only the
//! export is left out where the target is not WebAssembly.
//!
//! This crate must not know any particular policy, and nothing of the host but
//! the contract.

pub mod acceptance;
mod build;
mod config;
pub mod cost;
pub mod explore;
#[doc(hidden)]
pub mod export;
pub mod goodput;
pub mod grants;
pub mod hysteresis;
pub mod log;
mod policy;
pub mod sentence;
mod setting;
mod state;
#[cfg(not(target_arch = "wasm32"))]
pub mod testing;

/// Generated from the contract. What has no comment there has none here.
#[allow(missing_docs, clippy::all, clippy::undocumented_unsafe_blocks, reason = "generated")]
#[doc(hidden)]
pub mod bindings {
    wit_bindgen::generate!({
        path: "../../wit/v0.1",
        world: "policy-with-grants",
        pub_export_macro: true,
        export_macro_name: "export_hooks",
        default_bindings_module: "aio_policy_sdk::bindings",
        additional_derives: [PartialEq],
        generate_unused_types: true,
    });
}

pub use bindings::aio::policy::types::{
    Acceptance, Action, Description, Draft, Drafter, FinishReason, Gear, HostInfo, Load, Outcome,
    Plan, Probe, ProbeResult, RequestFacts, RoundContext, RoundDecision, RoundFacts, TierFacts,
    TierInfo, Verdict,
};
pub use config::{NoConfig, parse_config};
pub use policy::{Policy, Start, start};
pub use setting::{Setting, Settled, TierChoice};
pub use state::State;

/// Everything that a policy usually names.
pub mod prelude {
    pub use crate::{
        Action, Description, Draft, Drafter, HostInfo, NoConfig, Outcome, Plan, Policy, Probe,
        RequestFacts, RoundContext, RoundDecision, RoundFacts, Start, State, Verdict, export_policy,
    };
}
