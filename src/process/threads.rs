//! The worker threads: started one by one, let go together, awaited to the last.

use std::io;
use std::sync::Arc;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::Duration;

use super::{RunError, bind, room};
use crate::config::{Config, EngineKind};
#[cfg(target_os = "linux")]
use crate::engine::uring::{Kernel, Uring};
use crate::engine::{self, Bounds, ByMio, Engine, Reactor, Selector, Wake};
#[cfg(target_os = "linux")]
use crate::engine::{ByAio, ByEpoll, ByPoll, BySelect, BySigio};
use crate::snapshot::Snapshot;
use crate::sys::net::{Listener, Stream};
use crate::sys::{self, Clock, Os};
use crate::worker::{Crew, Setup, Worker};

/// How often a drain is reported.
const PROGRESS: Duration = Duration::from_secs(5);

/// The threads of all workers.
pub(super) struct Threads<'a> {
    config: &'a Config,
    clock: Clock,
    started: Vec<Started>,
    /// Each thread holds a sender until it ends; nothing is ever sent.
    working: mpsc::Sender<()>,
    ended: mpsc::Receiver<()>,
}

struct Started {
    number: u16,
    engine: EngineKind,
    thread: thread::JoinHandle<io::Result<()>>,
    /// Lets it begin; a thread whose sender is dropped before ends without having accepted anybody.
    go: mpsc::Sender<()>,
}

/// What a worker is, whatever its engine does.
struct Place {
    kind: EngineKind,
    setup: Setup<Stream>,
    sockets: bind::Sockets,
    cpu: Option<u32>,
}

impl<'a> Threads<'a> {
    pub(super) fn new(config: &'a Config, clock: Clock) -> Self {
        let (working, ended) = mpsc::channel();
        Self { config, clock, started: Vec::new(), working, ended }
    }

    /// Starts a worker of the engine `kind`, and waits until it is ready to accept. It begins when
    /// [`Threads::join`] is called.
    pub(super) fn start(
        &mut self,
        kind: EngineKind,
        setup: Setup<Stream>,
        sockets: bind::Sockets,
        cpu: Option<u32>,
    ) -> Result<(), RunError> {
        let snapshot = Arc::clone(&setup.snapshot);
        let workers = u16::try_from(setup.crew.size()).expect("as many as are configured");
        let budget = self.config.process.buffer_budget / u64::from(workers);
        let bounds = Bounds {
            buffer_size: self.config.process.buffer_size as usize,
            budget: usize::try_from(budget).unwrap_or(usize::MAX),
            pipes: room::pipes_per_worker(self.config, workers).into(),
        };
        let number = setup.number;
        let place = Place { kind, setup, sockets, cpu };
        let started = match kind {
            EngineKind::Auto | EngineKind::Mio => self.react(place, snapshot, bounds, ByMio::new),
            #[cfg(target_os = "linux")]
            EngineKind::IoUring => {
                let settings = self.config.process.uring;
                self.spawn(place, move || {
                    let (ring, waker) = Kernel::new(settings).map_err(io::Error::other)?;
                    Ok((Uring::new(ring, Os, snapshot, bounds, settings.multishot), waker))
                })
            }
            EngineKind::Threads => self.spawn(place, move || engine::Threads::new(snapshot, bounds)),
            #[cfg(target_os = "linux")]
            EngineKind::EpollLevel => self.react(place, snapshot, bounds, ByEpoll::new),
            #[cfg(target_os = "linux")]
            EngineKind::Poll => self.react(place, snapshot, bounds, ByPoll::new),
            #[cfg(target_os = "linux")]
            EngineKind::Select => self.react(place, snapshot, bounds, BySelect::new),
            #[cfg(target_os = "linux")]
            EngineKind::Sigio => self.react(place, snapshot, bounds, BySigio::new),
            #[cfg(target_os = "linux")]
            EngineKind::Aio => self.react(place, snapshot, bounds, ByAio::new),
            #[cfg(not(target_os = "linux"))]
            _ => Err(io::Error::other("it needs Linux")),
        };
        started.map_err(|cause| RunError::Worker { number, engine: kind.name(), cause })
    }

    /// Starts a thread with a readiness engine on the selector that `new` makes.
    fn react<S, W>(
        &mut self,
        place: Place,
        snapshot: Arc<Snapshot>,
        bounds: Bounds,
        new: fn() -> io::Result<(S, Arc<W>)>,
    ) -> io::Result<()>
    where
        S: Selector<Os> + 'static,
        W: Wake + 'static,
    {
        self.spawn(place, move || {
            let (selector, waker) = new()?;
            Ok((Reactor::new(selector, Os, snapshot, bounds), waker))
        })
    }

    /// Starts the thread. The engine is built there, where it is used: it may be bound to the thread.
    fn spawn<E, W>(
        &mut self,
        Place { kind, setup, sockets, cpu }: Place,
        build: impl FnOnce() -> io::Result<(E, Arc<W>)> + Send + 'static,
    ) -> io::Result<()>
    where
        E: Engine<Socket = Stream, Listener = Listener>,
        W: Wake + 'static,
    {
        let number = setup.number;
        let crew = Arc::clone(&setup.crew);
        let working = self.working.clone();
        let clock = self.clock;
        let (ready, is_ready) = mpsc::channel::<io::Result<Arc<dyn Wake>>>();
        let (go, may_go) = mpsc::channel();
        let build = move || {
            if let Some(cpu) = cpu {
                sys::pin_to(cpu)?;
            }
            let (mut engine, waker) = build()?;
            for (id, socket) in sockets {
                engine.listen(id, socket)?;
            }
            Ok((engine, waker))
        };
        let thread = thread::Builder::new().name(format!("worker-{number}")).spawn(move || {
            let _working = working;
            let engine = match build() {
                Ok((engine, waker)) => {
                    let _ = ready.send(Ok(waker));
                    engine
                }
                Err(error) => {
                    let _ = ready.send(Err(error));
                    return Ok(());
                }
            };
            if may_go.recv().is_err() {
                return Ok(());
            }
            let crew = Arc::clone(&setup.crew);
            // A proxy that has lost a worker would leave a part of its clients unserved.
            Worker::new(setup, engine).run(clock).inspect_err(|error| {
                log::error!("worker {number} cannot wait for its sockets: {error}; the process ends");
                crew.stop();
            })
        })?;
        self.started.push(Started { number, engine: kind, thread, go });
        let waker = is_ready.recv().map_err(|_| io::Error::other("its thread ended at once"))??;
        crew.join(number, waker);
        Ok(())
    }

    /// Lets all workers begin, and waits until every one has ended; tells how far a drain has come
    /// meanwhile.
    pub(super) fn join(self, crew: &Crew<Stream>, snapshot: &Snapshot) -> Result<(), RunError> {
        drop(self.working);
        for started in &self.started {
            let _ = started.go.send(());
        }
        let mut told = snapshot.connections.count();
        while self.ended.recv_timeout(PROGRESS) == Err(RecvTimeoutError::Timeout) {
            let left = snapshot.connections.count();
            if crew.is_draining() && left > 0 && left != told {
                log::info!("draining: {left} connections left");
                told = left;
            }
        }
        let mut result = Ok(());
        for Started { number, engine, thread, .. } in self.started {
            // A panic has ended the process already.
            if let Ok(Err(cause)) = thread.join() {
                result = Err(RunError::Worker { number, engine: engine.name(), cause });
            }
        }
        result
    }
}
