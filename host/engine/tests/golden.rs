//! Agreement with an independent engine: the models, fed 512 tokens of real
//! text, must predict what llama.cpp predicts. The golden files hold its
//! predictions; their `engine` field says how they were made.

mod common;

use aio_engine::Tier;
use aio_engine::device::{Logits, by_name};
use aio_engine::sampling::{argmax, log_probability};

#[derive(serde::Deserialize)]
struct Golden {
    perplexity: f64,
    tokens: Vec<u32>,
    top1: Vec<u32>,
    next_logprob: Vec<f64>,
}

/// Feeds a golden file's tokens and compares; `None` when the model is absent.
fn compare(name: &str, golden: &str) -> Option<()> {
    let golden: Golden = serde_json::from_str(golden).unwrap();
    let path = common::model_path(name)?;
    let device = by_name("candle").unwrap();
    let mut tier = Tier::open(name, &path, &*device, None).unwrap();
    let mut sequence = tier.open_sequence();
    let mut logits = Logits::default();
    let n = golden.tokens.len();
    tier.extend(&mut sequence, &golden.tokens, n, &mut logits).unwrap();
    let same = (0..n).filter(|&i| argmax(logits.row(i)) == golden.top1[i]).count();
    let ours: Vec<f64> =
        (1..n).map(|i| log_probability(logits.row(i - 1), golden.tokens[i])).collect();
    let perplexity = (-ours.iter().sum::<f64>() / ours.len() as f64).exp();
    let mean_difference = ours.iter().zip(&golden.next_logprob).map(|(a, b)| (a - b).abs());
    let mean_difference = mean_difference.sum::<f64>() / ours.len() as f64;
    let (agreement, ratio) = (same as f64 / n as f64, perplexity / golden.perplexity);
    eprintln!(
        "{name}: top-1 agreement {:.2} %, perplexity {perplexity:.4} ({:+.2} % of llama.cpp's {:.4}), mean difference of log-probabilities {mean_difference:.4}",
        agreement * 100.0,
        (ratio - 1.0) * 100.0,
        golden.perplexity
    );
    assert!(agreement >= 0.98, "{name}: top-1 agreement {agreement}");
    assert!((ratio - 1.0).abs() <= 0.01, "{name}: perplexity ratio {ratio}");
    Some(())
}

#[test]
fn smollm2_135m_agrees_with_llama_cpp() {
    compare("smollm2-135m", include_str!("../../../tests/fixtures/golden/smollm2-135m.json"));
}

#[test]
fn qwen_0_5b_agrees_with_llama_cpp() {
    let golden = include_str!("../../../tests/fixtures/golden/qwen2.5-coder-0.5b.json");
    compare("qwen2.5-coder-0.5b", golden);
}
