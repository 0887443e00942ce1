//! The peer: llama.cpp's own tools, run as child processes. What they print is
//! taken as it is; nothing here measures.

pub mod llama_bench;
pub mod llama_server;

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::BenchError;

/// The peer's binary, made sure to be there.
///
/// # Errors
/// [`BenchError::NoPeer`] when no file is there.
pub(crate) fn binary(what: &'static str, path: &Path) -> Result<PathBuf, BenchError> {
    // A relative name without a folder would be looked up in PATH by the system.
    path.canonicalize()
        .ok()
        .filter(|path| path.is_file())
        .ok_or_else(|| BenchError::NoPeer { what, path: path.to_owned() })
}

/// What `path --help` says, on either stream.
pub(crate) fn help(path: &Path) -> Result<String, BenchError> {
    let output = Command::new(path).arg("--help").output().map_err(|error| BenchError::Peer {
        path: path.to_owned(),
        doing: "started".into(),
        reason: error.to_string(),
    })?;
    let mut text = String::from_utf8_lossy(&output.stdout).into_owned();
    text += &String::from_utf8_lossy(&output.stderr);
    Ok(text)
}

/// The last line of `text` that says anything.
pub(crate) fn last_line(text: &str) -> String {
    text.lines().rev().find(|l| !l.trim().is_empty()).unwrap_or("it said nothing").trim().to_owned()
}
