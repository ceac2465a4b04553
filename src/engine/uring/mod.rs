//! Completion: the kernel is told what is to be done, and says when it is. io_uring, see io_uring(7).
//!
//! A relay's operation is parked from when it is begun until the ring answers. What the kernel may touch
//! meanwhile belongs to a flight. Every wanted operation of a relay is in exactly one of these places: under
//! way; on the list of those whose relay is to be driven; on the list of those who wait for a buffer.
//!
//! A read fills buffers that the kernel picks from a ring of the worker's, so that a connection at rest holds
//! none; a write sends them on as they are. Only what a slow target leaves is copied to buffers of its own, and
//! then no more is read: this is the back-pressure.

mod conn;
mod flight;
mod heading;
mod kernel;
mod provided;
mod ring;
mod turn;

pub use conn::Io;
pub use flight::{Chunk, Id, Parcel};
pub use kernel::Kernel;
pub use ring::{Answer, Completion, Ring};

use std::collections::VecDeque;
use std::io;
use std::mem;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use super::head::Wanted;
use super::reactor::{take, vacant};
use super::{Bounds, Engine, Event, Order, Pace, Sight, Slots, drive, leg};
use crate::config::{self, Address, Keepalive};
use crate::path::Path;
use crate::relay::{Dir, End, Fault, Output, Relay, Side};
use crate::snapshot::{ListenerId, ServerId, Snapshot};
use crate::sys::net::{Accepted, Peeked};
use crate::sys::{Lease, Net};
use crate::table::Key;
use conn::{Lane, Phase, Receive, Watch, Wire, Works};
use flight::{Owner, Part, Payload};

/// A completed write that finds more to write goes on so often before others have their turn.
const FILLS_PER_TURN: u32 = 8;
/// Connections that died in a backlog and are met at a time.
const GONE_MAX: usize = 64;

/// The sockets of a ring.
type StreamOf<R> = <<R as Ring>::Net as Net>::Stream;

/// The completion engine over the kernel's ring, or any other.
#[derive(Debug)]
pub struct Uring<R: Ring = Kernel> {
    works: Works<R>,
    net: R::Net,
    /// Where the servers are, and the options of their sockets.
    snapshot: Arc<Snapshot>,
    /// Each at the place that its accepts name.
    listeners: Vec<Option<Listening<R>>>,
    /// Connections whose relay is to be driven.
    dirty: Vec<Key>,
    /// Connections that wait for a buffer, the longest first.
    starved: VecDeque<(Key, Dir)>,
    /// Connections whose heads wait for a buffer of the pool.
    starved_heads: Vec<Key>,
    /// Connections with a socket that nobody reads: since this turn, and since the one before. Most of them are
    /// gone or read again by the next, the others are watched then.
    doubtful: [Vec<Key>; 2],
    /// Completions that came while something else was waited for.
    early: Vec<Completion<StreamOf<R>>>,
}

/// One listening socket.
#[derive(Debug)]
struct Listening<R: Ring> {
    id: ListenerId,
    socket: <R::Net as Net>::Listener,
    accept: Option<Accept>,
    paused: bool,
}

/// An accept under way.
#[derive(Clone, Copy, Debug)]
struct Accept {
    id: Id,
    /// It takes client after client.
    many: bool,
    cancelled: bool,
}

/// The ring's own buffers are a part of the budget; one read, and one head, fit beside them, however small it is.
fn beside_ring(budget: usize, ring: usize, read: usize, snapshot: &Snapshot) -> usize {
    let hellos = snapshot.listeners.iter().filter_map(|listener| listener.reads_hello);
    let head = config::head_share(hellos.map(|reads| reads.most).max().unwrap_or_default().into());
    budget.saturating_sub(ring).max(read).max(usize::try_from(head).unwrap_or(usize::MAX))
}

