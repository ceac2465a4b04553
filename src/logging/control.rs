//! What others ask of the log while it runs.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::Sender;
use std::thread::Thread;

use log::{Level, LevelFilter};
use rtrb::{Consumer, RingBuffer};

use super::recorder::{CAPACITY, Recorder, Tally};
use crate::config::Access;
use crate::session::Record;
use crate::snapshot::Snapshot;

/// What is asked of the writer, and the level, which whoever logs reads too.
#[derive(Debug)]
pub(super) struct Wanted {
    stop: AtomicBool,
    reopen: AtomicBool,
    level: AtomicUsize,
}

impl Wanted {
    pub(super) fn new(level: LevelFilter) -> Self {
        Self {
            stop: AtomicBool::new(false),
            reopen: AtomicBool::new(false),
            level: AtomicUsize::new(level as usize),
        }
    }

    pub(super) fn stop(&self) {
        self.stop.store(true, Ordering::Release);
    }

    pub(super) fn stops(&self) -> bool {
        self.stop.load(Ordering::Acquire)
    }

    /// Whether outputs are to be opened anew; asking is answering.
    pub(super) fn reopens(&self) -> bool {
        self.reopen.swap(false, Ordering::AcqRel)
    }

    /// Whether lines of that level are written.
    pub(super) fn has(&self, level: Level) -> bool {
        level as usize <= self.level.load(Ordering::Relaxed)
    }
}

/// What the writer has to know before it reads the next record.
#[derive(Debug)]
pub(super) enum Change {
    /// Ids stand for these.
    Names(Arc<Snapshot>),
    /// Another worker, of this engine, records what it does.
    Worker(Option<Consumer<Record>>, Arc<Tally>, &'static str),
}

/// Changes how the log is written while it runs. Clones are the same handle.
#[derive(Clone, Debug)]
pub struct LogControl {
    pub(super) wanted: Arc<Wanted>,
    pub(super) writer: Thread,
    pub(super) changes: Sender<Change>,
    /// Tells [`super::Logging`] who joined.
    pub(super) joined: Sender<Arc<Tally>>,
}

impl LogControl {
    /// Ids in records stand for what they are in `names` from now on. To be called before anybody uses them.
    pub fn set_names(&self, names: Arc<Snapshot>) {
        // Without a writer nothing is written.
        let _ = self.changes.send(Change::Names(names));
        // With nothing to write it would sleep, and snapshots would pile up.
        self.writer.unpark();
    }

    /// A recorder for one more worker, of the engine of that name. Workers come in the order of their numbers.
    #[must_use]
    pub fn add_recorder(&self, access: &Access, engine: &'static str) -> Recorder {
        let tally = Arc::new(Tally::default());
        let (ring, recorder) = if access.output.is_some() {
            let (producer, consumer) = RingBuffer::new(CAPACITY);
            let recorder = Recorder::new(access, producer, Arc::clone(&tally), self.writer.clone());
            (Some(consumer), recorder)
        } else {
            (None, Recorder::off())
        };
        let _ = self.joined.send(Arc::clone(&tally));
        let _ = self.changes.send(Change::Worker(ring, tally, engine));
        recorder
    }

    /// Has every file opened anew by its name, and every socket made anew. What was logged before goes where it
    /// went so far. Does not wait: an output that cannot be opened stays as it was, and the log says so.
    pub fn reopen(&self) {
        self.wanted.reopen.store(true, Ordering::Release);
        self.writer.unpark();
    }

    /// Messages below `level` are not written from now on.
    pub fn set_level(&self, level: LevelFilter) {
        self.wanted.level.store(level as usize, Ordering::Relaxed);
        log::set_max_level(level);
    }
}
