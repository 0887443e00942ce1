//! Attention: near the exact result, and a row's result is the same bits whatever
//! rows and queries stand beside it, however they are cut into calls, on every
//! instruction set, whatever lies in the cache where the row does not look.

#![allow(clippy::unwrap_used)]

mod common;

use aio_kernels::Isa;
use aio_kernels::attention::{Attend, BLOCK, Scratch, attend, block_length, store};
use aio_kernels::shared::{Shared, SharedRows};
use common::*;
use half::f16;
use proptest::prelude::*;

/// A head's numbers lie behind those of another one in each block.
const HEADS: usize = 2;

#[derive(Debug, Clone)]
struct Case {
    width: usize,
    group: usize,
    /// Position of the first row.
    position: usize,
    rows: usize,
    window: usize,
    seed: u64,
}

fn any_case() -> impl Strategy<Value = Case> {
    let (widths, positions, groups) = if cfg!(miri) {
        (vec![32], 0..40usize, 1..=2usize)
    } else {
        (vec![32, 64, 96, 128, 256], 0..600, 1..=8)
    };
    let window = prop_oneof![Just(usize::MAX), 1..=300usize, Just(1), Just(BLOCK)];
    (prop::sample::select(widths), groups, positions, 1..=64usize, window, any::<u64>()).prop_map(
        |(width, group, position, rows, window, seed)| {
            let most = if cfg!(miri) { 3 } else { Scratch::QUERIES / group };
            Case { width, group, position, rows: 1 + rows % most, window, seed }
        },
    )
}

/// A sequence's keys, values and queries, and the cache that holds them.
struct Sequence {
    case: Case,
    keys: Vec<Vec<f32>>,
    values: Vec<Vec<f32>>,
    q: Vec<f32>,
    cache: Vec<Vec<u16>>,
}

impl Sequence {
    fn new(case: &Case) -> Self {
        let mut random = Random(case.seed);
        let length = case.position + case.rows;
        // Some heads attend sharply, others evenly.
        let sharp = random.pick(&[0.1, 1.0, 10.0]);
        let mut rows = |by: f32| -> Vec<Vec<f32>> {
            let row = |random: &mut Random| -> Vec<f32> {
                random.floats(case.width).iter().map(|x| x * by).collect()
            };
            (0..length).map(|_| row(&mut random)).collect()
        };
        let (keys, values) = (rows(sharp), rows(2.0));
        let q = random.floats(case.rows * case.group * case.width);
        let blocks = length.div_ceil(BLOCK);
        let cache = vec![vec![0; HEADS * block_length(case.width)]; blocks];
        let mut sequence = Self { case: case.clone(), keys, values, q, cache };
        for position in 0..length {
            let (k, v) = (sequence.keys[position].clone(), sequence.values[position].clone());
            sequence.store(isas()[0], position, &k, &v);
        }
        sequence
    }

    fn scale(&self) -> f32 {
        1.0 / (self.case.width as f32).sqrt()
    }

    fn store(&mut self, isa: Isa, position: usize, k: &[f32], v: &[f32]) {
        let length = block_length(self.case.width);
        let block = Shared::new(&mut self.cache[position / BLOCK]).part(length, length);
        // SAFETY: one thread, and the view is the block's only user.
        unsafe { store(isa, position % BLOCK, k, v, block) };
    }

    /// The results of some rows, in one call; `[row][query][component]`.
    fn attend(&mut self, isa: Isa, first: usize, rows: usize) -> Vec<f32> {
        let Case { width, group, position, window, .. } = self.case;
        let (columns, scale) = (group * width, self.scale());
        // The head's columns begin behind those of a neighbour, which stay.
        let (column, stride) = (columns, 2 * columns);
        let mut q = vec![f32::NAN; rows * stride];
        for (row, q) in q.chunks_mut(stride).enumerate() {
            q[column..].copy_from_slice(&self.q[(first + row) * columns..][..columns]);
        }
        let mut out = vec![7.0; rows * stride];
        let mut scratch = Scratch::new(width);
        let blocks: Vec<_> = self.cache.iter_mut().map(|block| Shared::new(block)).collect();
        let work = Attend {
            head_width: width,
            group,
            scale,
            window,
            blocks: &blocks,
            offset: block_length(width),
            q: SharedRows::new(Shared::new(&mut q), stride),
            out: SharedRows::new(Shared::new(&mut out), stride),
            column,
            row: 0,
            rows,
            position: position + first,
        };
        // SAFETY: one thread, and the views are the only users of their memory.
        unsafe { attend(isa, &work, &mut scratch) };
        let mut results = Vec::new();
        for row in out.chunks(stride) {
            assert!(row[..column].iter().all(|&x| x == 7.0), "a neighbour's columns changed");
            results.extend_from_slice(&row[column..]);
        }
        results
    }

