//! Connections that are over leave nothing behind.

use std::time::Duration;

use crate::support::gate::{Config, Gate};
use crate::support::peer::End;
use crate::support::process::{anonymous_bytes, assert_rests, descriptors, descriptors_settle};
use crate::support::servers::{BlackHole, Refusing, Server};

pub(crate) fn closed_connections_leave_no_descriptor(engine: &'static str) {
    let server = Server::echo();
    let gate = Gate::start(&Config::new(engine).server(server.address()));
    let base = descriptors(gate.pid());
    for _ in 0..200 {
        gate.echo(10);
    }
    assert_eq!(descriptors_settle(gate.pid(), base), base);
}

/// The same for sessions that end in every other way.
pub(crate) fn broken_connections_leave_no_descriptor(engine: &'static str) {
    let (refusing, hole) = (Refusing::new(), BlackHole::new());
    let resetting = Server::start(|mut peer| {
        peer.receive(1);
        peer.abort();
    });
    let config = Config::new(engine).timeouts("connect = \"100ms\"\nidle = \"300ms\"");
    let config = config.server(refusing.address()).server(hole.address()).server(resetting.address());
    let gate = Gate::start(&config.table("defaults.retry", "tries = 2\nsame_server_delay = \"50ms\""));
    let base = descriptors(gate.pid());
    for round in 0..30 {
        let mut client = gate.connect();
        match round % 3 {
            0 => drop(client.abort()),
            1 => drop(client.receive_to_end()),
            _ => {
                // Where no server is reached it may be reset before that: a write that fails takes the reset.
                let _ = client.say(b"x");
                assert_ne!(client.receive_to_end(), End::Open);
            }
        }
    }
    assert_eq!(descriptors_settle(gate.pid(), base), base);
    assert_rests(gate.pid(), Duration::from_secs(1), 5, "with no connection left");
}

/// Without the access log, whose ring of records takes its memory one by one in the first 8,192 connections.
pub(crate) fn memory_is_flat_over_5000_connections(engine: &'static str) {
    let server = Server::echo();
    let config = Config::new(engine).access_log("output = \"off\"");
    let gate = Gate::start(&config.server(server.address()));
    for _ in 0..500 {
        gate.echo(10);
    }
    let before = anonymous_bytes(gate.pid());
    for _ in 0..5_000 {
        gate.echo(10);
    }
    let growth = anonymous_bytes(gate.pid()).saturating_sub(before);
    println!("5000 connections: {growth} bytes more");
    assert!(growth < 128 * 1024, "5000 connections left {growth} bytes behind");
}
