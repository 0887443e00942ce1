//! From a source to a component that can be started: read, verify its signature,
//! compile, check its imports and exports. Knows no configuration and no state; starting is
//! `loaded.rs`'s work.

use std::collections::BTreeSet;

use aio_core::{Grant, Hook};
use sha2::{Digest, Sha256};
use wasmtime::component::{Component, InstancePre};

use crate::call::one_line;
use crate::contract::v0_1::{self, Exports, Import};
use crate::error::LoadError;
use crate::instance::Guest;
use crate::limits::Limits;
use crate::log::printable;
use crate::runtime::{CONTRACT, PolicyRuntime};
use crate::signature::KeyId;
use crate::source::PolicySource;

/// Most bytes of an import's name that a message repeats.
const NAME_BYTES: usize = 128;

/// A policy's component, compiled and checked: it can be started any number of
/// times. Cheap to clone; clones share the code.
#[derive(Clone)]
pub struct Prepared {
    name: String,
    digest: String,
    bytes: u64,
    signed_by: Option<KeyId>,
    pub(crate) pre: InstancePre<Guest>,
    pub(crate) exports: Exports,
    imports: BTreeSet<Grant>,
    import_names: Vec<String>,
    export_names: Vec<String>,
}

impl std::fmt::Debug for Prepared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Prepared")
            .field("name", &self.name)
            .field("digest", &self.digest)
            .finish_non_exhaustive()
    }
}

impl Prepared {
    /// Reads and compiles a policy, and checks that it is signed, where the runtime
    /// requires that, imports nothing but what the contract offers and `grants`
    /// allows, and decides something.
    ///
    /// # Errors
    /// One sentence that names the policy and says what to change.
    pub fn new(
        runtime: &PolicyRuntime,
        source: &PolicySource,
        limits: &Limits,
        grants: &BTreeSet<Grant>,
    ) -> Result<Self, LoadError> {
        let name = source.name();
        let bytes = source.read(limits.component_bytes)?;
        // Before anything else looks at the bytes; code that was compiled before is
        // found by their digest, and only by bytes that have come this far.
        let signed_by = runtime.verify_bytes(source, &bytes)?;
        let digest = format!("{:x}", Sha256::digest(&bytes));
        check_kind(&name, &bytes)?;
        check_nesting(&name, &bytes, limits)?;
        let component = runtime.compile(&name, &digest, &bytes)?;
        let imports = check_imports(runtime, &name, &component, grants)?;
        let exports = Exports::of(&component);
        if !exports.decides() {
            return Err(LoadError::NoHooks { policy: name });
        }
        let pre = runtime.linker.instantiate_pre(&component).map_err(|error| {
            LoadError::Invalid { policy: name.clone(), reason: one_line(&error) }
        })?;
        let (import_names, export_names) = names(runtime, &component);
        let bytes = bytes.len() as u64;
        Ok(Self {
            name,
            digest,
            bytes,
            signed_by,
            pre,
            exports,
            imports,
            import_names,
            export_names,
        })
    }

    /// What the source is called.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// SHA-256 of the whole file, its signature included, in hexadecimal.
    pub fn digest(&self) -> &str {
        &self.digest
    }

    /// Bytes of the component.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// The trusted key that has signed it; `None` where no signature was required.
    pub fn signed_by(&self) -> Option<&KeyId> {
        self.signed_by.as_ref()
    }

    /// What it imports of that which must be granted.
    pub fn imports(&self) -> &BTreeSet<Grant> {
        &self.imports
    }

    /// The names of all that it imports, what is free to all policies included.
    pub fn import_names(&self) -> &[String] {
        &self.import_names
    }

    /// The names of all that it exports, whether the contract knows them or not.
    pub fn export_names(&self) -> &[String] {
        &self.export_names
    }

    /// The contract's hooks that it exports.
    pub fn hooks(&self) -> Vec<Hook> {
        Hook::ALL.into_iter().filter(|hook| self.exports.has(*hook)).collect()
    }

    /// The version of the contract that it speaks.
    pub fn contract(&self) -> &'static str {
        CONTRACT
    }
}

/// Tells components from what is none by their first bytes: "\0asm", then the
/// version: 1 and layer 0 for a core module, layer 1 for a component.
fn check_kind(policy: &str, bytes: &[u8]) -> Result<(), LoadError> {
    let policy = || policy.to_owned();
    match bytes {
        [0, b'a', b's', b'm', _, _, 1, 0, ..] => Ok(()),
        [0, b'a', b's', b'm', _, _, 0, 0, ..] => Err(LoadError::CoreModule { policy: policy() }),
        _ => Err(LoadError::NotWasm { policy: policy() }),
    }
}

/// Holds a component's imports against what it may have; returns those that had
/// to be granted.
fn check_imports(
    runtime: &PolicyRuntime,
    policy: &str,
    component: &Component,
    grants: &BTreeSet<Grant>,
) -> Result<BTreeSet<Grant>, LoadError> {
    let mut granted = BTreeSet::new();
    // A name may be of any length, and one that is a URL may hold any character.
    let shown = |import: &str| printable(import, NAME_BYTES);
    for (import, _) in component.component_type().imports(&runtime.engine) {
        let policy = policy.to_owned();
        match v0_1::import(import) {
            Some(Import::Free) => {}
            Some(Import::Granted(grant)) if grants.contains(&grant) => {
                granted.insert(grant);
            }
            Some(Import::Granted(grant)) => return Err(LoadError::NotGranted { policy, grant }),
            None if let Some(version) = v0_1::other_version(import) => {
                return Err(LoadError::Version { policy, version: shown(version) });
            }
            None if import.starts_with("wasi:") => {
                return Err(LoadError::Wasi { policy, import: shown(import) });
            }
            None => return Err(LoadError::Import { policy, import: shown(import) }),
        }
    }
    Ok(granted)
}

/// What a component imports and exports by name, fit for a terminal.
fn names(runtime: &PolicyRuntime, component: &Component) -> (Vec<String>, Vec<String>) {
    let of = component.component_type();
    let imports = of.imports(&runtime.engine).map(|(name, _)| printable(name, NAME_BYTES));
    let exports = of.exports(&runtime.engine).map(|(name, _)| printable(name, NAME_BYTES));
    (imports.collect(), exports.collect())
}

/// Bounds the components within one, and the places where it instantiates them.
/// The compiler takes nested components apart before anything else, and two
/// instantiations within two within two are 2^n: a kilobyte could take all
/// memory there is.
fn check_nesting(policy: &str, bytes: &[u8], limits: &Limits) -> Result<(), LoadError> {
    use wasmparser::{ComponentInstance, Parser, Payload};
    let (mut components, mut instantiations) = (0, 0);
    let check = |found: usize, what, limit, most| match found > most {
        true => Err(LoadError::Nested { policy: policy.to_owned(), what, limit, most }),
        false => Ok(()),
    };
    // What cannot be read is the compiler's to name.
    for payload in Parser::new(0).parse_all(bytes).map_while(Result::ok) {
        match payload {
            Payload::ComponentSection { .. } => components += 1,
            Payload::ComponentInstanceSection(instances) => {
                let instantiates =
                    |i: &ComponentInstance<'_>| matches!(i, ComponentInstance::Instantiate { .. });
                let instances = instances.into_iter().map_while(Result::ok);
                instantiations += instances.filter(instantiates).count();
            }
            _ => {}
        }
        check(components, "components within it", "components", limits.components)?;
        let places = "places where it instantiates components within it";
        check(instantiations, places, "instantiations", limits.instantiations)?;
    }
    Ok(())
}
