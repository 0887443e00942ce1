//! Time limits, clients that go away, and the end.

use std::io::{BufRead, Read};
use std::time::Duration;

use aio_http::{Ended, ServerOptions};
use serde_json::json;

use crate::client::{Host, eventually, hello, options, with};
use crate::script::{Fate, Script};

#[test]
fn an_answer_that_takes_too_long_is_given_up() {
    let options = ServerOptions { request_timeout: Duration::from_millis(200), ..options() };
    let host = Host::with(options, Script::new([Fate::Hangs, Fate::Hangs]));
    assert_eq!(host.chat(&hello()).error(504)["code"], "request_timeout");
    let reply = host.chat(&with(json!({"stream": true})));
    assert!(reply.text.contains("request_timeout") && !reply.text.contains("[DONE]"));
    assert_eq!(host.script.given_up(), 2);
}

#[test]
fn a_client_that_goes_away_frees_its_place() {
    let host = Host::start([Fate::Hangs, Fate::Hangs]);
    drop(host.begin(&with(json!({"stream": true}))));
    eventually("giving up the stream", || host.script.given_up() == 1);
    let mut stream = host.connect();
    let body = hello().to_string();
    let head = format!(
        "POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n\
         content-length: {}\r\n\r\n{body}",
        body.len()
    );
    std::io::Write::write_all(&mut stream, head.as_bytes()).unwrap();
    eventually("the request", || host.script.requests().len() == 2);
    drop(stream);
    eventually("giving up the answer", || host.script.given_up() == 2);
}

#[test]
fn a_client_that_does_not_read_is_given_up() {
    let options = ServerOptions { write_timeout: Duration::from_millis(300), ..options() };
    let host = Host::with(options, Script::new([Fate::Floods]));
    let stream = host.begin(&with(json!({"stream": true})));
    eventually("giving up who does not read", || host.script.given_up() == 1);
    drop(stream);
}

#[test]
fn a_client_that_reads_slowly_is_not() {
    let options = ServerOptions { write_timeout: Duration::from_millis(500), ..options() };
    let host = Host::with(options, Script::new([Fate::Floods]));
    let mut stream = host.begin(&with(json!({"stream": true})));
    let mut buffer = vec![0; 1 << 20];
    for _ in 0..10 {
        stream.read_exact(&mut buffer).unwrap();
        std::thread::sleep(Duration::from_millis(100));
    }
    assert_eq!(host.script.given_up(), 0);
}

#[test]
fn connections_beyond_the_limit_wait_for_their_turn() {
    let options = ServerOptions { max_connections: 1, ..options() };
    let host = Host::with(options, Script::new([Fate::Hangs]));
    let first = host.begin(&with(json!({"stream": true})));
    std::thread::scope(|scope| {
        let second = scope.spawn(|| host.get("/healthz"));
        std::thread::sleep(Duration::from_millis(200));
        assert!(!second.is_finished());
        drop(first);
        second.join().unwrap().ok();
    });
}

#[test]
fn a_drained_server_ends_when_the_last_answer_does() {
    let options = ServerOptions { drain_timeout: Duration::from_secs(20), ..options() };
    let mut host = Host::with(options, Script::new([Fate::Hangs]));
    let stream = host.begin(&with(json!({"stream": true})));
    host.handle.drain();
    let reply = host.get("/readyz");
    assert_eq!(
        (reply.error(503)["code"].clone(), reply.header("retry-after")),
        (json!("service_unavailable"), "20")
    );
    let reply = host.chat(&hello());
    assert!(reply.error(503)["message"].to_string().contains("shutting down"));
    host.get("/healthz").ok();
    drop(stream);
    assert_eq!(host.ended(), Ended::Drained);
}

#[test]
fn what_does_not_end_in_time_is_given_up() {
    let options = ServerOptions { drain_timeout: Duration::from_millis(200), ..options() };
    let mut host = Host::with(options, Script::new([Fate::Hangs]));
    let mut stream = host.begin(&with(json!({"stream": true})));
    host.handle.drain();
    assert_eq!(host.ended(), Ended::GivenUp);
    let mut line = String::new();
    while stream.read_line(&mut line).is_ok_and(|bytes| bytes > 0) {}
    assert!(!line.contains("[DONE]"));
}

#[test]
fn a_stopped_server_does_not_wait() {
    let mut host = Host::start([Fate::Hangs]);
    let stream = host.begin(&with(json!({"stream": true})));
    host.handle.stop();
    assert_eq!(host.ended(), Ended::GivenUp);
    drop(stream);
}

#[test]
fn a_server_without_requests_ends_at_once() {
    let mut host = Host::start([]);
    host.get("/healthz").ok();
    host.handle.drain();
    assert_eq!(host.ended(), Ended::Drained);
}
