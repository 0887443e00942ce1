//! Writes the zoo's small animals, and signed components, into `fuzz/seeds/load`, where
//! fuzzing starts.

#![allow(clippy::unwrap_used, reason = "a tool")]

#[path = "../tests/common/mod.rs"]
mod common;
#[path = "../tests/zoo/mod.rs"]
mod zoo;

/// Larger animals slow the fuzzer down more than they teach it.
const MOST_BYTES: usize = 4096;

/// A signature where it belongs, twice, and not at the end.
fn signed() -> [(&'static str, Vec<u8>); 3] {
    let animal = zoo::all().into_iter().find(|animal| animal.name == "realloc-traps");
    let component = animal.unwrap().bytes;
    // Nobody's key, the same each time; other programs write keys of this form.
    let key = format!("302e020100300506032b657004220420{}", "07".repeat(32));
    let signed = aio_policy::sign(&component, &key.parse().unwrap()).unwrap();
    let section = &signed[component.len()..];
    [
        ("signed", signed.clone()),
        ("signed-twice", [&signed, section].concat()),
        ("signed-not-at-the-end", [&component[..8], section, &component[8..]].concat()),
    ]
}

fn main() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../../fuzz/seeds/load");
    let folder = std::path::Path::new(folder);
    std::fs::create_dir_all(folder).unwrap();
    let small = zoo::all().into_iter().filter(|animal| animal.bytes.len() <= MOST_BYTES);
    let mut bytes = 0;
    for animal in small {
        bytes += animal.bytes.len();
        std::fs::write(folder.join(animal.name), animal.bytes).unwrap();
    }
    for (name, seed) in signed() {
        bytes += seed.len();
        std::fs::write(folder.join(name), seed).unwrap();
    }
    println!("{bytes} bytes in {}", folder.display());
}
