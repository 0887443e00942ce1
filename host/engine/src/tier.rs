//! A tier: one model resident on a device, with its tokenizer and chat
//! template, its gears compiled as they are needed and their cost measured.
//!
//! It runs passes and keeps KV caches in step with token sequences. It must not
//! know requests, drafts or policies.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use aio_core::{Gear, TierFacts};

use crate::chat::{ChatError, ChatTemplate};
use crate::clock::Clock;
use crate::device::{Device, DeviceError, KvId, Listing, Logits, Memory, ResidentModel, Row};
use crate::gguf::GgufFile;
use crate::graph;
use crate::model::{ModelDescription, ModelError};
use crate::tokenizer::{Tokenizer, TokenizerError};

/// Weight of a new measurement in a gear's moving average.
const COST_WEIGHT: f32 = 0.2;

/// Why a model could not be opened as a tier.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The file or its model.
    #[error(transparent)]
    Model(#[from] ModelError),
    /// Its tokenizer.
    #[error(transparent)]
    Tokenizer(#[from] TokenizerError),
    /// Its chat template.
    #[error(transparent)]
    Chat(#[from] ChatError),
    /// The device.
    #[error(transparent)]
    Device(#[from] DeviceError),
}

/// What one or more passes did.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Pass {
    /// Rows run.
    pub rows: usize,
    /// Seconds by the device's clock.
    pub seconds: f64,
}

/// What a gear's graph has cost and done so far.
#[derive(Debug, Clone, Copy, Default, PartialEq, serde::Serialize)]
pub struct GraphUse {
    /// Rows that it holds.
    pub gear: usize,
    /// When it was compiled, last if several times, by the device's clock in seconds.
    pub compiled_at: f64,
    /// How often: a device without room for all its graphs lets some of them go.
    pub compilations: u64,
    /// Seconds that it took, all times together.
    pub compile_seconds: f64,
    /// Passes that ran in it.
    pub passes: u64,
    /// Rows of those passes.
    pub rows: u64,
    /// Rows that were free in them. Where a gear costs as much as a full one, they were
    /// paid for.
    pub padding: u64,
}

impl GraphUse {
    fn note_compiled(&mut self, at: f64, seconds: f64) {
        self.compiled_at = at;
        self.compilations += 1;
        self.compile_seconds += seconds;
    }

    fn note_pass(&mut self, rows: usize) {
        self.passes += 1;
        self.rows += rows as u64;
        self.padding += (self.gear - rows) as u64;
    }
}

/// A sequence of tokens with a KV cache on one tier. The cache holds keys and
/// values for exactly these tokens.
#[derive(Debug)]
pub struct TokenSequence {
    kv: KvId,
    cached: Vec<u32>,
}

impl TokenSequence {
    /// Tokens whose keys and values are held.
    pub fn cached(&self) -> usize {
        self.cached.len()
    }

    /// Those tokens.
    pub fn tokens(&self) -> &[u32] {
        &self.cached
    }

    /// How many tokens it has in common with the beginning of `tokens`.
    pub fn common(&self, tokens: &[u32]) -> usize {
        self.cached.iter().zip(tokens).take_while(|(a, b)| a == b).count()
    }
}

/// What one sequence adds to a pass.
#[derive(Debug)]
pub struct Part<'a> {
    /// The sequence. It holds a prefix of `tokens` ([`Tier::prepare`] sees to that).
    pub sequence: &'a mut TokenSequence,
    /// What it is to hold after the pass; what it lacks of that are the pass's rows.
    pub tokens: &'a [u32],
    /// Of how many of the last tokens the logits are wanted.
    pub wanted: usize,
}

impl Part<'_> {
    /// Rows that it adds.
    pub fn rows(&self) -> usize {
        self.tokens.len() - self.sequence.cached.len()
    }
}

/// One model, ready to answer or draft.
pub struct Tier {
    name: String,
    path: PathBuf,
    description: ModelDescription,
    context: usize,
    parameters: u64,
    weight_bytes: u64,
    tokenizer: Arc<Tokenizer>,
    template: Option<Arc<ChatTemplate>>,
    model: Box<dyn ResidentModel>,
    facts: TierFacts,
    clock: Clock,
    /// Of each gear that was compiled, in the order of first use.
    graphs: Vec<GraphUse>,
    /// The rows of a pass, kept so that a round need not allocate.
    rows: Vec<Row>,
    /// Whether a pass has run: the first one touches cold memory, and its time
    /// would mislead whoever plans by it.
    warm: bool,
}

