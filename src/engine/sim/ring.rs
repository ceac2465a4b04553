//! A simulated ring for the completion engine, over the same kernel. It checks who owns a buffer.

use std::collections::VecDeque;
use std::io;
use std::time::Duration;

use super::kernel::{World, bits};
use super::plan::{Dice, Us};
use super::{SimListener, SimNet, SimStream};
use crate::engine::uring::{Answer, Chunk, Completion, Id, Parcel, Ring};
use crate::relay::Fault;
use crate::sys::net::{Accepted, Received, Sent};

/// Reads that go on by themselves do so at most so often before others have their turn.
const READS_MAX: usize = 32;

/// Whose a buffer is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Holder {
    Kernel,
    Engine,
    /// A send that is under way reads it.
    Send(Id),
}

/// A buffer of the ring.
#[derive(Debug)]
struct Buffer {
    bytes: Vec<u8>,
    holder: Holder,
    /// The one that was given to the kernel after it.
    next: u16,
}

/// An operation under way.
#[derive(Debug)]
struct Op {
    id: Id,
    conn: usize,
    what: What,
}

#[derive(Debug)]
enum What {
    Accept {
        many: bool,
    },
    Connect,
    /// The bytes that it still takes, if there is a limit.
    Receive {
        left: Option<u32>,
    },
    Send {
        bytes: Vec<u8>,
        buffers: Vec<u16>,
        waits: bool,
    },
    Watch,
    /// Something to read.
    Input,
}

/// A ring in a simulated world.
#[derive(Debug)]
pub struct SimRing {
    net: SimNet,
    ops: Vec<Op>,
    buffers: Vec<Buffer>,
    /// Those that could be filled, in the order in which they were given.
    free: VecDeque<u16>,
    last: u16,
    buffer_size: u32,
    /// A read or a send comes short, an operation has to be asked for again: in permille.
    weather: u64,
    done: Vec<Completion<SimStream>>,
    /// A read with a limit goes on until it has so much, as newer kernels have it.
    has_limit: bool,
    /// Calls take time. In the last look before a sleep they do not: what is the case then is all that is.
    takes_time: bool,
}

/// What trying an operation came to.
enum Tried {
    /// It goes on.
    Waits,
    /// It is over.
    Over,
}

impl SimRing {
    /// A ring of `count` buffers of `buffer_size` bytes.
    #[must_use]
    pub fn new(net: SimNet, count: u16, buffer_size: u32, has_limit: bool, weather: u64) -> Self {
        net.with(|world| world.trigger = crate::engine::Trigger::Level);
        let buffer = |_| Buffer { bytes: vec![0; buffer_size as usize], holder: Holder::Engine, next: 0 };
        let mut ring = Self {
            net,
            ops: Vec::new(),
            buffers: (0..count).map(buffer).collect(),
            free: VecDeque::new(),
            last: 0,
            buffer_size,
            weather,
            has_limit,
            done: Vec::new(),
            takes_time: true,
        };
        for buffer in 0..count {
            ring.give(buffer);
        }
        ring
    }

    /// Buffers that the engine has not given back, and operations under way but connects that nobody waits for.
    #[must_use]
    pub fn left(&self) -> (usize, usize) {
        let ops = self.ops.iter().filter(|op| !matches!(op.what, What::Connect));
        (self.buffers.len() - self.free.len(), ops.count())
    }

    fn fail(&self, what: String) {
        self.net.with(|world| world.laws.fail(what));
    }

    fn chance(&self) -> bool {
        self.net.with(|world| world.dice.chance(self.weather))
    }

    fn call<T>(&self, call: impl FnOnce(&mut World) -> T) -> T {
        self.net.with(|world| {
            if self.takes_time {
                world.pass_time();
            }
            call(world)
        })
    }

    fn push(&mut self, id: Id, conn: usize, what: What) {
        if self.ops.iter().any(|op| op.id == id) {
            self.fail(format!("{id:?} is under way twice"));
        }
        if !matches!(what, What::Accept { .. }) {
            self.net.with(|world| world.conns[conn].flying += 1);
        }
        self.ops.push(Op { id, conn, what });
        // The queue was full: what is in it is submitted, and may be done, before anybody waits for it.
        if self.chance() {
            self.try_all(true);
        }
    }

