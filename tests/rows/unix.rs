//! Unix sockets, in front and behind: the same bytes and ends as over TCP, but for resets, which they do not
//! have; and their files.

use std::fs;
use std::io::{ErrorKind, IoSlice};
use std::mem::MaybeUninit;
use std::net::TcpListener;
use std::os::fd::AsFd as _;
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::net::{SocketAddr, UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg};
use rustix::process::Signal;
use socket2::{Domain, SockAddr, SockRef, Socket, Type};
use tempfile::TempDir;

use crate::support::PATIENCE;
use crate::support::gate::{Config, Gate, refusal};
use crate::support::peer::{End, Peer, Transcript, got};
use crate::support::servers::{Server, listen};
use crate::support::stage::at_once;

const MIB: u64 = 1024 * 1024;
const CHUNK: usize = 64 * 1024;

/// What one side of the program speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Tcp,
    Unix,
}

/// Client's side and server's side: every pair with a unix socket in it.
const WAYS: [[Kind; 2]; 3] = [[Kind::Unix, Kind::Tcp], [Kind::Tcp, Kind::Unix], [Kind::Unix, Kind::Unix]];

/// A server that listens, and the program before it.
struct Scene {
    back: Back,
    gate: Gate,
    _directory: TempDir,
}

enum Back {
    Tcp(TcpListener),
    Unix(UnixListener),
}

impl Scene {
    fn new(engine: &'static str, [front, back]: [Kind; 2]) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let config = match front {
            Kind::Tcp => Config::new(engine),
            Kind::Unix => Config::new(engine).bind(shown(&directory.path().join("front"))),
        };
        let (back, config) = match back {
            Kind::Tcp => {
                let listener = listen("127.0.0.1").unwrap();
                let address = listener.local_addr().unwrap();
                (Back::Tcp(listener), config.server(address))
            }
            Kind::Unix => {
                let path = directory.path().join("back");
                let listener = UnixListener::bind(&path).unwrap();
                SockRef::from(&listener).set_read_timeout(Some(PATIENCE)).unwrap();
                (Back::Unix(listener), config.server(shown(&path)))
            }
        };
        Self { back, gate: Gate::start(&config), _directory: directory }
    }

    fn accept(&self) -> Peer {
        let reaches = "a connection reaches the server";
        match &self.back {
            Back::Tcp(listener) => Peer::server(listener.accept().expect(reaches).0),
            Back::Unix(listener) => Peer::unix_server(listener.accept().expect(reaches).0),
        }
    }

    fn pair(&self) -> [Peer; 2] {
        let client = self.gate.connect();
        [client, self.accept()]
    }
}

fn shown(path: &Path) -> String {
    format!("unix:{}", path.display())
}

/// Plays one connection each way; client and server must see what is expected.
fn every_way(engine: &'static str, expected: &[Transcript; 2], script: impl Fn(&Scene) -> [Transcript; 2]) {
    for way in WAYS {
        let scene = Scene::new(engine, way);
        assert_eq!(&script(&scene), expected, "{way:?}");
        let access = &scene.gate.first_accesses(1)[0];
        assert_eq!(access.cause, "done", "{way:?}");
        assert_eq!([access.bytes_out, access.bytes_in], [expected[0].bytes, expected[1].bytes], "{way:?}");
        assert_eq!(access.client == "unix", way[0] == Kind::Unix, "{access:?}");
        let server = access.server_addr.as_deref().expect("a server");
        assert_eq!(server.starts_with("unix:/"), way[1] == Kind::Unix, "{access:?}");
    }
}

pub(crate) fn echo_8_mib_over_unix_sockets(engine: &'static str) {
    every_way(engine, &[got(8 * MIB, End::Fin), got(8 * MIB, End::Fin)], |scene| {
        let [mut client, mut server] = scene.pair();
        client.expect_echo();
        at_once(|| server.echo(), || client.exchange(8 * MIB, CHUNK));
        [client.leave(), server.leave()]
    });
}

pub(crate) fn one_byte_questions_and_answers_over_unix_sockets(engine: &'static str) {
    every_way(engine, &[got(1_000, End::Fin), got(1_000, End::Fin)], |scene| {
        let [mut client, mut server] = scene.pair();
        for _ in 0..1_000 {
            client.send(1);
            server.receive(1);
            server.send(1);
            client.receive(1);
        }
        both_finish(client, server)
    });
}

