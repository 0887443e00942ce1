//! The ascend device against the library that stands in for the vendor's: what it
//! computes, what it says when a call fails, and that nothing is left behind.

#![allow(clippy::unwrap_used)]

#[path = "../../../tests/support/stub.rs"]
mod stub;
mod tiny;

use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use aio_engine::device::ascend::AscendDevice;
use aio_engine::device::{
    Device, DeviceError, DeviceOptions, KvId, Logits, ResidentModel, Row, by_name,
};
use aio_engine::graph;
use stub::Stub;
use tiny::{Tiny, VOCABULARY};

/// A test's turn: AscendCL is one for a process. When it ends nothing may have been wrong.
struct Turn {
    stub: Stub,
    _alone: MutexGuard<'static, ()>,
}

impl Turn {
    fn begin() -> Self {
        static ALONE: Mutex<()> = Mutex::new(());
        let alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
        let stub = Stub::open(env!("CARGO_TARGET_TMPDIR"));
        // A test that failed may have left it open.
        let _ = AscendDevice::finish();
        stub.new_process();
        Self { stub, _alone: alone }
    }

    fn device(&self) -> AscendDevice {
        AscendDevice::open(Some(&self.stub.path), 0).unwrap()
    }

    /// Finalises, and says what was wrong until then.
    fn end(self) {
        AscendDevice::finish().unwrap();
        assert_eq!(self.stub.violations(), "");
        assert_eq!(self.stub.left(), "");
    }
}

struct Loaded {
    model: Box<dyn ResidentModel>,
}

impl Loaded {
    fn new(tiny: &Tiny, device: &dyn Device, gears: &[usize]) -> Self {
        let mut model = device.load(Arc::clone(&tiny.gguf), &tiny.description).unwrap();
        for &gear in gears {
            assert!(!model.is_compiled(gear));
            model.compile(graph::build(&tiny.description, gear)).unwrap();
            assert!(model.is_compiled(gear));
        }
        Self { model }
    }

    /// Runs `tokens` on `kv` in one pass of the smallest compiled gear; all rows' logits.
    fn run(&mut self, kv: KvId, tokens: &[u32]) -> Vec<Vec<f32>> {
        let start = self.model.kv_length(kv) as u32;
        self.run_rows(&rows(kv, start, tokens))
    }

    fn run_rows(&mut self, rows: &[Row]) -> Vec<Vec<f32>> {
        let gears = self.model.gears().to_vec();
        let fits = |gear: &&usize| **gear >= rows.len() && self.model.is_compiled(**gear);
        let gear = *gears.iter().find(fits).unwrap();
        let mut logits = Logits::default();
        logits.reset(VOCABULARY);
        self.model.run(gear, rows, &mut logits).unwrap();
        (0..logits.len()).map(|i| logits.row(i).to_vec()).collect()
    }
}

fn rows(kv: KvId, start: u32, tokens: &[u32]) -> Vec<Row> {
    let row = |(position, &token)| Row { token, position, kv, logits: true };
    (start..).zip(tokens).map(row).collect()
}

fn tokens(n: usize) -> Vec<u32> {
    (0..n).map(|i| ((i * 7919 + 13) * 104_729 % VOCABULARY) as u32).collect()
}

fn best(logits: &[f32]) -> u32 {
    let best = logits.iter().enumerate().max_by(|a, b| a.1.total_cmp(b.1));
    best.map_or(0, |(i, _)| i as u32)
}

/// How far off, at most, and in the root of the mean square, as parts of the spread.
fn off(got: &[Vec<f32>], expected: &[Vec<f32>]) -> (f32, f32) {
    assert_eq!(got.len(), expected.len());
    let flat = |rows: &[Vec<f32>]| rows.concat();
    let (got, expected) = (flat(got), flat(expected));
    let n = expected.len() as f32;
    let spread = (expected.iter().map(|x| x * x).sum::<f32>() / n).sqrt();
    let differences = || got.iter().zip(&expected).map(|(x, y)| (x - y).abs() / spread);
    let most = differences().fold(0.0, f32::max);
    (most, (differences().map(|d| d * d).sum::<f32>() / n).sqrt())
}

/// Rounding to 11 bits (llama, qwen2) or to 8 bits within blocks (gemma3) is all that may
/// differ: 0.02 at most and 0.005 in the mean were measured.
fn close(what: &str, got: &[Vec<f32>], expected: &[Vec<f32>]) {
    let (most, mean) = off(got, expected);
    println!("{what}: {most:.4} at most, {mean:.5} in the mean");
    assert!(most < 0.04 && mean < 0.01, "{what}: {most} at most, {mean} in the mean");
}

