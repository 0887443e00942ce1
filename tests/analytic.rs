//! Recorded runs on simulated hardware without weights: the same times as with them.

#![allow(clippy::unwrap_used)]

mod support;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

use aio_bench::analytic::{Analytic, AnalyticReport, Replayed};
use aio_bench::paper::remembering::RememberingDevice;
use aio_core::{Drafter, RequestRecord};
use aio_engine::device::npu_sim::{NpuSimDevice, Simulation};
use aio_engine::device::{self, Device, DeviceOptions};
use aio_engine::model::ModelDescription;
use aio_engine::sampling::Sampling;
use aio_serve::{Request, Runner, Tiers};

const TIERS: [&str; 2] = ["qwen2.5-coder-0.5b", "qwen2.5-coder-1.5b"];
const LOOKUP: (&str, &str) = ("fixed", r#"{"drafter": "lookup", "draft_length": 4}"#);
/// Models that act, and the policies that make use of all that there is: probes, moves to
/// either tier, lookup, draft models that stop early, and lengths that change.
const RUNS: [(&str, &str); 4] = [
    ("fixed", r#"{"drafter": "model", "draft_length": 3, "min_confidence": 0.4}"#),
    ("fixed", r#"{"drafter": "lookup-then-model", "draft_length": 5}"#),
    ("aio", ""),
    ("goodput", r#"{"exploration": 0.2}"#),
];
const PROMPTS: [&str; 3] = [
    "Repeat exactly: fn add(a: i32, b: i32) -> i32 { a + b }",
    "What is the capital of France?",
    "What is 17 times 3? Think step by step.",
];

/// Models, to be put on simulated hardware, and what computes their tokens, once.
fn models(names: &[&str]) -> Option<(Tiers, Arc<dyn Device>)> {
    let tiers = support::tiers(names)?;
    let cpu = device::by_name("cpu", DeviceOptions::default()).unwrap();
    Some((tiers, Arc::new(RememberingDevice::new(cpu, 1 << 30))))
}

/// The whole simulation: records, the shapes of the models that acted, and the clock's
/// last time.
fn simulated(
    device: &str,
    (models, acting): &(Tiers, Arc<dyn Device>),
    (policy, config): (&str, &str),
) -> (Vec<RequestRecord>, Vec<ModelDescription>, u128) {
    let device = NpuSimDevice::new(Simulation::parse(device).unwrap(), Arc::clone(acting));
    let tiers = models.again(&device).unwrap();
    let policy = support::load(policy, config, &tiers);
    let mut runner = Runner::new(tiers, policy);
    let answer = |prompt: &&str| {
        let request: Request = support::chat(prompt, 16, Sampling::default());
        support::answer(&mut runner, &request)
    };
    // Twice, so that some prompts are kept.
    let records = PROMPTS.iter().chain(&PROMPTS[..1]).map(answer).collect();
    let tiers = runner.tiers();
    let shapes = tiers.all().iter().map(|tier| tier.description().clone()).collect();
    (records, shapes, tiers.clock().now().as_nanos())
}

#[test]
fn a_replay_takes_what_the_whole_simulation_took_to_the_nanosecond() {
    let Some(models) = models(&TIERS) else { return };
    let mut drafted = [0, 0];
    let mut probed = 0;
    let mut said = BTreeMap::new();
    for (n, run) in RUNS.into_iter().enumerate() {
        // Costed as themselves and as others, compiled and not, near and far.
        let device = [
            "ascend-910b-graph",
            "ascend-910b-eager=openpangu-1b+openpangu-7b",
            "ascend-910b-graph=openpangu-1b+openpangu-7b@700",
            "ascend-910b-graph=openpangu-1b+openpangu-7b",
        ][n];
        let (records, shapes, clock) = simulated(device, &models, run);
        let simulation = Simulation::parse(device).unwrap();
        let mut analytic = Analytic::new(&simulation, &shapes).unwrap();
        let replayed = analytic.answer_all(records.iter().map(|record| (0.0, record))).unwrap();
        assert_eq!(analytic.clock().now().as_nanos(), clock, "{device}");
        for (n, (record, replayed)) in records.iter().zip(&replayed).enumerate() {
            let tokens = said.entry((record.tier.name.clone(), PROMPTS[n % PROMPTS.len()]));
            assert_eq!(tokens.or_insert_with(|| record.token_ids.clone()), &record.token_ids);
            let close = |a: f64, b: f64| (a - b).abs() < 1e-7;
            let Replayed { began, first_token, ended, spent, .. } = *replayed;
            assert!(close(record.totals.seconds, ended - began), "{device}: {replayed:?}");
            let before = record.totals.prefill_seconds + record.totals.probe_seconds;
            // Records have probes in single precision.
            assert!((before - (first_token - began)).abs() < 1e-4 * before.max(1.0));
            assert!(close(spent.all().seconds(), ended - began), "{replayed:?}");
            probed += record.probes.len();
            for round in &record.rounds {
                drafted[0] += usize::from(round.drafter == Drafter::Lookup);
                drafted[1] += usize::from(round.drafter == Drafter::Model);
            }
        }
    }
    assert!(drafted.into_iter().all(|n| n > 3) && probed > 0, "{drafted:?}, {probed} probes");
    the_cpu_says_the_same(models.0, said);
}

/// Whatever the hardware, the policy and the costs: tokens are the `cpu` device's.
fn the_cpu_says_the_same(tiers: Tiers, said: BTreeMap<(String, &str), Vec<u32>>) {
    let policy = support::load("fixed", "", &tiers);
    let mut runner = Runner::new(tiers, policy);
    for ((tier, prompt), tokens) in said {
        let policy = support::load("fixed", &format!(r#"{{"tier": "{tier}"}}"#), runner.tiers());
        runner.replace_policies(policy);
        let request = support::chat(prompt, 16, Sampling::default());
        assert_eq!(support::answer(&mut runner, &request).token_ids, tokens, "{tier}: {prompt}");
    }
}

#[test]
fn thousands_of_requests_wait_for_their_turn_on_any_hardware() {
    let Some(models) = models(&TIERS[..1]) else { return };
    let (records, ..) = simulated("ascend-910b-graph", &models, LOOKUP);
    let start = Instant::now();
    let mut reports = Vec::new();
    for device in ["hf", "eager", "graph"] {
        let device = format!("ascend-910b-{device}=openpangu-1b+openpangu-7b");
        let simulation = Simulation::parse(&device).unwrap();
        for gap in [0.0, 100.0] {
            let mut analytic = Analytic::new(&simulation, &[]).unwrap();
            let arrivals = records.iter().cycle().take(1000).enumerate();
            let arrivals = arrivals.map(|(n, record)| (n as f64 * gap, record));
            let answered = analytic.answer_all(arrivals).unwrap();
            reports.push(AnalyticReport::new(&device, &answered).unwrap());
        }
    }
    eprintln!("6,000 requests in {:.2} s", start.elapsed().as_secs_f64());
    for pair in reports.chunks(2) {
        let [busy, idle] = pair else { unreachable!() };
        assert_eq!((busy.requests, busy.tokens), (1000, idle.tokens));
        let [waited, alone] = [busy, idle].map(|r| r.latency.as_ref().unwrap().p50);
        assert!(waited > 100.0 * alone, "{waited} and {alone} s");
        let decoding = [busy, idle].map(|r| r.decode_tokens_per_second);
        assert!((decoding[0] / decoding[1] - 1.0).abs() < 1e-6, "{decoding:?}");
    }
    let speed = |n: usize| reports[n].decode_tokens_per_second;
    assert!(speed(0) < speed(2) && speed(2) < speed(4));
    let table = AnalyticReport::table(&reports);
    assert_eq!(table.lines().count(), 7, "{table}");
}

#[test]
fn a_record_of_another_kind_of_run_is_refused() {
    let Some(models) = models(&TIERS[..1]) else { return };
    let (records, shapes, _) = simulated("ascend-910b-hf", &models, LOOKUP);
    let simulation = Simulation::parse("ascend-910b-hf").unwrap();
    let told = |simulation: &Simulation, record: &RequestRecord| {
        let mut analytic = Analytic::new(simulation, &shapes).unwrap();
        analytic.answer(record).unwrap_err().to_string()
    };
    let preempted = RequestRecord { preemptions: 1, ..records[0].clone() };
    assert!(told(&simulation, &preempted).contains("request 1 was preempted"));
    let old = RequestRecord { prefill_rows: 0, ..records[0].clone() };
    assert!(told(&simulation, &old).contains("how many rows"));
    let mut odd = records[0].clone();
    let drafted = odd.rounds.iter().position(|round| round.drafted > 0).unwrap();
    odd.rounds[drafted].rows = 99;
    assert!(told(&simulation, &odd).contains(&format!("round {drafted}")));
    let mut elsewhere = records[0].clone();
    elsewhere.plan.tier = 1;
    assert!(told(&simulation, &elsewhere).contains("ran on tier 1, but only 1"));
    let one = Simulation::parse("ascend-910b-hf=openpangu-1b").unwrap();
    let two = [shapes[0].clone(), shapes[0].clone()];
    assert!(Analytic::new(&one, &two).is_err_and(|e| e.contains("1 models, and 2")));
    assert!(Analytic::new(&simulation, &[]).is_err());
}
