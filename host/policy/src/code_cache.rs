//! A folder of compiled components, which outlives the process: one file each, that is
//! mapped as it is. Unpacking and copying a script engine's code would take longer than
//! all else that a reload does. Knows nothing of policies; what it does not have is
//! compiled again.
//!
//! A file's code is run outside the sandbox, so a file counts only if it belongs to this
//! user, nobody else may write to it, and its checksum says that it is whole and was
//! saved under this name. Files are made beside their place and put there by renaming,
//! never written in place: what is mapped does not change.

use std::fs::{File, Metadata};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io::{self, BufReader, Read, Write};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use sha2::{Digest, Sha256};
use wasmtime::Engine;
use wasmtime::component::Component;

use crate::call::one_line;

/// Bytes of all files together; beyond it those go that were not used for longest. A
/// policy in Rust takes about one MiB, one with a script engine some tens of MiB.
const MOST_BYTES: u64 = 512 << 20;
/// The ending of a file's name, and of one that is still being written.
const CODE: &str = "code";
const UNFINISHED: &str = "tmp";
/// Bytes of the checksum that ends a file.
const CHECKSUM: u64 = 32;

/// A folder of compiled components.
pub(crate) struct CodeCache {
    folder: PathBuf,
    /// What code depends on beside the component: the compiler, its version and its
    /// settings, and this processor's instructions.
    engine: u64,
    most_bytes: u64,
}

impl CodeCache {
    /// The cache in a folder, which is made where there is none.
    ///
    /// # Errors
    /// When it cannot be made.
    pub(crate) fn open(folder: &Path, engine: &Engine) -> io::Result<Self> {
        std::fs::create_dir_all(folder)?;
        let mut hasher = DefaultHasher::new();
        engine.precompile_compatibility_hash().hash(&mut hasher);
        let engine = hasher.finish();
        Ok(Self { folder: folder.to_owned(), engine, most_bytes: MOST_BYTES })
    }

    /// The component of this digest, compiled earlier for an engine like this one.
    pub(crate) fn load(&self, engine: &Engine, digest: &str) -> Option<Component> {
        let name = self.name(digest);
        let path = self.folder.join(&name);
        match read(engine, &name, &path) {
            Ok(component) => component,
            Err(why) => {
                let path = path.display();
                tracing::warn!("the compiled code in {path} is not used, it is made anew: {why}");
                None
            }
        }
    }

    /// Keeps a component's code. Where that fails, it will be compiled again.
    pub(crate) fn save(&self, digest: &str, component: &Component) {
        if let Err(why) = self.write(&self.name(digest), component) {
            tracing::debug!("compiled code is not kept in {}: {why}", self.folder.display());
        }
    }

    fn name(&self, digest: &str) -> String {
        format!("{digest}-{:016x}.{CODE}", self.engine)
    }

    fn write(&self, name: &str, component: &Component) -> Result<(), String> {
        let code = component.serialize().map_err(|error| one_line(&error))?;
        let suffix = format!(".{UNFINISHED}");
        let written = tempfile::Builder::new()
            .suffix(&suffix)
            .tempfile_in(&self.folder)
            .and_then(|mut file| {
                file.write_all(&code)?;
                file.write_all(&checksum(name, &code[..])?)?;
                file.persist(self.folder.join(name)).map_err(|error| error.error)
            })
            .and_then(|_| self.sweep());
        written.map_err(|error| error.to_string())
    }

    /// Removes what was not used for longest, until the rest is small enough.
    fn sweep(&self) -> io::Result<()> {
        let mut files: Vec<(SystemTime, u64, PathBuf)> = std::fs::read_dir(&self.folder)?
            .filter_map(|entry| {
                let path = entry.ok()?.path();
                let ours = path.extension().is_some_and(|e| e == CODE || e == UNFINISHED);
                let metadata = ours.then(|| path.metadata().ok())??;
                Some((metadata.modified().ok()?, metadata.len(), path))
            })
            .collect();
        files.sort();
        let mut bytes: u64 = files.iter().map(|(_, bytes, _)| bytes).sum();
        for (_, of_file, path) in files {
            if bytes <= self.most_bytes {
                break;
            }
            std::fs::remove_file(path)?;
            bytes -= of_file;
        }
        Ok(())
    }
}

