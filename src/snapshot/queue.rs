//! Clients that wait for a server of their pool to have room: how many there are, and whose turn it is.
//!
//! Each worker keeps its own clients in a row; what workers share is since when the first of each waits. Only the
//! worker whose first client waits longest may take a place, and whoever makes room, or takes a first client away,
//! tells that worker. No wake-up is lost: a client is counted and announced before its worker looks for a place once
//! more, and a place is given back before anybody looks who waits. All of it is sequentially consistent, as the counts
//! of places are ([`Limit`]), so one of the two sees the other.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

use super::Limit;
use crate::tally::Times;
use crate::tick::Tick;

/// The head of a row in which nobody waits.
const NOBODY: u64 = u64::MAX;

/// A pool's waiting clients, in all workers. A clone is the same queue.
#[derive(Clone, Debug)]
pub struct Queue {
    waiting: Limit,
    /// Since when the first client of each worker waits; there is none before somebody has waited.
    heads: Arc<OnceLock<Box<[AtomicU64]>>>,
    /// How long those waited that got a place.
    pub waits: Arc<Times>,
}

impl Queue {
    /// An empty one for `most` clients.
    #[must_use]
    pub fn new(most: u32) -> Self {
        Self { waiting: Limit::new(most), heads: Arc::default(), waits: Arc::default() }
    }

    /// The same queue with another limit.
    #[must_use]
    pub fn with_most(&self, most: u32) -> Self {
        Self { waiting: self.waiting.with_most(most), ..self.clone() }
    }

    /// One more client waits, unless the queue is full.
    #[must_use]
    pub fn enter(&self) -> bool {
        self.waiting.take()
    }

    /// One client waits no longer.
    pub fn leave(&self) {
        self.waiting.give();
    }

    /// Clients that wait now.
    #[must_use]
    pub fn count(&self) -> u32 {
        self.waiting.count()
    }

    /// The most that may wait.
    #[must_use]
    pub fn most(&self) -> u32 {
        self.waiting.most()
    }

    /// The first client of `worker`, of so many, waits since then; `None`: none waits.
    pub fn announce(&self, worker: u16, workers: usize, since: Option<Tick>) {
        let heads = self.heads.get_or_init(|| (0..workers).map(|_| AtomicU64::new(NOBODY)).collect());
        heads[usize::from(worker)].store(since.map_or(NOBODY, |since| since.0), Ordering::SeqCst);
    }

    /// The worker whose first client waits longest.
    #[must_use]
    pub fn first(&self) -> Option<u16> {
        let heads = self.heads.get()?.iter().map(|head| head.load(Ordering::SeqCst));
        let waiting = (0..).zip(heads).filter(|(_, since)| *since != NOBODY);
        waiting.min_by_key(|(_, since)| *since).map(|(worker, _)| worker)
    }
}

#[cfg(test)]
mod tests {
    use std::thread;

    use super::*;

    #[test]
    fn the_turn_is_of_the_worker_whose_first_client_waits_longest() {
        let queue = Queue::new(2);
        assert_eq!(queue.first(), None);
        queue.announce(2, 4, Some(Tick(9)));
        queue.announce(1, 4, Some(Tick(12)));
        assert_eq!(queue.first(), Some(2));
        queue.announce(2, 4, Some(Tick(12)));
        assert_eq!(queue.first(), Some(1), "of two that began together one is meant, whoever asks");
        queue.announce(1, 4, None);
        queue.announce(2, 4, None);
        assert_eq!(queue.first(), None);
    }

    #[test]
    fn a_reload_changes_how_many_may_wait_and_not_how_many_do() {
        let queue = Queue::new(1);
        assert!(queue.enter() && !queue.enter());
        let queue = queue.with_most(2);
        assert!(queue.enter() && !queue.enter());
        let queue = queue.with_most(0);
        queue.leave();
        assert_eq!((queue.count(), queue.enter()), (1, false));
    }

    /// The protocol of the workers, on real threads that sleep until they are woken: four of them, with 20,000 clients
    /// each, and three places. A wake-up that is lost leaves a thread asleep for ever.
    #[test]
    fn whoever_waits_is_told_of_a_place() {
        const CLIENTS: u64 = 20_000;
        let (queue, places) = (Queue::new(u32::MAX), Limit::new(3));
        let turn = AtomicU64::new(0);
        let workers: [OnceLock<thread::Thread>; 4] = Default::default();
        let wake = |by: u16| match queue.first() {
            Some(worker) if worker != by => workers[usize::from(worker)].get().expect("it waits").unpark(),
            _ => {}
        };
        let work = |me: u16| {
            workers[usize::from(me)].set(thread::current()).expect("it begins once");
            for _ in 0..CLIENTS {
                if queue.count() > 0 || !places.take() {
                    assert!(queue.enter());
                    queue.announce(me, 4, Some(Tick(turn.fetch_add(1, Ordering::Relaxed))));
                    while queue.first() != Some(me) || !places.take() {
                        thread::park();
                    }
                    queue.leave();
                    queue.announce(me, 4, None);
                    wake(me);
                }
                thread::yield_now();
                places.give();
                wake(me);
            }
        };
        thread::scope(|scope| {
            for me in 0..4 {
                scope.spawn(move || work(me));
            }
        });
        assert_eq!((queue.count(), queue.first(), places.count()), (0, None, 0));
    }
}