pub(crate) fn half_closed_by_the_client_over_unix_sockets(engine: &'static str) {
    every_way(engine, &[got(MIB, End::Fin), got(1_000, End::Fin)], |scene| {
        let [mut client, mut server] = scene.pair();
        client.send(1_000);
        client.finish();
        server.receive_to_end();
        thread::sleep(Duration::from_millis(50));
        at_once(|| server.exchange(MIB, CHUNK), || client.receive_to_end());
        [client.leave(), server.leave()]
    });
}

pub(crate) fn half_closed_by_the_server_over_unix_sockets(engine: &'static str) {
    every_way(engine, &[got(0, End::Fin), got(MIB, End::Fin)], |scene| {
        let [mut client, mut server] = scene.pair();
        server.finish();
        client.receive_to_end();
        thread::sleep(Duration::from_millis(50));
        at_once(|| server.receive_to_end(), || client.exchange(MIB, CHUNK));
        [client.leave(), server.leave()]
    });
}

fn both_finish(mut client: Peer, mut server: Peer) -> [Transcript; 2] {
    client.finish();
    server.receive_to_end();
    server.finish();
    client.receive_to_end();
    [client.leave(), server.leave()]
}

/// A read stops behind a message that carries a descriptor, and no second event tells of what is there.
pub(crate) fn bytes_behind_a_descriptor_arrive(engine: &'static str) {
    let scene = Scene::new(engine, [Kind::Unix, Kind::Tcp]);
    let [client, mut server] = scene.pair();
    scene.gate.signal(Signal::STOP);
    let mut room = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut message = SendAncillaryBuffer::new(&mut room);
    let socket = client.socket();
    let descriptors = [socket.as_fd()];
    assert!(message.push(SendAncillaryMessage::ScmRights(&descriptors)));
    let sent = sendmsg(socket.as_fd(), &[IoSlice::new(b"abc")], &mut message, SendFlags::empty());
    assert_eq!(sent, Ok(3));
    assert_eq!(socket.send(b"def").unwrap(), 3);
    scene.gate.signal(Signal::CONT);
    server.receive_text(b"abcdef");
    assert_eq!(both_finish(client, server), [got(0, End::Fin), got(6, End::Fin)]);
}

pub(crate) fn urgent_byte_on_a_unix_socket_stays_in_the_stream(engine: &'static str) {
    for way in WAYS {
        let scene = Scene::new(engine, way);
        let [client, mut server] = scene.pair();
        let (sender, is_unix) = (client.socket(), way[0] == Kind::Unix);
        assert_eq!(sender.send(b"abc").unwrap(), 3);
        match sender.send_out_of_band(b"U") {
            Err(error) if is_unix && error.kind() == ErrorKind::Unsupported => {
                println!("skipped: this kernel has no urgent data on unix sockets");
                return;
            }
            sent => assert_eq!(sent.unwrap(), 1),
        }
        assert_eq!(sender.send(b"def").unwrap(), 3);
        server.receive_text(b"abcUdef");
        assert_eq!(both_finish(client, server), [got(0, End::Fin), got(7, End::Fin)]);
    }
}

/// Its answer arrives, and then the reset: a unix socket makes one in this case only.
pub(crate) fn unix_server_closes_with_input_unread(engine: &'static str) {
    let scene = Scene::new(engine, [Kind::Tcp, Kind::Unix]);
    let [mut client, mut server] = scene.pair();
    client.send(100_000);
    server.receive(1_000);
    server.send(5_000);
    server.wait_for_input();
    assert_eq!(server.leave(), got(1_000, End::Left));
    let address = client.address();
    client.receive_to_end();
    assert_eq!(client.leave(), got(5_000, End::Reset));
    assert_eq!(scene.gate.access(address).cause, "server_reset");
}

pub(crate) fn unix_client_closes_with_input_unread(engine: &'static str) {
    let scene = Scene::new(engine, [Kind::Unix, Kind::Tcp]);
    let [mut client, mut server] = scene.pair();
    client.send(5_000);
    server.receive(5_000);
    server.send(1_000);
    client.wait_for_input();
    assert_eq!(client.leave(), got(0, End::Left));
    server.receive_to_end();
    assert_eq!(server.leave(), got(5_000, End::Reset));
    assert_eq!(scene.gate.access("unix").cause, "client_reset");
}

