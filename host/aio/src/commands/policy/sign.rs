//! `aio policy sign`: a signature for a component.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use aio_policy::{SigningKey, sign};
use anyhow::{Context, bail};
use clap::Args;

use super::read_component;

/// Sign a policy
///
/// The signature is put at the component's end, where WebAssembly tools skip it; one
/// that it has is replaced. The file becomes the signed one at once, so that a host
/// that watches it never sees half of it. It is another file then: its digest, by
/// which records and replays know it, changes.
#[derive(Args)]
#[command(after_help = "\
Examples:
  aio policy sign mine.wasm --key me.key
  aio policy sign mine.wasm --key me.key --out signed.wasm")]
pub(super) struct SignArgs {
    /// The component (.wasm)
    #[arg(value_name = "POLICY.wasm")]
    policy: PathBuf,
    /// The private key, as `aio policy keygen` has written it
    #[arg(long, value_name = "FILE")]
    key: PathBuf,
    /// Where to write the signed component (default: in place)
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
}

/// Runs the command.
pub(super) fn run(args: &SignArgs) -> anyhow::Result<ExitCode> {
    let key = SigningKey::read(&args.key)?;
    let policy = args.policy.display();
    let component = read_component(&args.policy)?;
    let signed = match sign(&component, &key) {
        Ok(signed) => signed,
        Err(reason) => bail!("{policy} cannot be signed because {reason}"),
    };
    let out = args.out.as_ref().unwrap_or(&args.policy);
    replace(out, &signed, &args.policy)
        .with_context(|| format!("cannot write the signed policy to {}", out.display()))?;
    eprintln!("{} is signed by the key {}", out.display(), key.public());
    Ok(ExitCode::SUCCESS)
}

/// Puts bytes into a file's place all at once, with the permissions of the file that
/// stands there, or else of `like`.
fn replace(path: &Path, bytes: &[u8], like: &Path) -> std::io::Result<()> {
    // What a link points to is replaced, not the link.
    let path = match std::fs::canonicalize(path) {
        Ok(path) => path,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => path.to_owned(),
        Err(error) => return Err(error),
    };
    let permissions = std::fs::metadata(&path).or_else(|_| std::fs::metadata(like))?.permissions();
    // Renaming needs the same file system, hence the same folder.
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
    let mut file = tempfile::NamedTempFile::new_in(folder.unwrap_or(Path::new(".")))?;
    file.write_all(bytes)?;
    file.as_file().set_permissions(permissions)?;
    file.as_file().sync_all()?;
    file.persist(&path).map_err(|error| error.error)?;
    Ok(())
}
