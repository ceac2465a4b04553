//! Much of everything: bytes, connections one after the other, connections held.
//!
//! The amounts are small enough for every run of the tests. These variables of the environment raise them:
//! `TIDEGATE_BULK_MIB` (64), `TIDEGATE_CONNECTIONS` (2000), `TIDEGATE_IDLE` (500; each takes two descriptors of
//! this process and two of the program), `TIDEGATE_DRAIN` (1000; as many).

#![cfg(target_os = "linux")]
#![allow(clippy::disallowed_methods, clippy::disallowed_types)] // Tests may read clocks and lock.

mod support;

use std::env;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Resource, Rlimit, Signal, getrlimit, setrlimit};
use support::PATIENCE;
use support::gate::{Config, Gate};
use support::peer::{End, Peer, got};
use support::process::{anonymous_bytes, cpu_ticks_over, descriptors, descriptors_settle};
use support::servers::{Server, listen};
use support::stage::{Stage, at_once};

const ENGINES: [&str; 1] = ["mio"];
/// Each with the ways in which it moves bulk.
const WAYS: [(&str, &[&str]); 8] = [
    ("mio", &["off", "auto"]),
    ("io_uring", &["off"]),
    ("threads", &["off"]),
    ("epoll_level", &["off", "auto"]),
    ("poll", &["off", "auto"]),
    ("select", &["off", "auto"]),
    ("sigio", &["off", "auto"]),
    ("aio", &["off", "auto"]),
];
const MIB: u64 = 1024 * 1024;
const CHUNK: usize = 256 * 1024;

/// The server has sent its FIN before the first byte goes up.
#[test]
fn bulk_up_a_connection_that_the_server_half_closed() {
    bulk(|[client, server], bytes| {
        server.finish();
        client.receive_to_end();
        at_once(|| server.receive_to_end(), || client.exchange(bytes, CHUNK));
        [0, bytes]
    });
}

/// The client sends everything and then FIN; the server answers as much after it has seen that FIN.
#[test]
fn bulk_up_and_then_down_a_half_closed_connection() {
    bulk(|[client, server], bytes| {
        let serve = || {
            server.receive_to_end();
            server.exchange(bytes, CHUNK)
        };
        at_once(serve, || client.exchange(bytes, CHUNK));
        [bytes, bytes]
    });
}

#[test]
fn bulk_both_ways_at_once() {
    bulk(|[client, server], bytes| {
        at_once(|| server.exchange(bytes, CHUNK), || client.exchange(bytes, CHUNK));
        [bytes, bytes]
    });
}

/// Plays `script` with `TIDEGATE_BULK_MIB` in every way; it says how many bytes must have reached the client and the
/// server. Every byte is compared with what was sent at its position.
fn bulk(script: impl Fn(&mut [Peer; 2], u64) -> [u64; 2]) {
    let bytes = from_environment("TIDEGATE_BULK_MIB", 64) * MIB;
    for (engine, splice) in
        WAYS.into_iter().flat_map(|(engine, ways)| ways.iter().map(move |way| (engine, way)))
    {
        let (stage, gate) = Stage::through(Config::new(engine).process(&format!("splice = \"{splice}\"")));
        let mut pair = stage.pair();
        let began = Instant::now();
        let [down, up] = script(&mut pair, bytes);
        let (took, moved) = (began.elapsed().as_secs_f64(), (down + up) / MIB);
        let (up_mib, down_mib, rate) = (up / MIB, down / MIB, moved as f64 / took);
        println!("{engine}, splice {splice}: {up_mib} MiB up, {down_mib} MiB down, {rate:.0} MiB/s");
        assert_eq!(pair.map(Peer::leave), [got(down, End::Fin), got(up, End::Fin)]);
        let access = gate.access(stage.client());
        assert_eq!((access.cause.as_str(), access.bytes_in, access.bytes_out), ("done", up, down));
    }
}

