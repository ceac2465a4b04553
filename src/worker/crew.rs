//! What the workers of a process know of each other.

use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, OnceLock};
use std::thread;
use std::time::Duration;

use super::gate::Client;
use crate::balance;
use crate::engine::{FACTS, Wake};
use crate::snapshot::Limit;

/// New connections that may be on their way to one worker; beyond that, whoever accepts one keeps it.
const MAILBOX: usize = 256;

/// The counts of turns of a worker that makes none yet, and of one that will make no more.
const NOT_YET: u64 = 0;
const OVER: u64 = u64::MAX;

/// How often it is looked whether a worker that was woken has turned.
const LOOKS: u32 = 50;

/// All workers of a process. The data path touches it only when a connection begins or ends.
#[derive(Debug)]
pub struct Crew<Socket> {
    phase: AtomicU8,
    /// Changes whenever workers have something to look at beside their sockets: a snapshot, a command.
    attention: AtomicU64,
    /// Workers whose listeners are open: as long as there is one, connections may be handed over.
    listening: AtomicUsize,
    /// Who was last told that there is room.
    told: AtomicUsize,
    /// Those that there are, one after the other: there is at most one for each engine.
    sets: [OnceLock<Set<Socket>>; FACTS.len()],
    /// Workers in a set: those that serve the same listeners, and hand connections over to each other.
    each: usize,
}

/// The workers of one engine.
type Set<Socket> = Box<[Member<Socket>]>;

#[derive(Debug)]
struct Member<Socket> {
    connections: Limit,
    /// It has clients that wait for a limit.
    waiting: AtomicBool,
    mailbox: SyncSender<Client<Socket>>,
    waker: OnceLock<Arc<dyn Wake>>,
    /// The number of its thread.
    thread: OnceLock<u32>,
    /// Its turns so far, its beginning being the first; only it writes here.
    turns: AtomicU64,
}

/// What the process is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Phase {
    /// Serving.
    Serving,
    /// No new connections; those that are there may finish.
    Draining,
    /// Every connection ends now.
    Stopping,
}

/// Where a worker gets connections that others hand to it.
pub type Mailbox<Socket> = Receiver<Client<Socket>>;

impl<Socket> Crew<Socket> {
    /// A crew of `sets` sets with `each` workers in each, and a mailbox for every worker.
    #[must_use]
    pub fn new(sets: u16, each: u16) -> (Self, Vec<Mailbox<Socket>>) {
        let crew = Self {
            phase: AtomicU8::new(Phase::Serving as u8),
            attention: AtomicU64::new(0),
            listening: AtomicUsize::new(0),
            told: AtomicUsize::new(0),
            sets: Default::default(),
            each: usize::from(each),
        };
        let mailboxes = (0..sets).flat_map(|_| crew.add_set().1).collect();
        (crew, mailboxes)
    }

    /// Makes room for one more set; the number of its first worker, and a mailbox for each.
    ///
    /// # Panics
    /// When there is one for each engine already.
    pub fn add_set(&self) -> (u16, Vec<Mailbox<Socket>>) {
        let (members, mailboxes) = (0..self.each)
            .map(|_| {
                let (mailbox, received) = sync_channel(MAILBOX);
                let member = Member {
                    connections: Limit::new(u32::MAX),
                    waiting: AtomicBool::new(false),
                    mailbox,
                    waker: OnceLock::new(),
                    thread: OnceLock::new(),
                    turns: AtomicU64::new(NOT_YET),
                };
                (member, received)
            })
            .unzip::<_, _, Vec<_>, Vec<_>>();
        let first = self.size();
        // They count before they run, so that nobody takes the crew for closed meanwhile.
        self.listening.fetch_add(self.each, Ordering::AcqRel);
        let place = self.sets.get(first / self.each).expect("there is a set for each engine at most");
        assert!(place.set(members.into_boxed_slice()).is_ok(), "only one thread adds sets");
        (u16::try_from(first).expect("few workers"), mailboxes)
    }