impl<R: Ring> Uring<R> {
    /// An engine on `ring` that connects to the servers of `snapshot`.
    #[must_use]
    pub fn new(ring: R, net: R::Net, snapshot: Arc<Snapshot>, bounds: Bounds, multishot: bool) -> Self {
        let Bounds { buffer_size, budget, .. } = bounds;
        let budget = beside_ring(budget, ring.spare() * ring.buffer_size() as usize, buffer_size, &snapshot);
        let read_size = u32::try_from(buffer_size).expect("configuration limits it");
        Self {
            works: Works::new(ring, budget, read_size, multishot),
            net,
            snapshot,
            listeners: Vec::new(),
            dirty: Vec::new(),
            starved: VecDeque::new(),
            starved_heads: Vec::new(),
            doubtful: [Vec::new(), Vec::new()],
            early: Vec::new(),
        }
    }

    /// The ring.
    #[cfg(feature = "sim")]
    #[must_use]
    pub fn ring(&self) -> &R {
        &self.works.ring
    }

    /// The buffers beside the ring's.
    #[cfg(feature = "sim")]
    #[must_use]
    pub fn pool(&self) -> &crate::sys::Pool {
        &self.works.pool
    }

    /// Has the client wait. Whoever has sent bytes has a claim to an answer, although it may have closed then; but not if it has
    /// failed.
    pub(super) fn queue(&mut self, key: Key, io: &mut Io<R::Net>, out: &mut VecDeque<Event<StreamOf<R>>>) {
        self.abandon(io);
        io.server = None;
        io.phase = Phase::Resting;
        let seen = if io.head.is_some() { Peeked::Bytes } else { R::Net::peek(&io.client) };
        match seen {
            Peeked::Nothing(_) => {
                io.phase = Phase::Queued;
                self.await_input(key, io);
            }
            Peeked::Bytes => {
                io.phase = Phase::Queued;
                self.doubt(key, io);
                self.look_for_failure(key, io, out);
            }
            Peeked::End => out.push_back(Event::ClientLeft { key }),
        }
    }

    /// Is told once when the client has sent something, or has ended.
    fn await_input(&mut self, key: Key, io: &mut Io<R::Net>) {
        if io.patience.is_none() {
            let owner = Owner::Connection(key, Part::Patience);
            let id = self.works.flights.insert(owner, Payload::Nothing);
            self.works.ring.await_input(&io.client, id);
            io.patience = Some(id);
            io.flying += 1;
        }
    }

    fn dial(
        &mut self,
        key: Key,
        io: &mut Io<R::Net>,
        to: (ServerId, Option<IpAddr>),
        out: &mut VecDeque<Event<StreamOf<R>>>,
    ) {
        self.abandon(io);
        self.end_patience(io);
        match self.connect(key, io, to) {
            Ok(true) => out.push_back(Event::Dialed { key, result: Ok(()) }),
            Ok(false) => self.doubt(key, io),
            Err(fault) => out.push_back(Event::Dialed { key, result: Err(fault) }),
        }
    }

    /// It is not told of any more if the client leaves.
    fn end_patience(&mut self, io: &Io<R::Net>) {
        if let Some(id) = io.patience {
            self.works.ring.cancel(id);
        }
    }

    /// Begins to connect; `true` when it is done already.
    fn connect(
        &mut self,
        key: Key,
        io: &mut Io<R::Net>,
        (to, from): (ServerId, Option<IpAddr>),
    ) -> Result<bool, Fault> {
        let (to, leg) = leg(&self.snapshot, to, from);
        match to {
            Address::Ip(to) => {
                let stream = io.server.insert(self.net.socket(*to, leg)?);
                #[cfg(feature = "sim")]
                self.works.ring.introduce(&io.client, Some(stream));
                let address = Box::new(socket2::SockAddr::from(*to));
                let owner = Owner::Connection(key, Part::Connect);
                let id = self.works.flights.insert(owner, Payload::Nothing);
                self.works.ring.connect(stream, &address, id);
                let flight = self.works.flights.get_mut(id).expect("it was put there just now");
                flight.payload = Payload::Address(address);
                io.flying += 1;
                io.phase = Phase::Dialing(id);
                Ok(false)
            }
            // A unix socket is connected at once or not at all.
            Address::Unix(_) | Address::Abstract(_) | Address::Handed(_) => {
                let (stream, connected) = self.net.dial(to, leg)?;
                io.server = Some(stream);
                Ok(connected)
            }
        }
    }

