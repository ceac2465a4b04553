//! What there is to tell of a connection.

use std::net::SocketAddr;

use super::Cause;
use crate::config::Event;
use crate::path::Path;
use crate::snapshot::{ListenerId, ServerId};
use crate::tick::Tick;

/// What has become of one connection. Small and without heap, so that a worker can push it into a ring and go on.
#[derive(Clone, Copy, Debug)]
pub struct Record {
    /// What happened.
    pub event: Event,
    /// Unique in this process.
    pub id: u64,
    /// The worker that carried it.
    pub worker: u16,
    /// The listener that accepted it; its pool follows from it.
    pub listener: ListenerId,
    /// The server it was relayed to, or the last one that was tried; none when it was rejected before.
    pub server: Option<ServerId>,
    /// The client's address; none for a client of a unix socket.
    pub client: Option<SocketAddr>,
    /// Attempts to reach a server.
    pub tries: u8,
    /// Not all of them were to the same one.
    pub redispatched: bool,
    /// From accept to the server's connection; `None` when none was reached.
    pub connect_ms: Option<u32>,
    /// How long it waited until a server had room.
    pub queue_ms: u32,
    /// When it was accepted.
    pub began: Tick,
    /// When it was closed; for another event, when that was.
    pub ended: Tick,
    /// Bytes moved from the client to the server until then.
    pub bytes_in: u64,
    /// Bytes moved from the server to the client until then.
    pub bytes_out: u64,
    /// Why it ended; `None` as long as it has not.
    pub cause: Option<Cause>,
    /// What the system told of the client's path and of the server's then.
    pub paths: [Option<Path>; 2],
}
