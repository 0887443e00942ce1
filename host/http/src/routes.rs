//! Which route leads where, and what holds for all of them: keys, counting, and an error
//! in JSON wherever there is nothing.

use std::any::Any;
use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::extract::{MatchedPath, State};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use http::{Method, Request, StatusCode, Uri};
use tower_http::catch_panic::CatchPanicLayer;

use crate::app::App;
use crate::error::ApiError;
use crate::{admin, openai, operate};

/// What clients see.
pub(crate) fn public(app: &Arc<App>) -> Router {
    let keyed = openai::routes()
        .merge(operate::keyed_routes())
        .route_layer(from_fn_with_state(Arc::clone(app), client_key));
    finish(keyed.merge(operate::open_routes()), app)
}

/// What the operator sees.
pub(crate) fn administration(app: &Arc<App>) -> Router {
    let keyed = admin::routes()
        .merge(operate::keyed_routes())
        .route_layer(from_fn_with_state(Arc::clone(app), admin_key));
    finish(keyed.merge(operate::open_routes()), app)
}

fn finish(router: Router<Arc<App>>, app: &Arc<App>) -> Router {
    router
        .fallback(no_route)
        .method_not_allowed_fallback(no_method)
        .layer(CatchPanicLayer::custom(panicked))
        .layer(from_fn_with_state(Arc::clone(app), count))
        .with_state(Arc::clone(app))
}

async fn client_key(State(app): State<Arc<App>>, request: Request<Body>, next: Next) -> Response {
    match app.keys.check(request.headers()) {
        Ok(()) => next.run(request).await,
        Err(error) => error.into_response(),
    }
}

async fn admin_key(State(app): State<Arc<App>>, request: Request<Body>, next: Next) -> Response {
    match app.admin_keys.check(request.headers()) {
        Ok(()) => next.run(request).await,
        Err(error) => error.into_response(),
    }
}

/// Counts a request by its route, and begins its trace: what there is no route for is
/// counted as one, since anybody may make up as many as they like.
async fn count(State(app): State<Arc<App>>, mut request: Request<Body>, next: Next) -> Response {
    let route = request.extensions().get::<MatchedPath>().cloned();
    let endpoint = route.as_ref().map_or("other", MatchedPath::as_str);
    let trace = app.traces.begin(&request, endpoint);
    request.extensions_mut().insert(trace.clone());
    let response = next.run(request).await;
    trace.answered(response.status());
    app.metrics.request(endpoint, response.status().as_u16());
    response
}

async fn no_route(method: Method, uri: Uri) -> ApiError {
    let message = format!("there is nothing at {method} {}", uri.path());
    ApiError::refused(StatusCode::NOT_FOUND, message).code("unknown_url")
}

async fn no_method(method: Method, uri: Uri) -> ApiError {
    let message =
        format!("{} does not take {method}; the header Allow has what it takes", uri.path());
    ApiError::refused(StatusCode::METHOD_NOT_ALLOWED, message).code("method_not_allowed")
}

fn panicked(panic: Box<dyn Any + Send + 'static>) -> Response {
    let said = panic.downcast_ref::<String>().map(String::as_str);
    let said = said.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("no message");
    tracing::error!("a request's handler panicked: {said}");
    ApiError::internal("the host made a mistake with this request").into_response()
}
