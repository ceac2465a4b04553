//! Whether a relay is idle, found by looking now and then: the data path never touches a timer.

use std::time::Duration;

use crate::relay::{Dir, End, Fault, Progress, Side};
use crate::snapshot::{ListenerId, ServerId, Snapshot};
use crate::tick::{Tick, least, millis};

/// When a relay that was asked to leave counts as quiet: soon after an answer, later after bytes of the
/// client's, to which an answer may be due.
const QUIET_AFTER_ANSWER: Duration = Duration::from_millis(200);
const QUIET_AFTER_QUESTION: Duration = Duration::from_secs(2);

/// What can be seen of a running relay.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sight {
    /// How far it has come.
    pub progress: Progress,
    /// The direction in which the last bytes were taken.
    pub last: Option<Dir>,
    /// Bytes were taken from a peer and not given to the other, or are known to wait.
    pub held: bool,
    /// A peer that owes acknowledgements although it was asked again, and for how long it has sent none.
    pub silence: Option<(Side, Duration)>,
}

/// How long a relay may be quiet.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    pub(super) idle: Option<Duration>,
    pub(super) half_close: Option<Duration>,
    /// By [`Side`].
    pub(super) dead_peer: [Option<Duration>; 2],
}

impl Limits {
    /// Those of a connection of `listener` to `server`.
    pub(super) fn new(listener: ListenerId, server: Option<ServerId>, snapshot: &Snapshot) -> Self {
        let listener = snapshot.listener(listener);
        let pool = server.map_or(listener.leads.own.pool, |server| snapshot.server(server).pool);
        let timeouts = listener.timeouts_to(pool);
        Self {
            idle: timeouts.idle,
            half_close: timeouts.half_close(),
            dead_peer: [listener.dead_peer, snapshot.pool(pool).tcp.dead_peer],
        }
    }
}

/// What was seen of a relay when it was last looked at.
#[derive(Debug)]
pub(super) struct Watch {
    seen: Progress,
    /// When that was first seen.
    since: Tick,
    /// A peer has vanished, and what has arrived of it is being delivered.
    given_up: bool,
    /// When to look again; `None` is never.
    pub(super) next: Option<Tick>,
}

impl Watch {
    pub(super) fn new(now: Tick, limits: Limits) -> Self {
        let mut watch = Self { seen: Progress::default(), since: now, given_up: false, next: None };
        watch.next = watch.next_look(now, limits, None);
        watch
    }

    /// Looks at a relay; returns how to end it when it was quiet for too long. For a limit `T` that is
    /// between `T` and `1.25 T` after its last progress. From `leave` on, a quiet moment is enough.
    pub(super) fn look(
        &mut self,
        now: Tick,
        sight: Sight,
        limits: Limits,
        leave: Option<Tick>,
    ) -> Option<End> {
        self.see(now, sight.progress);
        self.next = self.next_look(now, limits, sight.silence);
        if let Some(leave) = leave {
            let quiet_at = self.quiet_at(sight.last).max(leave);
            if quiet_at <= now && !sight.held {
                return Some(End::Drained);
            }
            self.look_by(if quiet_at > now { quiet_at } else { now.after(QUIET_AFTER_ANSWER) });
        }
        if let Some((by, silence)) = sight.silence
            && limits.dead_peer[by as usize].is_some_and(|limit| silence >= limit)
            && !self.given_up
        {
            // The other peer has `half_close` from now on to take the rest.
            self.given_up = true;
            self.since = now;
            return Some(End::Reset { by, fault: Fault::TimedOut });
        }
        let over = self.limit(limits).is_some_and(|limit| self.since.after(limit) <= now);
        over.then_some(match self.seen.waiting_for {
            Some(waiting_for) => End::HalfIdle { waiting_for },
            None => End::Idle,
        })
    }

    /// Takes note of how far it has come.
    pub(super) fn see(&mut self, now: Tick, progress: Progress) {
        if progress != self.seen {
            self.seen = progress;
            self.since = now;
        }
    }

    /// When progress was last seen.
    pub(super) fn since(&self) -> Tick {
        self.since
    }

    /// Looks at `at` at the latest.
    pub(super) fn look_by(&mut self, at: Tick) {
        self.next = least(self.next, Some(at));
    }

    fn quiet_at(&self, last: Option<Dir>) -> Tick {
        self.since.after(match last {
            Some(Dir::Up) => QUIET_AFTER_QUESTION,
            Some(Dir::Down) | None => QUIET_AFTER_ANSWER,
        })
    }

    fn limit(&self, limits: Limits) -> Option<Duration> {
        if self.seen.waiting_for.is_some() { limits.half_close } else { limits.idle }
    }

