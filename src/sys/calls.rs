//! The system calls that the data path makes: counted for the lab, or written down one by one for a picture of them.
//!
//! Both are off unless somebody switches them on, and a call then costs one load and a branch more. Without the feature
//! `lab`, and outside of Linux, there is nothing of it.

/// A system call, or an operation of an io_uring.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Call {
    /// accept4(2).
    Accept,
    /// bind(2).
    Bind,
    /// close(2) of a socket.
    Close,
    /// connect(2).
    Connect,
    /// epoll_ctl(2).
    EpollCtl,
    /// epoll_wait(2), as the C library and mio make it.
    EpollWait,
    /// epoll_pwait(2), as rustix makes it.
    EpollPwait,
    /// fcntl(2).
    Fcntl,
    /// getpeername(2).
    Getpeername,
    /// getsockname(2).
    Getsockname,
    /// getsockopt(2).
    Getsockopt,
    /// io_cancel(2).
    IoCancel,
    /// io_getevents(2).
    IoGetevents,
    /// io_submit(2).
    IoSubmit,
    /// io_uring_enter(2).
    IoUringEnter,
    /// ioctl(2).
    Ioctl,
    /// poll(2).
    Poll,
    /// read(2).
    Read,
    /// recvfrom(2), which recv(3) is.
    Recvfrom,
    /// rt_sigtimedwait(2).
    Sigtimedwait,
    /// pselect6(2), which select(2) is in the C library.
    Select,
    /// sendto(2), which send(3) is.
    Sendto,
    /// setsockopt(2).
    Setsockopt,
    /// shutdown(2).
    Shutdown,
    /// socket(2).
    Socket,
    /// splice(2).
    Splice,
    /// tgkill(2).
    Tgkill,
    /// write(2).
    Write,
    /// What an io_uring received: no call, but bytes that are copied as by one.
    RingReceive,
    /// What an io_uring sent, likewise.
    RingSend,
}

/// Whether the kernel still has the calls that others have replaced; newer machines have only those.
const OLD_CALLS: bool = cfg!(target_arch = "x86_64");

impl Call {
    /// All of them, each with its name as strace has it, or as the kernel calls the operation.
    pub const NAMES: [(Self, &'static str); 30] = [
        (Self::Accept, "accept4"),
        (Self::Bind, "bind"),
        (Self::Close, "close"),
        (Self::Connect, "connect"),
        (Self::EpollCtl, "epoll_ctl"),
        (Self::EpollWait, if OLD_CALLS { "epoll_wait" } else { "epoll_pwait" }),
        (Self::EpollPwait, "epoll_pwait"),
        (Self::Fcntl, "fcntl"),
        (Self::Getpeername, "getpeername"),
        (Self::Getsockname, "getsockname"),
        (Self::Getsockopt, "getsockopt"),
        (Self::IoCancel, "io_cancel"),
        (Self::IoGetevents, "io_getevents"),
        (Self::IoSubmit, "io_submit"),
        (Self::IoUringEnter, "io_uring_enter"),
        (Self::Ioctl, "ioctl"),
        (Self::Poll, if OLD_CALLS { "poll" } else { "ppoll" }),
        (Self::Read, "read"),
        (Self::Recvfrom, "recvfrom"),
        (Self::Sigtimedwait, "rt_sigtimedwait"),
        (Self::Select, "pselect6"),
        (Self::Sendto, "sendto"),
        (Self::Setsockopt, "setsockopt"),
        (Self::Shutdown, "shutdown"),
        (Self::Socket, "socket"),
        (Self::Splice, "splice"),
        (Self::Tgkill, "tgkill"),
        (Self::Write, "write"),
        (Self::RingReceive, "IORING_OP_RECV"),
        (Self::RingSend, "IORING_OP_SENDMSG"),
    ];

    /// Its name.
    #[must_use]
    pub fn name(self) -> &'static str {
        Self::NAMES[self as usize].1
    }