pub(crate) fn reset_towards_a_unix_server_is_a_close_behind_the_last_byte(engine: &'static str) {
    let scene = Scene::new(engine, [Kind::Tcp, Kind::Unix]);
    let [mut client, mut server] = scene.pair();
    client.send(100_000);
    client.wait_until_delivered();
    let address = client.address();
    client.abort();
    thread::sleep(Duration::from_millis(100));
    server.receive_slowly(16 * 1024, Duration::from_millis(5));
    assert_eq!(server.leave(), got(100_000, End::Fin));
    assert_eq!(scene.gate.access(address).cause, "client_reset");
}

pub(crate) fn reset_towards_a_unix_client_is_a_close_behind_the_last_byte(engine: &'static str) {
    let scene = Scene::new(engine, [Kind::Unix, Kind::Tcp]);
    let [mut client, mut server] = scene.pair();
    server.send(100_000);
    server.wait_until_delivered();
    server.abort();
    thread::sleep(Duration::from_millis(100));
    client.receive_slowly(16 * 1024, Duration::from_millis(5));
    assert_eq!(client.leave(), got(100_000, End::Fin));
    assert_eq!(scene.gate.access("unix").cause, "server_reset");
}

pub(crate) fn unix_servers_without_a_listener_are_skipped(engine: &'static str) {
    let directory = tempfile::tempdir().unwrap();
    let (left, server) = (left_behind(directory.path()), Server::echo());
    let config = Config::new(engine)
        .server(shown(&directory.path().join("none")))
        .server(shown(&left))
        .server(server.address());
    let gate = Gate::start(&config);
    for _ in 0..9 {
        gate.echo(100);
    }
    assert_eq!(server.accepted(), 9);
    let accesses = gate.first_accesses(9);
    assert!(accesses.iter().all(|access| access.cause == "done"));
    assert_eq!(accesses.iter().map(|access| access.tries).max(), Some(3), "{accesses:?}");
    assert!(left.exists(), "the file of a server is not ours");
}

/// Unlike TCP, a connect to a full queue fails at once, and no event tells when there is room.
pub(crate) fn full_queue_of_a_unix_server_is_waited_for(engine: &'static str) {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("full");
    let listener = Socket::new(Domain::UNIX, Type::STREAM, None).unwrap();
    listener.bind(&SockAddr::unix(&path).unwrap()).unwrap();
    listener.listen(0).unwrap();
    let _first = UnixStream::connect(&path).unwrap();
    let gate = Gate::start(&Config::new(engine).server(shown(&path)));
    let mut client = gate.connect();
    let address = client.address();
    client.send(1_000);
    assert!(client.hears_nothing_for(Duration::from_millis(300)));
    drop(listener.accept().unwrap());
    listener.set_read_timeout(Some(PATIENCE)).unwrap();
    let (server, _) = listener.accept().expect("the client's connection");
    let mut server = Peer::unix_server(server.into());
    server.receive(1_000);
    assert_eq!(both_finish(client, server), [got(0, End::Fin), got(1_000, End::Fin)]);
    assert_eq!(gate.access(address).tries, 1);
}

/// A socket's file whose process is gone.
fn left_behind(directory: &Path) -> PathBuf {
    let path = directory.join("left");
    drop(UnixListener::bind(&path).unwrap());
    path
}

pub(crate) fn file_that_was_left_behind_is_replaced(engine: &'static str) {
    let directory = tempfile::tempdir().unwrap();
    let (path, server) = (left_behind(directory.path()), Server::echo());
    let config = Config::new(engine).bind(shown(&path)).server(server.address());
    for _ in 0..2 {
        // Dropping it kills it: the second one finds the file of the first.
        Gate::start(&config).echo(100);
        assert!(path.exists());
    }
    assert_eq!(server.accepted(), 2);
}

pub(crate) fn path_in_use_is_refused_with_its_holder(engine: &'static str) {
    let directory = tempfile::tempdir().unwrap();
    let (path, server) = (directory.path().join("live"), Server::echo());
    let config = Config::new(engine).bind(shown(&path)).server(server.address());
    let gate = Gate::start(&config);
    let (status, said) = refusal("true", &config);
    assert_eq!(status.expect("it ends").code(), Some(1), "{said}");
    let holder = format!("cannot listen on {}: in use by tidegate (pid {})", shown(&path), gate.pid());
    assert!(said.contains(&holder), "{said}");
    gate.echo(100);
}

