//! What workers read: the configuration made dense and immutable, with the few counts that must be true
//! for the whole process beside it.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

pub use crate::balance::ServerId;
use crate::balance::{Balancer, Rotate, TwoChoices};
use crate::config::{self, AcceptBalance, AtMaxconn};
use crate::tick::Tick;

/// A listener: an index into [`Snapshot::listeners`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ListenerId(pub u16);

/// A pool: an index into [`Snapshot::pools`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct PoolId(pub u16);

/// Everything a worker needs to know, shared by all of them and never changed.
#[derive(Debug)]
pub struct Snapshot {
    /// Listeners, by [`ListenerId`].
    pub listeners: Vec<Listener>,
    /// Pools, by [`PoolId`].
    pub pools: Vec<Pool>,
    /// The servers of all pools, by [`ServerId`].
    pub servers: Vec<Server>,
    /// Limits of a connection's life.
    pub timeouts: config::Timeouts,
    /// Attempts to reach a server.
    pub retry: config::Retry,
    /// Socket options of both sides.
    pub tcp: config::Tcp,
    /// Client connections in the process.
    pub connections: Limit,
    /// Keeps failing accepts from flooding the log.
    pub accept_failures: Throttle,
    /// Keeps failing servers from flooding the log.
    pub dial_failures: Throttle,
}

/// What a worker needs to know of a listener.
#[derive(Debug)]
pub struct Listener {
    /// NAME of `[listener.NAME]`
    pub name: String,
    /// Where its connections go.
    pub pool: PoolId,
    /// Which worker gets a new connection.
    pub accept_balance: AcceptBalance,
    /// What a client meets at a limit.
    pub at_maxconn: AtMaxconn,
    /// Its connections, in all workers.
    pub connections: Limit,
}

/// What a worker needs to know of a pool.
#[derive(Debug)]
pub struct Pool {
    /// NAME of `[pool.NAME]`
    pub name: String,
    /// Chooses among its servers.
    pub balancer: Balancer,
}

/// What a worker needs to know of a server.
#[derive(Debug)]
pub struct Server {
    /// Its name, unique in its pool.
    pub name: String,
    /// The pool it belongs to.
    pub pool: PoolId,
    /// Where it listens.
    pub addr: config::Address,
    /// Its connections, in all workers, those that are being made included.
    pub connections: Limit,
}

/// A count with an upper limit, shared by all workers; touched when a connection begins and ends, never
/// for a message. It has a cache line of its own, so that its neighbours do not slow it down.
#[derive(Debug)]
#[repr(align(64))]
pub struct Limit {
    count: AtomicU32,
    most: u32,
}

impl Limit {
    /// A count of zero that goes up to `most`.
    #[must_use]
    pub fn new(most: u32) -> Self {
        Self { count: AtomicU32::new(0), most }
    }

    /// Counts one more, or says `false` when the limit is reached.
    #[must_use]
    pub fn take(&self) -> bool {
        let taken = self.count.fetch_add(1, Ordering::Relaxed) < self.most;
        if !taken {
            self.count.fetch_sub(1, Ordering::Relaxed);
        }
        taken
    }

    /// Counts one less: the end of what a [`Limit::take`] began.
    pub fn give(&self) {
        let before = self.count.fetch_sub(1, Ordering::Relaxed);
        debug_assert!(before > 0, "given more often than taken");
    }

    /// Whether a [`Limit::take`] would succeed now.
    #[must_use]
    pub fn has_room(&self) -> bool {
        self.count() < self.most
    }

    /// How many there are now.
    #[must_use]
    pub fn count(&self) -> u32 {
        self.count.load(Ordering::Relaxed)
    }

    /// The upper limit.
    #[must_use]
    pub fn most(&self) -> u32 {
        self.most
    }
}

/// Lets one message a second pass, for all workers together.
#[derive(Debug, Default)]
pub struct Throttle {
    /// The second of the last message, counted from 1.
    last: AtomicU64,
}

impl Throttle {
    /// Whether nobody has spoken in this second yet; whoever gets `true` speaks.
    #[must_use]
    pub fn may_speak(&self, now: Tick) -> bool {
        let second = now.0 / 1000 + 1;
        self.last.fetch_max(second, Ordering::Relaxed) < second
    }
}

impl Snapshot {
    /// Makes a checked configuration dense. `maxconn` is the process's limit, already made a number.
    #[must_use]
    pub fn new(config: &config::Config, maxconn: u32) -> Self {
        let mut servers = Vec::new();
        let mut pools = Vec::new();
        for (pool_index, pool) in config.pools.iter().enumerate() {
            let id = PoolId(dense(pool_index));
            let first = u32::try_from(servers.len()).expect("configuration limits the number of servers");
            let weights: Vec<u16> = pool.servers.iter().map(|server| server.weight).collect();
            servers.extend(pool.servers.iter().map(|server| Server {
                name: server.name.clone(),
                pool: id,
                addr: server.addr.clone(),
                connections: Limit::new(u32::MAX),
            }));
            let balancer = match pool.balance {
                config::Balance::TwoChoices => {
                    Balancer::TwoChoices(TwoChoices::new(ServerId(first), &weights))
                }
                config::Balance::RoundRobin => Balancer::RoundRobin(Rotate::new(ServerId(first), &weights)),
            };
            pools.push(Pool { name: pool.name.clone(), balancer });
        }
        let listeners = config
            .listeners
            .iter()
            .map(|listener| Listener {
                name: listener.name.clone(),
                pool: PoolId(dense(listener.pool)),
                accept_balance: listener.accept_balance,
                at_maxconn: listener.at_maxconn,
                connections: Limit::new(listener.maxconn.map_or(u32::MAX, std::num::NonZeroU32::get)),
            })
            .collect();
        Self {
            listeners,
            pools,
            servers,
            timeouts: config.timeouts,
            retry: config.retry,
            tcp: config.tcp,
            connections: Limit::new(maxconn),
            accept_failures: Throttle::default(),
            dial_failures: Throttle::default(),
        }
    }

    /// The listener of that id.
    #[must_use]
    pub fn listener(&self, id: ListenerId) -> &Listener {
        &self.listeners[usize::from(id.0)]
    }

    /// The pool of that id.
    #[must_use]
    pub fn pool(&self, id: PoolId) -> &Pool {
        &self.pools[usize::from(id.0)]
    }

    /// The server of that id.
    #[must_use]
    pub fn server(&self, id: ServerId) -> &Server {
        &self.servers[id.0 as usize]
    }
}

fn dense(index: usize) -> u16 {
    u16::try_from(index).expect("configuration limits the number of listeners and pools")
}
