//! SHA-256 of files and streams, with progress. Knows no models.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use sha2::{Digest, Sha256};

use crate::Progress;

/// Bytes read at a time: large enough for the disk, small enough for a bar
/// that moves.
pub(crate) const CHUNK: usize = 1 << 20;

/// A running SHA-256.
#[derive(Debug, Clone, Default)]
pub(crate) struct Hasher(Sha256);

impl Hasher {
    pub(crate) fn update(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    /// Lower-case hexadecimal.
    pub(crate) fn finish(self) -> String {
        let digest = self.0.finalize();
        digest.iter().map(|byte| format!("{byte:02x}")).collect()
    }
}

/// SHA-256 of the file at `path`; `progress` is told how far it has got.
pub(crate) fn of_file(path: &Path, progress: &mut dyn Progress) -> io::Result<String> {
    let mut file = File::open(path)?;
    let mut hasher = Hasher::default();
    let mut chunk = vec![0; CHUNK];
    let mut position = 0;
    loop {
        let read = file.read(&mut chunk)?;
        if read == 0 {
            return Ok(hasher.finish());
        }
        hasher.update(&chunk[..read]);
        position += read as u64;
        progress.advanced(position);
    }
}
