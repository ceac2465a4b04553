//! Sockets: listening, dialing, moving bytes, ending.

use std::fmt;
use std::io::{self, ErrorKind, Read, Write};
use std::net::{IpAddr, Shutdown, SocketAddr};
use std::num::NonZeroU32;
use std::time::Duration;

use mio::net::{TcpListener, TcpStream};
use rustix::io::Errno;
#[cfg(unix)]
use socket2::SockAddr;
use socket2::{Domain, Protocol, SockRef, Socket, Type};

use super::calls::{self, Call};
use super::options;
use super::pipe::{Pipe, Spliced};
pub use super::socket::{Listener, Stream};
use super::source::bind_source;
#[cfg(any(target_os = "linux", target_os = "android"))]
use super::tcp_info;
use super::unacknowledged::unacknowledged;
pub use super::waiting::{
    await_connect, interrupt_connect, interrupt_read, is_hung_up, limit_writes, recv_now, recv_waiting,
    send_waiting, set_blocking,
};
use crate::config::{Address, Keepalive, Tcp};
use crate::path::Path;
use crate::relay::Fault;

/// Reads that throw away what nobody will have; who sends more is reset.
const DISCARDS_MAX: u32 = 64;

/// A proof that an operation on a socket can do nothing until an event says otherwise. Only this room
/// makes one: from an EAGAIN that it has told apart, or from a short read under the conditions that [`Net::recv`]
/// names.
#[derive(Debug)]
pub struct WouldBlock(pub(super) ());

#[cfg(feature = "sim")]
impl WouldBlock {
    /// The simulated kernel's: it stands in for this room.
    pub(crate) fn simulated() -> Self {
        Self(())
    }
}

/// What came of a [`Net::recv`].
#[derive(Debug)]
pub enum Received {
    /// So many bytes; with a proof where it is known that nothing is behind them.
    Bytes(NonZeroU32, Option<WouldBlock>),
    /// The peer's FIN.
    Eof,
    /// Nothing yet.
    Nothing(WouldBlock),
    /// The socket failed.
    Failed(Fault),
}

/// What came of a [`Net::send`].
#[derive(Debug)]
pub enum Sent {
    /// So many bytes were taken.
    Bytes(NonZeroU32),
    /// None was.
    Nothing(WouldBlock),
    /// The socket failed.
    Failed(Fault),
}

/// What came of a [`Net::peek`].
#[derive(Debug)]
pub enum Peeked {
    /// Bytes wait to be read.
    Bytes,
    /// Nothing yet.
    Nothing(WouldBlock),
    /// The peer's FIN, or a failure: nothing will ever come.
    End,
}

/// What came of a [`Net::accept`].
#[derive(Debug)]
pub enum Accepted<Stream> {
    /// A connection, and the client's address unless it came over a unix socket.
    Client(Stream, Option<SocketAddr>),
    /// None is waiting.
    Nothing(WouldBlock),
    /// One was given up by its client before we took it; the next may be fine (accept(2)).
    Gone,
    /// None can be taken now.
    Failed(Fault),
}

/// How a server is connected to.
#[derive(Clone, Copy, Debug)]
pub struct Leg<'a> {
    /// The options of the socket.
    pub tcp: &'a Tcp,
    /// The own address of the connection; `None`: the system chooses it.
    pub from: Option<IpAddr>,
    /// That address may be another host's: the client's (`IP_TRANSPARENT`, ip(7)).
    pub is_clients: bool,
}

/// The calls that a readiness engine makes on sockets: the kernel as its parameter, so that the simulator can
/// stand in for it. Closing is dropping.
pub trait Net {
    /// A connected socket, or one that is about to be.
    type Stream: fmt::Debug;
    /// A listening socket.
    type Listener: fmt::Debug;
    /// What bytes are spliced through. Dropping it destroys them.
    type Pipe: fmt::Debug;

    /// Reads once.
    ///
    /// `short_is_drained`: a read that does not fill `buffer` proves that the socket is empty, and a later
    /// byte or FIN raises a new event. True on Linux epoll as long as no RDHUP, HUP, ERR or PRI was reported
    /// for the socket: a FIN may wait behind the bytes, and a read stops at an urgent byte.
    fn recv(stream: &Self::Stream, buffer: &mut [u8], short_is_drained: bool) -> Received;

