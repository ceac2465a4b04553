//! Others' proxies as the lab starts them: each must pass everything on, or comparing with it would be of no use.

#![cfg(all(feature = "lab", target_os = "linux"))]
#![allow(clippy::disallowed_methods, clippy::disallowed_types)] // Tests may read clocks and lock.

use std::fs::{self, File};
use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Child;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process, kill_process_group};
use socket2::SockRef;
use tempfile::TempDir;
use tidegate::lab::measure;
use tidegate::lab::peers::{Found, Place, named};
use tidegate::lab::results::Count;
use tidegate::lab::tracer::Tracer;
use tidegate::lab::words::last_words;

#[path = "support/ports.rs"]
mod ports;

use ports::free_address;

/// How long anything may take that must happen.
const PATIENCE: Duration = Duration::from_secs(20);
/// Connections at a time that a proxy is told of, and that it gets.
const MANY: u32 = 600;

/// A server of the tests: what it does with each of its connections, and how many it had.
struct Server {
    address: SocketAddr,
    served: Arc<AtomicUsize>,
}

impl Server {
    fn start(serve: fn(TcpStream)) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let address = listener.local_addr().unwrap();
        // The standard library's backlog is 128, which is less than come at once.
        rustix::net::listen(&listener, 4096).unwrap();
        let served = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&served);
        thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                count.fetch_add(1, Ordering::Relaxed);
                stream.set_read_timeout(Some(PATIENCE)).unwrap();
                stream.set_write_timeout(Some(PATIENCE)).unwrap();
                thread::Builder::new().stack_size(256 << 10).spawn(move || serve(stream)).unwrap();
            }
        });
        Self { address, served }
    }

    fn served(&self) -> usize {
        self.served.load(Ordering::Relaxed)
    }
}

/// Sends back what it gets, and then its own FIN.
fn echo(mut stream: TcpStream) {
    let mut buffer = vec![0; 16 << 10];
    loop {
        match stream.read(&mut buffer) {
            Ok(0) => break,
            Ok(count) if stream.write_all(&buffer[..count]).is_ok() => {}
            _ => return,
        }
    }
    stream.shutdown(Shutdown::Write).ok();
}

/// Answers the first bytes that it gets, and then resets the connection.
fn reset(mut stream: TcpStream) {
    if stream.read(&mut [0; 100]).is_ok_and(|count| count > 0) {
        stream.write_all(b"part").ok();
        SockRef::from(&stream).set_linger(Some(Duration::ZERO)).unwrap();
    }
}

/// A peer that runs, until this is dropped.
struct Running {
    child: Child,
    address: SocketAddr,
    directory: TempDir,
}

impl Running {
    fn start(found: &Found, back_ends: &[&Server]) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let address = free_address("127.0.0.1");
        let place = Place {
            listen: address,
            back_ends: back_ends.iter().map(|server| server.address).collect(),
            connections: MANY,
            descriptors: tidegate::sys::descriptor_limit(),
        };
        let mut prepared = found.prepare(directory.path(), &place).unwrap();
        println!("{}: {}", found.version(), prepared.line);
        assert!(!prepared.configuration.is_empty() && !prepared.line.contains('@'));
        let said = File::create(directory.path().join("said")).unwrap();
        prepared.command.stdout(said.try_clone().unwrap()).stderr(said).process_group(0);
        let child = prepared.command.spawn().unwrap();
        let mut running = Self { child, address, directory };
        let start = Instant::now();
        while TcpStream::connect(address).is_err() {
            let ended = running.child.try_wait().unwrap();
            assert!(ended.is_none() && start.elapsed() < PATIENCE, "{ended:?}: {}", running.said());
            thread::sleep(Duration::from_millis(20));
        }
        running
    }

    fn connect(&self) -> TcpStream {
        let stream =
            TcpStream::connect(self.address).unwrap_or_else(|error| panic!("{error}: {}", self.said()));
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_write_timeout(Some(PATIENCE)).unwrap();
        stream
    }

    fn said(&self) -> String {
        last_words(&fs::read_to_string(self.directory.path().join("said")).unwrap())
    }
}

