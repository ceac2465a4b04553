//! A drain in full: who leaves when, and that nobody is cut short before `hard_stop`.

use std::io::ErrorKind;
use std::net::TcpStream;
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::Signal;

use crate::support::PATIENCE;
use crate::support::gate::{Config, Gate};
use crate::support::peer::{End, Peer, got};
use crate::support::servers::Server;
use crate::support::stage::Stage;

pub(crate) fn grace_still_accepts(engine: &'static str) {
    let server = Server::echo();
    let mut gate = start(Config::new(engine), "grace = \"2s\"", &server);
    let mut client = gate.connect().echoed();
    let began = Instant::now();
    gate.signal(Signal::TERM);
    assert!(gate.logs(|line| line.contains("stopping")));
    for _ in 0..3 {
        gate.echo(100);
        thread::sleep(Duration::from_millis(50));
    }
    let refused_after = loop {
        match TcpStream::connect_timeout(&gate.address(), PATIENCE) {
            Ok(_) => thread::sleep(Duration::from_millis(10)),
            // A connect that meets the close of the listener is reset.
            Err(error) if error.kind() == ErrorKind::ConnectionReset => {}
            Err(error) => break (error.kind(), began.elapsed()),
        }
        assert!(began.elapsed() < PATIENCE, "it still takes connections");
    };
    assert_eq!(refused_after.0, ErrorKind::ConnectionRefused);
    assert!(refused_after.1 >= Duration::from_secs(2), "refused after {:?}", refused_after.1);
    client.send(1_000);
    client.receive(1_000);
    drop(client);
    assert_ends_well(&mut gate);
}

pub(crate) fn idle_connections_leave_evenly_over_the_spread(engine: &'static str) {
    let server = Server::echo();
    let mut gate = start(Config::new(engine), "spread = \"2s\"", &server);
    let mut clients: Vec<Peer> = (0..10).map(|_| gate.connect().echoed()).collect();
    let began = Instant::now();
    gate.signal(Signal::TERM);
    let mut times = ends(&mut clients, began);
    times.sort_unstable();
    for (place, time) in (0..).zip(&times) {
        let share = Duration::from_millis(200) * place;
        assert!(*time >= share, "connection {place} left after {time:?}, before its share of the time");
        assert!(*time <= share + Duration::from_secs(5), "connection {place} left only after {time:?}");
    }
    assert_ends_well(&mut gate);
    for client in clients {
        assert_eq!(gate.access(client.address()).cause, "drain");
        assert_eq!(client.leave(), got(1, End::Fin));
    }
}

pub(crate) fn idle_connections_leave_before_busy_ones(engine: &'static str) {
    assert_eq!(who_leaves(engine, "true"), ["idle"; 5].into_iter().chain(["busy"; 5]).collect::<Vec<_>>());
}

pub(crate) fn without_idle_first_they_leave_in_any_order(engine: &'static str) {
    let order = who_leaves(engine, "false");
    assert_eq!(order[0], "busy", "{order:?}");
}

