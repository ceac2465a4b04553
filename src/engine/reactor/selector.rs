//! What a reactor needs from a way of asking which sockets are ready.

use std::io;
use std::time::Duration;

use crate::sys::Net;

/// Reports which sockets are ready. A report is a hint: a spurious one is harmless, a missing one is not.
pub trait Selector<N: Net>: Sized {
    /// Whether a read that does not fill its buffer proves that the socket is empty: see
    /// [`Net::recv`]. To be shown for a selector before it is said of it.
    const SHORT_READ_IS_DRAINED: bool;

    /// Watches a socket for reading and writing, once for its whole life, edge-triggered: every change is
    /// reported, and what was ready before the call is reported too.
    ///
    /// # Errors
    /// The operating system's.
    fn add(&mut self, source: Source<'_, N>, token: usize) -> io::Result<()>;

    /// Forgets a socket that is about to be closed.
    fn remove(&mut self, source: Source<'_, N>);

    /// Waits for reports, at most `wait` (for ever if `None`), and appends them to `out`.
    ///
    /// # Errors
    /// The operating system's.
    fn select(&mut self, wait: Option<Duration>, out: &mut Vec<Readiness>) -> io::Result<()>;
}

/// What can be watched.
#[derive(Debug)]
pub enum Source<'a, N: Net> {
    /// A connection, or one that is about to be.
    Stream(&'a mut N::Stream),
    /// A listening socket.
    Listener(&'a mut N::Listener),
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
    /// More than readable and writable was reported: the peer's FIN, a hang-up, an error or urgent data.
    pub special: bool,
    /// An error was reported.
    pub error: bool,
}
