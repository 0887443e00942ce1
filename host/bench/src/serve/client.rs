//! Asking a server: OpenAI's chat completions, streamed, over plain HTTP.

use std::time::{Duration, Instant};

use serde::Deserialize;
use serde_json::{Value, json};
use ureq::http::header::{AUTHORIZATION, CONTENT_TYPE, RETRY_AFTER, SERVER};
use ureq::{Body, http::Response};

use super::answer::{Answer, message};
use super::failure::{Failure, FailureKind};
use super::options::{ServeOptions, Target};
use crate::BenchError;
use crate::peer::last_line;

/// Bytes that are read of an answer that is no stream: errors and lists of models.
const MOST_BYTES: u64 = 1 << 20;
/// Tokens of the answer that is asked for before anything is measured.
const TRIAL_TOKENS: usize = 4;

/// A way to one server.
pub(super) struct Client<'a> {
    agent: ureq::Agent,
    target: &'a Target,
    options: &'a ServeOptions,
    model: String,
}

/// What a server says of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Identity {
    /// Its `server` header.
    pub server: Option<String>,
    /// The models that it lists.
    pub models: Vec<String>,
}

#[derive(Deserialize)]
struct Models {
    data: Vec<Model>,
}

#[derive(Deserialize)]
struct Model {
    id: String,
}

impl<'a> Client<'a> {
    /// Finds out what the server is and that it answers requests as they will be sent.
    ///
    /// # Errors
    /// When it does not, or lists no model and none was named.
    pub fn open(
        target: &'a Target,
        options: &'a ServeOptions,
        trial: &str,
    ) -> Result<(Self, Identity), BenchError> {
        let failed = |reason: String| BenchError::Server {
            name: target.name.clone(),
            url: target.url.clone(),
            reason,
        };
        let model = options.model.clone().unwrap_or_default();
        let mut client = Self { agent: agent(options), target, options, model };
        let identity = client.identity().map_err(|e| failed(format!("does not answer: {e}")))?;
        if options.model.is_none() {
            let first = identity.models.first().cloned();
            client.model = first.ok_or_else(|| {
                failed("lists no model at /v1/models; name one with --model".into())
            })?;
        }
        let asked = client.ask(trial, TRIAL_TOKENS, Instant::now());
        asked.map_err(|e| failed(format!("does not answer a request as it is to be sent: {e}")))?;
        Ok((client, identity))
    }

    /// The model's name in requests.
    pub fn model(&self) -> &str {
        &self.model
    }

    fn identity(&self) -> Result<Identity, Failure> {
        let mut request = self.agent.get(format!("{}/v1/models", self.target.url));
        if let Some(key) = &self.options.api_key {
            request = request.header(AUTHORIZATION, key.bearer());
        }
        let mut response = request.call().map_err(Failure::of_request)?;
        let server = header(&response, SERVER.as_str());
        // Servers that list no models can still be asked for one by its name.
        let models = match response.status().as_u16() {
            200 => text(response.body_mut()).and_then(|text| serde_json::from_str(&text).ok()),
            401 | 403 => return Err(refusal(&mut response)),
            _ => None,
        };
        let models = models.map_or_else(Vec::new, |models: Models| models.data);
        Ok(Identity { server, models: models.into_iter().map(|model| model.id).collect() })
    }

    /// Asks one user's message. Times are counted from `due`, which may have passed.
    ///
    /// # Errors
    /// When there is no whole answer.
    pub fn ask(&self, prompt: &str, max_tokens: usize, due: Instant) -> Result<Answer, Failure> {
        let url = format!("{}/v1/chat/completions", self.target.url);
        let mut request = self.agent.post(url).header(CONTENT_TYPE, "application/json");
        if let Some(key) = &self.options.api_key {
            request = request.header(AUTHORIZATION, key.bearer());
        }
        let body = self.body(prompt, max_tokens).to_string();
        let mut response = request.send(body).map_err(Failure::of_request)?;
        if response.status() != 200 {
            return Err(refusal(&mut response));
        }
        Answer::read(&mut response.body_mut().as_reader(), || due.elapsed())
    }

    fn body(&self, prompt: &str, max_tokens: usize) -> Value {
        let mut body = json!({
            "model": self.model,
            "messages": [{"role": "user", "content": prompt}],
            "max_tokens": max_tokens,
            "temperature": self.options.temperature,
            "seed": self.options.seed,
            "stream": true,
            "stream_options": {"include_usage": true},
        });
        // No part of OpenAI's interface: servers that know it not may refuse it.
        if self.options.ignore_eos {
            body["ignore_eos"] = true.into();
        }
        body
    }
}

fn agent(options: &ServeOptions) -> ureq::Agent {
    ureq::Agent::config_builder()
        .timeout_global(Some(options.timeout))
        .http_status_as_error(false)
        // A proxy, or a compressed stream, would be measured along with the server.
        .proxy(None)
        .accept_encoding("identity")
        // A connection for each request: some servers close theirs behind an answer, and a
        // request that meets the end of its connection would count as failed.
        .max_idle_connections(0)
        .max_idle_connections_per_host(0)
        .build()
        .new_agent()
}

fn header(response: &Response<Body>, name: &str) -> Option<String> {
    let value = response.headers().get(name)?;
    Some(value.to_str().ok()?.to_owned())
}

fn text(body: &mut Body) -> Option<String> {
    body.with_config().limit(MOST_BYTES).lossy_utf8(true).read_to_string().ok()
}

/// What an answer says whose status is not 200.
fn refusal(response: &mut Response<Body>) -> Failure {
    let status = response.status().as_u16();
    let text = text(response.body_mut()).unwrap_or_default();
    let object: Option<Value> = serde_json::from_str(&text).ok();
    let what = match object.as_ref() {
        Some(object) => message(object.get("error").unwrap_or(object)),
        None => last_line(&text),
    };
    let kind = if status == 429 { FailureKind::TurnedAway } else { FailureKind::Status(status) };
    let seconds = header(response, RETRY_AFTER.as_str()).and_then(|text| text.trim().parse().ok());
    Failure { retry_after: seconds.map(Duration::from_secs), ..Failure::new(kind, what) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read, Write};
    use std::net::TcpListener;
    use std::sync::mpsc::channel;

    /// A server that sends the second part of its answer when it is told to. Were
    /// the first part held back until more is there, nobody would tell it.
    #[test]
    fn parts_are_read_as_they_come() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let (tell, told) = channel::<()>();
        let server = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            // A small request comes in one piece.
            let _ = stream.read(&mut [0; 4096]).unwrap();
            let head = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\none\r\n";
            stream.write_all(head.as_bytes()).unwrap();
            let patience = Duration::from_secs(20);
            told.recv_timeout(patience).expect("the first part was not read before the second");
            stream.write_all(b"3\r\ntwo\r\n0\r\n\r\n").unwrap();
        });
        let mut options = crate::serve::options::tests::options();
        options.timeout = Duration::from_secs(60);
        let mut response = agent(&options).get(url).call().unwrap();
        let mut reader = response.body_mut().as_reader();
        let mut buffer = [0; 64];
        assert_eq!(reader.read(&mut buffer).unwrap(), 3);
        tell.send(()).unwrap();
        let mut rest = String::new();
        reader.read_to_string(&mut rest).unwrap();
        assert_eq!(rest, "two");
        server.join().unwrap();
    }
}
