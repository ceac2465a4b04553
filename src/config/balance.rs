//! `balance` and `hash` of a pool.

use super::name_in;

/// `balance`: how a pool chooses; with `"source"` and `"sni"`, also `hash`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Balance {
    /// `"p2c"`: of two drawn at random, the one with fewer connections.
    TwoChoices,
    /// Each in its turn, as often as its weight says.
    RoundRobin,
    /// `"least_conn"`: of all, the one with the fewest connections.
    LeastConnections,
    /// `"least_time"`: of two drawn at random, the one that is reached and answers sooner, for its connections.
    LeastTime,
    /// The first that has room.
    First,
    /// One drawn at random.
    Random,
    /// The same client, or the same name, to the same server.
    Source(Spread),
}

impl Balance {
    pub(super) const NAMES: [(&'static str, Self); 8] = [
        ("p2c", Self::TwoChoices),
        ("round_robin", Self::RoundRobin),
        ("least_conn", Self::LeastConnections),
        ("least_time", Self::LeastTime),
        ("first", Self::First),
        ("random", Self::Random),
        ("source", Self::Source(SPREAD)),
        ("sni", Self::Source(Spread { key: HashKey::Sni, ..SPREAD })),
    ];

    /// Its name.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Source(spread) => name_in(&HashKey::NAMES, &spread.key),
            other => name_in(&Self::NAMES, &other),
        }
    }
}

/// `all_down`: what becomes of clients when no server of the pool is up.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum AllDown {
    /// They get none.
    #[default]
    Reject,
    /// Those are tried that are down or ejected: checks may be wrong.
    TryAll,
}

impl AllDown {
    pub(super) const NAMES: [(&'static str, Self); 2] = [("reject", Self::Reject), ("try_all", Self::TryAll)];
}

/// `hash.key`: what clients are told apart by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HashKey {
    /// `"source"`: their addresses.
    Source,
    /// `"sni"`: the names that they ask for; where they ask for none, their addresses.
    Sni,
}

impl HashKey {
    pub(super) const NAMES: [(&'static str, Self); 2] = [("source", Self::Source), ("sni", Self::Sni)];
}

/// `hash`: how clients are spread over servers by their addresses, or by the names that they ask for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Spread {
    /// `key`, or what `balance` says
    pub key: HashKey,
    /// `method` and `table`
    pub table: Table,
    /// `ipv6_prefix`: of an IPv6 address, the bits that count: a client has a whole network of them. 0 to 128.
    pub ipv6_prefix: u8,
    /// `bounded_load`: the most connections of a server, in hundredths of its share of those that there are; `None` is no bound.
    pub bound: Option<u32>,
}

/// What a hash is looked up in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Table {
    /// With so many entries: a prime number, a hundred times as many as servers or more.
    Maglev(u32),
    /// A ring.
    Ring,
}

/// The defaults of `hash`.
pub(super) const SPREAD: Spread =
    Spread { key: HashKey::Source, table: Table::Maglev(65_537), ipv6_prefix: 64, bound: Some(150) };
