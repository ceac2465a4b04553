//! The default selector: mio, which is epoll, kqueue or IOCP, edge-triggered.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use mio::{Events, Interest, Poll, Token, Waker};

use super::selector::{Readiness, Report, Selector, Source, Trigger};
use crate::sys::Os;
use crate::sys::calls::{self, Call};
use crate::table::Key;

/// Reports taken from the kernel at a time.
const EVENTS: usize = 1024;

/// Whether mio is epoll here, and neither another system's call nor poll(2), which it can be built for.
const IS_EPOLL: bool = cfg!(all(target_os = "linux", not(mio_unsupported_force_poll_poll)));

/// mio's [`Poll`] as a [`Selector`].
#[derive(Debug)]
pub struct ByMio {
    poll: Poll,
    events: Events,
}

impl ByMio {
    /// A new selector, and the handle that wakes it from any thread.
    ///
    /// # Errors
    /// The operating system's: usually no free descriptor.
    pub fn new() -> io::Result<(Self, Arc<Waker>)> {
        let poll = Poll::new()?;
        let waker = Waker::new(poll.registry(), Token(Key::reserved(u32::MAX).token(false)))?;
        Ok((Self { poll, events: Events::with_capacity(EVENTS) }, Arc::new(waker)))
    }
}

/// Urgent data is watched for one reason: a read stops at an urgent byte, and what is behind it would not
/// be reported again.
#[cfg(any(target_os = "linux", target_os = "android"))]
const INTEREST: Interest = Interest::READABLE.add(Interest::WRITABLE).add(Interest::PRIORITY);
#[cfg(not(any(target_os = "linux", target_os = "android")))]
const INTEREST: Interest = Interest::READABLE.add(Interest::WRITABLE);

impl Selector<Os> for ByMio {
    const TRIGGER: Trigger = Trigger::Edge;
    const SHORT_READ_IS_DRAINED: bool = IS_EPOLL;

    fn add(&mut self, source: Source<'_, Os>, token: usize) -> io::Result<()> {
        let registry = self.poll.registry();
        match source {
            Source::Stream(stream) => registry.register(stream, Token(token), INTEREST),
            Source::Listener(listener) => registry.register(listener, Token(token), Interest::READABLE),
        }
    }

    fn remove(&mut self, source: Source<'_, Os>) {
        // epoll forgets a socket when its last descriptor is closed, and ours are never duplicated: a
        // system call saved. Elsewhere mio keeps books of its own. A listener may live on elsewhere.
        if !IS_EPOLL || matches!(source, Source::Listener(_)) {
            let registry = self.poll.registry();
            let _ = match source {
                Source::Stream(stream) => registry.deregister(stream),
                Source::Listener(listener) => registry.deregister(listener),
            };
        }
    }

    fn select(&mut self, wait: Option<Duration>, out: &mut Vec<Readiness>) -> io::Result<Report> {
        match calls::made(Call::EpollWait, -1, || self.poll.poll(&mut self.events, wait)) {
            Err(error) if error.kind() != io::ErrorKind::Interrupted => return Err(error),
            _ => {}
        }
        out.extend(self.events.iter().map(|event| {
            let special =
                event.is_read_closed() || event.is_write_closed() || event.is_error() || event.is_priority();
            Readiness {
                token: event.token().0,
                read: event.is_readable() || special,
                write: event.is_writable() || special,
                special,
                error: event.is_error(),
            }
        }));
        Ok(Report::Exact)
    }
}
