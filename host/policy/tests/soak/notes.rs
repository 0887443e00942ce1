//! What is noted while a soak runs, in a file: the soak looks at how much memory this
//! process holds, of which its own notes must be no part that grows.

use std::fs::File;
use std::io::{BufRead, BufReader, BufWriter, Seek, Write};

use serde::{Deserialize, Serialize};

/// How long something took.
#[derive(Debug, Clone, Copy, Default, Serialize, Deserialize)]
pub struct Pause {
    /// By the clock.
    pub seconds: f64,
    /// Without the time in which the thread could have run and had no processor;
    /// the same where the system does not tell.
    pub on_processor_or_blocked: f64,
}

/// One thing that was noted.
#[derive(Debug, Serialize, Deserialize)]
pub enum Note {
    /// How long it took to get a decider and a plan.
    Plan(Pause),
    /// How long it took to give the decider back.
    End(Pause),
    /// A generation, and what it said or must say.
    Stamp(u64, String),
}

/// Notes, in the order in which they were made.
#[derive(Debug)]
pub struct Notes(BufWriter<File>);

impl Default for Notes {
    fn default() -> Self {
        Self(BufWriter::new(tempfile::tempfile().unwrap()))
    }
}

impl Notes {
    pub fn add(&mut self, note: &Note) {
        serde_json::to_writer(&mut self.0, note).unwrap();
        self.0.write_all(b"\n").unwrap();
    }

    pub fn read(self) -> impl Iterator<Item = Note> {
        let mut file = self.0.into_inner().unwrap();
        file.rewind().unwrap();
        BufReader::new(file).lines().map(|line| serde_json::from_str(&line.unwrap()).unwrap())
    }
}
