//! The names of the ways of doing I/O.

/// How the kernel is asked to move bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum EngineKind {
    /// The best for this host: `mio`, until measurements say otherwise.
    Auto,
    /// Readiness: epoll, kqueue or IOCP, edge-triggered.
    Mio,
    /// Completion: io_uring.
    IoUring,
    /// Blocking calls, two threads a connection.
    Threads,
    /// Readiness: epoll, level-triggered.
    EpollLevel,
    /// Readiness: poll(2).
    Poll,
    /// Readiness: select(2).
    Select,
    /// Readiness: real-time signals (`F_SETSIG`).
    Sigio,
    /// Readiness: Linux AIO (`IOCB_CMD_POLL`).
    Aio,
}

impl EngineKind {
    /// Each of them with its name, and then the synonyms. One word each, the same in the configuration, on the
    /// command line, in logs and metrics.
    pub const NAMES: [(&'static str, Self); 11] = [
        ("auto", Self::Auto),
        ("mio", Self::Mio),
        ("io_uring", Self::IoUring),
        ("threads", Self::Threads),
        ("epoll_level", Self::EpollLevel),
        ("poll", Self::Poll),
        ("select", Self::Select),
        ("sigio", Self::Sigio),
        ("aio", Self::Aio),
        ("readiness", Self::Mio),
        ("completion", Self::IoUring),
    ];

    /// Its name.
    #[must_use]
    pub fn name(self) -> &'static str {
        Self::NAMES.iter().find(|(_, kind)| *kind == self).map_or("", |(name, _)| name)
    }

    /// The one of that name.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        Self::NAMES.iter().find(|(known, _)| *known == name).map(|(_, kind)| *kind)
    }

    /// What `auto` stands for; any other is itself.
    #[must_use]
    pub fn resolved(self) -> Self {
        if self == Self::Auto { Self::Mio } else { self }
    }
}
