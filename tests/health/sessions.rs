//! What becomes of sessions when their server goes down, and how it gets new ones when it is back.

use std::thread;
use std::time::{Duration, Instant};

use crate::control::{File, Member, Run, goes_on};
use crate::echo::{Echo, session};
use crate::fleet::{CHECK, members, wait_until};
use crate::support::PATIENCE;
use crate::support::peer::{End, Peer};
use crate::support::servers::Server;
use jiff::Timestamp;
use tidegate::control::model::{Health, Serving};

/// Sessions go to one server, and checks to another port of the same address: what is checked can die alone.
fn two_ports(run_down: &str) -> (Server, Echo, File) {
    let server = Server::echo();
    let mut checked = crate::control::place();
    checked.set_ip(server.address().ip());
    checked.set_port(probe_port());
    let check = Echo::start_at(checked);
    let file = File::serving("mio", &[Member::new("s0", server.address())])
        .add("pool.p", run_down)
        .set("pool.p.check", format!("{CHECK}\nport = {}", check.address().port()));
    (server, check, file)
}

/// A port of 127.0.0.1 that was free a moment ago, below those that clients get.
fn probe_port() -> u16 {
    let first = 10_000 + u16::try_from(std::process::id() % 1_000).unwrap() * 5;
    let is_free = |port: &u16| std::net::TcpListener::bind(("127.0.0.1", *port)).is_ok();
    (first..).find(is_free).expect("a port is free")
}

#[test]
fn on_down_close_resets_sessions_at_the_rate() {
    let (_server, mut check, file) = two_ports("on_down = \"close\"\nclose_rate = \"20/s\"");
    let run = Run::start(&file);
    let mut sessions = run.sessions(20);
    check.kill();
    for client in &mut sessions {
        assert_eq!(client.receive_to_end(), End::Reset);
    }
    let mut ends = sessions.into_iter().map(|client| {
        let line = run.gate.access(client.address());
        assert_eq!((line.cause.as_str(), line.hap_ts.as_str()), ("server_down", "DD"));
        time(&line.ts)
    });
    let mut ends: Vec<Timestamp> = ends.by_ref().collect();
    ends.sort_unstable();
    // By the program's own clock, however late this test is: none comes before its turn, which a busy machine may delay.
    let log = run.gate.log_lines();
    let begun = log.iter().find(|line| line.contains("20 connections are closed, 20 a second")).unwrap();
    let begun = time(begun.split(['=', ' ']).nth(1).unwrap());
    for (turn, end) in (0..).zip(&ends) {
        let after = end.as_millisecond() - begun.as_millisecond();
        assert!(
            after >= turn * 50 - 1 && after < 5_000,
            "number {turn} after {after} ms: {ends:?} from {begun}"
        );
    }
}

/// What the program says in its log and its access log.
fn time(ts: &str) -> Timestamp {
    ts.parse().unwrap_or_else(|error| panic!("{ts:?}: {error}"))
}

#[test]
fn on_down_keep_leaves_sessions_alone() {
    let (_server, mut check, file) = two_ports("on_down = \"keep\"");
    let run = Run::start(&file);
    let mut sessions = run.sessions(5);
    check.kill();
    wait_until(&run, "s0", Health::Down);
    thread::sleep(Duration::from_millis(300));
    sessions.iter_mut().for_each(goes_on);
    for client in sessions {
        client.leave();
    }
}

/// Who is not told yet when the server comes back stays.
#[test]
fn a_server_that_comes_back_keeps_who_is_left() {
    let (_server, mut check, file) = two_ports("on_down = \"close\"\nclose_rate = \"2/s\"");
    let run = Run::start(&file);
    let sessions = run.sessions(20);
    check.kill();
    wait_until(&run, "s0", Health::Down);
    check.revive();
    wait_until(&run, "s0", Health::Up);
    thread::sleep(Duration::from_secs(1));
    let left = run.connections().len();
    assert!((10..20).contains(&left), "{left} of 20 are left");
    drop(sessions);
}

/// The shares of a server in each part of its slow start.
fn shares(servers: &[&Echo], at: std::net::SocketAddr, spans: usize, span: Duration) -> Vec<f64> {
    let served = || servers.iter().map(|server| server.served()).collect::<Vec<_>>();
    let share = |_| {
        let (before, began) = (served(), Instant::now());
        while began.elapsed() < span {
            session(at).expect("a server takes it");
        }
        let more: Vec<u64> = served().iter().zip(before).map(|(now, before)| now - before).collect();
        more[0] as f64 / more.iter().sum::<u64>() as f64
    };
    (0..spans).map(share).collect()
}

