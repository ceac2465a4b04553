//! Level-triggered epoll(7), as plain as it can be.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

use rustix::event::epoll::{self, CreateFlags, Event, EventData, EventFlags};
use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::io::Errno;

/// Reports that are taken at a time.
const EVENTS: usize = 512;

pub(super) struct Epoll {
    fd: OwnedFd,
    events: Vec<Event>,
}

/// What a socket is asked for. Hang-ups and errors come unasked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Want {
    pub(super) read: bool,
    pub(super) write: bool,
}

/// What a socket can do. A hang-up or an error lets it do both, and the call tells.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ready {
    pub(super) key: u64,
    pub(super) read: bool,
    pub(super) write: bool,
}

impl Want {
    pub(super) const READ: Self = Self { read: true, write: false };
    pub(super) const WRITE: Self = Self { read: false, write: true };
    pub(super) const BOTH: Self = Self { read: true, write: true };

    fn flags(self) -> EventFlags {
        let read = if self.read { EventFlags::IN } else { EventFlags::empty() };
        let write = if self.write { EventFlags::OUT } else { EventFlags::empty() };
        read | write
    }
}

impl Epoll {
    pub(super) fn new() -> io::Result<Self> {
        Ok(Self { fd: epoll::create(CreateFlags::CLOEXEC)?, events: Vec::with_capacity(EVENTS) })
    }

    pub(super) fn add(&self, socket: impl AsFd, key: u64, want: Want) -> io::Result<()> {
        Ok(epoll::add(&self.fd, socket, EventData::new_u64(key), want.flags())?)
    }

    pub(super) fn set(&self, socket: impl AsFd, key: u64, want: Want) -> io::Result<()> {
        Ok(epoll::modify(&self.fd, socket, EventData::new_u64(key), want.flags())?)
    }

    /// Waits for so long at most, rounded up to milliseconds.
    pub(super) fn wait(&mut self, most: Duration) -> io::Result<impl Iterator<Item = Ready> + use<>> {
        self.events.clear();
        match epoll::wait(&self.fd, rustix::buffer::spare_capacity(&mut self.events), Some(&timespec(most))) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
        // A batch outlives changes to what is waited for: the caller tells stale reports by their keys.
        let events = self.events.clone();
        Ok(events.into_iter().map(|event| {
            let flags = event.flags;
            let broken = flags.intersects(EventFlags::HUP | EventFlags::ERR);
            Ready {
                key: event.data.u64(),
                read: broken || flags.contains(EventFlags::IN),
                write: broken || flags.contains(EventFlags::OUT),
            }
        }))
    }

    /// Waits for so long at most, to the nanosecond: one more system call.
    pub(super) fn wait_exactly(&mut self, most: Duration) -> io::Result<impl Iterator<Item = Ready> + use<>> {
        if !most.is_zero() {
            let mut list = [PollFd::new(&self.fd, PollFlags::IN)];
            match rustix::event::poll(&mut list, Some(&timespec(most))) {
                Ok(_) | Err(Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
        self.wait(Duration::ZERO)
    }
}

fn timespec(wait: Duration) -> Timespec {
    Timespec { tv_sec: wait.as_secs().try_into().unwrap_or(i64::MAX), tv_nsec: wait.subsec_nanos().into() }
}
