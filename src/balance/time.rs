//! How long it takes to reach a server and to get its answer, as means that rise at once and fall slowly: peak EWMA, as in
//! Finagle.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::tick::Tick;

/// What was seen so long ago counts 1/e.
const DECAY: Duration = Duration::from_secs(10);

/// How finely that is measured.
const BEAT_MS: u64 = 64;

/// How long one server takes, where its pool chooses by that.
#[derive(Debug, Default)]
pub struct Latency {
    /// Until it is connected to.
    pub connect: PeakEwma,
    /// From the last bytes that it was given before its first ones, or from its connection, until those came.
    pub answer: PeakEwma,
    /// Until when it counts as farther than all others, as a tick.
    failed_until: AtomicU64,
}

/// How long a server that has failed counts as far at least.
const FAILED_FOR: Duration = Duration::from_secs(1);
/// How far: no server that works is.
const FAILED_MS: f32 = 1e6;

impl Latency {
    /// Both means in milliseconds, as [`PeakEwma::mean_ms`] has them.
    #[must_use]
    pub fn means_ms(&self, now: Tick) -> [Option<f32>; 2] {
        [self.connect.mean_ms(now), self.answer.mean_ms(now)]
    }

    /// The same as a pick weighs it.
    #[must_use]
    pub fn weighed_ms(&self, now: Tick) -> [Option<f32>; 2] {
        if self.has_failed(now) { [Some(FAILED_MS), None] } else { self.means_ms(now) }
    }

    /// It could not be reached, or has ended a connection instead of an answer, after so long. For ten times that, a second at
    /// least, it is farther than all others, so that failing fast does not make it near. That is no part of a mean: of a single
    /// failure nothing is left afterwards.
    pub fn failed(&self, now: Tick, after: Duration) {
        self.failed_until.fetch_max(now.after((10 * after).max(FAILED_FOR)).0, Ordering::Relaxed);
    }

    /// Whether that was lately.
    #[must_use]
    pub fn has_failed(&self, now: Tick) -> bool {
        now.0 < self.failed_until.load(Ordering::Relaxed)
    }
}

/// The mean of a time. It is written once for each connection, and read by picks alone.
#[derive(Debug, Default)]
pub struct PeakEwma(
    /// Milliseconds as the bits of an `f32` above the beat of the last change, so that both change at once. 0 is nothing
    /// known.
    AtomicU64,
);

impl PeakEwma {
    /// It took so long. A longer time than the mean takes its place; a shorter one pulls it down by as much as the
    /// time since the last one says.
    pub fn saw(&self, now: Tick, took: Duration) {
        let took = took.as_secs_f32() * 1e3;
        let next = |before: u64| {
            let mean = decayed(before, now).map_or(took, |(mean, weight)| {
                let mean = mean + took * (1.0 - weight);
                took.max(mean)
            });
            Some(pack(mean, now))
        };
        // Relaxed: nothing else follows from it.
        let _ = self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, next);
    }

    /// It would have taken so long at least: a longer mean stays as it is.
    pub fn takes_at_least(&self, now: Tick, least: Duration) {
        if self.mean_ms(now).is_none_or(|mean| mean < least.as_secs_f32() * 1e3) {
            self.saw(now, least);
        }
    }

    /// Begins with this mean, unless something is known already.
    pub fn begin(&self, now: Tick, mean_ms: f32) {
        let _ = self.0.compare_exchange(0, pack(mean_ms, now), Ordering::Relaxed, Ordering::Relaxed);
    }

    /// The mean in milliseconds; `None` before the first one. The longer nothing was seen the lower it is, so that a
    /// slow server is tried again.
    #[must_use]
    pub fn mean_ms(&self, now: Tick) -> Option<f32> {
        decayed(self.0.load(Ordering::Relaxed), now).map(|(mean, _)| mean)
    }
}

/// The mean with what time has left of it, and that part.
fn decayed(packed: u64, now: Tick) -> Option<(f32, f32)> {
    if packed == 0 {
        return None;
    }
    let mean = f32::from_bits(u32::try_from(packed >> 32).unwrap_or(0));
    // Another worker's clock may be a little behind.
    let beats = beat(now).saturating_sub(packed & u64::from(u32::MAX));
    let weight = (-Duration::from_millis(beats * BEAT_MS).div_duration_f32(DECAY)).exp();
    Some((mean * weight, weight))
}

