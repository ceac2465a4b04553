//! What clients say first, a PROXY header, and what servers are told first: whole at any cut, and no byte is lost behind it.

use std::io::Write;
use std::net::{SocketAddr, TcpListener};
use std::thread;
use std::time::{Duration, Instant};

use tidegate::proxy_header::{Addresses, Told, Version, encode};

use crate::support::PATIENCE;
use crate::support::gate::{Config, Gate};
use crate::support::peer::{End, Peer, got};
use crate::support::process::cpu_ticks_over;
use crate::support::servers::{BlackHole, Server, listen};

/// The client that a header tells of.
const CLIENT: &str = "203.0.113.7:40001";
/// Where it had connected to.
const FRONT: &str = "198.51.100.1:443";

const TRUSTS_LOOPBACK: &str = "accept_proxy = { from = [\"127.0.0.0/8\"] }";

fn header_of(version: Version, client: &str) -> Vec<u8> {
    let [client, front] = [client, FRONT].map(|address| address.parse::<SocketAddr>().unwrap());
    let told = Told { addresses: Addresses::between(client, front), ..Told::LOCAL };
    encode(version, told).as_bytes().to_vec()
}

fn header(version: Version) -> Vec<u8> {
    header_of(version, CLIENT)
}

/// Sends bytes that are none of the pattern.
fn say(client: &Peer, bytes: &[u8]) {
    client.say(bytes).expect("they can be sent");
}

/// Long enough, mostly, for the program to have read what came before: there is nothing to be seen of it outside.
fn pause() {
    thread::sleep(Duration::from_millis(1));
}

/// A client of a listener that reads headers, in front of a server that echoes.
fn gate(config: Config, server: &Server) -> Gate {
    Gate::start(&config.listener(TRUSTS_LOOPBACK).server(server.address()))
}

pub(crate) fn header_in_one_byte_segments_then_bulk_both_ways(engine: &'static str) {
    let server = Server::echo();
    let gate = gate(Config::new(engine), &server);
    for version in Version::BOTH {
        let mut client = gate.connect();
        for byte in header(version) {
            say(&client, &[byte]);
            pause();
        }
        client.expect_echo();
        client.exchange(4 << 20, 64 << 10);
        assert_eq!(client.leave(), got(4 << 20, End::Fin));
    }
    for access in gate.stop() {
        assert_eq!((access.client.as_str(), access.cause.as_str()), (CLIENT, "done"));
        assert_eq!((access.bytes_in, access.bytes_out), (4 << 20, 4 << 20), "headers are no payload");
    }
}

/// Wherever a segment ends, before, within or behind the header.
pub(crate) fn header_and_question_are_cut_anywhere(engine: &'static str) {
    let server = Server::echo();
    let gate = gate(Config::new(engine), &server);
    for version in Version::BOTH {
        let whole = [header(version).as_slice(), b"question"].concat();
        for cut in 1..whole.len() {
            let mut client = gate.connect();
            say(&client, &whole[..cut]);
            pause();
            say(&client, &whole[cut..]);
            client.receive_text(b"question");
        }
    }
}

pub(crate) fn bulk_in_one_go_behind_a_header(engine: &'static str) {
    let server = Server::echo();
    let gate = gate(Config::new(engine), &server);
    for bytes in [1, 4_000, 4_096 - 28, 5_000, 300_000] {
        let mut client = gate.connect();
        client.socket().set_tcp_cork(true).unwrap();
        say(&client, &header(Version::V2));
        client.expect_echo();
        client.send(bytes.min(60_000));
        client.socket().set_tcp_cork(false).unwrap();
        client.exchange(bytes - bytes.min(60_000), 64 << 10);
        assert_eq!(client.leave(), got(bytes, End::Fin), "{bytes} bytes");
    }
}

/// The half-close is kept: the answer comes when the client has finished.
pub(crate) fn fin_right_behind_the_head(engine: &'static str) {
    let server = Server::start(|mut peer| {
        peer.receive_to_end();
        peer.send(1 << 20);
        peer.finish();
    });
    let gate = gate(Config::new(engine), &server);
    for question in [0, 100] {
        let mut client = gate.connect();
        client.socket().set_tcp_cork(true).unwrap();
        say(&client, &header(Version::V1));
        client.send_with_fin(question);
        client.receive_to_end();
        assert_eq!(client.leave(), got(1 << 20, End::Fin));
    }
    let all = gate.stop();
    assert_eq!(all.iter().map(|access| access.bytes_in).collect::<Vec<_>>(), [0, 100]);
}

