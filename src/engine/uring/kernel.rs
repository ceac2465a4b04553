//! The kernel's ring.

#![expect(unsafe_code, reason = "the ring is shared memory that the kernel reads and writes")]

use std::collections::VecDeque;
use std::io;
use std::mem;
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::net::UnixStream;
use std::ptr;
use std::sync::Arc;
use std::time::Duration;

use io_uring::types::{Fd, SubmitArgs, Timespec};
use io_uring::{IoUring, cqueue, opcode, squeue};

use super::flight::{Chunk, Id, Kind, Parcel};
use super::provided::{BUFFER_SIZE, GROUP, Provided};
use super::ring::{Answer, Completion, Ring};
use crate::config;
use crate::engine::Unavailable;
use crate::relay::Fault;
use crate::sys::calls::{self, Call};
use crate::sys::net::{self, Listener, Stream};
use crate::sys::{Bell, Os};

/// Pieces that one send writes at most.
pub(super) const PIECES_MAX: usize = 64;
/// Completions find room for so many times the submissions: with multishot operations one has many.
const COMPLETIONS_EACH: u32 = 8;
/// `IORING_ENTER_GETEVENTS`: run what is due, also when nothing is waited for.
const GETEVENTS: u32 = 1;

/// `IORING_RECVSEND_BUNDLE`: as many buffers as it takes.
const BUNDLE: u16 = 1 << 4;

/// Where a submission has `optlen`, the most that a read which goes on by itself takes altogether: linux/io_uring.h.
/// Since Linux 6.17; the crate cannot set it.
const OPTLEN: usize = 44;
const _: () = assert!(size_of::<squeue::Entry>() == 64, "an ordinary submission");

/// Tokens that are no operation's: of cancellations, and of the bell. No id has all those bits.
const IGNORED: u64 = u64::MAX;
const BELL: u64 = u64::MAX - 1;

/// Where the kernel finds the pieces of a [`Parcel`].
#[derive(Debug, Default)]
pub struct Vectors {
    pieces: Vec<libc::iovec>,
    header: Option<Box<libc::msghdr>>,
}

/// A ring of the kernel's, its buffers, and the bell that wakes whoever waits in it.
pub struct Kernel {
    ring: IoUring,
    provided: Provided,
    bell: Arc<Bell>,
    listens_to_bell: bool,
    /// What was reaped to make room, before anybody asked.
    early: VecDeque<cqueue::Entry>,
    /// A submission that failed for good.
    broken: Option<io::Error>,
    /// Reads that go on by themselves can be limited.
    has_limit: bool,
}

/// Bits of poll(2) as the ring wants them.
const fn events(bits: libc::c_short) -> u32 {
    bits as u32
}

impl Kernel {
    /// A ring for the calling thread, which must be the only one to use it.
    ///
    /// # Errors
    /// Why there cannot be one, and what to do about it.
    pub fn new(settings: config::Uring) -> Result<(Self, Arc<Bell>), Unavailable> {
        let mut ring = build(settings.entries)?;
        require(&ring)?;
        let mut provided = Provided::new(&ring, settings.buffers).map_err(|error| refusal(&error))?;
        let has_limit = has_limit(&mut ring, &mut provided)? && settings.multishot;
        let bell = Arc::new(Bell::new().map_err(|error| refusal(&error))?);
        let ring = Self {
            ring,
            provided,
            bell: Arc::clone(&bell),
            listens_to_bell: false,
            early: VecDeque::new(),
            broken: None,
            has_limit,
        };
        Ok((ring, bell))
    }

    /// Queues an operation. A full queue is submitted first.
    fn push(&mut self, entry: &squeue::Entry) {
        loop {
            // SAFETY: what the entry points to is a parcel or an address in a `Flight`, or nothing; it stays
            // there until the completion that says that no more follow (`Flights`). Descriptors are those of
            // sockets that are not closed before.
            let pushed = unsafe { self.ring.submission().push(entry) };
            if pushed.is_ok() || self.broken.is_some() {
                return;
            }
            match calls::made(Call::IoUringEnter, -1, || self.ring.submit()) {
                Err(error) if error.raw_os_error() == Some(libc::EBUSY) => self.reap(),
                Err(error) if error.kind() != io::ErrorKind::Interrupted => self.broken = Some(error),
                _ => {}
            }
        }
    }

