//! Which server is next. Pure: no socket, no clock; what is shared are a cursor and counts that are touched
//! once for each connection.

mod least;
mod rotate;
mod source;
mod two_choices;

pub use least::LeastConnections;
pub use rotate::Rotate;
pub use source::BySource;
pub use two_choices::TwoChoices;

use std::net::IpAddr;
use std::sync::Arc;

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
    /// One drawn at random.
    Random(TwoChoices),
    /// Of all, the one with the fewest connections.
    LeastConnections(LeastConnections),
    /// By the client's address. The next snapshot has the same one as long as the servers are the same.
    BySource(Arc<BySource>),
}

/// What a pick has found.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Pick {
    /// This server.
    Server(ServerId),
    /// Every server that could be meant has as many connections as it takes.
    Full,
    /// No server takes connections.
    None,
}

impl Balancer {
    /// The next server for `client` that is not in `tried` (at most [`TRIED_MAX`]) and not full. `seed` differs from pick to
    /// pick; `load` tells a server's connections, or `None` when it is full.
    #[must_use]
    pub fn pick(
        &self,
        tried: &[ServerId],
        seed: u64,
        client: Option<IpAddr>,
        load: impl Fn(ServerId) -> Option<u32>,
    ) -> Pick {
        match self {
            Self::RoundRobin(rotate) => rotate.pick(tried, |server| load(server).is_some()),
            Self::TwoChoices(choices) => choices.pick(tried, random(seed), load),
            Self::Random(shares) => shares.pick_any(tried, random(seed), |server| load(server).is_some()),
            Self::LeastConnections(least) => least.pick(tried, load),
            Self::BySource(table) => table.pick(tried, (client, seed), load),
        }
    }
}

/// 64 bits that look random and follow from `seed`, so that a run can be repeated.
pub(crate) fn random(seed: u64) -> u64 {
    SplitMix64::seed_from_u64(seed).next_u64()
}
