//! Ids compared with llama.cpp's, on the real vocabularies.
//!
//! `lines.jsonl` holds 2,000 generated texts, one JSON string a line: code, a dozen
//! scripts, emoji, runs of white space, numbers, control tokens and parts of them,
//! decomposed characters, contractions and characters at random. The `.ids` files hold
//! what llama.cpp b11434 makes of each, with and without recognising control tokens.
//! It does not normalise to NFC as Hugging Face's Qwen tokenizer does; it is the
//! reference. No line contains `</s>`, which llama.cpp alone takes for a control token
//! in the vocabularies of Qwen and Gemma.
//!
//! `shared-data.json` holds hashes for evaluation data that is not in this repository;
//! that test runs where a `shared/data` folder lies beside it.

// Helpers of tests may panic as tests do; clippy's exception covers only the tests.
#![allow(clippy::unwrap_used)]

#[path = "../../../tests/support/models.rs"]
mod models;

use std::collections::{BTreeMap, HashSet};
use std::fs::File;
use std::io::BufReader;
use std::path::{Path, PathBuf};
use std::time::Instant;

use aio_engine::tokenizer::{SpecialTokens, Tokenizer};
use candle_core::quantized::gguf_file::Content;
use sha2::{Digest, Sha256};

fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/fixtures/tokenizer")
}

fn read(name: &str) -> String {
    std::fs::read_to_string(fixtures().join(name)).unwrap()
}

fn tokenizer(model: &str) -> Option<Tokenizer> {
    let mut file = BufReader::new(File::open(models::model_path(model)?).unwrap());
    let content = Content::read(&mut file).unwrap();
    let start = Instant::now();
    let tokenizer = Tokenizer::from_gguf(&content.metadata).unwrap();
    eprintln!("{model}: {} tokens loaded in {:?}", tokenizer.vocab_size(), start.elapsed());
    Some(tokenizer)
}

/// FNV-1a with 64 bits over the ids' bytes, as the fixtures were made.
struct Hash(u64);

impl Hash {
    const START: Hash = Hash(0xcbf2_9ce4_8422_2325);

