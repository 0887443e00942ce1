//! Keys and the files that hold them: text, so that they can be looked at, mailed
//! and put under version control (the public ones). Knows Ed25519 and nothing of
//! components.

use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::str::FromStr;

use aio_core::MAX_LABEL_BYTES;
use ring::rand::SystemRandom;
use ring::signature::{ED25519, Ed25519KeyPair, KeyPair, UnparsedPublicKey};

use super::{KEY_BYTES, SIGNATURE_BYTES};
use crate::event::{from_hex, to_hex};
use crate::log::printable;

/// Most bytes of a file with keys: some thousand of them.
const FILE_BYTES: u64 = 1 << 20;

/// How each private key in PKCS#8 begins: a sequence, and a version of 0 or 1.
const PKCS8: u8 = 0x30;

/// Why keys cannot be had. Each is one sentence that says what to do; none repeats
/// what is in a file, which may be secret.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// The file cannot be read.
    #[error("cannot read the key file {}: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the operating system says.
        source: std::io::Error,
    },
    /// The file cannot be written.
    #[error("cannot write the key file {}: {source}", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// What the operating system says.
        source: std::io::Error,
    },
    /// There is such a file already.
    #[error(
        "{} exists already, and a key is never overwritten: name another file, or move that one away", path.display()
    )]
    Exists {
        /// The file.
        path: PathBuf,
    },
    /// The file holds something else.
    #[error("{} {problem}", path.display())]
    Content {
        /// The file.
        path: PathBuf,
        /// What is wrong, and what to do about it.
        problem: String,
    },
    /// The system has no random numbers to give.
    #[error("no key can be made: the operating system gives no random numbers")]
    NoRandomness,
}

/// A key that signatures are checked with, an Ed25519 point; as text, 64 hexadecimal
/// digits.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PublicKey([u8; KEY_BYTES]);

impl PublicKey {
    pub(super) const fn new(bytes: [u8; KEY_BYTES]) -> Self {
        Self(bytes)
    }

    /// The point as Ed25519 encodes it.
    pub fn as_bytes(&self) -> &[u8; KEY_BYTES] {
        &self.0
    }

    pub(super) fn has_signed(&self, message: &[u8], signature: &[u8; SIGNATURE_BYTES]) -> bool {
        UnparsedPublicKey::new(&ED25519, &self.0).verify(message, signature).is_ok()
    }
}

impl std::fmt::Display for PublicKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&to_hex(&self.0))
    }
}

impl std::fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "PublicKey({self})")
    }
}

impl FromStr for PublicKey {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let key = from_hex(text).and_then(|bytes| bytes.try_into().ok()).map(Self);
        key.ok_or_else(|| "a public key has 64 hexadecimal digits".into())
    }
}

/// A trusted key, and what the operator calls whoever has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyId {
    /// The key.
    pub key: PublicKey,
    /// The name; `None` when the file of trusted keys has none.
    pub name: Option<String>,
}

impl std::fmt::Display for KeyId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.name {
            Some(name) => write!(f, "{name} ({})", self.key),
            None => self.key.fmt(f),
        }
    }
}

/// The keys whose signatures are accepted; at least one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TrustedKeys(Vec<KeyId>);

impl TrustedKeys {
    /// Reads a file with a public key a line in hexadecimal, after it a name if
    /// wanted; what follows a `#` at a line's beginning is a comment, and empty lines
    /// are none.
    ///
    /// # Errors
    /// When the file cannot be read, a line is something else, or it has no key.
    pub fn read(path: &Path) -> Result<Self, KeyError> {
        let text = read_text(path)?;
        text.parse().map_err(|problem| KeyError::Content { path: path.into(), problem })
    }

    /// The keys, in the order of their file.
    pub fn keys(&self) -> &[KeyId] {
        &self.0
    }

    pub(super) fn find(&self, key: &PublicKey) -> Option<&KeyId> {
        self.0.iter().find(|id| id.key == *key)
    }
}

impl FromStr for TrustedKeys {
    type Err = String;

    /// The text of a file as [`TrustedKeys::read`] has it.
    fn from_str(text: &str) -> Result<Self, String> {
        let mut keys: Vec<KeyId> = Vec::new();
        for (number, line) in lines(text) {
            let (key, name) = line.split_once(char::is_whitespace).unwrap_or((line, ""));
            let key: PublicKey = key.parse().map_err(|problem| match from_hex(key) {
                Some(bytes) if bytes.first() == Some(&PKCS8) && bytes.len() > KEY_BYTES => {
                    "holds a private key, which nobody is to have but who signs: give the file \
                     of its public key (.pub)"
                        .to_owned()
                }
                _ => format!(
                    "has no public key in line {number}: {problem}, and after it a name if wanted"
                ),
            })?;
            if keys.iter().any(|id| id.key == key) {
                return Err(format!("has a key for the second time in line {number}: remove it"));
            }
            let name = printable(name.trim(), MAX_LABEL_BYTES);
            keys.push(KeyId { key, name: (!name.is_empty()).then_some(name) });
        }
        if keys.is_empty() {
            return Err("has no key, so no policy could be loaded: put a public key into it, as \
                        `aio policy keygen` writes it"
                .into());
        }
        Ok(Self(keys))
    }
}

impl From<PublicKey> for TrustedKeys {
    /// Trust in one key, without a name.
    fn from(key: PublicKey) -> Self {
        Self(vec![KeyId { key, name: None }])
    }
}