    fn seen(&self, row: usize) -> std::ops::Range<usize> {
        let end = self.case.position + row + 1;
        end.saturating_sub(self.case.window)..end
    }

    /// The exact result of a query, and how far from it a kernel may be.
    ///
    /// A score is a sum of `width` products of a scaled query: it is off by at most
    /// `e = gamma(width + 1) * sum|q k|`. Two roundings of `score - maximum` (in
    /// its block, and in the merging of blocks) are off by `2 u * 2 max|score|`
    /// together, and the exponential, a polynomial on an argument reduced in
    /// single precision, by 4 u relative. So each weight is off by the factor
    /// `1 + r`, `r = 2 e + 4 u max|score| + 4 u`, and by as much again, less `e`,
    /// for each block merged. Weights and total enter `sum / total`: twice `r`.
    /// Adding n weighted values and n weights, and merging: gamma(2 n + 8). All of it
    /// times the largest value; plus what scores far below the maximum weigh at
    /// least (e^-87 each).
    fn exact(&self, row: usize, head: usize) -> (Vec<f64>, f64) {
        let half = |x: f32| f64::from(f16::from_f32(x).to_f32());
        let width = self.case.width;
        let q = &self.q[(row * self.case.group + head) * width..][..width];
        let (mut scores, mut error, mut largest_value) = (Vec::new(), 0f64, 0f64);
        for position in self.seen(row) {
            let products = self.keys[position].iter().zip(q).map(|(&k, &q)| half(k) * f64::from(q));
            let (sum, sum_abs) =
                products.fold((0.0, 0.0), |(sum, abs), x| (sum + x, abs + x.abs()));
            scores.push(sum * f64::from(self.scale()));
            error = error.max(sum_abs * f64::from(self.scale()) * gamma(width + 1));
            let values = self.values[position].iter().map(|&v| half(v).abs());
            largest_value = values.fold(largest_value, f64::max);
        }
        let largest = scores.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let magnitude = scores.iter().fold(0f64, |max, score| max.max(score.abs()));
        let weights: Vec<_> = scores.iter().map(|score| (score - largest).exp()).collect();
        let total: f64 = weights.iter().sum();
        let mut out = vec![0.0; width];
        for (position, weight) in self.seen(row).zip(&weights) {
            for (out, &v) in out.iter_mut().zip(&self.values[position]) {
                *out += weight / total * half(v);
            }
        }
        let n = scores.len();
        let blocks = (n / BLOCK + 2) as f64;
        let r = 2.0 * error + blocks * (4.0 * U * magnitude + 4.0 * U);
        (out, largest_value * (2.0 * r + gamma(2 * n + 8) + n as f64 * 1.3e-38))
    }
}

