use std::os::unix::process::ExitStatusExt;

use super::*;

fn classified(errors: &str, log: &str) -> Failure {
    let package = Package {
        name: "some-package".into(),
        version: "1.0".into(),
        member: "part.bin".into(),
        bytes: 1,
    };
    classify(errors, log, OsStr::new("python3"), &package, ExitStatus::from_raw(1 << 8))
}

fn sentence(errors: &str) -> String {
    match classified(errors, "") {
        Failure::Source(error) => error.to_string(),
        other => format!("{other:?}"),
    }
}

#[test]
fn an_index_that_cannot_be_reached_is_no_network() {
    let refused = "WARNING: Retrying (Retry(total=0, connect=None, read=None, redirect=None, \
        status=None)) after connection broken by 'NewConnectionError('<HTTPConnection object at \
        0x7f>: Failed to establish a new connection: [Errno 111] Connection refused')': /simple/\n\
        ERROR: Could not find a version that satisfies the requirement some-package==1.0 (from \
        versions: none)\nERROR: No matching distribution found for some-package==1.0\n";
    assert_eq!(sentence(refused), "it cannot be reached (the connection was refused)");
    let resolution = refused.replace(
        "[Errno 111] Connection refused",
        "[Errno -3] Temporary failure in name resolution",
    );
    assert_eq!(sentence(&resolution), "it cannot be reached (its name cannot be resolved)");
}

#[test]
fn a_package_that_is_not_there_is_not_found() {
    let none = "ERROR: Could not find a version that satisfies the requirement some-package==1.0 \
        (from versions: none)\nERROR: No matching distribution found for some-package==1.0\n";
    assert_eq!(sentence(none), "it has no package some-package 1.0");
    // Without retries only the log knows why there are none.
    let log = "Could not fetch URL: connection error: Failed to establish a new connection: \
        [Errno 111] Connection refused - skipping\n";
    assert!(matches!(
        classified(none, log),
        Failure::Source(SourceError::NoNetwork { reason }) if reason == "the connection was refused"
    ));
    // Other versions were listed, so a retried connection was not the cause.
    let others = "WARNING: Retrying after connection broken by 'ReadTimeoutError'\n\
        ERROR: Could not find a version that satisfies the requirement some-package==1.0 (from \
        versions: 0.1, 0.2)\nERROR: No matching distribution found for some-package==1.0\n";
    assert_eq!(sentence(others), "it has no package some-package 1.0");
}

#[test]
fn a_python_without_pip_is_named() {
    assert_eq!(sentence("/usr/bin/python3: No module named pip\n"), "python3 has no pip");
}

#[test]
fn a_full_disk_is_told_apart() {
    let full = "ERROR: Could not install packages due to an OSError: [Errno 28] No space left on \
        device\n";
    assert!(matches!(classified(full, ""), Failure::DiskFull));
}

#[test]
fn any_other_failure_quotes_the_last_error_line() {
    let other = "Traceback:\nERROR: Invalid requirement: 'x'\n\n[notice] A new release of pip\n";
    assert_eq!(sentence(other), "pip failed at some-package (Invalid requirement: 'x')");
    assert!(sentence("").ends_with("without a message)"));
}
