//! What the completion engine keeps for a connection, and how its relay is driven.

use super::flight::{Chunk, Flights, Id, Owner, Parcel, Part, Payload};
use super::kernel::PIECES_MAX;
use super::ring::Ring;
use crate::engine::head::Wanted;
use crate::engine::{Attempt, Port};
use crate::relay::{Dir, Op, Outcome, Relay, Side};
use crate::sys::{Lease, Net, Pool};
use crate::table::Key;

/// A connection's sockets, and what is under way for them.
#[derive(Debug)]
pub struct Io<N: Net> {
    pub(super) client: N::Stream,
    pub(super) server: Option<N::Stream>,
    /// What was gathered of the client's first bytes.
    pub(super) head: Option<Lease>,
    pub(super) lanes: [Lane; 2],
    /// By [`Side`].
    pub(super) watches: [Watch; 2],
    /// Waits for a client's bytes or its end while its first ones are gathered, or it is queued.
    pub(super) patience: Option<Id>,
    pub(super) phase: Phase,
    /// By [`Side`]: bytes of it came too late to be passed on.
    pub(super) late: [bool; 2],
    /// Operations under way.
    pub(super) flying: u32,
    /// On the list of those whose relay is to be driven.
    pub(super) dirty: bool,
    /// On the list of those whose quiet sockets may have to be watched.
    pub(super) doubtful: bool,
}

#[derive(Debug)]
pub(super) enum Phase {
    /// The worker decides what comes next.
    Resting,
    /// The client's first bytes are gathered.
    Heading(Wanted),
    /// The client waits until it is told where to go: it is told of if it leaves.
    Queued,
    /// A connect is under way.
    Dialing(Id),
    /// A byte of a server that was reached is waited for.
    Hearing(Id),
    /// Bytes are moved.
    Relaying(Relay),
    /// Nothing is started any more; closed when nothing is under way.
    Closing {
        /// The peer that is to see an end and no reset, if there is one.
        dismissed: Option<Side>,
    },
}

/// Whether hang-ups and errors of a socket are watched for, beside what its reads tell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Watch {
    No,
    Yes(Id),
    /// It hung up: that is told once.
    Told,
    /// It failed, and its error may still have to be asked for.
    Failed,
}

/// One direction.
#[derive(Debug)]
pub(super) struct Lane {
    pub(super) receive: Receive,
    /// What came and is not on its way to the target.
    pub(super) queue: Vec<Chunk>,
    pub(super) send: Option<Id>,
    /// The target did not take everything at once: nothing is read until it has.
    pub(super) blocked: bool,
    /// Reads that have to be small before it is no longer taken for bulk. Bulk is read piece by piece: a read
    /// without limit would take far more than a direction may hold, before its target is known to be slow.
    pub(super) bulk: u8,
    /// The read that is under way has no limit.
    pub(super) many: bool,
}

/// A read of so many bytes is bulk; it takes so many smaller ones than that until it is over.
const BULK: u32 = 64 << 10;
const SMALL: u32 = 16 << 10;
const SMALL_ONES: u8 = 8;
/// Of a new connection nothing is known: it is taken for bulk until so many small reads.
const FIRST_ONES: u8 = 2;

/// The reading of a lane.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Receive {
    Off,
    On(Id),
    /// It was cancelled and has not ended.
    Ending(Id),
    /// There was no buffer; it goes on when one comes back.
    Starved,
}

impl Lane {
    pub(super) fn new() -> Self {
        Self {
            receive: Receive::Off,
            queue: Vec::new(),
            send: None,
            blocked: false,
            bulk: FIRST_ONES,
            many: false,
        }
    }

    /// A read has brought so many bytes. One that ends where a buffer does may have
    /// ended because there was no other.
    pub(super) fn brought(&mut self, count: u32, buffer_size: u32) {
        if count >= BULK || count.is_multiple_of(buffer_size) {
            self.bulk = SMALL_ONES;
        } else if count < SMALL {
            self.bulk = self.bulk.saturating_sub(1);
        }
    }
}

impl<N: Net> Io<N> {
    pub(super) fn stream(&self, side: Side) -> Option<&N::Stream> {
        match side {
            Side::Client => Some(&self.client),
            Side::Server => self.server.as_ref(),
        }
    }

    /// Whether a lane waits for a buffer.
    pub(super) fn is_starved(&self) -> bool {
        self.lanes.iter().any(|lane| lane.receive == Receive::Starved)
    }
}

