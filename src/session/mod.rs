//! One client connection from accept to close. Pure: no socket, no clock; no allocation but for what a client has said
//! first, or a proxy in front of it, where that is read ([`Heard`]).
//!
//! ```text
//!            picked                connected              ended               closed
//! (accepted) ------> Dialing ----------------> Relaying ---------> Closing ---------> (gone)
//!     |        ^     |  ^  |                                          ^
//!     v        |     +--+  +------------------------------------------+
//!   Inspecting-+  next server     no server left, the client left, drain
//! ```

mod answer;
mod dial;
mod hello;
mod inspect;
mod pace;
mod record;
#[cfg(test)]
mod tests;
mod watch;

pub use hello::Heard;
pub use inspect::{Flaw, Seen, Verdict};
use pace::Pace;
pub use record::Record;
pub use watch::Sight;

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use crate::balance::{self, Client};
pub use crate::cause::Cause;
use crate::config::{Event, WhenNoUpstream};
use crate::path::Path;
use crate::relay::{Dir, End, Fault, News, Progress, Side};
use crate::snapshot::{Listener, ListenerId, PoolId, ServerId, Snapshot};
use crate::tally::Attempt;
use crate::tick::{Tick, least, millis};
use dial::{Dial, Next, Wish};
use inspect::{Destination, Inspector};
use watch::{Limits, Watch};

/// The first wait for a peer that has not acknowledged everything before it is reset; each is twice the
/// one before, up to [`UNSENT_WAIT_MAX`].
const UNSENT_WAIT_MIN: Duration = Duration::from_millis(1);
const UNSENT_WAIT_MAX: Duration = Duration::from_millis(250);

/// What happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Input {
    /// The client's first bytes were looked at, by [`Session::inspect`].
    Inspected(Verdict),
    /// An attempt to reach a server ended.
    Dialed(Result<(), Fault>),
    /// The client failed before a server was reached, or has nothing to say and waits in vain.
    ClientLeft,
    /// It waits in a queue, and nobody waits longer; or its listener has another pool now.
    Turn,
    /// What its relay tells while it runs.
    News(News),
    /// The relay ended.
    Ended {
        /// How.
        end: End,
        /// Bytes delivered, by [`crate::relay::Dir::index`].
        moved: [u64; 2],
        /// A peer that is still there was not given everything that was taken for it.
        unsent: bool,
    },
    /// The session's deadline has passed; with what can be seen of its relay.
    Deadline(Option<Sight>),
    /// Close at the first quiet moment from then on, because of this.
    Leave(Cause, Tick),
    /// End now, because of this.
    Kill(Cause),
}

/// What it asks of its engine, which answers each with an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// Gather the client's first bytes, behind those that are there. Answer: [`crate::engine::Event::Head`] with more of
    /// them than so many, or the client's FIN; [`crate::engine::Event::ClientLeft`] when it fails before.
    ReadHead {
        /// In all.
        more_than: u16,
        /// No more than so many in all, which is more than the above.
        max: u16,
    },
    /// Connect to a server; an attempt that still runs is abandoned. Answer: [`crate::engine::Event::Dialed`].
    Dial {
        /// Which.
        to: ServerId,
        /// From this address; `None`: from the one that the system chooses.
        from: Option<IpAddr>,
    },
    /// Take one byte of a server that was reached, before anything is relayed: the answer to a request for TLS. Answer:
    /// [`crate::engine::Event::Heard`].
    Hear,
    /// Wait for the next order; an attempt that still runs is abandoned. Answer: [`crate::engine::Event::ClientLeft`]
    /// as soon as the client has failed, or has sent FIN with nothing of its left to deliver; else none.
    Queue,
    /// Move bytes both ways. Answer: [`crate::engine::Event::Ended`].
    Relay {
        /// By [`Dir::index`]: nothing is taken before it is granted. Asked for by [`News::Dry`].
        limited: [bool; 2],
        /// The server's first bytes are awaited: it is told who speaks, by [`News::Spoke`].
        awaited: bool,
    },
    /// More may be taken in a direction that is limited. No answer.
    Grant {
        /// Which.
        dir: Dir,
        /// So many bytes; `None`: as many as there are, from now on.
        bytes: Option<u32>,
    },
    /// End a running relay: at once, but [`End::Reset`], for a peer that has vanished, only when what has arrived
    /// of it is delivered. Answer: [`crate::engine::Event::Ended`].
    Stop(End),
    /// Close both sockets; what was given to the kernel is still delivered. Answer: [`crate::engine::Event::Closed`].
    Close,
    /// Close the socket of a peer that is not to see that the other one has failed, or is missing, by FIN: what it has sent
    /// is thrown away, or the close would be a reset. The other one is reset. It must get everything first, as a spared
    /// peer of [`Order::Reset`]. Answer: [`crate::engine::Event::Closed`].
    Dismiss {
        /// Which.
        peer: Side,
    },
    /// Reset both peers. Answer: [`crate::engine::Event::Closed`]. As long as the spared peer has not acknowledged
    /// everything, nothing is done and nothing answered, because a reset would destroy what is on its way:
    /// whoever spares a peer asks again.
    Reset {
        /// The peer that must get everything first, if any.
        spare: Option<Side>,
    },
}

