//! What to measure: which servers, under what load, and what counts as good.

use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::time::Duration;

use serde::Serialize;

use crate::BenchError;

/// Bounds of rates and speeds: what is beyond is a slip of the pen.
const LEVELS: RangeInclusive<f64> = 1e-3..=1e6;
/// The longest time that requests are sent in, in seconds.
pub(super) const LONGEST: f64 = 1e7;

/// A server to measure.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    /// Its name in reports.
    pub name: String,
    /// Where it listens, without a slash and without `/v1` at its end.
    pub url: String,
    /// Its process, where its memory is to be read.
    pub pid: Option<u32>,
}

impl Target {
    /// A server as `URL` or `NAME=URL`; without a name it is called by its host and port.
    ///
    /// # Errors
    /// When it is no URL that begins with `http://`.
    pub fn parse(argument: &str) -> Result<Self, BenchError> {
        // A URL may hold an = too, but not before its scheme.
        let (name, url) = match argument.split_once('=') {
            Some((name, url)) if !name.contains("://") => (Some(name), url),
            _ => (None, argument),
        };
        if url.starts_with("https://") {
            let what = format!(
                "{url} is asked for over TLS, which is not spoken here: \
                 name a plain http:// address, of the server or of a proxy before it"
            );
            return Err(BenchError::Request(what));
        }
        let host = url.strip_prefix("http://").and_then(|rest| rest.split('/').next());
        let Some(host) = host.filter(|host| !host.is_empty() && name != Some("")) else {
            let what =
                format!("{argument} is no server; give one as http://HOST:PORT or NAME=http://...");
            return Err(BenchError::Request(what));
        };
        // Clients of OpenAI's interface are often told the address with its version.
        let url = url.trim_end_matches('/');
        let url = url.strip_suffix("/v1").unwrap_or(url).trim_end_matches('/');
        Ok(Self { name: name.unwrap_or(host).to_owned(), url: url.to_owned(), pid: None })
    }

    /// Gives servers their processes, each as `PID` (where there is one server) or
    /// `NAME=PID`.
    ///
    /// # Errors
    /// When it is no number, or no server has that name.
    pub fn add_pid(targets: &mut [Self], argument: &str) -> Result<(), BenchError> {
        let (name, pid) = match argument.split_once('=') {
            Some((name, pid)) => (Some(name), pid),
            None => (None, argument),
        };
        let pid = pid.parse().map_err(|_| {
            BenchError::Request(format!("{argument} is no process; give a PID or NAME=PID"))
        })?;
        let target = match (name, &mut *targets) {
            (Some(name), targets) => targets.iter_mut().find(|target| target.name == name),
            (None, [target]) => Some(target),
            (None, _) => None,
        };
        let Some(target) = target else {
            let names: Vec<_> = targets.iter().map(|target| target.name.as_str()).collect();
            let what = format!(
                "{argument} belongs to no server; give NAME=PID with one of {}",
                names.join(", ")
            );
            return Err(BenchError::Request(what));
        };
        target.pid = Some(pid);
        Ok(())
    }
}

/// How requests come.
#[derive(Debug, Clone, PartialEq)]
pub enum Load {
    /// So many clients, each of which sends its next request when its last one is
    /// answered (a closed loop); each number is a level.
    Clients(Vec<usize>),
    /// So many requests a second, independently of each other (a Poisson process)
    /// and of answers (an open loop); each number is a level.
    Rates(Vec<f64>),
    /// As in a trace, so many times as fast; each number is a level.
    Trace {
        /// The trace's file.
        file: PathBuf,
        /// How many times as fast.
        speeds: Vec<f64>,
    },
}

/// One level of load.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    /// Clients.
    Clients(usize),
    /// Requests a second.
    Rate(f64),
    /// How many times as fast as the trace.
    Speed(f64),
}

impl Level {
    /// The number that tells it from other levels.
    pub fn value(self) -> f64 {
        match self {
            Self::Clients(clients) => clients as f64,
            Self::Rate(value) | Self::Speed(value) => value,
        }
    }

    /// Its name in reports.
    pub fn name(self) -> String {
        match self {
            Self::Clients(1) => "1 client".into(),
            Self::Clients(clients) => format!("{clients} clients"),
            Self::Rate(rate) => format!("{rate} requests/s"),
            Self::Speed(speed) => format!("{speed} x the trace"),
        }
    }
}