    /// Lets go of a server that was not reached.
    fn abandon(&mut self, io: &mut Io<R::Net>) {
        let (Phase::Dialing(id) | Phase::Hearing(id)) = io.phase else { return };
        io.phase = Phase::Resting;
        self.works.ring.cancel(id);
        // The socket stays open as long as its operation is under way.
        if let (Some(flight), Some(server)) = (self.works.flights.get_mut(id), io.server.take()) {
            flight.owner = Owner::Abandoned(server);
            io.flying -= 1;
        }
    }

    /// Moves bytes of one connection until everything that is wanted is under way.
    fn pump(&mut self, key: Key, io: &mut Io<R::Net>, out: &mut VecDeque<Event<StreamOf<R>>>) {
        let Io { client, server: Some(server), lanes, phase: Phase::Relaying(relay), flying, .. } = io else {
            return;
        };
        let works = &mut self.works;
        let mut wire = Wire { key, streams: [client, server], lanes, works, flying };
        let pace = drive(relay, &mut wire, FILLS_PER_TURN);
        out.extend(std::iter::from_fn(|| relay.news()).map(|news| Event::News { key, news }));
        // What a failed target will not take any more.
        if let Some(failed) = relay.broken() {
            works.clear(&mut lanes[failed.outbound().other().index()]);
        }
        for dir in Dir::BOTH {
            let (lane, flow) = (&mut lanes[dir.index()], relay.flow(dir));
            if let Receive::On(id) = lane.receive
                && (flow.output() == Output::Broken
                    || lane.blocked
                    || (lane.many && (lane.bulk > 0 || !lane.queue.is_empty())))
            {
                lane.receive = Receive::Ending(id);
                works.ring.cancel(id);
            }
        }
        match pace {
            Pace::Quiet => {
                self.doubt(key, io);
                self.look_for_failure(key, io, out);
            }
            Pace::OutOfBudget => self.soil(key, io),
            Pace::Ended(end) => self.ended(key, io, end, out),
        }
    }

    /// The relay is to be driven in this turn or the next.
    fn soil(&mut self, key: Key, io: &mut Io<R::Net>) {
        if !mem::replace(&mut io.dirty, true) {
            self.dirty.push(key);
        }
    }

    /// A socket that nobody reads may hang up unnoticed.
    fn doubt(&mut self, key: Key, io: &mut Io<R::Net>) {
        let reads = |dir: Dir| matches!(io.lanes[dir.index()].receive, Receive::On(_));
        let is_quiet = |side: Side| !reads(side.outbound()) && io.watches[side as usize] == Watch::No;
        let quiet = match io.phase {
            Phase::Queued | Phase::Dialing(_) | Phase::Hearing(_) => is_quiet(Side::Client),
            Phase::Relaying(_) => is_quiet(Side::Client) || is_quiet(Side::Server),
            Phase::Resting | Phase::Heading(_) | Phase::Closing { .. } => false,
        };
        if quiet && !mem::replace(&mut io.doubtful, true) {
            self.doubtful[0].push(key);
        }
    }

    /// A relay is over: reports it and gives its memory back.
    fn ended(&mut self, key: Key, io: &mut Io<R::Net>, end: End, out: &mut VecDeque<Event<StreamOf<R>>>) {
        if let Phase::Relaying(relay) = &io.phase {
            let moved = Dir::BOTH.map(|dir| relay.flow(dir).moved());
            // Who waits for a buffer has not read all that there is. A reset tells that by itself.
            let unread = io.is_starved() && !matches!(end, End::Reset { .. });
            out.push_back(Event::Ended { key, end, moved, unsent: relay.is_short() || unread });
        }
        io.phase = Phase::Resting;
        self.rest(io);
    }

    /// Ends what a relay has under way, and forgets what it holds.
    fn rest(&mut self, io: &mut Io<R::Net>) {
        if let Some(head) = io.head.take() {
            self.works.pool.give(head);
        }
        for lane in &mut io.lanes {
            match lane.receive {
                Receive::On(id) => {
                    lane.receive = Receive::Ending(id);
                    self.works.ring.cancel(id);
                }
                Receive::Starved => lane.receive = Receive::Off,
                Receive::Off | Receive::Ending(_) => {}
            }
            if let Some(id) = lane.send {
                self.works.ring.cancel(id);
            }
            self.works.clear(lane);
            lane.blocked = false;
        }
    }

