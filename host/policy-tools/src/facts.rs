//! Made-up facts with usual values: a host of two tiers that share a tokenizer,
//! measured on a processor that verifies 8 tokens for the price of one. What a
//! situation or a test case is about it changes itself.

use std::collections::BTreeMap;

use aio_core::{
    Acceptance, Draft, Drafter, FinishReason, Gear, Granted, HostInfo, Load, Outcome, ProbeResult,
    RequestFacts, RoundContext, RoundFacts, TierFacts, TierInfo,
};

/// Rows of the gears, and milliseconds of a pass on a tier of 0.5 and of 1.5
/// billion weights.
pub(crate) const GEARS: [(u32, [f32; 2]); 10] = [
    (1, [8.7, 22.3]),
    (2, [8.8, 22.5]),
    (4, [9.2, 24.0]),
    (8, [10.2, 23.4]),
    (16, [15.0, 40.6]),
    (32, [27.0, 76.0]),
    (64, [50.0, 150.0]),
    (128, [90.0, 270.0]),
    (256, [170.0, 520.0]),
    (512, [330.0, 1000.0]),
];

/// Names of the tiers, small to large: those of the default tier set, so that a
/// configuration that names one of them is accepted.
const NAMES: [&str; 3] = ["qwen2.5-coder-0.5b", "qwen2.5-coder-1.5b", "third"];

/// A tier, by its place among the others.
pub(crate) fn tier(place: usize) -> TierInfo {
    let size = 3u64.saturating_pow(u32::try_from(place).unwrap_or(u32::MAX));
    TierInfo {
        name: NAMES.get(place).map_or_else(|| format!("tier-{place}"), |name| (*name).to_owned()),
        parameters: size.saturating_mul(500_000_000),
        weight_bytes: size.saturating_mul(400_000_000),
        kv_bytes_per_token: 12_288,
        context: 32_768,
        tokenizer: 0,
    }
}

/// A host with a tier for each of these tokenizers, small to large.
pub(crate) fn host(tokenizers: &[u32]) -> HostInfo {
    let tiers = tokenizers.iter().enumerate();
    HostInfo {
        version: "0.1.0".into(),
        device: "cpu".into(),
        tiers: tiers.map(|(i, &tokenizer)| TierInfo { tokenizer, ..tier(i) }).collect(),
        max_draft_length: 48,
        max_ngram: 12,
    }
}

/// The usual host.
pub(crate) fn two_tiers() -> HostInfo {
    host(&[0, 0])
}

/// What was measured of a tier, by its place; or that nothing was.
pub(crate) fn tier_facts(place: usize, is_measured: bool) -> TierFacts {
    let gear = |&(rows, costs): &(u32, [f32; 2])| Gear {
        rows,
        compiled: is_measured,
        milliseconds: is_measured.then_some(costs[place.min(1)]),
        compile_milliseconds: Some(0.1),
    };
    TierFacts { gears: GEARS.iter().map(gear).collect() }
}

/// What was measured of each tier of a host.
pub(crate) fn measured(host: &HostInfo) -> Vec<TierFacts> {
    (0..host.tiers.len()).map(|place| tier_facts(place, true)).collect()
}

/// A conversation of 200 tokens on a host that runs nothing else.
pub(crate) fn request(host: &HostInfo, request: u64) -> RequestFacts {
    RequestFacts {
        request,
        prompt_tokens: vec![200; host.tiers.len()],
        max_tokens: 256,
        temperature: 0.0,
        chat: true,
        tiers: measured(host),
        load: Load { running: 1, queued: 0 },
        probes: Vec::new(),
    }
}

/// What the request has of that which can be granted.
pub(crate) fn granted(host: &HostInfo) -> Granted {
    Granted {
        prompt_text: Some("Write a Rust function that reverses a string.".into()),
        prompt_tokens: vec![(100..300).collect(); host.tiers.len()],
        metadata: BTreeMap::from([("client".to_owned(), "example".to_owned())]),
    }
}

/// How a probe of so many answers may end: sure of the first one, or of none.
pub(crate) fn probe_result(tier: u32, answers: usize, sure: bool) -> ProbeResult {
    let others = if sure { 0.02 } else { 1.0 / answers.max(1) as f32 };
    let mut probabilities = vec![others; answers];
    if let Some(first) = probabilities.first_mut() {
        *first = 1.0 - others * (answers - 1) as f32;
    }
    let entropy = probabilities.iter().filter(|p| **p > 0.0).map(|p| -p * p.ln()).sum();
    ProbeResult { tier, probabilities, other: 0.05, entropy, milliseconds: 9.0 }
}

/// Lookup was measured for 40 rounds on the largest tier.
pub(crate) fn acceptance(host: &HostInfo) -> Acceptance {
    let by_position = vec![0.8, 0.8, 0.7, 0.7, 0.6];
    Acceptance { tier: host.largest_tier(), drafter: Drafter::Lookup, by_position, rounds: 40 }
}

/// One request runs, all gears are measured.
pub(crate) fn context(host: &HostInfo) -> RoundContext {
    RoundContext {
        tiers: measured(host),
        acceptance: vec![acceptance(host)],
        load: Load { running: 1, queued: 0 },
    }
}

/// A request on the largest tier after its first round, which drafted nothing.
pub(crate) fn round(host: &HostInfo, request: u64) -> RoundFacts {
    RoundFacts {
        request,
        tier: host.largest_tier(),
        round: 1,
        prompt_tokens: 200,
        committed: 2,
        remaining: 254,
        draft: Draft::NONE,
        recent_rounds: 1,
        recent_drafted: 0,
        recent_accepted: 0,
        lookup_match: 0,
    }
}

/// A request that ended by itself on the largest tier.
pub(crate) fn outcome(host: &HostInfo, request: u64) -> Outcome {
    Outcome {
        request,
        tier: host.largest_tier(),
        label: String::new(),
        finish: FinishReason::Stop,
        prompt_tokens: 200,
        committed: 120,
        rounds: 60,
        drafted: 120,
        accepted: 59,
        prefill_milliseconds: 400.0,
        decode_milliseconds: 1500.0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_probes_result_is_a_distribution() {
        for (answers, sure) in [(2, true), (3, true), (16, true), (3, false), (1, false)] {
            let result = probe_result(0, answers, sure);
            let sum: f32 = result.probabilities.iter().sum();
            assert!((sum - 1.0).abs() < 1e-6, "{result:?}");
            assert_eq!(result.probabilities.len(), answers);
        }
        assert!(probe_result(0, 3, true).entropy < 0.3);
        assert!((probe_result(0, 4, false).entropy - 4f32.ln()).abs() < 1e-6);
        assert_eq!(probe_result(0, 0, true).probabilities, Vec::<f32>::new());
    }

    #[test]
    fn facts_speak_of_every_tier() {
        for tokenizers in [&[0][..], &[0, 0], &[0, 1], &[0, 0, 0, 3]] {
            let host = host(tokenizers);
            let facts = request(&host, 1);
            assert_eq!(facts.prompt_tokens.len(), host.tiers.len());
            assert_eq!(facts.tiers.len(), host.tiers.len());
            assert_eq!(context(&host).tiers.len(), host.tiers.len());
            assert!(host.tiers.is_sorted_by_key(|tier| tier.parameters));
        }
    }
}
