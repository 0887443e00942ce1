//! `aio serve` as a process, for tests that talk to it as its users do.

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use aio_core::RequestRecord;

use super::client::agent;

/// A server that takes requests, until it is dropped.
pub struct Server {
    child: Child,
    /// Where clients connect: `http://127.0.0.1:PORT`.
    pub address: String,
    /// The same for administration, `/admin` included.
    pub admin: String,
}

impl Server {
    /// Starts it with a model, at addresses that are free, and waits until it is ready.
    pub fn start(model: &str, arguments: &[&str]) -> Self {
        Self::spawn(model, arguments, |command| {
            command.env("AIO_SERVE__POLICY__KEEP_STATE", "false");
        })
    }

    /// As [`Server::start`], with a policy that keeps what it learns.
    pub fn start_keeping_state(model: &str, arguments: &[&str]) -> Self {
        Self::spawn(model, arguments, |_| {})
    }

    fn spawn(model: &str, arguments: &[&str], more: impl FnOnce(&mut Command)) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_aio"));
        command
            .args(["serve", "--tiers", model, "--context", "2048"])
            .args(["--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0"])
            .args(arguments)
            .env_remove("AIO_LOG")
            .stdin(Stdio::null())
            .stderr(Stdio::piped());
        more(&mut command);
        let mut child = command.spawn().unwrap();
        let mut told = BufReader::new(child.stderr.take().unwrap());
        let mut server = Self { child, address: String::new(), admin: String::new() };
        let mut all = String::new();
        loop {
            let mut line = String::new();
            assert_ne!(told.read_line(&mut line).unwrap(), 0, "aio serve ended:\n{all}");
            if let Some((what, address)) = line.trim_end().split_once(" on ") {
                match what {
                    "listening" => address.clone_into(&mut server.address),
                    "administration" => address.clone_into(&mut server.admin),
                    _ => {}
                }
            }
            if line.starts_with("ready: ") {
                break;
            }
            all.push_str(&line);
        }
        // What else it says goes where the test's own words go.
        std::thread::spawn(move || {
            told.lines().map_while(Result::ok).for_each(|l| eprintln!("{l}"))
        });
        server
    }

    /// Sends a signal by its name.
    pub fn signal(&self, name: &str) {
        let id = self.child.id().to_string();
        assert!(Command::new("kill").args(["-s", name, &id]).status().unwrap().success());
    }

    /// Waits for its end; `None` where it does not come in time.
    pub fn ended(&mut self, within: Duration) -> Option<ExitStatus> {
        let until = Instant::now() + within;
        while Instant::now() < until {
            if let Some(status) = self.child.try_wait().unwrap() {
                return Some(status);
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        None
    }
}

impl Server {
    /// One of its measurements, as `/metrics` has it.
    pub fn metric(&self, name: &str) -> f64 {
        let mut response = agent().get(format!("{}/metrics", self.address)).call().unwrap();
        let text = response.body_mut().read_to_string().unwrap();
        let value = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        value.unwrap_or("0").parse().unwrap()
    }

    /// A request's record; its answer may have come a moment before it.
    pub fn record(&self, number: u64) -> RequestRecord {
        let url = format!("{}/requests/{number}", self.admin);
        let until = Instant::now() + Duration::from_secs(10);
        loop {
            let mut response = agent().get(&url).call().unwrap();
            let text = response.body_mut().read_to_string().unwrap();
            if response.status() == 200 {
                return serde_json::from_str(&text).unwrap();
            }
            assert!(Instant::now() < until, "{text}");
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Waits until nothing runs and nothing waits.
    #[track_caller]
    pub fn becomes_idle(&self, within: Duration) {
        let until = Instant::now() + within;
        while self.metric("aio_requests_running") + self.metric("aio_requests_waiting") > 0.0 {
            assert!(Instant::now() < until, "something still runs");
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Waits until it has heard a signal to end: it says that it is not ready, or nothing.
    #[track_caller]
    pub fn takes_no_more(&self, within: Duration) {
        let until = Instant::now() + within;
        let ready = format!("{}/readyz", self.address);
        while agent().get(&ready).call().is_ok_and(|response| response.status() == 200) {
            assert!(Instant::now() < until, "it is still ready");
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// Ends it without a warning.
    pub fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Whether an environment variable names what a test would otherwise skip without.
pub fn is_required(variable: &str, name: &str) -> bool {
    let required = std::env::var(variable).unwrap_or_default();
    required.split_whitespace().any(|required| required == name)
}
