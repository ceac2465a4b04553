//! A peer that stops reading costs a bounded amount of memory and no time, and gets every byte later.

use std::thread;
use std::time::Duration;

use crate::support::gate::{Config, Gate};
use crate::support::peer::{Author, End, Peer, got};
use crate::support::process::{anonymous_bytes, assert_rests, unacknowledged};
use crate::support::stage::{Stage, at_once};

const KIB: u64 = 1024;
const MIB: u64 = 1024 * KIB;

pub(crate) fn stuck_server(engine: &'static str) {
    stuck(Config::new(engine), Author::Client, 1, 2 * MIB);
}

pub(crate) fn stuck_client(engine: &'static str) {
    stuck(Config::new(engine), Author::Server, 1, 2 * MIB);
}

pub(crate) fn fifty_stuck_servers(engine: &'static str) {
    stuck(Config::new(engine), Author::Client, 50, 50 * 2 * 256 * KIB + 2 * MIB);
}

pub(crate) fn fifty_stuck_clients(engine: &'static str) {
    stuck(Config::new(engine), Author::Server, 50, 50 * 2 * 256 * KIB + 2 * MIB);
}

/// The buffers of all sessions together find no room at once: reads pause, and nothing is lost.
pub(crate) fn more_stuck_readers_than_the_budget_has_buffers(engine: &'static str) {
    let config = Config::new(engine).process("buffer_size = \"64KiB\"").process("buffer_budget = \"512KiB\"");
    stuck(config, Author::Client, 20, 512 * KIB + 2 * MIB);
}

/// Small pieces that come while the reader is stuck stay with the kernel: each would take a buffer of its own.
pub(crate) fn drops_before_a_stuck_reader_take_no_memory(engine: &'static str) {
    const DROPS: u64 = 3_000;
    let (stage, gate) = Stage::through(Config::new(engine));
    warm_up(&stage);
    let [mut writer, reader] = ends(&stage, Author::Server);
    reader.socket().set_recv_buffer_size(4096).unwrap();
    // Until the program's send queue grows no more: from then on it has to keep what it reads.
    let mut queued = None;
    loop {
        writer.send(64 * KIB);
        thread::sleep(Duration::from_millis(10));
        let now = unacknowledged(gate.address(), stage.client());
        if now.is_some_and(|bytes| bytes > 0) && now == queued {
            break;
        }
        queued = now;
    }
    let before = anonymous_bytes(gate.pid());
    for _ in 0..DROPS {
        writer.send(1);
        thread::sleep(Duration::from_micros(200));
    }
    let growth = anonymous_bytes(gate.pid()).saturating_sub(before);
    assert!(growth < 4 * MIB, "{DROPS} drops took {growth} bytes");
    // With so small a window it would take minutes to read all that.
    reader.abort();
}

/// So many sessions whose `writer` meets an end that does not read. The program's memory may grow by
/// `most_growth` bytes. Gives the program when all is over.
pub(super) fn stuck(config: Config, writer: Author, sessions: u64, most_growth: u64) -> Gate {
    // The kernel fills the ring's own buffers one after the other, so that each is touched once.
    let ring = if config.engine() == "io_uring" { 1024 * 16 * KIB } else { 0 };
    let most_growth = most_growth + ring;
    let (stage, gate) = Stage::through(config);
    warm_up(&stage);
    let before = anonymous_bytes(gate.pid());

    let mut pairs: Vec<[Peer; 2]> = (0..sessions).map(|_| ends(&stage, writer)).collect();
    let sent: Vec<u64> = thread::scope(|scope| {
        let fill = |pair: &mut [Peer; 2]| pair[0].send_until_stuck(64 * MIB);
        let fillers: Vec<_> = pairs.iter_mut().map(|pair| scope.spawn(move || fill(pair))).collect();
        fillers.into_iter().map(|filler| filler.join().unwrap()).collect()
    });

    let growth = anonymous_bytes(gate.pid()).saturating_sub(before);
    println!("{sessions} stuck: {growth} bytes more, {} bytes sent", sent.iter().sum::<u64>());
    assert!(growth < most_growth, "{sessions} stuck sessions took {growth} bytes");
    assert_rests(gate.pid(), Duration::from_secs(1), 5, "while everything is stuck");

    thread::scope(|scope| {
        for ([mut writer, mut reader], sent) in pairs.into_iter().zip(sent) {
            scope.spawn(move || {
                writer.finish();
                reader.receive_to_end();
                assert_eq!(reader.leave(), got(sent, End::Fin));
            });
        }
    });
    gate
}

/// What the program needs once for any traffic is not counted.
fn warm_up(stage: &Stage) {
    let [mut client, mut server] = stage.pair();
    at_once(|| server.exchange(4 * MIB, 64 * 1024), || client.exchange(4 * MIB, 64 * 1024));
    assert_eq!([client.leave(), server.leave()], [got(4 * MIB, End::Fin), got(4 * MIB, End::Fin)]);
}

/// The two ends of a new connection, the writer first.
fn ends(stage: &Stage, writer: Author) -> [Peer; 2] {
    let mut pair = stage.pair();
    if writer == Author::Server {
        pair.reverse();
    }
    pair
}