#[test]
fn slow_start_after_down_and_on_add_but_not_at_boot() {
    let mut servers = [Echo::start(), Echo::start()];
    let file = File::serving("mio", &members(&servers.each_ref()))
        .add("pool.p", "slow_start = \"4s\"")
        .set("pool.p.check", CHECK);
    let run = Run::start(&file);
    let at = run.gate.address_of("l");
    assert_eq!(run.server("s0").slow_start_percent, None);
    let [first, second] = servers.each_ref();
    let at_boot = shares(&[first, second], at, 1, Duration::from_millis(500))[0];
    assert!((0.4..0.6).contains(&at_boot), "{at_boot}");

    servers[0].kill();
    wait_until(&run, "s0", Health::Down);
    servers[0].revive();
    wait_until(&run, "s0", Health::Up);
    assert!(run.server("s0").slow_start_percent.is_some());
    let [first, second] = servers.each_ref();
    let rising = shares(&[first, second], at, 4, Duration::from_secs(1));
    println!("shares in each second: {rising:.2?}");
    // 1 of 21 at first, 1 of 2 in the end.
    assert!(rising[0] < 0.22 && rising.is_sorted() && rising[3] > 0.40, "{rising:?}");
    run.wait_for("its whole share", |status| status.pools[0].servers[0].slow_start_percent.is_none());

    let added = Echo::start();
    let all = members(&[&servers[0], &servers[1], &added]);
    run.reload(&file.pool("p", &all).add("pool.p", "slow_start = \"4s\""));
    wait_until(&run, "s2", Health::Up);
    assert!(run.server("s2").slow_start_percent.is_some_and(|percent| percent < 50));
}

/// `ctl rebalance` after a server is back.
#[test]
fn rebalance_spreads_sessions_over_a_server_that_is_back() {
    let mut servers = [Echo::start(), Echo::start()];
    servers[0].kill();
    let run = Run::start(&File::serving("mio", &members(&servers.each_ref())).set("pool.p.check", CHECK));
    let mut sessions: Vec<Peer> = run.sessions(20);
    assert_eq!(run.server("s1").connections, 20);
    servers[0].revive();
    wait_until(&run, "s0", Health::Up);
    run.ctl(&["rebalance", "p", "--rate", "1000/s"]).well();
    let began = Instant::now();
    while run.server("s1").connections > 10 {
        assert!(began.elapsed() < PATIENCE, "they do not leave");
        thread::sleep(Duration::from_millis(20));
    }
    assert_eq!(run.server("s1").connections, 10);
    sessions.extend(run.sessions(10));
    drop(sessions);
}

/// Waits until that serves the pool, as the state and the metrics have it.
fn wait_until_served_by(run: &Run, serving: Serving) {
    run.wait_for(&format!("{serving:?}"), |status| status.pools[0].serving == serving);
    let name = Serving::NAMES.iter().find(|(_, one)| *one == serving).unwrap().0;
    let sample = format!("tidegate_pool_serving{{pool=\"p\",serving=\"{name}\"}} 1");
    // A page is made once a second.
    let began = Instant::now();
    while !run.get("/metrics").1.contains(&sample) {
        assert!(began.elapsed() < PATIENCE, "no {sample}");
        thread::sleep(Duration::from_millis(50));
    }
}

#[test]
fn backup_servers_serve_while_no_other_does() {
    let mut servers = [Echo::start(), Echo::start(), Echo::start()];
    let mut all = members(&servers.each_ref());
    all[2] = all[2].with("backup = true");
    let run = Run::start(&File::serving("mio", &all).set("pool.p.check", CHECK));
    let at = run.gate.address_of("l");
    let served = |servers: &[Echo; 3], count: u32| {
        let before = servers.each_ref().map(Echo::served);
        (0..count).for_each(|_| session(at).expect("a server takes it"));
        let now = servers.each_ref().map(Echo::served);
        now.iter().zip(before).map(|(now, before)| now - before).collect::<Vec<_>>()
    };
    assert_eq!(served(&servers, 10), [5, 5, 0]);
    // Before checks have found it out, a client that fails at both is let to the third at once.
    servers[0].kill();
    servers[1].kill();
    assert_eq!(served(&servers, 2), [0, 0, 2]);
    wait_until_served_by(&run, Serving::Backups);
    assert!(run.gate.logs(|line| line.contains("pool p is served by its backup servers")));
    let said = run.ctl(&["status"]).well();
    assert!(said.contains("its backup servers") && said.contains("ready, backup"), "{said}");
    assert_eq!(served(&servers, 10), [0, 0, 10]);
    servers[1].revive();
    wait_until_served_by(&run, Serving::Servers);
    assert!(run.gate.logs(|line| line.contains("pool p is served by its servers again")));
    assert_eq!(served(&servers, 10), [0, 10, 0]);
    servers[1].kill();
    servers[2].kill();
    wait_until_served_by(&run, Serving::Nobody);
    run.gate.resets_a_client();
}

/// A check that is wrong of all servers.
#[test]
fn servers_that_are_down_are_tried_when_it_is_asked_for() {
    let servers = [Echo::start(), Echo::start()];
    let wrong =
        "kind = \"send_expect\"\nsteps = [{ expect = \"never\" }]\ninterval = \"200ms\"\ntimeout = \"100ms\"";
    let file = File::serving("mio", &members(&servers.each_ref()))
        .add("pool.p", "all_down = \"try_all\"")
        .set("pool.p.check", wrong);
    let run = Run::start(&file);
    wait_until_served_by(&run, Serving::Down);
    let at = run.gate.address_of("l");
    let before = servers.each_ref().map(Echo::served);
    (0..4).for_each(|_| session(at).expect("a server takes it"));
    let now = servers.each_ref().map(Echo::served);
    assert!(now.iter().zip(before).all(|(now, before)| now - before >= 2), "{before:?} {now:?}");
    let said = run.reload(&file.clone().set("pool.p", file.table("pool.p").replace("try_all", "reject")));
    assert!(said.contains("all_down changed"), "{said}");
    wait_until_served_by(&run, Serving::Nobody);
    run.gate.resets_a_client();
}
