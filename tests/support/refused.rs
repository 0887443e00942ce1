//! What a refused command leaves: one sentence on stderr, nothing on stdout.

use std::process::Output;

/// All that a refused command says; its one sentence is in it.
#[track_caller]
pub fn refused(output: Output) -> String {
    let Output { status, stdout, stderr } = output;
    let stderr = String::from_utf8(stderr).unwrap();
    assert!(!status.success(), "it succeeded");
    assert!(stdout.is_empty(), "it printed {:?}", String::from_utf8_lossy(&stdout));
    let errors = stderr.lines().filter(|line| line.starts_with("error: ")).count();
    assert_eq!(errors, 1, "not one sentence: {stderr}");
    assert!(!stderr.contains("panicked"), "{stderr}");
    stderr
}

/// The first line of its sentence.
#[track_caller]
pub fn sentence(output: Output) -> String {
    let stderr = refused(output);
    stderr.lines().find(|line| line.starts_with("error: ")).unwrap().to_owned()
}

#[track_caller]
pub fn assert_says(text: &str, parts: &[&str]) {
    for part in parts {
        assert!(text.contains(part), "{text:?} does not say {part:?}");
    }
}
