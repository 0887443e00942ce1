//! A host that requires signatures: what is not signed with a trusted key is refused
//! whichever way it comes, and what was in place stays.

#![allow(clippy::unwrap_used, reason = "tests")]

mod common;

use std::path::Path;

use aio_policy::{
    LoadError, LoadedPolicy, Options, PolicyHost, PolicyRuntime, PolicySource, RuntimeOptions,
    Setup, Share, SignatureError, SigningKey, Step, TrustedKeys, sign,
};
use common::{host, hostile};

/// Two keys, and a file of trusted keys that has the first one.
struct Keys {
    trusted: SigningKey,
    stranger: SigningKey,
    trusts: TrustedKeys,
}

fn keys() -> Keys {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    Keys {
        trusted: SigningKey::create(&path("ours")).unwrap(),
        stranger: SigningKey::create(&path("theirs")).unwrap(),
        trusts: TrustedKeys::read(&path("ours.pub")).unwrap(),
    }
}

impl Keys {
    fn runtime(&self) -> PolicyRuntime {
        self.runtime_with(RuntimeOptions::default())
    }

    fn runtime_with(&self, options: RuntimeOptions) -> PolicyRuntime {
        let require_signature = Some(self.trusts.clone());
        PolicyRuntime::with(&RuntimeOptions { require_signature, ..options }).unwrap()
    }

    fn signed(&self) -> Vec<u8> {
        sign(&fixed(), &self.trusted).unwrap()
    }

    /// What must be refused, and how the refusal begins.
    fn bad(&self) -> Vec<(Vec<u8>, &'static str)> {
        let mut altered = self.signed();
        // In a name that the component carries: it would compile and run as before.
        let at = altered.windows(8).rposition(|bytes| bytes == b"snapshot").unwrap();
        altered[at] = b'S';
        let stranger = sign(&fixed(), &self.stranger).unwrap();
        vec![
            (fixed(), "policy \"p\" is refused because it is not signed: sign it with"),
            (altered, "policy \"p\" is refused because it is not what the key"),
            (stranger, "policy \"p\" is refused because it is signed by the key"),
            (b"text".to_vec(), "policy \"p\" is refused because it is not a WebAssembly component"),
        ]
    }
}

fn fixed() -> Vec<u8> {
    PolicySource::Builtin("fixed").read(u64::MAX).unwrap().into_owned()
}

fn bytes(bytes: Vec<u8>) -> PolicySource {
    PolicySource::Bytes { name: "p".into(), bytes }
}

#[track_caller]
fn assert_refused(error: &LoadError, begins: &str) {
    assert_eq!(error.step(), Step::Verify, "{error}");
    assert!(error.to_string().starts_with(begins), "{error}");
}

#[test]
fn only_what_a_trusted_key_has_signed_is_loaded() {
    let keys = keys();
    let runtime = keys.runtime();
    for (bad, begins) in keys.bad() {
        let setup = Setup::new(host());
        assert_refused(&runtime.verify(&bytes(bad.clone()), &setup.limits).unwrap_err(), begins);
        assert_refused(&LoadedPolicy::load(&runtime, &bytes(bad), setup).unwrap_err(), begins);
    }
    let loaded = LoadedPolicy::load(&runtime, &bytes(keys.signed()), Setup::new(host())).unwrap();
    let signer = loaded.prepared().signed_by().unwrap();
    assert_eq!((signer.key, signer.name.as_deref()), (keys.trusted.public(), Some("ours")));
    let builtin = LoadedPolicy::load(&runtime, &PolicySource::Builtin("fixed"), Setup::new(host()));
    assert_eq!(builtin.unwrap().prepared().signed_by(), None, "it is part of the binary");
}

#[test]
fn nothing_else_looks_at_what_is_not_signed() {
    let keys = keys();
    let PolicySource::Bytes { bytes: wasi, .. } = hostile("imports-wasi") else { panic!() };
    let load = |component: Vec<u8>| {
        LoadedPolicy::load(&keys.runtime(), &bytes(component), Setup::new(host())).unwrap_err()
    };
    assert_eq!(load(wasi.clone()).step(), Step::Verify);
    assert_eq!(load(sign(&wasi, &keys.trusted).unwrap()).step(), Step::Check);
}

