//! The toolchains that can build a policy, and how each is told to. What is
//! built is none of their business.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};
use clap::ValueEnum;

use crate::checksums::Builder;

/// The target of a policy's core module: WebAssembly and nothing else.
pub(crate) const TARGET: &str = "wasm32-unknown-unknown";

/// Which toolchain to take.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum ToolchainChoice {
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

/// A toolchain that is there.
pub(crate) struct Toolchain {
    pub(crate) builder: Builder,
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

/// Finds the toolchain chosen.
pub(crate) fn find(choice: ToolchainChoice) -> Result<Toolchain> {
    match choice {
        ToolchainChoice::Rustup => rustup(),
        ToolchainChoice::Debian => debian(),
        ToolchainChoice::Auto => debian().or_else(|_| rustup()).map_err(|_| {
            anyhow::anyhow!(
                "no toolchain here builds {TARGET}: run `rustup target add {TARGET}`, or on \
                 Debian install rustc-web, cargo-web, rust-web-src and lld"
            )
        }),
    }
}

fn rustup() -> Result<Toolchain> {
    let cargo = PathBuf::from(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    let rustc = PathBuf::from(std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into()));
    let sysroot = sysroot(&rustc)?;
    if !sysroot.join("lib/rustlib").join(TARGET).is_dir() {
        bail!("rustup's toolchain lacks {TARGET}: run `rustup target add {TARGET}`");
    }
    // The compiler brings its own linker, of the same LLVM.
    let builder = Builder {
        toolchain: "rustup".into(),
        compiler: compiler(&rustc)?,
        linker: "rust-lld".into(),
    };
    Ok(Toolchain { builder, cargo, rustc, sysroot, linker: None, builds_std: false })
}

fn debian() -> Result<Toolchain> {
    let (cargo, rustc) = (PathBuf::from("/usr/bin/cargo"), PathBuf::from("/usr/bin/rustc"));
    let advice = "install Debian's rustc-web, cargo-web, rust-web-src and lld";
    if !cargo.is_file() || !rustc.is_file() {
        bail!("/usr/bin has no cargo and rustc: {advice}");
    }
    let sysroot = sysroot(&rustc)?;
    if !sysroot.join("lib/rustlib/src/rust/library/std").is_dir() {
        bail!("the standard library's source is missing: {advice}");
    }
    let Some(linker) = find_wasm_ld() else {
        bail!("there is no wasm-ld: {advice}");
    };
    let builder = Builder {
        toolchain: "debian".into(),
        compiler: compiler(&rustc)?,
        linker: output(&linker, &["--version"])?,
    };
    Ok(Toolchain { builder, cargo, rustc, sysroot, linker: Some(linker), builds_std: true })
}

/// The newest wasm-ld: Debian puts the version into the name (`wasm-ld-22`).
fn find_wasm_ld() -> Option<PathBuf> {
    let version = |path: &Path| -> Option<u32> {
        let rest = path.file_name()?.to_str()?.strip_prefix("wasm-ld")?;
        if rest.is_empty() { Some(0) } else { rest.strip_prefix('-')?.parse().ok() }
    };
    let entries = std::fs::read_dir("/usr/bin").ok()?;
    entries
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter_map(|path| Some((version(&path)?, path)))
        .max()
        .map(|(_, path)| path)
}

/// Compiler and code generator from `rustc -vV`, without the host machine: its
/// bytes do not depend on it.
fn compiler(rustc: &Path) -> Result<String> {
    let text = output(rustc, &["-vV"])?;
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

fn sysroot(rustc: &Path) -> Result<PathBuf> {
    Ok(output(rustc, &["--print", "sysroot"])?.into())
}

fn output(program: &Path, arguments: &[&str]) -> Result<String> {
    let output = Command::new(program)
        .args(arguments)
        // cargo sets this for what it runs, and it would lead one toolchain's
        // compiler to another one's libraries.
        .env_remove("LD_LIBRARY_PATH")
        .output()
        .with_context(|| format!("cannot run {}", program.display()))?;
    if !output.status.success() {
        bail!("{} {} failed", program.display(), arguments.join(" "));
    }
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

impl Toolchain {
    /// A cargo command that compiles a package for [`TARGET`] to the same bytes
    /// wherever the checkout stands.
    pub(crate) fn build(&self, package: &str, root: &Path, target: &Path) -> Command {
        let mut command = Command::new(&self.cargo);
        command
            .current_dir(root)
            .args(["build", "--quiet", "--locked", "--profile", "policy", "--package", package])
            .args(["--target", TARGET, "--target-dir"])
            .arg(target)
            .env("RUSTC", &self.rustc)
            .env("CARGO_ENCODED_RUSTFLAGS", self.flags(root))
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
    fn flags(&self, root: &Path) -> OsString {
        let mut prefixes = vec![(root.to_owned(), "aio")];
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
