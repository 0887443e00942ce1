//! `aio run --canary` and `--shadow`: who decides, who is only asked, and that
//! neither changes an answer, whatever it does.

#![allow(clippy::unwrap_used)]

mod support;

use std::io::Write;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::sync::mpsc::channel;
use std::time::Duration;

use aio_core::{Agreement, Failure, FailureKind, RequestRecord, RoundRecord};
use aio_policy::{Event, Share, request_key};
use support::refused::{assert_says, refused};

/// For what must come to an end on the slowest machine.
const LONG: Duration = Duration::from_secs(300);

/// The binary with a cache of its own and no way to the network.
fn aio(folder: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_aio"));
    command
        .env("AIO_CACHE", folder.join("cache"))
        .env("HF_ENDPOINT", "http://127.0.0.1:9")
        .env("HF_HOME", folder.join("hub"))
        .env("AIO_PYTHON", "/nonexistent/python3")
        .env_remove("RUST_BACKTRACE")
        .env_remove("AIO_LOG")
        .stdin(Stdio::null());
    command
}

/// `aio run` on the tiny model under `fixed`; `None` without the model.
fn run(folder: &Path) -> Option<Command> {
    let model = support::model_path("smollm2-135m")?;
    let mut command = aio(folder);
    command.args(["run", "--policy", "fixed", "--no-state", "--tiers"]).arg(model);
    Some(command)
}

/// What comes of a process that must come to its own end.
#[track_caller]
fn ended(child: Child) -> Output {
    let (tell, told) = channel();
    let id = child.id().to_string();
    std::thread::spawn(move || tell.send(child.wait_with_output()));
    let Ok(output) = told.recv_timeout(LONG) else {
        Command::new("kill").arg(id).status().unwrap();
        panic!("it has not ended after {LONG:?}");
    };
    output.unwrap()
}

/// What a command that succeeds prints: stdout and stderr.
#[track_caller]
fn printed(output: &Output) -> (String, String) {
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
    let (stdout, stderr) = (text(&output.stdout), text(&output.stderr));
    assert!(output.status.success(), "{stderr}");
    assert!(!stderr.contains("panicked"), "{stderr}");
    (stdout, stderr)
}

/// The record of one request, from `--json`.
#[track_caller]
fn record(folder: &Path, arguments: &[&str]) -> RequestRecord {
    let mut command = run(folder).unwrap();
    command.arg("--json").args(arguments).stdout(Stdio::piped()).stderr(Stdio::piped());
    let output = ended(command.spawn().unwrap());
    serde_json::from_str(&printed(&output).0).unwrap()
}

/// Holds a conversation; returns its records, stdout and stderr.
fn converse(
    folder: &Path,
    more: &[&str],
    turns: &[&str],
) -> Option<(Vec<RequestRecord>, String, String)> {
    let calls = folder.join("calls.jsonl");
    let mut command = run(folder)?;
    command.args(["--chat", "--max-tokens", "6", "--record"]).arg(&calls).args(more);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    child.stdin.take().unwrap().write_all((turns.join("\n") + "\n").as_bytes()).unwrap();
    let (stdout, stderr) = printed(&ended(child));
    let lines = std::fs::read_to_string(&calls).unwrap();
    std::fs::remove_file(calls).unwrap();
    let records = lines.lines().filter_map(|line| match serde_json::from_str(line).unwrap() {
        Event::Request { record } => Some(*record),
        _ => None,
    });
    Some((records.collect(), stdout, stderr))
}

/// Builds `tests/policies/NAME.wat` into `folder`.
fn build(name: &str, folder: &Path) -> String {
    support::hostile(name, folder).to_str().unwrap().to_owned()
}

/// A round without its times.
fn counts(round: &RoundRecord) -> RoundRecord {
    RoundRecord { draft_milliseconds: 0.0, verify_milliseconds: 0.0, ..round.clone() }
}

