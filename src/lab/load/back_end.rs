//! The back end: one thread that serves all ports.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{Ipv4Addr, Shutdown, TcpListener, TcpStream};
use std::time::Duration;

use slab::Slab;

use super::epoll::{Epoll, Ready, Want};
use super::pattern::{HEAD, LONGEST, Messages, Name, Pattern, Way};
use super::reader::{CHUNK, Got, Receiving, Sending, or_nothing};
use super::{BackEndSays, BackEndTask, Tally};
use crate::lab::say_line;
use crate::lab::workload::{MESSAGE, Work};

/// Keys of listeners are from here on; that of the standard input is the last.
const LISTENERS: u64 = u64::MAX / 2;
const INPUT: u64 = u64::MAX;
/// On how many ports it listens, so that a proxy's do not run out.
const PORTS: usize = 4;
/// Reads or writes of one connection in a row.
const BURST: usize = 4;
/// Bytes of an echo that are held at most.
const ECHO: usize = 64 << 10;

/// The whole life of a back end.
pub(super) fn serve(task: &BackEndTask) -> anyhow::Result<()> {
    let listeners: Vec<TcpListener> = (0..PORTS).map(|_| listen()).collect::<io::Result<_>>()?;
    let mut back_end = BackEnd {
        epoll: Epoll::new()?,
        pattern: Pattern::new(),
        connections: Slab::new(),
        buffer: vec![0; LONGEST],
        work: task.work,
        reply: task.reply as usize,
        tally: Tally::default(),
    };
    back_end.epoll.add(io::stdin(), INPUT, Want::READ)?;
    for (key, listener) in (LISTENERS..).zip(&listeners) {
        back_end.epoll.add(listener, key, Want::READ)?;
    }
    say_line(&BackEndSays::Listening(
        listeners.iter().map(TcpListener::local_addr).collect::<io::Result<_>>()?,
    ))?;
    loop {
        for ready in back_end.epoll.wait(Duration::from_secs(60))? {
            match ready.key {
                INPUT => return say_line(&BackEndSays::Ended(back_end.tally)),
                key @ LISTENERS.. => back_end.accept(&listeners[(key - LISTENERS) as usize])?,
                _ => back_end.serve_one(ready),
            }
        }
    }
}

fn listen() -> io::Result<TcpListener> {
    use socket2::{Domain, Socket, Type};
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
    socket.set_nonblocking(true)?;
    socket.bind(&std::net::SocketAddr::from((Ipv4Addr::LOCALHOST, 0)).into())?;
    socket.listen(4096)?;
    Ok(socket.into())
}

struct BackEnd {
    epoll: Epoll,
    pattern: Pattern,
    connections: Slab<Connection>,
    buffer: Vec<u8>,
    work: Work,
    reply: usize,
    tally: Tally,
}

struct Connection {
    stream: TcpStream,
    want: Want,
    trade: Trade,
}

/// What one connection is about.
enum Trade {
    /// Requests are answered in their order; `out` is what is to be sent, from `done` on.
    Replies { asked: Messages, out: Vec<u8>, done: usize },
    /// A stream comes, and in `back` one goes.
    Streams { receiving: Receiving, back: Option<Sending> },
    /// What comes goes back.
    Echo { held: Vec<u8>, done: usize, ended: bool },
}

impl BackEnd {
    fn accept(&mut self, listener: &TcpListener) -> io::Result<()> {
        loop {
            let stream = match listener.accept() {
                Ok((stream, _)) => stream,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) if error.kind() == ErrorKind::ConnectionAborted => continue,
                Err(error) => return Err(error),
            };
            stream.set_nonblocking(true)?;
            stream.set_nodelay(true)?;
            let trade = self.trade();
            let entry = self.connections.vacant_entry();
            let key = entry.key();
            self.epoll.add(&stream, key as u64, Want::READ)?;
            entry.insert(Connection { stream, want: Want::READ, trade });
            if self.work == Work::FirstByte {
                self.serve_one(Ready { key: key as u64, read: false, write: true });
            }
        }
    }

    /// What a new connection is about.
    fn trade(&self) -> Trade {
        match self.work {
            Work::Integrity => Trade::Echo { held: Vec::with_capacity(ECHO), done: 0, ended: false },
            Work::Up | Work::Duplex | Work::SlowReaders => {
                Trade::Streams { receiving: Receiving::new(None, Way::Up, false), back: None }
            }
            Work::FirstByte => {
                let mut out = Vec::new();
                self.pattern.message(Name::default(), Way::Down, MESSAGE as usize, &mut out);
                Trade::Replies { asked: Messages::new(MESSAGE as usize), out, done: 0 }
            }
            Work::PingPong | Work::Churn | Work::Idle | Work::Rate => {
                Trade::Replies { asked: Messages::new(MESSAGE as usize), out: Vec::new(), done: 0 }
            }
        }
    }

    /// Does for one connection what it can do now.
    fn serve_one(&mut self, ready: Ready) {
        let key = ready.key as usize;
        let Some(connection) = self.connections.get_mut(key) else { return };
        let Connection { stream, trade, .. } = connection;
        let (tally, pattern, buffer) = (&mut self.tally, &self.pattern, &mut self.buffer);
        let result = match trade {
            Trade::Replies { asked, out, done } => {
                let mut replies = Replies { asked, out, done, size: self.reply };
                replies.serve(stream, ready, pattern, buffer, tally)
            }
            Trade::Streams { receiving, back } => {
                let sends = self.work != Work::Up;
                stream_on(stream, ready, receiving, back, sends, pattern, buffer, tally)
            }
            Trade::Echo { held, done, ended } => echo(stream, held, done, ended, tally),
        };
        match result {
            Ok(Some(want)) if want == connection.want => {}
            Ok(Some(want)) => {
                connection.want = want;
                if let Err(error) = self.epoll.set(&connection.stream, key as u64, want) {
                    tally.fail(|| format!("the back end's epoll_ctl: {error}"));
                }
            }
            Ok(None) => drop(self.connections.remove(key)),
            Err(error) => {
                // Slow readers leave with bytes unread, which is a reset.
                if self.work != Work::SlowReaders {
                    tally.fail(|| format!("the back end met: {error}"));
                }
                drop(self.connections.remove(key));
            }
        }
    }
}

