//! Every byte arrives once, in order, and FIN arrives after the last one.

use std::thread;
use std::time::Duration;

use crate::support::gate::{Config, Gate};
use crate::support::peer::{End, Peer, Transcript, got};
use crate::support::servers::{Server, listen};
use crate::support::stage::{Stage, at_once, conforms, counts_bytes};

const MIB: u64 = 1024 * 1024;
const CHUNK: usize = 64 * 1024;

pub(crate) fn echo_small(engine: &'static str) {
    conforms(engine, "done", &[got(11, End::Fin), got(11, End::Fin)], |stage| echo(stage, 11));
}

pub(crate) fn echo_8_mib(engine: &'static str) {
    conforms(engine, "done", &[got(8 * MIB, End::Fin), got(8 * MIB, End::Fin)], |stage| echo(stage, 8 * MIB));
}

fn echo(stage: &Stage, bytes: u64) -> [Transcript; 2] {
    let [mut client, mut server] = stage.pair();
    client.expect_echo();
    at_once(|| server.echo(), || client.exchange(bytes, CHUNK));
    [client.leave(), server.leave()]
}

pub(crate) fn both_send_4_mib_at_once(engine: &'static str) {
    conforms(engine, "done", &[got(4 * MIB, End::Fin), got(4 * MIB, End::Fin)], |stage| {
        let [mut client, mut server] = stage.pair();
        at_once(|| server.exchange(4 * MIB, CHUNK), || client.exchange(4 * MIB, CHUNK));
        [client.leave(), server.leave()]
    });
}

pub(crate) fn one_byte_writes_both_ways(engine: &'static str) {
    conforms(engine, "done", &[got(5_000, End::Fin), got(5_000, End::Fin)], |stage| {
        let [mut client, mut server] = stage.pair();
        at_once(|| server.exchange(5_000, 1), || client.exchange(5_000, 1));
        [client.leave(), server.leave()]
    });
}

pub(crate) fn one_byte_questions_and_answers(engine: &'static str) {
    conforms(engine, "done", &[got(1_000, End::Fin), got(1_000, End::Fin)], |stage| {
        let [mut client, mut server] = stage.pair();
        for _ in 0..1_000 {
            client.send(1);
            server.receive(1);
            server.send(1);
            client.receive(1);
        }
        both_finish(client, server)
    });
}

pub(crate) fn data_and_fin_in_one_segment(engine: &'static str) {
    for bytes in [1, 2, 1_000, 40_000] {
        conforms(engine, "done", &[got(100, End::Fin), got(bytes, End::Fin)], |stage| {
            let [client, server] = stage.pair();
            question_with_fin(client, server, bytes)
        });
    }
}

pub(crate) fn answer_and_fin_in_one_segment(engine: &'static str) {
    for bytes in [1, 2, 1_000, 40_000] {
        conforms(engine, "done", &[got(bytes, End::Fin), got(100, End::Fin)], |stage| {
            let [mut client, mut server] = stage.pair();
            client.send(100);
            server.receive(100);
            server.send_with_fin(bytes);
            client.receive_to_end();
            client.finish();
            server.receive_to_end();
            [client.leave(), server.leave()]
        });
    }
}

pub(crate) fn client_sends_before_the_server_accepts(engine: &'static str) {
    conforms(engine, "done", &[got(100, End::Fin), got(1_000, End::Fin)], |stage| {
        let mut client = stage.connect();
        client.send(500);
        thread::sleep(Duration::from_millis(100));
        let server = stage.accept();
        question_with_fin(client, server, 500)
    });
}

pub(crate) fn question_and_fin_before_the_server_accepts(engine: &'static str) {
    conforms(engine, "done", &[got(100, End::Fin), got(1_000, End::Fin)], |stage| {
        let mut client = stage.connect();
        client.send_with_fin(1_000);
        let mut server = stage.accept();
        server.receive_to_end();
        answer(client, server)
    });
}

/// The client sends `bytes` bytes, the last of them with its FIN; the server answers with 100.
fn question_with_fin(mut client: Peer, mut server: Peer, bytes: u64) -> [Transcript; 2] {
    client.send_with_fin(bytes);
    server.receive_to_end();
    answer(client, server)
}

fn answer(mut client: Peer, mut server: Peer) -> [Transcript; 2] {
    server.send(100);
    server.finish();
    client.receive_to_end();
    [client.leave(), server.leave()]
}

pub(crate) fn server_answers_1_mib_after_the_client_half_closed(engine: &'static str) {
    conforms(engine, "done", &[got(MIB, End::Fin), got(1_000, End::Fin)], |stage| {
        let [mut client, mut server] = stage.pair();
        client.send(1_000);
        client.finish();
        server.receive_to_end();
        thread::sleep(Duration::from_millis(50));
        at_once(|| server.exchange(MIB, CHUNK), || client.receive_to_end());
        [client.leave(), server.leave()]
    });
}

