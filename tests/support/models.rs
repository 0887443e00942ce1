//! Finding real models for tests: in the cache, or not at all.

use std::path::PathBuf;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// A catalogue model's file, if it is in the cache; else says on stderr that the
/// test is skipped for lack of it.
pub fn model_path(name: &str) -> Option<PathBuf> {
    let model = aio_models::Catalogue::embedded().model(name).ok()?;
    let found = aio_models::Cache::from_env().ok()?.path_if_present(model);
    if found.is_none() {
        eprintln!("skipped: {name} is not in the cache (`aio models pull {name}` fetches it)");
    }
    found
}

/// Tests that run models take turns: each uses all cores, and a model's threads wait
/// for each other by spinning, which would take the cores from other tests.
#[allow(dead_code)] // Not every test binary has several of them.
pub fn alone() -> MutexGuard<'static, ()> {
    static TURN: Mutex<()> = Mutex::new(());
    TURN.lock().unwrap_or_else(PoisonError::into_inner)
}
