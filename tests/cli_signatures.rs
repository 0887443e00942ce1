//! Signed policies, as the command line has them: make a key, sign, verify, and a
//! program that takes nothing else.

#![allow(clippy::unwrap_used)]

mod support;

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::Value;
use support::refused::{assert_says, sentence};

/// A folder with a key (`me.key`), a policy (`mine.wasm`), and a cache that is empty.
struct Bench(tempfile::TempDir);

impl Bench {
    fn new() -> Self {
        let bench = Self(tempfile::tempdir().unwrap());
        let shipped = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../policies/prebuilt");
        std::fs::copy(shipped.join("fixed.wasm"), bench.path("mine.wasm")).unwrap();
        bench.succeeds(&["policy", "keygen", "me.key"]);
        bench
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn read(&self, name: &str) -> Vec<u8> {
        std::fs::read(self.path(name)).unwrap()
    }

    /// Runs the program in the folder. No model can be fetched: that is an error of its
    /// own, which says that everything before it was good.
    fn aio(&self, arguments: &[&str]) -> Output {
        let mut command = Command::new(env!("CARGO_BIN_EXE_aio"));
        command.args(arguments).current_dir(self.0.path()).stdin(std::process::Stdio::null());
        command.env_remove("RUST_BACKTRACE").env_remove("AIO_LOG");
        command.env("AIO_CACHE", self.path("cache")).env("AIO_PYTHON", "/nonexistent/python3");
        command.output().unwrap()
    }

    #[track_caller]
    fn succeeds(&self, arguments: &[&str]) -> String {
        let Output { status, stdout, stderr } = self.aio(arguments);
        assert!(status.success(), "{}", String::from_utf8_lossy(&stderr));
        String::from_utf8(stdout).unwrap()
    }

    /// The one sentence of a refused command.
    #[track_caller]
    fn refusal(&self, arguments: &[&str]) -> String {
        let output = self.aio(arguments);
        assert_eq!(output.status.code(), Some(1), "{}", String::from_utf8_lossy(&output.stderr));
        sentence(output)
    }

    #[track_caller]
    fn refused(&self, arguments: &[&str], says: &str) {
        assert_says(&self.refusal(arguments), &[says]);
    }
}

const VERIFY: &[&str] = &["policy", "verify", "mine.wasm", "--keys", "me.key.pub"];

#[test]
fn a_policy_is_signed_in_place_and_verified() {
    let bench = Bench::new();
    let plain = bench.read("mine.wasm");
    bench.refused(VERIFY, "mine.wasm does not verify because it is not signed");
    bench.succeeds(&["policy", "sign", "mine.wasm", "--key", "me.key", "--out", "signed.wasm"]);
    assert_eq!(bench.read("mine.wasm"), plain, "--out leaves it as it is");
    bench.succeeds(&["policy", "sign", "mine.wasm", "--key", "me.key"]);
    let signed = bench.read("mine.wasm");
    assert!(signed.starts_with(&plain) && signed == bench.read("signed.wasm"));
    bench.succeeds(&["policy", "sign", "mine.wasm", "--key", "me.key"]);
    assert_eq!(bench.read("mine.wasm"), signed, "a signature is replaced");
    assert!(bench.succeeds(VERIFY).starts_with("mine.wasm is signed by me ("));

    bench.succeeds(&["policy", "keygen", "other.key"]);
    let stranger = ["policy", "verify", "mine.wasm", "--keys", "other.key.pub"];
    bench.refused(&stranger, "not among the trusted keys");
    let mut altered = signed;
    altered[plain.len() / 2] ^= 1;
    std::fs::write(bench.path("mine.wasm"), altered).unwrap();
    assert!(bench.refusal(VERIFY).contains("mine.wasm does not verify because it "));
    let Output { status, stdout, .. } = bench.aio(&[VERIFY, &["--json"]].concat());
    let report: Value = serde_json::from_slice(&stdout).unwrap();
    assert_eq!((status.code(), &report["verified"]), (Some(1), &false.into()));
    assert_eq!(report["schema"], "aio-policy-verify/1");
    assert!(report["reason"].is_string() && report["key"].is_null());
}

#[cfg(unix)]
#[test]
fn signing_in_place_keeps_permissions_and_links() {
    use std::os::unix::fs::{PermissionsExt, symlink};
    let bench = Bench::new();
    let mode = |name| std::fs::metadata(bench.path(name)).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode("me.key"), 0o600);
    let permissions = std::fs::Permissions::from_mode(0o644);
    std::fs::set_permissions(bench.path("mine.wasm"), permissions).unwrap();
    symlink("mine.wasm", bench.path("link.wasm")).unwrap();
    bench.succeeds(&["policy", "sign", "link.wasm", "--key", "me.key"]);
    assert!(std::fs::symlink_metadata(bench.path("link.wasm")).unwrap().is_symlink());
    bench.succeeds(VERIFY);
    assert_eq!(mode("mine.wasm"), 0o644);
    bench.succeeds(&["policy", "sign", "mine.wasm", "--key", "me.key", "--out", "new.wasm"]);
    assert_eq!(mode("new.wasm"), 0o644);
    let mut left: Vec<_> = std::fs::read_dir(bench.0.path()).unwrap().collect();
    left.retain(|entry| entry.as_ref().unwrap().file_name().to_string_lossy().starts_with(".tmp"));
    assert!(left.is_empty(), "{left:?}");
}

