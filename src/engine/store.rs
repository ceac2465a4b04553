//! Where the bytes of one direction are while they are in transit.

use super::pipes::Pipes;
use crate::sys::{Lease, Net, Pool};

/// The bytes of one direction that its target has not taken. A connection at rest holds none.
#[derive(Debug, Default)]
pub(super) enum Store<Pipe> {
    /// Nothing is held, and nothing is allocated.
    #[default]
    Empty,
    /// What was left of a read: nothing more is read until it is gone.
    Tail(Lease),
    /// What was spliced. Never empty for longer than a call: a pipe is two descriptors.
    Pipe(Pipe),
}

impl<Pipe> Store<Pipe> {
    /// What is held in a buffer.
    pub(super) fn tail(&self) -> &[u8] {
        match self {
            Self::Tail(lease) => lease.bytes(),
            Self::Empty | Self::Pipe(_) => &[],
        }
    }

    /// Gives the memory back, with whatever is in it.
    pub(super) fn clear<N: Net<Pipe = Pipe>>(&mut self, pool: &mut Pool, pipes: &mut Pipes<N>) {
        match std::mem::take(self) {
            Self::Empty => {}
            Self::Tail(lease) => pool.give(lease),
            Self::Pipe(pipe) => pipes.give(pipe),
        }
    }
}
