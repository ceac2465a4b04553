//! Connections of random behaviour over the real kernel: each plays a script that follows from its number, and both
//! of its ends are held to it, by every byte's position and by how the connection ended.
//!
//! `TIDEGATE_SOAK` (`2s`) is for how long, in `s` or `m`; `TIDEGATE_SEED` (0) is which scripts. A long run prints how
//! memory and descriptors went, and they must stay where they were:
//! `TIDEGATE_SOAK=20m cargo test --release --test soak mio -- --nocapture`.

#![cfg(target_os = "linux")]
#![allow(clippy::disallowed_methods, clippy::disallowed_types)] // Tests may read clocks and lock.

mod support;

use std::io::{ErrorKind, Read, Write};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use rand_xoshiro::SplitMix64;
use rand_xoshiro::rand_core::{Rng, SeedableRng};
use support::PATIENCE;
use support::gate::{Config, Gate};
use support::peer::{End, Peer, Transcript};
use support::process::{anonymous_bytes, descriptors, descriptors_settle};
use support::servers::Server;
use support::stage::Stage;

/// Connections at a time.
const CLIENTS: u64 = 24;
const MIB: u64 = 1024 * 1024;
/// Bytes of the connection's number, which the client sends before all that its script has.
const HEAD: usize = 8;
/// The longest that a slow reader takes for everything, and that anybody pauses.
const SLOW_MS: u64 = 1_500;
const PAUSE_MS: u64 = 300;

macro_rules! engines {
    ($($engine:ident),*) => {
        $(#[test]
        fn $engine() {
            soak(stringify!($engine));
        })*
    };
}

engines!(mio, io_uring, threads, epoll_level, poll, select, sigio, aio);

/// What the two ends of a connection do.
#[derive(Clone, Copy, Debug)]
enum Act {
    /// The client leaves without a byte.
    Nothing,
    /// Both send and end at once.
    Exchange,
    /// The server answers after the client's FIN.
    Answer,
    /// The client speaks after the server's FIN.
    Greeting,
    /// Small questions and answers in turn.
    Talk { turns: u32 },
    /// The client sends and resets: after a byte that says that everything has arrived, or at once.
    ClientResets { delivered: bool },
    /// The server does.
    ServerResets { delivered: bool },
}

/// The script of one connection.
#[derive(Clone, Copy, Debug)]
struct Script {
    act: Act,
    up: u64,
    down: u64,
    /// The most that one write has.
    piece: usize,
    /// The most that one read takes, and the pause before it.
    bite: usize,
    slowness: Duration,
    /// Pauses of the client and of the server before they begin.
    pauses: [Duration; 2],
}

impl Script {
    fn of(number: u64, seed: u64) -> Self {
        let mut dice = SplitMix64::seed_from_u64(number ^ seed.rotate_left(32));
        let mut up_to = |most: u64| dice.next_u64() % (most + 1);
        let act = match up_to(31) {
            0 => Act::Nothing,
            1..=8 => Act::Exchange,
            9..=14 => Act::Answer,
            15..=18 => Act::Greeting,
            19..=23 => Act::Talk { turns: up_to(20) as u32 },
            24 => Act::ClientResets { delivered: true },
            25..=27 => Act::ClientResets { delivered: false },
            28 => Act::ServerResets { delivered: true },
            _ => Act::ServerResets { delivered: false },
        };
        // Mostly small, now and then some MiB.
        let mut size = || {
            let magnitude = 1_u64 << up_to(22);
            up_to(magnitude)
        };
        let (up, down) = match act {
            Act::Talk { .. } => (1 + size() % 4_096, 1 + size() % 4_096),
            _ => (size(), size()),
        };
        let piece = 1 + up_to(64 * 1024 - 1) as usize;
        let piece = piece.max((up.max(down) / 2_000) as usize);
        let bite = (1 + up_to(64 * 1024 - 1) as usize).max((up.max(down) / 1_000) as usize);
        let bites = (up.max(down) / bite as u64).max(1);
        let is_slow = up_to(7) == 0;
        let slowness = Duration::from_micros(if is_slow { up_to(SLOW_MS * 1_000 / bites) } else { 0 });
        let mut pause = || Duration::from_millis(if up_to(15) == 0 { up_to(PAUSE_MS) } else { 0 });
        Self { act, up, down, piece, bite, slowness, pauses: [pause(), pause()] }
    }

