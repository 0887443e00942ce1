//! The load benchmark against a server of a few lines, which answers as each test
//! wants it to. What is tested is counting and telling apart; of times, only that
//! nothing comes before the server sent it.

#![allow(clippy::unwrap_used)]

mod fake_server;

use std::path::PathBuf;
use std::time::Duration;

use aio_bench::serve::{self, Load, ServeOptions, ServeReport, Slo, Target, TargetFigures};
use aio_bench::{Progress, Silent};
use fake_server::{Reply, Server, stream};
use serde_json::Value;
use tempfile::TempDir;

/// How long the server thinks before its first token, and between tokens.
const FIRST: Duration = Duration::from_millis(30);
const NEXT: Duration = Duration::from_millis(5);

/// A prompt file with prompts of its own for each row.
fn prompt_file(folder: &TempDir) -> PathBuf {
    let path = folder.path().join("questions.jsonl");
    let row = |i| format!("{{\"question\":\"What is {i} and {i}, in words?\"}}\n");
    std::fs::write(&path, (0..20).map(row).collect::<String>()).unwrap();
    path
}

fn options(servers: &[&Server], folder: &TempDir) -> ServeOptions {
    let target = |(i, server): (usize, &&Server)| {
        Target::parse(&format!("server-{i}={}", server.url)).unwrap()
    };
    ServeOptions {
        targets: servers.iter().enumerate().map(target).collect(),
        model: None,
        api_key: None,
        prompts: vec![prompt_file(folder)],
        count: 20,
        load: Load::Clients(vec![2]),
        requests: Some(8),
        seconds: None,
        rounds: 1,
        max_tokens: Some(16),
        max_prompt_tokens: None,
        temperature: 0.0,
        seed: 1,
        ignore_eos: false,
        retry: false,
        timeout: Duration::from_secs(60),
        most_in_flight: 4,
        slo: Slo::default(),
    }
}

/// Measures one server with options that differ by `change`.
fn measure(server: &Server, change: impl FnOnce(&mut ServeOptions)) -> ServeReport {
    let folder = tempfile::tempdir().unwrap();
    let mut options = options(&[server], &folder);
    change(&mut options);
    serve::run(&options, &mut Silent).unwrap()
}

fn only(report: &ServeReport) -> &TargetFigures {
    assert_eq!((report.levels.len(), report.targets.len()), (1, 1));
    &report.levels[0].targets[0]
}

/// How often each kind of failure was met.
fn kinds(figures: &TargetFigures) -> Vec<(&str, usize)> {
    figures.failures.iter().map(|f| (f.kind.as_str(), f.count)).collect()
}

fn content(request: &Value) -> &str {
    request["messages"][0]["content"].as_str().unwrap()
}

#[test]
fn answers_are_counted_and_timed() {
    let server = Server::start(|_, _| {
        let mut reply = stream(&["one ", "two ", "drei"], Some(5));
        reply.delays = vec![FIRST, NEXT, NEXT];
        reply
    });
    let report = measure(&server, |options| {
        options.load = Load::Clients(vec![1, 3]);
        options.slo = Slo { ttft_ms: Some(1e9), tpot_ms: Some(1e-9) };
        options.targets[0].pid = Some(std::process::id());
    });
    let target = &report.targets[0];
    assert_eq!((target.server.as_deref(), target.model.as_str()), (Some("fake/1"), "tiny"));
    assert_eq!(report.levels.len(), 2);
    for level in &report.levels {
        let figures = &level.targets[0];
        assert_eq!((figures.requests, figures.answers, figures.turned_away), (8, 8, 0));
        assert_eq!((figures.completion_tokens, figures.prompt_tokens), (40, 72));
        assert_eq!((figures.asked_tokens, figures.counted_by_pieces), (128, 0));
        assert_eq!(figures.goodput_per_second, Some(0.0), "the time per token is impossible");
        let (first, latency) = (figures.ttft_ms.unwrap(), figures.latency_ms.unwrap());
        assert!(first.p50 >= 30.0, "the first token came before it was sent: {first:?}");
        assert!(latency.p50 >= 40.0, "the answer ended before it was sent: {latency:?}");
        for p in [first, latency, figures.tpot_ms.unwrap(), figures.gap_ms.unwrap()] {
            assert!(p.p50 <= p.p95 && p.p95 <= p.p99 && p.p99 <= p.max, "{p:?}");
        }
        assert!(figures.tokens_per_second > 0.0 && figures.memory.is_some());
        assert_eq!(figures.gap_ms.unwrap().count, 16);
    }
    let json = serde_json::to_value(&report).unwrap();
    assert_eq!(json["schema"], "aio-bench-serve/1");
    assert_eq!(json["requests"].as_array().unwrap().len(), 16);
    assert_eq!(json["levels"][1]["level"]["clients"], 3);
    let text = report.text();
    assert!(text.contains("3 clients") && text.contains("good/s are answers"), "{text}");
    assert!(!text.contains("What is"), "the report quotes a prompt");
    assert!(report.plot().contains("Time to the first token"));
}

