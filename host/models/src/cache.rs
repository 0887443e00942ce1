//! The folder where models live, and the order of events that puts one there:
//! lock, look again, try each source, clean up. What a source does is its own
//! affair, and so is what a model is for.
//!
//! Layout: `models/NAME/FILE` for a model that is whole and checked,
//! `models/NAME/.partial/` for what is arriving (removed when it has arrived),
//! `locks/NAME.lock` for the advisory locks, which vanish with their process
//! and whose empty files stay.

use std::ffi::OsString;
use std::fs::{self, File, OpenOptions, TryLockError};
use std::path::{Path, PathBuf};

use crate::error::Attempt;
use crate::source::{self, Fetch};
use crate::{Error, Model, Progress, Source, SourceFailure, SourceFailures, checksum, human_bytes};

/// The folder that models are kept in, and the means to fill it.
#[derive(Debug, Clone)]
pub struct Cache {
    root: PathBuf,
    python: OsString,
    hub_endpoint: Option<String>,
}

/// What [`Cache::pull`] did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pulled {
    /// The model's file.
    pub path: PathBuf,
    /// Whether it had to be fetched; else it was there and is sound.
    pub fetched: bool,
}

impl Cache {
    /// A cache in the folder `root`, which need not exist yet.
    pub fn new(root: impl Into<PathBuf>) -> Self {
        let python = if cfg!(windows) { "python" } else { "python3" };
        Self { root: root.into(), python: python.into(), hub_endpoint: None }
    }

    /// The user's cache, by the environment: `AIO_CACHE` names the folder
    /// (else `aio` in the user's folder for caches), `AIO_PYTHON` the Python
    /// interpreter whose pip is used, `HF_ENDPOINT` another address of the hub.
    ///
    /// # Errors
    /// [`Error::NoCacheFolder`] when nothing says where the folder is.
    pub fn from_env() -> Result<Self, Error> {
        Self::from_vars(|name| std::env::var_os(name), dirs::cache_dir())
    }

    fn from_vars(
        var: impl Fn(&str) -> Option<OsString>,
        user_caches: Option<PathBuf>,
    ) -> Result<Self, Error> {
        let set = |name| var(name).filter(|value| !value.is_empty());
        let root = set("AIO_CACHE")
            .map(PathBuf::from)
            .or_else(|| Some(user_caches?.join("aio")))
            .ok_or(Error::NoCacheFolder)?;
        let mut cache = Self::new(absolute(root));
        if let Some(python) = set("AIO_PYTHON") {
            cache = cache.with_python(python);
        }
        if let Some(endpoint) = set("HF_ENDPOINT").and_then(|e| e.into_string().ok()) {
            cache = cache.with_hub_endpoint(endpoint);
        }
        Ok(cache)
    }

    /// The same cache with another Python interpreter: a command to be found
    /// in `PATH`, or the path of one.
    #[must_use]
    pub fn with_python(mut self, python: impl Into<OsString>) -> Self {
        let python = python.into();
        // pip is run in a folder of its own, where a relative path would not
        // be what the user meant.
        let is_path = Path::new(&python).components().nth(1).is_some();
        self.python = if is_path { absolute(python.into()).into() } else { python };
        self
    }

    /// The same cache with another address for the hub.
    #[must_use]
    pub fn with_hub_endpoint(mut self, endpoint: impl Into<String>) -> Self {
        self.hub_endpoint = Some(endpoint.into());
        self
    }

    /// The folder of the cache.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Where the file of `model` is when it is there.
    pub fn path(&self, model: &Model) -> PathBuf {
        self.folder(model).join(&model.file.name)
    }

    /// The file of `model` when it is in the cache with the right length. The
    /// checksum was checked when it was put there; see [`verify`](Self::verify).
    pub fn path_if_present(&self, model: &Model) -> Option<PathBuf> {
        let path = self.path(model);
        let metadata = fs::metadata(&path).ok()?;
        (metadata.is_file() && metadata.len() == model.file.bytes).then_some(path)
    }

    /// The file of `model`, fetched first when it is absent, after a note that
    /// says how large it is. When another process is fetching it, waits.
    ///
    /// # Errors
    /// [`Error::Fetch`] when no source has it, and the errors of the disk and
    /// the cache folder. The model is then absent still; parts that have
    /// arrived whole are kept for the next time.
    pub fn ensure(&self, model: &Model, progress: &mut dyn Progress) -> Result<PathBuf, Error> {
        if let Some(path) = self.path_if_present(model) {
            return Ok(path);
        }
        let (_lock, _) = self.lock(model, progress)?;
        if let Some(path) = self.path_if_present(model) {
            return Ok(path);
        }
        self.fetch(model, &model.sources, progress)
    }

    /// Makes sure that `model` is there and sound: checks the file that is
    /// there and fetches it when it is absent or damaged. A damaged file stays
    /// in place until the new one is complete.
    ///
    /// # Errors
    /// As [`ensure`](Self::ensure).
    pub fn pull(&self, model: &Model, progress: &mut dyn Progress) -> Result<Pulled, Error> {
        self.pull_by(model, &model.sources, progress)
    }

    /// As [`pull`](Self::pull), with the file at `path` as the only source: for
    /// a machine without a network. The file must be the very file that the
    /// catalogue names; it is copied.
    ///
    /// # Errors
    /// As [`ensure`](Self::ensure).
    pub fn pull_from(
        &self,
        model: &Model,
        path: &Path,
        progress: &mut dyn Progress,
    ) -> Result<Pulled, Error> {
        let source = Source::Path { path: absolute(path.to_path_buf()) };
        self.pull_by(model, &[source], progress)
    }

