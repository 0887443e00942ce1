//! The Rust toolchains that can build a policy, and how each is told to. What is
//! built is none of their business.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde::{Deserialize, Serialize};

use crate::{Error, Language, tool};

/// The target of a policy's core module: WebAssembly and nothing else.
pub const TARGET: &str = "wasm32-unknown-unknown";

/// Which toolchain to take.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum ToolchainChoice {
    /// The one that is there: Debian's if it is, since it builds the same on
    /// every machine that has it, else rustup's.
    #[default]
    Auto,
    /// The author's own: rustup's, which needs not build the standard library,
    /// else Debian's.
    Own,
    /// rustup's, with the target installed.
    Rustup,
    /// Debian's packages rustc-web, cargo-web and rust-web-src: the standard
    /// library is built from source.
    Debian,
}

/// What compiled and linked a module; the same builder makes the same bytes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Builder {
    /// Where the compiler comes from.
    pub toolchain: String,
    /// Compiler and code generator, without the machine they run on.
    pub compiler: String,
    /// The linker.
    pub linker: String,
}

/// A toolchain that is there.
#[derive(Debug)]
pub struct Toolchain {
    /// What it makes modules with.
    pub builder: Builder,
    cargo: PathBuf,
    rustc: PathBuf,
    sysroot: PathBuf,
    /// The linker to name, where the compiler has none of its own.
    linker: Option<PathBuf>,
    /// Whether the standard library is built too.
    builds_std: bool,
}

impl std::fmt::Display for Toolchain {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Builder { toolchain, compiler, linker } = &self.builder;
        write!(f, "{toolchain}'s {compiler} and {linker}")
    }
}

impl Toolchain {
    /// Finds the toolchain chosen.
    ///
    /// # Errors
    /// When it is not there, with how to get it.
    pub fn find(choice: ToolchainChoice) -> Result<Self, Error> {
        let neither = |_| absent(format!("install {DEBIAN} on Debian, or anywhere {RUSTUP}"));
        match choice {
            ToolchainChoice::Rustup => rustup(),
            ToolchainChoice::Debian => debian(),
            ToolchainChoice::Auto => debian().or_else(|_| rustup()).map_err(neither),
            ToolchainChoice::Own => rustup().or_else(|_| debian()).map_err(neither),
        }
    }
}

const RUSTUP: &str =
    "run `rustup target add wasm32-unknown-unknown` (https://rustup.rs has rustup)";
const DEBIAN: &str = "rustc-web, cargo-web, rust-web-src and lld";

fn absent(advice: String) -> Error {
    Error::ToolAbsent {
        language: Language::Rust,
        tool: "a compiler for wasm32-unknown-unknown",
        advice,
    }
}

fn rustup() -> Result<Toolchain, Error> {
    let cargo = PathBuf::from(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    let rustc = PathBuf::from(std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into()));
    let sysroot = sysroot(&rustc)?;
    if !sysroot.join("lib/rustlib").join(TARGET).is_dir() {
        return Err(absent(RUSTUP.into()));
    }
    // The compiler brings its own linker, of the same LLVM.
    let builder = Builder {
        toolchain: "rustup".into(),
        compiler: compiler(&rustc)?,
        linker: "rust-lld".into(),
    };
    Ok(Toolchain { builder, cargo, rustc, sysroot, linker: None, builds_std: false })
}

fn debian() -> Result<Toolchain, Error> {
    let advice = || absent(format!("install Debian's {DEBIAN}"));
    let (cargo, rustc) = (PathBuf::from("/usr/bin/cargo"), PathBuf::from("/usr/bin/rustc"));
    if !cargo.is_file() || !rustc.is_file() {
        return Err(advice());
    }
    let sysroot = sysroot(&rustc)?;
    if !sysroot.join("lib/rustlib/src/rust/library/std").is_dir() {
        return Err(advice());
    }
    let linker = tool::newest_in(Path::new("/usr/bin"), "wasm-ld").ok_or_else(advice)?;
    let builder = Builder {
        toolchain: "debian".into(),
        compiler: compiler(&rustc)?,
        linker: tool::output(&linker, &["--version"])?,
    };
    Ok(Toolchain { builder, cargo, rustc, sysroot, linker: Some(linker), builds_std: true })
}

/// Compiler and code generator from `rustc -vV`, without the host machine: its
/// bytes do not depend on it.
fn compiler(rustc: &Path) -> Result<String, Error> {
    let text = tool::output(rustc, &["-vV"])?;
    let field = |name: &str| {
        text.lines().find_map(|line| line.strip_prefix(name)).map_or("unknown", str::trim)
    };
    Ok(format!(
        "rustc {} ({}), LLVM {}",
        field("release:"),
        field("commit-hash:"),
        field("LLVM version:")
    ))
}

fn sysroot(rustc: &Path) -> Result<PathBuf, Error> {
    Ok(tool::output(rustc, &["--print", "sysroot"])?.into())
}

impl Toolchain {
    /// A `cargo build` for [`TARGET`] that makes the same bytes wherever the folder
    /// `root` stands: paths in it are called `called`. What to build, and how, is to
    /// be added.
    pub fn cargo(&self, root: &Path, called: &str, target: &Path) -> Command {
        let mut command = Command::new(&self.cargo);
        command
            .current_dir(root)
            .args(["build", "--target", TARGET, "--target-dir"])
            .arg(target)
            .env("RUSTC", &self.rustc)
            .env("CARGO_ENCODED_RUSTFLAGS", self.flags(root, called))
            .env_remove("RUSTFLAGS")
            .env_remove("RUSTC_WRAPPER")
            .env_remove("RUSTC_WORKSPACE_WRAPPER")
            .env_remove("LD_LIBRARY_PATH");
        if self.builds_std {
            command.args(["-Zbuild-std=std,panic_abort"]).env("RUSTC_BOOTSTRAP", "1");
        }
        if let Some(linker) = &self.linker {
            command.env("CARGO_TARGET_WASM32_UNKNOWN_UNKNOWN_LINKER", linker);
        }
        command
    }

    /// Flags that take the machine's paths out of the code: panic messages name
    /// their source file.
    fn flags(&self, root: &Path, called: &str) -> OsString {
        let mut prefixes = vec![(root.to_owned(), called)];
        prefixes.extend(registries().into_iter().map(|path| (path, "registry")));
        let source = self.sysroot.join("lib/rustlib/src/rust");
        // Debian's source folder is a link; both of its names occur.
        prefixes.extend(source.canonicalize().ok().map(|path| (path, "rust")));
        prefixes.push((source, "rust"));
        let mut flags = OsString::new();
        for (path, name) in prefixes {
            if !flags.is_empty() {
                // What separates flags in this variable.
                flags.push("\u{1f}");
            }
            flags.push("--remap-path-prefix=");
            flags.push(path);
            flags.push("=");
            flags.push(name);
        }
        flags
    }
}

/// Where cargo unpacks crates: a folder for each registry, with the registry's
/// name in it, which is another one where a mirror is used.
fn registries() -> Vec<PathBuf> {
    let home = std::env::var_os("CARGO_HOME")
        .map(PathBuf::from)
        .or_else(|| Some(PathBuf::from(std::env::var_os("HOME")?).join(".cargo")));
    let folders = home.and_then(|home| std::fs::read_dir(home.join("registry/src")).ok());
    folders.into_iter().flatten().filter_map(|entry| Some(entry.ok()?.path())).collect()
}
