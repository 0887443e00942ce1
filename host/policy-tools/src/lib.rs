//! Tools for those who write policies: they tell what a component is, whether a
//! host would take it and how it behaves, what it costs, how two differ, and what
//! they answer about a record.
//!
//! Each tool takes a [`PolicySource`](aio_policy::PolicySource) and gives a report
//! that is plain data, with a `schema` field that names its form as JSON. Making
//! tables of it, and exit codes, is the command line's work (`aio policy`).
//!
//! This crate must not know models, tensors, tokenizers or HTTP: a policy is tried
//! out on facts alone, made up here or written by its author.

mod bench;
pub mod cases;
mod check;
mod diff;
mod facts;
mod inspect;
pub mod replay;
mod schema;
pub mod situation;

pub use bench::{BENCH_SCHEMA, BenchError, BenchOptions, Benched, Row, Spread, What, bench};
pub use cases::{Case, TEST_SCHEMA, Tested, read_cases, run_cases};
pub use check::{CHECK_SCHEMA, CheckOptions, Checked, Status, Step, StepReport, check};
pub use diff::{AnswerChange, Change, DIFF_SCHEMA, Differences, FuelOfHook, Side, diff};
pub use inspect::{INSPECT_SCHEMA, Inspection, Signature, inspect};
