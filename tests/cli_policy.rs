//! `aio policy`: the tools for authors, as the command line has them.

#![allow(clippy::unwrap_used)]

mod support;

use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::Arc;

use aio_core::{Granted, HostInfo, Load, RequestFacts, TierFacts, TierInfo};
use aio_policy::{Options, PolicyHost, PolicyRuntime, PolicySource, Recorder, Setup};
use serde_json::Value;
use support::refused::{assert_says, refused};

fn aio(arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_aio"));
    command.arg("policy").args(arguments).env_remove("RUST_BACKTRACE").env_remove("AIO_LOG");
    command.env("AIO_CACHE", cache()).stdin(std::process::Stdio::null()).output().unwrap()
}

/// One folder for the code that all of these compile.
fn cache() -> &'static Path {
    static CACHE: std::sync::OnceLock<tempfile::TempDir> = std::sync::OnceLock::new();
    CACHE.get_or_init(|| tempfile::tempdir().unwrap()).path()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

/// What a command prints that ends with this exit code and says nothing on stderr.
#[track_caller]
fn prints(arguments: &[&str], code: i32) -> String {
    let Output { status, stdout, stderr } = aio(arguments);
    assert_eq!(status.code(), Some(code), "{}{}", text(&stdout), text(&stderr));
    assert_eq!(text(&stderr), "");
    text(&stdout)
}

#[track_caller]
fn json(arguments: &[&str], code: i32) -> Value {
    serde_json::from_str(&prints(arguments, code)).unwrap()
}

/// The one sentence of a refused command.
#[track_caller]
fn refusal(arguments: &[&str], code: i32) -> String {
    let output = aio(arguments);
    assert_eq!(output.status.code(), Some(code), "{}", text(&output.stderr));
    refused(output)
}

fn write(folder: &Path, name: &str, contents: impl AsRef<[u8]>) -> String {
    let path = folder.join(name);
    std::fs::write(&path, contents).unwrap();
    path.to_str().unwrap().to_owned()
}

/// A component of `tests/policies`.
fn hostile(name: &str, folder: &Path) -> String {
    let source = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../tests/policies").join(name);
    write(folder, &format!("{name}.wasm"), wat::parse_file(source.with_extension("wat")).unwrap())
}

