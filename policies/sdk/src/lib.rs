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
//! `aio policy new` makes a project with such a policy in it. Make one, build it,
//! let it steer:
//!
//! ```text
//! aio policy new mine && cd mine
//! aio policy build
//! aio run --policy ./mine.wasm "Hello"
//! ```
//!
//! # From there to a policy that learns
//!
//! **Configuration.** [`Policy::Config`] is read from the JSON that the operator
//! gives with `--policy-config`; no configuration means `Config::default()`. Put
//! `#[serde(default, deny_unknown_fields)]` on it, so that fields may be left
//! out and a misspelt one is refused with the names there are. Write its JSON
//! Schema by hand ([`Description::schema`]) and hold it against the type with
//! [`testing::assert_schema_matches`]. [`Setting`] is a ready-made configuration
//! for one tier and one way of drafting.
//!
//! **State.** What a policy has learned is carried over a reload if
//! [`Policy::snapshot`] returns it; [`State`] puts it into an envelope with a
//! version, and reads it back or drops it.
//!
//! **Rounds.** A plan with [`Plan::ask_every`] has [`Policy::rounds`] called every
//! so many rounds, with costs ([`cost`]), acceptance ([`acceptance`]) and what
//! lookup matches. [`goodput`] says what a draft is worth, [`hysteresis`] and
//! [`explore`] when to change one's mind; [`chooser`] is all of that put together.
//! `rounds` is called for every round of every request: it must not take more
//! than some microseconds, so keep from formatting and allocating where nothing
//! changes.
//!
//! **Tests.** On the machine that builds it a policy is an ordinary type: [`start`]
//! it with a configuration text, ask it with facts by hand, or let it run whole
//! answers, recorded or made up, in [`testing::Engine`]. Only the export is left out
//! where the target is not WebAssembly.
//!
//! All of it, in a policy that looks up as long as at least a configured share of
//! what was drafted is accepted:
//!
//! ```
//! use aio_policy_sdk::prelude::*;
//! use aio_policy_sdk::testing::{Answer, Engine, FLAT, FLAT_DRAFT, assert_schema_matches};
//! use serde::{Deserialize, Serialize};
//!
//! #[derive(Deserialize)]
//! #[serde(default, deny_unknown_fields)]
//! struct Config {
//!     least_accepted: f32,
//! }
//!
//! impl Default for Config {
//!     fn default() -> Self {
//!         Self { least_accepted: 0.2 }
//!     }
//! }
//!
//! const SCHEMA: &str = r#"{"type": "object", "properties": {"least_accepted":
//!     {"description": "Share below which lookup is left off.", "type": "number"}}}"#;
//!
//! /// Share of drafted tokens that were accepted: what is learned and carried over.
//! #[derive(Serialize, Deserialize)]
//! struct Learned {
//!     accepted: f32,
//! }
//!
//! struct WhileItLasts {
//!     config: Config,
//!     learned: Learned,
//! }
//!
//! impl Policy for WhileItLasts {
//!     type Config = Config;
//!
//!     fn describe() -> Description {
//!         let summary = "Looks up while that is accepted.";
//!         Description::new("while-it-lasts", "0.1.0", summary).schema(SCHEMA)
//!     }
//!
//!     fn new(config: Config, start: Start<'_>) -> Result<Self, String> {
//!         if !(0.0..=1.0).contains(&config.least_accepted) {
//!             return Err("`least_accepted` is a share: 0 to 1 is allowed".into());
//!         }
//!         let learned = State::<1>::load(start.carried.as_deref());
//!         Ok(Self { config, learned: learned.unwrap_or(Learned { accepted: 1.0 }) })
//!     }
//!
//!     fn plan(&mut self, _: &RequestFacts, host: &HostInfo) -> Verdict {
//!         Plan::on(host.largest_tier()).draft(Draft::lookup(7)).ask_every(1).into()
//!     }
//!
//!     fn rounds(&mut self, _: &RoundContext, requests: &[RoundFacts]) -> Vec<RoundDecision> {
//!         let mut decisions = Vec::new();
//!         for facts in requests {
//!             if facts.recent_drafted > 0 {
//!                 let share = facts.recent_accepted as f32 / facts.recent_drafted as f32;
//!                 self.learned.accepted += 0.1 * (share - self.learned.accepted);
//!             }
//!             let pays = self.learned.accepted >= self.config.least_accepted;
//!             if !pays && facts.draft.drafter != Drafter::None {
//!                 decisions.push(RoundDecision {
//!                     request: facts.request,
//!                     action: Action::Draft(Draft::NONE),
//!                     reason: "too little of what lookup drafts is accepted".into(),
//!                 });
//!             }
//!         }
//!         decisions
//!     }
//!
//!     fn snapshot(&mut self) -> Vec<u8> {
//!         State::<1>::save(&self.learned)
//!     }
//! }
//!
//! export_policy!(WhileItLasts);
//!
//! // What would stand in a #[test]:
//! fn main() -> Result<(), String> {
//!     assert_schema_matches::<Config>(SCHEMA);
//!     let mut engine = Engine::new(FLAT_DRAFT, FLAT, 1);
//!     let host = engine.host().clone();
//!     let begin = |carried| {
//!         aio_policy_sdk::start::<WhileItLasts>("", Start { host: &host, carried })
//!     };
//!     let mut policy = begin(None)?;
//!     // 200 tokens, before each of which 6 match; lookup is always right, or never.
//!     let copied = engine.run(&mut policy, &Answer::uniform(200, 6, true, false));
//!     assert!(copied.tokens_per_second() > 250.0);
//!     let original = Answer::uniform(200, 6, false, false);
//!     assert_eq!(engine.run(&mut policy, &original).decisions, 1);
//!     // The next generation knows at once.
//!     let mut next = begin(Some(policy.snapshot()))?;
//!     assert!(engine.run(&mut next, &original).drafted <= 14);
//!     Ok(())
//! }
//! ```
//!
//! # Beyond facts
//!
//! The prompt itself is a matter of trust: [`grants`] reads it, if the operator
//! grants that by name.
//!
//! This crate must not know any particular policy, and nothing of the host but
//! the contract.

pub mod acceptance;
mod build;
pub mod chooser;
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
#[cfg(any(test, all(target_arch = "wasm32", not(target_feature = "atomics"))))]
mod pool;
pub mod sentence;
mod setting;
mod state;
#[cfg(not(target_arch = "wasm32"))]
pub mod testing;

/// What the policy's lists and texts are allocated with.
#[cfg(all(target_arch = "wasm32", not(target_feature = "atomics")))]
#[global_allocator]
static ALLOCATOR: pool::Pool<talc::wasm::WasmDynamicTalc> =
    pool::Pool::new(talc::wasm::new_wasm_dynamic_allocator());

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
        RequestFacts, RoundContext, RoundDecision, RoundFacts, Start, State, Verdict,
        export_policy,
    };
}
