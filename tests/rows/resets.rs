//! A reset arrives as a reset, after every byte that was delivered before it.

use std::io::ErrorKind;
use std::thread;
use std::time::{Duration, Instant};

use crate::support::PATIENCE;
use crate::support::gate::Config;
use crate::support::peer::{Author, End, Peer, Transcript, got};
use crate::support::stage::{Stage, at_once, conforms};

const MIB: u64 = 1024 * 1024;
const CHUNK: usize = 64 * 1024;

pub(crate) fn client_resets_without_data(engine: &'static str) {
    sends_then_resets(engine, Author::Client, 0, Duration::ZERO);
}

pub(crate) fn server_resets_without_data(engine: &'static str) {
    sends_then_resets(engine, Author::Server, 0, Duration::ZERO);
}

pub(crate) fn client_resets_after_100_kb(engine: &'static str) {
    sends_then_resets(engine, Author::Client, 100_000, Duration::ZERO);
}

pub(crate) fn server_resets_after_64_kib(engine: &'static str) {
    sends_then_resets(engine, Author::Server, 64 * 1024, Duration::ZERO);
}

pub(crate) fn client_resets_after_100_kb_to_a_slow_server(engine: &'static str) {
    sends_then_resets(engine, Author::Client, 100_000, Duration::from_millis(300));
}

pub(crate) fn server_resets_after_64_kib_to_a_slow_client(engine: &'static str) {
    sends_then_resets(engine, Author::Server, 64 * 1024, Duration::from_millis(300));
}

pub(crate) fn client_resets_after_1_mib_to_a_slow_server(engine: &'static str) {
    sends_then_resets(engine, Author::Client, MIB, Duration::from_millis(300));
}

pub(crate) fn server_resets_after_1_mib_to_a_slow_client(engine: &'static str) {
    sends_then_resets(engine, Author::Server, MIB, Duration::from_millis(300));
}

/// `sender` sends, waits until the kernel at the other end of its connection has everything, and resets.
/// The reader has sent a byte before; it begins to read after `pause`, and then reads slowly.
fn sends_then_resets(engine: &'static str, sender: Author, bytes: u64, pause: Duration) {
    let expected = ordered(sender, got(1, End::Left), got(bytes, End::Reset));
    conforms(engine, reset_by(sender), &expected, |stage| {
        let [mut writer, mut reader] = relayed_pair(stage, sender);
        let send = || {
            writer.send(bytes);
            writer.wait_until_delivered();
            writer.abort()
        };
        let read = || {
            thread::sleep(pause);
            reader.receive_slowly(16 * 1024, pause / 100)
        };
        let (left, _) = at_once(send, read);
        ordered(sender, left, reader.leave())
    });
}

pub(crate) fn server_resets_long_before_the_client_reads(engine: &'static str) {
    resets_long_before_reading(engine, Author::Server);
}

pub(crate) fn client_resets_long_before_the_server_reads(engine: &'static str) {
    resets_long_before_reading(engine, Author::Client);
}

/// The bytes fit into one receive window, so that nobody needs the reader for the reset to come.
fn resets_long_before_reading(engine: &'static str, sender: Author) {
    conforms(
        engine,
        reset_by(sender),
        &ordered(sender, got(1, End::Left), got(40_000, End::Reset)),
        |stage| {
            let [mut writer, mut reader] = relayed_pair(stage, sender);
            writer.send(40_000);
            writer.wait_until_delivered();
            let left = writer.abort();
            thread::sleep(Duration::from_millis(300));
            reader.receive_to_end();
            ordered(sender, left, reader.leave())
        },
    );
}

pub(crate) fn server_resets_with_bytes_on_the_way(engine: &'static str) {
    resets_with_bytes_on_the_way(engine, Author::Server);
}

pub(crate) fn client_resets_with_bytes_on_the_way(engine: &'static str) {
    resets_with_bytes_on_the_way(engine, Author::Client);
}