    /// Writes once.
    fn send(stream: &Self::Stream, bytes: &[u8]) -> Sent;

    /// Writes all of it at once to a socket to which next to nothing was written yet; `follows`: more follows at once, and
    /// may share a segment with it.
    ///
    /// # Errors
    /// The fault, when the connection is gone already, or has no room for so few bytes.
    fn send_first(stream: &Self::Stream, bytes: &[u8], follows: bool) -> Result<(), Fault>;

    /// The own address of a socket; none of a unix socket.
    fn local(stream: &Self::Stream) -> Option<SocketAddr>;

    /// A new, empty pipe; `None` when there is none to be had now.
    fn pipe(&self) -> Option<Self::Pipe>;

    /// Whether all that was spliced into a pipe was spliced out of it.
    fn is_empty(pipe: &Self::Pipe) -> bool;

    /// Moves bytes from a socket into a pipe, once. What it may tell of the socket is said in [`super::pipe`].
    fn splice_in(stream: &Self::Stream, pipe: &mut Self::Pipe) -> Spliced;

    /// Moves bytes out of a pipe that is not empty into a socket, once.
    fn splice_out(stream: &Self::Stream, pipe: &mut Self::Pipe) -> Sent;

    /// Sends FIN behind what was sent.
    ///
    /// # Errors
    /// The fault, when the connection is gone already.
    fn finish(stream: &Self::Stream) -> Result<(), Fault>;

    /// Takes one connection from a listener's backlog. It inherits the listener's options.
    fn accept(listener: &Self::Listener) -> Accepted<Self::Stream>;

    /// Has an accepted socket, which inherits the times of its listener, probe its peer at a time of its own.
    fn scatter_probes(stream: &Self::Stream, probes: Option<Keepalive>);

