//! Time as the pure rooms see it: whole milliseconds, handed in as an argument.

use std::time::Duration;

/// A moment, in milliseconds since the process started its clock.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Tick(pub u64);

impl Tick {
    /// The first moment that is surely `wait` or more from here: a clock's tick is rounded down, so this
    /// is up to two milliseconds late and never early.
    #[must_use]
    pub fn after(self, wait: Duration) -> Self {
        let below_a_second = u64::from(wait.subsec_nanos().div_ceil(1_000_000));
        let ms = wait.as_secs().saturating_mul(1_000).saturating_add(below_a_second);
        Self(self.0.saturating_add(ms).saturating_add(1))
    }

    /// How long it takes from `earlier` to here; zero when `earlier` is later.
    #[must_use]
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_millis(self.0.saturating_sub(earlier.0))
    }
}

/// The whole milliseconds of a time, without the 128 bits of [`Duration::as_millis`], which are slow to divide. Of more than
/// fit it is the most.
#[must_use]
pub fn millis(time: Duration) -> u64 {
    time.as_secs().saturating_mul(1_000).saturating_add(time.subsec_millis().into())
}

/// The lesser of two limits, of which one that is `None` is without end.
pub fn least<T: Ord>(one: Option<T>, other: Option<T>) -> Option<T> {
    match (one, other) {
        (Some(one), Some(other)) => Some(one.min(other)),
        (one, other) => one.or(other),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wait_is_over_a_tick_after_its_last_millisecond_has_begun() {
        let waits = [(0, 0), (1, 1), (999_999, 1), (1_000_000, 1), (1_000_001, 2), (5_000_000_000, 5_000)];
        for (nanos, ms) in waits {
            assert_eq!(Tick(7).after(Duration::from_nanos(nanos)), Tick(7 + ms + 1), "{nanos}");
        }
        assert_eq!(Tick(7).after(Duration::from_nanos(u64::MAX)), Tick(7 + u64::MAX / 1_000_000 + 2));
        assert_eq!(Tick(7).after(Duration::MAX), Tick(u64::MAX));
    }

    #[test]
    fn milliseconds_are_those_of_the_standard_library() {
        for nanos in [0, 999_999, 1_000_000, 1_999_999, 5_000_000_000, 7_123_456_789, u64::MAX] {
            let time = Duration::from_nanos(nanos);
            assert_eq!(u128::from(millis(time)), time.as_millis());
        }
        assert_eq!(millis(Duration::MAX), u64::MAX);
    }

    #[test]
    fn the_lesser_limit_is_the_one_that_there_is() {
        let [one, two] = [1, 2].map(Some);
        assert_eq!(
            [least(one, two), least(two, one), least(one, None), least(None, two)],
            [one, one, one, two]
        );
        assert_eq!(least::<u8>(None, None), None);
    }
}