/// 5 connections that are busy until the signal, and 5 that connected after them and are idle: in which order they
/// leave.
fn who_leaves(engine: &'static str, idle_first: &str) -> Vec<&'static str> {
    let server = Server::echo();
    let mut gate =
        start(Config::new(engine), &format!("idle_first = {idle_first}\nspread = \"2s\""), &server);
    let mut busy: Vec<Peer> = (0..5).map(|_| gate.connect().echoed()).collect();
    let mut idle: Vec<Peer> = (0..5).map(|_| gate.connect().echoed()).collect();
    let began = Instant::now();
    while began.elapsed() < Duration::from_millis(500) {
        for client in &mut busy {
            client.send(1);
            client.receive(1);
        }
        thread::sleep(Duration::from_millis(5));
    }
    gate.signal(Signal::TERM);
    ends(&mut busy, began);
    ends(&mut idle, began);
    assert_ends_well(&mut gate);
    let is_idle = |address: &str| idle.iter().any(|client| client.address().to_string() == address);
    gate.first_accesses(10)
        .iter()
        .map(|access| if is_idle(&access.client) { "idle" } else { "busy" })
        .collect()
}

pub(crate) fn without_spread_they_leave_at_once(engine: &'static str) {
    let server = Server::echo();
    let mut gate = start(Config::new(engine), "spread = \"0s\"", &server);
    let mut clients: Vec<Peer> = (0..10).map(|_| gate.connect().echoed()).collect();
    let began = Instant::now();
    gate.signal(Signal::TERM);
    let times = ends(&mut clients, began);
    // The last of ten leaves after 27 s with the spread that is the default.
    assert!(times.iter().all(|time| *time < Duration::from_secs(5)), "{times:?}");
    assert_ends_well(&mut gate);
}

pub(crate) fn answer_that_takes_long_is_not_cut(engine: &'static str) {
    let config = Config::new(engine).table("process.drain", "spread = \"0s\"");
    let (stage, mut gate) = Stage::through(config);
    let [mut client, mut server] = stage.pair();
    client.send(100);
    server.receive(100);
    gate.signal(Signal::TERM);
    thread::sleep(Duration::from_secs(1));
    server.send(300_000);
    assert_eq!(client.receive_to_end(), End::Fin);
    assert_eq!(server.receive_to_end(), End::Fin);
    assert_eq!(client.leave(), got(300_000, End::Fin));
    assert_ends_well(&mut gate);
    assert_eq!(gate.access(stage.client()).cause, "drain");
}

pub(crate) fn busy_for_ever_is_reset_at_hard_stop(engine: &'static str) {
    let server = sink();
    let mut gate = start(Config::new(engine), "spread = \"0s\"\nhard_stop = \"1500ms\"", &server);
    let mut client = gate.connect();
    client.send(1);
    let began = Instant::now();
    gate.signal(Signal::TERM);
    // No answer ever comes, and a question is waited for 2 s: a busy machine makes no quiet moment.
    client.send_until_broken();
    let took = began.elapsed();
    assert!(took >= Duration::from_millis(1_500), "reset after {took:?}, before its time");
    assert_ends_well(&mut gate);
    assert_eq!(gate.access(client.address()).cause, "drain");
}

pub(crate) fn second_signal_ends_the_grace(engine: &'static str) {
    let server = Server::echo();
    let mut gate = start(Config::new(engine), "grace = \"60s\"", &server);
    let mut client = gate.connect().echoed();
    gate.signal(Signal::TERM);
    assert!(gate.logs(|line| line.contains("stopping")));
    gate.echo(100);
    gate.signal(Signal::TERM);
    assert_eq!(client.receive_to_end(), End::Reset);
    assert_ends_well(&mut gate);
    assert_eq!(gate.access(client.address()).cause, "drain");
}

pub(crate) fn progress_is_told(engine: &'static str) {
    let server = Server::echo();
    let mut gate = start(Config::new(engine), "spread = \"1h\"\nhard_stop = \"off\"", &server);
    let clients = [gate.connect().echoed(), gate.connect().echoed()];
    gate.signal(Signal::TERM);
    assert!(gate.logs(|line| line.contains("draining: 2 connections left")), "nothing was told");
    drop(clients);
    assert_ends_well(&mut gate);
}

fn start(config: Config, drain: &str, server: &Server) -> Gate {
    Gate::start(&config.table("process.drain", drain).server(server.address()))
}

/// A server that takes everything and says nothing.
fn sink() -> Server {
    Server::start(|mut peer| {
        peer.receive_to_end();
    })
}

/// Waits for the FIN of each; when they came, counted from `began`.
fn ends(clients: &mut [Peer], began: Instant) -> Vec<Duration> {
    thread::scope(|scope| {
        let wait = |client: &mut Peer| {
            assert_eq!(client.receive_to_end(), End::Fin);
            began.elapsed()
        };
        let waits: Vec<_> = clients.iter_mut().map(|client| scope.spawn(move || wait(client))).collect();
        waits.into_iter().map(|wait| wait.join().expect("it ends with a FIN")).collect()
    })
}

fn assert_ends_well(gate: &mut Gate) {
    let status = gate.wait_exit(PATIENCE).expect("it ends");
    assert_eq!(status.code(), Some(0));
}
