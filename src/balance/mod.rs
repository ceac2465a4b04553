//! Which server is next. Pure: no socket, no clock; what is shared are a cursor and counts that are touched
//! once for each connection.

mod rotate;
mod two_choices;

pub use rotate::Rotate;
pub use two_choices::TwoChoices;

use rand_xoshiro::SplitMix64;
use rand_xoshiro::rand_core::{Rng, SeedableRng};

/// The most servers that are remembered as failed for one client; beyond it the oldest is forgotten.
pub const TRIED_MAX: usize = 8;

/// A server: an index into the servers of all pools.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ServerId(pub u32);

/// How a pool chooses among its servers.
#[derive(Debug)]
pub enum Balancer {
    /// Weighted round robin, shared by all workers.
    RoundRobin(Rotate),
    /// Of two drawn at random, the one with fewer connections.
    TwoChoices(TwoChoices),
}

impl Balancer {
    /// The next server that is not in `tried` (at most [`TRIED_MAX`]), or `None` when no such server takes
    /// connections. `seed` differs from pick to pick; `load` tells a server's connections.
    #[must_use]
    pub fn pick(&self, tried: &[ServerId], seed: u64, load: impl Fn(ServerId) -> u32) -> Option<ServerId> {
        match self {
            Self::RoundRobin(rotate) => rotate.pick(tried),
            Self::TwoChoices(choices) => choices.pick(tried, random(seed), load),
        }
    }
}

/// 64 bits that look random and follow from `seed`, so that a run can be repeated.
pub(crate) fn random(seed: u64) -> u64 {
    SplitMix64::seed_from_u64(seed).next_u64()
}