    /// Takes completions out of the kernel's hands, which makes room for those that wait behind them.
    fn reap(&mut self) {
        self.early.extend(self.ring.completion());
    }

    /// Submits everything and waits.
    fn submit(&mut self, wait: Option<Duration>) -> io::Result<()> {
        loop {
            let queued = self.ring.submission().len();
            let submitted = if wait.is_some_and(|wait| wait.is_zero()) {
                calls::made(Call::IoUringEnter, -1, || {
                    // SAFETY: no argument is passed.
                    unsafe { self.ring.submitter().enter::<()>(queued as u32, 0, GETEVENTS, None) }
                })
            } else {
                let limit = wait.map(|wait| Timespec::new().sec(wait.as_secs()).nsec(wait.subsec_nanos()));
                calls::made(Call::IoUringEnter, -1, || match &limit {
                    Some(limit) => {
                        self.ring.submitter().submit_with_args(1, &SubmitArgs::new().timespec(limit))
                    }
                    None => self.ring.submitter().submit_and_wait(1),
                })
            };
            match submitted {
                Ok(_) => {}
                Err(error) => match error.raw_os_error() {
                    Some(libc::ETIME | libc::EINTR) => {}
                    Some(libc::EBUSY | libc::EAGAIN) => self.reap(),
                    _ => return Err(error),
                },
            }
            if self.ring.submission().is_empty() {
                return Ok(());
            }
        }
    }

    fn listen_to_bell(&mut self) {
        if !mem::replace(&mut self.listens_to_bell, true) {
            let fd = Fd(self.bell.as_fd().as_raw_fd());
            self.push(&opcode::PollAdd::new(fd, events(libc::POLLIN)).build().user_data(BELL));
        }
    }

    /// What a completion says.
    fn answer(&mut self, entry: &cqueue::Entry) -> Option<Completion<Stream>> {
        let (token, result, flags) = (entry.user_data(), entry.result(), entry.flags());
        match token {
            IGNORED => return None,
            BELL => {
                self.listens_to_bell = false;
                self.bell.silence();
                return None;
            }
            _ => {}
        }
        let buffer = cqueue::buffer_select(flags);
        if buffer.is_some() {
            self.provided.took(result.unsigned_abs().div_ceil(BUFFER_SIZE).max(1) as usize);
        }
        let id = Id::from_token(token);
        calls::completed(operation(id.kind()), token, result, cqueue::more(flags));
        if id.kind() == Kind::Receive && result > 0 {
            calls::happened(Call::RingReceive, -1, result.into());
        }
        let answer = match (id.kind(), u32::try_from(result)) {
            (Kind::Receive, Err(_)) if result == -libc::ENOBUFS => {
                self.provided.fell_short();
                Answer::NoBuffers
            }
            (_, Err(_)) => failed(-result),
            (Kind::Accept, Ok(_)) => client(result),
            (Kind::Watch, Ok(mask)) => Answer::Hung(mask & events(libc::POLLERR) != 0),
            (Kind::Receive | Kind::Other, Ok(count)) => Answer::Done(count, buffer),
        };
        Some(Completion { id, more: cqueue::more(flags), answer })
    }
}

/// What the records call the operations of a kind.
fn operation(kind: Kind) -> &'static str {
    match kind {
        Kind::Accept => "accept",
        Kind::Watch => "poll",
        Kind::Receive => "receive",
        Kind::Other => "send or connect",
    }
}

/// The client of a completed accept.
fn client(fd: RawFd) -> Answer<Stream> {
    // SAFETY: the completion of an accept gives a new descriptor that nobody else knows, and it is reaped once.
    let fd = unsafe { OwnedFd::from_raw_fd(fd) };
    match net::adopt(fd) {
        Ok((stream, peer)) => Answer::Client(stream, peer),
        // It is gone already.
        Err(_) => Answer::Failed(Fault::Reset),
    }
}

