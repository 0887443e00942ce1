//! Administration: policies loaded, gone back from, placed beside the one in place; the
//! records of requests; the end. For the operator, on an address of its own.
//!
//! Whatever concerns policies runs on a thread that may block: compiling one takes
//! seconds.

use std::sync::Arc;

use aio_core::{RequestRecord, ShadowReport};
use aio_policy::{
    LoadError, PolicyHost, PolicySource, PolicyStatus, Reloaded, Share, Started, Step, Withdrawn,
};
use axum::Router;
use axum::body::Body;
use axum::extract::rejection::{PathRejection, QueryRejection};
use axum::extract::{Path, Query, State};
use axum::response::Response;
use axum::routing::{get, post};
use http::{Request, StatusCode, header};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::app::App;
use crate::error::ApiError;
use crate::json::{self, BodyLimits};
use crate::openai::Fields;

/// Bytes of a component that is sent: as many as policies may have by default.
const COMPONENT_BYTES: usize = 64 << 20;
/// Records that are listed where nothing is said.
const LISTED: usize = 20;

/// The routes.
pub(crate) fn routes() -> Router<Arc<App>> {
    Router::new()
        .route("/admin/policies", get(policies).post(load))
        .route("/admin/policies/rollback", post(roll_back))
        .route("/admin/canary", post(place_canary).delete(withdraw_canary))
        .route("/admin/canary/promote", post(promote_canary))
        .route("/admin/shadows", post(add_shadow).delete(remove_shadows))
        .route("/admin/drain", post(drain))
        .route("/admin/requests", get(requests))
        .route("/admin/requests/{number}", get(request))
}

/// What is said of all policies.
#[derive(Debug, Serialize)]
struct Policies {
    /// The generation of the policy in place.
    generation: u64,
    policies: Vec<PolicyStatus>,
    canary: Option<Canary>,
    withdrawn: Option<WithdrawnCanary>,
    shadows: Vec<ShadowReport>,
}

#[derive(Debug, Serialize)]
struct Canary {
    generation: u64,
    percent: f64,
}

#[derive(Debug, Serialize)]
struct WithdrawnCanary {
    policy: aio_core::PolicyIdentity,
    reason: String,
}

/// What placing a policy did.
#[derive(Debug, Serialize)]
struct Placed {
    policy: aio_core::PolicyIdentity,
    #[serde(skip_serializing_if = "Option::is_none")]
    replaced: Option<aio_core::PolicyIdentity>,
    steps: Vec<StepTime>,
    changes: Vec<String>,
}

#[derive(Debug, Serialize)]
struct StepTime {
    step: String,
    seconds: f64,
}

impl From<Reloaded> for Placed {
    fn from(reloaded: Reloaded) -> Self {
        let Reloaded { policy, replaced, steps, changes } = reloaded;
        Self { policy, replaced: Some(replaced), steps: times(steps), changes }
    }
}

impl From<Started> for Placed {
    fn from(started: Started) -> Self {
        let Started { policy, steps, changes } = started;
        Self { policy, replaced: None, steps: times(steps), changes }
    }
}

fn times(steps: Vec<(Step, f64)>) -> Vec<StepTime> {
    let time = |(step, seconds): (Step, f64)| StepTime { step: step.to_string(), seconds };
    steps.into_iter().map(time).collect()
}

impl From<Withdrawn> for WithdrawnCanary {
    fn from(withdrawn: Withdrawn) -> Self {
        Self { policy: withdrawn.policy, reason: withdrawn.reason }
    }
}

/// Why a policy was not placed.
#[derive(Debug, Serialize)]
struct Failed<'a> {
    error: FailedStep<'a>,
}

#[derive(Debug, Serialize)]
struct FailedStep<'a> {
    message: String,
    r#type: &'static str,
    param: Option<()>,
    code: &'static str,
    step: &'a str,
}

/// A policy that is asked for, and its configuration.
struct Wanted {
    source: PolicySource,
    config: Option<String>,
}

/// What the address says of a component that is sent as it is.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Sent {
    #[serde(default)]
    name: String,
    config: Option<String>,
}

/// What the address says of records.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Listing {
    limit: Option<usize>,
}