/// What all connections of a worker share.
#[derive(Debug)]
pub(super) struct Works<R: Ring> {
    pub(super) ring: R,
    pub(super) flights: Flights<<R::Net as Net>::Stream>,
    pub(super) pool: Pool,
    /// Bytes of all of the ring's own buffers.
    pub(super) ring_bytes: usize,
    /// Reads may go on without limit.
    pub(super) multishot: bool,
    /// The most that any other read takes; to the next whole buffer, and once more, where the ring cannot limit it.
    pub(super) read_size: u32,
    /// Sends that answer only if they fall short, in the order in which they were pushed.
    pub(super) silent: Vec<Id>,
    /// Parcels and lists of chunks that nobody uses.
    #[expect(clippy::vec_box, reason = "flights hold boxes, so that a read, which has no parcel, is small")]
    spare_parcels: Vec<Box<Parcel>>,
    spare_lists: Vec<Vec<Chunk>>,
}

/// So many of each are kept.
const SPARES_MAX: usize = 256;

impl<R: Ring> Works<R> {
    pub(super) fn new(ring: R, budget: usize, read_size: u32, multishot: bool) -> Self {
        Self {
            ring_bytes: ring.spare() * ring.buffer_size() as usize,
            ring,
            flights: Flights::new(),
            pool: Pool::new(budget),
            multishot,
            read_size,
            silent: Vec::new(),
            spare_parcels: Vec::new(),
            spare_lists: Vec::new(),
        }
    }

    /// The bytes of a completed read, in the buffers that it filled.
    pub(super) fn append(&mut self, lane: &mut Lane, mut buffer: u16, mut left: u32) {
        if lane.queue.capacity() == 0 {
            lane.queue = self.spare_lists.pop().unwrap_or_default();
        }
        while left > 0 {
            let count = left.min(self.ring.buffer_size());
            left -= count;
            let next = match left {
                0 => 0,
                _ if mutant!(BundleByNumber) => buffer ^ 1,
                _ => self.ring.next(buffer),
            };
            let chunk = Chunk::Provided { buffer, at: 0, count };
            lane.queue.push(if lane.blocked { self.keep(chunk) } else { chunk });
            buffer = next;
        }
    }

    /// Moves bytes that have to wait out of the ring's buffers, which others need.
    fn keep(&mut self, chunk: Chunk) -> Chunk {
        match chunk {
            Chunk::Provided { buffer, at, count } if self.pool.room(count as usize) >= count as usize => {
                let lease = self.pool.keep(&self.ring.bytes(buffer, at + count)[at as usize..]);
                self.ring.give(buffer);
                Chunk::Kept(lease)
            }
            other => other,
        }
    }

    fn free(&mut self, chunk: Chunk) {
        match chunk {
            Chunk::Provided { buffer, .. } => self.ring.give(buffer),
            Chunk::Kept(lease) => self.pool.give(lease),
        }
    }

    /// Forgets what a lane holds for nobody.
    pub(super) fn clear(&mut self, lane: &mut Lane) {
        let mut list = std::mem::take(&mut lane.queue);
        for chunk in list.drain(..) {
            self.free(chunk);
        }
        self.spare(list);
    }

    /// Buffers that a completed read names and nobody wants.
    pub(super) fn discard(&mut self, mut buffer: u16, count: u32) {
        let buffers = count.div_ceil(self.ring.buffer_size()).max(1);
        for left in (0..buffers).rev() {
            let next = if left > 0 { self.ring.next(buffer) } else { 0 };
            self.ring.give(buffer);
            buffer = next;
        }
    }

    fn spare(&mut self, list: Vec<Chunk>) {
        if list.capacity() > 0 && list.capacity() <= PIECES_MAX && self.spare_lists.len() < SPARES_MAX {
            self.spare_lists.push(list);
        }
    }

    /// So many bytes of a parcel were taken: frees them, and puts the rest back to the front of its lane, out
    /// of the ring's buffers.
    pub(super) fn sent(&mut self, lane: &mut Lane, mut parcel: Box<Parcel>, mut taken: u32) {
        let mut rest = self.spare_lists.pop().unwrap_or_default();
        for chunk in parcel.chunks.drain(..) {
            let gone = taken.min(chunk.count());
            taken -= gone;
            if gone == chunk.count() {
                self.free(chunk);
                continue;
            }
            let left = match chunk {
                Chunk::Provided { buffer, at, count } => {
                    Chunk::Provided { buffer, at: at + gone, count: count - gone }
                }
                Chunk::Kept(mut lease) => {
                    lease.advance(gone as usize);
                    Chunk::Kept(lease)
                }
            };
            rest.push(self.keep(left));
        }
        if !rest.is_empty() {
            let mut behind = std::mem::take(&mut lane.queue);
            for chunk in behind.drain(..) {
                rest.push(self.keep(chunk));
            }
            self.spare(behind);
            lane.queue = rest;
            lane.blocked = true;
        } else {
            self.spare(rest);
            lane.blocked &= !lane.queue.is_empty();
            if lane.queue.is_empty() {
                let list = std::mem::take(&mut lane.queue);
                self.spare(list);
            }
        }
        self.recycle(parcel);
    }

