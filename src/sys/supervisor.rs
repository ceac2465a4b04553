//! What the supervisor that starts this process hands over to it: where to report to, sd_notify(3), how often the
//! watchdog wants to hear, sd_watchdog_enabled(3), and sockets that it has opened, sd_listen_fds(3).

use std::time::Duration;

#[cfg(not(target_os = "linux"))]
pub use elsewhere::{Reports, Socket, handed_over};
#[cfg(target_os = "linux")]
pub use on_linux::{Reports, Socket, handed_over, is_alone};

/// All that is handed over.
#[derive(Debug, Default)]
pub struct Handed {
    /// Where to report to.
    pub reports: Option<Reports>,
    /// The longest that the watchdog may hear nothing.
    pub watchdog: Option<Duration>,
    /// Sockets, in their order. Several may have the same name.
    pub sockets: Vec<Socket>,
}

#[cfg(target_os = "linux")]
mod on_linux {
    use std::os::fd::{FromRawFd as _, OwnedFd, RawFd};
    use std::os::linux::net::SocketAddrExt as _;
    use std::os::unix::net::{SocketAddr, UnixDatagram};
    use std::sync::atomic::{AtomicBool, Ordering};
    use std::time::Duration;
    use std::{env, fs, io, process};

    use rustix::time::{ClockId, clock_gettime};

    use super::Handed;
    use crate::config::Tcp;
    use crate::sys::net::{self, Listener};

    /// The first descriptor that is handed over.
    const FIRST: RawFd = 3;

    /// The longest that a report may wait for a supervisor that does not read.
    const PATIENCE: Duration = Duration::from_secs(1);

    /// What is meant for this process alone, and not for those that it starts.
    const OURS: [&str; 7] = [
        "NOTIFY_SOCKET",
        "WATCHDOG_USEC",
        "WATCHDOG_PID",
        "LISTEN_PID",
        "LISTEN_PIDFDID",
        "LISTEN_FDS",
        "LISTEN_FDNAMES",
    ];

    /// Where the supervisor listens for reports.
    #[derive(Debug)]
    pub struct Reports {
        to: String,
    }

    /// A socket that the supervisor has opened.
    #[derive(Debug)]
    pub struct Socket {
        name: String,
        fd: OwnedFd,
    }

    /// Takes what is handed over, once in a process. It is taken out of the environment as well, unless there are other
    /// threads, which might read that at the same time.
    #[must_use]
    pub fn handed_over() -> Handed {
        static TAKEN: AtomicBool = AtomicBool::new(false);
        if TAKEN.swap(true, Ordering::Relaxed) {
            return Handed::default();
        }
        let said = Said::by(|name| env::var(name).ok(), process::id());
        if is_alone() != Some(false) {
            forget();
        }
        let sockets = (FIRST..).zip(said.names).filter_map(|(number, name)| {
            let fd = inherited(number).ok()?;
            Some(Socket { name, fd })
        });
        Handed {
            reports: said.notify.map(|to| Reports { to }),
            watchdog: said.watchdog,
            sockets: sockets.collect(),
        }
    }

    /// Whether this process has one thread only; `None` where nothing says so.
    #[must_use]
    pub fn is_alone() -> Option<bool> {
        Some(fs::read_dir("/proc/self/task").ok()?.count() == 1)
    }

    #[expect(unsafe_code, reason = "the environment may be changed only where nobody else reads it")]
    fn forget() {
        for name in OURS {
            // SAFETY: no other thread was seen, and only this one could start one.
            unsafe { env::remove_var(name) };
        }
    }

    /// A descriptor that was open when this process began. Others that it starts do not get it.
    #[expect(unsafe_code, reason = "a descriptor that comes as a number")]
    fn inherited(number: RawFd) -> io::Result<OwnedFd> {
        // SAFETY: two integers; a number that stands for nothing is an error.
        if unsafe { libc::fcntl(number, libc::F_SETFD, libc::FD_CLOEXEC) } == -1 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: it is open, as was just seen. Who started this process says that it is meant for it, so nothing in it
        // has opened it, and it is taken once only.
        Ok(unsafe { OwnedFd::from_raw_fd(number) })
    }

    /// What the environment says.
    #[derive(Debug, PartialEq, Eq)]
    struct Said {
        notify: Option<String>,
        watchdog: Option<Duration>,
        /// One for each descriptor.
        names: Vec<String>,
    }

