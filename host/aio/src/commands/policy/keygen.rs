//! `aio policy keygen`: a key to sign policies with.

use std::path::PathBuf;
use std::process::ExitCode;

use aio_policy::SigningKey;
use clap::Args;

use crate::commands::print;

/// Make a key for signing policies
///
/// The private key is written to FILE, which its owner alone can read, and the public
/// key to FILE.pub; a file that exists is never overwritten. FILE.pub is a file of
/// trusted keys with one key: give it to who runs your policies. Such files may be
/// joined: they have a key a line, a name after it, and comments behind #.
#[derive(Args)]
#[command(after_help = "\
Examples:
  aio policy keygen me.key
  cat me.key.pub >> trusted.keys")]
pub(super) struct KeygenArgs {
    /// Where to write the private key
    #[arg(value_name = "FILE")]
    file: PathBuf,
}

/// Runs the command.
pub(super) fn run(args: &KeygenArgs) -> anyhow::Result<ExitCode> {
    let key = SigningKey::create(&args.file)?;
    eprintln!(
        "the private key is in {0}, keep it to yourself; the public key is in {0}.pub",
        args.file.display()
    );
    print(&format!("{}\n", key.public()))?;
    Ok(ExitCode::SUCCESS)
}
