//! The same traffic through a build for another system or of another kind. `.ci/cross` makes such builds and says in
//! `TIDEGATE_CROSS_COMMAND` how each is started, such as `qemu-aarch64 -L /usr/aarch64-linux-gnu PROGRAM`, and in
//! `TIDEGATE_CROSS_LACKS` which engine it cannot run. Clients and servers are this process, so Linux's own.
//!
//! Without those variables the program of this build is tried.

#![cfg(target_os = "linux")]
#![allow(clippy::disallowed_methods, clippy::disallowed_types)] // Tests may read clocks and lock.

mod support;

use std::collections::BTreeSet;
use std::net::TcpListener;
use std::thread;
use std::time::{Duration, Instant};

use support::gate::{Config, Gate, refusal};
use support::peer::{End, Peer, got};
use support::process::cpu_ticks_over;
use support::servers::{Refusing, Server, listen};

fn command() -> Option<String> {
    std::env::var("TIDEGATE_CROSS_COMMAND").ok()
}

/// Puts the other build in the place of this one's program.
fn preparation() -> String {
    command().map_or_else(|| "true".to_owned(), |command| format!("exec {command} \"$@\""))
}

fn start(config: &Config) -> Gate {
    Gate::start_under(&preparation(), config)
}

/// Whether it is a build for Windows, under wine.
fn is_windows() -> bool {
    command().is_some_and(|command| command.ends_with(".exe"))
}

/// Ends it by a signal, where there are any, and then it must say that all went well.
fn stop(gate: Gate) {
    if !is_windows() {
        gate.stop();
    }
}

/// A client and a server with the program between them.
fn pair(engine: &'static str) -> (Gate, [Peer; 2]) {
    let listener = listen("127.0.0.1").expect("a port");
    let gate = start(&Config::new(engine).server(listener.local_addr().expect("bound")));
    let pair = pair_through(&gate, &listener);
    (gate, pair)
}

fn pair_through(gate: &Gate, listener: &TcpListener) -> [Peer; 2] {
    let client = gate.connect();
    [client, Peer::server(listener.accept().expect("a connection reaches the server").0)]
}

/// So many clients at once, each with `bytes` bytes there and back, a FIN behind them, and one behind the echo.
fn echo_at_once(gate: &Gate, clients: u64, bytes: u64) {
    let began = Instant::now();
    thread::scope(|scope| {
        for client in 0..clients {
            scope.spawn(move || gate.echo_from(client * 7_919, bytes));
        }
    });
    println!("{clients} connections of {bytes} bytes: {} ms", began.elapsed().as_millis());
}

fn traffic(engine: &'static str) {
    let server = Server::echo();
    let gate = start(&Config::new(engine).workers(2).server(server.address()));
    echo_at_once(&gate, 50, 100_000);
    echo_at_once(&gate, 10, 5_000_000);
    let lines = gate.first_accesses(60);
    let bytes = |of: fn(&support::gate::Access) -> u64| lines.iter().map(of).sum::<u64>();
    assert_eq!([bytes(|line| line.bytes_in), bytes(|line| line.bytes_out)], [55_000_000; 2]);
    assert!(lines.iter().all(|line| line.cause == "done" && line.engine == engine), "{lines:#?}");
    let workers: BTreeSet<u16> = lines.iter().map(|line| line.worker).collect();
    assert_eq!(workers.len(), 2, "one worker has served them all");
    stop(gate);
}

/// A reader that is stuck, with the server's bytes piled up before it, gets all of them once it reads.
fn stuck_reader(engine: &'static str) {
    let (gate, [mut client, mut server]) = pair(engine);
    let bytes = server.send_until_stuck(1 << 30);
    let more = 1_000_000;
    let sender = thread::spawn(move || {
        server.send(more);
        server.finish();
        server.receive_to_end();
        server.leave()
    });
    client.receive_to_end();
    client.finish();
    assert_eq!(client.leave(), got(bytes + more, End::Fin));
    assert_eq!(sender.join().expect("the server's thread"), got(0, End::Fin));
    stop(gate);
}