impl Load {
    /// The levels, in the order in which they are measured.
    pub fn levels(&self) -> Vec<Level> {
        match self {
            Self::Clients(clients) => clients.iter().map(|&n| Level::Clients(n)).collect(),
            Self::Rates(rates) => rates.iter().map(|&rate| Level::Rate(rate)).collect(),
            Self::Trace { speeds, .. } => speeds.iter().map(|&s| Level::Speed(s)).collect(),
        }
    }
}

/// What an answer must keep to be good (a service level objective).
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
pub struct Slo {
    /// Most milliseconds to the first token.
    pub ttft_ms: Option<f64>,
    /// Most milliseconds for each further token.
    pub tpot_ms: Option<f64>,
}

impl Slo {
    /// Whether anything is asked of answers.
    pub fn is_some(&self) -> bool {
        self.ttft_ms.is_some() || self.tpot_ms.is_some()
    }
}

/// A key that is sent and never shown.
#[derive(Clone, PartialEq, Eq)]
pub struct ApiKey(String);

impl ApiKey {
    /// This key.
    pub fn new(key: String) -> Self {
        Self(key)
    }

    /// The header's value.
    pub(super) fn bearer(&self) -> String {
        format!("Bearer {}", self.0)
    }
}

impl std::fmt::Debug for ApiKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("ApiKey(..)")
    }
}

/// What to measure.
#[derive(Debug, Clone)]
pub struct ServeOptions {
    /// The servers; others are compared with the first.
    pub targets: Vec<Target>,
    /// The model's name in requests; where absent, the first that a server lists.
    pub model: Option<String>,
    /// The key that servers ask for.
    pub api_key: Option<ApiKey>,
    /// Prompt files.
    pub prompts: Vec<PathBuf>,
    /// Prompts in all.
    pub count: usize,
    /// How requests come.
    pub load: Load,
    /// Requests of a level, at most.
    pub requests: Option<usize>,
    /// Seconds in which a level's requests are sent; answers are waited for.
    pub seconds: Option<f64>,
    /// Times that each level is measured, in turns with other servers.
    pub rounds: usize,
    /// Most tokens of an answer.
    pub max_tokens: Option<usize>,
    /// Most tokens of a trace's prompt, by characters; longer ones are cut.
    pub max_prompt_tokens: Option<usize>,
    /// The temperature of sampling; 0 is greedy.
    pub temperature: f64,
    /// The seed of arrivals, of the prompts' order, and of sampling.
    pub seed: u64,
    /// Whether answers go on to their most tokens, which not all servers know.
    pub ignore_eos: bool,
    /// Whether a request that is turned away (429) is sent again.
    pub retry: bool,
    /// How long an answer may take.
    pub timeout: Duration,
    /// Requests in flight at once, at most.
    pub most_in_flight: usize,
    /// What answers must keep to be good.
    pub slo: Slo,
}

