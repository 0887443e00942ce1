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

/// Opens the model and its golden file; `None` when the model is absent.
fn open(name: &str, golden: &str) -> Option<(Tier, Golden)> {
    let golden = serde_json::from_str(golden).unwrap();
    let path = models::model_path(name)?;
    let device = by_name("candle", DeviceOptions::default()).unwrap();
    Some((Tier::open(name, &path, &*device, None).unwrap(), golden))
}

/// `least` is the share of positions where the top-1 must agree, by text.
fn compare(name: &str, golden: &str, least: [f64; 2]) {
    let Some((mut tier, golden)) = open(name, golden) else { return };
    for (text, least) in golden.texts.iter().zip(least) {
        compare_text(name, &mut tier, text, least);
    }
}

fn compare_text(name: &str, tier: &mut Tier, text: &Text, least: f64) {
    let mut sequence = tier.open_sequence();
    let mut logits = Logits::default();
    let n = text.tokens.len();
    tier.extend(&mut sequence, &text.tokens, n, &mut logits).unwrap();
    tier.close_sequence(sequence);
    let differs: Vec<usize> =
        (0..n).filter(|&i| argmax(logits.row(i)) != text.exact.top1[i]).collect();
    let widest = differs.iter().map(|&i| text.exact.top1_margin[i]).fold(0.0, f32::max);
    let ours: Vec<f64> =
        (1..n).map(|i| log_probability(logits.row(i - 1), text.tokens[i])).collect();
    let perplexity = (-ours.iter().sum::<f64>() / ours.len() as f64).exp();
    let difference = ours.iter().zip(&text.exact.next_logprob).map(|(a, b)| (a - b).abs());
    let difference = difference.sum::<f64>() / ours.len() as f64;
    let agreement = 1.0 - differs.len() as f64 / n as f64;
    let off = |reference: f64| perplexity / reference - 1.0;
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
    assert!(off(text.exact.perplexity).abs() <= 0.01, "{name}: perplexity {perplexity}");
    assert!(off(text.perplexity).abs() <= 0.01, "{name}: perplexity {perplexity}");
}

#[test]
fn smollm2_135m_agrees_with_llama_cpp() {
    let golden = include_str!("../../../tests/fixtures/golden/smollm2-135m.json");
    compare("smollm2-135m", golden, [0.98, 0.98]);
}

#[test]
fn qwen_0_5b_agrees_with_llama_cpp() {
    let golden = include_str!("../../../tests/fixtures/golden/qwen2.5-coder-0.5b.json");
    compare("qwen2.5-coder-0.5b", golden, [0.98, 0.98]);
}

#[test]
fn qwen_1_5b_agrees_with_llama_cpp() {
    let golden = include_str!("../../../tests/fixtures/golden/qwen2.5-coder-1.5b.json");
    compare("qwen2.5-coder-1.5b", golden, [0.97, 0.98]);
}

/// llama.cpp itself agrees with exact arithmetic in 94.0 % and 95.6 % here: so
/// small a model has many near ties. On the unpacked weights that the reference
/// was made with, this engine agrees in 100 % and 99.9 %.
#[test]
fn gemma_3_270m_agrees_with_llama_cpp() {
    let golden = include_str!("../../../tests/fixtures/golden/gemma-3-270m.json");
    compare("gemma-3-270m", golden, [0.93, 0.95]);
}