/// What a session may ask.
#[derive(Clone, Copy, Debug)]
pub struct Context<'a> {
    /// The time.
    pub now: Tick,
    /// The configuration.
    pub snapshot: &'a Snapshot,
}

/// One client connection. After each input it may have an order for the engine; [`Session::deadline`]
/// tells when it wants to be woken.
#[derive(Debug)]
pub struct Session {
    id: u64,
    client: Option<SocketAddr>,
    /// Where the client had connected to, if a proxy in front has told.
    destination: Option<Destination>,
    began: Tick,
    connect_ms: Option<u32>,
    /// How long it waited for a server that has room.
    queue_ms: u32,
    server: Option<ServerId>,
    listener: ListenerId,
    heard: Option<Arc<Heard>>,
    /// As [`Record::probes`].
    probes: bool,
    tries: u8,
    /// `server` counts this connection among its own.
    counted: bool,
    /// Another server was tried before `server`.
    redispatched: bool,
    /// `server` has been given bytes, and not one has come of it; known only where its pool chooses by that.
    unanswered: bool,
    /// From when on it is to leave.
    leave: Option<Tick>,
    /// Why it was asked to leave or ended.
    asked: Option<Cause>,
    /// When the attempt began that runs; while it is queued, since when; then, when `server` was reached or, as far as that is
    /// awaited, was given bytes for the last time before its first ones.
    tried_at: Tick,
    /// In whose queue it is or was.
    queue_of: PoolId,
    /// Bytes that are counted already, by [`Dir::index`].
    counted_bytes: [u64; 2],
    /// Retransmits and segments of the client's path and the server's that are counted already.
    counted_paths: [[u32; 2]; 2],
    state: State,
}

/// A place in a pool's queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// Whose queue.
    pub pool: PoolId,
    /// Since when.
    pub since: Tick,
}

/// What a session is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Doing {
    /// Its client's first bytes are waited for.
    Inspecting,
    /// It waits for a server that has room.
    Queued,
    /// A server is being reached.
    Connecting,
    /// Bytes are moved.
    Relaying,
    /// It has ended, and its sockets are not closed yet.
    Closing,
}

#[derive(Debug)]
enum State {
    Inspecting(Inspector),
    Dialing(Dial),
    Relaying(Watch, Pace),
    Closing(Closing),
}

#[derive(Debug)]
struct Closing {
    cause: Cause,
    moved: [u64; 2],
    /// A peer that has to get what is on its way before it is reset.
    spare: Option<Spare>,
}

#[derive(Debug)]
struct Spare {
    side: Side,
    /// It is to see FIN, and no reset.
    by_fin: bool,
    /// When to look whether it has got everything, and the wait that led there.
    look: Tick,
    wait: Duration,
    /// When to reset it all the same; `None` is never.
    gives_up: Option<Tick>,
}

impl Session {
    /// A connection that was just accepted, and what to do first. A client of a unix socket has no address.
    #[must_use]
    pub fn new(id: u64, listener: ListenerId, client: Option<SocketAddr>, cx: Context<'_>) -> (Self, Order) {
        let own = &cx.snapshot.listener(listener).leads.own;
        let mut session = Self {
            id,
            client,
            destination: None,
            began: cx.now,
            connect_ms: None,
            queue_ms: 0,
            server: None,
            listener,
            heard: None,
            probes: false,
            tries: 0,
            counted: false,
            redispatched: false,
            unanswered: false,
            leave: None,
            asked: None,
            tried_at: cx.now,
            queue_of: PoolId(0),
            counted_bytes: [0; 2],
            counted_paths: [[0; 2]; 2],
            state: State::Dialing(Dial::new(cx.now, own.timeouts.connect_total)),
        };
        if let Some(order) = session.begin_inspecting(cx) {
            return (session, order);
        }
        // Who waits because no server can be reached from here now is told of if it leaves.
        let order = session.dial(cx, false).unwrap_or(Order::Queue);
        (session, order)
    }

