//! `/v1/models`: the tiers, and `auto`, which leaves the choice among them to the policy.

use std::sync::Arc;

use aio_core::TierInfo;
use axum::extract::rejection::PathRejection;
use axum::extract::{Path, State};
use axum::response::{IntoResponse, Response};
use http::StatusCode;
use serde::Serialize;

use super::settings::{AUTO, no_model};
use crate::app::App;
use crate::error::ApiError;
use crate::json;

#[derive(Debug, Serialize)]
struct List<'a> {
    object: &'static str,
    data: Vec<Model<'a>>,
}

/// A model as OpenAI's interface has it, and what this host knows of it besides.
#[derive(Debug, Serialize)]
struct Model<'a> {
    id: &'a str,
    object: &'static str,
    created: u64,
    owned_by: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    aio: Option<&'a TierInfo>,
}

fn model<'a>(app: &App, id: &'a str, tier: Option<&'a TierInfo>) -> Model<'a> {
    Model { id, object: "model", created: app.started, owned_by: "aio", aio: tier }
}

pub(super) async fn list(State(app): State<Arc<App>>) -> Result<Response, ApiError> {
    let host = app.backend()?.host();
    let tiers = host.tiers.iter().map(|tier| model(&app, &tier.name, Some(tier)));
    let data = std::iter::once(model(&app, AUTO, None)).chain(tiers).collect();
    Ok(json::response(StatusCode::OK, &List { object: "list", data }))
}

pub(super) async fn one(
    State(app): State<Arc<App>>,
    id: Result<Path<String>, PathRejection>,
) -> Result<Response, ApiError> {
    let Path(id) = id.map_err(|rejection| ApiError::invalid(rejection.body_text()))?;
    let host = app.backend()?.host();
    let tier = host.tiers.iter().find(|tier| tier.name == id);
    if tier.is_none() && id != AUTO {
        return Ok(no_model(&id, host).into_response());
    }
    Ok(json::response(StatusCode::OK, &model(&app, &id, tier)))
}
