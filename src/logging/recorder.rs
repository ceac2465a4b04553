//! The worker's side of the access log.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::Thread;

use rtrb::Producer;

use super::Record;
use crate::config::Access;
use crate::session::Cause;

/// Records that a worker can be ahead of the writer.
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

/// Hands one worker's access records to the writer, and never waits for it.
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

    /// Hands over one record, unless `skip_empty` or `sample` leave it out. Never blocks: a record that
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
    skip_empty: bool,
    /// `sample` in parts of [`Filter::WHOLE`].
    step: u64,
    /// What the records up to here have added up to, short of a line.
    sum: u64,
}

impl Filter {
    const WHOLE: u64 = 1 << 32;

    fn new(access: &Access) -> Self {
        // Rounded up, so that ten tenths make a whole.
        let step = (access.sample * Self::WHOLE as f64).ceil() as u64;
        Self { skip_empty: access.skip_empty, step, sum: 0 }
    }

    /// `skip_empty` leaves out what moved no byte and did not fail. `sample` counts what is left, failures
    /// too: with 0.25 a worker writes its 4th, 8th, 12th …
    fn wants(&mut self, record: &Record) -> bool {
        if self.skip_empty && record.cause == Cause::Done && record.bytes_in == 0 && record.bytes_out == 0 {
            return false;
        }
        self.sum += self.step;
        let wanted = self.sum >= Self::WHOLE;
        if wanted {
            self.sum -= Self::WHOLE;
        }
        wanted
    }
}

#[cfg(test)]
mod tests {
    use rtrb::RingBuffer;

    use super::*;
    use crate::logging::tests::{rejected, relayed};

    fn access(skip_empty: bool, sample: f64) -> Access {
        Access { output: None, format: crate::config::AccessFormat::Json, skip_empty, sample }
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
    fn skip_empty_leaves_out_what_moved_nothing_and_did_not_fail() {
        let empty = Record { bytes_in: 0, bytes_out: 0, ..relayed() };
        let mut filter = Filter::new(&access(true, 1.0));
        assert!(!filter.wants(&empty));
        assert!(filter.wants(&Record { bytes_in: 1, ..empty }));
        assert!(filter.wants(&Record { bytes_out: 1, ..empty }));
        assert!(filter.wants(&rejected()), "a failure is written though no byte was moved");
        assert!(Filter::new(&access(false, 1.0)).wants(&empty));
    }

    #[test]
    fn sample_writes_its_share_evenly() {
        let written = |sample: f64, count: usize| {
            let mut filter = Filter::new(&access(false, sample));
            (1..=count).filter(|_| filter.wants(&relayed())).collect::<Vec<_>>()
        };
        assert_eq!(written(0.25, 12), [4, 8, 12]);
        assert_eq!(written(1.0, 3), [1, 2, 3]);
        assert_eq!(written(0.1, 20), [10, 20]);
        assert_eq!(written(0.75, 8), [2, 3, 4, 6, 7, 8]);
        assert_eq!(written(0.001, 1_000_000).len(), 1000);
    }

    #[test]
    fn what_skip_empty_leaves_out_does_not_count_for_sample() {
        let empty = Record { bytes_in: 0, bytes_out: 0, ..relayed() };
        let mut filter = Filter::new(&access(true, 0.5));
        let wanted: Vec<bool> =
            [empty, relayed(), empty, empty, relayed()].iter().map(|record| filter.wants(record)).collect();
        assert_eq!(wanted, [false, false, false, false, true]);
    }
}
