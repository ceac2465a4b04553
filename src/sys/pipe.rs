//! Pipes through which the kernel passes pages from one socket to another, and no byte is copied: splice(2).
//!
//! A pipe holds so many pages, whatever is in them: one of 64 KiB is full with 16 segments of 100 bytes, and in bulk
//! takes 200 KiB. Its size is a hint, and nothing here or above counts on it.
//!
//! What splice(2) does not tell, seen on Linux 6.18:
//! - EAGAIN comes from a socket without bytes as well as from a pipe without room: which it is, follows from whether
//!   the pipe was empty before the call. Here a pipe is filled only when it is, and drained only when it is not.
//! - It does not go past an urgent byte, even one that is to stay in the stream: EAGAIN with bytes waiting.
//! - Where a FIN is behind that byte it returns 0, as if nothing were left.
//!
//! So an end is never believed of a splice, and an EAGAIN only of a socket with no urgent byte.

use std::num::NonZeroU32;

use super::net::WouldBlock;
use crate::relay::Fault;

/// What came of moving bytes from a socket into a pipe.
#[derive(Debug)]
pub enum Spliced {
    /// So many bytes. Fewer than the pipe would hold prove nothing.
    Bytes(NonZeroU32),
    /// The socket has nothing; or an urgent byte is next.
    Nothing(WouldBlock),
    /// The source has ended; or an urgent byte is next. A read tells.
    Ended,
    /// Bytes of this socket cannot be spliced (EINVAL), or none in this process (ENOSYS, EPERM).
    Refused,
    /// The socket failed.
    Failed(Fault),
}

/// Bytes that are spliced at a time, at most. That a pipe would hold more gives it slots enough for short segments;
/// in larger pieces a single stream costs a third more, because its two ends wait for each other.
pub(crate) const PIECE: u32 = 256 << 10;

#[cfg(target_os = "linux")]
pub use linux::Pipe;
#[cfg(not(target_os = "linux"))]
pub use nowhere::Pipe;

#[cfg(target_os = "linux")]
mod linux {
    use std::io;
    use std::num::NonZeroU32;
    use std::os::fd::OwnedFd;

    use rustix::io::Errno;
    use rustix::pipe::{PipeFlags, SpliceFlags, fcntl_getpipe_size, fcntl_setpipe_size, pipe_with, splice};

    use super::{PIECE, Spliced};
    use crate::sys::calls::{self, Call};
    use crate::sys::net::{Sent, Stream, WouldBlock, fault};

    /// What a pipe is asked to hold, in bytes. The first is the most that a user may have (`fs.pipe-max-size`,
    /// pipe(7)); one smaller than the last is of no use: with 64 KiB, splicing costs what copying costs.
    const SIZES: [usize; 3] = [1 << 20, 512 << 10, 256 << 10];
    /// A pipe, and how many bytes are in it. Dropping it destroys them.
    #[derive(Debug)]
    pub struct Pipe {
        read: OwnedFd,
        write: OwnedFd,
        held: usize,
    }

    impl Pipe {
        /// A new, empty pipe.
        ///
        /// # Errors
        /// The operating system's, when no descriptor or memory is left, and when the pipe would be too small: who has
        /// many gets small ones (EPERM; `fs.pipe-user-pages-soft`, pipe(7)).
        pub fn new() -> io::Result<Self> {
            Self::sized(&SIZES)
        }

        /// The same of the first of these sizes that can be had, in bytes.
        pub(super) fn sized(sizes: &[usize]) -> io::Result<Self> {
            let (read, write) = pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK)?;
            let mut got = Err(Errno::INVAL);
            for size in sizes {
                got = got.or_else(|_| fcntl_setpipe_size(&write, *size));
            }
            got?;
            let pipe = Self { read, write, held: 0 };
            match pipe.size()? {
                size if sizes.iter().any(|asked| size >= *asked) => Ok(pipe),
                size => Err(io::Error::other(format!("it holds {size} bytes, fewer than were granted"))),
            }
        }

        /// Its size in bytes, as the system has it.
        pub(super) fn size(&self) -> io::Result<usize> {
            Ok(fcntl_getpipe_size(&self.write)?)
        }

        pub(in crate::sys) fn is_empty(&self) -> bool {
            self.held == 0
        }

