//! How the kernel is asked to move bytes.
//!
//! An engine owns sockets and bytes; it knows nothing of pools, retries or timeouts. A worker gives it
//! [`Order`]s and gets [`Event`]s: one answer for each order, and after [`Event::Closed`] silence for that
//! key.

mod drive;
mod head;
mod kinds;
mod pipes;
mod reactor;
#[cfg(feature = "sim")]
pub mod sim;
mod store;
#[cfg(all(test, target_os = "linux"))]
mod tests;
mod threads;
#[cfg(target_os = "linux")]
pub mod uring;

pub use drive::{Attempt, Pace, Port, drive};
pub use kinds::{FACTS, Facts, Model, Unavailable, probe};
pub use reactor::{Bounds, ByMio, Io, Reactor, Readiness, Report, Selector, Source, Trigger, Want};
#[cfg(target_os = "linux")]
pub use reactor::{ByAio, ByEpoll, ByPoll, BySelect, BySigio};

pub use threads::Threads;

use std::collections::VecDeque;
use std::fmt;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use crate::config::{self, Address, Keepalive};
use crate::path::Path;
use crate::relay::{End, Fault, News, Side};
use crate::session::{Order, Sight};
use crate::snapshot::{ListenerId, ServerId, Snapshot};
use crate::sys::calls::{self, Call};
use crate::sys::net::Leg;
use crate::table::Key;

/// What an engine tells a worker.
#[derive(Debug)]
pub enum Event<Socket> {
    /// A client connected.
    Accepted {
        /// To this listener.
        listener: ListenerId,
        /// Its socket.
        socket: Socket,
        /// Its address; none for a client of a unix socket.
        peer: Option<SocketAddr>,
    },
    /// A listener cannot accept for lack of descriptors or memory; it goes on trying when it is told so.
    AcceptFailed {
        /// The listener.
        listener: ListenerId,
        /// Why.
        fault: Fault,
    },
    /// The client's first bytes have come, as many as were asked for or as there will ever be: see [`Engine::head`].
    Head {
        /// The connection.
        key: Key,
        /// The client has sent FIN behind them.
        ended: bool,
    },
    /// Whether a server speaks TLS, as [`Order::Hear`] asked; a fault, and its socket is gone.
    Heard {
        /// The connection.
        key: Key,
        /// It does.
        result: Result<(), Fault>,
    },
    /// An attempt to reach a server ended.
    Dialed {
        /// The connection.
        key: Key,
        /// How.
        result: Result<(), Fault>,
    },
    /// The client failed, with nothing of its left to deliver, before a relay was ordered.
    ClientLeft {
        /// The connection.
        key: Key,
    },
    /// What a relay tells while it runs.
    News {
        /// The connection.
        key: Key,
        /// What.
        news: News,
    },
    /// A relay ended; the sockets are still there.
    Ended {
        /// The connection.
        key: Key,
        /// How.
        end: End,
        /// Bytes delivered, by [`crate::relay::Dir::index`].
        moved: [u64; 2],
        /// Whether a peer that is still there was not given everything that was taken for it.
        unsent: bool,
    },
    /// Both sockets are gone.
    Closed {
        /// The connection.
        key: Key,
    },
}

/// The connection table as an engine sees it: never the session.
pub trait Slots<Io> {
    /// What the engine keeps for `key`; `None` when that connection is gone.
    fn io(&mut self, key: Key) -> Option<&mut Io>;

    /// All connections.
    fn keys(&self) -> Vec<Key>;
}

/// Ends a worker's wait for the kernel, from any thread.
pub trait Wake: fmt::Debug + Send + Sync {
    /// The next [`Engine::turn`], or the one that runs, returns soon.
    ///
    /// # Errors
    /// The operating system's.
    fn wake(&self) -> io::Result<()>;
}

impl Wake for mio::Waker {
    fn wake(&self) -> io::Result<()> {
        calls::made(Call::Write, -1, || Self::wake(self))
    }
}

#[cfg(target_os = "linux")]
impl Wake for crate::sys::Bell {
    fn wake(&self) -> io::Result<()> {
        self.ring()
    }
}

#[cfg(target_os = "linux")]
impl Wake for crate::sys::sigio::Caller {
    fn wake(&self) -> io::Result<()> {
        self.call()
    }
}

