//! Agreement with an independent engine: fed 1,024 tokens of real text or more,
//! the models must predict what llama.cpp predicts. The golden files hold its
//! predictions and say how they were made. Gemma's second text is twice as long
//! as its sliding window.
//!
//! Every engine that rounds activations to 8 bits moves logits a little, and
//! near ties fall the other way: llama.cpp at one row a pass agrees with itself
//! at 512 rows in 97.1 % to 99.8 % of positions, by model and text. The reference
//! is therefore llama.cpp on the weights unpacked to f32, which has no such noise.
#![allow(clippy::unwrap_used)]

#[path = "../../../tests/support/models.rs"]
mod models;

use aio_engine::Tier;
use aio_engine::device::{DeviceOptions, Logits, by_name};
use aio_engine::sampling::{argmax, log_probability};

/// A margin, in logits, that rounding activations to 8 bits does not overturn.
const CLEAR_MARGIN: f32 = 0.75;

#[derive(serde::Deserialize)]
struct Golden {
    texts: Vec<Text>,
}

#[derive(serde::Deserialize)]
struct Text {
    name: String,
    tokens: Vec<u32>,
    perplexity: f64,
    exact: Exact,
}

#[derive(serde::Deserialize)]
struct Exact {
    perplexity: f64,
    top1: Vec<u32>,
    top1_margin: Vec<f32>,
    next_logprob: Vec<f64>,
}

/// What a device must reach.
struct Bounds {
    device: &'static str,
    /// Least share of positions where the top-1 agrees, by text.
    top1: [f64; 2],
    /// Most that the perplexity may differ from the exact one.
    perplexity: f64,
}

const fn candle(top1: [f64; 2]) -> Bounds {
    Bounds { device: "candle", top1, perplexity: 0.01 }
}

const fn cpu(top1: [f64; 2]) -> Bounds {
    Bounds { device: "cpu", top1, perplexity: 0.005 }
}

fn compare(name: &str, golden: &str, all: &[Bounds]) {
    let golden: Golden = serde_json::from_str(golden).unwrap();
    let _alone = models::alone();
    let Some(path) = models::model_path(name) else { return };
    for bounds in all {
        let device = by_name(bounds.device, DeviceOptions::default()).unwrap();
        let mut tier = Tier::open(name, &path, &*device, None).unwrap();
        for (text, &least) in golden.texts.iter().zip(&bounds.top1) {
            compare_text(&mut tier, text, bounds, least);
        }
    }
}

/// Log-probabilities of each next token, and the top-1 at each position.
fn predict(tier: &mut Tier, tokens: &[u32]) -> (Vec<f64>, Vec<u32>) {
    let mut sequence = tier.open_sequence();
    let mut logits = Logits::default();
    let n = tokens.len();
    tier.extend(&mut sequence, tokens, n, &mut logits).unwrap();
    tier.close_sequence(sequence);
    let next = (1..n).map(|i| log_probability(logits.row(i - 1), tokens[i])).collect();
    (next, (0..n).map(|i| argmax(logits.row(i))).collect())
}

fn perplexity(log_probabilities: &[f64]) -> f64 {
    (-log_probabilities.iter().sum::<f64>() / log_probabilities.len() as f64).exp()
}

