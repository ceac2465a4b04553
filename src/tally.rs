//! What is counted for the whole process: written when a connection begins or ends, never for a message.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use crate::cause::Cause;
use crate::relay::Fault;

/// Upper bounds of the buckets of a [`Times`], in milliseconds.
pub const BOUNDS_MS: [u32; 12] = [1, 2, 5, 10, 25, 50, 100, 250, 500, 1_000, 2_500, 10_000];

/// Upper bounds of the buckets of a [`Paths`], in microseconds.
pub const RTT_BOUNDS_US: [u32; 12] =
    [50, 100, 250, 500, 1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000, 250_000];

/// A number that only grows.
#[derive(Debug, Default)]
pub struct Count(AtomicU64);

impl Count {
    /// Counts `more`.
    pub fn add(&self, more: u64) {
        self.0.fetch_add(more, Ordering::Relaxed);
    }

    /// Counts `more`, where one thread alone does so: without a locked instruction.
    pub fn add_alone(&self, more: u64) {
        self.0.store(self.0.load(Ordering::Relaxed).wrapping_add(more), Ordering::Relaxed);
    }

    /// How many there were.
    #[must_use]
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// How long things took.
#[derive(Debug, Default)]
pub struct Times {
    /// By [`BOUNDS_MS`]; the last is for those beyond.
    pub buckets: [Count; BOUNDS_MS.len() + 1],
    /// All of them together, in milliseconds.
    pub sum_ms: Count,
}

impl Times {
    /// Counts one that took `ms`.
    pub fn add(&self, ms: u64) {
        self.buckets[Self::place(ms)].add(1);
        self.sum_ms.add(ms);
    }

    /// As [`Count::add_alone`].
    pub fn add_alone(&self, ms: u64) {
        self.buckets[Self::place(ms)].add_alone(1);
        self.sum_ms.add_alone(ms);
    }

    fn place(ms: u64) -> usize {
        BOUNDS_MS.iter().position(|bound| ms <= u64::from(*bound)).unwrap_or(BOUNDS_MS.len())
    }
}

/// What the system told of paths.
#[derive(Debug, Default)]
pub struct Paths {
    /// Round-trip times by [`RTT_BOUNDS_US`]; the last is for those beyond.
    pub rtt: [Count; RTT_BOUNDS_US.len() + 1],
    /// All of them together, in microseconds.
    pub rtt_sum_us: Count,
    /// Segments that were sent again.
    pub retransmits: Count,
    /// Segments with data that were sent, again or for the first time.
    pub segments: Count,
}

impl Paths {
    /// Counts a round-trip time.
    pub fn add_rtt(&self, us: u32) {
        let place = RTT_BOUNDS_US.iter().position(|bound| us <= *bound).unwrap_or(RTT_BOUNDS_US.len());
        self.rtt[place].add(1);
        self.rtt_sum_us.add(us.into());
    }
}

/// How many things in a row have failed.
#[derive(Debug, Default)]
pub struct Streak(AtomicU32);

impl Streak {
    /// One more has failed: how many there are now.
    pub fn failed(&self) -> u32 {
        self.0.fetch_add(1, Ordering::Relaxed).saturating_add(1)
    }

    /// One has succeeded.
    pub fn succeeded(&self) {
        // Most of the time there is nothing to write, and so nothing that other workers have to hear of.
        if self.get() != 0 {
            self.0.store(0, Ordering::Relaxed);
        }
    }

    /// How many have failed since one succeeded.
    #[must_use]
    pub fn get(&self) -> u32 {
        self.0.load(Ordering::Relaxed)
    }
}

/// One for each cause, by [`Cause::index`].
#[derive(Debug)]
pub struct PerCause([Count; Cause::ALL.len()]);

impl Default for PerCause {
    fn default() -> Self {
        Self(std::array::from_fn(|_| Count::default()))
    }
}

impl PerCause {
    /// These and those, as they are now.
    #[must_use]
    pub fn and(&self, those: &Self) -> Self {
        let sum = Self::default();
        for (sum, count) in sum.iter().zip(self.iter()).chain(sum.iter().zip(those.iter())) {
            sum.add(count.get());
        }
        sum
    }
}

impl std::ops::Deref for PerCause {
    type Target = [Count];

