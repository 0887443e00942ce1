//! The threads of a pass, and the memory that they share.

#![allow(clippy::unwrap_used)]

mod common;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use aio_kernels::matrix::{Tile, Tiles, share};
use aio_kernels::memory::Memory;
use aio_kernels::pool::Pool;
use aio_kernels::shared::{Shared, SharedRows};
use common::config;
use proptest::prelude::*;

/// Not many: on fewer cores than threads, a run lasts as long as the system lets a
/// spinning thread keep a core.
const RUNS: usize = if cfg!(miri) { 3 } else { 60 };

fn message(panic: &(dyn std::any::Any + Send)) -> &str {
    let owned = panic.downcast_ref::<String>().map(String::as_str);
    owned.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or_default()
}

#[test]
fn each_thread_runs_once_a_run() {
    for threads in 1..=4 {
        let pool = Pool::new(threads).unwrap();
        assert_eq!(pool.threads(), threads);
        let counts: Vec<_> = (0..threads).map(|_| AtomicUsize::new(0)).collect();
        for _ in 0..RUNS {
            pool.run(&|team| {
                assert_eq!(team.threads, threads);
                counts[team.thread].fetch_add(1, Ordering::Relaxed);
            });
        }
        assert!(counts.iter().all(|count| count.load(Ordering::Relaxed) == RUNS));
    }
}

#[test]
fn no_threads_are_the_callers_one() {
    assert_eq!(Pool::new(0).unwrap().threads(), 1);
}

/// Each step reads what all threads wrote in the one before, without atomics: only
/// the barriers order it.
#[test]
fn barriers_order_what_is_written() {
    let steps = if cfg!(miri) { 4 } else { 40 };
    for threads in 1..=4 {
        let pool = Pool::new(threads).unwrap();
        for run in 0..RUNS as u64 / 10 + 1 {
            let (mut a, mut b) = (vec![run; 37], vec![0u64; 37]);
            let (a, b) = (Shared::new(&mut a), Shared::new(&mut b));
            pool.run(&|team| {
                for step in 0..steps {
                    let (from, to) = if step % 2 == 0 { (a, b) } else { (b, a) };
                    let part = team.share(37);
                    // SAFETY: in a step `from` is only read, and each thread writes
                    // its own share of `to`; the barrier is between the steps.
                    let (from, to) =
                        unsafe { (from.read(0, 37), to.write(part.start, part.len())) };
                    for (i, to) in part.zip(to) {
                        *to = from[36 - i] + from[(i + 1) % 37] % 2 + 1;
                    }
                    team.meet();
                }
            });
            let mut expected = vec![run; 37];
            for _ in 0..steps {
                let next = |i: usize| expected[36 - i] + expected[(i + 1) % 37] % 2 + 1;
                expected = (0..37).map(next).collect();
            }
            // SAFETY: the run is over, nobody writes.
            assert_eq!(unsafe { if steps % 2 == 0 { a } else { b }.read(0, 37) }, expected);
        }
    }
}

/// A thread that panics is told of, whichever it is, also while others wait for it
/// at a barrier, and the next run is as any other.
#[test]
fn a_panic_is_reported_and_the_pool_goes_on() {
    for threads in 1..=4 {
        let pool = Pool::new(threads).unwrap();
        for culprit in 0..threads {
            for meets in 0..3 {
                let result = catch_unwind(AssertUnwindSafe(|| {
                    pool.run(&|team| {
                        for _ in 0..meets {
                            team.meet();
                        }
                        assert!(team.thread != culprit, "on purpose");
                        team.meet();
                    });
                }));
                let panic = result.unwrap_err();
                let message = message(&*panic);
                assert!(message.contains("panic") || message == "on purpose", "{message}");
                let sum = AtomicUsize::new(0);
                pool.run(&|team| {
                    team.meet();
                    sum.fetch_add(team.thread, Ordering::Relaxed);
                    team.meet();
                    assert_eq!(sum.load(Ordering::Relaxed), threads * (threads - 1) / 2);
                });
            }
        }
    }
}

/// Nobody waits at a barrier: the panic is reported nevertheless.
#[test]
fn a_panic_of_a_worker_without_barriers_is_reported() {
    let pool = Pool::new(3).unwrap();
    let result = catch_unwind(AssertUnwindSafe(|| {
        pool.run(&|team| assert!(team.thread != 2, "on purpose"));
    }));
    assert_eq!(message(&*result.unwrap_err()), "a pass panicked on one of its threads");
}

