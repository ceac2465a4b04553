//! What the control plane asks of a worker: little pieces, each of which a turn can do without being late.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use tokio::sync::oneshot;

use crate::cause::Cause;
use crate::path::Path;
use crate::session::{Doing, Heard};
use crate::snapshot::{ListenerId, PoolId, ServerId};
use crate::table::Key;
use crate::tick::Tick;

/// Where an answer goes. Nobody may wait for it any more.
pub type Reply<T> = oneshot::Sender<T>;

/// Connections that are looked at for one [`Command::List`], and with the kernel asked about each.
const LIST_MOST: usize = 256;
const LIST_MOST_WITH_PATHS: usize = 32;

/// What one turn does for the control plane: so many connections are ended, or two lists made. The command that reaches it is
/// the last; the others wait for the next turn, and sockets have theirs in between.
pub(super) const WORK_PER_TURN: usize = 64;

/// Says which listening sockets are meant.
pub type Which<Listener> = Box<dyn Fn(ListenerId, &Listener) -> bool + Send>;

/// One request.
pub enum Command<Listener> {
    /// Accept connections on a socket.
    Listen {
        /// The listener, which the snapshot has.
        id: ListenerId,
        /// Its socket.
        socket: Listener,
        /// Whether it is watched now.
        reply: Reply<io::Result<()>>,
    },
    /// Give listening sockets of a listener back, open. If nobody waits for them any more, it listens on them as before.
    Unlisten {
        /// The listener.
        id: ListenerId,
        /// Which of them.
        which: Which<Listener>,
        /// The sockets.
        reply: Reply<Vec<Listener>>,
    },
    /// Let in who waits on listening sockets, and close those.
    Close {
        /// Which of them.
        which: Which<Listener>,
        /// They are closed.
        reply: Reply<()>,
    },
    /// Tell of some connections.
    List {
        /// From this slot of the table on.
        from: u32,
        /// What the system is asked about each.
        ask: Ask,
        /// They.
        reply: Reply<Listing>,
    },
    /// End connections, of which some may be gone.
    End {
        /// Which.
        keys: Vec<Key>,
        /// Only those that this server still has.
        of: Option<ServerId>,
        /// Why.
        cause: Cause,
        /// At the first quiet moment, instead of at once.
        gently: bool,
    },
    /// Say that everything before this is done.
    Report {
        /// So it is.
        reply: Reply<()>,
    },
}

/// What the system is asked about a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ask {
    /// Nothing.
    Nothing,
    /// About the paths on both sides.
    Paths,
    /// The same, and what it tells is counted as a sample.
    Sample,
}

/// Some connections of a worker.
#[derive(Debug, Default)]
pub struct Listing {
    /// They.
    pub rows: Vec<Row>,
    /// Where to go on; `None` at the end of the table.
    pub next: Option<u32>,
}

/// A connection as it is now.
#[derive(Clone, Debug)]
pub struct Row {
    /// Its place in the worker's table.
    pub key: Key,
    /// Its number in the process.
    pub id: u64,
    /// The listener that accepted it.
    pub listener: ListenerId,
    /// Where its servers are.
    pub pool: PoolId,
    /// The client; none for a client of a unix socket.
    pub client: Option<SocketAddr>,
    /// What it has said first, and where that led.
    pub heard: Option<Arc<Heard>>,
    /// The server that it is relayed to, or that is being tried.
    pub server: Option<ServerId>,
    /// What it is doing.
    pub doing: Doing,
    /// One side has ended.
    pub half_closed: bool,
    /// When it was accepted.
    pub began: Tick,
    /// When this was seen.
    pub now: Tick,
    /// Attempts to reach a server.
    pub tries: u8,
    /// Not all of them were to the same one.
    pub redispatched: bool,
    /// How long it waited until a server had room.
    pub queue_ms: u32,
    /// From accept to the server's connection.
    pub connect_ms: Option<u32>,
    /// Bytes delivered, by [`crate::relay::Dir::index`].
    pub moved: [u64; 2],
    /// Since when it was seen to be quiet.
    pub quiet_since: Option<Tick>,
    /// The client's side and the server's, if that was asked for.
    pub paths: [Option<Path>; 2],
}

impl<Listener> Command<Listener> {
    /// Its part of [`WORK_PER_TURN`].
    pub(super) fn work(&self) -> usize {
        match self {
            Self::End { keys, .. } => keys.len(),
            Self::List { .. } => WORK_PER_TURN / 2,
            Self::Listen { .. } | Self::Unlisten { .. } | Self::Close { .. } | Self::Report { .. } => 1,
        }
    }
}

/// How many connections one turn looks at.
pub(super) fn list_most(ask: Ask) -> usize {
    if ask == Ask::Nothing { LIST_MOST } else { LIST_MOST_WITH_PATHS }
}
