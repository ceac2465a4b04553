//! What becomes of sessions when their server goes down, and how it gets new ones when it is back.

use std::thread;
use std::time::{Duration, Instant};

use crate::control::{File, Member, Run, goes_on};
use crate::echo::{Echo, session};
use crate::fleet::{CHECK, members, wait_until};
use crate::support::PATIENCE;
use crate::support::peer::{End, Peer};
use crate::support::ports::free_address;
use crate::support::servers::Server;
use tidegate::control::model::{Health, Serving};

/// Sessions go to one server, and checks to another port of the same address: what is checked can die alone.
fn two_ports(run_down: &str) -> (Server, Echo, File) {
    let server = Server::echo();
    let check = Echo::start_at(free_address("127.0.0.1"));
    let file = File::serving("mio", &[Member::new("s0", server.address())])
        .add("pool.p", run_down)
        .set("pool.p.check", format!("{CHECK}\nport = {}", check.address().port()));
    (server, check, file)
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
    let clients: Vec<_> = sessions.iter().map(Peer::address).collect();
    run.assert_closed_in_turn(&clients, 20, Duration::ZERO);
    for client in clients {
        let line = run.gate.access(client);
        assert_eq!((line.cause.as_str(), line.hap_ts.as_str()), ("server_down", "DD"));
    }
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
    let (_server, mut check, file) = two_ports("on_down = \"close\"\nclose_rate = \"1/s\"");
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

/// The share of the first server in what is served while `span` goes by, and until that is enough to tell.
fn share(first: &Echo, at: std::net::SocketAddr, span: Duration) -> f64 {
    let (before, began) = (first.served(), Instant::now());
    let mut count = 0;
    while began.elapsed() < span || count < 100 {
        session(at).expect("a server takes it");
        count += 1;
    }
    (first.served() - before) as f64 / f64::from(count)
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
    let at_boot = share(&servers[0], at, Duration::from_millis(500));
    assert!((0.4..0.6).contains(&at_boot), "{at_boot}");

    servers[0].kill();
    wait_until(&run, "s0", Health::Down);
    servers[0].revive();
    wait_until(&run, "s0", Health::Up);
    let percent = || run.server("s0").slow_start_percent;
    let mut begun = percent().expect("it has begun");
    assert!(begun < 90, "it begins with {begun} %");
    // Whenever a busy machine looks: beside a whole server it has that part of a whole one's share.
    loop {
        let is = share(&servers[0], at, Duration::from_millis(500));
        let grown = percent();
        let [least, most] =
            [begun, grown.unwrap_or(100)].map(|part| f64::from(part) / (100.0 + f64::from(part)));
        println!("{begun} % to {grown:?} %: a share of {is:.2}");
        assert!((least - 0.06..most + 0.06).contains(&is), "a share of {is}, and not from {least} to {most}");
        match grown {
            Some(grown) => begun = grown,
            None => break,
        }
    }

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