#[test]
fn threads_that_fell_asleep_wake() {
    let pool = Pool::new(4).unwrap();
    for run in 0..if cfg!(miri) { 1 } else { 6 } {
        // Longer than threads spin; then shorter, to meet them as they fall asleep.
        std::thread::sleep(Duration::from_millis(if run < 3 { 50 } else { run }));
        let count = AtomicUsize::new(0);
        pool.run(&|team| {
            team.meet();
            count.fetch_add(1, Ordering::Relaxed);
        });
        assert_eq!(count.load(Ordering::Relaxed), 4);
    }
    std::thread::sleep(Duration::from_millis(50));
    drop(pool); // Sleeping threads end as well.
}

/// Every item of every deal goes to one thread, whoever dawdles; threads may be in
/// different deals.
#[test]
fn deals_are_everything_once() {
    for threads in 1..=4 {
        let pool = Pool::new(threads).unwrap();
        for run in 0..RUNS {
            let deals = [(37, 1), (0, 3), (5, 1), (40, 7), (3, 100), (threads - 1, 1)];
            let counts =
                deals.map(|(total, _)| (0..total).map(|_| AtomicUsize::new(0)).collect::<Vec<_>>());
            pool.run(&|team| {
                for ((total, size), counts) in deals.into_iter().zip(&counts) {
                    for piece in team.pieces(total, size) {
                        assert!((1..=size).contains(&piece.len()), "{piece:?}");
                        for item in piece {
                            counts[item].fetch_add(1, Ordering::Relaxed);
                        }
                        if (team.thread + run).is_multiple_of(threads) {
                            std::thread::yield_now();
                        }
                    }
                    if run.is_multiple_of(2) {
                        team.meet();
                    }
                }
            });
            let once = |count: &AtomicUsize| count.load(Ordering::Relaxed) == 1;
            assert!(counts.iter().flatten().all(once), "{threads} threads, run {run}");
        }
    }
}

/// What a thread does not come to, others do.
#[test]
fn others_do_what_a_thread_does_not_come_to() {
    let pool = Pool::new(2).unwrap();
    let (begun, done) = (AtomicUsize::new(0), AtomicUsize::new(0));
    let wait_for = |flag: &AtomicUsize| {
        while flag.load(Ordering::Acquire) == 0 {
            std::thread::yield_now();
        }
    };
    let taken = Mutex::new(Vec::new());
    pool.run(&|team| {
        let mut pieces = team.pieces(20, 2);
        if team.thread == 0 {
            assert_eq!(pieces.next(), Some(0..2));
            begun.store(1, Ordering::Release);
            wait_for(&done);
            assert_eq!(pieces.next(), None);
        } else {
            wait_for(&begun);
            taken.lock().unwrap().extend(pieces);
            done.store(1, Ordering::Release);
        }
    });
    // Its own share in order; of the other's what is left, from the end.
    let own = [10..12, 12..14, 14..16, 16..18, 18..20];
    let others = [8..10, 6..8, 4..6, 2..4];
    assert_eq!(taken.into_inner().unwrap(), own.into_iter().chain(others).collect::<Vec<_>>());
}

#[test]
fn pieces_become_larger_where_there_would_be_too_many() {
    let pool = Pool::new(2).unwrap();
    let items = AtomicUsize::new(0);
    pool.run(&|team| {
        for piece in team.pieces(300_000, 1) {
            items.fetch_add(piece.len(), Ordering::Relaxed);
        }
    });
    assert_eq!(items.into_inner(), 300_000);
}

/// Callers take turns.
#[test]
fn several_callers_share_a_pool() {
    let pool = Pool::new(2).unwrap();
    let inside = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| {
                for _ in 0..RUNS / 10 + 1 {
                    pool.run(&|team| {
                        inside.fetch_add(1, Ordering::SeqCst);
                        team.meet();
                        assert_eq!(inside.load(Ordering::SeqCst), 2);
                        team.meet();
                        inside.fetch_sub(1, Ordering::SeqCst);
                    });
                }
            });
        }
    });
}

