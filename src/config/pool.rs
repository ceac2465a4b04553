//! What a pool and its servers are.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::num::NonZeroU32;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{
    Address, AllDown, Balance, Check, DnsName, HashKey, ListAt, OnDown, OwnTimeouts, Passive, Retry,
    SendProxy, Spread, Tcp, lists, name_in,
};

/// `[pool.NAME]`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pool {
    /// NAME
    pub name: String,
    /// `balance`
    pub balance: Balance,
    /// `all_down`
    pub all_down: AllDown,
    /// `on_down`
    pub on_down: OnDown,
    /// `on_removed`
    pub on_removed: OnRemoved,
    /// `drain_timeout`: so long after a connection was asked to leave because its server was removed, it is reset; `None` is
    /// `"off"`, never.
    pub drain_timeout: Option<Duration>,
    /// `close_rate`: connections that are closed in a second where many are to be.
    pub close_rate: u32,
    /// `source`
    pub source: Source,
    /// `send_proxy` and `proxy_tlvs`; `None` is `"off"`.
    pub send_proxy: Option<SendProxy>,
    /// `[pool.NAME.timeouts]`
    pub timeouts: OwnTimeouts,
    /// `[pool.NAME.tcp]` over `[defaults.tcp]`: the sockets towards servers.
    pub tcp: Tcp,
    /// `[pool.NAME.retry]` over `[defaults.retry]`
    pub retry: Retry,
    /// `slow_start`: how long a server that comes into use takes to get its whole share; `None` is `"off"`.
    pub slow_start: Option<Duration>,
    /// `[pool.NAME.check]`
    pub check: Check,
    /// `[pool.NAME.passive]`
    pub passive: Passive,
    /// `queue.max`: clients that may wait while every server is at its `maxconn`; 0: none does.
    pub queue_max: u32,
    /// `[[pool.NAME.server]]` with an address. At run time: those of the names and lists, too, behind them.
    pub servers: Vec<Server>,
    /// `[[pool.NAME.server]]` with a name, which stands for servers. There is at least one server, name, or list.
    pub named: Vec<Server<DnsName>>,
    /// `servers_file` and its like: where more servers are listed.
    pub lists: Vec<ListAt>,
    /// `servers_poll`: how often these lists are looked at, 100 ms or more; a file each second if this is longer.
    pub servers_poll: Duration,
}

impl Pool {
    /// Whether it uses what a TLS client says first, if that can be had.
    #[must_use]
    pub fn needs_hello(&self) -> bool {
        let by_name = matches!(self.balance, Balance::Source(Spread { key: HashKey::Sni, .. }));
        by_name || self.send_proxy.is_some_and(|sent| sent.tlvs.authority || sent.tlvs.alpn)
    }

    /// One of that name with the defaults, and without servers yet.
    pub(super) fn named(name: String) -> Self {
        Self {
            name,
            balance: Balance::TwoChoices,
            all_down: AllDown::Reject,
            on_down: OnDown::Keep,
            on_removed: OnRemoved::Drain,
            drain_timeout: None,
            close_rate: CLOSE_RATE,
            source: Source::System,
            send_proxy: None,
            slow_start: None,
            check: Check::Off,
            passive: Passive::default(),
            timeouts: OwnTimeouts::default(),
            tcp: Tcp::default(),
            retry: Retry::default(),
            queue_max: QUEUE_MAX,
            servers: Vec::new(),
            named: Vec::new(),
            lists: Vec::new(),
            servers_poll: lists::POLL,
        }
    }
}

/// `source`: the own address of connections to servers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Source {
    /// `[]`: the one that the system chooses.
    #[default]
    System,
    /// One of these, by turns; the next where one has no port left. At most 255, and one at least for each server's
    /// family.
    Addresses(Vec<IpAddr>),
    /// `["client"]`: the client's address, with a port of its own (`IP_TRANSPARENT`, ip(7)). The network has to lead
    /// answers back here.
    Client,
}

impl Source {
    /// The most addresses that there may be.
    pub const MOST: usize = 255;
}

/// `on_removed`: what becomes of the connections of a server that a reload removes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnRemoved {
    /// Each is closed at its first quiet moment.
    Drain,
    /// Each is reset.
    Close,
    /// They go on until they end by themselves.
    Keep,
}

impl OnRemoved {
    pub(super) const NAMES: [(&'static str, Self); 3] =
        [("drain", Self::Drain), ("close", Self::Close), ("keep", Self::Keep)];
}

/// The default of `queue.max`.
const QUEUE_MAX: u32 = 1000;

/// The default of `close_rate`.
const CLOSE_RATE: u32 = 100;

/// `[[pool.NAME.server]]`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Server<A = Address> {
    /// `name`, unique in its pool
    pub name: String,
    /// `addr`
    pub addr: A,
    /// `weight`: 0 takes no new connections.
    pub weight: u16,
    /// `maxconn`: its connections at a time, those that are being made included; `None` is 0, any number.
    pub maxconn: Option<NonZeroU32>,
    /// `backup`: it gets new connections only when no other server of the pool does.
    pub backup: bool,
    /// `state`
    pub state: ServerState,
    /// Who says that there is this server.
    pub origin: Origin,
}

/// Where a server comes from.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Origin {
    /// It stands in the configuration file.
    #[default]
    File,
    /// It is one of the addresses of this name.
    Dns(DnsName),
    /// It stands in this list.
    List(ListAt),
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File => f.write_str("file"),
            Self::Dns(name) => write!(f, "dns {name}"),
            Self::List(at) => at.fmt(f),
        }
    }
}

impl Server<DnsName> {
    /// What a server with one of the addresses is called: by its address, never by its place in an answer. No name in a
    /// file has an `@`.
    #[must_use]
    pub fn name_at(&self, addr: SocketAddr) -> String {
        format!("{}@{addr}", self.name)
    }
}

/// What the file calls a server of that name: `pg` of `pg@10.0.0.1:5432`.
#[must_use]
pub fn given_name(name: &str) -> &str {
    name.split_once('@').map_or(name, |(given, _)| given)
}

/// `state`: whether a server gets new connections, in HAProxy's words.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ServerState {
    /// It does, as its weight says.
    #[default]
    Ready,
    /// It gets none; those that are there go on.
    Drain,
    /// It gets none and is not checked.
    Maint,
}

impl ServerState {
    /// Each of them with its name.
    pub const NAMES: [(&'static str, Self); 3] =
        [("ready", Self::Ready), ("drain", Self::Drain), ("maint", Self::Maint)];

    /// Its name.
    #[must_use]
    pub fn name(self) -> &'static str {
        name_in(&Self::NAMES, &self)
    }
}
