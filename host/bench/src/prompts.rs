//! Prompt files: JSON Lines whose rows are told apart by their fields. The text
//! of a prompt goes to the models and into no report.

use std::path::{Path, PathBuf};

use serde_json::{Map, Value};

use crate::BenchError;

/// A prompt for one request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PromptText {
    /// The file's name, without its ending: prompts are reported by it.
    pub group: String,
    /// What the row calls itself, or its line.
    pub id: String,
    /// The user's message.
    pub text: String,
}

/// Some rows of a file: `FILE.jsonl`, or `FILE.jsonl:FIELD=VALUE` for those rows
/// alone whose field is that text.
struct Rows<'a> {
    file: &'a Path,
    only: Option<(&'a str, &'a str)>,
}

impl<'a> Rows<'a> {
    fn new(argument: &'a Path) -> Self {
        let only = || {
            let (file, only) = argument.to_str()?.rsplit_once(':')?;
            Some(Self { file: Path::new(file), only: Some(only.split_once('=')?) })
        };
        only().filter(|_| !argument.is_file()).unwrap_or(Self { file: argument, only: None })
    }

    /// The file's name without its ending, and the value.
    fn group(&self) -> String {
        let stem = self.file.file_stem().unwrap_or_default().to_string_lossy();
        self.only.map_or(stem.to_string(), |(_, value)| format!("{stem}:{value}"))
    }
}

/// Takes `count` prompts in all from those files that are there, the same number
/// from each and evenly spread over its rows. Returns those that are not there
/// as well.
///
/// # Errors
/// When no file is there, or one holds what is no prompt or no row that is asked
/// for.
pub fn read(
    files: &[PathBuf],
    count: usize,
) -> Result<(Vec<PromptText>, Vec<PathBuf>), BenchError> {
    let (here, absent): (Vec<PathBuf>, Vec<PathBuf>) =
        files.iter().cloned().partition(|f| Rows::new(f).file.is_file());
    if here.is_empty() {
        let names: Vec<String> = files.iter().map(|f| f.display().to_string()).collect();
        let what = format!("none of the prompt files is here: {}", names.join(", "));
        return Err(BenchError::Request(what));
    }
    let mut prompts = Vec::new();
    for (i, file) in here.iter().enumerate() {
        // What does not divide goes to the first files.
        let share = count / here.len() + usize::from(i < count % here.len());
        prompts.extend(read_file(&Rows::new(file), share)?);
    }
    if prompts.is_empty() {
        return Err(BenchError::Request("no prompt was taken; ask for more with --count".into()));
    }
    Ok((prompts, absent))
}

/// So many rows of a file's text whose field is that value, evenly spread.
///
/// # Errors
/// When one of them is no prompt.
pub fn of_text(
    name: &str,
    text: &str,
    only: (&str, &str),
    count: usize,
) -> Result<Vec<PromptText>, BenchError> {
    read_text(&Rows { file: Path::new(name), only: Some(only) }, text, count)
}

fn read_file(rows: &Rows<'_>, count: usize) -> Result<Vec<PromptText>, BenchError> {
    let text = std::fs::read_to_string(rows.file).map_err(|source| BenchError::File {
        doing: "read",
        path: rows.file.to_owned(),
        source,
    })?;
    read_text(rows, &text, count)
}

fn read_text(rows: &Rows<'_>, text: &str, count: usize) -> Result<Vec<PromptText>, BenchError> {
    let file = rows.file;
    let mut all = Vec::new();
    for (number, line) in text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty()) {
        let row: Map<String, Value> = serde_json::from_str(line)
            .map_err(|e| at(number, file, &format!("is no JSON object: {e}")))?;
        let wanted = rows.only.is_none_or(|(field, value)| {
            row.get(field).and_then(Value::as_str).is_some_and(|is| is == value)
        });
        if wanted {
            all.push((number, row));
        }
    }
    if let (Some((field, value)), true) = (rows.only, all.is_empty()) {
        let what = format!("no row of {} has \"{value}\" as its {field}", file.display());
        return Err(BenchError::Request(what));
    }
    let prompt = |(number, row): &(usize, Map<String, Value>)| {
        let text =
            prompt_of(row).ok_or_else(|| at(*number, file, &format!("is no prompt: {KNOWN}")))?;
        let id = ["task_id", "id", "question_id"].iter().find_map(|key| match row.get(*key)? {
            Value::String(id) => Some(id.clone()),
            id => Some(id.to_string()),
        });
        let id = id.unwrap_or_else(|| (number + 1).to_string());
        Ok(PromptText { group: rows.group(), id, text })
    };
    evenly(&all, count).into_iter().map(prompt).collect()
}

fn at(number: usize, file: &Path, what: &str) -> BenchError {
    BenchError::Request(format!("line {} of {} {what}", number + 1, file.display()))
}

const KNOWN: &str = "it has none of declaration + buggy_solution, instruction + buggy or before, \
                     prompt, question, or turns";

