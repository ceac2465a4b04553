//! A DNS server that lies: whatever it says, nothing is lost by it.

use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use crate::control::{File, Run};
use crate::echo::{Echo, session};
use crate::support::dns::answer;

/// What is said to a question, and whether that is an answer.
type Lie = (&'static str, fn(&[u8], Ipv4Addr) -> Vec<u8>);

const TRUTH: usize = 0;

const LIES: [Lie; 11] = [
    ("the truth", |question, ip| answer(question, ip)),
    ("nothing of this protocol", |question, _| noise(question, 100)),
    ("a large datagram of noise", |question, _| noise(question, 60_000)),
    ("another number", |question, ip| {
        let mut said = answer(question, ip);
        said[0] ^= 0x55;
        said
    }),
    ("an end within the head", |question, ip| answer(question, ip)[..7].to_vec()),
    ("an end within the record", |question, ip| {
        let said = answer(question, ip);
        said[..said.len() - 3].to_vec()
    }),
    ("more records than there are", |question, ip| {
        let mut said = answer(question, ip);
        said[6..8].copy_from_slice(&[0xff, 0xff]);
        said
    }),
    ("a name that points to itself", |question, ip| {
        let mut said = answer(question, ip);
        let at = u8::try_from(said.len() - 16).unwrap();
        said[usize::from(at) + 1] = at;
        said
    }),
    ("the question", |question, _| question.to_vec()),
    ("that it has failed", |question, ip| {
        let mut said = answer(question, ip);
        said[3] = 0x82;
        said
    }),
    ("the right head with noise behind it", |question, _| {
        let mut said = noise(question, 300);
        said[..12].copy_from_slice(&question[..12]);
        said[2] |= 0x80;
        said
    }),
];

/// Bytes that follow from the question.
fn noise(question: &[u8], length: usize) -> Vec<u8> {
    let mut seed =
        question.iter().fold(1_u64, |seed, byte| seed.wrapping_mul(31).wrapping_add(u64::from(*byte)));
    let mut next = || {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (seed >> 33) as u8
    };
    (0..length).map(|_| next()).collect()
}

/// What lookups take while nobody answers is what the process keeps free for them: 6 of a question, two questions of a name.
#[test]
fn lookups_stay_within_their_descriptors() {
    let most = |server: &dyn Fn(usize) -> String, resolvers: &[String], least: u64| {
        let dns = format!("resolvers = [{}]\ntimeout = \"1s\"\ntries = 3", resolvers.join(", "));
        let servers: Vec<String> =
            (0..30).map(|at| format!("{{ name = \"n{at}\", addr = \"{}\" }}", server(at))).collect();
        let file = File::new("mio").listen("l", "127.0.0.1:0", "p").set("dns", dns);
        let run = Run::start(&file.set("pool.p", format!("server = [{}]", servers.join(", "))));
        let began = Instant::now();
        let mut most = 0;
        // They look again and again, and a busy machine begins late.
        while began.elapsed() < Duration::from_secs(2)
            || most < least && began.elapsed() < Duration::from_secs(20)
        {
            most = most.max(run.status().process.descriptors);
            thread::sleep(Duration::from_millis(20));
        }
        most
    };
    let silent = [(); 3].map(|()| UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap());
    let resolvers = silent.each_ref().map(|socket| format!("\"{}\"", socket.local_addr().unwrap()));
    let base = most(&|at| format!("127.0.0.1:{}", 1_000 + at), &resolvers, 0);
    let names = most(&|at| format!("n{at}.test:1"), &resolvers, base + 90);
    println!("{base} without names, {names} with 30");
    assert!((base + 90..=base + 360).contains(&names), "{base} {names}");
}

#[test]
fn lies_take_nothing_away() {
    let server = Echo::start();
    let ip = match server.address() {
        SocketAddr::V4(at) => *at.ip(),
        SocketAddr::V6(at) => panic!("{at} is not IPv4"),
    };
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let resolver = socket.local_addr().unwrap();
    let which = Arc::new(AtomicUsize::new(TRUTH));
    let lie = Arc::clone(&which);
    thread::spawn(move || {
        let mut buffer = [0; 4096];
        while let Ok((length, from)) = socket.recv_from(&mut buffer) {
            let _ = socket.send_to(&LIES[lie.load(Ordering::Relaxed)].1(&buffer[..length], ip), from);
        }
    });
    let dns = format!(
        "resolvers = [\"{resolver}\"]\nttl_min = \"100ms\"\nttl_max = \"200ms\"\ntimeout = \"100ms\"\ntries = 1\nhold = \"0s\"\nprefer = \"ipv4\""
    );
    let file = File::new("mio").listen("l", "127.0.0.1:0", "p").set("dns", dns);
    let run = Run::start(&file.set("pool.p", "server = [{ name = \"x\", addr = \"db.test:17000\" }]"));
    run.wait_for("the truth", |status| status.names[0].last_result.as_deref() == Some("found"));
    let lookups = || run.status().names[0].lookups.clone();
    for (number, (what, _)) in LIES.iter().enumerate().skip(1) {
        let failed = lookups()["failed"];
        which.store(number, Ordering::Relaxed);
        run.wait_for(what, |status| status.names[0].lookups["failed"] >= failed + 2);
        session(run.gate.address_of("l")).unwrap_or_else(|error| panic!("{what}: {error}"));
        let status = run.status();
        assert_eq!(status.names[0].addresses, [server.address().to_string()], "{what}");
        println!("{what}: {}", status.names[0].reason);
        which.store(TRUTH, Ordering::Relaxed);
        run.wait_for("the truth", |status| status.names[0].last_result.as_deref() == Some("found"));
    }
    assert_eq!(lookups()["missing"], 0);
}
