//! Fetching, from an index of packages and a hub that the tests make: no
//! network is needed and the user's own cache is not touched.
#![cfg(unix)]
#![allow(clippy::unwrap_used, reason = "helpers of tests may panic as tests do")]

mod common;
mod hub;
mod index;
