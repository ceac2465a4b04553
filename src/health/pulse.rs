//! Rise and fall: what the results of checks make of a server.

use std::time::Duration;

use crate::config::{Initial, Probe};

/// Whether a server is up, by its checks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pulse {
    is_up: bool,
    /// It was found to be so, and is not only what the file says.
    is_known: bool,
    /// No check has ended yet, and the first one alone decides.
    is_undecided: bool,
    /// The last results in a row that speak against `is_up`.
    against: u8,
}

impl Pulse {
    /// That of a server that was not checked before.
    #[must_use]
    pub fn new(initial: Initial) -> Self {
        let (is_up, is_undecided) = (initial == Initial::Up, initial == Initial::CheckFirst);
        Self { is_up, is_known: false, is_undecided, against: 0 }
    }

    /// That of a server that is known to be up or down.
    #[must_use]
    pub fn known(is_up: bool) -> Self {
        Self { is_up, is_known: true, is_undecided: false, against: 0 }
    }

    /// Whether it is up.
    #[must_use]
    pub fn is_up(self) -> bool {
        self.is_up
    }

    /// Whether a check has found out something of it, now or before.
    #[must_use]
    pub fn is_known(self) -> bool {
        self.is_known
    }

    /// Whether its first check is waited for.
    #[must_use]
    pub fn is_undecided(self) -> bool {
        self.is_undecided
    }

    /// A check has ended.
    pub fn note(&mut self, passed: bool, probe: &Probe) {
        self.is_known = true;
        let needed = match self.is_up {
            _ if std::mem::take(&mut self.is_undecided) => 1,
            true => probe.fall,
            false => probe.rise,
        };
        self.against = if passed == self.is_up { 0 } else { self.against + 1 };
        if self.against >= needed {
            self.is_up = passed;
            self.against = 0;
        }
    }

    /// From the beginning of the last check to that of the next. `random` has 64 random bits.
    #[must_use]
    pub fn wait(self, probe: &Probe, random: u64) -> Duration {
        let interval = match self {
            Self { against: 1.., .. } => probe.fast_interval,
            Self { is_up: false, .. } => probe.down_interval,
            Self { is_up: true, .. } => probe.interval,
        };
        let jitter = u32::from(probe.jitter);
        let drawn = u32::try_from(random % u64::from(2 * jitter + 1)).unwrap_or(0);
        interval * (1000 - jitter + drawn) / 1000
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn probe(fall: u8, rise: u8) -> Probe {
        Probe { fall, rise, ..Probe::default() }
    }

    /// The states after each result: `+` passed, `-` failed.
    fn states(mut pulse: Pulse, probe: &Probe, results: &str) -> String {
        let note = |result| {
            pulse.note(result == '+', probe);
            if pulse.is_up() { 'U' } else { 'D' }
        };
        results.chars().map(note).collect()
    }

    #[test]
    fn so_many_results_in_a_row_change_the_state() {
        let cases = [
            (Pulse::known(true), "---+-++", "UUDDDDU"),
            (Pulse::known(true), "--+--+---", "UUUUUUUUD"),
            (Pulse::known(false), "+-+-++", "DDDDDU"),
            (Pulse::new(Initial::Up), "---", "UUD"),
            (Pulse::new(Initial::Down), "+++", "DUU"),
            (Pulse::new(Initial::CheckFirst), "+---", "UUUD"),
            (Pulse::new(Initial::CheckFirst), "-++", "DDU"),
        ];
        for (pulse, results, expected) in cases {
            assert_eq!(states(pulse, &probe(3, 2), results), expected, "{pulse:?} {results}");
        }
    }

    #[test]
    fn before_its_first_check_a_server_is_what_the_file_says() {
        for (initial, is_up, is_undecided) in
            [(Initial::Up, true, false), (Initial::Down, false, false), (Initial::CheckFirst, false, true)]
        {
            let mut pulse = Pulse::new(initial);
            assert_eq!((pulse.is_up(), pulse.is_undecided()), (is_up, is_undecided), "{initial:?}");
            assert!(!pulse.is_known());
            pulse.note(false, &probe(1, 1));
            assert!(pulse.is_known() && !pulse.is_undecided());
        }
    }

    #[test]
    fn the_interval_is_that_of_the_state_and_a_fast_one_on_the_way_to_another() {
        let seconds = Duration::from_secs;
        let probe = Probe {
            interval: seconds(10),
            fast_interval: seconds(1),
            down_interval: seconds(5),
            jitter: 0,
            ..probe(2, 2)
        };
        let mut pulse = Pulse::known(true);
        let mut waits = Vec::new();
        for passed in [true, false, false, true, false, true, true] {
            pulse.note(passed, &probe);
            waits.push(pulse.wait(&probe, 7).as_secs());
        }
        assert_eq!(waits, [10, 1, 5, 1, 5, 1, 10]);
    }

    proptest! {
        #[test]
        fn jitter_stays_within_its_share(random in any::<u64>(), jitter in 0..=1000_u16, ms in 1..100_000_u64) {
            let probe = Probe { interval: Duration::from_millis(ms), jitter, ..Probe::default() };
            let wait = Pulse::known(true).wait(&probe, random).as_secs_f64() * 1e3;
            let (ms, share) = (ms as f64, f64::from(jitter) / 1e3);
            prop_assert!(wait >= ms * (1.0 - share) - 0.01 && wait <= ms * (1.0 + share) + 0.01, "{}", wait);
        }

        /// Against a model that looks back over all results.
        #[test]
        fn a_state_changes_only_by_results_in_a_row(
            results in prop::collection::vec(any::<bool>(), 0..60), fall in 1..6_u8, rise in 1..6_u8,
        ) {
            let mut pulse = Pulse::known(true);
            let mut since_change = Vec::new();
            let mut is_up = true;
            for passed in results {
                pulse.note(passed, &probe(fall, rise));
                since_change.push(passed);
                let needed = usize::from(if is_up { fall } else { rise });
                if since_change.len() >= needed
                    && since_change[since_change.len() - needed..].iter().all(|passed| *passed != is_up)
                {
                    is_up = !is_up;
                    since_change.clear();
                }
                prop_assert_eq!(pulse.is_up(), is_up);
            }
        }
    }
}
