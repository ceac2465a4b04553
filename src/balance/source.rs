//! The same client to the same server: by a hash of its address, or of the name that it asks for.
//!
//! Two tables, of which `hash.method` chooses one. Both depend on nothing but the names and weights of the servers, so
//! every process with the same configuration has the same one, and a server that leaves takes only its own clients along:
//!
//! - Maglev: Eisenbud et al., "Maglev: A Fast and Reliable Software Network Load Balancer" (NSDI 2016), 3.4. One access
//!   finds the server; shares are even to a few in a thousand; a few clients of other servers move, too.
//! - Ring: Karger et al., "Consistent Hashing and Random Trees" (STOC 1997). Not one client of another server moves,
//!   whatever the weights; shares differ by some ten in a hundred, and a search finds the server.
//!
//! With a bound no server gets more than so many times its share, and who finds one full goes to the next in the table:
//! Mirrokni, Thorup, Zadimoghaddam, "Consistent Hashing with Bounded Loads" (SODA 2018).

use std::net::IpAddr;
use std::num::NonZeroU32;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use twox_hash::XxHash3_64;

use super::{Client, Loads, Pick, ServerId, random};
use crate::config::{HashKey, Spread, Table};

/// Points on a ring for a twentieth of weight: a server of weight 1 has 160.
const POINTS: u64 = 8;
/// The most points of all.
const POINTS_MAX: u64 = 1 << 20;

/// A server that takes connections.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Member {
    server: ServerId,
    /// In twentieths.
    weight: u32,
    name: String,
}

/// Clients by their addresses, or their names.
#[derive(Debug)]
pub struct BySource {
    spread: Spread,
    /// By name.
    members: Box<[Member]>,
    /// The sum of their weights.
    weights: u64,
    /// Indices of `members`, in places of a Maglev table or along the ring.
    places: Box<[u32]>,
    /// Where on the ring each place ends; empty for Maglev.
    ends: Box<[u64]>,
    /// Connections of all members, as counted once in a while.
    total: AtomicU64,
    picks: AtomicU32,
}

impl BySource {
    /// A table over servers with their weights, in twentieths, and names. A weight of 0 is left out.
    #[must_use]
    pub fn new<'a>(servers: impl IntoIterator<Item = (ServerId, u32, &'a str)>, spread: Spread) -> Self {
        let members = Self::members(servers);
        let (places, ends) = match spread.table {
            Table::Maglev(size) => (maglev(&members, size), Box::default()),
            Table::Ring => ring(&members),
        };
        let weights = members.iter().map(|member| u64::from(member.weight)).sum();
        let (total, picks) = (AtomicU64::new(0), AtomicU32::new(0));
        Self { spread, members, weights, places, ends, total, picks }
    }

    /// Whether a table over these would be the same one.
    #[must_use]
    pub fn is_over<'a>(
        &self,
        servers: impl IntoIterator<Item = (ServerId, u32, &'a str)>,
        spread: Spread,
    ) -> bool {
        self.spread == spread && self.members == Self::members(servers)
    }

    fn members<'a>(servers: impl IntoIterator<Item = (ServerId, u32, &'a str)>) -> Box<[Member]> {
        let taken = servers.into_iter().filter(|(_, weight, _)| *weight > 0);
        let mut members: Vec<Member> =
            taken.map(|(server, weight, name)| Member { server, weight, name: name.to_owned() }).collect();
        members.sort_unstable_by(|one, other| one.name.cmp(&other.name));
        members.into_boxed_slice()
    }

    /// The server of that client: of the name that it asks for, or of its address. Where it is in `tried` or full, or has
    /// more than the bound, it is the next one in the table; a client with neither is anywhere, by `seed`.
    #[must_use]
    pub fn pick(&self, tried: &[ServerId], (client, seed): (Client, u64), loads: &impl Loads) -> Pick {
        if self.places.is_empty() {
            return Pick::None;
        }
        let start = self.place(self.hash(client).unwrap_or_else(|| random(seed)));
        let total = self.spread.bound.map(|bound| (bound, self.total(loads)));
        let is_light = |member: &Member, load: u32| {
            total.is_none_or(|(bound, total)| self.allows(member, load, bound, total))
        };
        // Neighbours in a table are a random sample of the servers; whoever is not among so many is not worth more steps.
        let steps = self.places.len().min(8 * self.members.len());
        let along = (start..self.places.len()).chain(0..start).take(steps);
        let along = along.map(|place| &self.members[self.places[place] as usize]);
        let all = self.members.iter();
        let mut none = Pick::None;
        let mut heavy = None;
        for member in along.chain(all).filter(|member| !tried.contains(&member.server)) {
            none = Pick::Full;
            match loads.load(member.server) {
                Some(load) if is_light(member, load) => return Pick::Server(member.server),
                Some(_) => heavy = heavy.or(Some(member.server)),
                None => {}
            }
        }
        heavy.map_or(none, Pick::Server)
    }

    /// The server that a client belongs to, however much that one has; none, if it has neither a name nor an address.
    #[must_use]
    pub fn home(&self, client: Client) -> Option<ServerId> {
        let place = self.places.get(self.place(self.hash(client)?))?;
        Some(self.members[*place as usize].server)
    }

    /// One more connection is within the bound of a server.
    fn allows(&self, member: &Member, load: u32, bound: u32, total: u64) -> bool {
        // load + 1 <= ceil(bound * (total + 1) * weight / weights)
        let most = u128::from(bound) * u128::from(total + 1) * u128::from(member.weight);
        u128::from(load) <= (most.saturating_sub(1)) / (100 * u128::from(self.weights))
    }

    /// Connections of all servers. To count them costs a look at each, so with many it is done for one pick of several.
    fn total(&self, loads: &impl Loads) -> u64 {
        let every = u32::try_from(self.members.len() / 16).unwrap_or(u32::MAX).saturating_add(1);
        if self.picks.fetch_add(1, Ordering::Relaxed).is_multiple_of(every) {
            let total = self.members.iter().map(|member| u64::from(loads.connections(member.server))).sum();
            self.total.store(total, Ordering::Relaxed);
        }
        self.total.load(Ordering::Relaxed)
    }

    /// Inlined: a client that was just written, byte by byte, and is copied for a call in wider pieces stalls the CPU for longer
    /// than all the rest of a pick takes.
    #[inline]
    fn hash(&self, client: Client) -> Option<u64> {
        let name = client.name.filter(|_| self.spread.key == HashKey::Sni);
        let of_name = name.map(|name| random(u64::from(name.get())));
        of_name.or_else(|| client.address.map(|address| self.hash_of_address(address)))
    }

    fn hash_of_address(&self, address: IpAddr) -> u64 {
        match address.to_canonical() {
            IpAddr::V4(v4) => random(u64::from(v4.to_bits())),
            IpAddr::V6(v6) => {
                let dropped = 128 - u32::from(self.spread.ipv6_prefix.min(128));
                let bits = v6.to_bits().checked_shr(dropped).unwrap_or(0);
                let [high, low] = [bits >> 64, bits & u128::from(u64::MAX)].map(|half| half as u64);
                random(random(high) ^ low)
            }
        }
    }

    fn place(&self, hash: u64) -> usize {
        if self.ends.is_empty() {
            // The upper bits of a product: evenly spread over the table, without a division.
            return ((u128::from(hash) * self.places.len() as u128) >> 64) as usize;
        }
        let place = self.ends.partition_point(|end| *end < hash);
        if place == self.ends.len() { 0 } else { place }
    }
}

