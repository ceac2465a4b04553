//! What checks must not do to servers that are well, whatever operators, reloads and other servers do.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::thread;
use std::time::{Duration, Instant};

use crate::checks::scripted;
use crate::control::{File, Member, Run, goes_on, place};
use crate::echo::{Echo, Load, session};
use crate::fleet::{CHECK, members, wait_until};
use crate::support::PATIENCE;
use tidegate::control::model::{Health, Status};

/// What a server that thinks is asked.
const ASK: &str = "kind = \"send_expect\"\nsteps = [{ send = \"PING\" }, { expect = \"PING\" }]\n\
                   interval = \"200ms\"\ntimeout = \"10s\"\nrise = 2";

/// Echoes at once, but for what checks say, about which it thinks so long.
fn thinks(time: Duration) -> SocketAddr {
    scripted(move |mut stream| {
        let mut buffer = [0; 64];
        while let Ok(count @ 1..) = stream.read(&mut buffer) {
            if &buffer[..count] == b"PING" {
                thread::sleep(time);
            }
            if stream.write_all(&buffer[..count]).is_err() {
                break;
            }
        }
    })
}

/// A pool `name` of servers that think for a tenth of a second.
fn thinking(file: File, name: &str, servers: &[SocketAddr]) -> File {
    let members: Vec<Member> =
        (0..).zip(servers).map(|(at, address)| Member::new(&format!("{name}{at}"), *address)).collect();
    file.pool(name, &members).set(&format!("pool.{name}.check"), ASK)
}

fn none_has_failed(load: Load) {
    let failures = load.end();
    assert!(failures.is_empty(), "{} clients, such as {:?}", failures.len(), failures[0]);
}

fn logged(run: &Run, what: &str) -> usize {
    run.gate.log_lines().iter().filter(|line| line.contains(what)).count()
}

/// It is no sign of a failure, whether an operator or the file says so, and whatever it is before its first check.
#[test]
fn leaving_maintenance_ends_no_session() {
    for initial in ["check_first", "down", "up"] {
        let member = Member::new("s0", thinks(Duration::from_millis(100)));
        let file = File::serving("mio", std::slice::from_ref(&member))
            .add("pool.p", "on_down = \"close\"")
            .set("pool.p.check", format!("{ASK}\ninitial = \"{initial}\""));
        let run = Run::start(&file);
        wait_until(&run, "s0", Health::Up);
        let mut sessions = run.sessions(5);
        run.ctl(&["maint", "p/s0"]).well();
        run.ctl(&["ready", "p/s0"]).well();
        wait_until(&run, "s0", Health::Up);
        sessions.iter_mut().for_each(goes_on);
        let resting = file.clone().pool("p", &[member.with("state = \"maint\"")]);
        run.reload(&resting.add("pool.p", "on_down = \"close\""));
        run.reload(&file);
        wait_until(&run, "s0", Health::Up);
        sessions.iter_mut().for_each(goes_on);
        assert_eq!(logged(&run, "is down"), 0, "{initial}: {:?}", run.gate.log_lines());
    }
}

/// One that has died meanwhile is found out by its first check, and nobody is sent there before.
#[test]
fn who_has_died_in_maintenance_is_found_out() {
    let mut servers = [Echo::start(), Echo::start()];
    let run = Run::start(&File::serving("mio", &members(&servers.each_ref())).set("pool.p.check", CHECK));
    let at = run.gate.address_of("l");
    run.ctl(&["maint", "p/s1"]).well();
    servers[1].kill();
    run.ctl(&["ready", "p/s1"]).well();
    (0..20).for_each(|_| session(at).expect("the other one serves"));
    assert!(run.gate.logs(|line| line.contains("server p/s1 is down: connection refused")));
    assert_eq!(run.server("s1").attempts.values().sum::<u64>(), 0);
    servers[1].revive();
    wait_until(&run, "s1", Health::Up);
}

/// Ten reloads that leave nobody of those that were there: clients go to those before until the others were checked.
#[test]
fn servers_that_replace_all_others_are_checked_first() {
    let servers: Vec<SocketAddr> = (0..6).map(|_| thinks(Duration::from_millis(100))).collect();
    let file = thinking(File::serving("mio", &[]), "p", &servers[..3]);
    let run = Run::start(&file);
    let at = run.gate.address_of("l");
    let load = Load::start(at, 6);
    for number in 0..10 {
        let half = if number % 2 == 0 { &servers[3..] } else { &servers[..3] };
        run.reload(&thinking(file.clone(), "p", half));
        thread::sleep(Duration::from_millis(100));
    }
    // To another pool, and back.
    for _ in 0..2 {
        let other = thinking(file.clone().without("pool.p").without("pool.p.check"), "q", &servers[3..]);
        run.reload(&other.set("listener.l", "bind = [\"127.0.0.1:0\"]\npool = \"q\""));
        thread::sleep(Duration::from_millis(100));
        run.reload(&file);
        thread::sleep(Duration::from_millis(100));
    }
    none_has_failed(load);
    assert_eq!(logged(&run, "no server left"), 0);
}

