//! The `cpu` device: our own kernels (`aio-kernels`), for which verifying a few
//! tokens costs little more than decoding one.
//!
//! Loading packs the weights; compiling fuses a graph's operations into steps over
//! one arena (`plan`); running walks the steps on a pool of threads (`run`) and
//! allocates nothing but cache blocks. Law 1 holds by construction: every kernel
//! adds up each number in one fixed order, whatever the pass and the threads.

pub(super) mod arena;
mod gated;
mod kv;
mod listing;
mod plan;
mod run;
mod step;
mod weights;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use aio_kernels::Isa;
use aio_kernels::attention;
use aio_kernels::memory::Memory as Bytes;
use aio_kernels::pool::Pool;
use aio_kernels::shared::{Shared, SharedRows};

use super::spans::{self, Bounds, Span};
use super::{
    Device, DeviceError, DeviceOptions, KvId, Listing, Logits, Memory, ResidentModel, Row,
};
use crate::gguf::GgufFile;
use crate::graph::{self, Graph};
use crate::model::ModelDescription;
use kv::{KvCache, KvShape};
use plan::Plan;
use run::{Pass, SpanCache, ThreadScratch};
use weights::Weights;

/// Widths of a pass. The kernels need no padding, so a pass costs what its own rows
/// cost; gears bound passes, size arenas and group measured costs.
pub const GEARS: &[usize] = &[1, 2, 3, 4, 6, 8, 12, 16, 32, 64, 128, 256, 512];

/// Environment variable that names the instruction set to use.
const ISA_VARIABLE: &str = "AIO_CPU";

/// More threads than this are a mistake: they would wait for each other.
const MOST_THREADS: usize = 256;

/// Our own kernels on the machine's processor.
pub struct CpuDevice {
    isa: Isa,
    pool: Arc<Pool>,
}

impl CpuDevice {
    /// The device, with the best instruction set that the machine has (or the one
    /// that `AIO_CPU` names) and a thread for each physical core (or as many as the
    /// options say).
    ///
    /// # Errors
    /// One sentence, when the machine lacks the instruction set or the threads.
    pub fn new(options: DeviceOptions) -> Result<Self, String> {
        let wanted = std::env::var(ISA_VARIABLE).ok().filter(|name| !name.is_empty());
        Self::with_instruction_set(wanted.as_deref(), options)
    }

    /// As [`CpuDevice::new`], with the instruction set named by the caller: one of
    /// [`CpuDevice::instruction_sets`], or the best.
    ///
    /// # Errors
    /// As [`CpuDevice::new`].
    pub fn with_instruction_set(
        wanted: Option<&str>,
        options: DeviceOptions,
    ) -> Result<Self, String> {
        let isa = Isa::detect(wanted)?;
        let cores = num_cpus::get_physical().min(num_cpus::get());
        let threads = options.threads.map_or(cores, std::num::NonZeroUsize::get);
        if threads > MOST_THREADS {
            return Err(format!(
                "{threads} threads are too many; give --threads at most {MOST_THREADS}"
            ));
        }
        let pool = Pool::new(threads)
            .map_err(|error| format!("cannot start {threads} threads ({error}); use fewer"))?;
        tracing::debug!(isa = isa.name(), threads, "the cpu device");
        Ok(Self { isa, pool: Arc::new(pool) })
    }
}

impl CpuDevice {
    /// The instruction sets that this machine has kernels for, best first.
    pub fn instruction_sets() -> Vec<&'static str> {
        Isa::available().into_iter().map(Isa::name).collect()
    }

    /// The instruction set whose kernels run.
    pub fn instruction_set(&self) -> &'static str {
        self.isa.name()
    }

    /// Most rows for which the kernels unpack a weight once.
    pub fn tile(&self) -> usize {
        self.isa.tile()
    }

    /// Threads that a pass runs on.
    pub fn threads(&self) -> usize {
        self.pool.threads()
    }
}

impl Device for CpuDevice {
    fn name(&self) -> &str {
        "cpu"
    }

