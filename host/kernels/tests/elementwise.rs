//! Operations on rows: near the exact result, and the same bits on every
//! instruction set.

mod common;

use aio_kernels::elementwise::{Gate, add, gated, rms_norm, rotate_halves, rotate_neighbours};
use common::*;
use proptest::prelude::*;

const WIDEST: usize = if cfg!(miri) { 4 } else { 256 };

fn floats(n: usize, by: f32, seed: u64) -> Vec<f32> {
    Random(seed).floats(n).iter().map(|x| x * by).collect()
}

fn norm(isa: aio_kernels::Isa, x: &[f32], weight: &[f32], epsilon: f32) -> Vec<f32> {
    let mut out = vec![f32::NAN; x.len()];
    rms_norm(isa, x, weight, epsilon, &mut out);
    out
}

proptest! {
    #![proptest_config(config(300))]

    /// The sum of n squares, in 32 chains, is off by gamma(n / 32 + 8); its root by
    /// half of that; then the mean, the root, the inverse and two products: 8 more.
    #[test]
    fn rms_norm_is_as_exact_as_its_roundings_allow(
        parts in 1..=WIDEST, by in prop::sample::select(vec![1e-6f32, 0.1, 1.0, 1e6]),
        epsilon in prop::sample::select(vec![1e-6f32, 1e-5]), seed: u64,
    ) {
        let n = 16 * parts;
        let (x, weight) = (floats(n, by, seed), floats(n, 2.0, seed ^ 1));
        let out = norm(isas()[0], &x, &weight, epsilon);
        let mean = x.iter().map(|&x| f64::from(x).powi(2)).sum::<f64>() / n as f64;
        let inverse = 1.0 / (mean + f64::from(epsilon)).sqrt();
        for i in 0..n {
            let exact = f64::from(x[i]) * inverse * f64::from(weight[i]);
            let bound = exact.abs() * gamma(n / 32 + 16) + 1e-44;
            prop_assert!((f64::from(out[i]) - exact).abs() <= bound, "{} for {exact}", out[i]);
        }
        for isa in isas() {
            prop_assert_eq!(bits(&norm(isa, &x, &weight, epsilon)), bits(&out), "{}", isa.name());
        }
    }

    /// The exponential is off by 4 u, the sum, the quotient and the product by one
    /// each: 8. An exponent that is itself rounded (of GELU: 5 times) adds its
    /// magnitude's worth. Where the exponential is bounded, at e^88.3, the result is
    /// smaller than x times 5e-39.
    #[test]
    fn gates_are_as_exact_as_their_roundings_allow(
        parts in 1..=WIDEST, by in prop::sample::select(vec![1e-3f32, 1.0, 10.0, 100.0, 1e4]),
        seed: u64,
    ) {
        let n = 16 * parts;
        let (x, up) = (floats(n, by, seed), floats(n, 3.0, seed ^ 1));
        for gate in [Gate::Silu, Gate::GeluTanh] {
            let mut out = vec![f32::NAN; n];
            gated(isas()[0], gate, &x, &up, &mut out);
            for i in 0..n {
                let (x, up) = (f64::from(x[i]), f64::from(up[i]));
                let (exponent, roundings) = match gate {
                    Gate::Silu => (-x, 0.0),
                    Gate::GeluTanh => {
                        let u = (2.0 / std::f64::consts::PI).sqrt() * (x + 0.044_715 * x.powi(3));
                        (-2.0 * u, 5.0)
                    }
                };
                let exact = x / (1.0 + exponent.exp()) * up;
                let relative = 8.0 + roundings * exponent.abs().min(100.0);
                let bound = exact.abs() * relative * U + x.abs() * up.abs() * 5e-39 + 1e-44;
                let got = f64::from(out[i]);
                prop_assert!((got - exact).abs() <= bound, "{gate:?}({x}) * {up}: {got}, {exact}");
            }
            for isa in isas() {
                let mut other = vec![f32::NAN; n];
                gated(isa, gate, &x, &up, &mut other);
                prop_assert_eq!(bits(&other), bits(&out), "{:?} on {}", gate, isa.name());
            }
        }
    }

    /// Two products and their sum: 2 roundings of what enters.
    #[test]
    fn rotations_turn_pairs(half in 1..=64usize, seed: u64) {
        let head = floats(2 * half, 3.0, seed);
        let angles = floats(half, 3.0, seed ^ 1);
        let cos: Vec<f32> = angles.iter().map(|a| a.cos()).collect();
        let sin: Vec<f32> = angles.iter().map(|a| a.sin()).collect();
        let (mut halves, mut neighbours) = (head.clone(), head.clone());
        rotate_halves(&mut halves, &cos, &sin);
        rotate_neighbours(&mut neighbours, &cos, &sin);
        for i in 0..half {
            for (out, first, second) in [(&halves, i, i + half), (&neighbours, 2 * i, 2 * i + 1)] {
                let (a, b) = (f64::from(head[first]), f64::from(head[second]));
                let (c, s) = (f64::from(cos[i]), f64::from(sin[i]));
                let bound = gamma(2) * (a.abs() + b.abs());
                prop_assert!((f64::from(out[first]) - (a * c - b * s)).abs() <= bound);
                prop_assert!((f64::from(out[second]) - (a * s + b * c)).abs() <= bound);
            }
        }
    }
}

#[test]
fn no_angle_changes_nothing() {
    let head = floats(64, 1.0, 3);
    for rotate in [rotate_halves, rotate_neighbours] {
        let mut turned = head.clone();
        rotate(&mut turned, &[1.0; 32], &[0.0; 32]);
        assert_eq!(turned, head);
    }
}

#[test]
fn a_row_of_zeros_stays() {
    for isa in isas() {
        assert!(norm(isa, &[0.0; 48], &[2.0; 48], 1e-6).iter().all(|&x| x == 0.0));
        let mut out = [f32::NAN; 16];
        gated(isa, Gate::GeluTanh, &[0.0; 16], &[5.0; 16], &mut out);
        assert_eq!(out, [0.0; 16]);
    }
}

#[test]
fn rows_are_added() {
    let (mut x, y) = (floats(33, 1.0, 1), floats(33, 1.0, 2));
    let expected: Vec<f32> = x.iter().zip(&y).map(|(x, y)| x + y).collect();
    add(&mut x, &y);
    assert_eq!(bits(&x), bits(&expected));
}

#[test]
#[should_panic(expected = "a row of 20 floats")]
fn a_row_of_an_odd_width_is_refused() {
    norm(isas()[0], &[1.0; 20], &[1.0; 20], 1e-6);
}

#[test]
#[should_panic(expected = "rows of different lengths")]
fn rows_of_different_lengths_are_refused() {
    norm(isas()[0], &[1.0; 32], &[1.0; 16], 1e-6);
}
