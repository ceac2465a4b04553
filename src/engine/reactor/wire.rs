//! The two sockets of a connection while bytes are relayed over them.

use super::latch::Latch;
#[cfg(doc)]
use super::selector::Trigger;
use super::selector::Want;
use crate::engine::store::Store;
use crate::engine::{Attempt, Port};
use crate::relay::{Dir, Op, Outcome, Relay};
use crate::sys::net::{Received, Sent};
use crate::sys::{Net, Pool};

/// One socket and what is known of its readiness.
#[derive(Debug)]
pub(super) struct Socket<Stream> {
    pub(super) stream: Stream,
    pub(super) read: Latch,
    pub(super) write: Latch,
    /// Nothing but "readable" and "writable" was ever reported for it. Ends for good with the first FIN,
    /// hang-up, error or urgent byte: from then on only an EAGAIN proves that it is empty.
    pub(super) plain: bool,
    /// An error was reported for it, which may still have to be asked for.
    pub(super) error: bool,
    /// What the selector was asked to report, unless its trigger is [`Trigger::Edge`]; `None` is nothing.
    pub(super) asked: Option<Want>,
}

impl<Stream> Socket<Stream> {
    pub(super) fn new(stream: Stream) -> Self {
        Self {
            stream,
            read: Latch::new(),
            write: Latch::new(),
            plain: true,
            error: false,
            asked: Some(Want::default()),
        }
    }
}

/// What all connections of a worker share to move bytes.
#[derive(Debug)]
pub(super) struct Workshop {
    /// Every read goes here, and the write follows at once: it stays in the CPU's cache.
    pub(super) scratch: Box<[u8]>,
    pub(super) pool: Pool,
}

/// A connection's sockets and bytes, ready for [`crate::engine::drive`].
pub(super) struct Wire<'a, N: Net> {
    /// The client's and the server's.
    pub(super) sockets: [&'a mut Socket<N::Stream>; 2],
    pub(super) stores: &'a mut [Store; 2],
    pub(super) workshop: &'a mut Workshop,
    /// How much of the scratch buffer was read for which direction and not written yet.
    fresh: Option<(Dir, usize)>,
    /// A read waits until other connections give buffers back.
    pub(super) starved: bool,
    trusts_short_reads: bool,
}

impl<'a, N: Net> Wire<'a, N> {
    pub(super) fn new(
        sockets: [&'a mut Socket<N::Stream>; 2],
        stores: &'a mut [Store; 2],
        workshop: &'a mut Workshop,
        trusts_short_reads: bool,
    ) -> Self {
        Self { sockets, stores, workshop, fresh: None, starved: false, trusts_short_reads }
    }

    /// Gives back the memory of what no target will take any more: it may be the last, and what the failed
    /// peer still has to say needs it.
    pub(super) fn forget_undeliverable(&mut self, relay: &Relay) {
        if let Some(failed) = relay.broken()
            && !mutant!(BufferForFailed)
        {
            self.stores[failed.outbound().other().index()].clear(&mut self.workshop.pool);
        }
    }

    fn fill(&mut self, dir: Dir) -> Attempt {
        debug_assert!(self.fresh.is_none(), "the scratch buffer still holds another read");
        if matches!(self.stores[dir.index()], Store::Tail(_)) {
            #[cfg(feature = "sim")]
            if mutant!(FullClearsLatch) {
                self.sockets[dir.source() as usize].read.clear(crate::sys::WouldBlock::simulated());
            }
            return Attempt::Done(Outcome::Full);
        }
        let source = &mut *self.sockets[dir.source() as usize];
        if !source.read.is_ready() {
            return Attempt::Parked;
        }
        let scratch = &mut self.workshop.scratch;
        let room = self.workshop.pool.room(scratch.len());
        if room == 0 {
            self.starved = true;
            return Attempt::Parked;
        }
        let is_plain = source.plain || mutant!(ShortReadBelieved);
        match N::recv(&source.stream, &mut scratch[..room], self.trusts_short_reads && is_plain) {
            Received::Bytes(count, drained) => {
                if let Some(proof) = drained {
                    source.read.clear(proof);
                }
                self.fresh = Some((dir, count.get() as usize));
                Attempt::Done(Outcome::Moved(count))
            }
            Received::Eof => Attempt::Done(Outcome::Eof),
            Received::Nothing(proof) => {
                source.read.clear(proof);
                Attempt::Parked
            }
            Received::Failed(fault) => Attempt::Done(Outcome::Fault(fault)),
        }
    }

    fn drain(&mut self, dir: Dir) -> Attempt {
        match self.fresh.take_if(|(of, _)| *of == dir) {
            Some((_, count)) => self.drain_scratch(dir, count),
            None => self.drain_tail(dir),
        }
    }

    /// Writes what was just read. What the target does not take gets a buffer of its own before anything
    /// else uses the scratch buffer.
    fn drain_scratch(&mut self, dir: Dir, count: usize) -> Attempt {
        let target = &mut *self.sockets[dir.target() as usize];
        let bytes = &self.workshop.scratch[..count];
        let (taken, attempt) = write::<N>(target, bytes);
        if taken < count && !matches!(attempt, Attempt::Done(Outcome::Fault(_))) {
            let rest = if mutant!(TailRepeats) { &bytes[..count - taken] } else { &bytes[taken..] };
            self.stores[dir.index()] = Store::Tail(self.workshop.pool.keep(rest));
        }
        attempt
    }

    fn drain_tail(&mut self, dir: Dir) -> Attempt {
        let target = &mut *self.sockets[dir.target() as usize];
        let store = &mut self.stores[dir.index()];
        let Store::Tail(lease) = store else {
            unreachable!("bytes are queued in neither the scratch buffer nor a tail");
        };
        let (taken, attempt) = write::<N>(target, lease.bytes());
        lease.advance(taken);
        if lease.bytes().is_empty() {
            store.clear(&mut self.workshop.pool);
        }
        attempt
    }

    fn finish(&mut self, dir: Dir) -> Attempt {
        if mutant!(FinSkipped) {
            return Attempt::Done(Outcome::Finished);
        }
        Attempt::Done(match N::finish(&self.sockets[dir.target() as usize].stream) {
            Ok(()) => Outcome::Finished,
            Err(fault) => Outcome::Fault(fault),
        })
    }
}

/// Writes what the socket takes; returns how much that was.
fn write<N: Net>(target: &mut Socket<N::Stream>, bytes: &[u8]) -> (usize, Attempt) {
    if !target.write.is_ready() {
        return (0, Attempt::Parked);
    }
    match N::send(&target.stream, bytes) {
        Sent::Bytes(count) => (count.get() as usize, Attempt::Done(Outcome::Moved(count))),
        Sent::Nothing(proof) => {
            target.write.clear(proof);
            (0, Attempt::Parked)
        }
        Sent::Failed(fault) => (0, Attempt::Done(Outcome::Fault(fault))),
    }
}

impl<N: Net> Port for Wire<'_, N> {
    fn attempt(&mut self, dir: Dir, op: Op) -> Attempt {
        match op {
            Op::Fill => self.fill(dir),
            Op::Drain => self.drain(dir),
            Op::Finish => self.finish(dir),
        }
    }
}
