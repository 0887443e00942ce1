//! `aio policy verify`: whether a component is signed by somebody who is trusted.

use std::path::PathBuf;
use std::process::ExitCode;

use aio_policy::{KeyId, SignatureError, TrustedKeys, verify};
use anyhow::bail;
use clap::Args;
use serde::Serialize;

use super::{publish, read_component};

/// The form of [`Verified`] as JSON.
const SCHEMA: &str = "aio-policy-verify/1";

/// Tell whether a policy is signed with a trusted key
///
/// Ends with exit code 0 if it is, and with another if it is not: what `aio run
/// --require-signature` would say. It is not compiled for that.
#[derive(Args)]
#[command(after_help = "\
Examples:
  aio policy verify mine.wasm --keys me.key.pub
  aio policy verify mine.wasm --keys trusted.keys --json | jq -r .name")]
pub(super) struct VerifyArgs {
    /// The component (.wasm)
    #[arg(value_name = "POLICY.wasm")]
    policy: PathBuf,
    /// The trusted keys: a public key a line, a name after it if wanted
    #[arg(long, value_name = "FILE")]
    keys: PathBuf,
    /// Print it as JSON (schema aio-policy-verify/1)
    #[arg(long)]
    json: bool,
}

#[derive(Serialize)]
struct Verified {
    schema: &'static str,
    /// Whether a trusted key has signed exactly this file.
    verified: bool,
    /// The signer's public key, in hexadecimal; absent where it does not verify.
    key: Option<String>,
    /// What the file of trusted keys calls it, if it has a name.
    name: Option<String>,
    /// Why it does not verify.
    reason: Option<String>,
}

/// Runs the command.
pub(super) fn run(args: &VerifyArgs) -> anyhow::Result<ExitCode> {
    let trusted = TrustedKeys::read(&args.keys)?;
    let policy = args.policy.display();
    let component = read_component(&args.policy)?;
    let result = verify(&component, &trusted);
    match &result {
        Err(reason) if !args.json => bail!("{policy} does not verify because {reason}"),
        _ => publish(&report(&result), args.json, || match &result {
            Ok(id) => format!("{policy} is signed by {id}\n"),
            Err(_) => String::new(),
        })?,
    }
    Ok(if result.is_ok() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn report(result: &Result<KeyId, SignatureError>) -> Verified {
    let id = result.as_ref().ok();
    Verified {
        schema: SCHEMA,
        verified: id.is_some(),
        key: id.map(|id| id.key.to_string()),
        name: id.and_then(|id| id.name.clone()),
        reason: result.as_ref().err().map(ToString::to_string),
    }
}
