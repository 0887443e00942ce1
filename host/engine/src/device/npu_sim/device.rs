//! The simulated device: tokens come from the `cpu` device, times from the cost model. What
//! it is told and what it answers are the same tokens as there; only its clock differs.
//!
//! Memory is what this machine holds, not what the hardware would.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::cost::{CostModel, Sequence};
use super::pricing::Pricing;
use super::simulation::Simulation;
use super::stored::StoredWeights;
use crate::clock::Clock;
use crate::device::{Device, DeviceError, KvId, Listing, Logits, Memory, ResidentModel, Row};
use crate::gguf::GgufFile;
use crate::graph::Graph;
use crate::model::ModelDescription;

/// Hardware that is only simulated.
pub struct NpuSimDevice {
    name: String,
    inner: Arc<dyn Device>,
    simulation: Simulation,
    clock: Clock,
    /// Models loaded so far.
    loaded: AtomicUsize,
}

impl NpuSimDevice {
    /// A device with those costs, its clock at 0. `inner` computes the tokens: the `cpu`
    /// device, or one that answers as that does.
    pub fn new(simulation: Simulation, inner: Arc<dyn Device>) -> Self {
        Self {
            name: format!("npu-sim:{}", simulation.name()),
            inner,
            simulation,
            clock: Clock::standing(),
            loaded: AtomicUsize::new(0),
        }
    }

    /// The shape whose costs the next model to be loaded is given, where it is not its own.
    fn next_costed(&self) -> Result<Option<&ModelDescription>, DeviceError> {
        let costed = &self.simulation.costed;
        if costed.is_empty() {
            return Ok(None);
        }
        let next = costed.get(self.loaded.fetch_add(1, Ordering::Relaxed));
        let too_many = || {
            DeviceError::Unsupported(format!(
                "more models are loaded than {} costs; name one to be costed for each",
                self.name
            ))
        };
        next.map(|model| Some(&model.description)).ok_or_else(too_many)
    }
}

impl Device for NpuSimDevice {
    fn name(&self) -> &str {
        &self.name
    }

    fn notice(&self) -> Option<String> {
        Some(self.simulation.notice())
    }

    fn clock(&self) -> Clock {
        self.clock.clone()
    }

    fn load(
        &self,
        gguf: Arc<GgufFile>,
        model: &ModelDescription,
    ) -> Result<Box<dyn ResidentModel>, DeviceError> {
        let Simulation { profile, document, .. } = &self.simulation;
        let costs = match self.next_costed()? {
            Some(other) => CostModel::new(profile.clone(), other),
            None => CostModel::stored(profile.clone(), model, &StoredWeights::of(&gguf, model)?),
        };
        let inner = self.inner.load(gguf, model)?;
        let pricing = Pricing::new(costs, *document, inner.gears(), self.clock.clone());
        let name = self.name.clone();
        Ok(Box::new(Simulated { name, inner, pricing, sequences: Vec::new() }))
    }
}

struct Simulated {
    name: String,
    inner: Box<dyn ResidentModel>,
    pricing: Pricing,
    /// Those of a pass, kept so that a round need not allocate.
    sequences: Vec<Sequence>,
}

impl ResidentModel for Simulated {
    fn gears(&self) -> &[usize] {
        self.pricing.gears()
    }

    fn is_compiled(&self, gear: usize) -> bool {
        self.pricing.is_compiled(gear)
    }

    fn compile_seconds(&self, gear: usize) -> Option<f64> {
        Some(self.pricing.compile_seconds(gear))
    }

    fn compile(&mut self, graph: Graph) -> Result<f64, DeviceError> {
        let gear = graph.gear;
        if !self.inner.is_compiled(gear) {
            self.inner.compile(graph)?;
        }
        Ok(self.pricing.compile(gear))
    }

    fn tokens_before(&self) -> usize {
        self.pricing.document()
    }

    fn lead_in(&mut self, rows: &[Row]) -> f64 {
        self.pricing.lead_in(rows.iter().filter(|row| row.position == 0).count())
    }

    fn run(&mut self, gear: usize, rows: &[Row], logits: &mut Logits) -> Result<f64, DeviceError> {
        if !self.pricing.is_compiled(gear) {
            return Err(DeviceError::BadPass(format!("gear {gear} is not compiled")));
        }
        self.inner.run(gear, rows, logits)?;
        self.sequences.clear();
        for of_one in rows.chunk_by(|a, b| a.kv == b.kv) {
            let context = of_one.last().map_or(0, |row| row.position as usize + 1);
            self.sequences.push(Sequence { rows: of_one.len(), context });
        }
        let wanted = rows.iter().filter(|row| row.logits).count();
        Ok(self.pricing.pass(gear, &mut self.sequences, wanted).seconds)
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

    /// As the hardware would hold them.
    fn kv_bytes_per_token(&self) -> u64 {
        self.pricing.costs().kv_bytes_per_token() as u64
    }

    fn pass_weight_bytes(&self) -> Option<u64> {
        Some(self.pricing.costs().weight_bytes() as u64)
    }

    fn listing(&self, gear: usize) -> Option<Listing> {
        let listing = self.inner.listing(gear).filter(|_| self.is_compiled(gear))?;
        Some(Listing { device: self.name.clone(), ..listing })
    }
}
