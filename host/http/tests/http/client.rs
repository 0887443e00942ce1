//! A server in this process, and a client that knows as little of it as any other.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use aio_http::{AdminOptions, Ended, Handle, Server, ServerOptions, TraceOptions};
use serde_json::{Value, json};
use tokio::runtime::Runtime;
use tokio::task::JoinHandle;

use crate::script::{Fate, Script};

/// A server in front of a script.
pub struct Host {
    pub script: Script,
    pub handle: Handle,
    address: SocketAddr,
    admin: SocketAddr,
    running: Option<JoinHandle<Ended>>,
    runtime: Runtime,
    agent: ureq::Agent,
}

/// What came back.
#[derive(Debug)]
pub struct Reply {
    pub status: u16,
    pub headers: http::HeaderMap,
    pub text: String,
}

/// Options with ports that are free.
pub fn options() -> ServerOptions {
    let any = "127.0.0.1:0".parse().unwrap();
    ServerOptions { listen: any, allow_overrides: true, ..ServerOptions::default() }
}

/// The smallest conversation.
pub fn hello() -> Value {
    json!({"model": "auto", "messages": [{"role": "user", "content": "Hello"}]})
}

/// The same with more fields.
pub fn with(more: Value) -> Value {
    let mut body = hello();
    let fields = body.as_object_mut().unwrap();
    fields.extend(more.as_object().unwrap().clone());
    body
}

impl Host {
    pub fn start(fates: impl IntoIterator<Item = Fate>) -> Self {
        Self::with(options(), Script::new(fates))
    }

    pub fn with(options: ServerOptions, script: Script) -> Self {
        let admin = AdminOptions { listen: options.listen, ..AdminOptions::default() };
        let host = Self::loading(options, admin, script.clone());
        host.handle.ready(script);
        host
    }

    /// One that sends traces to a collector.
    pub fn traced(traces: &TraceOptions, script: Script) -> Self {
        let host = Self::bound(
            options(),
            AdminOptions { listen: options().listen, ..AdminOptions::default() },
            traces,
            script.clone(),
        );
        host.handle.ready(script);
        host
    }

    /// One whose backend is not there yet.
    pub fn loading(options: ServerOptions, admin: AdminOptions, script: Script) -> Self {
        Self::bound(options, admin, &TraceOptions::default(), script)
    }

    fn bound(
        options: ServerOptions,
        admin: AdminOptions,
        traces: &TraceOptions,
        script: Script,
    ) -> Self {
        let runtime = Runtime::new().unwrap();
        let server = runtime.block_on(Server::bind(options, admin, traces)).unwrap();
        let handle = server.handle();
        let address = server.address().unwrap();
        let admin = server.admin_address().unwrap().unwrap();
        let running = Some(runtime.spawn(server.run()));
        let config = ureq::Agent::config_builder().http_status_as_error(false).build();
        Self { script, handle, address, admin, running, runtime, agent: config.into() }
    }

    pub fn get(&self, path: &str) -> Reply {
        self.send("GET", self.address, path, &[], "")
    }

    pub fn post(&self, path: &str, body: &Value) -> Reply {
        self.post_text(path, &body.to_string())
    }

    pub fn post_text(&self, path: &str, body: &str) -> Reply {
        self.send("POST", self.address, path, &[("content-type", "application/json")], body)
    }

    /// A chat completion.
    pub fn chat(&self, body: &Value) -> Reply {
        self.post("/v1/chat/completions", body)
    }

    pub fn admin(&self, method: &str, path: &str, body: &Value) -> Reply {
        let json = [("content-type", "application/json")];
        match body {
            Value::Null => self.send(method, self.admin, path, &[], ""),
            body => self.send(method, self.admin, path, &json, body.to_string()),
        }
    }

    pub fn admin_address(&self) -> SocketAddr {
        self.admin
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    pub fn send(
        &self,
        method: &str,
        to: SocketAddr,
        path: &str,
        headers: &[(&str, &str)],
        body: impl AsRef<[u8]>,
    ) -> Reply {
        let body = body.as_ref().to_vec();
        let mut request = http::Request::builder().method(method).uri(format!("http://{to}{path}"));
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let mut response = self.agent.run(request.body(body).unwrap()).unwrap();
        Reply {
            status: response.status().as_u16(),
            headers: response.headers().clone(),
            text: response.body_mut().read_to_string().unwrap(),
        }
    }

    /// Sends bytes as they are and reads until the server closes the connection.
    pub fn raw(&self, bytes: &[u8]) -> String {
        let mut stream = self.connect();
        stream.write_all(bytes).unwrap();
        let mut text = Vec::new();
        // A connection that is reset has ended, too.
        let _ = stream.read_to_end(&mut text);
        String::from_utf8_lossy(&text).into_owned()
    }

    pub fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(self.address).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        stream
    }

    /// Begins a stream and reads as far as its first event.
    pub fn begin(&self, body: &Value) -> BufReader<TcpStream> {
        let mut stream = self.connect();
        let body = body.to_string();
        let head = format!(
            "POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n\
             content-length: {}\r\n\r\n{body}",
            body.len()
        );
        stream.write_all(head.as_bytes()).unwrap();
        let mut reader = BufReader::new(stream);
        let mut line = String::new();
        while !line.starts_with("data: ") {
            line.clear();
            assert_ne!(reader.read_line(&mut line).unwrap(), 0, "the stream did not begin");
        }
        reader
    }

    /// Waits for the server's end.
    pub fn ended(&mut self) -> Ended {
        let running = self.running.take().unwrap();
        self.runtime.block_on(async {
            tokio::time::timeout(Duration::from_secs(20), running).await.unwrap().unwrap()
        })
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        self.handle.stop();
    }
}

impl Reply {
    #[track_caller]
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.text)
            .unwrap_or_else(|error| panic!("{error} in {:?}", self.text))
    }

    /// The body of an answer that went well.
    #[track_caller]
    pub fn ok(&self) -> Value {
        assert_eq!(self.status, 200, "{}", self.text);
        self.json()
    }

    /// The error object of one that did not.
    #[track_caller]
    pub fn error(&self, status: u16) -> Value {
        assert_eq!(self.status, status, "{}", self.text);
        assert_eq!(self.header("content-type"), "application/json");
        let error = self.json()["error"].clone();
        for field in ["message", "type", "param", "code"] {
            assert!(error.get(field).is_some(), "{error} has no {field}");
        }
        error
    }

    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }

    /// The chunks of a stream, which ends as it should.
    #[track_caller]
    pub fn chunks(&self) -> Vec<Value> {
        assert_eq!(self.status, 200, "{}", self.text);
        assert_eq!(self.header("content-type"), "text/event-stream");
        let mut events: Vec<&str> = self.text.trim_end().split("\n\n").collect();
        assert_eq!(events.pop(), Some("data: [DONE]"), "{}", self.text);
        let chunk =
            |event: &str| serde_json::from_str(event.strip_prefix("data: ").unwrap()).unwrap();
        events.into_iter().map(chunk).collect()
    }
}

/// Waits until something holds; fails when that takes too long.
#[track_caller]
pub fn eventually(what: &str, holds: impl Fn() -> bool) {
    let until = Instant::now() + Duration::from_secs(20);
    while !holds() {
        assert!(Instant::now() < until, "{what} did not happen");
        std::thread::sleep(Duration::from_millis(5));
    }
}