    /// A socket towards `to`, with its options set and not connected yet.
    ///
    /// # Errors
    /// The fault, when there can be none.
    fn socket(&self, to: SocketAddr, leg: Leg<'_>) -> Result<Self::Stream, Fault>;

    /// Begins to connect. `true`: the connection is there already, as loopback often has it.
    ///
    /// # Errors
    /// The fault, when it is known at once.
    fn dial(&self, to: &Address, leg: Leg<'_>) -> Result<(Self::Stream, bool), Fault>;

    /// Whether a connect that [`Net::dial`] began has ended: `Ok(false)` while it has not. An event alone
    /// proves nothing.
    ///
    /// # Errors
    /// The fault, when it failed.
    fn dialed(stream: &Self::Stream) -> Result<bool, Fault>;

    /// Looks what a read would give, and takes nothing but an error.
    fn peek(stream: &Self::Stream) -> Peeked;

    /// Takes what waits to be read, and throws it away: a close with input unread would be a reset.
    fn discard(stream: &Self::Stream) {
        let mut buffer = [0; 4096];
        for _ in 0..DISCARDS_MAX {
            match Self::peek(stream) {
                Peeked::Bytes => drop(Self::recv(stream, &mut buffer, false)),
                Peeked::Nothing(_) | Peeked::End => return,
            }
        }
    }

    /// The failure of a socket that has nothing left to read; `None` when it is alive or bytes are waiting.
    /// To be asked only when the system reported an error for it.
    fn failure_before_relay(stream: &Self::Stream) -> Option<Fault>;

    /// The pending error of a socket (`SO_ERROR`), which is cleared by this.
    fn pending_error(stream: &Self::Stream) -> Option<Fault>;

    /// Lets the close of a socket send RST instead of FIN; whatever was not acknowledged is destroyed then.
    /// A unix socket knows no reset: its peer sees an end, or a reset if bytes of its own were not read.
    fn reset_on_close(stream: &Self::Stream);

    /// Whether bytes that were sent are still on their way to a peer that is there, and a reset would
    /// destroy them. Never for a unix socket, whose bytes are with the peer as soon as they are sent.
    fn is_delivering(stream: &Self::Stream) -> bool;

    /// How long a peer has been silent although it owes acknowledgements and was asked again at least
    /// twice; `None` where all is well, or the system does not tell.
    fn silence(_stream: &Self::Stream) -> Option<Duration> {
        None
    }

    /// What the system knows of the way to a peer; `None` where it does not tell.
    fn path(_stream: &Self::Stream) -> Option<Path> {
        None
    }

    /// What has arrived can still be read, and behind it is a 0, as if the peer had sent FIN (shutdown(2) with
    /// `SHUT_RD`). Only for a peer of which [`Net::silence`] told.
    fn expect_no_more(_stream: &Self::Stream) {}
}

/// The operating system's own sockets, by way of mio's types.
#[derive(Clone, Copy, Debug, Default)]
pub struct Os;

impl Net for Os {
    type Stream = Stream;
    type Listener = Listener;
    type Pipe = Pipe;

    fn recv(stream: &Stream, buffer: &mut [u8], short_is_drained: bool) -> Received {
        let room = buffer.len();
        // A read of a unix socket stops behind a message that carries descriptors, and no edge follows.
        let short_is_drained = short_is_drained && matches!(stream, Stream::Tcp(_));
        // A needless call, for a build that shows that the lab finds and names it (docs/method.md).
        #[cfg(tidegate_handicap)]
        Self::silence(stream);
        loop {
            return match (&mut &*stream).read(buffer) {
                Ok(count) => match NonZeroU32::new(small(count)) {
                    Some(moved) => {
                        Received::Bytes(moved, (short_is_drained && count < room).then_some(WouldBlock(())))
                    }
                    None => Received::Eof,
                },
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Err(error) if error.kind() == ErrorKind::WouldBlock => Received::Nothing(WouldBlock(())),
                Err(error) => Received::Failed(fault(&error)),
            };
        }
    }

    fn send(stream: &Stream, bytes: &[u8]) -> Sent {
        loop {
            return match (&mut &*stream).write(bytes) {
                Ok(count) => match NonZeroU32::new(small(count)) {
                    Some(moved) => Sent::Bytes(moved),
                    // send(2) of one byte or more does not return 0; a stream that does is of no use.
                    None => Sent::Failed(Fault::Other(0)),
                },
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Err(error) if error.kind() == ErrorKind::WouldBlock => Sent::Nothing(WouldBlock(())),
                Err(error) => Sent::Failed(fault(&error)),
            };
        }
    }

    fn send_first(stream: &Stream, bytes: &[u8], follows: bool) -> Result<(), Fault> {
        match stream.send_now(bytes, follows) {
            Ok(count) if count == bytes.len() => Ok(()),
            Ok(_) => Err(Fault::NoMemory),
            Err(error) if error.kind() == ErrorKind::WouldBlock => Err(Fault::NoMemory),
            Err(error) => Err(fault(&error)),
        }
    }

    fn local(stream: &Stream) -> Option<SocketAddr> {
        stream.local()
    }

    fn pipe(&self) -> Option<Pipe> {
        Pipe::new().ok()
    }

    fn is_empty(pipe: &Pipe) -> bool {
        pipe.is_empty()
    }

    fn splice_in(stream: &Stream, pipe: &mut Pipe) -> Spliced {
        pipe.fill(stream)
    }

    fn splice_out(stream: &Stream, pipe: &mut Pipe) -> Sent {
        pipe.drain(stream)
    }

    fn finish(stream: &Stream) -> Result<(), Fault> {
        stream.shutdown(Shutdown::Write).map_err(|error| match error.kind() {
            // ENOTCONN: a reset came first (shutdown(2) on a socket in state CLOSE). Which kind of reset is
            // still to be asked for.
            ErrorKind::NotConnected => Self::pending_error(stream).unwrap_or(Fault::Reset),
            _ => fault(&error),
        })
    }

    fn expect_no_more(stream: &Stream) {
        // ENOTCONN: it was reset meanwhile, and reading will tell.
        let _ = stream.shutdown(Shutdown::Read);
    }

    fn accept(listener: &Listener) -> Accepted<Stream> {
        match listener.accept() {
            Ok((stream, peer)) => Accepted::Client(stream, peer),
            Err(error) if error.kind() == ErrorKind::WouldBlock => Accepted::Nothing(WouldBlock(())),
            Err(error) => match fault(&error) {
                // accept(2) passes on the network errors of a connection that died in the backlog.
                Fault::Reset | Fault::Unreachable | Fault::TimedOut => Accepted::Gone,
                other => Accepted::Failed(other),
            },
        }
    }

    fn scatter_probes(stream: &Stream, probes: Option<Keepalive>) {
        if let (Stream::Tcp(stream), Some(probes)) = (stream, probes) {
            options::scatter(stream, probes);
        }
    }

    fn socket(&self, to: SocketAddr, leg: Leg<'_>) -> Result<Stream, Fault> {
        let socket = departing(to, leg).map_err(|error| fault(&error))?;
        Ok(Stream::Tcp(TcpStream::from_std(socket.into())))
    }

    fn dial(&self, to: &Address, leg: Leg<'_>) -> Result<(Stream, bool), Fault> {
        let to = match to {
            Address::Ip(to) => *to,
            #[cfg(unix)]
            Address::Unix(path) => {
                return super::unix::dial(SockAddr::unix(path)).map(|stream| (stream, true));
            }
            #[cfg(unix)]
            Address::Abstract(name) => {
                return super::unix::dial(super::unix::abstract_name(name)).map(|stream| (stream, true));
            }
            #[cfg(not(unix))]
            Address::Unix(_) | Address::Abstract(_) => return Err(fault(&ErrorKind::Unsupported.into())),
            // The configuration has none for a server.
            Address::Handed(_) => return Err(fault(&ErrorKind::Unsupported.into())),
        };
        let socket = departing(to, leg).map_err(|error| fault(&error))?;
        let connecting = match calls::made(Call::Connect, number(&socket), || socket.connect(&to.into())) {
            Ok(()) => false,
            Err(error) if is_under_way(&error) => true,
            Err(error) => return Err(fault(&error)),
        };
        let stream = Stream::Tcp(TcpStream::from_std(socket.into()));
        let connected = !connecting && Self::dialed(&stream)?;
        Ok((stream, connected))
    }

    fn dialed(stream: &Stream) -> Result<bool, Fault> {
        // There is no peer before the handshake is over.
        match stream.peer() {
            // A connect to a free port of this host can be given that very port as its own, and meet itself
            // (RFC 9293, simultaneous open): nobody listens there.
            Ok(Some(peer)) if stream.local() == Some(peer) => Err(Fault::Refused),
            Ok(_) => Ok(true),
            Err(error) if error.kind() == ErrorKind::NotConnected => {
                Self::pending_error(stream).map_or(Ok(false), Err)
            }
            // On macOS a socket whose connect has failed answers EINVAL.
            Err(error) => Err(Self::pending_error(stream).unwrap_or_else(|| fault(&error))),
        }
    }

    fn peek(stream: &Stream) -> Peeked {
        loop {
            return match stream.peek() {
                Ok(0) => Peeked::End,
                Ok(_) => Peeked::Bytes,
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Err(error) if error.kind() == ErrorKind::WouldBlock => Peeked::Nothing(WouldBlock(())),
                Err(_) => Peeked::End,
            };
        }
    }

    fn failure_before_relay(stream: &Stream) -> Option<Fault> {
        match stream.peek() {
            Ok(_) => None,
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => None,
            Err(error) => Some(fault(&error)),
        }
    }

    fn pending_error(stream: &Stream) -> Option<Fault> {
        match stream.take_error() {
            Ok(None) => None,
            Ok(Some(error)) | Err(error) => Some(fault(&error)),
        }
    }

    fn reset_on_close(stream: &Stream) {
        match stream {
            // A failure means that the connection is gone already.
            Stream::Tcp(socket) => drop(calls::made(Call::Setsockopt, stream.number(), || {
                SockRef::from(socket).set_linger(Some(Duration::ZERO))
            })),
            #[cfg(unix)]
            Stream::Unix(_) => {}
        }
    }

    fn is_delivering(stream: &Stream) -> bool {
        match stream {
            // A connection that was reset keeps its count of bytes for ever; it has no peer any more.
            Stream::Tcp(socket) => unacknowledged(socket) > 0 && stream.peer().is_ok(),
            #[cfg(unix)]
            Stream::Unix(_) => false,
        }
    }

    fn silence(stream: &Stream) -> Option<Duration> {
        match stream {
            #[cfg(any(target_os = "linux", target_os = "android"))]
            Stream::Tcp(socket) => tcp_info::silence(socket),
            _ => None,
        }
    }

    fn path(stream: &Stream) -> Option<Path> {
        match stream {
            #[cfg(any(target_os = "linux", target_os = "android"))]
            Stream::Tcp(socket) => tcp_info::path(socket),
            _ => None,
        }
    }
}

/// What a listening socket is bound with.
#[derive(Clone, Copy, Debug)]
pub struct Binding<'a> {
    /// As [`config::Listener::v6only`](crate::config::Listener::v6only).
    pub v6only: bool,
    /// The options of the socket.
    pub tcp: &'a Tcp,
}

/// Binds and listens. With `shared`, other sockets of this process may listen on the same port, and the
/// kernel spreads connections over them (`SO_REUSEPORT`, socket(7)), if [`SHARES_PORTS`]; a path and a name have one socket
/// always. A socket's file that is left from a process that is gone is replaced.
///
/// # Errors
/// The operating system's, or as [`probe`] has them.
pub fn listen(at: &Address, backlog: i32, shared: bool, with: Binding<'_>) -> io::Result<Listener> {
    let at = match at {
        Address::Ip(at) => *at,
        #[cfg(unix)]
        Address::Unix(path) => return super::unix::listen(path, backlog),
        #[cfg(unix)]
        Address::Abstract(name) => return super::unix::listen_without_file(name, backlog),
        #[cfg(not(unix))]
        Address::Unix(_) | Address::Abstract(_) => return Err(ErrorKind::Unsupported.into()),
        // There is nothing to bind: [`listen_on`] takes it.
        Address::Handed(_) => return Err(ErrorKind::Unsupported.into()),
    };
    let socket = bind(at, shared, with)?;
    socket.listen(backlog)?;
    Ok(Listener::Tcp(TcpListener::from_std(socket.into())))
}

/// Takes charge of a socket that listens already, opened by whoever started this process. With a `backlog` its queue
/// gets another length. The file of a unix socket stays with who made it.
///
/// # Errors
/// InvalidInput, with the reason, for what is no listening stream socket of IP or unix; or the operating system's.
#[cfg(target_os = "linux")]
pub(super) fn listen_on(fd: std::os::fd::OwnedFd, backlog: Option<i32>, tcp: &Tcp) -> io::Result<Listener> {
    let no = |reason: &str| io::Error::new(ErrorKind::InvalidInput, reason);
    let socket = Socket::from(fd);
    if socket.r#type().map_err(|_| no("it is no socket"))? != Type::STREAM {
        return Err(no("it is no stream socket"));
    }
    if !socket.is_listener()? {
        return Err(no("it does not listen"));
    }
    socket.set_nonblocking(true)?;
    if let Some(backlog) = backlog {
        socket.listen(backlog)?;
    }
    match socket.domain()? {
        domain @ (Domain::IPV4 | Domain::IPV6) => {
            options::replace(&socket, &Tcp::default(), tcp, domain == Domain::IPV6)
                .map_err(|refused| refused.error)?;
            Ok(Listener::Tcp(TcpListener::from_std(socket.into())))
        }
        Domain::UNIX => {
            socket.set_out_of_band_inline(true)?;
            Ok(Listener::Unix(None, mio::net::UnixListener::from_std(socket.into())))
        }
        _ => Err(no("it is neither of IP nor of unix")),
    }
}

