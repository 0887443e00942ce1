//! Answers piece by piece.

use aio_serve::ServeError;
use serde_json::{Value, json};

use crate::client::{Host, with};
use crate::script::{Fate, device_error};

#[test]
fn a_stream_has_role_text_reason_and_end() {
    let host = Host::start([Fate::Says(&["Good", "", " day"])]);
    let reply = host.chat(&with(json!({"stream": true})));
    let chunks = reply.chunks();
    let deltas: Vec<&Value> = chunks.iter().map(|chunk| &chunk["choices"][0]["delta"]).collect();
    let expected = [
        json!({"role": "assistant", "content": ""}),
        json!({"content": "Good"}),
        json!({"content": " day"}),
        json!({}),
    ];
    assert_eq!(deltas, expected.iter().collect::<Vec<_>>());
    let reasons: Vec<_> = chunks.iter().map(|c| c["choices"][0]["finish_reason"].clone()).collect();
    assert_eq!(reasons, [json!(null), json!(null), json!(null), json!("stop")]);
    for chunk in &chunks {
        assert_eq!(chunk["object"], "chat.completion.chunk");
        assert_eq!((&chunk["id"], &chunk["model"]), (&chunks[0]["id"], &json!("large")));
        assert!(chunk.get("usage").is_none());
    }
    // The plan at the beginning, what came of it at the end.
    assert_eq!(chunks[0]["aio"]["plan"]["label"], "scripted");
    assert!(chunks[0]["aio"].get("totals").is_none() && chunks[1].get("aio").is_none());
    assert_eq!(chunks[3]["aio"]["totals"]["accepted"], 1);
    let headers = ["x-aio-tier", "x-aio-policy", "x-aio-generation", "x-aio-request"];
    assert_eq!(headers.map(|name| reply.header(name)), ["large", "script", "4", "1"]);
}

#[test]
fn usage_comes_last_where_it_is_wanted() {
    let host = Host::start([]);
    let wanted = json!({"stream": true, "stream_options": {"include_usage": true}});
    let chunks = host.chat(&with(wanted)).chunks();
    let (last, before) = chunks.split_last().unwrap();
    let usage = json!({"prompt_tokens": 7, "completion_tokens": 2, "total_tokens": 9,
        "prompt_tokens_details": {"cached_tokens": 3}});
    assert_eq!((&last["usage"], &last["choices"]), (&usage, &json!([])));
    assert!(before.iter().all(|chunk| chunk["usage"].is_null() && chunk.get("usage").is_some()));
}

#[test]
fn choices_are_streamed_side_by_side() {
    let host = Host::start([Fate::Says(&["a", "a"]), Fate::Says(&["b"])]);
    let chunks = host.chat(&with(json!({"stream": true, "n": 2, "seed": 1}))).chunks();
    let mut texts = [String::new(), String::new()];
    for chunk in &chunks {
        let choice = &chunk["choices"][0];
        let index = choice["index"].as_u64().unwrap() as usize;
        texts[index].push_str(choice["delta"]["content"].as_str().unwrap_or_default());
    }
    assert_eq!(texts, ["aa", "b"]);
    let ends = chunks.iter().filter(|chunk| chunk["choices"][0]["finish_reason"] == "stop");
    let mut seeds: Vec<_> = ends.map(|chunk| chunk["aio"]["seed"].as_u64().unwrap()).collect();
    seeds.sort_unstable();
    assert_eq!(seeds, [1, 2]);
}

#[test]
fn text_and_its_probabilities_are_streamed() {
    let host = Host::start([Fate::Says(&["né", "!"])]);
    let body = json!({"model": "auto", "prompt": "x", "stream": true, "logprobs": 0});
    let chunks = host.post("/v1/completions", &body).chunks();
    let texts: Vec<_> = chunks.iter().map(|chunk| chunk["choices"][0]["text"].clone()).collect();
    assert_eq!(texts, ["", "né", "!", ""]);
    let offset = |chunk: &Value| chunk["choices"][0]["logprobs"]["text_offset"].clone();
    assert_eq!((offset(&chunks[1]), offset(&chunks[2])), (json!([0]), json!([2])));
}

#[test]
fn tokens_that_may_not_be_shown_yet_are_told_of() {
    let host = Host::start([Fate::Says(&[""])]);
    let chunks = host.chat(&with(json!({"stream": true, "logprobs": true}))).chunks();
    assert_eq!(chunks[1]["choices"][0]["delta"], json!({"content": ""}));
    assert_eq!(chunks[1]["choices"][0]["logprobs"]["content"][0]["logprob"], -0.5);
}

#[test]
fn a_failure_before_the_plan_is_an_answer_of_its_own() {
    let error = ServeError::PromptTooLong { tokens: 5000, context: 2048 };
    let host = Host::start([Fate::Fails(error)]);
    let error = host.chat(&with(json!({"stream": true}))).error(400);
    assert_eq!(
        (&error["code"], &error["param"]),
        (&json!("context_length_exceeded"), &json!("messages"))
    );
}

#[test]
fn a_failure_later_is_the_last_event() {
    let host = Host::start([Fate::FailsAfter("Good", device_error())]);
    let reply = host.chat(&with(json!({"stream": true})));
    assert_eq!(reply.status, 200);
    assert!(!reply.text.contains("[DONE]"));
    let last = reply.text.trim_end().rsplit("data: ").next().unwrap();
    let error: Value = serde_json::from_str(last).unwrap();
    assert_eq!(error["error"]["type"], "server_error");
}

#[test]
fn a_stream_that_is_let_go_of_ends_with_an_error() {
    let host = Host::start([Fate::Vanishes, Fate::Vanishes]);
    let reply = host.chat(&with(json!({"stream": true})));
    assert!(reply.text.contains("ended before it was whole"));
    assert_eq!(host.chat(&with(json!({}))).error(500)["type"], "server_error");
}
