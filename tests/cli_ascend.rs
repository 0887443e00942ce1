//! `--device ascend` on the command line: without the vendor's library one sentence, and
//! with the one that stands in for it a model's answer. (The tests' binary has the device
//! whatever features are asked for.)

#![allow(clippy::unwrap_used)]

#[path = "support/stub.rs"]
mod stub;
mod support;

use std::path::Path;
use std::process::Command;

use support::refused::{assert_says, sentence};

/// The binary with an empty cache and this library.
fn aio(cache: &Path, library: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_aio"));
    command
        .env("AIO_CACHE", cache)
        .env("AIO_ASCEND_LIBRARY", library)
        .env_remove("RUST_BACKTRACE")
        .stdin(std::process::Stdio::null());
    command
}

#[test]
fn without_the_library_there_is_one_sentence() {
    let cache = tempfile::tempdir().unwrap();
    let nowhere = cache.path().join("nowhere.so");
    for arguments in [
        &["run", "--device", "ascend", "hi"][..],
        &["serve", "--device", "ascend:1", "--tiers", "smollm2-135m"],
        &["graph", "smollm2-135m", "--device", "ascend"],
    ] {
        let error = sentence(aio(cache.path(), &nowhere).args(arguments).output().unwrap());
        assert_says(&error, &["nowhere.so", "set_env.sh", "AIO_ASCEND_LIBRARY", "--device cpu"]);
    }
    let list = aio(cache.path(), &nowhere).args(["device", "list"]).output().unwrap();
    let list = String::from_utf8(list.stdout).unwrap();
    assert!(list.contains("ascend[:CHIP]") && list.contains("never run on one"), "{list}");
}

/// The whole way, from the prompt to the answer, by a model of 135 million weights.
#[test]
fn a_model_answers() {
    let Some(model) = support::model_path("smollm2-135m") else { return };
    let library = stub::build(env!("CARGO_TARGET_TMPDIR"));
    let cache = tempfile::tempdir().unwrap();
    let answer = |device: &str| {
        let output = aio(cache.path(), &library)
            .args(["run", "--json", "--policy", "fixed", "--max-tokens", "4", "--context", "256"])
            .args(["--temperature", "0", "--no-state", "--device", device, "--tiers"])
            .arg(&model)
            .arg("The capital of France is")
            .output()
            .unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let record: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
        record["text"].as_str().unwrap().to_owned()
    };
    let expected = answer("candle-f32");
    assert!(!expected.is_empty());
    assert_eq!(answer("ascend"), expected);
}