impl Tier {
    /// Opens a GGUF file and makes it resident on `device`. `context` bounds the
    /// model's own context further, if given.
    ///
    /// # Errors
    /// When the file is damaged, or its architecture, tokenizer or formats are
    /// not supported.
    pub fn open(
        name: &str,
        path: &Path,
        device: &dyn Device,
        context: Option<usize>,
    ) -> Result<Self, OpenError> {
        let gguf = Arc::new(GgufFile::open(path).map_err(ModelError::from)?);
        let description = ModelDescription::from_gguf(&gguf)?;
        let tokenizer = Arc::new(Tokenizer::from_gguf(gguf.metadata())?);
        let template = ChatTemplate::from_gguf(gguf.metadata(), &tokenizer)?.map(Arc::new);
        let context = context.unwrap_or(usize::MAX).min(description.context);
        Self::load(name, &gguf, description, (tokenizer, template), device, context)
    }

    /// The same model on another device, which knows nothing of what passes cost there.
    /// Its tokenizer and chat template, which take longest to open, are shared.
    ///
    /// # Errors
    /// When the file is no longer there, or the device does not take it.
    pub fn again(&self, device: &dyn Device) -> Result<Self, OpenError> {
        let gguf = Arc::new(GgufFile::open(&self.path).map_err(ModelError::from)?);
        let shared = (Arc::clone(&self.tokenizer), self.template.clone());
        Self::load(&self.name, &gguf, self.description.clone(), shared, device, self.context)
    }

    fn load(
        name: &str,
        gguf: &Arc<GgufFile>,
        description: ModelDescription,
        (tokenizer, template): (Arc<Tokenizer>, Option<Arc<ChatTemplate>>),
        device: &dyn Device,
        context: usize,
    ) -> Result<Self, OpenError> {
        let (parameters, weight_bytes) = weights_read(gguf, &description)?;
        let model = device.load(Arc::clone(gguf), &description)?;
        let weight_bytes = model.pass_weight_bytes().unwrap_or(weight_bytes);
        let gear = |&rows: &usize| Gear {
            rows: rows as u32,
            compiled: false,
            milliseconds: None,
            compile_milliseconds: None,
        };
        let facts = TierFacts { gears: model.gears().iter().map(gear).collect() };
        let mut tier = Self {
            name: name.to_owned(),
            path: gguf.path().to_owned(),
            context,
            description,
            parameters,
            weight_bytes,
            tokenizer,
            template,
            model,
            facts,
            clock: device.clock(),
            graphs: Vec::new(),
            rows: Vec::new(),
            warm: false,
        };
        tier.note_compiled();
        Ok(tier)
    }

    /// What is noted of a gear's graph.
    fn graph_use(&mut self, gear: usize) -> &mut GraphUse {
        let index = self.graphs.iter().position(|graph| graph.gear == gear);
        let index = index.unwrap_or_else(|| {
            self.graphs.push(GraphUse { gear, ..GraphUse::default() });
            self.graphs.len() - 1
        });
        &mut self.graphs[index]
    }

    /// Which gears are compiled, and what the others would cost as far as the device knows:
    /// compiling one may change that of others.
    fn note_compiled(&mut self) {
        for gear in &mut self.facts.gears {
            let rows = gear.rows as usize;
            gear.compiled = self.model.is_compiled(rows);
            if let (false, Some(seconds)) = (gear.compiled, self.model.compile_seconds(rows)) {
                gear.compile_milliseconds = Some((seconds * 1e3) as f32);
            }
        }
    }

    /// The tier's name: the catalogue's, or the file's.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The model's shape.
    pub fn description(&self) -> &ModelDescription {
        &self.description
    }

    /// Longest sequence, in tokens.
    pub fn context(&self) -> usize {
        self.context
    }

    /// Number of weights.
    pub fn parameters(&self) -> u64 {
        self.parameters
    }

    /// Bytes of weights that one pass reads, as they stand in the file, or as simulated
    /// hardware would hold them.
    pub fn weight_bytes(&self) -> u64 {
        self.weight_bytes
    }

    /// Bytes of KV cache that one token takes.
    pub fn kv_bytes_per_token(&self) -> u32 {
        u32::try_from(self.model.kv_bytes_per_token()).unwrap_or(u32::MAX)
    }

