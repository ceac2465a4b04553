//! Of two servers drawn at random the one with fewer connections: every server ends with its share. Or the one that is reached
//! and answers sooner: it has nearly all.

use std::io::Read as _;
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use socket2::SockRef;

use crate::support::PATIENCE;
use crate::support::gate::{Config, Gate};
use crate::support::peer::{End, Peer};
use crate::support::servers::{Refusing, Server};

pub(crate) fn p2c_keeps_servers_even(engine: &'static str) {
    let servers = numbered(3);
    let gate = Gate::start(&over(Config::new(engine), &servers));
    let held = Held::connect(&gate, 60);
    let counts = held.counts(3);
    assert!(spread(&counts) <= 4, "{counts:?}");
}

pub(crate) fn p2c_follows_the_weights(engine: &'static str) {
    let servers = numbered(4);
    let config =
        (1..).zip(&servers[..3]).fold(Config::new(engine).balance("p2c"), |config, (weight, server)| {
            config.weighted(server.address(), weight)
        });
    let gate = Gate::start(&config.weighted(servers[3].address(), 0));
    let counts = Held::connect(&gate, 60).counts(4);
    for (count, share) in counts.iter().zip([10_usize, 20, 30]) {
        assert!(count.abs_diff(share) <= 4, "{counts:?}");
    }
    assert_eq!(counts[3], 0, "weight 0 gets none");
}

/// Of two servers both are always drawn, so the emptier one gets the next connection whoever accepts it: were the
/// counts each worker's own, both workers would now and then choose the same.
pub(crate) fn p2c_counts_for_all_workers_together(engine: &'static str) {
    let servers = numbered(2);
    let config = over(Config::new(engine).workers(2).listener("accept_balance = \"reuseport\""), &servers);
    let gate = Gate::start(&config);
    let mut held = Held::default();
    for _ in 0..60 {
        held.add(&gate);
        let counts = held.counts(2);
        assert!(spread(&counts) <= 1, "{counts:?}");
    }
    drop(held);
    let workers: Vec<u16> = gate.first_accesses(60).iter().map(|access| access.worker).collect();
    assert!(workers.contains(&0) && workers.contains(&1), "one worker had them all: {workers:?}");
}

pub(crate) fn p2c_fills_a_server_whose_connections_ended(engine: &'static str) {
    let servers = numbered(3);
    let gate = Gate::start(&over(Config::new(engine), &servers));
    let mut held = Held::connect(&gate, 60);
    let freed = held.leave(0);
    for client in &freed {
        assert_eq!(gate.access(*client).cause, "done");
    }
    let before = held.counts(3);
    for _ in 0..freed.len() {
        held.add(&gate);
    }
    let after = held.counts(3);
    let gained: Vec<usize> = after.iter().zip(&before).map(|(after, before)| after - before).collect();
    // It is drawn two times in three and wins whenever it is; taking turns would give it one in three.
    assert!(gained[0] > freed.len() / 2, "from {before:?} to {after:?}");
}

pub(crate) fn p2c_skips_a_server_that_refuses(engine: &'static str) {
    let (refusing, servers) = (Refusing::new(), [Server::echo(), Server::echo()]);
    let config = servers
        .iter()
        .fold(Config::new(engine).balance("p2c").server(refusing.address()), |config, server| {
            config.server(server.address())
        });
    let gate = Gate::start(&config);
    for _ in 0..30 {
        gate.echo(100);
    }
    let accesses = gate.first_accesses(30);
    assert!(accesses.iter().all(|access| access.cause == "done" && access.server.as_deref() != Some("s0")));
    assert!(accesses.iter().all(|access| access.tries <= 2));
    assert!(accesses.iter().any(|access| access.tries == 2), "the refusing server was never tried");
    assert!(servers.iter().all(|server| server.accepted() > 0), "one server had them all");
}

/// What a server that is late takes to answer.
const LATE: Duration = Duration::from_millis(400);
const QUESTION: [u8; 5] = *b"what?";

