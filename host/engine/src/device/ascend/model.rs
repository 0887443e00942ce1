//! A model on a chip: its gears, its caches, its passes.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

use aio_ascendcl::{DataType, Error, Launcher, Library, Mask, Session, Tensor};
use half::f16;

use super::compiled::{Compiled, drain};
use super::failed;
use super::kv::{Half, KvCache, Shape};
use super::lower::{self, Attention};
use super::weights::{self, Weights};
use crate::device::spans::{self, Bounds, Span};
use crate::device::{DeviceError, KvId, Listing, Logits, Memory, ResidentModel, Row};
use crate::gguf::GgufFile;
use crate::graph::{self, Graph, Op};
use crate::model::ModelDescription;

/// Widths of a pass: each is compiled by itself.
const GEARS: &[usize] = &[1, 2, 4, 8, 16, 32, 64, 128, 256, 512];

/// Fields are dropped in order: the graphs first. All of them keep the session.
pub(super) struct AscendModel {
    gears: BTreeMap<usize, Compiled>,
    caches: BTreeMap<KvId, KvCache>,
    next_kv: u64,
    weights: Weights,
    /// What attention is launched with.
    launcher: Launcher,
    session: Arc<Session>,
    description: ModelDescription,
    /// The type that blocks compute in.
    block: DataType,
    /// A pass's logits as they come from the chip.
    read: Vec<f16>,
}

impl AscendModel {
    pub(super) fn load(
        library: &Arc<Library>,
        chip: i32,
        gguf: &GgufFile,
        description: &ModelDescription,
    ) -> Result<Self, DeviceError> {
        let graph = graph::build(description, 1);
        weights::check_shape(&graph)?;
        // Where blocks' results are normalised, nothing keeps them within f16's range.
        let post_norms = description.architecture.post_norms;
        let block = if post_norms { DataType::Bf16 } else { DataType::F16 };
        let session = Session::open(library, chip).map_err(failed("opened the chip"))?;
        let (free, total) = session.memory().map_err(failed("asked for its memory"))?;
        tracing::debug!(chip = library.chip_name(), free, total, "opened");
        let weights = Weights::load(&session, gguf, &graph, block, description.context)?;
        Ok(Self {
            gears: BTreeMap::new(),
            caches: BTreeMap::new(),
            next_kv: 0,
            weights,
            launcher: Launcher::new(&session),
            session,
            description: description.clone(),
            block,
            read: Vec::new(),
        })
    }

    fn shape(&self) -> Shape {
        Shape::new(&self.description, self.block)
    }

    fn kv_add(&mut self, cache: KvCache) -> KvId {
        let kv = KvId(self.next_kv);
        self.next_kv += 1;
        self.caches.insert(kv, cache);
        kv
    }

    /// Runs the pass up to the logits, which it leaves in `self.read`.
    fn pass(&mut self, gear: usize, rows: &[Row], spans: &[Span]) -> Result<(), DeviceError> {
        let Some(compiled) = self.gears.get(&gear) else {
            return Err(DeviceError::BadPass(format!("gear {gear} is not compiled")));
        };
        for span in spans {
            if let Some(cache) = self.caches.get_mut(&span.kv) {
                let grown = cache.reserve(&self.session, span.position + span.rows);
                grown.map_err(failed("made room in a KV cache"))?;
            }
        }
        let inputs = rows.iter().map(|row| (row.token, row.position));
        compiled.memory.write_rows(inputs).map_err(failed("copied a pass's rows to the chip"))?;
        for (i, piece) in compiled.pieces.iter().enumerate() {
            piece.launch().map_err(failed("ran a captured graph"))?;
            if let Some(attention) = compiled.plan.attentions.get(i) {
                for span in spans {
                    let attended = attend(
                        &mut self.launcher,
                        compiled,
                        &self.weights,
                        &self.caches,
                        attention,
                        span,
                    );
                    attended.map_err(failed("ran attention"))?;
                }
            }
        }
        let wanted = rows.iter().enumerate().filter(|(_, row)| row.logits);
        let wanted: Vec<u32> = wanted.map(|(i, _)| i as u32).collect();
        self.read.clear();
        let vocabulary = self.description.vocabulary;
        read_logits(&self.session, compiled, &wanted, vocabulary, &mut self.read)
            .map_err(failed("computed logits"))
    }
}