#[test]
fn bad_input_gets_one_sentence_and_changes_nothing() {
    let bench = Bench::new();
    let (key, plain) = (bench.read("me.key"), bench.read("mine.wasm"));
    bench.refused(&["policy", "keygen", "me.key"], "never overwritten");
    assert_eq!(bench.read("me.key"), key);
    bench.refused(&["policy", "keygen", "nowhere/me.key"], "cannot write the key file nowhere");
    let sign = |policy, key| bench.refusal(&["policy", "sign", policy, "--key", key]);
    std::fs::write(bench.path("core.wasm"), b"\0asm\x01\0\0\0").unwrap();
    std::fs::write(bench.path("cut.wasm"), &plain[..plain.len() - 1]).unwrap();
    for (policy, key, says) in [
        ("mine.wasm", "absent.key", "cannot read the key file absent.key"),
        ("mine.wasm", "me.key.pub", "holds a public key"),
        ("mine.wasm", "mine.wasm", "is no file of keys"),
        ("absent.wasm", "me.key", "cannot read the policy absent.wasm"),
        (".", "me.key", "is a folder"),
        ("core.wasm", "me.key", "wasm-tools component new"),
        ("cut.wasm", "me.key", "cut off or damaged"),
    ] {
        let error = sign(policy, key);
        assert!(error.contains(says), "{error:?} does not say {says:?}");
    }
    assert_eq!(bench.read("mine.wasm"), plain);
    let verify = ["policy", "verify", "mine.wasm", "--keys", "me.key"];
    bench.refused(&verify, "holds a private key");
    bench.refused(&["policy", "verify", ".", "--keys", "me.key.pub"], "is a folder");
    std::fs::write(bench.path("none.keys"), "# none yet\n").unwrap();
    let run = ["run", "--require-signature", "none.keys", "hello"];
    bench.refused(&run, "none.keys has no key");
}

#[test]
fn inspect_tells_whether_a_policy_is_signed() {
    let bench = Bench::new();
    let inspect = |policy| -> Value {
        let text = bench.succeeds(&["policy", "inspect", policy, "--json"]);
        serde_json::from_str::<Value>(&text).unwrap()["signature"].clone()
    };
    assert_eq!(inspect("fixed")["status"], "builtin");
    assert_eq!(inspect("mine.wasm")["status"], "none");
    bench.succeeds(&["policy", "sign", "mine.wasm", "--key", "me.key"]);
    let holds = inspect("mine.wasm");
    assert_eq!(holds["status"], "holds");
    let key = holds["key"].as_str().unwrap();
    assert!(String::from_utf8(bench.read("me.key.pub")).unwrap().contains(key));
    let text = bench.succeeds(&["policy", "inspect", "mine.wasm"]);
    assert!(text.contains(&format!("by the key {key}")), "{text}");
    let mut broken = bench.read("mine.wasm");
    *broken.last_mut().unwrap() ^= 1;
    std::fs::write(bench.path("mine.wasm"), broken).unwrap();
    assert_eq!(inspect("mine.wasm")["status"], "broken");
}

#[test]
fn run_takes_no_policy_that_is_not_signed_and_says_so_before_models_are_fetched() {
    let bench = Bench::new();
    let run = |more: &[&str]| {
        let required = ["run", "hello", "--tiers", "smollm2-135m", "--require-signature"];
        bench.refusal(&[&required[..], &["me.key.pub"], more].concat())
    };
    let ways: [&[&str]; 3] = [
        &["--policy", "mine.wasm"],
        &["--policy", "fixed", "--canary", "mine.wasm=10%"],
        &["--shadow", "goodput", "--shadow", "mine.wasm"],
    ];
    let no_models = "/nonexistent/python3";
    for way in ways {
        let error = run(way);
        assert!(error.contains("policy \"mine\" is refused because it is not signed"), "{error}");
    }
    // A cache that cannot be used makes a runtime without one, and no other exception.
    std::fs::remove_dir_all(bench.path("cache")).unwrap();
    std::fs::write(bench.path("cache"), "a file").unwrap();
    assert!(run(ways[0]).contains("it is not signed"));
    std::fs::remove_file(bench.path("cache")).unwrap();

    bench.succeeds(&["policy", "sign", "mine.wasm", "--key", "me.key"]);
    for way in ways {
        let error = run(way);
        assert!(error.contains(no_models), "signed, so the models are next: {error}");
    }
    assert!(run(&["--policy", "fixed"]).contains(no_models), "it is part of the program");
}
