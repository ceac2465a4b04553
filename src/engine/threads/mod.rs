//! Blocking: a thread reads, and waits in the call until there is something; then it writes, and waits until all
//! of it is taken. Two threads a connection, one a direction, over the same relay as everywhere.
//!
//! The worker's own thread accepts, begins to connect and carries nothing: it decides, as with every engine. It
//! waits in mio for its listeners, for messages of the connections' threads, and (on Linux) for the hang-ups and
//! errors of sockets that no thread reads.
//!
//! A relay stands behind a lock that only the two threads of its connection and the worker take, for as long as
//! it takes to count; nobody holds it in a call that waits.

mod budget;
mod carrier;
mod heading;

use std::collections::VecDeque;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::Duration;

use mio::{Events, Interest, Poll, Token, Waker};

use super::head::Wanted;
use super::reactor::{Bursts, Listening, take, vacant};
use super::{Bounds, Engine, Event, Order, Sight, Slots, leg};
use crate::config::Keepalive;
use crate::path::Path;
use crate::relay::{Dir, End, Fault, News, Relay, Side};
use crate::snapshot::{ListenerId, ServerId, Snapshot};
use crate::sys::calls::{self, Call};
use crate::sys::net::{self, Listener, Peeked, Stream};
use crate::sys::{Net, Os};
use crate::table::Key;
use budget::{Budget, Loan};
use carrier::Shared;

/// Events taken from the kernel at a time.
const EVENTS: usize = 1024;

/// A connect that nobody waits for any more keeps its thread for so long at most, where no limit is set.
const CONNECT_MAX: Duration = Duration::from_mins(2);

/// What a connection's thread tells its worker.
#[derive(Clone, Copy, Debug)]
enum Message {
    /// A connect has ended: that of the attempt with this number.
    Dialed { key: Key, attempt: u32, result: Result<(), Fault> },
    /// What the relay tells while it runs.
    News { key: Key, news: News },
    /// The relay has ended.
    Ended { key: Key },
    /// A thread of the connection is over.
    Halted { key: Key },
    /// Memory was given back that heads may wait for.
    Room,
}

/// How the threads of a worker's connections reach it.
#[derive(Clone, Debug)]
struct Post {
    messages: Sender<Message>,
    waker: Arc<Waker>,
}

impl Post {
    fn send(&self, message: Message) {
        // A worker that is gone has ended its connections.
        if self.messages.send(message).is_ok()
            && let Err(error) = calls::made(Call::Write, -1, || self.waker.wake())
        {
            log::error!("cannot wake a worker: {error}");
        }
    }
}

/// The blocking engine.
#[derive(Debug)]
pub struct Threads {
    poll: Poll,
    events: Events,
    messages: Receiver<Message>,
    post: Post,
    snapshot: Arc<Snapshot>,
    buffer_size: usize,
    budget: Arc<Budget>,
    /// Each at the place that its token names.
    listeners: Vec<Option<Listening<Os>>>,
    bursts: Bursts,
    /// Connections whose heads wait for memory.
    starved: Vec<Key>,
}

/// What is kept for a connection.
#[derive(Debug)]
pub struct Io {
    client: Arc<Stream>,
    server: Option<Arc<Stream>>,
    /// What was gathered of the client's first bytes.
    head: Option<Loan>,
    phase: Phase,
    /// Counts attempts to connect, so that a late answer is told from one that is waited for.
    attempt: u32,
    /// Threads that have not ended.
    threads: u8,
}

impl Io {
    fn stream(&self, side: Side) -> Option<&Stream> {
        match side {
            Side::Client => Some(&self.client),
            Side::Server => self.server.as_deref(),
        }
    }
}

