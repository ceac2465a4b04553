//! What is refused, and that nothing was changed then; who else can ask for a reload; and the control socket itself.

use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::thread;
use std::time::Duration;

use rustix::process::{Pid, Resource, Rlimit, Signal, prlimit};

use crate::control::servers::Pair;
use crate::control::{File, Member, Run, goes_on, place};
use crate::support::PATIENCE;
use crate::support::process::descriptors;

/// The reason why the last reload was refused, if it was.
fn last_error(run: &Run) -> Option<String> {
    let config = run.status().config;
    assert_eq!(config.last_reload_successful, config.last_reload_error.is_none());
    config.last_reload_error
}

/// Descriptors run out in the middle of an engine's start: it is as if nothing had been asked, to the end of the process.
pub(crate) fn engine_that_cannot_start_changes_nothing(engine: &str) {
    let pair = Pair::start();
    let with = |most: u32| {
        let process = crate::control::listeners::process(engine, 2);
        pair.both(engine).set("process", process).add("process", format!("maxconn = {most}"))
    };
    let many = with(300);
    let few = many.clone().set("process", with(2).table("process"));
    let mut run = Run::start(&many);
    let mut sessions = run.sessions(220);
    let pid = run.gate.pid();
    let limit = |most| {
        let limit = Rlimit { current: Some(most), maximum: Some(most) };
        prlimit(Some(Pid::from_raw(pid as i32).unwrap()), Resource::Nofile, limit).unwrap();
    };
    // The client that asks finds what it needs, and so does one worker of the two.
    limit(descriptors(pid) as u64 + 4);
    run.write(&few.clone().add("listener.l", "engine = \"epoll_level\""));
    let said = run.ctl(&["reload"]).refused();
    assert!(said.contains("the engine epoll_level cannot be started"), "{said}");
    sessions.iter_mut().for_each(goes_on);
    let status = run.status();
    assert_eq!((status.process.connections, status.process.maxconn), (220, 300));
    sessions.truncate(1);
    run.wait_for("room", |status| status.process.connections == 1);
    let said = run.reload(&few.add("listener.l", "engine = \"poll\""));
    assert!(said.contains("-> poll"), "{said}");
    let new = run.session();
    goes_on(&mut sessions[0]);
    let address = new.address();
    drop((new, sessions));
    assert_eq!(run.gate.access(address).engine, "poll");
    run.wait_for("no connection", |status| status.process.connections == 0);
    run.gate.signal(Signal::TERM);
    assert!(run.gate.wait_exit(PATIENCE).expect("it ends").success());
}

/// Has `refused` refused with `reason`, and then takes `good`.
fn refuses(run: &Run, refused: &str, reason: &str, good: &File) {
    let before = run.status();
    run.write(&refused);
    let said = run.ctl(&["reload"]).refused();
    assert!(said.contains(reason), "{reason:?}: {said}");
    assert!(last_error(run).is_some_and(|error| error.contains(reason)), "{:?}", last_error(run));
    let after = run.status();
    assert_eq!(before.config.generation, after.config.generation);
    let shape = |status: &tidegate::control::model::Status| {
        let servers = status.pools.iter().flat_map(|pool| pool.servers.iter());
        let listeners = status.listeners.iter().map(|one| (one.name.clone(), one.addresses.clone()));
        (listeners.collect::<Vec<_>>(), servers.map(|one| (one.name.clone(), one.weight)).collect::<Vec<_>>())
    };
    assert_eq!(shape(&before), shape(&after));
    assert!(run.gate.logs(|line| line.contains("not reloaded, nothing was changed")));
    run.reload(good);
    assert_eq!(last_error(run), None);
}