    /// Ends everything that is under way; closed when nothing is. The sockets are closed when the worker drops
    /// the slot.
    fn release(
        &mut self,
        key: Key,
        io: &mut Io<R::Net>,
        dismissed: Option<Side>,
        out: &mut VecDeque<Event<StreamOf<R>>>,
    ) {
        self.abandon(io);
        self.end_patience(io);
        self.rest(io);
        for watch in &io.watches {
            if let Watch::Yes(id) = watch {
                self.works.ring.cancel(*id);
            }
        }
        io.phase = Phase::Closing { dismissed };
        if mutant!(ClosedUnderWay) {
            return out.push_back(Event::Closed { key });
        }
        Self::close(key, io, out);
    }

    /// Closes what is to be closed, if nothing is under way for it. Bytes that a read has brought too late are as those that
    /// nobody read: the close tells of them by a reset. Who is dismissed does not see one: what it has sent until now is
    /// thrown away.
    fn close(key: Key, io: &Io<R::Net>, out: &mut VecDeque<Event<StreamOf<R>>>) {
        let Phase::Closing { dismissed } = io.phase else { return };
        if io.flying > 0 {
            return;
        }
        for side in [Side::Client, Side::Server] {
            let Some(stream) = io.stream(side) else { continue };
            if dismissed == Some(side) {
                R::Net::discard(stream);
            } else if io.late[side as usize] {
                R::Net::reset_on_close(stream);
            }
        }
        out.push_back(Event::Closed { key });
    }

    /// A client may be taken as long as this is so many short of every limit: an accept that takes many does not
    /// ask before each.
    const ROOM_FOR_MANY: u32 = 4096;

    fn takes_many(snapshot: &Snapshot, id: ListenerId) -> bool {
        let far =
            |limit: &crate::snapshot::Limit| limit.most().saturating_sub(limit.count()) > Self::ROOM_FOR_MANY;
        far(&snapshot.connections) && far(&snapshot.listener(id).connections)
    }

    /// Begins and ends accepts as the listeners and the limits have it.
    fn tend_listeners(&mut self) {
        for (place, listening) in self.listeners.iter_mut().enumerate() {
            let Some(listening) = listening else { continue };
            let many = self.works.multishot && Self::takes_many(&self.snapshot, listening.id);
            match &mut listening.accept {
                None if !listening.paused => {
                    let id = self.works.flights.insert(Owner::Listener(place), Payload::Nothing);
                    listening.accept = Some(Accept { id, many, cancelled: false });
                    self.works.ring.accept(&listening.socket, many, id);
                }
                Some(accept) if !accept.cancelled && (listening.paused || (accept.many && !many)) => {
                    accept.cancelled = true;
                    self.works.ring.cancel(accept.id);
                }
                _ => {}
            }
        }
    }

    /// Ends the accepts of listening sockets, and takes those out; with how many clients came meanwhile.
    fn stop_accepting(
        &mut self,
        which: &dyn Fn(ListenerId, &<R::Net as Net>::Listener) -> bool,
        out: &mut VecDeque<Event<StreamOf<R>>>,
    ) -> (Vec<Listening<R>>, usize) {
        let is_meant = |listening: &Listening<R>| which(listening.id, &listening.socket);
        for listening in self.listeners.iter_mut().flatten().filter(|one| is_meant(one)) {
            listening.paused = true;
        }
        self.tend_listeners();
        let mut clients = 0;
        while self.listeners.iter().flatten().any(|one| is_meant(one) && one.accept.is_some()) {
            let mut completions = Vec::new();
            // A ring of no use tells so in the next turn.
            if self.works.ring.enter(Some(Duration::ZERO), &mut completions).is_err() {
                return (Vec::new(), clients);
            }
            for completion in completions {
                match self.accepted(completion, out) {
                    Ok(some) => clients += some,
                    Err(other) => self.early.push(other),
                }
            }
        }
        (take(&mut self.listeners, is_meant), clients)
    }
}

impl<R: Ring> Engine for Uring<R> {
    type Socket = StreamOf<R>;
    type Listener = <R::Net as Net>::Listener;
    type Io = Io<R::Net>;

