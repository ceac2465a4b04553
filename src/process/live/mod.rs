//! A process that serves: what its control plane knows, and how it speaks with the workers.

mod answer;
mod certificates;
mod closing;
mod health;
mod hear;
mod inquiries;
mod list;
mod listening;
mod lists;
mod names;
mod reload;
mod samples;
mod sources;
mod stamps;
mod status;
mod task;
mod trial;
mod updates;
mod wards;

use std::collections::HashMap;
use std::num::NonZeroU16;
use std::path::PathBuf;
use std::sync::mpsc::Sender;
use std::sync::{Arc, Weak};
use std::time::Duration;

use tokio::sync::{Mutex, mpsc, oneshot};

use super::bind::Bound;
use super::handed::Handed;
use super::notify::Notifier;
use super::sets::Sets;
use super::threads::Threads;
use super::{RunError, pinned_cpu};
use crate::config::{self, Address, Config, EngineKind};
use crate::control::model::{Refusal, RefusalKind};
use crate::logging::{LogControl, Recorder};
use crate::snapshot::{Conditions, Overrides, Published, Snapshot};
use crate::sys::Clock;
use crate::sys::net::{Listener, Stream};
use crate::tally::Times;
use crate::worker::{Command, Crew, Mailbox, Reply, Setup};
use closing::Closings;
pub(in crate::process) use hear::Ears;
use reload::History;
use sources::Sources;
use trial::Trial;
use wards::Wards;

/// How long a worker is waited for. One that takes longer is stuck, or the machine has no time for it.
const PATIENCE: Duration = Duration::from_secs(5);

/// Where a configuration comes from, and what the command line changes of it.
#[derive(Clone, Debug)]
pub struct Source {
    /// The file.
    pub file: PathBuf,
    /// Instead of `process.engine`.
    pub engine: Option<EngineKind>,
    /// Instead of `process.workers`.
    pub workers: Option<NonZeroU16>,
}

impl Source {
    /// Reads it; with every file that it depends on, whatever came of it.
    pub fn read(&self) -> (Result<Config, config::Report>, Vec<PathBuf>) {
        let (mut result, files) = config::load_with_files(&self.file);
        if let Ok(config) = &mut result {
            self.adjust(config);
        }
        (result, files)
    }

    /// Has a configuration be what the command line makes of it.
    fn adjust(&self, config: &mut Config) {
        if let Some(engine) = self.engine {
            config.process.engine = engine;
        }
        if self.workers.is_some() {
            config.process.workers = self.workers;
        }
    }
}

/// The process.
pub(super) struct Live {
    me: Weak<Self>,
    clock: Clock,
    /// When it was started, in seconds since 1970.
    started_at: f64,
    crew: Arc<Crew<Stream>>,
    published: Arc<Published>,
    log: LogControl,
    notifier: Notifier,
    /// None for a configuration that is no file.
    source: Option<Source>,
    /// The CPUs that it may use.
    cpus: Vec<u32>,
    state: Mutex<State>,
    /// Held by a reload, since it waits for checks while others change the state.
    reloading: Mutex<()>,
}

/// What changes. Whoever holds it waits for workers now and then, and no worker ever waits for it.
struct State {
    /// As it was read.
    file: Config,
    /// In effect: with the servers that names stand for, and those of lists.
    config: Config,
    /// What is known of these.
    sources: Sources,
    /// What operators have set.
    overrides: Overrides,
    /// What is known of servers.
    wards: Wards,
    /// What of it is in the snapshot in effect.
    conditions: Conditions,
    sets: Sets,
    threads: Threads,
    handed: Handed,
    places: Vec<Place>,
    shut: listening::Shut,
    /// By worker.
    hands: Vec<Sender<Command<Listener>>>,
    /// How long each worker takes to answer.
    answers: Vec<Arc<Times>>,
    closings: Closings,
    history: History,
    trial: Option<Trial>,
}

