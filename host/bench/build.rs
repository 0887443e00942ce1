//! Tells the crate which commit it is built from, where git knows, so that a
//! report can name it. Uncommitted changes are not looked for: this script does
//! not run again when other crates change, and would soon be wrong about them.

use std::process::Command;

fn git(arguments: &[&str]) -> Option<String> {
    let output = Command::new("git").args(arguments).output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    output.status.success().then(|| text.trim().to_owned()).filter(|text| !text.is_empty())
}

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    // Every commit and checkout appends to this log.
    if let Some(log) = git(&["rev-parse", "--path-format=absolute", "--git-path", "logs/HEAD"]) {
        println!("cargo:rerun-if-changed={log}");
    }
    if let Some(commit) = git(&["describe", "--always", "--tags"]) {
        println!("cargo:rustc-env=AIO_COMMIT={commit}");
    }
}
