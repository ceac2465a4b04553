//! Three servers under constant load, checked every 200 ms: killed, brought back, all of them down.

use std::net::SocketAddr;
use std::thread;
use std::time::{Duration, Instant};

use crate::control::{File, Member, Run, goes_on};
use crate::echo::{Echo, Load};
use crate::support::PATIENCE;
use crate::support::peer::{End, Peer};
use tidegate::control::model::{Explanation, Health, Outcome};

/// How often servers are checked.
pub(crate) const CHECK: &str = "interval = \"200ms\"\ntimeout = \"500ms\"\nfall = 2\nrise = 2";

pub(crate) fn members(servers: &[&Echo]) -> Vec<Member> {
    servers
        .iter()
        .enumerate()
        .map(|(place, echo)| Member::new(&format!("s{place}"), echo.address()))
        .collect()
}

/// Waits until that server is so.
pub(crate) fn wait_until(run: &Run, server: &str, health: Health) {
    run.wait_for(&format!("{server} {}", health.name()), |status| {
        let mut servers = status.pools.iter().filter(|pool| pool.name == "p").flat_map(|pool| &pool.servers);
        servers.any(|one| one.name == server && one.health == health)
    });
}

fn lab(engine: &str) {
    let mut servers = [Echo::start(), Echo::start(), Echo::start()];
    let file = File::serving(engine, &members(&servers.each_ref())).set("pool.p.check", CHECK);
    let run = Run::start(&file);
    let at = run.gate.address_of("l");
    let sessions = run.sessions(9);
    let (lost, mut kept): (Vec<Peer>, Vec<Peer>) =
        sessions.into_iter().partition(|client| run.server_of(client) == "s1");
    let load = Load::start(at, 16);
    thread::sleep(Duration::from_millis(500));

    let killed = Instant::now();
    servers[1].kill();
    let dead = Instant::now();
    wait_until(&run, "s1", Health::Down);
    println!("{engine}: down after {:?}", killed.elapsed());
    thread::sleep(Duration::from_millis(500));
    let failures = load.end();
    let held = failures.iter().filter(|failure| failure.began <= dead).count();
    println!("{engine}: {held} sessions were held by the server that was killed; {} errors", failures.len());
    assert!(failures.iter().all(|failure| failure.began <= dead), "{failures:?}");
    assert!(held <= 16);
    assert_eq!(lost.len(), 3);
    for mut client in lost {
        assert_eq!(client.receive_to_end(), End::Fin);
    }
    kept.iter_mut().for_each(goes_on);

    let load = Load::start(at, 16);
    let served = |servers: &[Echo; 3]| servers.each_ref().map(Echo::served);
    servers[1].revive();
    let revived = Instant::now();
    loop {
        let before = served(&servers);
        thread::sleep(Duration::from_millis(200));
        let now = served(&servers);
        let total: u64 = now.iter().zip(before).map(|(now, before)| now - before).sum();
        if total > 0 && (now[1] - before[1]) * 100 / total >= 28 {
            break;
        }
        assert!(revived.elapsed() < PATIENCE, "{before:?} {now:?}");
    }
    println!("{engine}: it has its share {:?} after it was back", revived.elapsed());
    let failures = load.end();
    assert!(failures.is_empty(), "{failures:?}");
    kept.iter_mut().for_each(goes_on);
    drop(kept);

    all_down(&run, at, &mut servers);
}

/// Clients get what they get where no server is.
fn all_down(run: &Run, at: SocketAddr, servers: &mut [Echo; 3]) {
    servers.iter_mut().for_each(Echo::kill);
    for server in ["s0", "s1", "s2"] {
        wait_until(run, server, Health::Down);
    }
    assert!(run.gate.logs(|line| line.contains("pool p has no server left that takes connections")));
    let told = run.command("explain", &["--source", "127.0.0.1"]).well();
    let down = |line: &&str| line.contains("p/s") && line.contains("down: connection refused");
    assert!(told.contains("it is reset: no server takes connections"), "{told}");
    assert_eq!(told.lines().filter(down).count(), 3, "{told}");
    let before = run.server("s0").attempts;
    let client = run.gate.resets_a_client();
    assert_eq!(run.gate.access(client).cause, "no_server");
    assert_eq!(run.server("s0").attempts, before, "nobody is tried");
    servers[0].revive();
    wait_until(run, "s0", Health::Up);
    crate::echo::session(at).expect("one is back");
    let told: Explanation =
        serde_json::from_str(&run.command("explain", &["--source", "127.0.0.1", "--json"]).well())
            .expect("JSON");
    assert_eq!((told.outcome, told.server.as_deref()), (Outcome::Server, Some("s0")));
}

#[test]
fn three_servers_under_load_mio() {
    lab("mio");
}

#[test]
fn three_servers_under_load_io_uring() {
    lab("io_uring");
}

#[test]
fn three_servers_under_load_threads() {
    lab("threads");
}

