//! Serving while policies are replaced without end. Tests check that nothing goes
//! wrong, `examples/reload_soak.rs` measures what it costs.

#![allow(dead_code, reason = "each test file uses its own part")]
#![allow(clippy::unwrap_used, reason = "tests")]

pub mod stamped;
