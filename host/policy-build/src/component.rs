//! From a core module to a component. Knows no policy and no language.

use std::path::Path;

use wit_component::{ComponentEncoder, StringEncoding};
use wit_parser::{Resolve, WorldId};

use crate::Error;

/// The world that a module is of: a WIT package, read and resolved.
#[derive(Debug)]
pub struct World {
    pub(crate) resolve: Resolve,
    pub(crate) id: WorldId,
}

impl World {
    /// Reads a folder with a WIT package, its dependencies in `deps`. `name`: the
    /// world, where the package has more than one.
    ///
    /// # Errors
    /// When there is no such package, or no such world in it.
    pub fn read(folder: &Path, name: Option<&str>) -> Result<Self, Error> {
        let wrong = |reason: String| Error::Wit { path: folder.to_owned(), reason };
        let mut resolve = Resolve::default();
        let (package, _) = resolve
            .push_dir(folder)
            .map_err(|error| wrong(format!("this is no WIT package: {error:#}")))?;
        let id = resolve.select_world(&[package], name).map_err(|error| match name {
            Some(name) => wrong(format!("the WIT package has no world {name}: {error:#}")),
            None => wrong(format!("the WIT package must have one world: {error:#}")),
        })?;
        Ok(Self { resolve, id })
    }

    /// The world's name, for example "hooks".
    pub fn name(&self) -> &str {
        &self.resolve.worlds[self.id].name
    }
}

/// Makes a component of a core module. `world`: the world that it was built for,
/// where it does not say so itself. `name` is for messages.
///
/// # Errors
/// When it is no module, or not one of that world.
pub fn componentize(name: &str, module: &[u8], world: Option<&World>) -> Result<Vec<u8>, Error> {
    let wrong = |reason: String| Error::Component { name: name.to_owned(), reason };
    let mut module = module.to_vec();
    if let Some(World { resolve, id }) = world {
        wit_component::embed_component_metadata(&mut module, resolve, *id, StringEncoding::UTF8)
            .map_err(|error| wrong(format!("it cannot be given its world: {error:#}")))?;
    }
    ComponentEncoder::default()
        .validate(true)
        .module(&module)
        .and_then(ComponentEncoder::encode)
        .map_err(|error| wrong(format!("{error:#}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    const WORLD: &str = "package a:b; world w { export answer: func() -> u32; }";

    fn made(text: &str, world: &str) -> Result<Vec<u8>, Error> {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("w.wit"), WORLD).unwrap();
        let world = World::read(folder.path(), Some(world))?;
        componentize("m.wasm", &wat::parse_str(text).unwrap(), Some(&world))
    }

    #[test]
    fn a_module_becomes_a_component() {
        let module = r#"(module (func (export "answer") (result i32) i32.const 42))"#;
        let component = made(module, "w").unwrap();
        // Layer 1 is a component.
        assert_eq!(component[..8], *b"\0asm\x0d\0\x01\0");
    }

    #[test]
    fn a_module_without_the_worlds_export_is_refused() {
        let error = made("(module)", "w").unwrap_err().to_string();
        assert!(error.starts_with("m.wasm does not become a component: "), "{error}");
        assert!(error.contains("answer"), "{error}");
    }

    #[test]
    fn a_world_that_is_not_there_is_named() {
        let module = r#"(module (func (export "answer") (result i32) i32.const 42))"#;
        let error = made(module, "other").unwrap_err().to_string();
        assert!(error.contains("has no world other"), "{error}");
    }

    #[test]
    fn a_folder_without_a_package_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let error = World::read(folder.path(), None).unwrap_err().to_string();
        assert!(error.contains("no WIT package"), "{error}");
    }
}
