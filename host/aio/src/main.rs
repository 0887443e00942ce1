//! The command line of A-IO. It turns arguments into calls and results into
//! text or JSON; it must not know tensors, WebAssembly or how models are fetched.

mod commands;
mod progress;
mod terminal;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// An inference host whose decisions come from a WebAssembly policy.
///
/// Several model tiers stay resident. For each request a sandboxed policy
/// decides which tier answers and how its tokens are drafted; the host drafts,
/// verifies and commits, so that a policy changes speed and never content.
#[derive(Parser)]
#[command(
    version,
    max_term_width = 100,
    after_help = "\
Start here:
  aio run \"Write a Rust function that reverses a string\"
  aio run --explain --policy fixed --policy-config '{\"drafter\":\"lookup\",\"draft_length\":8}' ...
  aio serve --tiers smollm2-135m
  aio models list
  aio graph smollm2-135m --gear 8
  aio bench engine --help
  aio policy new mine

Environment: AIO_CACHE names the folder for models (else the user's cache folder);
AIO_CPU bounds the cpu device's instruction set (avx512, avx2, portable);
AIO_ASCEND_LIBRARY names the ascend device's library, a file or a folder;
AIO_API_KEY is the key that bench serve sends to servers;
AIO_LOG sets what is logged to stderr (error, warn, info, debug; default warn)."
)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    // Boxed: these have many more options than the others.
    Run(Box<commands::run::RunArgs>),
    Serve(Box<commands::serve::ServeArgs>),
    Config(commands::config::ConfigArgs),
    Models(commands::models::ModelsArgs),
    Graph(commands::graph::GraphArgs),
    Device(commands::device::DeviceArgs),
    Bench(commands::bench::BenchArgs),
    Policy(commands::policy::PolicyArgs),
}

fn main() -> ExitCode {
    terminal::start_logging();
    let result = match Cli::parse().command {
        Command::Run(args) => commands::run::run(&args),
        Command::Serve(args) => commands::serve::run(&args),
        Command::Config(args) => commands::config::run(&args).map(|()| ExitCode::SUCCESS),
        Command::Models(args) => commands::models::run(args).map(|()| ExitCode::SUCCESS),
        Command::Graph(args) => commands::graph::run(&args),
        Command::Device(args) => commands::device::run(&args),
        Command::Bench(args) => commands::bench::run(args),
        Command::Policy(args) => commands::policy::run(args),
    };
    // Whoever still uses a device at the end of the process loses nothing by this.
    if let Err(error) = aio_engine::device::finish() {
        tracing::debug!("{error}");
    }
    match result {
        Ok(code) => code,
        Err(error) => {
            terminal::complain(&error);
            ExitCode::FAILURE
        }
    }
}
