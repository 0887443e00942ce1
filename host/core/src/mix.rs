//! Spreading keys: where a number decides something that must come out the same on
//! every machine, and neighbouring numbers must not decide alike.

/// What SplitMix64 adds to its state from one number to the next.
pub const MIX_STEP: u64 = 0x9e37_79b9_7f4a_7c15;

/// Spreads a key over 64 bits: the output function of SplitMix64 (Steele, Lea, Flood
/// 2014). Each bit of the key moves about half of the result's. The keys k,
/// k + [`MIX_STEP`], k + 2 [`MIX_STEP`] ... give that generator's numbers.
pub fn mix(key: u64) -> u64 {
    let mut z = key.wrapping_add(MIX_STEP);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The first numbers of SplitMix64 from the seed 1234567, by its authors' code.
    #[test]
    fn it_gives_the_generators_numbers() {
        let numbers: Vec<u64> =
            (0..3u64).map(|i| mix(1_234_567u64.wrapping_add(i.wrapping_mul(MIX_STEP)))).collect();
        assert_eq!(
            numbers,
            [6_457_827_717_110_365_317, 3_203_168_211_198_807_973, 9_817_491_932_198_370_423]
        );
    }
}
