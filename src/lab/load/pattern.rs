//! What clients and back ends send, so that whoever receives it can tell every byte.
//!
//! Everything is a piece of one sequence whose period is a prime, so that no loss or repetition of a round number of
//! bytes goes unseen. Where a piece begins depends on the connection and the message: bytes of one that turn up in
//! another are seen too.

use rand_xoshiro::Xoshiro256PlusPlus;
use rand_xoshiro::rand_core::{Rng, SeedableRng};

/// The length of the sequence; a prime.
const PERIOD: usize = 65_521;
/// The longest piece that can be had at once, in bytes.
pub(super) const LONGEST: usize = 256 << 10;
/// Bytes at the head of a message or a stream that name it.
pub(super) const HEAD: usize = 8;

/// Which message of which connection, or with number 0 which stream.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Name {
    pub(super) connection: u32,
    pub(super) number: u32,
}

impl Name {
    pub(super) fn to_bytes(self) -> [u8; HEAD] {
        (u64::from(self.connection) << 32 | u64::from(self.number)).to_le_bytes()
    }

    pub(super) fn from_bytes(bytes: [u8; HEAD]) -> Self {
        let both = u64::from_le_bytes(bytes);
        Self { connection: (both >> 32) as u32, number: both as u32 }
    }

    /// Where its bytes begin in the sequence.
    fn start(self) -> u64 {
        u64::from(self.connection) * 7_919 + u64::from(self.number) * 31
    }
}

/// Which way bytes go; the two ways have different ones.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Way {
    Up,
    Down,
}

/// The sequence.
pub(super) struct Pattern(Vec<u8>);

impl Pattern {
    pub(super) fn new() -> Self {
        let mut bytes = vec![0; PERIOD];
        Xoshiro256PlusPlus::seed_from_u64(PERIOD as u64).fill_bytes(&mut bytes);
        bytes.extend_from_within(..);
        while bytes.len() < PERIOD + LONGEST {
            bytes.extend_from_within(..PERIOD);
        }
        Self(bytes)
    }

    /// The `length` bytes at `offset` of what `name` sends; at most [`LONGEST`].
    pub(super) fn at(&self, name: Name, way: Way, offset: u64, length: usize) -> &[u8] {
        let way = if way == Way::Up { 0 } else { PERIOD as u64 / 2 };
        let start = ((name.start() + way + offset) % PERIOD as u64) as usize;
        &self.0[start..start + length]
    }

    /// Appends a message: its name and as many bytes as make it `length` long.
    pub(super) fn message(&self, name: Name, way: Way, length: usize, out: &mut Vec<u8>) {
        out.extend_from_slice(&name.to_bytes());
        out.extend_from_slice(self.at(name, way, 0, length - HEAD));
    }

    /// Whether this is what [`Pattern::message`] makes.
    pub(super) fn is_message(&self, name: Name, way: Way, message: &[u8]) -> bool {
        let Some((head, body)) = message.split_first_chunk() else { return false };
        Name::from_bytes(*head) == name && body == self.at(name, way, 0, body.len())
    }
}

/// Cuts what arrives into messages of one size.
#[derive(Debug)]
pub(super) struct Messages {
    size: usize,
    part: Vec<u8>,
}

impl Messages {
    pub(super) fn new(size: usize) -> Self {
        Self { size, part: Vec::new() }
    }

    /// Passes on each message that has become whole.
    pub(super) fn take(&mut self, mut bytes: &[u8], mut each: impl FnMut(&[u8])) {
        if !self.part.is_empty() {
            let (missing, rest) = bytes.split_at(bytes.len().min(self.size - self.part.len()));
            self.part.extend_from_slice(missing);
            bytes = rest;
            if self.part.len() == self.size {
                each(&self.part);
                self.part.clear();
            }
        }
        let mut whole = bytes.chunks_exact(self.size);
        whole.by_ref().for_each(&mut each);
        self.part.extend_from_slice(whole.remainder());
    }

    /// Whether a message has begun and is not whole.
    pub(super) fn is_amid(&self) -> bool {
        !self.part.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_is_told_from_every_other() {
        let pattern = Pattern::new();
        let name = Name { connection: 7, number: 3 };
        let mut message = Vec::new();
        pattern.message(name, Way::Up, 100, &mut message);
        assert_eq!(message.len(), 100);
        assert!(pattern.is_message(name, Way::Up, &message));
        assert!(!pattern.is_message(name, Way::Down, &message));
        assert!(!pattern.is_message(Name { number: 4, ..name }, Way::Up, &message));
        assert!(!pattern.is_message(Name { connection: 8, ..name }, Way::Up, &message));
        for index in 0..message.len() {
            message[index] ^= 1;
            assert!(!pattern.is_message(name, Way::Up, &message), "byte {index}");
            message[index] ^= 1;
        }
    }

    #[test]
    fn messages_are_cut_where_they_end_however_they_arrive() {
        let bytes: Vec<u8> = (0..30).collect();
        for piece in 1..=30 {
            let mut messages = Messages::new(10);
            let mut seen = Vec::new();
            for bytes in bytes[..25].chunks(piece) {
                messages.take(bytes, |message| seen.push(message.to_vec()));
            }
            assert_eq!(seen, [&bytes[..10], &bytes[10..20]], "in pieces of {piece}");
            assert!(messages.is_amid());
            messages.take(&bytes[25..], |message| assert_eq!(message, &bytes[20..]));
            assert!(!messages.is_amid());
        }
    }

    #[test]
    fn a_stream_goes_on_where_it_was() {
        let pattern = Pattern::new();
        let name = Name { connection: 1_000, number: 0 };
        let whole: Vec<u8> =
            (0..4).flat_map(|at| pattern.at(name, Way::Down, at * 50_000, 50_000).to_vec()).collect();
        for (offset, length) in [(0, 200_000), (49_999, 2), (65_520, 70_000), (130_000, 1)] {
            assert_eq!(pattern.at(name, Way::Down, offset as u64, length), &whole[offset..offset + length]);
        }
        assert_ne!(whole[..1_000], whole[1..1_001]);
    }
}
