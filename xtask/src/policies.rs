//! The shipped policies: build them, put them into `policies/prebuilt`, and
//! check that what stands there is what the source says.

use std::path::Path;
use std::process::Command;

use aio_policy_build::{Builder, TARGET, Toolchain, componentize};
use anyhow::{Context, Result, bail, ensure};

use crate::Workspace;
use crate::checksums::{Checksums, Entry};

/// The shipped policies. The crate of each is `aio-policy-NAME`.
const POLICIES: &[&str] = &["aio", "fixed", "goodput"];

/// The policies named, or all.
pub(crate) fn select(only: &[String]) -> Result<Vec<&'static str>> {
    if only.is_empty() {
        return Ok(POLICIES.to_vec());
    }
    let find = |name: &String| {
        POLICIES.iter().copied().find(|policy| policy == name).with_context(|| {
            format!("there is no policy \"{name}\": --only takes {}", POLICIES.join(" or "))
        })
    };
    only.iter().map(find).collect()
}

/// That what is shipped was built with this kind of toolchain, as far as anything is. Which
/// one a machine happens to have must not decide: one's standard library makes components
/// larger by a tenth.
pub(crate) fn ensure_same_toolchain(
    workspace: &Workspace,
    names: &[&str],
    toolchain: &Toolchain,
) -> Result<()> {
    same_toolchain(&Checksums::read(&workspace.prebuilt())?, names, &toolchain.builder)
}

fn same_toolchain(checksums: &Checksums, names: &[&str], builder: &Builder) -> Result<()> {
    for name in names {
        let Some(entry) = checksums.get(name) else { continue };
        let (shipped, here) = (&entry.builder.toolchain, &builder.toolchain);
        ensure!(
            shipped == here,
            "{name} is shipped as {shipped}'s toolchain builds it, and {here}'s, which would be \
             taken here, builds another: say `cargo xtask policies --toolchain {shipped}` (and \
             install that), or `--toolchain {here}` to ship what that one builds"
        );
    }
    Ok(())
}

/// Builds the policies into `policies/prebuilt` and writes their checksums.
pub(crate) fn rebuild(workspace: &Workspace, names: &[&str], toolchain: &Toolchain) -> Result<()> {
    let folder = workspace.prebuilt();
    std::fs::create_dir_all(&folder)
        .with_context(|| format!("cannot make the folder {}", folder.display()))?;
    let mut checksums = Checksums::read(&folder)?;
    for name in names {
        let component = build(workspace, name, toolchain)?;
        let before = checksums.get(name).map(|entry| entry.sha256.clone());
        let entry = Entry::of(&component, &toolchain.builder);
        let change = if before.as_ref() == Some(&entry.sha256) { "unchanged" } else { "changed" };
        println!("{name}: {} bytes, {change}, sha256 {}", entry.bytes, entry.sha256);
        write(&folder, name, &component)?;
        checksums.set(name, entry);
    }
    checksums.write(&folder)
}

/// Rebuilds the policies elsewhere and holds them against `policies/prebuilt`.
pub(crate) fn check(workspace: &Workspace, names: &[&str], toolchain: &Toolchain) -> Result<()> {
    let folder = workspace.prebuilt();
    let checksums = Checksums::read(&folder)?;
    let rebuilt = tempfile::tempdir().context("cannot make a temporary folder")?;
    let mut by_another = false;
    // The tests want every policy, also with `--only`: begin with those shipped.
    for name in POLICIES {
        let shipped = read(&folder, name)?;
        write(rebuilt.path(), name, &shipped)?;
    }
    for name in names {
        let shipped = read(&folder, name)?;
        let entry = checksums.get(name).with_context(|| {
            format!("checksums.toml knows no {name}: run `cargo xtask policies --only {name}`")
        })?;
        ensure!(
            entry.is_of(&shipped),
            "policies/prebuilt/{name}.wasm is not the component that checksums.toml names: run \
             `cargo xtask policies --only {name}`"
        );
        let component = build(workspace, name, toolchain)?;
        write(rebuilt.path(), name, &component)?;
        if entry.builder != toolchain.builder {
            println!(
                "{name}: was built by {} and {}, so its bytes cannot be compared",
                entry.builder.compiler, entry.builder.linker
            );
            by_another = true;
            continue;
        }
        ensure!(
            component == shipped,
            "policies/prebuilt/{name}.wasm is not what its source builds to ({} bytes, not {}): \
             run `cargo xtask policies --only {name}` and commit the result",
            component.len(),
            shipped.len()
        );
        println!("{name}: the same {} bytes", shipped.len());
    }
    if by_another {
        test(workspace, rebuilt.path())?;
        println!("the policies rebuilt with this compiler load and decide as they should");
    }
    Ok(())
}