/// The component in a file; `None` where there is no file.
fn read(engine: &Engine, name: &str, path: &Path) -> Result<Option<Component>, String> {
    let says = |error: io::Error| error.to_string();
    let mut file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(says(error)),
    };
    let metadata = file.metadata().map_err(says)?;
    check_owner(&metadata)?;
    let code_bytes = metadata.len().checked_sub(CHECKSUM).ok_or("it is too short")?;
    let actual = checksum(name, (&mut file).take(code_bytes)).map_err(says)?;
    let mut expected = [0; CHECKSUM as usize];
    file.read_exact(&mut expected).map_err(says)?;
    if actual != expected {
        return Err("its checksum is another".into());
    }
    // For the sweep, which goes by it. Where that cannot be told, it goes earlier.
    let _ = file.set_modified(SystemTime::now());
    // Only this user, who could change this program as well, can have made it, and it is
    // never written to again.
    // SAFETY: by its checksum the file is what `save` wrote under this name, for this
    // component and engines like this one, and what is mapped stays as it is.
    let mapped = unsafe { Component::deserialize_file(engine, path) };
    // Where files must not be run (a folder mounted with `noexec`), a copy may be.
    let component = mapped.or_else(|_| {
        let copy = std::fs::read(path)?;
        // SAFETY: as above.
        unsafe { Component::deserialize(engine, copy) }
    });
    component.map(Some).map_err(|error| one_line(&error))
}

/// Of a file's name and its code: one that is whole and in another's place counts as
/// little as one that is damaged.
fn checksum(name: &str, code: impl Read) -> io::Result<[u8; CHECKSUM as usize]> {
    let mut hasher = Sha256::new_with_prefix(name);
    io::copy(&mut BufReader::with_capacity(256 << 10, code), &mut hasher)?;
    Ok(hasher.finalize().into())
}

/// Whether nobody but this user can have written to a file.
#[cfg(unix)]
fn check_owner(file: &Metadata) -> Result<(), String> {
    use std::os::unix::fs::MetadataExt;
    if file.uid() != rustix::process::geteuid().as_raw() {
        return Err("it belongs to another user".into());
    }
    if file.mode() & 0o022 != 0 {
        return Err("other users may write to it".into());
    }
    Ok(())
}