#[derive(Debug)]
enum Phase {
    /// The worker decides what comes next.
    Resting,
    /// The client's first bytes are gathered; what comes is told of once there was nothing.
    Heading { wanted: Wanted, is_watched: bool },
    /// The client waits until it is told where to go: it is told of if it leaves.
    Queued,
    /// A thread waits for a connect to end.
    Dialing,
    /// A byte of a server that was reached is waited for; what comes is told of once there was nothing.
    Hearing { is_watched: bool },
    /// Two threads move bytes.
    Relaying(Arc<Shared>),
    /// It is over; closed when its threads are.
    Closing {
        /// The peer that is to see an end and no reset, if there is one.
        dismissed: Option<Side>,
    },
}

impl Threads {
    /// An engine that connects to the servers of `snapshot`, and the handle that wakes it from any thread.
    ///
    /// # Errors
    /// The operating system's: usually no free descriptor.
    pub fn new(snapshot: Arc<Snapshot>, bounds: Bounds) -> io::Result<(Self, Arc<Waker>)> {
        let poll = Poll::new()?;
        let waker = Arc::new(Waker::new(poll.registry(), Token(Key::reserved(u32::MAX).token(false)))?);
        let (messages, received) = channel();
        let post = Post { messages, waker: Arc::clone(&waker) };
        let engine = Self {
            poll,
            events: Events::with_capacity(EVENTS),
            messages: received,
            budget: Arc::new(Budget::new(bounds.budget, post.clone())),
            post,
            snapshot,
            buffer_size: bounds.buffer_size,
            listeners: Vec::new(),
            bursts: Bursts::default(),
            starved: Vec::new(),
        };
        Ok((engine, waker))
    }

    /// Watches for what no blocked call tells: a hang-up or an error of a socket that no thread reads. There is
    /// no interest in these alone, but on Linux one in urgent data, which is next to none.
    fn watch(&self, stream: &mut Stream, token: usize) -> io::Result<()> {
        #[cfg(target_os = "linux")]
        self.poll.registry().register(stream, Token(token), Interest::PRIORITY)?;
        #[cfg(not(target_os = "linux"))]
        let _ = (self, stream, token);
        Ok(())
    }

    /// Has the client wait. Whoever has sent bytes has a claim to an answer, although it may have closed then; but not if it has
    /// failed, which is told where sockets that nobody reads are watched.
    fn queue(&mut self, key: Key, io: &mut Io, out: &mut VecDeque<Event<Stream>>) {
        self.abandon(io);
        // Nothing tells of a reset twice.
        if Os::pending_error(&io.client).is_some() {
            return out.push_back(Event::ClientLeft { key });
        }
        if io.head.is_some() {
            return io.phase = Phase::Queued;
        }
        // It may come between the first look and when it is watched.
        for is_watched in [false, true] {
            match Os::peek(&io.client) {
                Peeked::Nothing(_) if is_watched => io.phase = Phase::Queued,
                Peeked::Nothing(_) => self.watch_input(key, io, Side::Client, true),
                Peeked::Bytes => return io.phase = Phase::Queued,
                Peeked::End => return out.push_back(Event::ClientLeft { key }),
            }
        }
    }

    /// Watches for input of a client that waits, or a server that is waited for, or no longer. No thread has its socket
    /// then.
    fn watch_input(&self, key: Key, io: &mut Io, side: Side, watches: bool) {
        let socket = if side == Side::Client { Some(&mut io.client) } else { io.server.as_mut() };
        let Some(socket) = socket.and_then(Arc::get_mut) else { return };
        let (registry, token) = (self.poll.registry(), Token(key.token(side == Side::Server)));
        // If that cannot be had, its turn comes all the same.
        #[cfg(target_os = "linux")]
        let _ = {
            let rest = Interest::PRIORITY;
            let interest = if watches { rest | Interest::READABLE } else { rest };
            registry.reregister(socket, token, interest)
        };
        #[cfg(not(target_os = "linux"))]
        let _ = if watches {
            registry.register(socket, token, Interest::READABLE)
        } else {
            registry.deregister(socket)
        };
    }

