//! While every server is at its `maxconn`, clients wait in the order in which they came, and nothing spins.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::thread;
use std::time::Duration;

use crate::support::PATIENCE;
use crate::support::gate::{Access, Config, Gate};
use crate::support::peer::{End, Peer, got};
use crate::support::process::{assert_rests, descriptors, descriptors_reach};
use crate::support::servers::{Refusing, Server};

const MOMENT: Duration = Duration::from_millis(300);

/// A client that has sent a byte and expects it back.
fn knock(gate: &Gate) -> Peer {
    let mut client = gate.connect();
    client.expect_echo();
    client.send(1);
    client
}

/// One server with one place, which somebody has.
fn taken(config: Config, server: &Server) -> (Gate, Peer) {
    let gate = Gate::start(&config.limited(server.address(), 1));
    let first = gate.connect().echoed();
    (gate, first)
}

/// Whoever has waited has left: once the place of `first` is free, the next client has it.
fn assert_nobody_is_served(server: &Server, gate: &Gate, first: Peer) {
    drop(first);
    gate.connect().echoed();
    assert_eq!(server.accepted(), 2, "who has left gets no server");
}

pub(crate) fn client_waits_until_a_server_has_room(engine: &'static str) {
    let server = Server::echo();
    let (gate, first) = taken(Config::new(engine), &server);
    let mut waiting: Vec<Peer> = (0..3).map(|_| knock(&gate)).collect();
    assert!(waiting.iter_mut().all(|client| client.hears_nothing_for(MOMENT / 3)), "served over the limit");
    assert_rests(gate.pid(), Duration::from_secs(1), 5, "while clients wait");
    assert_eq!(server.accepted(), 1);

    drop(first);
    for mut client in waiting {
        client.receive(1);
        let address = client.address();
        drop(client);
        let access = gate.access(address);
        assert_eq!((access.cause.as_str(), access.tries), ("done", 1));
        assert!(access.queue_ms >= 1_000 && access.queue_ms <= access.connect_ms.unwrap(), "{access:?}");
    }
    assert_eq!(server.accepted(), 4);
    let last = gate.connect().echoed();
    let address = last.address();
    drop(last);
    assert_eq!(gate.access(address).queue_ms, 0);
}

pub(crate) fn another_server_with_room_is_used(engine: &'static str) {
    let servers = [Server::echo(), Server::echo()];
    for balance in ["round_robin", "p2c"] {
        let config = Config::new(engine).balance(balance).limited(servers[0].address(), 1);
        let before = servers.each_ref().map(Server::accepted);
        let gate = Gate::start(&config.limited(servers[1].address(), 3));
        let mut held: Vec<Peer> = (0..4).map(|_| gate.connect().echoed()).collect();
        let accepted = servers.each_ref().map(Server::accepted);
        assert_eq!([accepted[0] - before[0], accepted[1] - before[1]], [1, 3], "{balance}");
        assert!(knock(&gate).hears_nothing_for(MOMENT), "served over the limit");
        for client in &mut held {
            client.send(1);
            client.receive(1);
        }
    }
}

pub(crate) fn client_that_closes_leaves_the_queue(engine: &'static str) {
    let server = Server::echo();
    let (gate, first) = taken(Config::new(engine), &server);
    let [early, late] = [gate.connect(), gate.connect()];
    // A FIN that came at once, and one that comes to somebody who waits already.
    let addresses = [early.address(), late.address()];
    drop(early);
    thread::sleep(MOMENT / 3);
    drop(late);
    for address in addresses {
        let access = gate.access(address);
        assert_eq!((access.cause.as_str(), access.closer.as_str()), ("client_left", "client"));
        assert_eq!((access.hap_ts.as_str(), access.tries, access.server), ("CQ", 0, None));
        assert!(access.duration_ms < 8_000, "{}", access.duration_ms);
    }
    assert_nobody_is_served(&server, &gate, first);
}

pub(crate) fn client_that_resets_leaves_the_queue(engine: &'static str) {
    let server = Server::echo();
    let (gate, first) = taken(Config::new(engine), &server);
    let client = gate.let_in();
    let address = client.address();
    thread::sleep(MOMENT / 3);
    client.abort();
    let access = gate.access(address);
    assert_eq!((access.cause.as_str(), access.hap_ts.as_str()), ("client_left", "CQ"));
    assert_nobody_is_served(&server, &gate, first);
}

