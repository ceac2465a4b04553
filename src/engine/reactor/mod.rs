//! Readiness made to look like completion.
//!
//! Events only raise latches; attempts decide. Every wanted operation of a relay is in exactly one of
//! these places, which is why no wake-up can be lost:
//! parked behind a cleared latch, which the kernel raises; in the run queue; on the list of those who wait
//! for a buffer. A selector that has to be asked is asked for exactly what is parked behind a latch.

mod asking;
#[cfg(target_os = "linux")]
mod by_aio;
#[cfg(target_os = "linux")]
mod by_epoll;
mod by_mio;
#[cfg(target_os = "linux")]
mod by_poll;
#[cfg(target_os = "linux")]
mod by_select;
#[cfg(target_os = "linux")]
mod by_sigio;
mod heading;
mod latch;
mod listening;
mod selector;
#[cfg(all(test, target_os = "linux"))]
mod tests;
mod wire;

#[cfg(target_os = "linux")]
pub use by_aio::ByAio;
#[cfg(target_os = "linux")]
pub use by_epoll::ByEpoll;
pub use by_mio::ByMio;
#[cfg(target_os = "linux")]
pub use by_poll::ByPoll;
#[cfg(target_os = "linux")]
pub use by_select::BySelect;
#[cfg(target_os = "linux")]
pub use by_sigio::BySigio;
pub use selector::{Readiness, Report, Selector, Source, Trigger, Want};

use std::collections::VecDeque;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use super::head::Wanted;
use super::pipes::Pipes;
use super::{Engine, Event, Order, Pace, Sight, Slots, drive, leg};
use crate::config::Keepalive;
use crate::path::Path;
use crate::relay::{Dir, End, Fault, Op, Relay, Side};
use crate::snapshot::{ListenerId, ServerId, Snapshot};
use crate::sys::net::Peeked;
use crate::sys::{Net, Os, Pool};
use crate::table::Key;
pub(super) use listening::{Bursts, Listening};
use wire::{Socket, Transit, Wire, Workshop};

/// Reads for one connection in a turn: 2 MiB with the default buffer.
const FILLS_PER_TURN: u32 = 8;

/// What a reactor may use to move bytes.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    /// Bytes that are read at a time, at most.
    pub buffer_size: usize,
    /// Bytes of the buffers of all connections together, at most.
    pub budget: usize,
    /// Pipes to splice through, at most; 0: nothing is spliced.
    pub pipes: usize,
}

/// A readiness engine over any [`Selector`] and any kernel.
#[derive(Debug)]
pub struct Reactor<S, N: Net = Os> {
    selector: S,
    net: N,
    workshop: Workshop<N>,
    /// Where the servers are, and the options of their sockets.
    snapshot: Arc<Snapshot>,
    /// Each at the place that its token names.
    listeners: Vec<Option<Listening<N>>>,
    bursts: Bursts,
    /// Connections that ran out of budget with more to do.
    ready: VecDeque<Key>,
    /// Connections that wait for a buffer.
    starved: Vec<Key>,
    /// Reports of the running turn; kept for its memory only.
    reports: Vec<Readiness>,
}

/// What a reactor keeps for a connection.
#[derive(Debug)]
pub struct Io<N: Net> {
    client: Socket<N::Stream>,
    server: Option<Socket<N::Stream>>,
    transits: [Transit<N::Pipe>; 2],
    phase: Phase,
    /// In the run queue.
    queued: bool,
    /// On the list of those who wait for a buffer.
    starved: bool,
}

impl<N: Net> Io<N> {
    fn stream(&self, side: Side) -> Option<&N::Stream> {
        match side {
            Side::Client => Some(&self.client.stream),
            Side::Server => self.server.as_ref().map(|server| &server.stream),
        }
    }
}

