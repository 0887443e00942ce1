//! Replacing the policy again and again: by a call, or by writing a file that is
//! watched, and timing how long it takes until the new one decides.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use aio_policy::{FileWatch, PolicyHost, PolicySource};

use super::kinds::Kind;
use super::notes::{Note, Notes};
use super::serving::{First, Seen, Serving};

/// How long a reload may take before the soak gives up.
const PATIENCE: Duration = Duration::from_secs(120);

/// Replaces a host's policy.
pub struct Reloading {
    policies: Arc<PolicyHost>,
    kinds: Vec<Kind>,
    /// The next reload's number: which of the kinds, and its configuration.
    next: AtomicU64,
    noted: Mutex<Noted>,
}

/// What is noted of reloads.
#[derive(Debug, Default)]
struct Noted {
    /// What each generation must say.
    stamps: Notes,
    /// Reloads that failed.
    failed: Vec<String>,
}

/// What reloads came to.
#[derive(Debug, Default)]
pub struct Told {
    /// What each generation must say.
    pub stamps: HashMap<u64, String>,
    /// Reloads that failed.
    pub failed: Vec<String>,
}

impl Reloading {
    pub fn new(policies: &Arc<PolicyHost>, kinds: Vec<Kind>) -> Self {
        let noted = Mutex::default();
        Self { policies: Arc::clone(policies), kinds, next: AtomicU64::new(0), noted }
    }

    fn kind(&self, number: u64) -> &Kind {
        &self.kinds[(number % self.kinds.len() as u64) as usize]
    }

    /// Loads the policy of this number; returns its generation.
    fn load(&self, source: &PolicySource, number: u64) -> Option<u64> {
        let kind = self.kind(number);
        let reloaded = self.policies.reload(source, Some((kind.config)(number)));
        let mut noted = self.noted.lock().unwrap();
        match reloaded {
            Ok(reloaded) => {
                let generation = reloaded.policy.generation;
                noted.stamps.add(&Note::Stamp(generation, (kind.stamp)(number)));
                Some(generation)
            }
            Err(error) => {
                noted.failed.push(format!("reload {number} at {}: {error}", error.step()));
                None
            }
        }
    }

    /// Reloads at once, from bytes at hand.
    pub fn reload(&self) {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let bytes = self.kind(number).bytes.clone();
        self.load(&PolicySource::Bytes { name: "soak".into(), bytes }, number);
    }

    /// Watches a file, and loads what is written to it.
    pub fn watch(self: &Arc<Self>, path: &Path) -> FileWatch {
        let (reloading, source) = (Arc::clone(self), PolicySource::File(path.to_owned()));
        let load = move || {
            reloading.load(&source, reloading.next.load(Ordering::Relaxed));
        };
        FileWatch::start(path, load).unwrap()
    }

    /// Writes the next policy to the watched file and waits until it decides;
    /// returns how long that took from the closing of the file, in seconds.
    pub fn write(&self, path: &Path, decided: &Receiver<First>) -> Option<f64> {
        let number = self.next.load(Ordering::Relaxed);
        let expected = (self.kind(number).stamp)(number);
        // A generation before may decide for the first time only now.
        let before = self.policies.current().identity().generation;
        let failed = self.noted.lock().unwrap().failed.len();
        std::fs::write(path, &self.kind(number).bytes).unwrap();
        let closed = Instant::now();
        let took = loop {
            match decided.recv_timeout(Duration::from_millis(100)) {
                Ok((generation, at)) if generation > before => {
                    break Some((at - closed).as_secs_f64());
                }
                Ok(_) => {}
                Err(_) if self.noted.lock().unwrap().failed.len() > failed => break None,
                Err(_) if closed.elapsed() > PATIENCE => {
                    let sentence = format!("reload {number} ({expected}) never came to decide");
                    self.noted.lock().unwrap().failed.push(sentence);
                    break None;
                }
                Err(_) => {}
            }
        };
        self.next.fetch_add(1, Ordering::Relaxed);
        took
    }

    pub fn told(&self) -> Told {
        let Noted { stamps, failed } = std::mem::take(&mut *self.noted.lock().unwrap());
        let stamps = stamps.read().filter_map(|note| match note {
            Note::Stamp(generation, stamp) => Some((generation, stamp)),
            Note::Plan(_) | Note::End(_) => None,
        });
        Told { stamps: stamps.collect(), failed }
    }
}

/// What a soak came to.
#[derive(Debug, Default)]
pub struct Soaked {
    pub seen: Seen,
    pub told: Told,
    /// From a file's closing to the first decision of what is in it, in seconds.
    pub latencies: Vec<f64>,
}

impl Soaked {
    /// Decisions that are not of the generation and configuration that they should
    /// be of. `first`: the generation that was in place at the beginning, which the
    /// reloads do not know.
    pub fn mixed(&self, first: u64) -> Vec<String> {
        let mut mixed = self.seen.mixed.clone();
        for (generation, said) in &self.seen.stamps {
            let expected = self.told.stamps.get(generation);
            if *generation != first && expected != Some(said) {
                mixed.push(format!("generation {generation} said {said}, not {expected:?}"));
            }
        }
        mixed
    }
}

/// Serves on `threads` while `reload` replaces policies: it is given the reloading,
/// a watched file, and where first decisions are told.
pub fn soak(
    policies: &Arc<PolicyHost>,
    kinds: Vec<Kind>,
    threads: usize,
    round: Duration,
    reload: impl FnOnce(&Reloading, &Path, &Receiver<First>) -> Vec<f64>,
) -> Soaked {
    let folder = tempfile::tempdir().unwrap();
    let path: PathBuf = folder.path().join("policy.wasm");
    let reloading = Arc::new(Reloading::new(policies, kinds));
    let serving = Serving::new(policies, round);
    let (first, decided) = channel();
    serving.tell(first);
    let watch = reloading.watch(&path);
    let (seen, latencies) = std::thread::scope(|scope| {
        let requests: Vec<_> = (0..threads).map(|_| scope.spawn(|| serving.serve())).collect();
        // Whatever goes wrong here, the threads must end.
        let reloaded = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            reload(&reloading, &path, &decided)
        }));
        serving.stop();
        let seen = requests.into_iter().map(|thread| thread.join().unwrap()).collect();
        (Seen::of(seen), reloaded.unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
    });
    drop(watch);
    Soaked { seen, told: reloading.told(), latencies }
}
