//! Devices: what loads weights, compiles graphs, owns KV caches and runs passes.
//!
//! Everything above these traits is one code path for all devices. A device
//! must not know tokenizers, sampling, drafting or requests.
//!
//! The contract that law 1 rests on: a row's logits depend on its token, its
//! position and its sequence's earlier tokens, and on nothing else; not on the
//! number of rows in the pass, their order among sequences, or the gear.

#[cfg(feature = "ascend")]
pub mod ascend;
pub mod candle;
pub mod cpu;
mod listing;
pub mod npu_sim;
mod spans;

pub use listing::{ArenaPlace, ListedStep, Listing};

use std::num::NonZeroUsize;
use std::sync::Arc;

use aio_kernels::memory::Memory as Bytes;

use crate::clock::Clock;
use crate::gguf::{GgufError, GgufFile};
use crate::graph::Graph;
use crate::model::ModelDescription;

/// Why a device could not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum DeviceError {
    /// A weight is missing or shaped otherwise than the model says.
    #[error(transparent)]
    Weights(#[from] GgufError),
    /// The device's library failed.
    #[error("the {device} device failed while it {doing}: {reason}")]
    Failed {
        /// The device's name.
        device: String,
        /// What it was at, for example "ran attention".
        doing: String,
        /// What its library said.
        reason: String,
    },
    /// The device has no kernel for something in the model.
    #[error("{0}")]
    Unsupported(String),
    /// There is not enough memory.
    #[error("{0}; use a smaller model, a shorter --context, or free some memory")]
    Memory(String),
    /// A pass was put together wrongly by the caller.
    #[error("a pass cannot be run: {0}")]
    BadPass(String),
}

/// Names a sequence's KV cache on one resident model.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct KvId(pub u64);

/// One row of a pass: a token at a position of a sequence.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Row {
    /// Token id, below the vocabulary's size.
    pub token: u32,
    /// Position in the sequence, from 0.
    pub position: u32,
    /// The sequence's cache.
    pub kv: KvId,
    /// Whether this row's logits are wanted.
    pub logits: bool,
}

/// Logits of the rows that asked for them, in the order of the rows. Reused
/// from pass to pass so that a round does not allocate.
#[derive(Debug, Default)]
pub struct Logits {
    vocabulary: usize,
    rows: usize,
    /// Rows of [`Logits::stride`] floats; those past `rows` are old. Eight rows are five
    /// megabytes: in huge pages, kernels that write a part of each row at a time do so in
    /// three quarters of the time.
    values: Bytes,
}

impl Logits {
    /// Rows held.
    pub fn len(&self) -> usize {
        self.rows
    }

    /// Whether no row is held.
    pub fn is_empty(&self) -> bool {
        self.rows == 0
    }

    /// Logits of the i-th row that asked for them: one for each token id.
    ///
    /// # Panics
    /// When fewer rows are held.
    pub fn row(&self, i: usize) -> &[f32] {
        assert!(i < self.rows, "row {i} of {}", self.rows);
        let floats: &[f32] = bytemuck::cast_slice(self.values.bytes());
        &floats[i * Self::stride(self.vocabulary)..][..self.vocabulary]
    }

    /// Empties the buffer for a model with `vocabulary` tokens.
    pub fn reset(&mut self, vocabulary: usize) {
        self.vocabulary = vocabulary;
        self.rows = 0;
    }

    /// Floats from one row's beginning to the next's: whole groups of sixteen, which
    /// is how some devices compute them.
    pub fn stride(vocabulary: usize) -> usize {
        vocabulary.next_multiple_of(16)
    }

    /// Adds `rows` rows and returns their floats, with old values in them, to be
    /// written. The first begins at a cache line, as all do.
    ///
    /// # Errors
    /// When there is not enough memory; nothing is added then.
    pub fn append(&mut self, vocabulary: usize, rows: usize) -> Result<&mut [f32], DeviceError> {
        if vocabulary != self.vocabulary {
            self.reset(vocabulary);
        }
        let stride = Self::stride(vocabulary);
        let (start, end) = (self.rows * stride, (self.rows + rows) * stride);
        let bytes = end * size_of::<f32>();
        if bytes > self.values.len() {
            let mut larger =
                Bytes::zeroed(bytes).map_err(|e| DeviceError::Memory(e.to_string()))?;
            larger.bytes_mut()[..self.values.len()].copy_from_slice(self.values.bytes());
            self.values = larger;
        }
        self.rows += rows;
        Ok(&mut bytemuck::cast_slice_mut(self.values.bytes_mut())[start..end])
    }
}