    fn load(
        &self,
        gguf: Arc<GgufFile>,
        model: &ModelDescription,
    ) -> Result<Box<dyn ResidentModel>, DeviceError> {
        if !model.head_width.is_multiple_of(32) || !model.width.is_multiple_of(32) {
            return Err(DeviceError::Unsupported(format!(
                "the model has heads of {} and rows of {} components, and the cpu device needs \
                 multiples of 32; use --device candle",
                model.head_width, model.width
            )));
        }
        let group = model.heads / model.kv_heads;
        if group > attention::Scratch::QUERIES {
            return Err(DeviceError::Unsupported(format!(
                "{group} query heads share a key-value head, and the cpu device takes at most {}; \
                 use --device candle",
                attention::Scratch::QUERIES
            )));
        }
        let weights = Weights::load(gguf, &graph::build(model, 1))?;
        let scratch = || {
            Mutex::new(ThreadScratch {
                row: vec![0.0; model.width.max(model.feed_forward).max(model.query_width())],
                attention: attention::Scratch::new(model.head_width),
                gated: gated::Scratch::new(self.isa),
            })
        };
        let shape = KvShape {
            layers: model.layers,
            kv_heads: model.kv_heads,
            head_width: model.head_width,
        };
        Ok(Box::new(CpuModel {
            isa: self.isa,
            pool: Arc::clone(&self.pool),
            vocabulary: model.vocabulary,
            context: model.context,
            shape,
            weights,
            plans: BTreeMap::new(),
            arena: Bytes::zeroed(0).map_err(out_of_memory)?,
            caches: BTreeMap::new(),
            next_kv: 0,
            kv_bytes: Arc::new(AtomicU64::new(0)),
            spans: Vec::new(),
            selected: Vec::new(),
            done: (0..gated::blocks(model.feed_forward)).map(|_| AtomicUsize::new(0)).collect(),
            scratch: (0..self.pool.threads()).map(|_| scratch()).collect(),
        }))
    }
}

struct CpuModel {
    isa: Isa,
    pool: Arc<Pool>,
    vocabulary: usize,
    context: usize,
    shape: KvShape,
    weights: Weights,
    plans: BTreeMap<usize, Plan>,
    /// As large as the compiled plans need: passes come one after the other.
    arena: Bytes,
    caches: BTreeMap<KvId, KvCache>,
    next_kv: u64,
    /// Bytes of all caches.
    kv_bytes: Arc<AtomicU64>,
    // Lists that every pass needs, kept so that it need not allocate.
    spans: Vec<Span>,
    selected: Vec<usize>,
    /// Counts within a step; 0 between passes.
    done: Vec<AtomicUsize>,
    scratch: Vec<Mutex<ThreadScratch>>,
}

/// Sequences in a pass that are listed without allocating.
const SPANS_IN_PLACE: usize = 64;

impl ResidentModel for CpuModel {
    fn gears(&self) -> &[usize] {
        GEARS
    }

    fn is_compiled(&self, gear: usize) -> bool {
        self.plans.contains_key(&gear)
    }

    fn compile(&mut self, graph: Graph) -> Result<f64, DeviceError> {
        let start = std::time::Instant::now();
        let plan = Plan::compile(&graph, &self.weights)?;
        if plan.arena > self.arena.len() {
            self.arena = Bytes::zeroed(plan.arena).map_err(out_of_memory)?;
        }
        self.plans.insert(plan.gear, plan);
        Ok(start.elapsed().as_secs_f64())
    }

