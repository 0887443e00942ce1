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
            let clock = |runner: &Runner| runner.tiers().clock().now().as_nanos();
            assert_eq!(clock(&simulated), clock(&again));
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

/// The models and their tokens are small ones, the times those of large ones.
#[test]
fn small_models_act_at_the_times_of_large_ones() {
    let costed = format!("{GRAPH}=openpangu-7b");
    let Some(mut runner) = runner(&costed, LOOKUP) else { return };
    let mut own = self::runner(GRAPH, LOOKUP).unwrap();
    let same = support::answer(&mut own, &request(0.0));
    let record = support::answer(&mut runner, &request(0.0));
    assert_eq!(record.token_ids, same.token_ids);
    assert_eq!((&record.device, &same.device), (&costed, &GRAPH.to_owned()));
    // 7.5 billion weights of two bytes, where the acting model has 135 million.
    let told = &runner.tiers().info().tiers[0];
    assert!((13e9..16e9).contains(&(told.weight_bytes as f64)), "{told:?}");
    assert_eq!(told.kv_bytes_per_token, 139_264);
    let again = support::answer(&mut runner, &request(0.8));
    let shape = aio_engine::device::npu_sim::published::model("openpangu-7b").unwrap();
    let costs = CostModel::new(Profile::open(&GRAPH["npu-sim:".len()..]).unwrap(), &shape);
    let rows = again.rounds[0].rows as usize;
    let context = again.prompt_tokens as usize + rows;
    let gear = rows.next_power_of_two();
    let seconds = costs.pass(gear, &[Sequence { rows, context }], rows).seconds;
    let told = f64::from(again.rounds[0].verify_milliseconds) / 1e3;
    assert!((told - seconds).abs() < 1e-5 * seconds, "{told} and {seconds}");
}

#[test]
fn a_document_before_the_prompt_is_read_once_and_attended_to_by_every_pass() {
    let behind = |tokens: usize| format!("npu-sim:ascend-910b-graph=openpangu-7b@{tokens}");
    let Some(mut short) = runner(&behind(0), "") else { return };
    let mut long = runner(&behind(32_000), "").unwrap();
    // Long enough to be kept.
    let request = |temperature| Request {
        prompt: Prompt::Raw("one two three four five six seven eight ".repeat(3)),
        ..request(temperature)
    };
    let firsts = [&mut short, &mut long].map(|runner| support::answer(runner, &request(0.0)));
    assert_eq!(firsts[0].token_ids, firsts[1].token_ids);
    // The same prompt again: its cache is kept, and so is the document's.
    let [short, long] =
        [&mut short, &mut long].map(|runner| support::answer(runner, &request(0.8)));
    let prefill = |record: &RequestRecord| record.totals.prefill_seconds;
    let read = prefill(&firsts[1]) - prefill(&firsts[0]);
    assert!((1.0..20.0).contains(&read), "the document was read in {read} s");
    let again = prefill(&long) - prefill(&short);
    assert!((0.0..0.1).contains(&again), "it was read again in {again} s");
    // 4.4 GB of keys and values at 0.96 TB/s, beside 14 GB of weights.
    let more = long.rounds[0].verify_milliseconds - short.rounds[0].verify_milliseconds;
    assert!((4.0..5.0).contains(&more), "{more} ms");
}