    /// The client's part; what must have arrived, and how it must have ended.
    fn client(&self, peer: &mut Peer) -> Expected {
        thread::sleep(self.pauses[0]);
        match self.act {
            Act::Nothing => self.end_first(peer, 0, 0),
            Act::Exchange => {
                peer.exchange(self.up, self.piece);
                Expected::all(self.down)
            }
            Act::Answer => self.end_first(peer, self.up, self.down),
            Act::Greeting => self.end_second(peer, self.up, self.down),
            Act::Talk { turns } => {
                for _ in 0..turns {
                    peer.send_in_pieces(self.up, self.piece);
                    peer.receive(self.down);
                }
                self.end_first(peer, 0, self.down * u64::from(turns))
            }
            Act::ClientResets { delivered } => self.reset(peer, self.up, delivered),
            Act::ServerResets { delivered } => self.suffer(peer, self.down, delivered),
        }
    }

    fn server(&self, peer: &mut Peer) -> Expected {
        thread::sleep(self.pauses[1]);
        match self.act {
            Act::Nothing => self.end_second(peer, 0, 0),
            Act::Exchange => {
                peer.exchange(self.down, self.piece);
                Expected::all(self.up)
            }
            Act::Answer => self.end_second(peer, self.down, self.up),
            Act::Greeting => self.end_first(peer, self.down, self.up),
            Act::Talk { turns } => {
                for _ in 0..turns {
                    peer.receive(self.up);
                    peer.send_in_pieces(self.down, self.piece);
                }
                self.end_second(peer, 0, self.up * u64::from(turns))
            }
            Act::ClientResets { delivered } => self.suffer(peer, self.up, delivered),
            Act::ServerResets { delivered } => self.reset(peer, self.down, delivered),
        }
    }

    /// Sends, sends FIN, and then takes what comes.
    fn end_first(&self, peer: &mut Peer, sends: u64, gets: u64) -> Expected {
        peer.send_in_pieces(sends, self.piece);
        peer.finish();
        peer.receive_slowly(self.bite, self.slowness);
        Expected::all(gets)
    }

    /// Takes what comes up to a FIN, and then sends.
    fn end_second(&self, peer: &mut Peer, sends: u64, gets: u64) -> Expected {
        peer.receive_slowly(self.bite, self.slowness);
        peer.send_in_pieces(sends, self.piece);
        peer.finish();
        Expected::all(gets)
    }

    fn reset(&self, peer: &mut Peer, sends: u64, delivered: bool) -> Expected {
        peer.send_in_pieces(sends, self.piece);
        if delivered {
            peer.receive(1);
        }
        peer.socket().set_linger(Some(Duration::ZERO)).unwrap();
        Expected { bytes: u64::from(delivered)..=u64::from(delivered), end: End::Left }
    }

    /// Meets the other end's reset. What that end's kernel had still to send is lost with it.
    fn suffer(&self, peer: &mut Peer, gets: u64, delivered: bool) -> Expected {
        if delivered {
            peer.receive(gets);
            peer.send(1);
        }
        peer.receive_slowly(self.bite, self.slowness);
        Expected { bytes: if delivered { gets } else { 0 }..=gets, end: End::Reset }
    }
}

/// What an end must have seen.
struct Expected {
    bytes: std::ops::RangeInclusive<u64>,
    end: End,
}

impl Expected {
    fn all(bytes: u64) -> Self {
        Self { bytes: bytes..=bytes, end: End::Fin }
    }
}

