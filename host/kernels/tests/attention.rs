//! Attention: right, blind to what a row must not see, and the same bits for a row
//! in any company.
#![allow(clippy::unwrap_used)]

mod common;

use aio_kernels::attention::{self, Attend, BLOCK, Scratch};
use aio_kernels::memory::Memory;
use aio_kernels::shared::{Shared, SharedRows};
use aio_kernels::simd::Isa;
use common::{Random, cases, instruction_sets};
use half::f16;

/// One head's cache, the values in it, and queries at its end.
struct Case {
    width: usize,
    group: usize,
    window: usize,
    keys: Vec<Vec<f32>>,
    values: Vec<Vec<f32>>,
    /// Queries of the last rows, `group x width` each.
    queries: Vec<Vec<f32>>,
    memory: Vec<Memory>,
}

impl Case {
    fn random(random: &mut Random) -> Self {
        let width = [32, 64, 96, 128, 256][random.below(if cfg!(miri) { 1 } else { 5 })];
        let group = 1 + random.below(8);
        let length = 1 + random.below(if cfg!(miri) { 140 } else { 600 });
        let rows = 1 + random.below(length.min(20));
        let window = if random.below(2) == 0 { usize::MAX } else { 1 + random.below(300) };
        let size = [0.1, 1.0, 5.0][random.below(3)];
        let mut vector = |n: usize, size: f32| (0..n).map(|_| random.unit() * size).collect();
        let keys = (0..length).map(|_| vector(width, size)).collect();
        let values = (0..length).map(|_| vector(width, 10.0)).collect();
        let queries = (0..rows).map(|_| vector(group * width, 1.0)).collect();
        let mut case = Self { width, group, window, keys, values, queries, memory: Vec::new() };
        case.store();
        case
    }

    fn store(&mut self) {
        let bytes = attention::block_length(self.width) * 2;
        let isa = instruction_sets()[0];
        self.memory =
            (0..self.keys.len().div_ceil(BLOCK)).map(|_| Memory::zeroed(bytes).unwrap()).collect();
        for (position, (k, v)) in self.keys.iter().zip(&self.values).enumerate() {
            put(isa, &mut self.memory[position / BLOCK], position % BLOCK, k, v);
        }
    }

    /// Attends with rows `first..first + rows`; bits, a row of results each.
    fn attend(&mut self, isa: Isa, first: usize, rows: usize) -> Vec<Vec<u32>> {
        let columns = self.group * self.width;
        let mut q: Vec<f32> = self.queries[first..first + rows].concat();
        let mut out = vec![0.0; rows * columns];
        let blocks: Vec<Shared<'_, u16>> = self
            .memory
            .iter_mut()
            .map(|block| Shared::new(bytemuck::cast_slice_mut(block.bytes_mut())))
            .collect();
        let work = Attend {
            head_width: self.width,
            group: self.group,
            scale: 0.25,
            window: self.window,
            blocks: &blocks,
            offset: 0,
            q: SharedRows { floats: Shared::new(&mut q), stride: columns },
            out: SharedRows { floats: Shared::new(&mut out), stride: columns },
            column: 0,
            row: 0,
            rows,
            position: self.keys.len() - self.queries.len() + first,
        };
        // SAFETY: nothing else runs.
        unsafe { attention::attend(isa, &work, &mut Scratch::new(self.width)) };
        out.chunks_exact(columns).map(|r| r.iter().map(|y| y.to_bits()).collect()).collect()
    }

    /// In f64, over the half-precision keys and values.
    fn exact(&self, row: usize, head: usize) -> Vec<f64> {
        let half = |x: f32| f64::from(f16::from_f32(x).to_f32());
        let end = self.keys.len() - self.queries.len() + row + 1;
        let seen = end.saturating_sub(self.window)..end;
        let q = &self.queries[row][head * self.width..][..self.width];
        let score = |k: &Vec<f32>| {
            let terms = k.iter().zip(q).map(|(k, q)| half(*k) * f64::from(*q));
            terms.sum::<f64>() * 0.25
        };
        let scores: Vec<f64> = self.keys[seen.clone()].iter().map(score).collect();
        let largest = scores.iter().fold(f64::NEG_INFINITY, |m, s| m.max(*s));
        let weights: Vec<f64> = scores.iter().map(|s| (s - largest).exp()).collect();
        let total: f64 = weights.iter().sum();
        let component = |d: usize| {
            let terms = self.values[seen.clone()].iter().zip(&weights);
            terms.map(|(v, w)| half(v[d]) * w).sum::<f64>() / total
        };
        (0..self.width).map(component).collect()
    }
}

fn put(isa: Isa, block: &mut Memory, slot: usize, k: &[f32], v: &[f32]) {
    let part = Shared::new(bytemuck::cast_slice_mut(block.bytes_mut()));
    // SAFETY: nothing else runs.
    unsafe { attention::store(isa, slot, k, v, part) };
}

#[test]
fn results_are_right_and_the_same_in_any_company() {
    for seed in 0..u64::from(cases(60)) {
        let mut random = Random(seed);
        let mut case = Case::random(&mut random);
        let rows = case.queries.len();
        let best = instruction_sets()[0];
        let alone: Vec<Vec<u32>> = (0..rows).flat_map(|r| case.attend(best, r, 1)).collect();
        for (row, bits) in alone.iter().enumerate() {
            for head in 0..case.group {
                let got = &bits[head * case.width..][..case.width];
                for (got, exact) in got.iter().zip(case.exact(row, head)) {
                    // Values are up to 10: scores of f32 and an exponential to an ulp.
                    let off = (f64::from(f32::from_bits(*got)) - exact).abs();
                    assert!(off <= 2e-4, "seed {seed}: {off} off");
                }
            }
        }
        for isa in instruction_sets() {
            for _ in 0..3 {
                let first = random.below(rows);
                let most = (Scratch::QUERIES / case.group).min(rows - first);
                let count = 1 + random.below(most);
                let got = case.attend(isa, first, count);
                assert!(
                    got == alone[first..first + count],
                    "seed {seed}: {count} rows from {first} on {}",
                    isa.name()
                );
            }
        }
    }
}

#[test]
fn what_a_row_does_not_see_changes_nothing() {
    for seed in 0..u64::from(cases(30)) {
        let mut random = Random(1000 + seed);
        let mut case = Case::random(&mut random);
        let isa = instruction_sets()[0];
        let expected = case.attend(isa, 0, 1);
        // Rejected drafts past the row and tokens before its window, as large as can be.
        let position = case.keys.len() - case.queries.len();
        let (huge, odd) = (vec![f32::MAX; case.width], vec![f32::NEG_INFINITY; case.width]);
        for other in 0..case.memory.len() * BLOCK {
            let seen = other <= position && position - other < case.window;
            if !seen {
                put(isa, &mut case.memory[other / BLOCK], other % BLOCK, &huge, &odd);
            }
        }
        assert!(case.attend(isa, 0, 1) == expected, "seed {seed}");
    }
}
