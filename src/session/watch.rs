//! Whether a relay is idle, found by looking now and then: the data path never touches a timer.

use std::time::Duration;

use crate::config::Timeouts;
use crate::relay::{End, Progress};
use crate::tick::Tick;

/// What was seen of a relay when it was last looked at.
#[derive(Debug)]
pub(super) struct Watch {
    seen: Progress,
    /// When that was first seen.
    since: Tick,
    /// When to look again; `None` is never.
    pub(super) next: Option<Tick>,
}

impl Watch {
    pub(super) fn new(now: Tick, timeouts: &Timeouts) -> Self {
        let mut watch = Self { seen: Progress::default(), since: now, next: None };
        watch.next = watch.next_look(now, timeouts);
        watch
    }

    /// Looks at a relay; returns how to end it when it was quiet for too long. For a limit `T` that is
    /// between `T` and `1.25 T` after its last progress.
    pub(super) fn look(&mut self, now: Tick, progress: Progress, timeouts: &Timeouts) -> Option<End> {
        if progress != self.seen {
            self.seen = progress;
            self.since = now;
        }
        let over = self.limit(timeouts).is_some_and(|limit| self.since.after(limit) <= now);
        self.next = self.next_look(now, timeouts);
        over.then_some(match self.seen.waiting_for {
            Some(waiting_for) => End::HalfIdle { waiting_for },
            None => End::Idle,
        })
    }

    fn limit(&self, timeouts: &Timeouts) -> Option<Duration> {
        if self.seen.waiting_for.is_some() { timeouts.half_close } else { timeouts.idle }
    }

    /// A look is due every fifth of the shorter limit, since either may begin at any time, and when the
    /// one that runs is over. Looks are put on a raster of a 64th, so that thousands of quiet connections
    /// wake their worker together instead of one by one.
    fn next_look(&self, now: Tick, timeouts: &Timeouts) -> Option<Tick> {
        let shorter = timeouts.idle.into_iter().chain(timeouts.half_close).min()?;
        let raster_ms = u64::try_from(shorter.as_millis() / 64).unwrap_or(u64::MAX).max(1);
        let step = Tick(now.after(shorter / 5).0.next_multiple_of(raster_ms));
        let over = self.limit(timeouts).map(|limit| self.since.after(limit)).filter(|over| *over > now);
        over.into_iter().chain([step]).min()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::relay::Side;

    fn timeouts(idle_ms: u64, half_close_ms: u64) -> Timeouts {
        Timeouts {
            connect: None,
            connect_total: None,
            idle: Some(Duration::from_millis(idle_ms)),
            half_close: Some(Duration::from_millis(half_close_ms)),
        }
    }

    /// Runs the looks that a watch asks for; the relay makes progress at the given ticks.
    fn ends_at(timeouts: &Timeouts, began: u64, progress: &[(u64, Progress)]) -> (u64, End) {
        let mut watch = Watch::new(Tick(began), timeouts);
        loop {
            let now = watch.next.expect("a limit is set");
            let seen =
                progress.iter().rev().find(|(at, _)| *at <= now.0).map_or_else(Progress::default, |p| p.1);
            if let Some(end) = watch.look(now, seen, timeouts) {
                return (now.0, end);
            }
            assert!(watch.next > Some(now), "no look may be due at once again");
        }
    }

    #[test]
    fn idle_is_found_never_early_and_at_most_a_quarter_late() {
        let timeouts = timeouts(1_000, 100_000);
        for last in [0, 1, 199, 200, 201, 350, 800, 999] {
            let moved = Progress { moved: [1, 0], waiting_for: None };
            let (at, end) = ends_at(&timeouts, 0, &[(last, moved)]);
            assert_eq!(end, End::Idle);
            assert!((last + 1_000..=last + 1_250).contains(&at), "progress at {last}, ended at {at}");
        }
    }

    #[test]
    fn a_half_close_is_noticed_although_idle_is_long() {
        let timeouts = timeouts(3_600_000, 1_000);
        let half = Progress { moved: [5, 5], waiting_for: Some(Side::Server) };
        let (at, end) = ends_at(&timeouts, 0, &[(50_000, half)]);
        assert_eq!(end, End::HalfIdle { waiting_for: Side::Server });
        assert!((51_000..=51_250).contains(&at), "{at}");
    }

    #[test]
    fn a_trickle_keeps_it_alive() {
        let timeouts = timeouts(1_000, 1_000);
        let trickle: Vec<(u64, Progress)> =
            (0..100).map(|n| (n * 900, Progress { moved: [n, 0], waiting_for: None })).collect();
        let (at, _) = ends_at(&timeouts, 0, &trickle);
        assert!(at >= 99 * 900 + 1_000, "{at}");
    }

    #[test]
    fn without_limits_nobody_looks() {
        let off = Timeouts { connect: None, connect_total: None, idle: None, half_close: None };
        assert_eq!(Watch::new(Tick(0), &off).next, None);
    }
}
