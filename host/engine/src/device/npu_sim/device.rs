//! The simulated device: tokens come from the `cpu` device, times from the cost model. What
//! it is told and what it answers are the same tokens as there; only its clock differs.
//!
//! Memory is what this machine holds, not what the hardware would.

use std::sync::Arc;

use super::cost::{CostModel, Sequence};
use super::profile::{Mode, Profile};
use super::stored::StoredWeights;
use crate::clock::Clock;
use crate::device::cpu::CpuDevice;
use crate::device::{
    Device, DeviceError, DeviceOptions, KvId, Listing, Logits, Memory, ResidentModel, Row,
};
use crate::gguf::GgufFile;
use crate::graph::Graph;
use crate::model::ModelDescription;

/// Hardware that is only simulated.
pub struct NpuSimDevice {
    name: String,
    cpu: CpuDevice,
    profile: Profile,
    clock: Clock,
}

impl NpuSimDevice {
    /// A device with that profile's costs, its clock at 0.
    ///
    /// # Errors
    /// What the `cpu` device lacks.
    pub fn new(profile: Profile, options: DeviceOptions) -> Result<Self, String> {
        Ok(Self {
            name: format!("npu-sim:{}", profile.name),
            cpu: CpuDevice::new(options)?,
            profile,
            clock: Clock::standing(),
        })
    }
}

impl Device for NpuSimDevice {
    fn name(&self) -> &str {
        &self.name
    }

    fn clock(&self) -> Clock {
        self.clock.clone()
    }

    fn load(
        &self,
        gguf: Arc<GgufFile>,
        model: &ModelDescription,
    ) -> Result<Box<dyn ResidentModel>, DeviceError> {
        let inner = self.cpu.load(Arc::clone(&gguf), model)?;
        let stored = StoredWeights::of(&gguf, model)?;
        let gears = match (self.profile.mode, &self.profile.graphs) {
            (Mode::Graph, Some(graphs)) => graphs.gears.clone(),
            _ => inner.gears().to_vec(),
        };
        Ok(Box::new(Simulated {
            name: self.name.clone(),
            costs: CostModel::stored(self.profile.clone(), model, &stored),
            clock: self.clock.clone(),
            inner,
            gears,
            compiled: Vec::new(),
            traced: false,
            sequences: Vec::new(),
        }))
    }
}

struct Simulated {
    name: String,
    inner: Box<dyn ResidentModel>,
    costs: CostModel,
    clock: Clock,
    gears: Vec<usize>,
    /// Gears whose graphs there are, the one used last at the end.
    compiled: Vec<usize>,
    /// Whether the model was traced, which only its first graph pays for.
    traced: bool,
    /// Those of a pass, kept so that a round need not allocate.
    sequences: Vec<Sequence>,
}

impl Simulated {
    /// Graphs that there may be at once.
    fn most(&self) -> usize {
        match (self.costs.profile().mode, &self.costs.profile().graphs) {
            (Mode::Graph, Some(graphs)) => graphs.most,
            _ => usize::MAX,
        }
    }

    fn find_sequences(&mut self, rows: &[Row]) {
        self.sequences.clear();
        for of_one in rows.chunk_by(|a, b| a.kv == b.kv) {
            let context = of_one.last().map_or(0, |row| row.position as usize + 1);
            self.sequences.push(Sequence { rows: of_one.len(), context });
        }
    }
}

impl ResidentModel for Simulated {
    fn gears(&self) -> &[usize] {
        &self.gears
    }

    fn is_compiled(&self, gear: usize) -> bool {
        self.compiled.contains(&gear)
    }

    fn compile_seconds(&self, gear: usize) -> Option<f64> {
        if self.is_compiled(gear) {
            return Some(0.0);
        }
        let Some(compiling) = self.costs.compiling() else { return Some(0.0) };
        Some(if self.traced { compiling.further } else { compiling.first })
    }

    fn compile(&mut self, graph: Graph) -> Result<f64, DeviceError> {
        let gear = graph.gear;
        let seconds = self.compile_seconds(gear).unwrap_or(0.0);
        if !self.inner.is_compiled(gear) {
            self.inner.compile(graph)?;
        }
        // Where there is no room for another one, the one that was not used for longest
        // makes it.
        while self.compiled.len() >= self.most() {
            self.compiled.remove(0);
        }
        self.compiled.push(gear);
        self.traced = true;
        self.clock.advance(seconds);
        Ok(seconds)
    }

    fn run(&mut self, gear: usize, rows: &[Row], logits: &mut Logits) -> Result<f64, DeviceError> {
        let Some(place) = self.compiled.iter().position(|&compiled| compiled == gear) else {
            return Err(DeviceError::BadPass(format!("gear {gear} is not compiled")));
        };
        self.inner.run(gear, rows, logits)?;
        self.compiled[place..].rotate_left(1);
        self.find_sequences(rows);
        let wanted = rows.iter().filter(|row| row.logits).count();
        let seconds = self.costs.pass(gear, &self.sequences, wanted).seconds;
        self.clock.advance(seconds);
        Ok(seconds)
    }

    fn kv_open(&mut self) -> KvId {
        self.inner.kv_open()
    }

    fn kv_fork(&mut self, kv: KvId, length: usize) -> Result<KvId, DeviceError> {
        self.inner.kv_fork(kv, length)
    }

    fn kv_needed(&self, kv: KvId, length: usize) -> u64 {
        self.inner.kv_needed(kv, length)
    }

    fn kv_needed_anew(&self, length: usize) -> u64 {
        self.inner.kv_needed_anew(length)
    }

    fn kv_length(&self, kv: KvId) -> usize {
        self.inner.kv_length(kv)
    }

    fn kv_truncate(&mut self, kv: KvId, length: usize) {
        self.inner.kv_truncate(kv, length);
    }

    fn kv_close(&mut self, kv: KvId) {
        self.inner.kv_close(kv);
    }

    fn memory(&self) -> Memory {
        self.inner.memory()
    }

    fn kv_bytes_per_token(&self) -> u64 {
        self.inner.kv_bytes_per_token()
    }

    fn listing(&self, gear: usize) -> Option<Listing> {
        let listing = self.inner.listing(gear).filter(|_| self.is_compiled(gear))?;
        Some(Listing { device: self.name.clone(), ..listing })
    }
}
