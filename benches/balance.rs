//! What a pick costs: once for each connection.

#![allow(missing_docs, reason = "criterion's macros write functions without documentation")]

use std::hint::black_box;
use std::net::IpAddr;
use std::time::Duration;

use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};
use tidegate::balance::Client;
use tidegate::config::parse;
use tidegate::snapshot::{PoolId, Snapshot};
use tidegate::tick::Tick;

const NOW: Tick = Tick(1_000);

fn balance(c: &mut Criterion) {
    let mut group = c.benchmark_group("balance");
    group
        .sample_size(20)
        .warm_up_time(Duration::from_millis(200))
        .measurement_time(Duration::from_millis(600));
    for (name, keys) in [
        ("p2c", "balance = \"p2c\""),
        ("round_robin", "balance = \"round_robin\""),
        ("random", "balance = \"random\""),
        ("least_conn", "balance = \"least_conn\""),
        ("least_time", "balance = \"least_time\""),
        ("first", "balance = \"first\""),
        ("maglev", "balance = \"source\"\nhash = { bounded_load = \"off\" }"),
        ("maglev, bounded", "balance = \"source\""),
        ("ring", "balance = \"source\"\nhash = { method = \"ring\", bounded_load = \"off\" }"),
    ] {
        for servers in [10, 100, 1_000] {
            let mut text =
                format!("[listener.l]\nbind = [\"127.0.0.1:1\"]\npool = \"p\"\n[pool.p]\n{keys}\n");
            for number in 0..servers {
                let (high, low) = (number / 250, number % 250);
                let maxconn = "maxconn = 100";
                text += &format!(
                    "[[pool.p.server]]\nname = \"s{number}\"\naddr = \"10.0.{high}.{low}:1\"\n{maxconn}\n"
                );
            }
            let snapshot = Snapshot::new(&parse(&text, "bench").expect("it is right"), 10);
            for (number, server) in snapshot.servers.iter().enumerate() {
                (0..number % 7).for_each(|_| assert!(server.connections.take()));
                if let Some(latency) = &server.latency {
                    latency.connect.saw(NOW, Duration::from_millis(number as u64 % 13));
                    latency.answer.saw(NOW, Duration::from_millis(number as u64 % 17));
                }
            }
            let choice = &snapshot.pool(PoolId(0)).choice;
            let mut seed = 0_u32;
            group.bench_function(BenchmarkId::new(name, servers), |bencher| {
                bencher.iter(|| {
                    seed = seed.wrapping_add(1);
                    let address = Some(IpAddr::from(seed.to_be_bytes()));
                    let client = Client { address, name: None };
                    black_box(choice.pick(black_box(&[]), u64::from(seed), client, &snapshot.loads(NOW)))
                });
            });
        }
    }
    group.finish();
}

criterion_group!(benches, balance);
criterion_main!(benches);