    fn answer(&mut self, id: Id, more: bool, answer: Answer<SimStream>) {
        self.done.push(Completion { id, more, answer });
    }

    /// Tries everything that is under way; `lazily`: some of it has to wait for another time.
    fn try_all(&mut self, lazily: bool) {
        self.takes_time = lazily;
        let mut waiting = Vec::new();
        for mut op in std::mem::take(&mut self.ops) {
            // A send that does not wait is tried when it is submitted, and then never again.
            let is_now = matches!(op.what, What::Send { waits: false, .. });
            if lazily && !is_now && self.chance() {
                waiting.push(op);
                continue;
            }
            match self.attempt(&mut op) {
                Tried::Waits => waiting.push(op),
                Tried::Over => self.over(&op),
            }
        }
        self.ops = waiting;
    }

    fn over(&mut self, op: &Op) {
        if !matches!(op.what, What::Accept { .. }) {
            self.net.with(|world| world.conns[op.conn].flying -= 1);
        }
        if let What::Send { buffers, .. } = &op.what {
            for buffer in buffers {
                self.buffers[usize::from(*buffer)].holder = Holder::Engine;
            }
        }
    }

    fn attempt(&mut self, op: &mut Op) -> Tried {
        match &mut op.what {
            What::Accept { many } => self.try_accept(op.id, op.conn, *many),
            What::Connect => self.try_connect(op.id, op.conn),
            What::Receive { left } => self.try_receive(op.id, op.conn, left),
            What::Send { bytes, waits, .. } => self.try_send(op.id, op.conn, bytes, *waits),
            What::Input => {
                let status = self.net.with(|world| world.conns[op.conn].status());
                if status & (bits::READ | bits::HUP | bits::ERROR) == 0 {
                    return Tried::Waits;
                }
                self.answer(op.id, false, Answer::Hung(status & bits::ERROR != 0));
                Tried::Over
            }
            What::Watch => {
                let status = self.net.with(|world| world.conns[op.conn].status());
                if status & (bits::HUP | bits::ERROR) == 0 {
                    return Tried::Waits;
                }
                self.answer(op.id, false, Answer::Hung(status & bits::ERROR != 0));
                Tried::Over
            }
        }
    }

    fn try_accept(&mut self, id: Id, listener: usize, many: bool) -> Tried {
        loop {
            if self.net.with(|world| world.backlogs[listener].queue.is_empty()) {
                return Tried::Waits;
            }
            let more = many && !self.chance();
            let (more, answer) = match self.net.with(|world| world.accept(listener)) {
                Accepted::Client(conn, peer) => (more, Answer::Client(self.net.stream(conn), peer)),
                Accepted::Gone => (more, Answer::Failed(Fault::Reset)),
                Accepted::Nothing(_) => return Tried::Waits,
                Accepted::Failed(fault) => (false, Answer::Failed(fault)),
            };
            self.answer(id, more, answer);
            if !more {
                return Tried::Over;
            }
        }
    }

    fn try_connect(&mut self, id: Id, conn: usize) -> Tried {
        let (established, failed) = self.net.with(|world| {
            let it = &world.conns[conn];
            (it.established, it.ends[super::kernel::OURS].error.is_some())
        });
        if failed {
            let fault = self.net.with(|world| world.pending_error(conn)).unwrap_or(Fault::Reset);
            self.answer(id, false, Answer::Failed(fault));
            return Tried::Over;
        }
        if !established {
            return Tried::Waits;
        }
        self.answer(id, false, Answer::Done(0, None));
        Tried::Over
    }

    fn try_receive(&mut self, id: Id, conn: usize, left: &mut Option<u32>) -> Tried {
        for _ in 0..READS_MAX {
            // There are none, or the kernel has not been shown enough of them.
            if self.free.is_empty() || (self.takes_time && self.chance()) {
                self.answer(id, false, Answer::NoBuffers);
                return Tried::Over;
            }
            let buffers =
                self.net.with(|world| world.dice.between(1, self.free.len().min(4) as u64)) as usize;
            let room = (buffers * self.buffer_size as usize).min(left.unwrap_or(u32::MAX) as usize);
            let mut bytes = vec![0; room];
            let received = self.call(|world| world.recv(conn, &mut bytes, false));
            match received {
                Received::Bytes(count, _) => {
                    let first = self.fill(&bytes[..count.get() as usize]);
                    let goes_on = left.as_mut().is_none_or(|left| {
                        *left -= count.get();
                        *left > 0 && self.has_limit
                    });
                    let more = goes_on && !self.chance();
                    self.answer(id, more, Answer::Done(count.get(), Some(first)));
                    if !more {
                        return Tried::Over;
                    }
                }
                Received::Nothing(_) => return Tried::Waits,
                Received::Eof => {
                    self.answer(id, false, Answer::Done(0, None));
                    return Tried::Over;
                }
                Received::Failed(fault) => {
                    self.answer(id, false, Answer::Failed(fault));
                    return Tried::Over;
                }
            }
        }
        Tried::Waits
    }

