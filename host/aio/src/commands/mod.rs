//! The subcommands, one module each, and what they share.

pub mod bench;
pub mod config;
pub mod device;
mod device_calibrate;
mod device_replay;
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
use std::num::NonZeroUsize;

use aio_engine::device::{Device, DeviceOptions, by_name};

/// Writes `text` to stdout. A reader that has gone away, as in `| head -1`, is
/// no error.
fn print(text: &str) -> anyhow::Result<()> {
    match std::io::stdout().lock().write_all(text.as_bytes()) {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => Err(error.into()),
        _ => Ok(()),
    }
}

/// Reads a flag's count of things of which there must be some.
fn at_least_one(text: &str) -> Result<NonZeroUsize, String> {
    let count: usize = text.parse().map_err(|error| format!("{error}; give a whole number"))?;
    NonZeroUsize::new(count).ok_or_else(|| "it must be at least 1".into())
}

/// The device of that name. What whoever reads its results must know is said before
/// anything else.
fn open_device(name: &str, options: DeviceOptions) -> anyhow::Result<Box<dyn Device>> {
    let device = by_name(name, options).map_err(anyhow::Error::msg)?;
    if let Some(notice) = device.notice() {
        eprintln!("{notice}");
    }
    Ok(device)
}