async fn policies(State(app): State<Arc<App>>) -> Result<Response, ApiError> {
    let status = on_thread(&app, |policies| {
        let canary = policies.canary().map(|canary| Canary {
            generation: canary.generation.identity().generation,
            percent: canary.share.as_percent(),
        });
        Policies {
            generation: policies.current().identity().generation,
            policies: policies.status(),
            canary,
            withdrawn: policies.withdrawn().map(WithdrawnCanary::from),
            shadows: policies.shadow_reports(),
        }
    });
    Ok(json::response(StatusCode::OK, &status.await?))
}

async fn load(
    State(app): State<Arc<App>>,
    sent: Result<Query<Sent>, QueryRejection>,
    request: Request<Body>,
) -> Result<Response, ApiError> {
    let wanted = match is_component(&request) {
        true => component(sent, request, &app).await?,
        false => {
            let mut fields = Fields::new(json::object(request, app.body_limits()).await?);
            let wanted = wanted(&mut fields)?;
            fields.finish(&[])?;
            wanted
        }
    };
    let reloaded =
        on_thread(&app, move |policies| policies.reload(&wanted.source, wanted.config)).await?;
    Ok(placed(reloaded.map(Placed::from)))
}

async fn roll_back(State(app): State<Arc<App>>) -> Result<Response, ApiError> {
    let reloaded = on_thread(&app, PolicyHost::roll_back).await?;
    Ok(placed(reloaded.map(Placed::from)))
}

async fn place_canary(
    State(app): State<Arc<App>>,
    request: Request<Body>,
) -> Result<Response, ApiError> {
    let mut fields = Fields::new(json::object(request, app.body_limits()).await?);
    let Wanted { source, config } = wanted(&mut fields)?;
    let share = share(&mut fields)?;
    fields.finish(&[])?;
    let set = move |policies: &PolicyHost| policies.set_canary(&source, config, share);
    Ok(placed(on_thread(&app, set).await?.map(Placed::from)))
}

async fn promote_canary(State(app): State<Arc<App>>) -> Result<Response, ApiError> {
    let reloaded = on_thread(&app, PolicyHost::promote).await?;
    Ok(placed(reloaded.map(Placed::from)))
}

async fn withdraw_canary(State(app): State<Arc<App>>) -> Result<Response, ApiError> {
    match on_thread(&app, PolicyHost::withdraw).await? {
        Some(policy) => {
            let placed = Placed { policy, replaced: None, steps: Vec::new(), changes: Vec::new() };
            Ok(json::response(StatusCode::OK, &placed))
        }
        None => Err(ApiError::refused(StatusCode::NOT_FOUND, "there is no canary")),
    }
}

async fn add_shadow(
    State(app): State<Arc<App>>,
    request: Request<Body>,
) -> Result<Response, ApiError> {
    let mut fields = Fields::new(json::object(request, app.body_limits()).await?);
    let Wanted { source, config } = wanted(&mut fields)?;
    fields.finish(&[])?;
    let add = move |policies: &PolicyHost| policies.add_shadow(&source, config);
    Ok(placed(on_thread(&app, add).await?.map(Placed::from)))
}

async fn remove_shadows(State(app): State<Arc<App>>) -> Result<Response, ApiError> {
    let removed = on_thread(&app, |policies| {
        let reports = policies.shadow_reports();
        policies.remove_shadows();
        reports
    });
    Ok(json::response(StatusCode::OK, &Removed { removed: removed.await? }))
}

/// What shadows said until they were removed.
#[derive(Debug, Serialize)]
struct Removed {
    removed: Vec<ShadowReport>,
}

/// Ends the server as SIGTERM does.
async fn drain(State(app): State<Arc<App>>) -> Result<Response, ApiError> {
    let status = app.backend()?.status();
    app.drain();
    let work = Work { running: status.running, waiting: status.waiting };
    Ok(json::response(StatusCode::ACCEPTED, &work))
}

/// What is still to be answered.
#[derive(Debug, Serialize)]
struct Work {
    running: usize,
    waiting: usize,
}

#[derive(Debug, Serialize)]
struct Requests<'a> {
    requests: Vec<&'a RequestRecord>,
}