/// `count` of `all`, as far apart as can be; all of them if there are no more.
fn evenly<T>(all: &[T], count: usize) -> Vec<&T> {
    let count = count.min(all.len());
    // The middle of each of `count` equal stretches.
    (0..count).map(|i| &all[(2 * i + 1) * all.len() / (2 * count)]).collect()
}

/// The user's message for a row: code to fix, to change or to complete, or a
/// question as it stands.
fn prompt_of(row: &Map<String, Value>) -> Option<String> {
    let text = |key: &str| row.get(key).and_then(Value::as_str);
    let block = |code: &str| format!("\n\n```\n{}\n```", code.trim_matches('\n'));
    if let (Some(declaration), Some(buggy)) = (text("declaration"), text("buggy_solution")) {
        let ask = "Fix the bug in this function. Return the whole corrected code in a code block.";
        return Some(format!("{ask}{}", block(&format!("{declaration}{buggy}"))));
    }
    if let (Some(instruction), Some(code)) = (text("instruction"), text("buggy").or(text("before")))
    {
        let ask = "Return the whole changed file in a code block.";
        return Some(format!("{}\n\n{ask}{}", instruction.trim(), block(code)));
    }
    if let Some(prompt) = text("prompt") {
        return Some(match text("entry_point") {
            Some(_) => {
                let ask = "Complete this function. Return the whole function in a code block.";
                format!("{ask}{}", block(prompt))
            }
            None => prompt.to_owned(),
        });
    }
    let first_turn = || row.get("turns")?.as_array()?.first()?.as_str();
    text("question").or_else(first_turn).map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn prompt(row: &str) -> Option<String> {
        prompt_of(&serde_json::from_str(row).unwrap())
    }

    #[test]
    fn rows_become_prompts_by_their_fields() {
        let fix =
            prompt(r#"{"prompt":"x","declaration":"fn f() {\n","buggy_solution":"  1\n}\n"}"#);
        let expected = "Fix the bug in this function. Return the whole corrected code in a code block.\n\n```\nfn f() {\n  1\n}\n```";
        assert_eq!(fix.as_deref(), Some(expected));
        let change =
            prompt(r##"{"instruction":"# Rename f\n","before":"def f(): pass\n"}"##).unwrap();
        assert!(change.starts_with("# Rename f\n\nReturn the whole changed file"), "{change}");
        let write = prompt(r#"{"prompt":"def f():\n","entry_point":"f"}"#).unwrap();
        assert!(write.starts_with("Complete this function."), "{write}");
        assert_eq!(prompt(r#"{"question":"2+2?"}"#).as_deref(), Some("2+2?"));
        assert_eq!(prompt(r#"{"turns":["a","b"]}"#).as_deref(), Some("a"));
        assert_eq!(prompt(r#"{"answer":"4"}"#), None);
    }

    #[test]
    fn rows_are_taken_evenly() {
        let all: Vec<usize> = (0..10).collect();
        assert_eq!(evenly(&all, 2), [&2, &7]);
        assert_eq!(evenly(&all, 99).len(), 10);
        assert!(evenly(&all, 0).is_empty());
    }

    #[test]
    fn files_that_are_absent_are_told_and_the_rest_is_shared() {
        let folder = tempfile::tempdir().unwrap();
        let file = |name: &str| {
            let path = folder.path().join(name);
            std::fs::write(&path, "{\"question\":\"a\"}\n\n{\"question\":\"b\"}\n").unwrap();
            path
        };
        let absent = folder.path().join("absent.jsonl");
        let files = [file("a.jsonl"), absent.clone(), file("b.jsonl")];
        let (prompts, missing) = read(&files, 3).unwrap();
        assert_eq!(missing, std::slice::from_ref(&absent));
        let taken: Vec<_> = prompts.iter().map(|p| (p.group.as_str(), p.id.as_str())).collect();
        assert_eq!(taken, [("a", "1"), ("a", "3"), ("b", "3")]);
        assert!(read(&[absent], 3).unwrap_err().to_string().contains("none of the prompt files"));
    }

    #[test]
    fn rows_are_picked_by_a_field() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.jsonl");
        let row = |id: &str, kind: &str| {
            format!("{{\"id\":\"{id}\",\"kind\":\"{kind}\",\"question\":\"?\"}}")
        };
        std::fs::write(&path, [row("a", "prose"), row("b", "maths")].join("\n")).unwrap();
        let only = |kind: &str| read(&[format!("{}:kind={kind}", path.display()).into()], 5);
        let (prompts, missing) = only("maths").unwrap();
        assert_eq!((prompts.len(), missing.len()), (1, 0));
        assert_eq!((prompts[0].group.as_str(), prompts[0].id.as_str()), ("x:maths", "b"));
        let error = only("code").unwrap_err().to_string();
        assert!(error.starts_with("no row of ") && error.contains("\"code\""), "{error}");
    }

    #[test]
    fn a_row_that_is_no_prompt_is_named_by_its_line() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.jsonl");
        std::fs::write(&path, "{\"answer\":1}\n").unwrap();
        let error = read(&[path], 1).unwrap_err().to_string();
        assert!(error.starts_with("line 1 of ") && error.contains("is no prompt"), "{error}");
    }
}
