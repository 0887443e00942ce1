//! Traces, as a collector gets them.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

use aio_http::{Ended, TraceOptions};
use aio_serve::Refused;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::{KeyValue, any_value};
use opentelemetry_proto::tonic::trace::v1::{Span, span::SpanKind, status::StatusCode};
use prost::Message;
use serde_json::{Value, json};

use crate::client::{Host, hello, with};
use crate::script::{Fate, Script, device_error};

/// A collector that keeps what it is sent.
struct Collector {
    address: SocketAddr,
    got: Arc<Mutex<Vec<ExportTraceServiceRequest>>>,
}

impl Collector {
    fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let got = Arc::<Mutex<Vec<ExportTraceServiceRequest>>>::default();
        let keep = Arc::clone(&got);
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                keep.lock().unwrap().push(take(stream.unwrap()));
            }
        });
        Self { address, got }
    }

    fn options(&self) -> TraceOptions {
        TraceOptions {
            endpoint: Some(format!("http://{}", self.address)),
            service: "under-test".into(),
            ..TraceOptions::default()
        }
    }

    /// All spans, once the server has ended.
    fn spans(&self, mut host: Host) -> Vec<Span> {
        host.handle.drain();
        assert_eq!(host.ended(), Ended::Drained);
        let got = self.got.lock().unwrap();
        let all = got.iter().flat_map(|sent| &sent.resource_spans);
        let mut spans = Vec::new();
        for sent in all {
            let resource = sent.resource.as_ref().unwrap();
            assert_eq!(value(&resource.attributes, "service.name"), json!("under-test"));
            spans.extend(sent.scope_spans.iter().flat_map(|scope| scope.spans.clone()));
        }
        spans
    }
}

/// One batch, which is taken.
fn take(stream: TcpStream) -> ExportTraceServiceRequest {
    let mut reader = BufReader::new(&stream);
    let mut head = Vec::new();
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).unwrap();
        if line.trim().is_empty() {
            break;
        }
        head.push(line.trim().to_lowercase());
    }
    assert!(head[0].starts_with("post /v1/traces "), "{head:?}");
    assert!(head.contains(&"content-type: application/x-protobuf".to_owned()), "{head:?}");
    let length = head.iter().find_map(|line| line.strip_prefix("content-length: ")).unwrap();
    let mut body = vec![0; length.parse().unwrap()];
    reader.read_exact(&mut body).unwrap();
    (&stream)
        .write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\nconnection: close\r\n\r\n")
        .unwrap();
    ExportTraceServiceRequest::decode(body.as_slice()).unwrap()
}

fn value(attributes: &[KeyValue], key: &str) -> Value {
    let found = attributes.iter().find(|attribute| attribute.key == key);
    let Some(value) = found.and_then(|attribute| attribute.value.clone()?.value) else {
        return Value::Null;
    };
    match value {
        any_value::Value::StringValue(text) => json!(text),
        any_value::Value::IntValue(number) => json!(number),
        any_value::Value::DoubleValue(number) => json!(number),
        other => json!(format!("{other:?}")),
    }
}

fn of<'a>(spans: &'a [Span], name: &str) -> Vec<&'a Span> {
    spans.iter().filter(|span| span.name == name).collect()
}

const CHAT: &str = "POST /v1/chat/completions";

