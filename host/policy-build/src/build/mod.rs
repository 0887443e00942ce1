//! From a project to its component: the language is found by the project's files,
//! and each language has a module that runs its tools.

mod c;
mod javascript;
mod python;
mod rust;

use std::path::{Path, PathBuf};

use serde::Serialize;

use crate::{Error, Language, World};

/// Names the form of [`Built`] as JSON.
pub const BUILD_SCHEMA: &str = "aio-policy-build/1";

/// The file of a project that says what its policy may use, as `--policy-limits`
/// takes it. Projects in languages that bring an engine along have one.
const LIMITS: &str = "limits.json";

/// What tells each language's projects; the first that is there counts.
const MANIFESTS: [(&str, Language); 4] = [
    ("Cargo.toml", Language::Rust),
    ("package.json", Language::JavaScript),
    ("pyproject.toml", Language::Python),
    ("policy.c", Language::C),
];

/// A component that was built.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Built {
    /// [`BUILD_SCHEMA`].
    pub schema: &'static str,
    /// The policy's name, by its project.
    pub name: String,
    /// What it is written in.
    pub language: Language,
    /// The component's file.
    pub path: PathBuf,
    /// Its size.
    pub bytes: u64,
    /// The project's file with the limits that the policy needs beside the
    /// defaults, for `--policy-limits @FILE`.
    pub limits: Option<PathBuf>,
}

/// A project, as its language's module sees it.
struct Project<'a> {
    folder: &'a Path,
    manifest: PathBuf,
    say: &'a mut dyn FnMut(&str),
}

/// A component and what its project calls it.
struct Component {
    name: String,
    bytes: Vec<u8>,
}

/// Builds the project in a folder into `NAME.wasm` in it. `say` gets a line at each
/// step; what the tools themselves say goes to stderr.
///
/// # Errors
/// When there is no project, a tool is absent, or what the author wrote does not
/// compile: then the compiler has said why on stderr.
pub fn build(folder: &Path, say: &mut dyn FnMut(&str)) -> Result<Built, Error> {
    if !folder.is_dir() {
        return Err(Error::NoFolder { path: folder.to_owned() });
    }
    // Tools run in the project's folder, so paths handed to them must not depend on ours.
    let absolute = folder.canonicalize().map_err(Error::read(folder))?;
    let found = MANIFESTS.iter().find(|(file, _)| absolute.join(file).is_file());
    let &(file, language) = found.ok_or_else(|| Error::NoProject { path: folder.to_owned() })?;
    let mut project = Project { folder: &absolute, manifest: absolute.join(file), say };
    let Component { name, bytes } = match language {
        Language::Rust => rust::build(&mut project)?,
        Language::JavaScript => javascript::build(&mut project)?,
        Language::Python => python::build(&mut project)?,
        Language::C => c::build(&mut project)?,
    };
    let path = folder.join(format!("{name}.wasm"));
    write(&path, &bytes)?;
    let limits = Some(folder.join(LIMITS)).filter(|path| path.is_file());
    let bytes = bytes.len() as u64;
    Ok(Built { schema: BUILD_SCHEMA, name, language, path, bytes, limits })
}

/// Puts the component in its place at once: a host that watches the file must not
/// see a part of it.
fn write(path: &Path, bytes: &[u8]) -> Result<(), Error> {
    let partial = path.with_extension("wasm.partial");
    std::fs::write(&partial, bytes).map_err(Error::write(&partial))?;
    std::fs::rename(&partial, path).map_err(Error::write(path))
}

impl Project<'_> {
    fn say(&mut self, line: &str) {
        (self.say)(line);
    }

    /// A file of the project.
    fn read(&self, path: &Path) -> Result<String, Error> {
        std::fs::read_to_string(path).map_err(Error::read(path))
    }

    /// What is wrong with the manifest.
    fn wrong(&self, problem: impl Into<String>) -> Error {
        Error::Manifest { path: self.manifest.clone(), problem: problem.into() }
    }

    /// The folder for what a build leaves behind.
    fn scratch(&self) -> Result<PathBuf, Error> {
        let folder = self.folder.join("build");
        std::fs::create_dir_all(&folder).map_err(Error::write(&folder))?;
        Ok(folder)
    }

    /// The world that the policy is written for.
    fn world(&self) -> Result<World, Error> {
        World::read(&self.folder.join("wit"), None)
    }

    /// A file that must be there.
    fn must_have(&self, file: &str) -> Result<(), Error> {
        if self.folder.join(file).is_file() {
            return Ok(());
        }
        Err(self.wrong(format!("beside it must stand {file}, with the policy")))
    }
}

/// Whether a manifest's name can be a file's.
fn is_file_name(name: &str) -> bool {
    let ours = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    !name.is_empty() && !name.starts_with('.') && name.chars().all(ours)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(files: &[(&str, &str)]) -> String {
        let folder = tempfile::tempdir().unwrap();
        for (path, text) in files {
            std::fs::write(folder.path().join(path), text).unwrap();
        }
        build(folder.path(), &mut |_| ()).unwrap_err().to_string()
    }

    #[test]
    fn a_folder_without_a_project_is_refused_with_what_would_be_one() {
        assert!(refusal(&[]).contains("aio policy new"));
        let error = build(Path::new("/nowhere"), &mut |_| ()).unwrap_err().to_string();
        assert!(error.starts_with("there is no folder /nowhere"), "{error}");
    }

    #[test]
    fn a_manifest_that_says_too_little_is_refused() {
        for (manifest, text, says) in [
            ("Cargo.toml", "[workspace]", "[package]"),
            ("Cargo.toml", "[", "no TOML"),
            ("Cargo.toml", "[package]\nname = \"a/b\"", "\"a/b\""),
            ("package.json", "{}", "\"name\""),
            ("package.json", "{", "no JSON"),
            ("package.json", r#"{"name": "a"}"#, "componentize-qjs"),
            ("pyproject.toml", "[project]\nname = \"a\"", "componentize-py"),
            ("pyproject.toml", "", "[project]"),
        ] {
            let error = refusal(&[(manifest, text)]);
            assert!(error.contains(manifest) && error.contains(says), "{text}: {error}");
        }
    }

    #[test]
    fn what_is_written_replaces_what_stood_there() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.wasm");
        std::fs::write(&path, "old and longer").unwrap();
        write(&path, b"new").unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), b"new");
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
    }
}
