//! Medians and how far they can be trusted.

use rand_xoshiro::Xoshiro256PlusPlus;
use rand_xoshiro::rand_core::{Rng, SeedableRng};

/// Samples that are drawn for a confidence interval.
const RESAMPLES: usize = 2_000;

/// What several rounds say together.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Summary {
    /// The median.
    pub median: f64,
    /// A 95 % confidence interval of the median, by the bootstrap (Efron 1979, percentile method). Of fewer than three
    /// rounds it says no more than their range.
    pub interval: [f64; 2],
    /// The least and the greatest.
    pub range: [f64; 2],
    /// How many rounds there were.
    pub rounds: usize,
}

impl Summary {
    /// Sums up the values of some rounds; `None` of none.
    #[must_use]
    pub fn of(values: impl IntoIterator<Item = f64>) -> Option<Self> {
        let mut values: Vec<f64> = values.into_iter().filter(|value| value.is_finite()).collect();
        values.sort_by(f64::total_cmp);
        let range = [*values.first()?, *values.last()?];
        let interval = if values.len() < 3 { range } else { interval(&values) };
        Some(Self { median: median(&values), interval, range, rounds: values.len() })
    }

    /// Whether `value` is outside of the confidence interval.
    #[must_use]
    pub fn differs_from(&self, value: f64) -> bool {
        self.rounds >= 3 && !(self.interval[0]..=self.interval[1]).contains(&value)
    }
}

/// The median of sorted values.
fn median(sorted: &[f64]) -> f64 {
    let middle = sorted.len() / 2;
    if sorted.len() % 2 == 1 { sorted[middle] } else { f64::midpoint(sorted[middle - 1], sorted[middle]) }
}

/// Medians of as many values drawn at random, again and again: the middle 95 % of them. The same values give the same
/// interval always.
fn interval(sorted: &[f64]) -> [f64; 2] {
    let mut random = Xoshiro256PlusPlus::seed_from_u64(sorted.len() as u64);
    let mut drawn = vec![0.0; sorted.len()];
    let mut medians: Vec<f64> = (0..RESAMPLES)
        .map(|_| {
            drawn.fill_with(|| sorted[(random.next_u64() % sorted.len() as u64) as usize]);
            drawn.sort_by(f64::total_cmp);
            median(&drawn)
        })
        .collect();
    medians.sort_by(f64::total_cmp);
    [medians[RESAMPLES / 40], medians[RESAMPLES - 1 - RESAMPLES / 40]]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_summary_is_the_median_within_its_interval_within_the_range() {
        let summary = Summary::of([5.0, 1.0, 3.0, 2.0, 4.0, f64::NAN]).unwrap();
        assert_eq!((summary.median, summary.range, summary.rounds), (3.0, [1.0, 5.0], 5));
        let [low, high] = summary.interval;
        assert!((1.0..3.0).contains(&low) && high > 3.0 && high <= 5.0, "{summary:?}");
        assert!(summary.differs_from(6.0) && !summary.differs_from(3.0));
        assert_eq!(Summary::of([1.0, 3.0]).unwrap().median, 2.0);
        assert_eq!(Summary::of([]), None);
    }

    #[test]
    fn more_rounds_of_the_same_spread_are_trusted_more() {
        let width = |rounds: u32| {
            let [low, high] = Summary::of((0..rounds).map(|round| f64::from(round % 5))).unwrap().interval;
            high - low
        };
        assert!(width(45) < width(5), "{} and {}", width(45), width(5));
    }
}
