//! Learned state, carried over a reload: JSON in an envelope with a version
//! number that the policy chooses. What cannot be read is dropped with a line in
//! the log and never an error: a policy without its memory still decides.
//!
//! Raise the version whenever the state's type, or what its numbers mean, changes.

use serde::de::{DeserializeOwned, IgnoredAny};
use serde::{Deserialize, Serialize};

use crate::log;

/// State of a version. Has no instances: the functions are all.
#[derive(Debug)]
pub struct State<const VERSION: u32>;

#[derive(Serialize, Deserialize)]
struct Envelope<T> {
    version: u32,
    state: T,
}

impl<const VERSION: u32> State<VERSION> {
    /// What [`crate::Policy::snapshot`] is to return. Empty, which carries
    /// nothing, if the state has no JSON form.
    pub fn save<T: Serialize>(state: &T) -> Vec<u8> {
        serde_json::to_vec(&Envelope { version: VERSION, state }).unwrap_or_else(|error| {
            log::warn(&format!("its state cannot be saved: {error}"));
            Vec::new()
        })
    }

    /// What was saved, from [`crate::Start::carried`]. `None` when there is none,
    /// when another version saved it, and when it is damaged.
    pub fn load<T: DeserializeOwned>(carried: Option<&[u8]>) -> Option<T> {
        let carried = carried.filter(|bytes| !bytes.is_empty())?;
        let found = match serde_json::from_slice::<Envelope<IgnoredAny>>(carried) {
            Ok(envelope) => envelope.version,
            Err(error) => {
                log::warn(&format!("the carried state is damaged and dropped: {error}"));
                return None;
            }
        };
        if found != VERSION {
            log::warn(&format!(
                "the carried state has version {found}, this policy reads {VERSION}: dropped"
            ));
            return None;
        }
        match serde_json::from_slice::<Envelope<T>>(carried) {
            Ok(envelope) => Some(envelope.state),
            Err(error) => {
                log::warn(&format!("the carried state is damaged and dropped: {error}"));
                None
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    type V2 = State<2>;

    #[test]
    fn what_is_saved_is_loaded() {
        let saved = V2::save(&vec![1.5f32, 2.0]);
        assert_eq!(V2::load(Some(&saved)), Some(vec![1.5f32, 2.0]));
    }

    #[test]
    fn no_state_and_another_versions_state_are_none() {
        assert_eq!(V2::load::<u32>(None), None);
        assert_eq!(V2::load::<u32>(Some(b"")), None);
        assert_eq!(V2::load::<u32>(Some(&State::<1>::save(&7))), None);
    }

    #[test]
    fn a_state_of_another_type_or_cut_short_is_none() {
        let saved = V2::save(&"text");
        assert_eq!(V2::load::<u32>(Some(&saved)), None);
        assert_eq!(V2::load::<String>(Some(&saved[..saved.len() - 1])), None);
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            prop_assert_eq!(V2::load::<Vec<u32>>(Some(&bytes)), None);
        }
    }
}
