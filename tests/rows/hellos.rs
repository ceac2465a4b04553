//! What TLS clients say first leads them to their servers, however it is cut, and every byte of it is passed on.

use std::time::Duration;

use tidegate::client_hello::UNRECOGNIZED_NAME;
use tidegate::client_hello::postgres::SSL_REQUEST;
use tidegate::proxy_header::{Versions, decode};

use crate::support::gate::{Config, Gate};
use crate::support::peer::{End, Peer, got};
use crate::support::process::{descriptors, descriptors_reach};
use crate::support::servers::{BlackHole, Server, listen};

fn long(bytes: &[u8]) -> Vec<u8> {
    [u16::try_from(bytes.len()).unwrap().to_be_bytes().as_slice(), bytes].concat()
}

fn extension(kind: u16, data: &[u8]) -> Vec<u8> {
    [kind.to_be_bytes().as_slice(), &long(data)].concat()
}

/// A hello that asks for a name, offers a protocol and has some padding, in records of at most `size` bytes.
fn hello_in(size: usize, name: &str, protocol: &str, padding: usize) -> Vec<u8> {
    let name = extension(0, &long(&[&[0], long(name.as_bytes()).as_slice()].concat()));
    let protocol = [&[u8::try_from(protocol.len()).unwrap()], protocol.as_bytes()].concat();
    let extensions = [name, extension(16, &long(&protocol)), extension(21, &vec![0; padding])].concat();
    let fixed = [&[3, 3], [7; 32].as_slice(), &[0, 0, 2, 0x13, 1, 1, 0]].concat();
    let body = [fixed, long(&extensions)].concat();
    let [_, len @ ..] = u32::try_from(body.len()).unwrap().to_be_bytes();
    let message = [&[1], len.as_slice(), &body].concat();
    message.chunks(size).flat_map(|fragment| [&[22, 3, 1], long(fragment).as_slice()].concat()).collect()
}

fn hello(name: &str) -> Vec<u8> {
    hello_in(1 << 14, name, "h2", 0)
}

/// A listener with these routes instead of a pool; `p` and `q` are pools. Its clients have all the time that they need.
fn routed(config: Config, routes: &str, q: impl std::fmt::Display) -> Gate {
    let config = config
        .listener(&format!("route = [{routes}]"))
        .table("listener.l.timeouts", "preread = \"1m\"")
        .table("pool.q", &format!("server = [{{ name = \"q0\", addr = \"{q}\" }}]"));
    Gate::start(&config.to_string().replace("pool = \"p\"\n", ""))
}

const BY_NAME: &str = "{ sni = [\"a.test\"], pool = \"p\" }, { sni = [\"*.b.test\"], pool = \"q\" }";

/// The server has echoed what the client began with; then bulk both ways.
fn is_relayed(mut client: Peer, begin: &[u8]) {
    let mut echoed = vec![0; begin.len()];
    client.receive_raw(&mut echoed);
    assert_eq!(echoed, begin);
    client.expect_echo();
    client.exchange(1 << 20, 64 << 10);
    assert_eq!(client.leave(), got(1 << 20, End::Fin));
}

pub(crate) fn hello_in_one_byte_segments_and_ten_records_routes_right(engine: &'static str) {
    let [a, b] = [(); 2].map(|()| Server::echo());
    let gate = routed(Config::new(engine).server(a.address()), BY_NAME, b.address());
    for (name, pool) in [("A.test", "p"), ("x.b.test", "q")] {
        let in_ten = hello_in(1_000, name, "h2", 9_500);
        assert_eq!(in_ten.windows(3).filter(|begin| begin == &[22, 3, 1]).count(), 10);
        for (begin, segment) in [(hello(name), 1), (hello_in(12, name, "h2", 0), 1), (in_ten, 1_400)] {
            let client = gate.connect();
            let address = client.address();
            client.socket().set_tcp_nodelay(true).unwrap();
            for (number, bytes) in begin.chunks(segment).enumerate() {
                client.say(bytes).unwrap();
                // Each wait may be one for a delayed acknowledgement.
                if number < 10 {
                    client.wait_until_delivered();
                }
            }
            is_relayed(client, &begin);
            let access = gate.access(address);
            assert_eq!((access.pool.as_deref(), access.cause.as_str()), (Some(pool), "done"));
            assert_eq!(access.sni, Some(name.to_lowercase()));
            assert_eq!(
                (access.alpn.as_deref(), access.route),
                (Some("h2"), Some(if pool == "p" { 1 } else { 2 }))
            );
            assert_eq!(access.bytes_in, begin.len() as u64 + (1 << 20));
        }
    }
}

