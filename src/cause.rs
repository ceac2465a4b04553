//! Why a connection ended: one cause each, with who closed it and the two letters HAProxy's users know.

/// Why a connection ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Cause {
    /// Both sides sent FIN and everything was delivered.
    Done,
    /// The client reset the connection while bytes were relayed.
    ClientReset,
    /// The server reset the connection while bytes were relayed.
    ServerReset,
    /// The client stopped answering: keep-alive probes or retransmissions ran out.
    ClientVanished,
    /// The server stopped answering: keep-alive probes or retransmissions ran out.
    ServerVanished,
    /// Both directions were quiet for `idle`.
    IdleTimeout,
    /// The client had sent FIN, and the server was quiet for `half_close`.
    HalfCloseServer,
    /// The server had sent FIN, and the client was quiet for `half_close`.
    HalfCloseClient,
    /// The client went away before a server was reached.
    ClientLeft,
    /// Every server that was tried refused or reset the connection.
    ConnectRefused,
    /// No server answered within `connect` or `connect_total`.
    ConnectTimeout,
    /// No route to any server that was tried.
    ConnectUnreachable,
    /// A local rule forbids the connection (a firewall, usually), or the kernel gave an unusual error.
    ConnectFailed,
    /// The pool has no server that takes connections.
    NoServer,
    /// No free local port towards the server.
    NoSourcePort,
    /// No free descriptor or kernel memory to reach a server, for all of `connect_total`.
    NoResources,
    /// A limit of connections was reached and `at_maxconn = "reject"`.
    Maxconn,
    /// The first rule of `[listener.NAME.access]` that names its address, or the `default`, denies it.
    AccessDenied,
    /// Its source has `per_source_conns` connections.
    SourceConns,
    /// Its source has no token of `per_source_rate` left.
    SourceRate,
    /// The listener has no token of `limits.rate` left and `at_maxconn = "reject"`.
    ListenerRate,
    /// The process is stopping and `drain.hard_stop` ran out, or a second signal came.
    Drain,
    /// An operator ended it.
    Killed,
    /// Its server is no longer in the configuration.
    ServerRemoved,
    /// An operator had connections spread anew.
    Rebalanced,
    /// Checks have found its server down.
    ServerDown,
    /// The client went away while it waited for a server that has room.
    ClientLeftQueue,
    /// Every server was at its `maxconn`, and as many clients waited as may.
    QueueFull,
    /// Every server was at its `maxconn` for as long as a client may wait.
    QueueTimeout,
    /// It was there for `max_lifetime`.
    MaxLifetime,
    /// The client's first bytes, which say where it goes or who it is, did not come within `preread`.
    PrereadTimeout,
    /// The peer is one of `accept_proxy.from`, and what it sent first is no header of the PROXY protocol.
    BadProxyHeader,
    /// The peer is none of `accept_proxy.from`, and `untrusted = "reject"`.
    UntrustedPeer,
    /// No route of the listener takes the client, or the one that does says `reject` or `close`.
    NoRoute,
    /// The client's first bytes begin as a TLS hello, or ask for TLS, and are none.
    BadClientHello,
    /// The client's hello has more than `max_client_hello` bytes.
    HelloTooLarge,
}

impl Cause {
    /// Each of them, in the order of [`Cause::index`].
    pub const ALL: [Self; 36] = [
        Self::Done,
        Self::ClientReset,
        Self::ServerReset,
        Self::ClientVanished,
        Self::ServerVanished,
        Self::IdleTimeout,
        Self::HalfCloseServer,
        Self::HalfCloseClient,
        Self::ClientLeft,
        Self::ConnectRefused,
        Self::ConnectTimeout,
        Self::ConnectUnreachable,
        Self::ConnectFailed,
        Self::NoServer,
        Self::NoSourcePort,
        Self::NoResources,
        Self::Maxconn,
        Self::AccessDenied,
        Self::SourceConns,
        Self::SourceRate,
        Self::ListenerRate,
        Self::Drain,
        Self::Killed,
        Self::ServerRemoved,
        Self::Rebalanced,
        Self::ServerDown,
        Self::ClientLeftQueue,
        Self::QueueFull,
        Self::QueueTimeout,
        Self::MaxLifetime,
        Self::PrereadTimeout,
        Self::BadProxyHeader,
        Self::UntrustedPeer,
        Self::NoRoute,
        Self::BadClientHello,
        Self::HelloTooLarge,
    ];

    /// Those of clients that were turned away before a server was looked for.
    pub const TURNED_AWAY: [Self; 6] = [
        Self::Maxconn,
        Self::AccessDenied,
        Self::SourceConns,
        Self::SourceRate,
        Self::ListenerRate,
        Self::UntrustedPeer,
    ];