/// Elsewhere the folder's own rights are all there is.
#[cfg(not(unix))]
fn check_owner(_: &Metadata) -> Result<(), String> {
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use wasmtime::Config;

    use super::*;

    const SMALL: &[u8] = b"(component (core module (func (result i32) i32.const 1)))";
    const OTHER: &[u8] = b"(component (core module (func (result i32) i32.const 2)))";

    fn compiled(engine: &Engine, text: &[u8]) -> Component {
        let text = std::str::from_utf8(text).unwrap();
        Component::from_binary(engine, &wat::parse_str(text).unwrap()).unwrap()
    }

    /// A cache with one component, "a".
    struct Kept {
        engine: Engine,
        cache: CodeCache,
        folder: tempfile::TempDir,
    }

    impl Kept {
        fn new() -> Self {
            let folder = tempfile::tempdir().unwrap();
            let engine = Engine::default();
            let cache = CodeCache::open(folder.path(), &engine).unwrap();
            cache.save("a", &compiled(&engine, SMALL));
            Self { engine, cache, folder }
        }

        fn path(&self, digest: &str) -> PathBuf {
            self.folder.path().join(self.cache.name(digest))
        }

        fn has(&self, digest: &str) -> bool {
            self.cache.load(&self.engine, digest).is_some()
        }
    }

    #[test]
    fn what_is_kept_is_found_by_engines_like_this_one() {
        let kept = Kept::new();
        assert!(kept.has("a") && !kept.has("b"));
        let found = kept.cache.load(&kept.engine, "a").unwrap().serialize().unwrap();
        let code = std::fs::read(kept.path("a")).unwrap();
        assert!(found == code, "what is mapped is the whole file");
        let again = Engine::default();
        let cache = CodeCache::open(kept.folder.path(), &again).unwrap();
        assert!(cache.load(&again, "a").is_some());
        let other = Engine::new(Config::new().consume_fuel(true)).unwrap();
        let cache = CodeCache::open(kept.folder.path(), &other).unwrap();
        assert!(cache.load(&other, "a").is_none());
    }

    #[test]
    fn what_is_damaged_is_not_used_and_can_be_made_anew() {
        let kept = Kept::new();
        let path = kept.path("a");
        let whole = std::fs::read(&path).unwrap();
        let flipped = |at: usize| {
            let mut bytes = whole.clone();
            bytes[at] ^= 1;
            bytes
        };
        let cut = |bytes: usize| whole[..bytes].to_vec();
        let damaged = [
            vec![],
            cut(31),
            cut(whole.len() - 1),
            cut(whole.len() / 2),
            flipped(0),
            flipped(whole.len() / 2),
            flipped(whole.len() - 1),
            vec![0; whole.len()],
            [&whole[..], &[0]].concat(),
        ];
        for (number, bytes) in damaged.into_iter().enumerate() {
            std::fs::remove_file(&path).unwrap();
            std::fs::write(&path, bytes).unwrap();
            assert!(!kept.has("a"), "{number}");
            kept.cache.save("a", &compiled(&kept.engine, SMALL));
            assert!(kept.has("a"), "{number}");
        }
    }

    #[test]
    fn code_of_another_component_is_not_used() {
        let kept = Kept::new();
        kept.cache.save("b", &compiled(&kept.engine, OTHER));
        std::fs::copy(kept.path("b"), kept.path("a")).unwrap();
        assert!(kept.has("b") && !kept.has("a"));
    }

    #[cfg(unix)]
    #[test]
    fn what_others_may_write_to_is_not_used() {
        use std::fs::Permissions;
        use std::os::unix::fs::PermissionsExt;
        let kept = Kept::new();
        for (mode, used) in [(0o620, false), (0o602, false), (0o444, true), (0o600, true)] {
            std::fs::set_permissions(kept.path("a"), Permissions::from_mode(mode)).unwrap();
            assert_eq!(kept.has("a"), used, "{mode:o}");
        }
    }

    #[test]
    fn what_was_not_used_for_longest_goes() {
        let mut kept = Kept::new();
        let bytes = std::fs::metadata(kept.path("a")).unwrap().len();
        kept.cache.most_bytes = 3 * bytes;
        let component = compiled(&kept.engine, SMALL);
        let stranger = kept.folder.path().join("notes.txt");
        let unfinished = kept.folder.path().join("left.tmp");
        for path in [&stranger, &unfinished] {
            std::fs::write(path, vec![0; bytes as usize]).unwrap();
        }
        kept.cache.save("b", &component);
        // What was saved when, as seconds of long ago.
        let saved = |path: &Path, second: u64| {
            let file = File::options().append(true).open(path).unwrap();
            file.set_modified(SystemTime::UNIX_EPOCH + Duration::from_secs(second)).unwrap();
        };
        saved(&unfinished, 1);
        saved(&kept.path("a"), 2);
        saved(&kept.path("b"), 3);
        kept.cache.save("c", &component);
        assert!(!unfinished.exists() && kept.path("a").exists() && kept.path("b").exists());
        saved(&kept.path("c"), 4);
        assert!(kept.has("a"), "and so it is used last");
        kept.cache.save("d", &component);
        assert!(stranger.exists() && kept.has("a") && !kept.has("b") && kept.has("c"));
    }

    #[test]
    fn a_component_that_cannot_be_kept_is_no_error() {
        let kept = Kept::new();
        let folder = kept.folder.path().to_owned();
        drop(kept.folder);
        kept.cache.save("a", &compiled(&kept.engine, SMALL));
        assert!(kept.cache.load(&kept.engine, "a").is_none() && !folder.exists());
    }
}
