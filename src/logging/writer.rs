//! The thread that writes: it alone touches the outputs, so lines never mix and nobody else waits.

use std::sync::Arc;
use std::sync::mpsc::Receiver;
use std::thread;
use std::time::Duration;

use log::Level;
use rtrb::Consumer;

use super::Record;
use super::access::AccessLines;
use super::control::{Change, Wanted};
use super::lines::{Line, LogLines};
use super::recorder::Tally;
use super::sink::Sink;
use super::stamp::Now;
use crate::sys::Clock;
use crate::tick::Tick;

/// How long lines gather between two batches.
const BATCH_WAIT: Duration = Duration::from_millis(10);

/// The least time between two lines about the same kind of loss.
const REPORT_INTERVAL: Duration = Duration::from_secs(1);

pub(super) struct Writer {
    pub(super) clock: Clock,
    pub(super) wanted: Arc<Wanted>,
    pub(super) changes: Receiver<Change>,
    pub(super) lines: Receiver<Line>,
    pub(super) log: LogLines,
    pub(super) log_tally: Arc<Tally>,
    pub(super) log_drops: Drops,
    /// One for each recorder; none when the access log is off.
    pub(super) rings: Vec<Consumer<Record>>,
    pub(super) access: AccessLines,
    pub(super) access_drops: Drops,
    pub(super) log_sink: Sink,
    /// `None`: access lines go to `log_sink` too.
    pub(super) access_sink: Option<Sink>,
}

impl Writer {
    /// Writes until it is told to stop, then writes what is left. Sleeps while there is nothing to do:
    /// whoever brings something unparks this thread.
    pub(super) fn run(mut self) {
        loop {
            let is_last = self.wanted.stops();
            // Before the queues are read: what was in them by then still goes where it went so far.
            let reopens = self.wanted.reopens();
            let now = Now::read(&self.clock);
            self.take_changes();
            let wrote = self.write_lines(now) | self.write_records(now);
            if reopens {
                self.reopen(now);
            }
            let next_report = self.report_drops(now, is_last);
            self.log_sink.flush();
            if let Some(sink) = &mut self.access_sink {
                sink.flush();
            }
            match (wrote, next_report) {
                _ if is_last => return,
                (true, _) => thread::sleep(BATCH_WAIT),
                (false, Some(at)) => thread::park_timeout(at.since(now.tick)),
                (false, None) => thread::park(),
            }
        }
    }

    /// Writes the log lines that are there now, and says whether there was one.
    fn write_lines(&mut self, now: Now) -> bool {
        let mut wrote = false;
        for line in self.lines.try_iter().take(super::lines::CAPACITY) {
            self.log_sink.line(line.level, |out| self.log.write(out, &line, now));
            wrote = true;
        }
        wrote
    }

    /// Writes the access records that are there now, and says whether there was one.
    fn write_records(&mut self, now: Now) -> bool {
        let mut wrote = false;
        for place in 0..self.rings.len() {
            let count = self.rings[place].slots();
            // What a record of these names was told of before it was written.
            self.take_changes();
            let sink = self.access_sink.as_mut().unwrap_or(&mut self.log_sink);
            let Ok(chunk) = self.rings[place].read_chunk(count) else { continue };
            for record in chunk {
                sink.line(Level::Info, |out| self.access.write(out, &record, now));
                wrote = true;
            }
        }
        wrote
    }

    fn take_changes(&mut self) {
        for change in self.changes.try_iter() {
            match change {
                Change::Names(names) => self.access.set_names(&names),
                Change::Worker(ring, tally, engine) => {
                    self.rings.extend(ring);
                    self.access_drops.tallies.push(tally);
                    self.access.add_worker(engine);
                }
            }
        }
    }

    /// Opens every output anew, and tells of those that cannot be.
    fn reopen(&mut self, now: Now) {
        let access = self.access_sink.as_mut().and_then(|sink| sink.reopen("log.access.output").err());
        let log = self.log_sink.reopen("log.output").err();
        if let Some(text) = &log {
            // Where the log goes now may be a file that nobody finds any more.
            self.log_sink.complain(text);
        }
        if !self.wanted.has(Level::Error) {
            return;
        }
        for text in [log, access].into_iter().flatten() {
            let line = Line { at: now.tick, level: Level::Error, text };
            self.log_tally.count(true);
            self.log_sink.line(line.level, |out| self.log.write(out, &line, now));
        }
    }

    /// Says what was dropped, and when it has to be called again though nothing new comes.
    fn report_drops(&mut self, now: Now, is_last: bool) -> Option<Tick> {
        if !self.wanted.has(Level::Warn) {
            return None;
        }
        let mut next = None;
        for drops in [&mut self.log_drops, &mut self.access_drops] {
            if let Some(count) = drops.fresh(now.tick, is_last) {
                let text = format!("dropped {count} {}: the output cannot keep up", drops.what);
                let line = Line { at: now.tick, level: Level::Warn, text };
                self.log_tally.count(true);
                self.log_sink.line(line.level, |out| self.log.write(out, &line, now));
            }
            next = [next, drops.due()].into_iter().flatten().min();
        }
        next
    }
}

/// Drops of one kind: how many there were, and when the next line about them may be written.
#[derive(Debug)]
pub(super) struct Drops {
    what: &'static str,
    tallies: Vec<Arc<Tally>>,
    told: u64,
    next: Tick,
}

impl Drops {
    pub(super) fn new(what: &'static str, tallies: Vec<Arc<Tally>>) -> Self {
        Self { what, tallies, told: 0, next: Tick(0) }
    }

    fn untold(&self) -> u64 {
        let dropped: u64 = self.tallies.iter().map(|tally| tally.dropped()).sum();
        dropped - self.told
    }

    /// How many to tell of now, if any; at the end the interval does not count.
    fn fresh(&mut self, now: Tick, is_last: bool) -> Option<u64> {
        let count = self.untold();
        if count == 0 || (now < self.next && !is_last) {
            return None;
        }
        self.told += count;
        self.next = now.after(REPORT_INTERVAL);
        Some(count)
    }

    /// When what is not told yet may be.
    fn due(&self) -> Option<Tick> {
        (self.untold() > 0).then_some(self.next)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn drops_are_told_at_most_once_a_second_and_at_the_end() {
        let tally = Arc::new(Tally::default());
        let mut drops = Drops::new("things", vec![Arc::clone(&tally), Arc::default()]);
        assert_eq!(drops.fresh(Tick(5), false), None);
        assert_eq!(drops.due(), None);

        tally.count(false);
        tally.count(true);
        tally.count(false);
        assert_eq!(drops.fresh(Tick(10), false), Some(2));
        assert_eq!(drops.due(), None);

        tally.count(false);
        assert_eq!(drops.fresh(Tick(1010), false), None);
        let due = Tick(10).after(REPORT_INTERVAL);
        assert_eq!(drops.due(), Some(due));
        assert_eq!(drops.fresh(due, false), Some(1));

        tally.count(false);
        assert_eq!(drops.fresh(Tick(due.0 + 1), true), Some(1));
    }
}
