//! A device that computes nothing twice: logits depend on a sequence's tokens alone
//! (law 1), so what they were once they are always. Runs that say the same tokens under
//! many policies and at many costs compute them once, whatever passes they come in.
//!
//! What is asked for first, or was forgotten because memory for more was needed, another
//! device computes. It must not know costs or clocks.

use std::collections::{BTreeMap, HashMap};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use aio_engine::device::{Device, DeviceError, KvId, Listing, Logits, Memory, ResidentModel, Row};
use aio_engine::gguf::GgufFile;
use aio_engine::graph::{self, Graph};
use aio_engine::model::ModelDescription;

/// A device that remembers what another one computed.
pub struct RememberingDevice {
    inner: Box<dyn Device>,
    /// By file. They stay resident as long as the device.
    models: Mutex<HashMap<PathBuf, Arc<Mutex<Remembered>>>>,
    /// Bytes of logits that each model may keep.
    budget: usize,
}

impl RememberingDevice {
    /// Remembers what `inner` computes, at most so many bytes of logits for each model.
    pub fn new(inner: Box<dyn Device>, budget: usize) -> Self {
        Self { inner, models: Mutex::default(), budget }
    }
}

impl Device for RememberingDevice {
    fn name(&self) -> &str {
        self.inner.name()
    }

    fn load(
        &self,
        gguf: Arc<GgufFile>,
        model: &ModelDescription,
    ) -> Result<Box<dyn ResidentModel>, DeviceError> {
        let mut models = lock(&self.models);
        let shared = match models.get(gguf.path()) {
            Some(shared) => Arc::clone(shared),
            None => {
                let path = gguf.path().to_owned();
                let remembered = Remembered {
                    model: self.inner.load(gguf, model)?,
                    description: model.clone(),
                    rows: HashMap::new(),
                    most: self.budget / (size_of::<f32>() * model.vocabulary.max(1)),
                    asked: 0,
                    logits: Logits::default(),
                };
                let shared = Arc::new(Mutex::new(remembered));
                models.insert(path, Arc::clone(&shared));
                shared
            }
        };
        let gears = lock(&shared).model.gears().to_vec();
        Ok(Box::new(Remembering { shared, gears, sequences: BTreeMap::new(), next: 0 }))
    }
}

/// Nothing that panics leaves anything half done here.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What stands for a sequence's first tokens: FNV-1a of 128 bits over them.
type Prefix = u128;
const EMPTY: Prefix = 0x6c62_272e_07bb_0142_62b8_2175_6295_c58d;
const PRIME: Prefix = 0x0000_0000_0100_0000_0000_0000_0000_013b;

fn extended(prefix: Prefix, token: u32) -> Prefix {
    token
        .to_le_bytes()
        .iter()
        .fold(prefix, |hash, &byte| (hash ^ Prefix::from(byte)).wrapping_mul(PRIME))
}

/// A model, and the logits after the prefixes that it was asked about.
struct Remembered {
    model: Box<dyn ResidentModel>,
    rows: HashMap<Prefix, Kept>,
    /// Rows that there is room for.
    most: usize,
    /// Counts what is asked for.
    asked: u64,
    description: ModelDescription,
    logits: Logits,
}

impl Remembered {
    /// The smallest gear for so many rows, compiled.
    fn gear(&mut self, rows: usize) -> Result<usize, DeviceError> {
        let gear = self.model.gears().iter().copied().find(|&gear| gear >= rows);
        let gear = gear.ok_or_else(|| DeviceError::BadPass(format!("{rows} rows fit no gear")))?;
        if !self.model.is_compiled(gear) {
            self.model.compile(graph::build(&self.description, gear))?;
        }
        Ok(gear)
    }

    /// The logits after a prefix, where they are known.
    fn find(&mut self, prefix: Prefix) -> Option<Arc<[f32]>> {
        self.asked += 1;
        let kept = self.rows.get_mut(&prefix)?;
        kept.asked = self.asked;
        Some(Arc::clone(&kept.row))
    }

    /// Keeps a row. Where there is no room, the half goes that was not asked for longest:
    /// answers are said again and again, what was drafted in vain is not.
    fn keep(&mut self, prefix: Prefix, row: &Arc<[f32]>) {
        if self.rows.len() >= self.most {
            let mut all: Vec<u64> = self.rows.values().map(|kept| kept.asked).collect();
            if all.is_empty() {
                return;
            }
            let middle = all.len() / 2;
            let (_, &mut bound, _) = all.select_nth_unstable(middle);
            self.rows.retain(|_, kept| kept.asked > bound);
        }
        self.rows.insert(prefix, Kept { row: Arc::clone(row), asked: self.asked });
    }
}

