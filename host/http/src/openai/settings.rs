//! What both kinds of completions are asked with: model, sampling, limits, and how the
//! answer is to come.

use std::collections::BTreeMap;

use aio_core::HostInfo;
use aio_engine::chat::{Message, Role};
use aio_engine::sampling::Sampling;
use aio_serve::{Overrides, Prompt, Request};
use http::StatusCode;
use serde_json::Value;

use super::fields::{Fields, missing, wrong};
use super::overrides;
use super::{Call, Kind};
use crate::error::ApiError;
use crate::options::ServerOptions;

/// The model's name that leaves the choice to the policy.
pub(super) const AUTO: &str = "auto";

/// Most texts that may end an answer.
const MOST_STOPS: usize = 4;
/// Bounds on what is said of a request, as in OpenAI's interface.
const MOST_METADATA: usize = 16;
const MOST_KEY_CHARS: usize = 64;
const MOST_VALUE_CHARS: usize = 512;

/// Seeds that are chosen here are numbers that every JSON reader keeps exact.
const SEED_BITS: u32 = 53;

/// Everything but the prompt.
#[derive(Debug)]
pub(super) struct Settings {
    sampling: Sampling,
    most_tokens: usize,
    stop: Vec<String>,
    choices: usize,
    stream: bool,
    include_usage: bool,
    user: Option<String>,
    metadata: BTreeMap<String, String>,
    overrides: Overrides,
    priority: i32,
}

impl Settings {
    pub(super) fn read(
        fields: &mut Fields,
        options: &ServerOptions,
        host: &HostInfo,
        most_tokens: usize,
    ) -> Result<Self, ApiError> {
        let model = fields.string("model")?.ok_or_else(|| missing("model"))?;
        let model = model_tier(&model, host)?;
        let (mut overrides, priority) = overrides::read(fields, options, host)?;
        if let (Some(model), Some(tier)) = (model, overrides.tier)
            && model != tier
        {
            return Err(ApiError::field("aio.tier", "aio.tier and model name different tiers"));
        }
        overrides.tier = overrides.tier.or(model);
        let stream = fields.boolean("stream")?.unwrap_or(false);
        let choices = fields.integer("n", 1..=options.max_choices)?.unwrap_or(1);
        let user = fields.string("user")?;
        Ok(Self {
            sampling: sampling(fields, options)?,
            most_tokens,
            stop: stop(fields)?,
            choices,
            stream,
            include_usage: include_usage(fields, stream)?,
            metadata: metadata(fields, user.as_deref())?,
            user,
            overrides,
            priority,
        })
    }

    /// Bounds the answers to several prompts together.
    pub(super) fn check_choices(
        &self,
        prompts: usize,
        options: &ServerOptions,
    ) -> Result<(), ApiError> {
        let most = options.max_choices;
        if prompts.saturating_mul(self.choices) <= most {
            return Ok(());
        }
        let message = format!(
            "{prompts} prompts with {} answers each are more than the {most} answers that one \
             request may ask for",
            self.choices
        );
        Err(ApiError::field("prompt", message).code("invalid_value"))
    }

    /// One request for each choice. Choices of a prompt differ in their seed, so that
    /// each can be asked for again alone.
    pub(super) fn into_call(
        self,
        kind: Kind,
        prompts: Vec<Prompt>,
        logprobs: Option<usize>,
    ) -> Call {
        let mut requests = Vec::with_capacity(prompts.len() * self.choices);
        for prompt in prompts {
            for choice in 0..self.choices as u64 {
                let seed = self.sampling.seed.wrapping_add(choice);
                let sampling = Sampling { seed, ..self.sampling.clone() };
                let key = self.user.as_deref().unwrap_or_else(|| opening(&prompt));
                requests.push(Request {
                    stop: self.stop.clone(),
                    metadata: self.metadata.clone(),
                    key: Some(aio_policy::request_key(key)),
                    priority: self.priority,
                    logprobs,
                    overrides: self.overrides,
                    ..Request::new(prompt.clone(), self.most_tokens, sampling)
                });
            }
        }
        Call {
            kind,
            requests,
            choices_per_prompt: self.choices,
            stream: self.stream,
            include_usage: self.include_usage,
        }
    }
}

/// What a request begins with: what makes it the same request another time.
fn opening(prompt: &Prompt) -> &str {
    match prompt {
        Prompt::Raw(text) => text,
        Prompt::Chat(messages) => {
            let user = |message: &&Message| message.role == Role::User;
            messages.iter().find(user).map_or("", |message| &message.content)
        }
    }
}

/// The tier that a model's name stands for; `None` where the policy is to decide.
fn model_tier(name: &str, host: &HostInfo) -> Result<Option<u32>, ApiError> {
    if name == AUTO {
        return Ok(None);
    }
    match tier(name, host) {
        Some(tier) => Ok(Some(tier)),
        None => Err(no_model(name, host)),
    }
}

/// The index of the tier with a name.
pub(super) fn tier(name: &str, host: &HostInfo) -> Option<u32> {
    let index = host.tiers.iter().position(|tier| tier.name == name)?;
    u32::try_from(index).ok()
}

