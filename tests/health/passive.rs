//! Ejection: what connects of clients tell.

use std::thread;
use std::time::Duration;

use crate::control::{File, Member, Run};
use crate::echo::{Echo, session};
use crate::fleet::wait_until;
use crate::support::servers::Refusing;
use tidegate::control::model::Health;

const PASSIVE: &str = "max_fails = 3\neject = \"3s\"\neject_max = \"1m\"";

fn refused(run: &Run, server: &str) -> u64 {
    run.server(server).attempts["refused"]
}

/// Clients notice nothing; the one that refuses is left out after three of them, and longer the next time.
fn ejected_and_back(engine: &str) {
    let (good, bad) = (Echo::start(), Refusing::new());
    let members = [Member::new("good", good.address()), Member::new("bad", bad.address())];
    let run = Run::start(&File::serving(engine, &members).set("pool.p.passive", PASSIVE));
    let at = run.gate.address_of("l");
    let knock = || session(at).expect("another server takes it at once");
    while run.server("bad").health == Health::Up {
        knock();
    }
    let before = refused(&run, "bad");
    assert_eq!(run.server("bad").health, Health::Ejected);
    // Some may have been on their way when it was told.
    assert!((3..=5).contains(&before), "{before}");
    assert_eq!(run.server("bad").redispatched, before);
    assert!(run.server("bad").ejected_for_s.is_some());
    assert!(run.gate.logs(|line| line.contains("server p/bad is ejected for 3s: ")));
    (0..20).for_each(|_| knock());
    assert_eq!(refused(&run, "bad"), before, "it gets nobody");
    wait_until(&run, "bad", Health::Up);
    // One more failure is enough, and the time doubles.
    while run.server("bad").health == Health::Up {
        knock();
    }
    assert!((1..=2).contains(&(refused(&run, "bad") - before)));
    assert!(run.gate.logs(|line| line.contains("server p/bad is ejected for 6s: ")));
}

#[test]
fn ejected_and_back_mio() {
    ejected_and_back("mio");
}

#[test]
fn ejected_and_back_io_uring() {
    ejected_and_back("io_uring");
}

#[test]
fn ejected_and_back_threads() {
    ejected_and_back("threads");
}

/// The last one is better than none.
#[test]
fn the_last_server_is_never_ejected() {
    let bad = Refusing::new();
    let run = Run::start(
        &File::serving("mio", &[Member::new("bad", bad.address())]).set("pool.p.passive", PASSIVE),
    );
    for _ in 0..10 {
        let client = run.gate.resets_a_client();
        assert_eq!(run.gate.access(client).cause, "connect_refused");
    }
    assert_eq!(run.server("bad").health, Health::Up);
}

/// `max_fails = 0` is off; a reload that says so lets everybody in.
#[test]
fn passive_is_switched_off_by_a_reload() {
    let (good, bad) = (Echo::start(), Refusing::new());
    let members = [Member::new("good", good.address()), Member::new("bad", bad.address())];
    let file = File::serving("mio", &members).set("pool.p.passive", "max_fails = 1\neject = \"5m\"");
    let run = Run::start(&file);
    let at = run.gate.address_of("l");
    while run.server("bad").health == Health::Up {
        session(at).expect("it is taken by the other");
    }
    run.reload(&file.set("pool.p.passive", "max_fails = 0"));
    assert_eq!(run.server("bad").health, Health::Up);
    (0..10).for_each(|_| session(at).expect("it is taken by the other"));
    thread::sleep(Duration::from_millis(100));
    assert_eq!(run.server("bad").health, Health::Up);
}

/// Two states: one that is ejected and then found down is down, and checks that find it up again end both.
#[test]
fn down_is_not_ejected() {
    let (good, mut bad) = (Echo::start(), Echo::start());
    let members = [Member::new("good", good.address()), Member::new("bad", bad.address())];
    let check = "interval = \"300ms\"\ntimeout = \"200ms\"\nfall = 4\nrise = 1";
    let passive = "max_fails = 2\neject = \"1m\"\neject_max = \"1m\"";
    let file = File::serving("mio", &members).set("pool.p.check", check).set("pool.p.passive", passive);
    let run = Run::start(&file);
    let at = run.gate.address_of("l");
    bad.kill();
    while run.server("bad").health == Health::Up {
        session(at).expect("it is taken by the other");
    }
    wait_until(&run, "bad", Health::Ejected);
    wait_until(&run, "bad", Health::Down);
    bad.revive();
    wait_until(&run, "bad", Health::Up);
}
