//! Two listeners with an engine each in one process: each has its own workers, and what holds for the process holds
//! for both.

use std::collections::BTreeSet;
use std::net::{SocketAddr, TcpStream};
use std::thread;
use std::time::Duration;

use rustix::process::Signal;

use crate::support::PATIENCE;
use crate::support::gate::{Config, Gate};
use crate::support::peer::{End, Peer, got};
use crate::support::servers::Server;

const MOMENT: Duration = Duration::from_millis(300);

/// The program with the listener `l` on `engine` and the listener `m` on another one.
struct Two {
    gate: Gate,
    other: &'static str,
    addresses: [SocketAddr; 2],
    _server: Server,
}

impl Two {
    fn start(engine: &'static str, config: impl FnOnce(Config) -> Config) -> Self {
        let other = if engine == "mio" { "poll" } else { "mio" };
        let server = Server::echo();
        let second = format!("bind = [\"127.0.0.1:0\"]\npool = \"p\"\nengine = \"{other}\"");
        let gate =
            Gate::start(&config(Config::new(engine)).table("listener.m", &second).server(server.address()));
        let addresses = [gate.address_of("l"), gate.address_of("m")];
        Self { gate, other, addresses, _server: server }
    }

    /// A client of the listener, which has sent a byte and expects it back.
    fn knock(&self, listener: usize) -> Peer {
        let stream = TcpStream::connect_timeout(&self.addresses[listener], PATIENCE).expect("it listens");
        let mut client = Peer::client(stream);
        client.expect_echo();
        client.send(1);
        client
    }

    fn served(&self, listener: usize) -> Peer {
        let mut client = self.knock(listener);
        client.receive(1);
        client
    }
}

pub(crate) fn two_engines_carry_64_clients_each_on_two_workers_each(engine: &'static str) {
    let two = Two::start(engine, |config| config.workers(2));
    let sets = format!("workers 2 {engine}, 2 {}, maxconn", two.other);
    assert!(two.gate.logs(|line| line.contains(&sets)), "the start tells of no {sets:?}");
    thread::scope(|scope| {
        for number in 0..128 {
            let two = &two;
            scope.spawn(move || {
                let mut client = two.served(number % 2);
                client.exchange(64 * 1024, 16 * 1024);
                assert_eq!(client.leave(), got(64 * 1024 + 1, End::Fin));
            });
        }
    });
    let engines = [engine, two.other];
    let accesses = two.gate.stop();
    assert_eq!(accesses.len(), 128);
    let ids: BTreeSet<&str> = accesses.iter().map(|access| access.id.as_str()).collect();
    assert_eq!(ids.len(), 128, "two connections have the same id");
    for (listener, (name, workers)) in [("l", [0, 1]), ("m", [2, 3])].into_iter().enumerate() {
        let own: Vec<_> = accesses.iter().filter(|access| access.listener == name).collect();
        assert_eq!(own.len(), 64);
        assert!(own.iter().all(|access| access.engine == engines[listener]), "{own:#?}");
        let used: BTreeSet<u16> = own.iter().map(|access| access.worker).collect();
        assert_eq!(used, BTreeSet::from(workers), "the workers of {name}");
    }
}

/// Room that one engine's connection leaves is given to a client of the other.
pub(crate) fn two_engines_share_the_process_maxconn(engine: &'static str) {
    let two = Two::start(engine, |config| config.process("maxconn = 2"));
    for [full, waits] in [[0, 1], [1, 0]] {
        let first = two.served(full);
        let second = two.served(full);
        let mut waiting = [two.knock(waits), two.knock(waits)];
        assert!(waiting.iter_mut().all(|client| client.hears_nothing_for(MOMENT)), "served over the limit");
        drop(first);
        waiting[0].receive(1);
        assert!(waiting[1].hears_nothing_for(MOMENT), "served over the limit");
        drop(second);
        waiting[1].receive(1);
        for client in waiting {
            let address = client.address();
            drop(client);
            two.gate.access(address);
        }
    }
}

pub(crate) fn two_engines_drain_together(engine: &'static str) {
    let mut two = Two::start(engine, |config| config.workers(2));
    let mut sessions = [two.served(0), two.served(1)];
    two.gate.signal(Signal::TERM);
    assert!(two.gate.logs(|line| line.contains("2 may finish")));
    for address in two.addresses {
        let refuses = || TcpStream::connect_timeout(&address, PATIENCE).is_err();
        let soon = (0..200).any(|_| {
            thread::sleep(Duration::from_millis(10));
            refuses()
        });
        assert!(soon, "{address} takes new clients in a drain");
    }
    for session in &mut sessions {
        session.send(10_000);
        session.receive(10_000);
    }
    for mut session in sessions {
        thread::sleep(MOMENT);
        assert!(two.gate.runs(), "it ended although a session is open");
        session.finish();
        assert_eq!(session.receive_to_end(), End::Fin);
        assert_eq!(session.leave(), got(10_001, End::Fin));
    }
    let status = two.gate.wait_exit(PATIENCE).expect("it ends");
    assert_eq!(status.code(), Some(0));
}

pub(crate) fn second_signal_stops_two_engines_at_once(engine: &'static str) {
    let mut two = Two::start(engine, |config| config);
    let sessions = [two.served(0), two.served(1)];
    two.gate.signal(Signal::TERM);
    assert!(two.gate.logs(|line| line.contains("2 may finish")));
    two.gate.signal(Signal::TERM);
    for mut session in sessions {
        assert_eq!(session.receive_to_end(), End::Reset);
    }
    let status = two.gate.wait_exit(PATIENCE).expect("it ends");
    assert_eq!(status.code(), Some(0));
}
