//! What a reactor needs from a way of asking which sockets are ready.

use std::io;
#[cfg(unix)]
use std::os::fd::{AsFd, BorrowedFd};
use std::time::Duration;

use crate::sys::Net;
#[cfg(unix)]
use crate::sys::Os;

/// When a selector reports.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trigger {
    /// Once whenever something changes, for as long as a socket is watched.
    Edge,
    /// In every turn, as long as what was asked for is the case.
    Level,
    /// Once, if what was asked for is or becomes the case; then never before it is asked again.
    OneShot,
}

/// What is to be reported of a socket, beside hang-ups and errors, which come unasked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Want {
    /// A read may do something.
    pub read: bool,
    /// A write may do something.
    pub write: bool,
}

impl Want {
    /// Nothing but hang-ups and errors.
    #[must_use]
    pub const fn is_empty(self) -> bool {
        !self.read && !self.write
    }

    /// Whether `other` asks for nothing more.
    #[must_use]
    pub const fn covers(self, other: Self) -> bool {
        (self.read || !other.read) && (self.write || !other.write)
    }
}

/// Whether a [`Selector::select`] told everything.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Report {
    /// It did.
    Exact,
    /// Reports were lost: any socket may be ready.
    Lossy,
}

/// Reports which sockets are ready. A report is a hint: a spurious one is harmless, a missing one is not.
pub trait Selector<N: Net>: Sized {
    /// When it reports.
    const TRIGGER: Trigger;

    /// Whether a read that does not fill its buffer proves that the socket is empty: see
    /// [`Net::recv`]. To be shown for a selector before it is said of it.
    const SHORT_READ_IS_DRAINED: bool;

    /// Watches a socket. [`Trigger::Edge`]: for reading and writing, once for its whole life; every change is
    /// reported, and what was ready before the call is reported too. Otherwise for hang-ups and errors alone,
    /// until [`Selector::set`] asks for more.
    ///
    /// # Errors
    /// The operating system's.
    fn add(&mut self, source: Source<'_, N>, token: usize) -> io::Result<()>;

    /// Says what is to be reported of a watched socket from now on, in place of what was said before. `None`
    /// is nothing at all: a hang-up that is known already would be reported for ever. Never called for
    /// [`Trigger::Edge`].
    ///
    /// # Errors
    /// The operating system's. Asking for less than before succeeds always.
    fn set(&mut self, _source: Source<'_, N>, _token: usize, _want: Option<Want>) -> io::Result<()> {
        Ok(())
    }

    /// Forgets a socket that is about to be closed.
    fn remove(&mut self, source: Source<'_, N>);

    /// Waits for reports, at most `wait` (for ever if `None`), and appends them to `out`.
    ///
    /// # Errors
    /// The operating system's.
    fn select(&mut self, wait: Option<Duration>, out: &mut Vec<Readiness>) -> io::Result<Report>;
}

/// What can be watched.
#[derive(Debug)]
pub enum Source<'a, N: Net> {
    /// A connection, or one that is about to be.
    Stream(&'a mut N::Stream),
    /// A listening socket.
    Listener(&'a mut N::Listener),
}

#[cfg(unix)]
impl AsFd for Source<'_, Os> {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Self::Stream(stream) => stream.as_fd(),
            Self::Listener(listener) => listener.as_fd(),
        }
    }
}

/// A report on one socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Readiness {
    /// What the socket was added with.
    pub token: usize,
    /// A read may do something.
    pub read: bool,
    /// A write may do something.
    pub write: bool,
    /// More than readable and writable was reported: the peer's FIN, a hang-up, an error or urgent data; of
    /// these only a hang-up or an error where the trigger is not [`Trigger::Edge`].
    pub special: bool,
    /// An error was reported.
    pub error: bool,
}