    /// Puts bytes in the next buffers; returns the first.
    fn fill(&mut self, bytes: &[u8]) -> u16 {
        let mut first = None;
        for piece in bytes.chunks(self.buffer_size as usize) {
            let index = self.free.pop_front().expect("as many as there was room for");
            first.get_or_insert(index);
            let buffer = &mut self.buffers[usize::from(index)];
            buffer.bytes[..piece.len()].copy_from_slice(piece);
            buffer.holder = Holder::Engine;
        }
        first.expect("one byte or more")
    }

    fn try_send(&mut self, id: Id, conn: usize, bytes: &[u8], waits: bool) -> Tried {
        let mut taken = 0;
        loop {
            let send = |world: &mut World| world.send(conn, &bytes[taken..]);
            let sent = if taken == 0 { self.call(send) } else { self.net.with(send) };
            match sent {
                Sent::Bytes(count) => taken += count.get() as usize,
                Sent::Nothing(_) if waits && taken == 0 => return Tried::Waits,
                Sent::Nothing(_) if taken == 0 => {
                    self.answer(id, false, Answer::Nothing);
                    return Tried::Over;
                }
                Sent::Failed(fault) if taken == 0 => {
                    self.answer(id, false, Answer::Failed(fault));
                    return Tried::Over;
                }
                // What was taken is told; the failure is told to whoever tries next.
                Sent::Nothing(_) | Sent::Failed(_) => {
                    self.answer(id, false, Answer::Done(taken as u32, None));
                    return Tried::Over;
                }
            }
            // An error that comes behind what was taken stays with the socket.
            let failed = self.net.with(|world| world.conns[conn].ends[super::kernel::OURS].dead);
            if waits || failed || taken == bytes.len() {
                if waits || taken < bytes.len() {
                    self.answer(id, false, Answer::Done(taken as u32, None));
                }
                return Tried::Over;
            }
        }
    }

    /// Waits until something has come of an operation.
    fn wait(&mut self, wait: Option<Us>) -> io::Result<()> {
        self.net.with(|world| world.begin_turn(wait));
        let until = self.net.with(|world| wait.map(|wait| world.now() + wait));
        self.try_all(true);
        let mut asleep = false;
        while self.done.is_empty() && wait != Some(0) && !self.net.with(|world| world.is_woken()) {
            self.try_all(false);
            if !self.done.is_empty() {
                break;
            }
            if !std::mem::replace(&mut asleep, true) {
                self.net.with(World::law_sleep);
            }
            if !self.net.with(|world| world.sleep(until)) {
                break;
            }
        }
        self.net.with(|world| {
            world.take_wake();
            if world.laws.violation.is_some() { Err(io::Error::other("a law is broken")) } else { Ok(()) }
        })
    }
}

impl Ring for SimRing {
    type Net = SimNet;

    fn accept(&mut self, listener: &SimListener, many: bool, id: Id) {
        self.push(id, listener.number, What::Accept { many });
    }

    fn connect(&mut self, stream: &SimStream, _: &socket2::SockAddr, id: Id) {
        self.push(id, stream.conn, What::Connect);
    }

    fn receive(&mut self, stream: &SimStream, most: Option<u32>, id: Id) {
        // Those who wait for buffers go on one by one, as buffers come back, and may find nothing to read.
        if !self.free.is_empty() {
            self.net.with(|world| world.laws.activity += 1);
        }
        self.push(id, stream.conn, What::Receive { left: most });
    }

