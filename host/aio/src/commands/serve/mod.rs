//! `aio serve`: the host as a server, from its configuration to its end.

pub mod config;

use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use aio_http::{Ended, Handle, Server};
use aio_serve::{Scheduler, SchedulerOptions, Service};
use anyhow::Context;
use clap::Args;
use tokio::runtime::{Builder, Runtime};

use self::config::{Config, Flags};
use crate::terminal;

/// Threads that handle connections. Little is done on them; the processors belong to the
/// models.
const CONNECTION_THREADS: usize = 2;

/// How long the last bytes may take when somebody will not wait.
const LAST_BYTES: Duration = Duration::from_secs(3);

/// Serve OpenAI's interface over HTTP
///
/// Chat and text completions, models, health and metrics for clients; policies and
/// records for the operator, on an address of their own. SIGTERM or Ctrl-C ends the
/// server when running requests are answered, a second one at once; SIGHUP loads the
/// policy anew.
#[derive(Args)]
#[command(after_help = "\
Examples:
  aio serve --tiers smollm2-135m
  aio serve --config aio.toml
  AIO_SERVE__SERVER__LISTEN=0.0.0.0:8080 aio serve
  aio config example > aio.toml
  curl localhost:8080/v1/chat/completions -H 'Content-Type: application/json' \\
       -d '{\"model\":\"auto\",\"messages\":[{\"role\":\"user\",\"content\":\"Hello\"}]}'

Flags come before the environment (AIO_SERVE__SECTION__KEY), which comes before the file.")]
pub struct ServeArgs {
    /// The configuration; `aio config example` has one with every option
    #[arg(short, long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// The tiers: catalogue names or GGUF files, separated by commas
    #[arg(long, value_delimiter = ',', value_name = "MODELS")]
    tiers: Vec<String>,
    /// The policy: aio, fixed, goodput, or a component (.wasm)
    #[arg(long, value_name = "NAME|FILE")]
    policy: Option<String>,
    /// The policy's configuration: JSON, or @FILE
    #[arg(long, value_name = "JSON|@FILE")]
    policy_config: Option<String>,
    /// Load the policy anew when its file changes
    #[arg(long)]
    watch: bool,
    /// The device that runs the models
    #[arg(long)]
    device: Option<String>,
    /// Threads that the models run on (default: one for each physical core)
    #[arg(long, value_name = "N", value_parser = crate::commands::at_least_one)]
    threads: Option<NonZeroUsize>,
    /// Bound on the context in tokens (default: the model's own)
    #[arg(long, value_name = "TOKENS", value_parser = clap::value_parser!(u32).range(16..))]
    context: Option<u32>,
    /// Requests that are decoded at once (default: 16)
    #[arg(long, value_name = "N", value_parser = crate::commands::at_least_one)]
    max_running: Option<NonZeroUsize>,
    /// Requests that may wait before more are refused (default: 64)
    #[arg(long, value_name = "N", value_parser = crate::commands::at_least_one)]
    queue: Option<NonZeroUsize>,
    /// Bytes that KV caches may take (default: no bound)
    #[arg(long, value_name = "BYTES")]
    kv_budget: Option<u64>,
    /// The address that clients connect to (default 127.0.0.1:8080)
    #[arg(long, value_name = "ADDRESS:PORT")]
    listen: Option<String>,
    /// The address for administration (default 127.0.0.1:8081)
    #[arg(long, value_name = "ADDRESS:PORT")]
    admin: Option<String>,
    /// Let clients choose tier and drafter instead of the policy
    #[arg(long)]
    allow_overrides: bool,
}