    /// Whether there is room for one more set.
    #[must_use]
    pub fn has_room(&self) -> bool {
        self.size() / self.each < self.sets.len()
    }

    /// A worker could not be started: it will never close what it never opened, and never turn.
    pub fn forsake(&self, worker: u16) {
        self.turned(worker, true);
        self.stop_listening();
    }

    /// How many workers there are.
    #[must_use]
    pub fn size(&self) -> usize {
        self.sets.iter().map_while(OnceLock::get).count() * self.each
    }

    /// How many workers there may be, ever.
    #[must_use]
    pub fn most(&self) -> usize {
        self.sets.len() * self.each
    }

    /// Wakes a worker.
    pub(super) fn wake(&self, worker: u16) {
        self.member(usize::from(worker)).wake();
    }

    fn members(&self) -> impl Iterator<Item = &Member<Socket>> {
        self.sets.iter().map_while(OnceLock::get).flatten()
    }

    fn member(&self, worker: usize) -> &Member<Socket> {
        let set = self.sets[worker / self.each].get().expect("it has joined");
        &set[worker % self.each]
    }

    /// A worker is ready: this wakes it.
    pub fn join(&self, worker: u16, waker: Arc<dyn Wake>) {
        let _ = self.member(usize::from(worker)).waker.set(waker);
    }

    /// No new connections; those that are there may finish.
    pub fn drain(&self) {
        self.enter(Phase::Draining);
    }

    /// Every connection ends now.
    pub fn stop(&self) {
        self.enter(Phase::Stopping);
    }

    /// Whether the process is ending.
    #[must_use]
    pub fn is_draining(&self) -> bool {
        self.phase() >= Phase::Draining
    }

    fn enter(&self, phase: Phase) {
        self.phase.fetch_max(phase as u8, Ordering::Relaxed);
        self.members().for_each(Member::wake);
    }

    /// There is something to look at for all workers.
    pub fn attend(&self) {
        self.attention.fetch_add(1, Ordering::Release);
        self.members().for_each(Member::wake);
    }

    /// There is something to look at for one of them.
    pub fn attend_to(&self, worker: u16) {
        self.attention.fetch_add(1, Ordering::Release);
        self.member(usize::from(worker)).wake();
    }

    /// Changes whenever there is something to look at.
    pub(super) fn attention(&self) -> u64 {
        self.attention.load(Ordering::Acquire)
    }

    /// The number of a worker's thread, where the system has numbers.
    #[must_use]
    pub fn thread(&self, worker: u16) -> Option<u32> {
        self.member(usize::from(worker)).thread.get().copied()
    }

    /// A worker's thread has this number.
    pub(super) fn set_thread(&self, worker: u16, thread: u32) {
        let _ = self.member(usize::from(worker)).thread.set(thread);
    }

    /// The turns that a worker has made; `None` when it has ended.
    #[must_use]
    pub fn turns(&self, worker: u16) -> Option<u64> {
        let turns = self.member(usize::from(worker)).turns.load(Ordering::Relaxed);
        (turns != OVER).then_some(turns)
    }

    /// What the process is doing.
    #[must_use]
    pub fn phase(&self) -> Phase {
        match self.phase.load(Ordering::Relaxed) {
            0 => Phase::Serving,
            1 => Phase::Draining,
            _ => Phase::Stopping,
        }
    }

    /// A worker's listeners are closed, and it hands nothing over any more.
    pub fn stop_listening(&self) {
        if self.listening.fetch_sub(1, Ordering::AcqRel) == 1 {
            // The others may have nothing left to wait for but this.
            self.members().for_each(Member::wake);
        }
    }

    /// Whether connections may still be handed over.
    pub(super) fn is_listening(&self) -> bool {
        self.listening.load(Ordering::Acquire) > 0
    }

    /// Whether clients of a worker wait for a limit.
    pub(super) fn set_waiting(&self, worker: u16, waits: bool) {
        self.member(usize::from(worker)).waiting.store(waits, Ordering::Relaxed);
    }

