//! What wakes a worker whose engine has no waker of its own: eventfd(2).

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use rustix::event::{EventfdFlags, eventfd};
use rustix::io::Errno;

use super::calls::{self, Call};

/// A counter in the kernel: it is readable from when it is rung until it is silenced.
#[derive(Debug)]
pub struct Bell(OwnedFd);

impl Bell {
    /// A silent bell. It never blocks.
    ///
    /// # Errors
    /// The operating system's: usually no free descriptor.
    pub fn new() -> io::Result<Self> {
        Ok(Self(eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?))
    }

    /// Makes it readable, from any thread.
    ///
    /// # Errors
    /// The operating system's.
    pub fn ring(&self) -> io::Result<()> {
        match calls::made(Call::Write, self.0.as_raw_fd(), || {
            rustix::io::write(&self.0, &1_u64.to_ne_bytes())
        }) {
            // It is readable already, and could not be more so.
            Ok(_) | Err(Errno::AGAIN) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// Makes it unreadable.
    pub fn silence(&self) {
        // A bell that was not rung gives EAGAIN, which is as good.
        let _ = calls::made(Call::Read, self.0.as_raw_fd(), || rustix::io::read(&self.0, &mut [0; 8]));
    }
}

impl AsFd for Bell {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use rustix::event::{PollFd, PollFlags, Timespec, poll};

    use super::*;

    #[test]
    fn it_is_readable_from_the_first_ring_until_it_is_silenced() {
        let bell = Bell::new().expect("a descriptor");
        let readable = || {
            let mut list = [PollFd::new(&bell, PollFlags::IN)];
            poll(&mut list, Some(&Timespec { tv_sec: 0, tv_nsec: 0 })).expect("it can be asked") == 1
        };
        assert!(!readable());
        bell.ring().expect("it rings");
        bell.ring().expect("it rings again");
        assert!(readable());
        bell.silence();
        assert!(!readable());
        bell.silence();
    }
}
