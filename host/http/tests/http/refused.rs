//! What is not taken is refused by name, in OpenAI's form.

use aio_http::{AdminOptions, Secret, ServerOptions};
use aio_serve::{Refused, ServeError};
use serde_json::{Value, json};

use crate::client::{Host, hello, options, with};
use crate::script::{Fate, Script};

#[test]
fn fields_are_refused_by_name() {
    let host = Host::start([]);
    let cases = [
        (json!({"tools": [{}]}), "tools", "unsupported_parameter"),
        (json!({"functions": [{}]}), "functions", "unsupported_parameter"),
        (json!({"tool_choice": "required"}), "tool_choice", "unsupported_parameter"),
        (json!({"audio": {}}), "audio", "unsupported_parameter"),
        (json!({"modalities": ["text", "audio"]}), "modalities", "unsupported_parameter"),
        (json!({"logit_bias": {"1": 2}}), "logit_bias", "unsupported_parameter"),
        (json!({"presence_penalty": 0.5}), "presence_penalty", "unsupported_parameter"),
        (json!({"frequency_penalty": -1}), "frequency_penalty", "unsupported_parameter"),
        (json!({"store": true}), "store", "unsupported_parameter"),
        (json!({"service_tier": "flex"}), "service_tier", "unsupported_parameter"),
        (
            json!({"response_format": {"type": "json_object"}}),
            "response_format",
            "unsupported_parameter",
        ),
        (json!({"temprature": 1}), "temprature", "unknown_parameter"),
        (json!({"model": null}), "model", "missing_required_parameter"),
        (json!({"model": 5}), "model", "invalid_type"),
        (json!({"messages": null}), "messages", "missing_required_parameter"),
        (json!({"temperature": 2.5}), "temperature", "invalid_value"),
        (json!({"temperature": "1"}), "temperature", "invalid_value"),
        (json!({"top_p": -0.1}), "top_p", "invalid_value"),
        (json!({"n": 0}), "n", "invalid_value"),
        (json!({"n": 9}), "n", "invalid_value"),
        (json!({"max_tokens": 0}), "max_tokens", "invalid_value"),
        (json!({"max_completion_tokens": 1_000_000}), "max_completion_tokens", "invalid_value"),
        (json!({"top_logprobs": 21, "logprobs": true}), "top_logprobs", "invalid_value"),
        (json!({"stop": ["a", "b", "c", "d", "e"]}), "stop", "invalid_value"),
        (json!({"stop": [1]}), "stop", "invalid_type"),
        (json!({"seed": 1.5}), "seed", "invalid_type"),
        (json!({"stream": "yes"}), "stream", "invalid_type"),
        (json!({"metadata": {"a": 1}}), "metadata.a", "invalid_type"),
        (json!({"aio": {"tier": "huge"}}), "aio.tier", "invalid_value"),
        (json!({"aio": {"drafter": "magic"}}), "aio.drafter", "invalid_value"),
        (json!({"aio": {"draft_length": 99}}), "aio.draft_length", "invalid_value"),
        (json!({"aio": {"speed": 1}}), "aio.speed", "unknown_parameter"),
    ];
    for (fields, param, code) in cases {
        let error = host.chat(&with(fields.clone())).error(400);
        assert_eq!((&error["param"], &error["code"]), (&json!(param), &json!(code)), "{fields}");
        assert_eq!(error["type"], "invalid_request_error");
        let message = error["message"].as_str().unwrap();
        assert!(message.contains(param.rsplit('.').next().unwrap()), "{message}");
    }
    assert!(host.script.requests().is_empty());
}

#[test]
fn settings_that_do_not_fit_together_are_refused() {
    let host = Host::start([]);
    for (fields, param) in [
        (json!({"max_tokens": 1, "max_completion_tokens": 2}), "max_tokens"),
        (json!({"top_logprobs": 2}), "top_logprobs"),
        (json!({"stream_options": {"include_usage": true}}), "stream_options"),
        (json!({"model": "small", "aio": {"tier": "large"}}), "aio.tier"),
        (json!({"aio": {"draft_length": 3}}), "aio.drafter"),
        (json!({"messages": []}), "messages"),
    ] {
        assert_eq!(host.chat(&with(fields)).error(400)["param"], param);
    }
}

#[test]
fn messages_are_refused_by_their_place() {
    let host = Host::start([]);
    for (message, param) in [
        (json!({"role": "tool", "content": "x"}), "messages[0].role"),
        (json!({"role": "robot", "content": "x"}), "messages[0].role"),
        (json!({"content": "x"}), "messages[0].role"),
        (json!({"role": "user"}), "messages[0].content"),
        (json!({"role": "user", "content": 5}), "messages[0].content"),
        (json!({"role": "user", "content": []}), "messages[0].content"),
        (json!({"role": "user", "content": "x", "name": "eva"}), "messages[0].name"),
        (
            json!({"role": "assistant", "content": "x", "tool_calls": [{}]}),
            "messages[0].tool_calls",
        ),
        (
            json!({"role": "user", "content": [{"type": "image_url"}]}),
            "messages[0].content[0].type",
        ),
        (json!({"role": "user", "content": [{"type": "text"}]}), "messages[0].content[0].text"),
        (json!("hello"), "messages[0]"),
    ] {
        let error = host.chat(&with(json!({"messages": [message.clone()]}))).error(400);
        assert_eq!(error["param"], param, "{message}");
    }
}

