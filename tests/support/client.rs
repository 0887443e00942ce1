//! A client of a server, as far as tests of it under load need one.

use std::io::{BufRead, BufReader, Lines, Read};
use std::time::Duration;

use aio_serve::{Prompt, Request};
use serde_json::{Value, json};

/// Longer than anything takes, on any machine: who waits this long hangs.
const PATIENCE: Duration = Duration::from_secs(300);

/// A client that reads statuses itself and does not wait for ever.
pub fn agent() -> ureq::Agent {
    let config = ureq::Agent::config_builder().http_status_as_error(false);
    config.timeout_global(Some(PATIENCE)).build().into()
}

/// An answer that came in one piece.
pub struct Whole {
    pub status: u16,
    pub headers: ureq::http::HeaderMap,
    pub body: Value,
}

impl Whole {
    /// The text of the answer's only choice.
    #[track_caller]
    pub fn text(&self) -> &str {
        assert_eq!(self.status, 200, "{}", self.body);
        let choice = &self.body["choices"][0];
        choice["text"].as_str().or(choice["message"]["content"].as_str()).unwrap()
    }
}

/// An answer as it streams: its events, until `[DONE]`. Dropping it hangs up.
pub struct Stream {
    pub headers: ureq::http::HeaderMap,
    lines: Lines<BufReader<Box<dyn Read + Send>>>,
    /// Whether all of it came.
    pub done: bool,
}

impl Iterator for Stream {
    type Item = Value;

    /// The next event; none where the stream has ended, whole or not.
    fn next(&mut self) -> Option<Value> {
        loop {
            let line = self.lines.next()?.ok()?;
            match line.strip_prefix("data: ") {
                Some("[DONE]") => {
                    self.done = true;
                    return None;
                }
                Some(event) => return Some(serde_json::from_str(event).unwrap()),
                None => {}
            }
        }
    }
}

impl Stream {
    /// The rest of the text.
    pub fn text(&mut self) -> String {
        self.map(|event| delta(&event)).collect()
    }
}

/// What an event adds to the text.
pub fn delta(event: &Value) -> String {
    assert!(event.get("error").is_none(), "{event}");
    let choice = &event["choices"][0];
    let text = choice["text"].as_str().or(choice["delta"]["content"].as_str());
    text.unwrap_or_default().to_owned()
}

/// A request as this interface has it: where it goes, and its body.
pub fn form(request: &Request) -> (&'static str, Value) {
    let sampling = &request.sampling;
    let mut body = json!({
        "model": "auto", "max_tokens": request.max_tokens, "seed": sampling.seed,
        "temperature": sampling.temperature, "top_p": sampling.top_p
    });
    if !request.stop.is_empty() {
        body["stop"] = json!(request.stop);
    }
    match &request.prompt {
        Prompt::Chat(messages) => {
            let message =
                |m: &aio_engine::chat::Message| json!({"role": m.role, "content": m.content});
            body["messages"] = messages.iter().map(message).collect();
            ("/v1/chat/completions", body)
        }
        Prompt::Raw(text) => {
            body["prompt"] = json!(text);
            ("/v1/completions", body)
        }
    }
}

fn post(address: &str, path: &str, body: &Value) -> ureq::http::Response<ureq::Body> {
    let request = agent().post(format!("{address}{path}"));
    request.header("content-type", "application/json").send(body.to_string()).unwrap()
}

/// Asks for an answer in one piece.
pub fn whole(address: &str, (path, body): &(&'static str, Value)) -> Whole {
    let mut response = post(address, path, body);
    let text = response.body_mut().read_to_string().unwrap();
    Whole {
        status: response.status().as_u16(),
        headers: response.headers().clone(),
        body: serde_json::from_str(&text).unwrap(),
    }
}

/// Asks for an answer that streams.
pub fn stream(address: &str, (path, body): &(&'static str, Value)) -> Stream {
    let mut body = body.clone();
    body["stream"] = json!(true);
    let response = post(address, path, &body);
    assert_eq!(response.status(), 200);
    let headers = response.headers().clone();
    let reader: Box<dyn Read + Send> = Box::new(response.into_body().into_reader());
    Stream { headers, lines: BufReader::new(reader).lines(), done: false }
}

/// The number of the request behind an answer.
pub fn number(headers: &ureq::http::HeaderMap) -> u64 {
    headers["x-aio-request"].to_str().unwrap().parse().unwrap()
}
