//! JSON in and out: bodies read within bounds of size and time, and answers.
//! Knows nothing of what is in them.

use std::time::Duration;

use axum::body::Body;
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Request, StatusCode, header};
use http_body_util::{BodyExt, LengthLimitError, Limited};
use serde::Serialize;
use serde_json::{Map, Value};

use crate::error::ApiError;

/// How large a body may be, and how long it may take to come.
#[derive(Debug, Clone, Copy)]
pub(crate) struct BodyLimits {
    pub(crate) bytes: usize,
    pub(crate) time: Duration,
}

/// An answer.
pub(crate) fn response(status: StatusCode, body: &impl Serialize) -> Response {
    match serde_json::to_vec(body) {
        Ok(bytes) => {
            let json = HeaderValue::from_static("application/json");
            (status, [(header::CONTENT_TYPE, json)], bytes).into_response()
        }
        // Types of ours with string keys: there is nothing in them that JSON has no
        // form for.
        Err(error) => {
            tracing::error!("an answer has no JSON: {error}");
            StatusCode::INTERNAL_SERVER_ERROR.into_response()
        }
    }
}

/// The object that a request's body is.
pub(crate) async fn object(
    request: Request<Body>,
    limits: BodyLimits,
) -> Result<Map<String, Value>, ApiError> {
    if !is_json(request.headers()) {
        return Err(ApiError::refused(
            StatusCode::UNSUPPORTED_MEDIA_TYPE,
            "the body must be JSON; send it with the header Content-Type: application/json",
        ));
    }
    parse(&bytes(request, limits).await?)
}

/// The bytes of a request's body.
pub(crate) async fn bytes(request: Request<Body>, limits: BodyLimits) -> Result<Bytes, ApiError> {
    let too_large = || {
        ApiError::refused(
            StatusCode::PAYLOAD_TOO_LARGE,
            format!("the body has more than {} bytes, the most that is taken", limits.bytes),
        )
    };
    // What says of itself that it is too large is not read at all.
    let said = request.headers().get(header::CONTENT_LENGTH);
    let said = said.and_then(|value| value.to_str().ok()?.parse::<u64>().ok());
    if said.is_some_and(|length| length > limits.bytes as u64) {
        return Err(too_large());
    }
    let body = Limited::new(request.into_body(), limits.bytes).collect();
    match tokio::time::timeout(limits.time, body).await {
        Ok(Ok(body)) => Ok(body.to_bytes()),
        Ok(Err(error)) if error.is::<LengthLimitError>() => Err(too_large()),
        Ok(Err(error)) => Err(ApiError::invalid(format!("the body could not be read: {error}"))),
        Err(_) => Err(ApiError::refused(
            StatusCode::REQUEST_TIMEOUT,
            format!("the body did not come within {} s", limits.time.as_secs_f64()),
        )),
    }
}

pub(crate) fn is_json(headers: &HeaderMap) -> bool {
    let Some(kind) = headers.get(header::CONTENT_TYPE) else { return false };
    let essence = kind.to_str().unwrap_or_default().split(';').next().unwrap_or_default();
    essence.trim().eq_ignore_ascii_case("application/json")
}

fn parse(bytes: &[u8]) -> Result<Map<String, Value>, ApiError> {
    if let Err(error) = std::str::from_utf8(bytes) {
        let before = &bytes[..error.valid_up_to()];
        let line = before.iter().filter(|&&byte| byte == b'\n').count() + 1;
        let column = before.iter().rev().take_while(|&&byte| byte != b'\n').count() + 1;
        return Err(ApiError::invalid(format!(
            "the body is not UTF-8: what stands at line {line} column {column} is no character"
        )));
    }
    // It says line and column of its own, and bounds how deep values nest.
    match serde_json::from_slice(bytes) {
        Ok(Value::Object(fields)) => Ok(fields),
        Ok(_) => Err(ApiError::invalid("the body must be a JSON object, {...}")),
        Err(error) => Err(ApiError::invalid(format!("the body is not valid JSON: {error}"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(body: &[u8]) -> String {
        format!("{:?}", parse(body).unwrap_err())
    }

    #[test]
    fn what_is_no_object_is_refused_with_its_place() {
        assert!(refusal(b"{\n \"a\": x}").contains("expected value at line 2 column 7"));
        assert!(refusal(b"{\n\"a\": \"\xff\"}").contains("line 2 column 7 is no character"));
        assert!(refusal(b"[]").contains("must be a JSON object"));
        assert!(refusal(&[b'['; 100_000]).contains("recursion limit exceeded"));
    }
}
