//! Drafters: where the tokens come from that a verify pass checks.
//!
//! A draft is a guess. It can cost time and never content: the target's own
//! choice decides each token. How much to draft, and with which of these, is
//! the caller's decision.

pub mod context;
pub mod lookup;
pub mod model;
