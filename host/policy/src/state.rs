//! What policies have learnt, kept over restarts: one file for each policy's
//! name, written whole or not at all. A file that cannot be trusted is a cold
//! start with a warning, never an error. Knows nothing of what is in a state.

use std::io::Write;
use std::path::{Path, PathBuf};

use aio_core::PolicyIdentity;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

/// The form of the files; another one is not read.
const SCHEMA: &str = "aio.policy-state/1";
/// Most bytes of the line before the state.
const HEADER_BYTES: usize = 4096;

/// State that a `snapshot` returned, and whose it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Carried {
    /// The policy that it is meant for; `None`: whichever is started with it.
    pub policy: Option<String>,
    /// As `snapshot` returned it.
    pub state: Vec<u8>,
}

impl Carried {
    /// Whether it is meant for a policy of this name.
    pub(crate) fn is_for(&self, policy: &str) -> bool {
        self.policy.as_deref().is_none_or(|of| of == policy)
    }
}

/// The line before the state.
#[derive(Debug, Serialize, Deserialize)]
struct Header {
    schema: String,
    policy: String,
    version: String,
    /// Of the component that wrote it.
    digest: String,
    bytes: u64,
    /// Of the state, in hexadecimal.
    sha256: String,
}

/// A folder with the state of each policy.
#[derive(Debug, Clone)]
pub struct StateStore {
    folder: PathBuf,
    most_bytes: usize,
}

impl StateStore {
    /// A store in a folder, which is made when something is first saved. States
    /// beyond `most_bytes` are neither saved nor read.
    pub fn new(folder: impl Into<PathBuf>, most_bytes: usize) -> Self {
        Self { folder: folder.into(), most_bytes }
    }

    /// Where the state of a policy is kept.
    pub fn path(&self, policy: &str) -> PathBuf {
        // A policy names itself, so the name is not to be trusted with a path;
        // the digest keeps apart what becomes alike.
        let safe = |c: char| if c.is_ascii_alphanumeric() || c == '-' { c } else { '_' };
        let name: String = policy.chars().map(safe).take(48).collect();
        let digest = format!("{:x}", Sha256::digest(policy));
        self.folder.join(format!("{name}-{}.state", &digest[..8]))
    }

    /// Saves a policy's state: the old one stays until the new one is whole.
    ///
    /// # Errors
    /// One sentence on what cannot be written, or that the state is too large.
    pub fn save(&self, policy: &PolicyIdentity, state: &[u8]) -> Result<(), String> {
        if state.len() > self.most_bytes {
            return Err(format!(
                "the state of policy \"{}\" has {} bytes, but at most {} are kept; the one saved \
                 before stays",
                policy.name,
                state.len(),
                self.most_bytes
            ));
        }
        let path = self.path(&policy.name);
        self.write(policy, state, &path)
            .map_err(|error| format!("cannot save a policy's state to {}: {error}", path.display()))
    }

    fn write(&self, policy: &PolicyIdentity, state: &[u8], path: &Path) -> std::io::Result<()> {
        std::fs::create_dir_all(&self.folder)?;
        let header = Header {
            schema: SCHEMA.into(),
            policy: policy.name.clone(),
            version: policy.version.clone(),
            digest: policy.digest.clone(),
            bytes: state.len() as u64,
            sha256: format!("{:x}", Sha256::digest(state)),
        };
        let mut file = tempfile::NamedTempFile::new_in(&self.folder)?;
        serde_json::to_writer(&mut file, &header)?;
        file.write_all(b"\n")?;
        file.write_all(state)?;
        file.as_file().sync_all()?;
        file.persist(path).map_err(|error| error.error)?;
        Ok(())
    }

    /// The state that was saved for a policy of this name. What is there and
    /// cannot be used is told in the log and is as good as none.
    pub fn load(&self, policy: &str) -> Option<Carried> {
        let path = self.path(policy);
        match self.read(policy, &path) {
            Ok(state) => state.map(|state| Carried { policy: Some(policy.to_owned()), state }),
            Err(why) => {
                tracing::warn!(
                    "the saved state {} is not used, the policy starts cold: {why}",
                    path.display()
                );
                None
            }
        }
    }

