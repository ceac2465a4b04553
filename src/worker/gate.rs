//! Admission: who is let in, and when to try again after a refusal.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::time::Duration;

use crate::admission::Place;
use crate::snapshot::{ListenerId, Snapshot};
use crate::tick::Tick;

/// How soon to look again after descriptors ran out, or after a limit was reached: another worker may
/// have made room, of which nobody tells.
const RETRY: Duration = Duration::from_millis(50);

/// A client that was accepted and has no connection yet.
#[derive(Debug)]
pub struct Client<Socket> {
    pub(super) listener: ListenerId,
    pub(super) socket: Socket,
    pub(super) peer: Option<SocketAddr>,
    /// It counts among the connections of the process: those who wait for their listener's limit do, since
    /// they hold a descriptor.
    pub(super) counted: bool,
    /// Where its source counts it.
    pub(super) place: Option<Place>,
    /// Who it is, a proxy in front tells: rules and limits have to wait for that.
    pub(super) is_to_be_told: bool,
}

/// A worker's gate.
#[derive(Debug)]
pub(super) struct Gate<Socket> {
    /// Clients that were accepted in the same turn in which a limit was reached. Those that wait for the
    /// process's limit are at most as many as are accepted in a turn, since from then on listeners rest.
    lobby: VecDeque<Client<Socket>>,
    /// Listeners rest until then.
    retry: Option<Tick>,
}

impl<Socket> Gate<Socket> {
    pub(super) fn new() -> Self {
        Self { lobby: VecDeque::new(), retry: None }
    }

    /// A client waits, and is one of its listener's, which keeps its id as long as it has any.
    pub(super) fn wait(&mut self, snapshot: &Snapshot, client: Client<Socket>) {
        let _ = snapshot.listener(client.listener).waiting.take();
        self.lobby.push_back(client);
    }

    /// The client that has waited longest waits no more.
    pub(super) fn next(&mut self, snapshot: &Snapshot) -> Option<Client<Socket>> {
        let client = self.lobby.pop_front()?;
        snapshot.listener(client.listener).waiting.give();
        Some(client)
    }

    /// Those who wait, the longest first.
    pub(super) fn lobby(&self) -> &VecDeque<Client<Socket>> {
        &self.lobby
    }

    /// Listeners rest for a while.
    pub(super) fn rest(&mut self, now: Tick) {
        self.retry.get_or_insert_with(|| now.after(RETRY));
    }

    /// When to look again.
    pub(super) fn retry(&self) -> Option<Tick> {
        self.retry
    }

    /// Whether the rest is over, or `room` was made; then listeners go on, unless they are to rest again.
    pub(super) fn reopens(&mut self, now: Tick, room: bool) -> bool {
        self.retry.take_if(|at| room || *at <= now).is_some()
    }
}

/// Which limit a client has met.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Full {
    /// The process's.
    Process,
    /// Its listener's.
    Listener,
    /// Its listener's for new connections.
    Rate,
}

/// Counts a client as one more connection of the process and of its listener.
pub(super) fn take<Socket>(snapshot: &Snapshot, client: &mut Client<Socket>, now: Tick) -> Result<(), Full> {
    if !client.counted && !snapshot.connections.take() {
        return Err(Full::Process);
    }
    client.counted = true;
    let listener = snapshot.listener(client.listener);
    if !listener.connections.take() {
        return Err(Full::Listener);
    }
    if !listener.admission.take_token(now, &listener.tally) {
        listener.connections.give();
        return Err(Full::Rate);
    }
    Ok(())
}

/// Whether a [`take`] may succeed now.
pub(super) fn has_room(snapshot: &Snapshot, listener: ListenerId, now: Tick) -> bool {
    let listener = snapshot.listener(listener);
    snapshot.connections.has_room() && listener.connections.has_room() && listener.admission.has_token(now)
}

/// Counts one less.
pub(super) fn give(snapshot: &Snapshot, listener: ListenerId, place: Option<Place>) {
    snapshot.listener(listener).admission.leave(place);
    snapshot.listener(listener).connections.give();
    snapshot.connections.give();
}
