//! Descriptions from metadata alone: files of no real weights.

use candle_core::quantized::gguf_file::{self, Value};
use candle_core::quantized::{GgmlDType, QTensor};
use candle_core::{Device, Tensor};

use super::*;

/// A description read from a file with these keys of its architecture, and an
/// embedding table of 8 tokens of 32 components.
pub(crate) fn describe(
    architecture: &str,
    change: &[(&str, Value)],
) -> Result<ModelDescription, String> {
    let mut keys: Vec<(String, Value)> = [
        ("block_count", Value::U32(12)),
        ("context_length", Value::U32(4096)),
        ("embedding_length", Value::U32(32)),
        ("feed_forward_length", Value::U32(64)),
        ("attention.head_count", Value::U32(4)),
        ("attention.head_count_kv", Value::U32(2)),
        ("attention.layer_norm_rms_epsilon", Value::F32(1e-6)),
    ]
    .iter()
    .chain(change)
    .map(|(key, value)| (format!("{architecture}.{key}"), value.clone()))
    .collect();
    keys.push(("general.architecture".to_owned(), Value::String(architecture.to_owned())));
    let keys: Vec<(&str, &Value)> = keys.iter().map(|(key, value)| (key.as_str(), value)).collect();
    let table = Tensor::zeros((8, 32), candle_core::DType::F32, &Device::Cpu).unwrap();
    let table = QTensor::quantize(&table, GgmlDType::F32).unwrap();
    let file = tempfile::NamedTempFile::new().unwrap();
    let tensors = [("token_embd.weight", &table)];
    gguf_file::write(&mut file.as_file(), &keys, &tensors).unwrap();
    let gguf = GgufFile::open(file.path()).unwrap();
    ModelDescription::from_gguf(&gguf).map_err(|error| error.to_string())
}

/// Gemma 3 as its files describe it, but small.
pub(crate) fn gemma3() -> ModelDescription {
    let keys = [
        ("attention.key_length", Value::U32(16)),
        ("attention.sliding_window", Value::U32(512)),
        ("rope.freq_base", Value::F32(1e6)),
    ];
    describe("gemma3", &keys).unwrap()
}

#[test]
fn five_of_six_layers_of_gemma3_are_local() {
    let model = gemma3();
    for layer in 0..model.layers {
        let global = layer == 5 || layer == 11;
        assert_eq!(model.window(layer), (!global).then_some(512), "layer {layer}");
        assert_eq!(model.rope_base(layer), if global { 1e6 } else { 1e4 }, "layer {layer}");
    }
    assert_eq!(model.attention_scale(), 0.25);
    assert_eq!(model.embedding_scale, 32f32.sqrt());
    assert!(model.tied_output);
}

#[test]
fn without_a_window_all_layers_are_global() {
    for change in [vec![], vec![("attention.sliding_window", Value::U32(0))]] {
        let model = describe("gemma3", &change).unwrap();
        assert!((0..model.layers).all(|layer| model.window(layer).is_none()));
    }
    // An architecture without local layers has none whatever its file says.
    let model = describe("llama", &[("attention.sliding_window", Value::U32(512))]).unwrap();
    assert_eq!((model.window(0), model.rope_base(0), model.embedding_scale), (None, 1e4, 1.0));
}

#[test]
fn what_is_not_computed_is_refused() {
    let scaled = [("rope.scaling.type", Value::String("linear".into()))];
    assert!(describe("gemma3", &scaled).unwrap_err().contains("scaled rotary frequencies"));
    let capped = [("final_logit_softcapping", Value::F32(30.0))];
    assert!(describe("gemma3", &capped).unwrap_err().contains("capped logits"));
    assert!(describe("gemma3", &[("final_logit_softcapping", Value::F32(0.0))]).is_ok());
    let window = ("attention.sliding_window", Value::U32(8));
    let pattern = |n| ("attention.sliding_window_pattern", Value::U32(n));
    assert!(describe("gemma3", &[window.clone(), pattern(0)]).is_err());
    assert_eq!(describe("gemma3", &[window, pattern(4)]).unwrap().window(3), None);
    let unknown = describe("gemma9", &[]).unwrap_err();
    assert!(unknown.contains("llama, qwen2, gemma3"), "{unknown}");
}
