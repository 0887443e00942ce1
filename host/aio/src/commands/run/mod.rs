//! `aio run`: answer a prompt, or hold a conversation, under a policy.

mod chat;
mod explain;

use std::io::{IsTerminal, Read, Write};
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use aio_core::{FinishReason, RequestRecord, ShadowReport};
use aio_engine::chat::{Message, Role};
use aio_engine::sampling::Sampling;
use aio_serve::{Prompt, Request, Runner, Sink};
use anyhow::{Context, bail};
use clap::Args;

use crate::commands::policy_candidates::CandidateOptions;
use crate::commands::policy_options::PolicyOptions;
use crate::commands::resident::Resident;
use crate::terminal;

/// Answer a prompt under a policy
///
/// The answer streams to stdout; what was decided and how fast it went goes to
/// stderr. The policy decides which tier answers and how tokens are drafted: the
/// text is the same whatever it decides about drafting.
#[derive(Args)]
#[command(after_help = "\
Examples:
  aio run \"Write a Rust function that reverses a string\"
  aio run \"Find the bug\" --file src/main.rs --explain
  git diff | aio run --system \"Write a commit message\"
  aio run --chat --tiers smollm2-135m
  aio run --policy ./my-policy.wasm --policy-config @config.json --json \"...\"
  aio run --policy ./router.wasm --grant prompt-text --record calls.jsonl \"...\"
  aio run --chat --policy ./my-policy.wasm --watch
  aio run --policy ./my-policy.wasm --require-signature trusted.keys \"...\"
  aio run --canary next.wasm=10% --canary-config '{\"drafter\":\"lookup\"}' \"...\"
  aio run --shadow goodput --shadow next.wasm --explain \"...\"
  aio run --policy fixed --policy-config '{\"tier\":\"qwen2.5-coder-1.5b\",\"drafter\":\"lookup\",\"draft_length\":8}' \"...\"")]
pub struct RunArgs {
    /// The prompt; without it and --file, stdin is read if it is piped
    prompt: Option<String>,
    /// A file to put after the prompt, or to use as the prompt
    #[arg(short, long, value_name = "FILE")]
    file: Option<PathBuf>,
    /// Instructions for the whole conversation (the chat template's system message)
    #[arg(long, value_name = "TEXT")]
    system: Option<String>,
    /// Hold a conversation
    #[arg(long, conflicts_with_all = ["raw", "json"])]
    chat: bool,
    /// Go on with the prompt as plain text, without the model's chat template
    #[arg(long, conflicts_with = "system")]
    raw: bool,
    /// The tiers: catalogue names or GGUF files, separated by commas
    #[arg(long, value_delimiter = ',', value_name = "MODELS")]
    tiers: Vec<String>,
    /// The policy: aio, fixed, goodput, or a component (.wasm)
    #[arg(long, value_name = "NAME|FILE", default_value = aio_policy::DEFAULT_POLICY)]
    policy: String,
    /// The policy's configuration: JSON, or @FILE
    #[arg(long, value_name = "JSON|@FILE")]
    policy_config: Option<String>,
    #[command(flatten)]
    policy_options: PolicyOptions,
    #[command(flatten)]
    candidates: CandidateOptions,
    /// Something about the request, for policies that are granted metadata (may be
    /// given several times)
    #[arg(long, value_name = "KEY=VALUE", value_parser = key_value)]
    metadata: Vec<(String, String)>,
    /// The device that runs the models
    #[arg(long, default_value = aio_engine::device::DEFAULT)]
    device: String,
    /// Threads that the models run on (default: one for each physical core)
    #[arg(long, value_name = "N", value_parser = crate::commands::at_least_one)]
    threads: Option<NonZeroUsize>,
    /// Bound on the context in tokens (default: the model's own). Memory for the KV
    /// cache grows with the tokens in use up to this bound
    #[arg(long, value_name = "TOKENS", value_parser = clap::value_parser!(u32).range(16..))]
    context: Option<u32>,
    /// Most tokens to generate
    #[arg(long, value_name = "N", default_value_t = 1024)]
    max_tokens: usize,
    /// 0 takes the likeliest token each time; 1 samples from the model's distribution
    #[arg(long, value_name = "T", default_value_t = 0.0)]
    temperature: f32,
    /// Sample from the K likeliest tokens (0: all)
    #[arg(long, value_name = "K", default_value_t = 0)]
    top_k: usize,
    /// Sample from the likeliest tokens that make up this probability (1: all)
    #[arg(long, value_name = "P", default_value_t = 1.0)]
    top_p: f32,
    /// Sample from tokens with at least this share of the likeliest one's probability
    #[arg(long, value_name = "P", default_value_t = 0.0)]
    min_p: f32,
    /// Make tokens of the last 64 less likely (1: do not)
    #[arg(long, value_name = "R", default_value_t = 1.0)]
    repetition_penalty: f32,
    /// Keys the sampling noise: the same seed gives the same answer
    #[arg(long, value_name = "N", default_value_t = 0)]
    seed: u64,
    /// End the answer before this text (may be given several times)
    #[arg(long, value_name = "TEXT")]
    stop: Vec<String>,
    /// Print one JSON record with the answer and every decision, instead of text
    #[arg(long)]
    json: bool,
    /// Print for people what was decided, on which facts, and what came of it
    #[arg(long)]
    explain: bool,
}

