//! At a limit new clients wait or are turned away, live connections go on, and nothing spins.

use std::thread;
use std::time::{Duration, Instant};

use crate::support::PATIENCE;
use crate::support::gate::{Config, Gate, refusal};
use crate::support::peer::Peer;
use crate::support::process::{assert_rests, cpu_ticks_over, lowest_free_descriptor, soft_descriptor_limit};
use crate::support::servers::Server;

const MOMENT: Duration = Duration::from_millis(300);

pub(crate) fn client_over_maxconn_waits(engine: &'static str) {
    over_maxconn_waits(|config| config.listener("maxconn = 2").listener("at_maxconn = \"wait\""), engine);
}

pub(crate) fn client_over_the_process_maxconn_waits(engine: &'static str) {
    over_maxconn_waits(|config| config.process("maxconn = 2"), engine);
}

fn over_maxconn_waits(limit: impl Fn(Config) -> Config, engine: &'static str) {
    let server = Server::echo();
    let gate = Gate::start(&limit(Config::new(engine)).server(server.address()));
    let first = gate.connect().echoed();
    let mut second = gate.connect().echoed();
    let mut waiting = [knock(&gate), knock(&gate)];
    assert!(waiting.iter_mut().all(|client| client.hears_nothing_for(MOMENT)), "served over the limit");
    assert_rests(gate.pid(), Duration::from_secs(1), 5, "while clients wait");
    assert_eq!(server.accepted(), 2);

    drop(first);
    waiting[0].receive(1);
    assert!(waiting[1].hears_nothing_for(MOMENT), "served over the limit");
    second.send(1);
    second.receive(1);
    drop(second);
    waiting[1].receive(1);
}

pub(crate) fn client_over_maxconn_is_rejected(engine: &'static str) {
    let server = Server::echo();
    let config = Config::new(engine).listener("maxconn = 2").listener("at_maxconn = \"reject\"");
    let gate = Gate::start(&config.server(server.address()));
    let first = gate.connect().echoed();
    let mut second = gate.connect().echoed();
    let access = gate.access(gate.resets_a_client());
    assert_eq!((access.cause.as_str(), access.tries, access.server), ("maxconn", 0, None));
    second.send(1);
    second.receive(1);
    assert_eq!(server.accepted(), 2);

    let left = first.address();
    drop(first);
    gate.access(left);
    gate.connect().echoed();
}

/// A client that has sent a byte and expects it back.
fn knock(gate: &Gate) -> Peer {
    let mut client = gate.connect();
    client.expect_echo();
    client.send(1);
    client
}

pub(crate) fn out_of_descriptors(engine: &'static str) {
    let server = Server::echo();
    let gate = Gate::start(&Config::new(engine).process("maxconn = 200").server(server.address()));
    let mut living = gate.connect().echoed();
    let before = gate.limit_descriptors(lowest_free_descriptor(gate.pid()));
    let mut waiting: Vec<Peer> = (0..20).map(|_| knock(&gate)).collect();
    let unserved: usize =
        waiting.iter_mut().map(|client| usize::from(client.hears_nothing_for(MOMENT / 10))).sum();
    assert!(unserved >= 10, "only {unserved} of 20 clients wait: descriptors are left");

    let lines = gate.log_lines().len();
    let ticks = cpu_ticks_over(gate.pid(), Duration::from_secs(2));
    let new_lines = gate.log_lines().split_off(lines);
    assert!(ticks <= 10, "{ticks} clock ticks of CPU in 2 s without descriptors");
    assert!(new_lines.len() <= 5, "too much to say in 2 s: {new_lines:#?}");
    assert!(!gate.log_lines().is_empty());
    living.send(100_000);
    living.receive(100_000);

    gate.limit_descriptors(before);
    let freed = Instant::now();
    gate.connect().echoed();
    for client in &mut waiting {
        client.send(1);
        client.receive(1);
    }
    assert!(freed.elapsed() < PATIENCE, "served only after {:?}", freed.elapsed());
    living.send(100_000);
    living.receive(100_000);
}

/// The limit stays; a session that ends lets a client in.
pub(crate) fn session_that_ends_gives_its_descriptors_to_a_client(engine: &'static str) {
    let server = Server::echo();
    let gate = Gate::start(&Config::new(engine).process("maxconn = 200").server(server.address()));
    let mut sessions: Vec<Peer> = (0..20).map(|_| gate.connect().echoed()).collect();
    gate.limit_descriptors(lowest_free_descriptor(gate.pid()));
    let mut waiting: Vec<Peer> = (0..20).map(|_| knock(&gate)).collect();
    thread::sleep(MOMENT);
    sessions.clear();
    let freed = Instant::now();
    for client in &mut waiting {
        client.receive(1);
    }
    assert!(freed.elapsed() < PATIENCE, "served only after {:?}", freed.elapsed());
}

pub(crate) fn soft_limit_is_raised_for_maxconn(engine: &'static str) {
    let server = Server::echo();
    let config = Config::new(engine).process("maxconn = 1000").server(server.address());
    let gate = Gate::start_under("ulimit -S -n 256", &config);
    let limit = soft_descriptor_limit(gate.pid());
    assert!(limit >= 2 * 1_000, "{limit} descriptors cannot carry 1000 connections");
    gate.echo(10);
}

pub(crate) fn maxconn_that_cannot_fit_is_refused(engine: &'static str) {
    let server = Server::echo();
    let config = |maxconn| Config::new(engine).process(maxconn).server(server.address());
    let (status, said) = refusal("ulimit -n 256", &config("maxconn = 5000"));
    assert_eq!(status.expect("it ends").code(), Some(1), "{said}");
    assert!(said.contains("5000") && said.contains("256"), "not both numbers in: {said}");
    assert!(!said.contains("listening on"), "{said}");
    Gate::start_under("ulimit -n 256", &config("maxconn = 40")).echo(10);
}