/// Asserts that two requests were decided and answered alike, times apart.
#[track_caller]
fn assert_alike(one: &RequestRecord, other: &RequestRecord) {
    assert_eq!((&one.token_ids, &one.text), (&other.token_ids, &other.text));
    assert_eq!((&one.policy, &one.plan), (&other.policy, &other.plan));
    assert_eq!((&one.failures, &one.probes), (&other.failures, &other.probes));
    let rounds = |of: &RequestRecord| of.rounds.iter().map(counts).collect::<Vec<_>>();
    assert_eq!(rounds(one), rounds(other));
}

#[test]
fn a_canary_takes_the_same_prompts_each_time_and_the_record_says_who_decided() {
    let folder = tempfile::tempdir().unwrap();
    let Some(_) = run(folder.path()) else { return };
    let (mut served, mut taken) = (0, 0);
    for prompt in ["Name a colour.", "Name a bird.", "Name a tree.", "Name a river."] {
        let key = request_key(prompt);
        let mut tokens = Vec::new();
        for percent in ["0%", "40%", "40%", "80%", "100%"] {
            let canary = format!("goodput={percent}");
            let record = record(folder.path(), &["--canary", &canary, "--max-tokens", "3", prompt]);
            let takes = percent.parse::<Share>().unwrap().takes(key);
            let (name, generation) = if takes { ("goodput", 2) } else { ("fixed", 1) };
            let policy = &record.policy;
            assert_eq!((policy.name.as_str(), policy.generation), (name, generation), "{canary}");
            assert_eq!(record.failures, []);
            tokens.push(record.token_ids);
            (served, taken) = (served + u32::from(!takes), taken + u32::from(takes));
        }
        assert!(tokens.iter().all(|of| *of == tokens[0]), "{prompt}: {tokens:?}");
    }
    // Without both, the share would prove nothing: 40 % and 80 % part these prompts.
    assert!(served > 4 && taken > 4, "{served} {taken}");
}

#[test]
fn a_conversation_stays_with_whom_it_began() {
    let folder = tempfile::tempdir().unwrap();
    // A prompt that a half takes, and one that it does not.
    let half: Share = "50%".parse().unwrap();
    let prompts = (0..).map(|i| format!("Count to {i}."));
    let (taken, other): (Vec<_>, Vec<_>) =
        prompts.take(50).partition(|prompt| half.takes(request_key(prompt)));
    let (taken, other) = (taken[0].as_str(), other[0].as_str());
    let turns = [taken, other, "/reset", other, taken];
    let Some((records, _, stderr)) = converse(folder.path(), &["--canary", "goodput=50%"], &turns)
    else {
        return;
    };
    let names: Vec<_> = records.iter().map(|record| record.policy.name.as_str()).collect();
    assert_eq!(names, ["goodput", "goodput", "fixed", "fixed"]);
    assert!(stderr.contains("policy goodput") && stderr.contains("policy fixed"), "{stderr}");
}

#[test]
fn a_canary_that_traps_is_withdrawn_and_no_answer_changes() {
    let folder = tempfile::tempdir().unwrap();
    let turns = ["Name three colours.", "Two more.", "Which is warm?", "Which is cold?", "Why?"];
    let Some((plain, plainly, _)) = converse(folder.path(), &[], &turns) else { return };
    assert_eq!(plain.len(), turns.len());
    let canary = build("traps-later", folder.path()) + "=100%";
    let (records, stdout, stderr) =
        converse(folder.path(), &["--canary", &canary], &turns).unwrap();
    let names: Vec<_> = records.iter().map(|record| record.policy.name.as_str()).collect();
    assert_eq!(names, ["traps-later", "traps-later", "traps-later", "fixed", "fixed"]);
    for (record, plain) in records.iter().zip(&plain) {
        assert_eq!(record.token_ids, plain.token_ids);
        assert_eq!(record.finish_reason, plain.finish_reason);
    }
    assert_eq!(stdout, plainly);
    let kinds = |failures: &[Failure]| failures.iter().map(|f| f.kind).collect::<Vec<_>>();
    let (trap, aside) = (FailureKind::Trap, FailureKind::SetAside);
    let kinds: Vec<_> = records.iter().map(|record| kinds(&record.failures)).collect();
    assert_eq!(kinds, [vec![trap], vec![trap], vec![trap, aside], vec![], vec![]]);
    let told = stderr.lines().filter(|line| line.contains("is withdrawn")).count();
    assert_eq!(told, 1, "{stderr}");
    assert!(stderr.contains("the canary traps-later unknown (generation 2) is withdrawn"));
    assert!(stderr.contains("all requests go to fixed again"), "{stderr}");
}

