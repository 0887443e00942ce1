//! A file that is still arriving: kept beside its final place, appended to
//! piece by piece, hashed on the way, and renamed into place only when its
//! length and SHA-256 are right. Knows nothing of where the bytes come from.
//!
//! A partial file needs no journal: pieces have known lengths, so the length
//! of the file says which of them are whole, and the rest is cut off.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek, Write};
use std::path::{Path, PathBuf};

use crate::checksum::{CHUNK, Hasher};
use crate::error::Attempt;
use crate::{Error, Model, Progress, SourceError};

/// An arriving file of `model`.
#[derive(Debug)]
pub(crate) struct Partial<'a> {
    model: &'a Model,
    path: PathBuf,
    file: File,
    hasher: Hasher,
    length: u64,
}

/// Why appending a piece failed.
#[derive(Debug)]
pub(crate) enum AppendError {
    /// The piece could not be read to its end.
    Read(io::Error),
    /// The piece had another length, at least this many bytes.
    Length(u64),
    /// The partial file could not be written.
    Write(Error),
}

impl<'a> Partial<'a> {
    /// Opens the partial file at `path`, or makes it. Of what is there, the
    /// longest beginning that ends at one of `boundaries` is kept.
    pub(crate) fn open(
        model: &'a Model,
        path: PathBuf,
        boundaries: impl Iterator<Item = u64>,
        progress: &mut dyn Progress,
    ) -> Result<Self, Error> {
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(false);
        let file = options.open(&path).map_err(|e| Error::writing(&model.name, &path, e))?;
        let mut partial = Self { model, path, file, hasher: Hasher::default(), length: 0 };
        partial.keep(boundaries, progress).map_err(|e| partial.error(e))?;
        Ok(partial)
    }

    /// Length in bytes.
    pub(crate) fn length(&self) -> u64 {
        self.length
    }

    /// Appends exactly `bytes` bytes from `reader`. When it fails, the file is
    /// as it was before.
    pub(crate) fn append(
        &mut self,
        reader: &mut dyn Read,
        bytes: u64,
        progress: &mut dyn Progress,
    ) -> Result<(), AppendError> {
        let start = self.length;
        let mut hasher = self.hasher.clone();
        let copied = self.copy(reader, bytes, &mut hasher, progress);
        match copied {
            Ok(()) => {
                self.length = start + bytes;
                self.hasher = hasher;
                Ok(())
            }
            Err(error) => {
                // Freeing what was written also makes room on a full disk. If
                // it fails, the next `open` cuts the file at a boundary.
                let _ = self.file.set_len(start);
                let _ = self.file.seek(io::SeekFrom::Start(start));
                Err(error)
            }
        }
    }

    /// Checks the whole file and moves it to `target`, replacing what is
    /// there. A file with the wrong checksum is deleted.
    pub(crate) fn finish(self, target: &Path) -> Result<(), Attempt> {
        self.file.sync_all().map_err(|e| self.error(e))?;
        let found = self.hasher.finish();
        drop(self.file);
        install(self.model, &self.path, &found, target)
    }

    fn keep(
        &mut self,
        boundaries: impl Iterator<Item = u64>,
        progress: &mut dyn Progress,
    ) -> io::Result<()> {
        let present = self.file.metadata()?.len();
        self.length = boundaries.filter(|end| *end <= present).max().unwrap_or(0);
        self.file.set_len(self.length)?;
        let mut chunk = vec![0; CHUNK];
        let mut hashed = 0;
        while hashed < self.length {
            let read = self.file.read(&mut chunk)?;
            if read == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            self.hasher.update(&chunk[..read]);
            hashed += read as u64;
            progress.advanced(hashed);
        }
        Ok(())
    }

    fn copy(
        &mut self,
        reader: &mut dyn Read,
        bytes: u64,
        hasher: &mut Hasher,
        progress: &mut dyn Progress,
    ) -> Result<(), AppendError> {
        let mut chunk = vec![0; CHUNK];
        let mut copied = 0;
        loop {
            let read = match reader.read(&mut chunk) {
                Ok(0) => break,
                Ok(read) => read,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => continue,
                Err(e) => return Err(AppendError::Read(e)),
            };
            copied += read as u64;
            if copied > bytes {
                return Err(AppendError::Length(copied));
            }
            self.file.write_all(&chunk[..read]).map_err(|e| AppendError::Write(self.error(e)))?;
            hasher.update(&chunk[..read]);
            progress.advanced(self.length + copied);
        }
        if copied < bytes {
            return Err(AppendError::Length(copied));
        }
        // A part counts as arrived once it would survive a power cut.
        self.file.sync_data().map_err(|e| AppendError::Write(self.error(e)))
    }

    fn error(&self, reason: io::Error) -> Error {
        Error::writing(&self.model.name, &self.path, reason)
    }
}

/// Moves the complete file at `arrived`, whose SHA-256 is `found`, to `target`
/// when it is `model`'s file; else deletes it.
pub(crate) fn install(
    model: &Model,
    arrived: &Path,
    found: &str,
    target: &Path,
) -> Result<(), Attempt> {
    let length = fs::metadata(arrived).map_err(|e| Error::writing(&model.name, arrived, e))?.len();
    let refusal = if length != model.file.bytes {
        SourceError::WrongSize { found: length, expected: model.file.bytes }
    } else if found != model.file.sha256 {
        let expected = model.file.sha256.clone();
        SourceError::WrongChecksum { found: found.to_owned(), expected }
    } else {
        fs::rename(arrived, target).map_err(|e| Error::writing(&model.name, target, e))?;
        sync_folder(target);
        return Ok(());
    };
    fs::remove_file(arrived).map_err(|e| Error::writing(&model.name, arrived, e))?;
    Err(refusal.into())
}

/// Makes a rename last through a power cut, where folders can be synced.
fn sync_folder(file: &Path) {
    // A failure costs at most another fetch after a power cut, so it is no
    // error; on Windows folders cannot be opened this way at all.
    if let Some(Ok(folder)) = file.parent().map(File::open) {
        let _ = folder.sync_all();
    }
}
