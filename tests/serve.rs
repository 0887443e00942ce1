//! `aio serve` from its start to its end, with a real model.

#![cfg(unix)]
#![allow(clippy::unwrap_used)]

mod support;

use std::io::{BufRead, BufReader};
use std::process::Command;
use std::time::Duration;

use serde_json::{Value, json};
use support::client::agent;
use support::server::Server;

const MODEL: &str = "smollm2-135m";
const SOON: Duration = Duration::from_secs(30);

fn start(arguments: &[&str]) -> Option<Server> {
    support::model_path(MODEL)?;
    Some(Server::start(MODEL, arguments))
}

fn chat(server: &Server, more: Value) -> (u16, Value) {
    let mut body = json!({
        "model": "auto", "messages": [{"role": "user", "content": "Name three colours."}],
        "temperature": 0, "max_tokens": 24
    });
    body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    let request = agent().post(format!("{}/v1/chat/completions", server.address));
    let request = request.header("content-type", "application/json");
    let mut response = request.send(body.to_string()).unwrap();
    let text = response.body_mut().read_to_string().unwrap();
    (response.status().as_u16(), serde_json::from_str(&text).unwrap())
}

/// What a client decides about drafting changes nothing about the answer.
#[test]
fn answers_are_the_same_whatever_drafts_them() {
    let Some(server) = start(&["--allow-overrides"]) else { return };
    let plain = chat(&server, json!({"aio": {"drafter": "none"}}));
    let drafted = chat(&server, json!({"aio": {"drafter": "lookup", "draft_length": 8}}));
    assert_eq!((plain.0, drafted.0), (200, 200), "{} {}", plain.1, drafted.1);
    let said = |body: &Value| body["choices"][0]["message"]["content"].clone();
    assert!(!said(&plain.1).as_str().unwrap().is_empty());
    assert_eq!(said(&plain.1), said(&drafted.1));
    assert_eq!(plain.1["model"], MODEL);
    let number = &drafted.1["aio"]["request"];
    let record = agent().get(format!("{}/requests/{number}", server.admin)).call();
    let record: Value =
        serde_json::from_str(&record.unwrap().body_mut().read_to_string().unwrap()).unwrap();
    assert_eq!(record["text"], said(&drafted.1));
    assert_eq!(record["plan"]["draft"]["drafter"], "lookup");
}

#[test]
fn a_prompt_that_does_not_fit_is_refused() {
    let Some(server) = start(&[]) else { return };
    let long = json!({"messages": [{"role": "user", "content": "word ".repeat(4000)}]});
    let (status, body) = chat(&server, long);
    assert_eq!((status, &body["error"]["code"]), (400, &json!("context_length_exceeded")));
}

#[test]
fn the_first_signal_drains_and_hangup_loads_the_policy_anew() {
    let Some(mut server) = start(&["--policy", "fixed"]) else { return };
    let generation =
        |server: &Server| chat(server, json!({})).1["aio"]["policy"]["generation"].clone();
    assert_eq!(generation(&server), 1);
    server.signal("HUP");
    let until = std::time::Instant::now() + SOON;
    while generation(&server) != 2 {
        assert!(std::time::Instant::now() < until, "the policy was not loaded anew");
    }
    // A stream that runs is ended as it should.
    let body = json!({
        "model": "auto", "messages": [{"role": "user", "content": "Count to a hundred."}],
        "max_tokens": 100, "stream": true
    });
    let request = agent().post(format!("{}/v1/chat/completions", server.address));
    let request = request.header("content-type", "application/json");
    let mut response = request.send(body.to_string()).unwrap();
    let mut lines = BufReader::new(response.body_mut().as_reader()).lines();
    lines.next().unwrap().unwrap();
    server.signal("TERM");
    assert_eq!(lines.map(Result::unwrap).filter(|line| line == "data: [DONE]").count(), 1);
    assert!(server.ended(SOON).unwrap().success());
}

#[test]
fn a_mistake_in_the_configuration_is_one_sentence() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("aio.toml");
    std::fs::write(&path, "[server]\nlisten_on = 'here'\n").unwrap();
    for command in [vec!["config", "check"], vec!["serve", "--config"]] {
        let output =
            Command::new(env!("CARGO_BIN_EXE_aio")).args(command).arg(&path).output().unwrap();
        let told = String::from_utf8(output.stderr).unwrap();
        assert_eq!(told.lines().count(), 1, "{told}");
        assert!(told.contains("aio.toml is not right: server.listen_on: "), "{told}");
        assert!(!output.status.success());
    }
    let example = Command::new(env!("CARGO_BIN_EXE_aio")).args(["config", "example"]).output();
    std::fs::write(&path, example.unwrap().stdout).unwrap();
    let check =
        Command::new(env!("CARGO_BIN_EXE_aio")).args(["config", "check"]).arg(&path).output();
    assert!(String::from_utf8(check.unwrap().stdout).unwrap().contains("max_running = 16"));
}

#[test]
fn opentelemetrys_own_variables_are_taken_where_the_file_says_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("aio.toml");
    std::fs::write(&path, "[traces]\nservice = 'mine'\n").unwrap();
    let check = |endpoint: &str| {
        Command::new(env!("CARGO_BIN_EXE_aio"))
            .args(["config", "check"])
            .arg(&path)
            .env("OTEL_EXPORTER_OTLP_ENDPOINT", endpoint)
            .env("OTEL_SERVICE_NAME", "theirs")
            .output()
            .unwrap()
    };
    let told = String::from_utf8(check("http://collector:4318").stdout).unwrap();
    assert!(told.contains("endpoint = \"http://collector:4318\""), "{told}");
    assert!(told.contains("service = \"mine\""), "{told}");
    let wrong = check("collector:4318");
    let told = String::from_utf8(wrong.stderr).unwrap();
    assert!(told.contains("traces.endpoint is \"collector:4318\"") && !wrong.status.success());
}

#[test]
fn an_admin_address_that_others_reach_needs_a_token() {
    let output = Command::new(env!("CARGO_BIN_EXE_aio"))
        .args(["serve", "--tiers", MODEL, "--admin", "0.0.0.0:0"])
        .output()
        .unwrap();
    let told = String::from_utf8(output.stderr).unwrap();
    assert!(told.contains("needs a token") && told.lines().count() == 1, "{told}");
}