#[test]
fn a_canary_that_traps_when_it_is_tried_out_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let Some(mut command) = run(folder.path()) else { return };
    let canary = build("traps", folder.path()) + "=100%";
    assert_says(
        &refused(command.args(["--canary", &canary, "hello"]).output().unwrap()),
        &["traps", "plan"],
    );
}

#[test]
fn shadows_change_nothing_and_are_reported() {
    let folder = tempfile::tempdir().unwrap();
    let Some(_) = run(folder.path()) else { return };
    let prompt = ["--max-tokens", "24", "Repeat: red green blue red green blue red green"];
    let config = r#"{"drafter":"lookup","draft_length":4}"#;
    let served = ["--policy-config", config];
    let alone = record(folder.path(), &[&served[..], &prompt].concat());
    assert!(alone.shadows.is_empty() && alone.totals.drafted > 0, "{:?}", alone.totals);
    let shadows = ["--shadow", "fixed", "--shadow", "fixed", "--shadow", "goodput"];
    let configs = ["--shadow-config", "", "--shadow-config", config];
    let beside = [&served[..], &shadows, &configs, &prompt].concat();
    let record = record(folder.path(), &beside);
    assert_alike(&record, &alone);

    let [other, same, goodput] = &record.shadows[..] else { panic!("{:?}", record.shadows) };
    let agreement = |equal| Agreement { compared: 1, equal };
    assert_eq!((other.plans, same.plans), (agreement(0), agreement(1)));
    let tier = &alone.tier.name;
    let difference = format!(
        "request 1 was planned as {tier} with lookup up to 4, and it would have had {tier} with no \
         drafts"
    );
    assert_eq!(other.last_difference, Some(difference));
    assert_eq!(same.last_difference, None);
    assert_eq!((goodput.policy.name.as_str(), goodput.policy.generation), ("goodput", 4));
    assert_eq!(goodput.plans.compared, 1);
    assert!(goodput.rounds.compared > 0 && goodput.fuel > 0, "{goodput:?}");
    for shadow in &record.shadows {
        assert_eq!((shadow.failures, &shadow.last_failure), (0, &None), "{shadow:?}");
    }

    let explained = [&beside[..], &["--explain"]].concat();
    let output = run(folder.path()).unwrap().args(explained).output().unwrap();
    let (stdout, stderr) = printed(&output);
    assert_eq!(stdout.trim_end(), alone.text.trim_end());
    let told: Vec<&str> = stderr.lines().filter(|line| line.starts_with("shadow   ")).collect();
    assert_eq!(told.len(), 3, "{stderr}");
    assert_says(told[0], &["its plan was that carried out in 0 of 1", "no drafts"]);
    assert_says(told[1], &["its plan was that carried out in 1 of 1"]);
    assert_says(told[2], &["shadow   goodput"]);
}

