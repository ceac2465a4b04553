//! Quiet connections end when their time is up, and not before.

use std::iter;
use std::thread;
use std::time::{Duration, Instant};

use crate::support::PATIENCE;
use crate::support::gate::Config;
use crate::support::peer::{Author, End, Peer, got};
use crate::support::stage::Stage;

const LIMIT: Duration = Duration::from_millis(400);

pub(crate) fn idle_connection_is_closed(engine: &'static str) {
    let (stage, gate) = Stage::through(Config::new(engine).timeouts("idle = \"400ms\""));
    let [mut client, mut server] = stage.pair();
    let began = Instant::now();
    client.send(10);
    server.receive(10);
    assert_eq!(client.receive_to_end(), End::Fin);
    assert_in_time(began);
    assert_eq!(server.receive_to_end(), End::Fin);
    assert_eq!(gate.access(stage.client()).cause, "idle_timeout");
}

/// The server has never sent anything, the client has half a second after the connection was made.
pub(crate) fn access_line_tells_how_long_each_side_was_silent(engine: &'static str) {
    let (stage, gate) = Stage::through(Config::new(engine).timeouts("idle = \"3s\""));
    let [mut client, mut server] = stage.pair();
    thread::sleep(Duration::from_millis(500));
    client.send(10);
    server.receive(10);
    assert_eq!(client.receive_to_end(), End::Fin);
    let access = gate.access(stage.client());
    assert_eq!(access.cause, "idle_timeout");
    let silent = [access.idle_client_ms, access.idle_server_ms].map(|ms| ms.expect("the kernel tells"));
    // The kernel counts in steps of up to 10 ms.
    assert!(silent[0] >= 2_990 && silent[1] >= silent[0] + 480, "{access:?}");
    assert!(silent.iter().all(|ms| *ms < 60_000), "{access:?}");
}

pub(crate) fn trickle_up_is_not_idle(engine: &'static str) {
    trickle(Config::new(engine).timeouts("idle = \"1500ms\""), Author::Client);
}

pub(crate) fn trickle_down_is_not_idle(engine: &'static str) {
    trickle(Config::new(engine).timeouts("idle = \"1500ms\""), Author::Server);
}

/// One byte every 100 ms, for much longer than the limit.
fn trickle(config: Config, from: Author) {
    let (stage, gate) = Stage::through(config);
    let [mut client, mut server] = stage.pair();
    let (writer, reader) = match from {
        Author::Client => (&mut client, &mut server),
        Author::Server => (&mut server, &mut client),
    };
    send_for_three_seconds(writer, reader);
    client.finish();
    assert_eq!(server.receive_to_end(), End::Fin);
    server.finish();
    assert_eq!(client.receive_to_end(), End::Fin);
    assert_eq!(gate.access(stage.client()).cause, "done");
}

fn send_for_three_seconds(writer: &mut Peer, reader: &mut Peer) {
    for _ in 0..30 {
        thread::sleep(Duration::from_millis(100));
        writer.send(1);
        reader.receive(1);
    }
}

pub(crate) fn silent_server_after_the_clients_fin_is_given_up(engine: &'static str) {
    half_closed(engine, Author::Client);
}

pub(crate) fn silent_client_after_the_servers_fin_is_given_up(engine: &'static str) {
    half_closed(engine, Author::Server);
}

fn half_closed(engine: &'static str, first: Author) {
    let (stage, gate) = Stage::through(Config::new(engine).timeouts("half_close = \"400ms\""));
    let [client, server] = stage.pair();
    let (mut finished, mut silent) = match first {
        Author::Client => (client, server),
        Author::Server => (server, client),
    };
    let began = Instant::now();
    finished.finish();
    assert_eq!(silent.receive_to_end(), End::Fin);
    assert_eq!(finished.receive_to_end(), End::Fin);
    assert_in_time(began);
    silent.send_until_broken();
    assert_eq!(gate.access(stage.client()).cause, "half_close_timeout");
}

pub(crate) fn slow_answer_on_a_half_closed_connection_goes_on(engine: &'static str) {
    let (stage, gate) = Stage::through(Config::new(engine).timeouts("half_close = \"1500ms\""));
    let [mut client, mut server] = stage.pair();
    client.finish();
    assert_eq!(server.receive_to_end(), End::Fin);
    send_for_three_seconds(&mut server, &mut client);
    server.finish();
    client.receive_to_end();
    assert_eq!(client.leave(), got(30, End::Fin));
    assert_eq!(gate.access(stage.client()).cause, "done");
}

fn assert_in_time(began: Instant) {
    let took = began.elapsed();
    assert!(took >= LIMIT, "closed after {took:?}, before its time");
    assert!(took < PATIENCE, "closed only after {took:?}");
}

/// A connection on which nothing happens ends at its time; one whose answer is on its way goes on until that has arrived.
pub(crate) fn lifetime_ends_at_a_quiet_moment(engine: &'static str) {
    let limits = "max_lifetime = \"1s\"\nmax_lifetime_jitter = 0";
    let (stage, gate) = Stage::through(Config::new(engine).timeouts(limits));
    let [mut busy, mut busy_server] = stage.pair();
    // Twice nothing was taken: not because the program is slow, but because nobody reads.
    let send = || Some(busy_server.send_until_stuck(64 << 20)).filter(|taken| *taken > 0);
    let sent = iter::from_fn(send).sum();
    let [mut idle, _idle_server] = stage.pair();
    let addresses = [busy.address(), idle.address()];
    assert_eq!(idle.receive_to_end(), End::Fin);
    assert_eq!(idle.leave(), got(0, End::Fin));
    let idle = gate.access(addresses[1]);
    assert_eq!(idle.cause, "max_lifetime");
    assert!(idle.duration_ms >= 1_000, "{}", idle.duration_ms);
    // The other one began before, and has had more than its time by now.
    thread::sleep(Duration::from_secs(1));
    busy.receive_to_end();
    assert_eq!(busy.leave(), got(sent, End::Fin));
    let busy = gate.access(addresses[0]);
    assert_eq!(busy.cause, "max_lifetime");
    assert!(busy.duration_ms >= idle.duration_ms + 1_000, "{}", busy.duration_ms);
}
