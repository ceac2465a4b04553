//! With `splice = "auto"`, what carries much at a time passes through pipes: nothing else changes.

use std::io::Write as _;
use std::thread;
use std::time::Duration;

use super::stuck::stuck;
use crate::support::gate::{Config, Gate};
use crate::support::peer::{Author, End, Peer, Transcript, got};
use crate::support::process::{descriptors, descriptors_settle, pipe_ends};
use crate::support::stage::{Stage, at_once, counts_bytes};

const KIB: u64 = 1024;
const MIB: u64 = 1024 * KIB;
const CHUNK: usize = 64 * 1024;
/// Bytes enough for a direction to be spliced, and for its pipe to be filled and emptied many times.
const BULK: u64 = 32 * MIB;
/// Pipes of a process, each with two ends.
const PIPES: usize = 64;

fn spliced(engine: &'static str) -> Config {
    Config::new(engine).process("splice = \"auto\"")
}

/// Plays a script through a new program, which must have made a pipe by its end, and give `cause` in its log.
fn plays(
    engine: &'static str,
    cause: &str,
    expected: &[Transcript; 2],
    script: impl Fn(&Stage) -> [Transcript; 2],
) {
    let (stage, gate) = Stage::through(spliced(engine));
    let before = pipe_ends(gate.pid());
    assert_eq!(&script(&stage), expected, "client and server");
    let access = gate.access(stage.client());
    assert_eq!(access.cause, cause, "{access:?}");
    counts_bytes(&access, expected);
    assert!(pipe_ends(gate.pid()) > before, "nothing was spliced");
}

/// 1 GiB each way where the test is optimised, 256 MiB else.
pub(crate) fn spliced_bulk_arrives_whole_both_ways_at_once(engine: &'static str) {
    let bytes = if cfg!(debug_assertions) { 256 * MIB } else { 1024 * MIB };
    plays(engine, "done", &[got(bytes, End::Fin), got(bytes, End::Fin)], |stage| {
        let [mut client, mut server] = stage.pair();
        at_once(|| server.exchange(bytes, CHUNK), || client.exchange(bytes, CHUNK));
        [client.leave(), server.leave()]
    });
}

pub(crate) fn spliced_half_closed_by_the_client(engine: &'static str) {
    plays(engine, "done", &[got(BULK, End::Fin), got(BULK, End::Fin)], |stage| {
        let [client, server] = stage.pair();
        let [client, server] = one_after_the_other(client, server);
        [client, server]
    });
}

pub(crate) fn spliced_half_closed_by_the_server(engine: &'static str) {
    plays(engine, "done", &[got(BULK, End::Fin), got(BULK, End::Fin)], |stage| {
        let [client, server] = stage.pair();
        let [server, client] = one_after_the_other(server, client);
        [client, server]
    });
}

/// The first sends all and its FIN, and only then the second answers with as much.
fn one_after_the_other(mut first: Peer, mut second: Peer) -> [Transcript; 2] {
    at_once(|| second.receive_to_end(), || send_all(&mut first));
    at_once(|| first.receive_to_end(), || send_all(&mut second));
    [first.leave(), second.leave()]
}

fn send_all(sender: &mut Peer) {
    sender.send(BULK);
    sender.finish();
}

pub(crate) fn client_resets_behind_spliced_bulk(engine: &'static str) {
    plays(engine, "client_reset", &[got(0, End::Left), got(BULK, End::Reset)], |stage| {
        let [client, server] = stage.pair();
        resets_behind_bulk(client, server)
    });
}

pub(crate) fn server_resets_behind_spliced_bulk(engine: &'static str) {
    plays(engine, "server_reset", &[got(BULK, End::Reset), got(0, End::Left)], |stage| {
        let [client, server] = stage.pair();
        let [server, client] = resets_behind_bulk(server, client);
        [client, server]
    });
}

/// Everything was delivered to the program before the reset, and not everything to the reader.
fn resets_behind_bulk(mut writer: Peer, mut reader: Peer) -> [Transcript; 2] {
    let send = || {
        writer.send(BULK);
        writer.wait_until_delivered();
        writer.abort()
    };
    let (written, _) = at_once(send, || reader.receive_slowly(CHUNK, Duration::from_micros(200)));
    [written, reader.leave()]
}

/// A reader resets while its pipe is full. What was in there belongs to nobody any more: least of all to the next
/// connection.
pub(crate) fn pipe_of_a_reset_reader_is_not_used_again(engine: &'static str) {
    let (stage, gate) = Stage::through(spliced(engine));
    let [mut client, mut server] = stage.pair();
    at_once(|| server.receive(4 * MIB), || client.send(4 * MIB));
    client.send_until_stuck(64 * MIB);
    server.abort();
    assert_eq!(client.receive_to_end(), End::Reset);
    assert_eq!(gate.access(stage.client()).cause, "server_reset");
    for _ in 0..3 {
        let [mut client, mut server] = stage.pair();
        at_once(|| server.exchange(BULK, CHUNK), || client.exchange(BULK, CHUNK));
        assert_eq!([client.leave(), server.leave()], [got(BULK, End::Fin), got(BULK, End::Fin)]);
    }
}

