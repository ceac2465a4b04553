//! Where connections to servers come from, and options of their sockets.

use std::collections::HashMap;
use std::fs;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::Signal;

use crate::support::PATIENCE;
use crate::support::gate::{Config, Gate};
use crate::support::link::{FAR, Link, Namespace};
use crate::support::peer::{End, Peer, got};
use crate::support::servers::{Server, listen};
use crate::support::stage::Stage;

/// The address of whoever connects next.
fn next_peer(listener: &TcpListener) -> (Peer, SocketAddr) {
    let (stream, from) = listener.accept().expect("a connection reaches the server");
    (Peer::server(stream), from)
}

pub(crate) fn sources_have_their_turns(engine: &'static str) {
    for (host, sources) in [("127.0.0.1", ["127.0.0.21", "127.0.0.22"]), ("::1", ["::1", "127.0.0.9"])] {
        let listener = listen(host).unwrap();
        let config = Config::new(engine).pool(&format!("source = {sources:?}"));
        let gate = Gate::start(&config.server(listener.local_addr().unwrap()));
        let mut came: Vec<IpAddr> = Vec::new();
        for _ in 0..6 {
            let mut client = gate.connect();
            let (mut server, from) = next_peer(&listener);
            came.push(from.ip());
            client.send_with_fin(1_000);
            assert_eq!(server.receive_to_end(), End::Fin);
            assert_eq!(server.leave(), got(1_000, End::Fin));
            assert_eq!(client.receive_to_end(), End::Fin);
        }
        // Those of the other family are of no use to this server.
        let usable: Vec<IpAddr> = sources.iter().map(|one| one.parse().unwrap()).collect();
        let usable: Vec<IpAddr> =
            usable.into_iter().filter(|ip| ip.is_ipv4() == (host == "127.0.0.1")).collect();
        let counts: Vec<usize> =
            usable.iter().map(|one| came.iter().filter(|from| *from == one).count()).collect();
        assert_eq!(counts, vec![6 / usable.len(); usable.len()], "{came:?}");
    }
}

/// Four ports for each address and server: the next address, then the next server, and in the end a cause of its own.
pub(crate) fn ports_run_out_at_one_source_after_the_other(engine: &'static str) {
    let Some(link) = Link::new() else { return };
    let (servers, gate) = link.near(|| {
        let servers = [listen("127.0.0.1").unwrap(), listen("127.0.0.1").unwrap()];
        let config = Config::new(engine)
            .bind("192.0.2.1:0")
            .pool("source = [\"127.0.0.21\", \"127.0.0.22\"]")
            .table("defaults.retry", "tries = 2")
            .server(servers[0].local_addr().unwrap())
            .server(servers[1].local_addr().unwrap());
        let gate = Gate::start(&config);
        fs::write("/proc/sys/net/ipv4/ip_local_port_range", "50000 50003").unwrap();
        (servers, gate)
    });
    let held: Vec<Peer> = (0..16).map(|_| link.far(|| gate.connect())).collect();
    let mut came: Vec<(u16, SocketAddr)> = Vec::new();
    let mut peers = Vec::new();
    for server in &servers {
        for _ in 0..8 {
            let (peer, from) = next_peer(server);
            came.push((server.local_addr().unwrap().port(), from));
            peers.push(peer);
        }
    }
    came.sort_unstable();
    came.dedup();
    assert_eq!(came.len(), 16, "each is a port of its own towards its server: {came:?}");
    for server in &servers {
        for source in [21, 22] {
            let source: IpAddr = Ipv4Addr::new(127, 0, 0, source).into();
            let port = server.local_addr().unwrap().port();
            let uses = came.iter().filter(|(to, from)| *to == port && from.ip() == source).count();
            assert_eq!(uses, 4, "{came:?}");
        }
    }
    // The reset can meet it in its connect.
    if let Ok(late) = link.far(|| TcpStream::connect(gate.address())) {
        assert_eq!(Peer::client(late).receive_to_end(), End::Reset);
    }
    let access = gate.first_accesses(1).remove(0);
    assert_eq!((access.cause.as_str(), access.closer.as_str()), ("no_source_port", "proxy"));
    failed_connects_are_rare(&link, &gate);
    // The addresses are this host's nevertheless.
    let text = fs::read_to_string(gate.file()).unwrap();
    fs::write(gate.file(), text.replace("tries = 2", "tries = 3")).unwrap();
    gate.signal(Signal::HUP);
    assert!(gate.logs(|line| line.contains("SIGHUP: reloaded")), "{:#?}", gate.log_lines());
    // Those that were there go on.
    let mut first = held.into_iter().next().expect("sixteen");
    first.finish();
    assert!(first.hears_nothing_for(Duration::from_millis(50)));
}

