//! Code that was compiled lately, kept so that a policy that is put in place while requests
//! run takes as little of their time as can be: whole components, which are rolled back to
//! or loaded again, and single functions, of which the next version of a policy (and any
//! other one in the same language) has most in common with this one.

use std::borrow::Cow;
use std::collections::{HashMap, VecDeque};
use std::sync::{Mutex, PoisonError};

use wasmtime::CacheStore;
use wasmtime::component::Component;

/// The components that were compiled last, by digest.
#[derive(Default)]
pub(crate) struct Components(Mutex<VecDeque<(String, Component)>>);

impl Components {
    /// A component with its code takes some hundred KiB, a script engine's some
    /// tens of MiB.
    const KEPT: usize = 4;

    pub(crate) fn get(&self, digest: &str) -> Option<Component> {
        let kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        kept.iter().find(|(d, _)| d == digest).map(|(_, component)| component.clone())
    }

    pub(crate) fn put(&self, digest: &str, component: &Component) {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        kept.retain(|(d, _)| d != digest);
        kept.push_front((digest.to_owned(), component.clone()));
        kept.truncate(Self::KEPT);
    }
}

/// Functions that were compiled lately, by what they are compiled from and with which
/// settings (SHA-256, computed by Cranelift). They never leave this process: unlike a folder,
/// nobody else can write here.
#[derive(Debug, Default)]
pub(crate) struct Functions(Mutex<Generations>);

/// What was used since the last turn, and what was before it: when the younger half is full
/// the older one goes, so that what is used stays.
#[derive(Debug, Default)]
struct Generations {
    young: HashMap<Vec<u8>, Vec<u8>>,
    old: HashMap<Vec<u8>, Vec<u8>>,
    young_bytes: usize,
}

impl Functions {
    /// Bytes of either half. A policy in Rust takes about one MiB, a script engine's
    /// functions would fill this several times, and so are compiled anew.
    const HALF: usize = 8 << 20;
    /// What an entry takes beside its key and its code.
    const ENTRY: usize = 96;
}

impl Generations {
    fn put(&mut self, key: Vec<u8>, code: Vec<u8>) {
        let bytes = key.len() + code.len() + Functions::ENTRY;
        if self.young_bytes + bytes > Functions::HALF {
            self.old = std::mem::take(&mut self.young);
            self.young_bytes = 0;
        }
        if bytes <= Functions::HALF && self.young.insert(key, code).is_none() {
            self.young_bytes += bytes;
        }
    }
}

impl CacheStore for Functions {
    fn get(&self, key: &[u8]) -> Option<Cow<'_, [u8]>> {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((key, code)) = kept.old.remove_entry(key) {
            kept.put(key, code);
        }
        kept.young.get(key).map(|code| Cow::Owned(code.clone()))
    }

    fn insert(&self, key: &[u8], code: Vec<u8>) -> bool {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        kept.put(key.to_vec(), code);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: usize = 1 << 20;

    #[test]
    fn what_is_used_stays_and_the_rest_goes() {
        let functions = Functions::default();
        let key = |i: u32| i.to_le_bytes();
        for i in 0..100 {
            assert!(functions.insert(&key(i), vec![i as u8; MIB]));
            assert_eq!(functions.get(&key(0)).as_deref(), Some(&vec![0; MIB][..]));
            let kept = functions.0.lock().unwrap();
            assert!(kept.young_bytes <= Functions::HALF);
            assert!(kept.young.len() + kept.old.len() <= 2 * Functions::HALF / MIB);
        }
        assert!(functions.get(&key(99)).is_some() && functions.get(&key(50)).is_none());
    }

    #[test]
    fn what_does_not_fit_is_not_kept() {
        let functions = Functions::default();
        functions.insert(b"huge", vec![0; Functions::HALF]);
        assert_eq!(functions.get(b"huge"), None);
        functions.insert(b"twice", vec![1; MIB]);
        let once = functions.0.lock().unwrap().young_bytes;
        functions.insert(b"twice", vec![1; MIB]);
        assert_eq!(functions.0.lock().unwrap().young_bytes, once);
    }
}
