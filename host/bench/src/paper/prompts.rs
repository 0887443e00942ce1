//! The mix that is answered: code, questions and maths, a third each.

use std::path::{Path, PathBuf};

use serde::Serialize;

use crate::BenchError;
use crate::prompts::{self, PromptText};

/// Prompts that are part of the program, for where there is no evaluation data.
const OWN: &str = include_str!("../../fixtures/paper.jsonl");

/// What a prompt asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// A function.
    Code,
    /// An answer to a question.
    Qa,
    /// A problem with numbers.
    Math,
}

impl Kind {
    /// All kinds.
    pub const ALL: [Self; 3] = [Self::Code, Self::Qa, Self::Math];

    /// The evaluation data of that kind.
    fn file(self) -> &'static str {
        match self {
            Self::Code => "humaneval.jsonl",
            Self::Qa => "spec_bench.jsonl:category=qa",
            Self::Math => "gsm8k.jsonl",
        }
    }

    /// What the program's own prompts of the kind are marked with.
    fn name(self) -> &'static str {
        match self {
            Self::Code => "code",
            Self::Qa => "qa",
            Self::Math => "math",
        }
    }
}

/// A prompt of the mix.
#[derive(Debug, Clone)]
pub struct PaperPrompt {
    /// What it asks for.
    pub kind: Kind,
    /// Where it is from, and what it is called there.
    pub id: String,
    /// The user's message.
    pub text: String,
}

/// So many prompts of each kind, the kinds in turns, and where they are from.
pub(super) fn read(folder: &Path, count: usize) -> Result<(Vec<PaperPrompt>, String), BenchError> {
    let count = count.max(1);
    let files: Vec<PathBuf> = Kind::ALL.iter().map(|kind| folder.join(kind.file())).collect();
    let is_there = |file: &PathBuf| {
        let name = file.to_string_lossy();
        Path::new(name.split(".jsonl:").next().unwrap_or(&name)).with_extension("jsonl").is_file()
    };
    let (of_kinds, from) = if files.iter().all(is_there) {
        let of_kind = |file: &PathBuf| Ok(prompts::read(std::slice::from_ref(file), count)?.0);
        let of_kinds = files.iter().map(of_kind).collect::<Result<Vec<_>, BenchError>>()?;
        (of_kinds, "HumanEval, Spec-Bench (qa) and GSM8K".to_owned())
    } else {
        let of_kinds =
            Kind::ALL.map(|kind| prompts::of_text("paper", OWN, ("kind", kind.name()), count));
        let of_kinds = of_kinds.into_iter().collect::<Result<Vec<_>, _>>()?;
        (of_kinds, "a few prompts that are part of this program".to_owned())
    };
    let most = of_kinds.iter().map(Vec::len).max().unwrap_or(0);
    let in_turns = (0..most).flat_map(|n| {
        let nth = |(kind, of_kind): (&Kind, &Vec<PromptText>)| {
            let prompt = of_kind.get(n)?;
            let id = format!("{} {}", prompt.group, prompt.id);
            Some(PaperPrompt { kind: *kind, id, text: prompt.text.clone() })
        };
        Kind::ALL.iter().zip(&of_kinds).filter_map(nth).collect::<Vec<_>>()
    });
    Ok((in_turns.collect(), from))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_come_in_turns_wherever_they_are_from() {
        let folder = tempfile::tempdir().unwrap();
        let (own, from) = read(folder.path(), 2).unwrap();
        assert!(from.contains("part of this program"));
        let row = "{\"question\": \"?\", \"prompt\": \"f\", \"entry_point\": \"f\"}\n";
        for file in ["humaneval", "gsm8k"] {
            std::fs::write(folder.path().join(file).with_extension("jsonl"), row.repeat(3))
                .unwrap();
        }
        let qa = "{\"turns\": [\"Who?\"], \"category\": \"qa\"}\n".repeat(2);
        std::fs::write(folder.path().join("spec_bench.jsonl"), qa).unwrap();
        let (data, from) = read(folder.path(), 2).unwrap();
        assert!(from.contains("HumanEval"));
        for prompts in [own, data] {
            let kinds: Vec<Kind> = prompts.iter().map(|prompt| prompt.kind).collect();
            assert_eq!(kinds, [Kind::ALL, Kind::ALL].concat());
        }
    }
}
