//! One client connection from accept to close. Pure: no socket, no clock, no allocation.
//!
//! ```text
//!            picked                connected              ended               closed
//! (accepted) ------> Dialing ----------------> Relaying ---------> Closing ---------> (gone)
//!                    |  ^  |                                          ^
//!                    +--+  +------------------------------------------+
//!              next server    no server left, the client left, drain
//! ```

mod cause;
mod dial;
mod record;
#[cfg(test)]
mod tests;
mod watch;

pub use cause::Cause;
pub use record::Record;
pub use watch::Sight;

use std::net::SocketAddr;
use std::time::Duration;

use crate::relay::{Dir, End, Fault, Side};
use crate::snapshot::{ListenerId, ServerId, Snapshot};
use crate::tick::Tick;
use dial::{Dial, Next};
use watch::{Limits, Watch};

/// The first wait for a peer that has not acknowledged everything before it is reset; each is twice the
/// one before, up to [`UNSENT_WAIT_MAX`].
const UNSENT_WAIT_MIN: Duration = Duration::from_millis(1);
const UNSENT_WAIT_MAX: Duration = Duration::from_millis(250);

/// What happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Input {
    /// An attempt to reach a server ended.
    Dialed(Result<(), Fault>),
    /// The client failed before a server was reached.
    ClientLeft,
    /// The relay ended.
    Ended {
        /// How.
        end: End,
        /// Bytes delivered, by [`crate::relay::Dir::index`].
        moved: [u64; 2],
        /// A peer that is still there was not given everything that was taken for it.
        unsent: bool,
    },
    /// The session's deadline has passed; with what can be seen of its relay.
    Deadline(Option<Sight>),
    /// The process is ending: close at the first quiet moment from then on.
    Leave(Tick),
    /// The process stops now.
    Kill,
}

/// What it asks of its engine, which answers each with an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// Connect to a server; an attempt that still runs is abandoned. Answer: [`crate::engine::Event::Dialed`].
    Dial {
        /// Which.
        to: ServerId,
    },
    /// Move bytes both ways. Answer: [`crate::engine::Event::Ended`].
    Relay,
    /// End a running relay. Answer: [`crate::engine::Event::Ended`].
    Stop(End),
    /// Close both sockets; what was given to the kernel is still delivered. Answer: [`crate::engine::Event::Closed`].
    Close,
    /// Reset both peers. Answer: [`crate::engine::Event::Closed`]. As long as the spared peer has not acknowledged
    /// everything, nothing is done and nothing answered, because a reset would destroy what is on its way:
    /// whoever spares a peer asks again.
    Reset {
        /// The peer that must get everything first, if any.
        spare: Option<Side>,
    },
}

/// What a session may ask.
#[derive(Clone, Copy, Debug)]
pub struct Context<'a> {
    /// The time.
    pub now: Tick,
    /// The configuration.
    pub snapshot: &'a Snapshot,
}

/// One client connection. After each input it may have an order for the engine; [`Session::deadline`]
/// tells when it wants to be woken.
#[derive(Debug)]
pub struct Session {
    id: u64,
    client: Option<SocketAddr>,
    began: Tick,
    connect_ms: Option<u32>,
    server: Option<ServerId>,
    listener: ListenerId,
    tries: u8,
    /// `server` counts this connection among its own.
    counted: bool,
    /// From when on it is to leave.
    leave: Option<Tick>,
    state: State,
}

#[derive(Debug)]
enum State {
    Dialing(Dial),
    Relaying(Watch),
    Closing(Closing),
}

#[derive(Debug)]
struct Closing {
    cause: Cause,
    moved: [u64; 2],
    /// A peer that has to get what is on its way before it is reset.
    spare: Option<Spare>,
}

#[derive(Debug)]
struct Spare {
    side: Side,
    /// When to look whether it has got everything, and the wait that led there.
    look: Tick,
    wait: Duration,
    /// When to reset it all the same; `None` is never.
    gives_up: Option<Tick>,
}

impl Session {
    /// A connection that was just accepted, and what to do first. A client of a unix socket has no address.
    #[must_use]
    pub fn new(id: u64, listener: ListenerId, client: Option<SocketAddr>, cx: Context<'_>) -> (Self, Order) {
        let mut session = Self {
            id,
            client,
            began: cx.now,
            connect_ms: None,
            server: None,
            listener,
            tries: 0,
            counted: false,
            leave: None,
            state: State::Dialing(Dial::new(cx.now, cx.snapshot)),
        };
        let order = session.dial(cx).expect("the first server is tried, or there is none, at once");
        (session, order)
    }

