//! A client that connects all the time, and remembers every time that it was not served.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use crate::support::PATIENCE;

/// Connects again and again until it is asked what came of it.
pub(crate) struct Knocking {
    over: Arc<AtomicBool>,
    served: Arc<AtomicU64>,
    threads: Vec<JoinHandle<Vec<String>>>,
}

impl Knocking {
    /// So many threads, each with a pause before each connection, at a server that echoes.
    pub(crate) fn start(at: SocketAddr, threads: usize, pause: Duration) -> Self {
        let (over, served) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let threads = (0..threads).map(|_| {
            let (over, served) = (Arc::clone(&over), Arc::clone(&served));
            thread::spawn(move || knock(at, pause, &over, &served))
        });
        let threads = threads.collect();
        Self { over, served, threads }
    }

    /// How many were served so far.
    pub(crate) fn served(&self) -> u64 {
        self.served.load(Ordering::Relaxed)
    }

    /// Waits until so many more were served.
    pub(crate) fn wait_for(&self, more: u64) {
        let (began, before) = (Instant::now(), self.served());
        while self.served() < before + more && began.elapsed() < PATIENCE {
            thread::sleep(Duration::from_millis(2));
        }
    }

    /// Ends it: how many were served. Every one must have been.
    pub(crate) fn all_were_served(self) -> u64 {
        self.over.store(true, Ordering::Relaxed);
        let failed: Vec<String> =
            self.threads.into_iter().flat_map(|thread| thread.join().expect("it does not panic")).collect();
        let served = self.served.load(Ordering::Relaxed);
        let first = &failed[..failed.len().min(10)];
        assert!(failed.is_empty(), "{} of {} clients failed: {first:#?}", failed.len(), served);
        assert!(served > 0, "nobody knocked");
        served
    }
}

fn knock(at: SocketAddr, pause: Duration, over: &AtomicBool, served: &AtomicU64) -> Vec<String> {
    let mut failed = Vec::new();
    let mut due = Instant::now();
    while !over.load(Ordering::Relaxed) {
        due += pause;
        thread::sleep(due.saturating_duration_since(Instant::now()));
        match visit(at) {
            Ok(()) => drop(served.fetch_add(1, Ordering::Relaxed)),
            Err((when, error)) => failed.push(format!("{when}: {error}")),
        }
    }
    failed
}

/// A whole connection: a hundred bytes there and back, and an orderly end.
fn visit(at: SocketAddr) -> Result<(), (&'static str, io::Error)> {
    let mut stream = TcpStream::connect_timeout(&at, PATIENCE).map_err(|error| ("connect", error))?;
    let during = |when| move |error| (when, error);
    stream.set_read_timeout(Some(PATIENCE)).map_err(during("set"))?;
    let mut bytes = [7; 100];
    stream.write_all(&bytes).map_err(during("send"))?;
    stream.read_exact(&mut bytes).map_err(during("receive"))?;
    stream.shutdown(std::net::Shutdown::Write).map_err(during("finish"))?;
    match stream.read(&mut bytes).map_err(during("end"))? {
        0 => Ok(()),
        _ => Err(("end", io::Error::other("more than was sent"))),
    }
}