async fn requests(
    State(app): State<Arc<App>>,
    listing: Result<Query<Listing>, QueryRejection>,
) -> Result<Response, ApiError> {
    let Query(listing) = listing.map_err(|rejection| ApiError::invalid(rejection.body_text()))?;
    let requests = app.records.last(listing.limit.unwrap_or(LISTED));
    let requests = requests.iter().map(|record| &**record).collect();
    Ok(json::response(StatusCode::OK, &Requests { requests }))
}

async fn request(
    State(app): State<Arc<App>>,
    number: Result<Path<u64>, PathRejection>,
) -> Result<Response, ApiError> {
    let Path(number) = number.map_err(|rejection| ApiError::invalid(rejection.body_text()))?;
    match app.records.get(number) {
        Some(record) => Ok(json::response(StatusCode::OK, &*record)),
        None => Err(ApiError::refused(
            StatusCode::NOT_FOUND,
            format!(
                "there is no record of a request {number}: it is not answered yet, or no longer \
                 among the last {}",
                app.options.records_kept
            ),
        )),
    }
}

/// Does something with the policies on a thread that may block.
async fn on_thread<T: Send + 'static>(
    app: &Arc<App>,
    call: impl FnOnce(&PolicyHost) -> T + Send + 'static,
) -> Result<T, ApiError> {
    let policies = app.backend()?.policies().cloned();
    let policies = policies
        .ok_or_else(|| ApiError::refused(StatusCode::NOT_FOUND, "this host has no policies"))?;
    let done = tokio::task::spawn_blocking(move || call(&policies)).await;
    done.map_err(|_| ApiError::internal("the host made a mistake with this policy"))
}

/// What came of placing a policy: where it failed, the step's name and sentence.
fn placed(result: Result<Placed, LoadError>) -> Response {
    match result {
        Ok(placed) => json::response(StatusCode::OK, &placed),
        Err(error) => {
            let step = error.step().to_string();
            let error = FailedStep {
                message: error.to_string(),
                r#type: "policy_error",
                param: None,
                code: "policy_not_loaded",
                step: &step,
            };
            json::response(StatusCode::UNPROCESSABLE_ENTITY, &Failed { error })
        }
    }
}

fn is_component(request: &Request<Body>) -> bool {
    let kind = request.headers().get(header::CONTENT_TYPE);
    kind.is_some_and(|kind| kind.as_bytes().eq_ignore_ascii_case(b"application/wasm"))
}

/// A component that is sent as it is.
async fn component(
    sent: Result<Query<Sent>, QueryRejection>,
    request: Request<Body>,
    app: &App,
) -> Result<Wanted, ApiError> {
    let limits = BodyLimits { bytes: COMPONENT_BYTES, time: app.options.body_timeout };
    // First of all, or a client that still sends finds the connection closed instead of
    // an answer.
    let bytes = json::bytes(request, limits).await?.to_vec();
    let Query(sent) = sent.map_err(|rejection| ApiError::invalid(rejection.body_text()))?;
    let config = sent.config.filter(|config| !config.is_empty());
    Ok(Wanted { source: PolicySource::Bytes { name: sent.name, bytes }, config })
}

/// A policy by name or path, with its configuration.
fn wanted(fields: &mut Fields) -> Result<Wanted, ApiError> {
    let source = match (fields.string("name")?, fields.string("path")?) {
        (Some(name), None) => PolicySource::from_argument(&name)
            .map_err(|error| ApiError::field("name", error.to_string()))?,
        (None, Some(path)) => PolicySource::File(path.into()),
        _ => return Err(ApiError::field("name", "give name or path, one of them")),
    };
    let config = match fields.take("config") {
        // As text it is what the policy gets, whatever it is.
        Some(Value::String(text)) => Some(text),
        config => config.map(|value| value.to_string()),
    };
    Ok(Wanted { source, config })
}

fn share(fields: &mut Fields) -> Result<Share, ApiError> {
    let percent = fields.take("percent");
    let share = percent.as_ref().and_then(Value::as_f64).and_then(Share::percent);
    share.ok_or_else(|| {
        let message = "percent must be a number from 0 to 100, in steps of 0.0001";
        ApiError::field("percent", message)
    })
}
