//! `aio bench serve`: servers under load.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use aio_bench::serve::{self, ApiKey, Load, ServeOptions, Slo, Target};
use anyhow::anyhow;
use clap::Args;

use super::progress::BenchProgress;
use super::{prepare, publish};
use crate::terminal;

/// Measure how servers answer under load
///
/// Any server that speaks OpenAI's chat completions will do: aio, llama-server, vLLM.
/// Requests are real prompts, sent by --clients that wait for their answers, at a
/// --rate that does not, or as in a --trace. Reported are the time to the first
/// token, the time for each further one, the time to the end, tokens a second and,
/// with --slo-ttft or --slo-tpot, goodput: answers a second that keep them. Several
/// servers are measured in turns. Exit code 1 if a server answers nothing.
#[derive(Args)]
#[command(after_help = "\
Examples:
  aio bench serve --url http://127.0.0.1:8080 --prompts questions.jsonl --clients 1,2,4,8
  aio bench serve --url aio=http://127.0.0.1:8080 --url llama=http://127.0.0.1:8081 \\
      --prompts edits.jsonl,maths.jsonl --clients 1,4,16 --rounds 3 --out report
  aio bench serve --url http://127.0.0.1:8080 --prompts questions.jsonl \\
      --rate 0.5,1,2 --duration 120 --slo-ttft 500 --slo-tpot 50 --pid 4711
  aio bench serve --url http://127.0.0.1:8080 --prompts documents.jsonl \\
      --trace azure2023_conv.csv.gz --speed 0.2 --requests 200 --max-prompt-tokens 2048

Prompt files are as for `aio bench speculate`. A trace is Azure's (CSV: TIMESTAMP,
ContextTokens, GeneratedTokens), Mooncake's (JSON Lines with hash_ids: prompts share
the blocks that they shared) or rates of ServeGen (CSV), compressed or not. Its prompts
are cut from the prompt files' text, at 4 characters a token.

Files written to --out: serve.json and serve.svg.")]
pub(super) struct ServeArgs {
    /// A server, plain HTTP (may be given several times; others are compared with the first)
    #[arg(long = "url", required = true, value_name = "[NAME=]URL")]
    urls: Vec<String>,
    /// The model to ask (default: the first that the server lists)
    #[arg(long, value_name = "NAME")]
    model: Option<String>,
    /// The key that the servers ask for
    #[arg(long, value_name = "KEY", env = "AIO_API_KEY", hide_env_values = true)]
    api_key: Option<String>,
    /// Prompt files (may be given several times, or separated by commas)
    #[arg(long, required = true, value_delimiter = ',', value_name = "FILE.jsonl[:FIELD=VALUE]")]
    prompts: Vec<PathBuf>,
    /// Prompts in all, the same number from each file, evenly spread over its rows
    #[arg(long, value_name = "N", default_value_t = 100)]
    count: usize,
    #[command(flatten)]
    load: LoadArgs,
    /// Requests of a level, at most (default: 100 where there is no --duration)
    #[arg(long, value_name = "N")]
    requests: Option<usize>,
    /// Seconds in which a level's requests are sent; their answers are waited for
    #[arg(long, value_name = "SECONDS")]
    duration: Option<f64>,
    /// Times that each level is measured, in turns with other servers
    #[arg(long, value_name = "N", default_value_t = 1)]
    rounds: usize,
    /// Most tokens of an answer (default: the trace's own, else 128)
    #[arg(long, value_name = "N")]
    max_tokens: Option<usize>,
    /// Cut the prompts of a trace to so many tokens
    #[arg(long, value_name = "N", requires = "trace")]
    max_prompt_tokens: Option<usize>,
    /// Temperature of sampling; 0 takes the likeliest token
    #[arg(long, value_name = "T", default_value_t = 0.0)]
    temperature: f64,
    /// Seed of arrivals, of the prompts' order, and of sampling
    #[arg(long, value_name = "N", default_value_t = 1)]
    seed: u64,
    /// Have answers go on to their most tokens (llama-server and vLLM know this)
    #[arg(long)]
    ignore_eos: bool,
    /// Send requests again that a server turns away (429), when it says
    #[arg(long)]
    retry: bool,
    /// Seconds that an answer may take
    #[arg(long, value_name = "SECONDS", default_value_t = 600)]
    timeout: u64,
    /// Requests in flight at once, at most; later ones wait, and their times include it
    #[arg(long, value_name = "N", default_value_t = 256)]
    most_in_flight: usize,
    /// Answers are good if their first token comes within so many milliseconds
    #[arg(long, value_name = "MS")]
    slo_ttft: Option<f64>,
    /// Answers are good if further tokens take so many milliseconds each
    #[arg(long, value_name = "MS")]
    slo_tpot: Option<f64>,
    /// A server's process, to report its memory (on this machine; may be given several times)
    #[arg(long = "pid", value_name = "[NAME=]PID")]
    pids: Vec<String>,
    /// Folder for the report as JSON and a picture
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// Print the report as JSON instead of tables
    #[arg(long)]
    json: bool,
}