pub(crate) fn wrong_name_gets_the_alert_and_fin(engine: &'static str) {
    let server = Server::echo();
    let gate = routed(Config::new(engine).server(server.address()), BY_NAME, server.address());
    for behind in [0, 20_000] {
        let mut client = gate.connect();
        let address = client.address();
        client.say(&[hello("c.test"), vec![7; behind]].concat()).unwrap();
        let mut alert = [0; 7];
        client.receive_raw(&mut alert);
        assert_eq!((alert, client.receive_to_end()), (UNRECOGNIZED_NAME, End::Fin));
        let access = gate.access(address);
        assert_eq!((access.cause.as_str(), access.tries), ("no_route", 0));
        assert_eq!((access.sni.as_deref(), access.route, access.pool), (Some("c.test"), None, None));
    }
    let mut client = gate.connect();
    let address = client.address();
    client.say(b"GET / HTTP/1.1\r\n\r\n").unwrap();
    assert_eq!(client.receive_to_end(), End::Reset);
    let access = gate.access(address);
    assert_eq!((access.cause.as_str(), access.sni, access.alpn), ("no_route", None, None));
    assert_eq!(server.accepted(), 0);
}

pub(crate) fn hello_has_its_limit(engine: &'static str) {
    let server = Server::echo();
    let gate = routed(Config::new(engine).server(server.address()), BY_NAME, server.address());
    let largest = hello_in(1 << 13, "a.test", "h2", 16_000);
    let client = gate.connect();
    client.say(&largest).unwrap();
    is_relayed(client, &largest);
    let mut client = gate.connect();
    let address = client.address();
    // It may be told before all of it was sent.
    let _ = client.say(&hello_in(1 << 13, "a.test", "h2", 16_400));
    assert_ne!(client.receive_to_end(), End::Open);
    assert_eq!(gate.access(address).cause, "hello_too_large");
    let mut client = gate.connect();
    let address = client.address();
    client.say(b"\x16\x03\x01\x00\x00").unwrap();
    assert_eq!(
        (client.receive_to_end(), gate.access(address).cause.as_str()),
        (End::Reset, "bad_client_hello")
    );
    assert!(
        gate.logs(
            |line| line.contains("sent a bad TLS hello: the hello has more") && line.contains("with 1603")
        )
    );
}

/// Such a client waits for its answer before its hello, and so must its server be asked before it gets that.
pub(crate) fn postgres_client_is_answered_and_its_server_asked(engine: &'static str) {
    let speaks = |answer: &'static [u8]| {
        Server::start(move |mut peer| {
            peer.receive_text(&SSL_REQUEST);
            assert!(peer.hears_nothing_for(Duration::from_millis(50)), "the hello waits for the answer");
            peer.say(answer).unwrap();
            if answer == b"S" {
                peer.echo();
            } else {
                peer.receive_to_end();
            }
        })
    };
    let (hole, refuses, speaks) = (BlackHole::new(), speaks(b"N"), speaks(b"S"));
    let silent = Server::start(|mut peer| {
        peer.receive_to_end();
    });
    // The first one is told of in the log, and then nobody for a second.
    let config = [refuses.address(), hole.address(), silent.address(), speaks.address()]
        .iter()
        .fold(Config::new(engine), Config::server)
        .table("defaults.retry", "tries = 4")
        .timeouts("connect = \"1s\"");
    let route = "{ sni = [\"a.test\"], starttls = \"postgres\", pool = \"p\" }";
    let gate = routed(config, route, speaks.address());
    let (mut client, hello) = (gate.connect(), hello("a.test"));
    let address = client.address();
    for byte in SSL_REQUEST {
        client.say(&[byte]).unwrap();
        client.wait_until_delivered();
    }
    client.receive_text(b"S");
    client.say(&hello).unwrap();
    let mut echoed = vec![0; hello.len()];
    client.receive_raw(&mut echoed);
    assert_eq!(echoed, hello);
    drop(client);
    let access = gate.access(address);
    assert_eq!((access.server.as_deref(), access.tries), (Some("s3"), 4));
    assert_eq!(access.bytes_in, hello.len() as u64);
    assert!(gate.logs(|line| line.contains("p/s0: asked for TLS")));
    // Whoever does not ask is not asked for.
    let mut early = gate.connect();
    let address = early.address();
    early.say(&[SSL_REQUEST.as_slice(), b"x"].concat()).unwrap();
    assert_eq!(
        (early.receive_to_end(), gate.access(address).cause.as_str()),
        (End::Reset, "bad_client_hello")
    );
}

