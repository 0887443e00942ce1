//! Repository chores, run as `cargo xtask NAME`. Nothing that a user of `aio`
//! needs is here.

mod checksums;
mod component;
mod policies;
mod toolchain;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result};
use clap::{Parser, Subcommand};

use crate::toolchain::ToolchainChoice;

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
        toolchain: ToolchainChoice,
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

fn main() -> ExitCode {
    let done = match Arguments::parse().chore {
        Chore::Policies { check, only, toolchain } => run(check, &only, toolchain),
        Chore::Component { module, wit, world, output } => {
            component::make(&module, wit.as_deref().zip(world.as_deref()), &output)
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
    let toolchain = toolchain::find(choice)?;
    println!("building with {toolchain}");
    if check {
        policies::check(&workspace, &names, &toolchain)
    } else {
        policies::rebuild(&workspace, &names, &toolchain)
    }
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
