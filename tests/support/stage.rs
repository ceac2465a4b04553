//! The same two programs, connected directly or through the program under test.

use std::cell::Cell;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::thread;

use super::PATIENCE;
use super::gate::{Access, Config, Gate};
use super::peer::{End, Peer, Transcript};
use super::servers::listen;

/// Where a script plays: a server that listens, and what a client connects to in order to reach it.
pub(crate) struct Stage {
    listener: TcpListener,
    target: SocketAddr,
    client: Cell<Option<SocketAddr>>,
}

impl Stage {
    /// The client connects to the server itself.
    pub(crate) fn direct() -> Self {
        let listener = listen("127.0.0.1").unwrap();
        let target = listener.local_addr().unwrap();
        Self { listener, target, client: Cell::new(None) }
    }

    /// The client connects to the program, which is started with `config` and the one server.
    pub(crate) fn through(config: Config) -> (Self, Gate) {
        Self::through_to("127.0.0.1", config)
    }

    /// The same with the server on another of the machine's own addresses.
    pub(crate) fn through_to(host: &str, config: Config) -> (Self, Gate) {
        let listener = listen(host).unwrap();
        let gate = Gate::start(&config.server(listener.local_addr().unwrap()));
        (Self { listener, target: gate.address(), client: Cell::new(None) }, gate)
    }

    /// The client connects.
    pub(crate) fn connect(&self) -> Peer {
        let stream = TcpStream::connect_timeout(&self.target, PATIENCE).expect("the client can connect");
        self.client.set(Some(stream.local_addr().unwrap()));
        Peer::client(stream)
    }

    /// The server accepts.
    pub(crate) fn accept(&self) -> Peer {
        Peer::server(self.listener.accept().expect("a connection reaches the server").0)
    }

    /// Both: the client's end and the server's end of one connection.
    pub(crate) fn pair(&self) -> [Peer; 2] {
        let client = self.connect();
        [client, self.accept()]
    }

    /// The address of the client that connected last.
    pub(crate) fn client(&self) -> SocketAddr {
        self.client.get().expect("a client has connected")
    }
}

/// Plays one connection directly, where `expected` must come out (the client's transcript, then the server's),
/// and through the program, where the same must come out and the access log must give `cause`.
pub(crate) fn conforms(
    engine: &'static str,
    cause: &str,
    expected: &[Transcript; 2],
    script: impl Fn(&Stage) -> [Transcript; 2],
) {
    assert_eq!(&script(&Stage::direct()), expected, "client and server, connected directly");
    let (stage, gate) = Stage::through(Config::new(engine));
    assert_eq!(&script(&stage), expected, "client and server, through {engine}");
    let access = gate.access(stage.client());
    assert_eq!(access.cause, cause, "{access:?}");
    counts_bytes(&access, expected);
}

/// The access log counts what arrived, whenever both ends read everything.
pub(crate) fn counts_bytes(access: &Access, [client, server]: &[Transcript; 2]) {
    if client.end == End::Fin && server.end == End::Fin {
        assert_eq!([access.bytes_out, access.bytes_in], [client.bytes, server.bytes], "{access:?}");
    }
}

/// Runs both at the same time.
pub(crate) fn at_once<A: Send, B>(one: impl FnOnce() -> A + Send, other: impl FnOnce() -> B) -> (A, B) {
    thread::scope(|scope| {
        let one = scope.spawn(one);
        let other = other();
        (one.join().expect("the other thread"), other)
    })
}