/// Puts a sequence's new keys and values into its cache, and lets its rows attend to it.
fn attend(
    launcher: &mut Launcher,
    compiled: &Compiled,
    weights: &Weights,
    caches: &BTreeMap<KvId, KvCache>,
    a: &Attention,
    span: &Span,
) -> Result<(), Error> {
    let Some(cache) = caches.get(&span.kv) else {
        return Err(Error::Misuse(format!("sequence {} has no cache", span.kv.0)));
    };
    let arena = &compiled.memory.arena;
    let places = (&**arena, compiled.start(a.k), compiled.start(a.v));
    cache.store(a.layer, places, span.first, span.rows)?;
    let end = span.position + span.rows;
    // What the first row sees no more, none of them sees.
    let first = a.window.map_or(0, |window| (span.position + 1).saturating_sub(window));
    let dtype = compiled.plan.buffers[a.q].dtype;
    let row_bytes = a.heads * a.width * dtype.bytes();
    let rows = |id| {
        let start = compiled.start(id) + span.first * row_bytes;
        Tensor::new(arena, start, dtype, &[1, span.rows, a.heads, a.width])
    };
    let (queries, out) = (rows(a.q)?, rows(a.out)?);
    let square = [Mask::SIZE, Mask::SIZE];
    let triangle = Tensor::new(&weights.mask, 0, DataType::Bool, &square)?;
    let mask = match a.window {
        _ if span.rows == 1 => Mask::None,
        // Where the last row sees all that is given, only what is to come is hidden.
        Some(window) if end - first > window => Mask::Band(&triangle, window - 1),
        _ => Mask::Causal(&triangle),
    };
    launcher.attention(aio_ascendcl::Attention {
        queries: &queries,
        keys: cache.view(a.layer, Half::Keys, first, end - first)?,
        values: cache.view(a.layer, Half::Values, first, end - first)?,
        out: &out,
        heads: a.heads,
        kv_heads: a.kv_heads,
        scale: a.scale,
        mask,
    })
}

/// Runs the head for the wanted rows, as many at once as it has been captured for, and
/// waits for the pass.
fn read_logits(
    session: &Session,
    compiled: &Compiled,
    wanted: &[u32],
    vocabulary: usize,
    read: &mut Vec<f16>,
) -> Result<(), Error> {
    let heads = compiled.plan.heads.iter().zip(&compiled.heads);
    let widest = compiled.plan.heads.last().map_or(1, |head| head.piece.rows);
    for rows in wanted.chunks(widest) {
        let mut fitting = heads.clone().filter(|(head, _)| head.piece.rows >= rows.len());
        let Some((head, captured)) = fitting.next() else { continue };
        compiled.memory.write_selection(rows)?;
        captured.launch()?;
        session.synchronise()?;
        let start = read.len();
        read.resize(start + rows.len() * vocabulary, f16::ZERO);
        let bytes = bytemuck::cast_slice_mut(bits_of(&mut read[start..]));
        compiled.memory.arena.read(compiled.start(head.logits), bytes)?;
    }
    // Nothing was wanted: the caches are to be filled when it returns.
    if wanted.is_empty() { session.synchronise() } else { Ok(()) }
}

fn bits_of(values: &mut [f16]) -> &mut [u16] {
    use half::slice::HalfFloatSliceExt;
    values.reinterpret_cast_mut()
}

impl ResidentModel for AscendModel {
    fn gears(&self) -> &[usize] {
        GEARS
    }

