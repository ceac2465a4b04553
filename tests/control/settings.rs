//! Limits, options and the log: what a reload changes of them, and for whom.

use std::net::{SocketAddr, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

use crate::control::servers::Pair;
use crate::control::{Run, goes_on};
use crate::support::PATIENCE;
use crate::support::peer::{End, Peer};
use tidegate::control::model::Paths;

pub(crate) fn idle_timeout_holds_for_who_is_there(engine: &str) {
    let pair = Pair::start();
    let file = pair.both(engine);
    let run = Run::start(&file);
    let mut sessions = run.sessions(5);
    let mut busy = sessions.pop().expect("five");
    let began = Instant::now();
    let said = run.reload(&file.clone().set("defaults.timeouts", "idle = \"2s\""));
    assert!(said.contains("defaults.timeouts.idle: 1h -> 2s, for connections that are there too"), "{said}");
    while began.elapsed() < Duration::from_secs(4) {
        goes_on(&mut busy);
        thread::sleep(Duration::from_millis(100));
    }
    for mut client in sessions {
        let address = client.address();
        assert_eq!(client.receive_to_end(), End::Fin);
        drop(client);
        let access = run.gate.access(address);
        assert_eq!(access.cause, "idle_timeout");
        assert!(access.duration_ms >= 2_000, "{access:?}");
    }
    // And the other way: who would have ended soon stays.
    run.reload(&file);
    assert!(busy.hears_nothing_for(Duration::from_secs(3)));
    goes_on(&mut busy);
}

/// Options of the connection from `local`, as ss(8) tells them.
fn options(local: SocketAddr, remote: SocketAddr) -> String {
    let filter = format!("src {local} and dst {remote}");
    let told = std::process::Command::new("ss").args(["-Htnoi", &filter]).output().expect("ss can be run");
    String::from_utf8(told.stdout).unwrap()
}

pub(crate) fn options_hold_for_new_connections(engine: &str) {
    let pair = Pair::start();
    let file = pair.both(engine);
    let keepalive =
        |idle: u32| format!("keepalive = {{ idle = \"{idle}s\", interval = \"10s\", count = 3 }}");
    let run = Run::start(&file.clone().set("defaults.tcp", keepalive(7_000)));
    let at = run.gate.address_of("l");
    let old = run.session();
    let timer = |client: &Peer| options(at, client.address());
    // Each has times of its own, in the last quarter of what is configured.
    let probed_after = |client: &Peer, seconds: u64| {
        let told = timer(client);
        let timer = told.split("timer:(keepalive,").nth(1).unwrap_or_else(|| panic!("no timer: {told}"));
        let minutes: u64 = timer.split("min").next().unwrap().parse().unwrap();
        assert!((seconds * 3 / 4 / 60 - 1..=seconds / 60).contains(&minutes), "{told}");
    };
    probed_after(&old, 7_000);
    let said = run.reload(&file.clone().set("defaults.tcp", keepalive(3_601)));
    assert!(said.contains("[defaults.tcp] changed, for new connections"), "{said}");
    let new = run.session();
    probed_after(&old, 7_000);
    probed_after(&new, 3_601);
    run.reload(&file.set("defaults.tcp", "keepalive = \"off\""));
    let none = run.session();
    assert!(!timer(&none).contains("keepalive"), "{}", timer(&none));
    probed_after(&new, 3_601);
}

/// Lowered under what there is, nobody is cut and nobody new is let in; raised, who waits is served at once.
pub(crate) fn process_maxconn_falls_and_rises(engine: &str) {
    let pair = Pair::start();
    let file = pair.both(engine).set("process", super::listeners::process(engine, 2));
    let with = |most: u32| file.clone().add("process", format!("maxconn = {most}"));
    let run = Run::start(&with(50));
    let mut sessions = run.sessions(20);
    let said = run.reload(&with(4));
    assert!(said.contains("process.maxconn: 50 -> 4"), "{said}");
    let mut waiting = knock(&run);
    assert!(waiting.hears_nothing_for(Duration::from_millis(500)), "served over the limit");
    sessions.iter_mut().for_each(goes_on);
    assert_eq!((run.status().process.connections, run.status().process.maxconn), (20, 4));
    let began = Instant::now();
    run.reload(&with(50));
    waiting.receive(1);
    assert!(began.elapsed() < PATIENCE, "{:?}", began.elapsed());
    sessions.extend(run.sessions(10));
    sessions.iter_mut().for_each(goes_on);
    run.reload(&with(4));
    let more = [knock(&run), knock(&run)];
    sessions.truncate(1);
    for mut client in more {
        client.receive(1);
        sessions.push(client);
    }
    let mut last = knock(&run);
    assert!(last.hears_nothing_for(Duration::from_millis(500)), "served over the limit");
}

/// A client that has sent a byte, and may have to wait.
fn knock(run: &Run) -> Peer {
    let mut client = Peer::client(TcpStream::connect(run.gate.address_of("l")).unwrap());
    client.expect_echo();
    client.send(1);
    client
}

/// Who waits for a listener's limit is let in when its time has come, although the process's limit has fallen.
pub(crate) fn both_limits_fall_while_a_client_waits(engine: &str) {
    let pair = Pair::start();
    let base = pair.both(engine);
    let with = |process: u32, listener: &str| {
        let file =
            base.clone().add("process", format!("maxconn = {process}")).listen("m", "127.0.0.1:0", "p");
        file.add("listener.l", listener)
    };
    let run = Run::start(&with(50, "maxconn = 1"));
    let first = run.session();
    let others: Vec<Peer> = (0..6).map(|_| run.session_at(run.gate.address_of("m"))).collect();
    let mut waiting = knock(&run);
    assert!(waiting.hears_nothing_for(Duration::from_millis(300)), "served over the limit");
    run.reload(&with(3, "maxconn = 1"));
    drop(first);
    waiting.receive(1);
    assert!(others.into_iter().map(|mut client| goes_on(&mut client)).count() == 6);
}

pub(crate) fn listener_maxconn_falls_and_rises(engine: &str) {
    let pair = Pair::start();
    let file = pair.both(engine);
    let run = Run::start(&file);
    let mut sessions = run.sessions(3);
    let said = run.reload(&file.clone().add("listener.l", "maxconn = 2"));
    assert!(said.contains("listener l: maxconn off -> 2"), "{said}");
    let mut waiting = knock(&run);
    assert!(waiting.hears_nothing_for(Duration::from_millis(500)), "served over the limit");
    run.reload(&file.clone().add("listener.l", "maxconn = 4"));
    waiting.receive(1);
    sessions.iter_mut().for_each(goes_on);
    run.reload(&file.add("listener.l", "maxconn = 1\nat_maxconn = \"reject\""));
    let address = run.gate.resets_a_client();
    assert_eq!(run.cause(address), "maxconn");
}

pub(crate) fn log_level_changes(engine: &str) {
    let pair = Pair::start();
    let file = pair.both(engine);
    let run = Run::start(&file);
    let said = run.reload(&file.clone().set("log", "level = \"error\""));
    assert!(said.contains("log.level: info -> error"), "{said}");
    run.session();
    let lines = run.gate.log_lines().len();
    let with = file.clone().set("log", "level = \"error\"");
    run.reload(&with.add("listener.l", "maxconn = 9"));
    assert_eq!(run.gate.log_lines().len(), lines, "{:#?}", run.gate.log_lines());
    // What is set by hand holds over reloads until the file says another level.
    let said = run.ctl(&["log-level", "warn"]).well();
    assert!(said.contains("log level error -> warn"), "{said}");
    run.reload(&file.clone().set("log", "level = \"error\""));
    assert!(run.ctl(&["log-level", "warn"]).well().contains("is warn already"));
    run.reload(&file);
    assert!(run.ctl(&["log-level", "info"]).well().contains("is info already"));
}

pub(crate) fn retries_and_connect_change(engine: &str) {
    let pair = Pair::start();
    let refusing = crate::support::servers::Refusing::new();
    let members = [crate::control::Member::new("no", refusing.address()), pair.b()];
    let file = pair.both(engine).pool("p", &members);
    let run = Run::start(&file.clone().set("defaults.retry", "tries = 1"));
    let address = run.gate.resets_a_client();
    assert_eq!(run.cause(address), "connect_refused");
    run.session();
    run.reload(&file.set("defaults.retry", "tries = 2"));
    let sessions = run.sessions(4);
    assert!(sessions.iter().all(|client| run.server_of(client) == "b"));
}

/// Off, then at their ends, then every second while they go on.
pub(crate) fn paths_of_connections_that_go_on_are_sampled(engine: &str) {
    let pair = Pair::start();
    let file = pair.both(engine).set("metrics", "tcp_info = \"off\"");
    let run = Run::start(&file);
    let counts = || {
        let status = run.status();
        let (client, servers) = (&status.listeners[0].paths, &status.pools[0].servers);
        let of_servers =
            |value: fn(&Paths) -> u64| servers.iter().map(|server| value(&server.paths)).sum::<u64>();
        [
            [client.rtt_seconds.count, of_servers(|paths| paths.rtt_seconds.count)],
            [client.segments, of_servers(|paths| paths.segments)],
        ]
    };
    drop(run.session());
    run.wait_for("no connection", |status| status.process.connections == 0);
    assert_eq!(counts(), [[0; 2]; 2]);
    run.reload(&file.clone().set("metrics", "tcp_info = \"close\""));
    let mut client = run.session();
    goes_on(&mut client);
    assert_eq!(counts(), [[0; 2]; 2], "it has not ended");
    drop(client);
    run.wait_for("one more connection", |status| status.process.connections == 0);
    let [rtts, segments] = counts();
    assert_eq!(rtts, [1, 1]);
    assert!(segments.iter().all(|count| (1..10).contains(count)), "{segments:?}");
    let said = run.reload(&file.set("metrics", "tcp_info = \"sample\"\ntcp_info_sample_every = \"1s\""));
    assert!(said.contains("metrics.tcp_info: close -> sample"), "{said}");
    let mut client = run.session();
    for _ in 0..20 {
        goes_on(&mut client);
    }
    run.wait_for("three samples", |status| status.listeners[0].paths.rtt_seconds.count >= 4);
    let [rtts, sampled] = counts();
    assert_eq!(rtts[0], rtts[1]);
    // What was sampled is not counted again.
    let more = [0, 1].map(|side| sampled[side] - segments[side]);
    assert!(more.iter().all(|count| (20..40).contains(count)), "{more:?}");
}