fn compare_text(tier: &mut Tier, text: &Text, bounds: &Bounds, least: f64) {
    let n = text.tokens.len();
    let (ours, top1) = predict(tier, &text.tokens);
    let differs: Vec<usize> = (0..n).filter(|&i| top1[i] != text.exact.top1[i]).collect();
    let widest = differs.iter().map(|&i| text.exact.top1_margin[i]).fold(0.0, f32::max);
    let perplexity = perplexity(&ours);
    let difference = ours.iter().zip(&text.exact.next_logprob).map(|(a, b)| (a - b).abs());
    let difference = difference.sum::<f64>() / ours.len() as f64;
    let agreement = 1.0 - differs.len() as f64 / n as f64;
    let off = |reference: f64| perplexity / reference - 1.0;
    let name = format!("{} on {}", tier.name(), bounds.device);
    eprintln!(
        "{name}, {}: top-1 agreement {:.2} %, widest margin overturned {widest:.2}; perplexity \
         {perplexity:.4}, {:+.2} % of exact and {:+.2} % of quantised llama.cpp; mean difference \
         of log-probabilities {difference:.4}",
        text.name,
        agreement * 100.0,
        off(text.exact.perplexity) * 100.0,
        off(text.perplexity) * 100.0,
    );
    assert!(agreement >= least, "{name}: top-1 agreement {agreement}");
    assert!(widest <= CLEAR_MARGIN, "{name}: a clear prediction was overturned, by {widest}");
    let exact = off(text.exact.perplexity);
    assert!(exact.abs() <= bounds.perplexity, "{name}: perplexity {perplexity}, exact {exact}");
    assert!(off(text.perplexity).abs() <= 0.01, "{name}: perplexity {perplexity}");
}

#[test]
fn smollm2_135m_agrees_with_llama_cpp() {
    let golden = include_str!("../../../tests/fixtures/golden/smollm2-135m.json");
    compare("smollm2-135m", golden, &[candle([0.98, 0.98]), cpu([0.96, 0.97])]);
}

#[test]
fn qwen_0_5b_agrees_with_llama_cpp() {
    let golden = include_str!("../../../tests/fixtures/golden/qwen2.5-coder-0.5b.json");
    compare("qwen2.5-coder-0.5b", golden, &[candle([0.98, 0.98]), cpu([0.97, 0.98])]);
}

#[test]
fn qwen_1_5b_agrees_with_llama_cpp() {
    let golden = include_str!("../../../tests/fixtures/golden/qwen2.5-coder-1.5b.json");
    compare("qwen2.5-coder-1.5b", golden, &[candle([0.97, 0.98]), cpu([0.96, 0.98])]);
}

/// llama.cpp itself agrees with exact arithmetic in 94.0 % and 95.6 % here: so
/// small a model has many near ties. On the unpacked weights that the reference
/// was made with, this engine agrees in 100 % and 99.9 %.
#[test]
fn gemma_3_270m_agrees_with_llama_cpp() {
    let golden = include_str!("../../../tests/fixtures/golden/gemma-3-270m.json");
    compare("gemma-3-270m", golden, &[candle([0.93, 0.95]), cpu([0.92, 0.94])]);
}

/// The same comparison within this engine: the cpu device beside candle on weights
/// unpacked to f32, for the models small enough for that in a test.
#[test]
fn the_cpu_device_stays_close_to_the_dequantised_reference() {
    let _alone = models::alone();
    for (name, golden) in [
        ("smollm2-135m", include_str!("../../../tests/fixtures/golden/smollm2-135m.json")),
        ("gemma-3-270m", include_str!("../../../tests/fixtures/golden/gemma-3-270m.json")),
    ] {
        let golden: Golden = serde_json::from_str(golden).unwrap();
        let Some(path) = models::model_path(name) else { continue };
        let open = |device: &str| {
            let device = by_name(device, DeviceOptions::default()).unwrap();
            Tier::open(name, &path, &*device, None).unwrap()
        };
        let (mut ours, mut exact) = (open("cpu"), open("candle-f32"));
        for text in &golden.texts {
            let of = |tier: &mut Tier| perplexity(&predict(tier, &text.tokens).0);
            let (ours, exact) = (of(&mut ours), of(&mut exact));
            let off = ours / exact - 1.0;
            eprintln!("{name}, {}: {ours:.4} beside {exact:.4}, {:+.2} %", text.name, off * 100.0);
            assert!(off.abs() <= 0.005, "{name}: perplexity {ours} beside {exact}");
        }
    }
}
