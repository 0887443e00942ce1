//! The interface's description against the server, by PyPI's `schemathesis`: requests
//! that fit it and requests that do not, none of which may make the server fail or answer
//! in another form than it describes.
//!
//! Where pip or the model is absent the test is skipped with a sentence, unless
//! `AIO_CLIENTS_REQUIRED` names "schemathesis".

#![allow(clippy::unwrap_used)]

mod support;

use std::path::{Path, PathBuf};
use std::process::Command;

use support::server::{Server, is_required};

const MODEL: &str = "smollm2-135m";
/// What is held against the description. Whether each request that does not fit is
/// refused is not: what asks for nothing is taken (see `openai/chat.rs` of `aio-http`).
const CHECKS: &str = "not_a_server_error,status_code_conformance,content_type_conformance,\
                      response_schema_conformance,response_headers_conformance";
/// Requests for each operation.
const REQUESTS: &str = "60";

fn skip(why: &str) {
    let required = is_required("AIO_CLIENTS_REQUIRED", "schemathesis");
    assert!(!required, "schemathesis is required, but {why}");
    eprintln!("skipped: {why}");
}

fn run(command: &mut Command) -> Result<String, String> {
    let output = command.output().map_err(|error| error.to_string())?;
    let said = [&output.stdout[..], &output.stderr[..]].concat();
    let said = String::from_utf8_lossy(&said).into_owned();
    if output.status.success() { Ok(said) } else { Err(said) }
}

/// The installed program.
fn schemathesis() -> Result<PathBuf, String> {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("clients/schemathesis");
    let program = folder.join("bin/schemathesis");
    if !program.exists() {
        run(Command::new("python3").args(["-m", "venv"]).arg(&folder))?;
        let pip = ["-m", "pip", "install", "--quiet", "schemathesis>=4,<5"];
        run(Command::new(folder.join("bin/python")).args(pip))?;
    }
    Ok(program)
}

#[test]
fn the_server_is_what_its_description_says() {
    let program = match schemathesis() {
        Ok(program) => program,
        Err(why) => return skip(&format!("schemathesis cannot be installed: {why}")),
    };
    if support::model_path(MODEL).is_none() {
        return skip(&format!("{MODEL} is not in the cache"));
    }
    let folder = tempfile::tempdir().unwrap();
    let config = folder.path().join("aio.toml");
    // What is tested is forms, not answers: short ones.
    std::fs::write(&config, "[server]\ndefault_max_tokens = 2\nmax_tokens = 4\n").unwrap();
    let config = config.to_str().unwrap();
    let server = Server::start(MODEL, &["--allow-overrides", "--config", config]);
    let said = run(Command::new(program)
        .arg("run")
        .arg(format!("{}/openapi.json", server.address))
        .args(["--url", &server.address])
        .args(["--checks", CHECKS])
        .args(["--max-examples", REQUESTS, "--seed", "1", "--request-timeout", "60"])
        .current_dir(folder.path()));
    said.unwrap_or_else(|said| panic!("{said}"));
}