pub(crate) fn client_resets_within_its_header(engine: &'static str) {
    let server = Server::echo();
    let gate = gate(Config::new(engine), &server);
    let client = gate.let_in();
    let address = client.address();
    say(&client, &header(Version::V2)[..20]);
    client.wait_until_delivered();
    client.abort();
    let access = gate.access(address);
    assert_eq!((access.cause.as_str(), access.tries), ("client_left", 0));
    assert_eq!(server.accepted(), 0);
}

/// One limit for all of it, however a header drips; nothing spins meanwhile.
pub(crate) fn header_has_one_deadline(engine: &'static str) {
    let server = Server::echo();
    let gate = gate(Config::new(engine).timeouts("preread = \"400ms\""), &server);
    let silent = gate.connect();
    let dripping = gate.connect();
    let began = Instant::now();
    let ticks = cpu_ticks_over(gate.pid(), Duration::from_millis(200));
    assert!(ticks <= 5, "{ticks} ticks while nothing comes");
    for byte in header(Version::V2) {
        if dripping.say(&[byte]).is_err() {
            break;
        }
        thread::sleep(Duration::from_millis(20));
    }
    for mut client in [silent, dripping] {
        let address = client.address();
        // A write that fails takes the reset, and a read is told of an end then.
        assert_ne!(client.receive_to_end(), End::Open);
        let access = gate.access(address);
        assert_eq!((access.cause.as_str(), access.hap_ts.as_str()), ("preread_timeout", "cR"));
        assert!(access.duration_ms >= 400, "{access:?}");
    }
    assert!(began.elapsed() < PATIENCE);
    assert_eq!(server.accepted(), 0);
    let late = "has not sent its whole PROXY header within `preread`; it begins with 0d0a0d0a";
    assert!(gate.logs(|line| line.contains(late)), "{:#?}", gate.log_lines());
}

/// Whoever only looks whether somebody listens is no error.
pub(crate) fn empty_connection_is_closed_without_a_word(engine: &'static str) {
    let server = Server::echo();
    let gate = gate(Config::new(engine), &server);
    let mut client = gate.connect();
    let address = client.address();
    client.finish();
    assert_eq!(client.receive_to_end(), End::Fin);
    assert_eq!(gate.access(address).cause, "client_left");
    assert_eq!(server.accepted(), 0);
    assert!(!gate.log_lines().iter().any(|line| line.contains("bad PROXY header")));
}

pub(crate) fn bad_header_is_reset_and_told_with_its_beginning(engine: &'static str) {
    let server = Server::echo();
    let gate = gate(Config::new(engine), &server);
    let mut too_long = header(Version::V2);
    too_long[14..16].copy_from_slice(&5_000_u16.to_be_bytes());
    let endless = [b"PROXY TCP4 ".as_slice(), &[b'1'; 200]].concat();
    for bad in [b"GET / HTTP/1.1\r\n\r\n".as_slice(), &too_long, &endless] {
        let mut client = gate.connect();
        let address = client.address();
        say(&client, bad);
        assert_eq!(client.receive_to_end(), End::Reset);
        assert_eq!(gate.access(address).cause, "bad_proxy_header");
    }
    let mut cut = gate.connect();
    let address = cut.address();
    say(&cut, b"PROXY TCP4 ");
    cut.finish();
    assert_ne!(cut.receive_to_end(), End::Open);
    let access = gate.access(address);
    assert_eq!((access.cause.as_str(), access.hap_ts.as_str()), ("bad_proxy_header", "PR"));
    assert_eq!(server.accepted(), 0);
    let begin = "it begins with 474554202f20485454502f312e310d0a";
    assert!(gate.logs(|line| line.contains("listener l: 127.0.0.1:")
        && line.contains("bad PROXY header")
        && line.contains(begin)));
}