/// Takes the options off a listening socket that a listener of ours had, but those that all have.
///
/// # Errors
/// The operating system's.
#[cfg(target_os = "linux")]
pub(super) fn reset_options(fd: &std::os::fd::OwnedFd, had: &Tcp) -> io::Result<()> {
    let socket = SockRef::from(fd);
    match socket.domain()? {
        domain @ (Domain::IPV4 | Domain::IPV6) => {
            options::replace(&socket, had, &Tcp::default(), domain == Domain::IPV6)
                .map_err(|refused| refused.error)
        }
        _ => Ok(()),
    }
}

/// Whether `at` is free. A port is bound alone and let go, as sharing would hide that another process has it.
///
/// # Errors
/// The operating system's, when it is not free. For a path AddrInUse means that somebody listens there, and
/// AlreadyExists that it is not a socket's.
pub fn probe(at: &Address, with: Binding<'_>) -> io::Result<()> {
    match at {
        Address::Ip(at) => bind(*at, false, with).map(drop),
        #[cfg(unix)]
        Address::Unix(path) => super::unix::probe(path),
        #[cfg(unix)]
        Address::Abstract(name) => super::unix::probe_name(name),
        #[cfg(not(unix))]
        Address::Unix(_) | Address::Abstract(_) => Err(ErrorKind::Unsupported.into()),
        // It is bound already.
        Address::Handed(_) => Ok(()),
    }
}

