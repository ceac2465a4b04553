//! What every source of a listener has: a table of fixed size that all workers share, without a lock.

use std::hash::{BuildHasher, RandomState};
use std::net::IpAddr;
use std::num::NonZeroU32;
use std::sync::atomic::{AtomicU64, Ordering};

use super::SourceLimits;
use super::rate::{Rate, moment};
use crate::cause::Cause;
use crate::tick::Tick;

/// The table. A source is known by 40 bits of a hash that nobody outside can foresee, and may stand in any of the eight
/// slots of two sets. A slot is taken, and each connection counted, by one compare-and-swap of one word that holds the
/// name of the source and its connections; so a slot with connections cannot be taken by another source, and whoever
/// fails has been overtaken by somebody who went on.
///
/// Two threads that meet a new source at the same moment may give it a slot each. Whoever counts a connection looks at
/// all slots of its source *afterwards*, so there are never more than the limit allows; and since lookups come to the
/// same slot first, the other one empties.
#[derive(Debug)]
pub struct Sources {
    sets: Box<[Set]>,
    hasher: RandomState,
}

const WAYS: usize = 8;

#[derive(Debug, Default)]
#[repr(align(128))]
struct Set {
    slots: [Slot; WAYS],
}

#[derive(Debug, Default)]
struct Slot {
    /// The source in the upper 40 bits, 0 as long as there was none; and its connections.
    holder: AtomicU64,
    /// A part of the source in the upper 12 bits, and when its bucket is full, as [`Rate`] tells it. What another source
    /// has left there is a full bucket.
    bucket: AtomicU64,
}

const COUNT_BITS: u32 = 24;
const COUNT: u64 = (1 << COUNT_BITS) - 1;
const MOMENT_BITS: u32 = 52;
const MOMENT: u64 = (1 << MOMENT_BITS) - 1;

/// Where a connection is counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    set: u32,
    way: u8,
}

/// A limit that a source is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Over {
    /// It has as many connections as it may.
    Conns,
    /// It has no token.
    Rate,
}

impl Over {
    pub(super) fn cause(self) -> Cause {
        match self {
            Self::Conns => Cause::SourceConns,
            Self::Rate => Cause::SourceRate,
        }
    }
}

/// Which source an address belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Source(u128);

impl Source {
    /// IPv6 addresses that have `ipv6_prefix` bits in common are one; an IPv6 address that stands for one of IPv4 is
    /// taken for that.
    #[must_use]
    pub fn of(client: IpAddr, ipv6_prefix: u8) -> Self {
        match client.to_canonical() {
            IpAddr::V4(addr) => Self(addr.to_ipv6_mapped().to_bits()),
            IpAddr::V6(addr) => {
                let behind = 128_u32.saturating_sub(u32::from(ipv6_prefix));
                Self(addr.to_bits() & u128::MAX.checked_shl(behind).unwrap_or(0))
            }
        }
    }
}

/// The name of a source, and its sets.
#[derive(Clone, Copy)]
struct Name {
    tag: u64,
    sets: [u32; 2],
}

impl Sources {
    /// For so many sources: a power of two that is a quarter more at least.
    #[must_use]
    pub fn new(table_size: u32) -> Self {
        let slots = (table_size as usize + table_size as usize / 4).next_power_of_two().max(2 * WAYS);
        Self { sets: (0..slots / WAYS).map(|_| Set::default()).collect(), hasher: RandomState::new() }
    }

    /// Counts one more connection of `source`, and says which limit it is over, if it is over one: then it has taken no
    /// token. `None` for the place when every slot has connections of other sources; nothing is counted then.
    pub fn take(&self, source: Source, limits: SourceLimits, now: Tick) -> (Option<Place>, Option<Over>) {
        let name = self.name(source);
        let Some((place, count)) = self.join(name, now) else { return (None, None) };
        let is_over = |most: NonZeroU32| count + self.held_by(name, Some(place)) > u64::from(most.get());
        let over = match (limits.conns, limits.rate) {
            (Some(most), _) if is_over(most) => Some(Over::Conns),
            (_, Some(rate)) if !self.slot(place).spend(name.tag, rate, now) => Some(Over::Rate),
            _ => None,
        };
        (Some(place), over)
    }

    /// Counts one less: the end of what a [`Sources::take`] began.
    pub fn give(&self, place: Place) {
        let before = self.slot(place).holder.fetch_sub(1, Ordering::SeqCst);
        debug_assert!(before & COUNT > 0, "given more often than taken");
    }

    /// Which limit one more connection of `source` would be over.
    #[must_use]
    pub fn over(&self, source: Source, limits: SourceLimits, now: Tick) -> Option<Over> {
        let name = self.name(source);
        let is_over = |most: NonZeroU32| self.held_by(name, None) >= u64::from(most.get());
        let own = self.slots(name).find(|(_, slot)| slot.holds(name.tag));
        let is_spent = |rate: Rate| own.is_some_and(|(_, slot)| !slot.has_token(name.tag, rate, now));
        match (limits.conns, limits.rate) {
            (Some(most), _) if is_over(most) => Some(Over::Conns),
            (_, Some(rate)) if is_spent(rate) => Some(Over::Rate),
            _ => None,
        }
    }

