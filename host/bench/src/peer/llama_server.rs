//! llama.cpp's `llama-server`: started for one way of drafting, asked over HTTP
//! on this machine, stopped when dropped. Its own timings are what is reported.

use std::io::{BufRead, BufReader};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use super::{binary, help, last_line};
use crate::BenchError;

/// How long a server may take to load its models.
const START: Duration = Duration::from_secs(300);
/// How long one answer may take.
const ANSWER: Duration = Duration::from_secs(3600);
/// Lines of a server's log that are kept, to say why it failed.
const LINES: usize = 50;

/// A way in which the server drafts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Mode {
    /// Its name in reports.
    pub name: String,
    /// The options that choose it, beside models and threads.
    pub options: Vec<String>,
    /// Whether it needs a draft model.
    pub uses_draft: bool,
}

impl Mode {
    fn new(name: &str, options: &str, uses_draft: bool) -> Self {
        let options = options.split_whitespace().map(str::to_owned).collect();
        Self { name: name.to_owned(), options, uses_draft }
    }

    /// All modes that are measured, the plain one first; those with a draft
    /// model only where there is one.
    pub fn all(draft: bool) -> Vec<Self> {
        let mut modes = vec![Self::new("none", "--spec-type none", false)];
        for length in [2, 4, 8].into_iter().filter(|_| draft) {
            let options = format!("--spec-type draft-simple --spec-draft-n-max {length}");
            modes.push(Self::new(&format!("draft model {length}"), &options, true));
        }
        for (n, m) in [(3, 8), (12, 48)] {
            let options = format!(
                "--spec-type ngram-simple --spec-ngram-simple-size-n {n} --spec-ngram-simple-size-m {m}"
            );
            modes.push(Self::new(&format!("ngram-simple {n}/{m}"), &options, false));
        }
        modes.push(Self::new("ngram-mod", "--spec-type ngram-mod", false));
        modes
    }
}

/// A `llama-server` binary and the models that it is to serve.
#[derive(Debug, Clone)]
pub struct LlamaServer {
    path: PathBuf,
    /// Its version, as it says itself.
    pub version: String,
}

/// What every server of a measurement is started with.
#[derive(Debug, Clone)]
pub struct Serving<'a> {
    /// The model that answers.
    pub target: &'a Path,
    /// The model that drafts, in modes that use one.
    pub draft: Option<&'a Path>,
    /// Threads.
    pub threads: usize,
    /// Tokens of context.
    pub context: usize,
}

/// What the server answered.
#[derive(Debug, Clone, PartialEq)]
pub struct Answer {
    /// The text.
    pub text: String,
    /// Its tokens.
    pub tokens: u32,
    /// Tokens a second of decoding, by its own clock.
    pub tokens_per_second: f64,
    /// Tokens drafted.
    pub drafted: u32,
    /// Drafted tokens that were accepted.
    pub accepted: u32,
    /// Tokens of the prompt, by its count.
    pub prompt_tokens: u32,
}

impl LlamaServer {
    /// The binary at `path`.
    ///
    /// # Errors
    /// When it is not there, cannot be started, or has no `--spec-type`.
    pub fn new(path: &Path) -> Result<Self, BenchError> {
        let path = binary("llama-server", path)?;
        if !help(&path)?.contains("--spec-type") {
            return Err(BenchError::Peer {
                path,
                doing: "told its options".into(),
                reason: "it is no llama-server, or one without --spec-type".into(),
            });
        }
        let output = Command::new(&path).arg("--version").output().ok();
        let said = output.map(|o| [o.stdout, o.stderr].concat()).unwrap_or_default();
        Ok(Self { path, version: version(&String::from_utf8_lossy(&said)) })
    }

