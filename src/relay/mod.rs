//! The two directions of a connection and their one fate. Pure: no socket, no clock, no allocation.

mod fault;
mod flow;
#[cfg(test)]
mod tests;

pub use fault::{Fault, Retry};
pub use flow::{Flow, Input, Op, OpSet, Outcome, Output};

use std::num::NonZeroU32;

/// One of the two peers of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Side {
    /// The one that connected to us.
    Client,
    /// The one that we connected to.
    Server,
}

impl Side {
    /// The other peer.
    #[must_use]
    pub const fn other(self) -> Self {
        match self {
            Self::Client => Self::Server,
            Self::Server => Self::Client,
        }
    }

    /// The direction in which bytes leave this peer.
    #[must_use]
    pub const fn outbound(self) -> Dir {
        match self {
            Self::Client => Dir::Up,
            Self::Server => Dir::Down,
        }
    }
}

/// One of the two directions of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Dir {
    /// From the client to the server.
    Up,
    /// From the server to the client.
    Down,
}

impl Dir {
    /// Both directions.
    pub const BOTH: [Self; 2] = [Self::Up, Self::Down];

    /// The opposite direction.
    #[must_use]
    pub const fn other(self) -> Self {
        match self {
            Self::Up => Self::Down,
            Self::Down => Self::Up,
        }
    }

    /// The peer whose bytes these are.
    #[must_use]
    pub const fn source(self) -> Side {
        match self {
            Self::Up => Side::Client,
            Self::Down => Side::Server,
        }
    }

    /// The peer that gets them.
    #[must_use]
    pub const fn target(self) -> Side {
        self.source().other()
    }

    /// Its place in an array of two.
    #[must_use]
    pub const fn index(self) -> usize {
        self as usize
    }
}

/// How a relay ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum End {
    /// Both peers sent FIN and every byte was delivered. A FIN that was not sent yet is owed: closing the
    /// sockets sends it.
    Clean,
    /// A peer failed. What it sent before was delivered; now the other peer must be reset, so that it
    /// does not take a part for the whole.
    Reset {
        /// The peer that failed.
        by: Side,
        /// How.
        fault: Fault,
    },
    /// Both directions were quiet for too long.
    Idle,
    /// `waiting_for` was quiet for too long after the other peer had sent its FIN.
    HalfIdle {
        /// The peer that had not finished.
        waiting_for: Side,
    },
    /// It was asked to leave, and this was a quiet moment.
    Drained,
    /// It was ended on purpose, whatever it was doing.
    Killed,
}

/// What a relay tells while it runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum News {
    /// Nothing more is taken in a direction before it is granted ([`Relay::grant`]).
    Dry {
        /// Which.
        dir: Dir,
        /// Bytes that were taken beyond what was granted.
        owed: u32,
    },
    /// Bytes of this peer were taken, the server's for the first time. It is told only where the server's first bytes are
    /// awaited ([`Relay::awaiting`]), and nothing of the kind after them.
    Spoke(Side),
}

/// What an idle timer compares: if it is the same twice, nothing has happened in between.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    /// Bytes delivered, by [`Dir::index`].
    pub moved: [u64; 2],
    /// The peer that still may send after the other has ended or failed; `None` while both may.
    pub waiting_for: Option<Side>,
}

/// Both directions of a connection.
///
/// Ask [`Relay::poll`] what to do, do it, and tell [`Relay::handle`] how it went or [`Relay::park`] that
/// it has to wait; until poll says `None`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Relay {
    flows: [Flow; 2],
    /// The direction whose turn it is to be filled, so that neither starves.
    turn: Dir,
    /// The direction in which the last bytes were taken.
    last: Option<Dir>,
    /// Bytes were taken since that was told last.
    fresh: bool,
    /// Who speaks is told, until the server does.
    awaited: bool,
    broken: Option<(Side, Fault)>,
    end: Option<End>,
}

impl Relay {
    /// Two fresh directions, each of which holds about `room` bytes at most.
    #[must_use]
    pub fn new(room: u32) -> Self {
        let flows = [Flow::new(room), Flow::new(room)];
        Self { flows, turn: Dir::Up, last: None, fresh: false, awaited: false, broken: None, end: None }
    }

    /// Nothing is taken in that direction before it is granted.
    #[must_use]
    pub fn limited(mut self, limited: [bool; 2]) -> Self {
        for dir in Dir::BOTH.into_iter().filter(|dir| limited[dir.index()]) {
            self.flows[dir.index()].limit();
        }
        self
    }

    /// Who speaks is told until the server does, if `awaited` ([`News::Spoke`]).
    #[must_use]
    pub fn awaiting(mut self, awaited: bool) -> Self {
        self.awaited = awaited;
        self
    }

    /// So many of the client's bytes are held already, and are to be given to the server first.
    #[must_use]
    pub fn preloaded(mut self, bytes: usize) -> Self {
        if let Some(bytes) = u32::try_from(bytes).ok().and_then(NonZeroU32::new) {
            self.flows[Dir::Up.index()].preload(bytes);
            (self.last, self.fresh) = (Some(Dir::Up), true);
        }
        self
    }

    /// So many bytes more may be taken in a direction; `None`: as many as there are.
    pub fn grant(&mut self, dir: Dir, bytes: Option<u32>) {
        self.flows[dir.index()].grant(bytes);
    }

    /// What is to be told now, one thing at a time. That a direction is dry is told once until it is granted something:
    /// whoever is told must see to that.
    pub fn news(&mut self) -> Option<News> {
        if self.awaited && self.fresh {
            return Some(self.spoke());
        }
        if self.end.is_some() {
            return None;
        }
        Dir::BOTH.into_iter().find_map(|dir| Some(News::Dry { dir, owed: self.flows[dir.index()].ask()? }))
    }

