//! Where the bytes of one direction are while they are in transit.

use crate::sys::{Lease, Pool};

/// The bytes of one direction that its target has not taken. A connection at rest holds none.
#[derive(Debug, Default)]
pub(super) enum Store {
    /// Nothing is held, and nothing is allocated.
    #[default]
    Empty,
    /// What was left of a read: nothing more is read until it is gone.
    Tail(Lease),
}

impl Store {
    /// Gives the memory back, with whatever is in it.
    pub(super) fn clear(&mut self, pool: &mut Pool) {
        if let Self::Tail(lease) = std::mem::take(self) {
            pool.give(lease);
        }
    }
}
