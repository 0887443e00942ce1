//! The HTTP face of the host: OpenAI's interface for clients, health and metrics for
//! those who run it, administration of policies for the operator.
//!
//! A [`Server`] listens at once and says that it is not ready; [`Handle::ready`] gives it
//! the [`Backend`] that answers: the service of `aio-serve`, or a script in tests. This
//! crate turns JSON into requests and events into JSON. It decides nothing about a
//! request, and must not know models, tensors, WebAssembly, files of configuration or the
//! command line.

mod admin;
mod app;
mod backend;
mod error;
mod json;
mod measure;
mod metrics;
mod openai;
mod openapi;
mod operate;
mod options;
mod records;
mod routes;
mod secret;
mod server;
mod socket;
mod traces;

pub use backend::{AnswerEvents, Backend, BoxAnswer};
pub use openapi::OPENAPI;
pub use options::{AdminOptions, ServerOptions, TraceOptions};
pub use secret::Secret;
pub use server::{BindError, Ended, Handle, Server};