    fn dial(
        &mut self,
        key: Key,
        io: &mut Io,
        to: (ServerId, Option<IpAddr>),
        out: &mut VecDeque<Event<Stream>>,
    ) {
        if matches!(io.phase, Phase::Queued) {
            self.watch_input(key, io, Side::Client, false);
            io.phase = Phase::Resting;
        }
        self.abandon(io);
        io.attempt += 1;
        match self.connect(key, io, to) {
            Ok(true) => out.push_back(Event::Dialed { key, result: Ok(()) }),
            Ok(false) => io.phase = Phase::Dialing,
            Err(fault) => {
                io.server = None;
                out.push_back(Event::Dialed { key, result: Err(fault) });
            }
        }
    }

    /// Begins to connect, and has a thread wait for the end of that; `true` when it is there already. What the thread would
    /// begin itself could be given up before, and nobody would end it.
    fn connect(
        &mut self,
        key: Key,
        io: &mut Io,
        (to, from): (ServerId, Option<IpAddr>),
    ) -> Result<bool, Fault> {
        let limit = self.snapshot.pool(self.snapshot.server(to).pool).connect.unwrap_or(CONNECT_MAX);
        let (to, leg) = leg(&self.snapshot, to, from);
        let (mut stream, is_connected) = Os.dial(to, leg)?;
        self.watch(&mut stream, key.token(true)).map_err(|_| Fault::NoMemory)?;
        net::set_blocking(&stream)?;
        let stream = Arc::clone(io.server.insert(Arc::new(stream)));
        if is_connected {
            return Ok(true);
        }
        let (post, attempt) = (self.post.clone(), io.attempt);
        let dial = move || {
            let result = net::await_connect(&stream, limit);
            // Whoever closes the socket must find that it is the last to have it.
            drop(stream);
            post.send(Message::Dialed { key, attempt, result });
            post.send(Message::Halted { key });
        };
        carrier::spawn(dial).map_err(|error| self.no_thread(&error))?;
        io.threads += 1;
        Ok(false)
    }

    /// Another thread cannot be had.
    fn no_thread(&self, error: &io::Error) -> Fault {
        log::error!(
            "cannot start a thread for a connection: {error}; raise TasksMax= in the systemd unit, `ulimit -u` or \
             the sysctl kernel.threads-max, or choose another engine"
        );
        Fault::NoMemory
    }

    /// Lets go of a server that was not reached. Its thread ends by itself.
    fn abandon(&self, io: &mut Io) {
        if let (Phase::Dialing, Some(server)) = (&io.phase, &io.server) {
            net::interrupt_connect(server);
        }
        if matches!(io.phase, Phase::Dialing | Phase::Hearing { .. } | Phase::Resting) {
            io.phase = Phase::Resting;
            io.server = None;
        }
    }

    /// Has two threads move bytes.
    fn relay(
        &mut self,
        key: Key,
        io: &mut Io,
        (limited, awaited): ([bool; 2], bool),
        out: &mut VecDeque<Event<Stream>>,
    ) {
        let Some(server) = &io.server else { return };
        let room = u32::try_from(self.buffer_size).expect("configuration limits it");
        let streams = [Arc::clone(&io.client), Arc::clone(server)];
        let relay = Relay::new(room).limited(limited).awaiting(awaited).preloaded(self.head(io).len());
        let shared = Arc::new(Shared::new(streams, relay, room, Arc::clone(&self.budget)));
        io.phase = Phase::Relaying(Arc::clone(&shared));
        for dir in Dir::BOTH {
            let (shared, post) = (Arc::clone(&shared), self.post.clone());
            let head = if dir == Dir::Up { io.head.take() } else { None };
            let carry = move || {
                let tell = |news| post.send(Message::News { key, news });
                if carrier::carry(&shared, dir, head, &tell) {
                    post.send(Message::Ended { key });
                }
                drop(shared);
                post.send(Message::Halted { key });
            };
            match carrier::spawn(carry) {
                Ok(()) => io.threads += 1,
                Err(error) => {
                    let fault = self.no_thread(&error);
                    self.stop(key, io, End::Reset { by: dir.source(), fault }, out);
                    return;
                }
            }
        }
        // What was reported before had to wait for this.
        for side in [Side::Client, Side::Server] {
            self.report_error(key, io, side, out);
        }
    }

