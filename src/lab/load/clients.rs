//! The clients: one thread that plays all of them.

mod rate;

use std::collections::VecDeque;
use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use anyhow::ensure;
use hdrhistogram::Histogram;
use socket2::{Domain, Socket, Type};

use super::epoll::{Epoll, Ready, Want};
use super::pattern::{LONGEST, Messages, Name, Pattern, Way};
use super::reader::{CHUNK, Got, Receiving, Sending, or_nothing};
use super::{ClientsSay, ClientsTask, Tally, Window, await_word};
use crate::lab::measure::Usage;
use crate::lab::results::Latency;
use crate::lab::workload::{MESSAGE, Work};
use crate::lab::{now, say_line};
use crate::sys::bind_source;

/// Clients come from so many addresses of loopback, so that ports do not run out.
const SOURCES: u32 = 16;
/// So many connect at a time, so that no backlog overflows.
const CROWD: usize = 256;
/// How long all together may take to connect, to be answered, to finish.
const PATIENCE: Duration = Duration::from_secs(10);
/// After so many errors no more is tried.
const ERRORS: u64 = 100;
/// Writes or reads of one stream in a row.
const BURST: usize = 4;
/// Of a slow reader: bytes that it takes at a time, how often it does, and its receive buffer in bytes.
const SIP: usize = 13_107;
const SIPS: Duration = Duration::from_millis(50);
const SLOW_BUFFER: usize = 64 << 10;
/// The longest latency that is told apart, in nanoseconds.
const LONGEST_LATENCY: u64 = 60_000_000_000;
/// How long nothing may be under way before traffic is believed to rest; a stream's last bytes take longer, above all
/// through a proxy that is traced.
const REST: Duration = Duration::from_millis(30);
const STREAM_REST: Duration = Duration::from_millis(400);

/// The whole life of the clients.
pub(super) fn serve(task: ClientsTask) -> anyhow::Result<()> {
    ensure!(
        task.targets.iter().all(|target| target.ip().is_loopback()),
        "the lab's clients talk to loopback only"
    );
    let mut clients = Clients::new(task)?;
    clients.connect_all()?;
    let window = match clients.task.work {
        Work::Rate => clients.measure_rates()?,
        Work::Integrity => clients.measure(PATIENCE, |it| it.open == 0)?,
        _ => {
            clients.warm_up()?;
            clients.measure(Duration::from_secs_f64(clients.task.window), |_| false)?
        }
    };
    if clients.tally.error.is_none() {
        say_line(&ClientsSay::End(Box::new(window)))?;
        await_word()?;
        clients.finish()?;
    }
    say_line(&ClientsSay::Ended(clients.tally))
}

struct Clients {
    task: ClientsTask,
    epoll: Epoll,
    pattern: Pattern,
    buffer: Vec<u8>,
    clients: Vec<Option<Client>>,
    /// Connections that were begun so far.
    begun: u32,
    /// Those that are open or connecting.
    open: usize,
    /// Requests and connections that are not answered yet.
    awaited: usize,
    /// Of [`Work::Rate`]: when requests were due that wait for a connection, and connections that wait for one.
    queue: VecDeque<u64>,
    at_rest: VecDeque<usize>,
    /// Whoever was answered asks again.
    runs: bool,
    origin: Instant,
    /// Since the window began.
    units: u64,
    bytes: u64,
    latency: Histogram<u64>,
    tally: Tally,
}

struct Client {
    key: u64,
    stream: TcpStream,
    want: Want,
    phase: Phase,
    name: Name,
    /// When each of its requests was made, or was to be made, that is not answered yet; or when it began to connect.
    since: VecDeque<u64>,
    replies: Messages,
    /// Requests that the socket has not taken.
    unsent: Vec<u8>,
    sending: Sending,
    receiving: Receiving,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Connecting,
    Open,
    /// It has sent its end.
    Finishing,
}

impl Clients {
    fn new(task: ClientsTask) -> anyhow::Result<Self> {
        let clients = (0..task.connections).map(|_| None).collect();
        Ok(Self {
            epoll: Epoll::new()?,
            pattern: Pattern::new(),
            buffer: vec![0; LONGEST],
            clients,
            begun: 0,
            open: 0,
            awaited: 0,
            queue: VecDeque::new(),
            at_rest: VecDeque::new(),
            runs: true,
            origin: now(),
            units: 0,
            bytes: 0,
            latency: Histogram::new_with_max(LONGEST_LATENCY, 3)?,
            tally: Tally::default(),
            task,
        })
    }

