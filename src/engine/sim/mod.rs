//! A kernel that follows from a seed, to run the real worker, session, relay and reactor on.
//!
//! Its sockets behave as Linux's do where it matters; its peers are small scripts that send, read, pause, half
//! close, reset and vanish; its reports are early, late, doubled, split, stale or about nothing. After every
//! call it checks what the program did against the laws that a proxy must keep. Time is virtual: a
//! run of a minute takes milliseconds, and the same seed is the same run.
//!
//! Selectors of each kind stand on it: edge-triggered, level-triggered, one-shot, and one that loses reports.

mod calls;
mod heads;
mod hellos;
mod kernel;
mod law;
mod pipe;
mod plan;
#[cfg(target_os = "linux")]
mod ring;
mod script;
mod trace;

pub use hellos::KNOWN;
pub use kernel::{Signal, Summary, World};
pub use law::Limits;
pub use plan::{Dice, Ending, Heads, Hellos, MS, Manner, Plan, Us};
#[cfg(target_os = "linux")]
pub use ring::SimRing;

use std::cell::RefCell;
use std::fmt;
use std::io;
use std::marker::PhantomData;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use super::{Readiness, Report, Selector, Source, Trigger, Want};
use crate::config::{Address, Keepalive};
use crate::relay::Fault;
use crate::sys::Net;
use crate::sys::net::{Accepted, Leg, Peeked, Received, Sent};
use crate::sys::pipe::Spliced;

/// The world that a run's sockets share.
#[derive(Clone)]
pub struct SimNet(Rc<RefCell<World>>);

/// A socket of the program.
pub struct SimStream {
    net: SimNet,
    conn: usize,
}

/// A pipe of the program.
pub struct SimPipe {
    net: SimNet,
    number: usize,
}

/// A listening socket of the program.
pub struct SimListener {
    net: SimNet,
    number: usize,
}

/// Reports what happens in a world.
#[derive(Debug)]
pub struct SimSelector<K>(SimNet, PhantomData<K>);

/// What kind of selector it is.
pub trait Kind {
    /// When it reports.
    const TRIGGER: Trigger;
    /// Whether a short read proves that a socket is empty.
    const SHORT_READ_IS_DRAINED: bool = true;
}

/// As epoll is.
#[derive(Debug)]
pub struct Edge;
/// As kqueue is, as far as is shown; and as signals are.
#[derive(Debug)]
pub struct WaryEdge;
/// As poll(2) and select(2) are.
#[derive(Debug)]
pub struct Level;
/// As Linux AIO is.
#[derive(Debug)]
pub struct OneShot;

impl Kind for Edge {
    const TRIGGER: Trigger = Trigger::Edge;
}

impl Kind for WaryEdge {
    const TRIGGER: Trigger = Trigger::Edge;
    const SHORT_READ_IS_DRAINED: bool = false;
}

impl Kind for Level {
    const TRIGGER: Trigger = Trigger::Level;
}

impl Kind for OneShot {
    const TRIGGER: Trigger = Trigger::OneShot;
}

impl SimNet {
    /// A world of its own.
    #[must_use]
    pub fn new(world: World) -> Self {
        Self(Rc::new(RefCell::new(world)))
    }

    /// Looks at the world, or changes it.
    pub fn with<T>(&self, look: impl FnOnce(&mut World) -> T) -> T {
        look(&mut self.0.borrow_mut())
    }

    /// The `number`-th listening socket.
    #[must_use]
    pub fn listener(&self, number: usize) -> SimListener {
        SimListener { net: self.clone(), number }
    }

    /// A selector in this world.
    #[must_use]
    pub fn selector<K: Kind>(&self) -> SimSelector<K> {
        self.with(|world| world.trigger = K::TRIGGER);
        SimSelector(self.clone(), PhantomData)
    }

    fn stream(&self, conn: usize) -> SimStream {
        SimStream { net: self.clone(), conn }
    }
}

impl fmt::Debug for SimNet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SimNet")
    }
}

impl fmt::Debug for SimStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SimStream({})", self.conn)
    }
}

impl fmt::Debug for SimListener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SimListener({})", self.number)
    }
}

impl fmt::Debug for SimPipe {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SimPipe({})", self.number)
    }
}

impl Drop for SimPipe {
    fn drop(&mut self) {
        self.net.with(|world| world.close_pipe(self.number));
    }
}

impl Drop for SimStream {
    fn drop(&mut self) {
        self.net.with(|world| world.close(self.conn));
    }
}

impl Drop for SimListener {
    fn drop(&mut self) {
        self.net.with(|world| world.close_listener(self.number));
    }
}

impl SimStream {
    fn call<T>(&self, call: impl FnOnce(&mut World, usize) -> T) -> T {
        self.net.with(|world| {
            world.pass_time();
            call(world, self.conn)
        })
    }
}

