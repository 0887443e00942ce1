//! What those who run the server ask it: whether it lives, whether it takes requests, and
//! what it has counted.

use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use http::{HeaderMap, StatusCode, header};
use serde::Serialize;

use crate::app::{App, Phase};
use crate::error::ApiError;
use crate::{json, metrics, openapi};

#[derive(Debug, Serialize)]
struct Status {
    status: &'static str,
}

/// The routes that need no key.
pub(crate) fn open_routes() -> Router<Arc<App>> {
    Router::new()
        .route("/healthz", get(healthz))
        .route("/readyz", get(readyz))
        .route("/openapi.json", get(openapi::document))
}

/// The routes that do, where there is one.
pub(crate) fn keyed_routes() -> Router<Arc<App>> {
    Router::new().route("/metrics", get(measured))
}

async fn healthz() -> Response {
    json::response(StatusCode::OK, &Status { status: "alive" })
}

async fn readyz(State(app): State<Arc<App>>) -> Result<Response, ApiError> {
    app.backend()?;
    if *app.phase.borrow() != Phase::Serving {
        let refused = aio_serve::Refused::Draining;
        return Err(ApiError::from_refusal(&refused, app.retry_after(&refused)));
    }
    Ok(json::response(StatusCode::OK, &Status { status: "ready" }))
}

async fn measured(State(app): State<Arc<App>>) -> Response {
    let status = app.backend().ok().map(|backend| backend.status());
    let mut headers = HeaderMap::new();
    let kind = http::HeaderValue::from_static(metrics::CONTENT_TYPE);
    headers.insert(header::CONTENT_TYPE, kind);
    (headers, app.metrics.encode(status)).into_response()
}
