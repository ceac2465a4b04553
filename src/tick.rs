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
        let ms = wait.as_nanos().div_ceil(1_000_000);
        Self(self.0.saturating_add(u64::try_from(ms).unwrap_or(u64::MAX)).saturating_add(1))
    }

    /// How long it takes from `earlier` to here; zero when `earlier` is later.
    #[must_use]
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_millis(self.0.saturating_sub(earlier.0))
    }
}
