//! Which worker gets a connection, and that none is lost between two of them.

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::Signal;

use crate::support::PATIENCE;
use crate::support::gate::{Config, Gate};
use crate::support::peer::Peer;
use crate::support::servers::Server;

pub(crate) fn least_loaded_evens_out_two_workers(engine: &'static str) {
    for [one, other] in splits(engine, "least_loaded") {
        assert!(one.abs_diff(other) <= 2, "{one}/{other}");
    }
}

/// Nothing to hold it to: how the kernel's hash falls is shown beside the other.
pub(crate) fn reuseport_leaves_it_to_the_kernel(engine: &'static str) {
    splits(engine, "reuseport");
}

/// How 8 connections that stay fall on two workers, ten times.
fn splits(engine: &'static str, accept_balance: &str) -> Vec<[usize; 2]> {
    let server = Server::echo();
    let config = Config::new(engine).workers(2).listener(&format!("accept_balance = \"{accept_balance}\""));
    let gate = Gate::start(&config.server(server.address()));
    let splits: Vec<[usize; 2]> = (0..10).map(|_| split(&gate)).collect();
    let skew: usize = splits.iter().map(|[one, other]| one.abs_diff(*other)).sum();
    let shown: Vec<String> = splits.iter().map(|[one, other]| format!("{one}/{other}")).collect();
    let shown = shown.join(" ");
    println!(
        "8 long connections on two workers: {accept_balance} {shown}, |a-b| {:.1} on average",
        skew as f64 / 10.0
    );
    splits
}

fn split(gate: &Gate) -> [usize; 2] {
    let connect = |_| {
        let mut client = gate.connect();
        client.expect_echo();
        client.send(1);
        client.receive(1);
        client
    };
    let clients: Vec<Peer> = (0..8).map(connect).collect();
    let addresses: Vec<SocketAddr> = clients.iter().map(Peer::address).collect();
    drop(clients);
    let first = addresses.iter().filter(|client| gate.access(**client).worker == 0).count();
    [first, 8 - first]
}

pub(crate) fn burst_over_two_workers_loses_none(engine: &'static str) {
    let server = Server::echo();
    let gate = Gate::start(&Config::new(engine).workers(2).server(server.address()));
    thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| (0..25).for_each(|_| gate.echo(100)));
        }
    });
    let accesses = gate.first_accesses(200);
    assert_eq!(accesses.len(), 200);
    assert!(accesses.iter().all(|access| access.cause == "done" && access.bytes_out == 100), "{accesses:#?}");
    for worker in 0..2 {
        assert!(accesses.iter().any(|access| access.worker == worker), "worker {worker} had none");
    }
}

/// A client whose handshake ends while a listener is being closed is reset by the kernel, which no program can
/// prevent; but whom the program has accepted, it serves.
pub(crate) fn drain_of_two_workers_loses_none_that_was_accepted(engine: &'static str) {
    let server = Server::echo();
    let mut gate = Gate::start(&Config::new(engine).workers(2).server(server.address()));
    let address = gate.address();
    let clients: Vec<_> = (0..4).map(|_| thread::spawn(move || serve_until_refused(address))).collect();
    let began = Instant::now();
    while server.accepted() < 40 {
        assert!(began.elapsed() < PATIENCE, "{} clients were served", server.accepted());
        thread::sleep(Duration::from_millis(5));
    }
    gate.signal(Signal::TERM);
    let counts = clients.into_iter().map(|client| client.join().expect("no answer was cut"));
    let (served, reset) = counts.fold((0, 0), |sum, counts| (sum.0 + counts.0, sum.1 + counts.1));
    let status = gate.wait_exit(PATIENCE).expect("it ends");
    assert_eq!(status.code(), Some(0));
    println!("{served} clients were served, {reset} were reset by the kernel at the close of a listener");
    assert!(served > 20, "the drain met no clients: {served}");
    let accesses = gate.first_accesses(served);
    assert_eq!(accesses.len(), served, "a client that was accepted was not served");
    assert!(accesses.iter().all(|access| access.cause == "done"), "{accesses:#?}");
}

/// One client after the other until they are refused: how many were served, and how many were reset at once.
fn serve_until_refused(address: SocketAddr) -> (usize, usize) {
    let (mut served, mut reset) = (0, 0);
    loop {
        match TcpStream::connect_timeout(&address, PATIENCE).and_then(ask) {
            Ok(answer) => {
                assert_eq!(answer, [7; 100]);
                served += 1;
            }
            Err(error) if error.kind() == ErrorKind::ConnectionRefused => return (served, reset),
            Err(error) => {
                let kind = error.kind();
                assert!(matches!(kind, ErrorKind::ConnectionReset | ErrorKind::BrokenPipe), "{error}");
                reset += 1;
            }
        }
    }
}

fn ask(mut stream: TcpStream) -> std::io::Result<Vec<u8>> {
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.write_all(&[7; 100])?;
    stream.shutdown(Shutdown::Write).map_err(|_| ErrorKind::ConnectionReset)?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer)?;
    Ok(answer)
}
