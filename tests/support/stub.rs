//! The library that stands in for AscendCL (`host/ascendcl/tests/stub`): built, opened,
//! told to fail, asked what was wrong.
#![allow(dead_code, clippy::unwrap_used)] // Each test binary uses a part of it.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::{Path, PathBuf};
use std::process::Command;

/// The library, built by the `rustc` that is at hand unless it has been built before.
pub fn build(target: &str) -> PathBuf {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../ascendcl/tests/stub");
    let mut files: Vec<PathBuf> =
        std::fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    let mut hasher = DefaultHasher::new();
    files.iter().for_each(|file| std::fs::read(file).unwrap().hash(&mut hasher));
    let library = Path::new(target).join(format!("libascendcl_stub_{:x}.so", hasher.finish()));
    if library.is_file() {
        return library;
    }
    // Several tests may build it at once; the last one's is as good as the first one's.
    let building = tempfile::tempdir_in(target).unwrap();
    let built = building.path().join("stub.so");
    let rustc = std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    let status = Command::new(rustc)
        .args(["--edition", "2024", "--crate-type", "cdylib", "--crate-name", "ascendcl_stub"])
        .args(["-C", "opt-level=2", "-o"])
        .args([&built, &folder.join("lib.rs")])
        .status()
        .unwrap();
    assert!(status.success(), "the stub library does not build");
    std::fs::rename(built, &library).unwrap();
    library
}

/// The library as it is open in this process.
pub struct Stub {
    library: libloading::Library,
    pub path: PathBuf,
}

impl Stub {
    pub fn open(target: &str) -> Self {
        let path = build(target);
        // SAFETY: it was just built and does nothing when it is opened.
        let library = unsafe { libloading::Library::new(&path) }.unwrap();
        Self { library, path }
    }

    /// Lets the n-th call from now on fail with `status`; none where n is 0.
    pub fn fail_at(&self, n: u64, status: i32) {
        // SAFETY: the function has this signature (`control.rs`); likewise below.
        unsafe {
            self.library.get::<extern "C" fn(u64, i32)>("aio_stub_fail_at").unwrap()(n, status)
        }
    }

    /// The names of the calls since then.
    pub fn calls(&self) -> Vec<String> {
        self.text("aio_stub_calls").lines().map(str::to_owned).collect()
    }

    /// The name of the call that was failed; empty where none was.
    pub fn failed(&self) -> String {
        self.text("aio_stub_failed")
    }

    /// What was wrong since somebody asked last, a line each.
    pub fn violations(&self) -> String {
        self.text("aio_stub_violations")
    }

    /// What has not been given back.
    pub fn left(&self) -> String {
        self.text("aio_stub_left")
    }

    /// Forgets everything, as a new process does.
    pub fn new_process(&self) {
        // SAFETY: see `fail_at`.
        unsafe { self.library.get::<extern "C" fn()>("aio_stub_new_process").unwrap()() }
    }

    fn text(&self, name: &str) -> String {
        let mut text = vec![0u8; 1 << 20];
        // SAFETY: see `fail_at`; the pointer is to as many bytes as it is told.
        let length = unsafe {
            let give = self.library.get::<unsafe extern "C" fn(*mut u8, usize) -> usize>(name);
            give.unwrap()(text.as_mut_ptr(), text.len())
        };
        text.truncate(length);
        String::from_utf8(text).unwrap()
    }
}