#[test]
fn fields_of_text_completions_are_refused_by_name() {
    let host = Host::start([]);
    for (fields, param) in [
        (json!({"prompt": "x", "best_of": 2}), "best_of"),
        (json!({"prompt": "x", "echo": true}), "echo"),
        (json!({"prompt": "x", "suffix": "y"}), "suffix"),
        (json!({"prompt": "x", "logprobs": 6}), "logprobs"),
        (json!({"prompt": "x", "messages": []}), "messages"),
        (json!({"prompt": [1, 2]}), "prompt"),
        (json!({"prompt": [[1]]}), "prompt"),
        (json!({"prompt": []}), "prompt"),
        (json!({"prompt": ["a", "b", "c"], "n": 3}), "prompt"),
        (json!({}), "prompt"),
    ] {
        let mut body = json!({"model": "auto"});
        body.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
        assert_eq!(host.post("/v1/completions", &body).error(400)["param"], param, "{fields}");
    }
}

#[test]
fn a_model_that_there_is_not_is_named_with_those_there_are() {
    let host = Host::start([]);
    let error = host.chat(&with(json!({"model": "gpt-9"}))).error(404);
    assert_eq!((&error["code"], &error["param"]), (&json!("model_not_found"), &json!("model")));
    assert_eq!(error["message"], "there is no model \"gpt-9\"; the models are auto, small, large");
}

#[test]
fn overrides_need_the_operators_leave() {
    let options = ServerOptions { allow_overrides: false, ..options() };
    let host = Host::with(options, Script::new([]));
    let error = host.chat(&with(json!({"aio": {"tier": "small"}}))).error(403);
    assert_eq!((&error["code"], &error["param"]), (&json!("overrides_not_allowed"), &json!("aio")));
    host.chat(&with(json!({"model": "small"}))).ok();
}

#[test]
fn a_full_queue_says_when_to_come_again() {
    let full = || Fate::Refused(Refused::QueueFull { waiting: 64 });
    let host = Host::start([full(), Fate::Hangs, full()]);
    let reply = host.chat(&hello());
    assert_eq!(reply.error(429)["code"], "queue_full");
    assert!(reply.header("retry-after").parse::<u64>().unwrap() >= 1);
    // Of several choices all are taken, or none.
    assert_eq!(host.chat(&with(json!({"n": 2}))).error(429)["type"], "rate_limit_error");
    assert_eq!(host.script.given_up(), 1);
}

#[test]
fn what_cannot_be_answered_is_the_clients_to_mend() {
    let template = ServeError::NoTemplate { tier: "small".into() };
    let host = Host::start([
        Fate::Fails(ServeError::PromptTooLong { tokens: 9, context: 8 }),
        Fate::Fails(ServeError::EmptyPrompt),
        Fate::Fails(template),
    ]);
    let body = json!({"model": "auto", "prompt": "x"});
    let error = host.post("/v1/completions", &body).error(400);
    let expected = (&json!("context_length_exceeded"), &json!("prompt"));
    assert_eq!((&error["code"], &error["param"]), expected);
    assert_eq!(host.chat(&hello()).error(400)["param"], "messages");
    let error = host.chat(&hello()).error(400);
    assert!(error["message"].as_str().unwrap().ends_with("use /v1/completions"));
}

#[test]
fn keys_let_in() {
    let options = ServerOptions { api_keys: vec![Secret::new("open")], ..options() };
    let host = Host::with(options, Script::new([]));
    let ask = |authorization: &str, path: &str| {
        let headers: &[_] = &[("authorization", authorization)];
        host.send("GET", host.address(), path, headers, "")
    };
    let reply = host.get("/v1/models");
    assert_eq!(reply.error(401)["code"], "invalid_api_key");
    assert_eq!(reply.header("www-authenticate"), "Bearer");
    ask("Bearer shut", "/v1/models").error(401);
    ask("Bearer open", "/v1/models").ok();
    assert_eq!(ask("Bearer open", "/metrics").status, 200);
    host.get("/metrics").error(401);
    // Whoever watches the process has no key.
    for path in ["/healthz", "/readyz", "/openapi.json"] {
        assert_eq!(host.get(path).status, 200);
    }
}

#[test]
fn what_is_nowhere_is_said_so_in_json() {
    let host = Host::start([]);
    assert_eq!(host.get("/v2/models").error(404)["code"], "unknown_url");
    let reply = host.get("/v1/chat/completions");
    assert_eq!(reply.error(405)["code"], "method_not_allowed");
    assert_eq!(reply.header("allow"), "POST");
    let reply = host.post("/v1/models", &json!({}));
    assert_eq!(
        (reply.error(405)["code"].clone(), reply.header("allow")),
        (json!("method_not_allowed"), "GET,HEAD")
    );
    host.get("/v1/models/%ff").error(400);
    // Administration has an address of its own.
    host.get("/admin/policies").error(404);
    host.admin("POST", "/v1/chat/completions", &hello()).error(404);
}

#[test]
fn nothing_is_asked_of_models_that_are_not_there_yet() {
    let any = AdminOptions { listen: options().listen, ..AdminOptions::default() };
    let host = Host::loading(options(), any, Script::new([]));
    for reply in [host.chat(&hello()), host.get("/v1/models"), host.get("/readyz")] {
        assert_eq!(reply.error(503)["code"], "service_unavailable");
        assert!(!reply.header("retry-after").is_empty());
    }
    assert_eq!(host.get("/healthz").ok(), json!({"status": "alive"}));
    host.handle.ready(host.script.clone());
    assert_eq!(host.get("/readyz").ok(), json!({"status": "ready"}));
    assert_ne!(host.chat(&hello()).ok(), Value::Null);
}
