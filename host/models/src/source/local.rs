//! A file on this machine as a source: copied, so that the cache does not
//! change when the original does.

use std::fs::File;
use std::path::Path;

use super::Fetch;
use crate::SourceError;
use crate::error::Attempt;
use crate::partial::{AppendError, Partial};

/// Copies the file at `path`.
pub(super) fn fetch(path: &Path, fetch: &mut Fetch<'_>) -> Result<(), Attempt> {
    copy(path, fetch).map_err(|attempt| match attempt {
        // The user's own file is no download, and it was not deleted.
        Attempt::Source(SourceError::WrongSize { found, expected }) => {
            other_file(format!("{found} bytes where {expected} are expected"))
        }
        Attempt::Source(SourceError::WrongChecksum { found, expected }) => {
            other_file(format!("SHA-256 {found} where {expected} is expected"))
        }
        attempt => attempt,
    })
}

fn other_file(reason: String) -> Attempt {
    SourceError::OtherFile { reason }.into()
}

fn copy(path: &Path, fetch: &mut Fetch<'_>) -> Result<(), Attempt> {
    let unreadable = |e: std::io::Error| SourceError::Unreadable { reason: e.to_string() };
    let expected = fetch.model.file.bytes;
    let mut original = File::open(path).map_err(unreadable)?;
    let found = original.metadata().map_err(unreadable)?.len();
    if found != expected {
        return Err(SourceError::WrongSize { found, expected }.into());
    }
    fetch.check_space(expected)?;
    let arriving = fetch.folder.join("copy");
    // No boundaries: a copy is quick enough to start again.
    let mut partial = Partial::open(fetch.model, arriving, std::iter::empty(), fetch.progress)?;
    partial.append(&mut original, expected, fetch.progress).map_err(|e| match e {
        AppendError::Read(e) => Attempt::Source(unreadable(e)),
        AppendError::Length(found) => SourceError::WrongSize { found, expected }.into(),
        AppendError::Write(e) => e.into(),
    })?;
    partial.finish(fetch.target)
}
