//! Own addresses that connections to servers come from, and which of them have no port left.

use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, Ordering};

use super::{ServerId, Snapshot};
use crate::config::Source;
use crate::tick::Tick;

/// How long an address that had no port is not tried, in milliseconds. To find out that it has none, the kernel looks at all of
/// them.
const DRY_MS: u32 = 100;

/// Addresses that had no port left towards a server a moment ago. One word, which all workers share: in its upper half is when the
/// first of them was found, in its lower half are their bits. What a race loses is found again.
#[derive(Debug, Default)]
pub struct DrySources(AtomicU64);

impl DrySources {
    fn note(&self, bit: u32, now: Tick) {
        let before = self.seen(now);
        let since = if before == 0 { now.0 as u32 } else { (self.0.load(Ordering::Relaxed) >> 32) as u32 };
        self.0.store(u64::from(since) << 32 | u64::from(before | bit), Ordering::Relaxed);
    }

    fn seen(&self, now: Tick) -> u32 {
        let word = self.0.load(Ordering::Relaxed);
        let age = (now.0 as u32).wrapping_sub((word >> 32) as u32);
        if age < DRY_MS { word as u32 } else { 0 }
    }
}

/// Where a connection to a server comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Local {
    /// The address; with none the system chooses.
    pub address: Option<IpAddr>,
    /// Its place among those of the pool, of which the last five bits count: of addresses that are 32 apart not all are tried.
    pub place: u8,
}

impl Snapshot {
    /// Where the connection of that number and client comes from on its way to a server; `None` where no address has a port: not
    /// counting those of the bits in `dry`, and those that had none for anybody a moment ago. Each connection begins with another
    /// address.
    #[must_use]
    pub fn source(
        &self,
        server: ServerId,
        (id, client): (u64, Option<IpAddr>),
        dry: u32,
        now: Tick,
    ) -> Option<Local> {
        let of = self.server(server);
        let single = |address, dry| (dry & bit(0) == 0).then_some(Local { address, place: 0 });
        // Most pools name no addresses, and a client's own address is nobody else's.
        match self.pool(of.pool).source {
            Source::System => return single(None, dry | of.dry.seen(now)),
            Source::Client => return single(client, dry),
            Source::Addresses(_) => {}
        }
        let mut sources = self.sources(server);
        let count = sources.clone().count();
        let dry = dry | of.dry.seen(now);
        if count == 0 {
            return single(None, dry);
        }
        let first = (id % count as u64) as usize;
        let place = (first..count).chain(0..first).find(|place| dry & bit(*place) == 0)?;
        Some(Local { address: sources.nth(place), place: place as u8 })
    }

    /// The address at that place ([`Local::place`]) had no port left towards a server. Gives its bit for [`Snapshot::source`].
    pub fn ran_dry(&self, server: ServerId, place: u8, now: Tick) -> u32 {
        let (server, bit) = (self.server(server), bit(place.into()));
        // A client's own address is nobody else's.
        if self.pool(server.pool).source != Source::Client {
            server.dry.note(bit, now);
        }
        bit
    }

    /// The source addresses of a pool that a server of it can be reached from.
    pub fn sources(&self, server: ServerId) -> impl Iterator<Item = IpAddr> + Clone {
        let server = self.server(server);
        let all: &[IpAddr] = match &self.pool(server.pool).source {
            Source::Addresses(all) => all,
            Source::System | Source::Client => &[],
        };
        let to = server.addr.ip();
        all.iter().copied().filter(move |from| to.is_some_and(|to| to.is_ipv4() == from.is_ipv4()))
    }
}

fn bit(place: usize) -> u32 {
    1 << (place % 32)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_dry_is_known_for_a_moment() {
        let dry = DrySources::default();
        let began = u64::from(u32::MAX) - 30;
        assert_eq!(dry.seen(Tick(began)), 0);
        dry.note(bit(1), Tick(began));
        dry.note(bit(33), Tick(began + 1));
        dry.note(bit(31), Tick(began + 99));
        for (after, seen) in [(0, 1 << 31 | 0b10), (99, 1 << 31 | 0b10), (100, 0), (5_000, 0)] {
            assert_eq!(dry.seen(Tick(began + after)), seen, "{after}");
        }
        // The next one begins anew.
        dry.note(bit(0), Tick(began + 150));
        assert_eq!(dry.seen(Tick(began + 249)), 0b1);
        assert_eq!(dry.seen(Tick(began + 250)), 0);
    }

    #[test]
    fn a_clock_that_has_just_begun_finds_nothing() {
        assert_eq!(DrySources::default().seen(Tick(0)), 0);
    }
}