    /// Tells the next worker whose clients wait that `by` has made room; `false` when none waits but `by`.
    pub(super) fn wake_waiting(&self, by: u16) -> bool {
        let count = self.size();
        let last = self.told.load(Ordering::Relaxed);
        let mut turns = (1..=count).map(|step| (last + step) % count);
        let next = turns.find(|index| self.member(*index).waiting.load(Ordering::Relaxed));
        let Some(next) = next else { return false };
        self.told.store(next, Ordering::Relaxed);
        let is_other = next != usize::from(by);
        if is_other {
            self.member(next).wake();
        }
        is_other
    }

    /// A worker begins to turn: from now on it is silent when it does not. Before, it waits until its whole set is ready.
    pub(super) fn begins(&self, worker: u16) {
        self.turned(worker, false);
    }

    /// A worker has made a turn, its last one if it is `over`.
    pub(super) fn turned(&self, worker: u16, over: bool) {
        let turns = &self.member(usize::from(worker)).turns;
        let next = if over { OVER } else { turns.load(Ordering::Relaxed) + 1 };
        turns.store(next, Ordering::Relaxed);
    }

    /// Wakes every worker that has begun, and waits until each has turned; those that have not after `patience`.
    #[must_use]
    pub fn silent(&self, patience: Duration) -> Vec<u16> {
        let turns = |member: &Member<Socket>| member.turns.load(Ordering::Relaxed);
        let before: Vec<u64> = self.members().map(turns).collect();
        let turns_now = (0..).zip(&before).filter(|(_, turns)| !matches!(**turns, NOT_YET | OVER));
        let mut silent: Vec<u16> = turns_now.map(|(worker, _)| worker).collect();
        silent.iter().for_each(|worker| self.member(usize::from(*worker)).wake());
        for _ in 0..LOOKS {
            if silent.is_empty() {
                break;
            }
            thread::sleep(patience / LOOKS);
            silent.retain(|worker| {
                let worker = usize::from(*worker);
                turns(self.member(worker)) == before[worker]
            });
        }
        silent
    }

    /// The connections of a worker.
    #[must_use]
    pub fn connections(&self, worker: u16) -> &Limit {
        &self.member(usize::from(worker)).connections
    }

    /// Hands `client` to another worker of the same set, drawn by `seed`, if that one has clearly fewer connections;
    /// otherwise, or when its mailbox is full, gives it back. Whoever gets it has it counted already.
    pub(super) fn hand_over(&self, from: u16, client: Client<Socket>, seed: u64) -> Option<Client<Socket>> {
        let others = self.each as u64 - 1;
        if others == 0 {
            return self.keep(from, client);
        }
        let step = 1 + usize::try_from(balance::random(seed) % others).unwrap_or(0);
        let place = usize::from(from) % self.each;
        let other = self.member(usize::from(from) - place + (place + step) % self.each);
        let (mine, theirs) = (self.connections(from).count(), other.connections.count());
        // A difference that is small for their number is not worth a hand-over.
        if mine.saturating_sub(theirs) <= mine / 16 {
            return self.keep(from, client);
        }
        let _ = other.connections.take();
        match other.mailbox.try_send(client) {
            Ok(()) => {
                other.wake();
                None
            }
            Err(TrySendError::Full(client) | TrySendError::Disconnected(client)) => {
                other.connections.give();
                self.keep(from, client)
            }
        }
    }

    /// Counts `client` as one of `worker`'s own.
    pub(super) fn keep(&self, worker: u16, client: Client<Socket>) -> Option<Client<Socket>> {
        self.connections(worker).take().then_some(client)
    }
}

