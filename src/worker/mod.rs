//! One share-nothing loop per CPU: it owns its listeners, its connections and its buffers, and shares
//! nothing with the others but an immutable snapshot and a few counts.

mod command;
mod crew;
mod gate;
mod heads;
mod obey;
mod queue;
#[cfg(test)]
mod tests;
mod timers;

pub use command::{Ask, Command, Listing, Reply, Row, Which};
pub use crew::{Crew, Mailbox, Phase};
pub use gate::Client;
pub use timers::Timers;

use std::collections::VecDeque;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::mpsc::Receiver;
use std::time::Duration;

use crate::admission::Place;
use crate::balance;
use crate::config::{self, AcceptBalance, AtMaxconn, MatchOn, TcpInfo, Untrusted};
use crate::engine::{Engine, Event, Slots};
use crate::logging::Recorder;
use crate::path::Path;
use crate::relay::Fault;
use crate::session::{Cause, Context, Doing, Input, Order, Record, Session};
use crate::snapshot::{ListenerId, Published, Snapshot};
use crate::sys::{self, Clock};
use crate::table::{Key, Table};
use crate::tick::Tick;
use command::list_most;
use gate::{Full, Gate};
use obey::Review;
use queue::{Held, Rows};

/// What a worker is made of.
#[derive(Debug)]
pub struct Setup<Socket, Listener> {
    /// Its number, from 0.
    pub number: u16,
    /// What all workers share.
    pub published: Arc<Published>,
    /// All workers, this one included.
    pub crew: Arc<Crew<Socket>>,
    /// Where the others put what they hand to this one.
    pub mailbox: Mailbox<Socket>,
    /// Where the control plane puts what it asks.
    pub commands: Receiver<Command<Listener>>,
    /// Where records of connections go.
    pub recorder: Recorder,
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
    /// Clients that wait for a server.
    pub queued: usize,
    /// One of those is to get its turn, so that the next one follows at once.
    pub is_due: bool,
}

/// A worker.
#[derive(Debug)]
pub struct Worker<E: Engine> {
    setup: Setup<E::Socket, E::Listener>,
    /// The configuration that it goes by.
    snapshot: Arc<Snapshot>,
    /// What [`Published::generation`] was when it was taken, or before.
    generation: u64,
    /// What [`Crew::attention`] was when it last looked.
    attention: u64,
    /// More was asked than one turn should do.
    behind: bool,
    /// New limits of time that are not held against every connection yet.
    review: Option<Review>,
    engine: E,
    table: Table<Conn<E::Io>>,
    timers: Timers,
    gate: Gate<E::Socket>,
    rows: Rows,
    events: VecDeque<Event<E::Socket>>,
    /// Keys whose timer has gone off; kept for its memory only.
    due: Vec<Key>,
    now: Tick,
    /// Room was made in this turn, and another worker was told of it.
    yields: bool,
    /// Connections so far: the next one's number.
    accepted: u64,
    drain: Drain,
    /// Those who are to leave are still being asked since when they are idle.
    parting: Option<Parting>,
}

/// One slot, one key, both sockets.
#[derive(Debug)]
struct Conn<Io> {
    session: Session,
    io: Io,
    /// When its timer goes off, which may be before the session's deadline but never after it.
    armed: Option<Tick>,
    /// Where its source counts it.
    place: Option<Place>,
    /// As [`Client::is_to_be_told`].
    is_to_be_told: bool,
}

/// Those who leave, by how long they are idle.
#[derive(Debug)]
struct Parting {
    /// Those from this slot on are still to be asked.
    from: u32,
    /// Whether nothing is known of that, since when, and who.
    idle: Vec<(bool, Option<Tick>, Key)>,
}

/// How far a worker's end has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Drain {
    /// Not begun.
    No,
    /// Connections are still accepted until the first, and reset at the second; `None` is never.
    Grace(Tick, Option<Tick>),
    /// Connections leave one after the other, and are reset then; `None` is never.
    Leaving(Option<Tick>),
    /// Every connection was told to end.
    Killed,
}

