//! The journal and syslog: sockets that take one line in one datagram.

use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use log::Level;

use crate::sys::output::UnixDatagram;

/// Where systemd's journal listens (systemd-journald.service(8)).
pub(super) const JOURNAL_SOCKET: &str = "/run/systemd/journal/socket";

const IDENTIFIER: &str = "tidegate";

/// How long a daemon whose queue is full may take to go on. It has to wait for a disk, too; but one that hangs must not
/// keep other outputs from their lines.
const PATIENCE: Duration = Duration::from_secs(1);

/// The facility "daemon" of RFC 3164, 4.1.1.
const FACILITY_DAEMON: u8 = 3;

/// How a datagram is built.
#[derive(Clone, Copy, Debug)]
pub(super) enum Dialect {
    /// The journal's own protocol: `NAME=value` lines.
    Journald,
    /// `<PRI>tidegate[pid]: line`, as in RFC 3164; the daemon adds time and host.
    Syslog,
}

/// A socket that nothing connects: each datagram finds its receiver by the path, so that a daemon that
/// was restarted gets the next line.
#[derive(Debug)]
pub(super) struct Datagrams {
    socket: UnixDatagram,
    path: PathBuf,
    dialect: Dialect,
    /// The daemon has been waited for in vain; until it takes a line again it gets no more time.
    is_stuck: bool,
    line: Vec<u8>,
    packet: Vec<u8>,
}

impl Datagrams {
    /// Checks that somebody listens at `path`.
    pub(super) fn open(path: &Path, dialect: Dialect) -> io::Result<Self> {
        UnixDatagram::unbound()?.connect(path)?;
        let socket = UnixDatagram::unbound()?;
        socket.set_write_timeout(Some(PATIENCE))?;
        let (path, is_stuck) = (path.to_owned(), false);
        Ok(Self { socket, path, dialect, is_stuck, line: Vec::new(), packet: Vec::new() })
    }

    /// Sends the line that `write` appends; waits a while if the receiver's queue is full.
    pub(super) fn send(&mut self, level: Level, write: impl FnOnce(&mut Vec<u8>)) -> io::Result<()> {
        self.line.clear();
        write(&mut self.line);
        self.packet.clear();
        match self.dialect {
            Dialect::Journald => write_journald(&mut self.packet, level, &self.line),
            Dialect::Syslog => write_syslog(&mut self.packet, level, &self.line),
        }
        loop {
            match self.socket.send_to(&self.packet, &self.path) {
                Ok(_) => return self.set_stuck(false),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    self.set_stuck(true)?;
                    return Err(io::Error::new(io::ErrorKind::TimedOut, "its daemon takes no more lines"));
                }
                Err(error) => return Err(error),
            }
        }
    }

    fn set_stuck(&mut self, is_stuck: bool) -> io::Result<()> {
        if self.is_stuck != is_stuck {
            self.socket.set_nonblocking(is_stuck)?;
            self.is_stuck = is_stuck;
        }
        Ok(())
    }
}

/// A value with a line end in it is sent as its length, 8 bytes with the lowest first, and its bytes.
fn write_journald(packet: &mut Vec<u8>, level: Level, line: &[u8]) {
    write!(packet, "PRIORITY={}\nSYSLOG_IDENTIFIER={IDENTIFIER}\nMESSAGE", severity(level))
        .expect("a Vec takes every byte");
    if line.contains(&b'\n') {
        packet.push(b'\n');
        packet.extend_from_slice(&(line.len() as u64).to_le_bytes());
    } else {
        packet.push(b'=');
    }
    packet.extend_from_slice(line);
    packet.push(b'\n');
}

fn write_syslog(packet: &mut Vec<u8>, level: Level, line: &[u8]) {
    let priority = FACILITY_DAEMON * 8 + severity(level);
    write!(packet, "<{priority}>{IDENTIFIER}[{}]: ", std::process::id()).expect("a Vec takes every byte");
    packet.extend_from_slice(line);
}

/// The severities of RFC 3164, 4.1.1.
fn severity(level: Level) -> u8 {
    match level {
        Level::Error => 3,
        Level::Warn => 4,
        Level::Info => 6,
        Level::Debug | Level::Trace => 7,
    }
}

#[cfg(all(test, unix))]
mod tests {
    use super::*;
    use crate::tick::Tick;

