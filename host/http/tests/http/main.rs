//! The server over real sockets, in front of a scripted backend: no models.

#![allow(clippy::unwrap_used)]

mod admin;
mod client;
mod completions;
mod described;
mod life;
mod limits;
mod metrics;
mod refused;
mod script;
mod streamed;
mod traces;