/// Both are reached at once.
pub(crate) fn least_time_prefers_who_answers_sooner(engine: &'static str) {
    let late = Server::start(|peer| answer(peer, LATE));
    let soon = Server::start(|peer| answer(peer, Duration::ZERO));
    let config = Config::new(engine).balance("least_time").server(late.address()).server(soon.address());
    let gate = Gate::start(&config);
    for _ in 0..30 {
        ask(&gate, Duration::ZERO);
    }
    let counts = [late.accepted(), soon.accepted()];
    assert!(counts[0] <= 8 && counts[0] + counts[1] == 30, "{counts:?}");
}

/// The server that is met first gets a question that takes twice as long as the other one's answers, and answers at once: all
/// others go there nevertheless.
pub(crate) fn least_time_counts_no_client_that_drips(engine: &'static str) {
    const NOBODY: usize = usize::MAX;
    let met_first = Arc::new(AtomicUsize::new(NOBODY));
    let servers = [0, 1].map(|number| {
        let met_first = Arc::clone(&met_first);
        Server::start(move |peer| {
            let met = met_first.compare_exchange(NOBODY, number, Ordering::Relaxed, Ordering::Relaxed).err();
            answer(peer, if met.is_none_or(|met| met == number) { Duration::ZERO } else { LATE });
        })
    });
    let config = over(Config::new(engine), &servers).balance("least_time");
    let gate = Gate::start(&config);
    ask(&gate, LATE / 2);
    for _ in 0..30 {
        ask(&gate, Duration::ZERO);
    }
    let met_first = met_first.load(Ordering::Relaxed);
    let counts = [&servers[met_first], &servers[1 - met_first]].map(Server::accepted);
    assert!(counts[1] <= 8 && counts[0] + counts[1] == 31, "{counts:?}");
}

/// Answers a question so long after its last byte.
fn answer(mut peer: Peer, after: Duration) {
    let mut question = [0; QUESTION.len()];
    peer.receive_raw(&mut question);
    thread::sleep(after);
    peer.say(&question).expect("the client waits");
    peer.receive_to_end();
}

/// A client asks, with that pause between the bytes of its question, gets its answer, and waits until nobody counts it: a
/// connection that is still there makes its server's times longer.
fn ask(gate: &Gate, pause: Duration) {
    let mut client = gate.connect();
    if pause.is_zero() {
        client.say(&QUESTION).expect("it is taken");
    } else {
        for byte in QUESTION {
            client.say(&[byte]).expect("it is taken");
            thread::sleep(pause);
        }
    }
    let mut answered = [0; QUESTION.len()];
    client.receive_raw(&mut answered);
    assert_eq!(answered, QUESTION);
    client.finish();
    assert_eq!(client.receive_to_end(), End::Fin);
    gate.access(client.address());
}

fn over(config: Config, servers: &[Server]) -> Config {
    servers.iter().fold(config.balance("p2c"), |config, server| config.server(server.address()))
}

/// Servers that say their number, and then wait for the end.
fn numbered(count: u8) -> Vec<Server> {
    let start = |number| {
        Server::start(move |mut peer| {
            peer.socket().send(&[number]).expect("the number can be sent");
            peer.receive_to_end();
        })
    };
    (0..count).map(start).collect()
}

/// Connections that are held open, each with the number of its server.
#[derive(Default)]
struct Held(Vec<(usize, TcpStream)>);

impl Held {
    fn connect(gate: &Gate, count: usize) -> Self {
        let mut held = Self::default();
        (0..count).for_each(|_| held.add(gate));
        held
    }

    fn add(&mut self, gate: &Gate) {
        let mut stream = TcpStream::connect_timeout(&gate.address(), PATIENCE).expect("it can connect");
        SockRef::from(&stream).set_read_timeout(Some(PATIENCE)).unwrap();
        let mut number = [0];
        stream.read_exact(&mut number).expect("the server says its number");
        self.0.push((usize::from(number[0]), stream));
    }

    fn counts(&self, servers: usize) -> Vec<usize> {
        (0..servers).map(|server| self.0.iter().filter(|(number, _)| *number == server).count()).collect()
    }

    /// The connections of one server leave; gives their addresses.
    fn leave(&mut self, server: usize) -> Vec<SocketAddr> {
        let leaving = self.0.extract_if(.., |(number, _)| *number == server);
        leaving.map(|(_, stream)| stream.local_addr().unwrap()).collect()
    }
}

fn spread(counts: &[usize]) -> usize {
    counts.iter().max().unwrap() - counts.iter().min().unwrap()
}
