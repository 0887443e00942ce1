//! How fast the kernels are on one thread: `cargo bench -p aio-kernels`, some two
//! minutes; `AIO_CPU` chooses the instruction set.
//!
//! Products are in bytes of packed weights a second, which is what a pass over few
//! rows is bound by; each format's figures begin with what a sweep that does nothing
//! but read the same memory reaches at that moment, since machines that share their
//! memory drift. A kernel may beat the plain sweep: it asks for its weights ahead.

#[path = "../tests/common/mod.rs"]
mod common;

use std::hint::black_box;
use std::time::{Duration, Instant};

use aio_kernels::activation::{Place, quantise_row};
use aio_kernels::attention::{Attend, BLOCK, Scratch, attend, block_length, store};
use aio_kernels::elementwise::rms_norm;
use aio_kernels::matrix::{Epilogue, Matrix, product};
use aio_kernels::memory::Memory;
use aio_kernels::pack::{GROUP, Layout};
use aio_kernels::shared::{Shared, SharedRows};
use aio_kernels::{BlockFormat, Isa, RecordKind};
use common::{Random, Scales, Weights};
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};

/// Components of a row, as of a model of 1.5 billion weights.
const COLUMNS: usize = 1536;
/// A quarter of the smallest second-level cache that is common (1 MiB, or half).
const RESIDENT: usize = 192 << 10;
/// Several times the largest last-level cache that a core sees here.
const STREAMING: usize = 256 << 20;

fn isa() -> Isa {
    Isa::detect(std::env::var("AIO_CPU").ok().as_deref()).unwrap_or_else(|error| panic!("{error}"))
}

/// Adds up all words, in as many independent sums as registers hold; asks for what
/// lies `AHEAD` bytes on.
#[inline(always)]
fn sum<const AHEAD: usize>(bytes: &[u8]) -> u64 {
    let words: &[[u64; 64]] = bytemuck::cast_slice(&bytes[..bytes.len() / 512 * 512]);
    let mut sums = [0u64; 64];
    for words in words {
        #[cfg(target_arch = "x86_64")]
        if AHEAD > 0 {
            use std::arch::x86_64::{_MM_HINT_T1, _mm_prefetch};
            for line in words.as_chunks::<8>().0 {
                let line = line.as_ptr().cast::<i8>().wrapping_add(AHEAD);
                // SAFETY: a prefetch does not fault, wherever it points.
                unsafe { _mm_prefetch::<_MM_HINT_T1>(line) };
            }
        }
        for (sum, word) in sums.iter_mut().zip(words) {
            *sum = sum.wrapping_add(*word);
        }
    }
    sums.iter().fold(0, |all, sum| all.wrapping_add(*sum))
}

/// Sums with the widest registers that the instruction set has.
fn sweep<const AHEAD: usize>(isa: Isa, bytes: &[u8]) -> u64 {
    #[cfg(target_arch = "x86_64")]
    {
        #[target_feature(enable = "avx512f")]
        fn avx512<const AHEAD: usize>(bytes: &[u8]) -> u64 {
            sum::<AHEAD>(bytes)
        }
        #[target_feature(enable = "avx2")]
        fn avx2<const AHEAD: usize>(bytes: &[u8]) -> u64 {
            sum::<AHEAD>(bytes)
        }
        match isa {
            // SAFETY: the value proves that the machine has the instructions.
            Isa::Avx512(_) => return unsafe { avx512::<AHEAD>(bytes) },
            // SAFETY: as above.
            Isa::Avx2(_) => return unsafe { avx2::<AHEAD>(bytes) },
            Isa::Portable(_) => {}
        }
    }
    let _ = isa;
    sum::<AHEAD>(bytes)
}

/// Median GB/s of reading `bytes` for a fifth of a second.
fn read_speed(bytes: &[u8], mut read: impl FnMut(&[u8]) -> u64) -> f64 {
    let (start, mut speeds) = (Instant::now(), Vec::new());
    // Enough bytes in a measurement for the clock.
    let times = (16 << 20) / bytes.len() + 1;
    while speeds.len() < 5 || start.elapsed() < Duration::from_millis(200) {
        let before = Instant::now();
        for _ in 0..times {
            black_box(read(black_box(bytes)));
        }
        speeds.push((times * bytes.len()) as f64 / before.elapsed().as_secs_f64() / 1e9);
    }
    speeds.sort_by(f64::total_cmp);
    speeds[speeds.len() / 2]
}

/// About `bytes` of packed weights: one random group, repeated.
fn packed(format: BlockFormat, bytes: usize) -> Memory {
    let group = Weights::random(format, GROUP, COLUMNS, Scales::Ordinary, &mut Random(1));
    let group = group.packed.bytes();
    let mut memory =
        Memory::zeroed(bytes / group.len() * group.len()).unwrap_or_else(|error| panic!("{error}"));
    memory.bytes_mut().chunks_exact_mut(group.len()).for_each(|to| to.copy_from_slice(group));
    memory
}

