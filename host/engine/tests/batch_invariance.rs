//! Law 1 at its root: a row's logits are the same bits whatever rows stand
//! beside it, however the prompt is cut into passes, and after a roll-back.

#![allow(clippy::unwrap_used)]

#[path = "../../../tests/support/models.rs"]
mod models;

use aio_engine::device::cpu::CpuDevice;
use aio_engine::device::{self, Device, DeviceOptions, KvId, Logits, ResidentModel, Row, by_name};
use aio_engine::gguf::GgufFile;
use aio_engine::graph;
use aio_engine::model::ModelDescription;
use std::num::NonZeroUsize;
use std::sync::Arc;

const MODELS: [&str; 4] =
    ["smollm2-135m", "gemma-3-270m", "qwen2.5-coder-0.5b", "qwen2.5-coder-1.5b"];

struct Loaded {
    model: Box<dyn ResidentModel>,
    vocabulary: usize,
}

impl Loaded {
    fn open(name: &str, device: &dyn Device) -> Option<Self> {
        let gguf = Arc::new(GgufFile::open(&models::model_path(name)?).unwrap());
        let description = ModelDescription::from_gguf(&gguf).unwrap();
        let mut model = device.load(gguf, &description).unwrap();
        for gear in model.gears().to_vec() {
            model.compile(graph::build(&description, gear)).unwrap();
        }
        Some(Self { model, vocabulary: description.vocabulary })
    }

    /// Runs `rows` in the smallest gear that holds them; the logits' bits.
    fn run(&mut self, rows: &[Row]) -> Vec<Vec<u32>> {
        let gear = *self.model.gears().iter().find(|&&g| g >= rows.len()).unwrap();
        let mut logits = Logits::default();
        logits.reset(self.vocabulary);
        self.model.run(gear, rows, &mut logits).unwrap();
        (0..logits.len()).map(|i| logits.row(i).iter().map(|l| l.to_bits()).collect()).collect()
    }

    /// Runs `tokens` on `kv` in passes of `width`; all rows' logits.
    fn run_in_passes(&mut self, kv: KvId, tokens: &[u32], width: usize) -> Vec<Vec<u32>> {
        let start = self.model.kv_length(kv);
        let rows: Vec<Row> = (start..)
            .zip(tokens)
            .map(|(p, &token)| Row { token, position: p as u32, kv, logits: true })
            .collect();
        rows.chunks(width).flat_map(|rows| self.run(rows)).collect()
    }
}

/// Tokens spread over the vocabulary.
fn tokens(n: usize, vocabulary: usize) -> Vec<u32> {
    (0..n).map(|i| ((i * 7919 + 13) * 104_729 % vocabulary) as u32).collect()
}

#[test]
fn logits_do_not_depend_on_the_passes_or_the_neighbours() {
    let _alone = models::alone();
    for name in MODELS {
        let device = by_name(device::DEFAULT, DeviceOptions::default()).unwrap();
        let Some(mut loaded) = Loaded::open(name, &*device) else { continue };
        let tokens = tokens(21, loaded.vocabulary);
        let alone = loaded.model.kv_open();
        let expected = loaded.run_in_passes(alone, &tokens, 1);
        for width in [2, 3, 5, 8, 16, 21] {
            let kv = loaded.model.kv_open();
            let got = loaded.run_in_passes(kv, &tokens, width);
            assert!(got == expected, "{name}: passes of {width} rows change logits");
            loaded.model.kv_close(kv);
        }
        neighbours(name, &mut loaded, &tokens, &expected);
        roll_back(name, &mut loaded, &tokens, &expected);
        fork(name, &mut loaded);
    }
}

#[test]
fn the_reference_forks_sequences_exactly_too() {
    let _alone = models::alone();
    let device = by_name("candle", DeviceOptions::default()).unwrap();
    let Some(mut loaded) = Loaded::open("smollm2-135m", &*device) else { return };
    fork("smollm2-135m on candle", &mut loaded);
}