/// Runs the command.
pub fn run(args: &RunArgs) -> anyhow::Result<ExitCode> {
    terminal::handle_interrupts().context("cannot handle Ctrl-C")?;
    let sampling = args.sampling();
    sampling.check().map_err(anyhow::Error::msg)?;
    // Anything wrong with the prompt is said before models are fetched and loaded.
    let prompt = if args.chat { None } else { Some(args.prompt()?) };
    let resident = args.resident();
    let (tiers, policies) = resident.open()?;
    let mut runner = Runner::new(tiers, Arc::clone(&policies));
    terminal::at_exit(move || policies.save());
    let _reloading = resident.reload_when_asked(runner.policies())?;
    let ended = match prompt {
        Some(prompt) => answer(args, &mut runner, args.request(prompt, sampling)),
        None => chat::converse(args, &mut runner, &sampling),
    };
    runner.policies().save();
    ended
}

impl RunArgs {
    fn resident(&self) -> Resident {
        Resident {
            tiers: self.tiers.clone(),
            device: self.device.clone(),
            threads: self.threads,
            context: self.context,
            policy: self.policy.clone(),
            policy_config: self.policy_config.clone(),
            options: self.policy_options.clone(),
            candidates: self.candidates.clone(),
        }
    }

    fn sampling(&self) -> Sampling {
        Sampling {
            temperature: self.temperature,
            top_k: self.top_k,
            top_p: self.top_p,
            min_p: self.min_p,
            repetition_penalty: self.repetition_penalty,
            seed: self.seed,
            ..Sampling::default()
        }
    }

    fn request(&self, prompt: Prompt, sampling: Sampling) -> Request {
        Request {
            key: Some(aio_policy::request_key(opening(&prompt))),
            stop: self.stop.clone(),
            metadata: self.metadata.iter().cloned().collect(),
            ..Request::new(prompt, self.max_tokens, sampling)
        }
    }

    fn prompt(&self) -> anyhow::Result<Prompt> {
        let mut parts: Vec<String> = self.prompt.iter().cloned().collect();
        if let Some(file) = &self.file {
            let text = std::fs::read_to_string(file)
                .with_context(|| format!("cannot read the prompt from {}", file.display()))?;
            parts.push(text);
        }
        if parts.is_empty() {
            parts.push(from_stdin()?);
        }
        let text = parts.join("\n\n");
        if text.trim().is_empty() {
            bail!("the prompt is empty; give some text");
        }
        Ok(if self.raw { Prompt::Raw(text) } else { Prompt::Chat(self.opening(text)) })
    }