    fn pull_by(
        &self,
        model: &Model,
        sources: &[Source],
        progress: &mut dyn Progress,
    ) -> Result<Pulled, Error> {
        if let Ok(path) = self.verify(model, progress) {
            return Ok(Pulled { path, fetched: false });
        }
        let (_lock, waited) = self.lock(model, progress)?;
        if waited && let Ok(path) = self.verify(model, progress) {
            return Ok(Pulled { path, fetched: false });
        }
        let path = self.fetch(model, sources, progress)?;
        Ok(Pulled { path, fetched: true })
    }

    /// Reads the file of `model` and checks its length and SHA-256.
    ///
    /// # Errors
    /// [`Error::NotPulled`], [`Error::WrongSize`], [`Error::WrongChecksum`], or
    /// [`Error::Unreadable`].
    pub fn verify(&self, model: &Model, progress: &mut dyn Progress) -> Result<PathBuf, Error> {
        let (name, path) = (model.name.clone(), self.path(model));
        let Ok(metadata) = fs::metadata(&path) else {
            return Err(Error::NotPulled { name });
        };
        if metadata.len() != model.file.bytes {
            let (found, expected) = (metadata.len(), model.file.bytes);
            return Err(Error::WrongSize { name, path, found, expected });
        }
        progress.started(&format!("checking {name}"), model.file.bytes);
        let hashed = checksum::of_file(&path, progress);
        progress.finished();
        match hashed {
            Err(reason) => Err(Error::Unreadable { path, reason }),
            Ok(found) if found != model.file.sha256 => {
                let expected = model.file.sha256.clone();
                Err(Error::WrongChecksum { name, path, found, expected })
            }
            Ok(_) => Ok(path),
        }
    }

    fn folder(&self, model: &Model) -> PathBuf {
        self.root.join("models").join(&model.name)
    }

    /// Takes the lock of `model`; also says whether another process had it.
    fn lock(&self, model: &Model, progress: &mut dyn Progress) -> Result<(File, bool), Error> {
        let folder = self.root.join("locks");
        let path = folder.join(format!("{}.lock", model.name));
        let writing = |reason| Error::writing(&model.name, &path, reason);
        fs::create_dir_all(&folder)
            .map_err(|reason| Error::writing(&model.name, &folder, reason))?;
        let open = || OpenOptions::new().write(true).create(true).truncate(false).open(&path);
        let file = open().map_err(writing)?;
        match file.try_lock() {
            Ok(()) => Ok((file, false)),
            Err(TryLockError::WouldBlock) => {
                progress.note(&format!(
                    "another process is fetching {}; waiting for it to finish",
                    model.name
                ));
                file.lock().map_err(writing)?;
                Ok((file, true))
            }
            Err(TryLockError::Error(reason)) => Err(writing(reason)),
        }
    }

    /// Tries `sources` in order. The caller holds the lock.
    fn fetch(
        &self,
        model: &Model,
        sources: &[Source],
        progress: &mut dyn Progress,
    ) -> Result<PathBuf, Error> {
        let folder = self.folder(model);
        let arriving = folder.join(".partial");
        let target = self.path(model);
        progress.note(&format!(
            "{} is {}; fetching {} (once) into {}",
            model.name,
            if target.exists() { "damaged in the cache" } else { "not in the cache" },
            human_bytes(model.file.bytes),
            folder.display()
        ));
        fs::create_dir_all(&arriving).map_err(|e| Error::writing(&model.name, &arriving, e))?;
        let result = self.try_sources(model, sources, &arriving, &target, progress);
        if result.is_ok() {
            // Other sources may have left parts of theirs.
            let _ = fs::remove_dir_all(&arriving);
        } else {
            remove_if_empty(&arriving);
            let _ = fs::remove_dir(&folder);
        }
        result.map(|()| target)
    }

    fn try_sources(
        &self,
        model: &Model,
        sources: &[Source],
        arriving: &Path,
        target: &Path,
        progress: &mut dyn Progress,
    ) -> Result<(), Error> {
        let mut failures = Vec::new();
        for (index, source) in sources.iter().enumerate() {
            progress.started(&format!("fetching {}", model.name), model.file.bytes);
            let attempt = source::fetch(
                source,
                &mut Fetch {
                    model,
                    folder: arriving,
                    target,
                    python: &self.python,
                    hub_endpoint: self.hub_endpoint.as_deref(),
                    progress,
                },
            );
            progress.finished();
            let error = match attempt {
                Ok(()) => return Ok(()),
                Err(Attempt::Fatal(error)) => return Err(error),
                Err(Attempt::Source(error)) => error,
            };
            if let Some(next) = sources.get(index + 1) {
                let (failed, next) = (source.title(), next.title());
                progress.note(&format!("{failed} did not give it: {error}; trying {next}"));
            }
            failures.push(SourceFailure { source: source.title(), error });
        }
        Err(Error::Fetch { model: model.name.clone(), failures: SourceFailures(failures) })
    }
}

fn absolute(path: PathBuf) -> PathBuf {
    // It fails only for an empty path or a lost current folder; the path as
    // given then leads to an error that names it.
    std::path::absolute(&path).unwrap_or(path)
}

/// Removes `folder` when nothing but empty files is in it. What cannot be
/// removed holds something worth keeping, or is found again next time.
fn remove_if_empty(folder: &Path) {
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        if entry.metadata().is_ok_and(|m| m.is_file() && m.len() == 0) {
            let _ = fs::remove_file(entry.path());
        }
    }
    let _ = fs::remove_dir(folder);
}

#[cfg(test)]
#[path = "cache_tests.rs"]
mod tests;