    /// Something happened. What does not fit the state came too late to matter and is ignored.
    pub fn handle(&mut self, input: Input, cx: Context<'_>) -> Option<Order> {
        if let Input::Leave(cause, _) | Input::Kill(cause) = input
            && !(cause.is_of_server() && self.asked.is_some())
        {
            self.asked = Some(cause);
        }
        match (&mut self.state, input) {
            (State::Inspecting(_), Input::Inspected(verdict)) => self.inspected(verdict, cx),
            (State::Inspecting(inspector), Input::ClientLeft) => {
                self.probes |= inspector.is_silent;
                Some(self.give_up(Cause::ClientLeft, cx))
            }
            (State::Inspecting(_), Input::Deadline(_)) => Some(self.give_up(Cause::PrereadTimeout, cx)),
            (State::Dialing(dial), Input::Dialed(Ok(()))) if !dial.is_queued() => self.connected(cx),
            (State::Dialing(_), Input::Dialed(Err(fault))) => self.dial_failed(fault, cx),
            (State::Dialing(_), Input::Deadline(_)) => self.dial_due(cx),
            (State::Dialing(dial), Input::Turn) if dial.is_queued() => self.turn(cx),
            (State::Dialing(dial), Input::ClientLeft) => {
                let cause = if dial.is_queued() { Cause::ClientLeftQueue } else { Cause::ClientLeft };
                Some(self.give_up(cause, cx))
            }
            (State::Dialing(dial), Input::Kill(Cause::ServerRemoved | Cause::ServerDown)) => {
                // It has not reached that server yet; another one may do.
                dial.withdraw(cx.now);
                self.uncount(cx.snapshot);
                self.dial(cx, false)
            }
            (State::Inspecting(_) | State::Dialing(_), Input::Kill(cause)) => Some(self.give_up(cause, cx)),
            (State::Relaying(_, pace), Input::News(News::Dry { dir, owed })) => {
                if !mutant!(DryForgotten) {
                    let rates = cx.snapshot.listener(self.listener).rates;
                    pace.ask(dir, owed, rates[dir.index()], cx.now);
                }
                None
            }
            (State::Relaying(..), Input::News(News::Spoke(side))) => {
                self.spoke(side, cx);
                None
            }
            (State::Relaying(_, pace), Input::Deadline(_)) if pace.next().is_some_and(|at| at <= cx.now) => {
                let rates = cx.snapshot.listener(self.listener).rates;
                pace.grant(rates, cx.now).map(|(dir, bytes)| Order::Grant { dir, bytes })
            }
            (State::Relaying(watch, _), Input::Deadline(Some(sight))) => {
                let limits = Limits::new(self.listener, self.server, cx.snapshot);
                let lives_until = lives_until(self.id, self.began, cx.snapshot.listener(self.listener));
                let end = watch.look(cx.now, sight, limits, least(self.leave, lives_until));
                if end == Some(End::Drained) {
                    self.asked.get_or_insert(Cause::MaxLifetime);
                }
                self.count_bytes(sight.progress.moved, cx.snapshot);
                end.map(Order::Stop)
            }
            (state, Input::Leave(_, at)) => {
                self.leave = least(self.leave, Some(at));
                if let State::Relaying(watch, _) = state {
                    watch.look_by(at.max(cx.now));
                }
                None
            }
            (State::Relaying(..), Input::Kill(_)) => Some(Order::Stop(End::Killed)),
            (State::Relaying(..), Input::Ended { end, moved, unsent }) => {
                Some(self.ended(end, moved, unsent, cx))
            }
            (State::Closing(closing), Input::Deadline(_)) => Some(closing.close(cx.now)),
            (State::Closing(_), Input::Kill(_)) => Some(Order::Reset { spare: None }),
            _ => None,
        }
    }

