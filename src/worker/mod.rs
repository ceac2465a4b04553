//! One share-nothing loop per CPU: it owns its listeners, its connections and its buffers, and shares
//! nothing with the others but an immutable snapshot and a few counts.

mod gate;
mod table;
#[cfg(test)]
mod tests;
mod timers;

pub use table::{Key, Table};
pub use timers::Timers;

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::Duration;

use crate::config::AtMaxconn;
use crate::engine::{Engine, Event, Slots};
use crate::logging::{Record, Recorder};
use crate::relay::Fault;
use crate::session::{Cause, Context, Input, Session};
use crate::snapshot::{ListenerId, Snapshot};
use crate::sys::Clock;
use crate::tick::Tick;
use gate::{Gate, Waiting};

/// What the process is doing, as its workers see it.
#[derive(Debug, Default)]
pub struct Phase(AtomicU8);

impl Phase {
    const DRAIN: u8 = 1;
    const STOP: u8 = 2;

    /// No new connections; those that are there may finish.
    pub fn drain(&self) {
        self.0.fetch_max(Self::DRAIN, Ordering::Relaxed);
    }

    /// Every connection ends now.
    pub fn stop(&self) {
        self.0.fetch_max(Self::STOP, Ordering::Relaxed);
    }
}

/// What a worker is made of.
#[derive(Debug)]
pub struct Setup {
    /// Its number, from 0.
    pub number: u16,
    /// What all workers share.
    pub snapshot: Arc<Snapshot>,
    /// What the process is doing; whoever changes it wakes the engine.
    pub phase: Arc<Phase>,
    /// Where records of closed connections go.
    pub recorder: Recorder,
    /// How long a drain may last; `None` is for ever.
    pub hard_stop: Option<Duration>,
}

/// What a worker holds: all zero at its end.
#[cfg(feature = "sim")]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Census {
    /// Connections in the table.
    pub slots: usize,
    /// Deadlines.
    pub timers: usize,
    /// Clients that wait for admission.
    pub waiting: usize,
}

/// A worker.
#[derive(Debug)]
pub struct Worker<E: Engine> {
    setup: Setup,
    engine: E,
    table: Table<Conn<E::Io>>,
    timers: Timers,
    gate: Gate<E::Socket>,
    events: VecDeque<Event<E::Socket>>,
    now: Tick,
    /// Connections so far: the next one's number.
    accepted: u64,
    drain: Drain,
}

/// One slot, one key, both sockets.
#[derive(Debug)]
struct Conn<Io> {
    session: Session,
    io: Io,
    /// When its timer goes off, which may be before the session's deadline but never after it.
    armed: Option<Tick>,
}

/// How far a worker's end has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Drain {
    /// Not begun.
    No,
    /// Connections may finish until then; `None` is for ever.
    Until(Option<Tick>),
    /// Every connection was told to end.
    Killed,
}

impl<Io> Slots<Io> for Table<Conn<Io>> {
    fn io(&mut self, key: Key) -> Option<&mut Io> {
        self.get_mut(key).map(|conn| &mut conn.io)
    }
}

impl<E: Engine> Worker<E> {
    /// A worker that has an engine with its listeners in place, and no connection yet.
    #[must_use]
    pub fn new(setup: Setup, engine: E) -> Self {
        let limit = setup.snapshot.connections.most() as usize;
        Self {
            now: Tick::default(),
            setup,
            engine,
            table: Table::new(limit),
            timers: Timers::default(),
            gate: Gate::new(),
            events: VecDeque::new(),
            accepted: 0,
            drain: Drain::No,
        }
    }

    /// Works until the process stops and the last connection has ended.
    ///
    /// # Errors
    /// The operating system's, when it is impossible to wait for sockets.
    pub fn run(mut self, clock: Clock) -> io::Result<()> {
        while self.turn(|| clock.now())? {}
        Ok(())
    }

