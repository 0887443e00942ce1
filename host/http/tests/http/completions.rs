//! What is asked, what reaches the backend, and the answers in one piece.

use aio_core::{Draft, Drafter};
use aio_engine::chat::{Message, Role};
use aio_serve::Prompt;
use serde_json::json;

use crate::client::{Host, hello, options, with};
use crate::script::{Fate, Script};

#[test]
fn a_conversation_is_answered() {
    let host = Host::start([Fate::Says(&["Good", " day"])]);
    let reply = host.chat(&hello());
    let body = reply.ok();
    assert_eq!(body["object"], "chat.completion");
    assert_eq!(body["model"], "large");
    let choice = &body["choices"][0];
    let message = json!({"role": "assistant", "content": "Good day", "refusal": null});
    assert_eq!(choice["message"], message);
    assert_eq!(choice["finish_reason"], "stop");
    assert_eq!((&choice["index"], &choice["logprobs"]), (&json!(0), &json!(null)));
    let usage = json!({"prompt_tokens": 7, "completion_tokens": 2, "total_tokens": 9,
        "prompt_tokens_details": {"cached_tokens": 3}});
    assert_eq!(body["usage"], usage);
    assert!(body["id"].as_str().unwrap().starts_with("chatcmpl-"));

    let aio = &body["aio"];
    assert_eq!((&aio["tier"], &aio["policy"]["name"]), (&json!("large"), &json!("script")));
    assert_eq!(aio["plan"]["reason"], "as written");
    assert_eq!(aio["totals"]["drafted"], 4);
    assert!(aio["choices"].is_null());
    let headers = ["x-aio-tier", "x-aio-policy", "x-aio-generation", "x-aio-request"];
    assert_eq!(headers.map(|name| reply.header(name)), ["large", "script", "4", "1"]);
}

#[test]
fn every_setting_reaches_the_backend() {
    let host = Host::start([]);
    let body = json!({
        "model": "small",
        "messages": [
            {"role": "developer", "content": "Be brief."},
            {"role": "user", "content": [
                {"type": "text", "text": "a"}, {"type": "text", "text": "b"}
            ]},
            {"role": "assistant", "content": "c", "refusal": null, "tool_calls": null},
            {"role": "user", "content": "d"}
        ],
        "temperature": 0.5, "top_p": 0.25, "seed": -1, "max_completion_tokens": 9,
        "stop": ["x", "y"], "user": "eva", "metadata": {"kind": "test"},
        "presence_penalty": 0, "tools": null, "store": false, "service_tier": "auto",
        "aio": {"drafter": "lookup", "draft_length": 5, "priority": -3, "generation": 2}
    });
    host.chat(&body).ok();
    let request = host.script.request();
    let messages = vec![
        Message::new(Role::System, "Be brief."),
        Message::user("ab"),
        Message::assistant("c"),
        Message::user("d"),
    ];
    assert_eq!(request.prompt, Prompt::Chat(messages));
    assert_eq!((request.sampling.temperature, request.sampling.top_p), (0.5, 0.25));
    assert_eq!((request.sampling.seed, request.max_tokens), (u64::MAX, 9));
    assert_eq!(request.stop, ["x", "y"]);
    assert_eq!((&request.metadata["user"][..], &request.metadata["kind"][..]), ("eva", "test"));
    assert_eq!(request.key, Some(aio_policy::request_key("eva")));
    let draft = Draft {
        drafter: Drafter::Lookup,
        length: 5,
        ngram_min: 2,
        ngram_max: 4,
        draft_tier: None,
        min_confidence: 0.0,
    };
    assert_eq!((request.overrides.tier, request.overrides.draft), (Some(0), Some(draft)));
    assert_eq!((request.overrides.generation, request.priority), (Some(2), -3));
}

#[test]
fn what_is_not_said_is_the_operators_choice() {
    let options =
        aio_http::ServerOptions { default_max_tokens: 33, default_temperature: 0.75, ..options() };
    let host = Host::with(options, Script::new([]));
    host.chat(&hello()).ok();
    let request = host.script.request();
    assert_eq!((request.max_tokens, request.sampling.temperature), (33, 0.75));
    assert_eq!((request.logprobs, request.overrides.tier), (None, None));
}

