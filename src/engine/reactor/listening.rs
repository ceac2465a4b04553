//! Listening sockets of the engines that accept by plain calls, and how many clients are taken in a turn.

use std::collections::VecDeque;

use super::latch::Latch;
use super::selector::Want;
use crate::engine::Event;
use crate::snapshot::{ListenerId, Snapshot};
use crate::sys::Net;
use crate::sys::net::Accepted;

/// Connections that died in a backlog and are met at a time.
const GONE_MAX: usize = 64;

/// One listening socket.
#[derive(Debug)]
pub(in crate::engine) struct Listening<N: Net> {
    pub(super) id: ListenerId,
    pub(super) socket: N::Listener,
    pub(super) waiting: Latch,
    pub(super) paused: bool,
    /// As [`Socket::asked`](super::wire::Socket::asked).
    pub(super) asked: Option<Want>,
}

impl<N: Net> Listening<N> {
    pub(in crate::engine) fn new(id: ListenerId, socket: N::Listener) -> Self {
        Self { id, socket, waiting: Latch::new(), paused: false, asked: Some(Want::default()) }
    }

    /// Whose it is.
    pub(in crate::engine) fn id(&self) -> ListenerId {
        self.id
    }

    /// The socket.
    pub(in crate::engine) fn socket(&self) -> &N::Listener {
        &self.socket
    }

    /// The socket alone.
    pub(in crate::engine) fn into_socket(self) -> N::Listener {
        self.socket
    }

    /// A client may wait.
    pub(in crate::engine) fn raise(&mut self) {
        self.waiting.raise();
    }

    /// Stops accepting for a while, or goes on, if it is a socket of that listener.
    pub(in crate::engine) fn pause(&mut self, id: ListenerId, paused: bool) {
        if self.id == id {
            self.paused = paused;
        }
    }

    /// Whether a client may wait that may be taken.
    pub(in crate::engine) fn has_work(&self) -> bool {
        (!self.paused || mutant!(PausedListenerSpins)) && self.waiting.is_ready()
    }

    /// Takes whoever waits, `most` at most, although it may be paused.
    pub(in crate::engine) fn accept_all(
        &mut self,
        most: usize,
        out: &mut VecDeque<Event<N::Stream>>,
    ) -> usize {
        self.paused = false;
        self.waiting.raise();
        self.accept(most, out)
    }

    /// Accepts at most `most`, and says how many. Meets no more than so many that are gone already, which
    /// count for nothing but time.
    pub(in crate::engine) fn accept(&mut self, most: usize, out: &mut VecDeque<Event<N::Stream>>) -> usize {
        let (mut accepted, mut gone) = (0, 0);
        while accepted < most && gone < GONE_MAX && self.has_work() {
            match N::accept(&self.socket) {
                Accepted::Client(socket, peer) => {
                    accepted += 1;
                    out.push_back(Event::Accepted { listener: self.id, socket, peer });
                }
                Accepted::Nothing(proof) => self.waiting.clear(proof),
                Accepted::Gone => gone += 1,
                Accepted::Failed(fault) => {
                    // The backlog may still hold connections of which no new event will tell: the latch
                    // stays ready, and the worker says when to try again.
                    self.paused = true;
                    out.push_back(Event::AcceptFailed { listener: self.id, fault });
                    break;
                }
            }
        }
        accepted
    }
}

/// The accepts of a turn: of each listener so many clients as its `accept_burst` says, from all its sockets together; of all
/// of them as many as the largest of these says. A storm of new ones must not starve the old, and those that are taken need
/// descriptors, which are reserved for so many.
#[derive(Debug, Default)]
pub(in crate::engine) struct Bursts {
    /// The socket that is asked first in this turn.
    first: usize,
    /// Clients that were taken in this turn, by listener; kept for its memory only.
    taken: Vec<usize>,
}

impl Bursts {
    /// Takes clients that wait.
    pub(in crate::engine) fn accept<N: Net>(
        &mut self,
        listeners: &mut [Option<Listening<N>>],
        snapshot: &Snapshot,
        out: &mut VecDeque<Event<N::Stream>>,
    ) {
        // Each turn begins with another one, so that a busy socket does not starve the next.
        let count = listeners.len();
        self.first = (self.first + 1) % count.max(1);
        self.taken.clear();
        let mut left = usize::MAX;
        for index in 0..count {
            let Some(listening) = &mut listeners[(self.first + index) % count] else { continue };
            if !listening.has_work() {
                continue;
            }
            if self.taken.is_empty() {
                self.taken.resize(snapshot.listeners.len(), 0);
                left = snapshot.listeners.iter().map(|one| usize::from(one.accept_burst)).max().unwrap_or(0);
            }
            let own = usize::from(snapshot.listener(listening.id).accept_burst);
            let taken = &mut self.taken[usize::from(listening.id.0)];
            let more = listening.accept(left.min(own.saturating_sub(*taken)), out);
            *taken += more;
            left -= more;
        }
    }
}