pub(crate) fn file_that_is_no_socket_is_left_alone(engine: &'static str) {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("precious");
    fs::write(&path, "precious").unwrap();
    let (status, said) = refusal("true", &Config::new(engine).bind(shown(&path)).server("127.0.0.1:1"));
    assert_eq!(status.expect("it ends").code(), Some(1), "{said}");
    assert!(said.contains("there is a file that is no socket"), "{said}");
    assert_eq!(fs::read(&path).unwrap(), b"precious");
}

/// It goes when the listeners close, while a session may still finish: the next process can have the path.
pub(crate) fn file_goes_when_the_program_ends(engine: &'static str) {
    let directory = tempfile::tempdir().unwrap();
    let (path, server) = (directory.path().join("front"), Server::echo());
    let config = Config::new(engine).workers(2).bind(shown(&path)).server(server.address());
    let mut gate = Gate::start(&config);
    let mut client = gate.connect();
    client.expect_echo();
    client.send(1);
    client.receive(1);
    gate.signal(Signal::TERM);
    assert!(gate.logs(|line| line.contains("stopping")));
    for _ in 0..1_000 {
        if !path.exists() {
            break;
        }
        thread::sleep(Duration::from_millis(5));
    }
    assert!(!path.exists());
    let next = Gate::start(&config);
    client.finish();
    assert_eq!(client.receive_to_end(), End::Fin);
    assert!(gate.wait_exit(PATIENCE).expect("it ends").success());
    assert!(path.exists(), "the file of the next one stays");
    next.echo(100);
}

/// One worker accepts, as a path has one socket; it hands connections over to the other.
pub(crate) fn unix_clients_are_spread_over_two_workers(engine: &'static str) {
    let directory = tempfile::tempdir().unwrap();
    let server = Server::echo();
    let config =
        Config::new(engine).workers(2).bind(shown(&directory.path().join("f"))).server(server.address());
    let gate = Gate::start(&config);
    let clients: Vec<Peer> = (0..8)
        .map(|_| {
            let mut client = gate.connect();
            client.expect_echo();
            client.send(10);
            client.receive(10);
            client
        })
        .collect();
    for mut client in clients {
        client.finish();
        assert_eq!(client.receive_to_end(), End::Fin);
    }
    let on_the_first = gate.first_accesses(8).iter().filter(|access| access.worker == 0).count();
    assert_eq!(on_the_first, 4, "of 8 connections");
}

/// A socket without a file in front, one behind, which is checked as well: the same bytes, and nothing is left of either.
pub(crate) fn names_without_a_file_in_front_and_behind(engine: &'static str) {
    let directory = tempfile::tempdir().unwrap();
    let [front, back] = ["front", "back"].map(|name| directory.path().join(name).display().to_string());
    let listener = UnixListener::bind_addr(&SocketAddr::from_abstract_name(&back).unwrap()).unwrap();
    let server = thread::spawn(move || {
        // Checks come and leave without a word.
        loop {
            let mut peer = Peer::unix_server(listener.accept().unwrap().0);
            if peer.echo() == End::Fin && peer.leave().bytes > 0 {
                return;
            }
        }
    });
    let config = Config::new(engine).bind(format!("unix:@{front}")).server(format!("unix:@{back}"));
    let config = config.workers(2).table("pool.p.check", "initial = \"down\"\nrise = 1");
    let mut gate = Gate::start(&config);
    let (status, said) = refusal("true", &config);
    assert_eq!(status.expect("it ends").code(), Some(1), "{said}");
    let holder = format!("cannot listen on unix:@{front}: in use by tidegate (pid {})", gate.pid());
    assert!(said.contains(&holder) && said.contains("choose another name"), "{said}");
    assert!(gate.logs(|line| line.contains("is served by its servers again")), "the check has not passed");
    gate.echo(100_000);
    let access = gate.access("unix");
    assert_eq!(access.server_addr, Some(format!("unix:@{back}")));
    assert_eq!((access.cause.as_str(), access.bytes_in, access.bytes_out), ("done", 100_000, 100_000));
    server.join().expect("it has had its client");
    assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 0, "there is a file");
    gate.signal(Signal::TERM);
    assert!(gate.wait_exit(PATIENCE).expect("it ends").success());
    let again = UnixListener::bind_addr(&SocketAddr::from_abstract_name(&front).unwrap());
    assert!(again.is_ok(), "{again:?}");
}