    /// The tokenizer.
    pub fn tokenizer(&self) -> &Arc<Tokenizer> {
        &self.tokenizer
    }

    /// The chat template, if the model has one.
    pub fn template(&self) -> Option<&ChatTemplate> {
        self.template.as_deref()
    }

    /// Gears and what they cost, as measured so far.
    pub fn facts(&self) -> &TierFacts {
        &self.facts
    }

    /// What each gear's graph has cost and done, in the order of first use.
    pub fn graphs(&self) -> &[GraphUse] {
        &self.graphs
    }

    /// Memory the model holds now.
    pub fn memory(&self) -> Memory {
        self.model.memory()
    }

    /// What the smallest gear that holds `rows` rows runs, compiled if need be.
    ///
    /// # Errors
    /// When no gear holds that many, or it cannot be compiled.
    pub fn listing(&mut self, rows: usize) -> Result<Listing, DeviceError> {
        let gear = self.model.gears().iter().copied().find(|&gear| gear >= rows.max(1));
        let widest = self.model.gears().last().copied().unwrap_or(0);
        let too_wide =
            || DeviceError::BadPass(format!("{rows} rows fit no gear; the widest holds {widest}"));
        let gear = gear.ok_or_else(too_wide)?;
        if !self.model.is_compiled(gear) {
            self.model.compile(graph::build(&self.description, gear))?;
        }
        self.model.listing(gear).ok_or_else(too_wide)
    }

    /// Tokens that are taken to stand before every sequence, though they are not there.
    pub fn tokens_before(&self) -> usize {
        self.model.tokens_before()
    }

    /// Opens an empty sequence.
    pub fn open_sequence(&mut self) -> TokenSequence {
        TokenSequence { kv: self.model.kv_open(), cached: Vec::new() }
    }

    /// Opens a sequence that begins with the first `length` tokens of another one. Where
    /// the device can, the two share memory until one of them writes.
    ///
    /// # Errors
    /// When there is not enough memory.
    pub fn fork(
        &mut self,
        sequence: &TokenSequence,
        length: usize,
    ) -> Result<TokenSequence, DeviceError> {
        let length = length.min(sequence.cached.len());
        let kv = self.model.kv_fork(sequence.kv, length)?;
        Ok(TokenSequence { kv, cached: sequence.cached[..length].to_vec() })
    }

    /// Bytes of KV cache that it takes to let a sequence grow to `length` tokens.
    pub fn kv_needed(&self, sequence: &TokenSequence, length: usize) -> u64 {
        self.model.kv_needed(sequence.kv, length)
    }

    /// Bytes of KV cache that a sequence of `length` tokens takes that shares nothing.
    pub fn kv_needed_anew(&self, length: usize) -> u64 {
        self.model.kv_needed_anew(length)
    }

    /// The most rows that a pass holds.
    pub fn widest(&self) -> usize {
        self.model.gears().last().copied().unwrap_or(1)
    }

    /// Closes a sequence and frees its cache.
    pub fn close_sequence(&mut self, sequence: TokenSequence) {
        self.model.kv_close(sequence.kv);
    }

    /// Brings the sequence's cache to hold exactly `tokens` and leaves the
    /// logits of the last `wanted` of them in `logits`. What the cache holds
    /// beyond the common prefix is rolled back; what it lacks runs in as few
    /// passes as the widest gear allows.
    ///
    /// # Errors
    /// When the device fails; the cache then holds a prefix of `tokens`.
    ///
    /// # Panics
    /// When more logits are wanted than there are tokens.
    pub fn extend(
        &mut self,
        sequence: &mut TokenSequence,
        tokens: &[u32],
        wanted: usize,
        logits: &mut Logits,
    ) -> Result<Pass, DeviceError> {
        self.prepare(sequence, tokens, wanted);
        logits.reset(self.description.vocabulary);
        let mut total = Pass::default();
        let widest = self.widest();
        while sequence.cached.len() < tokens.len() {
            let end = tokens.len().min(sequence.cached.len() + widest);
            // Those wanted may stand in more than one pass.
            let wanted = end.saturating_sub(tokens.len() - wanted);
            let part = Part { sequence: &mut *sequence, tokens: &tokens[..end], wanted };
            let pass = self.add_pass(&mut [part], logits)?;
            total.rows += pass.rows;
            total.seconds += pass.seconds;
        }
        Ok(total)
    }