/// Two sequences in one pass, either first.
fn neighbours(name: &str, loaded: &mut Loaded, tokens: &[u32], expected: &[Vec<u32>]) {
    for ours_first in [true, false] {
        let (ours, other) = (loaded.model.kv_open(), loaded.model.kv_open());
        loaded.run_in_passes(ours, &tokens[..10], 10);
        loaded.run_in_passes(other, &tokens[5..9], 4);
        let row =
            |kv, p: usize, i: usize| Row { token: tokens[i], position: p as u32, kv, logits: true };
        let mut rows: Vec<Row> = (10..13).map(|p| row(ours, p, p)).collect();
        let others = (4..6).map(|p| row(other, p, p + 11));
        if ours_first {
            rows.extend(others);
        } else {
            rows = others.chain(rows).collect();
        }
        let got = loaded.run(&rows);
        let got = if ours_first { &got[..3] } else { &got[2..] };
        assert!(got == &expected[10..13], "{name}: neighbours change logits");
        loaded.model.kv_close(ours);
        loaded.model.kv_close(other);
    }
}

/// Sequences that begin alike share memory, and what one of them goes on with leaves no
/// trace in the other: across the end of a cache block, after roll-backs, and after the
/// one that they come from is closed.
fn fork(name: &str, loaded: &mut Loaded) {
    let common = tokens(140, loaded.vocabulary);
    let first = loaded.model.kv_open();
    loaded.run_in_passes(first, &common, 140);
    for length in [5, 127, 128, 129, 140] {
        let more = [11, 12, 13, 14, 15];
        let fresh = loaded.model.kv_open();
        loaded.run_in_passes(fresh, &common[..length], 140);
        let expected = loaded.run_in_passes(fresh, &more, 5);
        let needed = loaded.model.kv_needed(first, 140);
        let second = loaded.model.kv_fork(first, length).unwrap();
        let third = loaded.model.kv_fork(second, length).unwrap();
        assert_eq!(loaded.model.kv_length(second), length);
        // The one goes on with other tokens and comes back, then the other goes on.
        loaded.run_in_passes(second, &[9, 8, 7], 3);
        loaded.model.kv_truncate(second, length - 3);
        loaded.run_in_passes(second, &common[length - 3..length], 3);
        for kv in [third, second] {
            let got = loaded.run_in_passes(kv, &more, 5);
            assert!(got == expected, "{name}: a fork at {length} changes logits");
            loaded.model.kv_close(kv);
        }
        loaded.model.kv_close(fresh);
        assert_eq!(loaded.model.kv_needed(first, 140), needed, "nothing of it was taken");
    }
    // What its forks did has left no trace in the first.
    let child = loaded.model.kv_fork(first, 100).unwrap();
    let again = loaded.model.kv_open();
    loaded.run_in_passes(again, &common, 140);
    assert!(
        loaded.run_in_passes(first, &[1, 2], 2) == loaded.run_in_passes(again, &[1, 2], 2),
        "{name}: a fork changes what it comes from"
    );
    loaded.model.kv_close(first);
    loaded.run_in_passes(child, &common[100..], 40);
    assert!(
        loaded.run_in_passes(child, &[1, 2], 2) == {
            loaded.model.kv_truncate(again, 140);
            loaded.run_in_passes(again, &[1, 2], 2)
        },
        "{name}: a fork depends on what it comes from"
    );
    loaded.model.kv_close(child);
    loaded.model.kv_close(again);
}

/// Rejected drafts leave no trace.
fn roll_back(name: &str, loaded: &mut Loaded, tokens: &[u32], expected: &[Vec<u32>]) {
    let kv = loaded.model.kv_open();
    loaded.run_in_passes(kv, &tokens[..10], 10);
    loaded.run_in_passes(kv, &[3, 1, 4, 1, 5], 5);
    loaded.model.kv_truncate(kv, 10);
    let got = loaded.run_in_passes(kv, &tokens[10..], 11);
    assert!(got == expected[10..], "{name}: a rolled-back draft changes logits");
    loaded.model.kv_close(kv);
    assert_eq!(loaded.model.kv_length(kv), 0);
}

/// Rows on both sides of the point where a window of 512 begins to slide.
#[test]
fn a_sliding_window_is_the_same_in_any_pass() {
    let _alone = models::alone();
    let device = by_name(device::DEFAULT, DeviceOptions::default()).unwrap();
    let Some(mut loaded) = Loaded::open("gemma-3-270m", &*device) else { return };
    let tokens = tokens(524, loaded.vocabulary);
    let kv = loaded.model.kv_open();
    let start: Vec<Row> =
        (0..504).map(|p| Row { token: tokens[p], position: p as u32, kv, logits: false }).collect();
    loaded.run(&start);
    let expected = loaded.run_in_passes(kv, &tokens[504..], 1);
    for width in [3, 8, 20] {
        loaded.model.kv_truncate(kv, 504);
        let got = loaded.run_in_passes(kv, &tokens[504..], width);
        assert!(got == expected, "passes of {width} rows change logits");
    }
}

