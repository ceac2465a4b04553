//! Reaching a server: attempts, retries, and when to give up.

use super::{Cause, Context, Order, Session, State};
use crate::balance::{Client, Pick, TRIED_MAX};
use crate::relay::{Fault, Retry};
use crate::snapshot::{Local, PoolId, ServerId, Snapshot};
use crate::tick::{Tick, least};
use std::net::IpAddr;
use std::time::Duration;

/// The wait when descriptors or kernel memory are short here, or a server's queue is full: soon over.
const SHORTAGE_WAIT: Duration = Duration::from_millis(100);

/// The state of reaching a server for one client.
#[derive(Debug)]
pub(super) struct Dial {
    /// Servers that failed; they are passed over while there are others.
    tried: [ServerId; TRIED_MAX],
    tried_count: u8,
    /// Attempts that reached a server or failed to; those that have to be made again are none.
    attempts: u8,
    /// The place of the address that the last attempt came from ([`Local::place`]).
    from: u8,
    /// The bits of addresses that have no port left towards the server that was tried last, which is tried from another one.
    dry: u32,
    /// How the last attempt failed.
    fault: Option<Fault>,
    phase: Phase,
    /// When all attempts together have taken too long; `None` is never.
    total_ends: Option<Tick>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// An attempt runs until then; `None` is without limit.
    Attempting(Option<Tick>),
    /// No attempt runs, and the next one begins then.
    Waiting(Tick),
    /// Every server is full: it waits in the queue until then; `None` is without limit.
    Queued(Option<Tick>),
}

/// Who wants to reach a server.
#[derive(Clone, Copy, Debug)]
pub(super) struct Wish {
    /// The connection's number.
    pub(super) id: u64,
    /// Whose it is.
    pub(super) client: Client,
    /// Where the server is to be.
    pub(super) pool: PoolId,
    /// The one that was tried last.
    pub(super) last: Option<ServerId>,
    /// How long it may wait for one that has room.
    pub(super) queue: Option<Duration>,
    /// Nobody waits longer than it does.
    pub(super) is_first: bool,
}

/// What to do next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Next {
    /// Try this server, which counts the connection already, from this address.
    Dial(ServerId, Option<IpAddr>),
    /// Wait for the deadline.
    Wait,
    /// Wait for a server that has room, in the queue, which counts the connection already.
    Queue,
    /// No server can be had.
    GiveUp(Cause),
}

impl Dial {
    /// Nothing was tried yet; [`Dial::next`] is due.
    pub(super) fn new(now: Tick, connect_total: Option<Duration>) -> Self {
        Self {
            tried: [ServerId(0); TRIED_MAX],
            tried_count: 0,
            attempts: 0,
            from: 0,
            dry: 0,
            fault: None,
            phase: Phase::Waiting(now),
            total_ends: connect_total.map(|limit| now.after(limit)),
        }
    }

    /// Attempts so far.
    pub(super) fn attempts(&self) -> u8 {
        self.attempts
    }

    /// Whether an attempt runs.
    pub(super) fn is_attempting(&self) -> bool {
        matches!(self.phase, Phase::Attempting(_))
    }

    /// When something is to be decided; `None` is when the attempt ends.
    pub(super) fn deadline(&self) -> Option<Tick> {
        match self.phase {
            Phase::Attempting(ends) | Phase::Queued(ends) => ends,
            Phase::Waiting(until) => Some(until),
        }
    }

    /// Whether it waits in a queue.
    pub(super) fn is_queued(&self) -> bool {
        matches!(self.phase, Phase::Queued(_))
    }

    /// It waits in no queue any more. [`Dial::next`] is due.
    pub(super) fn leave_queue(&mut self, now: Tick) {
        self.phase = Phase::Waiting(now);
    }

    /// The attempt on `server` failed. [`Dial::next`] is due.
    pub(super) fn failed(&mut self, server: ServerId, fault: Fault, snapshot: &Snapshot, now: Tick) {
        self.fault = Some(fault);
        if fault == Fault::NoPorts {
            // The server was not asked, and is tried from another address as long as there is one.
            self.dry |= snapshot.ran_dry(server, self.from, now);
            self.attempts -= 1;
            self.phase = Phase::Waiting(now);
            return;
        }
        self.dry = 0;
        match fault.retry() {
            Retry::Same => {
                self.attempts -= 1;
                self.phase = Phase::Waiting(now.after(SHORTAGE_WAIT));
            }
            Retry::Next => self.pass_over(server, now),
        }
    }

    fn pass_over(&mut self, server: ServerId, now: Tick) {
        if usize::from(self.tried_count) == TRIED_MAX {
            self.tried.rotate_left(1);
            self.tried_count -= 1;
        }
        self.tried[usize::from(self.tried_count)] = server;
        self.tried_count += 1;
        self.phase = Phase::Waiting(now);
    }

