//! `upload` and `download`: bytes a second that each connection may take, in each direction for itself.

use std::thread;
use std::time::{Duration, Instant};

use crate::support::gate::{Config, Gate};
use crate::support::peer::{End, Peer, got};
use crate::support::process::assert_rests;
use crate::support::servers::Server;

const KIB: u64 = 1024;
/// What is written as a limit.
const RATE: u64 = 512 * KIB;

/// So many bytes take the time of their rate within a tenth: never less, beside what a bucket may give at once; and more
/// only on a busy machine, which is not as busy in each of five turns. Every turn says how long its connections took.
fn assert_paced<const N: usize>(bytes: u64, turn: impl Fn() -> [Duration; N]) {
    let fair = bytes as f64 / RATE as f64;
    let mut slowest = f64::INFINITY;
    for _ in 0..5 {
        let took = turn().map(|took| took.as_secs_f64());
        assert!(
            took.iter().all(|took| *took >= fair * 0.9 - 0.1),
            "{bytes} bytes took {took:?} s, not {fair} s"
        );
        slowest = took.into_iter().fold(0.0, f64::max);
        if slowest < fair * 1.1 + 0.5 {
            return;
        }
    }
    panic!("{bytes} bytes took {slowest} s, not {fair} s, and no less before");
}

fn gate(engine: &'static str, limits: &str, server: &Server) -> Gate {
    Gate::start(&Config::new(engine).table("listener.l.limits", limits).server(server.address()))
}

/// A server that sends so much and then takes what comes, to its end.
fn source(bytes: u64) -> Server {
    Server::start(move |mut peer: Peer| {
        peer.send_with_fin(bytes);
        peer.receive_to_end();
    })
}

pub(crate) fn download_is_held_to_its_rate_and_nothing_is_lost(engine: &'static str) {
    let server = source(1_536 * KIB);
    let gate = gate(engine, "download = \"512KiB/s\"", &server);
    assert_paced(1_536 * KIB, || [download(&gate, 1_536 * KIB)]);
}

/// How long it takes to get all of it.
fn download(gate: &Gate, bytes: u64) -> Duration {
    let began = Instant::now();
    let mut client = gate.connect();
    client.receive_to_end();
    let took = began.elapsed();
    assert_eq!(client.leave(), got(bytes, End::Fin));
    took
}

pub(crate) fn upload_is_held_to_its_rate_and_the_answer_is_not(engine: &'static str) {
    // The answer comes whole when the question has ended.
    let server = Server::start(|mut peer: Peer| {
        peer.receive_to_end();
        peer.send_with_fin(8 * KIB * KIB);
    });
    let gate = gate(engine, "upload = \"512KiB/s\"", &server);
    assert_paced(1_536 * KIB, || {
        let mut client = gate.connect();
        let began = Instant::now();
        client.send_with_fin(1_536 * KIB);
        client.receive(1);
        let took = began.elapsed();
        client.receive_to_end();
        // At that rate it would take 16 s.
        let answered = began.elapsed() - took;
        assert!(answered < Duration::from_secs(8), "the other direction took {answered:?}");
        assert_eq!(client.leave(), got(8 * KIB * KIB, End::Fin));
        [took]
    });
}

pub(crate) fn both_directions_are_held_each_for_itself(engine: &'static str) {
    let server = Server::echo();
    let gate = gate(engine, "upload = \"512KiB/s\"\ndownload = \"512KiB/s\"", &server);
    assert_paced(1_024 * KIB, || {
        let began = Instant::now();
        gate.echo(1_024 * KIB);
        [began.elapsed()]
    });
}

pub(crate) fn each_connection_has_its_rate_for_itself(engine: &'static str) {
    let server = source(1_024 * KIB);
    let gate = gate(engine, "download = \"512KiB/s\"", &server);
    assert_paced(1_024 * KIB, || {
        thread::scope(|scope| {
            let clients = [(); 4].map(|()| scope.spawn(|| download(&gate, 1_024 * KIB)));
            clients.map(|client| client.join().unwrap())
        })
    });
}

/// Small messages below the rate are not held up, and whoever is at rest costs nothing.
pub(crate) fn below_its_rate_nothing_waits_and_at_rest_nothing_wakes(engine: &'static str) {
    let server = Server::echo();
    let gate = gate(engine, "upload = \"512KiB/s\"\ndownload = \"512KiB/s\"", &server);
    let mut client = gate.connect().echoed();
    // Whoever is held up is so in each of five turns, which the machine need not be.
    let is_slow = |_| {
        let began = Instant::now();
        for _ in 0..20 {
            thread::sleep(Duration::from_millis(5));
            client.send(100);
            client.receive(100);
        }
        began.elapsed() > Duration::from_millis(600)
    };
    assert!(!(0..5).all(is_slow), "20 questions took more than 600 ms, five times");
    assert_rests(gate.pid(), Duration::from_secs(1), 3, "at rest");
}

/// A connection that waits for its rate ends as any other.
pub(crate) fn client_that_resets_while_it_is_held_up_is_passed_on(engine: &'static str) {
    let server = Server::start(|mut peer: Peer| {
        peer.send_until_broken();
    });
    let gate = gate(engine, "download = \"4KiB/s\"", &server);
    let mut client = gate.connect();
    client.receive(100);
    let address = client.address();
    client.abort();
    assert_eq!(gate.access(address).cause, "client_reset");
}
