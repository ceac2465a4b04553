//! What the connection table costs: a look-up for every event, and churn with ten thousand connections.

#![allow(missing_docs, reason = "criterion's macros write functions without documentation")]

use std::hint::black_box;
use std::time::Duration;

use criterion::{Criterion, criterion_group, criterion_main};
use tidegate::table::{Key, Table};

const LIVING: usize = 10_000;

/// As large as what a worker keeps for a connection.
type Value = [u64; 48];

fn add(table: &mut Table<Value>) -> Key {
    let key = table.vacant().expect("below the limit");
    table.insert(key, [0; 48]);
    key
}

fn table(c: &mut Criterion) {
    let mut group = c.benchmark_group("table, 10k connections");
    group.sample_size(20).warm_up_time(Duration::from_millis(300)).measurement_time(Duration::from_secs(1));
    let mut table = Table::new(2 * LIVING);
    let mut keys: Vec<Key> = (0..LIVING).map(|_| add(&mut table)).collect();
    // A stride without a common divisor visits every connection, and none that is in the cache.
    let mut at = 0;
    let mut next = move || {
        at = (at + 7_919) % LIVING;
        at
    };
    group.bench_function("look up", |bencher| {
        bencher.iter(|| {
            let value = table.get_mut(keys[next()]).expect("it lives");
            value[0] += 1;
            black_box(value[0])
        });
    });
    group.bench_function("look up one that is gone", |bencher| {
        let gone = add(&mut table);
        table.remove(gone);
        bencher.iter(|| black_box(table.get_mut(black_box(gone)).is_none()));
    });
    group.bench_function("remove and insert", |bencher| {
        bencher.iter(|| {
            let place = next();
            black_box(table.remove(keys[place]));
            keys[place] = add(&mut table);
        });
    });
    group.finish();
}

criterion_group!(benches, table);
criterion_main!(benches);
