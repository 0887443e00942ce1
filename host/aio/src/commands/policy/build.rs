//! `aio policy build`: from a project to a component.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use aio_policy_build::Built;
use clap::Args;

use super::publish;
use crate::terminal;

/// Exit code where a tool that builds policies is not on this machine.
const TOOL_ABSENT: u8 = 3;

/// Build a policy's project: NAME.wasm in its folder
///
/// What it is written in is told by its files: Cargo.toml (Rust), package.json
/// (JavaScript), pyproject.toml (Python) or policy.c (C).
#[derive(Args)]
#[command(after_help = "\
Examples:
  aio policy build
  aio policy build short-first
  aio policy build --json | jq -r .path

Steps, and what compilers say, go to stderr; the component's path goes to stdout.
Exit code: 0 if it was built, 1 if not, 3 if a tool is not on this machine.")]
pub(super) struct BuildArgs {
    /// The project's folder
    #[arg(default_value = ".", value_name = "DIR")]
    folder: PathBuf,
    /// Print what was built as JSON (schema aio-policy-build/1)
    #[arg(long)]
    json: bool,
}

/// Runs the command.
pub(super) fn run(args: &BuildArgs) -> anyhow::Result<ExitCode> {
    let built = match aio_policy_build::build(&args.folder, &mut |step| eprintln!("{step}")) {
        Ok(built) => built,
        Err(error) if error.is_tool_absent() => {
            terminal::complain(&error.into());
            return Ok(ExitCode::from(TOOL_ABSENT));
        }
        Err(error) => return Err(error.into()),
    };
    publish(&built, args.json, || format!("{}\n", short(&built.path).display()))?;
    eprintln!("{} bytes. Next:\n{}", built.bytes, check(&built));
    Ok(ExitCode::SUCCESS)
}

/// The command that checks what was built.
fn check(built: &Built) -> String {
    let mut command = format!("  aio policy check {}", argument(&built.path));
    if let Some(limits) = &built.limits {
        command += &format!(" --policy-limits @{}", short(limits).display());
    }
    command
}

/// A path as an argument that is not taken for a policy's name.
fn argument(path: &Path) -> String {
    let path = short(path);
    let folder = path.parent().is_some_and(|folder| folder != Path::new(""));
    if folder { path.display().to_string() } else { format!("./{}", path.display()) }
}

/// A path without the `./` of the current folder.
fn short(path: &Path) -> &Path {
    path.strip_prefix(".").unwrap_or(path)
}
