//! The description of the interface for programs. It is kept by hand, as a file that
//! people read too; tests hold it against what the server takes and answers.

use axum::response::{IntoResponse, Response};
use http::{HeaderValue, header};

/// The description, as JSON text in the form of OpenAPI 3.1.
pub const OPENAPI: &str = include_str!("openapi.json");

pub(crate) async fn document() -> Response {
    let json = HeaderValue::from_static("application/json");
    ([(header::CONTENT_TYPE, json)], OPENAPI).into_response()
}