/// Never 0: a mean of nothing at the very beginning is a tiny one.
fn pack(mean_ms: f32, now: Tick) -> u64 {
    u64::from(mean_ms.max(f32::MIN_POSITIVE).to_bits()) << 32 | beat(now)
}

/// In 32 bits these last for eight years of a process.
fn beat(now: Tick) -> u64 {
    (now.0 / BEAT_MS).min(u32::MAX.into())
}

/// The middle one of some means; `None` of none.
#[must_use]
pub fn median(means: impl Iterator<Item = f32>) -> Option<f32> {
    let mut means: Vec<f32> = means.collect();
    means.sort_unstable_by(f32::total_cmp);
    means.get(means.len() / 2).copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    #[test]
    fn a_longer_time_counts_at_once_and_shorter_ones_little_by_little() {
        let time = PeakEwma::default();
        assert_eq!(time.mean_ms(Tick(5)), None);
        time.saw(Tick(1_000), ms(3));
        assert_eq!(time.mean_ms(Tick(1_000)), Some(3.0));
        time.saw(Tick(1_001), ms(40));
        assert_eq!(time.mean_ms(Tick(1_001)), Some(40.0));
        // 10 s later 1/e of the old time counts, and the rest is the new one.
        time.saw(Tick(11_041), ms(2));
        let mean = time.mean_ms(Tick(11_041)).unwrap();
        assert!(
            (mean - (40.0 / std::f32::consts::E + 2.0 * (1.0 - 1.0 / std::f32::consts::E))).abs() < 0.2,
            "{mean}"
        );
    }

    #[test]
    fn what_was_not_seen_for_long_is_forgotten() {
        let time = PeakEwma::default();
        time.saw(Tick(0), ms(1_000));
        let after = |seconds: u64| time.mean_ms(Tick(seconds * 1_000)).unwrap();
        assert!(after(10) < 371.0 && after(10) > 367.0 && after(70) < 1.1);
        assert!(after(3_000_000) < 0.001);
    }

    #[test]
    fn who_is_new_begins_where_it_is_told_and_only_then() {
        let time = PeakEwma::default();
        time.begin(Tick(7), 12.0);
        time.begin(Tick(8), 90.0);
        assert_eq!(time.mean_ms(Tick(7)), Some(12.0));
        assert_eq!(median([3.0, 1.0, 9.0].into_iter()), Some(3.0));
        assert_eq!(median([].into_iter()), None);
    }

    #[test]
    fn what_is_known_to_take_long_at_least_never_shortens_a_mean() {
        let time = PeakEwma::default();
        time.takes_at_least(Tick(0), ms(30));
        assert_eq!(time.mean_ms(Tick(0)), Some(30.0));
        time.takes_at_least(Tick(1), ms(20));
        assert_eq!(time.mean_ms(Tick(1)), Some(30.0));
        time.takes_at_least(Tick(2), ms(50));
        assert_eq!(time.mean_ms(Tick(2)), Some(50.0));
    }

    #[test]
    fn a_failure_is_far_for_a_while_and_leaves_nothing() {
        let latency = Latency::default();
        latency.connect.saw(Tick(1_000), ms(3));
        let near = latency.means_ms(Tick(1_000));
        for (after, until) in [(0, 2_000), (30, 2_000), (500, 6_000)] {
            latency.failed(Tick(1_000), ms(after));
            assert!(latency.weighed_ms(Tick(until))[0].is_some_and(|ms| ms > 1e5), "{after}");
            // A tick has begun when time is counted from it.
            let over = Tick(until + 1);
            assert_eq!(latency.weighed_ms(over), latency.means_ms(over), "{after}");
        }
        assert_eq!(latency.means_ms(Tick(1_000)), near);
    }

    #[test]
    fn a_clock_that_is_a_little_behind_does_no_harm() {
        let time = PeakEwma::default();
        time.saw(Tick(1_000), ms(3));
        assert_eq!(time.mean_ms(Tick(998)), Some(3.0));
        time.saw(Tick(0), ms(0));
        assert!(time.mean_ms(Tick(0)).is_some());
    }
}
