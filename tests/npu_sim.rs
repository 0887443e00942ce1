//! Simulated hardware with a real model: the tokens are the `cpu` device's, the times the
//! profile's, and both the same each time.

#![allow(clippy::unwrap_used)]

mod support;

use aio_core::{RequestRecord, RoundRecord};
use aio_engine::device::npu_sim::{CostModel, Profile, SHIPPED, Sequence};
use aio_engine::sampling::Sampling;
use aio_serve::{Prompt, Request, Runner};

const MODEL: &str = "smollm2-135m";
const GRAPH: &str = "npu-sim:ascend-910b-graph";

fn runner(device: &str, config: &str) -> Option<Runner> {
    let tiers = support::tiers_on(device, &[MODEL])?;
    let policy = support::load("fixed", config, &tiers);
    Some(Runner::new(tiers, policy))
}

fn request(temperature: f32) -> Request {
    let sampling = Sampling { temperature, seed: 7, ..Sampling::default() };
    let prompt = "alpha beta gamma alpha beta gamma alpha beta gamma alpha beta";
    Request::new(Prompt::Raw(prompt.into()), 24, sampling)
}

const LOOKUP: &str = r#"{"drafter": "lookup", "draft_length": 4}"#;

/// What a record says that does not depend on this machine.
fn reproducible(record: &RequestRecord) -> impl PartialEq + std::fmt::Debug {
    let round = |r: &RoundRecord| (r.rows, r.accepted, r.verify_milliseconds);
    let rounds: Vec<_> = record.rounds.iter().map(round).collect();
    (record.token_ids.clone(), rounds, record.totals.seconds, record.totals.prefill_seconds)
}

#[test]
fn tokens_are_the_cpus_and_times_the_profiles() {
    for config in ["", LOOKUP] {
        let Some(mut cpu) = runner("cpu", config) else { return };
        let mut simulated = runner(GRAPH, config).unwrap();
        let mut again = runner(GRAPH, config).unwrap();
        for temperature in [0.0, 0.8] {
            let real = support::answer(&mut cpu, &request(temperature));
            let record = support::answer(&mut simulated, &request(temperature));
            assert_eq!(record.token_ids, real.token_ids);
            assert_eq!(record.text, real.text);
            let repeated = support::answer(&mut again, &request(temperature));
            assert_eq!(reproducible(&record), reproducible(&repeated));
        }
    }
}

#[test]
fn nothing_but_passes_and_compilations_takes_time() {
    let Some(mut runner) = runner(GRAPH, "") else { return };
    let first = support::answer(&mut runner, &request(0.0));
    let totals = &first.totals;
    assert!((totals.seconds - totals.prefill_seconds - totals.decode_seconds).abs() < 1e-4);
    // The model's first graph is traced, each other one captured only.
    let prefill = totals.prefill_seconds;
    assert!(prefill > 1.0, "tracing and compiling took {prefill} s only");
    assert!(first.rounds[0].verify_milliseconds > 86.0, "{:?}", first.rounds[0]);
    let again = support::answer(&mut runner, &request(0.8));
    assert!(again.totals.prefill_seconds < 0.05, "{:?}", again.totals);
    // All of it is on record.
    let tier = &runner.tiers().all()[0];
    let graphs = tier.graphs();
    assert_eq!(graphs[0].compiled_at, 0.0);
    assert!(graphs[0].compile_seconds > 1.0 && graphs[0].padding > 0, "{:?}", graphs[0]);
    assert!(graphs.iter().all(|graph| graph.compilations == 1));
    let one = graphs.iter().find(|graph| graph.gear == 1).unwrap();
    let rounds = first.rounds.len() + again.rounds.len();
    assert_eq!((one.passes, one.padding), (rounds as u64, 0), "{graphs:?}");
    assert!((one.compile_seconds - 0.086).abs() < 1e-9 && one.compiled_at >= prefill - 1e-6);
    // What is not compiled yet is known to cost a capture.
    let wide = tier.facts().gears.iter().find(|gear| gear.rows == 64).unwrap();
    assert_eq!((wide.compiled, wide.compile_milliseconds), (false, Some(86.0)));
}

#[test]
fn a_round_costs_what_the_cost_model_says() {
    // Hardware whose host costs nothing: what a pass reads is all that it costs.
    let (_, text) = SHIPPED[2];
    let text = text.replace("pass = 12.37e-3", "pass = 0.0");
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("reads-only.toml");
    std::fs::write(&file, &text).unwrap();
    let device = format!("npu-sim:{}", file.display());
    let Some(mut runner) = runner(&device, LOOKUP) else { return };
    let shape = runner.tiers().all()[0].description().clone();
    let costs = CostModel::new(Profile::parse("reads-only", &text).unwrap(), &shape);
    support::answer(&mut runner, &request(0.0));
    let record = support::answer(&mut runner, &request(0.8));
    let gears = [1, 2, 4, 8];
    // The prompt's pass gave the first token, which the next pass reads.
    let mut context = record.prompt_tokens as usize;
    let mut wide = 0;
    for round in &record.rounds {
        let rows = round.rows as usize;
        let gear = gears.into_iter().find(|&gear| gear >= rows).unwrap();
        let sequence = Sequence { rows, context: context + rows };
        let seconds = costs.pass(gear, &[sequence], rows).seconds;
        let told = f64::from(round.verify_milliseconds) / 1e3;
        assert!((told - seconds).abs() < 1e-5 * seconds, "{told} and {seconds} for {round:?}");
        context += round.committed as usize;
        wide += usize::from(rows > 1);
    }
    assert!(wide > 0, "nothing was drafted");
}
