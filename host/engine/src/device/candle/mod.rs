//! The reference device: every operation of the graph as candle tensors, one
//! after the other, easy to check and independent of our own kernels.
//!
//! Weights stay in their GGUF block formats (candle repacks some of them on
//! first use and keeps both). Activations and KV caches are f32. Rows attend
//! one by one, each to exactly its own positions, and products run in a row
//! count at which candle's kernels give a row the same bits whatever stands
//! beside it (see `weights`): that is how law 1 holds on this device.
//!
//! candle multiplies quantised matrices on a pool of threads that spin between
//! products, and does everything else on rayon. On few cores the two pools take
//! the cores from each other, so each model runs its passes inside a rayon pool
//! of one thread, where rayon's work runs in line. Measured on 2 cores, two runs
//! each: the 0.5B decodes 5 to 8 % faster for it and the 1.5B's first token comes
//! 25 % sooner; SmolLM2, whose products are f32 and so rayon's, decodes 18 % slower.

mod kv;
mod run;
mod weights;

use std::collections::BTreeMap;
use std::sync::Arc;

use super::spans::{self, Bounds, Span};
use super::{Device, DeviceError, KvId, Listing, Logits, Memory, ResidentModel, Row};
use crate::gguf::GgufFile;
use crate::graph::{self, Graph};
use crate::model::ModelDescription;
use kv::KvCache;
use weights::Weights;

/// Widths of a pass. candle needs no static shapes, so a pass is never padded
/// to its gear; the list only bounds passes and groups measured costs.
const GEARS: &[usize] = &[1, 2, 3, 4, 6, 8, 12, 16, 32, 64, 128, 256, 512];

/// candle-core on the CPU.
pub struct CandleDevice {
    /// Whether all matrices are held as f32 (see [`CandleDevice::exact`]).
    exact: bool,
}

impl CandleDevice {
    /// Weights stay in their block formats where candle has good kernels for them.
    pub fn quantised() -> Self {
        Self { exact: false }
    }

    /// All weights are unpacked to f32, so that nothing is rounded to 8 bits: what
    /// the accuracy of others is measured by. Slow, and four to eight times as large.
    pub fn exact() -> Self {
        Self { exact: true }
    }
}

impl Device for CandleDevice {
    fn name(&self) -> &str {
        if self.exact { "candle-f32" } else { "candle" }
    }

    fn load(
        &self,
        gguf: Arc<GgufFile>,
        model: &ModelDescription,
    ) -> Result<Box<dyn ResidentModel>, DeviceError> {
        let thread = rayon::ThreadPoolBuilder::new()
            .num_threads(1)
            .thread_name(|_| "candle-pass".into())
            .build()
            .map_err(|error| DeviceError::Failed {
                device: self.name().into(),
                doing: "started a thread".into(),
                reason: error.to_string(),
            })?;
        let weights =
            thread.install(|| Weights::load(gguf, &graph::build(model, 1), self.exact))?;
        Ok(Box::new(CandleModel {
            thread: Arc::new(thread),
            description: model.clone(),
            weights,
            graphs: BTreeMap::new(),
            caches: BTreeMap::new(),
            next_kv: 0,
        }))
    }
}

struct CandleModel {
    /// Where passes run; shared so that a pass can borrow the rest.
    thread: Arc<rayon::ThreadPool>,
    description: ModelDescription,
    weights: Weights,
    graphs: BTreeMap<usize, Graph>,
    caches: BTreeMap<KvId, KvCache>,
    next_kv: u64,
}

impl ResidentModel for CandleModel {
    fn gears(&self) -> &[usize] {
        GEARS
    }

    fn is_compiled(&self, gear: usize) -> bool {
        self.graphs.contains_key(&gear)
    }

    fn compile(&mut self, graph: Graph) -> Result<f64, DeviceError> {
        let start = std::time::Instant::now();
        for weight in graph.weights() {
            self.weights.check(weight)?;
        }
        self.graphs.insert(graph.gear, graph);
        Ok(start.elapsed().as_secs_f64())
    }

    fn run(&mut self, gear: usize, rows: &[Row], logits: &mut Logits) -> Result<f64, DeviceError> {
        let start = std::time::Instant::now();
        let bounds = Bounds {
            gear,
            vocabulary: self.description.vocabulary,
            context: self.description.context,
        };
        let mut spans = Vec::new();
        let length = |kv| self.caches.get(&kv).map(KvCache::length);
        spans::find(rows, bounds, length, &mut spans)?;
        let before: Vec<_> = spans.iter().map(|s| (s.kv, self.kv_length(s.kv))).collect();
        let thread = Arc::clone(&self.thread);
        let ran = thread.install(|| self.run_graph(gear, rows, &spans, logits));
        if ran.is_err() {
            for (kv, length) in before {
                self.kv_truncate(kv, length);
            }
        }
        ran.map(|()| start.elapsed().as_secs_f64())
    }

    fn kv_open(&mut self) -> KvId {
        self.kv_add(KvCache::new(&self.description))
    }

    fn kv_fork(&mut self, kv: KvId, length: usize) -> Result<KvId, DeviceError> {
        let Some(cache) = self.caches.get(&kv) else { return Ok(self.kv_open()) };
        let fork = cache.copy(length).map_err(failed("copied a KV cache"))?;
        Ok(self.kv_add(fork))
    }

    fn kv_needed(&self, kv: KvId, length: usize) -> u64 {
        self.caches.get(&kv).map_or(0, |cache| cache.needed(length))
    }

    fn kv_needed_anew(&self, length: usize) -> u64 {
        KvCache::new(&self.description).needed(length)
    }

    fn kv_length(&self, kv: KvId) -> usize {
        self.caches.get(&kv).map_or(0, KvCache::length)
    }

    fn kv_truncate(&mut self, kv: KvId, length: usize) {
        if let Some(cache) = self.caches.get_mut(&kv) {
            cache.truncate(length);
        }
    }

    fn kv_close(&mut self, kv: KvId) {
        self.caches.remove(&kv);
    }

    fn kv_bytes_per_token(&self) -> u64 {
        let floats = 2 * self.description.layers * self.description.kv_width();
        (floats * size_of::<f32>()) as u64
    }

    fn listing(&self, gear: usize) -> Option<Listing> {
        let graph = self.graphs.get(&gear)?;
        Some(Listing::of_graph("candle", graph, |name| self.weights.file_bytes(name)))
    }

    fn memory(&self) -> Memory {
        Memory {
            weights: self.weights.bytes(),
            kv: self.caches.values().map(KvCache::bytes).sum(),
            arena: 0,
        }
    }
}

impl CandleModel {
    fn kv_add(&mut self, cache: KvCache) -> KvId {
        let kv = KvId(self.next_kv);
        self.next_kv += 1;
        self.caches.insert(kv, cache);
        kv
    }
}

fn failed(doing: &str) -> impl Fn(candle_core::Error) -> DeviceError + '_ {
    move |error| DeviceError::Failed {
        device: "candle".into(),
        doing: doing.into(),
        reason: error.to_string().lines().next().unwrap_or_default().to_owned(),
    }
}