    /// Nanoseconds since the start.
    fn now(&self) -> u64 {
        self.origin.elapsed().as_nanos() as u64
    }

    fn connect_all(&mut self) -> io::Result<()> {
        for first in (0..self.clients.len()).step_by(CROWD) {
            let last = self.clients.len().min(first + CROWD);
            (first..last).for_each(|index| self.connect(index));
            let all =
                |it: &Self| it.clients[first..last].iter().flatten().all(|it| it.phase != Phase::Connecting);
            // These have begun to work when they are connected.
            if !self.connects_anew() && !self.until(PATIENCE, all)? {
                self.tally.fail(|| format!("not all of {last} connections were made within {PATIENCE:?}"));
                break;
            }
        }
        if self.task.work == Work::Idle && !self.until(PATIENCE, |it| it.awaited == 0)? {
            let missing = self.awaited;
            self.tally.fail(|| format!("{missing} of the connections were not answered within {PATIENCE:?}"));
        }
        Ok(())
    }

    /// Whether a connection is one unit of work, and another one follows.
    fn connects_anew(&self) -> bool {
        matches!(self.task.work, Work::Churn | Work::FirstByte)
    }

    /// Traffic before the window, and with `rests` none just before it.
    fn warm_up(&mut self) -> anyhow::Result<()> {
        self.until(Duration::from_secs_f64(self.task.warm_up), |_| false)?;
        if self.task.rests {
            self.rest()?;
        }
        say_line(&ClientsSay::Begin)?;
        if self.task.rests {
            await_word()?;
            self.runs = true;
            (0..self.clients.len()).for_each(|index| self.go_on(index));
        }
        Ok(())
    }

    /// Lets everything that is under way come to its end.
    fn rest(&mut self) -> io::Result<()> {
        self.runs = false;
        let streams: Vec<usize> =
            if self.task.work == Work::Up { (0..self.clients.len()).collect() } else { vec![] };
        streams.into_iter().for_each(|index| self.want(index, Want::default()));
        if !self.until(PATIENCE, |it| it.awaited == 0)? {
            let awaited = self.awaited;
            self.tally.fail(|| format!("{awaited} replies did not come within {PATIENCE:?}"));
        }
        let rest = if self.task.work == Work::Up { STREAM_REST } else { REST };
        self.until(rest, |_| false).map(|_| ())
    }

    /// Starts a client that rests again.
    fn go_on(&mut self, index: usize) {
        match (&self.clients[index], self.task.work) {
            (None, _) => self.connect(index),
            (Some(_), Work::PingPong) => self.ask(index, self.now()),
            (Some(_), _) => self.want(index, Want::WRITE),
        }
    }

    /// The window: for so long, or until `done`.
    fn measure(&mut self, most: Duration, done: impl Fn(&Self) -> bool) -> anyhow::Result<Window> {
        if self.task.work == Work::Integrity {
            say_line(&ClientsSay::Begin)?;
        }
        let before = self.usage()?;
        let began = now();
        (self.units, self.bytes) = (0, 0);
        self.latency.reset();
        if !self.until(most, &done)? && self.task.work == Work::Integrity {
            let open = self.open;
            self.tally.fail(|| format!("{open} connections were not through within {most:?}"));
        }
        if self.task.rests {
            self.rest()?;
        }
        let seconds = began.elapsed().as_secs_f64();
        let mut window = Window::between(&before, &self.usage()?, seconds);
        window.units = if self.task.work == Work::Idle { self.open as u64 } else { self.units };
        window.bytes = self.bytes;
        window.latency = (!self.latency.is_empty()).then(|| latency(&self.latency));
        Ok(window)
    }

    /// What the proxy, the clients and the back end have used until now.
    fn usage(&self) -> io::Result<[Usage; 3]> {
        let load = [std::process::id(), self.task.back_end];
        Ok([Usage::of(&self.task.proxy)?, Usage::of(&load[..1])?, Usage::of(&load[1..])?])
    }

