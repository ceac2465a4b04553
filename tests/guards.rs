//! Costs that are the same on every machine: instructions, which valgrind counts, and system calls, which strace
//! sees. They are held against the numbers that stand here; whoever changes a cost, for better or worse, changes
//! its number and says why.
//!
//! Instructions are those of optimised code: `cargo test --release --test guards`. Without valgrind or strace a
//! test says that it was skipped, or fails where `TIDEGATE_REQUIRE_TOOLS` is set.

#![cfg(target_os = "linux")]
#![allow(clippy::disallowed_methods, clippy::disallowed_types)] // Tests may read clocks and lock.

mod cost;
mod support;

use std::net::SocketAddr;
use std::num::NonZeroU32;

use cost::{Trace, assert_instructions};
use support::gate::{Config, Gate};
use support::peer::End;
use support::servers::Server;
use tidegate::engine::{Attempt, Pace, Port, drive};
use tidegate::relay::{Dir, End as RelayEnd, Op, Outcome, Relay};
use tidegate::session::{Context, Input, Session};
use tidegate::snapshot::{ListenerId, Snapshot};
use tidegate::table::{Key, Table};
use tidegate::tick::Tick;
use tidegate::worker::Timers;

/// Bytes of a message.
const MESSAGE: u32 = 100;
/// Connections that are there anyway: the cost of one more depends on how many there are.
const OTHERS: usize = 1_000;

/// Memory in the place of two sockets: the source has a message each time when it is asked first.
struct Memory {
    message: [u8; MESSAGE as usize],
    scratch: [u8; MESSAGE as usize],
    taken: [u8; MESSAGE as usize],
    waiting: bool,
}

impl Port for Memory {
    fn attempt(&mut self, _: Dir, op: Op, _: u32) -> Attempt {
        let (from, to) = match op {
            Op::Fill if std::mem::take(&mut self.waiting) => (&self.message, &mut self.scratch),
            Op::Fill => return Attempt::Parked,
            Op::Drain => (&self.scratch, &mut self.taken),
            Op::Finish => return Attempt::Done(Outcome::Finished),
        };
        std::hint::black_box(to).copy_from_slice(std::hint::black_box(from));
        Attempt::Done(Outcome::Moved(NonZeroU32::new(MESSAGE).expect("not 0")))
    }
}

/// A message that arrives while the connection rests: read, written, and at rest again.
#[test]
fn instructions_of_a_relayed_message() {
    assert_instructions("instructions_of_a_relayed_message", 569, |rounds| {
        let mut relay = Relay::new(256 * 1024);
        let mut port = Memory {
            message: [7; MESSAGE as usize],
            scratch: [0; MESSAGE as usize],
            taken: [0; MESSAGE as usize],
            waiting: false,
        };
        assert_eq!(drive(&mut relay, &mut port, 8), Pace::Quiet);
        for _ in 0..rounds {
            port.waiting = true;
            relay.resume(Dir::Up, Op::Fill);
            assert_eq!(drive(&mut relay, &mut port, 8), Pace::Quiet);
        }
        assert_eq!(relay.flow(Dir::Up).moved(), rounds * u64::from(MESSAGE));
    });
}

/// Accepted, dialed at the first try, relayed, ended, and what is told of it.
#[test]
fn instructions_of_a_session() {
    assert_instructions("instructions_of_a_session", 1362, |rounds| {
        let text = "config_version = 1\n[listener.l]\nbind = [\"127.0.0.1:0\"]\npool = \"p\"\n[pool.p]\n\
                    balance = \"round_robin\"\n\
                    server = [{ name = \"a\", addr = \"127.0.0.1:1\" }, { name = \"b\", addr = \"127.0.0.1:2\" }]\n";
        let snapshot = Snapshot::new(&tidegate::config::parse(text, "guard").expect("it is right"), 10);
        let client = Some(SocketAddr::from(([127, 0, 0, 1], 9)));
        for round in 0..rounds {
            let cx = Context { now: Tick(round), snapshot: &snapshot };
            let (mut session, dial) = Session::new(round, ListenerId(0), client, cx);
            let relay = session.handle(Input::Dialed(Ok(())), cx);
            let ended = Input::Ended { end: RelayEnd::Clean, moved: [1, 2], unsent: false };
            let close = session.handle(ended, cx);
            let record = session.record(0, Tick(round + 1));
            assert_eq!(record.tries, 1);
            std::hint::black_box((dial, relay, close, record));
        }
    });
}

/// In, found once for each of four events, and out.
#[test]
fn instructions_of_a_slot() {
    assert_instructions("instructions_of_a_slot", 171, |rounds| {
        let mut table = Table::new(2 * OTHERS);
        for other in 0..OTHERS as u64 {
            let key = table.vacant().expect("room");
            table.insert(key, other);
        }
        for round in 0..rounds {
            let key = table.vacant().expect("room");
            table.insert(key, round);
            for _ in 0..4 {
                assert_eq!(table.get_mut(std::hint::black_box(key)), Some(&mut { round }));
            }
            assert_eq!(table.remove(key), Some(round));
        }
    });
}

