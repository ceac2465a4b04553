//! The side of the access log of those who have something to tell.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::Thread;

use rtrb::Producer;

use super::Record;
use crate::balance;
use crate::config::{Access, Event};
use crate::session::Cause;

/// Records that a worker, or whoever sends updates, can be ahead of the writer.
pub(super) const CAPACITY: usize = 8192;

/// Records after which the writer is woken even in the middle of a turn: one turn may close every
/// connection that a worker has, far more than the ring holds.
const WAKE_EVERY: u32 = 1024;

/// What was handed over and what did not fit, counted by one side and read by the other. It has a cache
/// line of its own, so that workers do not slow each other down.
#[derive(Debug, Default)]
#[repr(align(64))]
pub(super) struct Tally {
    offered: AtomicU64,
    dropped: AtomicU64,
}

impl Tally {
    pub(super) fn count(&self, taken: bool) {
        self.offered.fetch_add(1, Ordering::Relaxed);
        if !taken {
            self.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// All that should have been written, `dropped` too.
    pub(super) fn offered(&self) -> u64 {
        self.offered.load(Ordering::Relaxed)
    }

    /// What did not fit.
    pub(super) fn dropped(&self) -> u64 {
        self.dropped.load(Ordering::Relaxed)
    }
}

/// Hands the access records of one worker, or of whoever sends updates, to the writer, and never waits for it.
#[derive(Debug)]
pub struct Recorder {
    /// `None` when the access log is off.
    lane: Option<Lane>,
}

#[derive(Debug)]
struct Lane {
    filter: Filter,
    ring: Producer<Record>,
    tally: Arc<Tally>,
    writer: Thread,
    /// Records pushed since the writer was last woken.
    unseen: u32,
}

impl Recorder {
    /// A recorder that forgets everything: the access log is off.
    #[must_use]
    pub fn off() -> Self {
        Self { lane: None }
    }

    pub(super) fn new(access: &Access, ring: Producer<Record>, tally: Arc<Tally>, writer: Thread) -> Self {
        Self { lane: Some(Lane { filter: Filter::new(access), ring, tally, writer, unseen: 0 }) }
    }

    /// Hands over one record, unless `events`, `skip_empty` or `sample` leave it out. Never blocks: a record that
    /// the writer has no room for is dropped and counted.
    pub fn push(&mut self, record: Record) {
        let Some(lane) = &mut self.lane else { return };
        if !lane.filter.wants(&record) {
            return;
        }
        lane.tally.count(lane.ring.push(record).is_ok());
        lane.unseen += 1;
        if lane.unseen == WAKE_EVERY {
            lane.wake();
        }
    }

    /// How many more records there is room for now. Who has many to tell at a time waits while there is none.
    #[must_use]
    pub fn room(&self) -> usize {
        self.lane.as_ref().map_or(usize::MAX, |lane| lane.ring.slots())
    }

    /// Wakes the writer if there is something new for it; a worker calls it once a turn.
    pub fn flush(&mut self) {
        if let Some(lane) = &mut self.lane
            && lane.unseen > 0
        {
            lane.wake();
        }
    }
}

impl Lane {
    fn wake(&mut self) {
        self.unseen = 0;
        self.writer.unpark();
    }
}

/// Which records become lines.
#[derive(Debug)]
struct Filter {
    /// By [`Event`].
    events: [bool; Event::NAMES.len()],
    skip_empty: bool,
    /// `sample` in parts of [`Filter::WHOLE`].
    share: u64,
}

impl Filter {
    const WHOLE: u64 = 1 << 32;
    /// Draws that have nothing to do with those of `balance`, which follow from the same ids.
    const SALT: u64 = 0x7469_6465_6761_7465;

    fn new(access: &Access) -> Self {
        Self {
            events: Event::NAMES.map(|(_, event)| access.events.contains(&event)),
            skip_empty: access.skip_empty,
            share: (access.sample * Self::WHOLE as f64).ceil() as u64,
        }
    }

    /// `skip_empty` leaves out the close of what moved no byte and did not fail, and of probes. `sample` decides by the id, so that
    /// all of a connection is told or nothing, by whichever thread. It draws, since to take every n-th would favour
    /// whatever comes in step with it, such as one of n servers in turn.
    fn wants(&self, record: &Record) -> bool {
        let moved_nothing = record.bytes_in == 0 && record.bytes_out == 0;
        let is_empty = record.is_probe() || (record.cause == Some(Cause::Done) && moved_nothing);
        self.events[record.event as usize]
            && !(self.skip_empty && is_empty)
            && (self.share == Self::WHOLE
                || balance::random(record.id ^ Self::SALT) % Self::WHOLE < self.share)
    }
}

#[cfg(test)]
mod tests {
    use rtrb::RingBuffer;

    use super::*;
    use crate::logging::tests::{rejected, relayed};

    fn access(skip_empty: bool, sample: f64) -> Access {
        Access { output: None, skip_empty, sample, ..Access::default() }
    }

    fn recorder(capacity: usize) -> (Recorder, rtrb::Consumer<Record>, Arc<Tally>) {
        let (producer, consumer) = RingBuffer::new(capacity);
        let tally = Arc::new(Tally::default());
        let writer = std::thread::current();
        (Recorder::new(&access(false, 1.0), producer, Arc::clone(&tally), writer), consumer, tally)
    }

    #[test]
    fn a_full_ring_drops_and_counts() {
        let (mut recorder, mut ring, tally) = recorder(3);
        for id in 0..5 {
            recorder.push(Record { id, ..relayed() });
        }
        assert_eq!((tally.offered(), tally.dropped()), (5, 2));
        let ids: Vec<u64> = std::iter::from_fn(|| ring.pop().ok()).map(|record| record.id).collect();
        assert_eq!(ids, [0, 1, 2]);
        recorder.push(relayed());
        assert_eq!((tally.offered(), tally.dropped(), ring.slots()), (6, 2, 1));
    }

    #[test]
    fn the_writer_is_woken_once_a_turn_and_only_for_news() {
        // This thread plays the writer: a park that returns at once was woken.
        let was_woken = || {
            let clock = crate::sys::Clock::start();
            std::thread::park_timeout(std::time::Duration::from_millis(100));
            clock.now() < crate::tick::Tick(90)
        };
        let (mut recorder, _ring, _) = recorder(8192);
        recorder.flush();
        assert!(!was_woken());
        recorder.push(relayed());
        assert!(!was_woken());
        recorder.flush();
        assert!(was_woken());
        recorder.flush();
        assert!(!was_woken());
        for _ in 0..WAKE_EVERY {
            recorder.push(relayed());
        }
        assert!(was_woken(), "a turn that closes many connections does not wait for its end");
    }

    #[test]
    fn a_recorder_that_is_off_forgets() {
        let mut recorder = Recorder::off();
        recorder.push(relayed());
        recorder.flush();
        assert!(recorder.lane.is_none());
    }

    #[test]
    fn room_is_what_can_be_pushed() {
        let (mut recorder, mut ring, tally) = recorder(3);
        while recorder.room() > 0 {
            recorder.push(relayed());
        }
        assert_eq!((tally.offered(), tally.dropped()), (3, 0));
        assert!(ring.pop().is_ok());
        assert_eq!(recorder.room(), 1);
        assert!(Recorder::off().room() > 0, "nobody waits for what is off");
    }

    fn filter(events: &[Event], skip_empty: bool, sample: f64) -> Filter {
        Filter::new(&Access { events: events.to_vec(), ..access(skip_empty, sample) })
    }

    fn of(event: Event) -> Record {
        let cause = relayed().cause.filter(|_| event == Event::Close);
        Record { event, cause, ..relayed() }
    }

    #[test]
    fn only_events_that_are_asked_for_become_lines() {
        let all = [Event::Open, Event::Update, Event::Close];
        for events in [&all[..1], &all[1..2], &all[2..], &all[..2], &all] {
            let filter = filter(events, false, 1.0);
            let wanted: Vec<Event> = all.into_iter().filter(|event| filter.wants(&of(*event))).collect();
            assert_eq!(wanted, events);
        }
    }

    #[test]
    fn skip_empty_leaves_out_the_close_of_what_moved_nothing_and_did_not_fail() {
        let empty = Record { bytes_in: 0, bytes_out: 0, ..relayed() };
        let filter = filter(&[Event::Open, Event::Close], true, 1.0);
        assert!(!filter.wants(&empty));
        assert!(filter.wants(&Record { bytes_in: 1, ..empty.clone() }));
        assert!(filter.wants(&Record { bytes_out: 1, ..empty.clone() }));
        assert!(filter.wants(&rejected()), "a failure is written though no byte was moved");
        assert!(
            filter.wants(&Record { bytes_in: 0, bytes_out: 0, ..of(Event::Open) }),
            "nothing was moved yet"
        );
        assert!(Filter::new(&access(false, 1.0)).wants(&empty));
    }

    #[test]
    fn skip_empty_leaves_out_probes_that_have_left_by_themselves() {
        let probe = |cause| Record { probes: true, bytes_in: 0, cause: Some(cause), ..relayed() };
        let filter = filter(&[Event::Close], true, 1.0);
        for cause in [Cause::Done, Cause::ClientLeft, Cause::ClientLeftQueue, Cause::ClientReset] {
            // A server may have greeted it.
            assert!(!filter.wants(&probe(cause)), "{cause:?}");
            assert!(filter.wants(&Record { bytes_in: 1, ..probe(cause) }), "{cause:?}");
        }
        for cause in [Cause::ConnectRefused, Cause::ServerReset, Cause::NoServer, Cause::PrereadTimeout] {
            assert!(filter.wants(&probe(cause)), "{cause:?} is no probe's will");
        }
        let left = Record { probes: false, bytes_out: 0, ..probe(Cause::ClientLeft) };
        assert!(filter.wants(&left), "a client that has left may have been tired of waiting");
        assert!(Filter::new(&access(false, 1.0)).wants(&probe(Cause::ClientLeft)));
    }

    #[test]
    fn sample_writes_its_share() {
        for sample in [0.5, 0.1, 0.001] {
            let filter = filter(&[Event::Close], false, sample);
            for worker in [0, 3] {
                let ids = (0..1_000_000).map(|number| worker << 48 | number);
                let written = ids.filter(|id| filter.wants(&Record { id: *id, ..relayed() })).count();
                let [expected, far] = [1e6 * sample, 5.0 * (1e6 * sample).sqrt()];
                assert!((written as f64 - expected).abs() < far, "{written} of a million with {sample}");
            }
        }
        let whole = filter(&[Event::Close], false, 1.0);
        assert!((0..10_000).all(|id| whole.wants(&Record { id, ..relayed() })));
    }

    #[test]
    fn sample_writes_all_of_a_connection_or_nothing() {
        let filter = filter(&[Event::Open, Event::Update, Event::Close], false, 0.3);
        for id in 0..1000 {
            let wanted = Event::NAMES.map(|(_, event)| filter.wants(&Record { id, ..of(event) }));
            assert!(wanted == [true; 3] || wanted == [false; 3], "{id}: {wanted:?}");
        }
    }

    #[test]
    fn sample_favours_no_server() {
        // One in two of connections that take turns between two servers, and that are balanced by draws.
        let filter = filter(&[Event::Close], false, 0.5);
        let sampled = || (0..100_000_u64).filter(|id| filter.wants(&Record { id: *id, ..relayed() }));
        let in_turn = sampled().filter(|id| id % 2 == 0).count();
        let drawn = sampled().filter(|id| balance::random(*id) >> 63 == 0).count();
        for count in [in_turn, drawn] {
            assert!(
                (24_000..26_000).contains(&count),
                "{count} of about 50,000 went to the first of two servers"
            );
        }
    }
}
