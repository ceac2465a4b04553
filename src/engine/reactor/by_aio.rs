//! Linux AIO: polls that answer once are submitted in a batch, and their answers taken from a queue.

use std::io;
use std::os::fd::{AsFd as _, AsRawFd as _, RawFd};
use std::sync::Arc;
use std::time::Duration;

use super::by_poll::readiness;
use super::selector::{Readiness, Report, Selector, Source, Trigger, Want};
use crate::sys::aio::{Context, Ticket};
use crate::sys::{Bell, Os};
use crate::table::Key;

/// Sockets that the first context has room for; a full one is replaced by one of twice the size.
const SOCKETS: u32 = 256;
/// Each socket has a poll for hang-ups, and each direction one for its source or one for its target. When for a moment
/// there are more, those that find no room are asked for again.
const POLLS_PER_SOCKET: u32 = 2;
/// When the kernel has no room for a poll, it is asked again after so long.
const NO_ROOM: Duration = Duration::from_millis(10);

/// What polls wait for. Each is under way once for a socket at most; the first tells of hang-ups and errors alone.
const EVENTS: [libc::c_short; 3] = [0, libc::POLLIN, libc::POLLOUT];
const HANG_UP: usize = 0;
const READ: usize = 1;
const WRITE: usize = 2;

/// A context of Linux AIO as a [`Selector`].
pub struct ByAio {
    context: Context,
    /// Sockets that the context has room for, and those that are watched.
    room: u32,
    watched: u32,
    /// By descriptor.
    watches: Vec<Watch>,
    bell: Arc<Bell>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Watch {
    /// None: nobody has this descriptor.
    token: Option<usize>,
    /// By place in [`EVENTS`].
    polls: [Option<Ticket>; 3],
}

fn bell_token() -> usize {
    Key::reserved(u32::MAX).token(false)
}

impl ByAio {
    /// A new selector, and the handle that wakes it from any thread.
    ///
    /// # Errors
    /// The operating system's: all contexts of this machine together are larger than fs.aio-max-nr allows, or the
    /// kernel is without Linux AIO.
    pub fn new() -> io::Result<(Self, Arc<Bell>)> {
        let bell = Arc::new(Bell::new()?);
        let mut selector = Self {
            context: Context::new(SOCKETS * POLLS_PER_SOCKET)?,
            room: SOCKETS,
            watched: 1,
            watches: Vec::new(),
            bell: Arc::clone(&bell),
        };
        selector.watch(bell.as_fd().as_raw_fd()).token = Some(bell_token());
        selector.ask(bell.as_fd().as_raw_fd(), READ);
        // Kernels before 4.19 have contexts and no polls.
        selector.context.submit()?;
        Ok((selector, bell))
    }

    fn watch(&mut self, fd: RawFd) -> &mut Watch {
        let place = usize::try_from(fd).expect("an open descriptor is not negative");
        if place >= self.watches.len() {
            self.watches.resize(place + 1, Watch::default());
        }
        &mut self.watches[place]
    }

    /// Asks for what has not been asked for.
    fn ask(&mut self, fd: RawFd, what: usize) {
        if self.watch(fd).polls[what].is_none() {
            let ticket = self.context.ask(fd, EVENTS[what], (fd.unsigned_abs() as u64) << 2 | what as u64);
            self.watch(fd).polls[what] = Some(ticket);
        }
    }
}

impl Selector<Os> for ByAio {
    const TRIGGER: Trigger = Trigger::OneShot;
    /// Whatever was left, a FIN or bytes behind an urgent one, is told by the next poll.
    const SHORT_READ_IS_DRAINED: bool = true;

    fn add(&mut self, source: Source<'_, Os>, token: usize) -> io::Result<()> {
        if self.watched == self.room {
            self.context.grow(self.room * 2 * POLLS_PER_SOCKET)?;
            self.room *= 2;
        }
        self.watched += 1;
        let fd = source.as_fd().as_raw_fd();
        *self.watch(fd) = Watch { token: Some(token), ..Watch::default() };
        self.ask(fd, HANG_UP);
        Ok(())
    }

    fn set(&mut self, source: Source<'_, Os>, _: usize, want: Option<Want>) -> io::Result<()> {
        let fd = source.as_fd().as_raw_fd();
        let Some(want) = want else { return Ok(()) };
        if want.read {
            self.ask(fd, READ);
        }
        if want.write {
            self.ask(fd, WRITE);
        }
        // Every poll tells of a hang-up.
        if self.watch(fd).polls.iter().all(Option::is_none) {
            self.ask(fd, HANG_UP);
        }
        Ok(())
    }

    fn remove(&mut self, source: Source<'_, Os>) {
        let watch = std::mem::take(self.watch(source.as_fd().as_raw_fd()));
        // One that could not be added is removed, too.
        self.watched -= u32::from(watch.token.is_some());
        for ticket in watch.polls.into_iter().flatten() {
            self.context.cancel(ticket);
        }
    }

    fn select(&mut self, wait: Option<Duration>, out: &mut Vec<Readiness>) -> io::Result<Report> {
        let has_room = self.context.submit()?;
        let wait = if has_room { wait } else { Some(wait.map_or(NO_ROOM, |wait| wait.min(NO_ROOM))) };
        let mut rung = false;
        self.context.wait(wait, |data, events| {
            let watch = &mut self.watches[(data >> 2) as usize];
            watch.polls[(data & 3) as usize] = None;
            rung |= watch.token == Some(bell_token());
            out.extend(watch.token.map(|token| readiness(token, events)));
        })?;
        if rung {
            self.bell.silence();
            self.ask(self.bell.as_fd().as_raw_fd(), READ);
        }
        Ok(Report::Exact)
    }
}
