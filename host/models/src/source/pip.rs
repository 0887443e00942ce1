//! One call of `python -m pip download`, and what its failure means. Knows
//! packages and wheels, not models.

use std::ffi::OsStr;
use std::fs;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use crate::{Package, SourceError};

/// How often the size of an arriving wheel is looked at.
const POLL: Duration = Duration::from_millis(50);

/// Why no wheel arrived.
#[derive(Debug)]
pub(super) enum Failure {
    /// pip found no room left.
    DiskFull,
    /// The working folder could not be used.
    Folder(io::Error),
    /// Anything about the source.
    Source(SourceError),
}

/// Fetches the wheel of `package` into a folder inside `work` and returns its
/// path. `arrived` is told, in bytes, how much of the wheel there is.
pub(super) fn download(
    python: &OsStr,
    package: &Package,
    work: &Path,
    arrived: &mut dyn FnMut(u64),
) -> Result<PathBuf, Failure> {
    let wheels = work.join("wheel");
    let temporary = work.join("tmp");
    let log = work.join("log");
    for folder in [&wheels, &temporary] {
        fs::create_dir(folder).map_err(Failure::Folder)?;
    }
    let mut child = Command::new(python)
        .args(["-m", "pip", "download", "--no-deps", "--no-cache-dir"])
        // A source distribution would run its build script.
        .args(["--only-binary", ":all:"])
        .args(["--no-input", "--disable-pip-version-check", "--progress-bar", "off"])
        .arg(format!("{}=={}", package.name, package.version))
        .arg("-d")
        .arg(&wheels)
        .arg("--log")
        .arg(&log)
        // `-m` would import a module called pip from the current folder.
        .current_dir(work)
        // The wheel arrives on the disk that was found to have room, and can
        // be watched there; the three names are Unix's and Windows's.
        .envs(["TMPDIR", "TEMP", "TMP"].map(|name| (name, &temporary)))
        .env_remove("PIP_QUIET")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|e| Failure::Source(no_python(python, &e)))?;
    let (status, errors) = wait(&mut child, || arrived(largest_file(work))).map_err(|e| {
        let line = e.to_string();
        Failure::Source(SourceError::Pip { package: package.name.clone(), line })
    })?;
    if !status.success() {
        // The log also has what pip thinks too small for standard error, such
        // as an index that could not be reached at the only try.
        let log = fs::read(&log).unwrap_or_default();
        return Err(classify(&errors, &String::from_utf8_lossy(&log), python, package, status));
    }
    wheel_in(&wheels).map_err(Failure::Folder)?.ok_or_else(|| {
        let line = "it reported success and delivered no wheel".into();
        Failure::Source(SourceError::Pip { package: package.name.clone(), line })
    })
}

fn no_python(python: &OsStr, error: &io::Error) -> SourceError {
    let reason = match error.kind() {
        io::ErrorKind::NotFound => "there is no such program".into(),
        _ => error.to_string(),
    };
    SourceError::NoPython { python: python.to_string_lossy().into_owned(), reason }
}

/// Waits for `child`, calling `tick` meanwhile; returns what it wrote to
/// standard error.
fn wait(child: &mut Child, mut tick: impl FnMut()) -> io::Result<(ExitStatus, String)> {
    let pipe = child.stderr.take();
    // Read beside the waiting, or a full pipe would stop the child.
    let reader = std::thread::spawn(move || {
        let mut text = Vec::new();
        let read = pipe.map(|mut pipe| pipe.read_to_end(&mut text));
        read.unwrap_or(Ok(0)).map(|_| String::from_utf8_lossy(&text).into_owned())
    });
    let status = loop {
        if let Some(status) = child.try_wait()? {
            break status;
        }
        tick();
        std::thread::sleep(POLL);
    };
    let errors = reader.join().unwrap_or_else(|_| Ok(String::new()))?;
    Ok((status, errors))
}

/// Length of the largest file in `folder` or below: the wheel, as pip writes
/// it. Files vanish while this looks; those count as nothing.
fn largest_file(folder: &Path) -> u64 {
    let mut largest = 0;
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let size = match entry.file_type() {
            Ok(kind) if kind.is_dir() => largest_file(&entry.path()),
            _ => entry.metadata().map_or(0, |m| m.len()),
        };
        largest = largest.max(size);
    }
    largest
}

fn wheel_in(folder: &Path) -> io::Result<Option<PathBuf>> {
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.extension().is_some_and(|e| e == "whl") {
            return Ok(Some(path));
        }
    }
    Ok(None)
}

/// What pip writes when it cannot reach the index, and how to say it.
const NETWORK: [(&str, &str); 12] = [
    ("name resolution", "its name cannot be resolved"),
    ("name or service not known", "its name cannot be resolved"),
    ("nodename nor servname", "its name cannot be resolved"),
    ("getaddrinfo failed", "its name cannot be resolved"),
    ("connection refused", "the connection was refused"),
    ("network is unreachable", "there is no network"),
    ("timed out", "the connection timed out"),
    ("certificate_verify_failed", "its certificate is not trusted here"),
    ("proxyerror", "the proxy does not answer"),
    ("failed to establish a new connection", "the connection failed"),
    ("connection broken by", "the connection broke"),
    ("connection aborted", "the connection broke"),
];

/// What pip's standard error and its log say about the failure. pip reports an
/// index that it cannot reach as a package without versions, after lines that
/// name the network; a package whose other versions it lists was looked up for
/// certain.
fn classify(
    errors: &str,
    log: &str,
    python: &OsStr,
    package: &Package,
    status: ExitStatus,
) -> Failure {
    let lower = errors.to_lowercase();
    if lower.contains("no module named pip") {
        let python = python.to_string_lossy().into_owned();
        return Failure::Source(SourceError::NoPip { python });
    }
    if lower.contains("[errno 28]") || lower.contains("no space left on device") {
        return Failure::DiskFull;
    }
    let not_found = lower.contains("no matching distribution found")
        || lower.contains("could not find a version that satisfies");
    let versions_listed =
        not_found && lower.contains("(from versions: ") && !lower.contains("(from versions: none)");
    let log = log.to_lowercase();
    let network = NETWORK.iter().find(|(mark, _)| lower.contains(mark) || log.contains(mark));
    if let Some((_, reason)) = network.filter(|_| !versions_listed) {
        return Failure::Source(SourceError::NoNetwork { reason: (*reason).into() });
    }
    if not_found {
        let what = format!("package {} {}", package.name, package.version);
        return Failure::Source(SourceError::NotFound { what });
    }
    let line = last_line(errors).unwrap_or_else(|| format!("{status}, without a message"));
    Failure::Source(SourceError::Pip { package: package.name.clone(), line })
}

/// The last line that says something about the failure.
fn last_line(errors: &str) -> Option<String> {
    let lines = || errors.lines().map(str::trim).filter(|line| !line.is_empty());
    let error = lines().rfind(|line| line.starts_with("ERROR:"));
    let line = error.or_else(|| lines().rfind(|line| !line.starts_with("[notice]")))?;
    Some(line.trim_start_matches("ERROR:").trim().to_owned())
}

#[cfg(all(test, unix))]
#[path = "pip_tests.rs"]
mod tests;
