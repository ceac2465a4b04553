//! The two sockets of a connection while bytes are relayed over them.

use super::latch::Latch;
use super::selector::{Selector, Trigger, Want};
use crate::engine::pipes::{Bulk, Pipes};
use crate::engine::store::Store;
use crate::engine::{Attempt, Port};
use crate::relay::{Dir, Fault, Op, Outcome, Relay};
use crate::sys::net::{Received, Sent};
use crate::sys::pipe::{PIECE, Spliced};
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

    /// The failure that was reported for it, once.
    pub(super) fn take_failure<N: Net<Stream = Stream>>(&mut self) -> Option<Fault> {
        if std::mem::take(&mut self.error) { N::pending_error(&self.stream) } else { None }
    }
}

/// What all connections of a worker share to move bytes.
#[derive(Debug)]
pub(super) struct Workshop<N: Net> {
    /// Every read goes here, and the write follows at once: it stays in the CPU's cache.
    pub(super) scratch: Box<[u8]>,
    pub(super) pool: Pool,
    pub(super) pipes: Pipes<N>,
}

/// The bytes of one direction, and how they are best moved.
#[derive(Debug)]
pub(super) struct Transit<Pipe> {
    pub(super) store: Store<Pipe>,
    bulk: Bulk,
}

impl<Pipe> Default for Transit<Pipe> {
    fn default() -> Self {
        Self { store: Store::Empty, bulk: Bulk::NEW }
    }
}

impl<Pipe> Transit<Pipe> {
    /// Gives the memory back, with whatever is in it.
    pub(super) fn clear<N: Net<Pipe = Pipe>>(&mut self, workshop: &mut Workshop<N>) {
        self.store.clear(&mut workshop.pool, &mut workshop.pipes);
    }
}

/// A connection's sockets and bytes, ready for [`crate::engine::drive`].
pub(super) struct Wire<'a, N: Net> {
    /// The client's and the server's.
    pub(super) sockets: [&'a mut Socket<N::Stream>; 2],
    pub(super) transits: &'a mut [Transit<N::Pipe>; 2],
    pub(super) workshop: &'a mut Workshop<N>,
    net: &'a N,
    /// How much of the scratch buffer was read for which direction and not written yet.
    fresh: Option<(Dir, usize)>,
    /// A read waits until other connections give buffers back.
    pub(super) starved: bool,
    trusts_short_reads: bool,
    trusts_splices: bool,
}