        /// To be called only when it is empty: then an EAGAIN is the socket's.
        pub(in crate::sys) fn fill(&mut self, source: &Stream) -> Spliced {
            debug_assert!(self.is_empty(), "whether the pipe or the socket is the cause could not be told");
            let flags = SpliceFlags::MOVE | SpliceFlags::NONBLOCK;
            let spliced = spliced(uninterrupted(|| {
                calls::moving(Call::Splice, source.number(), || {
                    splice(source, None, &self.write, None, PIECE as usize, flags)
                })
            }));
            if let Spliced::Bytes(count) = spliced {
                self.held = count.get() as usize;
            }
            spliced
        }

        /// To be called only when it is not empty: then an EAGAIN is the socket's. A failed socket raises SIGPIPE,
        /// which Rust programs ignore.
        pub(in crate::sys) fn drain(&mut self, target: &Stream) -> Sent {
            debug_assert!(!self.is_empty(), "whether the pipe or the socket is the cause could not be told");
            let flags = SpliceFlags::MOVE | SpliceFlags::NONBLOCK;
            let splice = || {
                uninterrupted(|| {
                    let splice = || splice(&self.read, None, target, None, self.held, flags);
                    calls::moving(Call::Splice, target.number(), splice)
                })
            };
            // Where mio is not epoll it must hear of an EAGAIN, or it would not report the socket again.
            match target.try_io(|| splice().map_err(io::Error::from)) {
                Ok(count) => match NonZeroU32::new(small(count)) {
                    Some(moved) => {
                        self.held -= count;
                        Sent::Bytes(moved)
                    }
                    None => Sent::Failed(crate::relay::Fault::Other(0)),
                },
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => Sent::Nothing(WouldBlock(())),
                Err(error) => Sent::Failed(fault(&error)),
            }
        }
    }

    /// What a splice into an empty pipe means.
    pub(super) fn spliced(result: Result<usize, Errno>) -> Spliced {
        match result.map(|count| NonZeroU32::new(small(count))) {
            Ok(Some(count)) => Spliced::Bytes(count),
            Ok(None) => Spliced::Ended,
            Err(Errno::AGAIN) => Spliced::Nothing(WouldBlock(())),
            Err(Errno::INVAL | Errno::NOSYS | Errno::PERM) => Spliced::Refused,
            Err(error) => Spliced::Failed(fault(&error.into())),
        }
    }

    fn small(count: usize) -> u32 {
        u32::try_from(count).expect("pipes are far smaller than 4 GiB")
    }

    fn uninterrupted(call: impl Fn() -> rustix::io::Result<usize>) -> rustix::io::Result<usize> {
        loop {
            match call() {
                Err(Errno::INTR) => {}
                result => return result,
            }
        }
    }
}

#[cfg(not(target_os = "linux"))]
mod nowhere {
    use std::io;

    use super::Spliced;
    use crate::sys::net::{Sent, Stream};

    /// There is none: only Linux splices.
    #[derive(Debug)]
    pub enum Pipe {}

    impl Pipe {
        /// There is none.
        ///
        /// # Errors
        /// Always.
        pub fn new() -> io::Result<Self> {
            Err(io::Error::new(io::ErrorKind::Unsupported, "only Linux has splice(2)"))
        }

        pub(in crate::sys) fn is_empty(&self) -> bool {
            match *self {}
        }

        pub(in crate::sys) fn fill(&mut self, _: &Stream) -> Spliced {
            match *self {}
        }

        pub(in crate::sys) fn drain(&mut self, _: &Stream) -> Sent {
            match *self {}
        }
    }
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use std::io::Write as _;
    use std::net::{Ipv4Addr, TcpListener, TcpStream};
    use std::time::Duration;

    use rustix::io::Errno;
    use socket2::SockRef;

    use super::linux::spliced;
    use super::*;
    use crate::sys::net::{Received, Sent, Stream};
    use crate::sys::{Net, Os};

    /// A peer, and our end of its connection, with the options that ours have.
    fn pair() -> (TcpStream, Stream) {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
        let peer = TcpStream::connect(listener.local_addr().expect("bound")).expect("connected");
        peer.set_nodelay(true).expect("an option");
        let (ours, _) = listener.accept().expect("it is there");
        ours.set_nonblocking(true).expect("an option");
        SockRef::from(&ours).set_out_of_band_inline(true).expect("an option");
        (peer, Stream::Tcp(mio::net::TcpStream::from_std(ours)))
    }

