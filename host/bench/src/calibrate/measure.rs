//! Measuring passes of the `cpu` device, through the same tier that answers requests.

use std::sync::Arc;

use aio_engine::device::Logits;
use aio_engine::device::cpu::CpuDevice;
use aio_engine::device::npu_sim::StoredWeights;
use aio_engine::gguf::GgufFile;
use aio_engine::model::{ModelDescription, ModelError};
use aio_engine::{OpenError, Tier, TokenSequence};
use aio_serve::TierSource;

use crate::BenchError;
use crate::engine::tokens;

/// Seconds of a round that short passes are repeated for.
const REPEATED_SECONDS: f64 = 0.08;

/// A pass over one sequence.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Pass {
    /// Its rows.
    pub rows: usize,
    /// Tokens in the cache before it.
    pub context: usize,
    /// Rows whose logits are wanted: the last ones.
    pub logits: usize,
}

/// What a model is to a cost model.
#[derive(Debug, Clone)]
pub(super) struct Shape {
    pub name: String,
    pub description: ModelDescription,
    pub stored: StoredWeights,
}

impl Shape {
    /// The shape of the model in a file.
    fn open(source: &TierSource) -> Result<Self, OpenError> {
        let gguf = Arc::new(GgufFile::open(&source.path).map_err(ModelError::from)?);
        let description = ModelDescription::from_gguf(&gguf)?;
        let stored = StoredWeights::of(&gguf, &description).map_err(ModelError::from)?;
        Ok(Self { name: source.name.clone(), description, stored })
    }
}

/// A model under measurement.
pub(super) struct Subject {
    pub shape: Shape,
    tier: Tier,
    tokens: Vec<u32>,
    /// Sequences filled to each context, by their length.
    filled: Vec<(usize, TokenSequence)>,
    logits: Logits,
}

impl Subject {
    /// Opens the model.
    pub fn open(source: &TierSource, device: &CpuDevice) -> Result<Self, BenchError> {
        let open_error = |e| BenchError::Open { name: source.name.clone(), source: Box::new(e) };
        let shape = Shape::open(source).map_err(open_error)?;
        let tier = Tier::open(&source.name, &source.path, device, None).map_err(open_error)?;
        Ok(Self { shape, tier, tokens: Vec::new(), filled: Vec::new(), logits: Logits::default() })
    }

    /// The first of the passes that the model cannot run, with the reason.
    pub fn refuses(&self, passes: &[Pass]) -> Option<String> {
        let (name, widest, holds) = (&self.shape.name, self.tier.widest(), self.tier.context());
        let wide = passes.iter().find(|pass| pass.rows > widest);
        let long = passes.iter().find(|pass| pass.context + pass.rows > holds);
        let too_wide = wide.map(|pass| {
            format!("a pass of {name} holds {widest} rows, but {} were asked for", pass.rows)
        });
        too_wide.or_else(|| {
            long.map(|pass| {
                format!(
                    "{name} holds {holds} tokens, but {} in a context of {} were asked for; \
                     give less with --context",
                    pass.rows, pass.context
                )
            })
        })
    }

    /// Bytes that a component of a key or value takes.
    pub fn kv_bytes(&self) -> f64 {
        let model = &self.shape.description;
        let components = 2 * model.layers * model.kv_width();
        f64::from(self.tier.kv_bytes_per_token()) / components as f64
    }

    /// Fills a sequence up to each context, and runs a pass in each gear so that no round
    /// meets cold memory or compiles one.
    pub fn prepare(&mut self, passes: &[Pass]) -> Result<(), BenchError> {
        let most = passes.iter().map(|pass| pass.context + pass.rows).max().unwrap_or(0);
        self.tokens = tokens(most, self.tier.description().vocabulary as u32);
        let mut contexts: Vec<usize> = passes.iter().map(|pass| pass.context).collect();
        contexts.sort_unstable();
        contexts.dedup();
        // The longest is run, the others are its beginnings.
        let mut longest = self.tier.open_sequence();
        if let Some(&context @ 1..) = contexts.last() {
            self.tier.extend(&mut longest, &self.tokens[..context], 1, &mut self.logits)?;
        }
        for context in contexts {
            let sequence = self.tier.fork(&longest, context)?;
            self.filled.push((context, sequence));
        }
        self.tier.close_sequence(longest);
        for &pass in passes {
            let gear = self.tier.facts().gears.iter().find(|gear| gear.rows as usize >= pass.rows);
            if gear.is_some_and(|gear| !gear.compiled) {
                self.once(pass)?;
            }
        }
        Ok(())
    }

    /// Seconds of such a pass, a short one's the mean of several.
    pub fn measure(&mut self, pass: Pass) -> Result<f64, BenchError> {
        let first = self.once(pass)?;
        let times = ((REPEATED_SECONDS / first) as usize).max(1);
        let mut all = first;
        for _ in 1..times {
            all += self.once(pass)?;
        }
        Ok(all / times as f64)
    }

    fn once(&mut self, pass: Pass) -> Result<f64, BenchError> {
        let Some((_, sequence)) = self.filled.iter_mut().find(|(c, _)| *c == pass.context) else {
            return Err(BenchError::Request(format!("no context of {} is filled", pass.context)));
        };
        let tokens = &self.tokens[..pass.context + pass.rows];
        let done = self.tier.extend(sequence, tokens, pass.logits, &mut self.logits)?;
        self.tier.roll_back(sequence, pass.context);
        Ok(done.seconds)
    }
}
