//! What the tests of this crate share: a host of two tiers, facts, and the
//! hostile components of `tests/policies` at the repository's top.

#![allow(dead_code, reason = "each test file uses its own part")]
#![allow(clippy::unwrap_used, reason = "tests")]

use std::path::PathBuf;

use aio_core::{
    Draft, Gear, HostInfo, Load, ProbeResult, RequestFacts, RoundFacts, TierFacts, TierInfo,
};
use aio_policy::{LoadError, LoadedPolicy, PolicyRuntime, PolicySource, Setup};

pub fn host() -> HostInfo {
    let tier = |name: &str, size: u64| TierInfo {
        name: name.into(),
        parameters: size,
        weight_bytes: size / 2,
        kv_bytes_per_token: 1024,
        context: 32_768,
        tokenizer: 0,
    };
    HostInfo {
        version: "0.1.0".into(),
        device: "none".into(),
        tiers: vec![tier("small", 500_000_000), tier("large", 1_500_000_000)],
        max_draft_length: 48,
        max_ngram: 12,
    }
}

pub fn facts(probes: Vec<ProbeResult>) -> RequestFacts {
    let gear = |rows| Gear {
        rows,
        compiled: true,
        milliseconds: Some(rows as f32),
        compile_milliseconds: None,
    };
    let tier = TierFacts { gears: [1, 2, 4, 8].map(gear).into() };
    RequestFacts {
        request: 1,
        prompt_tokens: vec![100, 100],
        max_tokens: 64,
        temperature: 0.0,
        chat: true,
        tiers: vec![tier.clone(), tier],
        load: Load { running: 1, queued: 0 },
        probes,
    }
}

pub fn probe_result(probabilities: [f32; 3], entropy: f32) -> ProbeResult {
    ProbeResult {
        tier: 0,
        probabilities: probabilities.into(),
        other: 0.1,
        entropy,
        milliseconds: 12.0,
    }
}

pub fn round(request: u64) -> RoundFacts {
    RoundFacts {
        request,
        tier: 1,
        round: 3,
        prompt_tokens: 100,
        committed: 5,
        remaining: 59,
        draft: Draft::NONE,
        recent_rounds: 1,
        recent_drafted: 0,
        recent_accepted: 0,
        lookup_match: 0,
    }
}

/// A component of `tests/policies`.
pub fn hostile(name: &str) -> PolicySource {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../tests/policies");
    let bytes = wat::parse_file(folder.join(name).with_extension("wat")).unwrap();
    PolicySource::Bytes { name: name.into(), bytes }
}

pub fn load(source: &PolicySource, setup: Setup) -> Result<LoadedPolicy, LoadError> {
    LoadedPolicy::load(&PolicyRuntime::new()?, source, setup)
}
