//! Signatures of components: who vouches for a policy's file, told from its bytes
//! alone. Knows nothing of how a component is compiled or where it comes from.
//!
//! A signature is a custom section named `aio-signature`, the last thing in the
//! file: a byte for the format's version, the signer's public key (32 bytes), and
//! an Ed25519 signature (64 bytes) over [`DOMAIN`] and all bytes of the file before
//! the section. WebAssembly tools skip it. There is one form of it and no other, so
//! that a file has one signature or none and nothing in it is left unsigned.
//!
//! The digest by which records name a policy covers the whole file, signature
//! included: it is what `sha256sum` says of the file that was loaded, and a policy
//! signed anew is another file to replays.

mod keys;
#[cfg(test)]
mod tests;

pub use keys::{KeyError, KeyId, PublicKey, SigningKey, TrustedKeys};

/// The section's name.
pub const SIGNATURE_SECTION: &str = "aio-signature";

/// What stands before the component's bytes in the signed message: a key that signs
/// other things too vouches for no policy by that.
const DOMAIN: &[u8] = b"aio policy component, signature format 1\0";

/// The format's version.
const VERSION: u8 = 1;
const KEY_BYTES: usize = 32;
const SIGNATURE_BYTES: usize = 64;
/// Version, key and signature.
const DATA_BYTES: usize = 1 + KEY_BYTES + SIGNATURE_BYTES;
/// The section's name with its length, and the data.
const CONTENT_BYTES: usize = 1 + SIGNATURE_SECTION.len() + DATA_BYTES;
/// All of the section: its kind and its length are a byte each.
const SECTION_BYTES: usize = 2 + CONTENT_BYTES;
// Lengths are LEB128 numbers: below 128 they are one byte.
const _: () = assert!(CONTENT_BYTES < 128);

/// The bytes before a component's first section.
const PREAMBLE_BYTES: usize = 8;

/// Why a component's signature does not hold. Each reads on from "because", and
/// says what to do.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SignatureError {
    /// The bytes are no component.
    #[error(
        "it is not a WebAssembly component: give a component (.wasm), and wrap a core module with `wasm-tools component new` before it is signed"
    )]
    NotComponent,
    /// A section says that it is longer than what is left of the file.
    #[error("it is cut off or damaged in the section at byte {offset}: copy it or build it anew")]
    Cut {
        /// Where the section begins.
        offset: usize,
    },
    /// There is no signature.
    #[error("it is not signed: sign it with `aio policy sign`, or get it from whoever does")]
    Unsigned,
    /// There is more than one signature.
    #[error("it has more than one signature section: build it anew and sign it once")]
    Several,
    /// The signature is not the last thing in the file.
    #[error(
        "something was added behind its signature: build it anew and sign it when nothing is to be added any more"
    )]
    NotLast,
    /// The signature's section has another size than the format's.
    #[error("its signature section is damaged: copy it anew, or build it anew and sign it")]
    Form,
    /// The signature is of another format.
    #[error(
        "its signature is of format {version}, but this program knows format {VERSION}: sign it with this version of aio"
    )]
    Version {
        /// Its format.
        version: u8,
    },
    /// The signer is not trusted.
    #[error(
        "it is signed by the key {key}, which is not among the trusted keys: add that key to them if you trust who has it, or have it signed by one of them"
    )]
    Untrusted {
        /// The signer as the file has it.
        key: PublicKey,
    },
    /// The bytes are not those that were signed.
    #[error(
        "it is not what the key {key} has signed, it was altered since: copy it anew, or build it anew and sign it"
    )]
    Altered {
        /// The signer as the file has it.
        key: PublicKey,
    },
}

/// A component with a signature at its end; one that it has is replaced.
///
/// # Errors
/// When the bytes are no whole component, or what it has of signatures is not in
/// the one form that can be replaced.
pub fn sign(component: &[u8], key: &SigningKey) -> Result<Vec<u8>, SignatureError> {
    let (body, _) = split(component)?;
    let signature = key.sign(&message(body));
    let mut signed = Vec::with_capacity(body.len() + SECTION_BYTES);
    signed.extend_from_slice(body);
    // A custom section is of kind 0.
    signed.extend_from_slice(&[0, CONTENT_BYTES as u8, SIGNATURE_SECTION.len() as u8]);
    signed.extend_from_slice(SIGNATURE_SECTION.as_bytes());
    signed.push(VERSION);
    signed.extend_from_slice(key.public().as_bytes());
    signed.extend_from_slice(&signature);
    Ok(signed)
}