fn failed<S>(errno: i32) -> Answer<S> {
    match errno {
        libc::ECANCELED | libc::EAGAIN | libc::EINTR | libc::EALREADY | libc::ENOENT => Answer::Nothing,
        errno => Answer::Failed(net::fault(&io::Error::from_raw_os_error(errno))),
    }
}

fn fd(socket: &impl AsFd) -> Fd {
    Fd(socket.as_fd().as_raw_fd())
}

impl Ring for Kernel {
    type Net = Os;

    fn accept(&mut self, listener: &Listener, many: bool, id: Id) {
        let flags = libc::SOCK_NONBLOCK | libc::SOCK_CLOEXEC;
        let entry = if many {
            opcode::AcceptMulti::new(fd(listener)).flags(flags).build()
        } else {
            let nowhere = (ptr::null_mut(), ptr::null_mut());
            opcode::Accept::new(fd(listener), nowhere.0, nowhere.1).flags(flags).build()
        };
        calls::submitted(if many { "accept, again and again" } else { "accept" }, -1, id.token());
        self.push(&entry.user_data(id.token()));
    }

    fn connect(&mut self, stream: &Stream, to: &socket2::SockAddr, id: Id) {
        calls::submitted("connect", stream.number(), id.token());
        let entry = opcode::Connect::new(fd(stream), to.as_ptr().cast(), to.len()).build();
        self.push(&entry.user_data(id.token()));
    }

    fn receive(&mut self, stream: &Stream, most: Option<u32>, id: Id) {
        let how = if most.is_none() { "receive, again and again" } else { "receive" };
        calls::submitted(how, stream.number(), id.token());
        let entry = match most {
            None => opcode::RecvMultiBundle::new(fd(stream), GROUP).build(),
            Some(most) if self.has_limit => limited(fd(stream), most),
            // It may take once more what the socket holds by then, however much that is.
            // Whole buffers are asked for, so that none is cut.
            Some(most) => opcode::Recv::new(fd(stream), ptr::null_mut(), most.next_multiple_of(BUFFER_SIZE))
                .ioprio(BUNDLE)
                .buf_group(GROUP)
                .build()
                .flags(squeue::Flags::BUFFER_SELECT),
        };
        self.push(&entry.user_data(id.token()));
    }

    fn send(&mut self, stream: &Stream, parcel: &mut Parcel, waits: bool, id: Id) {
        let Parcel { chunks, vectors } = parcel;
        debug_assert!(chunks.len() <= PIECES_MAX, "more pieces than a send takes");
        vectors.pieces.clear();
        vectors.pieces.extend(chunks.iter().map(|chunk| {
            let (start, len) = match chunk {
                Chunk::Provided { buffer, at, count } => {
                    (self.provided.start(*buffer).wrapping_add(*at as usize), *count as usize)
                }
                Chunk::Kept(lease) => (lease.bytes().as_ptr(), lease.bytes().len()),
            };
            libc::iovec { iov_base: start.cast_mut().cast(), iov_len: len }
        }));
        // SAFETY: msghdr is plain integers and pointers, for which all bytes zero are a value.
        let header = vectors.header.get_or_insert_with(|| Box::new(unsafe { mem::zeroed() }));
        header.msg_iov = vectors.pieces.as_mut_ptr();
        header.msg_iovlen = vectors.pieces.len() as _;
        // Who waits is answered whenever something was taken: a slow reader is not a dead one.
        let flags = if waits { 0 } else { libc::MSG_DONTWAIT | libc::MSG_WAITALL } | libc::MSG_NOSIGNAL;
        calls::submitted("send", stream.number(), id.token());
        let entry = opcode::SendMsg::new(fd(stream), &raw const **header).flags(flags as u32).build();
        let silent = if waits { squeue::Flags::empty() } else { squeue::Flags::SKIP_SUCCESS };
        self.push(&entry.flags(silent).user_data(id.token()));
    }

