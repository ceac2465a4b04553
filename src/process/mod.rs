//! What happens once in a process: start-up, signals, the end.
//!
//! Start-up is all or nothing: every listener is bound and every worker is ready, or the process ends with
//! an error and nothing was served.

mod bind;
mod room;
mod sets;
#[cfg(all(test, unix))]
mod tests;
mod threads;

use std::io::{ErrorKind, Write as _};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use crate::config::{Config, CpuAffinity, Splice};
use crate::engine::{self, FACTS, Model};
use crate::logging::{self, Recorder};
use crate::snapshot::Snapshot;
use crate::sys::net::Stream;
use crate::sys::signals::{Request, Requests};
use crate::sys::{self, Clock};
use crate::worker::{Crew, Setup};
#[cfg(all(feature = "lab", target_os = "linux"))]
pub(crate) use room::most_connections;
use sets::Sets;
use threads::Threads;

/// How long the end of the process may wait for the last log lines to be written.
const LOG_WAIT: Duration = Duration::from_secs(1);

/// Why the process cannot start, or cannot go on.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// An engine cannot run here.
    #[error(transparent)]
    Engine(#[from] sets::EngineError),
    /// A listener's address cannot be had.
    #[error(transparent)]
    Bind(#[from] bind::BindError),
    /// There are not enough descriptors.
    #[error(transparent)]
    Room(#[from] room::RoomError),
    /// An output of the logs cannot be opened.
    #[error(transparent)]
    Logging(#[from] logging::StartError),
    /// A worker cannot be started.
    #[error("worker {number} ({engine}): {cause}")]
    Worker {
        /// Which.
        number: u16,
        /// Its engine's name.
        engine: &'static str,
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
    let each = config.process.workers.map_or_else(
        || u16::try_from(quota.min(cpus.len())).unwrap_or(u16::MAX).max(1),
        std::num::NonZeroU16::get,
    );
    let sets = Sets::choose(config, each, |kind| engine::probe(kind, config.process.uring, each))?;
    let room = room::check(config, &sets, &cpus)?;
    let sockets = bind::all(config, &sets)?;
    let snapshot = Arc::new(Snapshot::new(config, room.maxconn));
    let engines = (0..sets.workers()).map(|worker| sets.engine_of(worker).name()).collect();
    let (logging, recorders) = logging::start(config, &snapshot, engines, clock)?;

    let version = env!("CARGO_PKG_VERSION");
    log::info!("tidegate {version}: workers {sets}, maxconn {}", room.maxconn);
    sets.report();
    room.report();
    for why in splicing_in_vain(config, &sets) {
        log::warn!("process.splice = \"auto\": bytes are copied, because {why}");
    }
    let result = serve(config, &sets, &snapshot, &cpus, sockets, recorders, clock);
    log::info!("stopped");
    let lost = logging.stop(LOG_WAIT);
    if lost > 0 {
        complain(format_args!("{lost} log lines were lost: their output failed or could not keep up"));
    }
    result
}

/// What hinders splicing where it was asked for. Nothing that hinders the start.
fn splicing_in_vain(config: &Config, sets: &Sets) -> Vec<String> {
    if config.process.splice == Splice::Off {
        return Vec::new();
    }
    let splices = |engine| FACTS.iter().any(|facts| facts.kind == engine && facts.model == Model::Readiness);
    let engines = sets.engines().iter().filter(|engine| !splices(**engine));
    let mut all: Vec<String> =
        engines.map(|engine| format!("the engine {} does not splice", engine.name())).collect();
    all.extend(sys::Pipe::new().err().map(|error| match error.kind() {
        ErrorKind::Unsupported => error.to_string(),
        _ => {
            format!("no pipe of 256 KiB or more can be had: {error}; see fs.pipe-user-pages-soft in pipe(7)")
        }
    }));
    all
}

/// Starts the workers, all or none, and waits until they have ended.
fn serve(
    config: &Config,
    sets: &Sets,
    snapshot: &Arc<Snapshot>,
    cpus: &[u32],
    sockets: Vec<bind::Sockets>,
    recorders: Vec<Recorder>,
    clock: Clock,
) -> Result<(), RunError> {
    let requests = Requests::new().map_err(RunError::Signals)?;
    let addresses = bind::addresses(config, sets, &sockets);
    let (crew, mailboxes) = Crew::new(sets.count(), sets.each());
    let crew = Arc::new(crew);
    let mut threads = Threads::new(config, clock);
    let parts = sockets.into_iter().zip(recorders).zip(mailboxes);
    for (number, ((sockets, recorder), mailbox)) in (0..).zip(parts) {
        let setup = Setup {
            number,
            snapshot: Arc::clone(snapshot),
            crew: Arc::clone(&crew),
            mailbox,
            recorder,
            drain: config.process.drain,
        };
        let cpu = pinned_cpu(&config.process.cpu_affinity, cpus, number);
        threads.start(sets.engine_of(number), setup, sockets, cpu)?;
    }
    for (name, address) in addresses {
        log::info!("listener {name}: listening on {address}");
    }
    let (watched, draining) = (Arc::clone(snapshot), Arc::clone(&crew));
    thread::Builder::new()
        .name("signals".to_string())
        .spawn(move || obey(requests, &draining, &watched))
        .map_err(RunError::Signals)?;
    threads.join(&crew, snapshot)
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

/// A proxy that has lost a thread would leave a part of its clients unserved: better that whoever watches
/// this process starts it anew. Prints what a panic prints, and one line more.
fn abort_on_panic() {
    let print = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        print(panic);
        let thread = thread::current();
        let name = thread.name().unwrap_or("a thread");
        complain(format_args!(
            "{name} panicked: this is a bug; the process ends rather than go on without it"
        ));
        std::process::abort();
    }));
}

/// Says something on the standard error, where there may be nobody to hear it any more.
fn complain(text: std::fmt::Arguments<'_>) {
    let _ = writeln!(std::io::stderr(), "tidegate: {text}");
}

/// Does what signals ask, until the process ends.
fn obey(requests: Requests, crew: &Crew<Stream>, snapshot: &Snapshot) {
    let mut stopping = false;
    requests.each(|request| match request {
        Request::Reload => log::warn!("SIGHUP: reload is not supported yet; nothing was changed"),
        Request::Reopen => {
            log::warn!("SIGUSR1: reopening log files is not supported yet; nothing was changed");
        }
        Request::Upgrade => log::warn!("SIGUSR2: binary upgrade is not supported yet; nothing was changed"),
        Request::Stop if stopping => {
            log::info!("second signal: {} connections are reset now", snapshot.connections.count());
            crew.stop();
        }
        Request::Stop => {
            stopping = true;
            let count = snapshot.connections.count();
            log::info!("stopping: no new connections; {count} may finish (a second signal resets them)");
            crew.drain();
        }
    });
}