#[test]
fn connections_one_after_the_other_leave_nothing_behind() {
    let connections = from_environment("TIDEGATE_CONNECTIONS", 2_000);
    for engine in ENGINES {
        let server = Server::echo();
        let gate = Gate::start(&Config::new(engine).server(server.address()));
        let base = descriptors(gate.pid());
        for _ in 0..500 {
            gate.echo(100);
        }
        let before = anonymous_bytes(gate.pid());
        let began = Instant::now();
        for _ in 0..connections {
            gate.echo(100);
        }
        let rate = connections as f64 / began.elapsed().as_secs_f64();
        let growth = anonymous_bytes(gate.pid()).saturating_sub(before);
        println!("{engine}: {connections} connections, {rate:.0} a second, {growth} bytes of memory more");
        assert_eq!(server.accepted(), connections + 500);
        // The ring of access records takes up to 0.8 MiB once, as it is first used.
        assert!(growth < MIB, "{connections} connections left {growth} bytes behind");
        assert_eq!(descriptors_settle(gate.pid(), base), base);
    }
}

#[test]
fn idle_connections_cost_little_memory_and_no_time() {
    let count = from_environment("TIDEGATE_IDLE", 500);
    raise_descriptor_limit();
    for engine in ENGINES {
        let listener = listen("127.0.0.1").unwrap();
        let config = Config::new(engine).process(&format!("maxconn = {}", count + 10));
        let gate = Gate::start(&config.server(listener.local_addr().unwrap()));
        let base = descriptors(gate.pid());
        let first = used(gate.address(), &listener);
        let before = anonymous_bytes(gate.pid());
        let held: Vec<_> = (0..count).map(|_| used(gate.address(), &listener)).collect();
        let each = anonymous_bytes(gate.pid()).saturating_sub(before) / count;
        let ticks = cpu_ticks_over(gate.pid(), Duration::from_secs(2));
        println!(
            "{engine}: {count} idle connections, {each} bytes of memory each, {ticks} ticks of CPU in 2 s"
        );
        assert!(each < 1_500, "{each} bytes for an idle connection");
        assert!(ticks <= 1, "{ticks} clock ticks of CPU in 2 s while nothing happens");

        for pair in held.iter().chain([&first]) {
            round_trip(pair);
        }
        drop((held, first));
        assert_eq!(descriptors_settle(gate.pid(), base), base);
    }
}

/// The two ends of a connection that has carried bytes both ways.
fn used(gate: SocketAddr, listener: &TcpListener) -> [TcpStream; 2] {
    let client = TcpStream::connect_timeout(&gate, PATIENCE).expect("the listener takes connections");
    let (server, _) = listener.accept().expect("a connection reaches the server");
    for stream in [&client, &server] {
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
    }
    let pair = [client, server];
    round_trip(&pair);
    pair
}

fn round_trip([client, server]: &[TcpStream; 2]) {
    for (mut from, mut to) in [(client, server), (server, client)] {
        let mut text = [0; 5];
        from.write_all(b"bytes").expect("the connection is open");
        to.read_exact(&mut text).expect("the bytes arrive");
        assert_eq!(&text, b"bytes");
    }
}

fn raise_descriptor_limit() {
    let Rlimit { maximum, .. } = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum }).expect("the soft limit can be raised");
}

fn from_environment(name: &str, default: u64) -> u64 {
    env::var(name).map_or(default, |value| value.parse().unwrap_or_else(|_| panic!("{name} is not a number")))
}

