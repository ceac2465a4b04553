//! Deadlines of connections, at most one each.

use std::collections::BTreeSet;

use crate::table::Key;
use crate::tick::Tick;

/// Keys in the order in which they are due: exact, deterministic, and far from the data path, which never
/// touches a timer. `benches/timers.rs` watches its cost.
#[derive(Debug, Default)]
pub struct Timers {
    due: BTreeSet<(Tick, Key)>,
}

impl Timers {
    /// Wakes `key` at `at`. A key that has a deadline already gets a second one.
    pub fn add(&mut self, at: Tick, key: Key) {
        self.due.insert((at, key));
    }

    /// Takes a deadline back.
    pub fn remove(&mut self, at: Tick, key: Key) {
        self.due.remove(&(at, key));
    }

    /// The next deadline.
    #[must_use]
    pub fn next(&self) -> Option<Tick> {
        self.due.first().map(|(at, _)| *at)
    }

    /// How many there are.
    #[cfg(feature = "sim")]
    pub(super) fn len(&self) -> usize {
        self.due.len()
    }

    /// Takes out a key that is due at `now`, the longest due first.
    pub fn expired(&mut self, now: Tick) -> Option<Key> {
        if self.next()? > now {
            return None;
        }
        self.due.pop_first().map(|(_, key)| key)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_come_out_in_order_and_never_early() {
        let mut timers = Timers::default();
        let [a, b, c] = [0, 1, 2].map(Key::reserved);
        timers.add(Tick(30), c);
        timers.add(Tick(10), a);
        timers.add(Tick(20), b);
        timers.remove(Tick(20), b);
        assert_eq!(timers.next(), Some(Tick(10)));
        assert_eq!(timers.expired(Tick(9)), None);
        assert_eq!(timers.expired(Tick(30)), Some(a));
        assert_eq!(timers.expired(Tick(30)), Some(c));
        assert_eq!(timers.expired(Tick(99)), None);
    }
}