/// A reset is told from a FIN, and comes after every byte before it, whoever sends it.
fn resets(engine: &'static str) {
    if is_windows() {
        println!(
            "skipped: wine 8 takes the error of a socket for itself, and a read after a reset gives 0 bytes"
        );
        return;
    }
    let listener = listen("127.0.0.1").expect("a port");
    let gate = start(&Config::new(engine).server(listener.local_addr().expect("bound")));
    for by_client in [true, false] {
        let [client, server] = pair_through(&gate, &listener);
        let (mut writer, mut reader) = if by_client { (client, server) } else { (server, client) };
        writer.send(100_000);
        writer.wait_until_delivered();
        reader.receive(100_000);
        writer.abort();
        reader.receive_to_end();
        assert_eq!(reader.leave(), got(100_000, End::Reset), "by the client: {by_client}");
    }
    stop(gate);
}

fn refused_server(engine: &'static str) {
    let (refusing, server) = (Refusing::new(), Server::echo());
    let gate = start(&Config::new(engine).server(refusing.address()).server(server.address()));
    for _ in 0..4 {
        gate.echo(1_000);
    }
    stop(gate);
}

/// A client that cannot be served is reset.
fn no_server(engine: &'static str) {
    let refusing = Refusing::new();
    let gate = start(&Config::new(engine).server(refusing.address()));
    gate.resets_a_client();
    stop(gate);
}

/// Connections at rest, some with one half closed, cost no time.
fn rest(engine: &'static str) {
    let listener = listen("127.0.0.1").expect("a port");
    let gate = start(&Config::new(engine).server(listener.local_addr().expect("bound")));
    let mut pairs: Vec<_> = (0..8).map(|_| pair_through(&gate, &listener)).collect();
    for (number, [client, server]) in pairs.iter_mut().enumerate() {
        client.send(1_000);
        server.receive(1_000);
        if number % 2 == 0 {
            client.finish();
            server.receive_to_end();
        }
    }
    let ticks = cpu_ticks_over(gate.pid(), Duration::from_secs(2));
    assert!(ticks <= 20, "{ticks} ticks of 10 ms in two seconds");
    for [client, server] in &mut pairs {
        server.send(1_000);
        server.finish();
        client.receive_to_end();
    }
    assert!(pairs.into_iter().all(|[client, _]| client.leave() == got(1_000, End::Fin)));
    drop(gate);
}

macro_rules! engines {
    ($($engine:ident)*) => {
        $(mod $engine {
            const ENGINE: &str = stringify!($engine);
            engines!(@ traffic stuck_reader resets refused_server no_server rest);
        })*
    };
    (@ $($row:ident)*) => {
        $(
            #[test]
            fn $row() {
                super::$row(ENGINE);
            }
        )*
    };
}

engines!(mio threads);

/// What cannot run there is replaced by `mio`, or refused with the cause and the cure.
#[test]
fn an_engine_that_is_lacking_is_replaced_or_refused() {
    let Ok(engine) = std::env::var("TIDEGATE_CROSS_LACKS") else { return };
    let engine: &'static str = engine.leak();
    let server = Server::echo();
    let gate = start(&Config::new(engine).with_fallback().server(server.address()));
    gate.echo(100_000);
    let lines = gate.log_lines();
    let told = lines.iter().find(|line| line.contains("stands in for it")).expect("it is told");
    println!("{told}");
    assert!(told.contains(&format!("engine {engine} cannot run here: ")) && told.contains("; help: "));
    assert!(gate.first_accesses(1).iter().all(|line| line.engine == "mio"));
    stop(gate);
    let (status, said) = refusal(&preparation(), &Config::new(engine).server(server.address()));
    println!("{said}");
    assert_eq!(status.expect("it ends").code(), Some(1), "{said}");
    assert!(said.starts_with(&format!("tidegate: engine {engine} cannot run here: ")), "{said}");
    assert!(said.contains("\n  = help: "), "{said}");
}
