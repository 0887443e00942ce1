//! OpenAI's own client libraries against `aio serve` with a real model: Python's `openai`
//! and npm's, installed into a folder among the build's.
//!
//! Where pip, npm or the model is absent the test is skipped with a sentence, unless
//! `AIO_CLIENTS_REQUIRED` (for example "python js") names it.

#![allow(clippy::unwrap_used)]

mod support;

use std::path::{Path, PathBuf};
use std::process::Command;

use support::server::{Server, is_required};

const MODEL: &str = "smollm2-135m";
const REQUIRED: &str = "AIO_CLIENTS_REQUIRED";

/// Says that something is absent; fails where it is required.
fn skip(client: &str, why: &str) {
    assert!(!is_required(REQUIRED, client), "{client} is required, but {why}");
    eprintln!("skipped: {why}");
}

fn folder(name: &str) -> PathBuf {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("clients").join(name);
    std::fs::create_dir_all(&folder).unwrap();
    folder
}

/// Runs a command to its end; what it said where it did not go well.
fn run(command: &mut Command) -> Result<String, String> {
    let output = command.output().map_err(|error| error.to_string())?;
    let said = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    match output.status.success() {
        true => Ok(said(&output.stdout)),
        false => Err(format!("{}{}", said(&output.stdout), said(&output.stderr))),
    }
}

/// A Python with the library.
fn python() -> Result<PathBuf, String> {
    let folder = folder("python");
    let python = folder.join("bin/python");
    if !python.exists() {
        run(Command::new("python3").args(["-m", "venv"]).arg(&folder))?;
    }
    if run(Command::new(&python).args(["-c", "import openai"])).is_err() {
        run(Command::new(&python).args(["-m", "pip", "install", "--quiet", "openai>=2,<3"]))?;
    }
    Ok(python)
}

/// A folder whose scripts find the library.
fn node() -> Result<PathBuf, String> {
    let folder = folder("js");
    run(Command::new("node").arg("--version"))?;
    if !folder.join("node_modules/openai").exists() {
        let install = ["install", "--silent", "--no-audit", "--no-fund", "openai@6"];
        run(Command::new("npm").args(install).arg("--prefix").arg(&folder))?;
    }
    Ok(folder)
}

fn start(client: &str) -> Option<Server> {
    if support::model_path(MODEL).is_none() {
        skip(client, &format!("{MODEL} is not in the cache"));
        return None;
    }
    Some(Server::start(MODEL, &["--allow-overrides"]))
}

#[test]
fn the_python_client() {
    let python = match python() {
        Ok(python) => python,
        Err(why) => return skip("python", &format!("Python's openai cannot be installed: {why}")),
    };
    let Some(server) = start("python") else { return };
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/clients/python_client.py");
    let said = run(Command::new(python).arg(script).arg(format!("{}/v1", server.address)));
    assert_eq!(said.unwrap().trim(), "all calls went well");
}

#[test]
fn the_javascript_client() {
    let folder = match node() {
        Ok(folder) => folder,
        Err(why) => return skip("js", &format!("npm's openai cannot be installed: {why}")),
    };
    let Some(server) = start("js") else { return };
    // Modules are looked for from where a script stands.
    let script = folder.join("js_client.mjs");
    std::fs::write(&script, include_str!("clients/js_client.mjs")).unwrap();
    let said = run(Command::new("node").arg(script).arg(format!("{}/v1", server.address)));
    assert_eq!(said.unwrap().trim(), "all calls went well");
}