    /// Starts a server in `mode` and waits until it answers.
    ///
    /// # Errors
    /// When it ends or is not ready in time.
    pub fn start(&self, serving: &Serving<'_>, mode: &Mode) -> Result<Running, BenchError> {
        let failed = |reason: String| BenchError::Peer {
            path: self.path.clone(),
            doing: format!("started in mode {}", mode.name),
            reason,
        };
        let port = free_port().map_err(|e| failed(e.to_string()))?;
        let mut child = Command::new(&self.path)
            .args(arguments(serving, mode, port))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .map_err(|e| failed(e.to_string()))?;
        let log = Arc::default();
        if let Some(stderr) = child.stderr.take() {
            keep_last_lines(stderr, Arc::clone(&log));
        }
        let agent = ureq::Agent::config_builder()
            .timeout_global(Some(ANSWER))
            .http_status_as_error(false)
            .build()
            .new_agent();
        let url = format!("http://127.0.0.1:{port}");
        let mut running = Running { child, url, agent, path: self.path.clone(), log };
        running.wait_until_ready().map_err(failed)?;
        Ok(running)
    }
}

fn arguments(serving: &Serving<'_>, mode: &Mode, port: u16) -> Vec<String> {
    let mut arguments = Vec::new();
    let mut option = |name: &str, value: String| arguments.extend([name.to_owned(), value]);
    option("-m", serving.target.display().to_string());
    if let Some(draft) = serving.draft.filter(|_| mode.uses_draft) {
        option("-md", draft.display().to_string());
    }
    option("--host", "127.0.0.1".into());
    option("--port", port.to_string());
    option("-t", serving.threads.to_string());
    option("-c", serving.context.to_string());
    // One request at a time, as on our side, and no prompts kept aside.
    option("-np", "1".into());
    option("-cram", "0".into());
    arguments.extend(mode.options.iter().cloned());
    arguments
}

/// A port that was free just now. Another program may take it before the server
/// does; the server then ends and says so.
fn free_port() -> std::io::Result<u16> {
    Ok(TcpListener::bind(("127.0.0.1", 0))?.local_addr()?.port())
}

/// The last lines of a log that never ends, so that the pipe does not fill.
fn keep_last_lines(from: impl std::io::Read + Send + 'static, log: Arc<Mutex<Vec<String>>>) {
    thread::spawn(move || {
        for line in BufReader::new(from).lines().map_while(Result::ok) {
            if let Ok(mut log) = log.lock() {
                if log.len() >= LINES {
                    log.remove(0);
                }
                log.push(line);
            }
        }
    });
}

/// `b11434` from `version: 0.6.0-dev (build 11434, commit ...)`; where no build
/// is told, the version.
fn version(said: &str) -> String {
    let line = said.lines().find_map(|l| l.strip_prefix("version: ")).unwrap_or("unknown");
    match line.split_once("build ") {
        Some((_, rest)) => format!("b{}", rest.split([',', ')']).next().unwrap_or(rest)),
        None => line.to_owned(),
    }
}

/// A server that is running.
pub struct Running {
    child: Child,
    url: String,
    agent: ureq::Agent,
    path: PathBuf,
    log: Arc<Mutex<Vec<String>>>,
}

#[derive(Deserialize)]
struct Completion {
    choices: Vec<Choice>,
    timings: Timings,
}

#[derive(Deserialize)]
struct Choice {
    message: Content,
}

#[derive(Deserialize)]
struct Content {
    content: Option<String>,
}

#[derive(Deserialize)]
struct Timings {
    #[serde(default)]
    cache_n: u32,
    prompt_n: u32,
    predicted_n: u32,
    predicted_per_second: f64,
    #[serde(default)]
    draft_n: u32,
    #[serde(default)]
    draft_n_accepted: u32,
}

impl Running {
    fn wait_until_ready(&mut self) -> Result<(), String> {
        let begun = Instant::now();
        while begun.elapsed() < START {
            if let Ok(Some(status)) = self.child.try_wait() {
                return Err(format!("it ended ({status}): {}", self.last_line()));
            }
            let health = self.agent.get(format!("{}/health", self.url)).call();
            if health.is_ok_and(|response| response.status() == 200) {
                return Ok(());
            }
            thread::sleep(Duration::from_millis(100));
        }
        Err(format!("it was not ready within {} s", START.as_secs()))
    }