    /// Ends a relay, unless it has ended by itself: then that is told in its turn.
    fn stop(&mut self, key: Key, io: &mut Io, why: End, out: &mut VecDeque<Event<Stream>>) {
        if let Phase::Relaying(shared) = &io.phase
            && shared.with(|relay| relay.end().is_none().then(|| relay.stop(why)).is_some())
        {
            self.ended(key, io, out);
        }
    }

    /// A peer has vanished: what has arrived of it is still read and delivered, and nothing more is expected.
    fn give_up(&mut self, key: Key, io: &mut Io, by: Side, fault: Fault, out: &mut VecDeque<Event<Stream>>) {
        let Phase::Relaying(shared) = &io.phase else { return };
        if shared.give_up(by, fault) {
            self.ended(key, io, out);
        }
    }

    /// A relay is over: wakes its threads, and reports it.
    fn ended(&mut self, key: Key, io: &mut Io, out: &mut VecDeque<Event<Stream>>) {
        let Phase::Relaying(shared) = std::mem::replace(&mut io.phase, Phase::Resting) else { return };
        shared.interrupt();
        let event = shared.with(|relay| {
            let moved = Dir::BOTH.map(|dir| relay.flow(dir).moved());
            relay.end().map(|end| Event::Ended { key, end, moved, unsent: relay.is_short() })
        });
        out.extend(event);
    }

    fn release(&mut self, key: Key, io: &mut Io, dismissed: Option<Side>, out: &mut VecDeque<Event<Stream>>) {
        if matches!(io.phase, Phase::Dialing) {
            self.abandon(io);
        }
        io.phase = Phase::Closing { dismissed };
        io.head = None;
        Self::close(key, io, out);
    }

    /// Closes what is to be closed, if no thread has it any more. What a peer has sent until now that is to see an end is thrown
    /// away, or the close would be a reset.
    fn close(key: Key, io: &Io, out: &mut VecDeque<Event<Stream>>) {
        let Phase::Closing { dismissed } = io.phase else { return };
        if io.threads == 0 {
            dismissed.and_then(|side| io.stream(side)).inspect(|stream| Os::discard(stream));
            out.push_back(Event::Closed { key });
        }
    }

    fn receive(&mut self, message: Message, slots: &mut impl Slots<Io>, out: &mut VecDeque<Event<Stream>>) {
        let (Message::Dialed { key, .. }
        | Message::News { key, .. }
        | Message::Ended { key }
        | Message::Halted { key }) = message
        else {
            for key in std::mem::take(&mut self.starved) {
                if let Some(io) = slots.io(key) {
                    self.gather(key, io, out);
                }
            }
            return;
        };
        let Some(io) = slots.io(key) else { return };
        match message {
            Message::Dialed { attempt, result, .. } => {
                if matches!(io.phase, Phase::Dialing) && attempt == io.attempt {
                    io.phase = Phase::Resting;
                    if result.is_err() {
                        io.server = None;
                    }
                    out.push_back(Event::Dialed { key, result });
                }
            }
            Message::News { news, .. } => out.push_back(Event::News { key, news }),
            Message::Ended { .. } => self.ended(key, io, out),
            Message::Halted { .. } => {
                io.threads -= 1;
                Self::close(key, io, out);
            }
            Message::Room => {}
        }
    }

