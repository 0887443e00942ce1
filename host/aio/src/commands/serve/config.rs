//! What a server is configured with: a file, the environment and flags, laid over the
//! defaults in this order. `examples/serve/aio.toml` has every option with its reason.

use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};

use aio_core::Grant;
use aio_http::{AdminOptions, Secret, ServerOptions, TraceOptions};
use anyhow::{Context, bail};
use figment::Figment;
use figment::providers::{Env, Format, Serialized, Toml};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::commands::policy_candidates::CandidateOptions;
use crate::commands::policy_options::PolicyOptions;
use crate::commands::resident::Resident;

/// What variables of the environment begin with; sections and keys follow, with the
/// same between them.
const PREFIX: &str = "AIO_SERVE__";
const BETWEEN: &str = "__";
/// The variables by which OpenTelemetry's own tools are configured, and what they mean
/// here. They come before the defaults only.
const STANDARD: [(&str, &str); 2] =
    [("OTEL_EXPORTER_OTLP_ENDPOINT", "traces.endpoint"), ("OTEL_SERVICE_NAME", "traces.service")];

/// The configuration.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Catalogue names or GGUF files; the default set where none are named.
    pub tiers: Vec<String>,
    /// The device that runs them.
    pub device: String,
    /// Threads that they run on; one for each physical core where not said.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub threads: Option<NonZeroUsize>,
    /// Bound on the context in tokens; the model's own where not said.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub context: Option<u32>,
    /// Requests that are decoded at once.
    pub max_running: usize,
    /// Requests that may wait.
    pub queue: usize,
    /// Most tokens of prompts in a pass that answers share.
    pub prefill_chunk: usize,
    /// Sequences of each tier that are kept after their requests.
    pub kept_prefixes: usize,
    /// Tokens of recent answers that lookup may draft from.
    pub recent_answers: usize,
    /// Bytes that KV caches may take.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kv_budget: Option<u64>,
    /// Who decides.
    pub policy: PolicySection,
    /// The server for clients.
    pub server: ServerOptions,
    /// The server for the operator.
    pub admin: AdminOptions,
    /// Where traces go.
    pub traces: TraceOptions,
}

/// Who decides, and within which bounds.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct PolicySection {
    /// A built-in policy's name, or a component's file.
    pub name: String,
    /// Its configuration: a table, JSON as text, or `@FILE`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub config: Option<Value>,
    /// What it may see beyond facts.
    pub grant: Vec<Grant>,
    /// What it may use beside the defaults: a table, JSON as text, or `@FILE`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub limits: Option<Value>,
    /// Whether it is loaded anew when its file changes.
    pub watch: bool,
    /// A file of trusted keys, one of which must have signed it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub require_signature: Option<PathBuf>,
    /// A file to append calls to.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub record: Option<PathBuf>,
    /// The folder for what policies learn.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub state: Option<PathBuf>,
    /// Whether that is kept at all.
    pub keep_state: bool,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            tiers: Vec::new(),
            device: aio_engine::device::DEFAULT.to_owned(),
            threads: None,
            context: None,
            max_running: 16,
            queue: 64,
            prefill_chunk: 128,
            kept_prefixes: 32,
            recent_answers: 0,
            kv_budget: None,
            policy: PolicySection::default(),
            server: ServerOptions::default(),
            admin: AdminOptions::default(),
            traces: TraceOptions::default(),
        }
    }
}

impl Default for PolicySection {
    fn default() -> Self {
        Self {
            name: aio_policy::DEFAULT_POLICY.to_owned(),
            config: None,
            grant: Vec::new(),
            limits: None,
            watch: false,
            require_signature: None,
            record: None,
            state: None,
            keep_state: true,
        }
    }
}

/// What flags say; it comes before everything else.
#[derive(Debug, Default, Serialize)]
pub struct Flags {
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub tiers: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub device: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub threads: Option<NonZeroUsize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub context: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_running: Option<NonZeroUsize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub queue: Option<NonZeroUsize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kv_budget: Option<u64>,
    pub policy: PolicyFlags,
    pub server: ServerFlags,
    pub admin: AdminFlags,
}

/// What flags say of the policy.
#[derive(Debug, Default, Serialize)]
pub struct PolicyFlags {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub config: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub watch: Option<bool>,
}

/// What flags say of the server for clients.
#[derive(Debug, Default, Serialize)]
pub struct ServerFlags {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub listen: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub allow_overrides: Option<bool>,
}

/// What flags say of the server for the operator.
#[derive(Debug, Default, Serialize)]
pub struct AdminFlags {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub listen: Option<String>,
}

