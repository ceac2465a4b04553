//! Servers for tests: one that serves, one that refuses, one that never answers.

use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use socket2::{Domain, SockRef, Socket, Type};

use super::PATIENCE;
use super::peer::Peer;

const ANY_PORT: (Ipv4Addr, u16) = (Ipv4Addr::LOCALHOST, 0);

/// A server that gives each connection a thread, until it is dropped.
pub(crate) struct Server {
    listener: Arc<TcpListener>,
    accepted: Arc<AtomicU64>,
}

impl Server {
    /// Serves each connection with `serve`.
    pub(crate) fn start(serve: impl Fn(Peer) + Send + Sync + 'static) -> Self {
        Self::start_on(TcpListener::bind(ANY_PORT).unwrap(), serve)
    }

    /// The same on a listening socket that exists.
    pub(crate) fn start_on(listener: TcpListener, serve: impl Fn(Peer) + Send + Sync + 'static) -> Self {
        let server = Self { listener: Arc::new(listener), accepted: Arc::default() };
        let (listener, accepted) = (Arc::clone(&server.listener), Arc::clone(&server.accepted));
        let serve = Arc::new(serve);
        thread::spawn(move || {
            while let Ok((stream, _)) = listener.accept() {
                accepted.fetch_add(1, Ordering::Relaxed);
                let serve = Arc::clone(&serve);
                let peer = Peer::server(stream);
                // Who is silent for long may be a test on a busy machine: its clients are those that lose patience.
                peer.socket().set_read_timeout(None).unwrap();
                thread::spawn(move || serve(peer));
            }
        });
        server
    }

    /// Writes back what it gets.
    pub(crate) fn echo() -> Self {
        Self::start(|mut peer| {
            peer.echo();
        })
    }

    /// Where it listens.
    pub(crate) fn address(&self) -> SocketAddr {
        self.listener.local_addr().unwrap()
    }

    /// Connections accepted so far.
    pub(crate) fn accepted(&self) -> u64 {
        self.accepted.load(Ordering::Relaxed)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // Ends the accept that waits; the error when it has ended already is of no interest.
        let _ = SockRef::from(&*self.listener).shutdown(Shutdown::Both);
    }
}

/// A port where connections are refused, held so that nobody else can listen there.
pub(crate) struct Refusing(Socket);

impl Refusing {
    pub(crate) fn new() -> Self {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        socket.bind(&SocketAddr::from(ANY_PORT).into()).unwrap();
        Self(socket)
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.0.local_addr().unwrap().as_socket().unwrap()
    }

    /// From now on connections are accepted into a backlog.
    pub(crate) fn listen(self) -> TcpListener {
        self.0.listen(16).unwrap();
        self.0.into()
    }
}

/// A port that never answers a SYN: its backlog is full.
pub(crate) struct BlackHole {
    listener: Socket,
    backlog: Vec<TcpStream>,
}

impl BlackHole {
    pub(crate) fn new() -> Self {
        let listener = Refusing::new().0;
        listener.listen(0).unwrap();
        let address = listener.local_addr().unwrap().as_socket().unwrap();
        let mut backlog = Vec::new();
        while let Ok(stream) = TcpStream::connect_timeout(&address, Duration::from_millis(100)) {
            backlog.push(stream);
            assert!(backlog.len() < 16, "a backlog of 0 does not fill up");
        }
        Self { listener, backlog }
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.listener.local_addr().unwrap().as_socket().unwrap()
    }

    /// Answers from now on: the first client whose kernel asks again.
    pub(crate) fn open(&self) -> Socket {
        self.listener.set_read_timeout(Some(PATIENCE)).unwrap();
        self.backlog.iter().for_each(|_| drop(self.listener.accept().unwrap()));
        self.listener.accept().expect("a client asks again").0
    }
}

/// A listening socket on loopback whose accept ends in time.
pub(crate) fn listen(host: &str) -> std::io::Result<TcpListener> {
    let listener = TcpListener::bind((host, 0))?;
    // On Linux the receive timeout of a listening socket is that of accept.
    SockRef::from(&listener).set_read_timeout(Some(PATIENCE))?;
    Ok(listener)
}
