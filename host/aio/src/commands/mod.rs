//! The subcommands, one module each.

pub mod models;
pub mod run;