fn bind(at: SocketAddr, shared: bool, with: Binding<'_>) -> io::Result<Socket> {
    let socket = socket(at, with.tcp)?;
    // Connections of a former life in TIME_WAIT must not keep a restart waiting. On Windows the option
    // means that two programs may share a port: never there.
    #[cfg(unix)]
    socket.set_reuse_address(true)?;
    if shared {
        share_port(&socket)?;
    }
    if at.is_ipv6() {
        socket.set_only_v6(with.v6only)?;
    }
    socket.bind(&at.into())?;
    Ok(socket)
}

/// Takes charge of a socket that the kernel has accepted in non-blocking mode; with the client's address unless
/// it came over a unix socket. One that was reset in the backlog may have sent something before, and is as good
/// as any other; its address is not known any more, and all zeros.
///
/// # Errors
/// The operating system's.
#[cfg(target_os = "linux")]
pub fn adopt(fd: std::os::fd::OwnedFd) -> io::Result<(Stream, Option<SocketAddr>)> {
    let socket = Socket::from(fd);
    let peer = match calls::made(Call::Getpeername, number(&socket), || socket.peer_addr()) {
        Ok(peer) => peer.as_socket(),
        Err(_) if socket.domain()? != Domain::UNIX => Some(SocketAddr::from(([0; 4], 0))),
        Err(_) => None,
    };
    match peer {
        Some(peer) => Ok((Stream::Tcp(TcpStream::from_std(socket.into())), Some(peer))),
        None => {
            // Unlike one of TCP, it inherits no option of its listener.
            socket.set_out_of_band_inline(true)?;
            Ok((Stream::Unix(mio::net::UnixStream::from_std(socket.into())), None))
        }
    }
}