impl Net for SimNet {
    type Stream = SimStream;
    type Listener = SimListener;
    type Pipe = SimPipe;

    fn recv(stream: &SimStream, buffer: &mut [u8], short_is_drained: bool) -> Received {
        stream.call(|world, conn| world.recv(conn, buffer, short_is_drained))
    }

    fn send(stream: &SimStream, bytes: &[u8]) -> Sent {
        stream.call(|world, conn| world.send(conn, bytes))
    }

    fn pipe(&self) -> Option<SimPipe> {
        self.with(World::pipe).map(|number| SimPipe { net: self.clone(), number })
    }

    fn is_empty(pipe: &SimPipe) -> bool {
        pipe.net.with(|world| world.is_pipe_empty(pipe.number))
    }

    fn splice_in(stream: &SimStream, pipe: &mut SimPipe) -> Spliced {
        stream.call(|world, conn| world.splice_in(conn, pipe.number))
    }

    fn splice_out(stream: &SimStream, pipe: &mut SimPipe) -> Sent {
        stream.call(|world, conn| world.splice_out(conn, pipe.number))
    }

    fn finish(stream: &SimStream) -> Result<(), Fault> {
        stream.call(World::finish)
    }

    fn accept(listener: &SimListener) -> Accepted<SimStream> {
        let accepted = listener.net.with(|world| {
            world.pass_time();
            world.accept(listener.number)
        });
        match accepted {
            Accepted::Client(conn, peer) => Accepted::Client(listener.net.stream(conn), peer),
            Accepted::Nothing(proof) => Accepted::Nothing(proof),
            Accepted::Gone => Accepted::Gone,
            Accepted::Failed(fault) => Accepted::Failed(fault),
        }
    }

    fn scatter_probes(_: &SimStream, _: Option<Keepalive>) {}

    fn socket(&self, to: SocketAddr, _: Leg<'_>) -> Result<SimStream, Fault> {
        // The connect that follows at once begins here.
        let (conn, _) = self.with(|world| {
            world.pass_time();
            world.dial(to)
        })?;
        self.with(|world| world.conns[conn].laws.proven = false);
        Ok(self.stream(conn))
    }

    fn dial(&self, to: &Address, _: Leg<'_>) -> Result<(SimStream, bool), Fault> {
        let Address::Ip(to) = *to else { unreachable!("the simulator's servers have IP addresses") };
        let (conn, connected) = self.with(|world| {
            world.pass_time();
            world.dial(to)
        })?;
        Ok((self.stream(conn), connected))
    }

    fn dialed(stream: &SimStream) -> Result<bool, Fault> {
        stream.call(World::dialed)
    }

    fn send_first(stream: &SimStream, bytes: &[u8], _: bool) -> Result<(), Fault> {
        stream.call(|world, conn| world.send_first(conn, bytes))
    }

    fn local(_: &SimStream) -> Option<SocketAddr> {
        Some(World::front())
    }

    fn peek(stream: &SimStream) -> Peeked {
        stream.call(World::peek)
    }

    fn failure_before_relay(stream: &SimStream) -> Option<Fault> {
        stream.call(World::failure_before_relay)
    }

    fn pending_error(stream: &SimStream) -> Option<Fault> {
        stream.call(World::pending_error)
    }

    fn reset_on_close(stream: &SimStream) {
        stream.call(World::reset_on_close);
    }

    fn is_delivering(stream: &SimStream) -> bool {
        stream.call(World::is_delivering)
    }
}

impl<K: Kind> Selector<SimNet> for SimSelector<K> {
    const TRIGGER: Trigger = K::TRIGGER;
    const SHORT_READ_IS_DRAINED: bool = K::SHORT_READ_IS_DRAINED;

    fn add(&mut self, source: Source<'_, SimNet>, token: usize) -> io::Result<()> {
        self.0.with(|world| match source {
            Source::Stream(stream) => world.watch(stream.conn, token),
            Source::Listener(listener) => {
                world.watch_listener(listener.number, token);
                Ok(())
            }
        })
    }

    fn set(&mut self, source: Source<'_, SimNet>, _: usize, want: Option<Want>) -> io::Result<()> {
        self.0.with(|world| match source {
            Source::Stream(stream) => world.ask(stream.conn, want),
            Source::Listener(listener) => world.ask_listener(listener.number, want),
        });
        Ok(())
    }

    fn remove(&mut self, source: Source<'_, SimNet>) {
        // As with epoll, a connection is forgotten when it is closed.
        if let Source::Listener(listener) = source {
            self.0.with(|world| world.unwatch_listener(listener.number));
        }
    }

    fn select(&mut self, wait: Option<Duration>, out: &mut Vec<Readiness>) -> io::Result<Report> {
        let wait = wait.map(|wait| wait.as_micros() as Us);
        self.0.with(|world| world.select(wait, out))
    }
}
