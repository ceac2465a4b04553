//! When requests are to be sent, whether or not those before were answered: so that a proxy that stops for a moment is
//! charged for everybody who would have come meanwhile, and the figures are free of coordinated omission.

use rand_xoshiro::Xoshiro256PlusPlus;
use rand_xoshiro::rand_core::{Rng, SeedableRng};

/// Arrivals as of many independent clients: a Poisson process. The same rate gives the same times always.
#[derive(Debug)]
pub(super) struct Schedule {
    random: Xoshiro256PlusPlus,
    /// The mean distance of two, in nanoseconds.
    mean: f64,
    /// The next one, in nanoseconds.
    next: f64,
}

impl Schedule {
    /// So many a second, from `start` on, in nanoseconds.
    pub(super) fn new(rate: f64, start: u64) -> Self {
        let mut schedule = Self {
            random: Xoshiro256PlusPlus::seed_from_u64(rate as u64),
            mean: 1e9 / rate,
            next: start as f64,
        };
        schedule.advance();
        schedule
    }

    /// When the next one is due.
    pub(super) fn due(&self) -> u64 {
        self.next as u64
    }

    pub(super) fn advance(&mut self) {
        // 53 random bits, never 0.
        let uniform = ((self.random.next_u64() >> 11) + 1) as f64 / (1_u64 << 53) as f64;
        self.next -= self.mean * uniform.ln();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arrivals_keep_the_rate_and_come_in_bunches() {
        let mut schedule = Schedule::new(10_000.0, 1_000);
        let mut gaps = Vec::new();
        for _ in 0..100_000 {
            let before = schedule.due();
            schedule.advance();
            gaps.push((schedule.due() - before) as f64);
        }
        let mean = gaps.iter().sum::<f64>() / gaps.len() as f64;
        assert!((mean / 100_000.0 - 1.0).abs() < 0.02, "{mean}");
        let variance = gaps.iter().map(|gap| (gap - mean).powi(2)).sum::<f64>() / gaps.len() as f64;
        assert!(
            (variance.sqrt() / mean - 1.0).abs() < 0.05,
            "an exponential distribution has a deviation of its mean"
        );
    }
}