/// Gives a listening socket another queue and other options than those of `before`, which those inherit that are accepted from now on.
///
/// # Errors
/// The operating system's.
pub fn adjust(listener: &Listener, backlog: i32, before: &Tcp, tcp: &Tcp) -> io::Result<()> {
    match listener {
        Listener::Tcp(socket) => {
            let is_v6 = socket.local_addr()?.is_ipv6();
            let socket = SockRef::from(socket);
            options::replace(&socket, before, tcp, is_v6)
                .map_err(|refused| io::Error::new(refused.error.kind(), refused.to_string()))?;
            socket.listen(backlog)
        }
        #[cfg(unix)]
        Listener::Unix(_, socket) => SockRef::from(socket).listen(backlog),
    }
}

/// Whether several sockets can listen on a port and the kernel spreads connections over them.
pub const SHARES_PORTS: bool = cfg!(any(target_os = "linux", target_os = "freebsd"));

#[cfg(target_os = "linux")]
fn share_port(socket: &Socket) -> io::Result<()> {
    socket.set_reuse_port(true)
}

#[cfg(target_os = "freebsd")]
fn share_port(socket: &Socket) -> io::Result<()> {
    socket.set_reuse_port_lb(true)
}

#[cfg(not(any(target_os = "linux", target_os = "freebsd")))]
fn share_port(_: &Socket) -> io::Result<()> {
    Err(ErrorKind::Unsupported.into())
}

/// A new socket in non-blocking mode.
pub(super) fn new_socket(domain: Domain, protocol: Option<Protocol>) -> io::Result<Socket> {
    #[cfg(target_os = "linux")]
    {
        calls::made(Call::Socket, -1, || Socket::new(domain, Type::STREAM.nonblocking(), protocol))
    }
    #[cfg(not(target_os = "linux"))]
    {
        let socket = Socket::new(domain, Type::STREAM, protocol)?;
        socket.set_nonblocking(true)?;
        Ok(socket)
    }
}

/// Whether this is no failure of a connect but its beginning.
fn is_under_way(error: &io::Error) -> bool {
    #[cfg(unix)]
    {
        error.raw_os_error() == Some(Errno::INPROGRESS.raw_os_error())
    }
    #[cfg(not(unix))]
    {
        error.kind() == ErrorKind::WouldBlock
    }
}