/// Everything goes to the next server when one does not answer, the header that it is told, too.
pub(crate) fn next_server_gets_all_of_it(engine: &'static str) {
    let (hole, behind) = (BlackHole::new(), listen("127.0.0.1").unwrap());
    let config = Config::new(engine)
        .listener(TRUSTS_LOOPBACK)
        .pool("send_proxy = \"v1\"")
        .server(hole.address())
        .server(behind.local_addr().unwrap());
    let gate = Gate::start(&config.timeouts("connect = \"300ms\""));
    let client = gate.connect();
    say(&client, &header(Version::V2));
    say(&client, b"question");
    let mut server = accept(&behind);
    server.receive_text(&header(Version::V1));
    server.receive_text(b"question");
    client.abort();
    server.receive_to_end();
    let access = gate.access(CLIENT);
    assert_eq!((access.tries, access.bytes_in), (2, 8));
}

fn accept(listener: &TcpListener) -> Peer {
    Peer::server(listener.accept().expect("it is connected to").0)
}

/// Who has said nothing but who it is leaves the queue, who has asked something is served.
pub(crate) fn queue_with_heads(engine: &'static str) {
    let server = Server::echo();
    let config = Config::new(engine).listener(TRUSTS_LOOPBACK).limited(server.address(), 1);
    let gate = Gate::start(&config);
    let mut first = gate.connect();
    say(&first, &header_of(Version::V2, "203.0.113.1:1"));
    first = first.echoed();
    let gone = gate.connect();
    say(&gone, &header_of(Version::V2, "203.0.113.2:2"));
    gone.wait_until_delivered();
    let mut asking = gate.connect();
    asking.socket().set_tcp_cork(true).unwrap();
    say(&asking, &header_of(Version::V2, "203.0.113.3:3"));
    asking.expect_echo();
    asking.send_with_fin(1_000);
    drop(gone);
    let access = gate.access("203.0.113.2:2");
    assert_eq!((access.cause.as_str(), access.hap_ts.as_str()), ("client_left", "CQ"));
    drop(first);
    asking.receive_to_end();
    assert_eq!(asking.leave(), got(1_000, End::Fin));
    assert_eq!(gate.access("203.0.113.3:3").bytes_in, 1_000);
}

pub(crate) fn untrusted_peer_is_reset_or_its_header_is_payload(engine: &'static str) {
    let server = Server::echo();
    let from = |untrusted| {
        let line = format!("accept_proxy = {{ from = [\"10.0.0.0/8\"], untrusted = \"{untrusted}\" }}");
        Gate::start(&Config::new(engine).listener(&line).server(server.address()))
    };
    let gate = from("reject");
    let access = gate.access(gate.resets_a_client());
    assert_eq!((access.cause.as_str(), access.hap_ts.as_str()), ("untrusted_peer", "PR"));
    assert_eq!(server.accepted(), 0);
    let gate = from("payload");
    let mut client = gate.connect();
    let address = client.address();
    say(&client, &header(Version::V2));
    client.receive_text(&header(Version::V2));
    drop(client);
    assert_eq!(gate.access(address).bytes_in, 28);
}

pub(crate) fn header_without_addresses_leaves_the_sockets(engine: &'static str) {
    let server = Server::echo();
    let gate = gate(Config::new(engine), &server);
    // LOCAL with a body that means nothing.
    let local = b"\r\n\r\n\0\r\nQUIT\n\x20\0\0\x05xxxxx".as_slice();
    for head in [local, b"PROXY UNKNOWN whatever 1 2\r\n"] {
        let client = gate.connect();
        let address = client.address();
        say(&client, head);
        drop(client.echoed());
        assert_eq!(gate.access(address).cause, "done");
    }
}

/// Rules and limits are about the client that a header tells of, or about the proxy in front if that is wanted.
pub(crate) fn rules_and_limits_are_about_the_told_client(engine: &'static str) {
    let server = Server::echo();
    let rules = "rules = [\"deny 203.0.113.66\"]";
    let limits = "per_source_conns = 1";
    let config = Config::new(engine).table("listener.l.access", rules).table("listener.l.limits", limits);
    let gate = gate(config, &server);
    let told = |client: &str| {
        let peer = gate.connect();
        say(&peer, &header_of(Version::V2, client));
        peer
    };
    let refused = |client: &str| {
        assert_eq!(told(client).receive_to_end(), End::Reset);
        gate.access(client).cause
    };
    assert_eq!(refused("203.0.113.66:1"), "access_denied");
    let first = told("203.0.113.1:1").echoed();
    let _other = told("203.0.113.2:1").echoed();
    assert_eq!(refused("203.0.113.1:2"), "source_conns");
    drop(first);
    gate.access("203.0.113.1:1");
    drop(told("203.0.113.1:3").echoed());

    let peers = format!("match_on = \"peer\"\n{rules}");
    let config = Config::new(engine).table("listener.l.access", &peers).table("listener.l.limits", limits);
    let gate = self::gate(config, &server);
    let living = gate.connect();
    say(&living, &header_of(Version::V2, "203.0.113.66:1"));
    let _living = living.echoed();
    assert_eq!(gate.access(gate.resets_a_client()).cause, "source_conns");
}

