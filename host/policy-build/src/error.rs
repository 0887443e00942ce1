//! What can go wrong, each as one sentence that says what to do. Wording lives
//! here; tools that are run say more on stderr.

use std::path::PathBuf;

use crate::Language;

/// Why a project was not made, or no component of it. `Display` is one sentence
/// for the author, with what to do about it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A policy cannot be called so.
    #[error("\"{name}\" cannot be a policy's name: {problem}")]
    Name {
        /// The name that was given.
        name: String,
        /// What is wrong with it, and what is allowed.
        problem: String,
    },

    /// There is no such language.
    #[error("there are no policies in \"{0}\" to start from: name one of rust, js, python, c")]
    UnknownLanguage(String),

    /// Something stands where the project would.
    #[error(
        "{} is there already and not empty: choose another name, or remove it",
        path.display()
    )]
    Occupied {
        /// The folder or file.
        path: PathBuf,
    },

    /// A folder holds no project.
    #[error(
        "{} has no Cargo.toml, package.json, pyproject.toml or policy.c: name the folder of a \
         policy's project, or make one with `aio policy new NAME`",
        path.display()
    )]
    NoProject {
        /// The folder.
        path: PathBuf,
    },

    /// A path names no folder.
    #[error("there is no folder {}: name the folder of a policy's project", path.display())]
    NoFolder {
        /// The path.
        path: PathBuf,
    },

    /// A project's file does not say what it must.
    #[error("{}: {problem}", path.display())]
    Manifest {
        /// The file.
        path: PathBuf,
        /// What is wrong, and what to write.
        problem: String,
    },

    /// Something that builds policies is not on this machine.
    #[error("a policy in {language} needs {tool}: {advice}")]
    ToolAbsent {
        /// The project's language.
        language: Language,
        /// What is missing.
        tool: &'static str,
        /// How to get it.
        advice: String,
    },

    /// A tool was run and refused; what it said is on stderr.
    #[error("{name} does not build: see what {tool} says above")]
    ToolFailed {
        /// The policy.
        name: String,
        /// The tool.
        tool: String,
    },

    /// A tool could not be started.
    #[error("cannot run {tool}: {source}")]
    Run {
        /// The program.
        tool: String,
        /// Why not.
        source: std::io::Error,
    },

    /// A module does not become a component.
    #[error("{name} does not become a component: {reason}")]
    Component {
        /// The policy, or the module's file.
        name: String,
        /// Why not.
        reason: String,
    },

    /// A WIT package cannot be read or lacks the world.
    #[error("{}: {reason}", path.display())]
    Wit {
        /// The folder.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },

    /// A file or folder cannot be read.
    #[error("cannot read {}: {source}", path.display())]
    Read {
        /// The file or folder.
        path: PathBuf,
        /// Why not.
        source: std::io::Error,
    },

    /// A file or folder cannot be written.
    #[error("cannot write {}: {source}", path.display())]
    Write {
        /// The file or folder.
        path: PathBuf,
        /// Why not.
        source: std::io::Error,
    },
}

impl Error {
    /// Whether only a tool is absent: the project itself may be right.
    pub fn is_tool_absent(&self) -> bool {
        matches!(self, Self::ToolAbsent { .. })
    }

    pub(crate) fn read(path: impl Into<PathBuf>) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.into();
        move |source| Self::Read { path, source }
    }

    pub(crate) fn write(path: impl Into<PathBuf>) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.into();
        move |source| Self::Write { path, source }
    }
}
