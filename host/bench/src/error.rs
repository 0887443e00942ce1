//! What can go wrong while measuring.

use std::path::PathBuf;

use aio_engine::OpenError;
use aio_engine::device::DeviceError;
use aio_policy::LoadError;
use aio_serve::{ServeError, TiersError};

/// Why a measurement cannot be made.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BenchError {
    /// The request itself is at fault.
    #[error("{0}")]
    Request(String),
    /// A model cannot be opened.
    #[error("cannot open {name}: {source}")]
    Open {
        /// The model.
        name: String,
        /// Why.
        source: Box<OpenError>,
    },
    /// The tiers cannot be opened.
    #[error(transparent)]
    Tiers(#[from] TiersError),
    /// The device failed.
    #[error(transparent)]
    Device(#[from] DeviceError),
    /// A request failed.
    #[error(transparent)]
    Serve(#[from] ServeError),
    /// A policy cannot be loaded.
    #[error(transparent)]
    Policy(#[from] LoadError),
    /// The peer's binary is not there.
    #[error("there is no {what} at {}; --vs takes the path of the peer's binary", path.display())]
    NoPeer {
        /// What was looked for, for example `llama-bench`.
        what: &'static str,
        /// Where.
        path: PathBuf,
    },
    /// The peer failed, or said what we do not understand.
    #[error("the peer {} failed while it {doing}: {reason}", path.display())]
    Peer {
        /// Its binary.
        path: PathBuf,
        /// What it was at.
        doing: String,
        /// What it said last, or what is wrong with what it said.
        reason: String,
    },
    /// A server that is to be measured does not do its part.
    #[error("the server {name} ({url}) {reason}")]
    Server {
        /// Its name.
        name: String,
        /// Where it should be.
        url: String,
        /// What is wrong, as the end of a sentence about it.
        reason: String,
    },
    /// A file cannot be read or written.
    #[error("cannot {doing} {}: {source}", path.display())]
    File {
        /// "read", "write" or the like.
        doing: &'static str,
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
}