impl Config {
    /// Reads the configuration and checks it.
    ///
    /// # Errors
    /// One sentence that names the key, and where it stands.
    pub fn load(file: Option<&Path>, flags: &Flags) -> anyhow::Result<Self> {
        let standard = |variable: &str| STANDARD.iter().find(|(name, _)| variable == *name);
        let standard = Env::raw().filter_map(move |variable| {
            Some(standard(&variable.as_str().to_uppercase())?.1.into())
        });
        let mut layers = Figment::from(standard);
        if let Some(path) = file {
            // figment takes a file that is absent for an empty one.
            let text = std::fs::read_to_string(path)
                .with_context(|| format!("cannot read the configuration {}", path.display()))?;
            toml::from_str::<toml::Table>(&text)
                .map_err(|error| anyhow::anyhow!("{} is no TOML: {error}", path.display()))?;
            layers = layers.merge(Toml::file_exact(path));
        }
        let environment = Env::prefixed(PREFIX).split(BETWEEN);
        let layers = layers.merge(environment).merge(Serialized::globals(flags));
        let config: Self = layers.extract().map_err(|error| sentence(&error))?;
        config.check()?;
        Ok(config)
    }

    fn check(&self) -> anyhow::Result<()> {
        let counts = [
            ("max_running", self.max_running),
            ("queue", self.queue),
            ("prefill_chunk", self.prefill_chunk),
        ];
        if let Some((key, _)) = counts.iter().find(|(_, count)| *count == 0) {
            bail!("{key} is 0, but it must be at least 1");
        }
        self.traces.check().map_err(|error| anyhow::anyhow!("traces.{error}"))?;
        self.server.check().map_err(|error| anyhow::anyhow!("server.{error}"))
    }

    /// What is to be made resident.
    pub fn resident(&self) -> Resident {
        let policy = &self.policy;
        Resident {
            tiers: self.tiers.clone(),
            device: self.device.clone(),
            threads: self.threads,
            context: self.context,
            policy: policy.name.clone(),
            policy_config: policy.config.as_ref().map(argument),
            options: PolicyOptions {
                grant: policy.grant.clone(),
                policy_limits: policy.limits.as_ref().map(argument),
                watch: policy.watch,
                require_signature: policy.require_signature.clone(),
                record: policy.record.clone(),
                state: policy.state.clone(),
                no_state: !policy.keep_state,
            },
            candidates: CandidateOptions::default(),
        }
    }

    /// The servers' options, with keys and token read from their files.
    ///
    /// # Errors
    /// When a file cannot be read, or has nothing in it.
    pub fn secrets(&self) -> anyhow::Result<(ServerOptions, AdminOptions)> {
        let (mut server, mut admin) = (self.server.clone(), self.admin.clone());
        if let Some(path) = &server.api_keys_file {
            server.api_keys.extend(lines(path)?);
        }
        if let Some(path) = &admin.token_file {
            if admin.token.is_some() {
                bail!("admin.token and admin.token_file are both given; give one of them");
            }
            admin.token = lines(path)?.into_iter().next();
        }
        let empty = server.api_keys.iter().chain(&admin.token).any(Secret::is_empty);
        if empty {
            bail!("a key or token is empty; give it at least one character");
        }
        admin.check().map_err(anyhow::Error::msg)?;
        Ok((server, admin))
    }

    /// The configuration as TOML, secrets masked.
    ///
    /// # Errors
    /// When a policy's configuration holds what TOML has no form for.
    pub fn to_toml(&self) -> anyhow::Result<String> {
        toml::to_string(self).context("the configuration has no form in TOML")
    }
}

/// A policy's JSON as the command line has it: text as it stands, else a table's JSON.
fn argument(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        table => table.to_string(),
    }
}

/// Secrets, one a line.
fn lines(path: &Path) -> anyhow::Result<Vec<Secret>> {
    let text = std::fs::read_to_string(path)
        .with_context(|| format!("cannot read the keys in {}", path.display()))?;
    let lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
    let secrets: Vec<Secret> = lines.map(Secret::new).collect();
    if secrets.is_empty() {
        bail!("there is no key in {}; put one on a line", path.display());
    }
    Ok(secrets)
}

/// What figment says, as one sentence that names the key and where it stands.
fn sentence(error: &figment::Error) -> anyhow::Error {
    let key = error.path.join(".");
    let place =
        error.metadata.as_ref().map_or_else(String::new, |metadata| match &metadata.source {
            Some(figment::Source::File(path)) => format!(" in {}", path.display()),
            Some(figment::Source::Code(_)) => " in a flag".into(),
            _ => format!(" in {}", metadata.name),
        });
    let what = if key.is_empty() { String::new() } else { format!(": {key}") };
    anyhow::anyhow!("the configuration{place} is not right{what}: {}", error.kind)
}

#[cfg(test)]
mod tests {
    use super::*;

    const EXAMPLE: &str = include_str!("../../../../../examples/serve/aio.toml");

