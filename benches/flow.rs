//! What the pure heart costs for a message: two directions, their states and their counts, without any
//! system call.

#![allow(missing_docs, reason = "criterion's macros write functions without documentation")]

use std::hint::black_box;
use std::num::NonZeroU32;
use std::time::Duration;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use tidegate::engine::{Attempt, Port, drive};
use tidegate::relay::{Dir, Op, Outcome, Relay};

/// Two peers that talk in turn, in memory.
struct PingPong {
    /// Whose message lies there to be read, if anyone's.
    waiting: Option<Dir>,
    message: NonZeroU32,
}

impl Port for PingPong {
    fn attempt(&mut self, dir: Dir, op: Op, _: u32) -> Attempt {
        match op {
            Op::Fill if self.waiting != Some(dir) => Attempt::Parked,
            Op::Fill => {
                self.waiting = None;
                Attempt::Done(Outcome::Moved(self.message))
            }
            Op::Drain => Attempt::Done(Outcome::Moved(self.message)),
            Op::Finish => Attempt::Done(Outcome::Finished),
        }
    }
}

fn ping_pong(c: &mut Criterion) {
    let mut group = c.benchmark_group("flow");
    group.sample_size(20).warm_up_time(Duration::from_millis(300)).measurement_time(Duration::from_secs(1));
    group.throughput(Throughput::Elements(1));
    group.bench_function("request and answer", |bencher| {
        let mut relay = Relay::new(256 * 1024);
        let message = NonZeroU32::new(64).expect("not zero");
        let mut peers = PingPong { waiting: None, message };
        bencher.iter(|| {
            for dir in Dir::BOTH {
                peers.waiting = Some(dir);
                relay.resume(dir, Op::Fill);
                black_box(drive(&mut relay, &mut peers, 8));
            }
        });
        assert!(relay.flow(Dir::Up).moved() > 0);
    });
    group.finish();
}

criterion_group!(benches, ping_pong);
criterion_main!(benches);
