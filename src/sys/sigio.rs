//! Signals that tell of sockets: `O_ASYNC` and `F_SETSIG` of fcntl(2), sigtimedwait(2).

use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd, BorrowedFd, RawFd};
use std::ptr;
use std::sync::Once;
use std::time::Duration;

use super::calls::{self, Call};

/// Commands and values of fcntl(2) that the libc crate has not.
const F_SETSIG: libc::c_int = 10;
const F_SETOWN_EX: libc::c_int = 15;
const F_OWNER_TID: libc::c_int = 0;

/// Who gets the signals of a descriptor: fcntl(2), `f_owner_ex`.
#[repr(C)]
struct Owner {
    kind: libc::c_int,
    id: libc::pid_t,
}

/// siginfo_t as it is of a signal that tells of a descriptor: sigaction(2), `si_band` and `si_fd`.
#[repr(C)]
#[derive(Clone, Copy)]
struct Info {
    signal: libc::c_int,
    errno: libc::c_int,
    code: libc::c_int,
    band: libc::c_long,
    fd: libc::c_int,
}

/// What a signal says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Said {
    /// Something has happened to a descriptor: bits of poll(2).
    Happened {
        /// Which.
        fd: RawFd,
        /// What.
        events: libc::c_short,
    },
    /// No more signals could be queued (`RLIMIT_SIGPENDING`): some are lost.
    Lost,
    /// A [`Caller`] has called, or urgent data has arrived somewhere.
    Called,
}

/// The signals of the sockets that one thread watches. They are blocked there and taken one by one; nobody handles
/// them. Only for the thread that made it.
pub struct Signals {
    thread: libc::pid_t,
    set: libc::sigset_t,
    /// What the thread blocked before.
    before: libc::sigset_t,
    not_send: std::marker::PhantomData<*const ()>,
}

/// Wakes a thread that waits in [`Signals::next`], from any other.
#[derive(Debug)]
pub struct Caller {
    process: libc::pid_t,
    thread: libc::pid_t,
}

/// Queued, unlike the signals below it: one for each event.
fn event_signal() -> libc::c_int {
    libc::SIGRTMIN()
}

/// Its default is to be ignored, so that it harms nobody if the thread it was meant for is gone.
const CALL: libc::c_int = libc::SIGURG;

/// The signals that [`Signals`] blocks are ignored by the others.
static IGNORED: Once = Once::new();

fn checked(result: libc::c_int) -> io::Result<libc::c_int> {
    if result == -1 { Err(io::Error::last_os_error()) } else { Ok(result) }
}

#[expect(unsafe_code, reason = "rustix has no signals")]
impl Signals {
    /// For the calling thread.
    ///
    /// # Errors
    /// The operating system's.
    pub fn new() -> io::Result<(Self, Caller)> {
        let (mut set, mut before) = (MaybeUninit::uninit(), MaybeUninit::uninit());
        // SAFETY: `sigemptyset` makes the set a value, the others change it in place; the signals are valid ones.
        let set = unsafe {
            libc::sigemptyset(set.as_mut_ptr());
            for signal in [event_signal(), libc::SIGIO, CALL] {
                libc::sigaddset(set.as_mut_ptr(), signal);
            }
            set.assume_init()
        };
        // A signal that is blocked is queued although it is ignored. Unblocked they would end the process. Only once:
        // it throws away what is queued for any thread.
        IGNORED.call_once(|| {
            for signal in [event_signal(), libc::SIGIO] {
                // SAFETY: no handler of ours is replaced, and to ignore needs none. The signals exist.
                unsafe { libc::signal(signal, libc::SIG_IGN) };
            }
        });
        // SAFETY: both sets are valid for the call, which writes the second one.
        let errno = unsafe { libc::pthread_sigmask(libc::SIG_BLOCK, &raw const set, before.as_mut_ptr()) };
        if errno != 0 {
            return Err(io::Error::from_raw_os_error(errno));
        }
        // SAFETY: success has written it.
        let before = unsafe { before.assume_init() };
        // SAFETY: no arguments, and it cannot fail.
        let (process, thread) = unsafe { (libc::getpid(), libc::gettid()) };
        let signals = Self { thread, set, before, not_send: std::marker::PhantomData };
        Ok((signals, Caller { process, thread }))
    }

    /// Has this thread told of all that happens to a descriptor from now on. What was the case before is told by
    /// nobody.
    ///
    /// # Errors
    /// The operating system's.
    pub fn watch(&self, fd: BorrowedFd<'_>) -> io::Result<()> {
        let fd = fd.as_raw_fd();
        (0..4).for_each(|_| calls::happened(Call::Fcntl, fd, 0));
        let owner = Owner { kind: F_OWNER_TID, id: self.thread };
        // SAFETY: the descriptor is open, and `owner` lives until the call has read it.
        checked(unsafe { libc::fcntl(fd, F_SETOWN_EX, &raw const owner) })?;
        // SAFETY: the descriptor is open, and the argument is a number.
        checked(unsafe { libc::fcntl(fd, F_SETSIG, event_signal()) })?;
        // SAFETY: the descriptor is open.
        let flags = checked(unsafe { libc::fcntl(fd, libc::F_GETFL) })?;
        // SAFETY: the descriptor is open, and the argument is a number.
        checked(unsafe { libc::fcntl(fd, libc::F_SETFL, flags | libc::O_ASYNC) })?;
        Ok(())
    }

