//! A server that can be killed and started again at the same address, and clients that never stop.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use socket2::SockRef;

/// Writes back what it gets.
pub(crate) struct Echo {
    address: SocketAddr,
    /// Sessions that have sent something; checks do not.
    pub(crate) served: Arc<AtomicU64>,
    running: Option<Running>,
}

struct Running {
    listener: Arc<TcpListener>,
    streams: Arc<Mutex<Vec<TcpStream>>>,
    thread: JoinHandle<()>,
}

impl Echo {
    /// On an address that is its own.
    pub(crate) fn start() -> Self {
        Self::start_at(crate::control::place())
    }

    pub(crate) fn start_at(address: SocketAddr) -> Self {
        let mut server = Self { address, served: Arc::default(), running: None };
        server.revive();
        server
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    pub(crate) fn served(&self) -> u64 {
        self.served.load(Ordering::Relaxed)
    }

    /// Listens again.
    pub(crate) fn revive(&mut self) {
        // A process that another test starts at this moment has a copy of the old socket until it runs its program.
        let began = Instant::now();
        let listener = loop {
            match TcpListener::bind(self.address) {
                Ok(listener) => break Arc::new(listener),
                Err(error) => assert!(began.elapsed().as_secs() < 10, "{}: {error}", self.address),
            }
            thread::sleep(Duration::from_millis(10));
        };
        let streams: Arc<Mutex<Vec<TcpStream>>> = Arc::default();
        let (accepting, kept, served) =
            (Arc::clone(&listener), Arc::clone(&streams), Arc::clone(&self.served));
        let thread = thread::spawn(move || {
            while let Ok((stream, _)) = accepting.accept() {
                let mut all = kept.lock().unwrap();
                all.retain(|stream| stream.peer_addr().is_ok());
                all.push(stream.try_clone().unwrap());
                let served = Arc::clone(&served);
                thread::spawn(move || serve(stream, &served));
            }
        });
        self.running = Some(Running { listener, streams, thread });
    }

    /// As if its process was killed: every connection is closed, and nobody listens.
    pub(crate) fn kill(&mut self) {
        let Some(Running { listener, streams, thread }) = self.running.take() else { return };
        let _ = SockRef::from(&*listener).shutdown(std::net::Shutdown::Both);
        thread.join().unwrap();
        drop(listener);
        for stream in streams.lock().unwrap().drain(..) {
            let _ = stream.shutdown(std::net::Shutdown::Both);
        }
    }
}

impl Drop for Echo {
    fn drop(&mut self) {
        self.kill();
    }
}

fn serve(mut stream: TcpStream, served: &AtomicU64) {
    let mut buffer = [0; 1024];
    let mut is_first = true;
    while let Ok(count @ 1..) = stream.read(&mut buffer) {
        if std::mem::take(&mut is_first) {
            served.fetch_add(1, Ordering::Relaxed);
        }
        if stream.write_all(&buffer[..count]).is_err() {
            break;
        }
    }
    // The other handle of it would keep it open.
    let _ = stream.shutdown(std::net::Shutdown::Both);
}

/// Clients that connect, send a byte, get it back and leave, again and again.
pub(crate) struct Load {
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<Vec<Failure>>>,
}

/// A session that did not get its byte back.
#[derive(Debug)]
#[allow(dead_code)] // The error is shown where one was not to be.
pub(crate) struct Failure {
    pub(crate) began: Instant,
    error: String,
}

impl Load {
    pub(crate) fn start(at: SocketAddr, clients: usize) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let threads = (0..clients).map(|_| {
            let stop = Arc::clone(&stop);
            thread::spawn(move || {
                let mut failures = Vec::new();
                while !stop.load(Ordering::Relaxed) {
                    let began = Instant::now();
                    if let Err(error) = session(at) {
                        failures.push(Failure { began, error: error.to_string() });
                    }
                    thread::sleep(Duration::from_millis(2));
                }
                failures
            })
        });
        let threads = threads.collect();
        Self { stop, threads }
    }

    /// Ends it: every session that has failed.
    pub(crate) fn end(self) -> Vec<Failure> {
        self.stop.store(true, Ordering::Relaxed);
        self.threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect()
    }
}

/// One session.
pub(crate) fn session(at: SocketAddr) -> std::io::Result<()> {
    let mut stream = TcpStream::connect(at)?;
    stream.set_read_timeout(Some(crate::support::PATIENCE))?;
    stream.write_all(b"x")?;
    stream.read_exact(&mut [0])
}