    /// The end: what was asked is answered, streams are ended and drained.
    fn finish(&mut self) -> io::Result<()> {
        self.runs = false;
        match self.task.work {
            Work::Up | Work::Duplex => {
                (0..self.clients.len()).for_each(|index| self.end_stream(index));
                if !self.until(PATIENCE, |it| it.open == 0)? {
                    let open = self.open;
                    self.tally
                        .fail(|| format!("{open} streams were not through within {PATIENCE:?} of their end"));
                }
            }
            Work::SlowReaders | Work::Integrity => {}
            _ => {
                if !self.until(PATIENCE, |it| it.awaited == 0)? {
                    let awaited = self.awaited;
                    self.tally.fail(|| format!("{awaited} replies did not come within {PATIENCE:?}"));
                }
                // A connection that was closed under us, or was sent what nobody asked for?
                for client in self.clients.iter().flatten() {
                    match (&client.stream).read(&mut [0]) {
                        Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                        other => {
                            self.tally.fail(|| format!("a connection at rest was not left alone: {other:?}"));
                        }
                    }
                }
            }
        }
        Ok(())
    }

    fn end_stream(&mut self, index: usize) {
        let Some(client) = &mut self.clients[index] else { return };
        client.phase = Phase::Finishing;
        match client.stream.shutdown(Shutdown::Write) {
            Ok(()) => self.want(index, Want::READ),
            Err(error) => self.leave(index, Some(format!("a stream could not be ended: {error}"))),
        }
    }

    /// Works for so long at most, or until `done`; says whether it is. Ends early when too much has failed.
    fn until(&mut self, most: Duration, done: impl Fn(&Self) -> bool) -> io::Result<bool> {
        let end = now() + most;
        let mut next_sip = now();
        while !done(self) {
            let left = end.saturating_duration_since(now());
            if left.is_zero() || self.tally.errors > ERRORS {
                return Ok(false);
            }
            let slow = self.task.work == Work::SlowReaders;
            if slow && now() >= next_sip {
                next_sip += SIPS;
                (0..self.clients.len()).for_each(|index| self.sip(index));
            }
            let wait = if slow { next_sip.saturating_duration_since(now()).min(left) } else { left };
            for ready in self.epoll.wait(wait.min(Duration::from_millis(20)))? {
                self.serve_one(ready);
            }
        }
        Ok(true)
    }
}

/// A histogram in nanoseconds, in short.
fn latency(histogram: &Histogram<u64>) -> Latency {
    let at = |quantile| histogram.value_at_quantile(quantile) as f64 / 1e3;
    Latency { count: histogram.len(), p50: at(0.5), p99: at(0.99), p999: at(0.999), max: at(1.0) }
}

/// What single clients do.
impl Clients {
    fn connect(&mut self, index: usize) {
        let key = u64::from(self.begun) << 32 | index as u64;
        let name = Name { connection: self.begun, number: 0 };
        let source = Ipv4Addr::new(127, 0, 0, (2 + self.begun % SOURCES) as u8);
        let target = self.task.targets[self.begun as usize % self.task.targets.len()];
        self.begun += 1;
        let since = self.now();
        let slow = self.task.work == Work::SlowReaders;
        let stream = dial(source, target, slow.then_some(SLOW_BUFFER));
        let added = stream.and_then(|stream| self.epoll.add(&stream, key, Want::WRITE).map(|()| stream));
        match added {
            Ok(stream) => {
                let every_byte = matches!(self.task.work, Work::Integrity | Work::SlowReaders);
                // An echo brings back what went up.
                let back = if self.task.work == Work::Integrity { Way::Up } else { Way::Down };
                self.open += 1;
                self.awaited += usize::from(self.connects_anew());
                self.clients[index] = Some(Client {
                    key,
                    stream,
                    want: Want::WRITE,
                    phase: Phase::Connecting,
                    name,
                    since: VecDeque::from([since]),
                    replies: Messages::new(self.task.size as usize),
                    unsent: Vec::new(),
                    sending: Sending::new(name, Way::Up),
                    receiving: Receiving::new(Some(name), back, every_byte),
                });
            }
            Err(error) => self.tally.fail(|| format!("connect to {target}: {error}")),
        }
    }

    /// Closes a client, and has the next one come where that is the work.
    fn leave(&mut self, index: usize, error: Option<String>) {
        let Some(client) = self.clients[index].take() else { return };
        self.open -= 1;
        if client.phase != Phase::Connecting || self.connects_anew() {
            self.awaited -= client.since.len();
        }
        drop(client);
        if let Some(error) = error {
            self.tally.fail(|| error);
        }
        if self.runs && self.connects_anew() && self.tally.errors <= ERRORS {
            self.connect(index);
        }
    }

    fn want(&mut self, index: usize, want: Want) {
        let Some(client) = &mut self.clients[index] else { return };
        if client.want != want {
            client.want = want;
            if let Err(error) = self.epoll.set(&client.stream, client.key, want) {
                self.leave(index, Some(format!("epoll_ctl: {error}")));
            }
        }
    }

