//! Every call of the ascend device's to the vendor's library fails once: each time there is
//! one sentence that names it, the device goes on or can be opened again, and nothing is
//! left behind, neither on the chip (by the stand-in library's books) nor in this process
//! (by counting what is allocated).

#![allow(clippy::unwrap_used)]

#[path = "../../../tests/support/stub.rs"]
mod stub;
mod tiny;

use std::alloc::{GlobalAlloc, Layout, System};
use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::sync::atomic::{AtomicIsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use aio_engine::device::ascend::AscendDevice;
use aio_engine::device::{Device, DeviceError, KvId, Logits, ResidentModel, Row};
use aio_engine::graph;
use stub::Stub;
use tiny::{Tiny, VOCABULARY};
use tracing::field::{Field, Visit};

/// Bytes allocated in this process and not freed. The stand-in library's are its own.
static ALLOCATED: AtomicIsize = AtomicIsize::new(0);

struct Counting;

#[global_allocator]
static COUNTING: Counting = Counting;

// SAFETY: everything is the system's allocator's; the count touches no memory of it.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATED.fetch_add(layout.size() as isize, Ordering::Relaxed);
        // SAFETY: the caller's promise is passed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        ALLOCATED.fetch_sub(layout.size() as isize, Ordering::Relaxed);
        // SAFETY: the caller's promise is passed on.
        unsafe { System.dealloc(pointer, layout) }
    }
}

/// What is logged, a line each: where failures go that nobody can be told of.
static LOG: Mutex<String> = Mutex::new(String::new());

struct Log;

impl tracing::Subscriber for Log {
    fn enabled(&self, metadata: &tracing::Metadata<'_>) -> bool {
        *metadata.level() <= tracing::Level::WARN
    }

    fn new_span(&self, _: &tracing::span::Attributes<'_>) -> tracing::span::Id {
        tracing::span::Id::from_u64(1)
    }

