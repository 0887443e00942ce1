//! Probabilities of tokens in the two forms that OpenAI's interface has for them.

use std::fmt::Write;

use aio_serve::{Likelihood, TokenChoice};
use serde::Serialize;
use serde_json::{Map, Value};

/// As chat completions have them.
#[derive(Debug, Serialize)]
pub(super) struct ChatLogprobs<'a> {
    content: Vec<ChatToken<'a>>,
    refusal: Option<()>,
}

#[derive(Debug, Serialize)]
struct ChatToken<'a> {
    #[serde(flatten)]
    chosen: Token<'a>,
    top_logprobs: Vec<Token<'a>>,
}

#[derive(Debug, Serialize)]
struct Token<'a> {
    token: String,
    logprob: f32,
    bytes: &'a [u8],
}

impl<'a> From<&'a Likelihood> for Token<'a> {
    fn from(likelihood: &'a Likelihood) -> Self {
        let Likelihood { bytes, logprob, .. } = likelihood;
        Self {
            token: String::from_utf8_lossy(bytes).into_owned(),
            logprob: finite(*logprob),
            bytes,
        }
    }
}

impl<'a> ChatLogprobs<'a> {
    pub(super) fn new(tokens: &'a [TokenChoice]) -> Self {
        let token = |choice: &'a TokenChoice| ChatToken {
            chosen: (&choice.chosen).into(),
            top_logprobs: choice.top.iter().map(Token::from).collect(),
        };
        Self { content: tokens.iter().map(token).collect(), refusal: None }
    }
}

/// As text completions have them: lists side by side.
#[derive(Debug, Serialize)]
pub(super) struct TextLogprobs {
    tokens: Vec<String>,
    token_logprobs: Vec<f32>,
    top_logprobs: Vec<Map<String, Value>>,
    text_offset: Vec<usize>,
}

impl TextLogprobs {
    /// `offset` is where the first token begins in the answer, in characters; it is
    /// moved on to where the next one will.
    pub(super) fn new(tokens: &[TokenChoice], offset: &mut usize) -> Self {
        let mut offsets = Vec::with_capacity(tokens.len());
        for choice in tokens {
            offsets.push(*offset);
            *offset += characters(&choice.chosen.bytes);
        }
        let alternatives = |choice: &TokenChoice| {
            // The chosen token is always among them, as in OpenAI's interface.
            let all = choice.top.iter().chain([&choice.chosen]);
            all.map(|l| (text(&l.bytes), Value::from(finite(l.logprob)))).collect()
        };
        Self {
            tokens: tokens.iter().map(|choice| text(&choice.chosen.bytes)).collect(),
            token_logprobs: tokens.iter().map(|choice| finite(choice.chosen.logprob)).collect(),
            top_logprobs: tokens.iter().map(alternatives).collect(),
            text_offset: offsets,
        }
    }
}

/// JSON has no infinity; OpenAI's interface writes this for what is next to impossible.
fn finite(logprob: f32) -> f32 {
    logprob.max(-9999.0)
}

/// Characters that begin in these bytes.
fn characters(bytes: &[u8]) -> usize {
    bytes.iter().filter(|&&byte| byte & 0xc0 != 0x80).count()
}

/// A token as text; one that is no whole characters as `bytes:\xe2\x82`.
fn text(bytes: &[u8]) -> String {
    match std::str::from_utf8(bytes) {
        Ok(text) => text.to_owned(),
        Err(_) => bytes.iter().fold(String::from("bytes:"), |mut text, byte| {
            // Writing to a string cannot fail.
            let _ = write!(text, "\\x{byte:02x}");
            text
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn choice(bytes: &[u8], logprob: f32) -> TokenChoice {
        TokenChoice {
            chosen: Likelihood { token: 1, bytes: bytes.to_vec(), logprob },
            top: Vec::new(),
        }
    }

    #[test]
    fn offsets_count_characters_and_halves_of_them_are_bytes() {
        let tokens = [choice("né".as_bytes(), -0.5), choice(&[0xe2, 0x82], f32::NEG_INFINITY)];
        let mut offset = 3;
        let json = serde_json::to_value(TextLogprobs::new(&tokens, &mut offset)).unwrap();
        assert_eq!(json["tokens"], serde_json::json!(["né", "bytes:\\xe2\\x82"]));
        assert_eq!(json["text_offset"], serde_json::json!([3, 5]));
        assert_eq!(json["token_logprobs"], serde_json::json!([-0.5, -9999.0]));
        assert_eq!(json["top_logprobs"][0]["né"], -0.5);
        assert_eq!(offset, 6);
    }
}