/// A hash of a name that clients ask for, the same in every process.
#[must_use]
pub fn hash_of_name(name: &str) -> NonZeroU32 {
    let bits = XxHash3_64::oneshot(name.as_bytes()) as u32;
    NonZeroU32::new(bits).unwrap_or(NonZeroU32::MIN)
}

/// Each server in turn takes the next free place of its own permutation of the places; those of less weight sit turns out.
fn maglev(members: &[Member], size: u32) -> Box<[u32]> {
    let Some(heaviest) = members.iter().map(|member| member.weight).max() else {
        return Box::default();
    };
    const FREE: u32 = u32::MAX;
    let size = u64::from(size);
    let mut places = vec![FREE; usize::try_from(size).unwrap_or(0)];
    // Where each looks next, how far it goes from there, and what of a turn it has saved up.
    let mut walks: Vec<(u64, u64, u32)> = members
        .iter()
        .map(|member| {
            let hash = |seed| XxHash3_64::oneshot_with_seed(seed, member.name.as_bytes());
            (hash(0) % size, hash(1) % (size - 1).max(1) + 1, 0)
        })
        .collect();
    let mut free = size;
    while free > 0 {
        for (index, (member, (next, step, saved))) in (0..).zip(members.iter().zip(&mut walks)) {
            *saved += member.weight;
            if *saved < heaviest || free == 0 {
                continue;
            }
            *saved -= heaviest;
            while places[*next as usize] != FREE {
                *next = (*next + *step) % size;
            }
            places[*next as usize] = index;
            free -= 1;
        }
    }
    places.into_boxed_slice()
}

/// Points by weight, in the order of their hashes. How many a server has follows from its own weight alone: where others come
/// and go, its own stay. Where they are too many in all, each has half as many, or a quarter, of its first ones.
fn ring(members: &[Member]) -> (Box<[u32]>, Box<[u64]>) {
    let all = POINTS * members.iter().map(|member| u64::from(member.weight)).sum::<u64>();
    let halvings = (0..u64::BITS).find(|halvings| all >> halvings <= POINTS_MAX).unwrap_or(0);
    let mut points = Vec::new();
    for (index, member) in (0_u32..).zip(members) {
        let own = ((POINTS * u64::from(member.weight)) >> halvings).max(1);
        let hash = |point| XxHash3_64::oneshot_with_seed(point, member.name.as_bytes());
        points.extend((0..own).map(|point| (hash(point), index)));
    }
    points.sort_unstable();
    let (ends, places): (Vec<u64>, Vec<u32>) = points.into_iter().unzip();
    (places.into_boxed_slice(), ends.into_boxed_slice())
}

#[cfg(test)]
mod tests;
