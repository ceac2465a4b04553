//! What the timers of a worker with a hundred thousand connections cost: a connection's life, and a look
//! at an idle one. Timers are a balanced tree as long as this stays far below the cost of its system calls.

#![allow(missing_docs, reason = "criterion's macros write functions without documentation")]

use std::hint::black_box;
use std::time::Duration;

use criterion::{Criterion, criterion_group, criterion_main};
use tidegate::table::{Key, Table};
use tidegate::tick::Tick;
use tidegate::worker::Timers;

const LIVING: u64 = 100_000;
/// `idle = "1h"` is looked at every twelve minutes.
const LOOK_MS: u64 = 720_000;

/// Timers of connections that began one after the other, each of which is looked at now and then.
fn crowd() -> (Timers, Vec<Key>) {
    let (mut timers, mut table) = (Timers::default(), Table::new(2 * LIVING as usize));
    let keys: Vec<Key> = (0..=LIVING)
        .map(|_| {
            let key = table.vacant().expect("below the limit");
            table.insert(key, ());
            key
        })
        .collect();
    for (at, key) in (0..LIVING).zip(&keys) {
        timers.add(Tick(at * LOOK_MS / LIVING), *key);
    }
    (timers, keys)
}

fn timers(c: &mut Criterion) {
    let mut group = c.benchmark_group("timers, 100k connections");
    group.sample_size(20).warm_up_time(Duration::from_millis(300)).measurement_time(Duration::from_secs(1));
    group.bench_function("a life: connect, the first look, the end", |bencher| {
        let (mut timers, keys) = crowd();
        let newcomer = keys[LIVING as usize];
        let mut now = 0;
        bencher.iter(|| {
            now = (now + 7) % LOOK_MS;
            let (connect, look) = (Tick(now + 5_001), Tick(now + LOOK_MS));
            timers.add(connect, newcomer);
            timers.remove(connect, newcomer);
            timers.add(look, newcomer);
            timers.remove(look, newcomer);
            black_box(timers.next());
        });
    });
    group.bench_function("a look at an idle connection", |bencher| {
        let (mut timers, _) = crowd();
        bencher.iter(|| {
            let now = timers.next().expect("a hundred thousand");
            let key = timers.expired(now).expect("it is due");
            timers.add(Tick(now.0 + LOOK_MS), key);
        });
    });
    group.finish();
}

criterion_group!(benches, timers);
criterion_main!(benches);