    /// Whether it is one that the process makes, and not an operation of its ring.
    #[must_use]
    pub fn is_system_call(self) -> bool {
        !matches!(self, Self::RingReceive | Self::RingSend)
    }
}

/// Makes a call that moves bytes, on descriptor `fd`.
#[inline]
pub(crate) fn moving<E: Code>(
    call: Call,
    fd: i32,
    make: impl FnOnce() -> Result<usize, E>,
) -> Result<usize, E> {
    noted(call, fd, make, |count| *count as i64)
}

/// Makes any other call.
#[inline]
pub(crate) fn made<T, E: Code>(call: Call, fd: i32, make: impl FnOnce() -> Result<T, E>) -> Result<T, E> {
    noted(call, fd, make, |_| 0)
}

#[cfg(not(all(feature = "lab", target_os = "linux")))]
mod nothing {
    use super::Call;

    /// Any error will do.
    pub(crate) trait Code {}

    impl<E> Code for E {}

    #[inline]
    pub(super) fn noted<T, E: Code>(
        _: Call,
        _: i32,
        make: impl FnOnce() -> Result<T, E>,
        _: impl FnOnce(&T) -> i64,
    ) -> Result<T, E> {
        make()
    }

    /// Nothing.
    #[inline]
    pub(crate) fn happened(_: Call, _: i32, _: i64) {}

    /// Nothing.
    #[cfg(target_os = "linux")]
    #[inline]
    pub(crate) fn submitted(_: &'static str, _: i32, _: u64) {}

    /// Nothing.
    #[cfg(target_os = "linux")]
    #[inline]
    pub(crate) fn completed(_: &'static str, _: u64, _: i32, _: bool) {}
}

#[cfg(not(all(feature = "lab", target_os = "linux")))]
pub(crate) use nothing::happened;
#[cfg(not(all(feature = "lab", target_os = "linux")))]
use nothing::{Code, noted};
#[cfg(all(not(feature = "lab"), target_os = "linux"))]
pub(crate) use nothing::{completed, submitted};
#[cfg(all(feature = "lab", target_os = "linux"))]
use recorder::{Code, noted};
#[cfg(all(feature = "lab", target_os = "linux"))]
pub use recorder::{Record, Totals, What, now, records, start_counting, start_recording, totals};
#[cfg(all(feature = "lab", target_os = "linux"))]
pub(crate) use recorder::{completed, happened, submitted};

#[cfg(all(feature = "lab", target_os = "linux"))]
mod recorder {
    use std::cell::OnceCell;
    use std::collections::BTreeMap;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

    use rustix::time::{ClockId, clock_gettime};
    use serde::{Deserialize, Serialize};
    use slab::Slab;

    use super::Call;

    /// An error's number, errno(3).
    pub(crate) trait Code {
        /// It.
        fn code(&self) -> i32;
    }

    impl Code for std::io::Error {
        fn code(&self) -> i32 {
            self.raw_os_error().unwrap_or(0)
        }
    }

    impl Code for rustix::io::Errno {
        fn code(&self) -> i32 {
            self.raw_os_error()
        }
    }

    #[expect(
        clippy::disallowed_types,
        reason = "taken when a thread begins or ends, and for each record of a picture"
    )]
    type Lock<T> = std::sync::Mutex<T>;

    const KINDS: usize = Call::NAMES.len();

    static COUNTS: AtomicBool = AtomicBool::new(false);
    static RECORDS: AtomicBool = AtomicBool::new(false);
    static THREADS: Lock<Slab<Arc<Counts>>> = Lock::new(Slab::new());
    static ENDED: Counts = Counts([const { [const { AtomicU64::new(0) }; 3] }; KINDS]);
    static WRITTEN: Lock<Vec<Record>> = Lock::new(Vec::new());

    /// Of each call: how often, how often in vain, and bytes. Written by one thread only.
    struct Counts([[AtomicU64; 3]; KINDS]);

