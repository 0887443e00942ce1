//! Runs one product a few times and does nothing else, so that its instructions can
//! be counted:
//!
//! ```sh
//! cargo build --release -p aio-kernels --example count
//! AIO_CPU=avx2 valgrind --tool=callgrind --callgrind-out-file=/dev/null \
//!     target/release/examples/count Q4K 4 10
//! perf stat -e instructions target/release/examples/count Q4K 4 1000
//! ```
//!
//! Arguments: format, rows, repetitions. Counts for two numbers of repetitions,
//! subtracted, leave out what the program does besides. Valgrind knows no AVX-512;
//! `perf` counts that where the machine has counters.

#[path = "../benches/support.rs"]
mod support;

use std::process::ExitCode;

use aio_kernels::BlockFormat;
use support::{Work, instruction_set};

/// Packed weights: a few groups, small enough for any cache.
const BYTES: usize = 300_000;
const COLUMNS: usize = 1536;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let parsed = match arguments.as_slice() {
        [format, rows, times] => BlockFormat::ALL
            .into_iter()
            .find(|f| format!("{f:?}") == *format)
            .zip(rows.parse().ok().filter(|rows| (1..=512).contains(rows)))
            .zip(times.parse::<usize>().ok()),
        _ => None,
    };
    let Some(((format, rows), times)) = parsed else {
        eprintln!(
            "usage: count FORMAT ROWS REPETITIONS, with FORMAT one of {:?}",
            BlockFormat::ALL
        );
        return ExitCode::FAILURE;
    };
    let isa = instruction_set();
    let mut work = match Work::new(isa, format, COLUMNS, rows, BYTES) {
        Ok(work) => work,
        Err(error) => {
            eprintln!("{error}");
            return ExitCode::FAILURE;
        }
    };
    for _ in 0..times {
        work.run();
    }
    let weights = work.weights().len();
    println!("{format:?}, {rows} rows, {times} times, {weights} bytes of weights, {}", isa.name());
    ExitCode::SUCCESS
}