    fn send(&mut self, stream: &SimStream, parcel: &mut Parcel, waits: bool, id: Id) {
        let (mut bytes, mut buffers) = (Vec::new(), Vec::new());
        for chunk in &parcel.chunks {
            match chunk {
                Chunk::Provided { buffer, at, count } => {
                    bytes.extend_from_slice(&self.bytes(*buffer, at + count)[*at as usize..]);
                    self.buffers[usize::from(*buffer)].holder = Holder::Send(id);
                    buffers.push(*buffer);
                }
                Chunk::Kept(lease) => bytes.extend_from_slice(lease.bytes()),
            }
        }
        self.push(id, stream.conn, What::Send { bytes, buffers, waits });
    }

    fn watch(&mut self, stream: &SimStream, id: Id) {
        self.push(id, stream.conn, What::Watch);
    }

    fn await_input(&mut self, stream: &SimStream, id: Id) {
        self.push(id, stream.conn, What::Input);
    }

    fn cancel(&mut self, id: Id) {
        let Some(at) = self.ops.iter().position(|op| op.id == id) else { return };
        let mut op = self.ops.remove(at);
        // It was submitted before, so it may have been faster.
        let is_now = matches!(op.what, What::Send { waits: false, .. });
        if (is_now || self.chance()) && matches!(self.attempt(&mut op), Tried::Over) {
            return self.over(&op);
        }
        self.over(&op);
        self.answer(id, false, Answer::Nothing);
    }

    fn enter(&mut self, wait: Option<Duration>, out: &mut Vec<Completion<SimStream>>) -> io::Result<()> {
        self.wait(wait.map(|wait| wait.as_micros() as Us))?;
        out.append(&mut self.done);
        Ok(())
    }

    fn buffer_size(&self) -> u32 {
        self.buffer_size
    }

    fn next(&self, buffer: u16) -> u16 {
        self.buffers[usize::from(buffer)].next
    }

    fn bytes(&self, buffer: u16, count: u32) -> &[u8] {
        let it = &self.buffers[usize::from(buffer)];
        if it.holder != Holder::Engine {
            self.fail(format!("buffer {buffer} is read, and it is {:?}'s", it.holder));
        }
        &it.bytes[..count as usize]
    }

    fn give(&mut self, buffer: u16) {
        let holder = self.buffers[usize::from(buffer)].holder;
        if holder != Holder::Engine {
            self.fail(format!("buffer {buffer} is given back, and it is {holder:?}'s"));
        }
        self.buffers[usize::from(buffer)].holder = Holder::Kernel;
        self.buffers[usize::from(self.last)].next = buffer;
        self.last = buffer;
        self.free.push_back(buffer);
    }

    fn spare(&self) -> usize {
        self.free.len()
    }

    fn introduce(&mut self, client: &SimStream, server: Option<&SimStream>) {
        self.net.with(|world| world.introduce(client.conn, server.map(|server| server.conn)));
    }
}

impl SimRing {
    /// Buffers and sizes as a seed wants them.
    #[must_use]
    pub fn draw(net: SimNet, dice: &mut Dice) -> Self {
        let count = dice.pick(&[2, 4, 8, 32, 128]);
        let size = dice.pick(&[16, 64, 256, 1_024]);
        let weather = dice.pick(&[0, 0, 50, 300]);
        let has_limit = dice.pick(&[false, true]);
        Self::new(net, count, size, has_limit, weather)
    }
}

impl World {
    /// The program asks what has come of its operations.
    fn begin_turn(&mut self, wait: Option<Us>) {
        self.calls = 0;
        self.pass_time();
        self.law_spin(wait);
    }

    /// Lets time pass until something happens; `false` when `until` is reached instead.
    fn sleep(&mut self, until: Option<Us>) -> bool {
        if self.laws.violation.is_some() {
            return false;
        }
        match (self.next(), until) {
            (Some(at), until) if until.is_none_or(|until| at <= until) => {
                self.now = self.now.max(at);
                self.happen_until_now();
                true
            }
            (_, Some(until)) => {
                self.now = self.now.max(until);
                false
            }
            (_, None) => {
                self.laws.fail("the worker waits for ever, and nothing will wake it".into());
                false
            }
        }
    }

    /// Who belongs to whom, which a readiness engine tells by its tokens.
    fn introduce(&mut self, client: usize, server: Option<usize>) {
        let (conn, token) = match server {
            None => (client, client << 1),
            Some(server) => (server, client << 1 | 1),
        };
        self.law_token(conn, token);
        self.conns[conn].token = Some(token);
    }
}
