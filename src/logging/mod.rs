//! Log lines and access records leave through here, never blocking a worker.
//!
//! Workers push [`Record`]s into a ring each, and the `log` facade hands its lines over a bounded channel;
//! one thread, `tidegate-log`, makes them lines and writes them in batches. What finds its ring or the
//! channel full is dropped and counted, and the log says so. While there is nothing to write, the thread
//! sleeps.

mod access;
mod control;
mod datagrams;
mod lines;
mod recorder;
mod sink;
mod stamp;
mod tcplog;
mod writer;

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use access::AccessLines;
pub use control::LogControl;
use control::Wanted;
use lines::{LogLines, Logger};
pub use recorder::Recorder;
use recorder::Tally;
use rtrb::RingBuffer;
use sink::Sink;
use writer::{Drops, Writer};

use crate::config::{Access, Config, Event, LogOutput};
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
    control: LogControl,
    /// Tallies of recorders that were added later.
    joined: mpsc::Receiver<Arc<Tally>>,
    /// Disconnected when the thread ends.
    ended: mpsc::Receiver<()>,
    tallies: Vec<Arc<Tally>>,
    written: Arc<AtomicU64>,
}

/// The outputs of both logs, open. Nothing is written yet, and there is no thread.
#[derive(Debug)]
pub struct Outputs {
    log: Sink,
    /// `None`: the access log is off, or in the same output.
    access: Option<Sink>,
    /// Lines that have left.
    written: Arc<AtomicU64>,
}

impl Outputs {
    /// Opens the outputs of `config`, which may take rights that the process then gives up.
    ///
    /// # Errors
    /// One that cannot be opened.
    pub fn open(config: &Config, clock: Clock) -> Result<Self, StartError> {
        let written = Arc::new(AtomicU64::new(0));
        let open = |key, output: &LogOutput| {
            Sink::open(output, clock, Arc::clone(&written)).map_err(|cause| StartError::Output {
                key,
                output: output.to_string(),
                cause,
            })
        };
        let log = open("log.output", &config.log.output)?;
        let access = match &config.access.output {
            Some(output) if *output != config.log.output => Some(open("log.access.output", output)?),
            _ => None,
        };
        Ok(Self { log, access, written })
    }
}

/// Makes the `log` facade write to the outputs of `config`, which are open, and gives a recorder to each worker, and
/// behind those one for updates, to whoever controls them; `engines` are the names of their engines. Records carry
/// ids of `names` and ticks of `clock`. Once in a process.
///
/// # Errors
/// No thread, or a second call.
pub fn start(
    outputs: Outputs,
    config: &Config,
    names: &Arc<Snapshot>,
    engines: Vec<&'static str>,
    clock: Clock,
) -> Result<(Logging, Vec<Recorder>), StartError> {
    let (logging, recorders, logger) = launch(outputs, config, names, engines, clock)?;
    if let Err(twice) = log::set_boxed_logger(Box::new(logger)) {
        let _ = logging.stop(Duration::ZERO);
        return Err(twice.into());
    }
    log::set_max_level(config.log.level);
    Ok((logging, recorders))
}

impl Logging {
    /// A handle to change how it is written.
    #[must_use]
    pub fn control(&self) -> LogControl {
        self.control.clone()
    }

    /// Writes what there is, ends the thread, and says how many lines and records were lost since the
    /// start: dropped, not written because of an error, or still unwritten after `wait`, which is as long
    /// as this takes at most. Whatever is logged afterwards is lost.
    #[must_use]
    pub fn stop(self, wait: Duration) -> u64 {
        self.control.wanted.stop();
        self.control.writer.unpark();
        // Nothing is ever sent: this ends with the thread or with the time.
        let _ = self.ended.recv_timeout(wait);
        let tallies = self.tallies.into_iter().chain(self.joined.try_iter());
        let offered: u64 = tallies.map(|tally| tally.offered()).sum();
        offered.saturating_sub(self.written.load(Ordering::Relaxed))
    }
}

/// All of [`start`] but what is global to the process.
fn launch(
    outputs: Outputs,
    config: &Config,
    names: &Arc<Snapshot>,
    engines: Vec<&'static str>,
    clock: Clock,
) -> Result<(Logging, Vec<Recorder>, Logger), StartError> {
    let Outputs { log: log_sink, access: access_sink, written } = outputs;
    let workers = engines.len();
    let recording = recording(&config.access, workers);
    let (producers, mut rings): (Vec<_>, Vec<_>) =
        (0..recording).map(|_| RingBuffer::new(recorder::CAPACITY)).unzip();
    // Updates are read first: what is read behind its close is a puzzle.
    rings.reverse();
    let tallies: Vec<Arc<Tally>> = (0..recording).map(|_| Arc::default()).collect();
    let log_tally = Arc::new(Tally::default());
    let (sender, receiver) = mpsc::sync_channel(lines::CAPACITY);
    let wanted = Arc::new(Wanted::new(config.log.level));
    let (alive, ended) = mpsc::channel();
    let (changes, changed) = mpsc::channel();
    let (joining, joined) = mpsc::channel();
    let writer = Writer {
        clock,
        wanted: Arc::clone(&wanted),
        changes: changed,
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
    recorders.resize_with(workers + 1, Recorder::off);
    let logger = Logger {
        wanted: Arc::clone(&wanted),
        lines: sender,
        tally: Arc::clone(&log_tally),
        writer: thread.clone(),
        clock,
    };
    let tallies = tallies.into_iter().chain([log_tally]).collect();
    let control = LogControl { wanted, writer: thread, changes, joined: joining };
    Ok((Logging { control, joined, ended, tallies, written }, recorders, logger))
}

/// How many have something to record: nobody, the workers, or they and whoever sends updates.
fn recording(access: &Access, workers: usize) -> usize {
    match access.output {
        None => 0,
        Some(_) => workers + usize::from(access.events.contains(&Event::Update)),
    }
}

#[cfg(all(test, unix))]
mod tests;
