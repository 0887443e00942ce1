//! What is answered when a request cannot be served: OpenAI's error object, with the
//! status and headers that belong to it. Knows no routes.

use aio_serve::{Refused, ServeError};
use axum::response::{IntoResponse, Response};
use http::{HeaderValue, StatusCode, header};
use serde::Serialize;

use crate::json;

/// An error as clients see it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ApiError {
    pub(crate) status: StatusCode,
    kind: &'static str,
    code: Option<&'static str>,
    param: Option<String>,
    message: String,
    retry_after: Option<u64>,
}

/// The body: `{"error": {...}}`.
#[derive(Debug, Serialize)]
pub(crate) struct ErrorBody<'a> {
    error: ErrorObject<'a>,
}

#[derive(Debug, Serialize)]
struct ErrorObject<'a> {
    message: &'a str,
    r#type: &'static str,
    param: Option<&'a str>,
    code: Option<&'static str>,
}

impl ApiError {
    /// Something is wrong with the request.
    pub(crate) fn invalid(message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "invalid_request_error", message)
    }

    /// Something is wrong with a field of the request.
    pub(crate) fn field(param: impl Into<String>, message: impl Into<String>) -> Self {
        Self { param: Some(param.into()), ..Self::invalid(message) }
    }

    /// Another status for which the client is to blame.
    pub(crate) fn refused(status: StatusCode, message: impl Into<String>) -> Self {
        Self::new(status, "invalid_request_error", message)
    }

    /// The key is absent or wrong.
    pub(crate) fn unauthorized(message: impl Into<String>) -> Self {
        Self::new(StatusCode::UNAUTHORIZED, "authentication_error", message).code("invalid_api_key")
    }

    /// The host cannot take the request now.
    pub(crate) fn unavailable(message: impl Into<String>, retry_after: u64) -> Self {
        let error = Self::new(StatusCode::SERVICE_UNAVAILABLE, "service_unavailable", message);
        error.code("service_unavailable").retry_after(retry_after)
    }

    /// The host failed.
    pub(crate) fn internal(message: impl Into<String>) -> Self {
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, "server_error", message)
    }

    /// The answer took longer than a request may.
    pub(crate) fn timeout(seconds: f64) -> Self {
        let message = format!(
            "the answer took longer than {seconds} s, the most that this host gives a request; ask for fewer tokens, or try again when there is less load"
        );
        Self::new(StatusCode::GATEWAY_TIMEOUT, "timeout_error", message).code("request_timeout")
    }

    fn new(status: StatusCode, kind: &'static str, message: impl Into<String>) -> Self {
        Self { status, kind, code: None, param: None, message: message.into(), retry_after: None }
    }

    pub(crate) fn code(mut self, code: &'static str) -> Self {
        self.code = Some(code);
        self
    }

    pub(crate) fn param(mut self, param: &str) -> Self {
        self.param = Some(param.to_owned());
        self
    }

    fn retry_after(mut self, seconds: u64) -> Self {
        self.retry_after = Some(seconds.max(1));
        self
    }

    /// Why a request was not taken; `retry_after` is when it may be.
    pub(crate) fn from_refusal(refused: &Refused, retry_after: u64) -> Self {
        match refused {
            Refused::QueueFull { .. } => {
                Self::new(StatusCode::TOO_MANY_REQUESTS, "rate_limit_error", refused.to_string())
                    .code("queue_full")
                    .retry_after(retry_after)
            }
            Refused::Draining => Self::unavailable(refused.to_string(), retry_after),
        }
    }

    /// The body, for events of a stream as well.
    pub(crate) fn body(&self) -> ErrorBody<'_> {
        ErrorBody {
            error: ErrorObject {
                message: &self.message,
                r#type: self.kind,
                param: self.param.as_deref(),
                code: self.code,
            },
        }
    }
}

impl ApiError {
    /// Why there is no answer, or no more of it; `prompt` is the field that the prompt
    /// came in.
    pub(crate) fn from_failure(error: &ServeError, prompt: &str) -> Self {
        let message = error.to_string();
        match error {
            ServeError::PromptTooLong { tokens, context } => {
                let message = format!(
                    "the prompt has {tokens} tokens, but the context holds {context}, one of \
                     them for the answer; shorten the prompt"
                );
                Self::field(prompt, message).code("context_length_exceeded")
            }
            ServeError::NoTemplate { tier } => {
                let message = format!(
                    "tier {tier} has no chat template, so it cannot take a conversation; use \
                     /v1/completions"
                );
                Self::field("model", message)
            }
            ServeError::EmptyPrompt => Self::field(prompt, message),
            ServeError::NoTokens => Self::field("max_tokens", message),
            ServeError::Chat(_) | ServeError::Tokenizer(_) => Self::field(prompt, message),
            ServeError::Device(_) => Self::internal(message),
            // Whatever else there is, is the request's to mend.
            _ => Self::invalid(message),
        }
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let mut response = json::response(self.status, &self.body());
        let headers = response.headers_mut();
        if let Some(seconds) = self.retry_after {
            headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        if self.status == StatusCode::UNAUTHORIZED {
            headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        response
    }
}