impl ServeOptions {
    /// What is wrong with the numbers, in one sentence.
    pub(super) fn check_numbers(&self) -> Result<(), BenchError> {
        let wrong = |what: String| Err(BenchError::Request(what));
        let levels = self.load.levels();
        if self.targets.is_empty() || levels.is_empty() || self.rounds == 0 {
            return wrong("there is nothing to measure: no server, no level or no round".into());
        }
        for (i, target) in self.targets.iter().enumerate() {
            if self.targets[..i].iter().any(|other| other.name == target.name) {
                return wrong(format!(
                    "two servers are called {}; name them apart with NAME=URL",
                    target.name
                ));
            }
        }
        if let Some(level) = levels.iter().find(|level| !LEVELS.contains(&level.value())) {
            return wrong(format!(
                "{} is no load; give numbers from {} to {}",
                level.name(),
                LEVELS.start(),
                LEVELS.end()
            ));
        }
        let is_time = |seconds: f64| seconds > 0.0 && seconds <= LONGEST;
        if let Some(seconds) = self.seconds.filter(|&seconds| !is_time(seconds)) {
            return wrong(format!("{seconds} seconds are no time to measure in"));
        }
        let most_clients = levels.iter().map(|level| level.value()).fold(0.0, f64::max);
        if matches!(self.load, Load::Clients(_)) && most_clients > self.most_in_flight as f64 {
            return wrong(format!(
                "{most_clients} clients are more than the {} requests that may be in flight; \
                 raise --most-in-flight",
                self.most_in_flight
            ));
        }
        let counts = [
            ("--requests", self.requests),
            ("--max-tokens", self.max_tokens),
            ("--max-prompt-tokens", self.max_prompt_tokens),
            ("--most-in-flight", Some(self.most_in_flight)),
        ];
        if let Some((option, _)) = counts.iter().find(|(_, count)| *count == Some(0)) {
            return wrong(format!("{option} 0 leaves nothing to measure"));
        }
        if !(self.temperature >= 0.0 && self.temperature.is_finite()) {
            return wrong(format!("{} is no temperature; give 0 or more", self.temperature));
        }
        if self.timeout.is_zero() {
            return wrong("a timeout of 0 lets no answer arrive".into());
        }
        Ok(())
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// Options that tests begin with: one server that nobody asks.
    pub(in crate::serve) fn options() -> ServeOptions {
        ServeOptions {
            targets: vec![Target::parse("http://127.0.0.1:9").unwrap()],
            model: None,
            api_key: None,
            prompts: Vec::new(),
            count: 10,
            load: Load::Clients(vec![1]),
            requests: None,
            seconds: None,
            rounds: 1,
            max_tokens: None,
            max_prompt_tokens: None,
            temperature: 0.0,
            seed: 1,
            ignore_eos: false,
            retry: false,
            timeout: Duration::from_secs(10),
            most_in_flight: 8,
            slo: Slo::default(),
        }
    }

    #[test]
    fn servers_are_urls_with_or_without_a_name() {
        let parse = |argument| Target::parse(argument).map(|t| (t.name, t.url));
        let is = |name: &str, url: &str| Some((name.to_owned(), url.to_owned()));
        assert_eq!(parse("http://a:80").ok(), is("a:80", "http://a:80"));
        assert_eq!(parse("ours=http://a:80/v1/").ok(), is("ours", "http://a:80"));
        assert_eq!(parse("http://a/x?k=v").ok(), is("a", "http://a/x?k=v"));
        for (bad, says) in [
            ("https://a", "over TLS"),
            ("a:80", "is no server"),
            ("http://", "is no server"),
            ("=http://a", "is no server"),
            ("x=", "is no server"),
        ] {
            let error = parse(bad).unwrap_err().to_string();
            assert!(error.contains(says), "{error}");
        }
    }

    #[test]
    fn processes_belong_to_servers() {
        let mut targets = ["a=http://a", "b=http://b"].map(|t| Target::parse(t).unwrap());
        Target::add_pid(&mut targets, "b=7").unwrap();
        assert_eq!(targets.each_ref().map(|t| t.pid), [None, Some(7)]);
        Target::add_pid(&mut targets[..1], "8").unwrap();
        assert_eq!(targets[0].pid, Some(8));
        for bad in ["8", "c=8"] {
            let error = Target::add_pid(&mut targets, bad).unwrap_err().to_string();
            assert!(error.contains("with one of a, b"), "{error}");
        }
        assert!(Target::add_pid(&mut targets, "a=x").unwrap_err().to_string().contains("a=x"));
    }

    #[test]
    fn numbers_that_measure_nothing_are_refused() {
        let check = |change: fn(&mut ServeOptions)| {
            let mut options = options();
            change(&mut options);
            options.check_numbers().unwrap_err().to_string()
        };
        assert!(options().check_numbers().is_ok());
        assert!(check(|o| o.rounds = 0).contains("nothing to measure"));
        assert!(check(|o| o.load = Load::Clients(vec![0])).contains("0 clients is no load"));
        assert!(check(|o| o.load = Load::Rates(vec![f64::NAN])).contains("no load"));
        assert!(check(|o| o.load = Load::Clients(vec![9])).contains("--most-in-flight"));
        assert!(check(|o| o.requests = Some(0)).contains("--requests 0"));
        assert!(check(|o| o.seconds = Some(-1.0)).contains("no time"));
        assert!(check(|o| o.temperature = -1.0).contains("no temperature"));
        assert!(check(|o| o.targets = [&o.targets[..], &o.targets[..]].concat()).contains("apart"));
    }

    #[test]
    fn a_key_is_not_shown() {
        assert_eq!(format!("{:?}", ApiKey::new("secret".into())), "ApiKey(..)");
    }
}
