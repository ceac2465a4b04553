//! What a pool and its servers are.

use std::net::IpAddr;
use std::num::NonZeroU32;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{Address, AllDown, Balance, Check, OnDown, OwnTimeouts, Passive, Retry, SendProxy, Tcp, name_in};

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
    /// `[[pool.NAME.server]]`: at least one.
    pub servers: Vec<Server>,
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
pub(super) const QUEUE_MAX: u32 = 1000;

/// The default of `close_rate`.
pub(super) const CLOSE_RATE: u32 = 100;

/// `[[pool.NAME.server]]`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Server {
    /// `name`, unique in its pool
    pub name: String,
    /// `addr`
    pub addr: Address,
    /// `weight`: 0 takes no new connections.
    pub weight: u16,
    /// `maxconn`: its connections at a time, those that are being made included; `None` is 0, any number.
    pub maxconn: Option<NonZeroU32>,
    /// `backup`: it gets new connections only when no other server of the pool does.
    pub backup: bool,
    /// `state`
    pub state: ServerState,
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
