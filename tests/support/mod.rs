//! What the end-to-end tests share: models from the cache (or a skip), a runner
//! over them, and policies made of a configuration.
#![allow(dead_code, clippy::unwrap_used)] // Each test binary uses a part of it.

pub mod client;
pub mod load;
pub mod models;
pub mod refused;
pub mod server;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use aio_core::RequestRecord;
use aio_engine::chat::Message;
use aio_engine::device::{self, DeviceOptions};
use aio_engine::sampling::Sampling;
use aio_policy::{PolicyHost, PolicyRuntime, PolicySource, Setup};
use aio_serve::{Prompt, Request, Runner, Sink, TierSource, Tiers};

pub use models::model_path;

/// The named models as tiers, if all of them are in the cache.
pub fn tiers(names: &[&str]) -> Option<Tiers> {
    tiers_on(device::DEFAULT, names)
}

/// The same on a device.
pub fn tiers_on(device: &str, names: &[&str]) -> Option<Tiers> {
    let source =
        |name: &&str| Some(TierSource { name: (*name).to_owned(), path: model_path(name)? });
    let sources: Vec<TierSource> = names.iter().map(source).collect::<Option<_>>()?;
    let device = device::by_name(device, DeviceOptions::default()).unwrap();
    Some(Tiers::open(&sources, &*device, None).unwrap())
}

/// A runner over the named models under `policy`, if they are in the cache.
pub fn runner(names: &[&str], policy: &str, config: &str) -> Option<Runner> {
    let tiers = tiers(names)?;
    let policy = load(policy, config, &tiers);
    Some(Runner::new(tiers, policy))
}

/// A policy by name or path, loaded for these tiers.
pub fn load(policy: &str, config: &str, tiers: &Tiers) -> Arc<PolicyHost> {
    let source = PolicySource::from_argument(policy).unwrap();
    let config = Some(config.to_owned()).filter(|c| !c.is_empty());
    let setup = Setup { config, ..Setup::new(tiers.info().clone()) };
    let runtime = PolicyRuntime::new().unwrap();
    Arc::new(PolicyHost::load(&runtime, &source, setup, Default::default()).unwrap())
}

/// A request with one user turn.
pub fn chat(prompt: &str, max_tokens: usize, sampling: Sampling) -> Request {
    let prompt = Prompt::Chat(vec![Message::user(prompt)]);
    Request::new(prompt, max_tokens, sampling)
}

/// Builds `tests/policies/NAME.wat` into `folder`.
pub fn hostile(name: &str, folder: &Path) -> PathBuf {
    let source = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../../tests/policies")
        .join(format!("{name}.wat"));
    let file = folder.join(format!("{name}.wasm"));
    std::fs::write(&file, wat::parse_file(source).unwrap()).unwrap();
    file
}

/// Collects the streamed text.
#[derive(Default)]
pub struct Collect(pub String);

impl Sink for Collect {
    fn text(&mut self, text: &str) {
        self.0.push_str(text);
    }
}

/// Answers `request`, checking that what was streamed is what the record says.
pub fn answer(runner: &mut Runner, request: &Request) -> RequestRecord {
    let mut streamed = Collect::default();
    let record = runner.run(request, &mut streamed).unwrap();
    assert_eq!(streamed.0, record.text, "the stream differs from the record");
    record
}