/// An address that is listened on.
#[derive(Clone)]
struct Place {
    listener: String,
    at: Address,
    locals: Vec<Address>,
}

/// What a process begins with.
pub(super) struct Beginning {
    pub(super) config: Config,
    pub(super) source: Option<Source>,
    pub(super) files: Vec<PathBuf>,
    pub(super) snapshot: Arc<Snapshot>,
    pub(super) sets: Sets,
    pub(super) threads: Threads,
    pub(super) handed: Handed,
    pub(super) cpus: Vec<u32>,
    pub(super) log: LogControl,
    pub(super) notifier: Notifier,
    pub(super) clock: Clock,
}

impl Live {
    /// Starts the workers, all or none, and has them listen.
    pub(super) async fn start(
        beginning: Beginning,
        bound: Vec<Bound>,
        recorders: Vec<Recorder>,
    ) -> Result<Arc<Self>, RunError> {
        let Beginning { config, source, files, snapshot, sets, threads, handed, cpus, log, notifier, clock } =
            beginning;
        let (crew, mailboxes) = Crew::new(sets.count(), sets.each());
        let (tell, mut told) = mpsc::unbounded_channel();
        let (found, news) = mpsc::unbounded_channel();
        #[expect(clippy::cast_precision_loss, reason = "exact for the next thousands of years")]
        let started_at = clock.wall_ms() as f64 / 1e3;
        let live = Arc::new_cyclic(|me| Self {
            me: Weak::clone(me),
            clock,
            started_at,
            crew: Arc::new(crew),
            published: Arc::new(Published::new(snapshot)),
            log,
            notifier,
            source,
            cpus,
            state: Mutex::new(State {
                file: config.clone(),
                config,
                sources: Sources::new(found),
                overrides: HashMap::new(),
                wards: Wards::new(tell),
                conditions: Conditions::new(),
                sets,
                threads,
                handed,
                places: Vec::new(),
                shut: listening::Shut::default(),
                hands: Vec::new(),
                answers: Vec::new(),
                closings: Closings::default(),
                history: History::new(started_at, stamps::of(files)),
                trial: None,
            }),
            reloading: Mutex::new(()),
        });
        let mut state = live.state.lock().await;
        let started = live.start_workers(&mut state, 0, mailboxes.into_iter().zip(recorders).collect());
        if let Err(error) = started {
            state.threads.give_up();
            return Err(error);
        }
        state.threads.go();
        reload::tell_who_serves_first(&live.published.current());
        live.find_first(&mut state).await;
        live.check_first(&mut state, &mut told).await;
        if let Err((number, cause)) = live.listen(&mut state, bound).await {
            live.crew.stop();
            let engine = state.sets.engine_of(number).name();
            return Err(RunError::Worker { number, engine, cause });
        }
        live.mind_listening(&mut state).await;
        drop(state);
        tokio::spawn(Arc::clone(&live).mind_health(told));
        tokio::spawn(Arc::clone(&live).mind_sources(news));
        Ok(live)
    }

    /// Starts workers from the number `first` on, each with its mailbox and its recorder. When one cannot start, those
    /// behind it are as if they had ended.
    fn start_workers(
        &self,
        state: &mut State,
        first: u16,
        parts: Vec<(Mailbox<Stream>, Recorder)>,
    ) -> Result<(), RunError> {
        let mut result = Ok(());
        for (number, (mailbox, recorder)) in (first..).zip(parts) {
            let (hand, commands) = std::sync::mpsc::channel();
            state.hands.push(hand);
            state.answers.push(Arc::default());
            let engine = state.sets.engine_of(number);
            if result.is_err() {
                state.threads.forgo(number, engine);
                continue;
            }
            let setup = Setup {
                number,
                published: Arc::clone(&self.published),
                crew: Arc::clone(&self.crew),
                mailbox,
                commands,
                recorder,
            };
            let cpu = pinned_cpu(&state.config.process.cpu_affinity, &self.cpus, number);
            result = state.threads.start(engine, setup, cpu);
        }
        result
    }

