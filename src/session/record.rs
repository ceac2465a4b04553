//! What there is to tell of a connection.

use std::net::SocketAddr;
use std::sync::Arc;

use super::{Cause, Heard};
use crate::config::Event;
use crate::path::Path;
use crate::snapshot::{ListenerId, PoolId, ServerId, Snapshot};
use crate::tick::Tick;

/// What has become of one connection. Small, and made without an allocation, so that a worker can push it into a ring and go on.
#[derive(Clone, Debug)]
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
    /// What it has said first, or a proxy in front of it, and where that led.
    pub heard: Option<Arc<Heard>>,
    /// It only looked whether somebody listens, unless it has sent a byte after all: see [`Record::is_probe`].
    pub probes: bool,
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

impl Record {
    /// The pool that it went to; none: it went nowhere, as those do that no route takes.
    #[must_use]
    pub fn pool(&self, snapshot: &Snapshot) -> Option<PoolId> {
        let listener = snapshot.listener(self.listener);
        let of_server = self.server.map(|server| snapshot.server(server).pool);
        of_server
            .or_else(|| self.heard.as_ref().and_then(|heard| heard.pool))
            .or_else(|| listener.only_pool())
    }

    /// Whether it was there only to see that somebody listens: it has ended by itself, without a byte, and the proxy in front had
    /// named no client but itself, or it has ended while its first bytes were waited for.
    #[must_use]
    pub fn is_probe(&self) -> bool {
        let has_left = |cause| {
            matches!(cause, Cause::Done | Cause::ClientLeft | Cause::ClientLeftQueue | Cause::ClientReset)
        };
        self.probes && self.bytes_in == 0 && self.cause.is_some_and(has_left)
    }
}