    /// Has nobody be told of what happens to a descriptor. Signals about it may be queued already.
    pub fn unwatch(&self, fd: BorrowedFd<'_>) {
        let fd = fd.as_raw_fd();
        (0..2).for_each(|_| calls::happened(Call::Fcntl, fd, 0));
        // SAFETY: the descriptor is open.
        let Ok(flags) = checked(unsafe { libc::fcntl(fd, libc::F_GETFL) }) else { return };
        // SAFETY: the descriptor is open, and the argument is a number. A descriptor that is open has flags to change.
        let _ = checked(unsafe { libc::fcntl(fd, libc::F_SETFL, flags & !libc::O_ASYNC) });
    }

    /// Takes the next signal, waiting for it at most `wait` (for ever if `None`).
    ///
    /// # Errors
    /// The operating system's.
    pub fn next(&mut self, wait: Option<Duration>) -> io::Result<Option<Said>> {
        let limit = wait.map(|wait| libc::timespec {
            tv_sec: libc::time_t::try_from(wait.as_secs()).unwrap_or(libc::time_t::MAX),
            tv_nsec: wait.subsec_nanos().into(),
        });
        let limit = limit.as_ref().map_or(ptr::null(), ptr::from_ref);
        let mut info = MaybeUninit::<libc::siginfo_t>::zeroed();
        // SAFETY: the set is a value, `info` has room for what is written, `limit` is null or points to a value that
        // outlives the call.
        let take = || checked(unsafe { libc::sigtimedwait(&raw const self.set, info.as_mut_ptr(), limit) });
        let signal = match calls::made(Call::Sigtimedwait, -1, take) {
            Ok(signal) => signal,
            Err(error) => match error.raw_os_error() {
                Some(libc::EAGAIN | libc::EINTR) => return Ok(None),
                _ => return Err(error),
            },
        };
        if signal == CALL {
            return Ok(Some(Said::Called));
        }
        // SAFETY: `Info` is the beginning of siginfo_t, for any kind of signal plain numbers, all bytes of which were
        // zeroed or written.
        let info = unsafe { info.as_ptr().cast::<Info>().read() };
        Ok(Some(if signal == libc::SIGIO {
            Said::Lost
        } else {
            Said::Happened { fd: info.fd, events: info.band as libc::c_short }
        }))
    }
}

impl Drop for Signals {
    #[expect(unsafe_code, reason = "rustix has no signals")]
    fn drop(&mut self) {
        // SAFETY: the set is the value that this thread had. Signals that are left are ignored.
        unsafe { libc::pthread_sigmask(libc::SIG_SETMASK, &raw const self.before, ptr::null_mut()) };
    }
}

impl Caller {
    /// The thread's next wait, or the one that it is in, ends. Nothing happens when it has ended.
    ///
    /// # Errors
    /// The operating system's.
    #[expect(unsafe_code, reason = "rustix has no signals")]
    pub fn call(&self) -> io::Result<()> {
        calls::happened(Call::Tgkill, -1, 0);
        // SAFETY: three numbers; a thread that is gone is an error and nothing else.
        match unsafe { libc::syscall(libc::SYS_tgkill, self.process, self.thread, CALL) } {
            -1 => match io::Error::last_os_error() {
                error if error.raw_os_error() == Some(libc::ESRCH) => Ok(()),
                error => Err(error),
            },
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;
    use std::os::fd::AsFd as _;
    use std::os::unix::net::UnixStream;
    use std::thread;

    use super::*;

    #[test]
    fn what_happens_to_a_socket_is_told_and_a_call_ends_a_wait() {
        let (mut signals, caller) = Signals::new().expect("signals");
        let (mut a, b) = UnixStream::pair().expect("a pair");
        signals.watch(b.as_fd()).expect("it can be watched");
        assert_eq!(signals.next(Some(Duration::ZERO)).expect("it can be asked"), None);
        a.write_all(b"x").expect("there is room");
        match signals.next(None).expect("it can be asked") {
            Some(Said::Happened { fd, events }) => {
                assert_eq!((fd, events & libc::POLLIN), (b.as_raw_fd(), libc::POLLIN));
            }
            other => panic!("it says {other:?}"),
        }
        let calling = thread::spawn(move || caller.call());
        assert_eq!(signals.next(None).expect("it can be asked"), Some(Said::Called));
        calling.join().expect("it ended").expect("it called");
    }
}