    /// The counts of a thread, and their place in [`THREADS`]; they go to [`ENDED`] with it.
    struct Mine(Arc<Counts>, usize);

    thread_local! {
        static MINE: OnceCell<Mine> = const { OnceCell::new() };
    }

    /// What was counted, by name: how often, how often in vain, and bytes.
    pub type Totals = BTreeMap<&'static str, [u64; 3]>;

    /// Something that was written down.
    #[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
    pub struct Record {
        /// When it began and when it was over: see [`now`].
        pub at: [u64; 2],
        /// The thread's number, in the order in which threads first made a call.
        pub thread: u64,
        /// What it was.
        pub what: What,
    }

    /// What can be written down.
    #[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
    pub enum What {
        /// A system call on a descriptor (-1: on none that is known), and what came of it: bytes where it moves them,
        /// else 0, or minus an error's number.
        Call {
            /// Its name.
            name: String,
            /// The descriptor.
            fd: i32,
            /// The result.
            result: i64,
        },
        /// An operation was put into the ring.
        Submitted {
            /// Its name.
            name: String,
            /// The descriptor.
            fd: i32,
            /// What its completions are told by.
            token: u64,
        },
        /// A completion was taken out of the ring.
        Completed {
            /// The operation's name.
            name: String,
            /// That of the submission.
            token: u64,
            /// The result: bytes, or minus an error's number.
            result: i32,
            /// More follow.
            more: bool,
        },
    }

    /// Counts from now on, in all threads.
    pub fn start_counting() {
        COUNTS.store(true, Ordering::Relaxed);
    }

    /// Writes down from now on, in all threads, and counts.
    pub fn start_recording() {
        RECORDS.store(true, Ordering::Relaxed);
        start_counting();
    }

    /// What all threads have counted so far, those that have ended too. Each number is right by itself; threads that
    /// run go on meanwhile.
    #[must_use]
    pub fn totals() -> Totals {
        // With the lock no thread can end in between, and be missed or counted twice.
        let threads = lock(&THREADS);
        let mut totals = Totals::new();
        for counts in threads.iter().map(|(_, counts)| &**counts).chain([&ENDED]) {
            for ((_, name), [calls, failed, bytes]) in Call::NAMES.iter().zip(&counts.0) {
                let total = totals.entry(name).or_default();
                for (total, count) in total.iter_mut().zip([calls, failed, bytes]) {
                    *total += count.load(Ordering::Relaxed);
                }
            }
        }
        totals
    }

    /// What was written down so far, in the order in which it ended.
    #[must_use]
    pub fn records() -> Vec<Record> {
        lock(&WRITTEN).clone()
    }

    #[inline]
    pub(super) fn noted<T, E: Code>(
        call: Call,
        fd: i32,
        make: impl FnOnce() -> Result<T, E>,
        value: impl FnOnce(&T) -> i64,
    ) -> Result<T, E> {
        if !COUNTS.load(Ordering::Relaxed) {
            return make();
        }
        let began = time();
        let result = make();
        note(call, fd, result.as_ref().map_or_else(|error| -i64::from(error.code()), value), began);
        result
    }

    /// Notes a call, or bytes that a ring moved, after it has happened.
    #[inline]
    pub(crate) fn happened(call: Call, fd: i32, result: i64) {
        if COUNTS.load(Ordering::Relaxed) {
            note(call, fd, result, time());
        }
    }

    /// Notes that an operation was put into the ring.
    #[inline]
    pub(crate) fn submitted(name: &'static str, fd: i32, token: u64) {
        if RECORDS.load(Ordering::Relaxed) {
            write(now(), What::Submitted { name: name.to_owned(), fd, token });
        }
    }

    /// Notes that a completion was taken out of the ring.
    #[inline]
    pub(crate) fn completed(name: &'static str, token: u64, result: i32, more: bool) {
        if RECORDS.load(Ordering::Relaxed) {
            write(now(), What::Completed { name: name.to_owned(), token, result, more });
        }
    }