    /// Has workers accept on sockets of listeners that the snapshot has.
    async fn listen(&self, state: &mut State, bound: Vec<Bound>) -> Result<(), (u16, std::io::Error)> {
        let snapshot = self.published.current();
        // One that cannot be watched is no reason to close the others.
        let mut result = Ok(());
        for Bound { listener, at, locals, sockets } in bound {
            let id = snapshot.listener_id(&listener).expect("it is in the snapshot");
            let index = state.config.listeners.iter().position(|one| one.name == listener);
            let first = state.sets.workers_of(index.expect("it is in the configuration")).start;
            for (place, socket) in sockets {
                let worker = u16::try_from(first).expect("few workers") + place;
                let listen = |reply| Command::Listen { id, socket, reply };
                // A worker that is gone takes the process with it.
                if let Err(error) = self.ask(state, worker, listen).await.unwrap_or(Ok(())) {
                    result = Err((worker, error));
                }
            }
            for local in &locals {
                log::info!("listener {listener}: listening on {local}");
            }
            state.places.push(Place { listener, at, locals });
        }
        result
    }

    /// Asks a worker, and waits for its answer; `None` when the worker has ended, or does not answer in time: it will do
    /// what it was asked as soon as it turns again.
    async fn ask<T>(
        &self,
        state: &State,
        worker: u16,
        make: impl FnOnce(Reply<T>) -> Command<Listener>,
    ) -> Option<T> {
        let (reply, answer) = oneshot::channel();
        self.tell(&state.hands[usize::from(worker)], worker, make(reply));
        if let Ok(answer) = tokio::time::timeout(PATIENCE, answer).await {
            return answer.ok();
        }
        log::error!("{}; what it was asked waits until it does", silence(state, &[worker]));
        None
    }

    /// Waits until every worker has done what it was asked before, and goes by the snapshot that is in effect; those that do
    /// not answer in time.
    async fn call_roll(&self, state: &State) -> Vec<u16> {
        let ask = |(worker, hand): (u16, &Sender<Command<Listener>>)| {
            let (reply, answer) = oneshot::channel();
            self.tell(hand, worker, Command::Report { reply });
            (worker, answer)
        };
        let mut asked: Vec<_> = (0..).zip(&state.hands).map(ask).collect();
        let all = async {
            for (_, answer) in &mut asked {
                let _ = answer.await;
            }
        };
        if tokio::time::timeout(PATIENCE, all).await.is_ok() {
            return Vec::new();
        }
        asked.retain_mut(|(_, answer)| answer.try_recv() == Err(oneshot::error::TryRecvError::Empty));
        asked.into_iter().map(|(worker, _)| worker).collect()
    }

    /// Gives a worker something to do.
    fn tell(&self, hand: &Sender<Command<Listener>>, worker: u16, command: Command<Listener>) {
        if hand.send(command).is_ok() {
            self.crew.attend_to(worker);
        }
    }

    /// The workers.
    pub(super) fn crew(&self) -> Arc<Crew<Stream>> {
        Arc::clone(&self.crew)
    }

    /// Itself, to be kept by a task.
    fn myself(&self) -> Arc<Self> {
        self.me.upgrade().expect("whoever calls this holds it")
    }
}

/// That these workers do not answer, in words.
fn silence(state: &State, workers: &[u16]) -> String {
    let name = |worker: &u16| format!("{worker} ({})", state.sets.engine_of(*worker).name());
    let names: Vec<String> = workers.iter().map(name).collect();
    format!("worker {} has not answered for {PATIENCE:?}", names.join(", "))
}

fn refuse(kind: RefusalKind, message: impl Into<String>, help: &str) -> Refusal {
    Refusal::new(kind, message).help(help)
}