    fn report(&mut self, token: usize, slots: &mut impl Slots<Io>, out: &mut VecDeque<Event<Stream>>) {
        let (key, is_server) = Key::from_token(token);
        if let Some(number) = key.reserved_number() {
            // The one that is no listener is the waker, and being awake is all that it is for.
            if let Some(Some(listening)) = self.listeners.get_mut(number as usize) {
                listening.raise();
            }
            return;
        }
        let Some(io) = slots.io(key) else { return };
        let side = if is_server { Side::Server } else { Side::Client };
        if matches!(io.phase, Phase::Queued) && side == Side::Client {
            self.watch_input(key, io, Side::Client, false);
            io.phase = Phase::Resting;
            if Os::pending_error(&io.client).is_some() {
                return out.push_back(Event::ClientLeft { key });
            }
            return self.queue(key, io, out);
        }
        if matches!(io.phase, Phase::Heading { .. }) && side == Side::Client {
            return self.gather(key, io, out);
        }
        if matches!(io.phase, Phase::Hearing { .. }) {
            return self.hear(key, io, out);
        }
        let is_before =
            matches!(io.phase, Phase::Dialing) || (matches!(io.phase, Phase::Resting) && io.server.is_none());
        if is_before && side == Side::Client {
            if io.head.is_none() && Os::failure_before_relay(&io.client).is_some() {
                self.abandon(io);
                out.push_back(Event::ClientLeft { key });
            }
            return;
        }
        self.report_error(key, io, side, out);
    }

    /// A failed socket that no thread reads, because its target is slow: the end comes within `half_close`.
    fn report_error(&mut self, key: Key, io: &mut Io, side: Side, out: &mut VecDeque<Event<Stream>>) {
        if let Phase::Relaying(shared) = &io.phase
            && shared.look_for_failure(side)
        {
            self.ended(key, io, out);
        }
    }

    /// A socket that was registered is watched as long as it is open, which it may be elsewhere.
    fn unwatch(&self, listening: Listening<Os>) -> Listener {
        let mut socket = listening.into_socket();
        let _ = self.poll.registry().deregister(&mut socket);
        socket
    }
}

impl Engine for Threads {
    type Socket = Stream;
    type Listener = Listener;
    type Io = Io;

    fn listen(&mut self, id: ListenerId, mut socket: Listener) -> io::Result<()> {
        let place = vacant(&mut self.listeners);
        let number = u32::try_from(place).expect("far fewer listening sockets");
        let token = Token(Key::reserved(number).token(false));
        self.poll.registry().register(&mut socket, token, Interest::READABLE)?;
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
        which: &dyn Fn(&Listener) -> bool,
        _: &mut VecDeque<Event<Stream>>,
    ) -> Vec<Listener> {
        let taken = take(&mut self.listeners, |one| one.id() == id && which(one.socket()));
        taken.into_iter().map(|one| self.unwatch(one)).collect()
    }

    fn close_listeners(
        &mut self,
        which: &dyn Fn(ListenerId, &Listener) -> bool,
        most: usize,
        out: &mut VecDeque<Event<Stream>>,
    ) {
        let mut left = most;
        for mut listening in take(&mut self.listeners, |one| which(one.id(), one.socket())) {
            left -= listening.accept_all(left, out);
            drop(self.unwatch(listening));
        }
    }

    fn adopt(&mut self, snapshot: Arc<Snapshot>) {
        if let Some(share) = snapshot.buffer_share {
            self.budget.set(share);
        }
        self.snapshot = snapshot;
    }

    fn open(&mut self, key: Key, mut client: Stream, probes: Option<Keepalive>) -> io::Result<Io> {
        Os::scatter_probes(&client, probes);
        let watched = self.watch(&mut client, key.token(false));
        watched
            .and_then(|()| net::set_blocking(&client).map_err(|fault| io::Error::other(fault.to_string())))
            .inspect_err(|_| Os::reset_on_close(&client))?;
        Ok(Io {
            client: Arc::new(client),
            server: None,
            head: None,
            phase: Phase::Resting,
            attempt: 0,
            threads: 0,
        })
    }

    fn reject(&mut self, client: Stream) {
        Os::reset_on_close(&client);
    }