    impl Said {
        /// What `get` gives for the names of variables, in the process with the number `own`.
        fn by(get: impl Fn(&str) -> Option<String>, own: u32) -> Self {
            let number = |name: &str| get(name)?.parse::<u64>().ok();
            let is_for_us = |name: &str| number(name) == Some(own.into());
            let watchdog = number("WATCHDOG_USEC").filter(|micros| *micros > 0);
            let watchdog = watchdog.filter(|_| get("WATCHDOG_PID").is_none() || is_for_us("WATCHDOG_PID"));
            let count = number("LISTEN_FDS").filter(|_| is_for_us("LISTEN_PID")).unwrap_or(0);
            let names = get("LISTEN_FDNAMES").unwrap_or_default();
            let names = names.split(':').filter(|name| !name.is_empty()).map(str::to_owned);
            // More than a process may have are not there.
            let count = usize::try_from(count).unwrap_or(0).min(1 << 20);
            Self {
                notify: get("NOTIFY_SOCKET").filter(|to| !to.is_empty()),
                watchdog: watchdog.map(Duration::from_micros),
                names: names.chain(std::iter::repeat_with(|| "unknown".to_owned())).take(count).collect(),
            }
        }
    }

    impl Reports {
        /// Sends one report: lines of `NAME=value`.
        ///
        /// # Errors
        /// The operating system's; InvalidInput for an address that is neither a path nor an abstract name.
        pub fn send(&self, report: &str) -> io::Result<()> {
            let address = match self.to.as_bytes() {
                [b'@', name @ ..] => SocketAddr::from_abstract_name(name)?,
                [b'/', ..] => SocketAddr::from_pathname(&self.to)?,
                _ => {
                    let cause = format!("NOTIFY_SOCKET={} is neither a path nor an abstract name", self.to);
                    return Err(io::Error::new(io::ErrorKind::InvalidInput, cause));
                }
            };
            let socket = UnixDatagram::unbound()?;
            socket.set_write_timeout(Some(PATIENCE))?;
            socket.send_to_addr(report.as_bytes(), &address).map(drop)
        }

        /// The time that a report of the beginning of a reload must have: of `CLOCK_MONOTONIC`, in microseconds.
        #[must_use]
        pub fn now_micros() -> u64 {
            let now = clock_gettime(ClockId::Monotonic);
            let part = |number: i64| u64::try_from(number).unwrap_or(0);
            part(now.tv_sec) * 1_000_000 + part(now.tv_nsec) / 1_000
        }
    }

    impl Socket {
        /// Its name: that of `FileDescriptorName=`, systemd.socket(5).
        #[must_use]
        pub fn name(&self) -> &str {
            &self.name
        }

        /// Takes charge of it as of one of ours, by a descriptor more: the socket stays open when that is closed. With a
        /// `backlog` its queue gets another length.
        ///
        /// # Errors
        /// InvalidInput, with the reason, for what is no listening stream socket; or the operating system's.
        pub fn listen(&self, backlog: Option<i32>, tcp: &Tcp) -> io::Result<Listener> {
            net::listen_on(self.fd.try_clone()?, backlog, tcp)
        }

        /// Takes the options off again that a listener had.
        ///
        /// # Errors
        /// The operating system's.
        pub fn release(&self, had: &Tcp) -> io::Result<()> {
            net::reset_options(&self.fd, had)
        }
    }

    #[cfg(test)]
    mod tests {
        use super::*;

        fn said(variables: &[(&str, &str)]) -> Said {
            Said::by(
                |name| {
                    variables.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned())
                },
                7,
            )
        }

        #[test]
        fn only_what_is_meant_for_this_process_is_taken() {
            let nothing = Said { notify: None, watchdog: None, names: Vec::new() };
            assert_eq!(said(&[]), nothing);
            assert_eq!(said(&[("LISTEN_FDS", "2")]), nothing);
            assert_eq!(said(&[("LISTEN_FDS", "2"), ("LISTEN_PID", "8")]), nothing);
            assert_eq!(said(&[("LISTEN_FDS", "x"), ("LISTEN_PID", "7"), ("NOTIFY_SOCKET", "")]), nothing);
            assert_eq!(said(&[("WATCHDOG_USEC", "5"), ("WATCHDOG_PID", "8")]), nothing);
            assert_eq!(said(&[("WATCHDOG_USEC", "0")]), nothing);
            for pid in [&[][..], &[("WATCHDOG_PID", "7")]] {
                let limit = said(&[&[("WATCHDOG_USEC", "5000000")], pid].concat()).watchdog;
                assert_eq!(limit, Some(Duration::from_secs(5)));
            }
            assert_eq!(said(&[("NOTIFY_SOCKET", "@x")]).notify.as_deref(), Some("@x"));
        }

