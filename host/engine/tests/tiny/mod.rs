//! Models of two layers with made-up weights: every operation there is, in milliseconds.
#![allow(dead_code, clippy::unwrap_used)] // Each test binary uses a part of it.

use std::sync::Arc;

use aio_engine::gguf::GgufFile;
use aio_engine::model::ModelDescription;
use candle_core::quantized::gguf_file::{self, Value};
use candle_core::quantized::{GgmlDType, QTensor};
use candle_core::{Device, Tensor};

pub const VOCABULARY: usize = 77;
/// Room for a cache that grows, and few angles to be computed.
pub const CONTEXT: usize = 400;
const WIDTH: usize = 64;
const HEADS: usize = 4;
const KV_HEADS: usize = 2;
const HEAD_WIDTH: usize = 16;
const FEED_FORWARD: usize = 96;
const LAYERS: usize = 2;

/// A model, its file and its name.
pub struct Tiny {
    pub name: &'static str,
    pub gguf: Arc<GgufFile>,
    pub description: ModelDescription,
    _file: tempfile::NamedTempFile,
}

/// Neighbours rotated, an output projection of its own.
pub fn llama() -> Tiny {
    Tiny::new("llama", &[])
}

/// Halves rotated, biases, the output projection tied to the table.
pub fn qwen2() -> Tiny {
    Tiny::new("qwen2", &[])
}

/// Norms of heads and after blocks, GELU, scaled embeddings; the first layer sees a window
/// of 8 tokens and has a rotary base of its own.
pub fn gemma3() -> Tiny {
    let keys = [
        ("attention.sliding_window", Value::U32(8)),
        ("attention.sliding_window_pattern", Value::U32(2)),
        ("rope.freq_base", Value::F32(1e6)),
    ];
    Tiny::new("gemma3", &keys)
}

impl Tiny {
    fn new(name: &'static str, keys: &[(&str, Value)]) -> Self {
        let mut all: Vec<(String, Value)> = [
            ("block_count", Value::U32(LAYERS as u32)),
            ("context_length", Value::U32(CONTEXT as u32)),
            ("embedding_length", Value::U32(WIDTH as u32)),
            ("feed_forward_length", Value::U32(FEED_FORWARD as u32)),
            ("attention.head_count", Value::U32(HEADS as u32)),
            ("attention.head_count_kv", Value::U32(KV_HEADS as u32)),
            ("attention.key_length", Value::U32(HEAD_WIDTH as u32)),
            ("attention.layer_norm_rms_epsilon", Value::F32(1e-6)),
        ]
        .iter()
        .chain(keys)
        .map(|(key, value)| (format!("{name}.{key}"), value.clone()))
        .collect();
        all.push(("general.architecture".into(), Value::String(name.into())));
        let all: Vec<(&str, &Value)> = all.iter().map(|(key, value)| (&**key, value)).collect();
        let tensors = tensors(name);
        let tensors: Vec<_> = tensors.iter().map(|(name, tensor)| (&**name, tensor)).collect();
        let file = tempfile::NamedTempFile::new().unwrap();
        gguf_file::write(&mut file.as_file(), &all, &tensors).unwrap();
        let gguf = Arc::new(GgufFile::open(file.path()).unwrap());
        let description = ModelDescription::from_gguf(&gguf).unwrap();
        Self { name, gguf, description, _file: file }
    }
}

fn tensors(architecture: &str) -> Vec<(String, QTensor)> {
    let (qwen2, gemma3) = (architecture == "qwen2", architecture == "gemma3");
    let mut made = Vec::new();
    let mut add = |name: String, rows: usize, columns: usize| {
        let tensor = tensor(made.len() as u64, &name, rows, columns);
        made.push((name, tensor));
    };
    add("token_embd.weight".into(), VOCABULARY, WIDTH);
    add("output_norm.weight".into(), 1, WIDTH);
    if architecture == "llama" {
        add("output.weight".into(), VOCABULARY, WIDTH);
    }
    for layer in 0..LAYERS {
        let mut add = |part: &str, rows, columns| add(format!("blk.{layer}.{part}"), rows, columns);
        add("attn_norm.weight", 1, WIDTH);
        for (part, heads) in [("attn_q", HEADS), ("attn_k", KV_HEADS), ("attn_v", KV_HEADS)] {
            add(&format!("{part}.weight"), heads * HEAD_WIDTH, WIDTH);
            if qwen2 {
                add(&format!("{part}.bias"), 1, heads * HEAD_WIDTH);
            }
        }
        if gemma3 {
            add("attn_q_norm.weight", 1, HEAD_WIDTH);
            add("attn_k_norm.weight", 1, HEAD_WIDTH);
            add("post_attention_norm.weight", 1, WIDTH);
            add("post_ffw_norm.weight", 1, WIDTH);
        }
        add("attn_output.weight", WIDTH, HEADS * HEAD_WIDTH);
        add("ffn_norm.weight", 1, WIDTH);
        add("ffn_gate.weight", FEED_FORWARD, WIDTH);
        add("ffn_up.weight", FEED_FORWARD, WIDTH);
        add("ffn_down.weight", WIDTH, FEED_FORWARD);
    }
    made
}

/// Norms are about 1, biases small, matrices keep the size of what they are given.
/// Matrices are Q8_0, the table is F16, vectors are F32, as files have them.
fn tensor(seed: u64, name: &str, rows: usize, columns: usize) -> QTensor {
    let at = |i: usize| {
        // Two of them make it more like a normal distribution.
        let uniform = |n| (aio_core::mix(n) >> 40) as f32 / (1u64 << 24) as f32 - 0.5;
        let n = (seed << 32) + 2 * i as u64;
        (uniform(n) + uniform(n + 1)) * 2.4
    };
    let (middle, spread, dtype) = if name.contains("norm") {
        (1.0, 0.2, GgmlDType::F32)
    } else if name.ends_with("bias") {
        (0.0, 0.3, GgmlDType::F32)
    } else if name == "token_embd.weight" {
        (0.0, 0.3, GgmlDType::F16)
    } else {
        (0.0, 1.5 / (columns as f32).sqrt(), GgmlDType::Q8_0)
    };
    let values: Vec<f32> = (0..rows * columns).map(|i| middle + spread * at(i)).collect();
    let shape = if rows == 1 { vec![columns] } else { vec![rows, columns] };
    let tensor = Tensor::from_vec(values, shape, &Device::Cpu).unwrap();
    QTensor::quantize(&tensor, dtype).unwrap()
}
