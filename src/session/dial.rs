//! Reaching a server: attempts, retries, and when to give up.

use super::Cause;
use crate::balance::{Pick, TRIED_MAX};
use crate::relay::{Fault, Retry};
use crate::snapshot::{PoolId, ServerId, Snapshot};
use crate::tick::Tick;
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
    /// Source addresses that have no port left towards the server that was tried last, which is tried from another one.
    dry: u8,
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
}

/// What to do next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Next {
    /// Try this server, from the address whose turn it is: so many were tried before.
    Dial(ServerId, u8),
    /// Wait for the deadline.
    Wait,
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
            Phase::Attempting(ends) => ends,
            Phase::Waiting(until) => Some(until),
        }
    }

    /// The attempt on `server`, which can be reached from so many addresses, failed. [`Dial::next`] is due.
    pub(super) fn failed(&mut self, server: ServerId, fault: Fault, sources: usize, now: Tick) {
        self.fault = Some(fault);
        if fault == Fault::NoPorts && usize::from(self.dry) + 1 < sources {
            // The server was not asked.
            self.attempts -= 1;
            self.dry += 1;
            self.phase = Phase::Waiting(now);
            return;
        }
        self.dry = 0;
        match fault.retry() {
            Retry::Same => {
                self.attempts -= 1;
                self.phase = Phase::Waiting(now.after(SHORTAGE_WAIT));
            }
            Retry::Next => {
                if usize::from(self.tried_count) == TRIED_MAX {
                    self.tried.rotate_left(1);
                    self.tried_count -= 1;
                }
                self.tried[usize::from(self.tried_count)] = server;
                self.tried_count += 1;
                self.phase = Phase::Waiting(now);
            }
        }
    }

    /// The attempt that runs is given up, for no fault of its server. [`Dial::next`] is due.
    pub(super) fn withdraw(&mut self, now: Tick) {
        self.dry = 0;
        if self.is_attempting() {
            self.attempts -= 1;
            self.phase = Phase::Waiting(now);
        }
    }

    /// Decides what to do for connection `id` of `client` now that no attempt runs; the one before was on server `last`.
    pub(super) fn next(
        &mut self,
        (id, client): (u64, Option<IpAddr>),
        (pool, last): (PoolId, Option<ServerId>),
        snapshot: &Snapshot,
        now: Tick,
    ) -> Next {
        let Phase::Waiting(until) = self.phase else { return Next::Wait };
        let retry = snapshot.pool(pool).retry;
        if self.attempts >= retry.tries || self.total_ends.is_some_and(|ends| ends <= now.max(until)) {
            return Next::GiveUp(self.cause());
        }
        if until > now {
            return Next::Wait;
        }
        let tried = &self.tried[..usize::from(self.tried_count)];
        let seed = id ^ (u64::from(self.attempts) << 56);
        let load = |server: ServerId| Some(snapshot.server(server).connections.count());
        let pick = match last {
            Some(last) if self.dry > 0 => Pick::Server(last),
            _ => snapshot.pool(pool).balancer.pick(tried, seed, client, load),
        };
        if let Pick::Server(server) = pick {
            let attempt_ends = snapshot.pool(pool).connect.map(|limit| now.after(limit));
            self.attempts += 1;
            self.phase = Phase::Attempting(attempt_ends.into_iter().chain(self.total_ends).min());
            return Next::Dial(server, self.dry);
        }
        if tried.is_empty() {
            return Next::GiveUp(self.cause());
        }
        // No other server is left: the same ones again, after a pause.
        self.tried_count = 0;
        self.phase = Phase::Waiting(now.after(retry.same_server_delay));
        self.next((id, client), (pool, last), snapshot, now)
    }

    /// The cause of giving up: how the last attempt failed.
    fn cause(&self) -> Cause {
        match self.fault {
            None => Cause::NoServer,
            Some(Fault::Refused | Fault::Reset | Fault::Closed) => Cause::ConnectRefused,
            Some(Fault::TimedOut | Fault::Busy) => Cause::ConnectTimeout,
            Some(Fault::Unreachable) => Cause::ConnectUnreachable,
            Some(Fault::NoPorts) => Cause::NoSourcePort,
            Some(Fault::NoFiles | Fault::NoMemory) => Cause::NoResources,
            Some(Fault::Denied | Fault::Other(_)) => Cause::ConnectFailed,
        }
    }
}