/// Which of the trusted keys has signed exactly these bytes.
///
/// # Errors
/// When none has; which of the ways it is, and what to do about it.
pub fn verify(component: &[u8], trusted: &TrustedKeys) -> Result<KeyId, SignatureError> {
    let (body, signature) = split(component)?;
    let Signature { key, signature } = signature.ok_or(SignatureError::Unsigned)?;
    // Looked at first: nothing is computed with a stranger's key.
    let id = trusted.find(&key).ok_or(SignatureError::Untrusted { key })?;
    if key.has_signed(&message(body), &signature) {
        Ok(id.clone())
    } else {
        Err(SignatureError::Altered { key })
    }
}

/// The key that has signed exactly these bytes, trusted or not. This says that the
/// file is whole, not that it comes from anybody in particular.
///
/// # Errors
/// As [`verify`], but for the trust.
pub fn signer(component: &[u8]) -> Result<PublicKey, SignatureError> {
    let (body, signature) = split(component)?;
    let Signature { key, signature } = signature.ok_or(SignatureError::Unsigned)?;
    if key.has_signed(&message(body), &signature) {
        Ok(key)
    } else {
        Err(SignatureError::Altered { key })
    }
}

/// What the section holds.
struct Signature {
    key: PublicKey,
    signature: [u8; SIGNATURE_BYTES],
}

fn message(body: &[u8]) -> Vec<u8> {
    [DOMAIN, body].concat()
}

/// Takes a component apart: the bytes before the signature, and that, if it has one.
///
/// Sections are walked from the front, as the compiler walks them: a signature is
/// one only where a section begins, whatever other sections hold.
fn split(bytes: &[u8]) -> Result<(&[u8], Option<Signature>), SignatureError> {
    // Layer 1 is a component, layer 0 a core module.
    let [0, b'a', b's', b'm', _, _, 1, 0, ..] = bytes else {
        return Err(SignatureError::NotComponent);
    };
    let mut found: Option<(usize, Section<'_>)> = None;
    let mut at = PREAMBLE_BYTES;
    while at < bytes.len() {
        let section = match Section::read(bytes, at) {
            Some(section) => section,
            None if found.is_some() => return Err(SignatureError::NotLast),
            None => return Err(SignatureError::Cut { offset: at }),
        };
        let end = section.end;
        if section.signature.is_some() && found.replace((at, section)).is_some() {
            return Err(SignatureError::Several);
        }
        at = end;
    }
    match found {
        None => Ok((bytes, None)),
        Some((_, section)) if section.end < bytes.len() => Err(SignatureError::NotLast),
        Some((start, Section { signature, .. })) => {
            let data = signature.unwrap_or_default();
            Ok((&bytes[..start], Some(Signature::read(bytes.len() - start, data)?)))
        }
    }
}

impl Signature {
    /// Reads what is behind the section's name; `section`: bytes of all of it.
    fn read(section: usize, data: &[u8]) -> Result<Self, SignatureError> {
        match data {
            [version, ..] if *version != VERSION => {
                Err(SignatureError::Version { version: *version })
            }
            // A length written in more bytes than it needs is WebAssembly too, but
            // would be bytes that nobody has signed.
            [_, data @ ..] if section == SECTION_BYTES => {
                let (key, signature) = data.split_first_chunk().ok_or(SignatureError::Form)?;
                let signature = signature.try_into().map_err(|_| SignatureError::Form)?;
                Ok(Self { key: PublicKey::new(*key), signature })
            }
            _ => Err(SignatureError::Form),
        }
    }
}

/// One of a component's sections.
struct Section<'a> {
    /// Where the next one begins.
    end: usize,
    /// What is behind the name, if it is a signature.
    signature: Option<&'a [u8]>,
}

impl<'a> Section<'a> {
    /// Reads the section that begins at `at`; `None` where the file ends within it.
    fn read(bytes: &'a [u8], at: usize) -> Option<Self> {
        let (kind, rest) = bytes.get(at..)?.split_first()?;
        let (length, rest) = length(rest)?;
        let content = rest.get(..length)?;
        let end = bytes.len() - rest.len() + length;
        // A custom section (kind 0) begins with its name.
        let named = if *kind == 0 { length_prefixed(content) } else { None };
        let signature =
            named.and_then(|(name, data)| (name == SIGNATURE_SECTION.as_bytes()).then_some(data));
        Some(Self { end, signature })
    }
}

/// Bytes with their length before them, and what follows.
fn length_prefixed(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (length, rest) = length(bytes)?;
    rest.split_at_checked(length)
}

/// A LEB128 number of 32 bits, and what follows.
fn length(bytes: &[u8]) -> Option<(usize, &[u8])> {
    let mut value = 0_u64;
    for (i, &byte) in bytes.iter().enumerate().take(5) {
        value |= u64::from(byte & 0x7f) << (7 * i);
        if byte & 0x80 == 0 {
            let value = u32::try_from(value).ok()?;
            return Some((usize::try_from(value).ok()?, &bytes[i + 1..]));
        }
    }
    None
}