    fn run(&mut self, gear: usize, rows: &[Row], logits: &mut Logits) -> Result<f64, DeviceError> {
        let start = std::time::Instant::now();
        let bounds = Bounds { gear, vocabulary: self.vocabulary, context: self.context };
        let caches = &self.caches;
        let length = |kv| caches.get(&kv).map(KvCache::length);
        spans::find(rows, bounds, length, &mut self.spans)?;
        if !self.plans.contains_key(&gear) {
            return Err(DeviceError::BadPass(format!("gear {gear} is not compiled")));
        }
        for span in &self.spans {
            if let Some(cache) = self.caches.get_mut(&span.kv) {
                cache.reserve(span.position + span.rows).map_err(out_of_memory)?;
            }
        }
        self.selected.clear();
        self.selected.extend((0..rows.len()).filter(|&i| rows[i].logits));
        self.pass(gear, rows, logits)?;
        for span in &self.spans {
            if let Some(cache) = self.caches.get_mut(&span.kv) {
                cache.set_length(span.position + span.rows);
            }
        }
        Ok(start.elapsed().as_secs_f64())
    }

    fn kv_open(&mut self) -> KvId {
        self.kv_add(KvCache::new(self.shape, Arc::clone(&self.kv_bytes)))
    }

    fn kv_fork(&mut self, kv: KvId, length: usize) -> Result<KvId, DeviceError> {
        let Some(cache) = self.caches.get(&kv) else { return Ok(self.kv_open()) };
        let fork = cache.fork(length);
        Ok(self.kv_add(fork))
    }

    fn kv_needed(&self, kv: KvId, length: usize) -> u64 {
        self.caches.get(&kv).map_or(0, |cache| cache.needed(length))
    }

    fn kv_needed_anew(&self, length: usize) -> u64 {
        KvCache::new(self.shape, Arc::clone(&self.kv_bytes)).needed(length)
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
        let numbers = 2 * self.shape.layers * self.shape.kv_heads * self.shape.head_width;
        (numbers * size_of::<u16>()) as u64
    }

    fn listing(&self, gear: usize) -> Option<Listing> {
        self.plans.get(&gear).map(|plan| listing::list(plan, &self.weights))
    }

    fn memory(&self) -> Memory {
        Memory {
            weights: self.weights.bytes(),
            kv: self.kv_bytes.load(Ordering::Relaxed),
            arena: self.arena.len() as u64,
        }
    }
}

impl CpuModel {
    fn kv_add(&mut self, cache: KvCache) -> KvId {
        let kv = KvId(self.next_kv);
        self.next_kv += 1;
        self.caches.insert(kv, cache);
        kv
    }

    /// The pass itself; but for room for logits, all that can go wrong has been looked at.
    fn pass(&mut self, gear: usize, rows: &[Row], logits: &mut Logits) -> Result<(), DeviceError> {
        let Some(plan) = self.plans.get(&gear) else { return Ok(()) };
        let none: &[Shared<'static, u16>] = &[];
        let nothing = Span { kv: KvId(0), first: 0, rows: 0, position: 0 };
        let mut in_place = [SpanCache { span: nothing, blocks: none }; SPANS_IN_PLACE];
        let with_cache = self.spans.iter().map(|&span| SpanCache {
            span,
            blocks: self.caches.get(&span.kv).map_or(none, KvCache::blocks),
        });
        let listed: Vec<SpanCache<'_>>;
        let spans = if self.spans.len() <= SPANS_IN_PLACE {
            with_cache.zip(&mut in_place).for_each(|(cache, slot)| *slot = cache);
            &in_place[..self.spans.len()]
        } else {
            listed = with_cache.collect();
            &listed
        };
        // A pass that panicked may have left some.
        self.done.iter_mut().for_each(|count| *count.get_mut() = 0);
        let stride = Logits::stride(plan.vocabulary);
        let out = logits.append(plan.vocabulary, self.selected.len())?;
        let pass = Pass {
            isa: self.isa,
            plan,
            weights: &self.weights,
            shape: self.shape,
            rows,
            selected: &self.selected,
            spans,
            arena: Shared::new(self.arena.bytes_mut()),
            logits: SharedRows::new(Shared::new(out), stride),
            done: &self.done,
            scratch: &self.scratch,
        };
        self.pool.run(&|team| pass.run(team));
        Ok(())
    }
}

fn out_of_memory(error: aio_kernels::memory::OutOfMemory) -> DeviceError {
    DeviceError::Memory(error.to_string())
}
