//! Serving while policies are replaced without end. A test checks that nothing goes
//! wrong, `examples/reload_soak` measures what it costs.

#![allow(dead_code, reason = "each test file uses its own part")]
#![allow(clippy::unwrap_used, reason = "tests")]

pub mod kinds;
pub mod notes;
pub mod reloading;
pub mod serving;
pub mod stamped;
