//! Tests on a vocabulary small enough to write down; the real ones are in `tests/`.

use candle_core::quantized::gguf_file::Value;
use proptest::prelude::*;

use super::byte_level::{MERGES, PRE};
use super::*;

/// A vocabulary of all bytes, a few words, and one token of every special kind.
pub(crate) fn tiny_metadata() -> Metadata {
    let mut tokens: Vec<String> = (0..=255).map(|byte| bytes::to_char(byte).to_string()).collect();
    let mut types = vec![1; tokens.len()];
    for (token, kind) in [
        ("he", 1),
        ("ll", 1),
        ("hell", 1),
        ("hello", 1),
        ("Ġhello", 1),
        ("Ċ<", 1),
        ("<|im_start|>", 3),
        ("<|im_end|>", 3),
        ("<|im_end|>>", 3),
        ("<tool>", 4),
        ("<x", 1),
        ("<x>", 3),
        ("</s>", 1),
        ("[PAD]", 5),
    ] {
        tokens.push(token.to_owned());
        types.push(kind);
    }
    let merges =
        ["h e", "l l", "he ll", "hell o", "Ġ hello", "Ċ <", "< x", "<x >"].map(str::to_owned);
    let strings = |texts: Vec<String>| Value::Array(texts.into_iter().map(Value::String).collect());
    let end = tokens.iter().position(|token| token == "<|im_end|>").unwrap() as u32;
    Metadata::from([
        (MODEL.to_owned(), Value::String("gpt2".into())),
        (PRE.to_owned(), Value::String("qwen2".into())),
        (vocabulary::TOKENS.to_owned(), strings(tokens)),
        (MERGES.to_owned(), strings(merges.to_vec())),
        (
            "tokenizer.ggml.token_type".to_owned(),
            Value::Array(types.into_iter().map(Value::I32).collect()),
        ),
        ("tokenizer.ggml.eos_token_id".to_owned(), Value::U32(end)),
    ])
}

fn tiny() -> Tokenizer {
    Tokenizer::from_gguf(&tiny_metadata()).unwrap()
}

fn spell(tokenizer: &Tokenizer, ids: &[u32]) -> Vec<String> {
    ids.iter().map(|&id| String::from_utf8_lossy(tokenizer.token_bytes(id)).into_owned()).collect()
}

fn error_of(change: impl FnOnce(&mut Metadata)) -> String {
    let mut metadata = tiny_metadata();
    change(&mut metadata);
    let error = Tokenizer::from_gguf(&metadata).unwrap_err().to_string();
    assert!(!error.contains('\n') && !error.ends_with('.'), "one sentence: {error}");
    error
}

#[test]
fn merges_apply_within_words() {
    let tokenizer = tiny();
    let ids = tokenizer.encode("hello hello\n<", SpecialTokens::Parse).unwrap();
    // `\n` ends a word of its own, so `Ċ<` never forms.
    assert_eq!(spell(&tokenizer, &ids), ["hello", " hello", "\n", "<"]);
    assert_eq!(tokenizer.decode(&ids, false), "hello hello\n<");
    assert!(tokenizer.encode("", SpecialTokens::Parse).unwrap().is_empty());
}

#[test]
fn control_tokens_are_recognised_only_where_asked() {
    let tokenizer = tiny();
    let text = "<|im_start|>hello<|im_end|><tool>";
    let parsed = tokenizer.encode(text, SpecialTokens::Parse).unwrap();
    assert_eq!(spell(&tokenizer, &parsed), ["<|im_start|>", "hello", "<|im_end|>", "<tool>"]);
    let plain = tokenizer.encode(text, SpecialTokens::AsText).unwrap();
    assert!(plain.iter().all(|&id| !tokenizer.is_control(id)));
    // A user-defined token is found either way, as in the reference.
    assert_eq!(plain.last(), tokenizer.id_of("<tool>").as_ref());
    assert_eq!(tokenizer.decode(&plain, false), text);
    assert_eq!(tokenizer.decode(&parsed, true), text);
    assert_eq!(tokenizer.decode(&parsed, false), "hello<tool>");
}

#[test]
fn the_longest_special_token_wins() {
    let tokenizer = tiny();
    let ids = tokenizer.encode("<|im_end|>>", SpecialTokens::Parse).unwrap();
    assert_eq!(spell(&tokenizer, &ids), ["<|im_end|>>"]);
}

#[test]
fn merges_that_spell_a_control_token_do_not_make_one() {
    let tokenizer = tiny();
    let ids = tokenizer.encode("<x>", SpecialTokens::AsText).unwrap();
    assert!(ids.iter().all(|&id| !tokenizer.is_control(id)), "{ids:?}");
    assert_eq!(tokenizer.decode(&ids, false), "<x>");
}

#[test]
fn generation_ends_at_the_usual_tokens_and_not_at_ordinary_ones() {
    let tokenizer = tiny();
    let end = tokenizer.id_of("<|im_end|>").unwrap();
    assert_eq!(tokenizer.end_of_generation(), [end]);
    assert!(tokenizer.is_end_of_generation(end));
    assert_eq!(tokenizer.eos(), Some(end));
    let strike = tokenizer.id_of("</s>").unwrap();
    assert!(!tokenizer.is_end_of_generation(strike) && !tokenizer.is_control(strike));
    assert_eq!((tokenizer.bos(), tokenizer.adds_bos()), (None, false));
}