impl Drop for Running {
    /// A master asked to end takes its workers with it, and sees to their remains.
    fn drop(&mut self) {
        let start = Instant::now();
        kill_process(Pid::from_child(&self.child), Signal::TERM).ok();
        while self.child.try_wait().is_ok_and(|ended| ended.is_none()) {
            if start.elapsed() > PATIENCE {
                kill_process_group(Pid::from_child(&self.child), Signal::KILL).ok();
            }
            thread::sleep(Duration::from_millis(10));
        }
    }
}

/// Bytes that no shift by a buffer's size maps to themselves.
fn noise(seed: u64) -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64.wrapping_mul(seed + 1);
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 32) as u8
    };
    (0..1 << 20).map(|_| next()).collect()
}

/// 32 connections of 1 MiB each way, whose clients end first and then hear everything.
fn echoes_with_half_close(proxy: &Running) {
    thread::scope(|scope| {
        for seed in 0..32 {
            let mut stream = proxy.connect();
            let mut reader = stream.try_clone().unwrap();
            let sent = Arc::new(noise(seed));
            let expected = Arc::clone(&sent);
            scope.spawn(move || {
                stream.write_all(&sent).unwrap();
                stream.shutdown(Shutdown::Write).unwrap();
            });
            scope.spawn(move || {
                let mut got = Vec::new();
                reader.read_to_end(&mut got).unwrap();
                assert_eq!(got.len(), expected.len());
                assert!(got == *expected, "other bytes came back than were sent");
            });
        }
    });
}

/// A reply can follow long after the client's end.
fn answers_behind_the_clients_end(proxy: &Running) {
    let mut stream = proxy.connect();
    stream.shutdown(Shutdown::Write).unwrap();
    let mut got = Vec::new();
    stream.read_to_end(&mut got).unwrap();
    assert_eq!(got, b"late");
}

fn late(mut stream: TcpStream) {
    if stream.read(&mut [0; 100]).is_ok_and(|count| count == 0) {
        thread::sleep(Duration::from_millis(200));
        stream.write_all(b"late").ok();
    }
}

/// The client of a server that resets sees an end, and nothing that the server did not send.
fn ends_when_a_server_resets(proxy: &Running) {
    let mut stream = proxy.connect();
    stream.write_all(b"?").unwrap();
    let mut got = Vec::new();
    let end = stream.read_to_end(&mut got);
    println!("after a reset: {end:?}, and {got:?} before");
    assert!(b"part".starts_with(&got), "{got:?}");
    assert!(end.is_ok() || end.is_err_and(|error| error.kind() == ErrorKind::ConnectionReset));
}

/// The server of a client that resets sees an end, and the proxy goes on.
fn goes_on_when_clients_reset(proxy: &Running) {
    for round in 0..20 {
        let mut stream = proxy.connect();
        stream.write_all(&noise(round)[..64 << 10]).unwrap();
        SockRef::from(&stream).set_linger(Some(Duration::ZERO)).unwrap();
    }
}

/// Everybody is connected and answered while all the others are.
fn serves_many_at_once(proxy: &Running) {
    let mut streams: Vec<TcpStream> = (0..MANY).map(|_| proxy.connect()).collect();
    for (stream, number) in streams.iter_mut().zip(0_u32..) {
        stream.write_all(&number.to_be_bytes()).unwrap();
    }
    for (stream, number) in streams.iter_mut().zip(0_u32..) {
        let mut got = [0; 4];
        stream.read_exact(&mut got).unwrap();
        assert_eq!(u32::from_be_bytes(got), number);
    }
}

/// Those of its processes' sockets that are left come back to what they were.
fn forgets_connections(proxy: &Running, at_rest: usize) {
    let start = Instant::now();
    while descriptors(proxy) > at_rest + 8 {
        let left = descriptors(proxy);
        assert!(start.elapsed() < PATIENCE, "{left} descriptors are left, {at_rest} at first");
        thread::sleep(Duration::from_millis(20));
    }
}

