//! The interface's description holds what the server does.

use aio_http::OPENAPI;
use serde_json::{Value, json};

use crate::client::Host;

#[test]
fn the_description_is_served() {
    let host = Host::start([]);
    assert_eq!(host.get("/openapi.json").ok(), serde_json::from_str::<Value>(OPENAPI).unwrap());
}

#[test]
fn every_route_that_is_described_is_there() {
    let document: Value = serde_json::from_str(OPENAPI).unwrap();
    let host = Host::start([]);
    for (path, methods) in document["paths"].as_object().unwrap() {
        let path = path.replace("{id}", "auto");
        for method in methods.as_object().unwrap().keys() {
            let method = method.to_uppercase();
            let reply = host.send(&method, host.address(), &path, &[], "");
            assert!(![404, 405].contains(&reply.status), "{method} {path}: {}", reply.text);
        }
    }
}

/// Each property of a request, alone beside what must be there, is known to the server.
#[test]
fn every_field_that_is_described_is_known() {
    let document: Value = serde_json::from_str(OPENAPI).unwrap();
    let host = Host::start([]);
    for (schema, path, needed) in [
        (
            "ChatCompletionRequest",
            "/v1/chat/completions",
            json!({"model": "auto", "messages": [{"role": "user", "content": "x"}]}),
        ),
        ("CompletionRequest", "/v1/completions", json!({"model": "auto", "prompt": "x"})),
    ] {
        let schema = &document["components"]["schemas"][schema];
        assert_eq!(schema["additionalProperties"], false);
        for (name, property) in schema["properties"].as_object().unwrap() {
            let mut body = needed.clone();
            // Whatever the field wants, it is not this.
            body[name] = json!([true]);
            let error = host.post(path, &body).error(400);
            assert_ne!(error["code"], "unknown_parameter", "{name}: {property}");
        }
    }
}
