//! The thread that carries one direction of a connection.

use std::io;
use std::sync::{Arc, Condvar, MutexGuard};
use std::thread;

use super::budget::{Budget, Loan};
use crate::relay::{Dir, Fault, News, Op, OpSet, Outcome, Relay, Side};
use crate::sys::net::{self, Received, Sent, Stream};
use crate::sys::{Net, Os};

#[expect(
    clippy::disallowed_types,
    reason = "two threads share a relay here; nothing waits while it is locked"
)]
type Lock<T> = std::sync::Mutex<T>;

/// Bytes of a thread's stack: a buffer of [`SMALL`], and what the calls need.
const STACK: usize = 64 << 10;
/// What a thread reads at first. A connection at rest holds no buffer but this one, on the stack of each thread.
const SMALL: usize = 4 << 10;

/// Starts a thread with a small stack.
pub(super) fn spawn(work: impl FnOnce() + Send + 'static) -> io::Result<()> {
    thread::Builder::new().name("relay".to_owned()).stack_size(STACK).spawn(work).map(drop)
}

/// What the two threads of a connection and its worker share.
#[derive(Debug)]
pub(super) struct Shared {
    /// The client's and the server's.
    streams: [Arc<Stream>; 2],
    state: Lock<State>,
    /// A write has ended that somebody waits for.
    written: Condvar,
    /// Something was granted, or the relay is over.
    granted: Condvar,
    buffer_size: u32,
    budget: Arc<Budget>,
}

#[derive(Debug)]
struct State {
    relay: Relay,
    /// By direction: what its thread is in.
    under_way: [Option<Op>; 2],
    /// By [`Side`]: an error was reported while a thread read from it. That may bring what had come before.
    suspects: [bool; 2],
}

impl State {
    /// Asks a peer for its failure, of which the relay knows then; `true` is that it has ended by this.
    fn ask_for_failure(&mut self, side: Side, stream: &Stream) -> bool {
        if self.relay.broken().is_some() {
            return false;
        }
        let Some(fault) = Os::pending_error(stream) else { return false };
        let was_over = self.relay.end().is_some();
        self.relay.fail(side, fault);
        !was_over && self.relay.end().is_some()
    }
}

impl Shared {
    pub(super) fn new(
        streams: [Arc<Stream>; 2],
        relay: Relay,
        buffer_size: u32,
        budget: Arc<Budget>,
    ) -> Self {
        let state = State { relay, under_way: [None; 2], suspects: [false; 2] };
        let (written, granted) = (Condvar::new(), Condvar::new());
        Self { streams, state: Lock::new(state), written, granted, buffer_size, budget }
    }

    /// So many bytes more may be taken.
    pub(super) fn grant(&self, dir: Dir, bytes: Option<u32>) {
        self.with(|relay| relay.grant(dir, bytes));
        self.granted.notify_all();
    }

