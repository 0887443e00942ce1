//! JavaScript: componentize-qjs, of the version that the project names, puts the
//! policy and an engine into a component.

use std::path::Path;
use std::process::Command;

use serde_json::Value;

use super::{Component, Project, is_file_name};
use crate::{Error, Language, tool};

/// Oldest Node.js that componentize-qjs is tried with.
const NODE: u32 = 20;

/// The package that makes components.
const PACKAGE: &str = "componentize-qjs";

/// Makes the component; run by Node.js with source, WIT folder, world and output.
const SCRIPT: &str = include_str!("componentize.mjs");

pub(super) fn build(project: &mut Project<'_>) -> Result<Component, Error> {
    let (name, source) = manifest(project)?;
    project.must_have(&source)?;
    let world = project.world()?;
    let node = node()?;
    // componentize-qjs says that there are errors, but not where.
    let mut check = Command::new(&node);
    tool::must(check.current_dir(project.folder).args(["--check", source.as_str()]), &name)?;
    install(project)?;
    project.say(&format!("making a component of {source}"));
    let scratch = project.scratch()?;
    let (script, output) = (scratch.join("componentize.mjs"), scratch.join("component.wasm"));
    std::fs::write(&script, SCRIPT).map_err(Error::write(&script))?;
    let mut command = Command::new(node);
    command.current_dir(project.folder).arg(&script).args([source.as_str(), "wit", world.name()]);
    tool::must(command.arg(&output), &name)?;
    let bytes = std::fs::read(&output).map_err(Error::read(&output))?;
    Ok(Component { name, bytes })
}

/// The package's name and the file with the policy.
fn manifest(project: &Project<'_>) -> Result<(String, String), Error> {
    let text = project.read(&project.manifest)?;
    let manifest: Value = serde_json::from_str(&text)
        .map_err(|error| project.wrong(format!("this is no JSON: {error}")))?;
    let field = |name: &str| manifest.get(name).and_then(Value::as_str);
    let Some(name) = field("name").filter(|name| is_file_name(name)) else {
        return Err(project
            .wrong("a \"name\" of letters, digits and hyphens is missing: it is the component's"));
    };
    let lists = ["devDependencies", "dependencies"];
    if !lists.iter().any(|list| manifest.get(list).is_some_and(|l| l.get(PACKAGE).is_some())) {
        return Err(project
            .wrong(format!("it names no {PACKAGE}: write its version under \"devDependencies\"")));
    }
    Ok((name.to_owned(), field("main").unwrap_or("policy.js").to_owned()))
}

/// Node.js, if it is new enough.
fn node() -> Result<std::path::PathBuf, Error> {
    let absent = |advice: String| Error::ToolAbsent {
        language: Language::JavaScript,
        tool: "Node.js and npm",
        advice,
    };
    let install = format!("install Node.js {NODE} or later, which brings npm along");
    let (Some(node), Some(_)) = (tool::find("node"), tool::find("npm")) else {
        return Err(absent(install));
    };
    let version = tool::output(&node, &["--version"])?;
    if is_new_enough(&version) {
        Ok(node)
    } else {
        Err(absent(format!("{install} (this is {version})")))
    }
}

fn is_new_enough(version: &str) -> bool {
    let major = version.trim_start_matches('v').split('.').next();
    major.and_then(|major| major.parse::<u32>().ok()).is_some_and(|major| major >= NODE)
}

/// Has npm install what the manifest names, unless it has since it was written.
fn install(project: &mut Project<'_>) -> Result<(), Error> {
    // npm's own note of what is installed.
    let installed = project.folder.join("node_modules/.package-lock.json");
    if is_newer(&installed, &project.manifest) {
        return Ok(());
    }
    project.say("installing componentize-qjs with npm (about 40 MB, once)");
    let mut npm = Command::new("npm");
    npm.current_dir(project.folder).args(["install", "--no-audit", "--no-fund"]);
    if tool::run(&mut npm)? {
        return Ok(());
    }
    Err(Error::ToolAbsent {
        language: Language::JavaScript,
        tool: "componentize-qjs",
        advice: "npm could not install it: see what it says above".into(),
    })
}

/// Whether a file was written after another one.
fn is_newer(file: &Path, than: &Path) -> bool {
    let written = |path: &Path| std::fs::metadata(path).and_then(|file| file.modified()).ok();
    matches!((written(file), written(than)), (Some(file), Some(than)) if file >= than)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_old_node_is_told_from_a_new_one() {
        for (version, expected) in
            [("v20.20.2", true), ("v100.0.0", true), ("v18.19.0", false), ("", false)]
        {
            assert_eq!(is_new_enough(version), expected, "{version}");
        }
    }

    #[test]
    fn what_is_not_installed_is_not_newer() {
        let folder = tempfile::tempdir().unwrap();
        let (old, new) = (folder.path().join("old"), folder.path().join("new"));
        std::fs::write(&old, "").unwrap();
        assert!(!is_newer(&new, &old));
        std::fs::write(&new, "").unwrap();
        assert!(is_newer(&new, &old));
    }
}
