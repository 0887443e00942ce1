//! The projects to start from: the files of `templates/`, with the policy's name
//! put in.

use crate::{Language, sdk};

macro_rules! files {
    ($folder:literal: $($path:literal,)*) => {
        &[$(($path, include_str!(concat!("../templates/", $folder, "/", $path))),)*]
    };
}

/// What every project has. It is the same policy in each language, so its test
/// cases and its configuration are the same.
const COMMON: &[(&str, &str)] = files! { "common": "cases/length.json", "config.json", };

const RUST: &[(&str, &str)] =
    files! { "rust": ".gitignore", "Cargo.toml", "README.md", "src/lib.rs", };

const JAVASCRIPT: &[(&str, &str)] = files! {
    "js": ".gitignore", "README.md", "limits.json", "package.json", "policy.js", "wit/world.wit",
};

const PYTHON: &[(&str, &str)] = files! {
    "python":
    ".gitignore", "README.md", "limits.json", "policy.py", "pyproject.toml", "wit/world.wit",
};

const C: &[(&str, &str)] = files! {
    "c":
    ".gitignore", "README.md", "libc/stdlib.h", "libc/string.h", "memory.c", "policy.c",
    "wit/world.wit",
};

/// `Cargo.lock` of a Rust project but for the project itself.
const LOCK: &str = include_str!("../templates/rust/Cargo.lock");

/// Where a project in another language than Rust has the contract.
const CONTRACT: &str = "wit/deps/aio-policy/policy.wit";

/// The files of a new project, by their path in its folder.
pub(crate) fn files(name: &str, language: Language) -> Vec<(String, String)> {
    let own = match language {
        Language::Rust => RUST,
        Language::JavaScript => JAVASCRIPT,
        Language::Python => PYTHON,
        Language::C => C,
    };
    let named = |(path, text): &(&str, &str)| ((*path).to_owned(), fill(text, name));
    let mut files: Vec<_> = COMMON.iter().chain(own).map(named).collect();
    if language == Language::Rust {
        files.push(("Cargo.lock".into(), lock(name)));
        files.extend(sdk::files().map(|(path, text)| (format!("sdk/{path}"), text)));
    } else {
        files.push((CONTRACT.into(), sdk::CONTRACT.into()));
    }
    files
}

/// The crates that a Rust project needs.
pub(crate) fn locked_crates() -> impl Iterator<Item = &'static str> {
    LOCK.lines().filter_map(|line| line.strip_prefix("name = \"")?.strip_suffix('"'))
}

/// A template with the policy's name put in.
fn fill(text: &str, name: &str) -> String {
    text.replace("{{name}}", name)
        .replace("{{Name}}", &type_name(name))
        .replace("{{aio}}", env!("CARGO_PKG_VERSION"))
}

/// The name as Rust calls types: `short-first` is `ShortFirst`.
fn type_name(name: &str) -> String {
    let capital = |word: &str| {
        let mut letters = word.chars();
        letters
            .next()
            .map_or_else(String::new, |first| first.to_uppercase().chain(letters).collect())
    };
    name.split('-').map(capital).collect()
}

/// The lock file with the project in its place: cargo keeps packages in order.
fn lock(name: &str) -> String {
    let own = format!(
        "name = \"{name}\"\nversion = \"0.1.0\"\ndependencies = [\n \"aio-policy-sdk\",\n \
         \"serde\",\n]\n"
    );
    let mut packages: Vec<&str> = LOCK.split("\n[[package]]\n").collect();
    let head = packages.remove(0);
    packages.push(&own);
    packages.sort_by_key(|package| package.lines().next());
    let packages = packages.iter().map(|p| format!("\n[[package]]\n{}\n", p.trim_end()));
    format!("{}\n{}", head.trim_end(), packages.collect::<String>())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn nothing_is_left_to_be_filled_in() {
        for language in Language::ALL {
            let files = files("short-first", language);
            let paths: BTreeSet<&String> = files.iter().map(|(path, _)| path).collect();
            assert_eq!(paths.len(), files.len(), "{language}: a path occurs twice");
            for (path, text) in &files {
                assert!(!path.starts_with("sdk/") || language == Language::Rust);
                // C has braces within braces, but no name right behind them.
                let left = text
                    .split("{{")
                    .skip(1)
                    .any(|rest| rest.starts_with(|c: char| c.is_ascii_alphabetic()));
                assert!(path.starts_with("sdk/") || !left, "{language}: {path}");
            }
            for path in ["README.md", "config.json", ".gitignore", "cases/length.json"] {
                assert!(paths.contains(&path.to_owned()), "{language} has no {path}");
            }
        }
    }

    #[test]
    fn a_type_is_called_after_the_policy() {
        assert_eq!(type_name("short-first"), "ShortFirst");
        assert_eq!(type_name("v2-b"), "V2B");
    }

    #[test]
    fn the_lock_file_has_the_project_in_its_place() {
        for name in ["aaa", "mine", "zzz"] {
            let lock = lock(name);
            let parsed: toml::Table = toml::from_str(&lock).unwrap();
            let packages = parsed["package"].as_array().unwrap();
            let names: Vec<&str> = packages.iter().map(|p| p["name"].as_str().unwrap()).collect();
            assert!(names.is_sorted(), "{names:?}");
            assert!(names.contains(&name) && names.contains(&"aio-policy-sdk"));
            assert!(!lock.contains("\n\n\n"), "{lock}");
        }
    }

    /// Authors build with what the shipped policies are built with.
    #[test]
    fn the_lock_file_has_the_versions_of_the_repositorys() {
        let read = |text: &str| -> BTreeSet<(String, String, String)> {
            let parsed: toml::Table = toml::from_str(text).unwrap();
            let field = |package: &toml::Value, name: &str| {
                package.get(name).and_then(|v| v.as_str()).unwrap_or_default().to_owned()
            };
            let packages = parsed["package"].as_array().unwrap();
            packages
                .iter()
                .map(|p| (field(p, "name"), field(p, "version"), field(p, "checksum")))
                .collect()
        };
        let repository = read(include_str!("../../../Cargo.lock"));
        let strangers: Vec<_> = read(LOCK).difference(&repository).cloned().collect();
        assert!(strangers.is_empty(), "{strangers:?}");
    }
}