#[test]
fn requests_are_what_was_asked_for() {
    let server = Server::start(|_, _| stream(&["a", "b"], None));
    let report = measure(&server, |options| {
        options.model = Some("mine".into());
        options.api_key = Some(serve::ApiKey::new("secret".into()));
        options.ignore_eos = true;
        options.seed = 9;
    });
    let figures = only(&report);
    assert_eq!((figures.completion_tokens, figures.counted_by_pieces), (16, 8));
    assert!(report.text().contains("8 answers came without usage"));
    assert!(!serde_json::to_string(&report).unwrap().contains("secret"));
    let asked = server.asked();
    // One to try it with, eight to measure.
    assert_eq!(asked.len(), 9);
    for request in &asked {
        assert_eq!((request["model"].as_str(), request["seed"].as_u64()), (Some("mine"), Some(9)));
        assert_eq!(request["stream_options"]["include_usage"], true);
        assert_eq!((&request["stream"], &request["ignore_eos"]), (&true.into(), &true.into()));
        assert_eq!(request["temperature"].as_f64(), Some(0.0));
        assert_eq!(request["authorization"], "Bearer secret");
    }
    assert!(asked[1..].iter().all(|request| request["max_tokens"] == 16));
}

#[test]
fn streams_may_be_cut_anywhere() {
    let server = Server::start(|_, _| {
        let whole = stream(&["é", "漢字", "🦀"], Some(3));
        let bytes = whole.parts.concat();
        Reply { parts: bytes.iter().map(|&byte| vec![byte]).collect(), ..whole }
    });
    let report = measure(&server, |options| options.requests = Some(2));
    let figures = only(&report);
    assert_eq!((figures.answers, figures.completion_tokens), (2, 6));
    assert_eq!(figures.gap_ms.unwrap().count, 4);
}

#[test]
fn failures_are_told_apart() {
    let server = Server::start(|number, _| match number {
        2 => Reply::error(503, "{\"error\":{\"message\":\"no slot\"}}"),
        3 => Reply::error(429, "{\"error\":\"slow down\"}"),
        // The connection is closed before the answer's end, and before its last chunk.
        4 => Reply {
            parts: stream(&["a"], None).parts[..1].to_vec(),
            cut: true,
            ..stream(&[], None)
        },
        5 => Reply { hangs: true, ..stream(&[], None) },
        6 => Reply {
            parts: vec![b"data: {\"error\":{\"message\":\"lost\"}}\n\n".to_vec()],
            ..stream(&[], None)
        },
        _ => stream(&["a", "b"], Some(2)),
    });
    let report = measure(&server, |options| {
        options.load = Load::Clients(vec![1]);
        options.timeout = Duration::from_secs(3);
    });
    let figures = only(&report);
    assert_eq!((figures.requests, figures.answers, figures.turned_away), (8, 3, 1));
    let expected = [("HTTP 429", 1), ("HTTP 503", 1), ("broken stream", 2), ("timeout", 1)];
    assert_eq!(kinds(figures), expected);
    assert_eq!(figures.failures[1].example, "no slot");
    let failed: Vec<_> =
        report.requests.iter().filter(|r| r.failure.is_some()).map(|r| r.number).collect();
    assert_eq!(failed, [1, 2, 3, 4, 5]);
    assert!(report.text().contains("1 x HTTP 503, for example: no slot"));
    assert!(report.silent().is_empty());
}

#[test]
fn a_request_that_is_turned_away_is_sent_again_if_so_wanted() {
    let server = Server::start(|number, _| match number {
        1..=3 => Reply { headers: "retry-after: 0\r\n".into(), ..Reply::error(429, "full") },
        _ => stream(&["a"], Some(1)),
    });
    let report = measure(&server, |options| {
        (options.retry, options.requests) = (true, Some(4));
        options.load = Load::Clients(vec![1]);
    });
    let figures = only(&report);
    assert_eq!((figures.requests, figures.answers, figures.turned_away), (4, 4, 3));
    assert!(figures.failures.is_empty());
}

#[test]
fn refused_connections_are_counted() {
    // It goes away once it has been tried: after its list of models and one answer.
    let server = Server::start_for(2, |_, _| stream(&["a"], Some(1)));
    let report = measure(&server, |_| {});
    let figures = only(&report);
    assert_eq!((figures.requests, figures.answers), (8, 0));
    assert_eq!(kinds(figures), [("connection refused", 8)]);
    assert_eq!((report.silent(), figures.ttft_ms), (vec!["server-0"], None));
    assert!(report.plot().contains("nothing was measured"));
}

