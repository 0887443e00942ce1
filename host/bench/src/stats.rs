//! Medians and spread. Machines that share their memory with others are noisy
//! to one side, so nothing here uses means.

use serde::Serialize;

/// A sample by its quartiles.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Summary {
    /// Measurements.
    pub count: usize,
    /// Least.
    pub min: f64,
    /// First quartile.
    pub q1: f64,
    /// Median.
    pub median: f64,
    /// Third quartile.
    pub q3: f64,
    /// Greatest.
    pub max: f64,
}

impl Summary {
    /// The quartiles of `values`; `None` where there are none, or one is no number.
    pub fn of(values: &[f64]) -> Option<Self> {
        let sorted = sorted(values)?;
        Some(Self {
            count: sorted.len(),
            min: quantile(&sorted, 0.0),
            q1: quantile(&sorted, 0.25),
            median: quantile(&sorted, 0.5),
            q3: quantile(&sorted, 0.75),
            max: quantile(&sorted, 1.0),
        })
    }
}

/// A sample by the quantiles in which waiting is told.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Percentiles {
    /// Measurements.
    pub count: usize,
    /// Median.
    pub p50: f64,
    /// What 95 of 100 stay below.
    pub p95: f64,
    /// What 99 of 100 stay below.
    pub p99: f64,
    /// Greatest.
    pub max: f64,
}

impl Percentiles {
    /// The quantiles of `values`; `None` where there are none, or one is no number.
    pub fn of(values: &[f64]) -> Option<Self> {
        let sorted = sorted(values)?;
        Some(Self {
            count: sorted.len(),
            p50: quantile(&sorted, 0.5),
            p95: quantile(&sorted, 0.95),
            p99: quantile(&sorted, 0.99),
            max: quantile(&sorted, 1.0),
        })
    }
}

/// The median of `values`; `None` where there are none, or one is no number.
pub fn median(values: &[f64]) -> Option<f64> {
    sorted(values).map(|sorted| quantile(&sorted, 0.5))
}

fn sorted(values: &[f64]) -> Option<Vec<f64>> {
    if values.is_empty() || values.iter().any(|v| v.is_nan()) {
        return None;
    }
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    Some(sorted)
}

/// The value below which `share` of a sorted, non-empty sample lies, between two
/// neighbours by their distance (what R calls type 7).
fn quantile(sorted: &[f64], share: f64) -> f64 {
    let place = share * (sorted.len() - 1) as f64;
    let below = place.floor() as usize;
    let above = (below + 1).min(sorted.len() - 1);
    sorted[below] + (place - below as f64) * (sorted[above] - sorted[below])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quartiles_are_those_of_the_textbook() {
        let summary = Summary::of(&[7.0, 1.0, 3.0, 5.0]).unwrap();
        let expected = Summary { count: 4, min: 1.0, q1: 2.5, median: 4.0, q3: 5.5, max: 7.0 };
        assert_eq!(summary, expected);
        assert_eq!(median(&[3.0, 1.0, 2.0]), Some(2.0));
    }

    #[test]
    fn one_value_is_its_own_spread() {
        let summary = Summary::of(&[2.0]).unwrap();
        assert_eq!((summary.min, summary.q1, summary.median, summary.max), (2.0, 2.0, 2.0, 2.0));
    }

    #[test]
    fn percentiles_are_in_order() {
        let values: Vec<f64> = (0..=100).rev().map(f64::from).collect();
        let expected = Percentiles { count: 101, p50: 50.0, p95: 95.0, p99: 99.0, max: 100.0 };
        assert_eq!(Percentiles::of(&values), Some(expected));
        assert_eq!(Percentiles::of(&[]), None);
    }

    #[test]
    fn nothing_and_no_numbers_have_no_median() {
        assert_eq!(Summary::of(&[]), None);
        assert_eq!(median(&[1.0, f64::NAN]), None);
    }
}
