//! Linux AIO, as far as it can wait for sockets: io_submit(2) with `IOCB_CMD_POLL`, since Linux 4.19.

use std::io;
use std::os::fd::RawFd;
use std::ptr;
use std::time::Duration;

use slab::Slab;

use super::calls::{self, Call};

/// `IOCB_CMD_POLL` of linux/aio_abi.h, which io_submit(2) describes: answers once, when a descriptor is or becomes
/// ready.
const POLL: u16 = 5;
/// Answers taken from the kernel at a time.
const EVENTS: usize = 1024;

/// What the kernel writes of a poll that has ended: io_getevents(2), `io_event`.
#[repr(C)]
#[derive(Debug)]
struct Event {
    data: u64,
    object: u64,
    result: i64,
    result2: i64,
}

/// A poll from when it is asked for until it is answered.
struct Poll {
    /// What the kernel copies when it is submitted; a cancellation names it by its place in memory.
    iocb: Box<libc::iocb>,
    data: u64,
    state: State,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Queued,
    UnderWay,
    /// Its answer is of no interest.
    Cancelled,
}

/// A poll that has been asked for: of [`Context::ask`], until it is answered or cancelled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ticket(usize);

/// A context of io_setup(2): polls under way, and a queue of their answers.
pub struct Context {
    id: libc::c_ulong,
    polls: Slab<Poll>,
    /// What is to be submitted.
    queued: Vec<usize>,
    /// Kept for their memory.
    list: Vec<*mut libc::iocb>,
    events: Vec<Event>,
}

fn checked(result: libc::c_long) -> io::Result<usize> {
    usize::try_from(result).map_err(|_| io::Error::last_os_error())
}

#[expect(unsafe_code, reason = "the C library has no wrappers for these calls")]
fn set_up(most: u32) -> io::Result<libc::c_ulong> {
    let mut id: libc::c_ulong = 0;
    // SAFETY: `id` is zero, as it must be, and is written.
    checked(unsafe { libc::syscall(libc::SYS_io_setup, libc::c_ulong::from(most), &raw mut id) })?;
    Ok(id)
}

#[expect(unsafe_code, reason = "the C library has no wrappers for these calls")]
impl Context {
    /// A context in which `most` polls can be under way. The kernel makes twice the room and lends it to the CPUs in
    /// parts, so it may be more.
    ///
    /// # Errors
    /// The operating system's: `EAGAIN` when all contexts together have more than fs.aio-max-nr, `ENOSYS`.
    pub fn new(most: u32) -> io::Result<Self> {
        Ok(Self {
            id: set_up(most)?,
            polls: Slab::new(),
            queued: Vec::new(),
            list: Vec::new(),
            events: Vec::with_capacity(EVENTS),
        })
    }

    /// Moves to a context for `most`. Everything under way is submitted there again: what is ready is told then, so
    /// nothing is missed.
    ///
    /// # Errors
    /// The operating system's, and then everything is as it was.
    pub fn grow(&mut self, most: u32) -> io::Result<()> {
        let id = set_up(most)?;
        // SAFETY: the context is ours, and nothing uses its id any more. The call waits until nothing is under way.
        unsafe { libc::syscall(libc::SYS_io_destroy, std::mem::replace(&mut self.id, id)) };
        self.polls.retain(|_, poll| poll.state != State::Cancelled);
        self.queued.clear();
        for (index, poll) in &mut self.polls {
            poll.state = State::Queued;
            self.queued.push(index);
        }
        Ok(())
    }

    /// Asks once for `events` of a descriptor, beside hang-ups and errors; answered with `data`.
    pub fn ask(&mut self, fd: RawFd, events: libc::c_short, data: u64) -> Ticket {
        let entry = self.polls.vacant_entry();
        let index = entry.key();
        // SAFETY: iocb is plain numbers, for which all bytes zero are a value.
        let mut iocb: libc::iocb = unsafe { std::mem::zeroed() };
        iocb.aio_data = index as u64;
        iocb.aio_lio_opcode = POLL;
        iocb.aio_fildes = fd.unsigned_abs();
        iocb.aio_buf = u64::from(events.unsigned_abs());
        entry.insert(Poll { iocb: Box::new(iocb), data, state: State::Queued });
        self.queued.push(index);
        Ticket(index)
    }

    /// Ends a poll that has not been answered; it never is. The kernel holds on to its socket until then.
    pub fn cancel(&mut self, Ticket(index): Ticket) {
        let poll = &mut self.polls[index];
        if std::mem::replace(&mut poll.state, State::Cancelled) == State::UnderWay {
            let mut unused = Event { data: 0, object: 0, result: 0, result2: 0 };
            let cancel = || {
                // SAFETY: both places are valid for the call, which reads the one and may write the other.
                checked(unsafe {
                    libc::syscall(libc::SYS_io_cancel, self.id, &raw mut *poll.iocb, &raw mut unused)
                })
            };
            // A poll that is over is answered in its own time.
            let _ = calls::made(Call::IoCancel, -1, cancel);
        }
    }

