//! How fast a connection may take bytes: a token bucket for each direction. The engine asks when a direction has none
//! left ([`crate::relay::News::Dry`]), and what has grown meanwhile is granted when the session's timer goes off. A
//! direction that has some left, or nothing to take, costs nothing.

use std::num::NonZeroU64;

use crate::relay::Dir;
use crate::tick::Tick;

/// A direction waits so long at least, so that what is granted is worth a read.
const STEP_MS: u32 = 25;
/// And so long at most.
const LONGEST_MS: u64 = 1_000;
/// Tokens of so much time are kept for who does not take them.
const BURST_MS: u32 = 100;

const NEVER: Tick = Tick(u64::MAX);

#[derive(Clone, Copy, Debug)]
pub(super) struct Pace {
    /// What has grown until then was granted: the lower bits of the tick, by [`Dir::index`].
    since: [u32; 2],
    /// When a direction that waits is granted more; never where it does not wait.
    due: [Tick; 2],
}

impl Pace {
    /// A full bucket.
    pub(super) fn new(now: Tick) -> Self {
        let since = low(now).wrapping_sub(BURST_MS);
        Self { since: [since; 2], due: [NEVER; 2] }
    }

    /// A direction has taken all that was granted, and `owed` bytes more.
    pub(super) fn ask(&mut self, dir: Dir, owed: u32, rate: Option<NonZeroU64>, now: Tick) {
        let spare = self.grown(dir, now).min(BURST_MS);
        self.since[dir.index()] = low(now).wrapping_sub(spare);
        let owed_ms = rate.map_or(0, |rate| (u64::from(owed) * 1_000).div_ceil(rate.get()));
        // Not for long at a time: the rate may be another one meanwhile.
        let wait = owed_ms.saturating_add(1).clamp(STEP_MS.into(), LONGEST_MS).saturating_sub(spare.into());
        self.due[dir.index()] = Tick(now.0.saturating_add(wait));
    }

    /// When something is to be granted; `None` is never.
    pub(super) fn next(&self) -> Option<Tick> {
        self.due.into_iter().min().filter(|due| *due != NEVER)
    }

    /// Once it is due, a direction that waits, with what it may take: what has grown since the last time, or, where there
    /// is no limit any more, everything. That may be less than it owes: then it asks again.
    pub(super) fn grant(&mut self, rates: [Option<NonZeroU64>; 2], now: Tick) -> Option<(Dir, Option<u32>)> {
        let dir = Dir::BOTH.into_iter().find(|dir| self.due[dir.index()] <= now)?;
        // A timer that comes late, or a process that stood still, is no reason for a burst.
        let expected_ms = self.grown(dir, self.due[dir.index()]);
        let grown_ms = self.grown(dir, now).min(expected_ms + BURST_MS);
        self.since[dir.index()] = low(now);
        self.due[dir.index()] = NEVER;
        let grown = rates[dir.index()].map(|rate| u128::from(rate.get()) * u128::from(grown_ms) / 1_000);
        Some((dir, grown.map(|bytes| u32::try_from(bytes).unwrap_or(u32::MAX).max(1))))
    }

    /// Milliseconds since the last grant.
    fn grown(&self, dir: Dir, now: Tick) -> u32 {
        low(now).wrapping_sub(self.since[dir.index()])
    }
}

/// The lower bits of a tick: who waits for less than 49 days is told right.
fn low(tick: Tick) -> u32 {
    (tick.0 & u64::from(u32::MAX)) as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    const RATE: Option<NonZeroU64> = NonZeroU64::new(100_000);

    /// Bytes that a direction takes in a second which takes whatever it may, beyond it by `over` bytes each time.
    fn taken(over: u32, late_ms: u64) -> u64 {
        let mut pace = Pace::new(Tick(10_000));
        let (mut now, mut taken, mut left) = (Tick(10_000), 0_i64, 0_i64);
        while now < Tick(20_000) {
            if left <= 0 {
                pace.ask(Dir::Down, u32::try_from(-left).unwrap(), RATE, now);
                now = Tick(pace.next().expect("it is asked for").0.max(now.0) + late_ms);
                let (dir, bytes) = pace.grant([None, RATE], now).expect("it is due");
                assert_eq!(dir, Dir::Down);
                left += i64::from(bytes.expect("there is a limit"));
            } else {
                taken += left + i64::from(over);
                left = -i64::from(over);
            }
        }
        taken as u64 / 10
    }

    #[test]
    fn a_rate_is_held_however_late_timers_are_and_however_much_is_taken_at_a_time() {
        for over in [0, 1_000, 100_000] {
            for late_ms in [0, 1, 7, 60] {
                let taken = taken(over, late_ms);
                assert!((97_000..=110_000).contains(&taken), "{taken} a second, over {over}, late {late_ms}");
            }
        }
    }

    #[test]
    fn who_takes_nothing_saves_up_little() {
        let mut pace = Pace::new(Tick(0));
        pace.ask(Dir::Up, 0, RATE, Tick(60_000));
        assert_eq!(pace.next(), Some(Tick(60_000)));
        let granted = pace.grant([RATE, None], Tick(60_000));
        assert_eq!(granted, Some((Dir::Up, Some(100 * BURST_MS))));
        assert_eq!((pace.next(), pace.grant([RATE, None], Tick(90_000))), (None, None));
    }

    #[test]
    fn a_direction_that_owes_much_does_not_hurry_because_the_other_one_is_due() {
        let mut pace = Pace::new(Tick(0));
        pace.ask(Dir::Up, 50_000, RATE, Tick(1_000));
        pace.ask(Dir::Down, 0, RATE, Tick(1_000));
        let granted = pace.grant([RATE; 2], Tick(1_000));
        assert!(matches!(granted, Some((Dir::Down, _))), "{granted:?}");
        assert_eq!((pace.grant([RATE; 2], Tick(1_000)), pace.next()), (None, Some(Tick(1_401))));
    }

    #[test]
    fn a_process_that_stood_still_grants_no_burst() {
        let mut pace = Pace::new(Tick(1_000));
        pace.ask(Dir::Up, 1_000_000, RATE, Tick(1_000));
        assert_eq!(pace.next(), Some(Tick(1_900)), "a second, of which a tenth was left");
        let granted = pace.grant([RATE; 2], Tick(60_000));
        assert_eq!(granted, Some((Dir::Up, Some(100 * 1_100))));
    }

    #[test]
    fn both_directions_are_granted_one_after_the_other_and_a_limit_that_is_gone_grants_all() {
        let mut pace = Pace::new(Tick(1_000));
        pace.ask(Dir::Up, 0, RATE, Tick(1_000));
        pace.ask(Dir::Down, 0, RATE, Tick(1_000));
        assert_eq!(pace.grant([None, RATE], Tick(1_000)), Some((Dir::Up, None)));
        assert!(matches!(pace.grant([None, RATE], Tick(1_000)), Some((Dir::Down, Some(1..)))));
        assert_eq!(pace.grant([None, RATE], Tick(1_000)), None);
    }
}
