//! Repository chores, run as `cargo xtask NAME`. Nothing that a user of `aio`
//! needs is here.

mod checksums;
mod policies;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use aio_policy_build::{Toolchain, ToolchainChoice, World, componentize};
use anyhow::{Context, Result};
use clap::{Parser, Subcommand, ValueEnum};

#[derive(Parser)]
#[command(name = "cargo xtask", about = "Repository chores")]
struct Arguments {
    #[command(subcommand)]
    chore: Chore,
}

#[derive(Subcommand)]
enum Chore {
    /// Rebuilds the shipped policies into policies/prebuilt.
    Policies {
        /// Changes nothing: rebuilds elsewhere and holds the result against
        /// policies/prebuilt. Bytes must be the same where the compiler is the
        /// same; elsewhere the rebuilt policies are tested.
        #[arg(long)]
        check: bool,
        /// Only this policy; may be repeated.
        #[arg(long, value_name = "NAME")]
        only: Vec<String>,
        /// Which toolchain builds them.
        #[arg(long, value_enum, default_value_t)]
        toolchain: Choice,
    },
    /// Makes a component of a core module, as `wasm-tools component` does: for
    /// policies in languages whose compiler makes core modules.
    Component {
        /// The core module.
        module: PathBuf,
        /// Folder of the WIT package that has the world, its dependencies in `deps`.
        /// Leave it out where the module says itself which world it is of.
        #[arg(long, requires = "world")]
        wit: Option<PathBuf>,
        /// The world that the module was built for.
        #[arg(long, requires = "wit")]
        world: Option<String>,
        /// Where to write the component.
        #[arg(short, long)]
        output: PathBuf,
    },
}

/// Which toolchain to take.
#[derive(Clone, Copy, Default, ValueEnum)]
enum Choice {
    /// The one that is there: Debian's if it is, since it builds the same on
    /// every machine that has it, else rustup's.
    #[default]
    Auto,
    /// rustup's, with the target installed.
    Rustup,
    /// Debian's packages rustc-web, cargo-web and rust-web-src: the standard
    /// library is built from source.
    Debian,
}

impl From<Choice> for ToolchainChoice {
    fn from(choice: Choice) -> Self {
        match choice {
            Choice::Auto => Self::Auto,
            Choice::Rustup => Self::Rustup,
            Choice::Debian => Self::Debian,
        }
    }
}

fn main() -> ExitCode {
    let done = match Arguments::parse().chore {
        Chore::Policies { check, only, toolchain } => run(check, &only, toolchain.into()),
        Chore::Component { module, wit, world, output } => {
            component(&module, wit.as_deref().zip(world.as_deref()), &output)
        }
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(check: bool, only: &[String], choice: ToolchainChoice) -> Result<()> {
    let workspace = Workspace::find()?;
    let names = policies::select(only)?;
    let toolchain = Toolchain::find(choice)?;
    println!("building with {toolchain}");
    if check {
        return policies::check(&workspace, &names, &toolchain);
    }
    if matches!(choice, ToolchainChoice::Auto) {
        policies::ensure_same_toolchain(&workspace, &names, &toolchain)?;
    }
    policies::rebuild(&workspace, &names, &toolchain)
}

/// Makes a component of the module in a file. `world`: the folder of its WIT
/// package and the world's name, where the module does not say.
fn component(module: &Path, world: Option<(&Path, &str)>, output: &Path) -> Result<()> {
    let bytes =
        std::fs::read(module).with_context(|| format!("cannot read {}", module.display()))?;
    let world = world.map(|(folder, name)| World::read(folder, Some(name))).transpose()?;
    let component = componentize(&module.display().to_string(), &bytes, world.as_ref())?;
    std::fs::write(output, &component)
        .with_context(|| format!("cannot write {}", output.display()))?;
    println!("{}: {} bytes", output.display(), component.len());
    Ok(())
}

/// Where things are.
pub(crate) struct Workspace {
    /// The repository's top folder.
    pub(crate) root: PathBuf,
    /// Where policies are compiled: apart from the workspace's own target
    /// folder, so that neither build waits for the other.
    pub(crate) target: PathBuf,
}

impl Workspace {
    fn find() -> Result<Self> {
        // Asked when it runs and not when it is compiled: a moved checkout works.
        let manifest = std::env::var_os("CARGO_MANIFEST_DIR")
            .context("run this as `cargo xtask`, so that cargo says where the repository is")?;
        let root = Path::new(&manifest)
            .parent()
            .context("xtask's folder has no parent: run this from a checkout")?
            .to_owned();
        let target = std::env::var_os("CARGO_TARGET_DIR")
            .map_or_else(|| root.join("target"), PathBuf::from)
            .join("policies");
        Ok(Self { root, target })
    }

    /// Where the shipped components stand.
    pub(crate) fn prebuilt(&self) -> PathBuf {
        self.root.join("policies/prebuilt")
    }
}
