//! One form, at the end, over every byte before it; and files of keys.

use std::sync::LazyLock;

use proptest::prelude::*;

use super::*;

const FIXED: &[u8] = include_bytes!("../../../../policies/prebuilt/fixed.wasm");

/// A key in the form that other programs write: without its public half.
fn key(seed: u8) -> SigningKey {
    let seed = format!("{seed:02x}").repeat(KEY_BYTES);
    format!("# a test's\n302e020100300506032b657004220420{seed}\n").parse().unwrap()
}

fn trusted(seed: u8) -> TrustedKeys {
    key(seed).public().into()
}

/// A component of a few sections, one of them with a component of its own.
fn small() -> Vec<u8> {
    wat::parse_str(r#"(component (core module (@custom "c" "data")) (component))"#).unwrap()
}

static SIGNED: LazyLock<Vec<u8>> = LazyLock::new(|| sign(&small(), &key(1)).unwrap());

/// A custom section with a name.
fn custom(name: &str, data: &[u8]) -> Vec<u8> {
    let content = [&[u8::try_from(name.len()).unwrap()], name.as_bytes(), data].concat();
    [&[0, u8::try_from(content.len()).unwrap()], &content[..]].concat()
}

#[track_caller]
fn refused(bytes: &[u8], with: SignatureError) {
    assert_eq!(verify(bytes, &trusted(1)), Err(with));
}

#[test]
fn what_is_signed_verifies_and_begins_with_the_component() {
    for component in [FIXED, &small()] {
        let signed = sign(component, &key(1)).unwrap();
        assert_eq!(&signed[..component.len()], component);
        assert_eq!(signed.len(), component.len() + SECTION_BYTES);
        assert_eq!(verify(&signed, &trusted(1)).unwrap().key, key(1).public());
        assert_eq!(signer(&signed), Ok(key(1).public()));
    }
}

/// The format is a promise to files signed earlier. The key is the second of RFC 8032's
/// test vectors, so its public half is known from elsewhere.
#[test]
fn the_form_of_a_signature_stays() {
    let seed = "4ccd089b28ff96da9db6c346ec114e0f5b8a319f35aba624da8cf6ed4fb8a6fb";
    let key = format!("302e020100300506032b657004220420{seed}").parse::<SigningKey>().unwrap();
    let public = "3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c";
    assert_eq!(key.public().to_string(), public);
    let component = b"\0asm\x0d\0\x01\0";
    let signed = sign(component, &key).unwrap();
    let message = b"aio policy component, signature format 1\0\0asm\x0d\0\x01\0";
    let data = [&[1], &key.public().as_bytes()[..], &key.sign(message)].concat();
    assert_eq!(signed, [&component[..], &custom("aio-signature", &data)].concat());
}

#[test]
fn signing_anew_replaces_the_signature() {
    assert_eq!(sign(&SIGNED, &key(1)).unwrap(), *SIGNED);
    let again = sign(&SIGNED, &key(2)).unwrap();
    assert_eq!(again, sign(&small(), &key(2)).unwrap());
    refused(&again, SignatureError::Untrusted { key: key(2).public() });
}

#[test]
fn a_signature_is_one_section_at_the_very_end() {
    let (small, section) = (small(), SIGNED[SIGNED.len() - SECTION_BYTES..].to_vec());
    refused(&small, SignatureError::Unsigned);
    let doubled = [&SIGNED[..], &section].concat();
    refused(&doubled, SignatureError::Several);
    assert_eq!(sign(&doubled, &key(1)), Err(SignatureError::Several));
    let (preamble, sections) = small.split_at(PREAMBLE_BYTES);
    refused(&[preamble, &section, sections].concat(), SignatureError::NotLast);
    refused(&[&SIGNED[..], &custom("name", b"")].concat(), SignatureError::NotLast);
    refused(&[&SIGNED[..], b"\0"].concat(), SignatureError::NotLast);
    // Within another section it is that section's business, and signed with it.
    let within = [&small[..], &custom("other", &section[..100])].concat();
    refused(&within, SignatureError::Unsigned);
    assert!(verify(&sign(&within, &key(1)).unwrap(), &trusted(1)).is_ok());
}

#[test]
fn a_section_of_another_form_is_none_and_is_not_replaced() {
    let small = small();
    for (data, with) in [
        (&[][..], SignatureError::Form),
        (&[1], SignatureError::Form),
        (&[1; DATA_BYTES - 1], SignatureError::Form),
        (&[1; DATA_BYTES + 1], SignatureError::Form),
        (&[2; DATA_BYTES], SignatureError::Version { version: 2 }),
        (&[2], SignatureError::Version { version: 2 }),
    ] {
        let bytes = [&small[..], &custom(SIGNATURE_SECTION, data)].concat();
        assert_eq!(sign(&bytes, &key(1)), Err(with.clone()));
        refused(&bytes, with);
    }
    // The same section with its length in two bytes is the same to WebAssembly.
    let start = SIGNED.len() - SECTION_BYTES;
    let mut longer = SIGNED[..start].to_vec();
    longer.extend_from_slice(&[0, CONTENT_BYTES as u8 | 0x80, 0]);
    longer.extend_from_slice(&SIGNED[start + 2..]);
    refused(&longer, SignatureError::Form);
}

#[test]
fn only_whole_components_are_signed() {
    for bytes in [&b""[..], b"text", b"\0asm\x01\0\0\0"] {
        assert_eq!(sign(bytes, &key(1)), Err(SignatureError::NotComponent));
        refused(bytes, SignatureError::NotComponent);
    }
    let cut = &FIXED[..FIXED.len() - 1];
    assert!(matches!(sign(cut, &key(1)), Err(SignatureError::Cut { .. })));
}

#[test]
fn every_truncation_is_found() {
    for length in 0..SIGNED.len() {
        assert!(verify(&SIGNED[..length], &trusted(1)).is_err(), "{length}");
    }
}

#[test]
fn every_flipped_bit_of_a_small_component_is_found() {
    let mut bytes = SIGNED.clone();
    for i in 0..bytes.len() {
        for bit in 0..8 {
            bytes[i] ^= 1 << bit;
            assert!(verify(&bytes, &trusted(1)).is_err(), "bit {bit} of byte {i}");
            bytes[i] ^= 1 << bit;
        }
    }
    bytes[4] = 0x0e;
    refused(&bytes, SignatureError::Altered { key: key(1).public() });
}

proptest! {
    #[test]
    fn any_changed_byte_is_found(at in any::<prop::sample::Index>(), flip in 1_u8..) {
        static SIGNED: LazyLock<Vec<u8>> = LazyLock::new(|| sign(FIXED, &key(1)).unwrap());
        let mut bytes = SIGNED.clone();
        bytes[at.index(SIGNED.len())] ^= flip;
        prop_assert!(verify(&bytes, &trusted(1)).is_err());
    }

    #[test]
    fn bytes_added_anywhere_are_found(
        at in any::<prop::sample::Index>(),
        added in prop::collection::vec(any::<u8>(), 1..40),
    ) {
        let at = at.index(SIGNED.len() + 1);
        let bytes = [&SIGNED[..at], &added, &SIGNED[at..]].concat();
        prop_assert!(verify(&bytes, &trusted(1)).is_err());
    }

    #[test]
    fn whatever_can_be_signed_verifies(sections in prop::collection::vec(
        (any::<u8>(), prop::collection::vec(any::<u8>(), 0..100)), 0..8),
        cut in any::<prop::sample::Index>(),
    ) {
        let mut bytes = b"\0asm\x0d\0\x01\0".to_vec();
        for (kind, content) in sections {
            bytes.push(kind);
            bytes.push(content.len() as u8);
            bytes.extend(content);
        }
        let signed = sign(&bytes, &key(1)).unwrap();
        prop_assert!(verify(&signed, &trusted(1)).is_ok());
        if let Ok(signed) = sign(&bytes[..cut.index(bytes.len())], &key(1)) {
            prop_assert!(verify(&signed, &trusted(1)).is_ok());
        }
    }

    #[test]
    fn arbitrary_bytes_are_refused(
        preamble: bool,
        bytes in prop::collection::vec(any::<u8>(), 0..300),
    ) {
        let start: &[u8] = if preamble { b"\0asm\x0d\0\x01\0" } else { b"" };
        prop_assert!(verify(&[start, &bytes].concat(), &trusted(1)).is_err());
    }

    #[test]
    fn arbitrary_texts_are_no_reason_to_panic(text in "[0-9a-fA-F# \n\u{e9}+]{0,200}") {
        let _ = text.parse::<SigningKey>();
        let _ = text.parse::<TrustedKeys>();
    }
}

#[test]
fn a_new_key_is_two_files_that_are_never_overwritten() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("release.key");
    let key = SigningKey::create(&path).unwrap();
    assert_eq!(SigningKey::read(&path).unwrap().public(), key.public());
    let public = folder.path().join("release.key.pub");
    let trusted = TrustedKeys::read(&public).unwrap();
    let id = KeyId { key: key.public(), name: Some("release".into()) };
    assert_eq!(trusted.keys(), std::slice::from_ref(&id));
    let signed = sign(&small(), &SigningKey::read(&path).unwrap()).unwrap();
    assert_eq!(verify(&signed, &trusted), Ok(id));
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        let mode = |path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode(&path), 0o600);
    }

    let before = std::fs::read(&path).unwrap();
    assert!(matches!(SigningKey::create(&path), Err(KeyError::Exists { .. })));
    assert_eq!(std::fs::read(&path).unwrap(), before);
    std::fs::remove_file(&path).unwrap();
    let before = std::fs::read(&public).unwrap();
    assert!(matches!(SigningKey::create(&path), Err(KeyError::Exists { .. })));
    assert_eq!(std::fs::read(&public).unwrap(), before);
    assert!(!path.exists(), "neither is left");
}

