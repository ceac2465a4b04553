//! select(2): the kernel is handed a bit for every descriptor in each turn.

use std::io;
use std::os::fd::{AsFd as _, AsRawFd as _, RawFd};
use std::sync::Arc;
use std::time::Duration;

use super::by_poll::readiness;
use super::selector::{Readiness, Report, Selector, Source, Trigger, Want};
use crate::sys::poll::{Bits, Entry, poll, select};
use crate::sys::{Bell, Os};

/// select(2) tells nothing of a socket that is in none of its sets, not even that its peer has gone. Those are
/// few, and looked at so often.
const LOOK: Duration = Duration::from_millis(250);

/// The sets for select(2), kept between turns, as a [`Selector`].
#[derive(Debug)]
pub struct BySelect {
    read: Bits,
    write: Bits,
    readable: Bits,
    writable: Bits,
    /// By descriptor: whose it is.
    tokens: Vec<usize>,
    /// Those that are in no set and wait for hang-ups and errors alone.
    quiet: Vec<Entry>,
    bell: Arc<Bell>,
}

impl BySelect {
    /// A new selector, and the handle that wakes it from any thread.
    ///
    /// # Errors
    /// The operating system's: usually no free descriptor.
    pub fn new() -> io::Result<(Self, Arc<Bell>)> {
        let bell = Arc::new(Bell::new()?);
        let mut read = Bits::default();
        read.set(bell.as_fd().as_raw_fd(), true);
        let selector = Self {
            read,
            write: Bits::default(),
            readable: Bits::default(),
            writable: Bits::default(),
            tokens: Vec::new(),
            quiet: Vec::new(),
            bell: Arc::clone(&bell),
        };
        Ok((selector, bell))
    }

    fn put(&mut self, fd: RawFd, token: usize, want: Option<Want>) {
        let index = usize::try_from(fd).expect("an open descriptor is not negative");
        if index >= self.tokens.len() {
            self.tokens.resize(index + 1, 0);
        }
        self.tokens[index] = token;
        let Want { read, write } = want.unwrap_or_default();
        self.read.set(fd, read);
        self.write.set(fd, write);
        self.quiet.retain(|entry| entry.fd != fd);
        if want.is_some_and(Want::is_empty) {
            self.quiet.push(Entry { fd, events: 0, revents: 0 });
        }
    }

    /// What poll(2) tells of those that are in no set.
    fn look_at_quiet(&mut self, out: &mut Vec<Readiness>) -> io::Result<()> {
        if poll(&mut self.quiet, Some(Duration::ZERO))? > 0 {
            let told = self.quiet.iter().filter(|entry| entry.revents != 0);
            out.extend(told.map(|entry| readiness(self.tokens[entry.fd as usize], entry.revents)));
        }
        Ok(())
    }
}

impl Selector<Os> for BySelect {
    const TRIGGER: Trigger = Trigger::Level;
    /// Whatever was left, a FIN or bytes behind an urgent one, is reported in the next turn.
    const SHORT_READ_IS_DRAINED: bool = true;

    fn add(&mut self, source: Source<'_, Os>, token: usize) -> io::Result<()> {
        self.set(source, token, Some(Want::default()))
    }

    fn set(&mut self, source: Source<'_, Os>, token: usize, want: Option<Want>) -> io::Result<()> {
        self.put(source.as_fd().as_raw_fd(), token, want);
        Ok(())
    }

    fn remove(&mut self, source: Source<'_, Os>) {
        self.put(source.as_fd().as_raw_fd(), 0, None);
    }

    fn select(&mut self, wait: Option<Duration>, out: &mut Vec<Readiness>) -> io::Result<Report> {
        let wait = if self.quiet.is_empty() { wait } else { Some(wait.map_or(LOOK, |wait| wait.min(LOOK))) };
        let count = select([&self.read, &self.write], [&mut self.readable, &mut self.writable], wait)?;
        if !self.quiet.is_empty() {
            self.look_at_quiet(out)?;
        }
        if count == 0 {
            return Ok(Report::Exact);
        }
        let bell = self.bell.as_fd().as_raw_fd();
        for fd in self.readable.either(&self.writable) {
            if fd == bell {
                self.bell.silence();
                continue;
            }
            // An error makes a socket readable and writable, as far as that was asked: the attempt tells which.
            out.push(Readiness {
                token: self.tokens[fd as usize],
                read: self.readable.has(fd),
                write: self.writable.has(fd),
                special: false,
                error: false,
            });
        }
        Ok(Report::Exact)
    }
}
