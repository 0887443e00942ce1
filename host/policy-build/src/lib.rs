//! New policy projects, and components made of them, in the languages that there
//! are templates for.
//!
//! [`create`] writes a project that builds as it is, anywhere: what it needs of
//! this repository (the Rust SDK, the contract) is part of this crate and is
//! written into it. [`build`] finds a project's language, runs that language's
//! tools and writes `NAME.wasm`. [`Toolchain`] and [`componentize`] are the two
//! halves of that for Rust; the shipped policies are built by the same.
//!
//! This crate must not know the runtime: whether a component is a good policy is
//! for `aio policy check` to say.

mod build;
mod component;
mod create;
mod error;
mod language;
mod name;
mod sdk;
mod template;
mod tool;
mod toolchain;

pub use build::{BUILD_SCHEMA, Built, build};
pub use component::{World, componentize};
pub use create::create;
pub use error::Error;
pub use language::Language;
pub use toolchain::{Builder, TARGET, Toolchain, ToolchainChoice};
