//! `aio policy new`: a project to start from.

use std::path::Path;
use std::process::ExitCode;

use aio_policy_build::Language;
use anyhow::Context;
use clap::Args;

use super::print;

/// Make a project for a policy of your own
///
/// The project builds as it is: a policy that sends short prompts to the smallest
/// tier, with its configuration, test cases and a README. The folder is called as
/// the policy is, and made in the current one.
#[derive(Args)]
#[command(after_help = "\
Examples:
  aio policy new short-first
  aio policy new short-first --lang js

What building needs: Rust and `rustup target add wasm32-unknown-unknown`; for js
Node.js 20 or later; for python Python 3.10 or later; for c clang and lld.")]
pub(super) struct NewArgs {
    /// The policy's name: small letters, digits and hyphens
    name: String,
    /// The language: rust, js, python, c
    #[arg(long, value_name = "LANGUAGE", default_value = "rust")]
    lang: Language,
}

/// Runs the command.
pub(super) fn run(args: &NewArgs) -> anyhow::Result<ExitCode> {
    let folder = aio_policy_build::create(Path::new("."), &args.name, args.lang)?;
    // Without the "./" before it.
    let name = folder.file_name().context("the project's folder has no name")?;
    let name = name.to_string_lossy();
    eprintln!("{name} is a policy in {}; its README.md says what is where. Next:", args.lang);
    let limits = folder.join("limits.json").is_file();
    let limits = if limits { " --policy-limits @limits.json" } else { "" };
    print(&format!("cd {name}\naio policy build\naio policy test ./{name}.wasm{limits} cases\n"))?;
    Ok(ExitCode::SUCCESS)
}