/// A row, and when it was last asked for.
struct Kept {
    row: Arc<[f32]>,
    asked: u64,
}

/// A sequence by its tokens, of which the model holds as many as were computed.
#[derive(Default)]
struct Sequence {
    tokens: Vec<u32>,
    /// What stands for the first n + 1 tokens.
    prefixes: Vec<Prefix>,
    held: Option<KvId>,
}

impl Sequence {
    fn push(&mut self, token: u32) {
        let before = self.prefixes.last().copied().unwrap_or(EMPTY);
        self.tokens.push(token);
        self.prefixes.push(extended(before, token));
    }

    fn truncate(&mut self, length: usize) {
        self.tokens.truncate(length);
        self.prefixes.truncate(length);
    }

    /// Computes what the model lacks up to the last of `wanted` positions, and keeps the
    /// logits of those; they are returned in their order.
    fn compute(
        &mut self,
        shared: &mut Remembered,
        wanted: &[usize],
    ) -> Result<Vec<Arc<[f32]>>, DeviceError> {
        let Some(&last) = wanted.last() else { return Ok(Vec::new()) };
        let kv = *self.held.get_or_insert_with(|| shared.model.kv_open());
        // A row that runs anew must not be held; it gives the same as before.
        let first = wanted.first().copied().unwrap_or(last);
        if shared.model.kv_length(kv) > first {
            shared.model.kv_truncate(kv, first);
        }
        let widest = shared.model.gears().last().copied().unwrap_or(1);
        let mut computed = Vec::with_capacity(wanted.len());
        let mut held = shared.model.kv_length(kv);
        while held <= last {
            let end = (last + 1).min(held + widest);
            let rows: Vec<Row> = (held..end)
                .map(|i| Row {
                    token: self.tokens[i],
                    position: i as u32,
                    kv,
                    logits: wanted.binary_search(&i).is_ok(),
                })
                .collect();
            let gear = shared.gear(rows.len())?;
            shared.logits.reset(shared.description.vocabulary);
            shared.model.run(gear, &rows, &mut shared.logits)?;
            let positions = wanted.iter().filter(|&&i| (held..end).contains(&i));
            for (n, &position) in positions.enumerate() {
                let row: Arc<[f32]> = shared.logits.row(n).into();
                shared.keep(self.prefixes[position], &row);
                computed.push(row);
            }
            held = end;
        }
        Ok(computed)
    }
}

/// The model as one run sees it, with that run's sequences.
struct Remembering {
    shared: Arc<Mutex<Remembered>>,
    gears: Vec<usize>,
    sequences: BTreeMap<KvId, Sequence>,
    next: u64,
}

impl Remembering {
    fn open(&mut self, sequence: Sequence) -> KvId {
        let kv = KvId(self.next);
        self.next += 1;
        self.sequences.insert(kv, sequence);
        kv
    }

    /// Takes the rows of one sequence in; returns the logits that are wanted of them.
    fn take_in(
        &mut self,
        shared: &mut Remembered,
        rows: &[Row],
    ) -> Result<Vec<Arc<[f32]>>, DeviceError> {
        let kv = rows[0].kv;
        let sequence = self
            .sequences
            .get_mut(&kv)
            .ok_or_else(|| DeviceError::BadPass(format!("there is no sequence {}", kv.0)))?;
        for row in rows {
            if row.position as usize != sequence.tokens.len() {
                let (at, held) = (row.position, sequence.tokens.len());
                return Err(DeviceError::BadPass(format!("row {at} after {held} tokens")));
            }
            sequence.push(row.token);
        }
        let wanted = rows.iter().filter(|row| row.logits).map(|row| row.position as usize);
        let mut known: Vec<(usize, Option<Arc<[f32]>>)> =
            wanted.map(|i| (i, shared.find(sequence.prefixes[i]))).collect();
        let absent: Vec<usize> =
            known.iter().filter(|(_, row)| row.is_none()).map(|(i, _)| *i).collect();
        let computed = sequence.compute(shared, &absent)?;
        let missing = known.iter_mut().filter(|(_, row)| row.is_none());
        missing.zip(computed).for_each(|((_, row), computed)| *row = Some(computed));
        Ok(known.into_iter().filter_map(|(_, row)| row).collect())
    }
}