    /// Looks at the relay, or changes it.
    pub(super) fn with<T>(&self, look: impl FnOnce(&mut Relay) -> T) -> T {
        look(&mut self.lock().relay)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // A panic has ended the process.
        self.state.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    /// Wakes threads that wait in a read. Those that wait in a write look for themselves
    /// ([`net::limit_writes`]): there is no way to end a write from outside that sends no FIN, which would pass off a
    /// part as the whole.
    pub(super) fn interrupt(&self) {
        self.granted.notify_all();
        for stream in &self.streams {
            net::interrupt_read(stream);
        }
    }

    /// Whether a peer has failed: nothing tells of that twice. The relay knows of it then, and `true` is that it has
    /// ended by this. Where a thread reads, that is told, or asked for when bytes have come first.
    pub(super) fn look_for_failure(&self, side: Side) -> bool {
        let mut state = self.lock();
        let reads = state.under_way[side.outbound().index()] == Some(Op::Fill);
        state.suspects[side as usize] |= reads;
        !reads && state.ask_for_failure(side, &self.streams[side as usize])
    }

    /// A peer has vanished. A read of it goes on as long as there are bytes, and then ends; `true` is that the relay
    /// has ended by this.
    pub(super) fn give_up(&self, side: Side, fault: Fault) -> bool {
        let is_over = self.with(|relay| {
            let was_over = relay.end().is_some();
            relay.fail(side, fault);
            !was_over && relay.end().is_some()
        });
        // Only now: the 0 that this lets a thread read must not be taken for a FIN.
        Os::expect_no_more(&self.streams[side as usize]);
        is_over
    }

    /// What is to be done next in one direction, and how many bytes may be taken; `None` when nothing ever is. Waits
    /// for what is granted. What there is to tell is told first, by one thread at a time, so that it keeps its order.
    fn next(&self, dir: Dir, tell: &impl Fn(News)) -> Option<(Op, u32)> {
        let mut state = self.lock();
        loop {
            while let Some(news) = state.relay.news() {
                tell(news);
            }
            let goes_on = state.relay.end().is_none();
            let flow = state.relay.flow(dir);
            let wants = if goes_on { flow.wants() } else { OpSet::default() };
            let (most, is_dry) = (flow.allowance(), flow.is_dry());
            let op = [Op::Drain, Op::Finish, Op::Fill].into_iter().find(|op| wants.has(*op));
            state.under_way[dir.index()] = op;
            if op.is_some() {
                return op.map(|op| (op, most));
            }
            self.written.notify_one();
            if !goes_on || !is_dry {
                return None;
            }
            state = self.granted.wait(state).unwrap_or_else(std::sync::PoisonError::into_inner);
        }
    }

    /// An operation has ended; `true` is that the relay has ended by this.
    ///
    /// A reset is told once, to whichever call comes first, and after it a read returns 0 as if there had been a FIN.
    /// So where a write to the same peer may have been told, its answer is waited for: it comes at once, because
    /// nothing is taken for a peer that is gone both ways.
    fn handle(&self, dir: Dir, op: Op, outcome: Outcome) -> bool {
        let is_hung_up = outcome == Outcome::Eof && net::is_hung_up(&self.streams[dir.source() as usize]);
        let mut state = self.lock();
        while is_hung_up && state.under_way[dir.other().index()] == Some(Op::Drain) {
            state = self.written.wait(state).unwrap_or_else(std::sync::PoisonError::into_inner);
        }
        if op == Op::Drain {
            self.written.notify_one();
        }
        state.under_way[dir.index()] = None;
        let was_over = state.relay.end().is_some();
        state.relay.handle(dir, op, outcome);
        let source = dir.source();
        let has_ended = op == Op::Fill
            && std::mem::take(&mut state.suspects[source as usize])
            && state.ask_for_failure(source, &self.streams[source as usize]);
        has_ended || (!was_over && state.relay.end().is_some())
    }
}

/// The buffer of one direction: small, or of full size as long as much comes at a time.
struct Buffer<'a> {
    small: [u8; SMALL],
    large: Option<Loan>,
    shared: &'a Shared,
    /// Where the bytes of the last read are, and how many of them are left.
    in_large: bool,
    left: std::ops::Range<usize>,
    /// The large one is a head's, which is not read into.
    is_head: bool,
}

impl Buffer<'_> {
    /// Waits for bytes. What fills the small buffer is taken for the beginning of more: then a large one is used,
    /// without waiting, and given back as soon as there is nothing. `None` when nothing has come for a while.
    fn fill(&mut self, source: &Stream, most: u32) -> Option<Outcome> {
        let most = most as usize;
        if std::mem::take(&mut self.is_head) {
            self.large = None;
        }
        if let Some(large) = &mut self.large {
            let room = large.bytes.len().min(most);
            match net::recv_now(source, &mut large.bytes[..room]) {
                Received::Nothing(_) => self.large = None,
                received => return self.filled(&received, true),
            }
        }
        let received = net::recv_waiting(source, &mut self.small[..SMALL.min(most)]);
        self.filled(&received, false)
    }

    fn filled(&mut self, received: &Received, in_large: bool) -> Option<Outcome> {
        Some(match *received {
            Received::Bytes(count, _) => {
                self.in_large = in_large;
                self.left = 0..count.get() as usize;
                if count.get() as usize == SMALL && self.large.is_none() {
                    self.grow();
                }
                Outcome::Moved(count)
            }
            Received::Failed(fault) => Outcome::Fault(fault),
            Received::Eof => Outcome::Eof,
            Received::Nothing(_) => return None,
        })
    }

    fn grow(&mut self) {
        let size = self.shared.buffer_size as usize;
        if size > SMALL {
            self.large = Loan::zeros(size, &self.shared.budget);
        }
    }

    /// Waits until the target takes some of what was read; `None` when it has taken nothing for a while.
    fn drain(&mut self, target: &Stream) -> Option<Outcome> {
        let bytes = match &self.large {
            Some(large) if self.in_large => &large.bytes[self.left.clone()],
            _ => &self.small[self.left.clone()],
        };
        Some(match net::send_waiting(target, bytes) {
            Sent::Bytes(count) => {
                self.left.start += count.get() as usize;
                Outcome::Moved(count)
            }
            Sent::Nothing(_) => return None,
            Sent::Failed(fault) => Outcome::Fault(fault),
        })
    }
}

