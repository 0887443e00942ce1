//! Writing a new project.

use std::path::{Path, PathBuf};

use crate::{Error, Language, name, template};

/// Makes the project `name` in a folder of that name in `parent`, and returns the
/// folder. What is in it is this crate's: nothing is fetched.
///
/// # Errors
/// When the name cannot be a policy's, something stands in its place, or the
/// folder cannot be written.
pub fn create(parent: &Path, name: &str, language: Language) -> Result<PathBuf, Error> {
    name::check(name, language)?;
    let folder = parent.join(name);
    if is_occupied(&folder)? {
        return Err(Error::Occupied { path: folder });
    }
    for (path, contents) in template::files(name, language) {
        let path = folder.join(path);
        if let Some(parent) = path.parent() {
            std::fs::create_dir_all(parent).map_err(Error::write(parent))?;
        }
        std::fs::write(&path, contents).map_err(Error::write(&path))?;
    }
    Ok(folder)
}

/// Whether something is there that is not an empty folder.
fn is_occupied(folder: &Path) -> Result<bool, Error> {
    match std::fs::symlink_metadata(folder) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(Error::read(folder)(error)),
        Ok(_) if !folder.is_dir() => Ok(true),
        Ok(_) => Ok(std::fs::read_dir(folder).map_err(Error::read(folder))?.next().is_some()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_empty_folder_is_filled_and_a_full_one_or_a_file_is_left_alone() {
        let parent = tempfile::tempdir().unwrap();
        std::fs::create_dir(parent.path().join("empty")).unwrap();
        let made = create(parent.path(), "empty", Language::C).unwrap();
        assert!(made.join("policy.c").is_file());
        std::fs::write(parent.path().join("file"), "mine").unwrap();
        for name in ["empty", "file"] {
            let before = std::fs::metadata(parent.path().join(name)).unwrap().modified().unwrap();
            let error = create(parent.path(), name, Language::C).unwrap_err().to_string();
            assert!(error.contains("is there already"), "{error}");
            let after = std::fs::metadata(parent.path().join(name)).unwrap().modified().unwrap();
            assert_eq!(before, after);
        }
    }

    #[test]
    fn a_bad_name_makes_no_folder() {
        let parent = tempfile::tempdir().unwrap();
        create(parent.path(), "../up", Language::Rust).unwrap_err();
        assert!(std::fs::read_dir(parent.path()).unwrap().next().is_none());
    }
}
