//! Writes the zoo's small animals into `fuzz/seeds/load`, where fuzzing starts.

#![allow(clippy::unwrap_used, reason = "a tool")]

#[path = "../tests/common/mod.rs"]
mod common;
#[path = "../tests/zoo/mod.rs"]
mod zoo;

/// Larger animals slow the fuzzer down more than they teach it.
const MOST_BYTES: usize = 4096;

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
    println!("{bytes} bytes in {}", folder.display());
}