    fn watch(&mut self, stream: &Stream, id: Id) {
        calls::submitted("poll", stream.number(), id.token());
        // Hang-ups and errors come unasked.
        self.push(&opcode::PollAdd::new(fd(stream), 0).build().user_data(id.token()));
    }

    fn await_input(&mut self, stream: &Stream, id: Id) {
        calls::submitted("poll", stream.number(), id.token());
        let entry = opcode::PollAdd::new(fd(stream), events(libc::POLLIN));
        self.push(&entry.build().user_data(id.token()));
    }

    fn cancel(&mut self, id: Id) {
        calls::submitted("cancel", -1, id.token());
        let entry = opcode::AsyncCancel::new(id.token()).build();
        self.push(&entry.flags(squeue::Flags::SKIP_SUCCESS).user_data(IGNORED));
    }

    fn enter(&mut self, wait: Option<Duration>, out: &mut Vec<Completion<Stream>>) -> io::Result<()> {
        self.provided.publish();
        self.listen_to_bell();
        let wait = if self.early.is_empty() { wait } else { Some(Duration::ZERO) };
        self.submit(wait)?;
        if let Some(error) = self.broken.take() {
            return Err(error);
        }
        loop {
            self.reap();
            while let Some(entry) = self.early.pop_front() {
                out.extend(self.answer(&entry));
            }
            // Those that found no room come when they are asked for.
            if !self.ring.submission().cq_overflow() {
                return Ok(());
            }
            self.submit(Some(Duration::ZERO))?;
        }
    }

    fn buffer_size(&self) -> u32 {
        BUFFER_SIZE
    }

    fn next(&self, buffer: u16) -> u16 {
        self.provided.next(buffer)
    }

    fn bytes(&self, buffer: u16, count: u32) -> &[u8] {
        self.provided.bytes(buffer, count)
    }

    fn give(&mut self, buffer: u16) {
        self.provided.give(buffer);
    }

    fn spare(&self) -> usize {
        self.provided.spare()
    }
}

/// The best ring that this kernel has.
fn build(entries: u32) -> Result<IoUring, Unavailable> {
    let builder = |deferred: bool, array: bool| {
        let mut builder = IoUring::builder();
        builder
            .setup_single_issuer()
            .setup_submit_all()
            .setup_cqsize(entries * COMPLETIONS_EACH)
            .setup_clamp();
        if deferred {
            builder.setup_defer_taskrun();
        } else {
            builder.setup_coop_taskrun();
        }
        if !array {
            builder.setup_no_sqarray();
        }
        builder.build(entries)
    };
    builder(true, false)
        .or_else(|_| builder(true, true))
        .or_else(|_| builder(false, true))
        .map_err(|error| refusal(&error))
}

/// A read that goes on by itself, bundles of buffers at a time, until it has taken `most` bytes.
fn limited(socket: Fd, most: u32) -> squeue::Entry {
    let mut entry = opcode::RecvMultiBundle::new(socket, GROUP).build();
    // SAFETY: a submission is 64 bytes of plain integers in the kernel's layout (`repr(C)`), and these four are its
    // `optlen`, aligned.
    unsafe { ptr::from_mut(&mut entry).byte_add(OPTLEN).cast::<u32>().write(most) };
    entry
}

/// Whether [`limited`] is of use here: the kernel, which must know it, must not leave a buffer cut to the limit behind
/// when a read finds nothing, as the first ones that knew it did: who is given the buffer next would take it for whole.
fn has_limit(ring: &mut IoUring, provided: &mut Provided) -> Result<bool, Unavailable> {
    // Of what is known here the missing socket is what is wrong with it.
    let asked = push_alone(ring, &limited(Fd(-1), 1).user_data(IGNORED)).and_then(|()| answers(ring, 1));
    if asked.map_err(|error| refusal(&error))? != [-libc::EBADF] {
        // Kernels that do not know it can leave a cut buffer behind a FIN, too, whatever the read.
        return Err(missing("limit for reads, and can mix up the bytes of two connections"));
    }
    let mut leaves_whole = || -> io::Result<bool> {
        let (silent, _other) = UnixStream::pair()?;
        push_alone(ring, &limited(fd(&silent), 1).user_data(IGNORED))?;
        push_alone(ring, &opcode::AsyncCancel::new(IGNORED).build().user_data(IGNORED))?;
        answers(ring, 2)?;
        Ok(provided.is_whole())
    };
    leaves_whole().map_err(|error| refusal(&error))
}