pub(crate) fn client_sends_1_mib_after_the_server_half_closed(engine: &'static str) {
    conforms(engine, "done", &[got(0, End::Fin), got(MIB, End::Fin)], |stage| {
        let [mut client, mut server] = stage.pair();
        server.finish();
        client.receive_to_end();
        thread::sleep(Duration::from_millis(50));
        at_once(|| server.receive_to_end(), || client.exchange(MIB, CHUNK));
        [client.leave(), server.leave()]
    });
}

pub(crate) fn both_half_close_at_once(engine: &'static str) {
    conforms(engine, "done", &[got(2_000, End::Fin), got(1_000, End::Fin)], |stage| {
        let [mut client, mut server] = stage.pair();
        at_once(|| server.exchange(2_000, CHUNK), || client.exchange(1_000, CHUNK));
        [client.leave(), server.leave()]
    });
}

pub(crate) fn server_speaks_first(engine: &'static str) {
    conforms(engine, "done", &[got(200, End::Fin), got(300, End::Fin)], |stage| {
        let [mut client, mut server] = stage.pair();
        server.send(200);
        client.receive(200);
        client.send(300);
        server.receive(300);
        both_finish(client, server)
    });
}

pub(crate) fn empty_session(engine: &'static str) {
    conforms(engine, "done", &[got(0, End::Fin), got(0, End::Fin)], |stage| {
        let mut client = stage.connect();
        client.finish();
        let mut server = stage.accept();
        server.receive_to_end();
        server.finish();
        client.receive_to_end();
        [client.leave(), server.leave()]
    });
}

fn both_finish(mut client: Peer, mut server: Peer) -> [Transcript; 2] {
    client.finish();
    server.receive_to_end();
    server.finish();
    client.receive_to_end();
    [client.leave(), server.leave()]
}

pub(crate) fn urgent_byte_stays_in_the_stream(engine: &'static str) {
    for pause in [Duration::ZERO, Duration::from_millis(50)] {
        conforms(engine, "done", &[got(0, End::Fin), got(7, End::Fin)], |stage| urgent(stage, pause));
    }
}

/// "abc", urgent "U", "def": all of it must arrive while the connection stays open.
fn urgent(stage: &Stage, pause: Duration) -> [Transcript; 2] {
    let [client, mut server] = stage.pair();
    server.socket().set_out_of_band_inline(true).unwrap();
    assert_eq!(client.socket().send(b"abc").unwrap(), 3);
    thread::sleep(pause);
    assert_eq!(client.socket().send_out_of_band(b"U").unwrap(), 1);
    thread::sleep(pause);
    assert_eq!(client.socket().send(b"def").unwrap(), 3);
    server.receive_text(b"abcUdef");
    both_finish(client, server)
}

pub(crate) fn urgent_byte_comes_last(engine: &'static str) {
    conforms(engine, "done", &[got(4, End::Fin), got(0, End::Fin)], |stage| {
        let [mut client, server] = stage.pair();
        client.socket().set_out_of_band_inline(true).unwrap();
        assert_eq!(server.socket().send_out_of_band(b"abcU").unwrap(), 4);
        client.receive_text(b"abcU");
        both_finish(client, server)
    });
}

pub(crate) fn ipv6(engine: &'static str) {
    if listen("::1").is_err() {
        println!("skipped: this machine has no ::1");
        return;
    }
    let (stage, gate) = Stage::through_to("::1", Config::new(engine).bind("[::1]:0"));
    assert!(gate.address().is_ipv6());
    let transcripts = echo(&stage, MIB);
    assert_eq!(transcripts, [got(MIB, End::Fin), got(MIB, End::Fin)]);
    let access = gate.access(stage.client());
    assert_eq!(access.cause, "done");
    counts_bytes(&access, &transcripts);
}

pub(crate) fn sixty_four_clients_at_once_on_two_workers(engine: &'static str) {
    let server = Server::echo();
    let gate = Gate::start(&Config::new(engine).workers(2).server(server.address()));
    thread::scope(|scope| {
        for client in 0..64 {
            let gate = &gate;
            scope.spawn(move || gate.echo_from(client * 1_000, 256 * 1024));
        }
    });
    assert_eq!(server.accepted(), 64);
}

pub(crate) fn access_log_tells_the_connection(engine: &'static str) {
    let (stage, gate) = Stage::through(Config::new(engine));
    let [mut client, mut server] = stage.pair();
    client.send(123);
    server.receive(123);
    server.send(4_567);
    client.receive(4_567);
    both_finish(client, server);
    let access = gate.access(stage.client());
    assert_eq!((access.listener.as_str(), access.pool.as_deref()), ("l", Some("p")));
    assert_eq!(access.server.as_deref(), Some("s0"));
    assert_eq!([access.bytes_in, access.bytes_out], [123, 4_567]);
    assert_eq!(
        [access.cause.as_str(), access.closer.as_str(), access.hap_ts.as_str()],
        ["done", "both", "--"]
    );
    assert_eq!(access.engine, engine);
    assert_eq!((access.worker, access.tries), (0, 1));
    assert!(access.connect_ms.expect("a server was reached") <= access.duration_ms);
    assert_ne!(access.server_addr, None);
}
