//! Servers that refuse or never answer: the next one serves, and a reset only when none is left.

use std::thread;
use std::time::{Duration, Instant};

use crate::support::gate::{Config, Gate};
use crate::support::peer::{End, got};
use crate::support::process::{descriptors, descriptors_reach, descriptors_settle};
use crate::support::servers::{BlackHole, Refusing, Server};
use crate::support::stage::Stage;

pub(crate) fn round_robin_follows_the_weights(engine: &'static str) {
    let servers = [Server::echo(), Server::echo(), Server::echo()];
    let config = Config::new(engine)
        .weighted(servers[0].address(), 1)
        .weighted(servers[1].address(), 2)
        .weighted(servers[2].address(), 0);
    let gate = Gate::start(&config);
    for _ in 0..30 {
        gate.echo(10);
    }
    assert_eq!(servers.each_ref().map(Server::accepted), [10, 20, 0]);
}

pub(crate) fn refused_server_is_skipped(engine: &'static str) {
    let (refusing, server) = (Refusing::new(), Server::echo());
    let gate = Gate::start(&Config::new(engine).server(refusing.address()).server(server.address()));
    let mut most_tries = 0;
    for _ in 0..40 {
        let mut client = gate.connect();
        let address = client.address();
        client.expect_echo();
        client.exchange(100, 100);
        assert_eq!(client.leave(), got(100, End::Fin));
        let access = gate.access(address);
        assert_eq!((access.cause.as_str(), access.server.as_deref()), ("done", Some("s1")));
        assert_eq!(access.server_addr, Some(server.address().to_string()));
        assert!((1..=2).contains(&access.tries), "{access:?}");
        most_tries = most_tries.max(access.tries);
    }
    assert_eq!(server.accepted(), 40);
    assert_eq!(most_tries, 2, "the refusing server was never tried");
}

pub(crate) fn all_servers_refuse(engine: &'static str) {
    let refusing = [Refusing::new(), Refusing::new()];
    let config = Config::new(engine).server(refusing[0].address()).server(refusing[1].address());
    let gate = Gate::start(&config.table("defaults.retry", "tries = 2"));
    let client = gate.resets_a_client();
    let access = gate.access(client);
    assert_eq!((access.cause.as_str(), access.tries, access.connect_ms), ("connect_refused", 2, None));
    assert_eq!((access.closer.as_str(), access.hap_ts.as_str()), ("server", "SC"));
}

/// The refused server is the only one: it gets its delay and, back again, the client.
pub(crate) fn same_server_is_tried_again_after_its_delay(engine: &'static str) {
    let refusing = Refusing::new();
    let config = Config::new(engine).server(refusing.address());
    let gate = Gate::start(&config.table("defaults.retry", "tries = 3\nsame_server_delay = \"1s\""));
    let mut client = gate.connect();
    client.send(100);
    // The first attempt comes before the server, the last one long after it.
    thread::sleep(Duration::from_millis(500));
    let server = Server::start_on(refusing.listen(), |mut peer| {
        peer.echo();
    });
    client.expect_echo();
    client.finish();
    client.receive_to_end();
    let address = client.address();
    assert_eq!(client.leave(), got(100, End::Fin));
    let access = gate.access(address);
    assert!((2..=3).contains(&access.tries), "{access:?}");
    assert_eq!(server.accepted(), 1);
}

pub(crate) fn server_that_never_answers_is_skipped(engine: &'static str) {
    let (hole, server) = (BlackHole::new(), Server::echo());
    let config = Config::new(engine).server(hole.address()).server(server.address());
    let gate = Gate::start(&config.timeouts("connect = \"300ms\""));
    for _ in 0..4 {
        gate.echo(100);
    }
    assert_eq!(server.accepted(), 4);
}

/// What the client sent while the first server was dialled goes to the second one, FIN included.
pub(crate) fn question_sent_while_dialing_is_kept(engine: &'static str) {
    let (hole, server) = (BlackHole::new(), Server::echo());
    let config = Config::new(engine).server(hole.address()).server(server.address());
    let gate = Gate::start(&config.timeouts("connect = \"300ms\""));
    for bytes in [1, 300_000] {
        gate.echo(bytes);
    }
    assert_eq!(server.accepted(), 2);
}

pub(crate) fn no_server_answers(engine: &'static str) {
    let hole = BlackHole::new();
    let config = Config::new(engine)
        .server(hole.address())
        .timeouts("connect = \"400ms\"\nconnect_total = \"1200ms\"")
        .table("defaults.retry", "tries = 10\nsame_server_delay = \"50ms\"");
    let gate = Gate::start(&config);
    let began = Instant::now();
    let client = gate.resets_a_client();
    let took = began.elapsed();
    assert!(took >= Duration::from_millis(800), "given up after {took:?}, with time left for another try");
    let access = gate.access(client);
    assert_eq!((access.cause.as_str(), access.connect_ms), ("connect_timeout", None));
    assert!((2..=3).contains(&access.tries), "{access:?}");
    assert!(gate.logs(|line| line.contains("server p/s0: timed out")), "nobody is told who is silent");
}

/// It is gone at once, although its server would be waited for for a minute.
pub(crate) fn client_leaves_while_dialing(engine: &'static str) {
    let hole = BlackHole::new();
    let config = Config::new(engine).server(hole.address());
    let gate = Gate::start(&config.timeouts("connect = \"1m\"\nconnect_total = \"1m\""));
    let base = descriptors(gate.pid());
    let client = gate.connect();
    let address = client.address();
    descriptors_reach(gate.pid(), base + 2);
    client.abort();
    let access = gate.access(address);
    assert_eq!(
        (access.cause.as_str(), access.closer.as_str(), access.hap_ts.as_str()),
        ("client_left", "client", "CC")
    );
    assert_eq!(descriptors_settle(gate.pid(), base), base);
}

/// What a client sent before its reset gets to a server, as it would without the program, and then the reset.
pub(crate) fn client_sends_and_resets_while_dialing(engine: &'static str) {
    let hole = BlackHole::new();
    let config = Config::new(engine).server(hole.address()).timeouts("connect = \"400ms\"");
    let (stage, gate) = Stage::through(config);
    let before = descriptors(gate.pid());
    let mut client = stage.connect();
    client.send(1_000);
    client.wait_until_delivered();
    // It is let in, and its server is being dialed: who is reset in the backlog has no address any more.
    descriptors_reach(gate.pid(), before + 2);
    client.abort();
    let mut server = stage.accept();
    server.receive_to_end();
    assert_eq!(server.leave(), got(1_000, End::Reset));
    assert_eq!(gate.access(stage.client()).cause, "client_reset");
}
