//! Two policies take turns ten thousand times while requests are served on a tier
//! that computes nothing: whether anything fails, what a reload takes from the
//! closing of the file to the first decision, what serving feels of it, and whether
//! memory stays level.
//!
//! ```sh
//! cargo run --release -p aio-policy --example reload_soak -- [--reloads N] [--script FILE] [--json]
//! ```
//!
//! The table goes to stderr, the JSON to stdout. It ends with 1 when a request or a
//! reload failed or a decision was of another generation than planned.

#![allow(clippy::unwrap_used, reason = "a measurement")]
#![cfg(unix)]

#[path = "../../tests/common/mod.rs"]
mod common;
mod phases;
mod report;
#[path = "../../tests/soak/mod.rs"]
mod soak;
#[path = "../../tests/zoo/mod.rs"]
mod zoo;

use std::path::PathBuf;
use std::process::ExitCode;

use report::Report;

/// What is to be done.
struct Arguments {
    reloads: u64,
    script: PathBuf,
    json: bool,
}

fn arguments() -> Result<Arguments, String> {
    let built = "../../examples/policies/latency-guard/build/latency-guard.wasm";
    let script = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(built);
    let mut arguments = Arguments { reloads: 10_000, script, json: false };
    let mut given = std::env::args().skip(1);
    while let Some(argument) = given.next() {
        let mut value = || given.next().ok_or(format!("{argument} needs a value"));
        match argument.as_str() {
            "--reloads" => {
                let number = value()?.parse().ok().filter(|&n| n >= 100);
                arguments.reloads = number.ok_or("--reloads takes a number of at least 100")?;
            }
            "--script" => arguments.script = value()?.into(),
            "--json" => arguments.json = true,
            other => {
                return Err(format!(
                    "there is no {other}: give --reloads N, --script FILE, --json"
                ));
            }
        }
    }
    Ok(arguments)
}

fn main() -> ExitCode {
    let arguments = match arguments() {
        Ok(arguments) => arguments,
        Err(sentence) => {
            eprintln!("error: {sentence}");
            return ExitCode::from(2);
        }
    };
    let mut report = Report::new();
    eprintln!("serving without reloads");
    phases::without_reloads(&mut report);
    eprintln!("{} reloads of two policies", arguments.reloads);
    phases::many(&mut report, arguments.reloads);
    eprintln!("Rust policies by a watched file");
    phases::rust(&mut report);
    match std::fs::read(&arguments.script) {
        Ok(bytes) => {
            eprintln!("a script policy by a watched file");
            phases::script(&mut report, &bytes);
        }
        Err(error) => report.skipped.push(format!(
            "no script policy was measured: {} cannot be read ({error}); build it with \
             examples/policies/latency-guard/build.sh, or name one with --script",
            arguments.script.display()
        )),
    }
    report.print();
    if arguments.json {
        println!("{}", serde_json::to_string(&report).unwrap());
    }
    if report.is_well() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