#[test]
fn a_shadow_that_fails_is_reported_and_nothing_else() {
    let folder = tempfile::tempdir().unwrap();
    let Some(_) = run(folder.path()) else { return };
    let prompt = ["--max-tokens", "8", "Name three colours."];
    let alone = record(folder.path(), &prompt);
    for (name, says) in [("traps", "gave up"), ("loops", "fuel"), ("allocates", "memory")] {
        let shadow = build(name, folder.path());
        // On a busy machine time may run out before fuel does.
        let patient = ["--policy-limits", r#"{"deadline_milliseconds":60000}"#];
        let mut command = run(folder.path()).unwrap();
        let output = command.args(["--json", "--shadow", &shadow]).args(patient).args(prompt);
        let (stdout, stderr) = printed(&output.output().unwrap());
        assert!(!stderr.contains("warning: "), "{name}: {stderr}");
        let record: RequestRecord = serde_json::from_str(&stdout).unwrap();
        assert_alike(&record, &alone);
        let [shadow] = &record.shadows[..] else { panic!("{:?}", record.shadows) };
        assert_eq!((shadow.failures, shadow.plans.compared), (1, 0), "{name}: {shadow:?}");
        assert_says(shadow.last_failure.as_deref().unwrap(), &[says]);
    }
}

#[test]
fn an_answer_does_not_wait_for_a_shadow_that_never_answers() {
    let folder = tempfile::tempdir().unwrap();
    let Some(_) = run(folder.path()) else { return };
    let prompt = ["--max-tokens", "8", "Name three colours."];
    let alone = record(folder.path(), &prompt);
    // Its first call goes on for an hour: the report has no call that came to an end,
    // so nobody waited for one.
    let hour = r#"{"fuel":18446744073709551615,"deadline_milliseconds":3600000}"#;
    let shadow = build("loops", folder.path());
    let hostile = ["--shadow", &shadow, "--policy-limits", hour];
    let record = record(folder.path(), &[&hostile[..], &prompt].concat());
    assert_alike(&record, &alone);
    let [shadow] = &record.shadows[..] else { panic!("{:?}", record.shadows) };
    assert_eq!((shadow.calls, shadow.failures, shadow.plans.compared), (0, 0, 0), "{shadow:?}");

    let (three, stdout, _) =
        converse(folder.path(), &hostile, &["Hello.", "And?", "Goodbye."]).unwrap();
    let (plain, plainly, _) =
        converse(folder.path(), &[], &["Hello.", "And?", "Goodbye."]).unwrap();
    assert_eq!(stdout, plainly);
    assert_eq!((three.len(), plain.len()), (3, 3));
    three.iter().zip(&plain).for_each(|(record, plain)| assert_alike(record, plain));
}

#[test]
fn arguments_that_make_no_sense_are_refused_before_anything_is_fetched() {
    let folder = tempfile::tempdir().unwrap();
    let shadows = ["--shadow", "fixed"].repeat(5);
    let cases: [(&[&str], &[&str]); 17] = [
        (&["--canary", "fixed=101%"], &["--canary", "\"101%\"", "from 0% to 100%"]),
        (&["--canary", "fixed=-1%"], &["--canary", "\"-1%\""]),
        (&["--canary", "fixed=10"], &["\"10\" is no share", "10%"]),
        (&["--canary", "fixed="], &["\"\" is no share"]),
        (&["--canary", "fixed"], &["POLICY=PERCENT"]),
        (&["--canary", "=10%"], &["POLICY=PERCENT"]),
        (&["--canary", "fixd=10%"], &["\"fixd\"", "aio, fixed, goodput"]),
        (&["--canary", "/nowhere/next.wasm=10%"], &["/nowhere/next.wasm"]),
        (&["--canary", "aio=10%", "--canary", "fixed=10%"], &["--canary", "multiple times"]),
        (&["--canary-config", "{}"], &["--canary <"]),
        (&["--canary", "fixed=1%", "--canary-config", "{"], &["--canary-config", "no JSON"]),
        (&["--shadow", "/nowhere/next.wasm"], &["/nowhere/next.wasm"]),
        (&["--shadow-config", "{}"], &["--shadow <"]),
        (&["--shadow", "fixed", "--shadow-config", "@/nowhere.json"], &["/nowhere.json"]),
        (
            &["--shadow", "fixed", "--shadow-config", "{}", "--shadow-config", "{}"],
            &["--shadow-config is given 2 times", "one for each shadow"],
        ),
        (&shadows, &["--shadow is given 5 times", "at most 4"]),
        (&["--policy", "/nowhere/next.wasm"], &["/nowhere/next.wasm"]),
    ];
    for (arguments, says) in cases {
        let mut command = aio(folder.path());
        command.args(["run", "--tiers", "smollm2-135m", "hello"]).args(arguments);
        assert_says(&refused(command.output().unwrap()), says);
    }
    assert!(!folder.path().join("cache").exists(), "something was written");
}