impl ResidentModel for Remembering {
    fn gears(&self) -> &[usize] {
        &self.gears
    }

    fn is_compiled(&self, gear: usize) -> bool {
        lock(&self.shared).model.is_compiled(gear)
    }

    fn compile(&mut self, graph: Graph) -> Result<f64, DeviceError> {
        lock(&self.shared).model.compile(graph)
    }

    fn run(&mut self, _: usize, rows: &[Row], logits: &mut Logits) -> Result<f64, DeviceError> {
        let start = std::time::Instant::now();
        let shared = Arc::clone(&self.shared);
        let mut shared = lock(&shared);
        for of_one in rows.chunk_by(|a, b| a.kv == b.kv) {
            let before = self.sequences.get(&of_one[0].kv).map_or(0, |s| s.tokens.len());
            let vocabulary = shared.description.vocabulary;
            let taken = self.take_in(&mut shared, of_one).and_then(|found| {
                for row in found {
                    logits.append(vocabulary, 1)?[..vocabulary].copy_from_slice(&row);
                }
                Ok(())
            });
            if let Err(error) = taken {
                // Sequences before this one have gone on; they go back as well.
                let Some(sequence) = self.sequences.get_mut(&of_one[0].kv) else {
                    return Err(error);
                };
                sequence.truncate(before);
                for row in rows.iter().take_while(|row| row.kv != of_one[0].kv) {
                    let length = row.position as usize;
                    if let Some(sequence) = self.sequences.get_mut(&row.kv) {
                        sequence.truncate(sequence.tokens.len().min(length));
                    }
                }
                return Err(error);
            }
        }
        Ok(start.elapsed().as_secs_f64())
    }

    fn kv_open(&mut self) -> KvId {
        self.open(Sequence::default())
    }

    fn kv_fork(&mut self, kv: KvId, length: usize) -> Result<KvId, DeviceError> {
        let Some(sequence) = self.sequences.get(&kv) else { return Ok(self.kv_open()) };
        let length = length.min(sequence.tokens.len());
        let mut shared = lock(&self.shared);
        let held = match sequence.held {
            Some(held) => {
                let length = length.min(shared.model.kv_length(held));
                Some(shared.model.kv_fork(held, length)?)
            }
            None => None,
        };
        drop(shared);
        let tokens = sequence.tokens[..length].to_vec();
        let prefixes = sequence.prefixes[..length].to_vec();
        Ok(self.open(Sequence { tokens, prefixes, held }))
    }

    fn kv_needed(&self, kv: KvId, length: usize) -> u64 {
        let shared = lock(&self.shared);
        match self.sequences.get(&kv).and_then(|sequence| sequence.held) {
            Some(held) => shared.model.kv_needed(held, length),
            None => shared.model.kv_needed_anew(length),
        }
    }

    fn kv_needed_anew(&self, length: usize) -> u64 {
        lock(&self.shared).model.kv_needed_anew(length)
    }

    fn kv_length(&self, kv: KvId) -> usize {
        self.sequences.get(&kv).map_or(0, |sequence| sequence.tokens.len())
    }

    fn kv_truncate(&mut self, kv: KvId, length: usize) {
        let Some(sequence) = self.sequences.get_mut(&kv) else { return };
        sequence.truncate(length);
        if let Some(held) = sequence.held {
            let mut shared = lock(&self.shared);
            if shared.model.kv_length(held) > length {
                shared.model.kv_truncate(held, length);
            }
        }
    }

    fn kv_close(&mut self, kv: KvId) {
        if let Some(held) = self.sequences.remove(&kv).and_then(|sequence| sequence.held) {
            lock(&self.shared).model.kv_close(held);
        }
    }

    fn memory(&self) -> Memory {
        lock(&self.shared).model.memory()
    }

    fn kv_bytes_per_token(&self) -> u64 {
        lock(&self.shared).model.kv_bytes_per_token()
    }

    fn listing(&self, gear: usize) -> Option<Listing> {
        lock(&self.shared).model.listing(gear)
    }
}

impl Drop for Remembering {
    /// What a run held, the next one need not pay for.
    fn drop(&mut self) {
        let mut shared = lock(&self.shared);
        let held = self.sequences.values().filter_map(|sequence| sequence.held);
        held.for_each(|kv| shared.model.kv_close(kv));
    }
}
