//! Keys and tokens: never printed, and compared in a time that tells nothing of them.

use http::{HeaderMap, header};
use serde::{Deserialize, Serialize, Serializer};
use sha2::{Digest, Sha256};
use subtle::{Choice, ConstantTimeEq};

use crate::error::ApiError;

/// What stands for a secret wherever it would be printed.
const MASK: &str = "********";

/// A key or token.
#[derive(Clone, PartialEq, Eq, Deserialize)]
#[serde(transparent)]
pub struct Secret(String);

impl Secret {
    /// A secret.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// Whether there is nothing to keep.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(MASK)
    }
}

impl Serialize for Secret {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(MASK)
    }
}

/// The secrets that let somebody in.
#[derive(Debug, Clone, Default)]
pub(crate) struct Keys(Vec<[u8; 32]>);

impl Keys {
    pub(crate) fn new<'a>(secrets: impl IntoIterator<Item = &'a Secret>) -> Self {
        Self(secrets.into_iter().map(|secret| digest(&secret.0)).collect())
    }

    /// Lets a request in that brings one of the keys, or any where there is no key.
    pub(crate) fn check(&self, headers: &HeaderMap) -> Result<(), ApiError> {
        if self.0.is_empty() {
            return Ok(());
        }
        let given = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
        let bearer = given.and_then(|value| value.split_once(' '));
        let Some((_, key)) = bearer.filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer"))
        else {
            return Err(ApiError::unauthorized(
                "a key is needed; send it with the header Authorization: Bearer KEY",
            ));
        };
        if self.has(key.trim()) {
            Ok(())
        } else {
            Err(ApiError::unauthorized("the key is not one that this host knows"))
        }
    }

    /// Digests are compared, so that not even a key's length shows in the time, and
    /// always all of them.
    fn has(&self, key: &str) -> bool {
        let given = digest(key);
        let found = self.0.iter().fold(Choice::from(0), |found, key| found | key.ct_eq(&given));
        found.into()
    }
}

fn digest(text: &str) -> [u8; 32] {
    Sha256::digest(text.as_bytes()).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(authorization: &str) -> HeaderMap {
        [(header::AUTHORIZATION, authorization.parse().unwrap())].into_iter().collect()
    }

    #[test]
    fn only_a_known_key_lets_in() {
        let keys = Keys::new(&[Secret::new("one"), Secret::new("two")]);
        for good in ["Bearer one", "bearer two"] {
            assert_eq!(keys.check(&headers(good)), Ok(()));
        }
        for bad in ["Bearer three", "Bearer", "Basic one", "one"] {
            assert!(keys.check(&headers(bad)).is_err(), "{bad}");
        }
        assert!(keys.check(&HeaderMap::new()).is_err());
        assert_eq!(Keys::default().check(&HeaderMap::new()), Ok(()));
    }

    #[test]
    fn a_secret_is_not_printed() {
        let secret = Secret::new("hunter2");
        assert_eq!(format!("{secret:?}"), MASK);
        assert_eq!(serde_json::to_value(&secret).unwrap(), MASK);
    }
}
