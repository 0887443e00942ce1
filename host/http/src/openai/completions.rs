//! `/v1/completions`: from its JSON to requests.

use aio_core::HostInfo;
use aio_serve::Prompt;
use serde_json::Value;

use super::fields::{Fields, Harmless, Unsupported, missing, not_supported, wrong};
use super::settings::Settings;
use super::{Call, Kind};
use crate::error::ApiError;
use crate::options::ServerOptions;

/// Most likeliest tokens that may be asked for at each place.
const MOST_LOGPROBS: usize = 5;

/// What OpenAI's interface has and this host has not.
const UNSUPPORTED: &[Unsupported] = &[
    Unsupported { name: "echo", harmless: Harmless::Off },
    Unsupported { name: "frequency_penalty", harmless: Harmless::Off },
    Unsupported { name: "logit_bias", harmless: Harmless::Empty },
    Unsupported { name: "presence_penalty", harmless: Harmless::Off },
    Unsupported { name: "suffix", harmless: Harmless::Empty },
];

/// Reads a request.
pub(super) fn read(
    mut fields: Fields,
    options: &ServerOptions,
    host: &HostInfo,
) -> Result<Call, ApiError> {
    let prompts = prompts(&mut fields)?;
    let limit = fields.integer("max_tokens", 1..=options.max_tokens)?;
    let limit = limit.unwrap_or(options.default_max_tokens);
    let logprobs = fields.integer("logprobs", 0..=MOST_LOGPROBS)?;
    best_of(&mut fields)?;
    let settings = Settings::read(&mut fields, options, host, limit)?;
    settings.check_choices(prompts.len(), options)?;
    fields.finish(UNSUPPORTED)?;
    let prompts = prompts.into_iter().map(Prompt::Raw).collect();
    Ok(settings.into_call(Kind::Text, prompts, logprobs))
}

/// One answer is the best of one.
fn best_of(fields: &mut Fields) -> Result<(), ApiError> {
    match fields.take("best_of") {
        Some(value) if value != 1 => Err(not_supported("best_of")),
        _ => Ok(()),
    }
}

fn prompts(fields: &mut Fields) -> Result<Vec<String>, ApiError> {
    let items = match fields.take("prompt").ok_or_else(|| missing("prompt"))? {
        Value::String(text) => vec![text],
        Value::Array(items) => items.into_iter().map(prompt).collect::<Result<_, _>>()?,
        _ => return Err(wrong("prompt", "a string or a list of strings")),
    };
    if items.is_empty() {
        return Err(ApiError::field("prompt", "prompt is an empty list; give some text"));
    }
    Ok(items)
}

fn prompt(item: Value) -> Result<String, ApiError> {
    match item {
        Value::String(text) => Ok(text),
        // Tokens mean something to one model only, and which one answers is not known.
        Value::Number(_) | Value::Array(_) => Err(ApiError::field(
            "prompt",
            "a prompt of token ids is not supported by this host; give it as text",
        )
        .code("unsupported_value")),
        _ => Err(wrong("prompt", "a string or a list of strings")),
    }
}