        #[test]
        fn a_socket_without_a_name_is_called_unknown() {
            let names =
                |names| said(&[("LISTEN_FDS", "3"), ("LISTEN_PID", "7"), ("LISTEN_FDNAMES", names)]).names;
            assert_eq!(names("a:b:a"), ["a", "b", "a"]);
            assert_eq!(names("a"), ["a", "unknown", "unknown"]);
            assert_eq!(names(""), ["unknown"; 3]);
            assert_eq!(names("a:b:c:d"), ["a", "b", "c"]);
        }

        #[test]
        fn a_socket_has_the_options_of_the_listener_that_has_it_now() {
            let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
            let socket = Socket { name: "a".to_owned(), fd: listener.try_clone().unwrap().into() };
            let options = || {
                let socket = socket2::SockRef::from(&listener);
                let user_timeout = socket.tcp_user_timeout().unwrap();
                (socket.tcp_nodelay().unwrap(), socket.keepalive().unwrap(), user_timeout)
            };
            let limit = Some(Duration::from_secs(7));
            let first = Tcp { user_timeout: limit, ..Tcp::default() };
            drop(socket.listen(None, &first).unwrap());
            assert_eq!(options(), (true, true, limit));
            socket.release(&first).unwrap();
            let second = Tcp { nodelay: false, keepalive: None, ..Tcp::default() };
            drop(socket.listen(None, &second).unwrap());
            assert_eq!(options(), (false, false, None));
            assert!(std::net::TcpStream::connect(listener.local_addr().unwrap()).is_ok(), "it stays open");
        }

        #[test]
        fn reports_reach_a_path_and_an_abstract_name() {
            let directory = tempfile::tempdir().unwrap();
            let path = directory.path().join("notify");
            let name = format!("tidegate-test-{}", process::id());
            let abstract_name = SocketAddr::from_abstract_name(&name).unwrap();
            let received = |socket: UnixDatagram, to: String| {
                Reports { to }.send("READY=1\n").unwrap();
                let mut room = [0; 64];
                let length = socket.recv(&mut room).unwrap();
                String::from_utf8_lossy(&room[..length]).into_owned()
            };
            let by_path = UnixDatagram::bind(&path).unwrap();
            assert_eq!(received(by_path, path.display().to_string()), "READY=1\n");
            let by_name = UnixDatagram::bind_addr(&abstract_name).unwrap();
            assert_eq!(received(by_name, format!("@{name}")), "READY=1\n");
            let refused = Reports { to: "vsock:2:1234".to_owned() }.send("READY=1").unwrap_err();
            assert!(refused.to_string().contains("vsock:2:1234"), "{refused}");
        }
    }
}

/// Elsewhere nobody hands anything over.
#[cfg(not(target_os = "linux"))]
mod elsewhere {
    use std::io;

    use super::Handed;
    use crate::config::Tcp;
    use crate::sys::net::Listener;

    /// Where a supervisor listens for reports: there is none.
    #[derive(Debug)]
    pub enum Reports {}

    /// A socket that a supervisor has opened: there is none.
    #[derive(Debug)]
    pub enum Socket {}

    /// Nothing.
    #[must_use]
    pub fn handed_over() -> Handed {
        Handed::default()
    }

    impl Reports {
        /// Never called.
        ///
        /// # Errors
        /// None.
        pub fn send(&self, _: &str) -> io::Result<()> {
            match *self {}
        }

        /// Never called.
        #[must_use]
        pub fn now_micros() -> u64 {
            0
        }
    }

    impl Socket {
        /// Never called.
        #[must_use]
        pub fn name(&self) -> &str {
            match *self {}
        }

        /// Never called.
        ///
        /// # Errors
        /// None.
        pub fn release(&self, _: &Tcp) -> io::Result<()> {
            match *self {}
        }

        /// Never called.
        ///
        /// # Errors
        /// None.
        pub fn listen(&self, _: Option<i32>, _: &Tcp) -> io::Result<Listener> {
            match *self {}
        }
    }
}