/// Bytes that a resident model holds, by kind.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Serialize)]
pub struct Memory {
    /// Weights, in whatever form the device keeps them.
    pub weights: u64,
    /// KV caches of all sequences; what several share counts once.
    pub kv: u64,
    /// Intermediate results of a pass.
    pub arena: u64,
}

/// A kind of hardware that models can be made resident on.
pub trait Device: Send + Sync {
    /// Short name, as in `--device`.
    fn name(&self) -> &str;

    /// What whoever reads its results must know before anything else, in one line: that
    /// its times are simulated, and how.
    fn notice(&self) -> Option<String> {
        None
    }

    /// The clock of what is done with it: the wall's, but for simulated devices.
    fn clock(&self) -> Clock {
        Clock::wall()
    }

    /// Makes a model's weights resident.
    ///
    /// # Errors
    /// When weights are missing or of a format the device does not take.
    fn load(
        &self,
        gguf: Arc<GgufFile>,
        model: &ModelDescription,
    ) -> Result<Box<dyn ResidentModel>, DeviceError>;
}

/// A model on a device: compiled graphs, KV caches, passes.
///
/// Times are seconds by the device's own clock: wall time, except on simulated
/// devices, where it is the simulated hardware's.
pub trait ResidentModel: Send {
    /// Widths that passes may have, narrow to wide.
    fn gears(&self) -> &[usize];

    /// Whether `gear`'s graph is compiled.
    fn is_compiled(&self, gear: usize) -> bool;

    /// Seconds that compiling `gear` would take; `None` where the device does not know
    /// before it has done it.
    fn compile_seconds(&self, _gear: usize) -> Option<f64> {
        None
    }

    /// Compiles a graph for its gear; returns the seconds it took. Where the device has
    /// room for no further one, another gear's graph goes.
    ///
    /// # Errors
    /// When the graph has an operation that the device cannot run.
    fn compile(&mut self, graph: Graph) -> Result<f64, DeviceError>;

    /// Tokens that are taken to stand before every sequence: on simulated hardware, a
    /// document that is costed and not there.
    fn tokens_before(&self) -> usize {
        0
    }

    /// What passes before such a pass can run, in seconds, which is no part of its cost:
    /// on simulated hardware, reading what is taken to stand before a sequence.
    fn lead_in(&mut self, _rows: &[Row]) -> f64 {
        0.0
    }

    /// Runs one pass in a compiled gear that holds all rows. Rows of one
    /// sequence stand together, in order, and continue its cache. Appends the
    /// logits asked for to `logits`; returns the seconds the pass took.
    ///
    /// # Errors
    /// When the rows are not of that form or the device fails; the caches are
    /// then as they were before.
    fn run(&mut self, gear: usize, rows: &[Row], logits: &mut Logits) -> Result<f64, DeviceError>;

    /// Opens an empty cache.
    fn kv_open(&mut self) -> KvId;

    /// Opens a cache that begins with the first `length` tokens of another one, as if
    /// they had been run through it. A device that can, lets the two share memory
    /// until one of them writes. Of a cache that is not open the result is empty.
    ///
    /// # Errors
    /// When there is not enough memory.
    fn kv_fork(&mut self, kv: KvId, length: usize) -> Result<KvId, DeviceError>;

    /// Bytes that [`Memory::kv`] grows by when this cache grows to `length` tokens.
    fn kv_needed(&self, kv: KvId, length: usize) -> u64;

    /// The same for a cache that is still to be opened, empty.
    fn kv_needed_anew(&self, length: usize) -> u64;

    /// Tokens in a cache; 0 for one that is not open.
    fn kv_length(&self, kv: KvId) -> usize;

