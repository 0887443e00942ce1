//! Tests of SentencePiece on a vocabulary small enough to write down.

use candle_core::quantized::gguf_file::Value;
use proptest::prelude::*;

use super::super::{Metadata, SpecialTokens, Tokenizer, vocabulary};

/// Bytes, characters, and words that are merged from them; better scores first.
fn metadata(add_space_prefix: bool) -> Metadata {
    let mut tokens: Vec<(String, f32, i32)> = [("<bos>", 3), ("<eos>", 3), ("\n\n", 4), ("  ", 4)]
        .map(|(text, kind)| (text.to_owned(), -1000.0, kind))
        .to_vec();
    tokens.extend((0..=255).map(|byte| (format!("<0x{byte:02X}>"), -1000.0, 6)));
    let merged =
        ["he", "ll", "hell", "lo", "hello", "▁hello", "ab", "bc", "<0", "x4", "x41", "<0x41"];
    tokens.extend(merged.iter().enumerate().map(|(i, text)| (text.to_string(), -(i as f32), 1)));
    tokens.extend("▁helowrdabc<>0x41é\n".chars().map(|c| (c.to_string(), -100.0, 1)));
    // A control token that ordinary characters spell.
    tokens.push(("<b".to_owned(), 5.0, 1));
    tokens.push(("<b>".to_owned(), 5.0, 3));
    let list = |value: &dyn Fn(&(String, f32, i32)) -> Value| {
        Value::Array(tokens.iter().map(value).collect())
    };
    Metadata::from([
        ("tokenizer.ggml.model".to_owned(), Value::String("llama".into())),
        (vocabulary::TOKENS.to_owned(), list(&|t| Value::String(t.0.clone()))),
        (super::SCORES.to_owned(), list(&|t| Value::F32(t.1))),
        ("tokenizer.ggml.token_type".to_owned(), list(&|t| Value::I32(t.2))),
        ("tokenizer.ggml.add_space_prefix".to_owned(), Value::Bool(add_space_prefix)),
        ("tokenizer.ggml.bos_token_id".to_owned(), Value::U32(0)),
        ("tokenizer.ggml.eos_token_id".to_owned(), Value::U32(1)),
    ])
}

fn tiny() -> Tokenizer {
    Tokenizer::from_gguf(&metadata(false)).unwrap()
}

/// What the text is cut into, as plain text.
fn pieces(tokenizer: &Tokenizer, text: &str) -> Vec<String> {
    let ids = tokenizer.encode(text, SpecialTokens::AsText).unwrap();
    assert!(ids.iter().all(|&id| !tokenizer.is_control(id)), "{text:?}: {ids:?}");
    ids.iter().map(|&id| String::from_utf8_lossy(tokenizer.token_bytes(id)).into_owned()).collect()
}

#[test]
fn the_best_score_merges_first_and_the_leftmost_among_equals() {
    let tokenizer = tiny();
    assert_eq!(pieces(&tokenizer, "hello hello"), ["hello", " hello"]);
    // `ab` is better than `bc`.
    assert_eq!(pieces(&tokenizer, "abc"), ["ab", "c"]);
    // `ll` leaves nothing for `lo`.
    assert_eq!(pieces(&tokenizer, "llo"), ["ll", "o"]);
    assert_eq!(pieces(&tokenizer, "lll"), ["ll", "l"]);
    assert!(pieces(&tokenizer, "").is_empty());
}

#[test]
fn characters_without_a_token_become_bytes_and_come_back() {
    let tokenizer = tiny();
    let ids = tokenizer.encode("é中", SpecialTokens::AsText).unwrap();
    assert_eq!(ids[1..], [4 + 0xe4, 4 + 0xb8, 4 + 0xad]);
    let mut stream = tokenizer.stream_decoder();
    let shown: Vec<String> = ids.iter().map(|&id| stream.push(id)).collect();
    assert_eq!(shown, ["é", "", "", "中"]);
    assert_eq!(stream.finish(), "");
}

#[test]
fn text_becomes_neither_control_nor_byte_tokens() {
    let tokenizer = tiny();
    assert_eq!(pieces(&tokenizer, "<b>"), ["<b", ">"]);
    assert_eq!(pieces(&tokenizer, "<0x41>"), ["<0x41", ">"]);
    assert_eq!(pieces(&tokenizer, "<bos>").concat(), "<bos>");
    assert_eq!(tokenizer.encode("<bos>", SpecialTokens::Parse).unwrap(), [0]);
    // Tokens added as a whole are found in any text, before merging.
    assert_eq!(pieces(&tokenizer, "a\n\n  b"), ["a", "\n\n", "  ", "b"]);
}

#[test]
fn a_space_goes_before_text_where_the_file_asks_for_it() {
    let tokenizer = Tokenizer::from_gguf(&metadata(true)).unwrap();
    assert_eq!(pieces(&tokenizer, "hello"), [" hello"]);
    let ids = tokenizer.encode("<bos>hello", SpecialTokens::Parse).unwrap();
    assert_eq!(ids, [0, tokenizer.id_of("▁hello").unwrap()]);
    assert!(tokenizer.encode("", SpecialTokens::AsText).unwrap().is_empty());
    assert_ne!(tokenizer.fingerprint(), tiny().fingerprint());
}

#[test]
fn what_the_file_says_of_bos_counts_and_silence_means_yes() {
    assert!(tiny().adds_bos());
    let mut metadata = metadata(false);
    metadata.insert("tokenizer.ggml.add_bos_token".to_owned(), Value::Bool(false));
    assert!(!Tokenizer::from_gguf(&metadata).unwrap().adds_bos());
}

#[test]
fn scores_that_do_not_fit_are_refused() {
    let with = |scores: Option<Value>| {
        let mut metadata = metadata(false);
        match scores {
            Some(scores) => metadata.insert(super::SCORES.to_owned(), scores),
            None => metadata.remove(super::SCORES),
        };
        Tokenizer::from_gguf(&metadata).unwrap_err().to_string()
    };
    assert!(with(None).contains(super::SCORES));
    assert!(with(Some(Value::Array(vec![Value::F32(0.0)]))).contains("1 scores"));
    assert!(with(Some(Value::Array(vec![Value::Bool(true)]))).contains("fractional numbers"));
}

proptest! {
    #[test]
    fn text_comes_back(text in "(<b>|<bos>|<0x41>|hello|[ a-z<>\n\u{e9}\u{4e2d}\u{1F600}]){0,16}") {
        let tokenizer = tiny();
        prop_assert_eq!(pieces_bytes(&tokenizer, &text), text.as_bytes());
        let parsed = tokenizer.encode(&text, SpecialTokens::Parse).unwrap();
        prop_assert_eq!(tokenizer.decode(&parsed, true), text);
    }
}

fn pieces_bytes(tokenizer: &Tokenizer, text: &str) -> Vec<u8> {
    let ids = tokenizer.encode(text, SpecialTokens::AsText).unwrap();
    assert!(ids.iter().all(|&id| !tokenizer.is_control(id)), "{text:?}: {ids:?}");
    ids.iter().flat_map(|&id| tokenizer.token_bytes(id).to_vec()).collect()
}