/// What all connections have come to.
#[derive(Default)]
struct Book {
    seed: u64,
    /// The number of the next connection.
    next: AtomicU64,
    /// Ends that servers have come to.
    served: AtomicU64,
    bytes: AtomicU64,
    resets: AtomicU64,
    violations: Mutex<Vec<String>>,
    over: AtomicBool,
}

impl Book {
    /// Plays one part and judges what came of it.
    fn judge(&self, who: &str, number: u64, peer: Peer, part: impl FnOnce(&Script, &mut Peer) -> Expected) {
        let script = Script::of(number, self.seed);
        let played = catch_unwind(AssertUnwindSafe(|| {
            let mut peer = peer;
            let expected = part(&script, &mut peer);
            (expected, peer.leave())
        }));
        let trouble = match played {
            Ok((expected, Transcript { bytes, wrong_at, end })) => {
                self.bytes.fetch_add(bytes, Ordering::Relaxed);
                self.resets.fetch_add(u64::from(end == End::Reset), Ordering::Relaxed);
                let right = wrong_at.is_none() && end == expected.end && expected.bytes.contains(&bytes);
                (!right).then(|| {
                    format!("{bytes} bytes, wrong at {wrong_at:?}, {end:?}; {:?} expected", expected.bytes)
                })
            }
            Err(panic) => {
                Some(panic.downcast_ref::<String>().cloned().unwrap_or_else(|| "a panic".to_owned()))
            }
        };
        if let Some(trouble) = trouble {
            self.complain(format!("connection {number}, the {who}: {trouble}: {script:?}"));
        }
    }

    fn complain(&self, violation: String) {
        eprintln!("VIOLATION: {violation}");
        self.violations.lock().unwrap().push(violation);
    }

    fn serve(&self, peer: Peer) {
        let mut head = [0; HEAD];
        let read = (&*peer.socket()).read_exact(&mut head);
        match read {
            Ok(()) => self.judge("server", u64::from_le_bytes(head), peer, Script::server),
            // A client that resets at once may take its number with it.
            Err(error) if error.kind() == ErrorKind::ConnectionReset => {}
            Err(error) => self.complain(format!("a server got no number: {error}")),
        }
        self.served.fetch_add(1, Ordering::Relaxed);
    }

    fn run_clients(&self, gate: &Gate) {
        while !self.over.load(Ordering::Relaxed) {
            let number = self.next.fetch_add(1, Ordering::Relaxed);
            let peer = gate.connect();
            (&*peer.socket()).write_all(&number.to_le_bytes()).expect("the client can send");
            self.judge("client", number, peer, Script::client);
        }
    }
}

/// How the program did at a moment.
struct Sample {
    memory: u64,
    descriptors: usize,
}

fn soak(engine: &'static str) {
    let span = span();
    let seed =
        std::env::var("TIDEGATE_SEED").map_or(0, |seed| seed.parse().expect("TIDEGATE_SEED is a number"));
    let book = Arc::new(Book { seed, ..Book::default() });
    let server = Server::start({
        let book = Arc::clone(&book);
        move |peer| book.serve(peer)
    });
    let config = Config::new(engine).workers(2).access_log("output = \"off\"").server(server.address());
    let gate = Gate::start(&config);
    let base = descriptors(gate.pid());

    let began = Instant::now();
    let samples = thread::scope(|scope| {
        for _ in 0..CLIENTS {
            scope.spawn(|| book.run_clients(&gate));
        }
        let samples = watch(engine, &book, &gate, began, span);
        book.over.store(true, Ordering::Relaxed);
        samples
    });
    let settling = Instant::now();
    while book.served.load(Ordering::Relaxed) < server.accepted() && settling.elapsed() < PATIENCE {
        thread::sleep(Duration::from_millis(10));
    }
    let violations = book.violations.lock().unwrap();
    println!(
        "{engine}, seed {seed}: {} connections in {:.0?}, {} MiB received, {} resets, {} violations",
        book.next.load(Ordering::Relaxed),
        began.elapsed(),
        book.bytes.load(Ordering::Relaxed) / MIB,
        book.resets.load(Ordering::Relaxed),
        violations.len()
    );
    assert!(violations.is_empty(), "{violations:#?}");
    assert_eq!(book.served.load(Ordering::Relaxed), server.accepted(), "connections that never ended");
    assert_eq!(descriptors_settle(gate.pid(), base), base, "descriptors after the last client");
    if span >= Duration::from_secs(60) {
        assert_flat(&samples);
    }
}

