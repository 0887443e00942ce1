//! `aio config`: what a server would be configured with, and an example to start from.

use std::path::PathBuf;

use clap::{Args, Subcommand};

use super::print;
use super::serve::config::{Config, Flags};

/// The example, which is the defaults with their reasons.
const EXAMPLE: &str = include_str!("../../../../examples/serve/aio.toml");

/// Check a server's configuration, or print an example of one
#[derive(Args)]
pub struct ConfigArgs {
    #[command(subcommand)]
    command: ConfigCommand,
}

#[derive(Subcommand)]
enum ConfigCommand {
    /// Print what `aio serve` would run with: the defaults, the file and the environment,
    /// keys and tokens masked; tells what is wrong with them
    Check {
        /// The configuration
        file: Option<PathBuf>,
    },
    /// Print a configuration with every option, its default and its reason
    Example,
}

/// Runs the command.
pub fn run(args: &ConfigArgs) -> anyhow::Result<()> {
    match &args.command {
        ConfigCommand::Check { file } => {
            let config = Config::load(file.as_deref(), &Flags::default())?;
            config.secrets()?;
            print(&config.to_toml()?)
        }
        ConfigCommand::Example => print(EXAMPLE),
    }
}