/// Compiles a policy's crate and makes a component of it.
fn build(workspace: &Workspace, name: &str, toolchain: &Toolchain) -> Result<Vec<u8>> {
    let package = format!("aio-policy-{name}");
    let status = toolchain
        .cargo(&workspace.root, "aio", &workspace.target)
        .args(["--quiet", "--locked", "--profile", "policy", "--package", &package])
        .status()
        .context("cannot run cargo")?;
    ensure!(status.success(), "{package} does not build for {TARGET}: see cargo's messages above");
    let file = format!("{}.wasm", package.replace('-', "_"));
    let path = workspace.target.join(TARGET).join("policy").join(file);
    let module = std::fs::read(&path).with_context(|| format!("cannot read {}", path.display()))?;
    Ok(componentize(&package, &module, None)?)
}

/// Runs the tests of shipped policies against the components in a folder.
fn test(workspace: &Workspace, components: &Path) -> Result<()> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let status = Command::new(cargo)
        .current_dir(&workspace.root)
        .args(["test", "--quiet", "--package", "aio-policy", "--test", "prebuilt"])
        .env("AIO_PREBUILT_DIR", components)
        .status()
        .context("cannot run cargo")?;
    ensure!(
        status.success(),
        "the policies rebuilt with this compiler fail their tests: see above which and how"
    );
    Ok(())
}

fn read(folder: &Path, name: &str) -> Result<Vec<u8>> {
    let path = folder.join(name).with_extension("wasm");
    match std::fs::read(&path) {
        Ok(bytes) => Ok(bytes),
        Err(error) => {
            bail!("cannot read {} ({error}): run `cargo xtask policies`", path.display())
        }
    }
}

fn write(folder: &Path, name: &str, component: &[u8]) -> Result<()> {
    let path = folder.join(name).with_extension("wasm");
    std::fs::write(&path, component).with_context(|| format!("cannot write {}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_policy_that_is_not_there_is_refused_with_those_there_are() {
        assert_eq!(select(&[]).unwrap(), POLICIES);
        assert_eq!(select(&["fixed".into()]).unwrap(), ["fixed"]);
        assert_eq!(
            select(&["fxed".into()]).unwrap_err().to_string(),
            "there is no policy \"fxed\": --only takes aio or fixed or goodput"
        );
    }

    #[test]
    fn a_policy_is_not_rebuilt_with_another_toolchain_unasked() {
        let builder = |toolchain: &str, compiler: &str| Builder {
            toolchain: toolchain.into(),
            compiler: compiler.into(),
            linker: "LLD 1".into(),
        };
        let mut checksums = Checksums::default();
        checksums.set("fixed", Entry::of(b"component", &builder("debian", "rustc 1")));
        let names = ["new", "fixed"];
        assert!(same_toolchain(&checksums, &names, &builder("debian", "rustc 2")).is_ok());
        let refusal = same_toolchain(&checksums, &names, &builder("rustup", "rustc 1"));
        let refusal = refusal.unwrap_err().to_string();
        assert!(refusal.contains("fixed") && refusal.contains("--toolchain rustup"), "{refusal}");
        assert!(same_toolchain(&checksums, &["new"], &builder("rustup", "rustc 1")).is_ok());
    }
}
