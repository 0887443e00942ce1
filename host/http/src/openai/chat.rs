//! `/v1/chat/completions`: from its JSON to requests.

use aio_core::HostInfo;
use aio_engine::chat::{Message, Role};
use aio_serve::Prompt;
use serde_json::Value;

use super::fields::{Fields, Harmless, Unsupported, missing, wrong};
use super::settings::Settings;
use super::{Call, Kind};
use crate::error::ApiError;
use crate::options::ServerOptions;

/// Most likeliest tokens that may be asked for at each place.
const MOST_LOGPROBS: usize = 20;

/// What OpenAI's interface has and this host has not. What a client's library sends by
/// default, and what asks for nothing, is taken.
const UNSUPPORTED: &[Unsupported] = &[
    Unsupported { name: "audio", harmless: Harmless::Never },
    Unsupported { name: "frequency_penalty", harmless: Harmless::Off },
    Unsupported { name: "function_call", harmless: Harmless::Texts(&["none"]) },
    Unsupported { name: "functions", harmless: Harmless::Empty },
    Unsupported { name: "logit_bias", harmless: Harmless::Empty },
    Unsupported { name: "modalities", harmless: Harmless::Texts(&["text"]) },
    // Without tools there are no calls, parallel or not.
    Unsupported { name: "parallel_tool_calls", harmless: Harmless::Always },
    Unsupported { name: "prediction", harmless: Harmless::Never },
    Unsupported { name: "presence_penalty", harmless: Harmless::Off },
    // The prefix cache needs no key.
    Unsupported { name: "prompt_cache_key", harmless: Harmless::Always },
    Unsupported { name: "prompt_cache_retention", harmless: Harmless::Always },
    Unsupported { name: "reasoning_effort", harmless: Harmless::Texts(&["none"]) },
    Unsupported { name: "safety_identifier", harmless: Harmless::Always },
    Unsupported { name: "service_tier", harmless: Harmless::Texts(&["auto", "default"]) },
    // Nothing is stored.
    Unsupported { name: "store", harmless: Harmless::Off },
    Unsupported { name: "tool_choice", harmless: Harmless::Texts(&["none", "auto"]) },
    Unsupported { name: "tools", harmless: Harmless::Empty },
    Unsupported { name: "verbosity", harmless: Harmless::Texts(&["medium"]) },
    Unsupported { name: "web_search_options", harmless: Harmless::Never },
];

/// The same for a message: what a model's own message has beside its text.
const UNSUPPORTED_IN_MESSAGES: &[Unsupported] = &[
    Unsupported { name: "annotations", harmless: Harmless::Empty },
    Unsupported { name: "audio", harmless: Harmless::Never },
    Unsupported { name: "function_call", harmless: Harmless::Never },
    // Templates have no place for it.
    Unsupported { name: "name", harmless: Harmless::Never },
    Unsupported { name: "refusal", harmless: Harmless::Empty },
    Unsupported { name: "tool_call_id", harmless: Harmless::Never },
    Unsupported { name: "tool_calls", harmless: Harmless::Empty },
];

/// Reads a request.
pub(super) fn read(
    mut fields: Fields,
    options: &ServerOptions,
    host: &HostInfo,
) -> Result<Call, ApiError> {
    let messages = messages(&mut fields)?;
    text_only(&mut fields)?;
    let most_tokens = limit(&mut fields, options)?;
    let logprobs = logprobs(&mut fields)?;
    let settings = Settings::read(&mut fields, options, host, most_tokens)?;
    fields.finish(UNSUPPORTED)?;
    Ok(settings.into_call(Kind::Chat, vec![Prompt::Chat(messages)], logprobs))
}

