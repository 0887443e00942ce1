//! The resident tiers, in order of size, and what the host tells of them.

use std::path::PathBuf;

use aio_core::{HostInfo, TierFacts, TierInfo};
use aio_engine::clock::Clock;
use aio_engine::device::{Device, Memory};
use aio_engine::{OpenError, Tier};

/// Longest draft the host carries out: past it even a perfect drafter gains
/// little, and the verify pass would leave the cheap gears.
const MAX_DRAFT_LENGTH: u32 = 64;
/// Longest lookup n-gram.
const MAX_NGRAM: u32 = 64;

/// A model to make resident.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TierSource {
    /// What to call it.
    pub name: String,
    /// Its GGUF file.
    pub path: PathBuf,
}

/// Why the tiers could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum TiersError {
    /// None were named.
    #[error("no tier is named; name at least one model with --tiers")]
    None,
    /// One failed.
    #[error("cannot open tier {name}: {source}")]
    Open {
        /// The tier.
        name: String,
        /// Why.
        source: Box<OpenError>,
    },
}

/// The resident tiers.
pub struct Tiers {
    pub(crate) tiers: Vec<Tier>,
    info: HostInfo,
    clock: Clock,
}

impl Tiers {
    /// Opens every source on `device` and puts them in order of size, small to
    /// large. `context` bounds every tier's context further, if given.
    ///
    /// # Errors
    /// When there is no source or one cannot be opened.
    pub fn open(
        sources: &[TierSource],
        device: &dyn Device,
        context: Option<usize>,
    ) -> Result<Self, TiersError> {
        let open = |source: &TierSource| {
            Tier::open(&source.name, &source.path, device, context)
                .map_err(|e| TiersError::Open { name: source.name.clone(), source: Box::new(e) })
        };
        let mut tiers = sources.iter().map(open).collect::<Result<Vec<_>, _>>()?;
        if tiers.is_empty() {
            return Err(TiersError::None);
        }
        tiers.sort_by_key(Tier::parameters);
        let info = host_info(&tiers, device.name());
        Ok(Self { tiers, info, clock: device.clock() })
    }

    /// The same models on another device, which knows nothing of them yet.
    ///
    /// # Errors
    /// When one of the files is no longer there, or the device does not take it.
    pub fn again(&self, device: &dyn Device) -> Result<Self, TiersError> {
        let again = |tier: &Tier| {
            tier.again(device)
                .map_err(|e| TiersError::Open { name: tier.name().to_owned(), source: Box::new(e) })
        };
        let tiers = self.tiers.iter().map(again).collect::<Result<Vec<_>, _>>()?;
        let info = host_info(&tiers, device.name());
        Ok(Self { tiers, info, clock: device.clock() })
    }

    /// What does not change while the host runs.
    pub fn info(&self) -> &HostInfo {
        &self.info
    }

    /// The clock that requests are timed by: the device's.
    pub fn clock(&self) -> &Clock {
        &self.clock
    }

    /// Memory the models hold now, in the order of the tiers.
    pub fn memory(&self) -> Vec<(String, Memory)> {
        self.tiers.iter().map(|t| (t.name().to_owned(), t.memory())).collect()
    }

    /// The tiers, small to large.
    pub fn all(&self) -> &[Tier] {
        &self.tiers
    }

    /// What has been measured, in the order of the tiers.
    pub(crate) fn facts(&self) -> Vec<TierFacts> {
        self.tiers.iter().map(|t| t.facts().clone()).collect()
    }
}

fn host_info(tiers: &[Tier], device: &str) -> HostInfo {
    // The first tier with the same fingerprint gives the tokenizer its number.
    let number = |tier: &Tier| {
        let same = |t: &Tier| t.tokenizer().fingerprint() == tier.tokenizer().fingerprint();
        tiers.iter().position(same).unwrap_or(0) as u32
    };
    let info = |tier: &Tier| TierInfo {
        name: tier.name().to_owned(),
        parameters: tier.parameters(),
        weight_bytes: tier.weight_bytes(),
        kv_bytes_per_token: tier.kv_bytes_per_token(),
        context: tier.context() as u32,
        tokenizer: number(tier),
    };
    HostInfo {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        device: device.to_owned(),
        tiers: tiers.iter().map(info).collect(),
        max_draft_length: MAX_DRAFT_LENGTH,
        max_ngram: MAX_NGRAM,
    }
}