    /// Does for one client what it can do now.
    fn serve_one(&mut self, ready: Ready) {
        let index = (ready.key & u64::from(u32::MAX)) as usize;
        // The client of a stale report has left.
        let Some(client) = self.clients[index].as_mut().filter(|client| client.key == ready.key) else {
            return;
        };
        if client.phase == Phase::Connecting {
            return self.connected(index);
        }
        let result = match self.task.work {
            Work::Up | Work::Duplex | Work::Integrity => self.stream_on(index, ready),
            Work::SlowReaders => Ok(true),
            _ => self.talk_on(index, ready),
        };
        match result {
            Ok(true) => {}
            Ok(false) => self.leave(index, None),
            Err(error) => self.leave(index, Some(error)),
        }
    }

    fn connected(&mut self, index: usize) {
        let Some(client) = &mut self.clients[index] else { return };
        match client.stream.take_error() {
            Ok(None) => client.phase = Phase::Open,
            Ok(Some(error)) | Err(error) => return self.leave(index, Some(format!("connect: {error}"))),
        }
        // The greeting is awaited since before the connection was; and so is the reply of a short one.
        if self.task.work == Work::FirstByte {
            return self.want(index, Want::READ);
        }
        let since = client.since.pop_front().expect("when it began to connect");
        self.awaited -= usize::from(self.task.work == Work::Churn);
        match self.task.work {
            Work::FirstByte | Work::Rate => self.want(index, Want::READ),
            Work::Churn => self.ask(index, since),
            Work::PingPong | Work::Idle => self.ask(index, self.now()),
            Work::Up => self.want(index, Want::WRITE),
            Work::Duplex | Work::Integrity => self.want(index, Want::BOTH),
            Work::SlowReaders => {
                // Its name, so that the back end knows what to send.
                let Client { stream, sending, .. } = client;
                match sending.write(stream, &self.pattern, 0) {
                    Ok(count) => {
                        self.tally.sent += count as u64;
                        self.want(index, Want::default());
                    }
                    Err(error) => self.leave(index, Some(format!("a slow reader cannot begin: {error}"))),
                }
            }
        }
    }

    /// Sends a request that was to be sent at `since`.
    fn ask(&mut self, index: usize, since: u64) {
        let Some(client) = &mut self.clients[index] else { return };
        client.since.push_back(since);
        self.awaited += 1;
        self.pattern.message(client.name, Way::Up, MESSAGE as usize, &mut client.unsent);
        client.name.number += 1;
        if let Err(error) = self.send(index) {
            self.leave(index, Some(error));
        }
    }

    /// Sends what has to be sent.
    fn send(&mut self, index: usize) -> Result<(), String> {
        let Some(client) = &mut self.clients[index] else { return Ok(()) };
        let count = or_nothing((&client.stream).write(&client.unsent));
        let count = count.map_err(|error| format!("sending a request: {error}"))?;
        client.unsent.drain(..count);
        self.bytes += count as u64;
        self.tally.sent += count as u64;
        let want = Want { read: true, write: !client.unsent.is_empty() };
        self.want(index, want);
        Ok(())
    }

    /// Requests and replies; `false` when the client is to leave.
    fn talk_on(&mut self, index: usize, ready: Ready) -> Result<bool, String> {
        let at = self.now();
        if ready.write {
            self.send(index)?;
        }
        let Some(client) = &mut self.clients[index] else { return Ok(true) };
        let count = match (&client.stream).read(&mut self.buffer) {
            Ok(0) => return Err("the connection was ended before the reply".to_owned()),
            result => or_nothing(result).map_err(|error| format!("waiting for a reply: {error}"))?,
        };
        self.bytes += count as u64;
        self.tally.received += count as u64;
        let first =
            client.name.number - client.since.len() as u32 * u32::from(self.task.work != Work::FirstByte);
        let mut wrong = None;
        let mut answered = 0;
        let Client { name, since, replies, .. } = client;
        replies.take(&self.buffer[..count], |reply| {
            let expected = match self.task.work {
                Work::FirstByte => Name::default(),
                _ => Name { number: first + answered, ..*name },
            };
            answered += 1;
            match since.pop_front() {
                None => {
                    wrong = Some(format!("a reply that nobody asked for, on connection {}", name.connection));
                }
                Some(_) if !self.pattern.is_message(expected, Way::Down, reply) => {
                    wrong =
                        Some(format!("a reply arrived changed, or is another's: {expected:?} was to come"));
                }
                Some(since) => self.latency.saturating_record(at.saturating_sub(since)),
            }
        });
        if let Some(wrong) = wrong {
            return Err(wrong);
        }
        self.units += u64::from(answered);
        self.awaited -= answered as usize;
        if answered == 0 {
            return Ok(true);
        }
        match self.task.work {
            Work::PingPong if self.runs => self.ask(index, at),
            Work::Rate => {
                self.at_rest.push_back(index);
                self.ask_from_queue();
            }
            _ => {}
        }
        Ok(!self.connects_anew())
    }

