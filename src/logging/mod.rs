//! Log lines and access records leave through here, never blocking a worker.
//!
//! Workers push [`Record`]s into a ring each, and the `log` facade hands its lines over a bounded channel;
//! one thread, `tidegate-log`, makes them lines and writes them in batches. What finds its ring or the
//! channel full is dropped and counted, and the log says so. While there is nothing to write, the thread
//! sleeps.

mod access;
mod datagrams;
mod lines;
mod recorder;
mod sink;
mod stamp;
mod writer;

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc;
use std::thread::{self, Thread};
use std::time::Duration;

use access::AccessLines;
use lines::{LogLines, Logger};
pub use recorder::Recorder;
use recorder::Tally;
use rtrb::RingBuffer;
use sink::Sink;
use writer::{Drops, Writer};

use crate::config::{Config, LogOutput};
use crate::session::Record;
use crate::snapshot::Snapshot;
use crate::sys::Clock;

/// Why logging cannot start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// An output cannot be opened.
    #[error("{key} = \"{output}\": {cause}")]
    Output {
        /// The setting that names it.
        key: &'static str,
        /// The output as the configuration spells it.
        output: String,
        /// What the system says.
        cause: io::Error,
    },
    /// The system gives no thread.
    #[error("cannot start the thread that writes logs: {0}")]
    Thread(#[source] io::Error),
    /// Logging was started before in this process.
    #[error("logging is running already")]
    Twice(#[from] log::SetLoggerError),
}

/// Everything that is logged in this process, until it is stopped.
#[derive(Debug)]
pub struct Logging {
    stopping: Arc<AtomicBool>,
    writer: Thread,
    /// Disconnected when the thread ends.
    ended: mpsc::Receiver<()>,
    tallies: Vec<Arc<Tally>>,
    written: Arc<AtomicU64>,
}

/// Opens the outputs of `config`, makes the `log` facade write to them, and gives a recorder to each
/// worker; `engines` are the names of their engines. Records carry ids of `names` and ticks of `clock`. Once in a process.
///
/// # Errors
/// An output that cannot be opened, no thread, or a second call.
pub fn start(
    config: &Config,
    names: &Snapshot,
    engines: Vec<&'static str>,
    clock: Clock,
) -> Result<(Logging, Vec<Recorder>), StartError> {
    let (logging, recorders, logger) = launch(config, names, engines, clock)?;
    if let Err(twice) = log::set_boxed_logger(Box::new(logger)) {
        let _ = logging.stop(Duration::ZERO);
        return Err(twice.into());
    }
    log::set_max_level(config.log.level);
    Ok((logging, recorders))
}

impl Logging {
    /// Writes what there is, ends the thread, and says how many lines and records were lost since the
    /// start: dropped, not written because of an error, or still unwritten after `wait`, which is as long
    /// as this takes at most. Whatever is logged afterwards is lost.
    #[must_use]
    pub fn stop(self, wait: Duration) -> u64 {
        self.stopping.store(true, Ordering::Release);
        self.writer.unpark();
        // Nothing is ever sent: this ends with the thread or with the time.
        let _ = self.ended.recv_timeout(wait);
        let offered: u64 = self.tallies.iter().map(|tally| tally.offered()).sum();
        offered.saturating_sub(self.written.load(Ordering::Relaxed))
    }
}

/// All of [`start`] but what is global to the process.
fn launch(
    config: &Config,
    names: &Snapshot,
    engines: Vec<&'static str>,
    clock: Clock,
) -> Result<(Logging, Vec<Recorder>, Logger), StartError> {
    let workers = engines.len();
    let written = Arc::new(AtomicU64::new(0));
    let open = |key, output: &LogOutput| {
        Sink::open(output, clock, Arc::clone(&written)).map_err(|cause| StartError::Output {
            key,
            output: output.to_string(),
            cause,
        })
    };
    let log_sink = open("log.output", &config.log.output)?;
    let access_sink = match &config.access.output {
        Some(output) if *output != config.log.output => Some(open("log.access.output", output)?),
        _ => None,
    };
    let recording = if config.access.output.is_some() { workers } else { 0 };
    let (producers, rings): (Vec<_>, Vec<_>) =
        (0..recording).map(|_| RingBuffer::new(recorder::CAPACITY)).unzip();
    let tallies: Vec<Arc<Tally>> = (0..recording).map(|_| Arc::default()).collect();
    let log_tally = Arc::new(Tally::default());
    let (sender, receiver) = mpsc::sync_channel(lines::CAPACITY);
    let stopping = Arc::new(AtomicBool::new(false));
    let (alive, ended) = mpsc::channel();
    let writer = Writer {
        clock,
        stopping: Arc::clone(&stopping),
        level: config.log.level,
        lines: receiver,
        log: LogLines::new(config.log.format),
        log_tally: Arc::clone(&log_tally),
        log_drops: Drops::new("log lines", vec![Arc::clone(&log_tally)]),
        rings,
        access: AccessLines::new(&config.access.format, names, engines),
        access_drops: Drops::new("access records", tallies.clone()),
        log_sink,
        access_sink,
    };
    let thread = thread::Builder::new()
        .name("tidegate-log".to_owned())
        .spawn(move || {
            writer.run();
            drop(alive);
        })
        .map_err(StartError::Thread)?
        .thread()
        .clone();

    let mut recorders: Vec<Recorder> = producers
        .into_iter()
        .zip(&tallies)
        .map(|(ring, tally)| Recorder::new(&config.access, ring, Arc::clone(tally), thread.clone()))
        .collect();
    recorders.resize_with(workers, Recorder::off);
    let logger = Logger {
        level: config.log.level,
        lines: sender,
        tally: Arc::clone(&log_tally),
        writer: thread.clone(),
        clock,
    };
    let tallies = tallies.into_iter().chain([log_tally]).collect();
    Ok((Logging { stopping, writer: thread, ended, tallies, written }, recorders, logger))
}

#[cfg(all(test, unix))]
mod tests;
