//! The binary under policies that misbehave: every request is still answered,
//! with the same tokens, one clear sentence, and the failure in the record; what
//! cannot be a policy at all is refused at load.

#![allow(clippy::unwrap_used)]

mod support;

use std::path::Path;
use std::process::{Command, Output};

/// Runs the binary on the tiny model under a policy; `None` without the model.
fn run(policy: &Path) -> Option<Output> {
    let model = support::model_path("smollm2-135m")?;
    let mut command = Command::new(env!("CARGO_BIN_EXE_aio"));
    command.args(["run", "--json", "--max-tokens", "8", "--tiers"]).arg(model);
    command.arg("--policy").arg(policy).arg("Name three colours.");
    command.env_remove("RUST_BACKTRACE").stdin(std::process::Stdio::null());
    Some(command.output().unwrap())
}

fn record(output: &Output) -> serde_json::Value {
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

fn lines(output: &Output, prefix: &str) -> Vec<String> {
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(!stderr.contains("panicked"), "{stderr}");
    stderr.lines().filter(|l| l.starts_with(prefix)).map(str::to_owned).collect()
}

#[test]
fn a_policy_that_fails_costs_speed_and_nothing_else() {
    let folder = tempfile::tempdir().unwrap();
    let Some(well_behaved) = run(Path::new("fixed")) else { return };
    let expected = record(&well_behaved);
    assert!(lines(&well_behaved, "warning: ").is_empty());
    let cases = [
        ("loops", "timeout"),
        ("allocates", "memory"),
        ("traps", "trap"),
        ("out-of-bounds", "clamped"),
    ];
    for (name, kind) in cases {
        let output = run(&support::hostile(name, folder.path())).unwrap();
        let record = record(&output);
        assert_eq!(record["token_ids"], expected["token_ids"], "{name} changed the answer");
        assert_eq!(record["text"], expected["text"], "{name} changed the answer");
        let failures = record["failures"].as_array().unwrap();
        assert!(!failures.is_empty(), "{name} left no failure in the record");
        assert!(failures.iter().all(|f| f["kind"] == kind), "{name}: {failures:?}");
        let warnings = lines(&output, "warning: ");
        assert_eq!(warnings.len(), failures.len(), "{name}: {warnings:?}");
        assert!(warnings.iter().all(|w| w.len() < 400), "{name}: {warnings:?}");
        eprintln!("{name}: {warnings:?}");
    }
}

#[test]
fn tier_99_and_a_draft_of_10_000_tokens_are_cut() {
    let folder = tempfile::tempdir().unwrap();
    let Some(output) = run(&support::hostile("out-of-bounds", folder.path())) else { return };
    let record = record(&output);
    assert_eq!(record["plan"]["tier"], 0);
    assert!(record["plan"]["draft"]["length"].as_u64().unwrap() <= 64);
    let said = lines(&output, "warning: ").join(" ");
    assert!(said.contains("99") && said.contains("10000"), "{said}");
}

#[test]
fn what_is_no_policy_is_refused_at_load() {
    let folder = tempfile::tempdir().unwrap();
    let text = folder.path().join("text.wasm");
    std::fs::write(&text, "this is no WebAssembly").unwrap();
    let absent = folder.path().join("absent.wasm");
    let cases = [
        (text, "WebAssembly"),
        (absent, "absent.wasm"),
        (support::hostile("core-module", folder.path()), "component"),
        (support::hostile("imports-wasi", folder.path()), "WASI"),
        (support::hostile("init-refuses", folder.path()), "init-refuses"),
    ];
    for (file, says) in cases {
        let Some(output) = run(&file) else { return };
        assert_eq!(output.status.code(), Some(1), "{} was accepted", file.display());
        assert!(output.stdout.is_empty());
        let errors = lines(&output, "error: ");
        assert_eq!(errors.len(), 1, "{}: {errors:?}", file.display());
        assert!(errors[0].contains(says), "{}: {}", file.display(), errors[0]);
        eprintln!("{}", errors[0]);
    }
}
