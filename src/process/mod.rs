//! What happens once in a process: start-up, signals, the end.
//!
//! Start-up is all or nothing: every listener is bound and every worker is ready, or the process ends with
//! an error and nothing was served.

mod bind;
mod handed;
mod live;
mod notify;
mod options;
mod preview;
mod room;
mod sets;
#[cfg(all(test, unix))]
mod tests;
mod threads;

use std::io::{ErrorKind, Write as _};
use std::path::PathBuf;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use tokio::sync::mpsc;

use crate::config::{Config, CpuAffinity, Splice};
use crate::control::serve;
use crate::engine::{self, FACTS, Model};
use crate::logging::{self, Outputs, Recorder};
use crate::snapshot::Snapshot;
use crate::sys::signals::{Request, Requests};
use crate::sys::user::{self, User, UserError};
use crate::sys::{self, Clock, supervisor};
use handed::Handed;
pub use live::Source;
use live::{Beginning, Ears, Live};
use notify::Notifier;
pub use preview::{hindrances, oddities};
#[cfg(all(feature = "lab", target_os = "linux"))]
pub(crate) use room::most_connections;
use sets::Sets;
use threads::{Ended, Threads};

/// How long the end of the process may wait for the last log lines to be written.
const LOG_WAIT: Duration = Duration::from_secs(1);