    fn listen(&mut self, id: ListenerId, socket: Self::Listener) -> io::Result<()> {
        let place = vacant(&mut self.listeners);
        self.listeners[place] = Some(Listening { id, socket, accept: None, paused: false });
        Ok(())
    }

    fn pause(&mut self, id: ListenerId, paused: bool) {
        for listening in self.listeners.iter_mut().flatten().filter(|listening| listening.id == id) {
            listening.paused = paused;
        }
    }

    fn unlisten(
        &mut self,
        id: ListenerId,
        which: &dyn Fn(&Self::Listener) -> bool,
        out: &mut VecDeque<Event<Self::Socket>>,
    ) -> Vec<Self::Listener> {
        let (taken, _) = self.stop_accepting(&|one, socket| one == id && which(socket), out);
        taken.into_iter().map(|listening| listening.socket).collect()
    }

    fn close_listeners(
        &mut self,
        which: &dyn Fn(ListenerId, &Self::Listener) -> bool,
        most: usize,
        out: &mut VecDeque<Event<Self::Socket>>,
    ) {
        let (taken, clients) = self.stop_accepting(which, out);
        let mut left = most.saturating_sub(clients);
        for listening in taken {
            let mut gone = 0;
            while left > 0 && gone < GONE_MAX {
                match R::Net::accept(&listening.socket) {
                    Accepted::Client(socket, peer) => {
                        left -= 1;
                        out.push_back(Event::Accepted { listener: listening.id, socket, peer });
                    }
                    Accepted::Nothing(_) => break,
                    Accepted::Gone => gone += 1,
                    Accepted::Failed(fault) => {
                        out.push_back(Event::AcceptFailed { listener: listening.id, fault });
                        break;
                    }
                }
            }
        }
    }

    fn adopt(&mut self, snapshot: Arc<Snapshot>) {
        if let Some(share) = snapshot.buffer_share {
            self.works.pool.set_limit(beside_ring(
                share,
                self.works.ring_bytes,
                self.works.read_size as usize,
                &snapshot,
            ));
        }
        self.snapshot = snapshot;
    }

    fn open(&mut self, _: Key, client: Self::Socket, probes: Option<Keepalive>) -> io::Result<Self::Io> {
        R::Net::scatter_probes(&client, probes);
        #[cfg(feature = "sim")]
        self.works.ring.introduce(&client, None);
        Ok(Io {
            client,
            server: None,
            head: None,
            lanes: [Lane::new(), Lane::new()],
            watches: [Watch::No; 2],
            patience: None,
            phase: Phase::Resting,
            late: [false; 2],
            flying: 0,
            dirty: false,
            doubtful: false,
        })
    }

    fn reject(&mut self, client: Self::Socket) {
        R::Net::reset_on_close(&client);
    }

    fn order(&mut self, key: Key, io: &mut Self::Io, order: Order, out: &mut VecDeque<Event<Self::Socket>>) {
        match order {
            Order::Dial { to, from } => self.dial(key, io, (to, from), out),
            Order::Queue => self.queue(key, io, out),
            Order::ReadHead { more_than, max } => {
                io.phase = Phase::Heading(Wanted { more_than, max });
                self.gather(key, io, out);
            }
            Order::Hear => self.hear(key, io, out),
            Order::Relay { limited, awaited } => {
                let head = self.head(io).len();
                let relay = Relay::new(self.works.read_size).limited(limited).awaiting(awaited);
                let relay = relay.preloaded(head);
                io.lanes[0].queue.extend(io.head.take().map(Chunk::Kept));
                io.phase = Phase::Relaying(relay);
                self.pump(key, io, out);
            }
            Order::Grant { dir, bytes } => {
                if let Phase::Relaying(relay) = &mut io.phase {
                    relay.grant(dir, bytes);
                    self.pump(key, io, out);
                }
            }
            Order::Stop(End::Reset { by, fault }) => {
                // A vanished peer: what has arrived of it is still read and delivered.
                if let (Some(stream), Phase::Relaying(_)) = (io.stream(by), &io.phase) {
                    R::Net::expect_no_more(stream);
                }
                if let Phase::Relaying(relay) = &mut io.phase {
                    relay.fail(by, fault);
                    self.pump(key, io, out);
                }
            }
            Order::Stop(why) => {
                if let Phase::Relaying(relay) = &mut io.phase {
                    relay.stop(why);
                    self.pump(key, io, out);
                }
            }
            Order::Close => self.release(key, io, None, out),
            Order::Dismiss { peer } => {
                io.stream(peer).inspect(|stream| R::Net::discard(stream));
                if matches!(io.phase, Phase::Closing { .. })
                    || io.stream(peer).is_some_and(R::Net::is_delivering)
                {
                    return;
                }
                io.stream(peer.other()).inspect(|stream| R::Net::reset_on_close(stream));
                self.release(key, io, Some(peer), out);
            }
            Order::Reset { spare } => {
                let spared = spare.and_then(|side| io.stream(side));
                if matches!(io.phase, Phase::Closing { .. }) || spared.is_some_and(R::Net::is_delivering) {
                    return;
                }
                for stream in std::iter::once(&io.client).chain(&io.server) {
                    R::Net::reset_on_close(stream);
                }
                self.release(key, io, None, out);
            }
        }
    }

