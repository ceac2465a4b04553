//! What happens once in a process: start-up, signals, the end.
//!
//! Start-up is all or nothing: every listener is bound and every worker is ready, or the process ends with
//! an error and nothing was served.

mod bind;
mod room;
#[cfg(all(test, unix))]
mod tests;

use std::sync::Arc;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::Duration;

use mio::Waker;
use mio::net::{TcpListener, TcpStream};
use signal_hook::consts::{SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGUSR1, SIGUSR2};
use signal_hook::iterator::Signals;

use crate::config::{Config, CpuAffinity};
use crate::engine::{ByMio, Engine, Reactor};
use crate::logging;
use crate::snapshot::{ListenerId, Snapshot};
use crate::sys::{self, Clock, Os};
use crate::worker::{Crew, Setup, Worker};

/// How long the end of the process may wait for the last log lines to be written.
const LOG_WAIT: Duration = Duration::from_secs(1);

/// How often a drain is reported.
const PROGRESS: Duration = Duration::from_secs(5);

/// Why the process cannot start, or cannot go on.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// A listener's address cannot be had.
    #[error(transparent)]
    Bind(#[from] bind::BindError),
    /// There are not enough descriptors.
    #[error(transparent)]
    Room(#[from] room::RoomError),
    /// An output of the logs cannot be opened.
    #[error("{0}")]
    Logging(#[from] logging::StartError),
    /// A worker cannot be started.
    #[error("worker {number}: {cause}")]
    Worker {
        /// Which.
        number: u16,
        /// The operating system's answer.
        cause: std::io::Error,
    },
    /// Signals cannot be caught.
    #[error("cannot catch signals: {0}")]
    Signals(#[source] std::io::Error),
}

/// Serves a configuration until a signal ends it and the last connection is closed.
///
/// # Errors
/// What hinders the start; then nothing was served. Later only a worker that cannot wait for its sockets.
pub fn run(config: &Config) -> Result<(), RunError> {
    abort_on_panic();
    let clock = Clock::start();
    let (cpus, quota) = sys::allowed_cpus();
    let workers = config.process.workers.map_or_else(
        || u16::try_from(quota.min(cpus.len())).unwrap_or(u16::MAX).max(1),
        std::num::NonZeroU16::get,
    );
    let room = room::check(config, workers)?;
    let sockets = bind::all(config, workers)?;
    let addresses = bind::addresses(config, &sockets);
    let snapshot = Arc::new(Snapshot::new(config, room.maxconn));
    let (logging, recorders) = logging::start(config, &snapshot, usize::from(workers), clock)?;
    let signals =
        Signals::new([SIGTERM, SIGINT, SIGQUIT, SIGHUP, SIGUSR1, SIGUSR2]).map_err(RunError::Signals)?;

    let version = env!("CARGO_PKG_VERSION");
    log::info!("tidegate {version}: workers {workers}, engine mio, maxconn {}", room.maxconn);
    room.report();
    let (crew, mailboxes) = Crew::new(workers);
    let crew = Arc::new(crew);
    let mut threads = Threads::new();
    let parts = sockets.into_iter().zip(recorders).zip(mailboxes);
    for (number, ((sockets, recorder), mailbox)) in (0..workers).zip(parts) {
        let setup = Setup {
            number,
            snapshot: Arc::clone(&snapshot),
            crew: Arc::clone(&crew),
            mailbox,
            recorder,
            drain: config.process.drain,
        };
        let cpu = pinned_cpu(&config.process.cpu_affinity, &cpus, number);
        if let Err(cause) = threads.start(config, workers, setup, clock, sockets, cpu) {
            crew.stop();
            return Err(RunError::Worker { number, cause });
        }
    }
    for (name, address) in addresses {
        log::info!("listener {name}: listening on {address}");
    }
    let watched = Arc::clone(&snapshot);
    let draining = Arc::clone(&crew);
    thread::Builder::new()
        .name("signals".to_string())
        .spawn(move || obey(signals, &draining, &watched))
        .map_err(RunError::Signals)?;
    let result = threads.join(&crew, &snapshot);
    log::info!("stopped");
    let lost = logging.stop(LOG_WAIT);
    if lost > 0 {
        eprintln!("tidegate: {lost} log lines were lost because their output could not keep up");
    }
    result
}

/// The CPU of a worker, if it is to stay on one.
fn pinned_cpu(affinity: &CpuAffinity, allowed: &[u32], worker: u16) -> Option<u32> {
    let cpus = match affinity {
        CpuAffinity::Off => return None,
        CpuAffinity::Auto => allowed,
        CpuAffinity::Cpus(cpus) => cpus,
    };
    cpus.get(usize::from(worker) % cpus.len().max(1)).copied()
}

/// The worker threads.
struct Threads {
    started: Vec<(u16, thread::JoinHandle<std::io::Result<()>>)>,
    /// Each thread holds a sender until it ends; nothing is ever sent.
    working: mpsc::Sender<()>,
    ended: mpsc::Receiver<()>,
}

impl Threads {
    fn new() -> Self {
        let (working, ended) = mpsc::channel();
        Self { started: Vec::new(), working, ended }
    }

    /// Starts a worker, and waits until it is ready to accept.
    fn start(
        &mut self,
        config: &Config,
        workers: u16,
        setup: Setup<TcpStream>,
        clock: Clock,
        sockets: Vec<(ListenerId, TcpListener)>,
        cpu: Option<u32>,
    ) -> std::io::Result<()> {
        let number = setup.number;
        let tcp = config.tcp;
        let buffer_size = config.process.buffer_size as usize;
        let budget = usize::try_from(config.process.buffer_budget / u64::from(workers)).unwrap_or(usize::MAX);
        let crew = Arc::clone(&setup.crew);
        let working = self.working.clone();
        let (ready, is_ready) = mpsc::channel::<std::io::Result<Arc<Waker>>>();
        let join = thread::Builder::new().name(format!("worker-{number}")).spawn(move || {
            let _working = working;
            // An engine is built on the thread that uses it: completion engines bind to it.
            let start = || -> std::io::Result<_> {
                if let Some(cpu) = cpu {
                    sys::pin_to(cpu)?;
                }
                let (selector, waker) = ByMio::new()?;
                let mut engine = Reactor::new(selector, Os, tcp, buffer_size, budget);
                for (id, socket) in sockets {
                    engine.listen(id, socket)?;
                }
                Ok((engine, waker))
            };
            match start() {
                Ok((engine, waker)) => {
                    let _ = ready.send(Ok(waker));
                    Worker::new(setup, engine).run(clock)
                }
                Err(error) => {
                    let _ = ready.send(Err(error));
                    Ok(())
                }
            }
        })?;
        self.started.push((number, join));
        let waker = is_ready.recv().map_err(|_| std::io::Error::other("its thread ended at once"))??;
        crew.join(number, waker);
        Ok(())
    }

    /// Waits until every worker has ended, and tells how far a drain has come meanwhile.
    fn join(self, crew: &Crew<TcpStream>, snapshot: &Snapshot) -> Result<(), RunError> {
        let mut told = snapshot.connections.count();
        drop(self.working);
        while self.ended.recv_timeout(PROGRESS) == Err(RecvTimeoutError::Timeout) {
            let left = snapshot.connections.count();
            if crew.is_draining() && left > 0 && left != told {
                log::info!("draining: {left} connections left");
                told = left;
            }
        }
        let mut result = Ok(());
        for (number, thread) in self.started {
            // A panic has ended the process already.
            if let Ok(Err(cause)) = thread.join() {
                log::error!("worker {number}: {cause}");
                result = Err(RunError::Worker { number, cause });
            }
        }
        result
    }
}

/// A proxy that has lost a thread would leave a part of its clients unserved: better that whoever watches
/// this process starts it anew. Prints what a panic prints, and one line more.
fn abort_on_panic() {
    let print = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        print(panic);
        let thread = thread::current();
        let name = thread.name().unwrap_or("a thread");
        eprintln!("tidegate: {name} panicked: this is a bug; the process ends rather than go on without it");
        std::process::abort();
    }));
}

/// Does what signals ask, until the process ends.
fn obey(mut signals: Signals, crew: &Crew<TcpStream>, snapshot: &Snapshot) {
    let mut stopping = false;
    for signal in signals.forever() {
        match signal {
            SIGHUP => log::warn!("SIGHUP: reload is not supported yet; nothing was changed"),
            SIGUSR1 => log::warn!("SIGUSR1: reopening log files is not supported yet; nothing was changed"),
            SIGUSR2 => log::warn!("SIGUSR2: binary upgrade is not supported yet; nothing was changed"),
            _ if stopping => {
                log::info!("second signal: {} connections are reset now", snapshot.connections.count());
                crew.stop();
            }
            _ => {
                stopping = true;
                let count = snapshot.connections.count();
                log::info!("stopping: no new connections; {count} may finish (a second signal resets them)");
                crew.drain();
            }
        }
    }
}