    /// The conversation's beginning: the system message, if any, and the first turn.
    fn opening(&self, text: String) -> Vec<Message> {
        let system = self.system.iter().map(Message::system);
        system.chain([Message::user(text)]).collect()
    }
}

/// What a request begins with: what makes it the same request another time.
fn opening(prompt: &Prompt) -> &str {
    match prompt {
        Prompt::Raw(text) => text,
        Prompt::Chat(messages) => {
            messages.iter().find(|m| m.role == Role::User).map_or("", |m| m.content.as_str())
        }
    }
}

fn key_value(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((key, value)) if !key.is_empty() => Ok((key.to_owned(), value.to_owned())),
        _ => Err("write it as KEY=VALUE".into()),
    }
}

fn from_stdin() -> anyhow::Result<String> {
    let mut stdin = std::io::stdin();
    if stdin.is_terminal() {
        bail!("there is no prompt; give one as an argument, with --file, or piped into stdin");
    }
    let mut text = String::new();
    stdin.read_to_string(&mut text).context("cannot read the prompt from stdin")?;
    Ok(text)
}

fn answer(args: &RunArgs, runner: &mut Runner, request: Request) -> anyhow::Result<ExitCode> {
    let record = if args.json {
        let mut record = run_request(runner, &request, &mut Silent)?;
        record.shadows = shadows(runner);
        let mut stdout = std::io::stdout().lock();
        serde_json::to_writer(&mut stdout, &record)?;
        writeln!(stdout)?;
        record
    } else {
        let mut stream = Stream::default();
        let mut record = run_request(runner, &request, &mut stream)?;
        stream.end()?;
        if args.explain {
            record.shadows = shadows(runner);
            explain::explain(&record, runner.tiers());
        }
        explain::footer(&record);
        record
    };
    explain::failures(&record);
    let interrupted = record.finish_reason == FinishReason::Cancelled;
    Ok(if interrupted { terminal::interrupted_code() } else { ExitCode::SUCCESS })
}

/// How long a report waits for shadows that are behind.
const SHADOWS_TIME: Duration = Duration::from_secs(2);

/// What the shadows said so far, once they have answered.
fn shadows(runner: &Runner) -> Vec<ShadowReport> {
    runner.policies().settle_shadows(SHADOWS_TIME);
    runner.policies().shadow_reports()
}

/// Answers one request; Ctrl-C ends the answer instead of the program.
fn run_request(
    runner: &mut Runner,
    request: &Request,
    sink: &mut dyn Sink,
) -> anyhow::Result<RequestRecord> {
    let _answering = terminal::Answering::start();
    Ok(runner.run(request, sink)?)
}

/// Collects nothing: the record has it all.
struct Silent;

impl Sink for Silent {
    fn text(&mut self, _: &str) {}

    fn cancelled(&self) -> bool {
        terminal::interrupted()
    }
}

/// Streams the answer to stdout.
#[derive(Default)]
struct Stream {
    ends_with_newline: bool,
    /// The reader went away, as `head` does: the answer may end.
    closed: Option<std::io::Error>,
}

impl Sink for Stream {
    fn text(&mut self, text: &str) {
        if text.is_empty() || self.closed.is_some() {
            return;
        }
        self.ends_with_newline = text.ends_with('\n');
        let mut stdout = std::io::stdout().lock();
        self.closed = stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()).err();
    }

    fn cancelled(&self) -> bool {
        self.closed.is_some() || terminal::interrupted()
    }
}

impl Stream {
    /// Ends the answer's last line.
    fn end(mut self) -> anyhow::Result<()> {
        if !self.ends_with_newline {
            self.text("\n");
        }
        match self.closed {
            Some(error) if error.kind() != std::io::ErrorKind::BrokenPipe => {
                Err(error).context("cannot write the answer to stdout")
            }
            _ => Ok(()),
        }
    }
}