pub(crate) fn refused_reload_changes_nothing(engine: &str) {
    let pair = Pair::start();
    let file = pair.both(engine);
    let run = Run::start(&file);
    let mut session = run.session();
    let holder = TcpListener::bind("127.0.0.1:0").unwrap();
    let (taken, free) = (holder.local_addr().unwrap(), place());
    let weight = |file: File| file.pool("p", &[pair.a().with("weight = 9"), pair.b()]);
    let in_use = weight(file.clone()).listen("m", free, "p").listen("n", taken, "p");
    for (refused, reason) in [
        ("[listener".to_owned(), "error:"),
        (String::new(), "error:"),
        (weight(file.clone()).add("listener.l", "colour = \"red\"").to_string(), "colour"),
        (weight(file.clone()).listen("m", "127.0.0.1:0", "nobody").to_string(), "nobody"),
        (weight(file.clone()).set("process", "workers = 3").to_string(), "process.workers cannot be changed"),
        (weight(file.clone()).set("log.access", "output = \"off\"").to_string(), "[log.access] cannot be"),
        (weight(file.clone()).without("admin").to_string(), "[admin] cannot be changed"),
        (in_use.to_string(), "cannot listen on"),
    ] {
        refuses(&run, &refused, reason, &file);
    }
    // What was bound before the refusal is free again.
    assert!(TcpListener::bind(free).is_ok());
    goes_on(&mut session);
    fs::remove_file(run.gate.file()).unwrap();
    assert!(run.ctl(&["reload"]).refused().contains("cannot read"));
    goes_on(&mut session);
    run.session();
}

/// Of addresses that are not free all are named.
pub(crate) fn all_busy_addresses_are_named(engine: &str) {
    let pair = Pair::start();
    let file = pair.both(engine);
    let run = Run::start(&file);
    let mut busy = Vec::new();
    let mut more = file;
    for number in 0..10 {
        // Bound, and not listening: no holder can be named.
        let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
        let at = place();
        socket.bind(&at.into()).unwrap();
        more = more.listen(&format!("m{number}"), at, "p");
        busy.push((socket, at));
    }
    run.write(&more);
    let said = run.ctl(&["reload"]).refused();
    assert!(busy.iter().all(|(_, at)| said.contains(&format!("cannot listen on {at}"))), "{said}");
}

pub(crate) fn hang_up_reloads(engine: &str) {
    let pair = Pair::start();
    let file = pair.both(engine);
    let run = Run::start(&file);
    let mut session = run.session();
    run.write(&file.clone().pool("p", &[pair.a().with("weight = 7"), pair.b()]));
    run.gate.signal(Signal::HUP);
    run.wait_for("the weight", |status| status.pools[0].servers[0].weight == 7);
    run.write(&"[broken");
    run.gate.signal(Signal::HUP);
    run.wait_for("the refusal", |status| !status.config.last_reload_successful);
    assert_eq!(run.server("a").weight, 7);
    run.write(&file);
    run.gate.signal(Signal::HUP);
    run.wait_for("the reload", |status| status.config.last_reload_successful);
    assert_eq!(run.server("a").weight, 1);
    goes_on(&mut session);
}

/// Its file is replaced, or an included one; half of a file changes nothing, not even one that makes sense.
pub(crate) fn watched_files_are_reloaded(engine: &str) {
    let pair = Pair::start();
    let file = pair.both(engine).add("process", "watch = true");
    let run = Run::start(&file);
    let mut session = run.session();
    let weigh =
        |weight: u16| file.clone().pool("p", &[pair.a().with(&format!("weight = {weight}")), pair.b()]);
    let arrives = |weight| run.wait_for("the weight", |status| status.pools[0].servers[0].weight == weight);
    thread::sleep(Duration::from_millis(1_200));
    run.write(&weigh(5));
    arrives(5);
    let generation = run.status().config.generation;
    assert_eq!(generation, 1);
    // It is written piece by piece: what makes sense of it, without the second server, is never gone by.
    let whole = weigh(6).to_string();
    let part = file.clone().pool("p", &[pair.a().with("weight = 6")]).to_string();
    for _ in 0..5 {
        run.write(&part);
        thread::sleep(Duration::from_millis(300));
        run.write(&format!("{part}#"));
        thread::sleep(Duration::from_millis(300));
    }
    run.write(&whole);
    arrives(6);
    assert_eq!(run.status().config.generation, generation + 1, "half a file was gone by");
    run.write(&&whole[..whole.len() / 2]);
    run.wait_for("the refusal", |status| !status.config.last_reload_successful);
    assert_eq!(run.server("a").weight, 6);
    // Nothing more happens as long as nothing changes, nor for a reload that was asked for.
    run.write(&whole);
    run.wait_for("the reload", |status| status.config.last_reload_successful);
    run.reload(&weigh(7));
    let generation = run.status().config.generation;
    thread::sleep(Duration::from_millis(3_500));
    assert_eq!(run.status().config.generation, generation);
    goes_on(&mut session);
}