#[derive(Debug)]
enum Phase {
    /// The worker decides what comes next.
    Resting,
    /// The client's first bytes are gathered.
    Heading(Wanted),
    /// The client waits until it is told where to go: it is told of if it leaves.
    Queued,
    /// A connect is on its way.
    Dialing,
    /// A byte of a server that was reached is waited for.
    Hearing,
    /// Bytes are moved.
    Relaying(Relay),
}

impl<S: Selector<N>, N: Net> Reactor<S, N> {
    /// A reactor on the kernel `net` that connects to the servers of `snapshot`, and moves bytes within `bounds`.
    #[must_use]
    pub fn new(selector: S, net: N, snapshot: Arc<Snapshot>, bounds: Bounds) -> Self {
        let Bounds { buffer_size, budget, pipes } = bounds;
        Self {
            selector,
            net,
            workshop: Workshop {
                scratch: vec![0; buffer_size].into_boxed_slice(),
                pool: Pool::new(budget),
                pipes: Pipes::new(pipes, buffer_size),
            },
            snapshot,
            listeners: Vec::new(),
            bursts: Bursts::default(),
            ready: VecDeque::new(),
            starved: Vec::new(),
            reports: Vec::new(),
        }
    }

    /// The buffers.
    #[cfg(feature = "sim")]
    #[must_use]
    pub fn pool(&self) -> &Pool {
        &self.workshop.pool
    }

    /// Pipes that hold bytes of a connection.
    #[cfg(feature = "sim")]
    #[must_use]
    pub fn pipes_out(&self) -> usize {
        self.workshop.pipes.out()
    }

    fn dial(
        &mut self,
        key: Key,
        io: &mut Io<N>,
        (to, from): (ServerId, Option<IpAddr>),
        out: &mut VecDeque<Event<N::Stream>>,
    ) {
        self.abandon(io);
        io.phase = Phase::Resting;
        let (to, leg) = leg(&self.snapshot, to, from);
        let result = self.net.dial(to, leg).and_then(|(stream, connected)| {
            let socket = io.server.insert(Socket::new(stream));
            let token = key.token(Side::Server as usize == 1);
            self.selector.add(Source::Stream(&mut socket.stream), token).map_err(|_| Fault::NoMemory)?;
            Ok(connected)
        });
        match result {
            Ok(true) => out.push_back(Event::Dialed { key, result: Ok(()) }),
            Ok(false) => io.phase = Phase::Dialing,
            Err(fault) => {
                self.abandon(io);
                out.push_back(Event::Dialed { key, result: Err(fault) });
            }
        }
    }

    /// Lets go of a server that was not reached.
    fn abandon(&mut self, io: &mut Io<N>) {
        if let Some(mut server) = io.server.take() {
            self.selector.remove(Source::Stream(&mut server.stream));
        }
    }

    /// Moves bytes of one connection until nothing more can be done, or its budget is spent.
    fn pump(&mut self, key: Key, io: &mut Io<N>, out: &mut VecDeque<Event<N::Stream>>) {
        let Io { client, server: Some(server), transits, phase: Phase::Relaying(relay), queued, starved } =
            io
        else {
            return;
        };
        let before = self.workshop.pool.lent();
        let sockets = [client, server];
        let mut wire = Wire::new::<S>(sockets, transits, &mut self.workshop, &self.net);
        let pace = drive(relay, &mut wire, FILLS_PER_TURN);
        wire.forget_undeliverable(relay);
        let waits = wire.starved;
        out.extend(std::iter::from_fn(|| relay.news()).map(|news| Event::News { key, news }));
        match pace {
            // What it wants is tried again when buffers come back.
            Pace::Quiet if waits && !std::mem::replace(starved, true) => self.starved.push(key),
            Pace::Quiet => {}
            Pace::OutOfBudget => {
                if !mutant!(BudgetForgotten) && !std::mem::replace(queued, true) {
                    self.ready.push_back(key);
                }
            }
            Pace::Ended(end) => self.ended(key, io, end, out),
        }
        let now = self.workshop.pool.lent();
        if now.all < before.all || now.heads < before.heads {
            self.feed();
        }
    }