#[test]
fn files_of_trusted_keys_are_read_line_by_line() {
    let (a, b) = (key(1).public(), key(2).public());
    let text = format!("# ours\r\n\n  {a}   the build machine \n{b}\n");
    let keys = text.parse::<TrustedKeys>().unwrap();
    assert_eq!(keys.keys()[0].to_string(), format!("the build machine ({a})"));
    assert_eq!(keys.keys()[1].to_string(), b.to_string());
    let upper = a.to_string().to_uppercase().parse().unwrap();
    assert!(verify(&SIGNED, &upper).is_ok());
    let private = format!("302e020100300506032b657004220420{}", "01".repeat(32));
    for (text, says) in [
        (String::new(), "has no key"),
        ("# nothing\n".into(), "has no key"),
        (format!("\n{a}0\n"), "no public key in line 2"),
        (format!("+{}", &a.to_string()[1..]), "no public key in line 1"),
        (format!("{a}\n{b}\n{a} again\n"), "second time in line 3"),
        (private, "holds a private key"),
    ] {
        let problem = text.parse::<TrustedKeys>().unwrap_err();
        assert!(problem.contains(says), "{problem}");
        assert!(!problem.contains("0101"), "what may be secret is not repeated: {problem}");
    }
}

#[test]
fn a_file_that_is_no_key_is_refused_and_not_repeated() {
    let public = format!("{} me", key(1).public());
    for (text, says) in [
        (String::new(), "no private key"),
        ("3051".into(), "no private key"),
        ("302e\n302e".into(), "no private key"),
        ("01".repeat(32), "holds a public key"),
        (public, "give the file of the private one"),
    ] {
        let problem = text.parse::<SigningKey>().unwrap_err();
        assert!(problem.contains(says), "{problem}");
    }
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("binary");
    std::fs::write(&path, [0xff; 10]).unwrap();
    for error in [SigningKey::read(&path).unwrap_err(), TrustedKeys::read(&path).unwrap_err()] {
        assert!(error.to_string().contains("binary is no file of keys"), "{error}");
    }
    let absent = TrustedKeys::read(&folder.path().join("absent")).unwrap_err().to_string();
    assert!(absent.starts_with("cannot read the key file"), "{absent}");
    let shown = format!("{:?}", key(1));
    assert!(!shown.contains("0101"), "{shown}");
}
