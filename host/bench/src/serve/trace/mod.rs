//! Traces: when real requests arrived and how long they and their answers were.
//! Three forms are known by their first line, compressed or not:
//! - Azure's (AzurePublicDataset, 2023 and 2024): CSV, `TIMESTAMP,ContextTokens,GeneratedTokens`;
//! - Mooncake's (Qin et al. 2024): JSON Lines with `timestamp` in ms, `input_length`,
//!   `output_length`, and `hash_ids` of blocks of 512 tokens;
//! - ServeGen's rates (Alibaba 2025): CSV, arrival rates by client and window of 600 s.

mod azure;
mod mooncake;
mod servegen;

use std::io::Read;
use std::path::Path;

use flate2::read::MultiGzDecoder;
use serde::Serialize;

use crate::BenchError;

/// What a gzip file begins with (RFC 1952).
const GZIP: [u8; 2] = [0x1f, 0x8b];

/// How much of a trace is wanted.
#[derive(Debug, Clone, Copy)]
pub(super) struct Extent {
    /// Requests.
    pub requests: usize,
    /// Seconds of the trace.
    pub seconds: f64,
}

/// A request of a trace.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Arrival {
    /// Seconds since the trace's beginning.
    pub at: f64,
    /// What was asked.
    pub input: Input,
    /// Tokens of the answer, where the trace knows them.
    pub output_tokens: Option<usize>,
}

/// A request's prompt, as far as a trace knows it.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Input {
    /// Nothing is known of it.
    Any,
    /// Its length in tokens.
    Tokens(usize),
    /// Its length in tokens, and what its blocks of [`mooncake::BLOCK_TOKENS`] are:
    /// the same number is the same text.
    Blocks {
        /// Tokens.
        tokens: usize,
        /// The blocks, the last of which may be cut.
        ids: Vec<u64>,
    },
}

/// The form of a trace's file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum TraceForm {
    /// Azure's.
    Azure,
    /// Mooncake's.
    Mooncake,
    /// Rates of ServeGen.
    ServeGen,
}

pub(super) use mooncake::BLOCK_TOKENS;

/// Reads the beginning of a trace; `seed` decides what a trace of rates leaves open.
///
/// # Errors
/// When the file cannot be read, its form is none of the known, a line is not of
/// that form, or nothing arrives in the part that is wanted.
pub(super) fn read(
    path: &Path,
    extent: Extent,
    seed: u64,
) -> Result<(TraceForm, Vec<Arrival>), BenchError> {
    let text = text(path)?;
    let first = text.lines().next().unwrap_or_default().trim();
    let (form, parsed) = if first.starts_with("TIMESTAMP,") {
        (TraceForm::Azure, azure::parse(&text))
    } else if first.starts_with('{') {
        (TraceForm::Mooncake, mooncake::parse(&text))
    } else if first.starts_with("client,timestamp_s,") {
        (TraceForm::ServeGen, servegen::parse(&text, extent, seed))
    } else {
        let what = format!(
            "{} is no trace: its first line is neither of Azure's form (TIMESTAMP,...), \
             of Mooncake's (a JSON object), nor of ServeGen's (client,timestamp_s,...)",
            path.display()
        );
        return Err(BenchError::Request(what));
    };
    let arrivals = parsed.map_err(|Malformed { line, what }| {
        BenchError::Request(format!("line {line} of {} {what}", path.display()))
    })?;
    let arrivals = beginning(arrivals, extent);
    if arrivals.is_empty() {
        let what = format!("nothing arrives in that part of {}", path.display());
        return Err(BenchError::Request(what));
    }
    Ok((form, arrivals))
}

fn text(path: &Path) -> Result<String, BenchError> {
    let failed =
        |source| BenchError::File { doing: "read the trace", path: path.to_owned(), source };
    let bytes = std::fs::read(path).map_err(failed)?;
    let mut text = String::new();
    if bytes.starts_with(&GZIP) {
        MultiGzDecoder::new(&*bytes).read_to_string(&mut text).map_err(failed)?;
    } else {
        (&*bytes).read_to_string(&mut text).map_err(failed)?;
    }
    Ok(text)
}