    /// A relay is over: reports it and gives its memory back.
    fn ended(&mut self, key: Key, io: &mut Io<N>, end: End, out: &mut VecDeque<Event<N::Stream>>) {
        if let Phase::Relaying(relay) = &io.phase {
            let moved = Dir::BOTH.map(|dir| relay.flow(dir).moved());
            // Who waits for a buffer has not read all that there is. A reset tells that by itself.
            let unread = io.starved && !matches!(end, End::Reset { .. }) && !mutant!(StarvedIsIdle);
            out.push_back(Event::Ended { key, end, moved, unsent: relay.is_short() || unread });
        }
        self.rest(io);
    }

    fn rest(&mut self, io: &mut Io<N>) {
        io.phase = Phase::Resting;
        for transit in &mut io.transits {
            transit.clear(&mut self.workshop);
        }
        self.feed();
    }

    /// Lets go of the sockets; they are closed when the worker drops the slot.
    fn release(&mut self, key: Key, io: &mut Io<N>, out: &mut VecDeque<Event<N::Stream>>) {
        self.rest(io);
        self.selector.remove(Source::Stream(&mut io.client.stream));
        if let Some(server) = &mut io.server {
            self.selector.remove(Source::Stream(&mut server.stream));
        }
        out.push_back(Event::Closed { key });
    }

    /// Buffers came back: those who wait for one try again in the next turn.
    fn feed(&mut self) {
        if !mutant!(StarvedNeverFed) {
            self.ready.extend(self.starved.drain(..));
        }
    }

    fn report(
        &mut self,
        report: Readiness,
        slots: &mut impl Slots<Io<N>>,
        out: &mut VecDeque<Event<N::Stream>>,
    ) {
        let (key, is_server) = Key::from_token(report.token);
        if let Some(number) = key.reserved_number() {
            // The one that is no listener is the waker, and being awake is all that it is for.
            if let Some(Some(listening)) = self.listeners.get_mut(number as usize) {
                listening.waiting.raise();
                if S::TRIGGER == Trigger::OneShot {
                    listening.asked = None;
                }
            }
            return;
        }
        // A connection that is gone can still have reports in the batch that ended it.
        let Some(io) = slots.io(key) else { return };
        let side = if is_server { Side::Server } else { Side::Client };
        let socket = match side {
            Side::Client => &mut io.client,
            Side::Server => match &mut io.server {
                Some(server) => server,
                None => return,
            },
        };
        if report.read {
            socket.read.raise();
        }
        if report.write {
            socket.write.raise();
        }
        socket.plain &= !report.special;
        socket.error |= report.error;
        if S::TRIGGER == Trigger::OneShot {
            socket.asked = None;
        }
        match &mut io.phase {
            Phase::Heading(_) if mutant!(HeadNotReadOn) => {}
            Phase::Heading(_) => self.gather(key, io, out),
            Phase::Hearing => self.hear(key, io, out),
            Phase::Queued => Self::look_whether_left(key, io, out),
            Phase::Resting | Phase::Dialing => self.report_dialing(key, io, side, report.error, out),
            Phase::Relaying(_) => {
                resume(io);
                self.pump(key, io, out);
                if mutant!(HangUpEndsBoth)
                    && report.special
                    && let Phase::Relaying(relay) = &mut io.phase
                {
                    relay.stop(End::Clean);
                    self.pump(key, io, out);
                }
                self.report_error(key, io, side, out);
            }
        }
        self.ask(key, io, out);
    }