    /// Connections of a source.
    #[must_use]
    pub fn connections(&self, source: Source) -> u64 {
        self.held_by(self.name(source), None)
    }

    /// How many connections are counted, of all sources together.
    #[cfg(feature = "sim")]
    pub fn held(&self) -> u64 {
        let slots = self.sets.iter().flat_map(|set| &set.slots);
        slots.map(|slot| slot.holder.load(Ordering::SeqCst) & COUNT).sum()
    }

    /// Counts a connection in a slot of its source; with how many that one has then.
    fn join(&self, name: Name, now: Tick) -> Option<(Place, u64)> {
        loop {
            let own = self.slots(name).find(|(_, slot)| slot.holds(name.tag));
            let (place, slot) = match own {
                Some(own) => own,
                None => self.least(name, now)?,
            };
            let held = slot.holder.load(Ordering::SeqCst);
            let next = match held {
                _ if held >> COUNT_BITS == name.tag && held & COUNT < COUNT => held + 1,
                _ if held >> COUNT_BITS == name.tag => return None,
                _ if held & COUNT == 0 => name.tag << COUNT_BITS | 1,
                // Another source has come before.
                _ => continue,
            };
            let swap = slot.holder.compare_exchange(held, next, Ordering::SeqCst, Ordering::SeqCst);
            if swap.is_ok() {
                return Some((place, next & COUNT));
            }
        }
    }

    /// The slot without connections that is missed least: the one whose bucket is full soonest; among full ones, in
    /// the set that has fewer others.
    fn least(&self, name: Name, now: Tick) -> Option<(Place, &Slot)> {
        let is_busy = |slot: &Slot| slot.holder.load(Ordering::Relaxed) & COUNT > 0;
        let busy =
            name.sets.map(|set| self.sets[set as usize].slots.iter().filter(|slot| is_busy(slot)).count());
        let idle = self.slots(name).filter(|(_, slot)| !is_busy(slot));
        idle.min_by_key(|(place, slot)| {
            let full = slot.bucket.load(Ordering::Relaxed) & MOMENT;
            (full.saturating_sub(moment(now)), busy[usize::from(place.set != name.sets[0])])
        })
    }

    /// Connections of a source in all slots, but for that one.
    fn held_by(&self, name: Name, but: Option<Place>) -> u64 {
        let others = self.slots(name).filter(|(other, _)| Some(*other) != but);
        let held = others.map(|(_, slot)| slot.holder.load(Ordering::SeqCst));
        held.filter(|held| held >> COUNT_BITS == name.tag).map(|held| held & COUNT).sum()
    }

    fn name(&self, source: Source) -> Name {
        let [one, other] = [0_u8, 1].map(|salt| self.hasher.hash_one((source, salt)));
        let set = |hash: u64| u32::try_from(hash & (self.sets.len() as u64 - 1)).unwrap_or(0);
        let (first, second) = (set(one), set(other));
        // Two sets that are one would be looked at twice.
        let second = if first == second { first ^ 1 } else { second };
        let tag = ((one >> 44) << 20 | other >> 44).max(1);
        Name { tag, sets: [first, second] }
    }

    /// All slots that a source may stand in.
    fn slots(&self, name: Name) -> impl Iterator<Item = (Place, &Slot)> {
        name.sets.into_iter().flat_map(|set| {
            let slots = (0..).zip(&self.sets[set as usize].slots);
            slots.map(move |(way, slot)| (Place { set, way }, slot))
        })
    }

    fn slot(&self, place: Place) -> &Slot {
        &self.sets[place.set as usize].slots[usize::from(place.way)]
    }
}

impl Slot {
    fn holds(&self, tag: u64) -> bool {
        self.holder.load(Ordering::SeqCst) >> COUNT_BITS == tag
    }

    fn spend(&self, tag: u64, rate: Rate, now: Tick) -> bool {
        let next = |held| spent(held, tag, rate, now);
        self.bucket.fetch_update(Ordering::Relaxed, Ordering::Relaxed, next).is_ok()
    }

    /// Whether [`Slot::spend`] would succeed now.
    fn has_token(&self, tag: u64, rate: Rate, now: Tick) -> bool {
        spent(self.bucket.load(Ordering::Relaxed), tag, rate, now).is_some()
    }
}

/// What a slot's bucket is after a token of the source was taken; `None` when it has none.
fn spent(held: u64, tag: u64, rate: Rate, now: Tick) -> Option<u64> {
    let mark = tag << MOMENT_BITS;
    let full = if held & !MOMENT == mark { held & MOMENT } else { 0 };
    rate.spend(full, now).map(|full| mark | full & MOMENT)
}

#[cfg(test)]
mod tests;
