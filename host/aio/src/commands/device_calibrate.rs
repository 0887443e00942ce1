//! `aio device calibrate`: a profile of this machine, and checking it.

use std::io::Write as _;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use aio_bench::calibrate::{self, CalibrateOptions, Report, profile_text};
use aio_engine::clock;
use aio_engine::device::DeviceOptions;
use aio_engine::device::cpu::CpuDevice;
use aio_engine::device::npu_sim::{Calibration, Profile};
use aio_models::{Catalogue, Target};
use aio_serve::TierSource;
use anyhow::{Context as _, anyhow, bail};
use clap::Args;

use super::bench::progress::BenchProgress;
use super::print;
use super::sources::tier_sources;

/// Measure this machine and write a profile of it; exits with 1 where a prediction of it is
/// off by more than 15 %
///
/// Passes of the cpu device are measured: decoding, verifying drafts of many lengths, and
/// prefill. The profile's numbers are fitted to at most half of them, and the table says how
/// well they predict the others. Nothing else should run meanwhile; it takes some minutes.
#[derive(Args)]
#[command(after_help = "\
Examples:
  aio device calibrate -o here.toml
  aio device check here.toml                # measures again, some other day
  aio run --device npu-sim:here.toml --explain \"Name three colours\"
  aio device calibrate --tiers smollm2-135m --rounds 5 --context 128,512 --force")]
pub struct CalibrateArgs {
    /// The models to measure: catalogue names or GGUF files, separated by commas; several,
    /// of different formats and sizes, make a better profile
    #[arg(long, value_delimiter = ',', value_name = "MODELS")]
    tiers: Vec<String>,
    /// Threads of the device (default: one for each physical core)
    #[arg(long, value_name = "N", value_parser = crate::commands::at_least_one)]
    threads: Option<NonZeroUsize>,
    /// Rounds; times are means over them. Passes longer than a second are measured in
    /// every other one
    #[arg(long, value_name = "N", default_value_t = 12)]
    rounds: usize,
    /// Tokens in the context of decoding and verifying
    #[arg(long, value_delimiter = ',', value_name = "TOKENS", default_value = "256,1024")]
    context: Vec<usize>,
    /// Rows of those passes
    #[arg(
        long,
        value_delimiter = ',',
        value_name = "ROWS",
        default_value = "1,2,3,4,5,6,8,12,16,24,32,48,64"
    )]
    rows: Vec<usize>,
    /// Tokens of prefills, each in one pass
    #[arg(long, value_delimiter = ',', value_name = "TOKENS", default_value = "128,512")]
    prefill: Vec<usize>,
    /// The profile's file; its name without .toml is the profile's name
    #[arg(short, long, value_name = "FILE.toml", default_value = "calibrated.toml")]
    out: PathBuf,
    /// Replace the file if there is one
    #[arg(long)]
    force: bool,
    /// Print what was measured and predicted as JSON
    #[arg(long)]
    json: bool,
}

/// Runs the command.
pub fn run(args: &CalibrateArgs) -> anyhow::Result<ExitCode> {
    let options = CalibrateOptions {
        rounds: args.rounds,
        contexts: args.context.clone(),
        rows: args.rows.clone(),
        prefill: args.prefill.clone(),
    };
    options.check()?;
    let name = name_of(&args.out)?;
    if args.out.exists() && !args.force {
        bail!("{} is there already; name another file, or give --force", args.out.display());
    }
    // Made before anything is measured, so that a long run does not end in an error about a
    // folder.
    let mut file = unfinished(&args.out)?;
    let device = cpu(args.threads)?;
    let sources = tier_sources(&args.tiers)?;
    let models = sources.iter().map(named).collect::<anyhow::Result<Vec<_>>>()?;
    let mut progress = BenchProgress::default();
    let (profile, report) =
        calibrate::calibrate(&sources, models, &device, &name, &options, &mut progress)?;
    let write_error = || format!("cannot write {}", args.out.display());
    file.write_all(profile_text(&profile, &clock::today()).as_bytes()).with_context(write_error)?;
    file.as_file().sync_all().with_context(write_error)?;
    let kept = if args.force {
        file.persist(&args.out).map_err(|error| error.error)
    } else {
        file.persist_noclobber(&args.out).map_err(|error| error.error)
    };
    kept.with_context(write_error)?;
    eprintln!("wrote {}", args.out.display());
    publish(&report, args.json)
}

/// Measures anew what a profile was made of.
pub fn check(profile: &Profile, calibration: &Calibration, json: bool) -> anyhow::Result<ExitCode> {
    let device = cpu(NonZeroUsize::new(calibration.threads))?;
    let sources = tier_sources(&calibration.models)?;
    let report = calibrate::check(profile, &sources, &device, &mut BenchProgress::default())?;
    publish(&report, json)
}

fn publish(report: &Report, json: bool) -> anyhow::Result<ExitCode> {
    if json {
        report.notes.iter().for_each(|note| eprintln!("{note}"));
        print(&(serde_json::to_string(&report.rows)? + "\n"))?;
    } else {
        print(&report.text())?;
    }
    Ok(if report.off() == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn cpu(threads: Option<NonZeroUsize>) -> anyhow::Result<CpuDevice> {
    CpuDevice::new(DeviceOptions { threads }).map_err(anyhow::Error::msg)
}

/// The profile's name, from its file's.
fn name_of(file: &Path) -> anyhow::Result<String> {
    let is_profile = file.extension().is_some_and(|extension| extension == "toml");
    let name = file.file_stem().and_then(|name| name.to_str()).filter(|_| is_profile);
    let name = name.ok_or_else(|| {
        anyhow!("{} is no name for a profile: give --out a file that ends in .toml", file.display())
    })?;
    Ok(name.to_owned())
}

/// A file beside the one that is to be, which takes its place when it is whole.
fn unfinished(out: &Path) -> anyhow::Result<tempfile::NamedTempFile> {
    let folder = out.parent().filter(|folder| !folder.as_os_str().is_empty());
    let mut builder = tempfile::Builder::new();
    // What the user writes, others may read, as with any file.
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt as _;
        builder.permissions(std::fs::Permissions::from_mode(0o666));
    }
    builder
        .prefix(".calibrate-")
        .tempfile_in(folder.unwrap_or_else(|| Path::new(".")))
        .with_context(|| format!("cannot write {}", out.display()))
}

/// What a source is found by again: its name in the catalogue, else its file.
fn named(source: &TierSource) -> anyhow::Result<String> {
    if let Ok(Target::Model(model)) = Catalogue::embedded().resolve(&source.name)
        && model.name == source.name
    {
        return Ok(source.name.clone());
    }
    let path = std::path::absolute(&source.path)
        .with_context(|| format!("cannot find {}", source.path.display()))?;
    path.into_os_string().into_string().map_err(|path| {
        anyhow!("{} cannot be written to a profile: its name is no Unicode", path.display())
    })
}
