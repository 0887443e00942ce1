//! Python: componentize-py, of the version that the project names, puts the policy
//! and an interpreter into a component.

use std::path::{Path, PathBuf};
use std::process::Command;

use toml::{Table, Value};

use super::{Component, Project, is_file_name};
use crate::{Error, Language, tool};

/// How to get a Python that componentize-py runs on.
const GET_PYTHON: &str = "install Python 3.10 or later with its venv module (Debian: python3-venv)";

/// The module with the policy.
const MODULE: &str = "policy";

pub(super) fn build(project: &mut Project<'_>) -> Result<Component, Error> {
    let (name, requirements) = manifest(project)?;
    project.must_have("policy.py")?;
    let world = project.world()?;
    let tool = componentize_py(project, &requirements)?;
    project.say("making a component of policy.py");
    let output = project.scratch()?.join("component.wasm");
    let mut command = Command::new(tool);
    command
        .current_dir(project.folder)
        // Its stack says nothing to the policy's author.
        .env_remove("RUST_BACKTRACE")
        .args(["--wit-path", "wit", "--world", world.name()])
        // What would be WASI does nothing: a policy has none.
        .args(["componentize", "--stub-wasi", MODULE, "--output"])
        .arg(&output);
    tool::must(&mut command, &name)?;
    let bytes = std::fs::read(&output).map_err(Error::read(&output))?;
    Ok(Component { name, bytes })
}

/// The project's name, and what pip is to install to build it.
fn manifest(project: &Project<'_>) -> Result<(String, Vec<String>), Error> {
    let text = project.read(&project.manifest)?;
    let manifest: Table = toml::from_str(&text)
        .map_err(|error| project.wrong(format!("this is no TOML: {}", error.message())))?;
    let name = manifest.get("project").and_then(|project| project.get("name")?.as_str());
    let Some(name) = name.filter(|name| is_file_name(name)) else {
        return Err(project.wrong(
            "a name of letters, digits and hyphens is missing under [project]: it is the \
             component's",
        ));
    };
    let group = manifest.get("dependency-groups").and_then(|groups| groups.get("build"));
    let listed = group.and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str);
    let requirements: Vec<String> = listed.map(str::to_owned).collect();
    if !requirements.iter().any(|requirement| requirement.starts_with("componentize-py")) {
        return Err(project.wrong(
            "it names no componentize-py: write build = [\"componentize-py==VERSION\"] under \
             [dependency-groups]",
        ));
    }
    Ok((name.to_owned(), requirements))
}

/// componentize-py in an environment of the project's own, installed where it is
/// not there yet or the manifest names another version.
fn componentize_py(project: &mut Project<'_>, requirements: &[String]) -> Result<PathBuf, Error> {
    let venv = project.scratch()?.join("venv");
    let (program, note) = (venv.join("bin/componentize-py"), venv.join("installed.txt"));
    let wanted = requirements.join("\n");
    if program.is_file() && std::fs::read_to_string(&note).is_ok_and(|text| text == wanted) {
        return Ok(program);
    }
    let absent = |tool, advice: &str| Error::ToolAbsent {
        language: Language::Python,
        tool,
        advice: advice.to_owned(),
    };
    let python = tool::find("python3").ok_or_else(|| absent("Python", GET_PYTHON))?;
    project.say("installing componentize-py with pip (about 100 MB, once)");
    let mut command = Command::new(python);
    if !tool::run(command.args(["-m", "venv", "--clear"]).arg(&venv))? {
        return Err(absent("Python with venv", GET_PYTHON));
    }
    if !tool::run(&mut pip(&venv, requirements))? {
        return Err(absent("componentize-py", "pip could not install it: see what it says above"));
    }
    std::fs::write(&note, wanted).map_err(Error::write(&note))?;
    Ok(program)
}

fn pip(venv: &Path, requirements: &[String]) -> Command {
    let mut pip = Command::new(venv.join("bin/python"));
    pip.args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--"]);
    pip.args(requirements);
    pip
}