impl<Socket> Member<Socket> {
    fn wake(&self) {
        if let Some(waker) = self.waker.get()
            && let Err(error) = waker.wake()
        {
            log::error!("cannot wake a worker: {error}");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::snapshot::ListenerId;

    #[test]
    fn a_connection_is_handed_over_within_its_set_only() {
        let (crew, mailboxes) = Crew::new(2, 3);
        let client = |socket: u64| Client {
            listener: ListenerId(0),
            socket,
            peer: None,
            counted: true,
            place: None,
            is_to_be_told: false,
        };
        for worker in [0, 4] {
            (0..1_000).for_each(|_| assert!(crew.connections(worker).take()));
        }
        for seed in 0..100 {
            assert!(crew.hand_over(0, client(seed), seed).is_none());
            assert!(crew.hand_over(4, client(1_000 + seed), seed).is_none());
        }
        let sockets =
            mailboxes.iter().map(|mailbox| mailbox.try_iter().map(|client| client.socket).collect());
        let sockets: Vec<Vec<u64>> = sockets.collect();
        let counts: Vec<usize> = sockets.iter().map(Vec::len).collect();
        assert_eq!((counts[0], counts[1] + counts[2]), (0, 100), "{counts:?}");
        assert_eq!((counts[4], counts[3] + counts[5]), (0, 100), "{counts:?}");
        assert!(counts.iter().enumerate().all(|(worker, count)| worker % 4 == 0 || *count > 0), "{counts:?}");
        assert!(sockets[..3].iter().flatten().all(|socket| *socket < 1_000));
        assert!(sockets[3..].iter().flatten().all(|socket| *socket >= 1_000));
    }

    /// Counts how often it was rung.
    #[derive(Debug, Default)]
    struct Bell(AtomicUsize);

    impl Wake for Bell {
        fn wake(&self) -> std::io::Result<()> {
            self.0.fetch_add(1, Ordering::Relaxed);
            Ok(())
        }
    }

    #[test]
    fn room_that_is_made_in_one_set_is_told_to_those_who_wait_in_another() {
        let (crew, _mailboxes) = Crew::<()>::new(2, 2);
        let bells: [Arc<Bell>; 4] = Default::default();
        for (worker, bell) in (0..).zip(&bells) {
            crew.join(worker, Arc::clone(bell) as Arc<dyn Wake>);
        }
        let rung = || bells.each_ref().map(|bell| bell.0.load(Ordering::Relaxed));
        assert!(!crew.wake_waiting(0), "nobody waits");
        crew.set_waiting(3, true);
        assert!(crew.wake_waiting(0));
        assert_eq!(rung(), [0, 0, 0, 1]);
        crew.set_waiting(1, true);
        assert!(crew.wake_waiting(0) && crew.wake_waiting(0));
        assert_eq!(rung(), [0, 1, 0, 2], "those who wait have their turns");
        crew.drain();
        assert_eq!(rung(), [1, 2, 1, 3], "a drain reaches all sets");
    }

    #[test]
    fn who_does_not_turn_is_silent_unless_it_has_ended_or_not_begun() {
        let (crew, _mailboxes) = Crew::<()>::new(1, 4);
        let bells: [Arc<Bell>; 4] = Default::default();
        for (worker, bell) in (0..).zip(&bells) {
            crew.join(worker, Arc::clone(bell) as Arc<dyn Wake>);
        }
        crew.turned(0, false);
        crew.begins(1);
        crew.turned(2, true);
        assert_eq!(crew.silent(Duration::from_millis(50)), [0, 1]);
        assert_eq!(bells.each_ref().map(|bell| bell.0.load(Ordering::Relaxed)), [1, 1, 0, 0]);
        let turns = |worker| {
            while bells[usize::from(worker)].0.load(Ordering::Relaxed) < 2 {
                thread::yield_now();
            }
            crew.turned(worker, false);
        };
        let silent = thread::scope(|scope| {
            scope.spawn(|| turns(1));
            crew.silent(Duration::from_secs(1))
        });
        assert_eq!(silent, [0]);
    }

    #[test]
    fn a_worker_alone_in_its_set_keeps_what_it_accepts() {
        let (crew, _mailboxes) = Crew::new(2, 1);
        (0..100).for_each(|_| assert!(crew.connections(0).take()));
        let client = Client {
            listener: ListenerId(0),
            socket: (),
            peer: None,
            counted: true,
            place: None,
            is_to_be_told: false,
        };
        assert!(crew.hand_over(0, client, 1).is_some());
    }
}
