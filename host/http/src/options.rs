//! What an operator says about the server: addresses, keys, defaults and limits. Knows
//! no files and no command line; whoever reads configuration fills these in.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::secret::Secret;

const KIB: usize = 1024;
const MIB: usize = 1024 * KIB;

/// The server that clients talk to.
///
/// Times are seconds, and may have a fraction.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ServerOptions {
    /// The address that clients connect to. Default 127.0.0.1:8080: nobody but this
    /// machine, until the operator says otherwise.
    pub listen: SocketAddr,
    /// Keys, one of which clients must send (`Authorization: Bearer KEY`). Default
    /// none: everybody who reaches the address may ask.
    pub api_keys: Vec<Secret>,
    /// A file with more of them, one a line, so that they need not stand in the
    /// configuration. Default none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub api_keys_file: Option<PathBuf>,
    /// Whether clients may choose tier and drafter instead of the policy (the field
    /// `aio` of a request). Default false: that decision is the policy's. A tier can
    /// always be named as the model.
    pub allow_overrides: bool,
    /// Temperature of requests that give none. Default 1, as in OpenAI's interface.
    pub default_temperature: f32,
    /// Most tokens of requests that give no limit. Default 1024: an answer to most
    /// questions, and an end for a model that finds none.
    pub default_max_tokens: usize,
    /// Most tokens that a request may ask for. Default 8192.
    pub max_tokens: usize,
    /// Most answers that one request may ask for (`n`, times prompts). Default 8: each
    /// takes a place among the running requests.
    pub max_choices: usize,
    /// Bytes of a request's body. Default 4 MiB: more text than any context holds.
    pub max_body_bytes: usize,
    /// Bytes of a request's head. Default 64 KiB; at least 8 KiB.
    pub max_header_bytes: usize,
    /// Connections at once; more wait until one closes. Default 1024, below the usual
    /// limit on open files.
    pub max_connections: usize,
    /// Time for a request's head to come, also after the request before it on the same
    /// connection. Default 30 s.
    #[serde(with = "seconds")]
    pub header_timeout: Duration,
    /// Time for a request's body to come. Default 30 s.
    #[serde(with = "seconds")]
    pub body_timeout: Duration,
    /// Time for a request to be answered, waiting included; then it is given up.
    /// Default 600 s, as OpenAI's clients wait by default.
    #[serde(with = "seconds")]
    pub request_timeout: Duration,
    /// Time that a client may read nothing while something is there to be read; then
    /// its request is given up, so that it does not keep a place. Default 30 s.
    #[serde(with = "seconds")]
    pub write_timeout: Duration,
    /// Time for running requests to end when the server is stopped. Default 30 s;
    /// whoever supervises the process must wait for longer than that.
    #[serde(with = "seconds")]
    pub drain_timeout: Duration,
    /// Records of requests that are kept for `/admin/requests`. Default 256; one of a
    /// long answer takes some ten KiB. 0 keeps none.
    pub records_kept: usize,
}

impl Default for ServerOptions {
    fn default() -> Self {
        Self {
            listen: local(8080),
            api_keys: Vec::new(),
            api_keys_file: None,
            allow_overrides: false,
            default_temperature: 1.0,
            default_max_tokens: 1024,
            max_tokens: 8192,
            max_choices: 8,
            max_body_bytes: 4 * MIB,
            max_header_bytes: 64 * KIB,
            max_connections: 1024,
            header_timeout: Duration::from_secs(30),
            body_timeout: Duration::from_secs(30),
            request_timeout: Duration::from_secs(600),
            write_timeout: Duration::from_secs(30),
            drain_timeout: Duration::from_secs(30),
            records_kept: 256,
        }
    }
}

/// The server that the operator talks to.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct AdminOptions {
    /// Whether there is one. Default true.
    pub enabled: bool,
    /// Its address. Default 127.0.0.1:8081.
    pub listen: SocketAddr,
    /// The token that the operator must send (`Authorization: Bearer TOKEN`). Default
    /// none, which is refused for an address that other machines reach.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub token: Option<Secret>,
    /// A file whose first line is the token. Default none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub token_file: Option<PathBuf>,
}

impl Default for AdminOptions {
    fn default() -> Self {
        Self { enabled: true, listen: local(8081), token: None, token_file: None }
    }
}

/// Traces of requests, sent to a collector of OpenTelemetry (OTLP over HTTP, protobuf).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TraceOptions {
    /// Where the collector listens, for example `http://127.0.0.1:4318`; `/v1/traces` is
    /// appended where the address has no path. Default none: nothing is traced.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub endpoint: Option<String>,
    /// The share of requests that are traced, from 0 to 1. Default 1. Where a client says
    /// whether its own trace is kept (`traceparent`), that decides instead.
    pub ratio: f64,
    /// What the server is called there (`service.name`). Default `aio`.
    pub service: String,
}

impl Default for TraceOptions {
    fn default() -> Self {
        Self { endpoint: None, ratio: 1.0, service: "aio".into() }
    }
}

impl TraceOptions {
    /// Checks that every option is in its range.
    ///
    /// # Errors
    /// One sentence that names the option and its range.
    pub fn check(&self) -> Result<(), String> {
        if !(0.0..=1.0).contains(&self.ratio) {
            return Err(format!("ratio is {}, but it must be from 0 to 1", self.ratio));
        }
        self.url().map(|_| ())
    }

    /// Where spans are sent.
    pub(crate) fn url(&self) -> Result<Option<http::Uri>, String> {
        let Some(given) = &self.endpoint else { return Ok(None) };
        let wrong = || {
            format!(
                "endpoint is {given:?}, but it must be the address of a collector, such as \
                 http://127.0.0.1:4318"
            )
        };
        let url: http::Uri = given.parse().map_err(|_| wrong())?;
        if !matches!(url.scheme_str(), Some("http" | "https")) || url.host().is_none() {
            return Err(wrong());
        }
        match url.path() {
            "" | "/" => format!("{}/v1/traces", given.trim_end_matches('/')).parse().map(Some),
            _ => Ok(Some(url)),
        }
        .map_err(|_| wrong())
    }
}

