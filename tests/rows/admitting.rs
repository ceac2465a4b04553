//! Who is let in: rules about addresses, and limits on what one source, and all together, may have.

use std::io::ErrorKind;
use std::net::{SocketAddr, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

use socket2::{Domain, Socket, Type};

use crate::support::PATIENCE;
use crate::support::gate::{Config, Gate};
use crate::support::peer::{End, Peer};
use crate::support::process::cpu_ticks_over;
use crate::support::servers::{Server, listen};

/// Another source than where clients usually are.
const OTHER: &str = "127.0.0.2:0";

/// A client with an address of its own.
fn connect_from(gate: &Gate, from: &str) -> Peer {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    socket.bind(&from.parse::<SocketAddr>().unwrap().into()).unwrap();
    socket.connect(&gate.address().into()).expect("the listener takes connections");
    Peer::client(socket.into())
}

/// The cause in the access line of a client that must be reset without getting a byte.
fn refused(gate: &Gate) -> String {
    let access = gate.access(gate.resets_a_client());
    assert_eq!((access.tries, access.server), (0, None));
    access.cause
}

pub(crate) fn denied_client_is_reset(engine: &'static str) {
    let server = Server::echo();
    let rules = "default = \"deny\"\nrules = [\"deny 127.0.0.1\", \"allow 127.0.0.0/8\"]";
    let config = Config::new(engine).table("listener.l.access", rules).listener("maxconn = 1");
    let gate = Gate::start(&config.server(server.address()));
    // Whether there is room or not, and who is denied takes none.
    assert_eq!(refused(&gate), "access_denied");
    let living = connect_from(&gate, OTHER).echoed();
    assert_eq!(refused(&gate), "access_denied");
    drop(living);
    connect_from(&gate, OTHER).echoed();
    assert_eq!(server.accepted(), 2);
    assert!(gate.logs(|line| line.contains("listener l: turned 127.0.0.1 away: access_denied")));
}

pub(crate) fn unix_client_meets_no_rule_and_no_limit_of_sources(engine: &'static str) {
    let server = Server::echo();
    let directory = tempfile::tempdir().unwrap();
    let path = format!("unix:{}", directory.path().join("front").display());
    let config = Config::new(engine)
        .bind(path)
        .table("listener.l.access", "default = \"deny\"")
        .table("listener.l.limits", "per_source_conns = 1");
    let gate = Gate::start(&config.server(server.address()));
    let _first = gate.connect().echoed();
    gate.connect().echoed();
}

/// Two workers count together.
pub(crate) fn source_over_its_connections_is_reset(engine: &'static str) {
    let server = Server::echo();
    let config = Config::new(engine).workers(2).table("listener.l.limits", "per_source_conns = 4");
    let gate = Gate::start(&config.server(server.address()));
    let mut living: Vec<Peer> = (0..4).map(|_| gate.connect().echoed()).collect();
    for _ in 0..4 {
        assert_eq!(refused(&gate), "source_conns");
    }
    connect_from(&gate, OTHER).echoed();
    for client in &mut living {
        client.send(1);
        client.receive(1);
    }
    let left = living.pop().expect("there are four");
    let address = left.address();
    drop(left);
    gate.access(address);
    living.push(gate.connect().echoed());
    assert_eq!(refused(&gate), "source_conns");
    assert_eq!(server.accepted(), 6);
}

/// However connections end, their source has room again: none of its places is lost.
pub(crate) fn source_has_room_again_however_connections_end(engine: &'static str) {
    let server = Server::echo();
    let config = Config::new(engine).workers(2).table("listener.l.limits", "per_source_conns = 3");
    let gate = Gate::start(&config.server(server.address()));
    for round in 0..30 {
        let client = gate.connect().echoed();
        let address = client.address();
        match round % 3 {
            0 => drop(client.abort()),
            1 => drop(client),
            _ => drop(client.leave()),
        }
        assert_ne!(gate.access(address).cause, "source_conns");
    }
    let _living: Vec<Peer> = (0..3).map(|_| gate.connect().echoed()).collect();
    assert_eq!(refused(&gate), "source_conns");
}

pub(crate) fn source_over_its_rate_is_reset(engine: &'static str) {
    let server = Server::echo();
    let rate = "per_source_rate = { rate = \"1/s\", burst = 3 }";
    let config = Config::new(engine).workers(2).table("listener.l.limits", rate).server(server.address());
    // A token grows in a second: where a busy machine takes half of one for the first three, it begins anew.
    let gate = (0..20).find_map(|_| {
        let gate = Gate::start(&config);
        let began = Instant::now();
        for _ in 0..3 {
            gate.connect().echoed();
        }
        (began.elapsed() < Duration::from_millis(500)).then(|| {
            assert_eq!(refused(&gate), "source_rate");
            gate
        })
    });
    let gate = gate.expect("three connections within half a second");
    connect_from(&gate, OTHER).echoed();
    thread::sleep(Duration::from_millis(1_010));
    gate.connect().echoed();
}

pub(crate) fn dry_run_lets_in_and_tells(engine: &'static str) {
    let server = Server::echo();
    let limits = "per_source_conns = 1\nper_source_rate = { rate = \"1/s\", burst = 1 }\nrate = \"1/s\"\n\
                  dry_run = true";
    let gate = Gate::start(&Config::new(engine).table("listener.l.limits", limits).server(server.address()));
    let living: Vec<Peer> = (0..5).map(|_| gate.connect().echoed()).collect();
    assert_eq!((living.len(), server.accepted()), (5, 5));
}

pub(crate) fn clients_over_the_listeners_rate_wait(engine: &'static str) {
    let server = Server::echo();
    let config = Config::new(engine).workers(2).table("listener.l.limits", "rate = \"5/s\"");
    let config = config.server(server.address());
    // The first at once, ten more at five a second: never sooner, and later only on a busy machine.
    let is_slow = |_| {
        let took = eleven_clients(&Gate::start(&config));
        assert!(took >= Duration::from_millis(1_990), "11 clients took {took:?} at 5 a second");
        took > Duration::from_millis(3_500)
    };
    assert!(!(0..5).all(is_slow), "11 clients took more than 3.5 s at 5 a second, five times");
    assert_eq!(server.accepted() % 11, 0);
}

/// How long it takes until each has had its byte back; nothing spins while they wait.
fn eleven_clients(gate: &Gate) -> Duration {
    let began = Instant::now();
    let mut clients: Vec<Peer> = (0..11).map(|_| gate.connect()).collect();
    for client in &mut clients {
        client.expect_echo();
        client.send(1);
    }
    let ticks = cpu_ticks_over(gate.pid(), Duration::from_secs(1));
    assert!(ticks <= 5, "{ticks} clock ticks of CPU while clients wait");
    clients.iter_mut().for_each(|client| client.receive(1));
    began.elapsed()
}

pub(crate) fn client_over_the_listeners_rate_is_rejected(engine: &'static str) {
    let server = Server::echo();
    let config = Config::new(engine).listener("at_maxconn = \"reject\"");
    let gate = Gate::start(&config.table("listener.l.limits", "rate = \"1/s\"").server(server.address()));
    let living = gate.connect().echoed();
    assert_eq!(refused(&gate), "listener_rate");
    thread::sleep(Duration::from_millis(1_010));
    gate.connect().echoed();
    drop(living);
}

/// A listener that turns many away does not keep another one from saying that it does.
pub(crate) fn each_listener_says_whom_it_turns_away(engine: &'static str) {
    let server = Server::echo();
    let deny = "default = \"deny\"";
    let config = Config::new(engine).table("listener.l.access", deny).server(server.address());
    let config =
        config.table("listener.m", "bind = [\"127.0.0.1:0\"]\npool = \"p\"").table("listener.m.access", deny);
    let gate = Gate::start(&config);
    let places = ["l", "m"].map(|listener| gate.address_of(listener));
    // One after the other, within the second for which one of them would be silent.
    for place in places {
        drop(TcpStream::connect(place));
    }
    for listener in ["l", "m"] {
        let line = format!("listener {listener}: turned 127.0.0.1 away: access_denied");
        assert!(gate.logs(|said| said.contains(&line)), "{:#?}", gate.log_lines());
    }
}

/// With `v6only = false` a client of IPv4 is one wherever its address counts: for rules, limits, the log and the server.
pub(crate) fn clients_of_both_families_at_one_address(engine: &'static str) {
    if listen("::1").is_err() {
        println!("skipped: this machine has no ::1");
        return;
    }
    let behind = listen("127.0.0.1").unwrap();
    let config = Config::new(engine)
        .bind("[::]:0")
        .listener("v6only = false")
        .table("listener.l.access", "default = \"deny\"\nrules = [\"allow 127.0.0.0/8\", \"allow ::1\"]")
        .table("listener.l.limits", "per_source_conns = 1")
        .pool("send_proxy = \"v1\"");
    let gate = Gate::start(&config.server(behind.local_addr().unwrap()));
    let port = gate.address().port();
    for (ip, family) in [("127.0.0.1", "TCP4"), ("::1", "TCP6")] {
        let at = SocketAddr::new(ip.parse().unwrap(), port);
        let stream = TcpStream::connect_timeout(&at, PATIENCE).expect("the listener takes connections");
        let mut client = Peer::client(stream);
        let address = client.address();
        let mut server = Peer::server(behind.accept().expect("it is led on").0);
        server.receive_text(format!("PROXY {family} {ip} {ip} {} {port}\r\n", address.port()).as_bytes());
        // One more of this source is one too many. Its reset can meet it in its connect.
        let more = Socket::new(Domain::for_address(at), Type::STREAM, None).unwrap();
        more.bind(&SocketAddr::new(at.ip(), 0).into()).unwrap();
        let more_address = more.local_addr().unwrap().as_socket().unwrap();
        match more.connect(&at.into()) {
            Ok(()) => assert_eq!(Peer::client(more.into()).receive_to_end(), End::Reset),
            Err(error) => assert_eq!(error.kind(), ErrorKind::ConnectionReset),
        }
        assert_eq!(gate.access(more_address).cause, "source_conns");
        client.finish();
        server.receive_to_end();
        server.finish();
        client.receive_to_end();
        assert_eq!(gate.access(address).cause, "done");
        assert_eq!([client.leave().end, server.leave().end], [End::Fin; 2]);
    }
    assert!(gate.logs(|line| line.contains("turned 127.0.0.1 away: source_conns")), "its own form");
    // Without it IPv4 finds nobody there.
    let only = Gate::start(&Config::new(engine).bind("[::]:0").server("127.0.0.1:1"));
    let at = SocketAddr::from(([127, 0, 0, 1], only.address().port()));
    let refused = TcpStream::connect_timeout(&at, PATIENCE).map_err(|error| error.kind());
    assert_eq!(refused.err(), Some(ErrorKind::ConnectionRefused));
}
