//! Bounds on what is sent: size, time, form.

use std::io::{Read, Write};
use std::time::Duration;

use aio_http::ServerOptions;
use serde_json::json;

use crate::client::{Host, hello, options, with};
use crate::script::Script;

const CHAT: &str = "/v1/chat/completions";

fn tight() -> ServerOptions {
    ServerOptions {
        max_body_bytes: 2048,
        max_header_bytes: 8192,
        header_timeout: Duration::from_millis(300),
        body_timeout: Duration::from_millis(300),
        ..options()
    }
}

#[test]
fn large_bodies_are_refused_whether_they_say_so_or_not() {
    let host = Host::with(tight(), Script::new([]));
    let large = with(json!({"messages": [{"role": "user", "content": "x".repeat(3000)}]}));
    let error = host.chat(&large).error(413);
    assert_eq!(error["message"], "the body has more than 2048 bytes, the most that is taken");
    let chunk = format!("800\r\n{}\r\n", "x".repeat(2048));
    let head = format!(
        "POST {CHAT} HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n\
         transfer-encoding: chunked\r\nconnection: close\r\n\r\n"
    );
    assert!(
        host.raw(format!("{head}{chunk}{chunk}0\r\n\r\n").as_bytes()).starts_with("HTTP/1.1 413")
    );
}

#[test]
fn large_heads_are_refused() {
    let host = Host::with(tight(), Script::new([]));
    let head =
        format!("GET /healthz HTTP/1.1\r\nhost: x\r\nx-much: {}\r\n\r\n", "x".repeat(20_000));
    assert!(host.raw(head.as_bytes()).starts_with("HTTP/1.1 431"));
}

#[test]
fn slow_heads_and_idle_connections_are_closed() {
    let host = Host::with(tight(), Script::new([]));
    // Half a head, and nothing at all.
    for beginning in ["GET /healthz HTTP/1.1\r\nhost:", ""] {
        let mut stream = host.connect();
        stream.write_all(beginning.as_bytes()).unwrap();
        let mut text = String::new();
        stream.read_to_string(&mut text).unwrap();
        assert!(!text.contains("200 OK"), "{text}");
    }
}

#[test]
fn slow_bodies_are_given_up() {
    let host = Host::with(tight(), Script::new([]));
    let head = format!(
        "POST {CHAT} HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n\
         content-length: 100\r\n\r\n{{"
    );
    let reply = host.raw(head.as_bytes());
    assert!(reply.starts_with("HTTP/1.1 408"), "{reply}");
    assert!(reply.contains("did not come within 0.3 s"));
}

#[test]
fn what_is_no_json_is_refused_with_its_place() {
    let host = Host::start([]);
    let message = |body: &str| host.post_text(CHAT, body).error(400)["message"].to_string();
    assert!(message("{\"model\": }").contains("line 1 column 11"));
    assert!(message("").contains("not valid JSON"));
    assert!(message("[]").contains("must be a JSON object"));
    let deep = format!("{{\"messages\": {}1{}}}", "[".repeat(5000), "]".repeat(5000));
    assert!(message(&deep).contains("recursion limit exceeded"));
    let json = [("content-type", "application/json; charset=utf-8")];
    let reply = host.send("POST", host.address(), CHAT, &json, b"{\"model\": \"\xff\"}");
    assert!(reply.error(400)["message"].to_string().contains("not UTF-8"));
    // What is not taken for text is no reason to let go of the connection.
    host.chat(&hello()).ok();
}

#[test]
fn other_kinds_of_bodies_are_refused() {
    let host = Host::start([]);
    for headers in [&[("content-type", "text/plain")][..], &[]] {
        let body = hello().to_string();
        host.send("POST", host.address(), CHAT, headers, body).error(415);
    }
}