impl<Io> Slots<Io> for Table<Conn<Io>> {
    fn io(&mut self, key: Key) -> Option<&mut Io> {
        self.get_mut(key).map(|conn| &mut conn.io)
    }

    fn keys(&self) -> Vec<Key> {
        self.keys()
    }
}

/// An address of IPv4 inside of IPv6 as one of IPv4.
fn canonical(peer: SocketAddr) -> SocketAddr {
    match peer.ip().to_canonical() {
        ip @ IpAddr::V4(_) => SocketAddr::new(ip, peer.port()),
        IpAddr::V6(_) => peer,
    }
}

impl<E: Engine> Worker<E> {
    /// A worker that has an engine with its listeners in place, and no connection yet.
    #[must_use]
    pub fn new(setup: Setup<E::Socket, E::Listener>, mut engine: E) -> Self {
        let generation = setup.published.generation();
        let snapshot = setup.published.current();
        engine.adopt(Arc::clone(&snapshot));
        let limit = snapshot.connections.most() as usize;
        Self {
            now: Tick::default(),
            setup,
            snapshot,
            generation,
            attention: 0,
            behind: false,
            review: None,
            engine,
            table: Table::new(limit),
            timers: Timers::default(),
            gate: Gate::new(),
            rows: Rows::default(),
            events: VecDeque::new(),
            due: Vec::new(),
            yields: false,
            accepted: 0,
            drain: Drain::No,
            parting: None,
        }
    }

    /// Works until the process stops and the last connection has ended.
    ///
    /// # Errors
    /// The operating system's, when it is impossible to wait for sockets.
    pub fn run(mut self, clock: Clock) -> io::Result<()> {
        self.setup.crew.begins(self.setup.number);
        if let Some(thread) = sys::thread_number() {
            self.setup.crew.set_thread(self.setup.number, thread);
        }
        loop {
            match self.turn(|| clock.now()) {
                Ok(true) => {}
                Ok(false) => return Ok(()),
                Err(error) => {
                    // The others must not wait for what this one might still hand over.
                    if !self.has_closed() {
                        self.setup.crew.stop_listening();
                    }
                    return Err(error);
                }
            }
        }
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
        self.receive();
        self.attend();
        self.expire();
        self.reopen();
        self.serve();
        let over = self.drain();
        self.setup.recorder.flush();
        self.setup.crew.turned(self.setup.number, over);
        Ok(!over)
    }

    /// What it holds now.
    #[cfg(feature = "sim")]
    #[must_use]
    pub fn census(&self) -> Census {
        Census {
            slots: self.table.len(),
            timers: self.timers.len(),
            waiting: self.gate.lobby().len(),
            queued: self.rows.len(),
            is_due: self.rows.len() > 0 && self.rows.is_due(),
        }
    }

    /// Its engine.
    #[cfg(feature = "sim")]
    #[must_use]
    pub fn engine(&self) -> &E {
        &self.engine
    }

    /// How long the engine may wait for the kernel.
    fn wait(&self, now: Tick) -> Option<Duration> {
        if self.has_arrears() {
            return Some(Duration::ZERO);
        }
        if self.rows.is_due() {
            return Some(Duration::ZERO);
        }
        let drain = match self.drain {
            Drain::Grace(until, hard_stop) => hard_stop.into_iter().chain([until]).min(),
            Drain::Leaving(hard_stop) => hard_stop,
            Drain::No | Drain::Killed => None,
        };
        let next = self.timers.next().into_iter().chain(self.gate.retry()).chain(drain).min()?;
        Some(next.since(now))
    }

