//! Where a policy's component comes from: the binary itself, a file, or bytes
//! at hand. Knows names and bytes, not what is in them.

use std::borrow::Cow;
use std::path::{Path, PathBuf};

use crate::error::LoadError;

/// The policy that is used when none is named.
pub const DEFAULT_POLICY: &str = "aio";

/// Policies that are part of the binary, by name.
pub const BUILTINS: &[&str] = &["aio", "fixed", "goodput"];

/// Where a policy's component comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PolicySource {
    /// A policy that is part of the binary; its name is in [`BUILTINS`].
    Builtin(&'static str),
    /// A `.wasm` file.
    File(PathBuf),
    /// A component at hand.
    Bytes {
        /// What to call it in messages.
        name: String,
        /// The component in binary form.
        bytes: Vec<u8>,
    },
}

impl Default for PolicySource {
    fn default() -> Self {
        Self::Builtin(DEFAULT_POLICY)
    }
}

impl PolicySource {
    /// What a user means by `--policy ARGUMENT`: a built-in policy's name, or
    /// else a path. A word that is neither a built-in policy nor looks like a
    /// path (no directory, no `.wasm`) is taken for a misspelt name.
    ///
    /// # Errors
    /// [`LoadError::UnknownName`] for such a word.
    pub fn from_argument(argument: &str) -> Result<Self, LoadError> {
        if let Some(name) = BUILTINS.iter().find(|&&name| name == argument) {
            return Ok(Self::Builtin(name));
        }
        let path = Path::new(argument);
        let is_path = argument.contains(std::path::is_separator)
            || path.extension().is_some()
            || path.exists();
        if is_path {
            Ok(Self::File(path.into()))
        } else {
            Err(LoadError::UnknownName { name: argument.into(), builtins: BUILTINS.join(", ") })
        }
    }

    /// What to call the policy in messages, and in records when it does not
    /// describe itself: the built-in name, the file's name without extension, or
    /// the name given.
    pub fn name(&self) -> String {
        match self {
            Self::Builtin(name) => (*name).into(),
            Self::File(path) => path
                .file_stem()
                .map_or_else(|| "unnamed".into(), |stem| stem.to_string_lossy().into_owned()),
            Self::Bytes { name, .. } if name.is_empty() => "unnamed".into(),
            Self::Bytes { name, .. } => name.clone(),
        }
    }

    /// Whether there is anything to load: a file may be absent. For those who have
    /// much to do before they load it.
    ///
    /// # Errors
    /// [`LoadError::Read`] and [`LoadError::Folder`]
    pub fn check_exists(&self) -> Result<(), LoadError> {
        let Self::File(path) = self else { return Ok(()) };
        file_size(path).map(drop)
    }

    /// The component's bytes, at most `most` of them.
    ///
    /// # Errors
    /// When it cannot be read, or has more.
    pub fn read(&self, most: u64) -> Result<Cow<'_, [u8]>, LoadError> {
        let bytes: Cow<'_, [u8]> = match self {
            Self::Builtin(name) => Cow::Borrowed(builtin(name)?),
            Self::Bytes { bytes, .. } => Cow::Borrowed(bytes),
            Self::File(path) => {
                self.check_size(file_size(path)?, most)?;
                let read = |source| LoadError::Read { path: path.clone(), source };
                Cow::Owned(std::fs::read(path).map_err(read)?)
            }
        };
        self.check_size(bytes.len() as u64, most)?;
        Ok(bytes)
    }

    fn check_size(&self, bytes: u64, most: u64) -> Result<(), LoadError> {
        if bytes > most {
            return Err(LoadError::TooLarge { policy: self.name(), bytes, most });
        }
        Ok(())
    }
}

/// Bytes of a file that is there and no folder.
fn file_size(path: &Path) -> Result<u64, LoadError> {
    let read = |source| LoadError::Read { path: path.to_owned(), source };
    let metadata = std::fs::metadata(path).map_err(read)?;
    if metadata.is_dir() {
        let name = path.canonicalize().ok().and_then(|path| Some(path.file_name()?.to_owned()));
        let component = path.join(name.unwrap_or_else(|| "policy".into())).with_extension("wasm");
        return Err(LoadError::Folder { path: path.to_owned(), component });
    }
    Ok(metadata.len())
}

fn builtin(name: &str) -> Result<&'static [u8], LoadError> {
    match name {
        "aio" => Ok(include_bytes!("../../../policies/prebuilt/aio.wasm")),
        "fixed" => Ok(include_bytes!("../../../policies/prebuilt/fixed.wasm")),
        "goodput" => Ok(include_bytes!("../../../policies/prebuilt/goodput.wasm")),
        _ => Err(LoadError::UnknownName { name: name.into(), builtins: BUILTINS.join(", ") }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_a_path_and_a_misspelt_name_are_told_apart() {
        assert_eq!(PolicySource::from_argument("aio").unwrap(), PolicySource::Builtin("aio"));
        for path in ["mine.wasm", "policies/mine", "./mine"] {
            assert_eq!(PolicySource::from_argument(path).unwrap(), PolicySource::File(path.into()));
        }
        assert_eq!(
            PolicySource::from_argument("fixd").unwrap_err().to_string(),
            "there is no policy \"fixd\": name one of aio, fixed, goodput, or give the path of a .wasm file"
        );
    }

    #[test]
    fn a_file_is_called_by_its_stem() {
        assert_eq!(PolicySource::File("a/budget.wasm".into()).name(), "budget");
        assert_eq!(PolicySource::default().name(), DEFAULT_POLICY);
    }

    #[test]
    fn a_missing_file_is_named() {
        let absent = PolicySource::File("nowhere/none.wasm".into());
        for error in [absent.read(10).unwrap_err(), absent.check_exists().unwrap_err()] {
            assert!(error.to_string().starts_with("cannot read the policy nowhere/none.wasm: "));
        }
        assert!(PolicySource::default().check_exists().is_ok());
    }

    #[test]
    fn a_folder_is_told_from_the_component_in_it() {
        let folder = tempfile::tempdir().unwrap();
        let project = folder.path().join("mine");
        std::fs::create_dir(&project).unwrap();
        let source = PolicySource::File(project.clone());
        for error in [source.read(10).unwrap_err(), source.check_exists().unwrap_err()] {
            let says = error.to_string();
            assert!(says.starts_with(&format!("{} is a folder", project.display())), "{says}");
            let component = project.join("mine.wasm");
            assert!(says.ends_with(&format!("for example {}", component.display())), "{says}");
        }
    }
}