    /// Forgets all tokens from `length` on, exactly: what is computed next is
    /// as if they had never been there.
    fn kv_truncate(&mut self, kv: KvId, length: usize);

    /// Closes a cache and frees its memory.
    fn kv_close(&mut self, kv: KvId);

    /// Memory held now.
    fn memory(&self) -> Memory;

    /// Bytes of KV cache that a token takes.
    fn kv_bytes_per_token(&self) -> u64;

    /// Bytes of weights that a pass reads, where it is not those of the model's file.
    fn pass_weight_bytes(&self) -> Option<u64> {
        None
    }

    /// What a compiled gear runs, for people and tools; `None` where it is not
    /// compiled.
    fn listing(&self, gear: usize) -> Option<Listing>;
}

/// What an operator may set of any device.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct DeviceOptions {
    /// Threads that a pass runs on; the device's own choice where absent.
    pub threads: Option<NonZeroUsize>,
}

/// The device that runs models where none is named.
pub const DEFAULT: &str = "cpu";

/// The devices there are, and what each is.
pub const DEVICES: &[(&str, &str)] = &[
    ("cpu", "kernels of our own (AVX-512 VNNI, AVX2 or plain Rust); the default"),
    ("candle", "candle's kernels on the same quantised weights; for comparison"),
    ("candle-f32", "candle on weights expanded to f32; the reference"),
    (
        "npu-sim:PROFILE[=MODEL+...][@TOKENS]",
        "the cpu device's tokens at the times that a profile of hardware gives, the models \
         costed as themselves or as others, behind a document of so many tokens",
    ),
    #[cfg(feature = "ascend")]
    ("ascend[:CHIP]", "an Ascend chip through CANN's AscendCL; it has never run on one"),
];

/// The device of that name.
///
/// # Errors
/// One sentence that names the devices there are, or says what the device lacks.
pub fn by_name(name: &str, options: DeviceOptions) -> Result<Box<dyn Device>, String> {
    if let Some(simulation) = name.strip_prefix("npu-sim:") {
        let simulation = npu_sim::Simulation::parse(simulation).map_err(|e| e.to_string())?;
        let cpu = Arc::new(cpu::CpuDevice::new(options)?);
        return Ok(Box::new(npu_sim::NpuSimDevice::new(simulation, cpu)));
    }
    if let Some(chip) = name.strip_prefix("ascend:") {
        return ascend_by_chip(chip, options);
    }
    match name {
        "ascend" => ascend_by_chip("0", options),
        "cpu" => Ok(Box::new(cpu::CpuDevice::new(options)?)),
        "candle" | "candle-f32" if options.threads.is_some() => {
            Err("candle chooses its threads itself; leave out --threads".into())
        }
        "candle" => Ok(Box::new(candle::CandleDevice::quantised())),
        "candle-f32" => Ok(Box::new(candle::CandleDevice::exact())),
        _ => {
            let names: Vec<_> = DEVICES.iter().map(|(name, _)| *name).collect();
            let names = names.join(", ");
            Err(format!("there is no device '{name}'; this build has: {names}"))
        }
    }
}

/// The Ascend chip of that number.
#[cfg(feature = "ascend")]
fn ascend_by_chip(chip: &str, options: DeviceOptions) -> Result<Box<dyn Device>, String> {
    if options.threads.is_some() {
        return Err("the ascend device has no threads to choose; leave out --threads".into());
    }
    let number = chip.parse().map_err(|_| {
        format!("'{chip}' is not the number of a chip; write ascend:0, for example")
    })?;
    Ok(Box::new(ascend::AscendDevice::open(None, number)?))
}

/// The same in a build that has no such device.
#[cfg(not(feature = "ascend"))]
fn ascend_by_chip(_chip: &str, _options: DeviceOptions) -> Result<Box<dyn Device>, String> {
    Err("this build has no ascend device; build it with --features ascend".into())
}

/// Gives back what devices hold for the whole process, such as a vendor's library: to be
/// called at its end, when no device is left.
///
/// # Errors
/// One sentence when that fails.
pub fn finish() -> Result<(), String> {
    #[cfg(feature = "ascend")]
    ascend::AscendDevice::finish()?;
    Ok(())
}
