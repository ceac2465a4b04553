//! Sockets of either kind, TCP and unix, as one type: what is relayed does not care.

use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr};
#[cfg(unix)]
use std::num::NonZeroU32;
#[cfg(unix)]
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
#[cfg(windows)]
use std::os::windows::io::{AsSocket, BorrowedSocket};

use mio::event::Source;
use mio::net::{TcpListener, TcpStream};
#[cfg(unix)]
use mio::net::{UnixListener, UnixStream};
use mio::{Interest, Registry, Token};
use socket2::SockRef;

use super::calls::{self, Call};
#[cfg(unix)]
use super::net::{Received, WouldBlock, fault, small};
#[cfg(unix)]
use super::unix::SocketFile;
use crate::config::Address;

/// A connection, or one that is about to be.
#[derive(Debug)]
pub enum Stream {
    /// Over TCP.
    Tcp(TcpStream),
    /// Over a unix socket.
    #[cfg(unix)]
    Unix(UnixStream),
}

/// A listening socket.
#[derive(Debug)]
pub enum Listener {
    /// On a port.
    Tcp(TcpListener),
    /// On a path; the file, unless somebody else made it, goes before the socket is closed.
    #[cfg(unix)]
    Unix(Option<SocketFile>, UnixListener),
}

/// Does the same with whichever socket it is.
macro_rules! either {
    ($stream:expr, $socket:ident => $call:expr) => {
        match $stream {
            Stream::Tcp($socket) => $call,
            #[cfg(unix)]
            Stream::Unix($socket) => $call,
        }
    };
}

#[cfg(unix)]
impl Listener {
    /// Its file, if it has made one.
    #[must_use]
    pub fn file(&self) -> Option<&SocketFile> {
        match self {
            Self::Tcp(_) => None,
            Self::Unix(file, _) => file.as_ref(),
        }
    }
}

impl Stream {
    /// Its number in the records of calls: its descriptor, where sockets have one.
    pub(crate) fn number(&self) -> i32 {
        #[cfg(unix)]
        {
            self.as_fd().as_raw_fd()
        }
        #[cfg(not(unix))]
        {
            -1
        }
    }

    pub(super) fn shutdown(&self, how: Shutdown) -> io::Result<()> {
        calls::made(Call::Shutdown, self.number(), || either!(self, socket => socket.shutdown(how)))
    }

    pub(super) fn with_ref<T>(&self, call: impl FnOnce(SockRef<'_>) -> T) -> T {
        either!(self, socket => call(SockRef::from(socket)))
    }

    /// Makes a call on the socket that mio has none for, and lets mio hear of an EAGAIN.
    #[cfg(target_os = "linux")]
    pub(super) fn try_io<T>(&self, call: impl FnOnce() -> io::Result<T>) -> io::Result<T> {
        either!(self, socket => socket.try_io(call))
    }

    pub(super) fn take_error(&self) -> io::Result<Option<io::Error>> {
        calls::made(Call::Getsockopt, self.number(), || either!(self, socket => socket.take_error()))
    }

    /// The address of the peer; of a unix socket only whether there is one.
    ///
    /// # Errors
    /// The operating system's: before the connection is there it is `NotConnected`.
    pub(super) fn peer(&self) -> io::Result<Option<SocketAddr>> {
        calls::made(Call::Getpeername, self.number(), || match self {
            Self::Tcp(socket) => socket.peer_addr().map(Some),
            #[cfg(unix)]
            Self::Unix(socket) => socket.peer_addr().map(|_| None),
        })
    }

    /// The own address, unless it is a unix socket.
    pub(super) fn local(&self) -> Option<SocketAddr> {
        match self {
            Self::Tcp(socket) => calls::made(Call::Getsockname, self.number(), || socket.local_addr()).ok(),
            #[cfg(unix)]
            Self::Unix(_) => None,
        }
    }

    /// Writes once without waiting, in whatever mode the socket is; `follows`: more follows at once (`MSG_MORE`, send(2),
    /// where there is that).
    pub(super) fn send_now(&self, bytes: &[u8], follows: bool) -> io::Result<usize> {
        #[cfg(unix)]
        {
            use rustix::net::{SendFlags, send};
            let flags = SendFlags::DONTWAIT;
            #[cfg(not(target_vendor = "apple"))]
            let flags = flags | SendFlags::NOSIGNAL;
            #[cfg(target_os = "linux")]
            let flags = if follows { flags | SendFlags::MORE } else { flags };
            #[cfg(not(target_os = "linux"))]
            let _ = follows;
            loop {
                match calls::moving(Call::Sendto, self.number(), || send(self, bytes, flags)) {
                    Err(rustix::io::Errno::INTR) => {}
                    sent => return Ok(sent?),
                }
            }
        }
        #[cfg(not(unix))]
        {
            let _ = follows;
            (&mut &*self).write(bytes)
        }
    }

    /// Looks at the next byte and leaves it there, without waiting.
    pub(super) fn peek(&self) -> io::Result<usize> {
        #[cfg(unix)]
        {
            use rustix::net::{RecvFlags, recv};
            let peek = || recv(self, &mut [0], RecvFlags::PEEK | RecvFlags::DONTWAIT).map(|(count, _)| count);
            Ok(calls::made(Call::Recvfrom, self.number(), peek)?)
        }
        #[cfg(not(unix))]
        match self {
            Self::Tcp(socket) => socket.peek(&mut [0]),
        }
    }
}

#[cfg(unix)]
impl Stream {
    /// Reads once without waiting, in whatever mode the socket is.
    pub(super) fn recv_now(&self, buffer: &mut [u8]) -> Received {
        use rustix::io::Errno;
        use rustix::net::{RecvFlags, recv};
        loop {
            let receive = || recv(self, &mut *buffer, RecvFlags::DONTWAIT).map(|(count, _)| count);
            return match calls::moving(Call::Recvfrom, self.number(), receive) {
                Ok(count) => match NonZeroU32::new(small(count)) {
                    Some(moved) => Received::Bytes(moved, None),
                    None => Received::Eof,
                },
                Err(Errno::INTR) => continue,
                Err(Errno::AGAIN) => Received::Nothing(WouldBlock(())),
                Err(error) => Received::Failed(fault(&error.into())),
            };
        }
    }
}

#[cfg(windows)]
impl AsSocket for Stream {
    fn as_socket(&self) -> BorrowedSocket<'_> {
        either!(self, socket => socket.as_socket())
    }
}

