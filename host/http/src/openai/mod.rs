//! OpenAI's interface: what clients send, and the answers in the forms that they expect.
//! It must not know connections or the scheduler's insides.

mod answers;
mod chat;
mod completions;
mod fields;
mod forms;
mod logprobs;
mod models;
mod overrides;
mod settings;
mod stream;
mod whole;

use std::sync::Arc;

use aio_serve::Request;
use axum::Router;
use axum::body::Body;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};

use self::answers::Answers;
pub(crate) use self::fields::Fields;
use crate::app::App;
use crate::error::ApiError;
use crate::json;
use crate::traces::Trace;

/// What kind of answer is wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// The next message of a conversation.
    Chat,
    /// Text that goes on.
    Text,
}

impl Kind {
    /// The field that the prompt comes in.
    fn prompt(self) -> &'static str {
        match self {
            Self::Chat => "messages",
            Self::Text => "prompt",
        }
    }
}

/// What a client asks for.
#[derive(Debug)]
struct Call {
    kind: Kind,
    /// One for each choice, in the order of their indices.
    requests: Vec<Request>,
    /// Choices that share a prompt.
    choices_per_prompt: usize,
    stream: bool,
    /// Whether a stream ends with the usage.
    include_usage: bool,
}

/// The routes.
pub(crate) fn routes() -> Router<Arc<App>> {
    Router::new()
        .route("/v1/chat/completions", post(chat))
        .route("/v1/completions", post(completions))
        .route("/v1/models", get(models::list))
        .route("/v1/models/{id}", get(models::one))
}

async fn chat(State(app): State<Arc<App>>, request: http::Request<Body>) -> Response {
    respond(app, request, Kind::Chat).await.unwrap_or_else(IntoResponse::into_response)
}

async fn completions(State(app): State<Arc<App>>, request: http::Request<Body>) -> Response {
    respond(app, request, Kind::Text).await.unwrap_or_else(IntoResponse::into_response)
}

async fn respond(
    app: Arc<App>,
    request: http::Request<Body>,
    kind: Kind,
) -> Result<Response, ApiError> {
    let backend = app.backend()?;
    let trace = request.extensions().get::<Trace>().cloned().unwrap_or_default();
    let fields = Fields::new(json::object(request, app.body_limits()).await?);
    let call = match kind {
        Kind::Chat => chat::read(fields, &app.options, backend.host())?,
        Kind::Text => completions::read(fields, &app.options, backend.host())?,
    };
    let answers = Answers::submit(&app, &call, trace)?;
    if call.stream {
        stream::respond(&app, &call, answers).await
    } else {
        whole::respond(&app, &call, answers).await
    }
}