#[test]
fn logits_and_tokens_are_those_of_the_reference() {
    let turn = Turn::begin();
    let (device, reference) = (turn.device(), by_name("candle-f32", DeviceOptions::default()));
    let reference = reference.unwrap();
    for tiny in [tiny::llama(), tiny::qwen2(), tiny::gemma3()] {
        let name = tiny.name;
        let mut ours = Loaded::new(&tiny, &device, &[1, 4, 64, 128]);
        let mut theirs = Loaded::new(&tiny, &*reference, &[1, 4, 64, 128]);
        let (kv, same) = (ours.model.kv_open(), theirs.model.kv_open());
        // A padded pass, one of more rows than the head takes at once (and one row over),
        // one in which the window slides, one row.
        let prompt = tokens(120);
        for part in [&prompt[..40], &prompt[40..105], &prompt[105..108], &prompt[108..109]] {
            let got = ours.run(kv, part);
            close(&format!("{name}, {} rows", part.len()), &got, &theirs.run(same, part));
        }
        // Greedy decoding.
        let (mut token, mut expected) = (5, 5);
        for _ in 0..24 {
            token = best(&ours.run(kv, &[token])[0]);
            expected = best(&theirs.run(same, &[expected])[0]);
            assert_eq!(token, expected, "{name} says another token");
        }
    }
    drop(device);
    turn.end();
}

/// Several sequences in a pass, roll-backs, forks and growing caches.
#[test]
fn sequences_are_kept_apart() {
    let turn = Turn::begin();
    let device = turn.device();
    for tiny in [tiny::qwen2(), tiny::gemma3()] {
        let name = tiny.name;
        let mut loaded = Loaded::new(&tiny, &device, &[1, 8, 512]);
        let all = tokens(300);
        let (alone, other) = (loaded.model.kv_open(), loaded.model.kv_open());
        let expected = loaded.run(alone, &all);
        // Beyond the room that a cache begins with, in two passes.
        let per_token = loaded.model.kv_bytes_per_token();
        assert_eq!(loaded.model.kv_needed_anew(10), 256 * per_token);
        loaded.run(other, &all[..250]);
        assert_eq!(loaded.model.kv_needed(other, 256), 0);
        // Doubled, but no more than the context.
        let grown = (tiny::CONTEXT as u64 - 256) * per_token;
        assert_eq!(loaded.model.kv_needed(other, 300), grown);
        let before = loaded.model.memory().kv;
        let got = loaded.run(other, &all[250..258]);
        // The library that stands in computes each row by itself, so these are the same bits.
        assert!(got == expected[250..258], "{name}: a grown cache changes logits");
        assert_eq!(loaded.model.memory().kv, before + grown);
        // A rejected draft leaves no trace, and a fork goes its own way.
        loaded.run(other, &[1, 2, 3]);
        loaded.model.kv_truncate(other, 258);
        let fork = loaded.model.kv_fork(other, 255).unwrap();
        assert_eq!(loaded.model.kv_length(fork), 255);
        loaded.run(fork, &[9, 9]);
        loaded.model.kv_truncate(fork, 255);
        // Both in one pass, either first.
        for fork_first in [true, false] {
            let of_fork = rows(fork, 255, &all[255..258]);
            let of_other = rows(other, 258, &all[258..261]);
            let pass = if fork_first {
                [of_fork, of_other].concat()
            } else {
                [of_other, of_fork].concat()
            };
            let got = loaded.run_rows(&pass);
            let (first, second) = got.split_at(3);
            let (of_fork, of_other) = if fork_first { (first, second) } else { (second, first) };
            assert!(of_fork == &expected[255..258], "{name}: a fork's logits differ");
            assert!(of_other == &expected[258..261], "{name}: neighbours change logits");
            loaded.model.kv_truncate(fork, 255);
            loaded.model.kv_truncate(other, 258);
        }
        // Only some rows' logits, and those of none.
        let mut pass = rows(other, 258, &all[258..264]);
        pass.iter_mut().for_each(|row| row.logits = row.position % 2 == 1);
        let odd: Vec<Vec<f32>> = [259, 261, 263].map(|i: usize| expected[i].clone()).to_vec();
        assert!(loaded.run_rows(&pass) == odd, "{name}: other rows than those asked for");
        let mut pass = rows(other, 264, &all[264..270]);
        pass.iter_mut().for_each(|row| row.logits = false);
        assert!(loaded.run_rows(&pass).is_empty());
        close(
            &format!("{name}, after none"),
            &loaded.run(other, &all[270..271]),
            &expected[270..271],
        );
        for kv in [alone, other, fork] {
            loaded.model.kv_close(kv);
        }
        assert_eq!(loaded.model.memory().kv, 0);
    }
    drop(device);
    turn.end();
}