    /// Before and between attempts, too: a client that has gone needs no further one.
    fn report_dialing(
        &mut self,
        key: Key,
        io: &mut Io<N>,
        side: Side,
        error: bool,
        out: &mut VecDeque<Event<N::Stream>>,
    ) {
        let is_dialing = matches!(io.phase, Phase::Dialing);
        match (side, &io.server) {
            (Side::Server, Some(server)) if is_dialing => {
                let result = N::dialed(&server.stream);
                if matches!(result, Ok(false)) && !mutant!(ConnectBelieved) {
                    return;
                }
                io.phase = Phase::Resting;
                if result.is_err() {
                    self.abandon(io);
                }
                out.push_back(Event::Dialed { key, result: result.map(drop) });
            }
            // Asking takes the error away, and what is read next is a 0: once a server is reached, the relay
            // must find the error itself, or it would take that for a FIN.
            (Side::Client, server)
                if error
                    && (is_dialing || server.is_none())
                    && io.transits[0].store.tail().is_empty()
                    && N::failure_before_relay(&io.client.stream).is_some() =>
            {
                io.phase = Phase::Resting;
                out.push_back(Event::ClientLeft { key });
            }
            _ => {}
        }
    }

    /// Whoever has sent bytes has a claim to an answer, although it may have closed then; but not if it has failed.
    fn look_whether_left(key: Key, io: &mut Io<N>, out: &mut VecDeque<Event<N::Stream>>) {
        let client = &mut io.client;
        let has_failed = client.take_failure::<N>().is_some();
        let has_sent = !io.transits[0].store.tail().is_empty();
        let has_left = has_failed
            || !has_sent
                && client.read.is_ready()
                && match N::peek(&client.stream) {
                    Peeked::Nothing(proof) => {
                        client.read.clear(proof);
                        false
                    }
                    Peeked::Bytes => false,
                    Peeked::End => true,
                };
        if has_left {
            io.phase = Phase::Resting;
            out.push_back(Event::ClientLeft { key });
        }
    }

    /// A failed socket whose bytes nobody waits for, because its target is slow, would not be noticed
    /// before the target is served: asks for its error, so that the end comes within `half_close`.
    fn report_error(&mut self, key: Key, io: &mut Io<N>, side: Side, out: &mut VecDeque<Event<N::Stream>>) {
        let Io { client, server: Some(server), phase: Phase::Relaying(relay), .. } = io else { return };
        let socket = if side == Side::Client { client } else { server };
        let reported = std::mem::take(&mut socket.error) && !mutant!(ErrorNotAsked);
        if !reported || relay.broken().is_some() {
            return;
        }
        if let Some(fault) = N::pending_error(&socket.stream) {
            relay.fail(side, fault);
            self.pump(key, io, out);
        }
    }

    /// A peer has vanished: what has arrived of it is still delivered, and nothing more is expected.
    fn give_up(
        &mut self,
        key: Key,
        io: &mut Io<N>,
        side: Side,
        fault: Fault,
        out: &mut VecDeque<Event<N::Stream>>,
    ) {
        let Io { client, server: Some(server), phase: Phase::Relaying(relay), .. } = io else { return };
        let socket = if side == Side::Client { client } else { server };
        N::expect_no_more(&socket.stream);
        socket.read.raise();
        relay.resume(side.outbound(), Op::Fill);
        relay.fail(side, fault);
        self.pump(key, io, out);
    }

    fn has_work(&self) -> bool {
        !self.ready.is_empty() || self.listeners.iter().flatten().any(Listening::has_work)
    }
}

/// A place for one more, which is empty.
pub(super) fn vacant<T>(places: &mut Vec<Option<T>>) -> usize {
    places.iter().position(Option::is_none).unwrap_or_else(|| {
        places.push(None);
        places.len() - 1
    })
}

/// Takes those out that `which` names, and leaves their places empty.
pub(super) fn take<T>(places: &mut [Option<T>], which: impl Fn(&T) -> bool) -> Vec<T> {
    places.iter_mut().filter_map(|place| place.take_if(|one| which(one))).collect()
}

/// Offers every parked operation again whose latch is ready.
fn resume<N: Net>(io: &mut Io<N>) {
    let Io { client, server: Some(server), phase: Phase::Relaying(relay), .. } = io else { return };
    let sockets = [&*client, &*server];
    for dir in Dir::BOTH {
        if sockets[dir.source() as usize].read.is_ready() {
            relay.resume(dir, Op::Fill);
        }
        if sockets[dir.target() as usize].write.is_ready() {
            relay.resume(dir, Op::Drain);
        }
    }
}