    /// Something happened. What does not fit the state came too late to matter and is ignored.
    pub fn handle(&mut self, input: Input, cx: Context<'_>) -> Option<Order> {
        match (&mut self.state, input) {
            (State::Dialing(_), Input::Dialed(Ok(()))) => Some(self.connected(cx)),
            (State::Dialing(_), Input::Dialed(Err(fault))) => self.dial_failed(fault, cx),
            (State::Dialing(dial), Input::Deadline(_)) if dial.is_attempting() => {
                self.dial_failed(Fault::TimedOut, cx)
            }
            (State::Dialing(_), Input::Deadline(_)) => self.dial(cx),
            (State::Dialing(_), Input::ClientLeft) => Some(self.give_up(Cause::ClientLeft)),
            (State::Dialing(_), Input::Kill) => Some(self.give_up(Cause::Drain)),
            (State::Relaying(watch), Input::Deadline(Some(sight))) => {
                watch.look(cx.now, sight, Limits::new(cx.snapshot), self.leave).map(Order::Stop)
            }
            (state, Input::Leave(at)) => {
                self.leave = Some(at);
                if let State::Relaying(watch) = state {
                    watch.look_by(at);
                }
                None
            }
            (State::Relaying(_), Input::Kill) => Some(Order::Stop(End::Killed)),
            (State::Relaying(_), Input::Ended { end, moved, unsent }) => {
                Some(self.ended(end, moved, unsent, cx))
            }
            (State::Closing(closing), Input::Deadline(_)) => Some(closing.reset(cx.now)),
            (State::Closing(_), Input::Kill) => Some(Order::Reset { spare: None }),
            _ => None,
        }
    }

    /// When it wants an [`Input::Deadline`]; `None` is never.
    #[must_use]
    pub fn deadline(&self) -> Option<Tick> {
        match &self.state {
            State::Dialing(dial) => dial.deadline(),
            State::Relaying(watch) => watch.next,
            State::Closing(closing) => closing.spare.as_ref().map(|spare| spare.look),
        }
    }

    /// The server that is tried, or that it was relayed to.
    #[must_use]
    pub fn server(&self) -> Option<ServerId> {
        self.server
    }

    /// The listener that accepted it.
    #[must_use]
    pub fn listener(&self) -> ListenerId {
        self.listener
    }

    /// Whether its relay is known to have been quiet for a while: since it was last looked at.
    #[must_use]
    pub fn is_idle(&self, now: Tick, sight: Sight) -> bool {
        matches!(&self.state, State::Relaying(watch) if watch.is_idle(now, sight.progress))
    }

    /// What there is to tell of it, now that its sockets are closed.
    #[must_use]
    pub fn record(&self, worker: u16, now: Tick) -> Record {
        let (cause, moved) = match &self.state {
            State::Closing(closing) => (closing.cause, closing.moved),
            State::Dialing(_) | State::Relaying(_) => (Cause::Drain, [0; 2]),
        };
        Record {
            id: self.id,
            worker,
            listener: self.listener,
            server: self.server,
            client: self.client,
            tries: self.tries,
            connect_ms: self.connect_ms,
            began: self.began,
            ended: now,
            bytes_in: moved[Dir::Up.index()],
            bytes_out: moved[Dir::Down.index()],
            cause,
        }
    }

    fn dial_failed(&mut self, fault: Fault, cx: Context<'_>) -> Option<Order> {
        let (State::Dialing(dial), Some(server)) = (&mut self.state, self.server) else { return None };
        // The engine goes on with an attempt that took too long while the next one has to wait. If it
        // connects, good; if it fails, that was counted already.
        if !dial.is_attempting() {
            return None;
        }
        dial.failed(server, fault, cx.now);
        self.uncount(cx.snapshot);
        self.dial(cx)
    }