    /// Handles events, and those that follow from them, until none is left.
    fn settle(&mut self) {
        while let Some(event) = self.events.pop_front() {
            match event {
                Event::Accepted { listener, socket, peer } => {
                    // A client of IPv4 that has come to a socket of both families is one of IPv4 from here on.
                    let peer = peer.map(canonical);
                    let (counted, place, is_to_be_told) = (false, None, false);
                    self.screen(Client { listener, socket, peer, counted, place, is_to_be_told });
                }
                Event::AcceptFailed { listener, fault } => self.accept_failed(listener, fault),
                Event::Head { key, ended } => self.inspect(key, ended),
                Event::Dialed { key, result } => self.dialed(key, result),
                Event::Heard { key, result } => self.heard(key, result),
                Event::News { key, news } => self.input(key, Input::News(news)),
                Event::ClientLeft { key } => self.input(key, Input::ClientLeft),
                Event::Ended { key, end, moved, unsent } => {
                    self.input(key, Input::Ended { end, moved, unsent });
                }
                Event::Closed { key } => self.closed(key),
            }
        }
    }

    /// Names a server that cannot be reached, at most once a second: the access log tells only of the one
    /// that was reached in the end.
    fn tell_failure(&mut self, key: Key, result: Result<(), Fault>) {
        let Err(fault) = result else { return };
        let snapshot = &self.snapshot;
        let server = self.table.get_mut(key).and_then(|conn| conn.session.server());
        if let Some(server) = server
            && snapshot.dial_failures.may_speak(self.now)
        {
            let server = snapshot.server(server);
            log::warn!("server {}/{}: {fault}", snapshot.pool(server.pool).name, server.name);
        }
    }

