//! The fit on passes whose times come from a profile: it must find that profile again.

use aio_engine::device::npu_sim::StoredWeights;
use aio_engine::model::{ARCHITECTURES, ModelDescription};

use super::super::report::profile_text;
use super::*;

/// A model of that width, with its matrices in one format and its output in another.
fn shape(name: &str, width: usize, formats: [&str; 2]) -> Shape {
    let description = ModelDescription {
        architecture: &ARCHITECTURES[0],
        layers: 24,
        width,
        feed_forward: 4 * width,
        heads: width / 64,
        kv_heads: 2,
        head_width: 64,
        vocabulary: 100_000,
        context: 4096,
        embedding_scale: 1.0,
        global_rope_base: 10_000.0,
        local: None,
        norm_epsilon: 1e-5,
        tied_output: false,
    };
    let mut stored = StoredWeights::default();
    for op in &aio_engine::graph::build(&description, 1).ops {
        if op.name() == "linear" {
            for weight in op.weights() {
                let format = formats[usize::from(weight.name == "output.weight")];
                stored.formats.insert(weight.name.clone(), format.to_owned());
                stored.bytes += (weight.rows * weight.columns) as u64 * 5 / 8;
            }
        }
    }
    Shape { name: name.to_owned(), description, stored }
}

fn shapes() -> Vec<Shape> {
    vec![shape("small", 512, ["Q5_0", "Q8_0"]), shape("large", 1536, ["Q4_K", "Q6_K"])]
}

fn known() -> Known {
    Known {
        name: "synthetic".to_owned(),
        about: "a \"machine\" that is made up".to_owned(),
        bandwidth: 2e10,
        capacity: 24_000_000_000,
        kv_bytes: 2.0,
        tile: 5,
    }
}

fn passes() -> Vec<(usize, Pass)> {
    let mut passes = Vec::new();
    for model in 0..2 {
        for context in [256, 1024] {
            for rows in [1, 2, 3, 4, 5, 6, 8, 12, 16, 24, 32, 48, 64] {
                passes.push((model, Pass { rows, context, logits: rows }));
            }
        }
        passes.extend([128, 512].map(|rows| (model, Pass { rows, context: 0, logits: 1 })));
    }
    passes
}

/// A machine: efficiency, operations, attention, unpacking, a pass's own time, and the shares
/// of Q4_K, Q5_0, Q6_K and Q8_0.
fn truth(shapes: &[Shape]) -> Profile {
    let numbers: [f64; 9] = [0.8, 1.8e11, 0.22, 1.5e11, 3e-4, 1.0, 0.75, 0.85, 0.7];
    profile(&numbers.map(f64::ln), &["Q4_K", "Q5_0", "Q6_K", "Q8_0"], shapes, &known())
}

/// Every pass's time by a profile.
fn times(shapes: &[Shape], profile: &Profile) -> Vec<Timed> {
    let models: Vec<CostModel> = shapes
        .iter()
        .map(|s| CostModel::stored(profile.clone(), &s.description, &s.stored))
        .collect();
    let seconds = |model: usize, pass| predict(&models[model], pass);
    passes()
        .into_iter()
        .map(|(model, pass)| Timed { model, pass, seconds: seconds(model, pass) })
        .collect()
}

/// The greatest error of a profile that was fitted to half of the times after `disturb`, on
/// the times as they were before.
fn worst(disturb: impl Fn(usize, f64) -> f64) -> f64 {
    let shapes = shapes();
    let all = times(&shapes, &truth(&shapes));
    let fitted = fitted(&passes());
    let to_fit: Vec<Timed> = all
        .iter()
        .enumerate()
        .filter(|(i, _)| fitted[*i])
        .map(|(i, timed)| Timed { seconds: disturb(i, timed.seconds), ..*timed })
        .collect();
    let found = times(&shapes, &fit(&shapes, &to_fit, &known()));
    let errors =
        found.iter().zip(&all).map(|(found, all)| (found.seconds / all.seconds - 1.0).abs());
    errors.fold(0.0, f64::max)
}

#[test]
fn a_machine_is_found_again_from_half_of_its_passes() {
    let worst = worst(|_, seconds| seconds);
    assert!(worst < 0.02, "off by {worst}");
}

#[test]
fn noise_and_disturbed_passes_do_not_bend_it() {
    // Up to 4 % to either side, and every ninth pass at half the speed.
    let noise = |i: usize| 1.0 + 0.04 * ((i * 7 % 11) as f64 / 5.0 - 1.0);
    let worst = worst(|i, seconds| seconds * noise(i) * if i % 9 == 4 { 2.0 } else { 1.0 });
    assert!(worst < 0.08, "off by {worst}");
}

#[test]
fn at_most_half_is_fitted_and_what_is_predicted_stands_between() {
    let passes = passes();
    let fitted = fitted(&passes);
    let count = fitted.iter().filter(|&&fitted| fitted).count();
    assert!(2 * count <= passes.len() && 2 * count + 2 >= passes.len(), "{count}");
    for (pair, two) in fitted.windows(2).zip(passes.windows(2)) {
        let neighbours = (two[0].0, two[0].1.context) == (two[1].0, two[1].1.context);
        assert!(!neighbours || pair[0] != pair[1], "{two:?}");
    }
    // Every width is predicted for one of the models and contexts at least.
    for width in [1, 2, 3, 4, 5, 6, 8, 12, 16, 24, 32, 48, 64] {
        let of_it = passes.iter().zip(&fitted).filter(|((_, pass), _)| pass.rows == width);
        let (yes, no): (Vec<_>, Vec<_>) = of_it.partition(|(_, fitted)| **fitted);
        assert!(!yes.is_empty() && !no.is_empty(), "{width}");
    }
    let odd = super::fitted(&passes[..3]);
    assert!(2 * odd.iter().filter(|&&fitted| fitted).count() <= 3);
}

#[test]
fn the_same_times_give_the_same_profile_and_its_text_is_it() {
    let shapes = shapes();
    let timed = times(&shapes, &truth(&shapes));
    let mut found = fit(&shapes, &timed, &known());
    assert_eq!(found, fit(&shapes, &timed, &known()));
    let row = |(model, pass): (usize, Pass), milliseconds: f64| {
        aio_engine::device::npu_sim::MeasuredPass {
            model: shapes[model].name.clone(),
            rows: pass.rows,
            context: pass.context,
            logits: pass.logits,
            milliseconds,
            spread: 0.025,
            fitted: pass.rows % 2 == 0,
        }
    };
    found.calibration = Some(aio_engine::device::npu_sim::Calibration {
        machine: "made up".to_owned(),
        instruction_set: "portable".to_owned(),
        threads: 2,
        rounds: 3,
        models: vec!["small".to_owned(), "/a \"place\"/large.gguf".to_owned()],
        rows: timed.iter().map(|t| row((t.model, t.pass), t.seconds * 1e3)).collect(),
    });
    let text = profile_text(&found, "2026-01-31");
    assert_eq!(Profile::parse("synthetic", &text).unwrap(), found, "{text}");
    assert!(text.starts_with("# What passes of the cpu device cost"), "{text}");
}

#[test]
fn a_machine_that_others_use_is_the_same_at_another_speed() {
    let shapes = shapes();
    let profile = truth(&shapes);
    let busy = Speed { reading: 0.7, computing: 1.3 };
    let found = speed(&profile, &shapes, &times(&shapes, &busy.of(&profile)));
    assert!((found.reading / 0.7 - 1.0).abs() < 0.01, "{found:?}");
    assert!((found.computing / 1.3 - 1.0).abs() < 0.01, "{found:?}");
}