    /// Whose bytes were taken since that was told last: the server's, if both were. It counts what was taken, not what was
    /// delivered, of which a ring may tell only when there is something else to tell.
    #[cold]
    fn spoke(&mut self) -> News {
        let server = self.flow(Dir::Down);
        self.awaited = server.queued() == 0 && server.moved() == 0;
        self.fresh = false;
        News::Spoke(if self.awaited { Side::Client } else { Side::Server })
    }

    /// Whether bytes would be taken if any might be.
    #[must_use]
    pub fn is_dry(&self) -> bool {
        self.flows.iter().any(Flow::is_dry)
    }

    /// What to do next, or `None` when everything waits or the relay has ended. Bytes that are held are
    /// offered to their target before more are taken from anywhere.
    #[must_use]
    pub fn poll(&self) -> Option<(Dir, Op)> {
        if self.end.is_some() {
            return None;
        }
        let order = [self.turn, self.turn.other()];
        let wants = order.map(|dir| self.flows[dir.index()].wants());
        for op in [Op::Drain, Op::Finish, Op::Fill] {
            for (dir, wants) in order.into_iter().zip(wants) {
                if wants.has(op) {
                    return Some((dir, op));
                }
            }
        }
        None
    }

    /// An operation ended.
    pub fn handle(&mut self, dir: Dir, op: Op, outcome: Outcome) {
        if self.end.is_some() {
            return;
        }
        let believed = match outcome {
            // After a reset the kernel reports 0: that is not the peer's FIN.
            Outcome::Eof => match self.broken {
                Some((side, fault))
                    if side == dir.source() && fault != Fault::Closed && !mutant!(EofAfterResetBelieved) =>
                {
                    Outcome::Fault(fault)
                }
                _ => outcome,
            },
            _ => outcome,
        };
        match op {
            Op::Fill => {
                self.turn = dir.other();
                if matches!(outcome, Outcome::Moved(_)) {
                    (self.last, self.fresh) = (Some(dir), true);
                }
            }
            Op::Drain | Op::Finish => {}
        }
        if let Err(fault) = self.flows[dir.index()].finish(op, believed) {
            let side = if op == Op::Fill { dir.source() } else { dir.target() };
            self.fail(side, fault);
        }
        self.settle();
    }

    /// A peer was found to have failed by other means than an operation. What it sent before is still
    /// taken from it and delivered.
    pub fn fail(&mut self, side: Side, fault: Fault) {
        self.broken.get_or_insert((side, fault));
        self.flows[side.outbound().other().index()].break_output();
        self.settle();
    }

    /// The engine keeps this operation until it can be done.
    pub fn park(&mut self, dir: Dir, op: Op) {
        self.flows[dir.index()].park(op);
    }

    /// A parked operation may be possible again.
    pub fn resume(&mut self, dir: Dir, op: Op) {
        self.flows[dir.index()].resume(op);
    }

    /// Ends the relay now, whatever it holds. A relay that is already waiting for the rest of a failed
    /// peer's bytes ends as reset by that peer.
    pub fn stop(&mut self, why: End) {
        let end = match self.broken {
            Some((by, fault)) if why != End::Killed => End::Reset { by, fault },
            _ => why,
        };
        self.end.get_or_insert(end);
    }

    /// How it ended; `None` while it goes on.
    #[must_use]
    pub fn end(&self) -> Option<End> {
        self.end
    }

    /// One direction.
    #[must_use]
    pub fn flow(&self, dir: Dir) -> &Flow {
        &self.flows[dir.index()]
    }

    /// The peer that failed first, if any.
    #[must_use]
    pub fn broken(&self) -> Option<Side> {
        self.broken.map(|(side, _)| side)
    }

    /// Whether bytes that were taken from a peer have not been given to the other.
    #[must_use]
    pub fn holds_bytes(&self) -> bool {
        self.flows.iter().any(|flow| flow.queued() > 0)
    }

    /// Whether a peer that is still there was not given everything that was taken for it. What is held for
    /// a peer that failed counts no more.
    #[must_use]
    pub fn is_short(&self) -> bool {
        match self.end {
            Some(End::Reset { by, .. }) => self.flow(by.outbound()).queued() > 0,
            _ => self.holds_bytes(),
        }
    }

    /// The direction in which the last bytes were taken. That of a question comes before that of its answer, whichever thread
    /// tells first that it has delivered.
    #[must_use]
    pub fn last(&self) -> Option<Dir> {
        self.last
    }

    /// For the idle timer: see [`Progress`].
    #[must_use]
    pub fn progress(&self) -> Progress {
        let ended =
            |side: Side| self.flow(side.outbound()).input() == Input::Ended || self.broken() == Some(side);
        let waiting_for = match (ended(Side::Client), ended(Side::Server)) {
            (true, false) => Some(Side::Server),
            (false, true) => Some(Side::Client),
            // Both ended and not over: the slower reader is waited for, whose bytes are still queued.
            (true, true) if self.flow(Dir::Up).queued() > 0 => Some(Side::Server),
            (true, true) => Some(Side::Client),
            (false, false) => None,
        };
        Progress { moved: Dir::BOTH.map(|dir| self.flow(dir).moved()), waiting_for }
    }

    fn settle(&mut self) {
        let end = match self.broken {
            Some((by, fault)) => (mutant!(QueueDroppedOnReset) || self.flow(by.outbound()).is_spent())
                .then_some(End::Reset { by, fault }),
            None => self.flows.iter().all(Flow::is_complete).then_some(End::Clean),
        };
        if let Some(end) = end {
            self.end.get_or_insert(end);
        }
    }
}