proptest! {
    #![proptest_config(config(200))]

    #[test]
    fn results_are_as_exact_as_their_roundings_allow(case in any_case()) {
        let mut sequence = Sequence::new(&case);
        let out = sequence.attend(isas()[0], 0, case.rows);
        for (i, out) in out.chunks(case.width).enumerate() {
            let (row, head) = (i / case.group, i % case.group);
            let (exact, bound) = sequence.exact(row, head);
            for (got, want) in out.iter().zip(exact) {
                prop_assert!(
                    (f64::from(*got) - want).abs() <= bound,
                    "row {row} head {head}: {got} for {want}, bound {bound}"
                );
            }
        }
    }

    #[test]
    fn a_row_is_the_same_bits_in_any_company(case in any_case(), cuts: u64) {
        let mut sequence = Sequence::new(&case);
        let isa = isas()[0];
        let columns = case.group * case.width;
        let together = bits(&sequence.attend(isa, 0, case.rows));
        for (row, among) in together.chunks(columns).enumerate() {
            let alone = bits(&sequence.attend(isa, row, 1));
            prop_assert_eq!(among, &alone, "row {}", row);
        }
        let (mut random, mut split, mut first) = (Random(cuts), Vec::new(), 0);
        while first < case.rows {
            let rows = 1 + random.below(case.rows - first);
            split.extend(bits(&sequence.attend(isa, first, rows)));
            first += rows;
        }
        prop_assert_eq!(split, together);
    }

    /// A head's results are those that it has as the only one of its group.
    #[test]
    fn a_query_is_the_same_bits_in_any_group(case in any_case()) {
        let mut sequence = Sequence::new(&case);
        let together = bits(&sequence.attend(isas()[0], 0, case.rows));
        let (width, group) = (case.width, case.group);
        for head in 0..group {
            let queries = sequence.q.chunks(width).skip(head).step_by(group);
            let q = queries.flatten().copied().collect();
            let (case, cache) = (Case { group: 1, ..case.clone() }, sequence.cache.clone());
            let mut single = Sequence { case, q, cache, keys: vec![], values: vec![] };
            let alone = bits(&single.attend(isas()[0], 0, single.case.rows));
            let among = together.chunks(width).skip(head).step_by(group);
            prop_assert_eq!(alone, among.flatten().copied().collect::<Vec<_>>(), "head {}", head);
        }
    }

    #[test]
    fn instruction_sets_give_the_same_bits(case in any_case()) {
        let mut sequence = Sequence::new(&case);
        let expected = bits(&sequence.attend(isas()[isas().len() - 1], 0, case.rows));
        let cache = sequence.cache.clone();
        for isa in isas() {
            for position in 0..case.position + case.rows {
                let (k, v) = (sequence.keys[position].clone(), sequence.values[position].clone());
                sequence.store(isa, position, &k, &v);
            }
            prop_assert!(sequence.cache == cache, "the cache on {}", isa.name());
            let out = bits(&sequence.attend(isa, 0, case.rows));
            prop_assert_eq!(&out, &expected, "{}", isa.name());
        }
    }

    /// What rolled-back drafts left behind, or what slid out of the window.
    #[test]
    fn what_a_row_does_not_see_does_not_matter(case in any_case(), row: prop::sample::Index) {
        let mut sequence = Sequence::new(&case);
        let isa = isas()[0];
        let row = row.index(case.rows);
        let expected = bits(&sequence.attend(isa, row, 1));
        let mut random = Random(case.seed ^ 1);
        for position in 0..sequence.cache.len() * BLOCK {
            if !sequence.seen(row).contains(&position) {
                let huge = random.pick(&[1e30, -1e30, f32::INFINITY, f32::NAN, 70_000.0, -0.0]);
                let (k, v) = (vec![huge; case.width], vec![-huge; case.width]);
                sequence.store(isa, position, &k, &v);
            }
        }
        let stored = sequence.cache.iter().flatten();
        prop_assert!(stored.into_iter().all(|&x| f16::from_bits(x).is_finite()));
        prop_assert_eq!(bits(&sequence.attend(isa, row, 1)), expected);
    }
}

/// Storing writes the position's own numbers alone.
#[test]
fn positions_are_stored_side_by_side() {
    let width = 32;
    for isa in isas() {
        let mut block = vec![0xffffu16; block_length(width)];
        for slot in [0, 15, 16, 127] {
            let k: Vec<f32> = (0..width).map(|i| (slot * 4 + i) as f32).collect();
            let v: Vec<f32> = k.iter().map(|k| -k).collect();
            let before = block.clone();
            // SAFETY: one thread, and the view is the block's only user.
            unsafe { store(isa, slot, &k, &v, Shared::new(&mut block)) };
            let changed = before.iter().zip(&block).filter(|(a, b)| a != b).count();
            assert_eq!(changed, 2 * width);
            for i in 0..width {
                let key = block[slot / 16 * 16 * width + i * 16 + slot % 16];
                let value = block[BLOCK * width + slot * width + i];
                assert_eq!(f16::from_bits(key).to_f32(), k[i]);
                assert_eq!(f16::from_bits(value).to_f32(), v[i]);
            }
        }
    }
}

#[test]
#[should_panic(expected = "heads of 48 components")]
fn a_head_of_an_odd_width_is_refused() {
    let case = Case { width: 48, group: 1, position: 0, rows: 1, window: 1, seed: 0 };
    Sequence::new(&case).attend(isas()[0], 0, 1);
}
