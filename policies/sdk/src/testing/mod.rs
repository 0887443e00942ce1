//! For tests on the machine that builds a policy: facts by hand, and a simulated
//! decode loop that tells how many milliseconds a policy makes an answer take.
//! Not there where the target is WebAssembly.
//!
//! - [`host`], [`request_facts`], [`round_facts`], [`context`] make facts with
//!   usual values; change the fields that a test is about.
//! - [`Engine`] runs [`Answer`]s, recorded or made up, under a policy or a static setting.
//! - [`assert_schema_matches`] holds a configuration's schema against its type.
//!
//! It must not know any particular policy, and is no model of the host's insides:
//! it follows the contract.

mod answer;
mod engine;

pub use answer::{Answer, Kind};
pub use engine::{Engine, Ran};

use serde::de::DeserializeOwned;

use crate::{
    Draft, Gear, HostInfo, Load, RequestFacts, RoundContext, RoundFacts, TierFacts, TierInfo,
    parse_config,
};

/// Milliseconds of passes by rows: a 1.5B target on a processor whose kernels
/// verify 8 tokens for the price of one.
pub const FLAT: &[(u32, f32)] = &[
    (1, 22.3),
    (2, 22.5),
    (3, 23.0),
    (4, 24.0),
    (6, 23.8),
    (8, 23.4),
    (12, 30.0),
    (16, 40.6),
    (32, 76.0),
    (64, 150.0),
    (128, 270.0),
    (256, 520.0),
    (512, 1000.0),
];

/// Milliseconds of passes by rows of a 0.5B draft model on the same processor.
pub const FLAT_DRAFT: &[(u32, f32)] = &[
    (1, 8.7),
    (2, 8.8),
    (3, 9.0),
    (4, 9.2),
    (6, 9.8),
    (8, 10.2),
    (12, 12.0),
    (16, 15.0),
    (32, 27.0),
    (64, 50.0),
    (128, 90.0),
    (256, 170.0),
    (512, 330.0),
];

/// Milliseconds of passes by rows: the same target where a further row costs some of
/// what the first does.
pub const RISING: &[(u32, f32)] = &[
    (1, 37.3),
    (2, 40.2),
    (3, 43.5),
    (4, 46.9),
    (6, 52.0),
    (8, 56.9),
    (12, 75.0),
    (16, 93.8),
    (32, 150.0),
    (64, 260.0),
    (128, 490.0),
    (256, 980.0),
    (512, 1950.0),
];

/// Milliseconds of passes by rows of a 0.5B draft model on that processor.
pub const RISING_DRAFT: &[(u32, f32)] = &[
    (1, 13.2),
    (2, 14.1),
    (3, 15.2),
    (4, 16.2),
    (6, 18.0),
    (8, 19.7),
    (12, 26.0),
    (16, 32.0),
    (32, 50.0),
    (64, 90.0),
    (128, 170.0),
    (256, 330.0),
    (512, 650.0),
];

/// Milliseconds of passes by rows where every row costs: llama.cpp on the same
/// processor as [`FLAT`].
pub const STEEP: &[(u32, f32)] =
    &[(1, 28.4), (2, 41.0), (4, 61.9), (8, 103.6), (16, 180.0), (32, 320.0), (512, 3500.0)];

/// A host with tiers of these names, small to large, that share a tokenizer. Each
/// has three times the weights of the one before it.
pub fn host(tiers: &[&str]) -> HostInfo {
    let tier = |(i, name): (u32, &&str)| TierInfo {
        name: (*name).into(),
        parameters: 500_000_000 * 3u64.pow(i),
        weight_bytes: 400_000_000 * 3u64.pow(i),
        kv_bytes_per_token: 12_288,
        context: 32_768,
        tokenizer: 0,
    };
    HostInfo {
        version: "0.1.0".into(),
        device: "simulated".into(),
        tiers: (0..).zip(tiers).map(tier).collect(),
        max_draft_length: 48,
        max_ngram: 12,
    }
}

/// A tier whose gears were measured: rows and milliseconds.
pub fn measured(gears: &[(u32, f32)]) -> TierFacts {
    let gear = |&(rows, ms): &(u32, f32)| Gear {
        rows,
        compiled: true,
        milliseconds: Some(ms),
        compile_milliseconds: Some(0.0),
    };
    TierFacts { gears: gears.iter().map(gear).collect() }
}

/// Request 1, alone: a conversation of so many tokens on each of `tiers` tiers.
pub fn request_facts(tiers: usize, prompt_tokens: u32) -> RequestFacts {
    RequestFacts {
        request: 1,
        prompt_tokens: vec![prompt_tokens; tiers],
        max_tokens: 256,
        temperature: 0.0,
        chat: true,
        tiers: vec![TierFacts { gears: vec![] }; tiers],
        load: Load { running: 1, queued: 0 },
        probes: vec![],
    }
}

/// What is common to a call of `rounds` about one request.
pub fn context(tiers: Vec<TierFacts>) -> RoundContext {
    RoundContext { tiers, acceptance: vec![], load: Load { running: 1, queued: 0 } }
}

/// A request on a tier after its first round, which drafted nothing.
pub fn round_facts(request: u64, tier: u32) -> RoundFacts {
    RoundFacts {
        request,
        tier,
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

/// Checks that a schema's properties are the fields of the configuration, and
/// that the type has its default where the operator gives none. The type needs
/// `deny_unknown_fields`.
///
/// # Panics
/// When they differ, with what does.
#[allow(clippy::panic, reason = "an assertion")]
pub fn assert_schema_matches<C: DeserializeOwned + Default>(schema: &str) {
    let schema: serde_json::Value = match serde_json::from_str(schema) {
        Ok(schema) => schema,
        Err(error) => panic!("the schema is not JSON: {error}"),
    };
    let properties = schema["properties"].as_object().into_iter().flatten();
    let mut described: Vec<&str> = properties.map(|(name, _)| name.as_str()).collect();
    // serde names a struct's fields when it meets one that it does not know: at
    // the odd places between backticks, after the unknown one itself.
    let refusal = match parse_config::<C>(r#"{"?": 0}"#) {
        Ok(_) => panic!("the configuration takes fields that it does not know"),
        Err(refusal) => refusal,
    };
    let names = refusal.rsplit("unknown field `?`").next().unwrap_or_default();
    let mut fields: Vec<&str> = names.split('`').skip(1).step_by(2).collect();
    described.sort_unstable();
    fields.sort_unstable();
    assert_eq!(described, fields, "the schema's properties are not the configuration's fields");
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde::Deserialize;

    #[derive(Debug, Default, Deserialize)]
    #[serde(default, deny_unknown_fields)]
    #[allow(dead_code, reason = "only its fields' names matter")]
    struct Config {
        length: u32,
        name: String,
        third: bool,
    }

    #[test]
    fn a_schema_with_the_fields_matches() {
        assert_schema_matches::<Config>(r#"{"properties": {"name": 0, "third": 0, "length": 0}}"#);
        assert_schema_matches::<crate::Setting>(crate::Setting::SCHEMA);
    }

    #[test]
    #[should_panic(expected = "not the configuration's fields")]
    fn a_schema_that_lacks_a_field_does_not() {
        assert_schema_matches::<Config>(r#"{"properties": {"name": {}, "length": {}}}"#);
    }

    #[test]
    #[should_panic(expected = "not the configuration's fields")]
    fn a_schema_with_a_field_too_many_does_not() {
        let schema = r#"{"properties": {"name": 0, "third": 0, "length": 0, "width": 0}}"#;
        assert_schema_matches::<Config>(schema);
    }
}