    fn received(socket: &UnixDatagram) -> Vec<u8> {
        socket.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
        let mut packet = vec![0; 4096];
        let size = socket.recv(&mut packet).unwrap();
        packet.truncate(size);
        packet
    }

    fn send(datagrams: &mut Datagrams, level: Level, line: &str) -> io::Result<()> {
        datagrams.send(level, |out| out.extend_from_slice(line.as_bytes()))
    }

    #[test]
    fn the_journal_gets_message_priority_and_identifier() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("journal");
        let journal = UnixDatagram::bind(&path).unwrap();
        let mut datagrams = Datagrams::open(&path, Dialect::Journald).unwrap();
        send(&mut datagrams, Level::Warn, "level=warn msg=\"x\"").unwrap();
        assert_eq!(
            received(&journal),
            b"PRIORITY=4\nSYSLOG_IDENTIFIER=tidegate\nMESSAGE=level=warn msg=\"x\"\n"
        );
        send(&mut datagrams, Level::Error, "two\nlines").unwrap();
        assert_eq!(
            received(&journal),
            b"PRIORITY=3\nSYSLOG_IDENTIFIER=tidegate\nMESSAGE\n\x09\0\0\0\0\0\0\0two\nlines\n"
        );
    }

    #[test]
    fn syslog_gets_priority_and_process() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log");
        let daemon = UnixDatagram::bind(&path).unwrap();
        let mut datagrams = Datagrams::open(&path, Dialect::Syslog).unwrap();
        let pid = std::process::id();
        for (level, priority) in
            [(Level::Error, 27), (Level::Warn, 28), (Level::Info, 30), (Level::Debug, 31), (Level::Trace, 31)]
        {
            send(&mut datagrams, level, "up").unwrap();
            let expected = format!("<{priority}>tidegate[{pid}]: up");
            assert_eq!(String::from_utf8(received(&daemon)).unwrap(), expected);
        }
    }

    #[test]
    fn a_daemon_that_was_restarted_gets_the_next_line() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log");
        let first = UnixDatagram::bind(&path).unwrap();
        let mut datagrams = Datagrams::open(&path, Dialect::Syslog).unwrap();
        drop(first);
        assert!(send(&mut datagrams, Level::Info, "lost").is_err());
        std::fs::remove_file(&path).unwrap();
        assert!(send(&mut datagrams, Level::Info, "lost too").is_err());
        let second = UnixDatagram::bind(&path).unwrap();
        send(&mut datagrams, Level::Info, "kept").unwrap();
        assert!(received(&second).ends_with(b": kept"));
    }

    #[test]
    fn a_daemon_that_hangs_is_waited_for_once_and_gets_lines_again_when_it_goes_on() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log");
        let daemon = UnixDatagram::bind(&path).unwrap();
        let mut datagrams = Datagrams::open(&path, Dialect::Syslog).unwrap();
        let clock = crate::sys::Clock::start();
        let mut queued = 0;
        let error = loop {
            match send(&mut datagrams, Level::Info, "queued") {
                Ok(()) => queued += 1,
                Err(error) => break error,
            }
        };
        assert_eq!(error.to_string(), "its daemon takes no more lines");
        let waited = clock.now().since(Tick(0));
        assert!(waited >= PATIENCE, "it was given up after {waited:?}");
        let before = clock.now();
        assert!((0..1000).all(|_| send(&mut datagrams, Level::Info, "lost").is_err()));
        let took = clock.now().since(before);
        assert!(took < PATIENCE, "it was waited for again, {took:?}");

        for _ in 0..queued {
            assert!(received(&daemon).ends_with(b": queued"));
        }
        send(&mut datagrams, Level::Info, "kept").unwrap();
        assert!(received(&daemon).ends_with(b": kept"));
        // It has its time again: a queue that is full for a moment loses nothing.
        let slow = std::thread::spawn(move || {
            std::thread::sleep(PATIENCE / 4);
            (0..queued + 5).map(|_| received(&daemon)).filter(|line| line.ends_with(b": slow")).count()
        });
        assert!((0..queued + 5).all(|_| send(&mut datagrams, Level::Info, "slow").is_ok()));
        assert_eq!(slow.join().unwrap(), queued + 5);
    }

    #[test]
    fn a_socket_that_nobody_listens_at_is_refused_at_once() {
        let dir = tempfile::tempdir().unwrap();
        let error = Datagrams::open(&dir.path().join("none"), Dialect::Syslog).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::NotFound);
    }
}
