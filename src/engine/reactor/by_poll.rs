//! poll(2): the kernel is handed the list of all sockets in each turn.

use std::io;
use std::os::fd::{AsFd as _, AsRawFd as _, RawFd};
use std::sync::Arc;
use std::time::Duration;

use super::selector::{Readiness, Report, Selector, Source, Trigger, Want};
use crate::sys::poll::{Entry, poll};
use crate::sys::{Bell, Os};

/// The list for poll(2), kept between turns, as a [`Selector`].
#[derive(Debug)]
pub struct ByPoll {
    /// The first entry is the bell's.
    list: Vec<Entry>,
    /// By place in the list: whose it is.
    tokens: Vec<usize>,
    /// By descriptor: its place in the list; the bell's means that it is not there.
    places: Vec<usize>,
    bell: Arc<Bell>,
}

/// The bell's place.
const BELL: usize = 0;

impl ByPoll {
    /// A new selector, and the handle that wakes it from any thread.
    ///
    /// # Errors
    /// The operating system's: usually no free descriptor.
    pub fn new() -> io::Result<(Self, Arc<Bell>)> {
        let bell = Arc::new(Bell::new()?);
        let list = vec![Entry { fd: bell.as_fd().as_raw_fd(), events: libc::POLLIN, revents: 0 }];
        Ok((Self { list, tokens: vec![0], places: Vec::new(), bell: Arc::clone(&bell) }, bell))
    }

    fn place(&mut self, fd: RawFd) -> &mut usize {
        let fd = usize::try_from(fd).expect("an open descriptor is not negative");
        if fd >= self.places.len() {
            self.places.resize(fd + 1, BELL);
        }
        &mut self.places[fd]
    }

    /// Takes a descriptor off the list; the last entry takes its place.
    fn leave(&mut self, fd: RawFd) {
        let place = std::mem::replace(self.place(fd), BELL);
        if place == BELL {
            return;
        }
        self.list.swap_remove(place);
        self.tokens.swap_remove(place);
        if let Some(moved) = self.list.get(place) {
            *self.place(moved.fd) = place;
        }
    }
}

impl Selector<Os> for ByPoll {
    const TRIGGER: Trigger = Trigger::Level;
    /// Whatever was left, a FIN or bytes behind an urgent one, is reported in the next turn.
    const SHORT_READ_IS_DRAINED: bool = true;

    fn add(&mut self, source: Source<'_, Os>, token: usize) -> io::Result<()> {
        self.set(source, token, Some(Want::default()))
    }

    fn set(&mut self, source: Source<'_, Os>, token: usize, want: Option<Want>) -> io::Result<()> {
        let fd = source.as_fd().as_raw_fd();
        let Some(want) = want else {
            self.leave(fd);
            return Ok(());
        };
        let events = (if want.read { libc::POLLIN } else { 0 }) | if want.write { libc::POLLOUT } else { 0 };
        let next = self.list.len();
        let place = self.place(fd);
        if *place == BELL {
            *place = next;
            self.list.push(Entry { fd, events, revents: 0 });
            self.tokens.push(token);
        } else {
            let place = *place;
            self.list[place].events = events;
            self.tokens[place] = token;
        }
        Ok(())
    }

    fn remove(&mut self, source: Source<'_, Os>) {
        self.leave(source.as_fd().as_raw_fd());
    }

    fn select(&mut self, wait: Option<Duration>, out: &mut Vec<Readiness>) -> io::Result<Report> {
        let count = poll(&mut self.list, wait)?;
        if count == 0 {
            return Ok(Report::Exact);
        }
        if self.list[BELL].revents != 0 {
            self.bell.silence();
        }
        let told = self.list.iter().zip(&self.tokens).skip(BELL + 1).filter(|(entry, _)| entry.revents != 0);
        out.extend(told.take(count).map(|(entry, token)| readiness(*token, entry.revents)));
        Ok(Report::Exact)
    }
}

/// What poll(2) tells of a socket.
pub(super) fn readiness(token: usize, revents: libc::c_short) -> Readiness {
    let has = |bits| revents & bits != 0;
    let special = has(libc::POLLERR | libc::POLLHUP | libc::POLLNVAL);
    Readiness {
        token,
        read: special || has(libc::POLLIN),
        write: special || has(libc::POLLOUT),
        special,
        error: has(libc::POLLERR),
    }
}