/// Of many connections most are idle when the process is to end, and every tenth gets an answer that lasts. They leave
/// over the whole of `spread`, and each has got everything.
#[test]
fn a_drain_of_many_is_spread_and_cuts_nobody_short() {
    const SPREAD: Duration = Duration::from_secs(5);
    let count = from_environment("TIDEGATE_DRAIN", 1_000);
    raise_descriptor_limit();
    for engine in ENGINES {
        let (accepted, leaving) = (AtomicU64::new(0), Arc::new(AtomicBool::new(false)));
        let server = Server::start({
            let leaving = Arc::clone(&leaving);
            move |peer| {
                let is_tenth = accepted.fetch_add(1, Ordering::Relaxed).is_multiple_of(10);
                answer(peer, if is_tenth { ANSWER } else { 0 }, &leaving);
            }
        });
        let config = Config::new(engine).workers(2).process(&format!("maxconn = {}", count + 10));
        let config = config.table("process.drain", &format!("spread = \"{}s\"", SPREAD.as_secs()));
        let mut gate = Gate::start(&config.server(server.address()));
        let mut clients: Vec<Peer> = (0..count)
            .map(|_| {
                let mut client = gate.connect();
                client.send(1);
                client.receive(1);
                client
            })
            .collect();
        leaving.store(true, Ordering::Relaxed);
        let began = Instant::now();
        gate.signal(Signal::TERM);
        let mut times: Vec<Duration> = thread::scope(|scope| {
            let wait = |client: &mut Peer| {
                client.receive_to_end();
                began.elapsed()
            };
            let waits: Vec<_> = clients.iter_mut().map(|client| scope.spawn(move || wait(client))).collect();
            waits.into_iter().map(|wait| wait.join().unwrap()).collect()
        });
        times.sort_unstable();
        println!("{engine}: of {count} connections left in each tenth of the {SPREAD:?}, and later:");
        println!("{:?}", histogram(&times, SPREAD / 10));
        let status = gate.wait_exit(PATIENCE).expect("it ends when the last has left");
        assert!(status.success(), "{status}");

        let ends: Vec<_> = clients.into_iter().map(Peer::leave).collect();
        let of = |bytes| ends.iter().filter(|end| **end == got(bytes, End::Fin)).count() as u64;
        assert_eq!((of(1 + ANSWER), of(1)), (count.div_ceil(10), count - count.div_ceil(10)));
        // Nobody knows how late a busy machine is, but it is never early.
        for tenth in 1..10 {
            let gone = times.partition_point(|time| *time < SPREAD / 10 * tenth) as u64;
            let most = count * u64::from(tenth) / 10 + count / 20;
            assert!(gone <= most, "{gone} of {count} left in the first {tenth} tenths of the time");
        }
        let half = times[times.len() / 2];
        assert!(half < SPREAD / 2 + Duration::from_secs(5), "half of them left only after {half:?}");
    }
}

/// Bytes of an answer that lasts.
const ANSWER: u64 = 64 * 1024;

/// The server's part: a byte for a byte, and once everybody is to leave so many bytes over 1.6 s.
fn answer(mut peer: Peer, bytes: u64, leaving: &AtomicBool) {
    peer.receive(1);
    peer.send(1);
    while bytes > 0 && !leaving.load(Ordering::Relaxed) {
        thread::sleep(Duration::from_millis(1));
    }
    for _ in 0..16 {
        peer.send(bytes / 16);
        thread::sleep(Duration::from_millis(if bytes > 0 { 100 } else { 0 }));
    }
    while peer.receive_to_end() == End::Open {}
}

/// How many of the times are in each of ten steps, and behind them.
fn histogram(times: &[Duration], step: Duration) -> [usize; 11] {
    let mut histogram = [0; 11];
    for time in times {
        histogram[((time.as_nanos() / step.as_nanos()) as usize).min(10)] += 1;
    }
    histogram
}

/// Clients come and go on two workers: no connection gets bytes of another.
#[test]
fn many_connections_at_once_carry_their_own_bytes() {
    for engine in ENGINES {
        let server = Server::echo();
        let gate = Gate::start(&Config::new(engine).workers(2).server(server.address()));
        thread::scope(|scope| {
            for client in 0..32 {
                let gate = &gate;
                scope.spawn(move || {
                    for turn in 0..20 {
                        gate.echo_from(client * 1_000 + turn, client * 1_000);
                    }
                });
            }
        });
        assert_eq!(server.accepted(), 32 * 20);
    }
}
