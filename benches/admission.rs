//! What it costs a connection to be let in: rules about addresses, and the table of sources.

#![allow(missing_docs, reason = "criterion's macros write functions without documentation")]

use std::hint::black_box;
use std::net::{IpAddr, Ipv4Addr};
use std::num::NonZeroU32;
use std::time::Duration;

use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};
use ipnet::{IpNet, Ipv4Net};
use rand_xoshiro::SplitMix64;
use rand_xoshiro::rand_core::{Rng, SeedableRng};
use tidegate::admission::{Rate, Rules, Source, SourceLimits, Sources};
use tidegate::config::{AccessRules, Action, MatchOn, Rule};
use tidegate::tick::Tick;

/// The same address for the same number, spread over all.
fn address(number: u64) -> Ipv4Addr {
    Ipv4Addr::from_bits(SplitMix64::seed_from_u64(number).next_u64() as u32)
}

fn rules(c: &mut Criterion) {
    let mut group = c.benchmark_group("rules");
    group.sample_size(20).warm_up_time(Duration::from_millis(300)).measurement_time(Duration::from_secs(1));
    for count in [0, 10, 1_000, 10_000_u64] {
        let rule = |number: u64| {
            let network = Ipv4Net::new(address(number), 16 + (number % 16) as u8).expect("it fits").trunc();
            let action = if number.is_multiple_of(2) { Action::Allow } else { Action::Deny };
            Rule { action, network: IpNet::V4(network) }
        };
        let access = AccessRules {
            default: Action::Deny,
            rules: (0..count).map(rule).collect(),
            match_on: MatchOn::Client,
        };
        let rules = Rules::new(&access);
        let mut seed = 0;
        group.bench_function(BenchmarkId::new("an answer", count), |bencher| {
            bencher.iter(|| {
                seed += 1;
                black_box(rules.allow(IpAddr::V4(address(seed % 65_536 + (1 << 32)))))
            });
        });
        group.bench_function(BenchmarkId::new("made ready", count), |bencher| {
            bencher.iter(|| black_box(Rules::new(&access)));
        });
    }
    group.finish();
}

fn sources(c: &mut Criterion) {
    let limits = SourceLimits { conns: NonZeroU32::new(200), rate: Some(Rate::new(1_000_000, 1_000_000)) };
    let mut group = c.benchmark_group("sources, a connection begins and ends");
    group.sample_size(20).warm_up_time(Duration::from_millis(300)).measurement_time(Duration::from_secs(1));
    for count in [1, 1_000, 100_000, 1_000_000_u64] {
        let sources = Sources::new(100_000);
        let mut seed = 0;
        group.bench_function(BenchmarkId::new("sources", count), |bencher| {
            bencher.iter(|| {
                seed += 1;
                let source =
                    Source::of(IpAddr::V4(address(SplitMix64::seed_from_u64(seed).next_u64() % count)), 64);
                let (place, over) = sources.take(source, limits, Tick(seed));
                place.inspect(|place| sources.give(*place));
                black_box(over)
            });
        });
    }
    group.finish();
}

criterion_group!(benches, rules, sources);
criterion_main!(benches);
