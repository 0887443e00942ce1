//! llama.cpp's `llama-bench`: one process measures a list of sizes at a list of
//! context depths, which matters because loading a model is slow.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde::Deserialize;

use super::{binary, help, last_line};
use crate::{BenchError, stats};

/// How the peer keeps its weights.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Mode {
    /// Rearranged for its kernels when it loads: its default.
    Repacked,
    /// As they stand in the file.
    AsInFile,
}

impl Mode {
    /// The mode's name in reports.
    pub fn name(self) -> &'static str {
        match self {
            Self::Repacked => "llama.cpp",
            Self::AsInFile => "llama.cpp --repack 0",
        }
    }
}

/// What one process is to measure: each prompt size and each number of
/// generated tokens, at each depth.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Sizes {
    /// Rows of a pass (`-p`).
    pub prompts: Vec<usize>,
    /// Tokens generated one by one (`-n`).
    pub generated: Vec<usize>,
    /// Tokens in the context before (`-d`).
    pub depths: Vec<usize>,
}

/// One measurement of the peer.
#[derive(Debug, Clone, PartialEq)]
pub struct Measured {
    /// Rows of the pass; 0 where tokens were generated.
    pub prompt: usize,
    /// Tokens generated; 0 where a pass was measured.
    pub generated: usize,
    /// Tokens in the context before.
    pub depth: usize,
    /// Seconds: the median of the repetitions.
    pub seconds: f64,
}

/// A `llama-bench` binary.
#[derive(Debug, Clone)]
pub struct LlamaBench {
    path: PathBuf,
    threads: usize,
    modes: Vec<Mode>,
}

/// What it printed of one test, as far as it is used.
#[derive(Debug, Deserialize)]
struct Printed {
    build_commit: String,
    build_number: i64,
    n_prompt: usize,
    n_gen: usize,
    n_depth: usize,
    samples_ns: Vec<f64>,
}

impl LlamaBench {
    /// The binary at `path`, to be run on `threads` threads.
    ///
    /// # Errors
    /// When it is not there or cannot be started.
    pub fn new(path: &Path, threads: usize) -> Result<Self, BenchError> {
        let path = binary("llama-bench", path)?;
        let help = help(&path)?;
        if !help.contains("--n-depth") {
            return Err(BenchError::Peer {
                path,
                doing: "told its options".into(),
                reason: "it is no llama-bench, or one without --n-depth".into(),
            });
        }
        let modes = match help.contains("--repack") {
            true => vec![Mode::Repacked, Mode::AsInFile],
            false => vec![Mode::Repacked],
        };
        Ok(Self { path, threads, modes })
    }

    /// The modes that this version has.
    pub fn modes(&self) -> &[Mode] {
        &self.modes
    }

    /// Measures `sizes` of `model`, each `repetitions` times, in one process.
    /// Returns the peer's version as well.
    ///
    /// # Errors
    /// When the process fails or prints what is not understood.
    pub fn run(
        &self,
        model: &Path,
        mode: Mode,
        sizes: &Sizes,
        repetitions: usize,
    ) -> Result<(Vec<Measured>, String), BenchError> {
        let failed = |reason: String| BenchError::Peer {
            path: self.path.clone(),
            doing: format!("measured {}", model.display()),
            reason,
        };
        let output = Command::new(&self.path)
            .args(self.arguments(model, mode, sizes, repetitions))
            .stdin(Stdio::null())
            .output()
            .map_err(|error| failed(error.to_string()))?;
        if !output.status.success() {
            let said = last_line(&String::from_utf8_lossy(&output.stderr));
            return Err(failed(format!("{said} ({})", output.status)));
        }
        parse(&output.stdout).map_err(failed)
    }

    fn arguments(
        &self,
        model: &Path,
        mode: Mode,
        sizes: &Sizes,
        repetitions: usize,
    ) -> Vec<String> {
        let list = |sizes: &[usize]| match sizes {
            [] => "0".to_owned(),
            _ => sizes.iter().map(usize::to_string).collect::<Vec<_>>().join(","),
        };
        let mut arguments = vec!["-m".to_owned(), model.display().to_string()];
        let mut option = |name: &str, value: String| arguments.extend([name.to_owned(), value]);
        option("-o", "json".into());
        option("-t", self.threads.to_string());
        option("-r", repetitions.to_string());
        option("-p", list(&sizes.prompts));
        option("-n", list(&sizes.generated));
        option("-d", list(&sizes.depths));
        if self.modes.len() > 1 {
            option("--repack", if mode == Mode::Repacked { "1" } else { "0" }.into());
        }
        arguments
    }
}

/// Reads what `llama-bench -o json` printed.
fn parse(json: &[u8]) -> Result<(Vec<Measured>, String), String> {
    let printed: Vec<Printed> = serde_json::from_slice(json)
        .map_err(|error| format!("its JSON is not understood: {error}"))?;
    let Some(first) = printed.first() else { return Err("it measured nothing".into()) };
    let number = format!("b{}", first.build_number);
    let version = match first.build_commit.as_str() {
        "" | "unknown" => number,
        commit if commit == number => number,
        commit => format!("{number} ({commit})"),
    };
    let measured = printed.iter().map(|test| {
        let seconds =
            stats::median(&test.samples_ns).ok_or("it printed a test without samples")? / 1e9;
        let (prompt, generated, depth) = (test.n_prompt, test.n_gen, test.n_depth);
        Ok(Measured { prompt, generated, depth, seconds })
    });
    Ok((measured.collect::<Result<_, &str>>()?, version))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_it_prints_is_understood() {
        let json = include_bytes!("../../fixtures/llama-bench.json");
        let (measured, version) = parse(json).unwrap();
        assert_eq!(version, "b11434");
        let sizes: Vec<_> = measured.iter().map(|m| (m.prompt, m.generated, m.depth)).collect();
        assert_eq!(sizes, [(1, 0, 64), (8, 0, 64), (0, 4, 64)]);
        assert!(measured.iter().all(|m| m.seconds > 0.0 && m.seconds < 10.0), "{measured:?}");
    }

    #[test]
    fn what_is_no_result_is_refused() {
        assert!(parse(b"[]").unwrap_err().contains("nothing"));
        assert!(parse(b"error: no model").unwrap_err().contains("not understood"));
    }

    #[test]
    fn one_process_gets_all_sizes() {
        let bench = LlamaBench {
            path: "llama-bench".into(),
            threads: 2,
            modes: vec![Mode::Repacked, Mode::AsInFile],
        };
        let sizes = Sizes { prompts: vec![1, 2, 64], generated: vec![], depths: vec![512, 4096] };
        let arguments = bench.arguments(Path::new("m.gguf"), Mode::AsInFile, &sizes, 3).join(" ");
        let expected = "-m m.gguf -o json -t 2 -r 3 -p 1,2,64 -n 0 -d 512,4096 --repack 0";
        assert_eq!(arguments, expected);
    }

    #[test]
    fn a_binary_that_is_not_there_is_named() {
        let error = LlamaBench::new(Path::new("/nowhere/llama-bench"), 2).unwrap_err();
        let said = error.to_string();
        assert!(said.starts_with("there is no llama-bench at /nowhere/llama-bench"), "{said}");
    }
}