/// Looks at the program now and then until the time is over, or something went wrong.
fn watch(engine: &str, book: &Book, gate: &Gate, began: Instant, span: Duration) -> Vec<Sample> {
    let step = (span / 20).clamp(Duration::from_secs(1), Duration::from_secs(60));
    let mut samples = Vec::new();
    while began.elapsed() < span && book.violations.lock().unwrap().is_empty() {
        thread::sleep(step.min(span.saturating_sub(began.elapsed())));
        let sample = Sample { memory: anonymous_bytes(gate.pid()), descriptors: descriptors(gate.pid()) };
        println!(
            "{engine}: {:4.0?} {:8} connections, memory {:6} KiB, {:3} descriptors",
            began.elapsed(),
            book.next.load(Ordering::Relaxed),
            sample.memory / 1024,
            sample.descriptors
        );
        samples.push(sample);
    }
    samples
}

/// The second half needs no more than the first did, but for the chance of what is open at the moment.
fn assert_flat(samples: &[Sample]) {
    let (first, second) = samples.split_at(samples.len() / 2);
    let peak = |half: &[Sample]| half.iter().map(|it| it.memory).max().unwrap_or(0);
    assert!(peak(second) <= peak(first) + 4 * MIB, "memory grew from {} to {}", peak(first), peak(second));
    let peak = |half: &[Sample]| half.iter().map(|it| it.descriptors).max().unwrap_or(0);
    let most = peak(first) + CLIENTS as usize;
    assert!(peak(second) <= most, "descriptors grew from {} to {}", peak(first), peak(second));
}

fn span() -> Duration {
    let text = std::env::var("TIDEGATE_SOAK").unwrap_or_else(|_| "2s".to_owned());
    let (number, unit) = text.split_at(text.len().saturating_sub(1));
    let seconds = match unit {
        "s" => 1,
        "m" => 60,
        _ => panic!("TIDEGATE_SOAK is a number with s or m, not {text:?}"),
    };
    Duration::from_secs(number.parse::<u64>().expect("TIDEGATE_SOAK begins with a number") * seconds)
}

/// Both ends of a script are held to it: what is missing, too much, changed or ended otherwise is found.
#[test]
fn a_connection_that_differs_from_its_script_is_found() {
    let number =
        (0..).find(|number| matches!(Script::of(*number, 0), Script { act: Act::Answer, down: 9.., .. }));
    let number = number.expect("there is one");
    let play = |change: &(dyn Fn(&Script, &mut Peer) -> Expected + Sync)| {
        let book = Book::default();
        let [client, server] = Stage::direct().pair();
        thread::scope(|scope| {
            scope.spawn(|| book.judge("server", number, server, change));
            book.judge("client", number, client, Script::client);
        });
        book.violations.into_inner().unwrap().len()
    };
    assert_eq!(play(&Script::server), 0);
    assert_eq!(play(&|script, peer| Script { down: script.down - 1, ..*script }.server(peer)), 1);
    assert_eq!(play(&|script, peer| Script { down: script.down + 1, ..*script }.server(peer)), 1);
    let reset = |script: &Script, peer: &mut Peer| {
        peer.receive_to_end();
        peer.send(script.down);
        peer.wait_until_delivered();
        peer.socket().set_linger(Some(Duration::ZERO)).unwrap();
        Expected::all(script.up)
    };
    assert_eq!(play(&reset), 1);
}