fn descriptors(proxy: &Running) -> usize {
    let of = |pid: u32| fs::read_dir(format!("/proc/{pid}/fd")).map_or(0, Iterator::count);
    measure::tree(proxy.child.id()).into_iter().map(of).sum()
}

/// A tracer sees each of the bytes come and go, and leaves the proxy as it was.
fn is_unharmed_by_a_tracer(proxy: &Running, tracer: &Tracer) {
    let attached = tracer.attach(&measure::tree(proxy.child.id())).unwrap();
    echoes_with_half_close(proxy);
    let counts = attached.detach().unwrap();
    let summary =
        |(name, count): (&String, &Count)| format!("{name} {}/{}/{}", count.calls, count.failed, count.bytes);
    println!("traced (calls/failed/bytes): {}", counts.iter().map(summary).collect::<Vec<_>>().join(", "));
    // 32 times 1 MiB, there and back, each in and out; and a little of the proxy's own, such as wake-ups.
    let all = (32 * 2 * 2) << 20;
    let moved: u64 = counts.values().map(|count| count.bytes).sum();
    assert!((all..all + (1 << 20)).contains(&moved), "{moved} bytes moved, and not {all}: {counts:?}");
    echoes_with_half_close(proxy);
}

/// The peer, if it is installed; Envoy need not be.
fn find(name: &str) -> Option<Found> {
    // Envoy is in no distribution: who has it says where.
    let given = std::env::var_os(format!("TIDEGATE_PEER_{}", name.to_uppercase()));
    match named(name).unwrap().find(given.as_deref().map(Path::new)) {
        Ok(found) => Some(found),
        Err(absent) => {
            println!("skipped: {absent}");
            let required = std::env::var_os("TIDEGATE_REQUIRE_TOOLS").is_some_and(|value| value == "1");
            assert!(!required || name == "envoy", "TIDEGATE_REQUIRE_TOOLS=1: {absent}");
            None
        }
    }
}

fn passes_everything_on(name: &str) {
    let Some(found) = find(name) else { return };
    let version = found.version();
    assert!(version.contains('.') && !version.contains(" /"), "{version}");
    tidegate::sys::raise_descriptor_limit().unwrap();

    let echoes = [Server::start(echo), Server::start(echo)];
    let proxy = Running::start(&found, &[&echoes[0], &echoes[1]]);
    drop(proxy.connect());
    thread::sleep(Duration::from_millis(200));
    let at_rest = descriptors(&proxy);
    let before = echoes.each_ref().map(Server::served);
    echoes_with_half_close(&proxy);
    let served = [0, 1].map(|which| echoes[which].served() - before[which]);
    assert!(served.iter().all(|count| (15..=17).contains(count)), "{name} does not take turns: {served:?}");
    goes_on_when_clients_reset(&proxy);
    serves_many_at_once(&proxy);
    forgets_connections(&proxy, at_rest);
    match Tracer::found() {
        Ok(tracer) => is_unharmed_by_a_tracer(&proxy, &tracer),
        Err(absent) => println!("not traced: {absent}"),
    }
    println!("it said: {:?}", proxy.said());

    let resetting = Server::start(reset);
    let proxy = Running::start(&found, &[&resetting]);
    for _ in 0..5 {
        ends_when_a_server_resets(&proxy);
    }
    let lateness = Server::start(late);
    let proxy = Running::start(&found, &[&lateness]);
    answers_behind_the_clients_end(&proxy);
}

#[test]
fn haproxy_passes_everything_on() {
    passes_everything_on("haproxy");
}

#[test]
fn nginx_passes_everything_on() {
    passes_everything_on("nginx");
}

#[test]
fn envoy_passes_everything_on() {
    passes_everything_on("envoy");
}

#[test]
fn node_passes_everything_on() {
    passes_everything_on("node");
}

#[test]
fn asyncio_passes_everything_on() {
    passes_everything_on("asyncio");
}
