//! Arbitrary bytes as a policy's component: it is refused with one sentence, or
//! it loads and every hook is answered within bounds. Whether it is signed can be told,
//! and what can be signed verifies.

#![no_main]

use std::sync::LazyLock;
use std::time::Duration;

use aio_core::{HostInfo, Load, RequestFacts, RoundContext, TierInfo, Verdict};
use aio_policy::{
    Limits, LoadedPolicy, PolicyRuntime, PolicySource, Setup, SigningKey, TrustedKeys, sign, verify,
};
use libfuzzer_sys::fuzz_target;

static RUNTIME: LazyLock<PolicyRuntime> =
    LazyLock::new(|| PolicyRuntime::new().expect("this machine runs WebAssembly"));

/// Nobody's key, the one that has signed seeds (`zoo_seeds`).
static KEY: LazyLock<SigningKey> = LazyLock::new(|| {
    let key = format!("302e020100300506032b657004220420{}", "07".repeat(32));
    key.parse().expect("it is a key")
});
static TRUSTED: LazyLock<TrustedKeys> = LazyLock::new(|| KEY.public().into());

fn host() -> HostInfo {
    let tier = TierInfo {
        name: "only".into(),
        parameters: 1,
        weight_bytes: 1,
        kv_bytes_per_token: 1,
        context: 2048,
        tokenizer: 0,
    };
    HostInfo {
        version: "0".into(),
        device: "none".into(),
        tiers: vec![tier.clone(), tier],
        max_draft_length: 16,
        max_ngram: 8,
    }
}

/// Small, so that an input costs little time.
fn limits() -> Limits {
    Limits {
        fuel: 1_000_000,
        init_fuel: 2_000_000,
        deadline: Duration::from_millis(100),
        init_deadline: Duration::from_millis(100),
        memory_bytes: 4 << 20,
        component_bytes: 200_000,
        ..Limits::default()
    }
}

fuzz_target!(|bytes: &[u8]| {
    match sign(bytes, &KEY) {
        Ok(signed) => {
            assert!(verify(&signed, &TRUSTED).is_ok());
            // What verifies already is what signing makes of it: there is one form.
            assert_eq!(verify(bytes, &TRUSTED).is_ok(), signed == bytes);
        }
        Err(error) => assert_eq!(verify(bytes, &TRUSTED), Err(error)),
    }
    let source = PolicySource::Bytes { name: "fuzz".into(), bytes: bytes.into() };
    let mut policy = match LoadedPolicy::load(&RUNTIME, &source, Setup::new(host()).limits(limits()))
    {
        Ok(policy) => policy,
        Err(error) => {
            let sentence = error.to_string();
            assert!(!sentence.chars().any(char::is_control), "{sentence:?}");
            assert!(sentence.len() < 2048, "{sentence}");
            return;
        }
    };
    let facts = RequestFacts {
        request: 1,
        prompt_tokens: vec![10, 10],
        max_tokens: 16,
        temperature: 0.0,
        chat: false,
        tiers: vec![],
        load: Load::default(),
        probes: vec![],
    };
    let asked = policy.plan(&facts);
    if let Verdict::Decided(plan) = asked.answer {
        assert!(plan.tier < 2 && plan.draft.length <= 16, "{plan:?}");
        assert!(plan.clone().clamped(&host()).changes.is_empty(), "{plan:?}");
    }
    assert!(policy.rounds(&RoundContext::default(), &[]).answer.is_empty());
    policy.finished(&[]);
    policy.snapshot();
});