    /// When it wants an [`Input::Deadline`]; `None` is never.
    #[must_use]
    pub fn deadline(&self) -> Option<Tick> {
        match &self.state {
            State::Inspecting(inspector) => inspector.ends,
            State::Dialing(dial) => dial.deadline(),
            State::Relaying(watch, pace) => least(watch.next, pace.next()),
            State::Closing(closing) => closing.spare.as_ref().map(|spare| spare.look),
        }
    }

    /// The server that is tried, or that it was relayed to.
    #[must_use]
    pub fn server(&self) -> Option<ServerId> {
        self.server
    }

    /// The listener that accepted it.
    #[must_use]
    pub fn listener(&self) -> ListenerId {
        self.listener
    }

    /// Where its servers are.
    #[must_use]
    pub fn pool(&self, snapshot: &Snapshot) -> PoolId {
        let by_route = self.heard.as_ref().and_then(|heard| heard.pool);
        by_route.unwrap_or_else(|| snapshot.listener(self.listener).leads.own.pool)
    }

    /// What its client has said first, or a proxy in front of it, and where that leads.
    #[must_use]
    pub fn heard(&self) -> Option<&Arc<Heard>> {
        self.heard.as_ref()
    }

    fn timeouts<'a>(&self, snapshot: &'a Snapshot) -> &'a crate::config::Timeouts {
        snapshot.listener(self.listener).timeouts_to(self.pool(snapshot))
    }

    /// Its number: no other connection of the process has it.
    #[must_use]
    pub fn id(&self) -> u64 {
        self.id
    }

    /// The client's address, which a proxy in front may have told; none for a client of a unix socket.
    #[must_use]
    pub fn client(&self) -> Option<SocketAddr> {
        self.client
    }

    /// When it was accepted.
    #[must_use]
    pub fn began(&self) -> Tick {
        self.began
    }

    /// What it is doing.
    #[must_use]
    pub fn doing(&self) -> Doing {
        match &self.state {
            State::Inspecting(_) => Doing::Inspecting,
            State::Dialing(dial) if dial.is_queued() => Doing::Queued,
            State::Dialing(_) => Doing::Connecting,
            State::Relaying(..) => Doing::Relaying,
            State::Closing(_) => Doing::Closing,
        }
    }

    /// Bytes that were moved, as of when it was last looked at.
    #[must_use]
    pub fn moved(&self) -> [u64; 2] {
        self.counted_bytes
    }

    /// Attempts to reach a server.
    #[must_use]
    pub fn tries(&self) -> u8 {
        self.tries
    }

    /// Whether not all of them were to the same one.
    #[must_use]
    pub fn redispatched(&self) -> bool {
        self.redispatched
    }

    /// From accept to the server's connection.
    #[must_use]
    pub fn connect_ms(&self) -> Option<u32> {
        self.connect_ms
    }

    /// How long it has waited for a server that has room.
    #[must_use]
    pub fn queue_ms(&self) -> u32 {
        self.queue_ms
    }

    /// Its place in a queue, if it waits there.
    #[must_use]
    pub fn place(&self) -> Option<Place> {
        let is_queued = matches!(&self.state, State::Dialing(dial) if dial.is_queued());
        is_queued.then_some(Place { pool: self.queue_of, since: self.tried_at })
    }

    /// The server that counts it.
    #[must_use]
    pub fn counted_by(&self) -> Option<ServerId> {
        self.server.filter(|_| self.counted)
    }

    /// Since when no progress of its relay was seen.
    #[must_use]
    pub fn quiet_since(&self) -> Option<Tick> {
        match &self.state {
            State::Relaying(watch, _) => Some(watch.since()),
            _ => None,
        }
    }

    /// Takes note of how far its relay has come.
    pub fn see(&mut self, now: Tick, progress: Progress) {
        if let State::Relaying(watch, _) = &mut self.state {
            watch.see(now, progress);
        }
    }

    /// The limits of a relay have changed: look at it by then.
    pub fn look_by(&mut self, at: Tick) {
        if let State::Relaying(watch, _) = &mut self.state {
            watch.look_by(at);
        }
    }

    /// Counts the bytes that were moved since the last time.
    pub fn count_bytes(&mut self, moved: [u64; 2], snapshot: &Snapshot) {
        let listener = &snapshot.listener(self.listener).tally;
        let server = self.server.map(|server| &snapshot.server(server).tally);
        for dir in Dir::BOTH.map(Dir::index) {
            let more = moved[dir].saturating_sub(self.counted_bytes[dir]);
            if more > 0 {
                self.counted_bytes[dir] += more;
                listener.bytes[dir].add(more);
                server.inspect(|server| server.bytes[dir].add(more));
            }
        }
    }

    /// Counts what the system told of the client's path and the server's since the last time.
    pub fn count_paths(&mut self, paths: [Option<Path>; 2], snapshot: &Snapshot) {
        let client = &snapshot.listener(self.listener).tally.paths;
        let server = self.server.map(|server| &snapshot.server(server).tally.paths);
        for (side, tally) in [Some(client), server].into_iter().enumerate() {
            let (Some(tally), Some(path)) = (tally, paths[side]) else { continue };
            if path.rtt_us > 0 {
                tally.add_rtt(path.rtt_us);
            }
            let counted = &mut self.counted_paths[side];
            let seen = [path.retransmits, path.sent];
            tally.retransmits.add(seen[0].saturating_sub(counted[0]).into());
            tally.segments.add(seen[1].saturating_sub(counted[1]).into());
            *counted = seen;
        }
    }

    /// What there is to tell of it, now that its server is reached.
    #[must_use]
    pub fn opened(&self, worker: u16, now: Tick) -> Record {
        Record { event: Event::Open, cause: None, ..self.record(worker, now) }
    }

    /// What there is to tell of it, now that its sockets are closed.
    #[must_use]
    pub fn record(&self, worker: u16, now: Tick) -> Record {
        let (cause, moved) = match &self.state {
            State::Closing(closing) => (closing.cause, closing.moved),
            State::Inspecting(_) | State::Dialing(_) | State::Relaying(..) => (Cause::Drain, [0; 2]),
        };
        Record {
            event: Event::Close,
            id: self.id,
            worker,
            listener: self.listener,
            server: self.server,
            client: self.client,
            heard: self.heard.clone(),
            probes: self.probes,
            tries: self.tries,
            redispatched: self.redispatched,
            connect_ms: self.connect_ms,
            queue_ms: self.queue_ms,
            began: self.began,
            ended: now,
            bytes_in: moved[Dir::Up.index()],
            bytes_out: moved[Dir::Down.index()],
            cause: Some(cause),
            paths: [None; 2],
        }
    }

    fn dial_failed(&mut self, fault: Fault, cx: Context<'_>) -> Option<Order> {
        let (State::Dialing(dial), Some(server)) = (&mut self.state, self.server) else { return None };
        // The engine goes on with an attempt that took too long while the next one has to wait. If it
        // connects, good; if it fails, that was counted already.
        if !dial.is_attempting() {
            return None;
        }
        dial.failed(server, fault, cx.snapshot, cx.now);
        let server = cx.snapshot.server(server);
        server.tally.attempts[Attempt::from(Err(fault)) as usize].add(1);
        if fault.is_of_server() {
            if let Some(latency) = &server.latency {
                latency.failed(cx.now, cx.now.since(self.tried_at));
            }
            let failures = server.tally.failures.failed();
            if server.max_fails > 0 && failures >= server.max_fails {
                cx.snapshot.alarm.ring();
            }
        }
        self.uncount(cx.snapshot);
        self.dial(cx, false)
    }

    /// An attempt, a wait for the next one, or one in a queue has had its time.
    fn dial_due(&mut self, cx: Context<'_>) -> Option<Order> {
        let State::Dialing(dial) = &self.state else { return None };
        if dial.is_attempting() {
            return self.dial_timed_out(cx);
        }
        if dial.is_queued() {
            return Some(self.give_up(Cause::QueueTimeout, cx));
        }
        self.uncount(cx.snapshot);
        self.dial(cx, false)
    }

    fn dial_timed_out(&mut self, cx: Context<'_>) -> Option<Order> {
        let order = self.dial_failed(Fault::TimedOut, cx);
        if let (None, Some(server)) = (order, self.server) {
            // The engine goes on with it until the next one begins.
            self.counted = cx.snapshot.server(server).connections.take();
        }
        order
    }

    fn dial(&mut self, cx: Context<'_>, is_first: bool) -> Option<Order> {
        let name = self.heard.as_ref().and_then(|heard| heard.name);
        let wish = Wish {
            id: self.id,
            client: Client { address: self.client.map(|client| client.ip()), name },
            pool: self.pool(cx.snapshot),
            last: self.server,
            queue: self.timeouts(cx.snapshot).queue,
            is_first,
        };
        let State::Dialing(dial) = &mut self.state else { return None };
        let was_queued = dial.is_queued();
        let next = dial.next(wish, cx.snapshot, cx.now);
        self.tries = dial.attempts();
        if was_queued && (next == Next::Queue || !dial.is_queued()) {
            self.left_queue(cx);
            cx.snapshot.pool(self.queue_of).queue.waits.add(self.queue_ms.into());
        }
        match next {
            Next::Dial(server, from) => {
                if let Some(before) = self.server.filter(|before| *before != server) {
                    cx.snapshot.server(before).tally.redispatched.add(1);
                    self.redispatched = true;
                    self.stay();
                }
                self.tried_at = cx.now;
                (self.server, self.counted) = (Some(server), true);
                Some(Order::Dial { to: server, from })
            }
            Next::Wait => None,
            Next::Queue => {
                (self.queue_of, self.tried_at) = (wish.pool, cx.now);
                Some(Order::Queue)
            }
            Next::GiveUp(cause) => Some(self.give_up(cause, cx)),
        }
    }

    /// It waits in no queue any more, if it did.
    fn leave_queue(&mut self, cx: Context<'_>) {
        if let State::Dialing(dial) = &mut self.state
            && dial.is_queued()
        {
            dial.leave_queue(cx.now);
            self.left_queue(cx);
        }
    }

    fn left_queue(&mut self, cx: Context<'_>) {
        cx.snapshot.pool(self.queue_of).queue.leave();
        let waited = u32::try_from(millis(cx.now.since(self.tried_at))).unwrap_or(u32::MAX);
        self.queue_ms = self.queue_ms.saturating_add(waited);
    }

    /// A reason to leave that was the last server's holds no more.
    fn stay(&mut self) {
        if self.asked.is_some_and(Cause::is_of_server) {
            self.asked = None;
            self.leave = None;
        }
    }

    /// Its server counts it no longer: an attempt failed, or the sockets are closed.
    pub fn uncount(&mut self, snapshot: &Snapshot) {
        if let (true, Some(server)) = (std::mem::take(&mut self.counted), self.server) {
            snapshot.server(server).connections.give();
        }
    }

    fn connected(&mut self, cx: Context<'_>) -> Option<Order> {
        if let (false, Some(server)) = (self.counted, self.server) {
            // It was given up, and its place has become somebody else's: the next attempt lets go of it.
            if !cx.snapshot.server(server).connections.take() {
                return None;
            }
            self.counted = true;
        }
        self.connect_ms = u32::try_from(millis(cx.now.since(self.began))).ok();
        let mut awaited = false;
        if let Some(server) = self.server {
            let server = cx.snapshot.server(server);
            let took = cx.now.since(self.tried_at);
            server.tally.attempts[Attempt::Ok as usize].add(1);
            server.tally.failures.succeeded();
            server.tally.connect.add(millis(took));
            if let Some(latency) = &server.latency {
                latency.connect.saw(cx.now, took);
                (self.tried_at, awaited) = (cx.now, true);
            }
        }
        let mut watch = Watch::new(cx.now, Limits::new(self.listener, self.server, cx.snapshot));
        if self.asked.is_some_and(Cause::is_of_server) {
            // An attempt that was given up has reached that server after all.
            self.leave.get_or_insert(cx.now);
        }
        let lives_until = lives_until(self.id, self.began, cx.snapshot.listener(self.listener));
        if let Some(leave) = least(self.leave, lives_until) {
            watch.look_by(leave.max(cx.now));
        }
        self.state = State::Relaying(watch, Pace::new(cx.now));
        let rates = cx.snapshot.listener(self.listener).rates;
        Some(Order::Relay { limited: rates.map(|rate| rate.is_some()), awaited })
    }

    fn give_up(&mut self, cause: Cause, cx: Context<'_>) -> Order {
        self.leave_queue(cx);
        match cx.snapshot.listener(self.listener).when_no_upstream {
            WhenNoUpstream::Close if cause.is_want_of_server() => self.dismiss(cause, cx),
            _ => {
                self.state = State::Closing(Closing { cause, moved: [0; 2], spare: None });
                Order::Reset { spare: None }
            }
        }
    }

    fn ended(&mut self, end: End, moved: [u64; 2], unsent: bool, cx: Context<'_>) -> Order {
        self.count_bytes(moved, cx.snapshot);
        if self.unanswered {
            self.ended_unanswered(end, cx);
        }
        let (cause, spare) = match end {
            End::Clean => (Cause::Done, None),
            End::Reset { by, fault } => {
                let by_fin = !self.resets_on_error(by.other(), cx.snapshot);
                let half_close = self.timeouts(cx.snapshot).half_close();
                let spare = (!unsent).then(|| Spare::new(by.other(), by_fin, half_close, cx));
                (failure(by, fault), spare)
            }
            End::Idle => (Cause::IdleTimeout, None),
            End::HalfIdle { waiting_for: Side::Server } => (Cause::HalfCloseServer, None),
            End::HalfIdle { waiting_for: Side::Client } => (Cause::HalfCloseClient, None),
            End::Drained | End::Killed => (self.asked.unwrap_or(Cause::Drain), None),
        };
        let order = match end {
            // A peer that has not taken what is held has had `half_close` for it.
            End::Reset { .. } => spare.as_ref().map_or(Order::Reset { spare: None }, Spare::order),
            // A part must not be taken for the whole.
            End::Idle | End::HalfIdle { .. } if unsent => Order::Reset { spare: None },
            End::Killed => Order::Reset { spare: None },
            End::Clean | End::Idle | End::HalfIdle { .. } | End::Drained => Order::Close,
        };
        self.state = State::Closing(Closing { cause, moved, spare });
        order
    }

    /// Whether that peer is to see a reset when the other one has failed.
    fn resets_on_error(&self, peer: Side, snapshot: &Snapshot) -> bool {
        match (peer, self.server) {
            (Side::Server, Some(server)) => snapshot.pool(snapshot.server(server).pool).tcp.rst_on_error,
            _ => snapshot.listener(self.listener).rst_on_error,
        }
    }
}

