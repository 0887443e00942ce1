//! Reading a record: lines to the runs of a host, its generations and their calls.

use std::collections::BTreeMap;
use std::io::BufRead;
use std::path::{Path, PathBuf};

use aio_core::{
    Failure, Granted, HostInfo, Outcome, PolicyIdentity, RequestFacts, RequestRecord, RoundContext,
    RoundDecision, RoundFacts, Verdict,
};
use aio_policy::{Event, RECORD_SCHEMA, Role, from_hex};

/// Why a record cannot be replayed.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// The file cannot be read.
    #[error("cannot read the record {path}: {source}")]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: std::io::Error,
    },
    /// A line is not what a record holds.
    #[error("line {line} of {path} is no event of a record: {reason}")]
    Line {
        /// The file.
        path: PathBuf,
        /// Counted from 1.
        line: usize,
        /// What is wrong with it.
        reason: String,
    },
    /// There is nothing to replay.
    #[error("{path} holds no call of a policy: record some with `aio run --record`")]
    Empty {
        /// The file.
        path: PathBuf,
    },
}

/// One life of a host: from its start to its end.
#[derive(Debug, Default)]
pub struct HostRun {
    /// Its generations, in the order in which they were started.
    pub generations: Vec<Recorded>,
    /// Its requests, by their numbers.
    pub requests: BTreeMap<u64, RequestRecord>,
}

/// A generation: how it was started, and all that it was asked.
#[derive(Debug)]
pub struct Recorded {
    /// Which policy it was.
    pub policy: PolicyIdentity,
    /// What for.
    pub role: Role,
    /// Its configuration, as JSON text.
    pub config: Option<String>,
    /// The state it was started with.
    pub carried: Option<Vec<u8>>,
    /// What it was told of the host.
    pub host: HostInfo,
    /// Its calls, in order, with the lines that they stand in.
    pub calls: Vec<(usize, RecordedCall)>,
}

/// A call and its answer.
#[derive(Debug)]
pub enum RecordedCall {
    /// How a request was to be answered.
    Plan {
        /// About what.
        facts: Box<RequestFacts>,
        /// What was lent.
        granted: Granted,
        /// The answer.
        answer: Verdict,
        /// What went wrong.
        failures: Vec<Failure>,
        /// Fuel used; 0 where the policy was not asked after all.
        fuel: u64,
    },
    /// How running requests were to go on.
    Rounds {
        /// About what.
        context: Box<RoundContext>,
        /// About which.
        requests: Vec<RoundFacts>,
        /// The answer.
        answer: Vec<RoundDecision>,
        /// What went wrong.
        failures: Vec<Failure>,
        /// Fuel used; 0 where the policy was not asked after all.
        fuel: u64,
    },
    /// What had become of requests.
    Finished {
        /// What.
        outcomes: Vec<Outcome>,
        /// What went wrong.
        failures: Vec<Failure>,
        /// Fuel used; 0 where the policy was not asked after all.
        fuel: u64,
    },
    /// What it had learnt.
    Snapshot {
        /// The state.
        state: Option<Vec<u8>>,
    },
}

/// Reads a record. Its last line may be cut off, as by a program that was killed:
/// the note says so.
///
/// # Errors
/// When the file cannot be read, is no record, or holds no call.
pub fn read(path: &Path) -> Result<(Vec<HostRun>, Option<String>), LogError> {
    let read = |source| LogError::Read { path: path.to_owned(), source };
    let mut file = std::io::BufReader::new(std::fs::File::open(path).map_err(read)?);
    let (mut runs, mut note): (Vec<HostRun>, _) = (Vec::new(), None);
    let (mut bytes, mut line) = (Vec::new(), 0);
    loop {
        bytes.clear();
        if file.read_until(b'\n', &mut bytes).map_err(read)? == 0 {
            break;
        }
        line += 1;
        if bytes.trim_ascii().is_empty() {
            continue;
        }
        let wrong = |reason: String| LogError::Line { path: path.to_owned(), line, reason };
        match serde_json::from_slice::<Event>(&bytes) {
            Ok(event) => take(&mut runs, event, line).map_err(wrong)?,
            Err(_) if !bytes.ends_with(b"\n") && line > 1 => {
                note = Some(format!("line {line}, the last, is cut off and was left out"));
            }
            Err(error) => return Err(wrong(error.to_string())),
        }
    }
    if runs.iter().all(|run| run.generations.iter().all(|g| g.calls.is_empty())) {
        return Err(LogError::Empty { path: path.to_owned() });
    }
    Ok((runs, note))
}

