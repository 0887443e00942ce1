//! What goes wrong around a server under load: too many clients, clients that hang up or
//! do not read, too little memory, a policy that traps, the process killed or told to
//! end. Nobody waits for ever, whoever is answered is answered right, and nothing is left
//! behind.

#![cfg(unix)]
#![allow(clippy::unwrap_used)]

mod support;

use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::thread::scope;
use std::time::Duration;

use aio_engine::sampling::Sampling;
use aio_serve::Request;
use serde_json::{Value, json};
use support::client::{self, Whole};
use support::load::{self, said_alone};
use support::server::Server;

const MODEL: &str = "smollm2-135m";
const SOON: Duration = Duration::from_secs(30);

type Form = (&'static str, Value);

fn numbers(first: usize, tokens: usize) -> Request {
    load::numbers(first, tokens, Sampling::default())
}

/// Asks for all of them at once.
fn all_at_once(server: &Server, forms: &[Form]) -> Vec<Whole> {
    scope(|scope| {
        let ask = |form| scope.spawn(move || client::whole(&server.address, form));
        let asked: Vec<_> = forms.iter().map(ask).collect();
        asked.into_iter().map(|answer| answer.join().unwrap()).collect()
    })
}

#[test]
fn who_is_too_many_is_told_when_to_come_again() {
    if support::model_path(MODEL).is_none() {
        return;
    }
    let _alone = support::models::alone();
    let server = Server::start(MODEL, &["--max-running", "2", "--queue", "16"]);
    let forms: Vec<Form> = (0..64).map(|i| client::form(&numbers(i, 16))).collect();
    let answers = all_at_once(&server, &forms);
    let answered = answers.iter().filter(|answer| answer.status == 200).count();
    for answer in &answers {
        match answer.status {
            200 => assert!(!answer.text().is_empty()),
            429 => {
                let after: u64 = answer.headers["retry-after"].to_str().unwrap().parse().unwrap();
                assert!(after >= 1);
                let said = answer.body["error"]["message"].as_str().unwrap();
                assert!(said.contains("waiting"), "{said}");
            }
            status => panic!("{status}: {}", answer.body),
        }
    }
    assert!((16..64).contains(&answered), "{answered} of 64 were answered");
    // Everybody who comes again is answered.
    server.becomes_idle(SOON);
    assert_eq!(client::whole(&server.address, &forms[0]).status, 200);
}

/// Says as much of a request as `stage` says, reads as much of the answer, and is gone.
fn hang_up(address: &str, stage: usize) {
    let mut stream = TcpStream::connect(address.strip_prefix("http://").unwrap()).unwrap();
    let (path, mut body) = client::form(&numbers(stage, 200));
    body["stream"] = json!(!stage.is_multiple_of(2));
    let body = body.to_string();
    let head = format!(
        "POST {path} HTTP/1.1\r\nHost: aio\r\nContent-Type: application/json\r\n\
         Content-Length: {}\r\n\r\n",
        body.len()
    );
    let whole = format!("{head}{body}");
    let said = match stage {
        0 => 0,
        1 => head.len() / 2,
        2 => head.len() + body.len() / 2,
        _ => whole.len(),
    };
    stream.write_all(&whole.as_bytes()[..said]).unwrap();
    // From here on it waits for the head, for some events, or for nothing.
    let read = [0, 0, 0, 0, 0, 1, 100, 1500, 4000].get(stage).copied().unwrap_or(0);
    // A whole answer says nothing for long; whoever reads one waits a little.
    stream.set_read_timeout(Some(Duration::from_millis(300))).unwrap();
    let mut bytes = vec![0; read];
    let _ = stream.read_exact(&mut bytes);
    let _ = stream.shutdown(Shutdown::Both);
}

#[test]
fn whoever_hangs_up_leaves_nothing_behind() {
    if support::model_path(MODEL).is_none() {
        return;
    }
    let _alone = support::models::alone();
    // Without a bound on the KV cache the sequences kept for later prompts would grow in
    // number for many storms, which is no leak but looks like one.
    let bounds = ["--max-running", "4", "--queue", "100", "--kv-budget", "32000000"];
    let server = Server::start(MODEL, &bounds);
    let form = client::form(&numbers(1, 24));
    let before = client::whole(&server.address, &form).text().to_owned();
    let storm = || {
        scope(|scope| {
            for i in 0..63 {
                let address = &server.address;
                scope.spawn(move || hang_up(address, i % 9));
            }
        });
        // All answers that nobody wants would take minutes.
        server.becomes_idle(SOON);
        server.metric("aio_process_resident_memory_bytes")
    };
    // The first ones fill what is kept for later prompts.
    storm();
    let first = storm();
    storm();
    storm();
    let last = storm();
    eprintln!("{:.0} MB in memory, then {:.0} MB", first / 1e6, last / 1e6);
    assert!(last < first + 12e6, "memory grew from {first} to {last}");
    assert!(server.metric("aio_requests_unfinished_total{reason=\"client_gone\"}") > 100.0);
    assert_eq!(client::whole(&server.address, &form).text(), before);
}

#[test]
fn who_reads_slowly_holds_up_nobody_and_gets_it_all() {
    if support::model_path(MODEL).is_none() {
        return;
    }
    let _alone = support::models::alone();
    let server = Server::start(MODEL, &["--max-running", "4"]);
    let form = client::form(&numbers(1, 120));
    let expected = client::whole(&server.address, &form).text().to_owned();
    let mut slow: Vec<_> = (0..4).map(|_| client::stream(&server.address, &form)).collect();
    slow.iter_mut().for_each(|stream| drop(stream.next()));
    // Their places are free again when these are answered, though they have not read.
    let others = vec![form; 4];
    for answer in all_at_once(&server, &others) {
        assert_eq!(answer.text(), expected);
    }
    server.becomes_idle(SOON);
    for mut stream in slow {
        let rest = stream.text();
        assert!(stream.done && !rest.is_empty() && expected.ends_with(&rest));
    }
}

#[test]
fn with_memory_for_two_all_are_answered() {
    let Some(tiers) = support::tiers(&[MODEL]) else { return };
    let _alone = support::models::alone();
    // Each grows into its second block of 128 positions; there are four.
    let requests: Vec<_> = (0..8).map(|i| numbers(i, 120)).collect();
    let expected = said_alone(tiers, &requests);
    let server = Server::start(MODEL, &["--policy", "fixed", "--kv-budget", "12000000"]);
    let forms: Vec<_> = requests.iter().map(client::form).collect();
    for (answer, expected) in all_at_once(&server, &forms).iter().zip(&expected) {
        assert_eq!(answer.text(), expected.text);
    }
    assert!(server.metric("aio_preemptions_total") > 0.0);
    assert!(server.metric("aio_kv_cache_bytes") <= 12e6);
}

#[test]
fn a_policy_that_traps_is_told_of_and_does_no_harm() {
    let Some(tiers) = support::tiers(&[MODEL]) else { return };
    let _alone = support::models::alone();
    let requests: Vec<_> = (0..16).map(|i| numbers(i, 24)).collect();
    let expected = said_alone(tiers, &requests);
    let folder = tempfile::tempdir().unwrap();
    for name in ["traps", "traps-later", "loops", "nonsense"] {
        let policy = support::hostile(name, folder.path());
        let server = Server::start(MODEL, &["--policy", policy.to_str().unwrap()]);
        let forms: Vec<_> = requests.iter().map(client::form).collect();
        let answers = all_at_once(&server, &forms);
        for (answer, expected) in answers.iter().zip(&expected) {
            assert_eq!(answer.text(), expected.text, "under {name}");
        }
        let failures =
            |answer: &&Whole| !answer.body["aio"]["failures"].as_array().unwrap().is_empty();
        assert!(answers.iter().any(|answer| failures(&answer)), "nobody was told of {name}");
    }
}

#[test]
fn who_is_killed_is_missed_at_once_and_starts_again() {
    if support::model_path(MODEL).is_none() {
        return;
    }
    let _alone = support::models::alone();
    let folder = tempfile::tempdir().unwrap();
    let config = folder.path().join("aio.toml");
    let state = folder.path().join("state");
    std::fs::write(&config, format!("[policy]\nstate = {state:?}\n")).unwrap();
    let form = client::form(&numbers(1, 300));
    let mut said = None;
    for _ in 0..3 {
        let arguments = ["--policy", "goodput", "--config", config.to_str().unwrap()];
        let mut server = Server::start_keeping_state(MODEL, &arguments);
        let short = client::whole(&server.address, &client::form(&numbers(2, 24)));
        assert_eq!(said.get_or_insert_with(|| short.text().to_owned()), short.text());
        let mut running = client::stream(&server.address, &form);
        running.next().unwrap();
        server.kill();
        // Its end, or an error; but not the sign that all has come.
        running.by_ref().for_each(drop);
        assert!(!running.done);
    }
}

#[test]
fn who_is_told_to_end_answers_all_that_it_took() {
    let Some(tiers) = support::tiers(&[MODEL]) else { return };
    let _alone = support::models::alone();
    let requests: Vec<_> = (0..4).map(|i| numbers(i, 60)).collect();
    let expected = said_alone(tiers, &requests);
    let mut server = Server::start(MODEL, &["--max-running", "1"]);
    let forms: Vec<_> = requests.iter().map(client::form).collect();
    let answers = scope(|scope| {
        let address = &server.address;
        let waiting: Vec<_> =
            forms[1..].iter().map(|form| scope.spawn(|| client::whole(address, form))).collect();
        while server.metric("aio_requests_waiting") < 2.0 {
            std::thread::sleep(Duration::from_millis(5));
        }
        server.signal("TERM");
        server.takes_no_more(SOON);
        // Who comes now is sent away, one way or the other.
        let late = client::agent().post(format!("{address}/v1/completions"));
        let late = late.header("content-type", "application/json").send(forms[0].1.to_string());
        if let Ok(late) = late {
            assert_eq!(late.status(), 503);
        }
        waiting.into_iter().map(|answer| answer.join().unwrap()).collect::<Vec<_>>()
    });
    for (answer, expected) in answers.iter().zip(&expected[1..]) {
        assert_eq!(answer.text(), expected.text);
    }
    assert!(server.ended(SOON).unwrap().success());
}
