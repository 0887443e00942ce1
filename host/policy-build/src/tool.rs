//! Finding and running the tools that build policies. What they say goes to
//! stderr: stdout belongs to whoever calls.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::Error;

/// A program by its name, on the path.
pub(crate) fn find(name: &str) -> Option<PathBuf> {
    folders().into_iter().map(|folder| folder.join(name)).find(|path| path.is_file())
}

/// The newest of a program that may have its version in its name: Debian calls
/// clang `clang-22`.
pub(crate) fn newest(name: &str) -> Option<PathBuf> {
    let found = folders().into_iter().filter_map(|folder| newest_in(&folder, name));
    // Where versions are the same, the first on the path.
    found.rev().max_by_key(|path| version(path, name))
}

/// The newest of a program in one folder.
pub(crate) fn newest_in(folder: &Path, name: &str) -> Option<PathBuf> {
    let entries = std::fs::read_dir(folder).ok()?;
    entries
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter_map(|path| Some((version(&path, name)?, path)))
        .max()
        .map(|(_, path)| path)
}

/// The version in a program's file name; 0 where there is none.
fn version(path: &Path, name: &str) -> Option<u32> {
    let rest = path.file_name()?.to_str()?.strip_prefix(name)?;
    if rest.is_empty() { Some(0) } else { rest.strip_prefix('-')?.parse().ok() }
}

fn folders() -> Vec<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).collect()
}

/// What a program prints.
pub(crate) fn output(program: &Path, arguments: &[&str]) -> Result<String, Error> {
    let tool = || program.display().to_string();
    let output = Command::new(program)
        .args(arguments)
        // cargo sets this for what it runs, and it would lead one toolchain's
        // compiler to another one's libraries.
        .env_remove("LD_LIBRARY_PATH")
        .output()
        .map_err(|source| Error::Run { tool: tool(), source })?;
    if !output.status.success() {
        let source = std::io::Error::other(format!("`{}` failed", arguments.join(" ")));
        return Err(Error::Run { tool: tool(), source });
    }
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

/// Runs a command, with all that it prints on stderr. Whether it succeeded.
pub(crate) fn run(command: &mut Command) -> Result<bool, Error> {
    let status = command
        .stdin(Stdio::null())
        .stdout(Stdio::from(std::io::stderr()))
        .status()
        .map_err(|source| Error::Run { tool: program(command), source })?;
    Ok(status.success())
}

/// Runs a command without which `name` does not build.
pub(crate) fn must(command: &mut Command, name: &str) -> Result<(), Error> {
    if run(command)? {
        return Ok(());
    }
    Err(Error::ToolFailed { name: name.to_owned(), tool: program(command) })
}

/// What a command's program is called.
fn program(command: &Command) -> String {
    let path = Path::new(command.get_program());
    path.file_name().unwrap_or(path.as_os_str()).to_string_lossy().into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_of_a_program_is_found_by_the_version_in_its_name() {
        let folder = tempfile::tempdir().unwrap();
        for name in ["clang", "clang-9", "clang-22", "clang-format-30", "clang++-31", "xclang-40"] {
            std::fs::write(folder.path().join(name), "").unwrap();
        }
        let newest = |name| newest_in(folder.path(), name);
        assert_eq!(newest("clang"), Some(folder.path().join("clang-22")));
        assert_eq!(newest("wasm-ld"), None);
    }

    #[test]
    fn a_command_that_fails_is_named() {
        let error = must(Command::new("/bin/sh").args(["-c", "exit 3"]), "mine").unwrap_err();
        assert_eq!(error.to_string(), "mine does not build: see what sh says above");
        let error = run(&mut Command::new("/nowhere/tool")).unwrap_err().to_string();
        assert!(error.starts_with("cannot run tool: "), "{error}");
    }
}