#[test]
fn inspect_tells_people_and_programs_what_a_policy_is() {
    let folder = tempfile::tempdir().unwrap();
    assert_says(
        &prints(&["inspect", "aio"], 0),
        &["aio:policy@0.1.0", "sha256:", "must be granted  none", "entropy_threshold", "init_fuel"],
    );
    let inspected = json(&["inspect", "goodput", "--json"], 0);
    assert_eq!(inspected["schema"], "aio-policy-inspect/1");
    assert_eq!(inspected["hooks"].as_array().unwrap().len(), 6);
    assert!(inspected["config_schema"]["properties"]["margin"].is_object());
    let limits = ["--policy-limits", r#"{"fuel": 5000000}"#, "--json"];
    let bounded = json(&[&["inspect", "fixed"], &limits[..]].concat(), 0);
    assert_eq!(bounded["limits"]["fuel"], 5_000_000);
    for (file, says) in [
        (write(folder.path(), "text.wasm", "no WebAssembly"), "is not WebAssembly"),
        (write(folder.path(), "cut.wasm", b"\0asm\x0d\0\x01\0\x07\x90"), "not a valid component"),
        (hostile("imports-wasi", folder.path()), "WASI"),
        ("/nowhere/a.wasm".to_owned(), "/nowhere/a.wasm"),
        ("fixd".to_owned(), "name one of aio, fixed, goodput"),
    ] {
        assert_says(&refusal(&["inspect", &file], 1), &[says]);
    }
}

#[test]
fn check_ends_with_1_and_a_sentence_when_a_step_fails() {
    let folder = tempfile::tempdir().unwrap();
    assert_says(&prints(&["check", "aio"], 0), &["ok       dry run", "ok       determinism"]);
    let traps = json(&["check", &hostile("traps", folder.path()), "--json"], 1);
    assert_eq!((&traps["schema"], &traps["passed"]), (&"aio-policy-check/1".into(), &false.into()));
    let steps = traps["steps"].as_array().unwrap();
    let dry_run = steps.iter().find(|step| step["step"] == "dry-run").unwrap();
    assert_eq!(dry_run["status"], "failed");
    assert_says(dry_run["message"].as_str().unwrap(), &["the policy's plan", "safe plan"]);
    let out_of_bounds = prints(&["check", &hostile("out-of-bounds", folder.path())], 0);
    assert_says(&out_of_bounds, &["warning  dry run", "the plan's tier 99 does not exist"]);
    let nothing = prints(&["check", &write(folder.path(), "empty.wasm", "")], 1);
    assert_says(&nothing, &["FAILED   component", "is not WebAssembly", "skipped  dry run"]);
    assert_says(&refusal(&["check", "aio", "--grant", "prompt"], 2), &["prompt-text"]);
    assert_says(&refusal(&["check", "aio", "--policy-config", "{"], 1), &["no JSON"]);
    assert_says(
        &refusal(&["check", "aio", "--policy-limits", r#"{"fule": 1}"#], 1),
        &["unknown field `fule`"],
    );
}

#[test]
fn test_runs_files_and_folders_of_cases() {
    let folder = tempfile::tempdir().unwrap();
    let good = r#"{"name": "good", "calls": [{"plan": {}, "expect": {"decided": {"tier": 1}}}]}"#;
    let bad = good.replace("good", "bad").replace("1}", "0}");
    write(folder.path(), "1.json", good);
    write(folder.path(), "2.json", format!("[{good}, {bad}]"));
    let all = folder.path().to_str().unwrap();
    let said = prints(&["test", "fixed", all], 1);
    let lines: Vec<&str> = said.lines().collect();
    assert_eq!(lines.len(), 6, "{said}");
    assert!(lines[0].starts_with("ok") && lines[0].ends_with("1.json: good"), "{said}");
    assert!(lines[2].starts_with("FAILED") && lines[2].ends_with("2.json: bad"), "{said}");
    assert_eq!(lines[3].trim(), "call 1 (plan): decided.tier: expected 0, got 1");
    assert_eq!(lines[5], "fixed: 2 passed, 1 failed");
    let tested = json(&["test", "fixed", all, "--json"], 1);
    assert_eq!(tested["schema"], "aio-policy-test/1");
    assert_eq!((&tested["passed"], &tested["failed"]), (&2.into(), &1.into()));

    let misspelt = write(folder.path(), "x", "{\"name\": \"a\",\n \"calls\": [{\"plam\": {}}]}");
    assert_says(&refusal(&["test", "fixed", &misspelt], 1), &[&misspelt, "`plam`", "line 2"]);
    assert_says(&refusal(&["test", "fixed", "/nowhere.json"], 1), &["/nowhere.json"]);
    assert_says(&refusal(&["test", "fixed"], 1), &["name the files or folders"]);
    let empty = tempfile::tempdir().unwrap();
    assert_says(
        &refusal(&["test", "fixed", empty.path().to_str().unwrap()], 1),
        &["no .json file"],
    );
}

#[test]
fn the_defaults_of_cases_are_printed_in_the_form_of_cases() {
    let defaults = json(&["test", "--defaults"], 0);
    assert_eq!(defaults["plan"]["prompt_tokens"], serde_json::json!([200, 200]));
    let folder = tempfile::tempdir().unwrap();
    let case = serde_json::json!({"name": "as printed", "host": defaults["host"], "calls": [
        {"plan": defaults["plan"]}, {"rounds": defaults["rounds"]}, {"finished": defaults["finished"]},
    ]});
    let file = write(folder.path(), "case.json", case.to_string());
    assert_says(&prints(&["test", "goodput", &file], 0), &["1 passed, 0 failed"]);
}

#[test]
fn bench_measures_each_hook_and_names_the_machine() {
    let said = prints(&["bench", "fixed", "--calls", "100"], 0);
    assert_says(&said, &["Linux", "load, cold", "rounds", "64", "fuel p99"]);
    let benched = json(&["bench", "fixed", "--calls", "100", "--json"], 0);
    assert_eq!(benched["schema"], "aio-policy-bench/1");
    assert!(benched["machine"]["cores"].as_u64() > Some(0));
    let rows = benched["rows"].as_array().unwrap();
    let plan = rows.iter().find(|row| row["what"] == "plan").unwrap();
    assert!(plan["fuel"]["p50"].as_u64() > Some(0) && plan["calls"].as_u64() >= Some(100));
    assert_says(&refusal(&["bench", "fixed", "--calls", "5"], 1), &["100 calls"]);
}

#[test]
fn diff_has_the_exit_codes_of_diff() {
    assert_says(&prints(&["diff", "fixed", "fixed"], 0), &["nothing differs"]);
    let said = prints(&["diff", "fixed", "aio"], 1);
    assert_says(&said, &["Component", "Configuration", "Answers", "Fuel", "they differ"]);
    let json = json(&["diff", "aio", "aio", "--config-b", r#"{"preset": "paper"}"#, "--json"], 1);
    assert_eq!((&json["schema"], &json["same"]), (&"aio-policy-diff/1".into(), &false.into()));
    assert_says(&refusal(&["diff", "fixed", "/nowhere.wasm"], 2), &["/nowhere.wasm"]);
    assert_says(&refusal(&["diff", "fixed", "fixed", "--config-a", "{"], 2), &["--config-a"]);
    assert_says(&refusal(&["diff", "fixed"], 2), &["<B>"]);
}

/// What `aio run --record` would have written of three requests under `fixed`.
fn recorded(folder: &Path) -> PathBuf {
    let tier = |name: &str| TierInfo {
        name: name.into(),
        parameters: 1,
        weight_bytes: 1,
        kv_bytes_per_token: 1,
        context: 2048,
        tokenizer: 0,
    };
    let host = HostInfo {
        version: "0.1.0".into(),
        device: "cpu".into(),
        tiers: vec![tier("small"), tier("large")],
        max_draft_length: 16,
        max_ngram: 8,
    };
    let path = folder.join("day.jsonl");
    let recorder = Some(Arc::new(Recorder::append(&path).unwrap()));
    let (runtime, options) =
        (PolicyRuntime::new().unwrap(), Options { recorder, ..Options::default() });
    let policies =
        PolicyHost::load(&runtime, &PolicySource::Builtin("fixed"), Setup::new(host), options)
            .unwrap();
    for request in 1..=3 {
        let facts = RequestFacts {
            request,
            prompt_tokens: vec![10, 10],
            max_tokens: 16,
            temperature: 0.0,
            chat: true,
            tiers: vec![TierFacts::default(); 2],
            load: Load { running: 1, queued: 0 },
            probes: Vec::new(),
        };
        policies.for_request(request).plan(&facts, &Granted::default());
    }
    policies.save();
    path
}

#[test]
fn replay_ends_with_1_when_the_same_component_answers_otherwise() {
    let folder = tempfile::tempdir().unwrap();
    let path = recorded(folder.path());
    let record = path.to_str().unwrap();
    assert_says(
        &prints(&["replay", record], 0),
        &["3 calls recorded of fixed 0.1.0", "3 of 3 calls answered the same"],
    );
    let other = r#"fixed={"drafter":"lookup","draft_length":4}"#;
    assert_says(
        &prints(&["replay", record, "--policy", other], 0),
        &["0 of 3 requests", "times  of    recorded", "    3  plan  large, plain", "lookup 4"],
    );
    let replayed = json(&["replay", record, "--policy", other, "--json"], 0);
    assert_eq!(replayed["schema"], "aio-policy-replay/1");
    assert_eq!(replayed["policies"][0]["changes"][0]["times"], 3);

    let text = std::fs::read_to_string(&path).unwrap();
    let lines = text.lines().map(|line| {
        let mut event: Value = serde_json::from_str(line).unwrap();
        if let Some(fuel) = event["fuel"].as_u64() {
            event["fuel"] = (fuel + 1).into();
        }
        event.to_string()
    });
    std::fs::write(&path, lines.collect::<Vec<_>>().join("\n")).unwrap();
    let Output { status, stdout, stderr } = aio(&["replay", record]);
    assert_eq!(status.code(), Some(1));
    assert_says(
        &self::text(&stdout),
        &["0 of 3 calls answered the same", ", plan:", "then ", "now "],
    );
    assert_says(
        &self::text(&stderr),
        &["error: 3 answers are not what the same component answered"],
    );
    assert_says(&refusal(&["replay", "/nowhere.jsonl"], 1), &["/nowhere.jsonl"]);
    assert_says(&refusal(&["replay", record, "--policy", "fixd"], 1), &["fixd"]);
}
