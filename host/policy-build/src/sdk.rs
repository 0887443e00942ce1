//! The Rust SDK as a crate of its own, as it is written into a project: the
//! sources of `policies/sdk` and the contract.

/// The manifest in a project: that of `policies/sdk` without its workspace.
pub(crate) const MANIFEST: &str = include_str!("../templates/rust/sdk/Cargo.toml");

/// The contract between host and policy.
pub(crate) const CONTRACT: &str = include_str!("../../../wit/v0.1/policy.wit");

macro_rules! sources {
    ($($path:literal,)*) => {
        /// Files of `policies/sdk/src`.
        const SOURCES: &[(&str, &str)] =
            &[$(($path, include_str!(concat!("../../../policies/sdk/src/", $path))),)*];
    };
}

sources! {
    "acceptance.rs",
    "build.rs",
    "chooser/learned.rs",
    "chooser/mod.rs",
    "chooser/options.rs",
    "chooser/reasons.rs",
    "chooser/remembered.rs",
    "chooser/request.rs",
    "chooser/situation.rs",
    "chooser/strangers.rs",
    "chooser/tier.rs",
    "config.rs",
    "cost.rs",
    "explore.rs",
    "export/asked.rs",
    "export/mod.rs",
    "goodput.rs",
    "grants.rs",
    "hysteresis.rs",
    "lib.rs",
    "log.rs",
    "policy.rs",
    "pool.rs",
    "sentence.rs",
    "setting.rs",
    "setting.schema.json",
    "state.rs",
    "testing/answer.rs",
    "testing/engine.rs",
    "testing/mod.rs",
    "testing/recorded.json",
}

/// Where the contract is for the SDK, in the repository and in a project.
const WIT: [&str; 2] = [r#"path: "../../wit/v0.1""#, r#"path: "wit""#];

/// The SDK's files, by their path in its folder.
pub(crate) fn files() -> impl Iterator<Item = (String, String)> {
    let sources = SOURCES.iter().map(|(path, text)| {
        let text = if *path == "lib.rs" { text.replace(WIT[0], WIT[1]) } else { (*text).into() };
        (format!("src/{path}"), text)
    });
    let others = [("Cargo.toml", MANIFEST), ("wit/policy.wit", CONTRACT)];
    sources.chain(others.map(|(path, text)| (path.to_owned(), text.to_owned())))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::path::{Path, PathBuf};

    use toml::Table;

    use super::*;

    fn repository() -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
    }

    fn collect(folder: &Path, base: &Path, found: &mut BTreeSet<String>) {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                collect(&path, base, found);
            } else {
                found.insert(path.strip_prefix(base).unwrap().to_str().unwrap().to_owned());
            }
        }
    }

    #[test]
    fn no_source_of_the_sdk_is_missing_but_its_own_tests() {
        let base = repository().join("policies/sdk/src");
        let mut there = BTreeSet::new();
        collect(&base, &base, &mut there);
        for tests in ["chooser/tests.rs", "export/asked/tests.rs"] {
            assert!(there.remove(tests));
        }
        let embedded: BTreeSet<String> = SOURCES.iter().map(|(path, _)| (*path).into()).collect();
        assert_eq!(embedded, there);
    }

    #[test]
    fn the_sdk_finds_the_contract_in_its_own_folder() {
        let (_, lib) = files().find(|(path, _)| path == "src/lib.rs").unwrap();
        assert_eq!(lib.matches(WIT[1]).count(), 1);
        assert!(!lib.contains("../.."));
    }

    #[test]
    fn the_manifest_says_what_the_repositorys_says() {
        let read = |path: &str| -> Table {
            toml::from_str(&std::fs::read_to_string(repository().join(path)).unwrap()).unwrap()
        };
        let workspace = read("Cargo.toml")["workspace"].clone();
        let original = read("policies/sdk/Cargo.toml");
        let ours: Table = toml::from_str(MANIFEST).unwrap();
        let package = &workspace["package"];
        for field in ["version", "edition", "rust-version", "license"] {
            assert_eq!(ours["package"].get(field), package.get(field), "{field}");
        }
        let of = |manifest: &Table, target: bool| -> Table {
            let part = if target {
                &manifest["target"][r#"cfg(target_arch = "wasm32")"#]["dependencies"]
            } else {
                &manifest["dependencies"]
            };
            part.as_table().unwrap().clone()
        };
        for target in [false, true] {
            let expected: Table = of(&original, target)
                .keys()
                .map(|name| (name.clone(), workspace["dependencies"][name].clone()))
                .collect();
            assert_eq!(of(&ours, target), expected);
        }
    }
}
