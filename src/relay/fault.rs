//! Operating-system errors folded to what a proxy must do about them.

/// What went wrong with a socket. `io::Error` stops at [`crate::sys`]; above it there is only this.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Fault {
    /// Nobody listens there (ECONNREFUSED).
    Refused,
    /// There is no socket of that path (ENOENT, unix(7)).
    Absent,
    /// No route, or the network or host is down (EHOSTUNREACH, ENETUNREACH, ENETDOWN, EHOSTDOWN).
    Unreachable,
    /// No answer in time (ETIMEDOUT): a connect, or a peer that keep-alive found gone.
    TimedOut,
    /// The peer sent RST (ECONNRESET, ECONNABORTED).
    Reset,
    /// Bytes were sent to a peer that had sent its FIN and takes none any more (EPIPE): unlike after a
    /// reset, what it sent was whole.
    Closed,
    /// No free local port towards that address, or the source address is not this host's any more (EADDRNOTAVAIL).
    NoPorts,
    /// No free descriptor (EMFILE, ENFILE).
    NoFiles,
    /// No kernel memory (ENOMEM, ENOBUFS).
    NoMemory,
    /// The queue of a unix socket is full, and nobody tells when it is not (EAGAIN of a connect, unix(7)).
    Busy,
    /// Not permitted (EACCES, EPERM): usually a firewall rule, or the mode of a unix socket's file.
    Denied,
    /// A server that was asked for TLS does not speak it.
    NoTls,
    /// Anything else, with its errno.
    Other(i32),
}

/// What to do after a failed attempt to reach a server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Retry {
    /// Another server may do better.
    Next,
    /// The same server, a little later: it is there, or only our own resources were short.
    Same,
}

impl Fault {
    /// What to do after a failed connect. A port shortage is per destination, so another server helps.
    #[must_use]
    pub fn retry(self) -> Retry {
        match self {
            Self::NoFiles | Self::NoMemory | Self::Busy => Retry::Same,
            _ => Retry::Next,
        }
    }

    /// Whether a failed connect speaks against the server: what is short or forbidden here does not, nor does a queue that
    /// is full for a moment.
    #[must_use]
    pub fn is_of_server(self) -> bool {
        !matches!(self, Self::NoPorts | Self::NoFiles | Self::NoMemory | Self::Denied | Self::Busy)
    }
}

impl std::fmt::Display for Fault {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Refused => f.write_str("connection refused"),
            Self::Absent => f.write_str("there is no such socket"),
            Self::Unreachable => f.write_str("unreachable"),
            Self::TimedOut => f.write_str("timed out"),
            Self::Reset => f.write_str("connection reset"),
            Self::Closed => f.write_str("connection closed by the peer"),
            Self::NoPorts => f.write_str("no free local port"),
            Self::NoFiles => f.write_str("no free file descriptor"),
            Self::NoMemory => f.write_str("no kernel memory"),
            Self::Busy => f.write_str("the queue of the socket is full"),
            Self::Denied => f.write_str("not permitted"),
            Self::NoTls => f.write_str("asked for TLS (SSLRequest), it does not answer `S`"),
            Self::Other(errno) => write!(f, "{}", std::io::Error::from_raw_os_error(*errno)),
        }
    }
}
