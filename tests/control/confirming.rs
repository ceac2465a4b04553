//! Reloads that are taken back, and what is set by hand beside the file.

use std::net::TcpStream;
use std::thread;
use std::time::{Duration, Instant};

use crate::control::knocking::Knocking;
use crate::control::servers::Pair;
use tidegate::config::ServerState;

use crate::control::{Member, Run, goes_on};
use crate::support::PATIENCE;
use crate::support::servers::Refusing;

fn heavier(pair: &Pair, file: &crate::control::File) -> crate::control::File {
    file.clone().pool("p", &[pair.a().with("weight = 8"), pair.b()])
}

pub(crate) fn reload_is_taken_back_unless_it_is_confirmed(engine: &str) {
    let pair = Pair::start();
    let file = pair.both(engine);
    let run = Run::start(&file);
    let mut session = run.session();
    run.write(&heavier(&pair, &file));
    let began = Instant::now();
    let said = run.ctl(&["reload", "--confirm", "4s"]).well();
    assert!(said.contains("weight 1 -> 8") && said.contains("taken back in 4s unless"), "{said}");
    assert!(run.status().config.confirm_within_s.is_some_and(|left| left <= 4));
    assert_eq!(run.server("a").weight, 8);
    let said = run.ctl(&["reload"]).refused();
    assert!(said.contains("waits to be confirmed"), "{said}");
    run.wait_for("the old weight", |status| status.pools[0].servers[0].weight == 1);
    let took = began.elapsed();
    assert!(took >= Duration::from_secs(4), "{took:?}");
    let config = run.status().config;
    assert_eq!((config.last_reload_successful, config.confirm_within_s), (false, None));
    assert!(config.last_reload_error.is_some_and(|error| error.contains("nobody has confirmed it")));
    goes_on(&mut session);
}

pub(crate) fn confirmed_reload_stays(engine: &str) {
    let pair = Pair::start();
    let file = pair.both(engine);
    let run = Run::start(&file);
    run.write(&heavier(&pair, &file));
    run.ctl(&["reload", "--confirm", "4s"]).well();
    let said = run.ctl(&["confirm"]).well();
    assert!(said.contains("the reload is confirmed"), "{said}");
    thread::sleep(Duration::from_millis(5_500));
    assert_eq!(run.server("a").weight, 8);
    assert!(run.status().config.last_reload_successful);
    run.ctl(&["rollback"]).refused();
}

/// With what was set by hand before it.
pub(crate) fn rollback_takes_it_back_at_once(engine: &str) {
    let pair = Pair::start();
    let file = pair.both(engine);
    let run = Run::start(&file);
    run.ctl(&["weight", "p/a", "3"]).well();
    run.ctl(&["drain", "p/b"]).well();
    let at = crate::control::place();
    run.write(&file.clone().pool("p", &[pair.a().with("weight = 8")]).listen("m", at, "p"));
    run.ctl(&["reload", "--confirm", "60s"]).well();
    assert_eq!((run.server("a").weight, run.status().listeners.len()), (8, 2));
    let mut session = run.session_at(at);
    let said = run.ctl(&["rollback"]).well();
    assert!(said.contains("listener m removed") && said.contains("server p/b added"), "{said}");
    let [a, b] = [run.server("a"), run.server("b")];
    assert_eq!((a.weight, a.file_weight), (3, Some(1)));
    assert_eq!(b.state.name(), "drain");
    assert!(TcpStream::connect(at).is_err());
    goes_on(&mut session);
    assert!(run.status().config.last_reload_error.is_some_and(|error| error.contains("as asked")));
    // The file is still the other one: the next reload goes by it.
    let said = run.ctl(&["reload"]).well();
    assert!(said.contains("listener m added"), "{said}");
}

/// It is the operator's last word, whatever becomes of the reload.
pub(crate) fn what_is_set_during_a_trial_outlives_its_rollback(engine: &str) {
    let pair = Pair::start();
    let file = pair.both(engine);
    let run = Run::start(&file);
    run.ctl(&["drain", "p/a"]).well();
    run.ctl(&["weight", "p/b", "3"]).well();
    run.write(&file.clone().pool("p", &[pair.a(), pair.b().with("weight = 8")]));
    run.ctl(&["reload", "--confirm", "60s"]).well();
    run.ctl(&["ready", "p/a"]).well();
    run.ctl(&["weight", "p/a", "4"]).well();
    // What the file on trial says: an override only of the one before.
    run.ctl(&["weight", "p/b", "8"]).well();
    assert_eq!(run.server("b").file_weight, None);
    run.ctl(&["rollback"]).well();
    let [a, b] = [run.server("a"), run.server("b")];
    assert_eq!((a.state.name(), a.weight, a.file_weight), ("ready", 4, Some(1)));
    assert_eq!((b.state.name(), b.weight, b.file_weight), ("ready", 8, Some(1)));
}

