//! Random numbers and the gaps between arrivals that are made of them: the same
//! for the same seed, on every machine and for every server.

use aio_core::{MIX_STEP, mix};

/// Random numbers from a seed (SplitMix64).
#[derive(Debug, Clone)]
pub(crate) struct Random(u64);

impl Random {
    /// The numbers of a seed and what else tells them apart.
    pub fn of(seed: u64, parts: &[u64]) -> Self {
        Self(parts.iter().fold(seed, |key, &part| mix(key ^ mix(part))))
    }

    fn next(&mut self) -> u64 {
        let number = mix(self.0);
        self.0 = self.0.wrapping_add(MIX_STEP);
        number
    }

    /// A number above 0 and up to 1.
    fn uniform(&mut self) -> f64 {
        // 53 bits are what an f64 holds.
        ((self.next() >> 11) + 1) as f64 / (1u64 << 53) as f64
    }

    /// A gap of the Poisson process with one arrival a second: exponential, by
    /// inversion.
    pub fn exponential(&mut self) -> f64 {
        -self.uniform().ln()
    }

    /// A normal number (Box and Muller 1958).
    fn normal(&mut self) -> f64 {
        let radius = (2.0 * self.exponential()).sqrt();
        radius * (std::f64::consts::TAU * self.uniform()).cos()
    }

    /// A Gamma number of scale 1, with mean `shape` (Marsaglia and Tsang 2000).
    pub fn gamma(&mut self, shape: f64) -> f64 {
        if shape < 1.0 {
            let boost = self.uniform().powf(1.0 / shape);
            return self.gamma(shape + 1.0) * boost;
        }
        let d = shape - 1.0 / 3.0;
        let c = 1.0 / (9.0 * d).sqrt();
        loop {
            let x = self.normal();
            let v = (1.0 + c * x).powi(3);
            if v > 0.0 && -self.exponential() < 0.5 * x * x + d - d * v + d * v.ln() {
                return d * v;
            }
        }
    }

    /// Puts `items` into a random order (Fisher and Yates).
    pub fn shuffle<T>(&mut self, items: &mut [T]) {
        for last in (1..items.len()).rev() {
            // The bias of a remainder is beyond notice for lists that fit in memory.
            let other = (self.next() % (last as u64 + 1)) as usize;
            items.swap(last, other);
        }
    }
}

/// When requests arrive, in seconds, at `rate` a second, independently of each
/// other: the Poisson process.
pub(crate) fn poisson(rate: f64, random: Random) -> impl Iterator<Item = f64> {
    let mut random = random;
    let mut at = 0.0;
    std::iter::from_fn(move || {
        at += random.exponential() / rate;
        Some(at)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arrivals_are_those_of_their_seed() {
        let arrivals = |seed| poisson(4.0, Random::of(seed, &[])).take(1000).collect::<Vec<_>>();
        assert_eq!(arrivals(7), arrivals(7));
        assert_ne!(arrivals(7), arrivals(8));
        assert!(arrivals(7).is_sorted());
        // 1000 gaps of 0.25 s on average: within 5 standard deviations.
        let last = arrivals(7)[999];
        assert!((210.0..290.0).contains(&last), "{last}");
    }

    #[test]
    fn gamma_numbers_have_their_mean_and_spread() {
        for shape in [0.25, 1.0, 4.0] {
            let mut random = Random::of(1, &[2, 3]);
            let numbers: Vec<f64> = (0..20_000).map(|_| random.gamma(shape)).collect();
            let mean = numbers.iter().sum::<f64>() / 20_000.0;
            let variance = numbers.iter().map(|n| (n - mean).powi(2)).sum::<f64>() / 20_000.0;
            assert!((mean / shape - 1.0).abs() < 0.1, "mean {mean} of shape {shape}");
            assert!((variance / shape - 1.0).abs() < 0.2, "variance {variance} of shape {shape}");
        }
    }

    #[test]
    fn shuffling_loses_nothing() {
        let mut items: Vec<usize> = (0..100).collect();
        Random::of(1, &[]).shuffle(&mut items);
        assert!(!items.is_sorted());
        items.sort_unstable();
        assert!(items.into_iter().eq(0..100));
    }
}