/// In one segment with what the client has said behind its own header, and at once where it has said nothing.
pub(crate) fn servers_are_told_first_who_the_client_is(engine: &'static str) {
    let behind = listen("127.0.0.1").unwrap();
    for version in Version::BOTH {
        let config = Config::new(engine)
            .listener(TRUSTS_LOOPBACK)
            .pool(&format!("send_proxy = \"v{}\"", version.number()))
            .server(behind.local_addr().unwrap());
        let gate = Gate::start(&config);
        let whole = [header(version).as_slice(), b"question"].concat();
        for _ in 0..10 {
            let mut client = gate.connect();
            client.socket().set_tcp_cork(true).unwrap();
            say(&client, &header(Version::V1));
            say(&client, b"question");
            client.socket().set_tcp_cork(false).unwrap();
            let mut server = behind.accept().unwrap().0;
            let mut seen = [0; 200];
            let count = std::io::Read::read(&mut server, &mut seen).unwrap();
            assert_eq!(&seen[..count], whole, "in one segment");
            server.write_all(b"answer").unwrap();
            client.receive_text(b"answer");
        }
        let mut client = gate.connect();
        say(&client, &header(Version::V1));
        let mut server = accept(&behind);
        server.receive_text(&header(version));
        server.send(5);
        client.receive(5);
    }
}

/// A listener that reads none tells its clients' own addresses, and where they have connected to.
pub(crate) fn servers_are_told_of_plain_clients(engine: &'static str) {
    let behind = listen("127.0.0.1").unwrap();
    let config = Config::new(engine)
        .pool("send_proxy = \"v2\"\nproxy_tlvs = [\"unique_id\", \"crc32c\"]")
        .server(behind.local_addr().unwrap());
    let gate = Gate::start(&config);
    let mut client = gate.connect();
    let addresses = Addresses::between(client.address(), gate.address());
    let mut server = accept(&behind);
    client.send(3_000);
    client.finish();
    let header = |id: &str| {
        let told = Told { addresses, unique_id: Some(id.as_bytes()), crc32c: true, ..Told::LOCAL };
        encode(Version::V2, told).as_bytes().to_vec()
    };
    let mut seen = vec![0; header("0123456789abcdef").len()];
    server.receive_raw(&mut seen);
    server.receive_to_end();
    server.finish();
    assert_eq!(server.leave(), got(3_000, End::Fin));
    let address = client.address();
    client.receive_to_end();
    let access = gate.access(address);
    assert_eq!(seen, header(&access.id));
    assert_eq!((access.bytes_in, access.cause.as_str()), (3_000, "done"));
}

pub(crate) fn heads_over_unix_sockets(engine: &'static str) {
    let directory = tempfile::tempdir().unwrap();
    let [front, back] = ["front", "back"].map(|name| directory.path().join(name));
    let behind = std::os::unix::net::UnixListener::bind(&back).unwrap();
    let config = Config::new(engine)
        .bind(format!("unix:{}", front.display()))
        .listener("accept_proxy = { from = [\"unix\"] }")
        .pool("send_proxy = \"v2\"")
        .server(format!("unix:{}", back.display()));
    let gate = Gate::start(&config);
    let mut client = gate.connect();
    for byte in header(Version::V1) {
        say(&client, &[byte]);
    }
    say(&client, b"question");
    let mut server = Peer::unix_server(behind.accept().unwrap().0);
    server.receive_text(&header(Version::V2));
    server.receive_text(b"question");
    server.send(100);
    client.receive(100);
    drop((client, server));
    assert_eq!(gate.access(CLIENT).bytes_in, 8);
}
