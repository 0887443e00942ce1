//! A record of 200 requests, made by a host without models, and replayed.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use aio_core::{
    Action, Answerer, Drafter, FinishReason, Granted, HostInfo, MemoryRecord, Outcome,
    RequestRecord, RoundRecord, Totals, Verdict,
};
use aio_policy::{Options, PolicyHost, PolicyRuntime, PolicySource, Recorder, Setup};

use super::*;
use crate::facts;

const REQUESTS: u64 = 200;
const ROUNDS: u32 = 12;

/// Whether the `n`-th draft is accepted: now one way, now the other, always the same.
fn accepted(request: u64, round: u32, drafted: u32) -> u32 {
    (request as u32 * 7 + round * 5) % (drafted + 1)
}

/// Answers one request as the decode loop does, with made-up tokens.
fn answer(policies: &PolicyHost, host: &HostInfo, request: u64) {
    let generation = policies.current();
    let facts = facts::request(host, request);
    let Verdict::Decided(plan) = generation.plan(&facts, &Granted::default()).answer else {
        panic!("goodput and fixed ask no probes");
    };
    let (mut draft, mut rounds) = (plan.draft, Vec::new());
    let mut committed = 1;
    for round in 0..ROUNDS {
        let mut action = None;
        if plan.ask_every > 0 {
            let last = rounds.last().map_or((0, 0), |r: &RoundRecord| (r.drafted, r.accepted));
            let facts = aio_core::RoundFacts {
                tier: plan.tier,
                round,
                committed,
                draft,
                recent_rounds: u32::from(round > 0),
                recent_drafted: last.0,
                recent_accepted: last.1,
                lookup_match: (request as u32 + round) % 5,
                ..facts::round(host, request)
            };
            let decided = generation.rounds(&facts::context(host), &[facts]).answer;
            action = decided.first().map(|decision| decision.action);
            if let Some(Action::Draft(setting)) = action {
                draft = setting;
            }
        }
        let drafted = if draft.drafter == Drafter::None { 0 } else { draft.length };
        let accepted = accepted(request, round, drafted);
        committed += accepted + 1;
        rounds.push(RoundRecord {
            tier: plan.tier,
            drafter: draft.drafter,
            drafted,
            accepted,
            committed: accepted + 1,
            rows: drafted + 1,
            draft_tier: None,
            draft_passes: 0,
            draft_rows: 0,
            draft_milliseconds: 0.0,
            verify_milliseconds: 20.0,
            action,
            reason: String::new(),
        });
    }
    let outcome = Outcome {
        tier: plan.tier,
        finish: FinishReason::Stop,
        committed,
        rounds: ROUNDS,
        ..facts::outcome(host, request)
    };
    generation.finished(&[outcome]);
    generation.ended(&RequestRecord {
        device: String::new(),
        request,
        text: String::new(),
        token_ids: Vec::new(),
        prompt_tokens: facts.prompt_tokens[plan.tier as usize],
        finish_reason: FinishReason::Stop,
        tier: Answerer { index: plan.tier, name: "t".into() },
        policy: generation.identity().clone(),
        facts,
        probes: Vec::new(),
        plan,
        speculation_off: None,
        rounds,
        totals: Totals { decode_seconds: f64::from(ROUNDS) * 0.02, ..Totals::default() },
        cached_tokens: 0,
        prefill_rows: 0,
        preemptions: 0,
        memory: MemoryRecord::default(),
        failures: Vec::new(),
        shadows: Vec::new(),
    });
}

fn source(name: &str) -> PolicySource {
    PolicySource::from_argument(name).unwrap()
}

/// Records requests under a policy, which is loaded anew half-way.
fn record(folder: &Path, policy: &str, config: Option<&str>) -> PathBuf {
    let path = folder.join("record.jsonl");
    let (runtime, host) = (PolicyRuntime::new().unwrap(), facts::two_tiers());
    let setup = Setup { config: config.map(str::to_owned), ..Setup::new(host.clone()) };
    let recorder = Some(Arc::new(Recorder::append(&path).unwrap()));
    let options = Options { recorder, ..Options::default() };
    let policies = PolicyHost::load(&runtime, &source(policy), setup, options).unwrap();
    for request in 1..=REQUESTS {
        if request == REQUESTS / 2 {
            policies.reload(&source(policy), config.map(str::to_owned)).unwrap();
        }
        answer(&policies, &host, request);
    }
    path
}