    /// Streams; `false` when the client is to leave.
    fn stream_on(&mut self, index: usize, ready: Ready) -> Result<bool, String> {
        let Some(client) = &mut self.clients[index] else { return Ok(true) };
        let Client { stream, sending, receiving, phase, want, .. } = client;
        let quota = (self.task.work == Work::Integrity).then_some(u64::from(self.task.size));
        for _ in 0..if ready.read && want.read { BURST } else { 0 } {
            let before = receiving.received;
            let got = receiving.read(stream, &self.pattern, &mut self.buffer);
            let count = receiving.received - before;
            self.bytes += count;
            self.units += count;
            self.tally.received += count;
            match got.map_err(|error| format!("reading a stream: {error}"))? {
                Got::Bytes(_) => {}
                Got::Nothing => break,
                Got::Wrong(at) => return Err(format!("a stream came back changed, at byte {at}")),
                Got::End if *phase != Phase::Finishing => return Err("a stream was ended early".to_owned()),
                Got::End if quota.is_some_and(|quota| receiving.received != quota) => {
                    return Err(format!("a stream was cut short: {} bytes came back", receiving.received));
                }
                Got::End => return Ok(false),
            }
        }
        if *phase != Phase::Open || !want.write {
            return Ok(true);
        }
        for _ in 0..if ready.write { BURST } else { 0 } {
            // The echo is asked with writes of all sizes.
            let most =
                quota.map_or(CHUNK, |quota| ((quota - sending.sent) as usize).min(odd_size(sending.sent)));
            let count = sending
                .write(stream, &self.pattern, most)
                .map_err(|error| format!("writing a stream: {error}"))?;
            self.bytes += count as u64;
            self.units += count as u64;
            self.tally.sent += count as u64;
            if quota.is_some_and(|quota| sending.sent == quota) {
                self.end_stream(index);
                break;
            }
            if count == 0 {
                break;
            }
        }
        Ok(true)
    }

    /// A slow reader takes a little.
    fn sip(&mut self, index: usize) {
        let Some(client) = self.clients[index].as_mut().filter(|it| it.phase == Phase::Open) else { return };
        let Client { stream, receiving, .. } = client;
        let before = receiving.received;
        let got = receiving.read(stream, &self.pattern, &mut self.buffer[..SIP]);
        let count = receiving.received - before;
        self.bytes += count;
        self.units += count;
        self.tally.received += count;
        match got {
            Ok(Got::Bytes(_) | Got::Nothing) => {}
            Ok(Got::End) => self.leave(index, Some("a slow reader's stream was ended early".to_owned())),
            Ok(Got::Wrong(at)) => {
                self.leave(index, Some(format!("a slow reader's stream arrived changed, at byte {at}")));
            }
            Err(error) => self.leave(index, Some(format!("a slow reader met: {error}"))),
        }
    }
}

/// From 1 byte to 100 KiB, a quarter of them below 200 bytes; the same at the same place of a stream.
fn odd_size(place: u64) -> usize {
    let mixed = (place ^ 0x9E37_79B9).wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 20;
    1 + (mixed % if mixed >> 40 & 3 == 0 { 200 } else { 100 << 10 }) as usize
}

fn dial(source: Ipv4Addr, target: SocketAddr, receive_buffer: Option<usize>) -> io::Result<TcpStream> {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
    socket.set_nonblocking(true)?;
    socket.set_tcp_nodelay(true)?;
    if let Some(bytes) = receive_buffer {
        socket.set_recv_buffer_size(bytes)?;
    }
    bind_source(&socket, source.into())?;
    match socket.connect(&target.into()) {
        Err(error) if error.raw_os_error() != Some(libc::EINPROGRESS) => Err(error),
        _ => Ok(socket.into()),
    }
}
