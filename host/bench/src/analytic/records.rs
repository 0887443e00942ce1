//! Records of requests from files: JSON Lines, as `aio run --json` prints them.

use std::path::Path;

use aio_core::RequestRecord;

use crate::BenchError;

/// The records of a file, in its order.
///
/// # Errors
/// When it cannot be read, or a line is no record, which is then named.
pub fn read(file: &Path) -> Result<Vec<RequestRecord>, BenchError> {
    let text = std::fs::read_to_string(file).map_err(|source| BenchError::File {
        doing: "read",
        path: file.to_owned(),
        source,
    })?;
    let lines = text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty());
    let parse = |(number, line): (usize, &str)| {
        serde_json::from_str(line).map_err(|error| {
            let (number, file) = (number + 1, file.display());
            BenchError::Request(format!(
                "line {number} of {file} is no record of a request, as aio run --json prints \
                 them: {error}"
            ))
        })
    };
    let records: Vec<RequestRecord> = lines.map(parse).collect::<Result<_, _>>()?;
    if records.is_empty() {
        return Err(BenchError::Request(format!("{} has no record", file.display())));
    }
    Ok(records)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_record_is_named_by_its_line() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("records.jsonl");
        std::fs::write(&file, "\n{\"request\": 1}\n").unwrap();
        let told = read(&file).unwrap_err().to_string();
        assert!(told.starts_with("line 2 of ") && told.contains("is no record"), "{told}");
        std::fs::write(&file, "\n").unwrap();
        assert!(read(&file).unwrap_err().to_string().ends_with("has no record"));
        assert!(read(&folder.path().join("absent")).is_err());
    }
}