#[test]
fn a_pass_that_is_wrong_is_refused_and_leaves_no_trace() {
    let turn = Turn::begin();
    let device = turn.device();
    let mut loaded = Loaded::new(&tiny::llama(), &device, &[4]);
    let kv = loaded.model.kv_open();
    for rows in [vec![], rows(kv, 1, &[1]), rows(kv, 0, &[77]), rows(KvId(9), 0, &[1])] {
        let refused = loaded.model.run(4, &rows, &mut Logits::default());
        assert!(matches!(refused, Err(DeviceError::BadPass(_))), "{rows:?}");
    }
    let refused = loaded.model.run(8, &rows(kv, 0, &[1]), &mut Logits::default());
    assert!(refused.unwrap_err().to_string().contains("gear 8 is not compiled"));
    assert_eq!((loaded.model.kv_length(kv), loaded.model.memory().kv), (0, 0));
    // Of a cache that is not open nothing is known, and a fork of it is empty.
    assert_eq!((loaded.model.kv_length(KvId(9)), loaded.model.kv_needed(KvId(9), 4)), (0, 0));
    let fork = loaded.model.kv_fork(KvId(9), 4).unwrap();
    assert_eq!(loaded.model.kv_length(fork), 0);
    let listing = loaded.model.listing(4).unwrap();
    assert!(listing.device == "ascend" && listing.arena_bytes > 0);
    let of = |operation: &str| {
        let step = listing.steps.iter().find(|step| step.operation == operation);
        step.map(|step| step.shape.clone()).unwrap()
    };
    assert_eq!((of("attention"), of("add")), ("4 x 64 f16".to_owned(), "4 x 64 f32".to_owned()));
    assert!(loaded.model.listing(2).is_none());
    drop(loaded);
    drop(device);
    turn.end();
}

/// Models keep the library and the chip; the last one gives them back.
#[test]
fn chips_and_models_share_one_library() {
    let turn = Turn::begin();
    let second = AscendDevice::open(Some(&turn.stub.path), 1).unwrap();
    assert_eq!((second.name(), second.chip_name().as_str()), ("ascend:1", "AscendStub"));
    let device = turn.device();
    let (llama, qwen2) = (tiny::llama(), tiny::qwen2());
    let mut models = [
        Loaded::new(&llama, &device, &[1]),
        Loaded::new(&qwen2, &device, &[1]),
        Loaded::new(&llama, &second, &[1]),
    ];
    drop((device, second));
    let error = AscendDevice::finish().unwrap_err();
    assert!(error.contains("still in use"), "{error}");
    let results = models.each_mut().map(|loaded| {
        // A model may be used on any thread.
        std::thread::scope(|scope| {
            let run = scope.spawn(|| {
                let kv = loaded.model.kv_open();
                loaded.run(kv, &[7])
            });
            run.join().unwrap()
        })
    });
    assert_eq!(results[0], results[2]);
    drop(models);
    turn.end();
}

#[test]
fn what_is_not_there_is_one_sentence() {
    let turn = Turn::begin();
    let refused = |path: &Path, chip| AscendDevice::open(Some(path), chip).err().unwrap();
    let nowhere = Path::new("/nowhere/libascendcl.so");
    let error = refused(nowhere, 0);
    for word in ["/nowhere/libascendcl.so", "set_env.sh", "AIO_ASCEND_LIBRARY", "--device cpu"] {
        assert!(error.contains(word), "{error}");
    }
    let folder = tempfile::tempdir().unwrap();
    let error = refused(folder.path(), 0);
    assert!(error.contains("libascendcl.so") && error.contains("set_env.sh"), "{error}");
    // A library, but another one.
    let error = refused(Path::new("libc.so.6"), 0);
    assert!(error.contains("aclInit") && error.contains("CANN 8.0"), "{error}");
    for chip in [2, -1] {
        let error = refused(&turn.stub.path, chip);
        assert!(error.contains(&format!("no Ascend chip {chip}")), "{error}");
    }
    // The process has one library.
    assert!(refused(nowhere, 0).contains("another place"));
    AscendDevice::finish().unwrap();

    // A folder like the vendor's.
    let library = folder.path().join("libascendcl.so");
    std::os::unix::fs::symlink(&turn.stub.path, library).unwrap();
    turn.stub.new_process();
    drop(AscendDevice::open(Some(folder.path()), 0).unwrap());
    turn.end();
    let names =
        [("ascend:x", "number of a chip"), ("ascend:", "number"), ("ascendant", "no device")];
    for (name, words) in names {
        let error = by_name(name, DeviceOptions::default()).err().unwrap();
        assert!(error.contains(words), "{error}");
    }
    let threads = DeviceOptions { threads: std::num::NonZeroUsize::new(2) };
    assert!(by_name("ascend", threads).err().unwrap().contains("--threads"));
}