/// When the connection with this number has been there for as long as it may; `None` is never. That many which began
/// together do not end together, each has a share of its own of the jitter.
fn lives_until(id: u64, began: Tick, listener: &Listener) -> Option<Tick> {
    let timeouts = &listener.leads.own.timeouts;
    let limit = timeouts.max_lifetime?;
    let share = f64::from((balance::random(id) >> 32) as u32) / f64::from(u32::MAX);
    Some(began.after(limit.mul_f64(1.0 - timeouts.max_lifetime_jitter * share)))
}

fn failure(by: Side, fault: Fault) -> Cause {
    match (by, fault) {
        (_, Fault::NoFiles | Fault::NoMemory) => Cause::NoResources,
        (Side::Client, Fault::TimedOut | Fault::Unreachable) => Cause::ClientVanished,
        (Side::Server, Fault::TimedOut | Fault::Unreachable) => Cause::ServerVanished,
        (Side::Client, _) => Cause::ClientReset,
        (Side::Server, _) => Cause::ServerReset,
    }
}

impl Closing {
    /// Asks for the same once more; if it has to wait again, longer than before.
    fn close(&mut self, now: Tick) -> Order {
        // Whoever is not spared any more has no deadline either: one in the past would be due for ever.
        self.spare.take_if(|spare| spare.gives_up.is_some_and(|at| at <= now));
        self.spare.as_mut().map_or(Order::Reset { spare: None }, |spare| spare.look_later(now))
    }
}

impl Spare {
    fn new(side: Side, by_fin: bool, half_close: Option<Duration>, cx: Context<'_>) -> Self {
        Self {
            side,
            by_fin,
            look: cx.now.after(UNSENT_WAIT_MIN),
            wait: UNSENT_WAIT_MIN,
            gives_up: half_close.map(|limit| cx.now.after(limit)),
        }
    }

    fn look_later(&mut self, now: Tick) -> Order {
        self.wait = (self.wait * 2).min(UNSENT_WAIT_MAX);
        self.look = now.after(self.wait);
        self.order()
    }

    fn order(&self) -> Order {
        if self.by_fin { Order::Dismiss { peer: self.side } } else { Order::Reset { spare: Some(self.side) } }
    }
}