proptest! {
    #![proptest_config(config(500))]

    #[test]
    fn tiles_place_rows_where_they_are_iterated(
        rows in 1..=600usize, largest in 1..=20usize, records in 1..=30usize,
    ) {
        let tiles = Tiles::new(rows, largest);
        let mut next = 0;
        let (mut least, mut most) = (usize::MAX, 0);
        for Tile { first, rows: n } in tiles.iter() {
            prop_assert_eq!(first, next);
            prop_assert!(n >= 1 && n <= largest);
            (least, most) = (least.min(n), most.max(n));
            for row in first..first + n {
                let place = tiles.place(row, records);
                prop_assert_eq!((place.first, place.step), (first * records + row - first, n));
            }
            next += n;
        }
        prop_assert_eq!(next, rows);
        prop_assert!(most - least <= 1, "{least} to {most} rows a tile");
    }

    #[test]
    fn shares_are_everything_once(total in 0..1000usize, parts in 1..=16usize) {
        let mut next = 0;
        for part in 0..parts {
            let share = share(total, part, parts);
            prop_assert_eq!(share.start, next);
            prop_assert!(share.len() >= total / parts && share.len() <= total / parts + 1);
            next = share.end;
        }
        prop_assert_eq!(next, total);
    }
}

/// Below and above the size from which memory is mapped in huge pages.
#[test]
fn memory_is_zeroed_and_aligned() {
    let lengths: &[usize] = if cfg!(miri) {
        &[0, 1, 63, 64, 65]
    } else {
        &[0, 1, 63, 64, 65, 4096, (2 << 20) - 1, 2 << 20, (2 << 20) + 1, 9_000_001]
    };
    for &length in lengths {
        let mut memory = Memory::zeroed(length).unwrap();
        assert_eq!((memory.len(), memory.is_empty()), (length, length == 0));
        assert_eq!(memory.bytes().len(), length);
        assert!(memory.bytes().as_ptr().addr().is_multiple_of(64));
        assert!(memory.bytes().iter().all(|&byte| byte == 0));
        memory.bytes_mut().fill(0xff);
        assert!(memory.bytes().iter().all(|&byte| byte == 0xff));
    }
}

#[test]
#[cfg_attr(miri, ignore = "Miri's machine has no end of memory")]
fn too_much_memory_is_one_sentence() {
    let error = Memory::zeroed(1 << 60).unwrap_err().to_string();
    assert!(error.starts_with("there is no memory for 1152921504606846976 bytes"), "{error}");
}

#[test]
fn pieces_of_shared_memory_stay_within_it() {
    let mut floats = [1.0f32, 2.0, 3.0, 4.0];
    let view = Shared::new(&mut floats);
    assert!(view.len() == 4 && !view.is_empty());
    let rows = SharedRows::new(view, 2);
    // SAFETY: one thread, and no piece outlives its assertion.
    unsafe {
        assert_eq!(view.read(1, 2), [2.0, 3.0]);
        assert_eq!(view.read(4, 0), [0.0; 0]);
        assert_eq!(view.part(2, 2).read(1, 1), [4.0]);
        assert_eq!(rows.read(1, 0, 2), [3.0, 4.0]);
        assert_eq!(rows.from(7, 3).read(8, 4, 1), [4.0]);
        view.write(3, 1)[0] = 5.0;
        rows.write(1, 0, 1)[0] = 6.0;
        assert_eq!(view.cast::<[f32; 2]>().read(1, 1), [[6.0, 5.0]]);
    }
    // SAFETY: they panic before there is a piece.
    let refused: [&dyn Fn(); 11] = unsafe {
        [
            &|| _ = view.read(0, 5),
            &|| _ = view.read(5, 0),
            &|| _ = view.read(usize::MAX, 2),
            &|| _ = view.read(1, usize::MAX),
            &|| _ = view.write(3, 2),
            &|| _ = view.write(2, usize::MAX),
            &|| _ = view.part(1, 4),
            &|| _ = view.cast::<[f32; 3]>(),
            &|| _ = view.part(1, 2).cast::<u128>(),
            &|| _ = rows.lanes(0, 0),
            &|| _ = rows.write(1, 1, 2),
        ]
    };
    for (i, piece) in refused.iter().enumerate() {
        assert!(catch_unwind(AssertUnwindSafe(piece)).is_err(), "piece {i} was given");
    }
}