/// In order of time, from 0 on, and no more than is wanted.
fn beginning(mut arrivals: Vec<Arrival>, extent: Extent) -> Vec<Arrival> {
    arrivals.sort_by(|a, b| a.at.total_cmp(&b.at));
    let start = arrivals.first().map_or(0.0, |first| first.at);
    arrivals.iter_mut().for_each(|arrival| arrival.at -= start);
    let within = arrivals.partition_point(|arrival| arrival.at <= extent.seconds);
    arrivals.truncate(within.min(extent.requests));
    arrivals
}

/// What is wrong with a line.
#[derive(Debug, PartialEq)]
struct Malformed {
    /// Counted from 1.
    line: usize,
    what: String,
}

/// The rows of a CSV file without quotes, with their lines, counted from 1; its
/// head and blank lines are left out.
fn rows(text: &str) -> impl Iterator<Item = (usize, Vec<&str>)> {
    let lines = text.lines().enumerate().skip(1).filter(|(_, line)| !line.trim().is_empty());
    lines.map(|(number, line)| (number + 1, line.split(',').map(str::trim).collect()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    const ALL: Extent = Extent { requests: usize::MAX, seconds: f64::INFINITY };

    fn read_bytes(bytes: &[u8], extent: Extent) -> Result<(TraceForm, Vec<Arrival>), BenchError> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("trace");
        std::fs::write(&path, bytes).unwrap();
        read(&path, extent, 1)
    }

    const AZURE: &str = "TIMESTAMP,ContextTokens,GeneratedTokens\n\
                         2023-11-16 18:17:05.0,30,3\n2023-11-16 18:17:03.5,10,1\n";

    #[test]
    fn arrivals_are_in_order_and_begin_at_nought() {
        let (form, arrivals) = read_bytes(AZURE.as_bytes(), ALL).unwrap();
        let seen: Vec<_> = arrivals.iter().map(|a| (a.at, a.input.clone())).collect();
        assert_eq!(form, TraceForm::Azure);
        assert_eq!(seen, [(0.0, Input::Tokens(10)), (1.5, Input::Tokens(30))]);
    }

    #[test]
    fn compressed_traces_are_read_and_only_what_is_wanted() {
        let mut packed = flate2::write::GzEncoder::new(Vec::new(), Default::default());
        packed.write_all(AZURE.as_bytes()).unwrap();
        let packed = packed.finish().unwrap();
        assert_eq!(read_bytes(&packed, ALL).unwrap().1.len(), 2);
        assert_eq!(read_bytes(&packed, Extent { requests: 1, ..ALL }).unwrap().1.len(), 1);
        assert_eq!(read_bytes(&packed, Extent { seconds: 1.0, ..ALL }).unwrap().1.len(), 1);
        let error = read_bytes(&packed[..30], ALL).unwrap_err().to_string();
        assert!(error.starts_with("cannot read the trace "), "{error}");
    }

    #[test]
    fn other_files_and_bad_lines_are_told() {
        let error = |text: &str| read_bytes(text.as_bytes(), ALL).unwrap_err().to_string();
        assert!(error("a,b\n1,2\n").contains("is no trace"));
        assert!(error("").contains("is no trace"));
        let bad = error(&format!("{AZURE}\nyesterday,1,2\n"));
        assert!(bad.starts_with("line 5 of ") && bad.contains("\"yesterday\""), "{bad}");
        let none = error("TIMESTAMP,ContextTokens,GeneratedTokens\n");
        assert!(none.starts_with("nothing arrives"), "{none}");
    }

    #[test]
    fn the_public_traces_are_read_where_they_are() {
        let folder = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../../../shared/data/traces"));
        for (file, form) in [
            ("azure2023_code.csv.gz", TraceForm::Azure),
            ("mooncake_conversation.jsonl.gz", TraceForm::Mooncake),
            ("servegen_msmall_rates.csv.gz", TraceForm::ServeGen),
        ] {
            let path = folder.join(file);
            if !path.is_file() {
                eprintln!("skipped: {} is not here", path.display());
                continue;
            }
            let (is, arrivals) = read(&path, Extent { requests: 1000, ..ALL }, 1).unwrap();
            assert_eq!((is, arrivals.len()), (form, 1000), "{file}");
            assert!(arrivals.is_sorted_by(|a, b| a.at <= b.at));
        }
    }
}