/// One that is down when the process begins gets nobody, not even the first client.
#[test]
fn the_first_client_waits_for_the_first_checks() {
    let servers = [Echo::start(), Echo::start()];
    let mut dead = Echo::start();
    dead.kill();
    let all = members(&[&servers[0], &dead, &servers[1]]);
    let run = Run::start(&File::serving("mio", &all).set("pool.p.check", CHECK));
    assert_eq!(run.server("s1").health, Health::Down);
    let at = run.gate.address_of("l");
    (0..30).for_each(|_| crate::echo::session(at).expect("the others serve"));
    assert_eq!(run.server("s1").attempts.values().sum::<u64>(), 0);
    let check = run.server("s1").check.expect("it is checked");
    assert_eq!((check.reason.as_str(), check.last_result.as_deref()), ("connection refused", Some("failed")));
    assert!(run.gate.logs(|line| line.contains("server p/s1 is down: connection refused")));
}

/// A reload keeps what is known and the times of checks; a server that is added is used after its first check.
#[test]
fn a_reload_keeps_health_and_checks() {
    let mut servers = [Echo::start(), Echo::start(), Echo::start()];
    servers[1].kill();
    let check = "interval = \"1s\"\ntimeout = \"500ms\"\njitter = 0.0";
    let all = members(&servers.each_ref());
    let file = File::serving("mio", &all[..2]).set("pool.p.check", check);
    let run = Run::start(&file);
    assert_eq!(run.server("s1").health, Health::Down);
    let checks = |name: &str| run.server(name).check.expect("it is checked").results.values().sum::<u64>();
    let before = checks("s0");
    let began = Instant::now();
    for number in 0..20 {
        let file = file.clone().pool("p", &all).add("pool.p", format!("close_rate = \"{}/s\"", 100 + number));
        run.reload(&file);
        assert_eq!(run.server("s1").health, Health::Down, "reload {number}");
    }
    wait_until(&run, "s2", Health::Up);
    let more = checks("s0") - before;
    let seconds = began.elapsed().as_secs();
    assert!(more <= seconds + 1, "{more} checks in {:?}: its interval began anew", began.elapsed());
    // Other settings are another check, of a server that is known.
    run.reload(&file.pool("p", &all).set("pool.p.check", format!("{check}\nfall = 7")));
    assert_eq!((run.server("s0").health, run.server("s1").health), (Health::Up, Health::Down));
    servers[1].revive();
    wait_until(&run, "s1", Health::Up);
}

/// A server in maintenance is not asked.
#[test]
fn maintenance_stops_checks() {
    let server = Echo::start();
    let run = Run::start(&File::serving("mio", &members(&[&server])).set("pool.p.check", CHECK));
    run.ctl(&["maint", "p/s0"]).well();
    assert!(run.server("s0").check.is_none());
    run.ctl(&["ready", "p/s0"]).well();
    wait_until(&run, "s0", Health::Up);
}

/// One pool takes the state of a server of another.
#[test]
fn track_follows() {
    let mut servers = [Echo::start(), Echo::start()];
    let file = File::serving("mio", &members(&[&servers[0]]))
        .set("pool.p.check", "track = \"q/s0\"")
        .pool("q", &members(&[&servers[1]]))
        .set("pool.q.check", CHECK);
    let run = Run::start(&file);
    assert_eq!(run.server("s0").health, Health::Up);
    let tells = |what: &str| assert!(run.gate.logs(|line| line.contains(what)), "not told: {what}");
    servers[1].kill();
    wait_until(&run, "s0", Health::Down);
    tells("server p/s0 is down: as q/s0, which it tracks: connection refused");
    servers[1].revive();
    wait_until(&run, "s0", Health::Up);
    tells("server p/s0 is up: as q/s0, which it tracks: connected");
    run.ctl(&["maint", "q/s0"]).well();
    wait_until(&run, "s0", Health::Down);
    tells("server p/s0 is down: as q/s0, which it tracks: it is in maintenance");
}

/// Checks come from the address that connections come from.
#[test]
fn checks_use_the_source_of_the_pool() {
    let (from, seen) = std::sync::mpsc::channel();
    let address = crate::checks::scripted(move |stream| {
        let _ = from.send(stream.peer_addr().unwrap().ip());
    });
    let file = File::serving("mio", &[Member::new("s0", address)]).set("pool.p.check", CHECK);
    let run = Run::start(&file.add("pool.p", "source = [\"127.0.0.77\"]"));
    assert_eq!(seen.recv_timeout(PATIENCE).unwrap().to_string(), "127.0.0.77");
    assert_eq!(run.server("s0").health, Health::Up);
}

