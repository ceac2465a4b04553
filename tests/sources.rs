//! What workers share to limit sources and rates, taken by many threads at once.

use std::net::{IpAddr, Ipv4Addr};
use std::num::NonZeroU32;
use std::sync::atomic::{AtomicI64, Ordering};
use std::thread;

use rand_xoshiro::SplitMix64;
use rand_xoshiro::rand_core::{Rng, SeedableRng};
use tidegate::admission::{Bucket, Place, Rate, Source, SourceLimits, Sources};
use tidegate::tick::Tick;

const MOST: u32 = 3;
const SOURCES: u32 = 24;
const THREADS: u64 = 6;

/// A table, and how many connections each source has, as those know it who have them.
struct Table {
    sources: Sources,
    now: Vec<AtomicI64>,
}

impl Table {
    /// One more connection of a source, if it may have one. `None` as a place is one that is not counted.
    fn come(&self, source: u32, place: Option<Place>, is_over: bool) -> Option<(u32, Place)> {
        let place = place?;
        if is_over {
            self.sources.give(place);
            return None;
        }
        let there = self.now[source as usize].fetch_add(1, Ordering::SeqCst) + 1;
        assert!(there <= i64::from(MOST), "{there} connections of source {source}");
        Some((source, place))
    }

    fn leave(&self, (source, place): (u32, Place)) {
        self.now[source as usize].fetch_sub(1, Ordering::SeqCst);
        self.sources.give(place);
    }

    /// Connections come and go; how many were let in, and how many were not.
    fn work(&self, seed: u64) -> (u64, u64) {
        let limits = SourceLimits { conns: NonZeroU32::new(MOST), rate: None };
        let (mut held, mut let_in, mut refused) = (Vec::new(), 0, 0);
        let mut dice = SplitMix64::seed_from_u64(seed);
        for _ in 0..40_000 {
            let draw = dice.next_u64();
            if draw.is_multiple_of(2) || held.is_empty() {
                let source = (draw >> 8) as u32 % SOURCES;
                let address = IpAddr::V4(Ipv4Addr::from_bits(source));
                let (place, over) = self.sources.take(Source::of(address, 64), limits, Tick(0));
                refused += u64::from(over.is_some());
                let come = self.come(source, place, over.is_some());
                let_in += u64::from(come.is_some());
                held.extend(come);
            } else {
                self.leave(held.swap_remove((draw >> 8) as usize % held.len()));
            }
        }
        held.into_iter().for_each(|one| self.leave(one));
        (let_in, refused)
    }
}

/// Few places for many sources: places change hands all the time. No source ever has more than it may, and at the end
/// nothing is left.
#[test]
fn no_source_ever_has_more_connections_than_it_may() {
    let table = Table { sources: Sources::new(16), now: (0..SOURCES).map(|_| AtomicI64::new(0)).collect() };
    let counts: Vec<(u64, u64)> = thread::scope(|scope| {
        let threads: Vec<_> = (0..THREADS)
            .map(|seed| {
                scope.spawn({
                    let table = &table;
                    move || table.work(seed)
                })
            })
            .collect();
        threads.into_iter().map(|thread| thread.join().expect("no source has too many")).collect()
    });
    let (let_in, refused) = counts.iter().fold((0, 0), |all, one| (all.0 + one.0, all.1 + one.1));
    assert!(let_in > 1_000 && refused > 1_000, "{let_in} let in, {refused} refused");
    assert_eq!(table.sources.held(), 0);
}

#[test]
fn no_token_is_taken_twice() {
    let (bucket, rate) = (Bucket::default(), Rate::new(1, 10_000));
    let taken: usize = thread::scope(|scope| {
        let take = || (0..5_000).filter(|_| bucket.take(rate, Tick(0))).count();
        let threads: Vec<_> = (0..4).map(|_| scope.spawn(take)).collect();
        threads.into_iter().map(|thread| thread.join().expect("it counts")).sum()
    });
    assert_eq!(taken, 10_000);
}