fn products(criterion: &mut Criterion) {
    let isa = isa();
    let formats = [
        ("q4_k", BlockFormat::Q4K),
        ("q6_k", BlockFormat::Q6K),
        ("q5_0", BlockFormat::Q5_0),
        ("q8_0", BlockFormat::Q8_0),
        ("q4_1", BlockFormat::Q4_1),
    ];
    for (name, format) in formats {
        for (place, bytes) in [("cached", RESIDENT), ("streaming", STREAMING)] {
            let layout = Layout::of(format);
            let weights = packed(format, bytes);
            let groups = weights.len() / layout.group_bytes(COLUMNS);
            let matrix =
                Matrix { format, rows: groups * GROUP, columns: COLUMNS, packed: weights.bytes() };
            println!(
                "\n{name}, {place}, {}: reading alone {:.1} GB/s, asking ahead {:.1} GB/s",
                isa.name(),
                read_speed(weights.bytes(), |bytes| sweep::<0>(isa, bytes)),
                read_speed(weights.bytes(), |bytes| sweep::<8192>(isa, bytes)),
            );
            let mut group = criterion.benchmark_group(format!("product/{name}/{place}"));
            group.throughput(Throughput::BytesDecimal(weights.len() as u64));
            for rows in [1, 4, 8, 12] {
                let x = Random(2).floats(rows * COLUMNS);
                let x: Vec<_> = x.chunks(COLUMNS).collect();
                let mut records = common::quantise(isa, layout.records, &x, isa.tile());
                let mut out = vec![0.0; rows * matrix.rows];
                group.bench_function(BenchmarkId::from_parameter(rows), |bencher| {
                    let tiles = records.tiles;
                    let view = Shared::new(records.memory.bytes_mut());
                    let floats = Shared::new(&mut out);
                    let out = SharedRows::new(floats, matrix.rows);
                    bencher.iter(|| {
                        let at_a_time = matrix.groups_at_a_time();
                        for start in (0..groups).step_by(at_a_time) {
                            let part = start..(start + at_a_time).min(groups);
                            for tile in tiles.iter() {
                                let (part, ending) = (part.clone(), Epilogue::Store);
                                // SAFETY: one thread, and the views are the only users.
                                unsafe { product(isa, matrix, part, view, tile, out, ending) };
                            }
                        }
                    });
                });
            }
            group.finish();
        }
    }
}

fn attention(criterion: &mut Criterion) {
    const WIDTH: usize = 128;
    const QUERIES: usize = 6;
    let isa = isa();
    let mut random = Random(3);
    let mut group = criterion.benchmark_group("attention");
    for positions in [512usize, 4096] {
        let mut cache = vec![vec![0u16; block_length(WIDTH)]; positions / BLOCK];
        let blocks: Vec<_> = cache.iter_mut().map(|block| Shared::new(block)).collect();
        for position in 0..positions {
            let (k, v) = (random.floats(WIDTH), random.floats(WIDTH));
            // SAFETY: one thread, and the views are the only users.
            unsafe { store(isa, position % BLOCK, &k, &v, blocks[position / BLOCK]) };
        }
        // Keys and values of one head, in half precision.
        group.throughput(Throughput::BytesDecimal((positions * WIDTH * 4) as u64));
        for rows in [1, 8] {
            let stride = QUERIES * WIDTH;
            let (mut q, mut out) = (random.floats(rows * stride), vec![0.0; rows * stride]);
            let mut scratch = Scratch::new(WIDTH);
            let work = Attend {
                head_width: WIDTH,
                group: QUERIES,
                scale: 0.088,
                window: usize::MAX,
                blocks: &blocks,
                offset: 0,
                q: SharedRows::new(Shared::new(&mut q), stride),
                out: SharedRows::new(Shared::new(&mut out), stride),
                column: 0,
                row: 0,
                rows,
                position: positions - rows,
            };
            group.bench_function(BenchmarkId::new(format!("{rows} rows"), positions), |bencher| {
                // SAFETY: one thread, and the views are the only users.
                bencher.iter(|| unsafe { attend(isa, &work, &mut scratch) });
            });
        }
    }
    group.finish();
}

fn rows(criterion: &mut Criterion) {
    let isa = isa();
    let x = Random(4).floats(COLUMNS);
    let mut group = criterion.benchmark_group("row");
    group.throughput(Throughput::BytesDecimal((4 * COLUMNS) as u64));
    for kind in [RecordKind::Q8K, RecordKind::Q8] {
        let records = kind.records(COLUMNS);
        let mut memory =
            Memory::zeroed(records * kind.bytes()).unwrap_or_else(|error| panic!("{error}"));
        let view = Shared::new(memory.bytes_mut());
        let place = Place { first: 0, step: 1 };
        group.bench_function(format!("quantise {kind:?}"), |bencher| {
            // SAFETY: one thread, and the view is the only user.
            bencher.iter(|| unsafe {
                quantise_row(isa, kind, black_box(&x), 0..records, view, place);
            });
        });
    }
    let (weight, mut out) = (Random(5).floats(COLUMNS), vec![0.0; COLUMNS]);
    group.bench_function("rms_norm", |bencher| {
        bencher.iter(|| rms_norm(isa, black_box(&x), &weight, 1e-6, &mut out));
    });
    group.finish();
}

/// Short measurements, so that a whole run ends soon: what is compared drifts.
fn short() -> Criterion {
    Criterion::default()
        .sample_size(15)
        .warm_up_time(Duration::from_millis(200))
        .measurement_time(Duration::from_millis(1200))
        .nresamples(5000)
        .without_plots()
        .configure_from_args()
}

criterion_group! { name = kernels; config = short(); targets = products, attention, rows }
criterion_main!(kernels);
