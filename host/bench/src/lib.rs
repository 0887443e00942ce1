//! Measuring A-IO beside a peer (llama.cpp), on one machine and in one run, and
//! servers of any make under load.
//!
//! [`engine`] measures passes: prefill, decode and the price of verifying n rows,
//! with the machine's read bandwidth beside them. [`speculate`] measures what
//! drafting buys end to end, and that it changes no token. Both alternate
//! between us and the peer, because the machines that this runs on drift, and
//! report medians with their spread and ratios of paired measurements. [`serve`]
//! measures servers by what they send: it knows the protocol and nothing of us.
//! [`analytic`] puts recorded runs on simulated hardware, and [`paper`] does that with the
//! paper's deployments and ours.
//! [`calibrate`] measures the machine itself and fits a cost model's numbers to it.
//!
//! This crate must not know the command line or how models are fetched; the first
//! two measure through the same [`aio_engine::Tier`] and [`aio_serve::Runner`] that
//! answer requests, so that what is measured is what is served.

pub mod analytic;
pub mod bandwidth;
pub mod calibrate;
pub mod chart;
pub mod engine;
mod error;
pub mod machine;
pub mod paper;
pub mod peer;
mod progress;
pub mod prompts;
pub mod serve;
pub mod speculate;
mod stacked;
pub mod stats;
pub mod svg;
mod table;

pub use error::BenchError;
pub use progress::{Progress, Silent};
pub use table::Table;
