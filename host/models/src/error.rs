//! What can go wrong, each as one sentence that says what to do. Wording lives
//! here and nowhere else; no module prints.

use std::io;
use std::path::{Path, PathBuf};

use crate::human_bytes;

/// Why a model or the cache could not be used. `Display` is one sentence for
/// the user, with what to do about it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A catalogue text is malformed; the message says where.
    #[error("the catalogue of models is malformed: {0}")]
    Catalogue(String),

    /// No model has this name.
    #[error(
        "there is no model called {name:?}{}; `aio models list` shows those that there are",
        suggestion(nearest)
    )]
    UnknownModel {
        /// The name that was given.
        name: String,
        /// Names like it, likest first.
        nearest: Vec<String>,
    },

    /// No tier set has this name.
    #[error("there is no tier set called {name:?}; there is {}", known.join(", "))]
    UnknownTierSet {
        /// The name that was given.
        name: String,
        /// The tier sets that there are.
        known: Vec<String>,
    },

    /// A path names no file.
    #[error(
        "{} is not a file; give the path of a GGUF file, or a name from `aio models list`",
        path.display()
    )]
    NoSuchFile {
        /// The path that was given.
        path: PathBuf,
    },

    /// Neither `AIO_CACHE` nor a home folder says where the cache is.
    #[error("no folder for the cache is known; set AIO_CACHE to a folder that aio may write to")]
    NoCacheFolder,

    /// Something in the cache folder cannot be made or changed.
    #[error(
        "{} cannot be written ({reason}); make it writable, or set AIO_CACHE to another folder",
        path.display()
    )]
    CacheNotWritable {
        /// The file or folder.
        path: PathBuf,
        /// The system's reason.
        reason: io::Error,
    },

    /// A file cannot be read.
    #[error("{} cannot be read ({reason}); check the file and its permissions", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// The system's reason.
        reason: io::Error,
    },

    /// There is too little room for the fetch, seen before it began.
    #[error(
        "fetching {model} needs {} free in {} and {} is free; free some space, or set AIO_CACHE \
         to a folder on a larger disk",
        human_bytes(*needed), path.display(), human_bytes(*free)
    )]
    NotEnoughDisk {
        /// The model.
        model: String,
        /// Bytes that the fetch needs at its peak.
        needed: u64,
        /// Bytes that are free.
        free: u64,
        /// The folder on the disk in question.
        path: PathBuf,
    },

    /// The disk filled up during the fetch.
    #[error(
        "the disk that holds {} became full while {model} was fetched; free some space and run \
         the command again, what has arrived is kept",
        path.display()
    )]
    DiskFull {
        /// The model.
        model: String,
        /// The folder on the disk in question.
        path: PathBuf,
    },

    /// The model is not in the cache.
    #[error("{name} is not in the cache; `aio models pull {name}` fetches it")]
    NotPulled {
        /// The model.
        name: String,
    },

    /// A file in the cache has the wrong length.
    #[error(
        "{} is {found} bytes long where {name} has {expected}; `aio models pull {name}` fetches \
         it again",
        path.display()
    )]
    WrongSize {
        /// The model.
        name: String,
        /// The file.
        path: PathBuf,
        /// Its length in bytes.
        found: u64,
        /// The length it should have, in bytes.
        expected: u64,
    },

    /// A file in the cache has the wrong checksum.
    #[error(
        "{} is damaged (SHA-256 {} where {name} has {}); `aio models pull {name}` fetches it again",
        path.display(), short(found), short(expected)
    )]
    WrongChecksum {
        /// The model.
        name: String,
        /// The file.
        path: PathBuf,
        /// SHA-256 of the file.
        found: String,
        /// SHA-256 that it should have.
        expected: String,
    },

    /// No source gave the model.
    #[error("{model} could not be fetched: {failures}")]
    Fetch {
        /// The model.
        model: String,
        /// What each source said.
        failures: SourceFailures,
    },
}

impl Error {
    /// `reason` as it is met when writing `path` for `model`: a full disk has
    /// its own sentence.
    pub(crate) fn writing(model: &str, path: &Path, reason: io::Error) -> Self {
        if is_disk_full(&reason) {
            let path = path.parent().unwrap_or(path).to_path_buf();
            Self::DiskFull { model: model.to_owned(), path }
        } else {
            Self::CacheNotWritable { path: path.to_path_buf(), reason }
        }
    }
}