    /// Submits everything that was asked for; `false` if the kernel has no room for all of it yet.
    ///
    /// # Errors
    /// The operating system's.
    pub fn submit(&mut self) -> io::Result<bool> {
        self.list.clear();
        let polls = &mut self.polls;
        self.queued.retain(|index| {
            if polls[*index].state == State::Cancelled {
                polls.remove(*index);
                return false;
            }
            self.list.push(&raw mut *polls[*index].iocb);
            true
        });
        let (mut done, mut result) = (0, Ok(()));
        while done < self.list.len() {
            let rest = &mut self.list[done..];
            // SAFETY: the list is of iocbs in boxes of `polls`, which nobody else borrows; the kernel reads the list and
            // the iocbs, and writes their keys, until the call ends. A poll touches no other memory.
            let mut submit = || unsafe {
                libc::syscall(libc::SYS_io_submit, self.id, rest.len() as libc::c_long, rest.as_mut_ptr())
            };
            match calls::made(Call::IoSubmit, -1, || checked(submit())) {
                Ok(count) => done += count,
                Err(error) => {
                    let has_no_room = matches!(error.raw_os_error(), Some(libc::EAGAIN | libc::ENOMEM));
                    result = if has_no_room { Ok(()) } else { Err(error) };
                    break;
                }
            }
        }
        for index in self.queued.drain(..done) {
            self.polls[index].state = State::UnderWay;
        }
        result.map(|()| self.queued.is_empty())
    }

    /// Waits for an answer, at most `wait` (for ever if `None`), and calls `tell` with the data and the result of each:
    /// bits of poll(2).
    ///
    /// # Errors
    /// The operating system's.
    pub fn wait(
        &mut self,
        wait: Option<Duration>,
        mut tell: impl FnMut(u64, libc::c_short),
    ) -> io::Result<()> {
        let limit = wait.map(|wait| libc::timespec {
            tv_sec: libc::time_t::try_from(wait.as_secs()).unwrap_or(libc::time_t::MAX),
            tv_nsec: wait.subsec_nanos().into(),
        });
        let limit = limit.as_ref().map_or(ptr::null(), ptr::from_ref);
        self.events.clear();
        let room = self.events.spare_capacity_mut();
        let (start, least, most): (_, libc::c_long, _) = (room.as_mut_ptr(), 1, room.len() as libc::c_long);
        // SAFETY: at most as many events are written as there is room for; `limit` is null or points to a value that
        // outlives the call.
        let told = || unsafe { libc::syscall(libc::SYS_io_getevents, self.id, least, most, start, limit) };
        let count = match calls::made(Call::IoGetevents, -1, || checked(told())) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => 0,
            told => told?,
        };
        // SAFETY: so many events were written, from the first on.
        unsafe { self.events.set_len(count) };
        for event in self.events.drain(..) {
            let poll = self.polls.remove(usize::try_from(event.data).expect("it was an index"));
            if poll.state != State::Cancelled {
                tell(poll.data, event.result as libc::c_short);
            }
        }
        Ok(())
    }
}

impl Drop for Context {
    #[expect(unsafe_code, reason = "the C library has no wrapper for this call")]
    fn drop(&mut self) {
        // SAFETY: the context is ours. The call waits until nothing is under way any more.
        unsafe { libc::syscall(libc::SYS_io_destroy, self.id) };
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;
    use std::os::fd::AsRawFd as _;
    use std::os::unix::net::UnixStream;

    use super::*;

    /// What is told within 100 ms; of what else is the case the kernel may tell, too.
    fn told(context: &mut Context) -> Vec<(u64, libc::c_short)> {
        let mut all = Vec::new();
        assert!(context.submit().expect("it can be submitted"));
        context
            .wait(Some(Duration::from_millis(100)), |data, events| all.push((data, events & libc::POLLIN)))
            .expect("a wait");
        all
    }

    #[test]
    fn a_poll_is_answered_once_and_a_cancelled_one_never() {
        let (mut a, b) = UnixStream::pair().expect("a pair");
        let mut context = Context::new(16).expect("a context");
        let [first, _, third] = [1, 2, 3].map(|data| context.ask(b.as_raw_fd(), libc::POLLIN, data));
        context.cancel(third);
        assert_eq!(told(&mut context), []);
        context.cancel(first);
        assert_eq!(told(&mut context), []);
        a.write_all(b"x").expect("there is room");
        assert_eq!(told(&mut context), [(2, libc::POLLIN)]);
        assert_eq!(told(&mut context), []);
        assert!(context.polls.is_empty());
    }

    #[test]
    fn what_is_under_way_goes_along_to_a_larger_context() {
        let (mut a, b) = UnixStream::pair().expect("a pair");
        let mut context = Context::new(16).expect("a context");
        let tickets = [1, 2, 3].map(|data| context.ask(b.as_raw_fd(), libc::POLLIN, data));
        assert_eq!(told(&mut context), []);
        context.cancel(tickets[0]);
        // It is answered in the context that is left.
        a.write_all(b"x").expect("there is room");
        context.grow(32).expect("a context");
        context.cancel(tickets[1]);
        assert_eq!(told(&mut context), [(3, libc::POLLIN)]);
        assert!(context.polls.is_empty());
    }
}