#[cfg(unix)]
impl AsFd for Stream {
    fn as_fd(&self) -> BorrowedFd<'_> {
        either!(self, socket => socket.as_fd())
    }
}

#[cfg(unix)]
impl AsFd for Listener {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Self::Tcp(socket) => socket.as_fd(),
            Self::Unix(_, socket) => socket.as_fd(),
        }
    }
}

impl Read for &Stream {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        calls::moving(Call::Recvfrom, self.number(), || either!(self, socket => (&mut &*socket).read(buffer)))
    }
}

impl Write for &Stream {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        calls::moving(Call::Sendto, self.number(), || either!(self, socket => (&mut &*socket).write(bytes)))
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Listener {
    /// Where it listens: what port 0 became.
    ///
    /// # Errors
    /// The operating system's.
    pub fn address(&self) -> io::Result<Address> {
        match self {
            Self::Tcp(socket) => socket.local_addr().map(Address::Ip),
            #[cfg(unix)]
            Self::Unix(_, socket) => super::unix::address(socket),
        }
    }

    /// Takes one connection; the clients of a unix socket have no address.
    pub(super) fn accept(&self) -> io::Result<(Stream, Option<SocketAddr>)> {
        calls::made(Call::Accept, -1, || match self {
            Self::Tcp(socket) => socket.accept().map(|(stream, peer)| (Stream::Tcp(stream), Some(peer))),
            #[cfg(unix)]
            Self::Unix(_, socket) => super::unix::accept(socket).map(|stream| (stream, None)),
        })
    }

    fn source(&mut self) -> &mut dyn Source {
        match self {
            Self::Tcp(socket) => socket,
            #[cfg(unix)]
            Self::Unix(_, socket) => socket,
        }
    }
}

/// For the count of calls only: the socket is closed behind this.
#[cfg(all(feature = "lab", target_os = "linux"))]
impl Drop for Stream {
    fn drop(&mut self) {
        calls::happened(Call::Close, self.number(), 0);
    }
}

impl Source for Stream {
    fn register(&mut self, registry: &Registry, token: Token, interests: Interest) -> io::Result<()> {
        let register = || either!(self, socket => socket.register(registry, token, interests));
        calls::made(Call::EpollCtl, -1, register)
    }

    fn reregister(&mut self, registry: &Registry, token: Token, interests: Interest) -> io::Result<()> {
        either!(self, socket => socket.reregister(registry, token, interests))
    }

    fn deregister(&mut self, registry: &Registry) -> io::Result<()> {
        either!(self, socket => socket.deregister(registry))
    }
}

impl Source for Listener {
    fn register(&mut self, registry: &Registry, token: Token, interests: Interest) -> io::Result<()> {
        self.source().register(registry, token, interests)
    }

    fn reregister(&mut self, registry: &Registry, token: Token, interests: Interest) -> io::Result<()> {
        self.source().reregister(registry, token, interests)
    }

    fn deregister(&mut self, registry: &Registry) -> io::Result<()> {
        self.source().deregister(registry)
    }
}