    /// Limits that `dry_run` only counts.
    pub const LET_OFF: [Self; 3] = [Self::SourceConns, Self::SourceRate, Self::ListenerRate];

    /// Whether it is about the server that a connection has, so that it means nothing with another one.
    #[must_use]
    pub fn is_of_server(self) -> bool {
        matches!(self, Self::ServerRemoved | Self::ServerDown | Self::Rebalanced)
    }

    /// Whether no server could be had.
    #[must_use]
    pub fn is_want_of_server(self) -> bool {
        matches!(
            self,
            Self::ConnectRefused
                | Self::ConnectTimeout
                | Self::ConnectUnreachable
                | Self::ConnectFailed
                | Self::NoServer
                | Self::NoSourcePort
                | Self::NoResources
                | Self::QueueFull
                | Self::QueueTimeout
        )
    }

    /// Its place in an array of all.
    #[must_use]
    pub const fn index(self) -> usize {
        self as usize
    }

    /// The name in access logs.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Done => "done",
            Self::ClientReset => "client_reset",
            Self::ServerReset => "server_reset",
            Self::ClientVanished => "client_vanished",
            Self::ServerVanished => "server_vanished",
            Self::IdleTimeout => "idle_timeout",
            Self::HalfCloseServer | Self::HalfCloseClient => "half_close_timeout",
            Self::ClientLeft | Self::ClientLeftQueue => "client_left",
            Self::ConnectRefused => "connect_refused",
            Self::ConnectTimeout => "connect_timeout",
            Self::ConnectUnreachable => "connect_unreachable",
            Self::ConnectFailed => "connect_failed",
            Self::NoServer => "no_server",
            Self::NoSourcePort => "no_source_port",
            Self::NoResources => "no_resources",
            Self::Maxconn => "maxconn",
            Self::AccessDenied => "access_denied",
            Self::SourceConns => "source_conns",
            Self::SourceRate => "source_rate",
            Self::ListenerRate => "listener_rate",
            Self::Drain => "drain",
            Self::Killed => "killed",
            Self::ServerRemoved => "server_removed",
            Self::Rebalanced => "rebalanced",
            Self::ServerDown => "server_down",
            Self::QueueFull => "queue_full",
            Self::QueueTimeout => "queue_timeout",
            Self::MaxLifetime => "max_lifetime",
            Self::PrereadTimeout => "preread_timeout",
            Self::BadProxyHeader => "bad_proxy_header",
            Self::UntrustedPeer => "untrusted_peer",
            Self::NoRoute => "no_route",
            Self::BadClientHello => "bad_client_hello",
            Self::HelloTooLarge => "hello_too_large",
        }
    }

    /// Who ended it.
    #[must_use]
    pub fn closer(self) -> &'static str {
        match self {
            Self::Done => "both",
            Self::ClientReset | Self::ClientVanished | Self::ClientLeft | Self::ClientLeftQueue => "client",
            Self::ServerReset | Self::ServerVanished | Self::ConnectRefused => "server",
            _ => "proxy",
        }
    }

    /// HAProxy's two letters (its configuration manual, "Session state at disconnection"): who or what
    /// ended the session, and in which phase: `Q` queued, `C` connecting, `D` data; `R` before a server
    /// was looked for.
    #[must_use]
    pub fn hap_ts(self) -> &'static str {
        match self {
            Self::Done => "--",
            Self::ClientReset => "CD",
            Self::ServerReset => "SD",
            Self::ClientVanished | Self::IdleTimeout | Self::HalfCloseClient => "cD",
            Self::ServerVanished | Self::HalfCloseServer => "sD",
            Self::ClientLeft => "CC",
            Self::ConnectRefused | Self::ConnectUnreachable | Self::ConnectFailed | Self::NoServer => "SC",
            Self::ConnectTimeout => "sC",
            Self::NoSourcePort | Self::NoResources => "RC",
            Self::Maxconn | Self::ListenerRate => "PC",
            Self::AccessDenied
            | Self::SourceConns
            | Self::SourceRate
            | Self::BadProxyHeader
            | Self::UntrustedPeer
            | Self::NoRoute
            | Self::BadClientHello
            | Self::HelloTooLarge => "PR",
            Self::PrereadTimeout => "cR",
            Self::ClientLeftQueue => "CQ",
            Self::QueueFull => "PQ",
            Self::QueueTimeout => "sQ",
            Self::Drain | Self::Killed | Self::Rebalanced | Self::MaxLifetime => "KD",
            Self::ServerRemoved | Self::ServerDown => "DD",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_has_its_own_place() {
        for (place, cause) in Cause::ALL.into_iter().enumerate() {
            assert_eq!(cause.index(), place);
        }
    }
}
