//! From a core module to a component. Knows no policy and no language.

use std::path::Path;

use anyhow::{Context, Result};
use wit_component::{ComponentEncoder, StringEncoding};
use wit_parser::Resolve;

/// Makes a component of the module in a file. `world`: the folder of its WIT
/// package and the world's name, where the module does not say.
pub(crate) fn make(module: &Path, world: Option<(&Path, &str)>, output: &Path) -> Result<()> {
    let mut bytes =
        std::fs::read(module).with_context(|| format!("cannot read {}", module.display()))?;
    if let Some((wit, world)) = world {
        say_world(&mut bytes, wit, world)?;
    }
    let component = encode(&bytes)
        .with_context(|| format!("{} does not become a component", module.display()))?;
    std::fs::write(output, &component)
        .with_context(|| format!("cannot write {}", output.display()))?;
    println!("{}: {} bytes", output.display(), component.len());
    Ok(())
}

/// Makes a component of a module that says which world it is of.
pub(crate) fn encode(module: &[u8]) -> Result<Vec<u8>> {
    ComponentEncoder::default().validate(true).module(module).and_then(ComponentEncoder::encode)
}

/// Writes into a module which world it is of.
fn say_world(module: &mut Vec<u8>, wit: &Path, world: &str) -> Result<()> {
    let mut resolve = Resolve::default();
    let (package, _) =
        resolve.push_dir(wit).with_context(|| format!("{} holds no WIT package", wit.display()))?;
    let world = resolve
        .select_world(&[package], Some(world))
        .with_context(|| format!("{} has no world {world}", wit.display()))?;
    wit_component::embed_component_metadata(module, &resolve, world, StringEncoding::UTF8)
        .context("the module already says that it is of another world")
}

#[cfg(test)]
mod tests {
    use super::*;

    const WORLD: &str = "package a:b; world w { export answer: func() -> u32; }";

    fn made(text: &str, world: &str) -> Result<Vec<u8>> {
        let folder = tempfile::tempdir().unwrap();
        let (module, wit) = (folder.path().join("m.wasm"), folder.path().join("wit"));
        std::fs::create_dir(&wit).unwrap();
        std::fs::write(wit.join("w.wit"), WORLD).unwrap();
        std::fs::write(&module, wat::parse_str(text).unwrap()).unwrap();
        let output = folder.path().join("c.wasm");
        make(&module, Some((&wit, world)), &output)?;
        Ok(std::fs::read(output).unwrap())
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
        let error = format!("{:#}", made("(module)", "w").unwrap_err());
        assert!(error.contains("does not become a component"), "{error}");
        assert!(error.contains("answer"), "{error}");
    }

    #[test]
    fn a_world_that_is_not_there_is_named() {
        let module = r#"(module (func (export "answer") (result i32) i32.const 42))"#;
        let error = format!("{:#}", made(module, "other").unwrap_err());
        assert!(error.contains("has no world other"), "{error}");
    }
}
