//! Operations that are under way, and what the kernel may touch until they have ended.

use slab::Slab;

use crate::relay::{Dir, Side};
use crate::sys::Lease;
use crate::table::Key;

/// An operation that is under way: where it is in the table, and which of those that have been there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Id {
    index: u32,
    generation: u32,
    kind: Kind,
}

/// How the answer of an operation is to be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// A socket.
    Accept,
    /// What is the case with a socket.
    Watch,
    /// A count, and where so many bytes are.
    Receive,
    /// A count.
    Other,
}

/// Generations are counted in so many bits: three are left for the kind.
const GENERATION_MASK: u32 = u32::MAX >> 3;

impl Id {
    /// As a number that a ring can carry. Its highest bit is never set.
    #[must_use]
    pub fn token(self) -> u64 {
        (self.kind as u64) << 61 | u64::from(self.generation) << 32 | u64::from(self.index)
    }

    /// Back from [`Id::token`].
    #[must_use]
    pub fn from_token(token: u64) -> Self {
        let kind = match token >> 61 {
            0 => Kind::Accept,
            1 => Kind::Watch,
            2 => Kind::Receive,
            _ => Kind::Other,
        };
        Self { index: token as u32, generation: (token >> 32) as u32 & GENERATION_MASK, kind }
    }

    /// How its answer is to be read.
    #[must_use]
    pub fn kind(self) -> Kind {
        self.kind
    }
}

/// Bytes on their way, in order.
#[derive(Debug)]
pub enum Chunk {
    /// In a buffer of the ring, from `at` on.
    Provided {
        /// Which.
        buffer: u16,
        /// Where they begin.
        at: u32,
        /// How many there are.
        count: u32,
    },
    /// In a buffer of the pool: their target is slow.
    Kept(Lease),
}

impl Chunk {
    /// How many bytes there are.
    #[must_use]
    pub fn count(&self) -> u32 {
        match self {
            Self::Provided { count, .. } => *count,
            Self::Kept(lease) => lease.bytes().len() as u32,
        }
    }
}

/// What one send is given: the chunks, and where the kernel finds them.
#[derive(Debug, Default)]
pub struct Parcel {
    /// What is to be sent.
    pub chunks: Vec<Chunk>,
    /// The ring's own description of it.
    pub vectors: super::kernel::Vectors,
}

/// What an operation is for.
#[derive(Debug)]
pub(super) enum Owner<Stream> {
    /// Part of a connection.
    Connection(Key, Part),
    /// Clients of a listening socket, by its place.
    Listener(usize),
    /// A connect that nobody waits for any more; its socket is closed with its end.
    Abandoned(Stream),
}

/// Which of the operations of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Part {
    Receive(Dir),
    Send(Dir),
    Watch(Side),
    /// Whether a client that waits for a server leaves.
    Patience,
    Connect,
    /// Whether a server has said something.
    Hear,
}

/// What the kernel may touch until the operation has ended.
#[derive(Debug)]
pub(super) enum Payload {
    Nothing,
    Parcel(Box<Parcel>),
    Address(#[expect(dead_code, reason = "held for the kernel, which reads it")] Box<socket2::SockAddr>),
}

#[derive(Debug)]
pub(super) struct Flight<Stream> {
    pub(super) owner: Owner<Stream>,
    pub(super) payload: Payload,
}

/// All operations that are under way.
#[derive(Debug)]
pub(super) struct Flights<Stream> {
    slots: Slab<Flight<Stream>>,
    /// How many operations each slot has had; outlives them.
    generations: Vec<u32>,
}

impl<Stream> Flights<Stream> {
    pub(super) fn new() -> Self {
        Self { slots: Slab::new(), generations: Vec::new() }
    }

    pub(super) fn insert(&mut self, owner: Owner<Stream>, payload: Payload) -> Id {
        let kind = match owner {
            Owner::Listener(_) => Kind::Accept,
            Owner::Connection(_, Part::Watch(_) | Part::Patience | Part::Hear) => Kind::Watch,
            Owner::Connection(_, Part::Receive(_)) => Kind::Receive,
            Owner::Connection(..) | Owner::Abandoned(_) => Kind::Other,
        };
        let index = self.slots.insert(Flight { owner, payload });
        if index == self.generations.len() {
            self.generations.push(0);
        }
        Id {
            index: u32::try_from(index).expect("as many as descriptors"),
            generation: self.generations[index],
            kind,
        }
    }

    pub(super) fn get_mut(&mut self, id: Id) -> Option<&mut Flight<Stream>> {
        if self.generations.get(id.index as usize) != Some(&id.generation) {
            return None;
        }
        self.slots.get_mut(id.index as usize)
    }

    /// Whose bytes an operation sends.
    pub(super) fn sender(&self, id: Id) -> Option<(Key, Dir)> {
        match self.slots.get(id.index as usize)?.owner {
            Owner::Connection(key, Part::Send(dir)) => Some((key, dir)),
            _ => None,
        }
    }

    /// The operation has ended: what it was given is free.
    pub(super) fn remove(&mut self, id: Id) -> Option<Flight<Stream>> {
        self.get_mut(id)?;
        let generation = &mut self.generations[id.index as usize];
        *generation = generation.wrapping_add(1) & GENERATION_MASK;
        self.slots.try_remove(id.index as usize)
    }
}

impl<Stream> Drop for Flights<Stream> {
    fn drop(&mut self) {
        // The kernel may still write to what these hold: better lost than used again.
        for flight in self.slots.drain() {
            std::mem::forget(flight.payload);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_dies_with_its_operation_although_the_slot_lives_on() {
        let mut flights = Flights::<()>::new();
        let first = flights.insert(Owner::Listener(1), Payload::Nothing);
        assert_eq!(Id::from_token(first.token()), first);
        assert!(flights.remove(first).is_some());
        let second = flights.insert(Owner::Listener(2), Payload::Nothing);
        assert_eq!(first.index, second.index);
        assert!(flights.get_mut(first).is_none() && flights.remove(first).is_none());
        assert!(flights.get_mut(second).is_some());
    }
}
