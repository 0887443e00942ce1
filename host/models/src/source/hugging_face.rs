//! The Hugging Face hub as a source, through the hf-hub crate, which resumes a
//! broken download by itself. Its own cache is used as a place to work in and
//! removed afterwards.

use std::fs;
use std::io;
use std::path::Path;

use hf_hub::api::sync::{ApiBuilder, ApiError};
use hf_hub::{Cache, Repo, RepoType};

use super::Fetch;
use crate::error::{Attempt, is_disk_full};
use crate::partial::install;
use crate::{Error, Model, Progress, Silent, SourceError, checksum};

/// Fetches `file` of `repo` at `revision`.
pub(super) fn fetch(
    repo: &str,
    file: &str,
    revision: Option<&str>,
    fetch: &mut Fetch<'_>,
) -> Result<(), Attempt> {
    let model = fetch.model;
    let work = fetch.folder.join("hub");
    let cache = Cache::new(work.clone());
    let mut builder = ApiBuilder::from_cache(cache.clone()).with_token(token());
    if let Some(endpoint) = fetch.hub_endpoint {
        builder = builder.with_endpoint(endpoint.trim_end_matches('/').to_owned());
    }
    let failed = |e: ApiError| failure(e, model, fetch.folder, repo, file);
    let api = builder.build().map_err(failed)?;
    let revision = revision.unwrap_or("main").to_owned();
    let repository = Repo::with_revision(repo.to_owned(), RepoType::Model, revision);
    let remote = api.repo(repository.clone());

    // Refused before a gigabyte is fetched for nothing. The hub's tag of a
    // large file is its SHA-256.
    let metadata = api.metadata(&remote.url(file)).map_err(failed)?;
    let (found, expected) = (metadata.size() as u64, model.file.bytes);
    if found != expected {
        return Err(SourceError::WrongSize { found, expected }.into());
    }
    let tag = metadata.etag();
    if tag.len() == 64 && tag != model.file.sha256 {
        let expected = model.file.sha256.clone();
        return Err(SourceError::WrongChecksum { found: tag.to_owned(), expected }.into());
    }

    let part = cache.repo(repository).blob_path(tag).with_extension("part");
    let arrived = || fs::metadata(&part).map_or(0, |m| m.len());
    if arrived() >= expected {
        // Nothing is left to ask the hub for, which hf-hub takes for an error.
        fs::remove_file(&part).map_err(|e| Error::writing(&model.name, &part, e))?;
    }
    fetch.check_space(expected - arrived())?;
    let fetched = loop {
        let before = arrived();
        match remote.download_with_progress(file, Reported { to: fetch.progress, position: 0 }) {
            Ok(path) => break path,
            // hf-hub goes on where it was cut off, so as long as something
            // arrives each time, the next attempt is worth it.
            Err(ApiError::IoError(e)) if !is_disk_full(&e) && arrived() > before => {}
            Err(e) => {
                if arrived() == 0 {
                    let _ = fs::remove_dir_all(&work);
                }
                return Err(failed(e));
            }
        }
    };
    let installed = fs::canonicalize(&fetched)
        .and_then(|blob| checksum::of_file(&blob, &mut Silent).map(|found| (blob, found)))
        .map_err(|e| Error::writing(&model.name, &fetched, e).into())
        .and_then(|(blob, found)| install(model, &blob, &found, fetch.target));
    // Only links to the file are left, or nothing worth keeping.
    let _ = fs::remove_dir_all(&work);
    installed
}

/// The user's access token, where the hub's own tools keep it.
fn token() -> Option<String> {
    // `Cache::from_env` panics for a user without a home folder.
    let findable = std::env::var_os("HF_HOME").is_some() || dirs::home_dir().is_some();
    findable.then(|| Cache::from_env().token()).flatten()
}

fn failure(error: ApiError, model: &Model, folder: &Path, repo: &str, file: &str) -> Attempt {
    let source = match error {
        ApiError::RequestError(e) => match *e {
            // A repository that does not exist or may not be seen is a 401.
            ureq::Error::StatusCode(401 | 403 | 404) => {
                SourceError::NotFound { what: format!("{file} in {repo} for everyone to read") }
            }
            ureq::Error::StatusCode(code) => {
                SourceError::Hub { reason: format!("HTTP status {code}") }
            }
            ureq::Error::Io(e) => no_network(&e),
            e => SourceError::NoNetwork { reason: one_line(&e.to_string()) },
        },
        ApiError::IoError(e) if is_disk_full(&e) => {
            let path = folder.to_path_buf();
            return Error::DiskFull { model: model.name.clone(), path }.into();
        }
        ApiError::IoError(e) => no_network(&e),
        e => SourceError::Hub { reason: one_line(&e.to_string()) },
    };
    source.into()
}

fn no_network(error: &io::Error) -> SourceError {
    let reason = match error.kind() {
        io::ErrorKind::ConnectionRefused => "the connection was refused".into(),
        io::ErrorKind::TimedOut => "the connection timed out".into(),
        _ => one_line(&error.to_string()),
    };
    SourceError::NoNetwork { reason }
}

fn one_line(text: &str) -> String {
    text.lines().next().unwrap_or_default().trim().to_owned()
}

/// hf-hub's progress, which counts steps, as ours, which tells positions.
struct Reported<'a> {
    to: &'a mut dyn Progress,
    position: u64,
}

impl hf_hub::api::Progress for Reported<'_> {
    fn init(&mut self, _size: usize, _filename: &str) {
        self.position = 0;
    }

    fn update(&mut self, size: usize) {
        self.position += size as u64;
        self.to.advanced(self.position);
    }

    fn finish(&mut self) {}
}
