//! Models and how they run: GGUF files, tokenizers, graphs, devices, KV caches,
//! sampling and drafters; a [`Tier`] is one model ready to answer or draft.
//!
//! This crate knows no WebAssembly and no HTTP, and takes no decisions: which
//! tier, which drafter and how many tokens come from the caller. It is the only
//! crate that names candle.
//!
//! Law 1 of the design holds from here up: a row's numbers do not depend on the
//! rows beside it, and sampling noise is keyed by seed and position, so drafts
//! change when a token is computed but never which token it is.

pub mod chat;
pub mod clock;
pub mod device;
pub mod drafter;
pub mod gguf;
pub mod graph;
pub mod model;
pub mod sampling;
mod tier;
pub mod tokenizer;

pub use tier::{OpenError, Part, Pass, Tier, TokenSequence};