fn candidate(name: &str, config: Option<&str>) -> Candidate {
    Candidate { name: name.into(), source: source(name), config: config.map(str::to_owned) }
}

fn replayed(path: &Path, candidates: &[Candidate]) -> ReplayReport {
    let (runs, note) = read(path).unwrap();
    assert_eq!(note, None);
    let runtime = PolicyRuntime::new().unwrap();
    let setup = Setup::new(facts::two_tiers());
    replay(&runs, candidates, &ReplayOptions { runtime: &runtime, setup: &setup }).unwrap()
}

#[test]
fn the_recorded_component_answers_the_same_bit_for_bit() {
    let folder = tempfile::tempdir().unwrap();
    let path = record(folder.path(), "goodput", Some(r#"{"exploration":0.1}"#));
    let report = replayed(&path, &[candidate("goodput", None)]);
    let policy = &report.policies[0];
    assert_eq!(policy.differences, []);
    assert_eq!((report.requests, policy.not_asked, policy.compared), (REQUESTS as usize, 0, 0));
    let asked = REQUESTS as usize * (ROUNDS as usize + 2);
    assert!(policy.repeated >= asked, "{} calls", policy.repeated);
}

#[test]
fn an_answer_that_was_tampered_with_is_found() {
    let folder = tempfile::tempdir().unwrap();
    let path = record(folder.path(), "goodput", None);
    let text = std::fs::read_to_string(&path).unwrap();
    let number = text.lines().position(|line| line.contains(r#""event":"rounds""#)).unwrap();
    let tampered: Vec<String> = text
        .lines()
        .enumerate()
        .map(|(i, line)| {
            let mut event: serde_json::Value = serde_json::from_str(line).unwrap();
            if i == number {
                event["fuel"] = (event["fuel"].as_u64().unwrap() + 1).into();
            }
            event.to_string()
        })
        .collect();
    std::fs::write(&path, tampered.join("\n")).unwrap();
    let report = replayed(&path, &[candidate("goodput", None)]);
    let lines: Vec<_> = report.policies[0].differences.iter().map(|d| (d.line, d.hook)).collect();
    assert_eq!((lines, report.differences()), (vec![(number + 1, "rounds")], 1));
}

#[test]
fn another_policy_is_compared_and_priced() {
    let folder = tempfile::tempdir().unwrap();
    let path = record(folder.path(), "fixed", Some(r#"{"drafter":"lookup","draft_length":4}"#));
    let report = replayed(
        &path,
        &[
            candidate("fixed", None),
            candidate("fixed", Some(r#"{"drafter":"none"}"#)),
            candidate("aio", None),
        ],
    );
    let [same, plain, aio] = &report.policies[..] else { panic!("three candidates") };
    assert!(same.differences.is_empty() && same.estimate.is_none());

    // Every request is planned otherwise, in one way.
    assert_eq!((plain.compared, plain.alike), (REQUESTS as usize, 0));
    let change = &plain.changes[0];
    assert_eq!((change.of, change.times), ("plan", REQUESTS as usize));
    assert!(
        change.recorded.contains("lookup 4") && change.replayed.contains("plain"),
        "{change:?}"
    );
    let estimate = plain.estimate.unwrap();
    assert_eq!((estimate.requests, estimate.left_out), (REQUESTS as u32, 0));
    // Two of four drafted tokens were accepted on average: plain would be slower.
    assert!(estimate.replayed_seconds > estimate.recorded_seconds, "{estimate:?}");

    // What it would probe was never asked.
    assert!(aio.changes.iter().any(|c| c.replayed == "wants a probe that was not recorded"));
    assert_eq!(aio.estimate.unwrap().left_out, REQUESTS as u32);
}

#[test]
fn the_report_is_stable_json() {
    let folder = tempfile::tempdir().unwrap();
    let path = record(folder.path(), "fixed", None);
    let report = replayed(&path, &[candidate("goodput", None)]);
    let json = serde_json::to_value(&report).unwrap();
    assert_eq!(json["schema"], "aio-policy-replay/1");
    assert_eq!(json["recorded"][0]["name"], "fixed");
    assert_eq!(json["policies"][0]["compared"], 200);
    assert!(json["policies"][0]["changes"][0]["times"].is_u64());
}
