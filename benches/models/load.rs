//! Clients and servers of a measurement: one thread, one epoll, level-triggered.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::time::{Duration, Instant};

use rustix::event::Timespec;
use rustix::event::epoll::{self, CreateFlags, Event, EventData, EventFlags};
use rustix::fd::OwnedFd;
use slab::Slab;

/// One message and its answer.
pub(crate) const MESSAGE: usize = 100;
const BUFFER: usize = 256 << 10;
const LISTENER: u64 = u64::MAX;
const TICK: Timespec = Timespec { tv_sec: 0, tv_nsec: 10_000_000 };

/// What clients do once they are connected. Servers send back what they get, unless it is a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Work {
    /// Ask, wait for the answer, ask again.
    PingPong,
    /// Ask once, and stay.
    Rest,
    /// Ask once, leave, and another one comes.
    Churn,
    /// Send as much as goes.
    Stream,
}

/// What has happened since the last [`Load::begin`].
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Counts {
    /// Messages that were answered.
    pub(crate) answers: u64,
    /// Bytes of streams that arrived.
    pub(crate) bytes: u64,
    /// Connections that broke or could not be made.
    pub(crate) errors: u64,
}

pub(crate) struct Load {
    epoll: OwnedFd,
    listener: TcpListener,
    peers: Slab<Peer>,
    buffer: Vec<u8>,
    work: Work,
    to: SocketAddr,
    pub(crate) counts: Counts,
}

struct Peer {
    stream: TcpStream,
    is_client: bool,
    /// Bytes of the answer so far.
    got: usize,
}

impl Load {
    pub(crate) fn new() -> io::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        listener.set_nonblocking(true)?;
        let epoll = epoll::create(CreateFlags::CLOEXEC)?;
        epoll::add(&epoll, &listener, EventData::new_u64(LISTENER), EventFlags::IN)?;
        let to = listener.local_addr()?;
        let buffer = vec![7; BUFFER];
        let counts = Counts::default();
        Ok(Self { epoll, listener, peers: Slab::new(), buffer, work: Work::Rest, to, counts })
    }

    /// Where its servers listen.
    pub(crate) fn address(&self) -> SocketAddr {
        self.listener.local_addr().expect("it is bound")
    }

    /// Connects so many clients and has them work.
    pub(crate) fn begin(&mut self, work: Work, clients: usize, to: SocketAddr) -> io::Result<()> {
        (self.work, self.to, self.counts) = (work, to, Counts::default());
        for _ in 0..clients {
            self.connect()?;
            // The servers must not have more to accept than their backlog holds.
            self.turn(Timespec { tv_sec: 0, tv_nsec: 0 })?;
        }
        Ok(())
    }

    /// Has the clients that rest ask again and again.
    pub(crate) fn wake(&mut self) -> io::Result<()> {
        self.work = Work::PingPong;
        for (_, peer) in self.peers.iter_mut().filter(|(_, peer)| peer.is_client) {
            peer.stream.write_all(&self.buffer[..MESSAGE])?;
        }
        Ok(())
    }

    /// Has the clients ask no more, and gives their last answers time to come.
    pub(crate) fn rest(&mut self) -> io::Result<()> {
        self.work = Work::Rest;
        self.until(Duration::from_millis(100), |_| false).map(|_| ())
    }

    /// Goes on until `done`, for so long at most; says whether it is.
    pub(crate) fn until(&mut self, within: Duration, done: impl Fn(&Counts) -> bool) -> io::Result<bool> {
        let began = Instant::now();
        while !done(&self.counts) {
            if began.elapsed() > within {
                return Ok(false);
            }
            self.turn(TICK)?;
        }
        Ok(true)
    }

    /// Closes all clients and waits until the servers are gone, too.
    pub(crate) fn end(&mut self, within: Duration) -> io::Result<()> {
        self.work = Work::Rest;
        self.peers.retain(|_, peer| !peer.is_client);
        let began = Instant::now();
        while !self.peers.is_empty() && began.elapsed() < within {
            self.turn(TICK)?;
        }
        self.peers.clear();
        Ok(())
    }

    fn connect(&mut self) -> io::Result<()> {
        let mut stream = TcpStream::connect(self.to)?;
        if self.work != Work::Stream {
            stream.write_all(&self.buffer[..MESSAGE])?;
        }
        self.add(stream, true)
    }

    fn add(&mut self, stream: TcpStream, is_client: bool) -> io::Result<()> {
        stream.set_nonblocking(true)?;
        stream.set_nodelay(true)?;
        let sends = is_client && self.work == Work::Stream;
        let wanted = if sends { EventFlags::IN | EventFlags::OUT } else { EventFlags::IN };
        let entry = self.peers.vacant_entry();
        epoll::add(&self.epoll, &stream, EventData::new_u64(entry.key() as u64), wanted)?;
        entry.insert(Peer { stream, is_client, got: 0 });
        Ok(())
    }

    fn turn(&mut self, wait: Timespec) -> io::Result<()> {
        let mut events = [Event { flags: EventFlags::empty(), data: EventData::new_u64(0) }; 256];
        let count = match epoll::wait(&self.epoll, &mut events[..], Some(&wait)) {
            Err(rustix::io::Errno::INTR) => 0,
            result => result?,
        };
        for event in &events[..count] {
            match event.data.u64() {
                LISTENER => self.accept()?,
                key => self.serve(key as usize, event.flags)?,
            }
        }
        Ok(())
    }

    fn accept(&mut self) -> io::Result<()> {
        loop {
            match self.listener.accept() {
                Ok((stream, _)) => self.add(stream, false)?,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(error),
            }
        }
    }

    /// One call for one peer that is ready, and what follows from it.
    fn serve(&mut self, key: usize, ready: EventFlags) -> io::Result<()> {
        // A peer that is gone may still be in a batch.
        let Some(peer) = self.peers.get_mut(key) else { return Ok(()) };
        let result = if peer.is_client && self.work == Work::Stream && ready == EventFlags::OUT {
            peer.stream.write(&self.buffer).map(|_| true)
        } else {
            peer.read(&mut self.buffer, self.work, &mut self.counts)
        };
        match result {
            Ok(true) => return Ok(()),
            Ok(false) => {}
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
            Err(_) => self.counts.errors += 1,
        }
        let peer = self.peers.remove(key);
        if peer.is_client && self.work == Work::Churn {
            drop(peer);
            if self.connect().is_err() {
                self.counts.errors += 1;
            }
        }
        Ok(())
    }
}

impl Peer {
    /// Reads once; `false` when the connection is over.
    fn read(&mut self, buffer: &mut [u8], work: Work, counts: &mut Counts) -> io::Result<bool> {
        let count = self.stream.read(buffer)?;
        if count == 0 {
            return Ok(false);
        }
        if !self.is_client {
            if work == Work::Stream {
                counts.bytes += count as u64;
            } else {
                self.stream.write_all(&buffer[..count])?;
            }
            return Ok(true);
        }
        self.got += count;
        if self.got < MESSAGE {
            return Ok(true);
        }
        self.got = 0;
        counts.answers += 1;
        if work == Work::PingPong {
            self.stream.write_all(&buffer[..MESSAGE])?;
        }
        Ok(work != Work::Churn)
    }
}
