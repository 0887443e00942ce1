//! What passes between host and policies, as a log of calls (JSON Lines): enough
//! to ask the same component the same questions again. Knows the form of the
//! log, not what writes or replays it.

use std::fs::{File, OpenOptions};
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use aio_core::{
    Failure, Granted, HostInfo, Outcome, PolicyIdentity, RequestFacts, RequestRecord, RoundContext,
    RoundDecision, RoundFacts, Verdict,
};
use serde::{Deserialize, Serialize};

/// The form of the log.
pub const RECORD_SCHEMA: &str = "aio.record/1";

/// One line of the log.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "kebab-case")]
pub enum Event {
    /// A host began to write; generations count from 1 again.
    Begin {
        /// [`RECORD_SCHEMA`].
        schema: String,
        /// The host's version.
        version: String,
    },
    /// A generation was started. It serves as `role` says.
    Generation {
        /// Which.
        policy: PolicyIdentity,
        /// What for.
        role: Role,
        /// Its configuration, as JSON text.
        config: Option<String>,
        /// The state it was started with, in hexadecimal.
        carried: Option<String>,
        /// What it was told of the host.
        host: HostInfo,
    },
    /// A canary became the policy in place: from here on it serves.
    Promoted {
        /// The generation.
        generation: u64,
    },
    /// `plan` was called.
    Plan {
        /// The generation that was asked.
        generation: u64,
        /// About what.
        facts: Box<RequestFacts>,
        /// What it was lent beside the facts.
        #[serde(default, skip_serializing_if = "Granted::is_empty")]
        granted: Granted,
        /// Its answer, in bounds, or the safe one in its place.
        answer: Verdict,
        /// What it did wrong.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        failures: Vec<Failure>,
        /// Fuel that the call took.
        fuel: u64,
    },
    /// `rounds` was called.
    Rounds {
        /// The generation that was asked.
        generation: u64,
        /// About what.
        context: Box<RoundContext>,
        /// About which requests.
        requests: Vec<RoundFacts>,
        /// Its answer, in bounds.
        answer: Vec<RoundDecision>,
        /// What it did wrong.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        failures: Vec<Failure>,
        /// Fuel that the call took.
        fuel: u64,
    },
    /// `finished` was called.
    Finished {
        /// The generation that was told.
        generation: u64,
        /// What.
        outcomes: Vec<Outcome>,
        /// What it did wrong.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        failures: Vec<Failure>,
        /// Fuel that the call took.
        fuel: u64,
    },
    /// `snapshot` was called.
    Snapshot {
        /// The generation that was asked.
        generation: u64,
        /// The state, in hexadecimal.
        state: Option<String>,
    },
    /// A request has ended.
    Request {
        /// All about it.
        record: Box<RequestRecord>,
    },
}

/// What a generation is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Role {
    /// Its answers are carried out.
    Serving,
    /// Its answers are carried out for a share of the requests.
    Canary,
    /// It is asked and never obeyed.
    Shadow,
}

/// Writes a log of calls. A disk that is full ends the log, not the serving.
#[derive(Debug)]
pub struct Recorder {
    path: PathBuf,
    file: Mutex<Option<BufWriter<File>>>,
}

impl Recorder {
    /// Appends to a file, which is made where it is absent.
    ///
    /// # Errors
    /// What the operating system says.
    pub fn append(path: &Path) -> std::io::Result<Self> {
        let file = OpenOptions::new().create(true).append(true).open(path)?;
        let recorder = Self { path: path.to_owned(), file: Mutex::new(Some(BufWriter::new(file))) };
        recorder.write(&Event::Begin {
            schema: RECORD_SCHEMA.into(),
            version: env!("CARGO_PKG_VERSION").into(),
        });
        Ok(recorder)
    }

    /// Writes through to the file what is not there yet.
    pub fn flush(&self) {
        let mut file = self.file.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(Err(error)) = file.as_mut().map(BufWriter::flush) {
            tracing::warn!(
                "cannot write to the record {}, it ends here: {error}",
                self.path.display()
            );
            *file = None;
        }
    }

    /// Writes a line. Requests are written through to the file when they end.
    pub fn write(&self, event: &Event) {
        let mut file = self.file.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(writer) = file.as_mut() else { return };
        let written = serde_json::to_writer(&mut *writer, event)
            .map_err(std::io::Error::from)
            .and_then(|()| writer.write_all(b"\n"))
            .and_then(|()| match event {
                Event::Request { .. } | Event::Begin { .. } => writer.flush(),
                _ => Ok(()),
            });
        if let Err(error) = written {
            tracing::warn!(
                "cannot write to the record {}, it ends here: {error}",
                self.path.display()
            );
            *file = None;
        }
    }
}

impl Drop for Recorder {
    fn drop(&mut self) {
        self.flush();
    }
}

/// Bytes as JSON text has them.
pub(crate) fn to_hex(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    let mut text = String::with_capacity(bytes.len() * 2);
    for byte in bytes {
        // Writing to a string cannot fail.
        let _ = write!(text, "{byte:02x}");
    }
    text
}

/// The bytes of [`to_hex`]'s text; `None` where it is none.
pub fn from_hex(text: &str) -> Option<Vec<u8>> {
    // Numbers may have a sign, bytes may not.
    if !text.bytes().all(|b| b.is_ascii_hexdigit()) || !text.len().is_multiple_of(2) {
        return None;
    }
    (0..text.len()).step_by(2).map(|i| u8::from_str_radix(text.get(i..i + 2)?, 16).ok()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_survive_as_text() {
        let bytes: Vec<u8> = (0..=255).collect();
        assert_eq!(from_hex(&to_hex(&bytes)), Some(bytes));
        assert_eq!(
            [from_hex("abc"), from_hex("zz"), from_hex("+1"), from_hex("éé")],
            [const { None }; 4]
        );
    }

    #[test]
    fn a_log_is_appended_to_and_read_line_by_line() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("log.jsonl");
        for _ in 0..2 {
            let recorder = Recorder::append(&path).unwrap();
            recorder.write(&Event::Snapshot { generation: 3, state: Some(to_hex(b"x")) });
        }
        let text = std::fs::read_to_string(&path).unwrap();
        let events: Vec<Event> =
            text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert_eq!(events.len(), 4);
        assert!(matches!(&events[2], Event::Begin { schema, .. } if schema == RECORD_SCHEMA));
        assert_eq!(events[3], Event::Snapshot { generation: 3, state: Some("78".into()) });
    }
}
