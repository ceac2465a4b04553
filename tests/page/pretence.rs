//! What the made-up process is whose page is looked at: its numbers move.

use std::time::Duration;

use tidegate::control::model::{
    Bytes, Connection, Histogram, Server as Upstream, ServerState, SessionState, Status,
};

use crate::fake::Fake;

/// New connections a second of the first listener, and of each server.
pub(crate) const NEW: u64 = 40;
/// Bytes a second up of the first listener; eight times as many go down.
pub(crate) const UP: u64 = 1 << 20;

pub(crate) fn fake() -> Fake {
    let status = serde_json::from_str(include_str!("../support/status.json")).expect("it is a status");
    let fake = Fake::new(status, 24, connection);
    fake.world(|world| world.moved = after);
    fake
}

/// The status after the time that has gone by.
fn after(mut status: Status, elapsed: Duration) -> Status {
    let ms = u64::try_from(elapsed.as_millis()).unwrap();
    status.uptime_s += ms / 1000;
    for (place, listener) in (0..).zip(&mut status.listeners) {
        let pace = if listener.removed { 0 } else { 1 + place };
        listener.accepted += NEW * pace * ms / 1000;
        listener.bytes = moved(listener.bytes, pace * ms);
        listener.connections = wave(listener.connections, ms, place);
    }
    status.process.connections = status.listeners.iter().map(|listener| listener.connections).sum();
    for (place, server) in (0..).zip(status.pools.iter_mut().flat_map(|pool| &mut pool.servers)) {
        if server.state == ServerState::Ready && !server.removed {
            serve(server, ms, place);
        }
    }
    for (place, worker) in (1..).zip(&mut status.workers) {
        worker.turns += 1000 * ms / 1000;
        let part = 0.1 * place as f64;
        worker.cpu_seconds += part * ms as f64 / 1000.0;
        count_into(&mut worker.answer_seconds, 2, ms);
    }
    status
}

fn moved(before: Bytes, ms: u64) -> Bytes {
    Bytes { up: before.up + UP * ms / 1000, down: before.down + 8 * UP * ms / 1000 }
}

/// A count that goes up and down.
fn wave(count: u32, ms: u64, place: u64) -> u32 {
    let swing = (ms as f64 / 3000.0 + place as f64).sin();
    (f64::from(count) * (1.0 + 0.2 * swing)).round() as u32
}

fn serve(server: &mut Upstream, ms: u64, place: u64) {
    *server.attempts.get_mut("ok").unwrap() += NEW * ms / 1000;
    *server.attempts.get_mut("refused").unwrap() += ms / 4000;
    server.bytes = moved(server.bytes, ms);
    server.connections = wave(server.connections, ms, place);
    count_into(&mut server.connect_seconds, 1, NEW * ms / 1000);
}

fn count_into(histogram: &mut Histogram, bucket: usize, times: u64) {
    histogram.buckets[bucket].1 += times;
    histogram.count += times;
}

/// Connections of many kinds.
pub(crate) fn connection(number: u32) -> Connection {
    let count = u64::from(number);
    let web = !number.is_multiple_of(3);
    let state = match number % 8 {
        0 => SessionState::Connecting,
        1 => SessionState::HalfClosed,
        _ => SessionState::Relaying,
    };
    Connection {
        id: format!("{:x}", 0x1a2b_0000_0000 + u64::from(number)),
        listener: if web { "web" } else { "pg" }.to_owned(),
        client: (number % 5 != 4)
            .then(|| format!("10.20.{}.{}:{}", number % 7, number % 250 + 1, 40_000 + number))
            .map(|text| text.parse().unwrap()),
        pool: if web { "web" } else { "pg" }.to_owned(),
        server: (state != SessionState::Connecting).then(|| if web { "beta" } else { "pg1" }.to_owned()),
        state,
        age_ms: 1_000 + count * count * 50_000,
        idle_ms: Some(count * 7_000),
        bytes: Bytes { up: count * 1234, down: count * count * 1_234_567 },
        client_path: None,
        server_path: None,
        worker: (number % 4) as u16,
        engine: if web { "mio" } else { "io_uring" }.to_owned(),
    }
}
