//! Calls that wait, for the blocking engine.
//!
//! On Windows a wait inside of a call cannot be ended without harm: bytes that arrive behind a shutdown of the
//! reading side reset the connection, and after a write that its limit has cut short nobody knows how much was
//! sent. So sockets stay in non-blocking mode there, and what waits is WSAPoll, for [`LOOK`] at a time.

use std::net::Shutdown;
use std::time::Duration;

use super::calls::{self, Call};
use super::net::{Net, Os, Received, Sent, Stream, fault};
use crate::relay::Fault;

/// After so long a write that nothing was taken of ends, and on Windows a read, so that whoever waits can look
/// whether it is still wanted.
const LOOK: Duration = Duration::from_millis(250);

/// Has the calls on a socket wait.
///
/// # Errors
/// The fault, when the socket is of no use.
pub fn set_blocking(stream: &Stream) -> Result<(), Fault> {
    // The flags are asked for, and set.
    (0..2).for_each(|_| calls::happened(Call::Fcntl, stream.number(), 0));
    stream.with_ref(|socket| socket.set_nonblocking(cfg!(windows))).map_err(|error| fault(&error))
}

/// Has [`send_waiting`] end after a while, although nothing was taken.
///
/// # Errors
/// The fault, when the socket is of no use.
pub fn limit_writes(stream: &Stream) -> Result<(), Fault> {
    if cfg!(windows) {
        return Ok(());
    }
    let limit = || stream.with_ref(|socket| socket.set_write_timeout(Some(LOOK)));
    calls::made(Call::Setsockopt, stream.number(), limit).map_err(|error| fault(&error))
}

/// Waits until a connect that [`Net::dial`] has begun has ended, `limit` at most.
///
/// # Errors
/// The fault, when it fails, is interrupted or takes too long.
pub fn await_connect(stream: &Stream, limit: Duration) -> Result<(), Fault> {
    use rustix::event::{PollFd, PollFlags, Timespec, poll};
    use rustix::io::Errno;
    let limit = Timespec::try_from(limit).ok();
    let mut asked = [PollFd::new(stream, PollFlags::OUT)];
    loop {
        match calls::made(Call::Poll, -1, || poll(&mut asked, limit.as_ref())) {
            Ok(0) => return Err(Fault::TimedOut),
            Ok(_) => break,
            // A signal's handler has run in this thread.
            Err(Errno::INTR) => {}
            Err(error) => return Err(fault(&error.into())),
        }
    }
    if Os::dialed(stream)? { Ok(()) } else { Err(Fault::Reset) }
}

/// Ends an [`await_connect`] of another thread, also one that has yet to begin: Linux takes a shutdown of a socket that
/// connects for the end of its attempt, and such a socket has hung up from then on. Elsewhere the attempt ends by its limit.
pub fn interrupt_connect(stream: &Stream) {
    let _ = stream.shutdown(Shutdown::Both);
}

/// Ends a read that waits in another thread, of which the peer sees nothing; on Windows such a read looks for
/// itself.
pub fn interrupt_read(stream: &Stream) {
    if !cfg!(windows) {
        let _ = stream.shutdown(Shutdown::Read);
    }
}

/// Whether nothing can be read from a peer nor sent to it any more: it was reset, or both sides have finished.
pub fn is_hung_up(stream: &Stream) -> bool {
    use rustix::event::{PollFd, PollFlags, Timespec, poll};
    let mut asked = [PollFd::new(stream, PollFlags::empty())];
    let now = Timespec { tv_sec: 0, tv_nsec: 0 };
    let answers = calls::made(Call::Poll, -1, || poll(&mut asked, Some(&now)));
    answers.is_ok() && asked[0].revents().contains(PollFlags::HUP)
}

/// Waits for bytes and reads once. Nothing: it has waited for a while, and may be called again.
pub fn recv_waiting(stream: &Stream, buffer: &mut [u8]) -> Received {
    #[cfg(windows)]
    if let Err(fault) = wait(stream, rustix::event::PollFlags::IN) {
        return Received::Failed(fault);
    }
    Os::recv(stream, buffer, false)
}

/// Waits until some of `bytes` are taken. Nothing: it has waited for a while, and may be called again.
pub fn send_waiting(stream: &Stream, bytes: &[u8]) -> Sent {
    let sent = Os::send(stream, bytes);
    #[cfg(windows)]
    if matches!(sent, Sent::Nothing(_))
        && let Err(fault) = wait(stream, rustix::event::PollFlags::OUT)
    {
        return Sent::Failed(fault);
    }
    sent
}

/// Waits until a call may do something, or for [`LOOK`].
#[cfg(windows)]
fn wait(stream: &Stream, what: rustix::event::PollFlags) -> Result<(), Fault> {
    use rustix::event::{PollFd, Timespec, poll};
    let limit = Timespec { tv_sec: 0, tv_nsec: LOOK.subsec_nanos().cast_signed() };
    poll(&mut [PollFd::new(stream, what)], Some(&limit)).map(drop).map_err(|error| fault(&error.into()))
}

/// Reads once without waiting, from a socket that waits.
pub fn recv_now(stream: &Stream, buffer: &mut [u8]) -> Received {
    #[cfg(unix)]
    {
        stream.recv_now(buffer)
    }
    #[cfg(not(unix))]
    Os::recv(stream, buffer, false)
}