/// Twenty one after the other that get no port either: no server is tried a second time within 0.1 s. The line of one that tried
/// nothing names no server.
fn failed_connects_are_rare(link: &Link, gate: &Gate) {
    for _ in 0..20 {
        if let Ok(client) = link.far(|| TcpStream::connect(gate.address())) {
            Peer::client(client).receive_to_end();
        }
    }
    let mut tried: HashMap<String, Vec<[i64; 2]>> = HashMap::new();
    for access in gate.first_accesses(21).split_off(1) {
        assert_eq!((access.cause.as_str(), access.tries), ("no_source_port", 2));
        let ended: jiff::Timestamp = access.ts.parse().unwrap();
        let ended = ended.as_millisecond();
        if let Some(server) = access.server {
            tried.entry(server).or_default().push([ended - access.duration_ms as i64, ended]);
        }
    }
    for (server, mut times) in tried {
        times.sort_unstable();
        assert!(times.windows(2).all(|pair| pair[1][1] - pair[0][0] >= 99), "{server}: {times:?}");
    }
}

/// The server sees the client's address, which only the program's host knows the way to.
pub(crate) fn server_sees_the_clients_address(engine: &'static str) {
    const CLIENT: &str = "198.51.100.2";
    let Some(link) = Link::new() else { return };
    let third = Namespace::new().expect("the link has some");
    let near = link.near_end();
    near.ip(&format!("link add door type veth peer name way netns {}", third.id())).unwrap();
    for (end, name, address) in [(near, "door", "198.51.100.1/30"), (&third, "way", "198.51.100.2/30")] {
        end.ip(&format!("address add {address} dev {name}")).unwrap();
        end.ip(&format!("link set {name} up")).unwrap();
    }
    // What comes back from the servers' side is the program's, whoever it is addressed to.
    near.ip("rule add iif near lookup 100").unwrap();
    near.ip("route add local 0.0.0.0/0 dev lo table 100").unwrap();
    link.far_end().ip("route add 198.51.100.0/24 via 192.0.2.1").unwrap();
    let listener = link.far(|| listen(FAR).unwrap());
    let config = Config::new(engine).bind("198.51.100.1:0").pool("source = [\"client\"]");
    let gate = link.near(|| Gate::start(&config.server(listener.local_addr().unwrap())));
    for _ in 0..3 {
        let mut client = third.within(|| gate.connect());
        let (mut server, from) = next_peer(&listener);
        assert_eq!(
            (from.ip().to_string().as_str(), client.address().ip().to_string().as_str()),
            (CLIENT, CLIENT)
        );
        client.send_with_fin(100_000);
        assert_eq!(server.receive_to_end(), End::Fin);
        server.send_with_fin(200_000);
        assert_eq!(client.receive_to_end(), End::Fin);
        let address = client.address();
        assert_eq!(server.leave(), got(100_000, End::Fin));
        assert_eq!(client.leave(), got(200_000, End::Fin));
        assert_eq!(gate.access(address).cause, "done");
    }
}