    /// A look is due every fifth of the shorter limit, since either may begin at any time, and when the
    /// one that runs is over. Looks are put on a raster of a 64th, so that thousands of quiet connections
    /// wake their worker together instead of one by one.
    fn next_look(&self, now: Tick, limits: Limits, silence: Option<(Side, Duration)>) -> Option<Tick> {
        let fifth = least(limits.idle, limits.half_close).map(|limit| limit / 5);
        let [client, server] = limits.dead_peer;
        let step = least(fifth, least(client, server))?;
        let raster_ms = (millis(step) / 13).max(1);
        let step = Tick(now.after(step).0.next_multiple_of(raster_ms));
        let is_ahead = |at: &Tick| *at > now;
        let over = self.limit(limits).map(|limit| self.since.after(limit)).filter(is_ahead);
        let dead = silence.and_then(|(by, silence)| {
            limits.dead_peer[by as usize].map(|limit| now.after(limit.saturating_sub(silence)))
        });
        least(Some(step), least(over, dead.filter(is_ahead)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    fn limits(idle_ms: u64, half_close_ms: u64) -> Limits {
        Limits {
            idle: Some(Duration::from_millis(idle_ms)),
            half_close: Some(Duration::from_millis(half_close_ms)),
            dead_peer: [None; 2],
        }
    }

    fn moved(up: u64) -> Progress {
        Progress { moved: [up, 0], ..Progress::default() }
    }

    fn sight(progress: Progress) -> Sight {
        Sight { progress, ..Sight::default() }
    }

    /// Runs the looks that a watch asks for; the relay makes progress at the given ticks.
    fn ends_at(limits: Limits, began: u64, progress: &[(u64, Progress)]) -> (u64, End) {
        let mut watch = Watch::new(Tick(began), limits);
        loop {
            let now = watch.next.expect("a limit is set");
            let seen =
                progress.iter().rev().find(|(at, _)| *at <= now.0).map_or_else(Progress::default, |p| p.1);
            if let Some(end) = watch.look(now, sight(seen), limits, None) {
                return (now.0, end);
            }
            assert!(watch.next > Some(now), "no look may be due at once again");
        }
    }

    #[test]
    fn idle_is_found_never_early_and_at_most_a_quarter_late() {
        let limits = limits(1_000, 100_000);
        for last in [0, 1, 199, 200, 201, 350, 800, 999] {
            let (at, end) = ends_at(limits, 0, &[(last, moved(1))]);
            assert_eq!(end, End::Idle);
            assert!((last + 1_000..=last + 1_250).contains(&at), "progress at {last}, ended at {at}");
        }
    }

    #[test]
    fn a_half_close_is_noticed_although_idle_is_long() {
        let limits = limits(3_600_000, 1_000);
        let half = Progress { waiting_for: Some(Side::Server), ..moved(5) };
        let (at, end) = ends_at(limits, 0, &[(50_000, half)]);
        assert_eq!(end, End::HalfIdle { waiting_for: Side::Server });
        assert!((51_000..=51_250).contains(&at), "{at}");
    }

    #[test]
    fn a_trickle_keeps_it_alive() {
        let limits = limits(1_000, 1_000);
        let trickle: Vec<(u64, Progress)> = (0..100).map(|n| (n * 900, moved(n))).collect();
        let (at, _) = ends_at(limits, 0, &trickle);
        assert!(at >= 99 * 900 + 1_000, "{at}");
    }

    #[test]
    fn without_limits_nobody_looks() {
        let off = Limits { idle: None, half_close: None, dead_peer: [None; 2] };
        assert_eq!(Watch::new(Tick(0), off).next, None);
    }

    #[test]
    fn a_dead_peer_is_given_up_at_its_limit_and_a_slow_one_is_not() {
        let limits =
            Limits { dead_peer: [None, Some(Duration::from_secs(2))], ..limits(3_600_000, 3_600_000) };
        let mut watch = Watch::new(Tick(0), limits);
        let silent_since = 1_500;
        let end = loop {
            let now = watch.next.expect("a look is due");
            let silence = Duration::from_millis(now.0.saturating_sub(silent_since));
            let silence = (now.0 > silent_since).then_some((Side::Server, silence));
            if let Some(end) = watch.look(now, Sight { silence, ..sight(moved(1)) }, limits, None) {
                break (now.0, end);
            }
        };
        assert_eq!(end.1, End::Reset { by: Side::Server, fault: Fault::TimedOut });
        assert!((3_500..=4_000).contains(&end.0), "{}", end.0);
        // It is given up once; then the other peer has its time to take the rest.
        let rest = Progress { waiting_for: Some(Side::Client), ..moved(1) };
        let silence = Some((Side::Server, Duration::from_secs(9)));
        let limits = Limits { half_close: Some(Duration::from_secs(3)), ..limits };
        let mut look = |ms| watch.look(Tick(end.0 + ms), Sight { silence, ..sight(rest) }, limits, None);
        assert_eq!([look(1), look(2_999)], [None, None]);
        assert_eq!(look(6_000), Some(End::HalfIdle { waiting_for: Side::Client }));
    }

    #[test]
    fn leaving_waits_for_a_quiet_moment_and_longer_for_an_answer() {
        let limits = limits(60_000, 60_000);
        for (last, quiet) in [(None, 200), (Some(Dir::Down), 200), (Some(Dir::Up), 2_000)] {
            let mut watch = Watch::new(Tick(0), limits);
            let seen = Sight { last, ..sight(moved(7)) };
            let mut look = |at: Tick, seen| {
                let end = watch.look(at, seen, limits, Some(Tick(50)));
                (end, watch.next.expect("a look is due"))
            };
            let (end, at) = look(Tick(100), seen);
            assert_eq!(end, None, "it has just moved");
            assert!((100 + quiet..=102 + quiet).contains(&at.0), "{last:?} {at:?}");
            let (end, later) = look(at, Sight { held: true, ..seen });
            assert_eq!(end, None, "bytes are held");
            assert!(later > at);
            assert_eq!(look(later, seen).0, Some(End::Drained));
        }
    }

    #[test]
    fn nobody_leaves_before_the_time() {
        let limits = limits(60_000, 60_000);
        let mut watch = Watch::new(Tick(0), limits);
        watch.look_by(Tick(5_000));
        assert_eq!(watch.next, Some(Tick(5_000)));
        assert_eq!(watch.look(Tick(4_000), sight(Progress::default()), limits, Some(Tick(5_000))), None);
        assert_eq!(watch.next, Some(Tick(5_000)));
        let end = watch.look(Tick(5_000), sight(Progress::default()), limits, Some(Tick(5_000)));
        assert_eq!(end, Some(End::Drained));
    }
}
