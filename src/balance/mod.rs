//! Which server is next. Pure: no socket, no clock; what is shared are a cursor and counts that are touched
//! once for each connection.

mod first;
mod least;
mod rotate;
mod source;
mod time;
mod two_choices;

pub use first::First;
pub use least::LeastConnections;
pub use rotate::Rotate;
pub use source::{BySource, hash_of_name};
pub use time::{Latency, PeakEwma, median};
pub use two_choices::TwoChoices;

use std::net::IpAddr;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use rand_xoshiro::SplitMix64;
use rand_xoshiro::rand_core::{Rng, SeedableRng};

/// The most servers that are remembered as failed for one client; beyond it the oldest is forgotten.
pub const TRIED_MAX: usize = 8;

/// A server: an index into the servers of all pools.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ServerId(pub u32);

/// For whom a server is chosen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Client {
    /// Where it comes from; none over a unix socket.
    pub address: Option<IpAddr>,
    /// The name that it asks for, as [`hash_of_name`] has it; none where it was not read, or asks for none.
    pub name: Option<NonZeroU32>,
}

/// How a pool chooses among its servers. A clone goes on where this one is, on its own: what it picks changes nothing for others.
#[derive(Clone, Debug)]
pub enum Balancer {
    /// Weighted round robin, shared by all workers.
    RoundRobin(Rotate),
    /// Of two drawn at random, the one with fewer connections.
    TwoChoices(TwoChoices),
    /// One drawn at random.
    Random(TwoChoices),
    /// Of all, the one with the fewest connections.
    LeastConnections(LeastConnections),
    /// Of two drawn at random, the one that answers sooner, for its connections.
    LeastTime(TwoChoices),
    /// The first that has room.
    First(First),
    /// By the client's address, or by the name that it asks for. The next snapshot has the same one as long as the servers are the same.
    BySource(Arc<BySource>),
}

/// What a pick may ask of the servers. A function that tells the connections of each is enough for most.
pub trait Loads {
    /// A server's connections, those that are being made included; `None` when it is full.
    fn load(&self, server: ServerId) -> Option<u32>;

    /// A server's connections when it is full, too.
    fn connections(&self, server: ServerId) -> u32 {
        self.load(server).unwrap_or(0)
    }

    /// How long it takes until it is connected to, and from then on until it answers, in milliseconds; `None` is not known.
    fn latency_ms(&self, _: ServerId) -> [Option<f32>; 2] {
        [None; 2]
    }
}

impl<F: Fn(ServerId) -> Option<u32>> Loads for F {
    fn load(&self, server: ServerId) -> Option<u32> {
        self(server)
    }
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
    /// pick.
    #[must_use]
    pub fn pick(&self, tried: &[ServerId], seed: u64, client: Client, loads: &impl Loads) -> Pick {
        let load = |server| loads.load(server);
        let has_room = |server| loads.load(server).is_some();
        match self {
            Self::RoundRobin(rotate) => rotate.pick(tried, has_room),
            Self::TwoChoices(choices) => choices.pick(tried, random(seed), load),
            Self::Random(shares) => shares.pick_any(tried, random(seed), has_room),
            Self::LeastConnections(least) => least.pick(tried, load),
            Self::LeastTime(choices) => choices.pick_sooner(tried, random(seed), loads),
            Self::First(first) => first.pick(tried, has_room),
            Self::BySource(table) => table.pick(tried, (client, seed), loads),
        }
    }
}

/// Where the next pick begins to look; all workers share it.
#[derive(Debug, Default)]
struct Cursor(AtomicU32);

impl Clone for Cursor {
    fn clone(&self) -> Self {
        Self(AtomicU32::new(self.0.load(Ordering::Relaxed)))
    }
}

impl Cursor {
    /// Whose turn it is of so many; 0 where there is nobody.
    fn turn(&self, of: usize) -> usize {
        (self.0.fetch_add(1, Ordering::Relaxed) as usize).checked_rem(of).unwrap_or(0)
    }
}

/// All of `table` once, from `start` on.
fn around<T>(table: &[T], start: usize) -> impl Iterator<Item = &T> {
    let (before, from) = table.split_at(start);
    from.iter().chain(before)
}

/// The first of `servers` that is not in `tried` and has room.
fn first_of(
    servers: impl Iterator<Item = ServerId>,
    tried: &[ServerId],
    has_room: impl Fn(ServerId) -> bool,
) -> Pick {
    let mut left = servers.filter(|server| !tried.contains(server)).peekable();
    let none = if left.peek().is_some() { Pick::Full } else { Pick::None };
    left.find(|server| has_room(*server)).map_or(none, Pick::Server)
}

/// 64 bits that look random and follow from `seed`, so that a run can be repeated.
pub(crate) fn random(seed: u64) -> u64 {
    SplitMix64::seed_from_u64(seed).next_u64()
}
