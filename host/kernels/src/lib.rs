//! The arithmetic of the `cpu` device: weight layouts, matrix and attention
//! kernels, and the threads and memory they run on.
//!
//! The idea: a pass over few rows of tokens costs what reading the weights costs.
//! So weights are repacked at load into the order in which a kernel reads them,
//! each block is unpacked once, in registers, and applied to every row of the pass
//! before the next block is read. Verifying eight drafted tokens then costs little
//! more than decoding one.
//!
//! Two promises hold for every kernel, and tests hold them by equality:
//! a row's result is the same bits whatever other rows stand in the pass, in
//! whatever tile or on whatever thread; and it is the same bits on every
//! instruction set (see [`simd`]).
//!
//! The `unsafe` here is bounds, aliasing and threads, and Miri checks it, on the
//! portable instruction set and on small shapes (the tests see to that):
//! `cargo +nightly miri test -p aio-kernels`. What Miri does not run, the vector
//! code, AddressSanitizer checks on a stable toolchain:
//! `RUSTC_BOOTSTRAP=1 RUSTFLAGS=-Zsanitizer=address cargo test -p aio-kernels
//! --target x86_64-unknown-linux-gnu`.
//!
//! This crate must not know models, GGUF files, graphs or requests.

pub mod activation;
pub mod attention;
pub mod block;
pub mod elementwise;
pub mod matrix;
pub mod memory;
pub mod pack;
pub mod pool;
pub mod shared;
pub mod simd;

pub use activation::RecordKind;
pub use block::BlockFormat;
pub use simd::Isa;