/// Why one source did not give a model. `Display` is the cause alone; what to
/// do is [`remedy`](Self::remedy), so that several can be joined in a sentence.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SourceError {
    /// The Python interpreter does not start.
    #[error("{python} cannot be started ({reason})")]
    NoPython {
        /// The command that was tried.
        python: String,
        /// The system's reason.
        reason: String,
    },

    /// The interpreter has no pip.
    #[error("{python} has no pip")]
    NoPip {
        /// The command that was tried.
        python: String,
    },

    /// The source cannot be reached.
    #[error("it cannot be reached ({reason})")]
    NoNetwork {
        /// A short phrase.
        reason: String,
    },

    /// The source does not have what the catalogue names.
    #[error("it has no {what}")]
    NotFound {
        /// The package, or the file in its repository.
        what: String,
    },

    /// pip failed for another reason.
    #[error("pip failed at {package} ({line})")]
    Pip {
        /// The package that was asked for.
        package: String,
        /// The last line of pip's that says something.
        line: String,
    },

    /// A package arrived without the part that it should carry.
    #[error("{package} does not hold the part expected ({reason})")]
    WrongPackage {
        /// The package.
        package: String,
        /// A short phrase.
        reason: String,
    },

    /// A package arrived that cannot be unpacked.
    #[error("{package} arrived damaged ({reason})")]
    Damaged {
        /// The package.
        package: String,
        /// A short phrase.
        reason: String,
    },

    /// The hub failed for another reason.
    #[error("the hub failed ({reason})")]
    Hub {
        /// A short phrase.
        reason: String,
    },

    /// The source has a file of another length.
    #[error("the file there is {found} bytes long where {expected} are expected")]
    WrongSize {
        /// Length found, in bytes.
        found: u64,
        /// Length expected, in bytes.
        expected: u64,
    },

    /// The source has other contents; what had arrived was deleted.
    #[error(
        "what it has is not this model (SHA-256 {} where {} is expected)",
        short(found),
        short(expected)
    )]
    WrongChecksum {
        /// SHA-256 of what arrived.
        found: String,
        /// SHA-256 expected.
        expected: String,
    },

    /// A local source is not the file that the catalogue names.
    #[error("this is another file ({reason})")]
    OtherFile {
        /// A short phrase.
        reason: String,
    },

    /// A local source cannot be read.
    #[error("the file cannot be read ({reason})")]
    Unreadable {
        /// The system's reason.
        reason: String,
    },
}

impl SourceError {
    /// What the user can do about it, as an imperative phrase.
    pub fn remedy(&self) -> &'static str {
        match self {
            Self::NoPython { .. } => "install Python 3 with pip or name one in AIO_PYTHON",
            Self::NoPip { .. } => "install pip for it or name another Python in AIO_PYTHON",
            Self::NoNetwork { .. } => "check the network",
            Self::Pip { .. } => "mend what pip reports",
            Self::Hub { .. } => "try again later",
            Self::WrongChecksum { .. } | Self::Damaged { .. } => {
                "run the command again to start afresh"
            }
            Self::NotFound { .. } | Self::WrongPackage { .. } | Self::WrongSize { .. } => {
                "look for a newer aio"
            }
            Self::OtherFile { .. } => {
                "give the very file, as `aio models list --json` describes it"
            }
            Self::Unreadable { .. } => "check the path given",
        }
    }
}

/// One source's failure.
#[derive(Debug)]
pub struct SourceFailure {
    /// What people call the source.
    pub source: String,
    /// Why it failed.
    pub error: SourceError,
}

/// The failure of every source, in the order tried. `Display` is one sentence
/// with every cause and, once each, what to do.
#[derive(Debug)]
pub struct SourceFailures(pub Vec<SourceFailure>);

impl std::fmt::Display for SourceFailures {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for SourceFailure { source, error } in &self.0 {
            write!(f, "{source}: {error}; ")?;
        }
        let mut remedies: Vec<&str> = Vec::new();
        for failure in &self.0 {
            let remedy = failure.error.remedy();
            if !remedies.contains(&remedy) {
                remedies.push(remedy);
            }
        }
        write!(f, "{}", remedies.join(", or "))?;
        if self.0.iter().any(|failure| matches!(failure.error, SourceError::NoNetwork { .. })) {
            // Said only here: with any other failure it may not be so.
            f.write_str(" and run the command again, what has arrived is kept")?;
        }
        Ok(())
    }
}

/// Why an attempt at one source ended: the next source may do better, or not.
#[derive(Debug)]
pub(crate) enum Attempt {
    /// This source failed; another may do.
    Source(SourceError),
    /// No source can help: the disk, the cache folder.
    Fatal(Error),
}

impl From<SourceError> for Attempt {
    fn from(error: SourceError) -> Self {
        Self::Source(error)
    }
}

impl From<Error> for Attempt {
    fn from(error: Error) -> Self {
        Self::Fatal(error)
    }
}

/// Whether `error` says that there is no room left.
pub(crate) fn is_disk_full(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}

/// Enough of a checksum to tell two apart.
fn short(sha256: &str) -> String {
    format!("{}...", sha256.get(..12).unwrap_or(sha256))
}

fn suggestion(nearest: &[String]) -> String {
    match nearest {
        [] => String::new(),
        names => format!(" (the nearest: {})", names.join(", ")),
    }
}
