//! Single kernels on one thread, beside the read bandwidth that bounds them:
//! `cargo bench -p aio-kernels` (`AIO_CPU=avx2` for another instruction set).
//!
//! `cached` weights fit the second-level cache and show what the arithmetic takes;
//! `streamed` ones do not fit any, and a product of few rows should come close to
//! the `sweep` over the same memory, which only reads it.

mod support;

use std::hint::black_box;
use std::time::Duration;

use aio_kernels::attention::{self, Attend, BLOCK, Scratch};
use aio_kernels::block::BlockFormat;
use aio_kernels::memory::Memory;
use aio_kernels::shared::{Shared, SharedRows};
use aio_kernels::{activation, elementwise};
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use support::{Work, instruction_set};

const COLUMNS: usize = 1536;
const CACHED: usize = 300_000;
const STREAMED: usize = 256 << 20;

/// Reads memory and does nothing else: eight independent sums of 64-bit words.
fn sweep(bytes: &[u8]) -> u64 {
    let words: &[[u64; 8]] = bytemuck::cast_slice(&bytes[..bytes.len() / 64 * 64]);
    let mut sums = [0u64; 8];
    for line in words {
        for (sum, word) in sums.iter_mut().zip(line) {
            *sum = sum.wrapping_add(*word);
        }
    }
    sums.iter().fold(0, |all, sum| all.wrapping_add(*sum))
}

fn products(c: &mut Criterion) {
    let isa = instruction_set();
    for (place, bytes) in [("cached", CACHED), ("streamed", STREAMED)] {
        let mut group = c.benchmark_group(format!("product/{}/{place}", isa.name()));
        for format in [
            BlockFormat::Q4K,
            BlockFormat::Q6K,
            BlockFormat::Q5_0,
            BlockFormat::Q8_0,
            BlockFormat::Q4_1,
        ] {
            for rows in [1, 4, 8, 12] {
                let Ok(mut work) = Work::new(isa, format, COLUMNS, rows, bytes) else { continue };
                group.throughput(Throughput::Bytes(work.weights().len() as u64));
                if rows == 1 {
                    let id = BenchmarkId::new("sweep over", format!("{format:?}"));
                    group.bench_function(id, |b| b.iter(|| sweep(black_box(work.weights()))));
                }
                let id = BenchmarkId::new(format!("{format:?}"), rows);
                group.bench_function(id, |b| b.iter(|| work.run()));
            }
        }
    }
}

fn attend(c: &mut Criterion) {
    let isa = instruction_set();
    let (width, group) = (128, 6);
    let mut benchmarks = c.benchmark_group(format!("attention/{}", isa.name()));
    for positions in [512usize, 4096] {
        let bytes = attention::block_length(width) * 2;
        let blocks = positions.div_ceil(BLOCK);
        let Ok(mut memory) =
            (0..blocks).map(|_| Memory::zeroed(bytes)).collect::<Result<Vec<_>, _>>()
        else {
            continue;
        };
        let views: Vec<Shared<'_, u16>> = memory
            .iter_mut()
            .map(|block| Shared::new(bytemuck::cast_slice_mut(block.bytes_mut())))
            .collect();
        for rows in [1, 8] {
            let mut q = vec![0.5; rows * group * width];
            let mut out = vec![0.0; rows * group * width];
            let work = Attend {
                head_width: width,
                group,
                scale: 0.1,
                window: usize::MAX,
                blocks: &views,
                offset: 0,
                q: SharedRows { floats: Shared::new(&mut q), stride: group * width },
                out: SharedRows { floats: Shared::new(&mut out), stride: group * width },
                column: 0,
                row: 0,
                rows,
                position: positions - rows,
            };
            let mut scratch = Scratch::new(width);
            benchmarks.throughput(Throughput::Bytes((positions * 4 * width) as u64));
            let id = BenchmarkId::new(format!("{rows} rows"), positions);
            benchmarks.bench_function(id, |b| {
                // SAFETY: nothing else runs.
                b.iter(|| unsafe { attention::attend(isa, &work, &mut scratch) });
            });
        }
    }
}

fn whole_rows(c: &mut Criterion) {
    let isa = instruction_set();
    let mut group = c.benchmark_group(format!("row/{}", isa.name()));
    let x: Vec<f32> = (0..COLUMNS).map(|i| (i % 37) as f32 - 18.0).collect();
    let mut out = vec![0.0; COLUMNS];
    group.throughput(Throughput::Elements(COLUMNS as u64));
    group.bench_function("rms norm", |b| {
        b.iter(|| elementwise::rms_norm(isa, &x, &x, 1e-6, &mut out));
    });
    for kind in [aio_kernels::RecordKind::Q8K, aio_kernels::RecordKind::Q8] {
        let count = kind.records(COLUMNS);
        let Ok(mut records) = Memory::zeroed(count * kind.bytes()) else { continue };
        let records = Shared::new(records.bytes_mut());
        let place = activation::Place { first: 0, step: 1 };
        group.bench_function(format!("quantise {kind:?}"), |b| {
            // SAFETY: nothing else runs.
            b.iter(|| unsafe {
                activation::quantise_row(isa, kind, &x, 0..count, records, place);
            });
        });
    }
}

criterion_group! {
    name = kernels;
    config = Criterion::default()
        .sample_size(10)
        .warm_up_time(Duration::from_millis(300))
        .measurement_time(Duration::from_millis(700));
    targets = products, attend, whole_rows
}
criterion_main!(kernels);