    fn record(&self, _: &tracing::span::Id, _: &tracing::span::Record<'_>) {}
    fn record_follows_from(&self, _: &tracing::span::Id, _: &tracing::span::Id) {}
    fn enter(&self, _: &tracing::span::Id) {}
    fn exit(&self, _: &tracing::span::Id) {}

    fn event(&self, event: &tracing::Event<'_>) {
        struct Line<'a>(&'a mut String);
        impl Visit for Line<'_> {
            fn record_debug(&mut self, _: &Field, value: &dyn std::fmt::Debug) {
                let _ = writeln!(self.0, "{value:?}");
            }
        }
        event.record(&mut Line(&mut lock(&LOG)));
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// AscendCL is one for a process.
static ALONE: Mutex<()> = Mutex::new(());

/// What a run of [`scenario`] gave: tokens, and what failed in it, a sentence each.
struct Outcome {
    tokens: Vec<usize>,
    errors: Vec<String>,
}

/// A device's whole life. Each step that fails is tried once more, which must do.
fn scenario(stub: &Stub, tiny: &Tiny) -> Outcome {
    let mut errors = Vec::new();
    let mut model = again(&mut errors, || {
        let device = AscendDevice::open(Some(&stub.path), 0)?;
        device.load(Arc::clone(&tiny.gguf), &tiny.description).map_err(|error| error.to_string())
    });
    for gear in [1, 2] {
        again(&mut errors, || {
            let compiled = model.compile(graph::build(&tiny.description, gear));
            compiled.map_err(|error| error.to_string())
        });
    }
    let kv = model.kv_open();
    let mut tokens = vec![3];
    run(&mut *model, kv, 2, &[5, 9], &mut tokens, &mut errors);
    run(&mut *model, kv, 1, &[7], &mut tokens, &mut errors);
    let fork = again(&mut errors, || model.kv_fork(kv, 2).map_err(|error| error.to_string()));
    run(&mut *model, fork, 1, &[7], &mut tokens, &mut errors);
    assert_eq!(tokens[3], tokens[4], "a fork goes on as what it comes from");
    model.kv_close(kv);
    drop(model);
    // Not called again where it fails.
    errors.extend(AscendDevice::finish().err());
    Outcome { tokens, errors }
}

/// Tries twice at most; notes what it said the first time.
fn again<T>(errors: &mut Vec<String>, mut attempt: impl FnMut() -> Result<T, String>) -> T {
    attempt().unwrap_or_else(|error| {
        errors.push(error);
        attempt().unwrap()
    })
}

/// A pass over `rows`; the best token of each. A failure leaves the cache as it was.
fn run(
    model: &mut dyn ResidentModel,
    kv: KvId,
    gear: usize,
    rows: &[u32],
    tokens: &mut Vec<usize>,
    errors: &mut Vec<String>,
) {
    let length = model.kv_length(kv);
    let row = |(position, &token)| Row { token, position, kv, logits: true };
    let rows: Vec<Row> = (length as u32..).zip(rows).map(row).collect();
    let mut logits = Logits::default();
    logits.reset(VOCABULARY);
    again(errors, || {
        assert_eq!((model.kv_length(kv), logits.len()), (length, 0));
        model.run(gear, &rows, &mut logits).map_err(|error| error.to_string())
    });
    assert_eq!(logits.len(), rows.len());
    for i in 0..logits.len() {
        let best = logits.row(i).iter().enumerate().max_by(|a, b| a.1.total_cmp(b.1));
        tokens.extend(best.map(|(token, _)| token));
    }
}

/// Lets the calls of those numbers fail, one in each life.
fn fail(stub: &Stub, tiny: &Tiny, expected: &Outcome, calls: &[(usize, &String)]) {
    let before = ALLOCATED.load(Ordering::SeqCst);
    for &(i, name) in calls {
        stub.new_process();
        stub.fail_at(i as u64 + 1, 507_015);
        let outcome = scenario(stub, tiny);
        let said = outcome.errors.join("\n") + &std::mem::take(&mut *lock(&LOG));
        let what = format!("{}, call {i} ({name}): {said}", tiny.name);
        assert_eq!(&stub.failed(), name, "{what}");
        // Its name, what its code means, and what the library says of it; a call that makes
        // something has no code.
        assert!(said.contains(&format!("{name} was told to fail")), "{what}");
        let meant = format!("{name} failed with 507015 (an AI core failed)");
        let nothing = format!("{name} returned nothing");
        assert!(said.contains(&meant) || said.contains(&nothing), "{what}");
        assert!(!said.contains("of no interest") && outcome.errors.len() <= 1, "{what}");
        assert_eq!(outcome.tokens, expected.tokens, "{what}");
        assert_eq!((stub.violations(), stub.left()), (String::new(), String::new()), "{what}");
    }
    let left = ALLOCATED.load(Ordering::SeqCst) - before;
    assert_eq!(left, 0, "{}: bytes are left of {} lives", tiny.name, calls.len());
}

#[test]
fn every_call_may_fail() {
    let _alone = lock(&ALONE);
    tracing::subscriber::set_global_default(Log).unwrap();
    let stub = Stub::open(env!("CARGO_TARGET_TMPDIR"));
    let (gemma3, qwen2) = (tiny::gemma3(), tiny::qwen2());
    let mut functions = BTreeSet::new();
    for tiny in [&gemma3, &qwen2] {
        stub.new_process();
        stub.fail_at(0, 0);
        let expected = scenario(&stub, tiny);
        assert!(expected.errors.is_empty(), "{:?}", expected.errors);
        let calls = stub.calls();
        // Each call of the one; of the other, which differs in a few operators, the first
        // and the last call of each function.
        let of_function = |i: &usize| {
            let (before, after) = (&calls[..*i], &calls[i + 1..]);
            !before.contains(&calls[*i]) || !after.contains(&calls[*i])
        };
        let all = std::ptr::eq(tiny, &raw const gemma3);
        let chosen = (0..calls.len()).filter(|i| all || of_function(i));
        let chosen: Vec<(usize, &String)> = chosen.map(|i| (i, &calls[i])).collect();
        fail(&stub, tiny, &expected, &chosen);
        println!("{}: {} of {} calls failed", tiny.name, chosen.len(), calls.len());
        functions.extend(calls);
    }
    // All that are declared, but for two that cannot fail and one that is called only after
    // another failure.
    let declared = include_str!("../../ascendcl/src/sys.rs").lines();
    let declared = declared.filter_map(|line| line.trim().split_once(": fn("));
    let declared = declared.map(|(name, _)| name).filter(|name| name.starts_with("acl"));
    let missed: Vec<&str> = declared.filter(|name| !functions.contains(*name)).collect();
    assert_eq!(missed, ["aclGetRecentErrMsg", "aclrtGetSocName", "aclDestroyAclOpExecutor"]);
}

#[test]
fn a_full_chip_says_what_helps() {
    let _alone = lock(&ALONE);
    let stub = Stub::open(env!("CARGO_TARGET_TMPDIR"));
    let tiny = tiny::llama();
    stub.new_process();
    let device = AscendDevice::open(Some(&stub.path), 0).unwrap();
    let load = || device.load(Arc::clone(&tiny.gguf), &tiny.description);
    let mut met = 0;
    for n in 1.. {
        stub.fail_at(n, 207_001);
        let loaded = load();
        if stub.failed().is_empty() {
            break;
        }
        if stub.failed() == "aclrtMalloc" {
            let error = loaded.err().unwrap();
            assert!(matches!(error, DeviceError::Memory(_)), "{error:?}");
            let error = error.to_string();
            assert!(error.contains("207001") && error.contains("a smaller model"), "{error}");
            met += 1;
        }
    }
    assert!(met > 10, "{met}");
    stub.fail_at(0, 0);
    drop(load().unwrap());
    drop(device);
    AscendDevice::finish().unwrap();
    assert_eq!((stub.violations(), stub.left()), (String::new(), String::new()));
}