    #[cold]
    fn note(call: Call, fd: i32, result: i64, began: u64) {
        let bytes = match call {
            Call::Recvfrom | Call::Sendto | Call::Splice | Call::Read | Call::Write => result.max(0),
            Call::RingReceive | Call::RingSend => result,
            _ => 0,
        };
        let numbers = [u64::from(call.is_system_call()), u64::from(result < 0), bytes.unsigned_abs()];
        // A thread that is ending has given its counts away.
        let _ = MINE.try_with(|mine| {
            let Mine(counts, _) = mine.get_or_init(Mine::new);
            for (count, number) in counts.0[call as usize].iter().zip(numbers) {
                count.store(count.load(Ordering::Relaxed) + number, Ordering::Relaxed);
            }
        });
        if call.is_system_call() && RECORDS.load(Ordering::Relaxed) {
            write(began, What::Call { name: call.name().to_owned(), fd, result });
        }
    }

    fn write(began: u64, what: What) {
        static NUMBERS: AtomicU64 = AtomicU64::new(0);
        thread_local! {
            static NUMBER: u64 = NUMBERS.fetch_add(1, Ordering::Relaxed);
        }
        let thread = NUMBER.try_with(|number| *number).unwrap_or(u64::MAX);
        lock(&WRITTEN).push(Record { at: [began, now()], thread, what });
    }

    /// [`now`] for a record; 0 when none are written.
    fn time() -> u64 {
        if RECORDS.load(Ordering::Relaxed) { now() } else { 0 }
    }

    /// The time of records, in nanoseconds. All processes of a machine have the same: `CLOCK_MONOTONIC`, clock_gettime(2).
    #[must_use]
    pub fn now() -> u64 {
        let now = clock_gettime(ClockId::Monotonic);
        now.tv_sec.unsigned_abs() * 1_000_000_000 + now.tv_nsec.unsigned_abs()
    }

    fn lock<T>(lock: &Lock<T>) -> impl std::ops::DerefMut<Target = T> {
        lock.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    impl Mine {
        fn new() -> Self {
            let counts = Arc::new(Counts([const { [const { AtomicU64::new(0) }; 3] }; KINDS]));
            let place = lock(&THREADS).insert(Arc::clone(&counts));
            Self(counts, place)
        }
    }

    impl Drop for Mine {
        fn drop(&mut self) {
            let mut threads = lock(&THREADS);
            threads.remove(self.1);
            for (all, mine) in ENDED.0.iter().flatten().zip(self.0.0.iter().flatten()) {
                all.fetch_add(mine.load(Ordering::Relaxed), Ordering::Relaxed);
            }
        }
    }

    #[cfg(test)]
    mod tests {
        use std::thread;

        use super::super::moving;
        use super::*;

        #[test]
        fn every_call_has_its_name_at_its_place() {
            for (index, (call, name)) in Call::NAMES.into_iter().enumerate() {
                assert_eq!((call as usize, call.name()), (index, name));
            }
        }

        /// Other tests of this process make calls as well: only what they do not is looked at.
        #[test]
        fn what_threads_counted_stays_when_they_end() {
            start_counting();
            let io_cancel = || totals()["io_cancel"];
            let before = io_cancel();
            let again = || Err::<usize, _>(rustix::io::Errno::AGAIN);
            let threads: Vec<_> = (0..4)
                .map(|_| {
                    thread::spawn(move || {
                        for _ in 0..100 {
                            let _ = moving(Call::IoCancel, -1, again);
                            happened(Call::IoCancel, -1, 7);
                        }
                    })
                })
                .collect();
            threads.into_iter().for_each(|thread| thread.join().unwrap());
            let after = io_cancel();
            // Another test may cancel something meanwhile.
            assert!(after[0] - before[0] >= 800 && after[1] - before[1] >= 400, "{before:?} {after:?}");
        }
    }
}
