//! Peers that go without a word, at the other end of a cable that is cut; and those that are only slow.

use std::fs;
use std::net::TcpListener;
use std::thread;
use std::time::{Duration, Instant};

use socket2::SockRef;

use crate::support::PATIENCE;
use crate::support::gate::{Config, Gate};
use crate::support::link::{FAR, Link, NEAR};
use crate::support::peer::{End, Peer, got};
use crate::support::servers::listen;
use crate::support::stage::Stage;

const DEAD_PEER: &str = "keepalive = \"off\"\ndead_peer = \"2s\"";

pub(crate) fn dead_server_is_given_up(engine: &'static str) {
    let Some(far) = FarServer::start(Config::new(engine).table("defaults.tcp", DEAD_PEER)) else { return };
    let [mut client, _server] = far.pair();
    far.link.cut();
    let began = Instant::now();
    client.send(1_000);
    assert_eq!(client.receive_to_end(), End::Reset);
    assert_given_up_in_time(began);
    assert_eq!(far.gate.access(client.address()).cause, "server_vanished");
}

pub(crate) fn dead_client_is_given_up(engine: &'static str) {
    let Some(link) = Link::new() else { return };
    let (listener, gate) = link.near(|| {
        let listener = listen("127.0.0.1").unwrap();
        let config = Config::new(engine).bind("192.0.2.1:0").table("defaults.tcp", DEAD_PEER);
        let gate = Gate::start(&config.server(listener.local_addr().unwrap()));
        (listener, gate)
    });
    assert_eq!(gate.address().ip().to_string(), NEAR);
    let client = link.far(|| gate.connect());
    let mut server = Peer::server(listener.accept().expect("a connection reaches the server").0);
    link.cut();
    let began = Instant::now();
    server.send(1_000);
    assert_eq!(server.receive_to_end(), End::Reset);
    assert_given_up_in_time(began);
    assert_eq!(gate.access(client.address()).cause, "client_vanished");
}

/// What had arrived of it before reaches a client that reads only after the server was given up.
pub(crate) fn last_words_of_a_dead_server_are_delivered(engine: &'static str) {
    let config = Config::new(engine).process("buffer_size = \"64KiB\"");
    let Some(far) = FarServer::start(config.table("defaults.tcp", DEAD_PEER)) else { return };
    let [mut client, mut server] = far.pair();
    let sent = server.send_until_stuck(64 << 20);
    far.link.cut();
    let arrived = 1 + sent - far.unacknowledged(&server);
    client.send(1_000);
    thread::sleep(Duration::from_secs(5));
    assert_eq!(client.receive_to_end(), End::Reset);
    let access = far.gate.access(client.address());
    assert_eq!((access.cause.as_str(), access.bytes_out), ("server_vanished", arrived));
    assert_eq!(client.leave(), got(arrived, End::Reset));
}

/// The connection was quiet for longer than the limit before, which counts for nothing: nothing was owed.
pub(crate) fn outage_shorter_than_dead_peer_is_survived(engine: &'static str) {
    // The second limit does not apply, but has relays looked at every 100 ms.
    let config = Config::new(engine).timeouts("half_close = \"500ms\"");
    let config = config.table("defaults.tcp", "keepalive = \"off\"\ndead_peer = \"4s\"");
    let Some(far) = FarServer::start(config) else { return };
    let [mut client, mut server] = far.pair();
    thread::sleep(Duration::from_millis(4_500));
    far.link.cut();
    client.send(1_000);
    thread::sleep(Duration::from_millis(1_300));
    far.link.mend();
    server.receive(1_000);
    server.send(1_000);
    client.receive(1_000);
    client.finish();
    assert_eq!(server.receive_to_end(), End::Fin);
    server.finish();
    assert_eq!(client.receive_to_end(), End::Fin);
    assert_eq!(far.gate.access(client.address()).cause, "done");
}

/// Its kernel answers every probe of its window.
pub(crate) fn reader_with_its_window_shut_is_not_dead(engine: &'static str) {
    let config = Config::new(engine).process("buffer_size = \"64KiB\"").table("defaults.tcp", DEAD_PEER);
    let (stage, gate) = Stage::through(config);
    let [mut client, mut server] = stage.pair();
    let bytes = client.send_until_stuck(64 << 20);
    thread::sleep(Duration::from_secs(6));
    client.finish();
    assert_eq!(server.receive_to_end(), End::Fin);
    assert_eq!(server.leave(), got(bytes, End::Fin));
    assert_eq!(client.receive_to_end(), End::Fin);
    assert_eq!(gate.access(stage.client()).cause, "done");
}

pub(crate) fn keepalive_notices_an_idle_server_that_vanished(engine: &'static str) {
    let keepalive = "keepalive = { idle = \"1s\", interval = \"1s\", count = 2 }\ndead_peer = \"off\"";
    let Some(far) = FarServer::start(Config::new(engine).table("defaults.tcp", keepalive)) else { return };
    let [mut client, _server] = far.pair();
    thread::sleep(Duration::from_millis(2_500));
    let address = client.address();
    assert!(client.hears_nothing_for(Duration::from_millis(100)), "it was given up although it was there");
    far.link.cut();
    assert_eq!(client.receive_to_end(), End::Reset);
    assert_eq!(far.gate.access(address).cause, "server_vanished");
}

fn assert_given_up_in_time(began: Instant) {
    let took = began.elapsed();
    assert!(took >= Duration::from_secs(2), "given up after {took:?}, before its time");
    assert!(took < PATIENCE, "given up only after {took:?}");
}

/// The program and its clients at the near end, the server at the far end.
struct FarServer {
    listener: TcpListener,
    gate: Gate,
    link: Link,
}

impl FarServer {
    /// `None` where there are no namespaces.
    fn start(config: Config) -> Option<Self> {
        let link = Link::new()?;
        let listener = link.far(|| listen(FAR).unwrap());
        let config = config.server(listener.local_addr().unwrap());
        let gate = link.near(|| Gate::start(&config));
        Some(Self { listener, gate, link })
    }

    /// Bytes that the far end has sent to the program and that have not reached it, as its kernel tells.
    fn unacknowledged(&self, server: &Peer) -> u64 {
        let port = format!(":{:04X}", server.address().port());
        let sockets = self.link.far(|| fs::read_to_string("/proc/thread-self/net/tcp").unwrap());
        let mut fields = sockets.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
        let is_ours = |socket: &Vec<&str>| socket[1].ends_with(&port) && socket[3] == "01";
        let socket = fields.find(is_ours).expect("the connection is there");
        let (sending, _) = socket[4].split_once(':').unwrap();
        u64::from_str_radix(sending, 16).unwrap()
    }

    /// Both ends of a connection that has moved a byte each way.
    fn pair(&self) -> [Peer; 2] {
        let mut client = self.link.near(|| self.gate.connect());
        let (server, _) = self.listener.accept().expect("a connection reaches the server");
        SockRef::from(&server).set_read_timeout(Some(PATIENCE)).unwrap();
        let mut server = Peer::server(server);
        client.send(1);
        server.receive(1);
        server.send(1);
        client.receive(1);
        [client, server]
    }
}