/// The sender resets while its own kernel still holds bytes. How many arrive is a matter of chance; the
/// reader must see that they are not all.
fn resets_with_bytes_on_the_way(engine: &'static str, sender: Author) {
    let play = |stage: &Stage| {
        let [mut writer, mut reader] = ordered_pair(stage, sender);
        writer.send_until_stuck(64 * MIB);
        writer.abort();
        thread::sleep(Duration::from_millis(300));
        reader.receive_slowly(CHUNK, Duration::from_millis(1));
        let Transcript { wrong_at, end, .. } = reader.leave();
        assert_eq!((wrong_at, end), (None, End::Reset));
    };
    play(&Stage::direct());
    let (stage, gate) = Stage::through(Config::new(engine));
    play(&stage);
    assert_eq!(gate.access(stage.client()).cause, reset_by(sender));
}

pub(crate) fn server_resets_while_the_client_never_reads(engine: &'static str) {
    resets_while_nobody_reads(engine, Author::Server);
}

pub(crate) fn client_resets_while_the_server_never_reads(engine: &'static str) {
    resets_while_nobody_reads(engine, Author::Client);
}

/// The reader's time to take what is left is `half_close`; then it is reset, and a part of the bytes with it.
fn resets_while_nobody_reads(engine: &'static str, sender: Author) {
    let (stage, gate) = Stage::through(Config::new(engine).timeouts("half_close = \"500ms\""));
    let [mut writer, mut reader] = ordered_pair(&stage, sender);
    writer.send_until_stuck(64 * MIB);
    let began = Instant::now();
    writer.abort();
    assert_eq!(gate.access(stage.client()).cause, reset_by(sender));
    let took = began.elapsed();
    assert!(took >= Duration::from_millis(500), "given up after {took:?}, before its time");
    assert!(took < PATIENCE, "given up only after {took:?}");
    reader.receive_to_end();
    let Transcript { wrong_at, end, .. } = reader.leave();
    assert_eq!((wrong_at, end), (None, End::Reset));
}

pub(crate) fn server_answers_and_closes_with_input_unread(engine: &'static str) {
    conforms(engine, "server_reset", &[got(1_000, End::Reset), got(0, End::Left)], |stage| {
        let [mut client, mut server] = stage.pair();
        client.send(100_000);
        server.wait_for_input();
        server.send(1_000);
        let left = server.leave();
        client.receive_to_end();
        [client.leave(), left]
    });
}

pub(crate) fn server_resets_after_the_client_half_closed(engine: &'static str) {
    resets_half_closed(engine, Author::Server);
}

pub(crate) fn client_resets_after_the_server_half_closed(engine: &'static str) {
    resets_half_closed(engine, Author::Client);
}

/// The other end has sent FIN and waits for more when `breaker` resets.
fn resets_half_closed(engine: &'static str, breaker: Author) {
    conforms(
        engine,
        reset_by(breaker),
        &ordered(breaker, got(1_000, End::Fin), got(0, End::Reset)),
        |stage| {
            let [mut breaking, mut waiting] = ordered_pair(stage, breaker);
            waiting.send(1_000);
            waiting.finish();
            breaking.receive_to_end();
            let broken = breaking.abort();
            waiting.receive_to_end();
            ordered(breaker, broken, waiting.leave())
        },
    );
}

pub(crate) fn server_half_closes_then_resets(engine: &'static str) {
    half_closes_then_resets(engine, Author::Server);
}

pub(crate) fn client_half_closes_then_resets(engine: &'static str) {
    half_closes_then_resets(engine, Author::Client);
}

/// After its FIN an end resets: the other one, which has seen the end of input, finds out by sending.
fn half_closes_then_resets(engine: &'static str, breaker: Author) {
    conforms(engine, reset_by(breaker), &ordered(breaker, got(0, End::Left), got(0, End::Fin)), |stage| {
        let [mut breaking, mut sending] = ordered_pair(stage, breaker);
        breaking.finish();
        sending.receive_to_end();
        let broken = breaking.abort();
        assert_eq!(sending.send_until_broken(), ErrorKind::BrokenPipe);
        ordered(breaker, broken, sending.leave())
    });
}