#[test]
fn a_seed_is_drawn_and_told() {
    let host = Host::start([]);
    let seeds = [(); 2].map(|()| host.chat(&hello()).ok()["aio"]["seed"].as_u64().unwrap());
    assert_ne!(seeds[0], seeds[1]);
    let used: Vec<u64> = host.script.requests().iter().map(|r| r.sampling.seed).collect();
    assert_eq!(used, seeds);
}

#[test]
fn several_choices_differ_in_their_seed() {
    let host = Host::start([Fate::Says(&["a"]), Fate::IsCut(&["b", "b"]), Fate::Says(&["c"])]);
    let body = host.chat(&with(json!({"n": 3, "seed": 5}))).ok();
    let choices = body["choices"].as_array().unwrap();
    let said: Vec<_> = choices.iter().map(|c| c["message"]["content"].clone()).collect();
    assert_eq!(said, ["a", "bb", "c"]);
    assert_eq!(choices[1]["finish_reason"], "length");
    assert_eq!(choices[2]["index"], 2);
    let seeds: Vec<u64> = host.script.requests().iter().map(|r| r.sampling.seed).collect();
    assert_eq!(seeds, [5, 6, 7]);
    // The prompt is one, whatever is made of it.
    let usage = json!({"prompt_tokens": 7, "completion_tokens": 4, "total_tokens": 11,
        "prompt_tokens_details": {"cached_tokens": 3}});
    assert_eq!(body["usage"], usage);
    let decisions = body["aio"]["choices"].as_array().unwrap();
    let seeds: Vec<_> = decisions.iter().map(|decision| decision["seed"].clone()).collect();
    assert_eq!(seeds, [5, 6, 7]);
}

#[test]
fn probabilities_of_a_conversation() {
    let host = Host::start([Fate::Says(&["né"])]);
    let body = host.chat(&with(json!({"logprobs": true, "top_logprobs": 2}))).ok();
    let token = json!({
        "token": "né", "logprob": -0.5, "bytes": [110, 195, 169],
        "top_logprobs": [
            {"token": "t0", "logprob": -1.0, "bytes": [116, 48]},
            {"token": "t1", "logprob": -2.0, "bytes": [116, 49]}
        ]
    });
    assert_eq!(body["choices"][0]["logprobs"], json!({"content": [token], "refusal": null}));
}

#[test]
fn text_goes_on() {
    let host = Host::start([Fate::Says(&["né", "!"])]);
    let body = json!({"model": "auto", "prompt": "Once", "max_tokens": 4, "logprobs": 1});
    let body = host.post("/v1/completions", &body).ok();
    assert_eq!(body["object"], "text_completion");
    assert_eq!(body["choices"][0]["text"], "né!");
    let logprobs = json!({
        "tokens": ["né", "!"],
        "token_logprobs": [-0.5, -0.5],
        "top_logprobs": [{"t0": -1.0, "né": -0.5}, {"t0": -1.0, "!": -0.5}],
        "text_offset": [0, 2]
    });
    assert_eq!(body["choices"][0]["logprobs"], logprobs);
    let request = host.script.request();
    assert_eq!((request.prompt, request.max_tokens), (Prompt::Raw("Once".into()), 4));
}

#[test]
fn several_prompts_are_several_choices() {
    let host = Host::start([]);
    let body = json!({"model": "auto", "prompt": ["a", "b"], "n": 2, "best_of": 1, "echo": false});
    let body = host.post("/v1/completions", &body).ok();
    assert_eq!(body["choices"].as_array().unwrap().len(), 4);
    assert_eq!(body["usage"]["prompt_tokens"], 14);
    let prompts: Vec<_> = host.script.requests().into_iter().map(|r| r.prompt).collect();
    let raw = |text: &str| Prompt::Raw(text.into());
    assert_eq!(prompts, [raw("a"), raw("a"), raw("b"), raw("b")]);
}

#[test]
fn models_are_the_tiers_and_auto() {
    let host = Host::start([]);
    let list = host.get("/v1/models").ok();
    let ids: Vec<_> = list["data"].as_array().unwrap().iter().map(|m| m["id"].clone()).collect();
    assert_eq!(
        (&list["object"], ids),
        (&json!("list"), vec!["auto".into(), "small".into(), "large".into()])
    );
    let model = host.get("/v1/models/large").ok();
    assert_eq!((&model["object"], &model["aio"]["context"]), (&json!("model"), &json!(2048)));
    assert_eq!(host.get("/v1/models/auto").ok()["owned_by"], "aio");
    assert_eq!(host.get("/v1/models/huge").error(404)["code"], "model_not_found");
}