    fn ids(&mut self, ids: &[u32]) {
        for byte in ids.iter().chain([&u32::MAX]).flat_map(|id| id.to_le_bytes()) {
            self.0 = (self.0 ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
        }
    }

    /// Adds a text's ids both ways, and returns them.
    fn text(&mut self, tokenizer: &Tokenizer, text: &str) -> [Vec<u32>; 2] {
        let both = [SpecialTokens::AsText, SpecialTokens::Parse]
            .map(|special| tokenizer.encode(text, special).unwrap());
        both.iter().for_each(|ids| self.ids(ids));
        both
    }

    fn hex(&self) -> String {
        format!("{:016x}", self.0)
    }
}

fn lines_agree(model: &str, golden: &str) {
    let Some(tokenizer) = tokenizer(model) else { return };
    let (lines, golden) = (read("lines.jsonl"), read(golden));
    let golden: Vec<&str> = golden.lines().filter(|row| !row.starts_with('#')).collect();
    let known = known_bytes(&tokenizer);
    assert_eq!((lines.lines().count(), golden.len()), (2000, 2000));
    for (line, row) in lines.lines().zip(golden) {
        let text: String = serde_json::from_str(line).unwrap();
        let mut hash = Hash::START;
        let [plain, parsed] = hash.text(&tokenizer, &text);
        let mut row = row.split(' ');
        let (expected, n_plain, n_parsed) =
            (row.next().unwrap(), row.next().unwrap(), row.next().unwrap());
        if let Some(ids) = row.next() {
            let list =
                |ids: &str| -> Vec<u32> { ids.split(',').map(|id| id.parse().unwrap()).collect() };
            assert_eq!(plain, list(ids), "as text: {text:?}");
            assert_eq!(parsed, row.next().map_or(plain.clone(), list), "parsed: {text:?}");
        }
        assert_eq!(
            (
                hash.hex().as_str(),
                plain.len().to_string().as_str(),
                parsed.len().to_string().as_str()
            ),
            (expected, n_plain, n_parsed),
            "{text:?}: {plain:?} as text, {parsed:?} parsed"
        );
        // What is cut up can be put together again: every byte has a token in Qwen's
        // vocabulary, and all but the rarest in SmolLM2's.
        assert!(plain.iter().all(|&id| !tokenizer.is_control(id)), "{text:?}");
        if text.bytes().all(|byte| known.contains(&byte)) {
            assert_eq!(tokenizer.decode(&plain, false), text);
            assert_eq!(tokenizer.decode(&parsed, true), text);
            let mut stream = tokenizer.stream_decoder();
            let mut shown: String = plain.iter().map(|&id| stream.push(id)).collect();
            shown.push_str(&stream.finish());
            assert_eq!(shown, text);
        }
    }
}

/// The bytes that have a token: the others do not survive encoding.
fn known_bytes(tokenizer: &Tokenizer) -> HashSet<u8> {
    let ids = 0..tokenizer.vocab_size() as u32;
    ids.filter_map(|id| match tokenizer.token_bytes(id) {
        &[byte] => Some(byte),
        _ => None,
    })
    .collect()
}

#[test]
fn qwen_lines_agree_with_llama_cpp() {
    lines_agree("qwen2.5-coder-0.5b", "qwen2.5-coder.ids");
}

#[test]
fn smollm2_lines_agree_with_llama_cpp() {
    lines_agree("smollm2-135m", "smollm2.ids");
}

#[test]
fn gemma3_lines_agree_with_llama_cpp() {
    lines_agree("gemma-3-270m", "gemma3.ids");
}

#[derive(serde::Deserialize)]
struct SharedData {
    files: BTreeMap<String, SharedFile>,
}

#[derive(serde::Deserialize)]
struct SharedFile {
    sha256: String,
    #[serde(rename = "qwen2.5-coder")]
    qwen: Vec<String>,
    smollm2: Vec<String>,
}

#[test]
fn evaluation_data_agrees_with_llama_cpp() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/data");
    let shared: SharedData = serde_json::from_str(&read("shared-data.json")).unwrap();
    let models = [tokenizer("qwen2.5-coder-0.5b"), tokenizer("smollm2-135m")];
    for (name, golden) in shared.files {
        let Ok(raw) = std::fs::read_to_string(folder.join(&name)) else {
            eprintln!("skipped: {name} is not in shared/data beside the repository");
            continue;
        };
        if format!("{:x}", Sha256::digest(&raw)) != golden.sha256 {
            eprintln!("skipped: {name} is not the file that the hashes were made from");
            continue;
        }
        let rows: Vec<serde_json::Map<String, serde_json::Value>> =
            raw.lines().map(|row| serde_json::from_str(row).unwrap()).collect();
        for (model, golden) in models.iter().zip([golden.qwen, golden.smollm2]) {
            let Some(tokenizer) = model else { continue };
            let hashes: Vec<String> = rows
                .chunks(50)
                .map(|rows| {
                    let mut hash = Hash::START;
                    // serde_json's map keeps keys in order.
                    for text in rows.iter().flat_map(|row| row.values()).filter_map(|v| v.as_str())
                    {
                        hash.text(tokenizer, text);
                    }
                    hash.hex()
                })
                .collect();
            assert_eq!(hashes, golden, "{name}");
        }
    }
}

#[test]
fn the_two_qwen_models_share_token_ids_and_smollm2_does_not() {
    let models = ["qwen2.5-coder-0.5b", "qwen2.5-coder-1.5b", "smollm2-135m"].map(tokenizer);
    let [Some(small), Some(large), Some(other)] = models else { return };
    assert_eq!(small.fingerprint(), large.fingerprint());
    assert_ne!(small.fingerprint(), other.fingerprint());
    assert_eq!(small.vocab_size(), large.vocab_size());
}

#[test]
fn the_special_tokens_are_those_of_llama_cpp() {
    if let Some(qwen) = tokenizer("qwen2.5-coder-1.5b") {
        // llama.cpp adds 128247, `</s>`; see the note at the top.
        assert_eq!(qwen.end_of_generation(), [151_643, 151_645, 151_662, 151_663, 151_664]);
        assert_eq!(
            (qwen.bos(), qwen.eos(), qwen.adds_bos()),
            (Some(151_643), Some(151_645), false)
        );
        assert!(!qwen.is_control(128_247));
    }
    if let Some(smollm) = tokenizer("smollm2-135m") {
        assert_eq!(smollm.end_of_generation(), [0, 2, 4]);
        assert_eq!((smollm.bos(), smollm.eos(), smollm.adds_bos()), (Some(1), Some(2), false));
    }
    if let Some(gemma) = tokenizer("gemma-3-270m") {
        // llama.cpp adds 212, `</s>`, here too.
        assert_eq!(gemma.end_of_generation(), [1, 106]);
        assert_eq!((gemma.bos(), gemma.eos(), gemma.adds_bos()), (Some(2), Some(1), true));
        assert_eq!(gemma.id_of("▁the"), Some(506));
    }
}