impl<S: Selector<N>, N: Net> Engine for Reactor<S, N> {
    type Socket = N::Stream;
    type Listener = N::Listener;
    type Io = Io<N>;

    fn listen(&mut self, id: ListenerId, mut socket: N::Listener) -> io::Result<()> {
        let place = vacant(&mut self.listeners);
        let number = u32::try_from(place).expect("far fewer listening sockets");
        self.selector.add(Source::Listener(&mut socket), Key::reserved(number).token(false))?;
        self.listeners[place] = Some(Listening::new(id, socket));
        Ok(())
    }

    fn pause(&mut self, id: ListenerId, paused: bool) {
        for listening in self.listeners.iter_mut().flatten() {
            listening.pause(id, paused);
        }
    }

    fn unlisten(
        &mut self,
        id: ListenerId,
        which: &dyn Fn(&N::Listener) -> bool,
        _: &mut VecDeque<Event<N::Stream>>,
    ) -> Vec<N::Listener> {
        let taken = take(&mut self.listeners, |listening| listening.id == id && which(&listening.socket));
        let given = taken.into_iter().map(|mut listening| {
            self.selector.remove(Source::Listener(&mut listening.socket));
            listening.socket
        });
        given.collect()
    }

    fn close_listeners(
        &mut self,
        which: &dyn Fn(ListenerId, &N::Listener) -> bool,
        most: usize,
        out: &mut VecDeque<Event<N::Stream>>,
    ) {
        let mut left = most;
        for mut listening in take(&mut self.listeners, |one| which(one.id, &one.socket)) {
            left -= listening.accept_all(left, out);
            self.selector.remove(Source::Listener(&mut listening.socket));
        }
    }

    fn adopt(&mut self, snapshot: Arc<Snapshot>) {
        if let Some(share) = snapshot.buffer_share {
            self.workshop.pool.set_limit(share);
            self.feed();
        }
        self.snapshot = snapshot;
    }

    fn open(&mut self, key: Key, client: N::Stream, probes: Option<Keepalive>) -> io::Result<Io<N>> {
        N::scatter_probes(&client, probes);
        let mut client = Socket::new(client);
        let token = key.token(Side::Client as usize == 1);
        let added = self.selector.add(Source::Stream(&mut client.stream), token);
        added.inspect_err(|_| N::reset_on_close(&client.stream))?;
        Ok(Io {
            client,
            server: None,
            transits: Default::default(),
            phase: Phase::Resting,
            queued: false,
            starved: false,
        })
    }

    fn reject(&mut self, client: N::Stream) {
        N::reset_on_close(&client);
    }

    fn order(&mut self, key: Key, io: &mut Io<N>, order: Order, out: &mut VecDeque<Event<N::Stream>>) {
        match order {
            Order::Dial { to, from } => self.dial(key, io, (to, from), out),
            Order::Queue => {
                self.abandon(io);
                io.phase = Phase::Queued;
                Self::look_whether_left(key, io, out);
            }
            Order::ReadHead { more_than, max } => {
                io.phase = Phase::Heading(Wanted { more_than, max });
                self.gather(key, io, out);
            }
            Order::Hear => {
                io.phase = Phase::Hearing;
                self.hear(key, io, out);
            }
            Order::Relay { limited, awaited } => {
                if mutant!(HeadForgotten) {
                    io.transits[0].clear(&mut self.workshop);
                }
                let room = u32::try_from(self.workshop.scratch.len()).expect("configuration limits it");
                let head = io.transits[0].store.tail().len();
                let relay = Relay::new(room).limited(limited).awaiting(awaited).preloaded(head);
                io.phase = Phase::Relaying(relay);
                self.pump(key, io, out);
                // What was reported before had to wait for this.
                for side in [Side::Client, Side::Server] {
                    self.report_error(key, io, side, out);
                }
            }
            Order::Grant { dir, bytes } => {
                if let Phase::Relaying(relay) = &mut io.phase {
                    relay.grant(dir, bytes);
                    self.pump(key, io, out);
                }
            }
            Order::Stop(End::Reset { by, fault }) => self.give_up(key, io, by, fault, out),
            Order::Stop(why) => {
                if let Phase::Relaying(relay) = &mut io.phase {
                    relay.stop(why);
                    self.pump(key, io, out);
                }
            }
            Order::Close => return self.release(key, io, out),
            Order::Dismiss { peer } => {
                io.stream(peer).inspect(|stream| N::discard(stream));
                if io.stream(peer).is_some_and(N::is_delivering) {
                    return;
                }
                io.stream(peer.other()).inspect(|stream| N::reset_on_close(stream));
                return self.release(key, io, out);
            }
            Order::Reset { spare } => {
                let spared = spare.and_then(|side| io.stream(side));
                if !mutant!(DeliveryCutByReset) && spared.is_some_and(N::is_delivering) {
                    return;
                }
                for socket in std::iter::once(&io.client).chain(&io.server) {
                    N::reset_on_close(&socket.stream);
                }
                return self.release(key, io, out);
            }
        }
        self.ask(key, io, out);
    }