/// What a client meets while nobody serves, and that it is served soon after a server is back.
fn nobody_serves(engine: &str, value: &str, refused: bool) {
    let mut servers = [Echo::start(), Echo::start(), Echo::start()];
    let file = File::serving(engine, &members(&servers.each_ref()))
        .add("process", "workers = 2")
        .add("listener.l", format!("when_no_upstream = \"{value}\""))
        .set("pool.p.check", CHECK);
    let file = file.clone().set("process", file.table("process").replace("workers = 1\n", ""));
    let run = Run::start(&file);
    let at = run.gate.address_of("l");
    let mut kept = run.sessions(3);
    for round in 0..2 {
        servers.iter_mut().for_each(Echo::kill);
        for server in ["s0", "s1", "s2"] {
            wait_until(&run, server, Health::Down);
        }
        run.wait_for("the port", |status| status.listeners[0].shut == refused);
        assert_eq!(run.get("/readyz").0, if refused { 503 } else { 200 });
        for _ in 0..4 {
            let connected = std::net::TcpStream::connect_timeout(&at, PATIENCE);
            if refused {
                assert_eq!(connected.map(|_| ()).unwrap_err().kind(), std::io::ErrorKind::ConnectionRefused);
            } else {
                let end = connected.map(|stream| Peer::client(stream).receive_to_end());
                let is_right =
                    matches!((value, end), ("close", Ok(End::Fin)) | ("rst", Ok(End::Reset) | Err(_)));
                assert!(is_right, "{value}");
            }
        }
        servers[round].revive();
        let revived = Instant::now();
        while crate::echo::session(at).is_err() {
            assert!(revived.elapsed() < PATIENCE, "{value}");
            thread::sleep(Duration::from_millis(10));
        }
        println!("{engine}, {value}: served {:?} after a server was back", revived.elapsed());
        assert!(!run.listener("l").shut);
        // Every worker accepts again.
        (0..32).for_each(|_| crate::echo::session(at).expect("one is back"));
    }
    // Who was there when the servers died was told so by them.
    kept.iter_mut().for_each(|client| assert_eq!(client.receive_to_end(), End::Fin));
}

#[test]
fn while_nobody_serves_clients_are_reset() {
    nobody_serves("mio", "rst", false);
}

#[test]
fn while_nobody_serves_clients_are_closed() {
    nobody_serves("mio", "close", false);
}

#[test]
fn while_nobody_serves_the_port_refuses_mio() {
    nobody_serves("mio", "stop_listening", true);
}

#[test]
fn while_nobody_serves_the_port_refuses_io_uring() {
    nobody_serves("io_uring", "stop_listening", true);
}

#[test]
fn while_nobody_serves_the_port_refuses_threads() {
    nobody_serves("threads", "stop_listening", true);
}

/// An operator takes the only server out and back; a reload comes in between; another process takes the port.
#[test]
fn a_port_that_is_shut_outlives_reloads_and_is_waited_for() {
    let server = Echo::start();
    let file = File::serving("mio", &members(&[&server]))
        .add("listener.l", "when_no_upstream = \"stop_listening\"")
        .listen("other", "127.0.0.1:0", "p");
    let run = Run::start(&file);
    let at = run.gate.address_of("l");
    run.ctl(&["maint", "p/s0"]).well();
    assert!(run.listener("l").shut && !run.listener("other").shut);
    assert_eq!(
        (run.listener("l").reason.as_str(), run.listener("other").reason.as_str()),
        ("nobody serves", "")
    );
    let taken = std::net::TcpListener::bind(at).expect("it is free now");
    run.ctl(&["ready", "p/s0"]).well();
    assert!(run.gate.logs(|line| line.contains("it is tried every 1s")));
    // What else changes meanwhile tries it no sooner, and is not refused.
    for rate in 1..10 {
        run.reload(&file.clone().add("pool.p", format!("close_rate = \"{rate}/s\"")));
    }
    assert!(run.listener("l").shut);
    let mine = format!("{at}: in use by ");
    let reason = run.listener("l").reason;
    let is_named = reason.starts_with(&mine) && reason.ends_with(&format!("(pid {})", std::process::id()));
    assert!(is_named, "{reason}");
    let said = run.ctl(&["status"]).well();
    assert!(said.contains(&format!("not listening: {reason}")), "{said}");
    let complaints = run.gate.log_lines().iter().filter(|line| line.contains("cannot listen on")).count();
    assert_eq!(complaints, 1);
    drop(taken);
    run.wait_for("the port", |status| !status.listeners[0].shut);
    crate::echo::session(at).expect("it listens again");
    run.ctl(&["maint", "p/s0"]).well();
    run.reload(&file.clone().add("pool.p", "close_rate = \"7/s\""));
    assert_eq!(run.listener("l").reason, "nobody serves", "the reload has not changed that");
    let bound = |line: &String| line.contains("listener l: listening on");
    assert_eq!(run.gate.log_lines().iter().filter(|line| bound(line)).count(), 2, "nor for a moment");
    run.reload(&file.set("listener.l", "bind = [\"127.0.0.1:0\"]\npool = \"p\""));
    assert!(!run.listener("l").shut);
}