#[test]
fn a_signature_changes_nothing_where_none_is_required() {
    let keys = keys();
    let load = |component: Vec<u8>| {
        let runtime = PolicyRuntime::new().unwrap();
        LoadedPolicy::load(&runtime, &bytes(component), Setup::new(host())).unwrap()
    };
    let (plain, signed) = (load(fixed()), load(sign(&fixed(), &keys.stranger).unwrap()));
    assert_eq!(plain.identity().name, signed.identity().name);
    assert_eq!(plain.prepared().export_names(), signed.prepared().export_names());
    assert_ne!(plain.identity().digest, signed.identity().digest, "it is of the whole file");
    assert_eq!(signed.prepared().signed_by(), None);
}

#[test]
fn a_reload_a_canary_or_a_shadow_that_is_refused_changes_nothing() {
    let keys = keys();
    let source = bytes(keys.signed());
    let (setup, options) = (Setup::new(host()), Options::default());
    let policies = PolicyHost::load(&keys.runtime(), &source, setup, options).unwrap();
    let before = policies.current().identity().clone();
    let all: Share = "100%".parse().unwrap();
    for (bad, begins) in keys.bad() {
        let bad = bytes(bad);
        assert_refused(&policies.reload(&bad, None).unwrap_err(), begins);
        assert_refused(&policies.set_canary(&bad, None, all).unwrap_err(), begins);
        assert_refused(&policies.add_shadow(&bad, None).unwrap_err(), begins);
        assert_eq!(*policies.current().identity(), before);
        assert!(policies.canary().is_none() && policies.shadow_reports().is_empty());
        assert_eq!(policies.live(), std::slice::from_ref(&before));
    }
    policies.set_canary(&source, None, all).unwrap();
    policies.add_shadow(&source, None).unwrap();
    assert_eq!(policies.reload(&source, None).unwrap().replaced, before);
    policies.roll_back().unwrap();
}

#[test]
fn a_file_is_verified_each_time_that_it_is_loaded() {
    let keys = keys();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("p.wasm");
    let source = PolicySource::File(path.clone());
    std::fs::write(&path, keys.signed()).unwrap();
    let (setup, options) = (Setup::new(host()), Options::default());
    let policies = PolicyHost::load(&keys.runtime(), &source, setup, options).unwrap();
    for (bad, begins) in keys.bad() {
        std::fs::write(&path, bad).unwrap();
        assert_refused(&policies.reload(&source, None).unwrap_err(), begins);
        assert_eq!(policies.current().identity().generation, 1);
    }
    std::fs::write(&path, keys.signed()).unwrap();
    assert!(policies.reload(&source, None).unwrap().policy.generation > 1);
}

#[test]
fn code_that_was_compiled_before_is_no_way_around() {
    let keys = keys();
    let folder = tempfile::tempdir().unwrap();
    let options =
        RuntimeOptions { code_cache: Some(folder.path().to_owned()), ..RuntimeOptions::default() };
    let bad = keys.bad();
    // All that compiles is compiled, where no signature is required.
    let anything = PolicyRuntime::with(&options).unwrap();
    for (bad, _) in &bad {
        let _ = LoadedPolicy::load(&anything, &bytes(bad.clone()), Setup::new(host()));
    }
    let kept = |folder: &Path| std::fs::read_dir(folder).unwrap().count();
    assert!(kept(folder.path()) > 0);
    let runtime = keys.runtime_with(options);
    LoadedPolicy::load(&runtime, &bytes(keys.signed()), Setup::new(host())).unwrap();
    for (bad, begins) in bad {
        let error = LoadedPolicy::load(&runtime, &bytes(bad), Setup::new(host())).unwrap_err();
        assert_refused(&error, begins);
    }
}

#[test]
fn what_was_trusted_once_is_not_trusted_with_other_keys() {
    let keys = keys();
    let signed = bytes(keys.signed());
    LoadedPolicy::load(&keys.runtime(), &signed, Setup::new(host())).unwrap();
    let require_signature = Some(TrustedKeys::from(keys.stranger.public()));
    let runtime =
        PolicyRuntime::with(&RuntimeOptions { require_signature, ..RuntimeOptions::default() });
    let error = LoadedPolicy::load(&runtime.unwrap(), &signed, Setup::new(host())).unwrap_err();
    let LoadError::Signature { reason, .. } = error else { panic!("{error}") };
    assert_eq!(reason, SignatureError::Untrusted { key: keys.trusted.public() });
}
