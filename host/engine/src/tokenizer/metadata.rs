//! Reading the tokenizer's keys out of a GGUF file's metadata, with errors that name the key.

use std::collections::HashMap;

use candle_core::quantized::gguf_file::Value;

use super::TokenizerError;

/// A GGUF file's metadata, as candle reads it.
pub type Metadata = HashMap<String, Value>;

/// The string under `key`, if the key is there.
pub(crate) fn string<'m>(
    metadata: &'m Metadata,
    key: &'static str,
) -> Result<Option<&'m str>, TokenizerError> {
    metadata
        .get(key)
        .map(|value| match value {
            Value::String(text) => Ok(text.as_str()),
            _ => Err(TokenizerError::WrongType { key, expected: "a string" }),
        })
        .transpose()
}

/// The truth value under `key`, if the key is there.
pub(super) fn boolean(
    metadata: &Metadata,
    key: &'static str,
) -> Result<Option<bool>, TokenizerError> {
    metadata
        .get(key)
        .map(|value| match value {
            Value::Bool(flag) => Ok(*flag),
            _ => Err(TokenizerError::WrongType { key, expected: "true or false" }),
        })
        .transpose()
}

/// The strings of the array under `key`, which must be there.
pub(super) fn strings<'m>(
    metadata: &'m Metadata,
    key: &'static str,
) -> Result<Vec<&'m str>, TokenizerError> {
    let wrong = TokenizerError::WrongType { key, expected: "a list of strings" };
    let value = metadata.get(key).ok_or(TokenizerError::MissingKey { key })?;
    let Value::Array(values) = value else { return Err(wrong) };
    let texts: Option<Vec<&str>> = values
        .iter()
        .map(|value| match value {
            Value::String(text) => Some(text.as_str()),
            _ => None,
        })
        .collect();
    texts.ok_or(wrong)
}

/// The whole numbers of the array under `key`, if the key is there.
pub(super) fn integers(
    metadata: &Metadata,
    key: &'static str,
) -> Result<Option<Vec<i64>>, TokenizerError> {
    let wrong = || TokenizerError::WrongType { key, expected: "a list of whole numbers" };
    let Some(value) = metadata.get(key) else { return Ok(None) };
    let Value::Array(values) = value else { return Err(wrong()) };
    values.iter().map(|value| whole(value).ok_or_else(wrong)).collect::<Result<_, _>>().map(Some)
}

/// The numbers of the array of floats under `key`, which must be there.
pub(super) fn floats(metadata: &Metadata, key: &'static str) -> Result<Vec<f32>, TokenizerError> {
    let wrong = || TokenizerError::WrongType { key, expected: "a list of fractional numbers" };
    let value = metadata.get(key).ok_or(TokenizerError::MissingKey { key })?;
    let Value::Array(values) = value else { return Err(wrong()) };
    let number = |value: &Value| match value {
        Value::F32(number) => Ok(*number),
        _ => Err(wrong()),
    };
    values.iter().map(number).collect()
}

/// The token id under `key`; an id outside the vocabulary counts as absent, for some
/// converters write -1 or a sentinel there.
pub(super) fn token_id(
    metadata: &Metadata,
    key: &'static str,
    vocabulary_size: usize,
) -> Result<Option<u32>, TokenizerError> {
    let Some(value) = metadata.get(key) else { return Ok(None) };
    let number =
        whole(value).ok_or(TokenizerError::WrongType { key, expected: "a whole number" })?;
    let id = u32::try_from(number).ok().filter(|&id| (id as usize) < vocabulary_size);
    if id.is_none() {
        tracing::warn!(key, number, "ignoring a special token outside the vocabulary");
    }
    Ok(id)
}

fn whole(value: &Value) -> Option<i64> {
    Some(match value {
        Value::U8(n) => i64::from(*n),
        Value::I8(n) => i64::from(*n),
        Value::U16(n) => i64::from(*n),
        Value::I16(n) => i64::from(*n),
        Value::U32(n) => i64::from(*n),
        Value::I32(n) => i64::from(*n),
        Value::U64(n) => i64::try_from(*n).ok()?,
        Value::I64(n) => *n,
        _ => return None,
    })
}