    fn input(&mut self, key: Key, input: Input) {
        let Some(conn) = self.table.get_mut(key) else { return };
        let context = Context { now: self.now, snapshot: &self.snapshot };
        let before = Held::by(&conn.session);
        if let Some(order) = conn.session.handle(input, context) {
            if matches!(order, Order::Relay { .. }) {
                self.setup.recorder.push(conn.session.opened(self.setup.number, self.now));
            }
            self.engine.order(key, &mut conn.io, order, &mut self.events);
        }
        Self::arm(&mut self.timers, key, conn);
        let (id, held) = (conn.session.id(), Held::by(&conn.session));
        self.follow(key, id, before, held);
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

    /// Wakes the sessions that are due now; what becomes due meanwhile waits for the next turn.
    fn expire(&mut self) {
        let mut due = std::mem::take(&mut self.due);
        due.extend(std::iter::from_fn(|| self.timers.expired(self.now)));
        for key in due.drain(..) {
            let Some(conn) = self.table.get_mut(key) else { continue };
            conn.armed = None;
            if mutant!(StaleTimer) || conn.session.deadline().is_some_and(|deadline| deadline <= self.now) {
                let sight = self.engine.look(&conn.io);
                let (doing, attempts) = (conn.session.doing(), conn.session.is_attempting());
                if doing == Doing::Inspecting {
                    self.tell_late(key);
                }
                if attempts {
                    self.tell_failure(key, Err(Fault::TimedOut));
                }
                self.input(key, Input::Deadline(sight));
            } else {
                Self::arm(&mut self.timers, key, conn);
            }
        }
        self.due = due;
        self.settle();
    }

    /// Turns a client away that may not come in, whether there is room or not.
    fn screen(&mut self, mut client: Client<E::Socket>) {
        let listener = self.snapshot.listener(client.listener);
        let address = client.peer.map(|peer| peer.ip());
        if let Some(accept) = &listener.accept_proxy {
            let trusts = accept.trusts(address);
            if !trusts && accept.untrusted == Untrusted::Reject {
                return self.turn_away(client, Cause::UntrustedPeer);
            }
            if trusts && listener.admission.match_on() == MatchOn::Client {
                client.is_to_be_told = true;
                return self.admit(client);
            }
        }
        match listener.admission.enter(address, self.now, &listener.tally) {
            Ok(place) => {
                client.place = place;
                self.admit(client);
            }
            Err(cause) => self.turn_away(client, cause),
        }
    }

    /// Lets a client in, or has it wait or rejects it where a limit is reached.
    fn admit(&mut self, mut client: Client<E::Socket>) {
        let listener = self.snapshot.listener(client.listener);
        let full = match gate::take(&self.snapshot, &mut client, self.now) {
            Ok(()) => {
                let Setup { crew, number, .. } = &self.setup;
                let mine = match listener.accept_balance {
                    AcceptBalance::LeastLoaded if !self.has_closed() => {
                        crew.hand_over(*number, client, self.id())
                    }
                    AcceptBalance::LeastLoaded | AcceptBalance::Reuseport => crew.keep(*number, client),
                };
                if let Some(client) = mine {
                    self.open(client);
                }
                return;
            }
            Err(full) => full,
        };
        match listener.at_maxconn {
            AtMaxconn::Wait => {
                if listener.refusals.may_speak(self.now) {
                    let limit = match full {
                        Full::Process => "process.maxconn",
                        Full::Listener => "its maxconn",
                        Full::Rate => "its rate",
                    };
                    log::warn!("listener {}: {limit} is reached; new clients wait", listener.name);
                }
                self.gate.wait(&self.snapshot, client);
                self.gate.rest(self.now);
                self.pause(full == Full::Process);
            }
            AtMaxconn::Reject => {
                self.turn_away(client, if full == Full::Rate { Cause::ListenerRate } else { Cause::Maxconn });
            }
        }
    }

    /// Listeners rest for whose clients others wait already; all whose clients may wait if `all`.
    fn pause(&mut self, all: bool) {
        for (index, listener) in self.snapshot.listeners.iter().enumerate() {
            let id = ListenerId(u16::try_from(index).expect("ids are dense"));
            let waits = self.gate.lobby().iter().any(|waiting| waiting.listener == id);
            self.engine.pause(id, waits || (all && listener.at_maxconn == AtMaxconn::Wait));
        }
        self.setup.crew.set_waiting(self.setup.number, !self.gate.lobby().is_empty());
    }

    /// Says at most once a second for each listener that a client may not come in.
    fn tell_refusal(&self, listener: ListenerId, peer: Option<SocketAddr>, cause: Cause) {
        let listener = self.snapshot.listener(listener);
        if Cause::TURNED_AWAY.contains(&cause) && listener.refusals.may_speak(self.now) {
            let (name, cause) = (&listener.name, cause.name());
            let peer = peer.map_or_else(|| "a client".to_owned(), |peer| peer.ip().to_string());
            log::warn!("listener {name}: turned {peer} away: {cause}; the access log has all of them");
        }
    }

    /// Resets a client that has no connection yet, and tells of it.
    fn turn_away(&mut self, client: Client<E::Socket>, cause: Cause) {
        let listener = self.snapshot.listener(client.listener);
        listener.admission.leave(client.place);
        if client.counted {
            self.snapshot.connections.give();
        }
        self.engine.reject(client.socket);
        self.accepted += 1;
        listener.closed(None)[cause.index()].add(1);
        self.tell_refusal(client.listener, client.peer, cause);
        self.setup.recorder.push(Record {
            event: config::Event::Close,
            id: self.id(),
            worker: self.setup.number,
            listener: client.listener,
            server: None,
            client: client.peer,
            heard: None,
            probes: false,
            tries: 0,
            redispatched: false,
            connect_ms: None,
            queue_ms: 0,
            began: self.now,
            ended: self.now,
            bytes_in: 0,
            bytes_out: 0,
            cause: Some(cause),
            paths: [None; 2],
        });
    }

    /// Takes what other workers hand to this one.
    fn receive(&mut self) {
        while let Ok(client) = self.setup.mailbox.try_recv() {
            // Whoever hands it over may know its listener before this worker does.
            self.refresh();
            if self.drain == Drain::Killed {
                self.snapshot.listener(client.listener).connections.give();
                self.setup.crew.connections(self.setup.number).give();
                self.turn_away(client, Cause::Drain);
            } else {
                self.open(client);
            }
        }
        self.settle();
    }

    /// Begins the connection of a client that is let in and counted.
    fn open(&mut self, client: Client<E::Socket>) {
        let Client { listener, socket, peer, place, is_to_be_told, .. } = client;
        let key = self.table.vacant().expect("the table holds as many as the process may have");
        let mut io = match self.engine.open(key, socket, self.snapshot.listener(listener).keepalive) {
            Ok(io) => io,
            Err(error) => {
                if !mutant!(CountDrifts) {
                    self.release(listener, place);
                }
                if self.snapshot.accept_failures.may_speak(self.now) {
                    let peer = peer.map_or_else(|| "a unix socket".to_owned(), |peer| peer.to_string());
                    log::error!("cannot watch the connection of {peer}: {error}; it was reset");
                }
                return;
            }
        };
        self.accepted += 1;
        self.snapshot.listener(listener).tally.accepted.add(1);
        let context = Context { now: self.now, snapshot: &self.snapshot };
        let (session, order) = Session::new(self.id(), listener, peer, context);
        self.engine.order(key, &mut io, order, &mut self.events);
        let mut conn = Conn { session, io, armed: None, place, is_to_be_told };
        Self::arm(&mut self.timers, key, &mut conn);
        let (id, held) = (conn.session.id(), Held::by(&conn.session));
        self.table.insert(key, conn);
        self.follow(key, id, Held::NOTHING, held);
        if is_to_be_told && !matches!(order, Order::ReadHead { .. }) {
            // A reload has come in between.
            self.admit_late(key);
        }
        if self.has_closed() {
            self.input(key, Input::Leave(Cause::Drain, self.now));
        }
    }

    /// A connection of `listener` counts no longer.
    fn release(&self, listener: ListenerId, place: Option<Place>) {
        gate::give(&self.snapshot, listener, place);
        self.setup.crew.connections(self.setup.number).give();
    }

    /// Whether this worker accepts no more.
    fn has_closed(&self) -> bool {
        matches!(self.drain, Drain::Leaving(_) | Drain::Killed)
    }

    /// A number that no other connection of this process has.
    fn id(&self) -> u64 {
        u64::from(self.setup.number) << 48 | self.accepted
    }

    fn closed(&mut self, key: Key) {
        let Some(mut conn) = self.table.remove(key) else { return };
        if let Some(armed) = conn.armed {
            self.timers.remove(armed, key);
        }
        self.release(conn.session.listener(), conn.place);
        // Those who wait at other workers have their turn, too.
        self.yields |= self.setup.crew.wake_waiting(self.setup.number);
        let (id, before) = (conn.session.id(), Held::by(&conn.session));
        conn.session.uncount(&self.snapshot);
        self.follow(key, id, before, Held::NOTHING);
        // The sockets are there until this is over, and the system still tells of them.
        let paths = self.ask_paths(&conn);
        conn.session.count_paths(paths, &self.snapshot);
        let record = Record { paths, ..conn.session.record(self.setup.number, self.now) };
        self.count_end(&record);
        self.setup.recorder.push(record);
    }

    fn count_end(&self, record: &Record) {
        let listener = self.snapshot.listener(record.listener);
        if let Some(cause) = record.cause {
            listener.closed(record.pool(&self.snapshot))[cause.index()].add(1);
        }
        if record.is_probe() {
            listener.tally.probes.add(1);
        }
    }

    /// What the system tells of both sides at the end of a connection. A server that was not reached has no path.
    fn ask_paths(&self, conn: &Conn<E::Io>) -> [Option<Path>; 2] {
        if self.snapshot.metrics.tcp_info == TcpInfo::Off {
            return [None; 2];
        }
        let [client, server] = self.engine.paths(&conn.io);
        [client, server.filter(|_| conn.session.connect_ms().is_some())]
    }

    fn accept_failed(&mut self, listener: ListenerId, fault: Fault) {
        if !mutant!(DeafAfterShortage) {
            self.gate.rest(self.now);
        }
        if self.snapshot.accept_failures.may_speak(self.now) {
            let name = &self.snapshot.listener(listener).name;
            let then = if self.setup.crew.is_draining() {
                "stopping: clients in the backlog are reset"
            } else {
                "trying again every 50 ms, and connections that are there go on"
            };
            log::error!("listener {name}: cannot accept: {fault}; {then}");
        }
    }

    /// Goes on accepting after a rest, those first who wait already.
    fn reopen(&mut self) {
        let has_room = |first: &Client<_>| gate::has_room(&self.snapshot, first.listener, self.now);
        let room = self.gate.lobby().front().is_some_and(has_room);
        if !self.gate.reopens(self.now, room && !std::mem::take(&mut self.yields)) {
            return;
        }
        for _ in 0..self.gate.lobby().len() {
            if let Some(client) = self.gate.next(&self.snapshot) {
                self.admit(client);
            }
        }
        let is_full = !self.snapshot.connections.has_room();
        if is_full {
            self.gate.rest(self.now);
        }
        self.pause(is_full);
        self.settle();
    }

    /// Follows the process to its end; `true` when nothing is left to do.
    fn drain(&mut self) -> bool {
        let phase = self.setup.crew.phase();
        let stops =
            |hard_stop: Option<Tick>, now| phase == Phase::Stopping || hard_stop.is_some_and(|at| at <= now);
        if phase >= Phase::Draining && self.drain == Drain::No {
            let config::Drain { grace, hard_stop, .. } = self.snapshot.drain;
            let until = if grace.is_zero() { self.now } else { self.now.after(grace) };
            self.drain = Drain::Grace(until, hard_stop.map(|limit| self.now.after(limit)));
        }
        if let Drain::Grace(until, hard_stop) = self.drain
            && (until <= self.now || stops(hard_stop, self.now))
        {
            self.close_listeners(hard_stop);
        }
        if let Drain::Leaving(hard_stop) = self.drain
            && stops(hard_stop, self.now)
        {
            self.kill();
        }
        self.part_some();
        // What was handed over before the last listener closed is in the mailbox by the time that is seen.
        if self.has_closed() && !self.setup.crew.is_listening() {
            self.receive();
            return self.table.is_empty() && self.gate.lobby().is_empty();
        }
        false
    }

    /// Accepts no more, and has the connections leave, those first that are idle for the longest time.
    fn close_listeners(&mut self, hard_stop: Option<Tick>) {
        self.close_those(&|_, _| true);
        self.setup.crew.stop_listening();
        self.drain = Drain::Leaving(hard_stop);
        if self.snapshot.drain.idle_first {
            self.parting = Some(Parting { from: 0, idle: Vec::with_capacity(self.table.len()) });
        } else {
            self.part(self.table.keys());
        }
        self.settle();
    }

    /// Asks some of those who are to leave since when they are idle, which takes the kernel's time. When all were asked, they
    /// leave in that order.
    fn part_some(&mut self) {
        let Some(Parting { from, mut idle }) = self.parting.take() else { return };
        let (keys, next) = self.table.keys_from(from, list_most(Ask::Paths));
        idle.extend(keys.into_iter().map(|key| {
            let since = self.row(key, Ask::Paths).and_then(|row| row.quiet_since);
            // Who has no server yet comes last.
            (since.is_none(), since, key)
        }));
        if let Some(from) = next {
            self.parting = Some(Parting { from, idle });
            return;
        }
        idle.sort_unstable();
        self.part(idle.into_iter().map(|(.., key)| key).collect());
        self.settle();
    }

    /// Has connections leave in this order, evenly over the time that is set for it.
    fn part(&mut self, leaving: Vec<Key>) {
        let count = leaving.len() as u64;
        let spread_ms = u64::try_from(self.snapshot.drain.spread.as_millis()).unwrap_or(u64::MAX);
        for (place, key) in (0..).zip(leaving) {
            // Somewhere in its share of the time, so that clients do not come back in step.
            let jitter = balance::random(place) % 1_000;
            let wait_ms = spread_ms.saturating_mul(place * 1_000 + jitter) / (count * 1_000);
            self.input(key, Input::Leave(Cause::Drain, Tick(self.now.0.saturating_add(wait_ms))));
        }
    }

    fn kill(&mut self) {
        self.drain = Drain::Killed;
        self.parting = None;
        while let Some(client) = self.gate.next(&self.snapshot) {
            self.turn_away(client, Cause::Drain);
        }
        for key in self.table.keys() {
            self.input(key, Input::Kill(Cause::Drain));
        }
        self.settle();
    }
}
