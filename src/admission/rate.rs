//! Buckets of tokens, each a single number.
//!
//! What is kept is when the bucket will be full again: a token that is spent moves that moment by the time it takes to
//! grow one, and a bucket is empty when the moment is too far away (the generic cell rate algorithm, ITU-T I.371). So a
//! bucket needs no timer, and one that is full is no different from one that was never used.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::tick::Tick;

/// Moments are told in sixteenths of a microsecond, so that a million a second is kept to 3 %.
const PARTS_PER_MS: u64 = 16_000;

/// How fast tokens grow, and how many a bucket holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate {
    /// The time that one takes.
    one: u64,
    /// The time that a whole bucket takes.
    all: u64,
}

impl Rate {
    /// `per_second` tokens, from 1 to a million, and at most `burst` at once.
    #[must_use]
    pub fn new(per_second: u32, burst: u32) -> Self {
        let per_second = u64::from(per_second);
        let one = (PARTS_PER_MS * 1_000 + per_second / 2) / per_second;
        Self { one, all: one * u64::from(burst) }
    }

    /// `per_second` tokens, and at most those of a tenth of a second at once, or one.
    #[must_use]
    pub fn evenly(per_second: u32) -> Self {
        Self::new(per_second, (per_second / 10).max(1))
    }

    /// When a bucket that is full at `full` is full again after one more token is spent at `now`; `None` when it has
    /// none.
    pub(super) fn spend(self, full: u64, now: Tick) -> Option<u64> {
        let now = moment(now);
        let next = full.max(now) + self.one;
        (next - now <= self.all).then_some(next)
    }
}

/// A moment in the unit of buckets.
pub(super) fn moment(now: Tick) -> u64 {
    now.0.saturating_mul(PARTS_PER_MS)
}

/// A bucket that all workers take from; it has a cache line of its own.
#[derive(Debug, Default)]
#[repr(align(64))]
pub struct Bucket {
    full: AtomicU64,
}

impl Bucket {
    /// Spends a token, or says `false` when there is none.
    #[must_use]
    pub fn take(&self, rate: Rate, now: Tick) -> bool {
        self.full.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |full| rate.spend(full, now)).is_ok()
    }

    /// Whether a [`Bucket::take`] would succeed now.
    #[must_use]
    pub fn has_one(&self, rate: Rate, now: Tick) -> bool {
        rate.spend(self.full.load(Ordering::Relaxed), now).is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// How many of `tries` in each millisecond from `from` on succeed.
    fn taken(bucket: &Bucket, rate: Rate, from: u64, ms: u64, tries: u64) -> usize {
        let moments = (from..from + ms).flat_map(|at| (0..tries).map(move |_| Tick(at)));
        moments.filter(|now| bucket.take(rate, *now)).count()
    }

    #[test]
    fn a_bucket_gives_its_burst_and_then_its_rate() {
        for (per_second, burst) in [(1, 1), (50, 100), (999, 7), (1_000, 1)] {
            let (bucket, rate) = (Bucket::default(), Rate::new(per_second, burst));
            let first = taken(&bucket, rate, 5_000, 1, 2 * u64::from(burst) + 2);
            assert_eq!(first, burst as usize, "{per_second}/s, burst {burst}");
            let then = taken(&bucket, rate, 5_001, 10_000, 3);
            let fair = 10 * per_second as usize;
            assert!(then.abs_diff(fair) <= 1 + fair / 100, "{then} in 10 s of {per_second}/s");
            // Who waits has all of it again.
            let later = 5_001 + 10_000 + 1_000 * u64::from(burst) / u64::from(per_second) + 1;
            assert_eq!(taken(&bucket, rate, later, 1, 2 * u64::from(burst) + 2), burst as usize);
        }
    }

    #[test]
    fn a_million_a_second_is_kept() {
        let (bucket, rate) = (Bucket::default(), Rate::evenly(1_000_000));
        assert_eq!(taken(&bucket, rate, 1, 1, 200_000), 100_000);
        let then = taken(&bucket, rate, 2, 100, 2_000);
        assert!((96_000..=104_000).contains(&then), "{then} in 100 ms");
    }

    #[test]
    fn whether_there_is_a_token_is_asked_without_taking_one() {
        let (bucket, rate) = (Bucket::default(), Rate::evenly(1));
        assert!(bucket.has_one(rate, Tick(0)) && bucket.has_one(rate, Tick(0)));
        assert!(bucket.take(rate, Tick(0)));
        assert!(!bucket.has_one(rate, Tick(999)));
        assert!(bucket.has_one(rate, Tick(1_000)));
    }
}