/// Why the process cannot start, or cannot go on.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// An engine cannot run here.
    #[error(transparent)]
    Engine(#[from] sets::EngineError),
    /// The process cannot become the user that is asked for.
    #[error(transparent)]
    User(#[from] UserError),
    /// A listener's address cannot be had.
    #[error(transparent)]
    Bind(#[from] bind::BindError),
    /// Sockets cannot have the options that are asked for.
    #[error(transparent)]
    Options(#[from] options::OptionsError),
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
    /// What the process is to be asked by cannot be had.
    #[error(transparent)]
    Admin(#[from] serve::BindError),
    /// The control plane cannot begin.
    #[error("cannot wait for anything: {0}")]
    Control(#[source] std::io::Error),
    /// Signals cannot be caught.
    #[error("cannot catch signals: {0}")]
    Signals(#[source] std::io::Error),
    /// The watchdog cannot be kept calm.
    #[error("cannot start the thread that tells the watchdog that all is well: {0}")]
    Watchdog(#[source] std::io::Error),
}

/// Serves a configuration until a signal ends it and the last connection is closed. With a `source`, and the files that
/// were read of it, it can be reloaded.
///
/// # Errors
/// What hinders the start; then nothing was served. Later only a worker that cannot wait for its sockets.
pub fn run(config: Config, source: Option<(Source, Vec<PathBuf>)>) -> Result<(), RunError> {
    abort_on_panic();
    let clock = Clock::start();
    let (cpus, quota) = sys::allowed_cpus();
    let each = config.process.workers.map_or_else(
        || u16::try_from(quota.min(cpus.len())).unwrap_or(u16::MAX).max(1),
        std::num::NonZeroU16::get,
    );
    let handed_over = supervisor::handed_over();
    let needs_raw = options::need_net_raw(&config);
    let user = config.process.user.as_deref().map(|name| User::find(name, needs_raw)).transpose()?;
    let try_out = || {
        let sets = Sets::choose(&config, each, |kind| engine::probe(kind, config.process.uring, each));
        (sets, options::check(&config))
    };
    // What root may, the user may not.
    let (sets, notes) = user.as_ref().map_or_else(|| Ok(try_out()), |user| user.try_out(try_out))?;
    let (sets, notes) = (sets?, notes?);
    let room = room::check(&config, &sets, &cpus)?;
    let handed = Handed::new(handed_over.sockets);
    let wanted: Vec<_> =
        config.listeners.iter().flat_map(|one| one.bind.iter().map(move |at| (one, at))).collect();
    let bound = bind::all(&wanted, each, bind::LOOKS_AT_START, &handed)?;
    let admin = config.admin.as_ref().map(serve::Bound::new).transpose()?;
    let mut snapshot = Snapshot::new(&config, room.maxconn);
    snapshot.buffer_share = Some(room::buffer_share(&config.process, sets.workers()));
    let snapshot = Arc::new(snapshot);
    let engines = (0..sets.workers()).map(|worker| sets.engine_of(worker).name()).collect();
    let outputs = Outputs::open(&config, clock)?;
    let mut not_given = Vec::new();
    if let Some(user) = &user {
        not_given = give_files(user, &bound, admin.as_ref());
        user.adopt_for_good()?;
    }
    let (logging, recorders) = logging::start(outputs, &config, &snapshot, engines, clock)?;

    let version = env!("CARGO_PKG_VERSION");
    log::info!("tidegate {version}: workers {sets}, maxconn {}", room.maxconn);
    sets.report();
    room.report();
    notes.iter().chain(&not_given).chain(&oddities(&config)).for_each(|note| log::warn!("{note}"));
    handed.report(&config);
    if user.is_none() && user::is_root() {
        log::warn!("running as root: process.user = \"NAME\" makes it another user as soon as it is bound");
    }
    for why in splicing_in_vain(&config, &sets) {
        log::warn!("process.splice = \"auto\": bytes are copied, because {why}");
    }
    let (ended, told) = mpsc::unbounded_channel();
    let threads = Threads::new(config.process.clone(), clock, ended).map_err(RunError::Control)?;
    let (log, notifier) = (logging.control(), Notifier::new(handed_over.reports));
    let (source, files) = source.map_or((None, Vec::new()), |(source, files)| (Some(source), files));
    let beginning =
        Beginning { config, source, files, snapshot, sets, threads, handed, cpus, log, notifier, clock };
    let result = work(beginning, bound, recorders, admin, (told, handed_over.watchdog));
    log::info!("stopped");
    let lost = logging.stop(LOG_WAIT);
    if lost > 0 {
        complain(format_args!("{lost} log lines were lost: their output failed or could not keep up"));
    }
    result
}

/// Has the user own the files of unix sockets, as it will own those that a reload makes: it may use the control socket then.
/// What hinders that, in words; the process can do without.
fn give_files(user: &User, bound: &[bind::Bound], admin: Option<&serve::Bound>) -> Vec<String> {
    #[cfg(not(unix))]
    {
        let _ = (user, bound, admin);
        Vec::new()
    }
    #[cfg(unix)]
    {
        let sockets = bound.iter().flat_map(|one| &one.sockets);
        let files = sockets.filter_map(|(_, socket)| socket.file()).chain(admin.and_then(serve::Bound::file));
        let given = files.map(|file| (file.path(), user.own(file)));
        let folder = admin.and_then(serve::Bound::folder).map(|folder| (folder, user.own_folder(folder)));
        let failed = given.chain(folder).filter_map(|(path, result)| Some((path, result.err()?)));
        let said = |(path, error): (&std::path::Path, std::io::Error)| {
            format!("process.user: {} does not become the user's: {error}", path.display())
        };
        failed.map(said).collect()
    }
}

/// Starts the workers, all or none, and is their control plane until they have ended. This thread, which waits for them
/// anyway, is the one that controls.
fn work(
    beginning: Beginning,
    bound: Vec<bind::Bound>,
    mut recorders: Vec<Recorder>,
    admin: Option<serve::Bound>,
    (ended, watchdog): (mpsc::UnboundedReceiver<Ended>, Option<Duration>),
) -> Result<(), RunError> {
    let requests = hear_signals()?;
    let notifier = beginning.notifier.clone();
    let (admin_config, update_every) = (beginning.config.admin.clone(), beginning.config.access.update_every);
    let listeners = beginning.config.listeners.len();
    let updates = recorders.pop();
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(RunError::Control)?;
    let result = runtime.block_on(async move {
        let live = Live::start(beginning, bound, recorders).await?;
        if let (Some(recorder), Some(every)) = (updates, update_every) {
            let live = Arc::clone(&live);
            tokio::spawn(async move { live.tell_updates(recorder, every).await });
        }
        let sampled = Arc::clone(&live);
        tokio::spawn(async move { sampled.sample_paths().await });
        if let Some(limit) = watchdog {
            let crew = live.crew();
            notifier.calm(limit, move |patience| crew.silent(patience)).map_err(RunError::Watchdog)?;
        }
        if !live.crew().is_draining() {
            let workers = live.crew().size();
            notifier.ready(format_args!("serving: {listeners} listeners, {workers} workers"));
        }
        sys::give_way();
        let answer = async {
            if let (Some(config), Some(bound)) = (admin_config, admin)
                && let Err(error) = serve::serve(&config, bound, Arc::clone(&live)).await
            {
                log::error!("admin: {error}; the process goes on without it");
            }
            std::future::pending::<()>().await;
        };
        tokio::select! {
            result = live.hear(Ears { requests, ended }) => result,
            () = answer => Ok(()),
        }
    });
    // Threads that read files may hang for ever.
    runtime.shutdown_background();
    result
}

/// Turns signals into requests, by a thread of its own.
fn hear_signals() -> Result<mpsc::UnboundedReceiver<Request>, RunError> {
    let signals = Requests::new().map_err(RunError::Signals)?;
    let (heard, requests) = mpsc::unbounded_channel();
    let hear = move || {
        signals.each(|request| {
            let _ = heard.send(request);
        });
    };
    thread::Builder::new().name("signals".to_string()).spawn(hear).map_err(RunError::Signals)?;
    Ok(requests)
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
