//! `docs/tutorial.md`, followed to the letter: each section of a language in a
//! fresh folder, its `sh` blocks run by a shell, its `file=PATH` blocks written,
//! its `text` blocks looked for in what the shell printed last. At the end the
//! author's policy steers.
//!
//! Where a language's tools or the model are absent the section is skipped with a
//! sentence, unless `AIO_TUTORIAL_REQUIRED` (for example "rust js") names it.

#![allow(clippy::unwrap_used)]

mod support;

use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use aio_core::{Drafter, RequestRecord};

const TUTORIAL: &str = include_str!("../docs/tutorial.md");

/// The model that answers in the tutorial.
const MODEL: &str = "smollm2-135m";

/// Exit code of `aio policy build` where a tool is absent.
const TOOL_ABSENT: i32 = 3;

/// One fenced block.
#[derive(Debug)]
enum Block<'a> {
    /// Commands.
    Shell(&'a str),
    /// A file to write, and the prose that says so.
    File { path: &'a str, contents: &'a str, prose: &'a str },
    /// Lines that the commands before it printed.
    Printed(&'a str),
}

/// The blocks of a section, in order.
fn blocks(section: &str) -> Vec<Block<'_>> {
    let mut blocks = Vec::new();
    let mut rest = section;
    while let Some(start) = rest.find("\n```") {
        let prose = rest[..start].trim_end().lines().last().unwrap_or_default();
        let (info, after) = rest[start + 4..].split_once('\n').unwrap();
        // Up to the end of its last line.
        let end = after.find("\n```").unwrap() + 1;
        let contents = &after[..end];
        blocks.push(match info.split_once(" file=") {
            Some((_, path)) => Block::File { path, contents, prose },
            None if info == "sh" => Block::Shell(contents),
            None if info == "text" => Block::Printed(contents),
            None => panic!("a block of the tutorial is not to be followed: ```{info}"),
        });
        rest = &after[end + 3..];
    }
    blocks
}

/// The section under a heading, up to the next one of its level.
fn section(heading: &str) -> &'static str {
    let start = TUTORIAL.find(&format!("\n## {heading}\n")).unwrap();
    let body = &TUTORIAL[start + 4..];
    &body[..body.find("\n## ").unwrap_or(body.len())]
}

/// Someone who follows the tutorial.
struct Reader {
    /// Where their shell stands; it begins in a fresh folder.
    folder: PathBuf,
    /// The fresh folder, for as long as it is needed.
    home: tempfile::TempDir,
}

impl Reader {
    fn new() -> Self {
        let home = tempfile::tempdir().unwrap();
        // Beside it, so that it does not stand among the reader's own files.
        let folder = home.path().join("work");
        std::fs::create_dir(&folder).unwrap();
        Self { folder, home }
    }

    /// Runs commands as a shell does that stops at the first one to fail, and stands
    /// afterwards where they went.
    fn runs(&mut self, commands: &str) -> Output {
        let went = self.home.path().join("went");
        let binary = Path::new(env!("CARGO_BIN_EXE_aio")).parent().unwrap();
        let path = std::env::var_os("PATH").unwrap_or_default();
        let folders = std::iter::once(binary.to_owned()).chain(std::env::split_paths(&path));
        let output = Command::new("bash")
            .args(["-e", "-c"])
            .arg(format!("trap 'pwd >\"{}\"' EXIT\n{commands}", went.display()))
            .current_dir(&self.folder)
            .env("PATH", std::env::join_paths(folders).unwrap())
            .env("CARGO_TARGET_DIR", Path::new(env!("CARGO_TARGET_TMPDIR")).join("policies"))
            .env_remove("AIO_LOG")
            .env_remove("RUST_BACKTRACE")
            .stdin(Stdio::null())
            .output()
            .unwrap();
        self.folder = std::fs::read_to_string(went).unwrap().trim_end().into();
        output
    }
}

fn is_required(language: &str) -> bool {
    let required = std::env::var("AIO_TUTORIAL_REQUIRED").unwrap_or_default();
    required.split_whitespace().any(|required| required == language)
}

/// Follows a section to its end; the record that its last command prints, or `None`
/// where it cannot be followed here.
fn follow(heading: &str, language: &str) -> Option<RequestRecord> {
    let required = is_required(language);
    if support::model_path(MODEL).is_none() {
        assert!(!required, "the tutorial's model is not in the cache: `aio models pull {MODEL}`");
        return None;
    }
    let mut reader = Reader::new();
    let mut printed = String::new();
    let mut last = String::new();
    for block in blocks(section(heading)) {
        match block {
            Block::Shell(commands) => {
                let Output { status, stdout, stderr } = reader.runs(commands);
                last = String::from_utf8(stdout).unwrap();
                printed = format!("{last}{}", String::from_utf8_lossy(&stderr));
                if status.code() == Some(TOOL_ABSENT) && !required {
                    eprintln!("skipped: {}", printed.lines().last().unwrap_or_default());
                    return None;
                }
                assert!(status.success(), "{commands}\nends with {status}:\n{printed}");
            }
            Block::File { path, contents, prose } => {
                assert!(prose.contains(&format!("`{path}`")), "{prose:?} does not name {path}");
                std::fs::write(reader.folder.join(path), contents).unwrap();
            }
            Block::Printed(lines) => {
                for line in lines.lines() {
                    assert!(printed.contains(line), "{line:?} is not in:\n{printed}");
                }
            }
        }
    }
    // The last command prints a record, and the one before it may have its answer there.
    let record = &last[last.find("\n{").map_or(0, |at| at + 1)..];
    Some(serde_json::from_str(record).unwrap_or_else(|error| panic!("{error}: {last}")))
}

#[track_caller]
fn assert_steers(record: &RequestRecord, policy: &str) {
    assert_eq!((record.policy.name.as_str(), record.policy.version.as_str()), (policy, "0.1.0"));
    assert_eq!(record.plan.label, "brief");
    assert_eq!(record.plan.reason, "the answer has at most 24 tokens");
    assert_eq!(record.plan.draft.drafter, Drafter::None);
    assert_eq!(record.tier.name, MODEL);
    assert_eq!(record.failures, []);
    assert!(!record.text.is_empty());
}

#[test]
fn in_rust() {
    let Some(record) = follow("In Rust", "rust") else { return };
    assert_steers(&record, "brief");
}

#[test]
fn in_javascript() {
    let Some(record) = follow("In JavaScript", "js") else { return };
    assert_steers(&record, "brief-js");
}

/// Both sections go all the way; this holds also where nothing can be run.
#[test]
fn each_section_makes_edits_builds_tries_and_runs() {
    for (heading, edited) in [("In Rust", "src/lib.rs"), ("In JavaScript", "policy.js")] {
        let blocks = blocks(section(heading));
        let files: Vec<&str> = blocks
            .iter()
            .filter_map(|block| match block {
                Block::File { path, .. } => Some(*path),
                _ => None,
            })
            .collect();
        assert_eq!(files, [edited, "cases/brief.json"]);
        let commands: String = blocks
            .iter()
            .filter_map(|block| match block {
                Block::Shell(commands) => Some(*commands),
                _ => None,
            })
            .collect();
        for command in ["policy new", "policy build", "policy check", "policy test", "policy bench"]
        {
            assert!(commands.contains(&format!("aio {command}")), "{heading}: no {command}");
        }
        assert!(commands.trim_end().lines().last().unwrap().contains("--json"), "{heading}");
    }
}
