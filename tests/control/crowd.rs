//! Many connections at a time without many threads: an echo that serves them all, idle ones, and busy ones that measure.

use std::collections::HashMap;
use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use mio::{Events, Interest, Poll, Token};

use crate::support::PATIENCE;

/// A server with one thread that writes back what it gets, as small as that is. It ends with the test.
pub(crate) struct Echo {
    address: SocketAddr,
}

impl Echo {
    pub(crate) fn start() -> Self {
        let mut listener = mio::net::TcpListener::bind(([127, 0, 0, 1], 0).into()).unwrap();
        let address = listener.local_addr().unwrap();
        let poll = Poll::new().unwrap();
        poll.registry().register(&mut listener, Token(0), Interest::READABLE).unwrap();
        thread::spawn(move || serve(&listener, poll));
        Self { address }
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }
}

fn serve(listener: &mio::net::TcpListener, mut poll: Poll) {
    let (mut streams, mut next) = (HashMap::new(), 1);
    let mut events = Events::with_capacity(1_024);
    loop {
        poll.poll(&mut events, None).unwrap();
        for event in &events {
            if event.token() == Token(0) {
                while let Ok((mut stream, _)) = listener.accept() {
                    stream.set_nodelay(true).unwrap();
                    poll.registry().register(&mut stream, Token(next), Interest::READABLE).unwrap();
                    streams.insert(next, stream);
                    next += 1;
                }
            } else if !streams.get_mut(&event.token().0).is_some_and(echo) {
                streams.remove(&event.token().0);
            }
        }
    }
}

/// Whether it goes on.
fn echo(stream: &mut mio::net::TcpStream) -> bool {
    let mut bytes = [0; 4_096];
    loop {
        match stream.read(&mut bytes) {
            Ok(0) => return false,
            Ok(count) => {
                if stream.write_all(&bytes[..count]).is_err() {
                    return false;
                }
            }
            Err(error) => return error.kind() == ErrorKind::WouldBlock,
        }
    }
}

/// A session: a byte was there and back.
pub(crate) fn open(at: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect_timeout(&at, PATIENCE).expect("the listener takes connections");
    stream.set_nodelay(true).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    assert!(is_there(&stream), "the first byte did not come back");
    stream
}

/// Whether a byte comes back.
pub(crate) fn is_there(mut stream: &TcpStream) -> bool {
    let mut byte = [7];
    stream.write_all(&byte).and_then(|()| stream.read_exact(&mut byte)).is_ok()
}

/// Connections that ask and wait for the answer, so many times a second each, and note how long that takes.
pub(crate) struct Busy {
    over: Arc<AtomicBool>,
    /// Which of the times are meant now.
    phase: Arc<AtomicUsize>,
    threads: Vec<JoinHandle<[Vec<u32>; 2]>>,
}

impl Busy {
    pub(crate) fn start(at: SocketAddr, threads: usize, each: usize, pause: Duration) -> Self {
        let (over, phase) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
        let threads = (0..threads).map(|_| {
            let (over, phase) = (Arc::clone(&over), Arc::clone(&phase));
            let streams: Vec<TcpStream> = (0..each).map(|_| open(at)).collect();
            thread::spawn(move || talk(&streams, pause, &over, &phase))
        });
        let threads = threads.collect();
        Self { over, phase, threads }
    }

    /// From now on the times are those without the disturbance (0) or with it (1).
    pub(crate) fn enter(&self, phase: usize) {
        self.phase.store(phase, Ordering::Relaxed);
    }

    /// Ends it: the times without and with, in the order of their length. None of the connections was cut.
    pub(crate) fn finish(self) -> [Times; 2] {
        self.over.store(true, Ordering::Relaxed);
        let mut all = [Vec::new(), Vec::new()];
        for thread in self.threads {
            let times = thread.join().expect("no connection was cut");
            all.iter_mut().zip(times).for_each(|(all, times)| all.extend(times));
        }
        all.map(|mut times| {
            times.sort_unstable();
            Times(times)
        })
    }
}

fn talk(streams: &[TcpStream], pause: Duration, over: &AtomicBool, phase: &AtomicUsize) -> [Vec<u32>; 2] {
    let mut times = [Vec::new(), Vec::new()];
    let mut due = Instant::now();
    while !over.load(Ordering::Relaxed) {
        due += pause;
        thread::sleep(due.saturating_duration_since(Instant::now()));
        for stream in streams {
            let (phase, began) = (phase.load(Ordering::Relaxed), Instant::now());
            assert!(is_there(stream), "a busy connection was cut");
            times[phase].push(u32::try_from(began.elapsed().as_micros()).unwrap_or(u32::MAX));
        }
    }
    times
}

/// Microseconds, the shortest first.
pub(crate) struct Times(Vec<u32>);

impl Times {
    /// What so many of a thousand stay under.
    pub(crate) fn of_thousand(&self, part: usize) -> u32 {
        assert!(self.0.len() >= 1_000, "only {} times", self.0.len());
        self.0[self.0.len() * part / 1_000]
    }
}

impl std::fmt::Display for Times {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let [half, most, nearly] = [500, 990, 999].map(|part| self.of_thousand(part));
        write!(out, "p50 {half} us, p99 {most} us, p99.9 {nearly} us ({} times)", self.0.len())
    }
}