    /// Rolls a sequence back to what it has in common with `tokens`, and further to
    /// where the last `wanted` of them begin: tokens whose logits are wanted must run
    /// even if they are held.
    ///
    /// # Panics
    /// When more logits are wanted than there are tokens.
    pub fn prepare(&mut self, sequence: &mut TokenSequence, tokens: &[u32], wanted: usize) {
        assert!(wanted <= tokens.len(), "logits of more tokens than there are");
        let common = sequence.common(tokens);
        self.roll_back(sequence, common.min(tokens.len() - wanted));
    }

    /// Runs what several sequences lack in one pass. `logits` then holds the rows that
    /// were wanted, part after part.
    ///
    /// # Errors
    /// When the rows fit no gear or the device fails; the sequences are then as they
    /// were.
    pub fn pass(
        &mut self,
        parts: &mut [Part<'_>],
        logits: &mut Logits,
    ) -> Result<Pass, DeviceError> {
        logits.reset(self.description.vocabulary);
        self.add_pass(parts, logits)
    }

    /// As [`Tier::pass`], its logits after those that are there.
    fn add_pass(
        &mut self,
        parts: &mut [Part<'_>],
        logits: &mut Logits,
    ) -> Result<Pass, DeviceError> {
        let mut rows = std::mem::take(&mut self.rows);
        rows.clear();
        for part in parts.iter() {
            let first_wanted = part.tokens.len().saturating_sub(part.wanted);
            rows.extend((part.sequence.cached.len()..part.tokens.len()).map(|i| Row {
                token: part.tokens[i],
                position: i as u32,
                kv: part.sequence.kv,
                logits: i >= first_wanted,
            }));
        }
        let pass = self.run(&rows, logits);
        self.rows = rows;
        let pass = pass?;
        for part in parts {
            let held = part.sequence.cached.len();
            part.sequence.cached.extend_from_slice(&part.tokens[held..]);
        }
        Ok(pass)
    }

    /// Forgets the sequence's tokens from `length` on.
    pub fn roll_back(&mut self, sequence: &mut TokenSequence, length: usize) {
        if length < sequence.cached.len() {
            sequence.cached.truncate(length);
            self.model.kv_truncate(sequence.kv, length);
        }
    }

    /// One pass in the smallest gear that holds it, compiling that first if
    /// need be, and measuring what it cost.
    fn run(&mut self, rows: &[Row], logits: &mut Logits) -> Result<Pass, DeviceError> {
        let fits = |&(_, gear): &(usize, &Gear)| gear.rows as usize >= rows.len();
        let Some((index, gear)) = self.facts.gears.iter().enumerate().find(fits) else {
            return Err(DeviceError::BadPass(format!("{} rows fit no gear", rows.len())));
        };
        let width = gear.rows as usize;
        let mut seconds = 0.0;
        if !self.model.is_compiled(width) {
            let start = self.clock.now().as_secs_f64();
            seconds += self.model.compile(graph::build(&self.description, width))?;
            self.facts.gears[index].compile_milliseconds = Some((seconds * 1e3) as f32);
            self.note_compiled();
            self.graph_use(width).note_compiled(start, seconds);
        }
        seconds += self.model.lead_in(rows);
        let cost = self.model.run(width, rows, logits)?;
        self.graph_use(width).note_pass(rows.len());
        let milliseconds = (cost * 1e3) as f32;
        let average = &mut self.facts.gears[index].milliseconds;
        if self.warm {
            *average = Some(average.map_or(milliseconds, |a| a + COST_WEIGHT * (milliseconds - a)));
        }
        self.warm = true;
        Ok(Pass { rows: rows.len(), seconds: seconds + cost })
    }
}

/// Number of weights, and the bytes of them that one pass reads (of an
/// embedding table that is not the output as well, a pass reads single rows).
fn weights_read(gguf: &GgufFile, model: &ModelDescription) -> Result<(u64, u64), ModelError> {
    let mut parameters = 0;
    for name in gguf.tensor_names() {
        let view = gguf.tensor(name)?;
        parameters += (view.rows * view.columns) as u64;
    }
    let graph = graph::build(model, 1);
    let products = graph.ops.iter().filter(|op| !matches!(op, graph::Op::Embed { .. }));
    let mut bytes = 0;
    for weight in products.flat_map(graph::Op::weights) {
        bytes += gguf.tensor(&weight.name)?.bytes.len() as u64;
    }
    Ok((parameters, bytes))
}
