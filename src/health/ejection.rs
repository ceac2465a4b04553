//! Ejection: a server to which connects fail is left out for a while, longer each time.

use std::time::Duration;

use crate::config::Passive;
use crate::tick::Tick;

/// What is known of a server's failures.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Ejection {
    /// It is left out until then.
    until: Option<Tick>,
    /// How often in a row it was ejected.
    times: u32,
    /// When it came back the last time.
    back: Tick,
    /// Failures that it has had already when it came back: one more than these is enough to go again.
    excused: u32,
}

/// A server of a pool.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Member {
    /// What is known of its failures.
    pub ejection: Ejection,
    /// Connects that have failed in a row until now.
    pub failures: u32,
    /// It would take connections if it were not ejected.
    pub is_usable: bool,
}

/// What becomes of a server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// It is left out for so long.
    Out(Duration),
    /// It is back.
    Back,
}

impl Ejection {
    /// When it comes back; `None`: it is not ejected.
    #[must_use]
    pub fn until(self) -> Option<Tick> {
        self.until
    }

    fn go(&mut self, now: Tick, passive: &Passive) -> Duration {
        // Who was in for so long has recovered.
        if now.since(self.back) >= passive.eject_max {
            self.times = 0;
        }
        let doubled = 2_u32.saturating_pow(self.times.min(31));
        let time = passive.eject.saturating_mul(doubled).min(passive.eject_max);
        self.times = self.times.saturating_add(1);
        self.until = Some(now.after(time));
        time
    }

    /// Lets it in again, for a better reason than that its time is over. `failures` are those in a row until now.
    pub fn come_back(&mut self, now: Tick, failures: u32) {
        self.until = None;
        self.back = now;
        self.excused = failures;
    }
}

/// Brings back the servers of a pool whose time is over, and ejects those to which too many connects in a row have
/// failed: at most `max_ejected` of them, of which one may always be, and never the last one that is usable. What has
/// changed, by place.
pub fn judge(passive: &Passive, now: Tick, members: &mut [Member]) -> Vec<(usize, Change)> {
    let mut changes = Vec::new();
    for (place, member) in members.iter_mut().enumerate() {
        let is_over = |until: Tick| until <= now || passive.max_fails == 0;
        if member.ejection.until.is_some_and(is_over) {
            member.ejection.come_back(now, member.failures);
            changes.push((place, Change::Back));
        }
        // A connect has succeeded meanwhile.
        if member.failures < member.ejection.excused {
            member.ejection.excused = 0;
        }
    }
    if passive.max_fails == 0 {
        return changes;
    }
    let is_out = |member: &Member| member.ejection.until.is_some();
    let mut out = members.iter().filter(|member| is_out(member)).count();
    let mut staying = members.iter().filter(|member| member.is_usable && !is_out(member)).count();
    let most = (members.len() * usize::from(passive.max_ejected) / 100).max(1);
    let mut failing: Vec<usize> =
        (0..members.len()).filter(|place| fails(&members[*place], passive)).collect();
    failing.sort_by_key(|place| std::cmp::Reverse(members[*place].failures));
    for place in failing {
        if out < most && staying > 1 {
            changes.push((place, Change::Out(members[place].ejection.go(now, passive))));
            out += 1;
            staying -= 1;
        }
    }
    if staying == 0 {
        // Those that stayed have gone down: one that fails now and then is better than none.
        let due = |place: &usize| members[*place].ejection.until;
        let next = (0..members.len()).filter(|place| members[*place].is_usable).min_by_key(due);
        if let Some(place) = next {
            let failures = members[place].failures;
            members[place].ejection.come_back(now, failures);
            changes.push((place, Change::Back));
        }
    }
    changes
}

