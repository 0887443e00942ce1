//! A server of OpenAI's chat completions that answers as it is told to: one request
//! a connection, one thread a connection.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use serde_json::{Value, json};

/// What it answers to a request.
#[derive(Debug, Clone, Default)]
pub struct Reply {
    pub status: u16,
    /// More headers, each with its line's end.
    pub headers: String,
    /// Parts of the body: each is a chunk, sent at once.
    pub parts: Vec<Vec<u8>>,
    /// How long it waits before each of the first parts.
    pub delays: Vec<Duration>,
    /// Whether it closes the connection without the last chunk.
    pub cut: bool,
    /// Whether it says no more after its headers until the client goes away.
    pub hangs: bool,
}

impl Reply {
    /// A body that is no stream.
    pub fn error(status: u16, body: &str) -> Self {
        Self { status, parts: vec![body.as_bytes().to_vec()], ..Self::default() }
    }
}

/// A whole answer with these texts, and a usage where `tokens` are given.
pub fn stream(texts: &[&str], tokens: Option<u32>) -> Reply {
    let event = |value: Value| format!("data: {value}\n\n").into_bytes();
    let piece = |text: &&str| event(json!({"choices": [{"delta": {"content": text}}]}));
    let mut parts: Vec<_> = texts.iter().map(piece).collect();
    parts.push(event(json!({"choices": [{"delta": {}, "finish_reason": "stop"}]})));
    if let Some(tokens) = tokens {
        let usage = json!({"prompt_tokens": 9, "completion_tokens": tokens});
        parts.push(event(json!({"choices": [], "usage": usage})));
    }
    parts.push(b"data: [DONE]\n\n".to_vec());
    Reply { status: 200, parts, ..Reply::default() }
}

/// Answers to the requests for completions, which are counted from 0.
type Answers = dyn Fn(usize, &Value) -> Reply + Send + Sync;

struct Shared {
    answers: Box<Answers>,
    models: Mutex<Reply>,
    asked: Mutex<Vec<Value>>,
}

/// A server that listens until the test's process ends, or for some connections.
pub struct Server {
    pub url: String,
    shared: Arc<Shared>,
}

impl Server {
    pub fn start(answers: impl Fn(usize, &Value) -> Reply + Send + Sync + 'static) -> Self {
        Self::start_for(usize::MAX, answers)
    }

    /// Takes so many connections, and then refuses them.
    pub fn start_for(
        connections: usize,
        answers: impl Fn(usize, &Value) -> Reply + Send + Sync + 'static,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let models = Mutex::new(Reply::error(200, r#"{"data":[{"id":"tiny"},{"id":"other"}]}"#));
        let shared =
            Arc::new(Shared { answers: Box::new(answers), models, asked: Mutex::default() });
        let server = Self { url, shared: Arc::clone(&shared) };
        if connections > 0 {
            thread::spawn(move || serve(listener, connections, &shared));
        }
        server
    }

    /// Answers otherwise when it is asked for its models.
    pub fn models(self, status: u16, body: &str) -> Self {
        *self.shared.models.lock().unwrap() = Reply::error(status, body);
        self
    }

    /// The requests for completions, each with its `authorization` header put in.
    pub fn asked(&self) -> Vec<Value> {
        self.shared.asked.lock().unwrap().clone()
    }
}

/// Takes connections; nobody listens any more once this returns.
fn serve(listener: TcpListener, connections: usize, shared: &Arc<Shared>) {
    for taken in 1.. {
        let Ok((stream, _)) = listener.accept() else { return };
        let shared = Arc::clone(shared);
        if taken == connections {
            // Before the answer, so that who has it finds nobody here.
            drop(listener);
            return answer(stream, &shared);
        }
        thread::spawn(move || answer(stream, &shared));
    }
}

/// Answers one request. A client that goes away earlier is none of its business.
fn answer(mut stream: TcpStream, shared: &Shared) {
    let Some((is_get, request)) = read(&stream) else { return };
    let reply = if is_get {
        shared.models.lock().unwrap().clone()
    } else {
        let mut asked = shared.asked.lock().unwrap();
        asked.push(request.clone());
        let number = asked.len() - 1;
        drop(asked);
        (shared.answers)(number, &request)
    };
    let _ = write(&mut stream, &reply);
}

fn read(stream: &TcpStream) -> Option<(bool, Value)> {
    let mut reader = BufReader::new(stream);
    let mut first = String::new();
    reader.read_line(&mut first).ok()?;
    let (mut length, mut key) = (0, None);
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).ok()?;
        let Some((name, value)) = line.trim().split_once(": ") else { break };
        match name.to_ascii_lowercase().as_str() {
            "content-length" => length = value.parse().ok()?,
            "authorization" => key = Some(value.to_owned()),
            _ => {}
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body).ok()?;
    let mut request: Value = serde_json::from_slice(&body).unwrap_or(Value::Null);
    if let (Some(request), Some(key)) = (request.as_object_mut(), key) {
        request.insert("authorization".into(), key.into());
    }
    Some((first.starts_with("GET "), request))
}

fn write(stream: &mut TcpStream, reply: &Reply) -> std::io::Result<()> {
    let head = format!(
        "HTTP/1.1 {} Whatever\r\nserver: fake/1\r\nconnection: close\r\n\
         transfer-encoding: chunked\r\n{}\r\n",
        reply.status, reply.headers
    );
    stream.set_nodelay(true)?;
    stream.write_all(head.as_bytes())?;
    if reply.hangs {
        stream.read_to_end(&mut Vec::new())?;
        return Ok(());
    }
    for (i, part) in reply.parts.iter().enumerate() {
        thread::sleep(reply.delays.get(i).copied().unwrap_or_default());
        let chunk = [format!("{:x}\r\n", part.len()).as_bytes(), part, b"\r\n"].concat();
        stream.write_all(&chunk)?;
    }
    if !reply.cut {
        stream.write_all(b"0\r\n\r\n")?;
    }
    Ok(())
}