    fn turn(
        &mut self,
        slots: &mut impl Slots<Io<N>>,
        wait: Option<Duration>,
        out: &mut VecDeque<Event<N::Stream>>,
    ) -> io::Result<()> {
        self.ask_listeners(out);
        let wait = if self.has_work() { Some(Duration::ZERO) } else { wait };
        let mut reports = std::mem::take(&mut self.reports);
        if self.selector.select(wait, &mut reports)? == Report::Lossy && !mutant!(LossBelieved) {
            self.suspect_all(slots, &mut reports);
        }
        for report in reports.drain(..) {
            self.report(report, slots, out);
        }
        self.reports = reports;
        for _ in 0..self.ready.len() {
            let Some(key) = self.ready.pop_front() else { break };
            // A key can be there twice, out of budget and fed; the second finds that it was served.
            if let Some(io) = slots.io(key).filter(|io| io.queued || io.starved) {
                (io.queued, io.starved) = (false, false);
                resume(io);
                self.pump(key, io, out);
                self.gather(key, io, out);
                self.ask(key, io, out);
            }
        }
        self.bursts.accept(&mut self.listeners, &self.snapshot, out);
        Ok(())
    }

    fn head<'a>(&self, io: &'a Io<N>) -> &'a [u8] {
        io.transits[0].store.tail()
    }

    fn skip(&mut self, io: &mut Io<N>, count: usize) {
        self.forget(io, count);
    }

    fn say(&mut self, io: &mut Io<N>, to: Side, bytes: &[u8], follows: bool) -> Result<(), Fault> {
        let is_server = to == Side::Server;
        let Some(stream) = io.stream(to) else { return Err(Fault::Closed) };
        let said = N::send_first(stream, bytes, follows);
        said.inspect_err(|_| {
            if is_server {
                self.abandon(io);
            }
        })
    }

    fn local(&self, io: &Io<N>) -> Option<SocketAddr> {
        N::local(&io.client.stream)
    }

    fn look(&self, io: &Io<N>) -> Option<Sight> {
        let Io { client, server: Some(server), phase: Phase::Relaying(relay), .. } = io else { return None };
        let sides = [(Side::Client, client), (Side::Server, server)];
        let silent = sides.into_iter().filter_map(|(side, socket)| Some((side, N::silence(&socket.stream)?)));
        Some(Sight {
            progress: relay.progress(),
            last: relay.last(),
            held: relay.holds_bytes() || relay.is_dry() || io.starved,
            silence: silent.max_by_key(|(_, silence)| *silence),
        })
    }

    fn paths(&self, io: &Io<N>) -> [Option<Path>; 2] {
        [Side::Client, Side::Server].map(|side| N::path(io.stream(side)?))
    }
}