/// Carries one direction to its end, the `head` first; `true` is that the relay has ended by it. `tell` is told what the relay
/// tells.
pub(super) fn carry(shared: &Shared, dir: Dir, head: Option<Loan>, tell: &impl Fn(News)) -> bool {
    let [source, target] = [dir.source(), dir.target()].map(|side| &*shared.streams[side as usize]);
    let left = 0..head.as_ref().map_or(0, |head| head.bytes.len());
    let mut buffer = Buffer { small: [0; SMALL], large: head, shared, in_large: true, left, is_head: true };
    // A socket that refuses this is found out by the first write.
    let _ = net::limit_writes(target);
    while let Some((op, most)) = shared.next(dir, tell) {
        let outcome = match op {
            Op::Fill => match buffer.fill(source, most) {
                Some(outcome) => outcome,
                None => continue,
            },
            Op::Drain => match buffer.drain(target) {
                Some(outcome) => outcome,
                None => continue,
            },
            Op::Finish => match Os::finish(target) {
                Ok(()) => Outcome::Finished,
                Err(fault) => Outcome::Fault(fault),
            },
        };
        if shared.handle(dir, op, outcome) {
            return true;
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, TcpStream};
    use std::num::NonZeroU32;
    use std::time::Duration;

    use super::super::Post;
    use super::*;
    use crate::relay::End;

    fn pair() -> (TcpStream, Arc<Stream>) {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let peer = TcpStream::connect(listener.local_addr().expect("bound")).expect("it listens");
        let ours = listener.accept().expect("it has connected").0;
        (peer, Arc::new(Stream::Tcp(mio::net::TcpStream::from_std(ours))))
    }

    fn shared(streams: [Arc<Stream>; 2]) -> Shared {
        let poll = mio::Poll::new().expect("a descriptor");
        let waker = Arc::new(mio::Waker::new(poll.registry(), mio::Token(0)).expect("another one"));
        let budget = Arc::new(Budget::new(0, Post { messages: std::sync::mpsc::channel().0, waker }));
        Shared::new(streams, Relay::new(4_096), 4_096, budget)
    }

    fn reset(peer: TcpStream) {
        socket2::SockRef::from(&peer).set_linger(Some(Duration::ZERO)).expect("set");
        drop(peer);
    }

    /// The reset is reported when a thread has yet to return with what came before it, for a target that takes nothing.
    #[test]
    fn reset_reported_during_a_read_that_brings_bytes_is_asked_for() {
        let (client, ours) = pair();
        let (_server, to_server) = pair();
        let shared = shared([Arc::clone(&ours), to_server]);
        let next = |dir| shared.next(dir, &|_| {}).map(|(op, _)| op);
        assert_eq!(next(Dir::Up), Some(Op::Fill));
        reset(client);
        assert!(!shared.look_for_failure(Side::Client), "the read may tell");
        shared.handle(Dir::Up, Op::Fill, Outcome::Moved(NonZeroU32::MIN));
        assert_eq!(shared.with(|relay| relay.broken()), Some(Side::Client));
        assert_eq!(next(Dir::Up), Some(Op::Drain), "what came before is still passed on");
        shared.handle(Dir::Up, Op::Drain, Outcome::Moved(NonZeroU32::MIN));
        assert_eq!(next(Dir::Up), Some(Op::Fill));
        assert!(shared.handle(Dir::Up, Op::Fill, Outcome::Eof));
        let end = shared.with(|relay| relay.end());
        assert_eq!(end, Some(End::Reset { by: Side::Client, fault: Fault::Reset }));
    }

    /// The write takes the reset, so that the read ends with 0, and the reader is the first with the lock.
    #[test]
    fn reset_told_to_the_write_is_no_end_of_the_read() {
        let (client, ours) = pair();
        let (_server, to_server) = pair();
        let shared = shared([Arc::clone(&ours), to_server]);
        let next = |dir| shared.next(dir, &|_| {}).map(|(op, _)| op);
        let bytes = Outcome::Moved(NonZeroU32::MIN);
        assert_eq!((next(Dir::Down), next(Dir::Up)), (Some(Op::Fill), Some(Op::Fill)));
        shared.handle(Dir::Down, Op::Fill, bytes);
        assert_eq!(next(Dir::Down), Some(Op::Drain));

        reset(client);
        assert_eq!(Os::pending_error(&ours), Some(Fault::Reset), "taken, as by the write");
        thread::scope(|scope| {
            let reader = scope.spawn(|| shared.handle(Dir::Up, Op::Fill, Outcome::Eof));
            thread::sleep(Duration::from_millis(50));
            shared.handle(Dir::Down, Op::Drain, Outcome::Fault(Fault::Reset));
            assert!(reader.join().expect("no panic"), "the relay ends by what the reader was told");
        });
        assert_eq!(next(Dir::Up), None, "no FIN for the server");
        let end = shared.with(|relay| relay.end());
        assert_eq!(end, Some(End::Reset { by: Side::Client, fault: Fault::Reset }));
    }
}