pub(crate) fn watched_includes_are_reloaded(engine: &str) {
    let pair = Pair::start();
    let file = File::new(engine).add("process", "watch = true").listen("l", "127.0.0.1:0", "p");
    let folder = file.socket().with_file_name("more");
    fs::create_dir(&folder).unwrap();
    let pools = |members: &[Member]| {
        let pool = File::new(engine).without("process").without("admin").without("log.access");
        let text = pool.pool("p", members).to_string();
        fs::write(folder.join("pools.toml"), text.replace("config_version = 1\n", "")).unwrap();
    };
    pools(&[pair.a()]);
    let include = format!("include = [\"{}/*.toml\"]\n", folder.display());
    let text = file.to_string().replacen('\n', &format!("\n{include}"), 1);
    let run = Run::start_text(&file, &text);
    thread::sleep(Duration::from_millis(1_200));
    pools(&[pair.a(), pair.b()]);
    run.wait_for("the server", |status| status.pools[0].servers.len() == 2);
    fs::write(folder.join("new.toml"), format!("[listener.m]\nbind = [\"{}\"]\npool = \"p\"\n", place()))
        .unwrap();
    run.wait_for("the listener", |status| status.listeners.len() == 2);
    fs::remove_file(folder.join("new.toml")).unwrap();
    run.wait_for("its end", |status| status.listeners.len() == 1);
}

pub(crate) fn names_that_do_not_exist_are_refused(engine: &str) {
    let pair = Pair::start();
    let run = Run::start(&pair.both(engine));
    let mut session = run.session();
    for arguments in [
        &["drain", "p/nobody"][..],
        &["ready", "nowhere/a"],
        &["maint", "p/nobody"],
        &["weight", "p/nobody", "5"],
        &["kill", "--server", "p/nobody"],
        &["kill", "--server", "nobody"],
        &["kill", "--pool", "nowhere"],
        &["kill", "--listener", "nothing"],
        &["kill", "--id", "ffffffff"],
        &["rebalance", "nowhere"],
        &["confirm"],
        &["rollback"],
    ] {
        let said = run.ctl(arguments).refused();
        assert!(said.contains("there is no ") || said.contains("no reload waits"), "{arguments:?}: {said}");
    }
    let said = run.ctl(&["drain", "p/aa"]).refused();
    assert!(said.contains("did you mean \"a\"?"), "{said}");
    goes_on(&mut session);
}

pub(crate) fn stopping_process_refuses_reloads(engine: &str) {
    let pair = Pair::start();
    let file = pair.both(engine);
    let mut run = Run::start(&file);
    assert_eq!(run.get("/readyz").0, 200);
    let session = run.session();
    run.gate.signal(Signal::TERM);
    run.wait_for("the drain", |status| !status.ready);
    assert_eq!(run.get("/readyz").0, 503);
    assert_eq!(run.get("/healthz").0, 200);
    run.write(&file.pool("p", &[pair.a()]));
    let said = run.ctl(&["reload"]).refused();
    assert!(said.contains("the process is stopping"), "{said}");
    run.gate.signal(Signal::HUP);
    assert!(run.gate.logs(|line| line.contains("SIGHUP: not reloaded") && line.contains("is stopping")));
    assert_eq!(run.status().pools[0].servers.len(), 2);
    drop(session);
    assert!(run.gate.wait_exit(PATIENCE).expect("it ends").success());
}

pub(crate) fn control_socket_is_the_owners_and_goes_with_the_process(engine: &str) {
    let pair = Pair::start();
    let file = pair.both(engine);
    let socket = file.socket();
    // One that is left of a process that is gone.
    drop(std::os::unix::net::UnixListener::bind(&socket).unwrap());
    assert!(socket.exists());
    let run = Run::start(&file);
    assert_eq!(fs::metadata(&socket).unwrap().permissions().mode() & 0o777, 0o600);
    assert!(run.status().ready);
    let Run { gate, .. } = run;
    gate.stop();
    assert!(!socket.exists(), "its file was left behind");
    let run = Run::start(&file);
    assert!(run.status().ready);
}
