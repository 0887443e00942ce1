//! Operations on whole rows, memory, and the pool.
#![allow(clippy::unwrap_used)]

mod common;

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use aio_kernels::elementwise::{self, Gate};
use aio_kernels::memory::Memory;
use aio_kernels::pool::Pool;
use aio_kernels::shared::Shared;
use common::{Random, instruction_sets};

#[test]
fn norms_and_gates_are_right_on_every_instruction_set() {
    let mut random = Random(3);
    for columns in [16, 32, 576, 896] {
        let x: Vec<f32> = (0..columns).map(|_| random.unit() * 9.0).collect();
        let weight: Vec<f32> = (0..columns).map(|_| random.unit()).collect();
        let square = x.iter().map(|x| f64::from(*x) * f64::from(*x)).sum::<f64>();
        let root = (square / columns as f64 + 1e-6).sqrt();
        let mut expected: Option<Vec<Vec<f32>>> = None;
        for isa in instruction_sets() {
            let mut normed = vec![0.0; columns];
            elementwise::rms_norm(isa, &x, &weight, 1e-6, &mut normed);
            for ((y, x), w) in normed.iter().zip(&x).zip(&weight) {
                let exact = f64::from(*x) / root * f64::from(*w);
                assert!((f64::from(*y) - exact).abs() <= 1e-5 * exact.abs().max(1e-3));
            }
            let gated = |gate: Gate| {
                let mut y = x.clone();
                elementwise::gated(isa, gate, &mut y, &weight);
                for ((y, x), up) in y.iter().zip(&x).zip(&weight) {
                    let x = f64::from(*x);
                    let activated = match gate {
                        Gate::Silu => x / (1.0 + (-x).exp()),
                        Gate::GeluTanh => {
                            let inner =
                                std::f64::consts::FRAC_2_PI.sqrt() * (x + 0.044715 * x * x * x);
                            x / 2.0 * (1.0 + inner.tanh())
                        }
                    };
                    let exact = activated * f64::from(*up);
                    assert!((f64::from(*y) - exact).abs() <= 1e-5, "{gate:?} of {x}");
                }
                y
            };
            let all = vec![normed, gated(Gate::Silu), gated(Gate::GeluTanh)];
            assert_eq!(*expected.get_or_insert_with(|| all.clone()), all, "{}", isa.name());
        }
    }
}

#[test]
fn gates_of_extreme_values_are_finite() {
    let values = [0.0, -0.0, 1e30, -1e30, 88.0, -88.0, 1e-30, -1e-30];
    for isa in instruction_sets() {
        for gate in [Gate::Silu, Gate::GeluTanh] {
            let mut y: Vec<f32> = values.repeat(2);
            elementwise::gated(isa, gate, &mut y, &[1.0; 16]);
            assert!(y.iter().all(|y| y.is_finite()), "{gate:?}: {y:?}");
            assert_eq!(y[2], 1e30);
        }
    }
}

#[test]
fn rotations_keep_lengths_and_turn_pairs() {
    let (angle, head): (f32, [f32; 4]) = (0.3, [1.0, 2.0, 3.0, 4.0]);
    let (cos, sin) = ([angle.cos(), 1.0], [angle.sin(), 0.0]);
    let turned = |a: f32, b: f32| (a * cos[0] - b * sin[0], a * sin[0] + b * cos[0]);
    let mut halves = head;
    elementwise::rotate_halves(&mut halves, &cos, &sin);
    let (a, b) = turned(1.0, 3.0);
    assert_eq!(halves, [a, 2.0, b, 4.0]);
    let mut neighbours = head;
    elementwise::rotate_neighbours(&mut neighbours, &cos, &sin);
    let (a, b) = turned(1.0, 2.0);
    assert_eq!(neighbours, [a, b, 3.0, 4.0]);
}

#[test]
fn memory_is_zeroed_and_aligned() {
    for length in [0, 1, 64, 1000, if cfg!(miri) { 5000 } else { (4 << 20) + 5 }] {
        let mut memory = Memory::zeroed(length).unwrap();
        assert!(memory.len() == length && memory.bytes().iter().all(|&b| b == 0));
        assert!(memory.bytes().as_ptr().addr().is_multiple_of(64));
        memory.bytes_mut().fill(7);
        assert!(memory.bytes().iter().all(|&b| b == 7));
    }
}

#[test]
#[should_panic(expected = "past the end")]
fn a_part_past_the_end_is_refused() {
    let mut items = [1u8, 2, 3];
    let shared = Shared::new(&mut items);
    // SAFETY: nothing else runs.
    unsafe { shared.read(2, 2) };
}

/// Each thread adds to what its neighbour left at the barrier before.
#[test]
fn threads_see_what_others_wrote_before_a_barrier() {
    let rounds = if cfg!(miri) { 5 } else { 300 };
    for threads in 1..=4 {
        let pool = Pool::new(threads).unwrap();
        assert_eq!(pool.threads(), threads);
        for _ in 0..3 {
            let mut cells = vec![0usize; 2 * threads];
            let shared = Shared::new(&mut cells);
            pool.run(&|team| {
                for round in 0..rounds {
                    let (from, to) = (round % 2 * threads, (round + 1) % 2 * threads);
                    let neighbour = (team.thread + 1) % threads;
                    // SAFETY: of one half all read, and each writes its own cell of the
                    // other; the halves change roles at the barrier.
                    unsafe {
                        let before = shared.read(from + neighbour, 1)[0];
                        shared.write(to + team.thread, 1)[0] = before + 1;
                    }
                    team.meet();
                }
            });
            let last = rounds % 2 * threads;
            assert!(cells[last..last + threads].iter().all(|&c| c == rounds), "{cells:?}");
        }
    }
}

#[test]
fn shares_cover_everything_once() {
    let pool = Pool::new(3).unwrap();
    for total in [0, 1, 2, 7, 100] {
        let seen: Vec<AtomicUsize> = (0..total).map(|_| AtomicUsize::new(0)).collect();
        pool.run(&|team| {
            team.share(total).for_each(|i| {
                seen[i].fetch_add(1, Ordering::Relaxed);
            });
        });
        assert!(seen.iter().all(|n| n.load(Ordering::Relaxed) == 1));
    }
}

#[test]
fn sleeping_threads_wake_for_the_next_run() {
    let pool = Pool::new(2).unwrap();
    let count = AtomicUsize::new(0);
    for _ in 0..5 {
        std::thread::sleep(Duration::from_millis(if cfg!(miri) { 1 } else { 60 }));
        pool.run(&|_| {
            count.fetch_add(1, Ordering::Relaxed);
        });
    }
    assert_eq!(count.load(Ordering::Relaxed), 10);
}

#[test]
fn a_panic_on_one_thread_is_the_callers_and_the_pool_goes_on() {
    let pool = Pool::new(2).unwrap();
    for bad in 0..2 {
        let run = || {
            pool.run(&|team| {
                assert!(team.thread != bad, "thread {bad} breaks");
                team.meet();
            });
        };
        assert!(std::panic::catch_unwind(std::panic::AssertUnwindSafe(run)).is_err());
        let count = AtomicUsize::new(0);
        pool.run(&|team| {
            team.meet();
            count.fetch_add(1, Ordering::Relaxed);
        });
        assert_eq!(count.load(Ordering::Relaxed), 2);
    }
}