    fn arrived() {
        std::thread::sleep(Duration::from_millis(50));
    }

    fn taken(spliced: &Spliced) -> u32 {
        if let Spliced::Bytes(count) = spliced { count.get() } else { 0 }
    }

    fn rest(ours: &Stream) -> Vec<u8> {
        let (mut all, mut buffer) = (Vec::new(), vec![0; 1 << 20]);
        while let Received::Bytes(count, _) = Os::recv(ours, &mut buffer, false) {
            all.extend_from_slice(&buffer[..count.get() as usize]);
        }
        all
    }

    #[test]
    fn a_pipe_is_full_with_small_segments() {
        let (mut peer, ours) = pair();
        let mut pipe = Pipe::new().expect("a pipe");
        assert!(matches!(pipe.fill(&ours), Spliced::Nothing(_)), "nothing was sent yet");
        // The kernel joins segments that are neighbours in its memory, and those of two connections are not.
        let (mut other, _other_end) = pair();
        for _ in 0..1_000 {
            peer.write_all(&[7; 100]).expect("room");
            other.write_all(&[7; 100]).expect("room");
        }
        arrived();
        let held = taken(&pipe.fill(&ours)) as usize;
        let left = rest(&ours).len();
        println!("full with {held} bytes, and {left} in the socket");
        assert!(held > 0 && left > 0, "{held} bytes and {left}");
        assert_eq!(held + left, 100_000);
    }

    #[test]
    fn an_urgent_byte_looks_like_nothing_and_before_a_fin_like_the_end() {
        let (mut peer, ours) = pair();
        let mut pipe = Pipe::new().expect("a pipe");
        peer.write_all(b"abc").expect("room");
        SockRef::from(&peer).send_out_of_band(b"U").expect("room");
        arrived();
        assert_eq!(taken(&pipe.fill(&ours)), 3);
        let mut pipe = Pipe::new().expect("a pipe");
        assert!(matches!(pipe.fill(&ours), Spliced::Nothing(_)), "although a byte is there");
        peer.shutdown(std::net::Shutdown::Write).expect("it is open");
        arrived();
        assert!(matches!(pipe.fill(&ours), Spliced::Ended), "although a byte is there");
        assert_eq!(rest(&ours), b"U");
        assert!(matches!(pipe.fill(&ours), Spliced::Ended));
    }

    #[test]
    fn a_reset_is_a_fault_behind_the_bytes() {
        let (mut peer, ours) = pair();
        let mut pipe = Pipe::new().expect("a pipe");
        peer.write_all(&[7; 1_000]).expect("room");
        SockRef::from(&peer).set_linger(Some(Duration::ZERO)).expect("an option");
        drop(peer);
        arrived();
        assert_eq!(taken(&pipe.fill(&ours)), 1_000);
        let mut other = Pipe::new().expect("a pipe");
        assert!(matches!(other.fill(&ours), Spliced::Failed(Fault::Reset)));
        assert!(matches!(pipe.drain(&ours), Sent::Failed(Fault::Closed)), "EPIPE, and no signal");
    }

    #[test]
    fn what_a_splice_says_is_understood() {
        assert_eq!(taken(&spliced(Ok(5))), 5);
        assert!(matches!(spliced(Ok(0)), Spliced::Ended));
        assert!(matches!(spliced(Err(Errno::AGAIN)), Spliced::Nothing(_)));
        for errno in [Errno::INVAL, Errno::NOSYS, Errno::PERM] {
            assert!(matches!(spliced(Err(errno)), Spliced::Refused));
        }
        assert!(matches!(spliced(Err(Errno::TIMEDOUT)), Spliced::Failed(Fault::TimedOut)));
    }

    #[test]
    fn a_pipe_that_would_be_too_large_becomes_a_smaller_one() {
        // Nobody may have so large a one (EPERM), or it is more than there can be (EINVAL).
        let huge = 1 << 31;
        let pipe = Pipe::sized(&[huge, 256 << 10]).expect("the second size");
        assert_eq!(pipe.size().expect("it is open"), 256 << 10);
        assert!(Pipe::sized(&[huge]).is_err(), "a pipe of the default size is of no use");
    }
}