impl<'a, N: Net> Wire<'a, N> {
    pub(super) fn new<S: Selector<N>>(
        sockets: [&'a mut Socket<N::Stream>; 2],
        transits: &'a mut [Transit<N::Pipe>; 2],
        workshop: &'a mut Workshop<N>,
        net: &'a N,
    ) -> Self {
        let trusts_short_reads = S::SHORT_READ_IS_DRAINED;
        // The others report an urgent byte as one that can be read, and would for as long as it is not.
        let trusts_splices = trusts_short_reads && S::TRIGGER == Trigger::Edge;
        Self {
            sockets,
            transits,
            workshop,
            net,
            fresh: None,
            starved: false,
            trusts_short_reads,
            trusts_splices,
        }
    }

    /// Gives back the memory of what no target will take any more: it may be the last, and what the failed
    /// peer still has to say needs it.
    pub(super) fn forget_undeliverable(&mut self, relay: &Relay) {
        if let Some(failed) = relay.broken()
            && !mutant!(BufferForFailed)
        {
            self.transits[failed.outbound().other().index()].clear(self.workshop);
        }
    }

    fn fill(&mut self, dir: Dir, most: u32) -> Attempt {
        debug_assert!(self.fresh.is_none(), "the scratch buffer still holds another read");
        let transit = &self.transits[dir.index()];
        if !matches!(transit.store, Store::Empty) {
            #[cfg(feature = "sim")]
            if mutant!(FullClearsLatch) {
                self.sockets[dir.source() as usize].read.clear(crate::sys::WouldBlock::simulated());
            }
            return Attempt::Done(Outcome::Full);
        }
        if !self.sockets[dir.source() as usize].read.is_ready() {
            return Attempt::Parked;
        }
        // A splice takes whole pieces; who may take less is read from.
        if matches!(transit.bulk, Bulk::Spliced(_))
            && most >= PIECE
            && let Some(attempt) = self.splice(dir)
        {
            return attempt;
        }
        self.read(dir, most)
    }

    /// Splices what the source has; `None` when it must be read instead.
    fn splice(&mut self, dir: Dir) -> Option<Attempt> {
        let source = &mut *self.sockets[dir.source() as usize];
        let Transit { store, bulk } = &mut self.transits[dir.index()];
        let pipes = &mut self.workshop.pipes;
        if !source.plain && !mutant!(UrgentByteSpliced) {
            // A FIN or an urgent byte may be next: what that is, only a read tells.
            return None;
        }
        let Some(mut pipe) = pipes.take(self.net) else {
            *bulk = Bulk::NEW;
            return None;
        };
        let spliced = N::splice_in(&source.stream, &mut pipe);
        if let Spliced::Bytes(count) = spliced {
            *store = Store::Pipe(pipe);
            bulk.spliced(count.get(), pipes);
            return Some(Attempt::Done(Outcome::Moved(count)));
        }
        pipes.give(pipe);
        match spliced {
            // If an urgent byte has come just now, an event that says so is on its way.
            Spliced::Nothing(proof) if self.trusts_splices => {
                source.read.clear(proof);
                Some(Attempt::Parked)
            }
            Spliced::Ended if mutant!(SplicedEndBelieved) => Some(Attempt::Done(Outcome::Eof)),
            Spliced::Bytes(_) | Spliced::Nothing(_) | Spliced::Ended => None,
            Spliced::Refused => {
                *bulk = Bulk::Never;
                None
            }
            Spliced::Failed(fault) => Some(Attempt::Done(Outcome::Fault(fault))),
        }
    }

    fn read(&mut self, dir: Dir, most: u32) -> Attempt {
        let source = &mut *self.sockets[dir.source() as usize];
        let scratch = &mut self.workshop.scratch;
        let room = self.workshop.pool.room(scratch.len());
        if room == 0 {
            self.starved = true;
            return Attempt::Parked;
        }
        let room = room.min(most as usize);
        let is_plain = source.plain || mutant!(ShortReadBelieved);
        match N::recv(&source.stream, &mut scratch[..room], self.trusts_short_reads && is_plain) {
            Received::Bytes(count, drained) => {
                if let Some(proof) = drained {
                    source.read.clear(proof);
                }
                self.fresh = Some((dir, count.get() as usize));
                self.transits[dir.index()].bulk.read(count.get(), &self.workshop.pipes);
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
            None => self.drain_store(dir),
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
            self.transits[dir.index()].store = Store::Tail(self.workshop.pool.keep(rest));
        }
        attempt
    }

    fn drain_store(&mut self, dir: Dir) -> Attempt {
        let target = &mut *self.sockets[dir.target() as usize];
        let transit = &mut self.transits[dir.index()];
        let (attempt, is_empty) = match &mut transit.store {
            Store::Tail(lease) => {
                let (taken, attempt) = write::<N>(target, lease.bytes());
                lease.advance(taken);
                (attempt, lease.bytes().is_empty())
            }
            Store::Pipe(pipe) => {
                let (_, attempt) = sent(target, |stream| N::splice_out(stream, pipe));
                (attempt, N::is_empty(pipe))
            }
            Store::Empty => unreachable!("bytes are queued in neither the scratch buffer nor a store"),
        };
        if is_empty && !mutant!(PipeKept) {
            transit.clear(self.workshop);
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
    sent(target, |stream| N::send(stream, bytes))
}

/// The same in whatever way bytes are sent.
fn sent<Stream>(target: &mut Socket<Stream>, send: impl FnOnce(&Stream) -> Sent) -> (usize, Attempt) {
    if !target.write.is_ready() {
        return (0, Attempt::Parked);
    }
    match send(&target.stream) {
        Sent::Bytes(count) => (count.get() as usize, Attempt::Done(Outcome::Moved(count))),
        Sent::Nothing(proof) => {
            target.write.clear(proof);
            (0, Attempt::Parked)
        }
        Sent::Failed(fault) => (0, Attempt::Done(Outcome::Fault(fault))),
    }
}

impl<N: Net> Port for Wire<'_, N> {
    fn attempt(&mut self, dir: Dir, op: Op, most: u32) -> Attempt {
        match op {
            Op::Fill => self.fill(dir, most),
            Op::Drain => self.drain(dir),
            Op::Finish => self.finish(dir),
        }
    }
}
