//! The forms of answers: completions and their chunks, usage, and what was decided.

use aio_core::{Failure, FinishReason, Plan, PolicyIdentity, RequestRecord, Totals};
use aio_serve::PlannedEvent;
use axum::response::Response;
use http::{HeaderMap, HeaderName, HeaderValue};
use serde::Serialize;

use super::Kind;
use super::logprobs::{ChatLogprobs, TextLogprobs};
use crate::app::App;
use crate::error::ApiError;

/// What is the same in all chunks of an answer, or in the whole one.
#[derive(Debug, Clone)]
pub(super) struct Heading {
    id: String,
    created: u64,
    /// Answers with the same seed and this are the same.
    fingerprint: String,
}

impl Heading {
    pub(super) fn new(app: &App, kind: Kind, number: u64) -> Self {
        let prefix = match kind {
            Kind::Chat => "chatcmpl",
            Kind::Text => "cmpl",
        };
        // Numbers begin anew with the process.
        let id = format!("{prefix}-{:x}-{number}", app.started);
        let fingerprint = app.fingerprint();
        Self { id, created: crate::app::now(), fingerprint }
    }

    pub(super) fn body<'a>(
        &'a self,
        object: &'static str,
        model: &'a str,
        choices: Vec<Choice<'a>>,
    ) -> Completion<'a> {
        Completion {
            id: &self.id,
            object,
            created: self.created,
            model,
            system_fingerprint: &self.fingerprint,
            choices,
            usage: None,
            aio: None,
        }
    }
}

/// A completion, or a chunk of one.
#[derive(Debug, Serialize)]
pub(super) struct Completion<'a> {
    id: &'a str,
    object: &'static str,
    created: u64,
    model: &'a str,
    system_fingerprint: &'a str,
    choices: Vec<Choice<'a>>,
    /// Chunks have it as `null` where one at the end will tell.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) usage: Option<Option<Usage>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) aio: Option<Decision>,
}

/// One of the answers, or more of it.
#[derive(Debug, Serialize)]
pub(super) struct Choice<'a> {
    pub(super) index: usize,
    #[serde(flatten)]
    pub(super) said: Said<'a>,
    pub(super) logprobs: Option<Logprobs<'a>>,
    pub(super) finish_reason: Option<&'static str>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Said<'a> {
    Message(Message<'a>),
    Delta(Delta<'a>),
    Text(&'a str),
}

#[derive(Debug, Serialize)]
pub(super) struct Message<'a> {
    pub(super) role: &'static str,
    pub(super) content: &'a str,
    pub(super) refusal: Option<()>,
}

#[derive(Debug, Default, Serialize)]
pub(super) struct Delta<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) role: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) content: Option<&'a str>,
}

#[derive(Debug, Serialize)]
#[serde(untagged)]
pub(super) enum Logprobs<'a> {
    Chat(ChatLogprobs<'a>),
    Text(TextLogprobs),
}

/// Tokens read and written.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub(super) struct Usage {
    prompt_tokens: u64,
    completion_tokens: u64,
    total_tokens: u64,
    prompt_tokens_details: PromptTokensDetails,
}

/// What else is to be said of the tokens read.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
struct PromptTokensDetails {
    /// Those that other requests had computed already.
    cached_tokens: u64,
}

impl Usage {
    /// Of all choices. A prompt counts once, however many choices it has.
    pub(super) fn of(records: &[Box<RequestRecord>], choices_per_prompt: usize) -> Self {
        let prompts = records.iter().step_by(choices_per_prompt.max(1));
        let (prompt_tokens, cached_tokens) = prompts.fold((0, 0), |(all, cached), record| {
            (all + u64::from(record.prompt_tokens), cached + u64::from(record.cached_tokens))
        });
        let completion_tokens =
            records.iter().map(|record| u64::from(record.totals.committed)).sum();
        let total_tokens = prompt_tokens + completion_tokens;
        let prompt_tokens_details = PromptTokensDetails { cached_tokens };
        Self { prompt_tokens, completion_tokens, total_tokens, prompt_tokens_details }
    }
}

/// What was decided about a choice, and what came of it.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Decision {
    index: usize,
    request: u64,
    seed: u64,
    tier: String,
    policy: PolicyIdentity,
    plan: Plan,
    #[serde(flatten)]
    outcome: Option<Outcome>,
    /// Where there are several choices, the same of each.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    choices: Vec<Decision>,
}

#[derive(Debug, Clone, Serialize)]
struct Outcome {
    rounds: usize,
    totals: Totals,
    #[serde(skip_serializing_if = "Option::is_none")]
    speculation_off: Option<String>,
    failures: Vec<Failure>,
}

impl Decision {
    pub(super) fn planned(index: usize, request: u64, seed: u64, planned: &PlannedEvent) -> Self {
        Self {
            index,
            request,
            seed,
            tier: planned.tier.clone(),
            policy: planned.policy.clone(),
            plan: planned.plan.clone(),
            outcome: None,
            choices: Vec::new(),
        }
    }

    pub(super) fn ended(index: usize, seed: u64, record: &RequestRecord) -> Self {
        let outcome = Outcome {
            rounds: record.rounds.len(),
            totals: record.totals.clone(),
            speculation_off: record.speculation_off.clone(),
            failures: record.failures.clone(),
        };
        Self {
            index,
            request: record.request,
            seed,
            tier: record.tier.name.clone(),
            policy: record.policy.clone(),
            plan: record.plan.clone(),
            outcome: Some(outcome),
            choices: Vec::new(),
        }
    }

    /// The decision about the first of several choices, with those about all.
    pub(super) fn with_all(mut all: Vec<Self>) -> Option<Self> {
        let mut first = all.first()?.clone();
        if all.len() > 1 {
            first.choices.append(&mut all);
        }
        Some(first)
    }
}

/// The decision about the first choice, as headers.
pub(super) fn head(response: &mut Response, number: u64, tier: &str, policy: &PolicyIdentity) {
    let headers = response.headers_mut();
    insert(headers, "x-aio-request", &number.to_string());
    insert(headers, "x-aio-tier", tier);
    insert(headers, "x-aio-policy", &policy.name);
    insert(headers, "x-aio-generation", &policy.generation.to_string());
}

/// Names are whatever files are called and policies call themselves; what cannot stand
/// in a header is left out of it, and is in the body still.
fn insert(headers: &mut HeaderMap, name: &'static str, value: &str) {
    if let Ok(value) = HeaderValue::from_str(value) {
        headers.insert(HeaderName::from_static(name), value);
    }
}

/// A finish reason as the interface calls it; an error where there was no end.
pub(super) fn finish_reason(record: &RequestRecord) -> Result<&'static str, ApiError> {
    match record.finish_reason {
        FinishReason::Stop => Ok("stop"),
        FinishReason::Length => Ok("length"),
        FinishReason::Cancelled => Err(ApiError::internal("the request was given up")),
        FinishReason::Error => {
            Err(ApiError::internal("the device failed before the answer was whole"))
        }
    }
}