fn take(runs: &mut Vec<HostRun>, event: Event, line: usize) -> Result<(), String> {
    if let Event::Begin { schema, .. } = &event {
        if schema != RECORD_SCHEMA {
            return Err(format!("its form is {schema}, but this program knows {RECORD_SCHEMA}"));
        }
        runs.push(HostRun::default());
        return Ok(());
    }
    let run = runs.last_mut().ok_or("a record begins with the event \"begin\"")?;
    let state = |text: Option<String>| {
        let bytes = |text: String| from_hex(&text).ok_or("a state that is no hexadecimal");
        text.map(bytes).transpose()
    };
    let (generation, call) = match event {
        Event::Generation { policy, role, config, carried, host } => {
            let (carried, calls) = (state(carried)?, Vec::new());
            run.generations.push(Recorded { policy, role, config, carried, host, calls });
            return Ok(());
        }
        Event::Request { record } => {
            run.requests.insert(record.request, *record);
            return Ok(());
        }
        Event::Plan { generation, facts, granted, answer, failures, fuel } => {
            (generation, RecordedCall::Plan { facts, granted, answer, failures, fuel })
        }
        Event::Rounds { generation, context, requests, answer, failures, fuel } => {
            (generation, RecordedCall::Rounds { context, requests, answer, failures, fuel })
        }
        Event::Finished { generation, outcomes, failures, fuel } => {
            (generation, RecordedCall::Finished { outcomes, failures, fuel })
        }
        Event::Snapshot { generation, state: text } => {
            (generation, RecordedCall::Snapshot { state: state(text)? })
        }
        // Who serves from then on asks nothing new.
        Event::Begin { .. } | Event::Promoted { .. } => return Ok(()),
    };
    let known = run.generations.iter_mut().find(|g| g.policy.generation == generation);
    let known = known.ok_or_else(|| format!("generation {generation} was never started"))?;
    known.calls.push((line, call));
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(text: &str) -> Result<(Vec<HostRun>, Option<String>), String> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("r.jsonl");
        std::fs::write(&path, text).unwrap();
        read(&path).map_err(|error| error.to_string())
    }

    const BEGIN: &str = r#"{"event":"begin","schema":"aio.record/1","version":"0"}"#;
    const START: &str = r#"{"event":"generation","policy":{"name":"p","version":"1","digest":"d","generation":1},"role":"serving","config":null,"carried":"00ff","host":{"version":"0","device":"none","tiers":[],"max_draft_length":8,"max_ngram":4}}"#;
    const SNAPSHOT: &str = r#"{"event":"snapshot","generation":1,"state":"78"}"#;

    #[test]
    fn runs_and_generations_are_told_apart() {
        let once = [BEGIN, START, SNAPSHOT].join("\n");
        let (runs, note) = written(&format!("{once}\n\n{once}\n")).unwrap();
        assert_eq!((runs.len(), note), (2, None));
        let generation = &runs[1].generations[0];
        assert_eq!(generation.carried.as_deref(), Some(&[0, 255][..]));
        assert!(
            matches!(&generation.calls[..], [(7, RecordedCall::Snapshot { state: Some(s) })] if s == b"x")
        );
    }

    #[test]
    fn a_last_line_that_is_cut_off_is_left_out() {
        let text = format!("{}\n{{\"event\":\"snap", [BEGIN, START, SNAPSHOT].join("\n"));
        assert_eq!(
            written(&text).unwrap().1.as_deref(),
            Some("line 4, the last, is cut off and was left out")
        );
    }

    #[test]
    fn what_is_no_record_is_said_by_line() {
        for (text, says) in [
            ("{}\n".to_owned(), "line 1 of "),
            (format!("{START}\n"), "begins with the event \"begin\""),
            (format!("{BEGIN}\n{SNAPSHOT}\n"), "generation 1 was never started"),
            (format!("{BEGIN}\nnonsense\n{START}\n"), "line 2 of "),
            (BEGIN.replace("record/1", "record/9"), "its form is aio.record/9"),
            (format!("{BEGIN}\n{START}\n"), "holds no call of a policy"),
            (String::new(), "holds no call of a policy"),
        ] {
            let error = written(&text).unwrap_err();
            assert!(error.contains(says), "{error}");
        }
    }
}