#[test]
fn an_answer_is_a_trace_that_goes_on_from_the_clients() {
    let collector = Collector::start();
    let script = Script::new([Fate::Says(&["a", "b"]), Fate::Says(&["a"]), Fate::Says(&["b"])]);
    let host = Host::traced(&collector.options(), script);
    let traceparent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    let headers = [("content-type", "application/json"), ("traceparent", traceparent)];
    let body = hello().to_string();
    host.send("POST", host.address(), "/v1/chat/completions", &headers, body).ok();
    let reply = host.chat(&with(json!({"n": 2, "stream": true})));
    assert!(reply.text.contains("[DONE]"));
    host.get("/metrics");
    let spans = collector.spans(host);

    let requests = of(&spans, CHAT);
    assert_eq!((requests.len(), of(&spans, "GET /metrics").len()), (2, 0));
    let request = requests[0];
    assert_eq!(request.kind(), SpanKind::Server);
    assert_eq!(hex(&request.trace_id), "0af7651916cd43dd8448eb211c80319c");
    assert_eq!(hex(&request.parent_span_id), "b7ad6b7169203331");
    assert_eq!(value(&request.attributes, "http.response.status_code"), 200);
    assert_ne!(requests[1].trace_id, request.trace_id);

    let answers = of(&spans, "generate large");
    assert_eq!(answers.len(), 3);
    let answer = answers[0];
    assert_eq!(answer.parent_span_id, request.span_id);
    for (key, told) in [
        ("gen_ai.response.model", json!("large")),
        ("gen_ai.usage.input_tokens", json!(7)),
        ("gen_ai.usage.output_tokens", json!(2)),
        ("aio.cached_tokens", json!(3)),
        ("aio.policy.name", json!("script")),
        ("aio.policy.generation", json!(4)),
        ("aio.plan.label", json!("scripted")),
        ("aio.drafted_tokens", json!(4)),
        ("aio.accepted_tokens", json!(1)),
    ] {
        assert_eq!(value(&answer.attributes, key), told, "{key}");
    }
    // Both choices of the streamed one are in its span, which lasted until the last.
    for answer in &answers[1..] {
        assert_eq!(answer.parent_span_id, requests[1].span_id);
        assert!(answer.end_time_unix_nano <= requests[1].end_time_unix_nano);
    }

    let phases: Vec<&Span> =
        spans.iter().filter(|span| span.parent_span_id == answer.span_id).collect();
    let names: Vec<&str> = phases.iter().map(|span| span.name.as_str()).collect();
    assert_eq!(names, ["plan", "prefill", "decode"]);
    for (before, after) in phases.iter().zip(&phases[1..]) {
        assert_eq!(before.end_time_unix_nano, after.start_time_unix_nano);
    }
    assert_eq!(phases[0].start_time_unix_nano, answer.start_time_unix_nano);
    assert!(phases[2].end_time_unix_nano <= answer.end_time_unix_nano);
}

#[test]
fn what_goes_wrong_is_in_the_trace() {
    let collector = Collector::start();
    let script = Script::new([
        Fate::FailsAfter("a", device_error()),
        Fate::Refused(Refused::QueueFull { waiting: 1 }),
    ]);
    let host = Host::traced(&collector.options(), script);
    host.chat(&hello()).error(500);
    host.chat(&hello()).error(429);
    host.chat(&with(json!({"n": 0}))).error(400);
    let spans = collector.spans(host);
    let requests = of(&spans, CHAT);
    let status = |span: &Span| value(&span.attributes, "http.response.status_code");
    let mut all: Vec<Value> = requests.iter().map(|span| status(span)).collect();
    all.sort_by_key(Value::as_i64);
    assert_eq!(all, [400, 429, 500]);
    for request in requests {
        // The client's own mistakes are none of the server's.
        let failed = request.status.as_ref().is_some_and(|s| s.code() == StatusCode::Error);
        assert_eq!(failed, status(request) == 500);
    }
    let answers = of(&spans, "generate");
    assert_eq!(answers.len(), 1);
    assert_eq!(value(&answers[0].attributes, "error.type"), "failed");
    assert_eq!(answers[0].status.as_ref().unwrap().code(), StatusCode::Error);
}

#[test]
fn what_the_client_does_not_keep_is_not_sent() {
    let collector = Collector::start();
    let host = Host::traced(&collector.options(), Script::new([Fate::Says(&["a"])]));
    let traceparent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00";
    let headers = [("content-type", "application/json"), ("traceparent", traceparent)];
    host.send("POST", host.address(), "/v1/chat/completions", &headers, hello().to_string()).ok();
    assert_eq!(collector.spans(host), []);
}

#[test]
fn a_collector_that_is_not_there_holds_nobody_up() {
    let unused = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let options =
        TraceOptions { endpoint: Some(format!("http://{unused}")), ..TraceOptions::default() };
    let mut host = Host::traced(&options, Script::new([Fate::Says(&["a"])]));
    host.chat(&hello()).ok();
    host.handle.drain();
    assert_eq!(host.ended(), Ended::Drained);
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