    fn is_compiled(&self, gear: usize) -> bool {
        self.gears.contains_key(&gear)
    }

    fn compile(&mut self, graph: Graph) -> Result<f64, DeviceError> {
        let start = Instant::now();
        self.weights.check(&graph)?;
        let (gear, plan) = (graph.gear, lower::lower(&graph, self.block)?);
        let compiled = Compiled::new(&self.session, &self.weights, graph, plan)
            .map_err(failed("compiled a graph"))?;
        self.gears.insert(gear, compiled);
        Ok(start.elapsed().as_secs_f64())
    }

    fn run(&mut self, gear: usize, rows: &[Row], logits: &mut Logits) -> Result<f64, DeviceError> {
        let start = Instant::now();
        let vocabulary = self.description.vocabulary;
        let bounds = Bounds { gear, vocabulary, context: self.description.context };
        let mut spans = Vec::new();
        let length = |kv| self.caches.get(&kv).map(KvCache::length);
        spans::find(rows, bounds, length, &mut spans)?;
        let ran = self.pass(gear, rows, &spans);
        if ran.is_err() {
            // The caches' lengths were not moved; what was written beyond them is nobody's.
            drain(&self.session);
        }
        ran?;
        let wanted = self.read.len() / vocabulary;
        if wanted > 0 {
            let stride = Logits::stride(vocabulary);
            let to = logits.append(vocabulary, wanted)?.chunks_exact_mut(stride);
            for (to, from) in to.zip(self.read.chunks_exact(vocabulary)) {
                to.iter_mut().zip(from).for_each(|(to, from)| *to = from.to_f32());
            }
        }
        for span in spans {
            if let Some(cache) = self.caches.get_mut(&span.kv) {
                cache.advance(span.rows);
            }
        }
        Ok(start.elapsed().as_secs_f64())
    }

    fn kv_open(&mut self) -> KvId {
        self.kv_add(KvCache::new(self.shape()))
    }

    fn kv_fork(&mut self, kv: KvId, length: usize) -> Result<KvId, DeviceError> {
        let Some(cache) = self.caches.get(&kv) else { return Ok(self.kv_open()) };
        let fork = cache.copy(&self.session, length).map_err(failed("copied a KV cache"))?;
        Ok(self.kv_add(fork))
    }

    fn kv_needed(&self, kv: KvId, length: usize) -> u64 {
        self.caches.get(&kv).map_or(0, |cache| cache.needed(length))
    }

    fn kv_needed_anew(&self, length: usize) -> u64 {
        KvCache::new(self.shape()).needed(length)
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

    fn memory(&self) -> Memory {
        let workspace = self.launcher.workspace().map_or(0, |workspace| workspace.bytes() as u64);
        Memory {
            weights: self.weights.bytes(),
            kv: self.caches.values().map(KvCache::bytes).sum(),
            arena: workspace + self.gears.values().map(Compiled::bytes).sum::<u64>(),
        }
    }

    fn kv_bytes_per_token(&self) -> u64 {
        self.shape().bytes_per_token() as u64
    }

    fn listing(&self, gear: usize) -> Option<Listing> {
        let compiled = self.gears.get(&gear)?;
        let bytes = |name: &str| self.weights.bytes_of(name);
        let mut listing = Listing::of_graph(super::NAME, &compiled.graph, bytes);
        listing.arena_bytes = compiled.bytes();
        let block = if self.block == DataType::Bf16 { "bf16" } else { "f16" };
        for (step, op) in listing.steps.iter_mut().zip(&compiled.graph.ops) {
            let dtype = match op {
                Op::Linear { out, .. } if *out == compiled.graph.logits => "f16",
                Op::Linear { .. } | Op::Rope { .. } | Op::Attention { .. } | Op::Gated { .. } => {
                    block
                }
                _ => "f32",
            };
            step.shape = step.shape.replace("f32", dtype);
        }
        Some(listing)
    }
}