    fn dial(&mut self, cx: Context<'_>) -> Option<Order> {
        let State::Dialing(dial) = &mut self.state else { return None };
        let pool = cx.snapshot.listener(self.listener).pool;
        let next = dial.next(self.id, pool, cx.snapshot, cx.now);
        self.tries = dial.attempts();
        match next {
            Next::Dial(server) => {
                self.count(server, cx);
                Some(Order::Dial { to: server })
            }
            Next::Wait => None,
            Next::GiveUp(cause) => Some(self.give_up(cause)),
        }
    }

    fn count(&mut self, server: ServerId, cx: Context<'_>) {
        debug_assert!(!self.counted, "counted twice");
        // A server has no limit yet, so this always succeeds.
        self.counted = cx.snapshot.server(server).connections.take();
        self.server = Some(server);
    }

    /// Its server counts it no longer: an attempt failed, or the sockets are closed.
    pub fn uncount(&mut self, snapshot: &Snapshot) {
        if let (true, Some(server)) = (std::mem::take(&mut self.counted), self.server) {
            snapshot.server(server).connections.give();
        }
    }

    fn connected(&mut self, cx: Context<'_>) -> Order {
        self.connect_ms = u32::try_from(cx.now.since(self.began).as_millis()).ok();
        if let (false, Some(server)) = (self.counted, self.server) {
            self.count(server, cx);
        }
        let mut watch = Watch::new(cx.now, Limits::new(cx.snapshot));
        if let Some(leave) = self.leave {
            watch.look_by(leave.max(cx.now));
        }
        self.state = State::Relaying(watch);
        Order::Relay
    }

    fn give_up(&mut self, cause: Cause) -> Order {
        self.state = State::Closing(Closing { cause, moved: [0; 2], spare: None });
        Order::Reset { spare: None }
    }

    fn ended(&mut self, end: End, moved: [u64; 2], unsent: bool, cx: Context<'_>) -> Order {
        let (cause, spare) = match end {
            End::Clean => (Cause::Done, None),
            End::Reset { by, fault } => (failure(by, fault), (!unsent).then(|| Spare::new(by.other(), cx))),
            End::Idle => (Cause::IdleTimeout, None),
            End::HalfIdle { waiting_for: Side::Server } => (Cause::HalfCloseServer, None),
            End::HalfIdle { waiting_for: Side::Client } => (Cause::HalfCloseClient, None),
            End::Drained | End::Killed => (Cause::Drain, None),
        };
        let order = match end {
            // A peer that has not taken what is held has had `half_close` for it.
            End::Reset { .. } if unsent => Order::Reset { spare: None },
            End::Reset { by, .. } => Order::Reset { spare: Some(by.other()) },
            // A part must not be taken for the whole.
            End::Idle | End::HalfIdle { .. } if unsent => Order::Reset { spare: None },
            End::Killed => Order::Reset { spare: None },
            End::Clean | End::Idle | End::HalfIdle { .. } | End::Drained => Order::Close,
        };
        self.state = State::Closing(Closing { cause, moved, spare });
        order
    }
}

fn failure(by: Side, fault: Fault) -> Cause {
    match (by, fault) {
        (_, Fault::NoFiles | Fault::NoMemory) => Cause::NoResources,
        (Side::Client, Fault::TimedOut | Fault::Unreachable) => Cause::ClientVanished,
        (Side::Server, Fault::TimedOut | Fault::Unreachable) => Cause::ServerVanished,
        (Side::Client, _) => Cause::ClientReset,
        (Side::Server, _) => Cause::ServerReset,
    }
}

impl Closing {
    /// Asks for the reset once more; if it has to wait again, longer than before.
    fn reset(&mut self, now: Tick) -> Order {
        // Whoever is not spared any more has no deadline either: one in the past would be due for ever.
        self.spare.take_if(|spare| spare.gives_up.is_some_and(|at| at <= now));
        Order::Reset { spare: self.spare.as_mut().map(|spare| spare.look_later(now)) }
    }
}

impl Spare {
    fn new(side: Side, cx: Context<'_>) -> Self {
        Self {
            side,
            look: cx.now.after(UNSENT_WAIT_MIN),
            wait: UNSENT_WAIT_MIN,
            gives_up: cx.snapshot.timeouts.half_close().map(|limit| cx.now.after(limit)),
        }
    }

    fn look_later(&mut self, now: Tick) -> Side {
        self.wait = (self.wait * 2).min(UNSENT_WAIT_MAX);
        self.look = now.after(self.wait);
        self.side
    }
}