/// Set, asked for by each turn of the loop, and taken back, among others.
#[test]
fn instructions_of_a_timer() {
    assert_instructions("instructions_of_a_timer", 640, |rounds| {
        let mut timers = Timers::default();
        let key = |number: u64| Key::reserved(u32::try_from(number).expect("few"));
        for other in 0..OTHERS as u64 {
            timers.add(Tick(10 * other), key(other));
        }
        for round in 0..rounds {
            let at = Tick(round * 7_919 % (10 * OTHERS as u64));
            timers.add(at, key(OTHERS as u64 + round));
            assert_eq!(timers.next(), Some(Tick(0)));
            timers.remove(at, key(OTHERS as u64 + round));
        }
    });
}

/// Requests and replies on connections that are open: four calls, a share of a wait, and nothing else.
#[test]
fn calls_of_a_request() {
    const CLIENTS: usize = 64;
    const REQUESTS: usize = 50;
    let server = Server::echo();
    let Some((gate, trace)) = traced(&server) else { return };
    let mut clients: Vec<_> = (0..CLIENTS).map(|_| gate.connect()).collect();
    for client in &mut clients {
        client.expect_echo();
        client.send(u64::from(MESSAGE));
        client.receive(u64::from(MESSAGE));
    }
    let calls = trace.during(|| {
        std::thread::scope(|scope| {
            for client in &mut clients {
                scope.spawn(|| {
                    for _ in 0..REQUESTS {
                        client.send(u64::from(MESSAGE));
                        client.receive(u64::from(MESSAGE));
                    }
                });
            }
        });
    });
    let requests = (CLIENTS * REQUESTS) as f64;
    let each = calls.len() as f64 / requests;
    println!("{each:.2} system calls for a request and its reply: {}", calls.summary(requests));
    assert!(each <= 4.2, "{}", calls.summary(requests));
    assert_eq!(calls.count("epoll_ctl"), 0, "sockets are registered once for life");
    assert_eq!(calls.failed_with("EAGAIN"), 0, "no read or write is tried in vain");
}

/// With `splice = "auto"`, bulk goes through a pipe and small messages do not.
#[test]
fn calls_of_spliced_bulk() {
    const MIBS: u64 = 64;
    let server = Server::echo();
    let Some(trace) = Trace::new() else { return };
    let config = Config::new("mio").process("splice = \"auto\"").server(server.address());
    let gate = Gate::start_under(&trace.preparation(), &config);
    let mut client = gate.connect();
    client.expect_echo();
    let calls = trace.during(|| {
        for _ in 0..1_000 {
            client.send(u64::from(MESSAGE));
            client.receive(u64::from(MESSAGE));
        }
    });
    assert_eq!(calls.count("splice"), 0, "{}", calls.summary(1_000.0));
    let calls = trace.during(|| {
        client.exchange(MIBS << 20, 64 * 1024);
    });
    let mibs = 2.0 * MIBS as f64;
    println!("system calls for each MiB: {}", calls.summary(mibs));
    assert!(calls.count("splice") as u64 >= MIBS, "{}", calls.summary(mibs));
    let copies = calls.count("recvfrom") + calls.count("sendto");
    assert!(copies < calls.count("splice") / 2, "{}", calls.summary(mibs));
    assert!(calls.count("pipe2") <= 2, "{}", calls.summary(mibs));
}

/// Connections one after the other, each with a request and a reply.
#[test]
fn calls_of_a_connection() {
    const CONNECTIONS: usize = 200;
    let server = Server::echo();
    let Some((gate, trace)) = traced(&server) else { return };
    let connection = || {
        let mut client = gate.connect();
        client.expect_echo();
        client.send(u64::from(MESSAGE));
        client.receive(u64::from(MESSAGE));
        client.finish();
        assert_eq!(client.receive_to_end(), End::Fin);
    };
    connection();
    let calls = trace.during(|| (0..CONNECTIONS).for_each(|_| connection()));
    let each = |calls: usize| calls as f64 / CONNECTIONS as f64;
    let summary = calls.summary(CONNECTIONS as f64);
    // How often it waits, how often a first read comes before the first byte, and whether the thread that writes
    // the access log has to be woken, is a matter of time.
    let idle = calls.count("epoll_wait") + calls.failed_with("EAGAIN") + calls.count("futex");
    let work = each(calls.len() - idle);
    println!("{work:.2} system calls for a connection and {:.2} for waiting: {summary}", each(idle));
    // One of them, getsockname, finds out whether a dial to a local port met itself; two, getsockopt, ask about the
    // network on both sides at the end.
    assert!((work - 25.0).abs() < 0.1, "25 calls are committed, not {work:.2}: {summary}");
    assert!(each(idle) <= 8.5, "{summary}");
    assert_eq!(calls.count("epoll_ctl"), 2 * CONNECTIONS, "one registration for each socket");
}

/// The program under strace, with one worker; `None` where there is no strace.
fn traced(server: &Server) -> Option<(Gate, Trace)> {
    let trace = Trace::new()?;
    let gate = Gate::start_under(&trace.preparation(), &Config::new("mio").server(server.address()));
    Some((gate, trace))
}