/// Where a server is, and how it is connected to.
fn leg(snapshot: &Snapshot, to: ServerId, from: Option<IpAddr>) -> (&Address, Leg<'_>) {
    let server = snapshot.server(to);
    let pool = snapshot.pool(server.pool);
    (&server.addr, Leg { tcp: &pool.tcp, from, is_clients: pool.source == config::Source::Client })
}

/// A way to ask the kernel to move bytes. Built and used on its worker's own thread.
pub trait Engine: Sized {
    /// What it keeps for a connection.
    type Io;
    /// A connected socket.
    type Socket: fmt::Debug;
    /// A listening socket.
    type Listener;

    /// Accepts connections on `socket` from now on.
    ///
    /// # Errors
    /// The operating system's, when the socket cannot be watched.
    fn listen(&mut self, id: ListenerId, socket: Self::Listener) -> io::Result<()>;

    /// Stops accepting for a while, or goes on.
    fn pause(&mut self, id: ListenerId, paused: bool);

    /// Gives the sockets of a listener back for which `which` says so, and accepts from them no more. Clients that were
    /// accepted meanwhile are still told of.
    fn unlisten(
        &mut self,
        id: ListenerId,
        which: &dyn Fn(&Self::Listener) -> bool,
        out: &mut VecDeque<Event<Self::Socket>>,
    ) -> Vec<Self::Listener>;

    /// Accepts what waits in the backlogs of those listening sockets for which `which` says so, `most` at most, then
    /// closes them.
    fn close_listeners(
        &mut self,
        which: &dyn Fn(ListenerId, &Self::Listener) -> bool,
        most: usize,
        out: &mut VecDeque<Event<Self::Socket>>,
    );

    /// Goes by another snapshot from now on, and by its [`Snapshot::buffer_share`] if there is one.
    fn adopt(&mut self, snapshot: Arc<Snapshot>);

    /// Takes charge of an accepted socket, whose peer is probed at these times.
    ///
    /// # Errors
    /// The operating system's, when the socket cannot be watched; it is reset then.
    fn open(&mut self, key: Key, client: Self::Socket, probes: Option<Keepalive>) -> io::Result<Self::Io>;

    /// Resets a client that is not let in.
    fn reject(&mut self, client: Self::Socket);

    /// Does what a session asks. Never fails: failures are events.
    fn order(&mut self, key: Key, io: &mut Self::Io, order: Order, out: &mut VecDeque<Event<Self::Socket>>);

    /// Waits for the kernel, at most `wait` (for ever if `None`), and moves bytes.
    ///
    /// # Errors
    /// The operating system's, when waiting is impossible; the worker cannot go on then.
    fn turn(
        &mut self,
        slots: &mut impl Slots<Self::Io>,
        wait: Option<Duration>,
        out: &mut VecDeque<Event<Self::Socket>>,
    ) -> io::Result<()>;

    /// The client's first bytes, as far as they were gathered ([`Order::ReadHead`]) and not skipped. They are relayed
    /// before all others.
    fn head<'a>(&self, io: &'a Self::Io) -> &'a [u8];

    /// Drops so many bytes off the front of the head, at most all: they are for nobody.
    fn skip(&mut self, io: &mut Self::Io, count: usize);

    /// Says something to a peer in front of all that is relayed to it, whole, and counts it as none of that: to a server
    /// that was reached whose it is, or to a client an answer to its first bytes. `bytes` are few enough for a fresh
    /// socket, in all; `follows`: more follows at once.
    ///
    /// # Errors
    /// The fault, when the peer is not there after all; a server's socket is gone then.
    fn say(&mut self, io: &mut Self::Io, to: Side, bytes: &[u8], follows: bool) -> Result<(), Fault>;

    /// Where the client has connected to; none over a unix socket.
    fn local(&self, io: &Self::Io) -> Option<SocketAddr>;

    /// How a relay is doing; `None` when none runs.
    fn look(&self, io: &Self::Io) -> Option<Sight>;

    /// What the system says of the client's path and the server's; `None` where there is none or it does not tell.
    fn paths(&self, io: &Self::Io) -> [Option<Path>; 2];
}
