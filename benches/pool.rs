//! What a tail costs: the copy of what a target did not take, and the buffer it is copied to.

#![allow(missing_docs, reason = "criterion's macros write functions without documentation")]

use std::hint::black_box;
use std::time::Duration;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use tidegate::sys::Pool;

fn pool(c: &mut Criterion) {
    let mut group = c.benchmark_group("pool");
    group.sample_size(20).warm_up_time(Duration::from_millis(300)).measurement_time(Duration::from_secs(1));
    for bytes in [100, 16 * 1024, 256 * 1024] {
        let tail = vec![7; bytes];
        group.throughput(Throughput::Bytes(bytes as u64));
        group.bench_function(format!("keep, send and give back {bytes} bytes"), |bencher| {
            let mut pool = Pool::new(1 << 20);
            bencher.iter(|| {
                let mut lease = pool.keep(black_box(&tail));
                lease.advance(bytes / 2);
                black_box(lease.bytes());
                pool.give(lease);
            });
        });
    }
    group.finish();
}

criterion_group!(benches, pool);
criterion_main!(benches);
