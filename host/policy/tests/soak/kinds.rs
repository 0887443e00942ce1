//! Policies that can be told apart by what they answer. Each is configured with a
//! number; what it says depends on that number and on nothing else.

use aio_core::{Plan, PolicyIdentity};

use super::stamped;

/// A policy of a kind.
#[derive(Clone)]
pub struct Kind {
    /// The component.
    pub bytes: Vec<u8>,
    /// Its configuration with a number.
    pub config: fn(u64) -> String,
    /// What a plan must say under that number.
    pub stamp: fn(u64) -> String,
}

/// A few lines of WebAssembly that stamp plans and round decisions.
pub fn stamped() -> Kind {
    Kind {
        bytes: stamped::stamped('S', 1),
        config: stamped::config,
        stamp: |number| stamped::stamp('S', number),
    }
}

/// The shipped policy `fixed`, in Rust: 48 draft lengths on two tiers.
pub fn fixed() -> Kind {
    Kind {
        bytes: prebuilt("fixed"),
        config: |number| {
            let (tier, length) = fixed_setting(number);
            format!(r#"{{"tier": {tier}, "drafter": "lookup", "draft_length": {length}}}"#)
        },
        stamp: |number| {
            let (tier, length) = fixed_setting(number);
            let tier = ["small", "large"][tier as usize];
            format!("configured: {tier} drafting up to {length} by lookup")
        },
    }
}

fn fixed_setting(number: u64) -> (u64, u64) {
    (number / 48 % 2, 1 + number % 48)
}

/// The shipped policy `goodput`, in Rust; the number changes nothing in its answers.
pub fn goodput() -> Kind {
    Kind { bytes: prebuilt("goodput"), config: |_| "{}".into(), stamp: |_| "goodput".into() }
}

/// `examples/policies/latency-guard`, in JavaScript: the number is its budget.
pub fn latency_guard(bytes: Vec<u8>) -> Kind {
    Kind {
        bytes,
        config: |number| format!(r#"{{"budgetMilliseconds": {}}}"#, 1_000_000 + number),
        stamp: |number| format!("budget {} ms", 1_000_000 + number),
    }
}

/// What a plan says of the component and the configuration that it comes from;
/// `None` for the safe plan and for anything else that no policy here says.
pub fn stamp_of(policy: &PolicyIdentity, plan: &Plan) -> Option<String> {
    if policy.name == "goodput" {
        return Some(policy.name.clone());
    }
    if plan.label == "fixed" {
        return Some(plan.reason.clone());
    }
    if plan.label.starts_with('S') {
        return Some(plan.label.clone());
    }
    let budget = plan.reason.find("budget ")?;
    let end = plan.reason[budget..].find(" ms")?;
    Some(plan.reason[budget..budget + end + 3].to_owned())
}

/// The component with a section that means nothing and makes it another one: it
/// must be compiled anew.
pub fn variant(component: &[u8], number: u64) -> Vec<u8> {
    let content = [b"\x04salt".as_slice(), &number.to_le_bytes()].concat();
    let length = u8::try_from(content.len()).unwrap();
    [component, &[0, length], &content].concat()
}

/// A shipped policy.
pub fn prebuilt(name: &str) -> Vec<u8> {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../policies/prebuilt");
    std::fs::read(folder.join(name).with_extension("wasm")).unwrap()
}