    /// Waits for the kernel once and does what follows from it; `false` when nothing is left to do.
    ///
    /// # Errors
    /// The operating system's, when it is impossible to wait for sockets.
    pub fn turn(&mut self, clock: impl Fn() -> Tick) -> io::Result<bool> {
        let wait = self.wait(clock());
        self.engine.turn(&mut self.table, wait, &mut self.events)?;
        self.now = clock();
        self.settle();
        self.expire();
        self.reopen();
        let over = self.drain(self.setup.phase.0.load(Ordering::Relaxed));
        self.setup.recorder.flush();
        Ok(!over)
    }

    /// What it holds now.
    #[cfg(feature = "sim")]
    #[must_use]
    pub fn census(&self) -> Census {
        Census { slots: self.table.len(), timers: self.timers.len(), waiting: self.gate.lobby.len() }
    }

    /// Its engine.
    #[cfg(feature = "sim")]
    #[must_use]
    pub fn engine(&self) -> &E {
        &self.engine
    }

    /// How long the engine may wait for the kernel.
    fn wait(&self, now: Tick) -> Option<Duration> {
        let hard_stop = match self.drain {
            Drain::Until(hard_stop) => hard_stop,
            Drain::No | Drain::Killed => None,
        };
        let next = self.timers.next().into_iter().chain(self.gate.retry()).chain(hard_stop).min()?;
        Some(next.since(now))
    }

    /// Handles events, and those that follow from them, until none is left.
    fn settle(&mut self) {
        while let Some(event) = self.events.pop_front() {
            match event {
                Event::Accepted { listener, socket, peer } => self.admit(Waiting { listener, socket, peer }),
                Event::AcceptFailed { listener, fault } => self.accept_failed(listener, fault),
                Event::Dialed { key, result } => self.input(key, Input::Dialed(result)),
                Event::ClientLeft { key } => self.input(key, Input::ClientLeft),
                Event::Ended { key, end, moved, unsent } => {
                    self.input(key, Input::Ended { end, moved, unsent });
                }
                Event::Closed { key } => self.closed(key),
            }
        }
    }

    fn input(&mut self, key: Key, input: Input) {
        let Some(conn) = self.table.get_mut(key) else { return };
        let context = Context { now: self.now, snapshot: &self.setup.snapshot };
        if let Some(order) = conn.session.handle(input, context) {
            self.engine.order(key, &mut conn.io, order, &mut self.events);
        }
        Self::arm(&mut self.timers, key, conn);
        if mutant!(FreedInBatch)
            && matches!(self.events.back(), Some(Event::Closed { key: closed }) if *closed == key)
        {
            self.closed(key);
        }
    }

    /// Sees to it that the timer goes off at the session's deadline or before.
    fn arm(timers: &mut Timers, key: Key, conn: &mut Conn<E::Io>) {
        let Some(deadline) = conn.session.deadline() else { return };
        if conn.armed.is_some_and(|armed| armed <= deadline) {
            return;
        }
        if let Some(late) = conn.armed.replace(deadline) {
            timers.remove(late, key);
        }
        timers.add(deadline, key);
    }

    fn expire(&mut self) {
        while let Some(key) = self.timers.expired(self.now) {
            let Some(conn) = self.table.get_mut(key) else { continue };
            conn.armed = None;
            if mutant!(StaleTimer) || conn.session.deadline().is_some_and(|deadline| deadline <= self.now) {
                let progress = self.engine.progress(&conn.io);
                self.input(key, Input::Deadline(progress));
            } else {
                Self::arm(&mut self.timers, key, conn);
            }
        }
        self.settle();
    }

    /// Lets a client in, or has it wait or rejects it where a limit is reached.
    fn admit(&mut self, client: Waiting<E::Socket>) {
        if gate::take(&self.setup.snapshot, client.listener) {
            self.open(client);
            return;
        }
        match self.setup.snapshot.listener(client.listener).at_maxconn {
            AtMaxconn::Wait => {
                self.engine.pause(client.listener, true);
                self.gate.lobby.push_back(client);
                self.gate.rest(self.now);
            }
            AtMaxconn::Reject => {
                self.engine.reject(client.socket);
                self.accepted += 1;
                self.setup.recorder.push(Record {
                    id: self.id(),
                    worker: self.setup.number,
                    listener: client.listener,
                    server: None,
                    client: client.peer,
                    tries: 0,
                    connect_ms: None,
                    began: self.now,
                    ended: self.now,
                    bytes_in: 0,
                    bytes_out: 0,
                    cause: Cause::Maxconn,
                });
            }
        }
    }