/// One whose bytes were there when it began to wait, and one that sends later: nobody would read the answer.
pub(crate) fn client_that_sends_and_resets_leaves_the_queue(engine: &'static str) {
    let server = Server::echo();
    let (gate, first) = taken(Config::new(engine), &server);
    let descriptors = descriptors(gate.pid());
    let mut clients = [gate.connect(), gate.connect()];
    clients[0].send(100);
    descriptors_reach(gate.pid(), descriptors + 2);
    thread::sleep(MOMENT / 3);
    clients[1].send(100);
    thread::sleep(MOMENT / 3);
    for client in clients {
        let address = client.address();
        client.wait_until_delivered();
        client.abort();
        let access = gate.access(address);
        assert_eq!((access.cause.as_str(), access.hap_ts.as_str()), ("client_left", "CQ"));
    }
    assert_nobody_is_served(&server, &gate, first);
}

/// It cannot be told from one that closed, and has a claim to its answer.
pub(crate) fn half_closed_client_with_a_question_is_served(engine: &'static str) {
    let server = Server::echo();
    let (gate, first) = taken(Config::new(engine), &server);
    let mut clients = [gate.connect(), gate.connect()];
    for client in &mut clients {
        client.expect_echo();
    }
    clients[0].send_with_fin(100);
    thread::sleep(MOMENT / 3);
    clients[1].send(50);
    thread::sleep(MOMENT / 3);
    clients[1].send_with_fin(50);
    thread::sleep(MOMENT);
    assert_eq!(server.accepted(), 1);
    drop(first);
    for mut client in clients {
        let address = client.address();
        client.receive_to_end();
        assert_eq!(client.leave(), got(100, End::Fin));
        let access = gate.access(address);
        assert_eq!((access.cause.as_str(), access.bytes_in, access.bytes_out), ("done", 100, 100));
    }
}

pub(crate) fn full_queue_turns_away(engine: &'static str) {
    let server = Server::echo();
    let (gate, first) = taken(Config::new(engine).table("pool.p.queue", "max = 1"), &server);
    let mut waits = knock(&gate);
    assert!(waits.hears_nothing_for(MOMENT));
    let access = gate.access(gate.resets_a_client());
    assert_eq!((access.cause.as_str(), access.closer.as_str()), ("queue_full", "proxy"));
    assert_eq!((access.hap_ts.as_str(), access.tries, access.queue_ms), ("PQ", 0, 0));
    drop(first);
    waits.receive(1);
}

pub(crate) fn without_a_queue_nobody_waits(engine: &'static str) {
    let server = Server::echo();
    let (gate, first) = taken(Config::new(engine).table("pool.p.queue", "max = 0"), &server);
    assert_eq!(gate.access(gate.resets_a_client()).cause, "queue_full");
    let left = first.address();
    drop(first);
    gate.access(left);
    gate.connect().echoed();
}

pub(crate) fn waiting_has_its_limit(engine: &'static str) {
    for (limits, least) in [("queue = \"400ms\"", 400), ("queue = \"off\"\nconnect_total = \"600ms\"", 600)] {
        let server = Server::echo();
        let (gate, mut first) = taken(Config::new(engine).timeouts(limits), &server);
        let access = gate.access(gate.resets_a_client());
        assert_eq!((access.cause.as_str(), access.hap_ts.as_str(), access.tries), ("queue_timeout", "sQ", 0));
        assert!((least..8_000).contains(&access.queue_ms), "{access:?}");
        first.send(1);
        first.receive(1);
        assert_eq!(server.accepted(), 1);
    }
}