/// A connection with requests and replies.
struct Replies<'c> {
    asked: &'c mut Messages,
    out: &'c mut Vec<u8>,
    done: &'c mut usize,
    size: usize,
}

impl Replies<'_> {
    /// `None` when it is over.
    fn serve(
        &mut self,
        mut stream: &TcpStream,
        ready: Ready,
        pattern: &Pattern,
        buffer: &mut [u8],
        tally: &mut Tally,
    ) -> io::Result<Option<Want>> {
        // Nobody is read from who does not take his replies.
        if ready.read && self.out.is_empty() {
            match stream.read(buffer) {
                Ok(0) => {
                    if self.asked.is_amid() {
                        tally.fail(|| "a request was cut short".to_owned());
                    }
                    return Ok(None);
                }
                Ok(count) => {
                    tally.received += count as u64;
                    self.answer(&buffer[..count], pattern, tally);
                }
                Err(error) => drop(or_nothing(Err(error))?),
            }
        }
        if !self.out.is_empty() {
            let count = or_nothing(stream.write(&self.out[*self.done..]))?;
            tally.sent += count as u64;
            *self.done += count;
            if *self.done == self.out.len() {
                self.out.clear();
                *self.done = 0;
            }
        }
        Ok(Some(if self.out.is_empty() { Want::READ } else { Want::WRITE }))
    }

    fn answer(&mut self, bytes: &[u8], pattern: &Pattern, tally: &mut Tally) {
        self.asked.take(bytes, |request| {
            let head = request.first_chunk::<HEAD>().expect("a request is longer than its head");
            let name = Name::from_bytes(*head);
            if !pattern.is_message(name, Way::Up, request) {
                tally.fail(|| format!("a request arrived changed at the back end ({name:?})"));
            }
            pattern.message(name, Way::Down, self.size, self.out);
        });
    }
}

/// A connection with a stream, or one each way. `None` when it is over.
#[expect(
    clippy::too_many_arguments,
    reason = "the parts of one connection and of the back end, borrowed apart"
)]
fn stream_on(
    stream: &TcpStream,
    ready: Ready,
    receiving: &mut Receiving,
    back: &mut Option<Sending>,
    sends: bool,
    pattern: &Pattern,
    buffer: &mut [u8],
    tally: &mut Tally,
) -> io::Result<Option<Want>> {
    for _ in 0..if ready.read { BURST } else { 0 } {
        let before = receiving.received;
        let got = receiving.read(stream, pattern, &mut buffer[..LONGEST])?;
        tally.received += receiving.received - before;
        match got {
            Got::Bytes(_) => {}
            Got::Nothing => break,
            Got::End => {
                stream.shutdown(Shutdown::Write)?;
                return Ok(None);
            }
            Got::Wrong(at) => {
                tally.fail(|| format!("a stream arrived changed at the back end, at byte {at}"));
            }
        }
    }
    if let (true, None, Some(name)) = (sends, &back, receiving.name()) {
        *back = Some(Sending::new(name, Way::Down));
    }
    let Some(sending) = back else { return Ok(Some(Want::READ)) };
    for _ in 0..if ready.write { BURST } else { 0 } {
        let count = sending.write(stream, pattern, CHUNK)?;
        tally.sent += count as u64;
        if count == 0 {
            break;
        }
    }
    Ok(Some(Want::BOTH))
}

/// What comes goes back, and the end behind it. `None` when it is over.
fn echo(
    mut stream: &TcpStream,
    held: &mut Vec<u8>,
    done: &mut usize,
    ended: &mut bool,
    tally: &mut Tally,
) -> io::Result<Option<Want>> {
    for _ in 0..BURST {
        if *done == held.len() {
            if *ended {
                stream.shutdown(Shutdown::Write)?;
                return Ok(None);
            }
            held.resize(ECHO, 0);
            *done = 0;
            let read = stream.read(held);
            held.truncate(*read.as_ref().unwrap_or(&0));
            match read {
                Ok(0) => *ended = true,
                Ok(count) => tally.received += count as u64,
                Err(error) => {
                    or_nothing(Err(error))?;
                    break;
                }
            }
        } else {
            let count = or_nothing(stream.write(&held[*done..]))?;
            tally.sent += count as u64;
            *done += count;
            if count == 0 {
                break;
            }
        }
    }
    Ok(Some(if *done < held.len() { Want::WRITE } else { Want::READ }))
}