/// The limit on tokens, by its new name or its old one.
fn limit(fields: &mut Fields, options: &ServerOptions) -> Result<usize, ApiError> {
    let range = 1..=options.max_tokens;
    let old = fields.integer("max_tokens", range.clone())?;
    let new = fields.integer("max_completion_tokens", range)?;
    match (new, old) {
        (Some(new), Some(old)) if new != old => Err(ApiError::field(
            "max_tokens",
            "max_tokens and max_completion_tokens differ; give one of them",
        )),
        (new, old) => Ok(new.or(old).unwrap_or(options.default_max_tokens)),
    }
}

fn logprobs(fields: &mut Fields) -> Result<Option<usize>, ApiError> {
    let wanted = fields.boolean("logprobs")?.unwrap_or(false);
    let top = fields.integer("top_logprobs", 0..=MOST_LOGPROBS)?;
    match top {
        Some(top) if top > 0 && !wanted => {
            Err(ApiError::field("top_logprobs", "top_logprobs needs logprobs to be true"))
        }
        top => Ok(wanted.then(|| top.unwrap_or(0))),
    }
}

fn text_only(fields: &mut Fields) -> Result<(), ApiError> {
    let Some(mut format) = fields.object("response_format")? else { return Ok(()) };
    match format.string("type")?.as_deref() {
        Some("text") => format.finish(&[]),
        Some(other) => Err(ApiError::field(
            "response_format",
            format!(
                "response_format of type {other:?} is not supported by this host; only text is"
            ),
        )
        .code("unsupported_parameter")),
        None => Err(missing("response_format.type")),
    }
}

fn messages(fields: &mut Fields) -> Result<Vec<Message>, ApiError> {
    let items = fields.array("messages")?.ok_or_else(|| missing("messages"))?;
    if items.is_empty() {
        return Err(ApiError::field("messages", "messages is empty; give at least one message"));
    }
    let each = items.into_iter().enumerate();
    each.map(|(index, item)| message(item, &format!("messages[{index}]"))).collect()
}

fn message(item: Value, path: &str) -> Result<Message, ApiError> {
    let mut fields = Fields::within(item, path)?;
    let path = fields.path("role");
    let name = fields.string("role")?.ok_or_else(|| missing(&path))?;
    let role = match name.as_str() {
        "system" | "developer" => Role::System,
        "user" => Role::User,
        "assistant" => Role::Assistant,
        "tool" | "function" => {
            let message = format!("{path} is {name}, but tools are not supported by this host");
            return Err(ApiError::field(path, message).code("unsupported_value"));
        }
        _ => {
            let message = format!(
                "{path} is {name:?}, but it must be one of system, developer, user, assistant"
            );
            return Err(ApiError::field(path, message).code("invalid_value"));
        }
    };
    let path = fields.path("content");
    let content = fields.take("content").ok_or_else(|| missing(&path))?;
    fields.finish(UNSUPPORTED_IN_MESSAGES)?;
    Ok(Message::new(role, text(content, &path)?))
}

/// A content: text, or parts that are text.
fn text(content: Value, path: &str) -> Result<String, ApiError> {
    let parts = match content {
        Value::String(text) => return Ok(text),
        Value::Array(parts) => parts,
        _ => return Err(wrong(path, "a string or a list of text parts")),
    };
    if parts.is_empty() {
        return Err(ApiError::field(path, format!("{path} is empty; give at least one part")));
    }
    let each = parts.into_iter().enumerate();
    each.map(|(index, part)| text_part(part, &format!("{path}[{index}]"))).collect()
}

fn text_part(part: Value, path: &str) -> Result<String, ApiError> {
    let mut fields = Fields::within(part, path)?;
    let kind_path = fields.path("type");
    match fields.string("type")?.as_deref() {
        Some("text") => {}
        Some(other) => {
            return Err(ApiError::field(
                &kind_path,
                format!("{kind_path} is {other:?}, but only text is supported by this host"),
            )
            .code("unsupported_value"));
        }
        None => return Err(missing(&kind_path)),
    }
    let path = fields.path("text");
    let text = fields.string("text")?.ok_or_else(|| missing(&path))?;
    fields.finish(&[])?;
    Ok(text)
}
