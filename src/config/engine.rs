//! The names of the ways of doing I/O.

use std::str::FromStr;

use super::known;

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

    /// Its other name, if it has one.
    #[must_use]
    pub fn synonym(self) -> Option<&'static str> {
        Self::NAMES.iter().filter(|(_, kind)| *kind == self).nth(1).map(|(name, _)| *name)
    }

    /// What `auto` stands for; any other is itself.
    #[must_use]
    pub fn resolved(self) -> Self {
        if self == Self::Auto { Self::Mio } else { self }
    }
}

impl FromStr for EngineKind {
    type Err = String;

    /// The one of that name; otherwise what names there are, and which was probably meant.
    fn from_str(written: &str) -> Result<Self, String> {
        if let Some((_, kind)) = Self::NAMES.iter().find(|(name, _)| *name == written) {
            return Ok(*kind);
        }
        let names = Self::NAMES.map(|(name, _)| name);
        let near = known::value_of_others(written)
            .filter(|near| names.contains(near))
            .or_else(|| known::nearest(written, names.into_iter()));
        let question = near.map_or_else(String::new, |near| format!("; did you mean {near}?"));
        Err(format!("no such engine; there are {}{question}", names.join(", ")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn engines_by_their_names() {
        assert_eq!("auto".parse(), Ok(EngineKind::Auto));
        assert_eq!("mio".parse(), Ok(EngineKind::Mio));
        assert_eq!("readiness".parse(), Ok(EngineKind::Mio));
        assert_eq!("completion".parse(), Ok(EngineKind::IoUring));
        for (name, kind) in EngineKind::NAMES {
            assert!(kind.name() == name || kind.synonym() == Some(name), "{name}");
        }
    }

    #[test]
    fn a_name_that_is_none_gets_the_nearest() {
        let error = |written: &str| written.parse::<EngineKind>().unwrap_err();
        assert_eq!(
            error("warp"),
            "no such engine; there are auto, mio, io_uring, threads, epoll_level, poll, select, sigio, aio, \
             readiness, completion"
        );
        for (written, near) in
            [("uring", "io_uring"), ("epoll", "mio"), ("thread", "threads"), ("epoll_levle", "epoll_level")]
        {
            assert!(error(written).ends_with(&format!("; did you mean {near}?")), "{written}");
        }
    }
}
