//! C: bindings are generated from the project's world, clang and wasm-ld make a
//! core module, and the world is written into it.

use std::path::{Path, PathBuf};
use std::process::Command;

use wit_bindgen_core::Files;

use super::{Component, Project, is_file_name};
use crate::{Error, Language, World, componentize, tool};

/// A policy brings no C library along; `libc/` declares what the bindings want of
/// one.
const COMPILE: [&str; 7] =
    ["--target=wasm32", "-Os", "-mbulk-memory", "-ffreestanding", "-Wall", "-Wextra", "-isystem"];

const LINK: [&str; 3] = ["--no-entry", "--gc-sections", "--strip-all"];

pub(super) fn build(project: &mut Project<'_>) -> Result<Component, Error> {
    let name = name(project)?;
    let world = project.world()?;
    let (clang, linker) = tools()?;
    let scratch = project.scratch()?;
    let bindings = scratch.join("bindings");
    let generated = bind(project, &bindings)?;
    let mut sources = sources(project.folder)?;
    sources.extend(generated);
    project.say(&format!("compiling {name} with clang"));
    let mut objects = Vec::new();
    for source in sources {
        let stem = source.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        // Apart, for a source may be called as a generated one is.
        let folder = if source.starts_with(&bindings) { &bindings } else { &scratch };
        let object = folder.join(format!("{stem}.o"));
        let mut command = Command::new(&clang);
        command.current_dir(project.folder).args(COMPILE).arg("libc").arg("-I").arg(&bindings);
        // A path in the project's folder, so that messages are short.
        let source = source.strip_prefix(project.folder).unwrap_or(&source);
        tool::must(command.arg("-c").arg(source).arg("-o").arg(&object), &name)?;
        objects.push(object);
    }
    let module = scratch.join("module.wasm");
    let mut command = Command::new(&linker);
    tool::must(command.args(LINK).args(&objects).arg("-o").arg(&module), &name)?;
    project.say("making a component of it");
    let module = std::fs::read(&module).map_err(Error::read(&module))?;
    let bytes = componentize(&name, &module, Some(&world))?;
    Ok(Component { name, bytes })
}

/// A C project has no manifest that could name it: its folder does.
fn name(project: &Project<'_>) -> Result<String, Error> {
    let name = project.folder.file_name().unwrap_or_default().to_string_lossy().into_owned();
    if is_file_name(&name) {
        return Ok(name);
    }
    Err(project.wrong("its folder's name is the component's: call it by letters and hyphens"))
}

fn tools() -> Result<(PathBuf, PathBuf), Error> {
    match (tool::newest("clang"), tool::newest("wasm-ld")) {
        (Some(clang), Some(linker)) => Ok((clang, linker)),
        _ => Err(Error::ToolAbsent {
            language: Language::C,
            tool: "clang and wasm-ld",
            advice: "install clang and lld (Debian: apt-get install clang lld)".into(),
        }),
    }
}

/// The C files beside the manifest, in order of their names.
fn sources(folder: &Path) -> Result<Vec<PathBuf>, Error> {
    let mut sources = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(Error::read(folder))? {
        let path = entry.map_err(Error::read(folder))?.path();
        if path.extension().is_some_and(|extension| extension == "c") {
            sources.push(path);
        }
    }
    sources.sort();
    Ok(sources)
}

/// Writes the bindings into an emptied folder; returns the C files among them.
fn bind(project: &Project<'_>, folder: &Path) -> Result<Vec<PathBuf>, Error> {
    if folder.exists() {
        std::fs::remove_dir_all(folder).map_err(Error::write(folder))?;
    }
    std::fs::create_dir_all(folder).map_err(Error::write(folder))?;
    // The world itself is written into the module, so no object file has to.
    let options = wit_bindgen_c::Opts { no_object_file: true, ..Default::default() };
    // Generating changes the world, so it gets one of its own.
    let World { mut resolve, id } = project.world()?;
    let mut files = Files::default();
    options.build().generate(&mut resolve, id, &mut files).map_err(|error| Error::Wit {
        path: project.folder.join("wit"),
        reason: format!("it has no bindings in C: {error:#}"),
    })?;
    let mut sources = Vec::new();
    for (name, contents) in files.iter() {
        let path = folder.join(name);
        std::fs::write(&path, contents).map_err(Error::write(&path))?;
        if name.ends_with(".c") {
            sources.push(path);
        }
    }
    Ok(sources)
}