    fn turn(
        &mut self,
        slots: &mut impl Slots<Self::Io>,
        wait: Option<Duration>,
        out: &mut VecDeque<Event<Self::Socket>>,
    ) -> io::Result<()> {
        self.tend_listeners();
        self.feed(slots);
        self.feed_heads(slots, out);
        self.watch_doubtful(slots);
        let follows = !out.is_empty()
            || !self.dirty.is_empty()
            || !self.early.is_empty()
            || !self.doubtful[1].is_empty()
            || self.something_follows(slots);
        let wait = if follows { Some(Duration::ZERO) } else { wait };
        let silent = mem::take(&mut self.works.silent);
        let mut completions = mem::take(&mut self.early);
        self.works.ring.enter(wait, &mut completions)?;
        for completion in completions.drain(..) {
            self.complete(completion, slots, out);
        }
        self.early = completions;
        self.believe(silent, slots, out);
        for key in mem::take(&mut self.dirty) {
            if let Some(io) = slots.io(key) {
                io.dirty = false;
                self.pump(key, io, out);
            }
        }
        Ok(())
    }

    fn head<'a>(&self, io: &'a Self::Io) -> &'a [u8] {
        io.head.as_ref().map_or(&[], Lease::bytes)
    }

    fn skip(&mut self, io: &mut Self::Io, count: usize) {
        if let Some(mut head) = io.head.take() {
            head.advance(count);
            if head.bytes().is_empty() {
                self.works.pool.give(head);
            } else {
                io.head = Some(head);
            }
        }
    }

    fn say(&mut self, io: &mut Self::Io, to: Side, bytes: &[u8], follows: bool) -> Result<(), Fault> {
        let is_server = to == Side::Server;
        let Some(stream) = io.stream(to) else { return Err(Fault::Closed) };
        let said = R::Net::send_first(stream, bytes, follows);
        said.inspect_err(|_| {
            if is_server {
                io.server = None;
            }
        })
    }

    fn local(&self, io: &Self::Io) -> Option<SocketAddr> {
        R::Net::local(&io.client)
    }

    fn look(&self, io: &Self::Io) -> Option<Sight> {
        let Phase::Relaying(relay) = &io.phase else { return None };
        let silence = |side: Side| Some((side, R::Net::silence(io.stream(side)?)?));
        let mut progress = relay.progress();
        // What came in this turn is sent with the next submission: it is not late because the worker has not asked yet.
        for dir in Dir::BOTH {
            let lane = &io.lanes[dir.index()];
            if lane.send.is_some() && !lane.blocked {
                progress.moved[dir.index()] += u64::from(relay.flow(dir).queued());
            }
        }
        Some(Sight {
            progress,
            last: relay.last(),
            held: relay.holds_bytes() || relay.is_dry() || io.is_starved(),
            silence: [Side::Client, Side::Server]
                .into_iter()
                .filter_map(silence)
                .max_by_key(|(_, silence)| *silence),
        })
    }

    fn paths(&self, io: &Self::Io) -> [Option<Path>; 2] {
        [Side::Client, Side::Server].map(|side| R::Net::path(io.stream(side)?))
    }
}
