//! The worker threads: started one by one, let go together, awaited to the last.

use std::io;
use std::sync::Arc;
use std::sync::mpsc;
use std::thread;

use tokio::sync::mpsc::UnboundedSender;

use super::{RunError, room};
use crate::config::{EngineKind, Process};
#[cfg(target_os = "linux")]
use crate::engine::uring::{Kernel, Uring};
use crate::engine::{self, Bounds, ByMio, Engine, Reactor, Selector, Wake};
#[cfg(target_os = "linux")]
use crate::engine::{ByAio, ByEpoll, ByPoll, BySelect, BySigio};
use crate::snapshot::Snapshot;
use crate::sys::net::{Listener, Stream};
use crate::sys::{self, Clock, Os};
use crate::worker::{Setup, Worker};

/// The threads of all workers.
pub(super) struct Threads {
    /// What no reload changes.
    process: Process,
    clock: Clock,
    /// Lets workers begin that are ready; a thread whose sender is dropped before ends without having done anything.
    waiting: Vec<mpsc::Sender<()>>,
    ended: UnboundedSender<Ended>,
    /// Starts threads. A thread inherits the priority of the one that starts it, and the control plane's is low.
    starter: mpsc::Sender<Job>,
}

/// A thread to be started, and who waits to hear that it is.
struct Job {
    name: String,
    work: Box<dyn FnOnce() + Send>,
    started: mpsc::Sender<io::Result<()>>,
}

/// A worker has ended.
#[derive(Debug)]
pub(super) struct Ended {
    pub(super) number: u16,
    pub(super) engine: EngineKind,
    /// Why it could not go on, if that was the reason.
    pub(super) result: io::Result<()>,
}

/// What a worker is, whatever its engine does.
struct Place {
    kind: EngineKind,
    setup: Setup<Stream, Listener>,
    cpu: Option<u32>,
}

impl Threads {
    /// None yet; `ended` is told of each that ends.
    ///
    /// # Errors
    /// The operating system gives no thread.
    pub(super) fn new(process: Process, clock: Clock, ended: UnboundedSender<Ended>) -> io::Result<Self> {
        let (starter, jobs) = mpsc::channel::<Job>();
        let start = move || {
            for Job { name, work, started } in jobs {
                let _ = started.send(thread::Builder::new().name(name).spawn(work).map(drop));
            }
        };
        thread::Builder::new().name("starter".to_owned()).spawn(start)?;
        Ok(Self { process, clock, waiting: Vec::new(), ended, starter })
    }

    /// Lets all workers begin that were started.
    pub(super) fn go(&mut self) {
        for waiting in self.waiting.drain(..) {
            let _ = waiting.send(());
        }
    }

    /// Has those end that were started and were not let begin.
    pub(super) fn give_up(&mut self) {
        self.waiting.clear();
    }

    /// A worker is not started at all: its end is told.
    pub(super) fn forgo(&self, number: u16, engine: EngineKind) {
        let _ = self.ended.send(Ended { number, engine, result: Ok(()) });
    }

    /// Starts a worker of the engine `kind`, and waits until it is ready. It begins when [`Threads::go`] is called. Its
    /// end is told in any case.
    pub(super) fn start(
        &mut self,
        kind: EngineKind,
        setup: Setup<Stream, Listener>,
        cpu: Option<u32>,
    ) -> Result<(), RunError> {
        let snapshot = setup.published.current();
        let workers = u16::try_from(setup.crew.size()).expect("as many as are configured");
        let bounds = Bounds {
            buffer_size: self.process.buffer_size as usize,
            budget: room::buffer_share(&self.process, workers),
            pipes: room::pipes_per_worker(&self.process, workers).into(),
        };
        let number = setup.number;
        let place = Place { kind, setup, cpu };
        let started = match kind {
            EngineKind::Auto | EngineKind::Mio => self.react(place, snapshot, bounds, ByMio::new),
            #[cfg(target_os = "linux")]
            EngineKind::IoUring => {
                let settings = self.process.uring;
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
        Place { kind, setup, cpu }: Place,
        build: impl FnOnce() -> io::Result<(E, Arc<W>)> + Send + 'static,
    ) -> io::Result<()>
    where
        E: Engine<Socket = Stream, Listener = Listener>,
        W: Wake + 'static,
    {
        let number = setup.number;
        let crew = Arc::clone(&setup.crew);
        let clock = self.clock;
        let (ready, is_ready) = mpsc::channel::<io::Result<Arc<dyn Wake>>>();
        let (go, may_go) = mpsc::channel();
        let ended = self.ended.clone();
        let end = move |result| {
            // Nobody listens any more when the start has failed.
            let _ = ended.send(Ended { number, engine: kind, result });
        };
        let not_started = end.clone();
        let work = move || {
            let built = cpu.map_or(Ok(()), sys::pin_to).and_then(|()| build());
            let engine = match built {
                Ok((engine, waker)) => {
                    let _ = ready.send(Ok(waker));
                    engine
                }
                Err(error) => {
                    let _ = ready.send(Err(error));
                    return end(Ok(()));
                }
            };
            if may_go.recv().is_err() {
                return end(Ok(()));
            }
            let crew = Arc::clone(&setup.crew);
            // A proxy that has lost a worker would leave a part of its clients unserved.
            end(Worker::new(setup, engine).run(clock).inspect_err(|error| {
                log::error!("worker {number} cannot wait for its sockets: {error}; the process ends");
                crew.stop();
            }));
        };
        let (started, is_started) = mpsc::channel();
        let _ = self.starter.send(Job { name: format!("worker-{number}"), work: Box::new(work), started });
        let spawned = is_started.recv().unwrap_or_else(|gone| Err(io::Error::other(gone)));
        spawned.inspect_err(|_| not_started(Ok(())))?;
        self.waiting.push(go);
        let waker = is_ready.recv().map_err(|_| io::Error::other("its thread ended at once"))??;
        crew.join(number, waker);
        Ok(())
    }
}