/// Unlike `dead_peer`, it is the kernel that gives up.
pub(crate) fn user_timeout_ends_what_nobody_acknowledges(engine: &'static str) {
    let Some(link) = Link::new() else { return };
    let listener = link.far(|| listen(FAR).unwrap());
    let config = Config::new(engine)
        .table("defaults.tcp", "keepalive = \"off\"\ndead_peer = \"off\"")
        .table("pool.p.tcp", "user_timeout = \"2s\"")
        .server(listener.local_addr().unwrap());
    let gate = link.near(|| Gate::start(&config));
    let mut client = link.near(|| gate.connect());
    let (_server, _) = next_peer(&listener);
    thread::sleep(Duration::from_millis(100));
    link.cut();
    let began = Instant::now();
    client.send(1_000);
    assert_eq!(client.receive_to_end(), End::Reset);
    let took = began.elapsed();
    assert!(took >= Duration::from_millis(1_500) && took < PATIENCE, "{took:?}");
    assert_eq!(gate.access(client.address()).cause, "server_vanished");
}

/// The first server of the pool has a short limit of its own, which holds for its connections only.
pub(crate) fn a_pools_limits_and_tries_are_its_own(engine: &'static str) {
    let server = Server::echo();
    let config = Config::new(engine)
        .table("listener.l.timeouts", "idle = \"1h\"")
        .table("pool.p.timeouts", "idle = \"500ms\"")
        .table("pool.p.retry", "tries = 1")
        .server(server.address());
    let gate = Gate::start(&config);
    let mut client = gate.connect();
    client.expect_echo();
    client.send(10);
    client.receive(10);
    assert_eq!(client.receive_to_end(), End::Fin);
    assert_eq!(gate.access(client.address()).cause, "idle_timeout");
}

/// However a connection ends, its line tells of both sides; and of neither where that is switched off.
pub(crate) fn access_line_tells_of_both_paths(engine: &'static str) {
    let (stage, gate) = Stage::through(Config::new(engine));
    for reset_by in [None, Some(0), Some(1)] {
        let [mut client, mut server] = stage.pair();
        client.send(1_000);
        server.receive(1_000);
        server.send(1_000);
        client.receive(1_000);
        let address = client.address();
        match reset_by {
            None => {
                client.finish();
                assert_eq!(server.receive_to_end(), End::Fin);
                server.finish();
                assert_eq!(client.receive_to_end(), End::Fin);
            }
            Some(0) => {
                client.abort();
                assert_eq!(server.receive_to_end(), End::Reset);
            }
            Some(_) => {
                server.abort();
                assert_eq!(client.receive_to_end(), End::Reset);
            }
        }
        let access = gate.access(address);
        for rtt in [access.rtt_client_us, access.rtt_server_us] {
            assert!((1..1_000_000).contains(&rtt.expect("it is known")), "{access:?}");
        }
        assert!(access.verdict.as_ref().is_some_and(|it| it.starts_with("client path ")), "{access:?}");
        assert!(access.retrans_client.is_some() && access.retrans_server.is_some(), "{access:?}");
    }
    let (stage, gate) = Stage::through(Config::new(engine).table("metrics", "tcp_info = \"off\""));
    let [client, server] = stage.pair();
    let address = client.address();
    drop((client, server));
    let access = gate.access(address);
    assert_eq!((access.rtt_client_us, access.rtt_server_us, access.verdict), (None, None, None));
    assert_eq!((access.idle_client_ms, access.idle_server_ms), (None, None));
}

/// Nothing that the far end sends arrives for a while.
pub(crate) fn verdict_names_the_side_that_loses(engine: &'static str) {
    let Some(link) = Link::new() else { return };
    let listener = link.far(|| listen(FAR).unwrap());
    let gate = link.near(|| Gate::start(&Config::new(engine).server(listener.local_addr().unwrap())));
    let mut client = link.near(|| gate.connect());
    let (mut server, _) = next_peer(&listener);
    client.send(1);
    server.receive(1);
    link.cut();
    client.send(1_000);
    thread::sleep(Duration::from_millis(2_500));
    link.mend();
    client.finish();
    assert_eq!(server.receive_to_end(), End::Fin);
    server.finish();
    assert_eq!(client.receive_to_end(), End::Fin);
    let access = gate.access(client.address());
    assert_eq!(access.verdict.as_deref(), Some("client path clean, server path lossy"), "{access:?}");
    assert_eq!(access.retrans_client, Some(0));
    assert!(access.retrans_server >= Some(3), "{access:?}");
}
