//! A share of requests: which of them a canary takes. The same request always
//! goes the same way, and whoever is in a share is in every larger one, so that
//! raising it moves nobody back. Knows no policies.

use std::str::FromStr;

use aio_core::mix;

/// The parts that a share is counted in: a ten-thousandth of a per cent.
const WHOLE: u32 = 1_000_000;

/// A share of requests, from none to all, in steps of a ten-thousandth of a per cent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Share(u32);

impl Share {
    /// All requests.
    pub const ALL: Self = Self(WHOLE);
    /// None of them.
    pub const NONE: Self = Self(0);

    /// So many per cent, from 0 to 100, rounded to a ten-thousandth; `None` for
    /// anything else, and for what is more than 0 and would be rounded to it.
    pub fn percent(percent: f64) -> Option<Self> {
        if !(0.0..=100.0).contains(&percent) {
            return None;
        }
        let parts = (percent / 100.0 * f64::from(WHOLE)).round() as u32;
        (parts > 0 || percent == 0.0).then_some(Self(parts))
    }

    /// In per cent.
    pub fn as_percent(self) -> f64 {
        f64::from(self.0) * 100.0 / f64::from(WHOLE)
    }

    /// Whether the request with this key belongs to it. Keys may be as regular as
    /// they like (1, 2, 3 ...): they are mixed first (SplitMix64).
    pub fn takes(self, key: u64) -> bool {
        let spread = (u128::from(mix(key)) * u128::from(WHOLE)) >> 64;
        spread < u128::from(self.0)
    }
}

impl std::fmt::Display for Share {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}%", self.as_percent())
    }
}

impl FromStr for Share {
    type Err = String;

    /// As on the command line: `10%`, `0.5%`.
    fn from_str(text: &str) -> Result<Self, String> {
        let percent = text.strip_suffix('%').and_then(|number| number.trim_end().parse().ok());
        percent.and_then(Self::percent).ok_or_else(|| {
            format!(
                "\"{text}\" is no share of requests: give a percentage from 0% to 100%, in steps \
                 of 0.0001, for example 10%"
            )
        })
    }
}

/// The key of a request that is known by a text: a user's name, a conversation's
/// first words. The same text gives the same key on every machine (FNV-1a).
pub fn request_key(text: &str) -> u64 {
    text.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_are_read_as_they_are_written() {
        for text in ["0%", "10%", "0.5%", "33.3333%", "100%"] {
            assert_eq!(text.parse::<Share>().unwrap().to_string(), text);
        }
        assert_eq!("10 %".parse(), Ok(Share(100_000)));
        for text in ["10", "0.1", "", "%", "x%", "-1%", "101%", "NaN%", "inf%", "0.00001%"] {
            let error = text.parse::<Share>().unwrap_err();
            assert!(error.starts_with(&format!("\"{text}\" is no share")), "{error}");
        }
    }

    #[test]
    fn a_share_takes_its_share_of_numbered_and_of_named_requests() {
        for percent in [0.0, 0.5, 10.0, 50.0, 99.0, 100.0] {
            let share = Share::percent(percent).unwrap();
            let numbered = (1..=100_000).filter(|&key| share.takes(key)).count() as f64 / 1000.0;
            let names = (0..100_000).map(|i| request_key(&format!("user-{i}")));
            let named = names.filter(|&key| share.takes(key)).count() as f64 / 1000.0;
            for taken in [numbered, named] {
                assert!((taken - percent).abs() <= 0.3, "{taken} % taken of {percent} %");
            }
        }
    }

    #[test]
    fn who_is_in_a_share_is_in_every_larger_one() {
        let shares = [0.0, 1.0, 5.0, 25.0, 100.0].map(|p| Share::percent(p).unwrap());
        for key in 0..10_000 {
            let taken = shares.map(|share| share.takes(key));
            assert!(taken.is_sorted(), "{key}: {taken:?}");
        }
    }

    #[test]
    fn which_requests_it_takes_never_changes() {
        let tenth: Share = "10%".parse().unwrap();
        let taken: Vec<u64> = (1..=60).filter(|&key| tenth.takes(key)).collect();
        assert_eq!(taken, [10, 18, 21, 41, 48]);
        assert_eq!(request_key("a"), 0xaf63_dc4c_8601_ec8c);
    }
}