/// How requests come: one of three ways.
#[derive(Args)]
struct LoadArgs {
    /// Clients, each of which sends its next request when its last one is answered
    /// (several numbers: one level after the other)
    #[arg(long, value_delimiter = ',', value_name = "N", required_unless_present_any = ["rate", "trace"], conflicts_with_all = ["rate", "trace"])]
    clients: Vec<usize>,
    /// Requests a second, at random times (a Poisson process), whether answers come or not
    #[arg(long, value_delimiter = ',', value_name = "R", conflicts_with = "trace")]
    rate: Vec<f64>,
    /// A trace of real arrivals to replay
    #[arg(long, value_name = "FILE")]
    trace: Option<PathBuf>,
    /// How many times as fast as the trace
    #[arg(long, value_delimiter = ',', value_name = "X", default_value = "1", requires = "trace")]
    speed: Vec<f64>,
}

impl LoadArgs {
    fn load(self) -> Load {
        match self.trace {
            Some(file) => Load::Trace { file, speeds: self.speed },
            None if self.clients.is_empty() => Load::Rates(self.rate),
            None => Load::Clients(self.clients),
        }
    }
}

/// Runs the command.
pub(super) fn run(args: ServeArgs) -> anyhow::Result<ExitCode> {
    let mut targets =
        args.urls.iter().map(|url| Target::parse(url)).collect::<Result<Vec<_>, _>>()?;
    args.pids.iter().try_for_each(|pid| Target::add_pid(&mut targets, pid))?;
    let options = ServeOptions {
        targets,
        model: args.model,
        api_key: args.api_key.map(ApiKey::new),
        prompts: args.prompts,
        count: args.count,
        load: args.load.load(),
        requests: args.requests,
        seconds: args.duration,
        rounds: args.rounds,
        max_tokens: args.max_tokens,
        max_prompt_tokens: args.max_prompt_tokens,
        temperature: args.temperature,
        seed: args.seed,
        ignore_eos: args.ignore_eos,
        retry: args.retry,
        timeout: Duration::from_secs(args.timeout),
        most_in_flight: args.most_in_flight,
        slo: Slo { ttft_ms: args.slo_ttft, tpot_ms: args.slo_tpot },
    };
    options.check()?;
    prepare(args.out.as_deref())?;
    let report = serve::run(&options, &mut BenchProgress::default())?;
    let pictures = [("serve".to_owned(), report.plot())];
    publish(&report, &report.text(), args.json, args.out.as_deref(), "serve", &pictures)?;
    let silent: Vec<&str> = report.silent();
    if !silent.is_empty() {
        terminal::complain(&anyhow!("no answer came from {}", silent.join(", ")));
        return Ok(ExitCode::FAILURE);
    }
    Ok(ExitCode::SUCCESS)
}