    fn open(&mut self, client: Waiting<E::Socket>) {
        let Waiting { listener, socket, peer } = client;
        let key = self.table.vacant().expect("the table holds as many as the process may have");
        let mut io = match self.engine.open(key, socket) {
            Ok(io) => io,
            Err(error) => {
                if !mutant!(CountDrifts) {
                    gate::give(&self.setup.snapshot, listener);
                }
                if self.setup.snapshot.accept_failures.may_speak(self.now) {
                    log::error!("cannot watch the connection of {peer}: {error}; it was reset");
                }
                return;
            }
        };
        self.accepted += 1;
        let context = Context { now: self.now, snapshot: &self.setup.snapshot };
        let (session, order) = Session::new(self.id(), listener, peer, context);
        self.engine.order(key, &mut io, order, &mut self.events);
        let mut conn = Conn { session, io, armed: None };
        Self::arm(&mut self.timers, key, &mut conn);
        self.table.insert(key, conn);
    }

    /// A number that no other connection of this process has.
    fn id(&self) -> u64 {
        u64::from(self.setup.number) << 48 | self.accepted
    }

    fn closed(&mut self, key: Key) {
        let Some(conn) = self.table.remove(key) else { return };
        if let Some(armed) = conn.armed {
            self.timers.remove(armed, key);
        }
        gate::give(&self.setup.snapshot, conn.session.listener());
        self.setup.recorder.push(conn.session.record(self.setup.number, self.now));
    }

    fn accept_failed(&mut self, listener: ListenerId, fault: Fault) {
        if !mutant!(DeafAfterShortage) {
            self.gate.rest(self.now);
        }
        if self.setup.snapshot.accept_failures.may_speak(self.now) {
            let name = &self.setup.snapshot.listener(listener).name;
            log::error!(
                "listener {name}: cannot accept: {fault}; trying again every 50 ms, and connections that are there go on"
            );
        }
    }

    /// Goes on accepting after a rest, those first who wait already.
    fn reopen(&mut self) {
        let room = self.gate.lobby.front().is_some_and(|first| {
            let snapshot = &self.setup.snapshot;
            snapshot.connections.has_room() && snapshot.listener(first.listener).connections.has_room()
        });
        if !self.gate.reopens(self.now, room) {
            return;
        }
        for _ in 0..self.gate.lobby.len() {
            if let Some(client) = self.gate.lobby.pop_front() {
                self.admit(client);
            }
        }
        for id in 0..self.setup.snapshot.listeners.len() {
            let id = ListenerId(u16::try_from(id).expect("ids are dense"));
            if self.gate.lobby.iter().all(|waiting| waiting.listener != id) {
                self.engine.pause(id, false);
            }
        }
        self.settle();
    }

    /// Follows the process to its end; `true` when nothing is left to do.
    fn drain(&mut self, phase: u8) -> bool {
        if phase >= Phase::DRAIN && self.drain == Drain::No {
            self.engine.close_listeners(&mut self.events);
            self.settle();
            self.drain = Drain::Until(self.setup.hard_stop.map(|limit| self.now.after(limit)));
        }
        let over = match self.drain {
            Drain::Until(hard_stop) => phase >= Phase::STOP || hard_stop.is_some_and(|at| at <= self.now),
            Drain::No | Drain::Killed => false,
        };
        if over {
            self.drain = Drain::Killed;
            for client in self.gate.lobby.drain(..) {
                self.engine.reject(client.socket);
            }
            for key in self.table.keys() {
                self.input(key, Input::Kill);
            }
            self.settle();
        }
        self.drain != Drain::No && self.table.is_empty() && self.gate.lobby.is_empty()
    }
}
