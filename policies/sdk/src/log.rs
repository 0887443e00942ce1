//! Lines for the operator's log. The host shortens long lines and drops floods.
//! In native tests they go to standard error.

use crate::bindings::aio::policy::host::Level;

/// For the policy's author.
pub fn debug(message: &str) {
    log(Level::Debug, message);
}

/// For the operator, when curious.
pub fn info(message: &str) {
    log(Level::Info, message);
}

/// Something is odd, but decisions go on.
pub fn warn(message: &str) {
    log(Level::Warn, message);
}

/// Something failed.
pub fn error(message: &str) {
    log(Level::Error, message);
}

#[cfg(target_arch = "wasm32")]
fn log(level: Level, message: &str) {
    crate::bindings::aio::policy::host::log(level, message);
}

#[cfg(not(target_arch = "wasm32"))]
fn log(level: Level, message: &str) {
    eprintln!("policy {level:?}: {message}");
}