/// Those of before are checked during a trial, and serve at once when it is taken back.
#[test]
fn a_rollback_waits_for_no_checks() {
    let servers: Vec<SocketAddr> = (0..2).map(|_| thinks(Duration::from_millis(300))).collect();
    let file = thinking(File::serving("mio", &[]), "p", &servers[..1]);
    let run = Run::start(&file);
    let load = Load::start(run.gate.address_of("l"), 4);
    run.write(&thinking(file.clone(), "p", &servers[1..]));
    run.ctl(&["reload", "--confirm", "60s"]).well();
    // No check of the old server has ended since.
    run.ctl(&["rollback"]).well();
    thread::sleep(Duration::from_millis(200));
    none_has_failed(load);
}

/// Nobody waits longer than a check may take, and then goes by what was asked for.
#[test]
fn a_reload_to_servers_that_are_dead_goes_on() {
    let server = Echo::start();
    let silent = TcpListener::bind(place()).expect("the address is free");
    let file = File::serving("mio", &members(&[&server]));
    let check = "kind = \"redis\"\ntimeout = \"500ms\"";
    let run = Run::start(&file);
    session(run.gate.address_of("l")).expect("it serves");
    let dead = [Member::new("dead", silent.local_addr().unwrap())];
    let began = Instant::now();
    run.reload(&file.pool("p", &dead).set("pool.p.check", check));
    assert!((Duration::from_millis(500)..PATIENCE).contains(&began.elapsed()), "{:?}", began.elapsed());
    wait_until(&run, "dead", Health::Down);
}

/// A file that is watched brings a server whose first check takes long: workers are asked as ever meanwhile, and the reload is
/// one.
#[test]
fn a_reload_of_a_watched_file_holds_up_nothing() {
    let server = Echo::start();
    let silent = TcpListener::bind(place()).expect("the address is free");
    let file = File::serving("mio", &members(&[&server])).add("process", "watch = true");
    let run = Run::start(&file);
    let dead = [Member::new("dead", silent.local_addr().unwrap())];
    run.write(&file.pool("p", &dead).set("pool.p.check", "kind = \"redis\"\ntimeout = \"45s\""));
    let waits = "waiting for the first checks of new servers";
    assert!(run.gate.logs(|line| line.contains(waits)), "{:?}", run.gate.log_lines());
    let answers = |status: &Status| status.workers[0].answer_seconds.count;
    let before = answers(&run.status());
    run.wait_for("answers", |status| answers(status) >= before + 4);
    assert_eq!((run.status().config.generation, logged(&run, waits)), (0, 1), "the reload waits still");
}

/// The second reload comes before the first check has ended: one check decides nevertheless.
#[test]
fn another_reload_leaves_the_first_check_the_first() {
    let (old, new) = (thinks(Duration::ZERO), thinks(Duration::from_millis(500)));
    let file = thinking(File::serving("mio", &[]), "p", &[old]);
    let run = Run::start(&file);
    let both = thinking(file, "p", &[old, new]);
    run.reload(&both);
    run.reload(&both.add("pool.p.check", "fast_interval = \"1h\""));
    wait_until(&run, "p1", Health::Up);
}

/// Servers that say nothing hold up no check of others.
#[test]
fn silent_servers_blind_nobody() {
    let silent: Vec<TcpListener> =
        (0..80).map(|_| TcpListener::bind("127.0.0.1:0").expect("a port is free")).collect();
    let number = |(number, one): (usize, &TcpListener)| {
        Member::new(&format!("silent{number}"), one.local_addr().unwrap())
    };
    let silent: Vec<Member> = silent.iter().enumerate().map(number).collect();
    let mut servers = [Echo::start(), Echo::start()];
    let file = File::serving("mio", &members(&servers.each_ref()))
        .set("pool.p.check", CHECK)
        .pool("q", &silent)
        .set("pool.q.check", "kind = \"redis\"\ninitial = \"up\"\ntimeout = \"40s\"\ninterval = \"1s\"");
    let run = Run::start(&file);
    thread::sleep(Duration::from_secs(1));
    servers[0].kill();
    let killed = Instant::now();
    wait_until(&run, "s0", Health::Down);
    println!("found down after {:?} beside 80 silent servers", killed.elapsed());
    servers[0].revive();
    wait_until(&run, "s0", Health::Up);
}

/// A check that cannot be made says so once, and when it can be made again.
#[test]
fn a_check_that_cannot_be_made_is_told_of() {
    let folder = tempfile::tempdir().unwrap();
    let program = folder.path().join("check");
    let check = format!("kind = \"exec\"\nargv = [\"{}\"]", program.display());
    let run = crate::checks::checked(place(), &check);
    run.wait_for("some checks", |status| {
        status.pools[0].servers[0].check.as_ref().is_some_and(|check| check.results["unable"] >= 3)
    });
    let line = run.gate.log_lines().into_iter().find(|line| line.contains("cannot be made"));
    assert!(line.as_ref().is_some_and(|line| line.contains("No such file")), "{line:?}");
    assert_eq!(logged(&run, "the check of server p/s0 cannot be made"), 1);
    crate::checks::script(folder.path(), "check", "#!/bin/sh\nexit 0\n");
    wait_until(&run, "s0", Health::Up);
    assert_eq!(logged(&run, "the check of server p/s0 is made again"), 1);
}
