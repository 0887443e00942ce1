//! Runs one matrix kernel again and again, to count what it executes.
//!
//! ```sh
//! RUSTFLAGS="-C target-cpu=x86-64" cargo build --release -p aio-kernels --example count \
//!   --target-dir target/baseline
//! count=target/baseline/release/examples/count
//! AIO_CPU=avx2 valgrind --tool=callgrind --callgrind-out-file=/dev/null $count q4_k 4 100
//! AIO_CPU=avx2 perf stat -e instructions:u $count q4_k 4 1000
//! ```
//!
//! Without the flag, all code is compiled for the building machine (the workspace's
//! configuration says so), and valgrind stops at the first AVX-512 instruction; a
//! program under it finds no AVX-512 to detect.
//!
//! Arguments: format, rows of the pass, repetitions. It prints how many packed blocks
//! (16 components x 256 or 64 columns) times rows a repetition is. Making the
//! weights counts too: take the difference of two runs, over the difference of their
//! repetitions. Unlike time, counts do not depend on who else uses the machine.

#[path = "../tests/common/mod.rs"]
mod common;

use aio_kernels::matrix::Epilogue;
use aio_kernels::pack::Layout;
use aio_kernels::{BlockFormat, Isa};
use common::{Out, Random, Scales, Weights, multiply, quantise};

fn main() -> Result<(), String> {
    let usage = "usage: count FORMAT ROWS REPETITIONS, FORMAT one of f32, f16, q4_0, q4_1, \
                 q5_0, q8_0, q4_k, q5_k, q6_k";
    let arguments: Vec<_> = std::env::args().skip(1).collect();
    let [format, rows, repetitions] = &arguments[..] else { return Err(usage.into()) };
    let format = match format.as_str() {
        "f32" => BlockFormat::F32,
        "f16" => BlockFormat::F16,
        "q4_0" => BlockFormat::Q4_0,
        "q4_1" => BlockFormat::Q4_1,
        "q5_0" => BlockFormat::Q5_0,
        "q8_0" => BlockFormat::Q8_0,
        "q4_k" => BlockFormat::Q4K,
        "q5_k" => BlockFormat::Q5K,
        "q6_k" => BlockFormat::Q6K,
        _ => return Err(usage.into()),
    };
    let number = |text: &String| text.parse::<usize>().map_err(|_| usage.to_owned());
    let (rows, repetitions) = (number(rows)?, number(repetitions)?);
    let isa = Isa::detect(std::env::var("AIO_CPU").ok().as_deref())?;

    // Eight blocks for each of four groups: all in the first-level cache.
    let layout = Layout::of(format);
    let columns = 8 * layout.columns;
    let mut random = Random(1);
    let weights = Weights::random(format, 64, columns, Scales::Ordinary, &mut random);
    let x = random.floats(rows * columns);
    let x: Vec<_> = x.chunks(columns).collect();
    let mut records = quantise(isa, layout.records, &x, isa.tile());
    let mut out = Out::filled(rows, &weights, 0.0);
    for _ in 0..repetitions {
        multiply(isa, &weights, 0..weights.groups(), &mut records, &mut out, Epilogue::Store);
    }
    println!("{} blocks x rows a repetition on {}", 32 * rows, isa.name());
    Ok(())
}