#[test]
fn passes_that_are_put_together_wrongly_are_refused() {
    let _alone = models::alone();
    let device = by_name(device::DEFAULT, DeviceOptions::default()).unwrap();
    let Some(mut loaded) = Loaded::open("smollm2-135m", &*device) else { return };
    let kv = loaded.model.kv_open();
    let row = |token, position, kv| Row { token, position, kv, logits: false };
    let beyond = loaded.vocabulary as u32;
    let cases: [(&str, Vec<Row>); 5] = [
        ("nothing", vec![]),
        ("a gap", vec![row(1, 0, kv), row(1, 2, kv)]),
        ("not at the cache's end", vec![row(1, 3, kv)]),
        ("a token beyond the vocabulary", vec![row(beyond, 0, kv)]),
        ("a cache that is not open", vec![row(1, 0, KvId(99))]),
    ];
    for (what, rows) in cases {
        let result = loaded.model.run(4, &rows, &mut Logits::default());
        assert!(result.is_err(), "{what} was accepted");
        assert_eq!(loaded.model.kv_length(kv), 0, "{what} left a trace");
    }
}

/// Logits of a few rows of `tokens`, run in passes of `width`.
fn logits_at(loaded: &mut Loaded, tokens: &[u32], width: usize, at: &[usize]) -> Vec<Vec<u32>> {
    let kv = loaded.model.kv_open();
    let rows: Vec<Row> = (0..tokens.len())
        .map(|i| Row { token: tokens[i], position: i as u32, kv, logits: at.contains(&i) })
        .collect();
    let found = rows.chunks(width).flat_map(|rows| loaded.run(rows)).collect();
    loaded.model.kv_close(kv);
    found
}

/// Threads decide who computes a number, gears how many rows stand beside it.
#[test]
fn every_gear_and_number_of_threads_gives_the_same_logits() {
    let _alone = models::alone();
    const LENGTH: usize = 530;
    let at = [0, 1, 5, 20, 63, 64, 127, 128, 139, 511, 512, 529];
    for name in ["smollm2-135m", "gemma-3-270m", "qwen2.5-coder-0.5b"] {
        let mut expected: Option<Vec<Vec<u32>>> = None;
        for threads in 1..=2 {
            let threads = NonZeroUsize::new(threads);
            let device = by_name("cpu", DeviceOptions { threads }).unwrap();
            let Some(mut loaded) = Loaded::open(name, &*device) else { break };
            let tokens = tokens(LENGTH, loaded.vocabulary);
            // The widest gear first: it sees all, narrow ones a beginning, for time.
            for gear in loaded.model.gears().iter().rev().copied().collect::<Vec<_>>() {
                let length = if gear < 64 { 140 } else { LENGTH };
                let at: Vec<usize> = at.into_iter().filter(|&i| i < length).collect();
                let got = logits_at(&mut loaded, &tokens[..length], gear, &at);
                let expected = expected.get_or_insert_with(|| got.clone());
                assert!(
                    got == expected[..got.len()],
                    "{name}: passes of {gear} rows on {threads:?} threads change logits"
                );
            }
        }
    }
}

/// The same bits on whatever vector unit the machine has.
#[test]
fn every_instruction_set_gives_the_same_logits() {
    let _alone = models::alone();
    for name in ["smollm2-135m", "gemma-3-270m", "qwen2.5-coder-0.5b"] {
        let mut expected: Option<Vec<Vec<u32>>> = None;
        for set in CpuDevice::instruction_sets() {
            let device =
                CpuDevice::with_instruction_set(Some(set), DeviceOptions::default()).unwrap();
            let Some(mut loaded) = Loaded::open(name, &device) else { break };
            let tokens = tokens(20, loaded.vocabulary);
            for width in [1, 7, 20] {
                let got = logits_at(&mut loaded, &tokens, width, &[0, 9, 19]);
                let expected = expected.get_or_insert_with(|| got.clone());
                assert!(got == *expected, "{name}: {set} in passes of {width} changes logits");
            }
        }
    }
}