#[test]
fn servers_are_asked_the_same_and_compared() {
    let servers = [1, 2].map(|n| Server::start(move |_, _| stream(&["a", "b"], Some(10 * n))));
    let folder = tempfile::tempdir().unwrap();
    let mut options = options(&[&servers[0], &servers[1]], &folder);
    (options.rounds, options.requests) = (2, Some(3));
    options.load = Load::Rates(vec![200.0]);
    let report = serve::run(&options, &mut Silent).unwrap();
    let [first, second] = &report.levels[0].targets[..] else { panic!("not two servers") };
    assert!(first.to_first.is_none());
    assert_eq!(second.to_first.unwrap().tokens_per_second.unwrap().count, 2);
    assert_eq!((first.completion_tokens, second.completion_tokens), (60, 120));
    let order: Vec<_> = report.requests.iter().step_by(3).map(|r| (r.round, r.target)).collect();
    assert_eq!(order, [(0, 0), (0, 1), (1, 1), (1, 0)]);
    let prompts = |server: &Server| {
        let mut all: Vec<String> =
            server.asked()[1..].iter().map(|r| content(r).to_owned()).collect();
        all.sort();
        all
    };
    assert_eq!(prompts(&servers[0]), prompts(&servers[1]));
    let mut different = prompts(&servers[0]);
    different.dedup();
    assert_eq!(different.len(), 6, "a round repeats the prompts of the one before");
    assert!(report.text().contains("to server-0"));
}

#[test]
fn a_server_that_cannot_be_measured_is_told_before() {
    let fails = |server: &Server, change: fn(&mut ServeOptions)| {
        let folder = tempfile::tempdir().unwrap();
        let mut options = options(&[server], &folder);
        change(&mut options);
        serve::run(&options, &mut Silent).unwrap_err().to_string()
    };
    let picky = Server::start(|_, request| match request.get("ignore_eos") {
        Some(_) => Reply::error(400, "{\"error\":{\"message\":\"ignore_eos is unknown\"}}"),
        None => stream(&["a"], Some(1)),
    });
    let error = fails(&picky, |options| options.ignore_eos = true);
    assert!(error.ends_with("HTTP 400: ignore_eos is unknown"), "{error}");
    let no_models = Server::start(|_, _| stream(&["a"], Some(1))).models(404, "");
    let error = fails(&no_models, |_| {});
    assert!(error.contains("name one with --model"), "{error}");
    let locked = Server::start(|_, _| stream(&["a"], Some(1))).models(401, "who are you?");
    let error = fails(&locked, |_| {});
    assert!(error.ends_with("HTTP 401: who are you?"), "{error}");
    let plain = Server::start(|_, _| Reply::error(200, "{\"choices\":[]}"));
    let error = fails(&plain, |_| {});
    assert!(error.contains("no stream of events"), "{error}");
    let gone = Server::start_for(0, |_, _| stream(&[], None));
    let error = fails(&gone, |_| {});
    assert!(error.contains("does not answer: connection refused"), "{error}");
}

#[test]
fn traces_are_replayed_with_their_lengths_and_blocks() {
    let server = Server::start(|_, _| stream(&["a", "b"], Some(2)));
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("trace.jsonl");
    let row = |at: u64, tokens: usize, ids: &str| {
        format!(
            "{{\"timestamp\":{at},\"input_length\":{tokens},\"output_length\":7,\"hash_ids\":[{ids}]}}\n"
        )
    };
    let rows = [row(0, 600, "0,1"), row(1000, 1000, "0,2"), row(2000, 300, "3"), row(9000, 9, "4")];
    std::fs::write(&file, rows.concat()).unwrap();
    let report = measure(&server, |options| {
        options.load = Load::Trace { file, speeds: vec![100.0] };
        (options.requests, options.seconds) = (Some(50), Some(0.05));
        options.max_prompt_tokens = Some(800);
        options.max_tokens = None;
    });
    assert_eq!(only(&report).answers, 3, "the last one arrives when the time is over");
    assert!(report.text().contains("1 prompts of the trace were cut"));
    let mut asked = server.asked();
    asked.remove(0);
    asked.sort_by_key(|request| content(request).chars().count());
    let lengths: Vec<_> = asked.iter().map(|r| content(r).chars().count()).collect();
    assert_eq!(lengths, [1200, 2400, 3200]);
    assert!(asked.iter().all(|request| request["max_tokens"] == 7));
    let (a, b) = (content(&asked[1]), content(&asked[2]));
    let shared = a.chars().zip(b.chars()).take_while(|(a, b)| a == b).count();
    assert_eq!(shared, 512 * 4, "the first block is shared, and no more");
}

/// Keeps what it is told.
#[derive(Default)]
struct Notes(Vec<String>);

impl Progress for Notes {
    fn started(&mut self, _: u64) {}

    fn step(&mut self, _: &str) {}

    fn note(&mut self, text: &str) {
        self.0.push(text.to_owned());
    }

    fn finished(&mut self) {}
}

#[test]
fn absent_prompt_files_are_told() {
    let server = Server::start(|_, _| stream(&["a"], Some(1)));
    let folder = tempfile::tempdir().unwrap();
    let mut options = options(&[&server], &folder);
    options.requests = Some(1);
    options.prompts.push(folder.path().join("absent.jsonl"));
    let mut notes = Notes::default();
    serve::run(&options, &mut notes).unwrap();
    assert!(notes.0[0].contains("absent.jsonl is not here"), "{:?}", notes.0);
    options.prompts.remove(0);
    let error = options.check().unwrap_err().to_string();
    assert!(error.contains("none of the prompt files is here"), "{error}");
}
