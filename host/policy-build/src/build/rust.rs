//! Rust: cargo makes a core module for `wasm32-unknown-unknown`, which says itself
//! what world it is of.

use std::path::PathBuf;

use toml::{Table, Value};

use super::{Component, Project, is_file_name};
use crate::{Error, TARGET, Toolchain, ToolchainChoice, componentize, tool};

pub(super) fn build(project: &mut Project<'_>) -> Result<Component, Error> {
    let (name, library) = names(project)?;
    let toolchain = Toolchain::find(ToolchainChoice::Own)?;
    project.say(&format!("compiling {name} with {toolchain}"));
    // Where cargo itself would put it.
    let target = std::env::var_os("CARGO_TARGET_DIR")
        .map_or_else(|| project.folder.join("target"), PathBuf::from);
    let target = std::path::absolute(&target).map_err(Error::read(&target))?;
    let mut cargo = toolchain.cargo(project.folder, &name, &target);
    tool::must(cargo.args(["--release", "--lib", "--package", &name]), &name)?;
    let path = target.join(TARGET).join("release").join(format!("{library}.wasm"));
    if !path.is_file() {
        return Err(project.wrong(
            "the crate makes no WebAssembly module: write crate-type = [\"cdylib\"] under [lib]",
        ));
    }
    let module = std::fs::read(&path).map_err(Error::read(&path))?;
    project.say("making a component of it");
    let bytes = componentize(&name, &module, None)?;
    Ok(Component { name, bytes })
}

/// The package's name and its library's.
fn names(project: &Project<'_>) -> Result<(String, String), Error> {
    let text = project.read(&project.manifest)?;
    let manifest: Table = toml::from_str(&text)
        .map_err(|error| project.wrong(format!("this is no TOML: {}", error.message())))?;
    let name_in = |table: &str| manifest.get(table).and_then(|t: &Value| t.get("name")?.as_str());
    let Some(name) = name_in("package") else {
        return Err(project.wrong("there is no name under [package]: name a policy's own crate"));
    };
    if !is_file_name(name) {
        return Err(project.wrong(format!("the package cannot be called \"{name}\"")));
    }
    let library = name_in("lib").unwrap_or(name).replace('-', "_");
    Ok((name.to_owned(), library))
}
