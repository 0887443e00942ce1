//! Huawei's AscendCL as safe Rust: the vendor's library is opened when the first chip is
//! asked for ([`Library`]), a [`Session`] is a context and a stream on one chip, and
//! [`Buffer`]s, [`Tensor`]s, operators and [`Captured`] graphs belong to a session.
//!
//! Nothing is linked: a build needs no CANN, and a machine without it gets one sentence.
//! Signatures and constants are those of CANN's public headers (`acl/acl_rt.h`,
//! `acl/acl_base.h`, `aclnn/acl_meta.h`, `aclnnop/*.h`) and of its operator reference,
//! as of CANN 8; what an operator asks of its arguments stands at its function.
//! **None of this has ever run on a chip.** It is tested against a library that exports
//! the same functions, computes on the CPU and keeps books (`tests/stub`).
//!
//! What holds by construction, also after any failure: every handle is given back exactly
//! once; tensors before the buffers that they describe, captured graphs before the buffers
//! that they read, all of these before the stream, the stream before its context, the
//! context before the chip. A call that gives something back and fails is logged and never
//! made again: the vendor does not say what state such a handle is in.
//!
//! This crate must not know models, graphs of ours or weights.

mod error;
mod launcher;
mod library;
mod memory;
mod operators;
mod session;
mod sys;
mod tensor;

pub use error::Error;
pub use launcher::Launcher;
pub use library::Library;
pub use memory::Buffer;
pub use operators::{Activation, Attention, Mask, Rotation};
pub use session::{Captured, Session};
pub use sys::DataType;
pub use tensor::Tensor;