/// A private key.
pub struct SigningKey(Ed25519KeyPair);

impl std::fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "SigningKey(public: {})", self.public())
    }
}

impl SigningKey {
    /// Makes a key and writes it to `path`, readable by its owner alone, and its
    /// public part to the file of that name with `.pub` behind it, which is a file of
    /// trusted keys with one key, called as the file is.
    ///
    /// # Errors
    /// When one of the files exists or cannot be written; then neither is left.
    pub fn create(path: &Path) -> Result<Self, KeyError> {
        let pkcs8 = Ed25519KeyPair::generate_pkcs8(&SystemRandom::new())
            .map_err(|_| KeyError::NoRandomness)?;
        let key = Self::from_pkcs8(pkcs8.as_ref()).ok_or(KeyError::NoRandomness)?;
        let name = path.file_stem().map(|stem| stem.to_string_lossy()).unwrap_or_default();
        let name = printable(&name, MAX_LABEL_BYTES);
        let private = format!(
            "# Private key for signing aio policies (Ed25519, PKCS#8 in hexadecimal).\n\
             # Whoever has it can sign in your name: keep it to yourself.\n\
             # Its public key: {}\n{}\n",
            key.public(),
            to_hex(pkcs8.as_ref())
        );
        let public = format!(
            "# Public key of who signs aio policies (Ed25519), and a name.\n{} {name}\n",
            key.public()
        );
        write_new(path, &private, true)?;
        if let Err(error) = write_new(&public_path(path), &public, false) {
            // A private key without its public one is of no use; it was made just now.
            let _ = std::fs::remove_file(path);
            return Err(error);
        }
        Ok(key)
    }

    /// Reads a file as [`SigningKey::create`] writes it.
    ///
    /// # Errors
    /// When the file cannot be read or holds no private key.
    pub fn read(path: &Path) -> Result<Self, KeyError> {
        let text = read_text(path)?;
        text.parse().map_err(|problem| KeyError::Content { path: path.into(), problem })
    }

    fn from_pkcs8(bytes: &[u8]) -> Option<Self> {
        // Other programs write keys without the public half; it follows from the other.
        Ed25519KeyPair::from_pkcs8_maybe_unchecked(bytes).ok().map(Self)
    }

    /// The key that its signatures are checked with.
    pub fn public(&self) -> PublicKey {
        let mut key = [0; KEY_BYTES];
        key.copy_from_slice(self.0.public_key().as_ref());
        PublicKey(key)
    }

    pub(super) fn sign(&self, message: &[u8]) -> [u8; SIGNATURE_BYTES] {
        let mut signature = [0; SIGNATURE_BYTES];
        signature.copy_from_slice(self.0.sign(message).as_ref());
        signature
    }
}

impl FromStr for SigningKey {
    type Err = String;

    /// The text of a file as [`SigningKey::read`] has it.
    fn from_str(text: &str) -> Result<Self, String> {
        let mut lines = lines(text).map(|(_, line)| line);
        let (first, second) = (lines.next().unwrap_or_default(), lines.next());
        let bytes = if second.is_none() { from_hex(first) } else { None };
        let key = bytes.and_then(|bytes| Self::from_pkcs8(&bytes));
        key.ok_or_else(|| match first.split_whitespace().next().map(str::parse::<PublicKey>) {
            Some(Ok(_)) => "holds a public key: give the file of the private one, without .pub",
            _ => "holds no private key: give a file that `aio policy keygen` has written",
        })
        .map_err(str::to_owned)
    }
}

/// Where the public part of a private key's file is written.
fn public_path(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".pub");
    name.into()
}

/// The lines that say something, with their numbers.
fn lines(text: &str) -> impl Iterator<Item = (usize, &str)> {
    let lines = text.lines().enumerate().map(|(i, line)| (i + 1, line.trim()));
    lines.filter(|(_, line)| !line.is_empty() && !line.starts_with('#'))
}

fn read_text(path: &Path) -> Result<String, KeyError> {
    let read = |source| KeyError::Read { path: path.into(), source };
    let mut bytes = Vec::new();
    let file = std::fs::File::open(path).map_err(read)?;
    file.take(FILE_BYTES + 1).read_to_end(&mut bytes).map_err(read)?;
    let text = if bytes.len() as u64 > FILE_BYTES { None } else { String::from_utf8(bytes).ok() };
    text.ok_or_else(|| KeyError::Content {
        path: path.into(),
        problem: "is no file of keys: give a text with keys in hexadecimal, at most 1 MiB".into(),
    })
}

/// Writes a file that must not exist yet; `secret`: for its owner alone.
fn write_new(path: &Path, text: &str, secret: bool) -> Result<(), KeyError> {
    let mut options = std::fs::OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    if secret {
        use std::os::unix::fs::OpenOptionsExt;
        options.mode(0o600);
    }
    #[cfg(not(unix))]
    let _ = secret;
    let failed = |source: std::io::Error| match source.kind() {
        std::io::ErrorKind::AlreadyExists => KeyError::Exists { path: path.into() },
        _ => KeyError::Write { path: path.into(), source },
    };
    let mut file = options.open(path).map_err(failed)?;
    let written = file.write_all(text.as_bytes()).and_then(|()| file.sync_all());
    written.map_err(|error| {
        let _ = std::fs::remove_file(path);
        failed(error)
    })
}
