//! What a listener is.

use std::num::NonZeroU32;

use super::{AcceptProxy, AccessRules, Address, EngineKind, Limits, OwnTimeouts, Pool, Route, Tcp};

/// `[listener.NAME]`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listener {
    /// NAME
    pub name: String,
    /// `bind`: at least one address; of a range of ports each.
    pub bind: Vec<Address>,
    /// `v6only`: `[::]` stands for addresses of IPv6 alone; else for those of IPv4, too (`IPV6_V6ONLY`, ipv6(7)).
    pub v6only: bool,
    /// `pool`: an index into [`pools`](super::Config::pools). With routes, where the last of them leads that has a pool.
    pub pool: usize,
    /// `route`: the first that takes a client decides; none: every client gets `pool`.
    pub routes: Vec<Route>,
    /// `server_speaks_first`: nothing waits for a client's first bytes.
    pub server_speaks_first: bool,
    /// `max_client_hello`: a hello's bytes, with the headers of its records; 1 KiB to 32 KiB.
    pub max_client_hello: u32,
    /// `engine`; `None` is `"inherit"`, the process's.
    pub engine: Option<EngineKind>,
    /// `backlog`; `None` is `"auto"`, the system's somaxconn.
    pub backlog: Option<NonZeroU32>,
    /// `accept_balance`
    pub accept_balance: AcceptBalance,
    /// `accept_burst`: clients of its that a worker takes in one turn at most, before it sees to those who are there; 1 to 1024.
    /// The engine `io_uring` does not go by it.
    pub accept_burst: u16,
    /// `maxconn`: its connections at a time; `None` is `"off"`.
    pub maxconn: Option<NonZeroU32>,
    /// `at_maxconn`
    pub at_maxconn: AtMaxconn,
    /// `when_no_upstream`
    pub when_no_upstream: WhenNoUpstream,
    /// `accept_proxy`; `None`: connections begin with their clients' own bytes.
    pub accept_proxy: Option<AcceptProxy>,
    /// `[listener.NAME.timeouts]`
    pub timeouts: OwnTimeouts,
    /// `[listener.NAME.tcp]` over `[defaults.tcp]`: the sockets towards clients.
    pub tcp: Tcp,
    /// `[listener.NAME.access]`
    pub access: AccessRules,
    /// `[listener.NAME.limits]`
    pub limits: Limits,
}

impl Listener {
    /// One with nothing of its own but its name.
    pub(super) fn named(name: String) -> Self {
        Self {
            name,
            bind: Vec::new(),
            v6only: true,
            pool: 0,
            routes: Vec::new(),
            server_speaks_first: false,
            max_client_hello: MAX_CLIENT_HELLO,
            engine: None,
            backlog: None,
            accept_balance: AcceptBalance::LeastLoaded,
            accept_burst: ACCEPT_BURST,
            maxconn: None,
            at_maxconn: AtMaxconn::Wait,
            when_no_upstream: WhenNoUpstream::Rst,
            accept_proxy: None,
            timeouts: OwnTimeouts::default(),
            tcp: Tcp::default(),
            access: AccessRules::default(),
            limits: Limits::default(),
        }
    }

    /// The pools that its connections may go to, each once.
    pub fn pools(&self) -> impl Iterator<Item = usize> + '_ {
        let mut all: Vec<usize> = self.routes.iter().filter_map(|route| route.to.pool()).collect();
        all.push(self.pool);
        all.sort_unstable();
        all.dedup();
        all.into_iter()
    }

    /// Whether the hellos of its clients are read.
    #[must_use]
    pub fn reads_hello(&self, pools: &[Pool]) -> bool {
        self.needs_hello(pools) && !self.server_speaks_first
    }

    /// Whether a route of its, or a pool, one of these, goes by what a client says first.
    #[must_use]
    pub fn needs_hello(&self, pools: &[Pool]) -> bool {
        self.routes.iter().any(Route::needs_hello) || self.pools().any(|pool| pools[pool].needs_hello())
    }
}

/// Bytes of buffers that a worker needs so that the first `bytes` of one client fit. They are held in a buffer of 4 KiB, 16 KiB
/// or 64 KiB; a smallest one is always there, others may have half of a worker's share.
#[must_use]
pub fn head_share(bytes: u32) -> u64 {
    match bytes {
        0..=0x1000 => 4 << 10,
        0x1001..=0x4000 => 2 * (16 << 10),
        _ => 2 * (64 << 10),
    }
}

/// `max_client_hello` that is not set: of today's clients hardly one has 2 KiB.
const MAX_CLIENT_HELLO: u32 = 16 << 10;

/// `accept_burst` that is not set: some 100 us of work, so that a storm of new clients starves nobody.
pub(super) const ACCEPT_BURST: u16 = 16;

/// `accept_balance`: which worker gets a new connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AcceptBalance {
    /// The one that accepts it hands it to another one that has fewer.
    LeastLoaded,
    /// The one that the kernel chose, by a hash of the addresses.
    Reuseport,
}

impl AcceptBalance {
    pub(super) const NAMES: [(&'static str, Self); 2] =
        [("least_loaded", Self::LeastLoaded), ("reuseport", Self::Reuseport)];
}

/// `at_maxconn`: what a client meets when a limit is reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AtMaxconn {
    /// It waits in the kernel's backlog.
    Wait,
    /// It is reset.
    Reject,
}

impl AtMaxconn {
    pub(super) const NAMES: [(&'static str, Self); 2] = [("wait", Self::Wait), ("reject", Self::Reject)];
}

/// `when_no_upstream`: what a client meets for which no server can be had.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WhenNoUpstream {
    /// It is reset, so that it cannot take that for an answer.
    Rst,
    /// Its connection is closed, by FIN.
    Close,
    /// There is no such client: while nobody serves the pool, the listener's ports are closed. On unix sockets and on those
    /// that were handed over it is reset.
    StopListening,
}

impl WhenNoUpstream {
    pub(super) const NAMES: [(&'static str, Self); 3] =
        [("rst", Self::Rst), ("close", Self::Close), ("stop_listening", Self::StopListening)];
}
