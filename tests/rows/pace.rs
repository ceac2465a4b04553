//! `upload` and `download`: bytes a second that each connection may take, in each direction for itself.

use std::thread;
use std::time::{Duration, Instant};

use crate::support::gate::{Config, Gate};
use crate::support::peer::{End, Peer, got};
use crate::support::process::cpu_ticks_over;
use crate::support::servers::Server;

const KIB: u64 = 1024;
/// What is written as a limit.
const RATE: u64 = 512 * KIB;

/// It holds within a tenth, beside what a bucket may give at once; a busy machine may be slower.
fn assert_took(bytes: u64, took: Duration) {
    let fair = bytes as f64 / RATE as f64;
    let took = took.as_secs_f64();
    assert!(
        (fair * 0.9 - 0.1..fair * 1.1 + 0.5).contains(&took),
        "{bytes} bytes took {took} s, not {fair} s"
    );
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
    let began = Instant::now();
    let mut client = gate.connect();
    client.receive_to_end();
    assert_took(1_536 * KIB, began.elapsed());
    assert_eq!(client.leave(), got(1_536 * KIB, End::Fin));
}

pub(crate) fn upload_is_held_to_its_rate_and_the_answer_is_not(engine: &'static str) {
    // The answer comes whole when the question has ended.
    let server = Server::start(|mut peer: Peer| {
        peer.receive_to_end();
        peer.send_with_fin(8 * KIB * KIB);
    });
    let gate = gate(engine, "upload = \"512KiB/s\"", &server);
    let mut client = gate.connect();
    let began = Instant::now();
    client.send_with_fin(1_536 * KIB);
    client.receive(1);
    assert_took(1_536 * KIB, began.elapsed());
    let answered = Instant::now();
    client.receive_to_end();
    assert!(answered.elapsed() < Duration::from_secs(4), "the other direction took {:?}", answered.elapsed());
    assert_eq!(client.leave(), got(8 * KIB * KIB, End::Fin));
}

pub(crate) fn both_directions_are_held_each_for_itself(engine: &'static str) {
    let server = Server::echo();
    let gate = gate(engine, "upload = \"512KiB/s\"\ndownload = \"512KiB/s\"", &server);
    let began = Instant::now();
    gate.echo(1_024 * KIB);
    assert_took(1_024 * KIB, began.elapsed());
}

pub(crate) fn each_connection_has_its_rate_for_itself(engine: &'static str) {
    let server = source(1_024 * KIB);
    let gate = gate(engine, "download = \"512KiB/s\"", &server);
    thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                let began = Instant::now();
                let mut client = gate.connect();
                client.receive_to_end();
                assert_took(1_024 * KIB, began.elapsed());
                assert_eq!(client.leave(), got(1_024 * KIB, End::Fin));
            });
        }
    });
}

/// Small messages below the rate are not held up, and whoever is at rest costs nothing.
pub(crate) fn below_its_rate_nothing_waits_and_at_rest_nothing_wakes(engine: &'static str) {
    let server = Server::echo();
    let gate = gate(engine, "upload = \"512KiB/s\"\ndownload = \"512KiB/s\"", &server);
    let mut client = gate.connect().echoed();
    let began = Instant::now();
    for _ in 0..20 {
        thread::sleep(Duration::from_millis(5));
        client.send(100);
        client.receive(100);
    }
    assert!(began.elapsed() < Duration::from_millis(600), "20 questions took {:?}", began.elapsed());
    let ticks = cpu_ticks_over(gate.pid(), Duration::from_secs(1));
    assert!(ticks <= 3, "{ticks} clock ticks of CPU at rest");
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
