//! The contract's versions as the host speaks them: one module for each
//! released version of the WIT package `aio:policy`, and nothing outside this
//! folder names a generated type.

pub(crate) mod v0_1;