    fn load(text: &str, flags: &Flags) -> anyhow::Result<Config> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("aio.toml");
        std::fs::write(&path, text).unwrap();
        let told = |error: anyhow::Error| {
            let folder = format!("{}/", folder.path().display());
            anyhow::anyhow!("{}", error.to_string().replace(&folder, ""))
        };
        Config::load(Some(&path), flags).map_err(told)
    }

    fn refusal(text: &str) -> String {
        load(text, &Flags::default()).unwrap_err().to_string()
    }

    #[test]
    fn the_example_is_the_defaults() {
        assert_eq!(load(EXAMPLE, &Flags::default()).unwrap(), Config::default());
    }

    #[test]
    fn the_example_has_every_option() {
        let all = EXAMPLE.replace("#! ", "");
        load(&all, &Flags::default()).unwrap();
        let written: toml::Table = toml::from_str(&all).unwrap();
        let keys = |table: &toml::Table| table.keys().cloned().collect::<Vec<_>>().join(" ");
        for (section, known) in [
            (
                &written,
                "admin context device kept_prefixes kv_budget max_running policy prefill_chunk \
                 queue recent_answers server threads tiers traces",
            ),
            (
                written["policy"].as_table().unwrap(),
                "config grant keep_state limits name record require_signature state watch",
            ),
            (written["admin"].as_table().unwrap(), "enabled listen token token_file"),
            (written["traces"].as_table().unwrap(), "endpoint ratio service"),
        ] {
            let mut names: Vec<String> = keys(section).split(' ').map(str::to_owned).collect();
            names.sort_unstable();
            assert_eq!(names.join(" "), known);
        }
        // What the server has by default, and what it has not.
        let written = written["server"].as_table().unwrap();
        let server = toml::Table::try_from(ServerOptions::default()).unwrap();
        assert!(server.keys().all(|key| written.contains_key(key)));
        assert!(written.contains_key("api_keys_file"));
    }

    #[test]
    fn flags_come_before_the_file() {
        let text = "tiers = ['a']\n[server]\nlisten = '127.0.0.1:1'\nqueue_is_no_option = 1";
        assert!(refusal(text).contains("queue_is_no_option"));
        let text = "tiers = ['a']\nqueue = 3\n[server]\nlisten = '127.0.0.1:1'";
        let server = ServerFlags { listen: Some("127.0.0.1:2".into()), allow_overrides: None };
        let flags = Flags { tiers: vec!["b".into()], server, ..Flags::default() };
        let config = load(text, &flags).unwrap();
        assert_eq!((config.tiers, config.queue), (vec!["b".to_owned()], 3));
        assert_eq!(config.server.listen, "127.0.0.1:2".parse().unwrap());
    }

    #[test]
    fn mistakes_are_told_with_their_key_and_file() {
        for (text, told) in [
            ("quue = 1", "the configuration in aio.toml is not right: quue: "),
            ("[server]\nquue = 1", "the configuration in aio.toml is not right: server.quue: "),
            ("queue = 'many'", "the configuration in aio.toml is not right: queue: "),
            ("[server]\nlisten = 'here'", "is not right: server.listen: "),
            ("[server]\nbody_timeout = -1", "is not right: server.body_timeout: "),
            ("[policy]\ngrant = ['all']", "is not right: policy.grant"),
            ("queue = 0", "queue is 0, but it must be at least 1"),
            ("[server]\nwrite_timeout = 0", "server.write_timeout is 0"),
            ("[traces]\nendpoint = 'here'", "traces.endpoint is \"here\", but it must be the"),
            ("queue = = 1", "aio.toml is no TOML: "),
        ] {
            let refusal = refusal(text);
            assert!(refusal.contains(told), "{refusal}");
        }
        let absent = Config::load(Some(Path::new("nowhere.toml")), &Flags::default());
        let absent = absent.unwrap_err().to_string();
        assert_eq!(absent, "cannot read the configuration nowhere.toml");
    }

    #[test]
    fn secrets_are_read_from_files_and_masked() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("keys");
        std::fs::write(&path, "one\n\n two \n").unwrap();
        let text = format!("[server]\napi_keys = ['zero']\napi_keys_file = {path:?}\n");
        let config = load(&text, &Flags::default()).unwrap();
        let keys = ["zero", "one", "two"].map(Secret::new);
        assert_eq!(config.secrets().unwrap().0.api_keys, keys);
        let printed = config.to_toml().unwrap();
        assert!(printed.contains("********") && !printed.contains("zero"), "{printed}");
        std::fs::write(&path, "\n").unwrap();
        assert!(config.secrets().unwrap_err().to_string().starts_with("there is no key in "));
    }

    #[test]
    fn an_open_admin_address_needs_a_token() {
        let config = load("[admin]\nlisten = '0.0.0.0:1'", &Flags::default()).unwrap();
        assert!(config.secrets().unwrap_err().to_string().contains("needs a token"));
    }

    #[test]
    fn what_is_printed_can_be_read() {
        let text = "[policy]\nconfig = { drafter = 'lookup', draft_length = 8 }";
        let config = load(text, &Flags::default()).unwrap();
        assert_eq!(
            config.resident().policy_config.as_deref(),
            Some(r#"{"draft_length":8,"drafter":"lookup"}"#)
        );
        assert_eq!(load(&config.to_toml().unwrap(), &Flags::default()).unwrap(), config);
    }
}