    fn deref(&self) -> &[Count] {
        &self.0
    }
}

/// A listener's.
#[derive(Debug, Default)]
#[repr(align(64))]
pub struct ListenerTally {
    /// Clients that were let in.
    pub accepted: Count,
    /// Bytes by [`crate::relay::Dir::index`].
    pub bytes: [Count; 2],
    /// Its clients' paths.
    pub paths: Paths,
    /// Connections that have ended and had no pool, and clients that were turned away where there are routes, by
    /// [`Cause::index`]; [`crate::snapshot::Led`] has all others.
    pub closed: PerCause,
    /// Those among all that were there only to see that somebody listens.
    pub probes: Count,
    /// Clients that `dry_run` has let in over a limit, by [`Cause::LET_OFF`].
    pub let_off: [Count; Cause::LET_OFF.len()],
    /// Clients that were let in uncounted, since every place for their source had connections of others.
    pub untracked: Count,
}

impl ListenerTally {
    /// A client is let in for `dry_run` alone.
    pub fn let_off(&self, limit: Cause) {
        if let Some(place) = Cause::LET_OFF.iter().position(|one| *one == limit) {
            self.let_off[place].add(1);
        }
    }
}

/// A server's.
#[derive(Debug, Default)]
#[repr(align(64))]
pub struct ServerTally {
    /// Attempts to connect, by [`Attempt`].
    pub attempts: [Count; Attempt::ALL.len()],
    /// Those that have failed in a row until now, and not for a reason of our own.
    pub failures: Streak,
    /// How long those took that succeeded.
    pub connect: Times,
    /// Connections that went elsewhere after an attempt here had failed.
    pub redispatched: Count,
    /// Bytes by [`crate::relay::Dir::index`].
    pub bytes: [Count; 2],
    /// Paths to it.
    pub paths: Paths,
}

/// How an attempt to connect ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Attempt {
    /// It succeeded.
    Ok,
    /// Nobody listens there.
    Refused,
    /// No answer in time.
    Timeout,
    /// No route.
    Unreachable,
    /// Short of something here: ports, descriptors, memory.
    Shortage,
    /// Anything else.
    Other,
}

impl Attempt {
    /// Each with its name.
    pub const ALL: [(Self, &'static str); 6] = [
        (Self::Ok, "ok"),
        (Self::Refused, "refused"),
        (Self::Timeout, "timeout"),
        (Self::Unreachable, "unreachable"),
        (Self::Shortage, "shortage"),
        (Self::Other, "other"),
    ];
}

impl From<Result<(), Fault>> for Attempt {
    fn from(result: Result<(), Fault>) -> Self {
        match result {
            Ok(()) => Self::Ok,
            Err(Fault::Refused | Fault::Absent | Fault::Reset | Fault::Closed) => Self::Refused,
            Err(Fault::TimedOut | Fault::Busy) => Self::Timeout,
            Err(Fault::Unreachable) => Self::Unreachable,
            Err(Fault::NoPorts | Fault::NoFiles | Fault::NoMemory) => Self::Shortage,
            Err(Fault::Denied | Fault::NoTls | Fault::Other(_)) => Self::Other,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_fall_into_the_bucket_of_the_next_bound() {
        let times = Times::default();
        for ms in [0, 1, 2, 3, 10_000, 10_001] {
            times.add(ms);
        }
        let counts: Vec<u64> = times.buckets.iter().map(Count::get).collect();
        assert_eq!(counts, [2, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 1, 1]);
        assert_eq!(times.sum_ms.get(), 20_007);
    }

    #[test]
    fn a_streak_ends_with_a_success() {
        let streak = Streak::default();
        assert_eq!([streak.failed(), streak.failed(), streak.get()], [1, 2, 2]);
        streak.succeeded();
        assert_eq!([streak.get(), streak.failed()], [0, 1]);
    }

    #[test]
    fn each_attempt_has_the_place_of_its_number() {
        for (place, (attempt, _)) in Attempt::ALL.iter().enumerate() {
            assert_eq!(*attempt as usize, place);
        }
    }
}
