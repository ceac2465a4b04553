//! Signals: a stop lets sessions finish, up to its limit; the others end nothing.

use std::io::ErrorKind;
use std::net::TcpStream;
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::Signal;

use crate::support::PATIENCE;
use crate::support::gate::{Config, Gate};
use crate::support::peer::{End, Peer, got};
use crate::support::servers::Server;

pub(crate) fn term_lets_sessions_finish(engine: &'static str) {
    lets_sessions_finish(engine, Signal::TERM);
}

pub(crate) fn int_lets_sessions_finish(engine: &'static str) {
    lets_sessions_finish(engine, Signal::INT);
}

pub(crate) fn quit_lets_sessions_finish(engine: &'static str) {
    lets_sessions_finish(engine, Signal::QUIT);
}

fn lets_sessions_finish(engine: &'static str, signal: Signal) {
    let (_server, mut gate, mut client) = with_a_session(Config::new(engine));
    gate.signal(signal);
    assert_refuses_new_clients(&gate);
    for _ in 0..5 {
        client.send(10_000);
        client.receive(10_000);
        thread::sleep(Duration::from_millis(50));
    }
    assert!(gate.runs(), "it ended although a session is open");
    let address = client.address();
    client.finish();
    assert_eq!(client.receive_to_end(), End::Fin);
    assert_eq!(client.leave(), got(50_001, End::Fin));
    assert_ends_well(&mut gate, PATIENCE);
    assert_eq!(gate.access(address).cause, "done");
}

/// What its sockets had accepted when the signal came has a right to be served.
pub(crate) fn clients_in_the_backlog_are_served_at_term(engine: &'static str) {
    let (_server, mut gate, client) = with_a_session(Config::new(engine).workers(2));
    gate.signal(Signal::STOP);
    let mut clients: Vec<Peer> = (0..10).map(|_| gate.connect()).collect();
    // Whoever had not asked yet might be asked to leave before.
    for client in &mut clients {
        client.expect_echo();
        client.send_with_fin(1_000);
    }
    gate.signal(Signal::TERM);
    gate.signal(Signal::CONT);
    for client in &mut clients {
        client.receive_to_end();
    }
    for client in clients {
        assert_eq!(client.leave(), got(1_000, End::Fin));
    }
    drop(client);
    assert_ends_well(&mut gate, PATIENCE);
}

pub(crate) fn hard_stop_resets_what_is_left(engine: &'static str) {
    let config = Config::new(engine).table("process.drain", "hard_stop = \"500ms\"");
    let (_server, mut gate, mut client) = with_a_session(config);
    let began = Instant::now();
    gate.signal(Signal::TERM);
    assert_eq!(client.receive_to_end(), End::Reset);
    let took = began.elapsed();
    assert!(took >= Duration::from_millis(500), "reset after {took:?}, before its time");
    assert!(took < PATIENCE, "reset only after {took:?}");
    assert_ends_well(&mut gate, PATIENCE);
    assert_eq!(gate.access(client.address()).cause, "drain");
}

pub(crate) fn second_signal_stops_at_once(engine: &'static str) {
    let (_server, mut gate, mut client) = with_a_session(Config::new(engine));
    gate.signal(Signal::TERM);
    assert_refuses_new_clients(&gate);
    assert!(gate.runs(), "it ended although a session is open");
    gate.signal(Signal::TERM);
    assert_ends_well(&mut gate, PATIENCE);
    assert_eq!(client.receive_to_end(), End::Reset);
    assert_eq!(gate.access(client.address()).cause, "drain");
}

pub(crate) fn other_signals_give_one_line_each(engine: &'static str) {
    let (_server, mut gate, mut client) = with_a_session(Config::new(engine));
    for (signal, name) in [(Signal::HUP, "HUP"), (Signal::USR1, "USR1"), (Signal::USR2, "USR2")] {
        let lines = gate.log_lines().len();
        gate.signal(signal);
        assert!(gate.logs(|line| line.contains(name)), "no line about {name}");
        thread::sleep(Duration::from_millis(200));
        let new_lines = gate.log_lines().split_off(lines);
        assert_eq!(new_lines.len(), 1, "{new_lines:#?}");
        assert!(gate.runs(), "{name} ended it");
        client.send(10);
        client.receive(10);
    }
    gate.echo(10);
}

/// An echo server, the program, and a client that has got a byte back.
fn with_a_session(config: Config) -> (Server, Gate, Peer) {
    let server = Server::echo();
    let gate = Gate::start(&config.server(server.address()));
    let mut client = gate.connect();
    client.expect_echo();
    client.send(1);
    client.receive(1);
    (server, gate, client)
}

fn assert_refuses_new_clients(gate: &Gate) {
    let began = Instant::now();
    loop {
        let refused = TcpStream::connect_timeout(&gate.address(), PATIENCE)
            .is_err_and(|error| error.kind() == ErrorKind::ConnectionRefused);
        if refused {
            return;
        }
        assert!(began.elapsed() < PATIENCE, "it still takes connections");
        thread::sleep(Duration::from_millis(20));
    }
}

fn assert_ends_well(gate: &mut Gate, within: Duration) {
    let status = gate.wait_exit(within).expect("it ends");
    assert_eq!(status.code(), Some(0));
}