/// Refuses a model's name.
pub(super) fn no_model(name: &str, host: &HostInfo) -> ApiError {
    let names: Vec<&str> = host.tiers.iter().map(|tier| tier.name.as_str()).collect();
    let message =
        format!("there is no model {name:?}; the models are {AUTO}, {}", names.join(", "));
    ApiError::refused(StatusCode::NOT_FOUND, message).param("model").code("model_not_found")
}

/// `top_k`, `min_p` and `repetition_penalty` are no part of OpenAI's interface; other
/// hosts of open models have them under these names.
fn sampling(fields: &mut Fields, options: &ServerOptions) -> Result<Sampling, ApiError> {
    let default = Sampling::default();
    let temperature = fields.number("temperature", 0.0..=2.0)?;
    // The interface allows 0, which can only mean the likeliest token.
    let top_p = fields.number("top_p", 0.0..=1.0)?.map(|p| p.max(f32::MIN_POSITIVE));
    let sampling = Sampling {
        temperature: temperature.unwrap_or(options.default_temperature),
        top_p: top_p.unwrap_or(default.top_p),
        top_k: fields.integer("top_k", 0..=usize::MAX)?.unwrap_or(default.top_k),
        min_p: fields.number("min_p", 0.0..=1.0)?.unwrap_or(default.min_p),
        repetition_penalty: fields
            .number("repetition_penalty", f32::MIN_POSITIVE..=f32::MAX)?
            .unwrap_or(default.repetition_penalty),
        seed: seed(fields)?,
        ..default
    };
    sampling.check().map_err(ApiError::invalid)?;
    Ok(sampling)
}

/// The seed, or one that nobody could have guessed: it is told with the answer.
fn seed(fields: &mut Fields) -> Result<u64, ApiError> {
    match fields.take("seed") {
        // A negative one is as good as any other.
        Some(value) => match (value.as_u64(), value.as_i64()) {
            (Some(seed), _) => Ok(seed),
            (_, Some(seed)) => Ok(seed.cast_unsigned()),
            _ => Err(wrong("seed", "a whole number")),
        },
        None => match getrandom::u64() {
            Ok(random) => Ok(random >> (u64::BITS - SEED_BITS)),
            Err(error) => {
                let message = format!("no seed could be drawn, give one with seed: {error}");
                Err(ApiError::internal(message))
            }
        },
    }
}

fn stop(fields: &mut Fields) -> Result<Vec<String>, ApiError> {
    let texts = match fields.take("stop") {
        None => Vec::new(),
        Some(Value::String(text)) => vec![text],
        Some(Value::Array(items)) => items.into_iter().map(stop_text).collect::<Result<_, _>>()?,
        Some(_) => return Err(wrong("stop", "a string or a list of strings")),
    };
    if texts.len() > MOST_STOPS {
        let message = format!("stop has {} texts, but at most {MOST_STOPS} are taken", texts.len());
        return Err(ApiError::field("stop", message).code("invalid_value"));
    }
    if texts.iter().any(String::is_empty) {
        return Err(ApiError::field("stop", "stop has an empty text; leave it out"));
    }
    Ok(texts)
}

fn stop_text(item: Value) -> Result<String, ApiError> {
    match item {
        Value::String(text) => Ok(text),
        _ => Err(wrong("stop", "a string or a list of strings")),
    }
}

fn include_usage(fields: &mut Fields, stream: bool) -> Result<bool, ApiError> {
    let Some(mut within) = fields.object("stream_options")? else { return Ok(false) };
    if !stream {
        let message = "stream_options needs stream to be true";
        return Err(ApiError::field("stream_options", message));
    }
    let include = within.boolean("include_usage")?.unwrap_or(false);
    // Padding that hides lengths from who listens; there is none either way.
    within.boolean("include_obfuscation")?;
    within.finish(&[])?;
    Ok(include)
}

/// `metadata`, and `user` beside it under that name.
fn metadata(fields: &mut Fields, user: Option<&str>) -> Result<BTreeMap<String, String>, ApiError> {
    let mut metadata = BTreeMap::new();
    match fields.take("metadata") {
        None => {}
        Some(Value::Object(given)) if given.len() <= MOST_METADATA => {
            for (key, value) in given {
                let Value::String(value) = value else {
                    return Err(wrong(&format!("metadata.{key}"), "a string"));
                };
                if key.chars().count() > MOST_KEY_CHARS || value.chars().count() > MOST_VALUE_CHARS
                {
                    let message = format!(
                        "metadata may have keys of {MOST_KEY_CHARS} characters and values of \
                         {MOST_VALUE_CHARS}; one has more"
                    );
                    return Err(ApiError::field("metadata", message).code("invalid_value"));
                }
                metadata.insert(key, value);
            }
        }
        Some(_) => {
            return Err(wrong("metadata", &format!("an object of at most {MOST_METADATA} fields")));
        }
    }
    if let Some(user) = user {
        metadata.insert("user".into(), user.into());
    }
    Ok(metadata)
}