#[test]
fn a_byte_without_a_token_is_left_out_and_merges_nothing_across() {
    let mut metadata = tiny_metadata();
    let Some(Value::Array(tokens)) = metadata.get_mut(vocabulary::TOKENS) else { panic!() };
    tokens[4] = Value::String("unused".into());
    let tokenizer = Tokenizer::from_gguf(&metadata).unwrap();
    let ids = tokenizer.encode("h\u{4}e he", SpecialTokens::AsText).unwrap();
    assert_eq!(spell(&tokenizer, &ids), ["h", "e", " ", "he"]);
}

#[test]
fn a_stream_shows_characters_whole_and_control_tokens_never() {
    let tokenizer = tiny();
    let mut ids = tokenizer.encode("é<|im_end|>中", SpecialTokens::Parse).unwrap();
    ids.pop();
    let mut stream = tokenizer.stream_decoder();
    let shown: Vec<String> = ids.iter().map(|&id| stream.push(id)).collect();
    assert_eq!(shown, ["", "é", "", "", ""]);
    assert_eq!(stream.finish(), "\u{fffd}");
    assert_eq!(stream.push(u32::MAX), "");
    assert_eq!(stream.finish(), "");
}

#[test]
fn padding_does_not_change_the_fingerprint_and_a_merge_does() {
    let base = tiny().fingerprint();
    assert_eq!(base.to_string().len(), 64);
    let with = |change: &dyn Fn(&mut Metadata)| {
        let mut metadata = tiny_metadata();
        change(&mut metadata);
        Tokenizer::from_gguf(&metadata).unwrap().fingerprint()
    };
    let push = |metadata: &mut Metadata, key: &str, value: Value| {
        let Some(Value::Array(values)) = metadata.get_mut(key) else { panic!() };
        values.push(value);
    };
    let padded = with(&|metadata| {
        push(metadata, vocabulary::TOKENS, Value::String("[PAD2]".into()));
        push(metadata, "tokenizer.ggml.token_type", Value::I32(5));
    });
    assert_eq!(base, padded);
    let merged = with(&|metadata| push(metadata, MERGES, Value::String("h e".into())));
    assert_ne!(base, merged);
    let split = with(&|metadata| {
        metadata.insert(PRE.to_owned(), Value::String("smollm".into()));
    });
    assert_ne!(base, split);
}

#[test]
fn what_cannot_be_used_is_refused_by_name() {
    let set = |key: &'static str, text: &str| {
        let text = text.to_owned();
        move |metadata: &mut Metadata| {
            metadata.insert(key.to_owned(), Value::String(text));
        }
    };
    let other = error_of(set(MODEL, "bert"));
    assert!(other.contains("`bert`") && other.contains("gpt2"), "{other}");
    let pre = error_of(set(PRE, "martian"));
    assert!(pre.contains("`martian`") && pre.contains("qwen2"), "{pre}");
    for key in [MODEL, vocabulary::TOKENS, MERGES] {
        let missing = error_of(|metadata| {
            metadata.remove(key);
        });
        assert!(missing.contains(key), "{missing}");
        let wrong = error_of(|metadata| {
            metadata.insert(key.to_owned(), Value::Bool(true));
        });
        assert!(wrong.contains(key), "{wrong}");
    }
    let merges = |rule: &str| {
        let rule = Value::Array(vec![Value::String(rule.to_owned())]);
        move |metadata: &mut Metadata| {
            metadata.insert(MERGES.to_owned(), rule);
        }
    };
    assert!(error_of(merges("hello")).contains("`hello`"));
    assert!(error_of(merges("q q")).contains("do not fit"));
    let short = error_of(|metadata| {
        let types = Value::Array(vec![Value::I32(1)]);
        metadata.insert("tokenizer.ggml.token_type".to_owned(), types);
    });
    assert!(short.contains("1 token types"), "{short}");
    let twice = error_of(|metadata| {
        let Some(Value::Array(tokens)) = metadata.get_mut(vocabulary::TOKENS) else { panic!() };
        tokens[0] = Value::String("he".into());
    });
    assert!(twice.contains("`he` twice"), "{twice}");
}

#[test]
fn a_file_without_a_pre_tokenizer_gets_the_default_one() {
    let mut metadata = tiny_metadata();
    metadata.remove(PRE);
    let tokenizer = Tokenizer::from_gguf(&metadata).unwrap();
    let Algorithm::ByteLevel(bpe) = tokenizer.algorithm else { panic!() };
    assert_eq!(bpe.pre.family, split::Family::Default);
}

proptest! {
    #[test]
    fn text_comes_back_and_holds_no_control_token(
        text in "(<\\|im_end\\|>|<x>|<tool>|<\\|im_start|[ a-z<>|\n\u{e9}\u{4e2d}\u{1F600}]){0,12}"
    ) {
        let tokenizer = tiny();
        let plain = tokenizer.encode(&text, SpecialTokens::AsText).unwrap();
        prop_assert!(plain.iter().all(|&id| !tokenizer.is_control(id)));
        prop_assert_eq!(tokenizer.decode(&plain, false), text.as_str());
        let parsed = tokenizer.encode(&text, SpecialTokens::Parse).unwrap();
        prop_assert_eq!(tokenizer.decode(&parsed, true), text.as_str());
        let mut stream = tokenizer.stream_decoder();
        let mut shown: String = plain.iter().map(|&id| stream.push(id)).collect();
        shown.push_str(&stream.finish());
        prop_assert_eq!(shown, text);
    }
}
