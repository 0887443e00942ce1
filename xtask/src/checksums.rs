//! `policies/prebuilt/checksums.toml`: what stands beside the shipped
//! components, and what built them.

use std::collections::BTreeMap;
use std::path::Path;

use aio_policy_build::Builder;
use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

const HEADER: &str = "\
# What built each component in this folder. Written by `cargo xtask policies`;
# `cargo xtask policies --check` holds the components against it.

";

/// The file, by policy.
#[derive(Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Checksums(BTreeMap<String, Entry>);

/// One component.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Entry {
    /// SHA-256 of the component, in hexadecimal.
    pub(crate) sha256: String,
    /// Its size.
    pub(crate) bytes: u64,
    /// What compiled and linked it.
    #[serde(flatten)]
    pub(crate) builder: Builder,
}

impl Entry {
    pub(crate) fn of(component: &[u8], builder: &Builder) -> Self {
        let sha256 = format!("{:x}", Sha256::digest(component));
        Self { sha256, bytes: component.len() as u64, builder: builder.clone() }
    }

    /// Whether these are the component's bytes.
    pub(crate) fn is_of(&self, component: &[u8]) -> bool {
        self.sha256 == Self::of(component, &self.builder).sha256
    }
}

impl Checksums {
    const FILE: &str = "checksums.toml";

    /// Reads the file; an absent one is empty.
    pub(crate) fn read(folder: &Path) -> Result<Self> {
        let path = folder.join(Self::FILE);
        if !path.exists() {
            return Ok(Self::default());
        }
        let text = std::fs::read_to_string(&path)
            .with_context(|| format!("cannot read {}", path.display()))?;
        toml::from_str(&text).with_context(|| {
            format!("{} is damaged: run `cargo xtask policies` to write it anew", path.display())
        })
    }

    pub(crate) fn write(&self, folder: &Path) -> Result<()> {
        let path = folder.join(Self::FILE);
        let text = toml::to_string(self).context("cannot write the checksums as TOML")?;
        std::fs::write(&path, format!("{HEADER}{text}"))
            .with_context(|| format!("cannot write {}", path.display()))
    }

    pub(crate) fn get(&self, policy: &str) -> Option<&Entry> {
        self.0.get(policy)
    }

    pub(crate) fn set(&mut self, policy: &str, entry: Entry) {
        self.0.insert(policy.into(), entry);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_again() {
        let builder = Builder {
            toolchain: "rustup".into(),
            compiler: "rustc 1".into(),
            linker: "LLD 1".into(),
        };
        let mut checksums = Checksums::default();
        checksums.set("aio", Entry::of(b"component", &builder));
        let folder = tempfile::tempdir().unwrap();
        checksums.write(folder.path()).unwrap();
        let read = Checksums::read(folder.path()).unwrap();
        assert_eq!(read, checksums);
        let entry = read.get("aio").unwrap();
        assert!(entry.is_of(b"component"));
        assert!(!entry.is_of(b"another"));
    }
}