pub(crate) fn stuck_server_resets(engine: &'static str) {
    stuck_reader_resets(engine, Author::Server);
}

pub(crate) fn stuck_client_resets(engine: &'static str) {
    stuck_reader_resets(engine, Author::Client);
}

/// A reader that read nothing resets: the writer, whose way is blocked, learns of it.
fn stuck_reader_resets(engine: &'static str, reader: Author) {
    conforms(engine, reset_by(reader), &ordered(reader, got(0, End::Left), got(0, End::Reset)), |stage| {
        let [reading, mut writer] = ordered_pair(stage, reader);
        writer.send_until_stuck(64 * MIB);
        let left = reading.abort();
        writer.receive_to_end();
        ordered(reader, left, writer.leave())
    });
}

pub(crate) fn without_rst_on_error_the_server_sees_the_end(engine: &'static str) {
    resets_and_is_not_told_of(engine, Author::Client);
}

pub(crate) fn without_rst_on_error_the_client_sees_the_end(engine: &'static str) {
    resets_and_is_not_told_of(engine, Author::Server);
}

/// The other end gets every byte and FIN, be it slow, or have it sent what nobody will read.
fn resets_and_is_not_told_of(engine: &'static str, breaker: Author) {
    let (stage, gate) = Stage::through(Config::new(engine).table("defaults.tcp", "rst_on_error = false"));
    for (bytes, unread, pause) in [(0, 0, 0), (1_000, 100_000, 50), (MIB, 0, 50)] {
        let [mut breaking, mut waiting] = relayed_pair(&stage, breaker);
        waiting.send(unread);
        let send = || {
            breaking.send(bytes);
            breaking.wait_until_delivered();
            breaking.abort()
        };
        let read = || {
            thread::sleep(Duration::from_millis(pause));
            waiting.receive_slowly(16 * 1024, Duration::from_micros(500))
        };
        assert_eq!(at_once(send, read), (got(1, End::Left), End::Fin), "{bytes} bytes, {unread} unread");
        assert_eq!(waiting.leave(), got(bytes, End::Fin));
        assert_eq!(gate.access(stage.client()).cause, reset_by(breaker));
    }
}

/// Servers learn that a client has failed, and clients do not learn it of servers.
pub(crate) fn rst_on_error_is_set_for_each_leg(engine: &'static str) {
    let (stage, gate) = Stage::through(Config::new(engine).table("listener.l.tcp", "rst_on_error = false"));
    for (breaker, end) in [(Author::Client, End::Reset), (Author::Server, End::Fin)] {
        let [breaking, mut waiting] = relayed_pair(&stage, breaker);
        breaking.abort();
        assert_eq!(waiting.receive_to_end(), end, "{breaker:?} has reset");
        assert_eq!(gate.access(stage.client()).cause, reset_by(breaker));
    }
}

/// As [`ordered_pair`], when a byte of the other end has arrived: nobody is being connected any more.
fn relayed_pair(stage: &Stage, first: Author) -> [Peer; 2] {
    let [mut one, mut other] = ordered_pair(stage, first);
    other.send(1);
    one.receive(1);
    [one, other]
}

/// A pair with the end that `first` writes first.
fn ordered_pair(stage: &Stage, first: Author) -> [Peer; 2] {
    let [client, server] = stage.pair();
    ordered(first, client, server)
}

/// Turns (`first`, the other) into (client, server) and back.
fn ordered<T>(first: Author, one: T, other: T) -> [T; 2] {
    match first {
        Author::Client => [one, other],
        Author::Server => [other, one],
    }
}

fn reset_by(who: Author) -> &'static str {
    match who {
        Author::Client => "client_reset",
        Author::Server => "server_reset",
    }
}