    fn read(&self, policy: &str, path: &Path) -> Result<Option<Vec<u8>>, String> {
        let size = match std::fs::metadata(path) {
            Ok(metadata) => metadata.len(),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error.to_string()),
        };
        if size > (self.most_bytes + HEADER_BYTES) as u64 {
            return Err(format!("it has {size} bytes, but at most {} are kept", self.most_bytes));
        }
        let mut bytes = std::fs::read(path).map_err(|error| error.to_string())?;
        let end = bytes.iter().position(|&b| b == b'\n').ok_or("it has no header")?;
        let header: Header = serde_json::from_slice(&bytes[..end])
            .map_err(|error| format!("its header is damaged: {error}"))?;
        let state = bytes.split_off(end + 1);
        if header.schema != SCHEMA {
            return Err(format!("it is of the form {}, not {SCHEMA}", header.schema));
        }
        if header.policy != policy {
            return Err(format!("it is of policy \"{}\"", header.policy.escape_debug()));
        }
        if header.bytes != state.len() as u64 {
            return Err(format!("it has {} of {} bytes", state.len(), header.bytes));
        }
        if header.sha256 != format!("{:x}", Sha256::digest(&state)) {
            return Err("its checksum is another".into());
        }
        Ok(Some(state))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn identity(name: &str) -> PolicyIdentity {
        PolicyIdentity {
            name: name.into(),
            version: "1.0".into(),
            digest: "d".into(),
            generation: 1,
        }
    }

    fn state_of(store: &StateStore, policy: &str) -> Option<Vec<u8>> {
        store.load(policy).map(|carried| carried.state)
    }

    #[test]
    fn what_is_saved_is_loaded_by_the_same_name_alone() {
        let folder = tempfile::tempdir().unwrap();
        let store = StateStore::new(folder.path().join("new/folder"), 100);
        assert_eq!(state_of(&store, "a"), None);
        store.save(&identity("a"), b"one\ntwo").unwrap();
        store.save(&identity("b"), b"").unwrap();
        assert_eq!(state_of(&store, "a").as_deref(), Some(&b"one\ntwo"[..]));
        assert_eq!(state_of(&store, "b").as_deref(), Some(&b""[..]));
        assert_eq!(state_of(&store, "c"), None);
        let carried = store.load("a").unwrap();
        assert!(carried.is_for("a") && !carried.is_for("b"));
    }

    #[test]
    fn names_cannot_leave_the_folder_nor_meet() {
        let store = StateStore::new("folder", 100);
        let paths = ["../../etc", "__/__/etc", "a/b", "a_b", "", &"x".repeat(500)]
            .map(|name| store.path(name));
        for (i, path) in paths.iter().enumerate() {
            assert_eq!(path.parent(), Some(Path::new("folder")), "{}", path.display());
            assert!(!paths[..i].contains(path), "{}", path.display());
        }
    }

    #[test]
    fn a_damaged_state_is_a_cold_start() {
        let folder = tempfile::tempdir().unwrap();
        let store = StateStore::new(folder.path(), 100);
        store.save(&identity("a"), b"learnt much").unwrap();
        let path = store.path("a");
        let whole = std::fs::read(&path).unwrap();
        for length in 0..whole.len() {
            std::fs::write(&path, &whole[..length]).unwrap();
            assert_eq!(state_of(&store, "a"), None, "cut to {length} bytes");
        }
        for i in (0..whole.len()).step_by(7) {
            let mut damaged = whole.clone();
            damaged[i] ^= 4;
            std::fs::write(&path, &damaged).unwrap();
            let state = state_of(&store, "a");
            // A flip in what is told of the writer does not touch the state.
            assert!(state.is_none() || state.as_deref() == Some(b"learnt much"), "byte {i}");
        }
        std::fs::write(&path, vec![b'x'; 10_000]).unwrap();
        assert_eq!(state_of(&store, "a"), None);
    }

    #[test]
    fn a_state_beyond_the_cap_leaves_the_one_before() {
        let folder = tempfile::tempdir().unwrap();
        let store = StateStore::new(folder.path(), 10);
        store.save(&identity("a"), b"small").unwrap();
        let error = store.save(&identity("a"), &[0; 11]).unwrap_err();
        assert!(error.contains("has 11 bytes, but at most 10 are kept"), "{error}");
        assert_eq!(state_of(&store, "a").as_deref(), Some(&b"small"[..]));
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1, "nothing half-written");
    }
}
