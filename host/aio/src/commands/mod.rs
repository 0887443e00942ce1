//! The subcommands, one module each, and what they share.

pub mod bench;
pub mod config;
pub mod device;
mod device_calibrate;
pub mod graph;
pub mod models;
pub mod policy;
mod policy_candidates;
mod policy_options;
mod resident;
pub mod run;
pub mod serve;
mod sources;

use std::io::{ErrorKind, Write};

/// Writes `text` to stdout. A reader that has gone away, as in `| head -1`, is
/// no error.
fn print(text: &str) -> anyhow::Result<()> {
    match std::io::stdout().lock().write_all(text.as_bytes()) {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => Err(error.into()),
        _ => Ok(()),
    }
}