/// Not for a moment is a server taken for ready that is drained before and after.
pub(crate) fn rollback_brings_no_client_to_a_drained_server(engine: &str) {
    let pair = Pair::start();
    let file = pair.both(engine);
    let run = Run::start(&file);
    run.ctl(&["drain", "p/a"]).well();
    let knocking = Knocking::start(run.gate.address_of("l"), 4, Duration::ZERO);
    run.write(&file.clone().pool("p", &[pair.a().with("state = \"maint\""), pair.b()]));
    for _ in 0..20 {
        knocking.wait_for(20);
        run.ctl(&["reload", "--confirm", "60s"]).well();
        run.ctl(&["rollback"]).well();
    }
    knocking.all_were_served();
    let attempts: u64 = run.server("a").attempts.values().sum();
    assert_eq!((run.server("a").state.name(), attempts), ("drain", 0));
}

pub(crate) fn connect_errors_take_it_back_before_its_time(engine: &str) {
    let pair = Pair::start();
    let file = pair.both(engine);
    let run = Run::start(&file);
    let mut session = run.session();
    let refusing = Refusing::new();
    run.write(&file.clone().pool("p", &[pair.a(), pair.b(), Member::new("c", refusing.address())]));
    run.ctl(&["reload", "--confirm", "60s"]).well();
    let began = Instant::now();
    while run.status().config.confirm_within_s.is_some() {
        assert!(began.elapsed() < PATIENCE, "it is not taken back");
        run.session();
    }
    assert_eq!(run.status().pools[0].servers.len(), 2);
    let error = run.status().config.last_reload_error.expect("it was taken back");
    let reasons = ["attempts to connect have failed", "server p/c was ejected since"];
    assert!(reasons.iter().any(|reason| error.contains(reason)), "{error}");
    goes_on(&mut session);
}

/// Over reloads, until the file says something else.
pub(crate) fn what_is_set_by_hand_holds_over_reloads(engine: &str) {
    let pair = Pair::start();
    let file = pair.both(engine);
    let run = Run::start(&file);
    let mut old = run.sessions(2);
    let said = run.ctl(&["drain", "p/a"]).well();
    assert!(said.contains("server p/a ready -> drain") && said.contains("keeps it, unless"), "{said}");
    let said = run.ctl(&["weight", "p/b", "5"]).well();
    assert!(said.contains("weight 1 -> 5"), "{said}");
    old.extend(run.sessions(4));
    assert_eq!([run.server("a").connections, run.server("b").connections], [1, 5]);
    run.reload(&file.clone().add("listener.l", "maxconn = 100"));
    let [a, b] = [run.server("a"), run.server("b")];
    assert_eq!((a.state.name(), a.file_state.map(ServerState::name)), ("drain", Some("ready")));
    assert_eq!((b.weight, b.file_weight), (5, Some(1)));
    // The file says another state of `a`: that one holds, and what it says of `b` is as before.
    run.reload(&file.clone().pool("p", &[pair.a().with("state = \"maint\""), pair.b()]));
    assert_eq!((run.server("a").state.name(), run.server("a").file_state), ("maint", None));
    assert_eq!(run.server("b").weight, 5);
    run.reload(&file.clone().pool("p", &[pair.a(), pair.b().with("weight = 2")]));
    assert_eq!((run.server("b").weight, run.server("b").file_weight), (2, None));
    run.ctl(&["maint", "p/a"]).well();
    run.ctl(&["maint", "p/b"]).well();
    let address = run.gate.resets_a_client();
    assert_eq!(run.cause(address), "no_server");
    let said = run.ctl(&["ready", "p/a"]).well();
    assert!(said.contains("maint -> ready") && said.contains("changes nothing"), "{said}");
    run.session();
    old.iter_mut().for_each(goes_on);
}

/// It says what a reload says then, to the letter, and has changed nothing.
pub(crate) fn difference_is_what_a_reload_does(engine: &str) {
    let pair = Pair::start();
    let file = pair.both(engine);
    let run = Run::start(&file);
    let mut sessions = run.sessions(4);
    let at = crate::control::place();
    let next = file.clone().pool("p", &[pair.b().with("weight = 4")]).listen("m", at, "p");
    let next = next.set("defaults.timeouts", "idle = \"30m\"").set("log", "level = \"debug\"");
    assert_eq!(run.diff(&file).well(), "nothing differs\n");
    let told = run.diff(&next).well();
    for part in [
        "defaults.timeouts.idle: 1h -> 30m",
        "log.level: info -> debug",
        "listener l: 0 of 4 connections affected",
        "listener m added",
        "server p/b: weight 1 -> 4",
        "server p/a removed",
    ] {
        assert!(told.contains(part), "{part:?}: {told}");
    }
    let status = run.status();
    assert_eq!((status.config.generation, status.listeners.len(), status.pools[0].servers.len()), (0, 1, 2));
    assert!(TcpStream::connect(at).is_err());
    sessions.iter_mut().for_each(goes_on);
    assert_eq!(run.reload(&next), told);
    let said = run.diff(&next.clone().set("process", "workers = 7")).refused();
    assert!(said.contains("process.workers"), "{said}");
    let broken = run.diff(&next.add("listener.m", "colour = 1"));
    assert_eq!(broken.code, Some(1), "{broken:?}");
}