/// A socket for a connection to `to`, which comes from where it should.
fn departing(to: SocketAddr, leg: Leg<'_>) -> io::Result<Socket> {
    let socket = socket(to, leg.tcp)?;
    if let Some(from) = leg.from {
        if leg.is_clients {
            options::allow_foreign_source(&socket, to.is_ipv6())?;
        }
        bind_source(&socket, from)?;
    }
    Ok(socket)
}

/// A socket for that address, with its options.
fn socket(to: SocketAddr, tcp: &Tcp) -> io::Result<Socket> {
    let socket = new_socket(Domain::for_address(to), Some(Protocol::TCP))?;
    options::set(&socket, tcp, to.is_ipv6()).map_err(|refused| refused.error)?;
    Ok(socket)
}

/// A socket for a connection to that address, with its options and its own address, that is not connected yet.
///
/// # Errors
/// The operating system's.
pub fn unconnected(to: SocketAddr, tcp: &Tcp, source: Option<IpAddr>) -> io::Result<std::net::TcpStream> {
    let socket = socket(to, tcp)?;
    if let Some(source) = source {
        bind_source(&socket, source)?;
    }
    Ok(socket.into())
}

/// A socket's number in the records of calls.
pub(super) fn number(socket: &Socket) -> i32 {
    #[cfg(unix)]
    {
        std::os::fd::AsRawFd::as_raw_fd(socket)
    }
    #[cfg(not(unix))]
    {
        let _ = socket;
        -1
    }
}

pub(super) fn small(count: usize) -> u32 {
    u32::try_from(count).expect("buffers are far smaller than 4 GiB")
}

/// An operating-system error as what must be done about it.
#[must_use]
pub fn fault(error: &io::Error) -> Fault {
    let code = error.raw_os_error();
    if code == Some(Errno::MFILE.raw_os_error()) {
        return Fault::NoFiles;
    }
    #[cfg(unix)]
    if code == Some(Errno::NFILE.raw_os_error()) {
        return Fault::NoFiles;
    }
    // What Windows says when keep-alive has run out.
    #[cfg(windows)]
    if code == Some(Errno::NETRESET.raw_os_error()) {
        return Fault::TimedOut;
    }
    if code == Some(Errno::NOBUFS.raw_os_error()) {
        return Fault::NoMemory;
    }
    if code == Some(Errno::HOSTDOWN.raw_os_error()) {
        return Fault::Unreachable;
    }
    match error.kind() {
        ErrorKind::ConnectionRefused => Fault::Refused,
        ErrorKind::NotFound => Fault::Absent,
        ErrorKind::HostUnreachable | ErrorKind::NetworkUnreachable | ErrorKind::NetworkDown => {
            Fault::Unreachable
        }
        ErrorKind::TimedOut => Fault::TimedOut,
        ErrorKind::ConnectionReset | ErrorKind::ConnectionAborted => Fault::Reset,
        ErrorKind::BrokenPipe => Fault::Closed,
        ErrorKind::AddrNotAvailable => Fault::NoPorts,
        ErrorKind::OutOfMemory => Fault::NoMemory,
        ErrorKind::PermissionDenied => Fault::Denied,
        _ => Fault::Other(code.unwrap_or(0)),
    }
}

#[cfg(all(test, unix))]
mod tests {
    use super::*;

    #[test]
    fn errors_fold_to_faults() {
        for (errno, expected) in [
            (Errno::CONNREFUSED, Fault::Refused),
            (Errno::NOENT, Fault::Absent),
            (Errno::HOSTUNREACH, Fault::Unreachable),
            (Errno::NETUNREACH, Fault::Unreachable),
            (Errno::HOSTDOWN, Fault::Unreachable),
            (Errno::TIMEDOUT, Fault::TimedOut),
            (Errno::CONNRESET, Fault::Reset),
            (Errno::PIPE, Fault::Closed),
            (Errno::ADDRNOTAVAIL, Fault::NoPorts),
            (Errno::MFILE, Fault::NoFiles),
            (Errno::NFILE, Fault::NoFiles),
            (Errno::NOMEM, Fault::NoMemory),
            (Errno::NOBUFS, Fault::NoMemory),
            (Errno::ACCESS, Fault::Denied),
            (Errno::PERM, Fault::Denied),
            (Errno::PROTO, Fault::Other(Errno::PROTO.raw_os_error())),
        ] {
            let error = io::Error::from_raw_os_error(errno.raw_os_error());
            assert_eq!(fault(&error), expected, "{error}");
        }
    }
}
