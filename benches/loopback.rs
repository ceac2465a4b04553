//! What the program costs on the way: the same clients and servers, connected directly and through it, over loopback.
//!
//! Clients, servers and the program share this machine's CPUs, so the figures tell what a connection costs, not what a
//! machine can carry. `cargo bench --bench loopback`; nothing is measured without cargo's `--bench`.

#![cfg(target_os = "linux")]
#![allow(clippy::disallowed_methods, clippy::disallowed_types)] // A benchmark reads clocks.

#[path = "../tests/support/mod.rs"]
mod support;

use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

use support::PATIENCE;
use support::gate::{Config, Gate};

const ENGINES: [&str; 1] = ["mio"];

const PING_PONG_CONNECTIONS: usize = 64;
const PING_PONG_BYTES: usize = 64;
const PING_PONG_TIME: Duration = Duration::from_secs(2);
/// Far less than two seconds are needed for it.
const BULK_BYTES: usize = 2 << 30;
const CHURN_CLIENTS: usize = 4;
/// Few enough that the ports of closed connections, which rest for a minute, do not run out.
const CHURN_CONNECTIONS: usize = 1_000;

/// Round trips a second, with the median and the 99th percentile of their times.
struct PingPong {
    per_second: f64,
    median: Duration,
    p99: Duration,
}

fn main() -> io::Result<()> {
    let arguments: Vec<String> = std::env::args().collect();
    if !arguments.iter().any(|it| it == "--bench") || arguments.iter().any(|it| it == "--test") {
        println!("nothing is measured without --bench");
        return Ok(());
    }
    let echo = serve(echo)?;
    let source = serve(source)?;
    println!("one worker; clients, servers and the program on {} CPUs", thread::available_parallelism()?);
    println!(
        "{:10} {:>14} {:>9} {:>9} {:>14} {:>14}",
        "", "round trips/s", "p50 us", "p99 us", "bulk MiB/s", "connections/s"
    );
    measure("direct", echo, source)?;
    for engine in ENGINES {
        let to = |server| Gate::start(&Config::new(engine).access_log("output = \"off\"").server(server));
        let gates = [to(echo), to(source)];
        measure(engine, gates[0].address(), gates[1].address())?;
    }
    Ok(())
}

fn measure(name: &str, echo: SocketAddr, source: SocketAddr) -> io::Result<()> {
    let PingPong { per_second, median, p99 } = ping_pong(echo)?;
    let (median, p99) = (median.as_micros(), p99.as_micros());
    let bulk = bulk(source)?;
    let churn = churn(echo)?;
    println!("{name:10} {per_second:14.0} {median:9} {p99:9} {bulk:14.0} {churn:14.0}");
    Ok(())
}

/// Clients that each ask, wait for the answer and ask again.
fn ping_pong(to: SocketAddr) -> io::Result<PingPong> {
    let clients = (0..PING_PONG_CONNECTIONS).map(|_| connect(to)).collect::<io::Result<Vec<_>>>()?;
    let began = Instant::now();
    let end = began + PING_PONG_TIME;
    let mut times = at_once(clients, |mut client| {
        let mut message = [7; PING_PONG_BYTES];
        let mut times = Vec::new();
        while Instant::now() < end {
            let asked = Instant::now();
            client.write_all(&message)?;
            client.read_exact(&mut message)?;
            times.push(asked.elapsed());
        }
        Ok(times)
    })?
    .concat();
    let per_second = times.len() as f64 / began.elapsed().as_secs_f64();
    times.sort_unstable();
    let at = |share: f64| times[(times.len() as f64 * share) as usize];
    Ok(PingPong { per_second, median: at(0.5), p99: at(0.99) })
}

/// One client reads what the server sends: MiB a second.
fn bulk(from: SocketAddr) -> io::Result<f64> {
    let mut client = connect(from)?;
    let mut buffer = vec![0; 1 << 18];
    let mut left = BULK_BYTES;
    let began = Instant::now();
    while left > 0 {
        let most = left.min(buffer.len());
        left -= match client.read(&mut buffer[..most])? {
            0 => return Err(io::ErrorKind::UnexpectedEof.into()),
            count => count,
        };
    }
    Ok((BULK_BYTES >> 20) as f64 / began.elapsed().as_secs_f64())
}

/// Clients that connect, get a byte back, and leave: connections a second.
fn churn(to: SocketAddr) -> io::Result<f64> {
    let began = Instant::now();
    at_once(vec![(); CHURN_CLIENTS], |()| {
        for _ in 0..CHURN_CONNECTIONS {
            let mut client = connect(to)?;
            client.write_all(&[7])?;
            client.read_exact(&mut [0])?;
        }
        Ok(())
    })?;
    Ok((CHURN_CLIENTS * CHURN_CONNECTIONS) as f64 / began.elapsed().as_secs_f64())
}

/// Runs `act` for each of `clients` on a thread of its own.
fn at_once<C: Send, T: Send>(clients: Vec<C>, act: impl Fn(C) -> io::Result<T> + Sync) -> io::Result<Vec<T>> {
    let act = &act;
    thread::scope(|scope| {
        let threads: Vec<_> = clients.into_iter().map(|client| scope.spawn(move || act(client))).collect();
        threads.into_iter().map(|thread| thread.join().expect("it only does I/O")).collect()
    })
}

fn connect(to: SocketAddr) -> io::Result<TcpStream> {
    let stream = TcpStream::connect_timeout(&to, PATIENCE)?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    Ok(stream)
}

/// A server for as long as the process runs, with a thread for each connection; an error ends only that one.
fn serve(act: fn(TcpStream) -> io::Result<()>) -> io::Result<SocketAddr> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    let address = listener.local_addr()?;
    thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            thread::spawn(move || stream.set_nodelay(true).and_then(|()| act(stream)));
        }
    });
    Ok(address)
}

fn echo(mut stream: TcpStream) -> io::Result<()> {
    let mut buffer = [0; PING_PONG_BYTES];
    loop {
        match stream.read(&mut buffer)? {
            0 => return Ok(()),
            count => stream.write_all(&buffer[..count])?,
        }
    }
}

fn source(mut stream: TcpStream) -> io::Result<()> {
    let bytes = vec![7; 1 << 18];
    loop {
        stream.write_all(&bytes)?;
    }
}