/// Whether a server is to be ejected if that is possible.
fn fails(member: &Member, passive: &Passive) -> bool {
    let Member { ejection, failures, is_usable } = *member;
    is_usable && ejection.until.is_none() && failures >= passive.max_fails && failures > ejection.excused
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn members(failures: &[u32]) -> Vec<Member> {
        let member =
            |failures: &u32| Member { ejection: Ejection::default(), failures: *failures, is_usable: true };
        failures.iter().map(member).collect()
    }

    fn out(members: &[Member]) -> Vec<usize> {
        (0..members.len()).filter(|place| members[*place].ejection.until().is_some()).collect()
    }

    fn seconds(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn who_fails_goes_but_only_so_many_and_never_the_last() {
        let cases: [(&[u32], u8, &[usize]); 8] = [
            (&[4, 0, 0], 50, &[]),
            (&[5, 0, 0], 50, &[0]),
            (&[5, 6, 0], 50, &[1]),
            (&[5, 6, 0], 100, &[0, 1]),
            (&[5, 6, 7], 100, &[1, 2]),
            (&[5], 100, &[]),
            (&[5, 0], 1, &[0]),
            (&[9, 9, 9, 9, 0, 0, 0, 0], 50, &[0, 1, 2, 3]),
        ];
        for (failures, max_ejected, expected) in cases {
            let mut members = members(failures);
            judge(&Passive { max_ejected, ..Passive::default() }, Tick(5), &mut members);
            assert_eq!(out(&members), expected, "{failures:?} {max_ejected}");
        }
    }

    #[test]
    fn a_server_that_is_down_or_drained_is_neither_ejected_nor_one_that_stays() {
        let mut members = members(&[9, 0, 9]);
        members[0].is_usable = false;
        members[1].is_usable = false;
        assert_eq!(judge(&Passive::default(), Tick(0), &mut members), []);
    }

    #[test]
    fn each_time_is_twice_as_long_up_to_a_limit_and_begins_anew_after_a_good_while() {
        let passive = Passive { eject_max: seconds(60), ..Passive::default() };
        let mut members = members(&[5, 0, 0]);
        let mut now = Tick(0);
        let mut times = Vec::new();
        for _ in 0..5 {
            let Some((0, Change::Out(time))) = judge(&passive, now, &mut members).pop() else {
                panic!("it goes")
            };
            times.push(time.as_secs());
            now = now.after(time);
            assert_eq!(judge(&passive, Tick(now.0 - 1), &mut members), []);
            assert_eq!(judge(&passive, now, &mut members), [(0, Change::Back)]);
            assert_eq!(judge(&passive, now, &mut members), [], "what was before does not count twice");
            members[0].failures += 1;
        }
        assert_eq!(times, [10, 20, 40, 60, 60]);
        let later = now.after(seconds(60));
        assert_eq!(judge(&passive, later, &mut members), [(0, Change::Out(seconds(10)))]);
    }

    #[test]
    fn who_has_succeeded_after_coming_back_needs_as_many_failures_as_at_first() {
        let passive = Passive::default();
        let mut members = members(&[9, 0]);
        judge(&passive, Tick(0), &mut members);
        judge(&passive, Tick(10_000), &mut members);
        members[0].failures = 0;
        judge(&passive, Tick(10_001), &mut members);
        members[0].failures = 4;
        assert_eq!(judge(&passive, Tick(10_002), &mut members), []);
        members[0].failures = 5;
        assert_eq!(judge(&passive, Tick(10_003), &mut members), [(0, Change::Out(seconds(20)))]);
    }

    #[test]
    fn when_all_that_stayed_go_down_one_comes_back() {
        let mut members = members(&[5, 0, 0]);
        judge(&Passive::default(), Tick(0), &mut members);
        members[1].is_usable = false;
        assert_eq!(judge(&Passive::default(), Tick(1), &mut members), []);
        members[2].is_usable = false;
        assert_eq!(judge(&Passive::default(), Tick(2), &mut members), [(0, Change::Back)]);
    }

    #[test]
    fn switched_off_it_lets_everybody_in() {
        let mut members = members(&[5, 0, 0]);
        judge(&Passive::default(), Tick(0), &mut members);
        let off = Passive { max_fails: 0, ..Passive::default() };
        assert_eq!(judge(&off, Tick(1), &mut members), [(0, Change::Back)]);
        assert_eq!(judge(&off, Tick(1), &mut members), []);
    }

    proptest! {
        #[test]
        fn one_that_is_usable_always_stays_and_never_are_more_out_than_may_be(
            count in 1..9_usize,
            max_ejected in 1..=100_u8,
            steps in prop::collection::vec((0..9_usize, 0..4_u32, any::<bool>(), 0..40_000_u64), 1..60),
        ) {
            let passive = Passive { max_ejected, ..Passive::default() };
            let mut members = members(&vec![0; count]);
            let mut now = Tick(0);
            for (place, more, is_usable, ms) in steps {
                let member = &mut members[place % count];
                member.failures = if more == 0 { 0 } else { member.failures + 2 * more };
                member.is_usable = is_usable;
                now = Tick(now.0 + ms);
                for (_, change) in judge(&passive, now, &mut members) {
                    if let Change::Out(time) = change {
                        prop_assert!(time >= passive.eject && time <= passive.eject_max);
                    }
                }
                let usable = members.iter().filter(|member| member.is_usable);
                let staying = usable.clone().filter(|member| member.ejection.until().is_none()).count();
                prop_assert!(staying > 0 || usable.count() == 0);
                prop_assert!(out(&members).len() <= (count * usize::from(max_ejected) / 100).max(1));
                prop_assert!(members.iter().all(|member| member.ejection.until().is_none_or(|until| until > now)));
            }
        }
    }
}