/// While its server is asked, or before that: nobody would read the answer.
pub(crate) fn postgres_client_that_resets_is_not_waited_for(engine: &'static str) {
    let (hole, behind) = (BlackHole::new(), listen("127.0.0.1").unwrap());
    let silent = behind.local_addr().unwrap();
    let route = "{ sni = [\"a.test\"], starttls = \"postgres\", pool = \"p\" }";
    let asks = |gate: &Gate| {
        let mut client = gate.connect();
        client.say(&SSL_REQUEST).unwrap();
        client.receive_text(b"S");
        client.say(&hello("a.test")).unwrap();
        client.wait_until_delivered();
        client
    };
    let asked = || {
        let mut server = Peer::server(behind.accept().unwrap().0);
        server.receive_text(&SSL_REQUEST);
        server
    };
    let long = "connect = \"1m\"\nconnect_total = \"1m\"";
    let gate = routed(Config::new(engine).server(silent).timeouts(long), route, silent);
    let client = asks(&gate);
    let (mut server, address) = (asked(), client.address());
    client.abort();
    assert_eq!(gate.access(address).cause, "client_left");
    assert_ne!(server.receive_to_end(), End::Open);

    let gate = routed(Config::new(engine).server(hole.address()).timeouts(long), route, silent);
    let base = descriptors(gate.pid());
    let client = asks(&gate);
    // Its hello was read, and the server is being dialed.
    descriptors_reach(gate.pid(), base + 2);
    let address = client.address();
    client.abort();
    let mut server = Peer::server(hole.open().into());
    server.receive_text(&SSL_REQUEST);
    let access = gate.access(address);
    assert_eq!((access.cause.as_str(), access.tries), ("client_left", 1));
    assert_ne!(server.receive_to_end(), End::Open);
}

pub(crate) fn servers_are_told_the_name_and_the_protocol(engine: &'static str) {
    let behind = listen("127.0.0.1").unwrap();
    let config = Config::new(engine)
        .pool("send_proxy = \"v2\"\nproxy_tlvs = [\"authority\", \"alpn\", \"crc32c\"]")
        .server(behind.local_addr().unwrap());
    let gate = Gate::start(&config);
    let (client, hello) = (gate.connect(), hello("A.Test"));
    client.say(&hello).unwrap();
    let mut server = Peer::server(behind.accept().unwrap().0);
    let mut header = vec![0; 16];
    server.receive_raw(&mut header);
    header.resize(16 + usize::from(u16::from_be_bytes([header[14], header[15]])), 0);
    server.receive_raw(&mut header[16..]);
    let header = decode(&header, Versions::ALL).unwrap().unwrap();
    assert_eq!(
        (header.tlvs.authority(), header.tlvs.alpn()),
        (Some(b"a.test".as_slice()), Some(b"h2".as_slice()))
    );
    assert_eq!(header.addresses.ends(), Some([client.address(), gate.address()]));
    server.receive_text(&hello);
}

pub(crate) fn names_stick_to_servers(engine: &'static str) {
    let servers = [(); 4].map(|()| Server::echo());
    let config = servers.iter().fold(Config::new(engine), |config, server| config.server(server.address()));
    let gate = Gate::start(&config.balance("sni"));
    let server_of = |begin: &[u8]| {
        let client = gate.connect();
        let address = client.address();
        client.say(begin).unwrap();
        is_relayed(client, begin);
        gate.access(address).server.expect("it has one")
    };
    let names: Vec<String> = (0..12).map(|number| format!("{number}.test")).collect();
    let first: Vec<String> = names.iter().map(|name| server_of(&hello(name))).collect();
    let again: Vec<String> = names.iter().map(|name| server_of(&hello_in(20, name, "x", 10))).collect();
    assert_eq!(first, again);
    let used: std::collections::HashSet<&String> = first.iter().collect();
    assert!(used.len() >= 3, "{first:?}");
    // Without a name the address decides, which is one here.
    let nameless = [server_of(b"GET /"), server_of(b"POST")];
    assert_eq!(nameless[0], nameless[1]);
}

/// A client that waits for its server is not waited for.
pub(crate) fn server_that_speaks_first_does(engine: &'static str) {
    let server = Server::start(|mut peer| {
        peer.send(1_000);
        peer.receive_to_end();
        peer.finish();
    });
    let routes = "{ source = [\"10.0.0.0/8\"], pool = \"q\" }, { source = [\"127.0.0.0/8\"], pool = \"p\" }";
    let config = Config::new(engine).listener("server_speaks_first = true").server(server.address());
    let gate = routed(config, routes, "127.0.0.1:1");
    let mut client = gate.connect();
    let address = client.address();
    client.receive(1_000);
    client.send_with_fin(10);
    client.receive_to_end();
    assert_eq!(client.leave(), got(1_000, End::Fin));
    assert_eq!(gate.access(address).pool.as_deref(), Some("p"));
}
