//! `aio serve` as a process, for tests that talk to it as its users do.

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

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
        let mut child = Command::new(env!("CARGO_BIN_EXE_aio"))
            .args(["serve", "--tiers", model, "--context", "2048"])
            .args(["--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0"])
            .args(arguments)
            .env("AIO_SERVE__POLICY__KEEP_STATE", "false")
            .env_remove("AIO_LOG")
            .stdin(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
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