    /// The attempt that runs is given up, for no fault of its server. [`Dial::next`] is due.
    pub(super) fn withdraw(&mut self, now: Tick) {
        self.dry = 0;
        if self.is_attempting() {
            self.attempts -= 1;
            self.phase = Phase::Waiting(now);
        }
    }

    /// Decides what to do now that no attempt runs.
    pub(super) fn next(&mut self, wish: Wish, snapshot: &Snapshot, now: Tick) -> Next {
        let (until, was_queued) = match self.phase {
            Phase::Waiting(until) => (until, false),
            Phase::Queued(_) if wish.is_first => (now, true),
            Phase::Attempting(_) | Phase::Queued(_) => return Next::Wait,
        };
        let pool = snapshot.pool(wish.pool);
        if self.attempts >= pool.retry.tries || self.total_ends.is_some_and(|ends| ends <= now.max(until)) {
            return Next::GiveUp(if was_queued { Cause::QueueTimeout } else { self.cause() });
        }
        if until > now {
            return Next::Wait;
        }
        let tried = &self.tried[..usize::from(self.tried_count)];
        let seed = wish.id ^ (u64::from(self.attempts) << 56);
        let again = wish.last.filter(|_| self.dry != 0);
        match take(again, tried, seed, wish, snapshot, now) {
            Pick::Server(server) => {
                self.attempts += 1;
                if again != Some(server) {
                    self.dry = 0;
                }
                let dry = std::mem::take(&mut self.dry);
                let Some(Local { address, place }) =
                    snapshot.source(server, (wish.id, wish.client.address), dry, now)
                else {
                    snapshot.server(server).connections.give();
                    self.fault = Some(Fault::NoPorts);
                    self.pass_over(server, now);
                    return self.next(wish, snapshot, now);
                };
                (self.from, self.dry) = (place, dry);
                let attempt_ends = pool.connect.map(|limit| now.after(limit));
                self.phase = Phase::Attempting(least(attempt_ends, self.total_ends));
                Next::Dial(server, address)
            }
            Pick::Full if was_queued => Next::Wait,
            Pick::None if tried.is_empty() => Next::GiveUp(self.cause()),
            Pick::Full if tried.is_empty() => {
                if !pool.queue.enter() {
                    return Next::GiveUp(Cause::QueueFull);
                }
                let ends = wish.queue.map(|limit| now.after(limit));
                self.phase = Phase::Queued(least(ends, self.total_ends));
                Next::Queue
            }
            // No other server can be had: the same ones again, after a pause.
            Pick::None | Pick::Full => {
                self.tried_count = 0;
                self.phase = Phase::Waiting(now.after(pool.retry.same_server_delay));
                self.next(wish, snapshot, now)
            }
        }
    }

    /// The cause of giving up: how the last attempt failed.
    fn cause(&self) -> Cause {
        match self.fault {
            None => Cause::NoServer,
            Some(Fault::Refused | Fault::Absent | Fault::Reset | Fault::Closed) => Cause::ConnectRefused,
            Some(Fault::TimedOut | Fault::Busy) => Cause::ConnectTimeout,
            Some(Fault::Unreachable) => Cause::ConnectUnreachable,
            Some(Fault::NoPorts) => Cause::NoSourcePort,
            Some(Fault::NoFiles | Fault::NoMemory) => Cause::NoResources,
            Some(Fault::Denied | Fault::NoTls | Fault::Other(_)) => Cause::ConnectFailed,
        }
    }
}

/// Picks a server, and counts a connection of it. Whoever waits already comes first, but for those that have been let
/// through once. If there is a server to be tried `again`, it is that, unless it is full meanwhile.
fn take(
    again: Option<ServerId>,
    tried: &[ServerId],
    seed: u64,
    wish: Wish,
    snapshot: &Snapshot,
    now: Tick,
) -> Pick {
    let pool = snapshot.pool(wish.pool);
    if let Some(again) = again.filter(|server| snapshot.server(*server).connections.take()) {
        return Pick::Server(again);
    }
    if !wish.is_first && tried.is_empty() && pool.queue.count() > 0 {
        return Pick::Full;
    }
    loop {
        match pool.choice.pick(tried, seed, wish.client, &snapshot.loads(now)) {
            // Another worker was faster.
            Pick::Server(server) if !snapshot.server(server).connections.take() => {}
            other => return other,
        }
    }
}

impl Session {
    /// Whether it tries to reach a server now, and does not wait for one or for its next attempt.
    #[must_use]
    pub fn is_attempting(&self) -> bool {
        matches!(&self.state, State::Dialing(dial) if dial.is_attempting())
    }

    /// Nobody waits longer in its queue, or that is not its pool's any more.
    pub(super) fn turn(&mut self, cx: Context<'_>) -> Option<Order> {
        let is_first = self.queue_of == self.pool(cx.snapshot);
        if !is_first {
            self.leave_queue(cx);
        }
        self.dial(cx, is_first)
    }
}