    fn last_line(&self) -> String {
        self.log.lock().map_or_else(|_| String::new(), |log| last_line(&log.join("\n")))
    }

    /// Has one user's message answered greedily.
    ///
    /// # Errors
    /// When the server fails or answers what is not understood.
    pub fn answer(&self, prompt: &str, max_tokens: usize) -> Result<Answer, BenchError> {
        let failed = |reason: String| BenchError::Peer {
            path: self.path.clone(),
            doing: "answered a prompt".into(),
            reason,
        };
        let body = serde_json::json!({
            "messages": [{"role": "user", "content": prompt}],
            "max_tokens": max_tokens,
            "temperature": 0,
            "cache_prompt": false,
        });
        let mut response = self
            .agent
            .post(format!("{}/v1/chat/completions", self.url))
            .header("content-type", "application/json")
            .send(body.to_string())
            .map_err(|e| failed(format!("{e}; {}", self.last_line())))?;
        let status = response.status();
        let text = response.body_mut().read_to_string().map_err(|e| failed(e.to_string()))?;
        if status != 200 {
            return Err(failed(format!("HTTP {status}: {}", last_line(&text))));
        }
        parse(&text).map_err(failed)
    }
}

fn parse(text: &str) -> Result<Answer, String> {
    let Completion { choices, timings } =
        serde_json::from_str(text).map_err(|e| format!("its answer is not understood: {e}"))?;
    let content = choices.into_iter().next().and_then(|choice| choice.message.content);
    Ok(Answer {
        text: content.unwrap_or_default(),
        tokens: timings.predicted_n,
        tokens_per_second: timings.predicted_per_second,
        drafted: timings.draft_n,
        accepted: timings.draft_n_accepted,
        prompt_tokens: timings.prompt_n + timings.cache_n,
    })
}

impl Drop for Running {
    fn drop(&mut self) {
        // It may have ended by itself; then there is nothing to stop.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modes_with_a_draft_model_need_one() {
        let names = |draft| Mode::all(draft).into_iter().map(|m| m.name).collect::<Vec<_>>();
        assert_eq!(names(false), ["none", "ngram-simple 3/8", "ngram-simple 12/48", "ngram-mod"]);
        assert_eq!(names(true)[1..4], ["draft model 2", "draft model 4", "draft model 8"]);
    }

    #[test]
    fn only_modes_that_draft_by_model_load_one() {
        let (target, draft) = (Path::new("t.gguf"), Path::new("d.gguf"));
        let serving = Serving { target, draft: Some(draft), threads: 2, context: 1024 };
        let modes = Mode::all(true);
        let plain = arguments(&serving, &modes[0], 1).join(" ");
        assert!(!plain.contains("d.gguf") && plain.ends_with("--spec-type none"), "{plain}");
        let drafting = arguments(&serving, &modes[1], 1).join(" ");
        assert!(drafting.contains("-md d.gguf") && drafting.contains("-t 2 -c 1024"), "{drafting}");
    }

    #[test]
    fn an_answer_is_read_with_its_timings() {
        let text = r#"{"choices":[{"finish_reason":"stop","message":{"role":"assistant","content":"hi"}}],
            "timings":{"cache_n":0,"prompt_n":12,"predicted_n":3,"predicted_ms":100.0,
            "predicted_per_second":30.0,"draft_n":4,"draft_n_accepted":1}}"#;
        let answer = parse(text).unwrap();
        assert_eq!(
            (answer.text.as_str(), answer.tokens, answer.tokens_per_second),
            ("hi", 3, 30.0)
        );
        assert_eq!((answer.drafted, answer.accepted, answer.prompt_tokens), (4, 1, 12));
        assert!(parse("{}").unwrap_err().contains("not understood"));
    }

    #[test]
    fn the_version_is_found_in_what_it_says() {
        let said = "warming up\nversion: 0.6.0-dev (build 11434, commit b11434)\nbuilt with";
        assert_eq!(version(said), "b11434");
        assert_eq!(version("version: 1.2"), "1.2");
        assert_eq!(version(""), "unknown");
    }
}