/// Two workers share three places: each place that one of them frees is the other's as often as its own. A wake-up that is
/// lost leaves clients waiting until the queue's limit. In which order they are served is seen where their connections
/// arrive.
pub(crate) fn freed_places_go_to_whoever_waits_longest(engine: &'static str) {
    const CLIENTS: u8 = 120;
    let server = TcpListener::bind("127.0.0.1:0").unwrap();
    let config = Config::new(engine).workers(2).listener("accept_balance = \"reuseport\"");
    let config = config.limited(server.local_addr().unwrap(), 3);
    let gate = Gate::start(&config.timeouts("queue = \"off\"\nconnect_total = \"off\""));
    let client = |number: u8| {
        let mut client = TcpStream::connect(gate.address()).unwrap();
        client.set_read_timeout(Some(PATIENCE)).unwrap();
        client.write_all(&[number]).unwrap();
        client
    };
    let hears = |mut client: &TcpStream, number: u8| {
        let mut byte = [0];
        client.read_exact(&mut byte).unwrap();
        assert_eq!(byte, [number]);
    };
    let order: Vec<u8> = thread::scope(|scope| {
        let arrivals = scope.spawn(|| {
            let arrivals = (0..CLIENTS + 3).map(|_| {
                let (mut stream, _) = server.accept().unwrap();
                thread::spawn(move || {
                    let mut byte = [0];
                    stream.read_exact(&mut byte).unwrap();
                    stream.write_all(&byte).unwrap();
                    let _ = stream.read(&mut [0]);
                    byte[0]
                })
            });
            let arrivals: Vec<_> = arrivals.collect();
            arrivals.into_iter().map(|arrival| arrival.join().unwrap()).collect()
        });
        let held = [CLIENTS; 3].map(client);
        held.iter().for_each(|client| hears(client, CLIENTS));
        for number in 0..CLIENTS {
            let client = client(number);
            scope.spawn(move || hears(&client, number));
            thread::sleep(Duration::from_millis(10));
        }
        drop(held);
        arrivals.join().unwrap()
    });
    let served = &order[3..];
    let shifts = served.iter().enumerate().map(|(place, number)| place.abs_diff(usize::from(*number)));
    // On a busy machine one worker may accept so much later than the other that its clients begin to wait later.
    assert!(shifts.max() <= Some(40), "{served:?}");
    let accesses = gate.first_accesses(usize::from(CLIENTS) + 3);
    let on_first = accesses.iter().filter(|access| access.worker == 0).count();
    assert!((10..110).contains(&on_first), "one worker had nearly all: {on_first}");
    assert!(accesses.iter().all(|access| access.cause == "done"));
}

/// A place that is given up because its server refused goes to somebody else.
pub(crate) fn refused_attempt_gives_its_place_back(engine: &'static str) {
    let refusing = Refusing::new();
    let config = Config::new(engine).limited(refusing.address(), 1);
    let gate = Gate::start(&config.table("defaults.retry", "tries = 2\nsame_server_delay = \"100ms\""));
    let clients: Vec<_> = (0..10).map(|_| gate.connect()).collect();
    for mut client in clients {
        client.receive_to_end();
        assert_eq!(client.leave(), got(0, End::Reset));
    }
    let accesses = gate.first_accesses(10);
    let is_refused = |access: &Access| access.cause == "connect_refused" && access.tries == 2;
    assert!(accesses.iter().all(is_refused), "{accesses:?}");
}

/// Refused, out of time in the queue, without any server: each client gets what `when_no_upstream` says, although it has
/// sent something that nobody will read.
pub(crate) fn without_a_server_a_client_is_closed_if_that_is_wanted(engine: &'static str) {
    let (server, refusing) = (Server::echo(), Refusing::new());
    let close = || Config::new(engine).listener("when_no_upstream = \"close\"");
    let cases = [
        (close().limited(server.address(), 1).timeouts("queue = \"200ms\""), "queue_timeout"),
        (close().limited(server.address(), 1).table("pool.p.queue", "max = 0"), "queue_full"),
        (close().server(refusing.address()).table("defaults.retry", "tries = 1"), "connect_refused"),
        (close().weighted(server.address(), 0), "no_server"),
    ];
    for (config, cause) in cases {
        let gate = Gate::start(&config);
        let _held = cause.starts_with("queue").then(|| gate.connect().echoed());
        let mut client = gate.connect();
        let address = client.address();
        if cause == "queue_timeout" {
            client.send(1_000);
        }
        client.receive_to_end();
        assert_eq!(client.leave(), got(0, End::Fin), "{cause}");
        assert_eq!(gate.access(address).cause, cause);
    }
}
