//! What a worker says of a connection that has ended.

use std::net::SocketAddr;

use super::Cause;
use crate::snapshot::{ListenerId, ServerId};
use crate::tick::Tick;

/// One closed connection. Small and without heap, so that a worker can push it into a ring and go on.
#[derive(Clone, Copy, Debug)]
pub struct Record {
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
    /// From accept to the server's connection; `None` when none was reached.
    pub connect_ms: Option<u32>,
    /// When it was accepted.
    pub began: Tick,
    /// When it was closed.
    pub ended: Tick,
    /// Bytes moved from the client to the server.
    pub bytes_in: u64,
    /// Bytes moved from the server to the client.
    pub bytes_out: u64,
    /// Why it ended.
    pub cause: Cause,
}