/// Runs the command.
pub fn run(args: &ServeArgs) -> anyhow::Result<ExitCode> {
    let config = Config::load(args.config.as_deref(), &args.flags())?;
    let resident = config.resident();
    let runtime = Builder::new_multi_thread()
        .worker_threads(CONNECTION_THREADS)
        .thread_name("http")
        .enable_all()
        .build()
        .context("cannot start threads for connections")?;
    // Addresses that cannot be had are told before models are fetched and loaded.
    let (server, admin) = config.secrets()?;
    let server = runtime.block_on(Server::bind(server, admin, &config.traces))?;
    tell_addresses(&server)?;
    let handle = server.handle();
    let ending = Arc::new(Ending::new(handle.clone()));
    let on_signal = Arc::clone(&ending);
    terminal::on_termination(move || on_signal.signal()).context("cannot handle signals")?;
    let running = runtime.spawn(server.run());

    let (tiers, policies) = resident.open()?;
    let _reloading = resident.reload_when_asked(&policies)?;
    let names: Vec<&str> = tiers.info().tiers.iter().map(|tier| tier.name.as_str()).collect();
    let ready = format!("ready: {} under policy {}", names.join(", "), config.policy.name);
    let scheduler = Scheduler::new(tiers, Arc::clone(&policies), config.scheduler());
    let service = Service::start(scheduler, config.queue).context("cannot start the scheduler")?;
    handle.ready(service.clone());
    ending.loaded();
    eprintln!("{ready}");

    let ended = wait(&runtime, running)?;
    service.stop();
    policies.save();
    if ended == Ended::GivenUp {
        terminal::warn("requests that were not answered in time were given up");
    }
    Ok(ExitCode::SUCCESS)
}

fn wait(runtime: &Runtime, running: tokio::task::JoinHandle<Ended>) -> anyhow::Result<Ended> {
    runtime.block_on(running).context("the server made a mistake and ended")
}

fn tell_addresses(server: &Server) -> anyhow::Result<()> {
    eprintln!("listening on http://{}", server.address()?);
    if let Some(admin) = server.admin_address()? {
        eprintln!("administration on http://{admin}/admin");
    }
    Ok(())
}

impl ServeArgs {
    fn flags(&self) -> Flags {
        let set = |flag: bool| flag.then_some(true);
        Flags {
            tiers: self.tiers.clone(),
            device: self.device.clone(),
            threads: self.threads,
            context: self.context,
            max_running: self.max_running,
            queue: self.queue,
            kv_budget: self.kv_budget,
            policy: config::PolicyFlags {
                name: self.policy.clone(),
                config: self.policy_config.clone(),
                watch: set(self.watch),
            },
            server: config::ServerFlags {
                listen: self.listen.clone(),
                allow_overrides: set(self.allow_overrides),
            },
            admin: config::AdminFlags { listen: self.admin.clone() },
        }
    }
}

impl Config {
    fn scheduler(&self) -> SchedulerOptions {
        SchedulerOptions {
            kv_budget: self.kv_budget,
            max_running: self.max_running,
            prefill_chunk: self.prefill_chunk,
            kept_prefixes: self.kept_prefixes,
            recent_tokens: self.recent_answers,
        }
    }
}

/// What signals to end do, one after the other.
struct Ending {
    handle: Handle,
    loaded: AtomicBool,
    signals: AtomicUsize,
}

impl Ending {
    fn new(handle: Handle) -> Self {
        Self { handle, loaded: AtomicBool::new(false), signals: AtomicUsize::new(0) }
    }

    /// From now on there may be requests to wait for.
    fn loaded(&self) {
        self.loaded.store(true, Ordering::SeqCst);
    }

    fn signal(&self) {
        let before = self.signals.fetch_add(1, Ordering::SeqCst);
        if !self.loaded.load(Ordering::SeqCst) || before > 1 {
            std::process::exit(0);
        }
        if before == 0 {
            eprintln!(
                "draining: running requests are answered first; a second signal ends at once"
            );
            self.handle.drain();
        } else {
            self.handle.stop();
            // What is being computed is not waited for.
            std::thread::spawn(|| {
                std::thread::sleep(LAST_BYTES);
                std::process::exit(0);
            });
        }
    }
}