/// Submits an operation to a ring that nobody else uses yet.
fn push_alone(ring: &mut IoUring, entry: &squeue::Entry) -> io::Result<()> {
    // SAFETY: it names no memory, and a socket that outlives it, or none.
    unsafe { ring.submission().push(entry) }.expect("a new ring has room");
    ring.submit().map(drop)
}

/// Waits for so many answers.
fn answers(ring: &mut IoUring, count: usize) -> io::Result<Vec<i32>> {
    let mut all = Vec::new();
    while all.len() < count {
        match ring.submit_and_wait(1) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            waited => drop(waited?),
        }
        all.extend(ring.completion().map(|entry| entry.result()));
    }
    Ok(all)
}

fn missing(what: &str) -> Unavailable {
    Unavailable {
        cause: format!("this kernel's io_uring has no {what}"),
        remedy: "Linux 6.17 or newer has it; the engine mio runs on any".to_owned(),
    }
}

/// What cannot be done without.
fn require(ring: &IoUring) -> Result<(), Unavailable> {
    let params = ring.params();
    for (has, what) in [
        (params.is_feature_nodrop(), "queue that loses no completion"),
        (params.is_feature_ext_arg(), "wait with a limit"),
        (params.is_feature_skip_cqe_on_success(), "silent success"),
        (params.is_feature_recvsend_bundle(), "bundles of buffers"),
    ] {
        if !has {
            return Err(missing(what));
        }
    }
    let mut probe = io_uring::Probe::new();
    ring.submitter().register_probe(&mut probe).map_err(|error| refusal(&error))?;
    let codes = [
        (opcode::Accept::CODE, "accept"),
        (opcode::Connect::CODE, "connect"),
        (opcode::Recv::CODE, "recv"),
        (opcode::SendMsg::CODE, "sendmsg"),
        (opcode::PollAdd::CODE, "poll"),
        (opcode::AsyncCancel::CODE, "cancel"),
    ];
    codes
        .into_iter()
        .find(|(code, _)| !probe.is_supported(*code))
        .map_or(Ok(()), |(_, what)| Err(missing(what)))
}

/// The operating system's refusal in words that help.
fn refusal(error: &io::Error) -> Unavailable {
    let disabled = std::fs::read_to_string("/proc/sys/kernel/io_uring_disabled").unwrap_or_default();
    let (cause, remedy) = match (error.raw_os_error(), disabled.trim()) {
        (Some(libc::EPERM), "1" | "2") => (
            format!("the sysctl kernel.io_uring_disabled is {}", disabled.trim()),
            "`sysctl kernel.io_uring_disabled=0` allows it",
        ),
        (Some(libc::EPERM | libc::EACCES), _) => (
            format!("io_uring_setup is forbidden ({error}), by a seccomp filter most likely"),
            "containers need a profile that allows io_uring_setup, io_uring_enter and io_uring_register",
        ),
        (Some(libc::ENOSYS), _) => (
            "this kernel has no io_uring, or something between hides it".to_owned(),
            "Linux 6.17 or newer has what is needed",
        ),
        (Some(libc::ENOMEM), _) => (
            format!("no memory for the rings ({error})"),
            "raise the limit of locked memory (`ulimit -l`, or LimitMEMLOCK= in the systemd unit), or lower \
             workers, or entries in [process.uring]",
        ),
        (Some(libc::EMFILE | libc::ENFILE), _) => {
            (error.to_string(), "raise the limit of open files: `ulimit -n`")
        }
        (Some(libc::EINVAL), _) => (
            format!("this kernel's io_uring lacks what is needed ({error})"),
            "Linux 6.17 or newer has it; the engine mio runs on any",
        ),
        _ => (error.to_string(), "choose another engine"),
    };
    Unavailable { cause, remedy: remedy.to_owned() }
}