fn local(port: u16) -> SocketAddr {
    (IpAddr::V4(Ipv4Addr::LOCALHOST), port).into()
}

impl ServerOptions {
    /// Checks that every option is in its range.
    ///
    /// # Errors
    /// One sentence that names the option and its range.
    pub fn check(&self) -> Result<(), String> {
        let at_least = |name: &str, value: usize, least: usize| {
            let low = format!("{name} is {value}, but it must be at least {least}");
            if value < least { Err(low) } else { Ok(()) }
        };
        at_least("default_max_tokens", self.default_max_tokens, 1)?;
        at_least("max_choices", self.max_choices, 1)?;
        at_least("max_body_bytes", self.max_body_bytes, KIB)?;
        at_least("max_header_bytes", self.max_header_bytes, 8 * KIB)?;
        at_least("max_connections", self.max_connections, 1)?;
        if !(0.0..=2.0).contains(&self.default_temperature) {
            let given = self.default_temperature;
            return Err(format!("default_temperature is {given}, but it must be from 0 to 2"));
        }
        if self.default_max_tokens > self.max_tokens {
            return Err(format!(
                "default_max_tokens is {}, more than max_tokens allows ({})",
                self.default_max_tokens, self.max_tokens
            ));
        }
        self.check_times()
    }

    fn check_times(&self) -> Result<(), String> {
        let times = [
            ("header_timeout", self.header_timeout),
            ("body_timeout", self.body_timeout),
            ("request_timeout", self.request_timeout),
            ("write_timeout", self.write_timeout),
        ];
        match times.iter().find(|(_, time)| time.is_zero()) {
            Some((name, _)) => Err(format!("{name} is 0, but it must be a positive number")),
            None => Ok(()),
        }
    }
}

impl AdminOptions {
    /// Checks that nobody else can reach it without a token.
    ///
    /// # Errors
    /// One sentence.
    pub fn check(&self) -> Result<(), String> {
        if self.enabled && self.token.is_none() && !self.listen.ip().is_loopback() {
            return Err(format!(
                "the admin address {} can be reached from other machines, which needs a token: \
                 give one, or listen on a loopback address such as 127.0.0.1",
                self.listen
            ));
        }
        Ok(())
    }
}

/// Times as seconds.
mod seconds {
    use std::time::Duration;

    use serde::{Deserialize, Deserializer, Serializer, de};

    pub(super) fn serialize<S: Serializer>(time: &Duration, to: S) -> Result<S::Ok, S::Error> {
        // Whole seconds as they were written.
        match time.subsec_nanos() {
            0 => to.serialize_u64(time.as_secs()),
            _ => to.serialize_f64(time.as_secs_f64()),
        }
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Duration, D::Error> {
        let seconds = f64::deserialize(from)?;
        Duration::try_from_secs_f64(seconds).map_err(|_| {
            de::Error::custom(format!("{seconds} is no time: give seconds, 0 or more"))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_out_of_range_are_named() {
        let options = ServerOptions { default_temperature: 3.0, ..ServerOptions::default() };
        assert_eq!(
            options.check().unwrap_err(),
            "default_temperature is 3, but it must be from 0 to 2"
        );
        let options = ServerOptions { write_timeout: Duration::ZERO, ..ServerOptions::default() };
        assert!(options.check().unwrap_err().starts_with("write_timeout is 0"));
        assert_eq!(ServerOptions::default().check(), Ok(()));
    }

    #[test]
    fn an_open_admin_address_needs_a_token() {
        let listen = "0.0.0.0:8081".parse().unwrap();
        let open = AdminOptions { listen, ..AdminOptions::default() };
        assert!(open.check().unwrap_err().contains("needs a token"));
        let token = Some(Secret::new("t"));
        assert_eq!(AdminOptions { token, ..open }.check(), Ok(()));
        assert_eq!(AdminOptions::default().check(), Ok(()));
    }

    #[test]
    fn a_collector_is_an_address() {
        let at = |endpoint: &str| TraceOptions {
            endpoint: Some(endpoint.into()),
            ..TraceOptions::default()
        };
        for (given, url) in [
            ("http://localhost:4318", "http://localhost:4318/v1/traces"),
            ("http://localhost:4318/", "http://localhost:4318/v1/traces"),
            ("https://collector/here", "https://collector/here"),
        ] {
            assert_eq!(at(given).url().unwrap().unwrap().to_string(), url);
        }
        for wrong in ["localhost:4318", "", "ftp://here", "/v1/traces", "http://a b"] {
            assert!(at(wrong).check().unwrap_err().starts_with("endpoint is "), "{wrong}");
        }
        let many = TraceOptions { ratio: 1.5, ..TraceOptions::default() };
        assert_eq!(many.check().unwrap_err(), "ratio is 1.5, but it must be from 0 to 1");
        assert_eq!(TraceOptions::default().check(), Ok(()));
    }

    #[test]
    fn times_are_seconds() {
        let options: ServerOptions =
            serde_json::from_str(r#"{"drain_timeout": 0.5, "body_timeout": 3}"#).unwrap();
        assert_eq!(options.drain_timeout, Duration::from_millis(500));
        let json = serde_json::to_value(&options).unwrap();
        assert_eq!((&json["drain_timeout"], &json["body_timeout"]), (&0.5.into(), &3.into()));
        assert!(serde_json::from_str::<ServerOptions>(r#"{"body_timeout": -1}"#).is_err());
    }
}