    fn order(&mut self, key: Key, io: &mut Io, order: Order, out: &mut VecDeque<Event<Stream>>) {
        match order {
            Order::Dial { to, from } => self.dial(key, io, (to, from), out),
            Order::ReadHead { more_than, max } => {
                io.phase = Phase::Heading { wanted: Wanted { more_than, max }, is_watched: false };
                self.gather(key, io, out);
            }
            Order::Queue => self.queue(key, io, out),
            Order::Hear => {
                io.phase = Phase::Hearing { is_watched: false };
                self.hear(key, io, out);
            }
            Order::Relay { limited, awaited } => self.relay(key, io, (limited, awaited), out),
            Order::Grant { dir, bytes } => {
                if let Phase::Relaying(shared) = &io.phase {
                    shared.grant(dir, bytes);
                }
            }
            Order::Stop(End::Reset { by, fault }) => self.give_up(key, io, by, fault, out),
            Order::Stop(why) => self.stop(key, io, why, out),
            Order::Close => self.release(key, io, None, out),
            Order::Dismiss { peer } => {
                io.stream(peer).inspect(|stream| Os::discard(stream));
                if matches!(io.phase, Phase::Closing { .. }) || io.stream(peer).is_some_and(Os::is_delivering)
                {
                    return;
                }
                io.stream(peer.other()).inspect(|stream| Os::reset_on_close(stream));
                self.release(key, io, Some(peer), out);
            }
            Order::Reset { spare } => {
                let spared = spare.and_then(|side| io.stream(side));
                if matches!(io.phase, Phase::Closing { .. }) || spared.is_some_and(Os::is_delivering) {
                    return;
                }
                for stream in std::iter::once(&io.client).chain(&io.server) {
                    Os::reset_on_close(stream);
                }
                self.release(key, io, None, out);
            }
        }
    }

    fn turn(
        &mut self,
        slots: &mut impl Slots<Io>,
        wait: Option<Duration>,
        out: &mut VecDeque<Event<Stream>>,
    ) -> io::Result<()> {
        let wait = if self.listeners.iter().flatten().any(Listening::has_work) {
            Some(Duration::ZERO)
        } else {
            wait
        };
        match calls::made(Call::EpollWait, -1, || self.poll.poll(&mut self.events, wait)) {
            Err(error) if error.kind() != io::ErrorKind::Interrupted => return Err(error),
            _ => {}
        }
        let tokens: Vec<usize> = self.events.iter().map(|event| event.token().0).collect();
        for token in tokens {
            self.report(token, slots, out);
        }
        while let Ok(message) = self.messages.try_recv() {
            self.receive(message, slots, out);
        }
        self.bursts.accept(&mut self.listeners, &self.snapshot, out);
        Ok(())
    }

    fn head<'a>(&self, io: &'a Io) -> &'a [u8] {
        io.head.as_ref().map_or(&[], |head| &head.bytes)
    }

    fn skip(&mut self, io: &mut Io, count: usize) {
        if let Some(head) = &mut io.head {
            head.bytes.drain(..count);
            if head.bytes.is_empty() {
                io.head = None;
            }
        }
    }

    fn say(&mut self, io: &mut Io, to: Side, bytes: &[u8], follows: bool) -> Result<(), Fault> {
        let is_server = to == Side::Server;
        let Some(stream) = io.stream(to) else { return Err(Fault::Closed) };
        let said = Os::send_first(stream, bytes, follows);
        said.inspect_err(|_| {
            if is_server {
                io.server = None;
            }
        })
    }

    fn local(&self, io: &Io) -> Option<SocketAddr> {
        Os::local(&io.client)
    }

    fn look(&self, io: &Io) -> Option<Sight> {
        let (Phase::Relaying(shared), Some(server)) = (&io.phase, &io.server) else { return None };
        let sides = [(Side::Client, &io.client), (Side::Server, server)];
        let silent = sides.into_iter().filter_map(|(side, stream)| Some((side, Os::silence(stream)?)));
        let silence = silent.max_by_key(|(_, silence)| *silence);
        Some(shared.with(|relay| Sight {
            progress: relay.progress(),
            last: relay.last(),
            held: relay.holds_bytes() || relay.is_dry(),
            silence,
        }))
    }

    fn paths(&self, io: &Io) -> [Option<Path>; 2] {
        [Side::Client, Side::Server].map(|side| Os::path(io.stream(side)?))
    }
}
