//! When the kernel has no room: for signals that wait to be taken, for another poll, in the rings.

#![cfg(target_os = "linux")]
#![allow(clippy::disallowed_methods, clippy::disallowed_types)] // Tests may read clocks and lock.

mod support;

use std::thread;

use support::gate::{Config, Gate};
use support::peer::Peer;
use support::servers::Server;
use support::service::installed;

/// The smallest rings there are: operations find the queue full, completions overflow theirs, reads find no buffer.
#[test]
fn rings_that_are_always_full_lose_nothing() {
    for multishot in ["true", "false"] {
        let server = Server::echo();
        let rings = format!("entries = 8\nbuffers = 8\nmultishot = {multishot}");
        let config = Config::new("io_uring").table("process.uring", &rings).server(server.address());
        let gate = Gate::start(&config);
        echo_at_once(&gate, 64);
        assert_eq!(gate.stop().len(), 64 * 3);
    }
}

/// So many clients at the same time, each with messages of three sizes.
fn echo_at_once(gate: &Gate, clients: usize) {
    thread::scope(|scope| {
        for _ in 0..clients {
            scope.spawn(|| [1, 100, 1 << 20].map(|bytes| gate.echo(bytes)));
        }
    });
}

/// Not one signal can be queued, so each that is due is lost, and the kernel says so.
#[test]
fn what_lost_signals_would_have_told_is_found_out() {
    if !installed(&["prlimit"]) {
        return;
    }
    let server = Server::echo();
    let config = Config::new("sigio").workers(2).server(server.address());
    let gate = Gate::start_under("prlimit --pid $$ --sigpending=0", &config);
    echo_at_once(&gate, 32);
    assert_eq!(gate.stop().len(), 32 * 3);
}

/// The first context of each thread, the probe's and the worker's, is made; one of twice the size is refused.
const NO_LARGER_CONTEXT: &str = "exec strace -D -f -qq -o /dev/null -e trace=io_setup \
                                 -e inject=io_setup:error=EAGAIN:when=2+ \"$0\" \"$@\"";

#[test]
fn without_a_larger_context_new_clients_are_reset_and_the_others_go_on() {
    if !installed(&["strace"]) {
        return;
    }
    let server = Server::echo();
    let gate = Gate::start_under(NO_LARGER_CONTEXT, &Config::new("aio").server(server.address()));
    // The context has room for 256 sockets: the bell, the listener, and two for each connection.
    let mut clients: Vec<Peer> = (0..127).map(|_| gate.connect().echoed()).collect();
    for _ in 0..3 {
        gate.resets_a_client();
    }
    assert!(
        gate.logs(|line| line.contains("level=error") && line.contains("cannot watch the connection of"))
    );
    for client in &mut clients {
        client.send(10_000);
        client.receive(10_000);
    }
    let left = clients.pop().expect("many").address();
    gate.access(left);
    gate.connect().echoed();
}

/// The same with a client that fits and a server that does not: it is not counted as one that has gone.
#[test]
fn without_a_larger_context_a_server_that_does_not_fit_is_not_reached() {
    if !installed(&["strace"]) {
        return;
    }
    let server = Server::echo();
    let config = Config::new("aio").table("listener.other", "bind = [\"127.0.0.1:0\"]\npool = \"p\"");
    let gate = Gate::start_under(NO_LARGER_CONTEXT, &config.server(server.address()));
    let clients: Vec<Peer> = (0..126).map(|_| gate.connect().echoed()).collect();
    assert_eq!(gate.access(gate.resets_a_client()).cause, "no_resources");
    let left = clients[0].address();
    drop(clients);
    gate.access(left);
    gate.connect().echoed();
}

#[test]
fn a_context_grows_with_its_connections() {
    let server = Server::echo();
    let gate = Gate::start(&Config::new("aio").process("maxconn = 600").server(server.address()));
    let mut clients: Vec<Peer> = (0..600).map(|_| gate.connect().echoed()).collect();
    for client in &mut clients {
        client.send(1_000);
        client.receive(1_000);
    }
}