pub(crate) fn urgent_byte_within_spliced_bulk(engine: &'static str) {
    let mut text = vec![b'x'; 1_000_000];
    text[0] = b'U';
    let bytes = BULK + text.len() as u64;
    plays(engine, "done", &[got(0, End::Fin), got(bytes, End::Fin)], |stage| {
        let [mut client, mut server] = stage.pair();
        server.socket().set_out_of_band_inline(true).unwrap();
        let send = || {
            client.send(BULK);
            assert_eq!(client.socket().send_out_of_band(&text[..1]).unwrap(), 1);
            (&*client.socket()).write_all(&text[1..]).unwrap();
            client.finish();
        };
        at_once(send, || {
            server.receive(BULK);
            server.receive_text(&text);
        });
        server.receive_to_end();
        server.finish();
        client.receive_to_end();
        [client.leave(), server.leave()]
    });
}

/// An urgent byte and the FIN are all that is left: a splice of them gives 0, as if nothing were.
pub(crate) fn urgent_byte_and_fin_behind_spliced_bulk(engine: &'static str) {
    plays(engine, "done", &[got(0, End::Fin), got(BULK + 1, End::Fin)], |stage| {
        let [mut client, mut server] = stage.pair();
        server.socket().set_out_of_band_inline(true).unwrap();
        let send = || {
            client.send(BULK);
            client.socket().set_tcp_cork(true).unwrap();
            assert_eq!(client.socket().send_out_of_band(b"U").unwrap(), 1);
            client.finish();
        };
        at_once(send, || {
            server.receive(BULK);
            server.receive_text(b"U");
        });
        server.receive_to_end();
        server.finish();
        client.receive_to_end();
        [client.leave(), server.leave()]
    });
}

/// Messages that are small, whole buffers now and then among them, are copied.
pub(crate) fn small_messages_are_never_spliced(engine: &'static str) {
    let (stage, gate) = Stage::through(spliced(engine));
    let before = pipe_ends(gate.pid());
    let [mut client, mut server] = stage.pair();
    for round in 0..1_000 {
        let bytes = if round % 10 == 0 { 16 * KIB } else { 100 };
        client.send(bytes);
        server.receive(bytes);
        server.send(bytes);
        client.receive(bytes);
    }
    assert_eq!(pipe_ends(gate.pid()), before);
}

/// Pipes come back when they are empty: many connections one after the other need no more of them than the first.
pub(crate) fn pipes_are_returned(engine: &'static str) {
    let (stage, gate) = Stage::through(spliced(engine));
    let base = descriptors(gate.pid());
    let bulk = || {
        let [mut client, mut server] = stage.pair();
        at_once(|| server.exchange(BULK, CHUNK), || client.exchange(BULK, CHUNK));
        assert_eq!([client.leave(), server.leave()], [got(BULK, End::Fin), got(BULK, End::Fin)]);
    };
    (0..10).for_each(|_| bulk());
    // At most one for each direction of the one connection that there was at a time.
    let most = base + 2 * 2;
    assert!(
        descriptors_settle(gate.pid(), most) <= most,
        "{} descriptors, {base} before",
        descriptors(gate.pid())
    );
}

/// A stuck reader costs its pipe or a buffer, and the limit of pipes is for all.
pub(crate) fn stuck_readers_of_spliced_bulk(engine: &'static str) {
    let gate = stuck(spliced(engine), Author::Client, 80, 80 * 256 * KIB + 2 * MIB);
    let ends = pipe_ends(gate.pid());
    println!("{ends} ends of pipes");
    assert!(ends <= 2 * PIPES + own_pipe_ends(engine), "{ends}");
}

/// Ends of pipes that the program has anyway: its outputs.
fn own_pipe_ends(engine: &'static str) -> usize {
    let (_stage, gate) = Stage::through(spliced(engine));
    pipe_ends(gate.pid())
}

/// Without a descriptor for a pipe bytes are copied.
pub(crate) fn without_descriptors_bulk_is_copied(engine: &'static str) {
    let (stage, gate) = Stage::through(spliced(engine));
    let before = pipe_ends(gate.pid());
    let [mut client, mut server] = stage.pair();
    client.send(1);
    server.receive(1);
    gate.limit_descriptors(crate::support::process::lowest_free_descriptor(gate.pid()));
    at_once(|| server.exchange(BULK, CHUNK), || client.exchange(BULK, CHUNK));
    assert_eq!([client.leave(), server.leave()], [got(BULK, End::Fin), got(BULK + 1, End::Fin)]);
    assert_eq!(pipe_ends(gate.pid()), before);
}

/// Both kinds of sockets can be spliced from and to.
pub(crate) fn bulk_between_unix_sockets_is_spliced(engine: &'static str) {
    let folder = tempfile::tempdir().unwrap();
    let listener = std::os::unix::net::UnixListener::bind(folder.path().join("server")).unwrap();
    let config = spliced(engine).bind(format!("unix:{}", folder.path().join("listener").display()));
    let gate: Gate = Gate::start(&config.server(format!("unix:{}", folder.path().join("server").display())));
    let before = pipe_ends(gate.pid());
    let mut client = gate.connect();
    let mut server = Peer::unix_server(listener.accept().unwrap().0);
    thread::scope(|scope| {
        scope.spawn(|| server.exchange(BULK, CHUNK));
        client.exchange(BULK, CHUNK);
    });
    assert_eq!([client.leave(), server.leave()], [got(BULK, End::Fin), got(BULK, End::Fin)]);
    assert!(pipe_ends(gate.pid()) > before, "nothing was spliced");
}