    /// A parcel that can never be delivered.
    pub(super) fn lose(&mut self, mut parcel: Box<Parcel>) {
        let mut chunks = std::mem::take(&mut parcel.chunks);
        for chunk in chunks.drain(..) {
            self.free(chunk);
        }
        parcel.chunks = chunks;
        self.recycle(parcel);
    }

    fn recycle(&mut self, parcel: Box<Parcel>) {
        if self.spare_parcels.len() < SPARES_MAX {
            self.spare_parcels.push(parcel);
        }
    }

    /// The first pieces of a lane, as many as one send takes.
    fn pack(&mut self, lane: &mut Lane) -> Box<Parcel> {
        let mut parcel = self.spare_parcels.pop().unwrap_or_default();
        if lane.queue.len() <= PIECES_MAX {
            std::mem::swap(&mut parcel.chunks, &mut lane.queue);
            let list = std::mem::take(&mut lane.queue);
            self.spare(list);
        } else {
            parcel.chunks.extend(lane.queue.drain(..PIECES_MAX));
        }
        parcel
    }
}

/// A connection, ready for [`crate::engine::drive`]. Whatever takes time is parked when it is begun.
pub(super) struct Wire<'a, R: Ring> {
    pub(super) key: Key,
    pub(super) streams: [&'a <R::Net as Net>::Stream; 2],
    pub(super) lanes: &'a mut [Lane; 2],
    pub(super) works: &'a mut Works<R>,
    pub(super) flying: &'a mut u32,
}

impl<R: Ring> Wire<'_, R> {
    fn fill(&mut self, dir: Dir, limit: u32) -> Attempt {
        let lane = &mut self.lanes[dir.index()];
        if lane.blocked {
            return Attempt::Done(Outcome::Full);
        }
        if lane.receive == Receive::Off {
            let owner = Owner::Connection(self.key, Part::Receive(dir));
            let id = self.works.flights.insert(owner, Payload::Nothing);
            lane.receive = Receive::On(id);
            *self.flying += 1;
            lane.many = self.works.multishot && lane.bulk == 0 && limit == u32::MAX;
            let most = (!lane.many).then_some(self.works.read_size.min(limit));
            self.works.ring.receive(self.streams[dir.source() as usize], most, id);
        }
        Attempt::Parked
    }

    fn drain(&mut self, dir: Dir) -> Attempt {
        let lane = &mut self.lanes[dir.index()];
        if lane.send.is_some() {
            return Attempt::Parked;
        }
        let mut parcel = self.works.pack(lane);
        debug_assert!(!parcel.chunks.is_empty(), "bytes are queued in no chunk");
        let owner = Owner::Connection(self.key, Part::Send(dir));
        let id = self.works.flights.insert(owner, Payload::Nothing);
        lane.send = Some(id);
        *self.flying += 1;
        let target = self.streams[dir.target() as usize];
        self.works.ring.send(target, &mut parcel, lane.blocked, id);
        if !lane.blocked {
            self.works.silent.push(id);
        }
        if mutant!(GivenBackUnderWay)
            && let Some(Chunk::Provided { buffer, .. }) = parcel.chunks.first()
        {
            self.works.ring.give(*buffer);
        }
        let flight = self.works.flights.get_mut(id).expect("it was put there just now");
        flight.payload = Payload::Parcel(parcel);
        Attempt::Parked
    }

    fn finish(&mut self, dir: Dir) -> Attempt {
        Attempt::Done(match R::Net::finish(self.streams[dir.target() as usize]) {
            Ok(()) => Outcome::Finished,
            Err(fault) => Outcome::Fault(fault),
        })
    }
}

impl<R: Ring> Port for Wire<'_, R> {
    fn attempt(&mut self, dir: Dir, op: Op, most: u32) -> Attempt {
        match op {
            Op::Fill => self.fill(dir, most),
            Op::Drain => self.drain(dir),
            Op::Finish => self.finish(dir),
        }
    }
}
