//! Listeners that come, go, and change what they are called, where they listen and what carries them.

use std::io::ErrorKind;
use std::net::{SocketAddr, TcpStream};
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::net::UnixStream;
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::Signal;
use socket2::{Domain, Socket, Type};

use crate::control::knocking::Knocking;
use crate::control::servers::Pair;
use crate::control::{File, Member, Run, goes_on, place};
use crate::support::PATIENCE;
use crate::support::peer::{End, Peer, got};
use crate::support::servers::{Server, listen};

fn refuses(at: SocketAddr) -> bool {
    let began = Instant::now();
    while began.elapsed() < PATIENCE {
        let result = TcpStream::connect_timeout(&at, PATIENCE);
        if result.is_err_and(|error| error.kind() == ErrorKind::ConnectionRefused) {
            return true;
        }
        thread::sleep(Duration::from_millis(10));
    }
    false
}

pub(crate) fn listener_is_added(engine: &str) {
    let pair = Pair::start();
    let file = pair.both(engine);
    let run = Run::start(&file);
    let at = place();
    assert!(refuses(at));
    let mut first = run.session();
    let said = run.reload(&file.listen("m", at, "p"));
    assert!(said.contains("listener m added") && said.contains("0 of 1 connections affected"), "{said}");
    let mut second = run.session_at(at);
    goes_on(&mut first);
    goes_on(&mut second);
    assert_eq!(run.listener("m").accepted, 1);
    let address = second.address();
    drop(second);
    assert_eq!(run.gate.access(address).listener, "m");
}

/// Who was in the backlog is served, who has a session goes on, and who comes later is refused.
pub(crate) fn removed_listener_serves_its_backlog(engine: &str) {
    let pair = Pair::start();
    let at = place();
    let file = pair.both(engine).set("process", process(engine, 2)).listen("m", at, "p");
    let run = Run::start(&file);
    let mut old = run.session_at(at);
    run.write(&file.without("listener.m"));
    run.gate.signal(Signal::STOP);
    let mut waiting: Vec<Peer> = (0..12).map(|_| Peer::client(TcpStream::connect(at).unwrap())).collect();
    run.gate.signal(Signal::HUP);
    run.gate.signal(Signal::CONT);
    for client in &mut waiting {
        client.expect_echo();
        client.exchange(1_000, 1_000);
    }
    for client in waiting {
        let address = client.address();
        assert_eq!(client.leave(), got(1_000, End::Fin));
        assert_eq!(run.gate.access(address).listener, "m");
    }
    assert!(refuses(at), "it still takes connections");
    goes_on(&mut old);
    let shown = run.listener("m");
    assert!(shown.removed && shown.connections == 1 && shown.addresses.is_empty(), "{shown:?}");
    drop(old);
    run.wait_for("the end of the listener", |status| status.listeners.len() == 1);
    run.session();
}

pub(crate) fn process(engine: &str, workers: u16) -> String {
    format!("engine = \"{engine}\"\nengine_fallback = false\nworkers = {workers}")
}

/// With another name at the same address its socket stays open: nobody is refused.
pub(crate) fn listener_is_renamed(engine: &str) {
    let pair = Pair::start();
    let at = place();
    let base = pair.both(engine).set("process", process(engine, 2)).without("listener.l");
    let run = Run::start(&base.clone().listen("m", at, "p"));
    let mut old = run.session_at(at);
    let knocking = Knocking::start(at, 3, Duration::from_millis(1));
    for round in 0..10 {
        knocking.wait_for(20);
        let said = run.reload(&base.clone().listen(["n", "m"][round % 2], at, "p"));
        assert!(said.contains(" added: ") && said.contains(" removed: no new connections"), "{said}");
    }
    knocking.wait_for(20);
    knocking.all_were_served();
    goes_on(&mut old);
    run.reload(&base.listen("n", at, "p"));
    let new = run.session_at(at);
    for (client, listener) in [(old, "m"), (new, "n")] {
        let address = client.address();
        drop(client);
        assert_eq!(run.gate.access(address).listener, listener);
    }
}

pub(crate) fn second_address_comes_and_goes(engine: &str) {
    let pair = Pair::start();
    let [first, second] = [place(), place()];
    let both = format!("bind = [\"{first}\", \"{second}\"]\npool = \"p\"");
    let file = pair.both(engine).listen("l", first, "p");
    let run = Run::start(&file);
    let knocking = Knocking::start(first, 1, Duration::from_millis(2));
    let said = run.reload(&file.clone().set("listener.l", both));
    assert!(said.contains(&format!("also on {second}")), "{said}");
    let mut session = run.session_at(second);
    assert_eq!(run.listener("l").addresses, [first.to_string(), second.to_string()]);
    let said = run.reload(&file);
    assert!(said.contains(&format!("no longer on {second}")), "{said}");
    assert!(refuses(second));
    goes_on(&mut session);
    assert_eq!(run.listener("l").addresses, [first.to_string()]);
    knocking.all_were_served();
}

/// From engine to engine while clients connect all the time: none is refused, and old sessions go on where they are.
pub(crate) fn engine_changes_under_new_connections(engine: &str) {
    let pair = Pair::start();
    let at = place();
    let file = pair.both("mio").set("process", process("mio", 2));
    let with =
        |engine: &str| file.clone().listen("l", at, "p").add("listener.l", format!("engine = \"{engine}\""));
    let run = Run::start(&with(engine));
    let knocking = Knocking::start(at, 3, Duration::from_millis(1));
    let mut sessions = vec![(engine, run.session_at(at))];
    for next in ["io_uring", "threads", "mio", "poll", "io_uring", "mio"] {
        if next == sessions.last().expect("one").0 {
            continue;
        }
        knocking.wait_for(20);
        let said = run.reload(&with(next));
        assert!(said.contains(&format!("-> {next} for new connections")), "{said}");
        assert_eq!(run.listener("l").engine, next);
        sessions.push((next, run.session_at(at)));
        sessions.iter_mut().for_each(|(_, client)| goes_on(client));
    }
    knocking.wait_for(20);
    knocking.all_were_served();
    assert_eq!(run.status().workers.len(), 2 * 4, "a set of two for each engine that was in use");
    for (engine, client) in sessions {
        let address = client.address();
        drop(client);
        let access = run.gate.access(address);
        assert_eq!((access.engine.as_str(), access.cause.as_str()), (engine, "done"));
    }
    assert!(run.gate.stop().len() > 20);
}

/// The backlog of a listening socket is set anew, and its clients do not notice.
pub(crate) fn backlog_changes_under_new_connections(engine: &str) {
    let pair = Pair::start();
    let at = place();
    let file = pair.both(engine).listen("l", at, "p");
    let run = Run::start(&file);
    let knocking = Knocking::start(at, 2, Duration::from_millis(1));
    for backlog in [7, 77, 777] {
        knocking.wait_for(10);
        run.reload(&file.clone().add("listener.l", format!("backlog = {backlog}")));
        assert_eq!(backlog_of(at), Some(backlog));
    }
    knocking.all_were_served();
}

/// What ss(8) tells of a listening socket.
fn backlog_of(at: SocketAddr) -> Option<u32> {
    let filter = format!("src {at}");
    let told = std::process::Command::new("ss").args(["-Hltn", &filter]).output().expect("ss can be run");
    let told = String::from_utf8(told.stdout).unwrap();
    told.split_whitespace().nth(2)?.parse().ok()
}

pub(crate) fn unix_listener_comes_and_goes(engine: &str) {
    let pair = Pair::start();
    let file = pair.both(engine);
    let path = file.socket().with_file_name("front.sock");
    let run = Run::start(&file);
    let unix = file.clone().listen("u", format!("unix:{}", path.display()), "p");
    run.reload(&unix);
    let stream = UnixStream::connect(&path).unwrap();
    let mut client = Peer::unix_client(stream);
    client.expect_echo();
    goes_on(&mut client);
    run.reload(&file);
    assert!(!path.exists(), "its file was left behind");
    goes_on(&mut client);
    run.reload(&unix);
    assert!(UnixStream::connect(&path).is_ok());
}

/// Who goes where is counted for each route and each pool, told by `ctl status` and metrics, and goes on over reloads, also over
/// one that brings the first routes and one that takes them away.
pub(crate) fn each_route_is_counted(engine: &str) {
    let [a, b] = [(); 2].map(|()| Server::echo());
    let at = place();
    let file = |leads: &str| {
        let file = File::new(engine).set("listener.l", format!("bind = [\"{at}\"]\n{leads}"));
        file.pool("p", &[Member::new("a", a.address())]).pool("q", &[Member::new("b", b.address())])
    };
    let taken = |run: &Run| {
        let routes = run.listener("l").routes.into_iter();
        routes.map(|route| (route.number, route.pool, route.connections)).collect::<Vec<_>>()
    };
    let (p, q) = (Some("p".to_owned()), Some("q".to_owned()));
    let routes = "{ source = [\"10.0.0.0/8\"], pool = \"p\" }, { source = [\"127.0.0.0/8\"], pool = \"q\" }";
    let plain = file("pool = \"p\"");
    let run = Run::start(&plain);
    let ends_at = |route: Option<u16>, pool: &str| {
        let client = run.session();
        let address = client.address();
        drop(client);
        let access = run.gate.access(address);
        assert_eq!((access.route, access.pool.as_deref()), (route, Some(pool)));
    };
    ends_at(None, "p");
    // The same folder: the control socket stays where it is.
    let with_routes =
        |routes: &str| plain.clone().set("listener.l", format!("bind = [\"{at}\"]\nroute = [{routes}]"));
    run.reload(&with_routes(routes));
    for _ in 0..2 {
        ends_at(Some(2), "q");
    }
    assert_eq!(taken(&run), [(Some(1), p.clone(), 0), (Some(2), q.clone(), 2), (None, None, 0)]);
    let before = "{ source = [\"127.0.0.1/32\"], action = \"close\" }";
    run.reload(&with_routes(&format!("{before}, {routes}")));
    let mut refused = run.gate.connect();
    let address = refused.address();
    assert_eq!(refused.receive_to_end(), End::Fin);
    drop(refused);
    let access = run.gate.access(address);
    assert_eq!((access.cause.as_str(), access.route, access.pool), ("no_route", Some(1), None));
    assert_eq!(taken(&run), [(Some(1), None, 1), (Some(2), p, 0), (Some(3), q, 2), (None, None, 0)]);
    let listener = run.listener("l");
    assert_eq!((listener.closed["done"], listener.closed["no_route"]), (3, 1));
    assert_eq!((listener.closed_by_pool["q"]["done"], listener.closed_by_pool[""]["no_route"]), (2, 1));
    assert_eq!((listener.closed_by_pool["p"]["done"], listener.closed_by_pool[""]["done"]), (1, 0));
    let told = run.ctl(&["status"]).well();
    assert!(told.lines().any(|line| line.contains("source=127.0.0.0/8") && line.ends_with('2')), "{told}");
    let metrics = run.get("/metrics").1;
    for line in [
        "tidegate_route_connections_total{listener=\"l\",route=\"3\",match=\"source=127.0.0.0/8\",pool=\"q\"} 2",
        "tidegate_route_rejected_total{listener=\"l\",route=\"1\",match=\"source=127.0.0.1/32\"} 1",
        "tidegate_connections_closed_total{listener=\"l\",pool=\"q\",cause=\"done\"} 2",
        "tidegate_connections_closed_total{listener=\"l\",pool=\"\",cause=\"no_route\"} 1",
    ] {
        assert!(metrics.lines().any(|it| it == line), "{line}\n{metrics}");
    }
    run.reload(&plain);
    ends_at(None, "p");
    let without = run.listener("l");
    assert_eq!((without.closed["done"], without.closed["no_route"]), (4, 1));
    assert_eq!((without.closed_by_pool["p"]["done"], without.closed_by_pool["q"]["done"]), (2, 2));
    assert_eq!((without.pool.as_str(), without.closed_by_pool[""]["no_route"]), ("p", 1));
}

/// Ports that stay in the range are not touched, and each is an address of its own.
pub(crate) fn range_of_ports_grows_and_shrinks(engine: &str) {
    let pair = Pair::start();
    let first = place();
    let at = |more: u16| SocketAddr::new(first.ip(), first.port() + more);
    let range = |from: u16, to: u16| format!("{}-{}", at(from), at(to).port());
    let file = pair.both(engine).listen("l", range(0, 2), "p");
    let run = Run::start(&file);
    let shown = |run: &Run| run.listener("l").addresses;
    assert_eq!(shown(&run), [at(0), at(1), at(2)].map(|at| at.to_string()));
    let mut sessions = [0, 1, 2].map(|more| run.session_at(at(more)));
    let knocking = Knocking::start(at(1), 2, Duration::from_millis(1));
    knocking.wait_for(10);
    let said = run.reload(&file.listen("l", range(1, 4), "p"));
    assert!(said.contains(&format!("no longer on {}; also on {}, {}", at(0), at(3), at(4))), "{said}");
    assert_eq!(shown(&run), [at(1), at(2), at(3), at(4)].map(|at| at.to_string()));
    assert!(refuses(at(0)));
    knocking.wait_for(10);
    knocking.all_were_served();
    sessions.iter_mut().for_each(goes_on);
    run.session_at(at(4));
}

pub(crate) fn name_without_a_file_comes_and_goes(engine: &str) {
    let pair = Pair::start();
    let file = pair.both(engine);
    let name = file.socket().with_file_name("front").display().to_string();
    let address = std::os::unix::net::SocketAddr::from_abstract_name(&name).unwrap();
    let run = Run::start(&file);
    let with = file.clone().listen("u", format!("unix:@{name}"), "p");
    for _ in 0..2 {
        run.reload(&with);
        assert_eq!(run.listener("u").addresses, [format!("unix:@{name}")]);
        let mut client = Peer::unix_client(UnixStream::connect_addr(&address).unwrap()).echoed();
        run.reload(&file);
        assert!(UnixStream::connect_addr(&address).is_err(), "somebody listens there still");
        goes_on(&mut client);
    }
}

/// A socket that is bound keeps its `v6only`: a reload that would change it is refused, and two do it.
pub(crate) fn v6only_takes_another_socket(engine: &str) {
    if listen("::1").is_err() {
        println!("skipped: this machine has no ::1");
        return;
    }
    let pair = Pair::start();
    let file = pair.both(engine).listen("m", "[::]:0", "p");
    let run = Run::start(&file);
    run.write(&file.clone().add("listener.m", "v6only = false"));
    let said = run.ctl(&["reload"]).refused();
    assert!(said.contains("listener.m.v6only of [::]:0 cannot be changed while the process runs"), "{said}");
    run.reload(&file.clone().without("listener.m"));
    run.reload(&file.add("listener.m", "v6only = false"));
    let at: SocketAddr = run.listener("m").addresses[0].parse().expect("an address");
    run.session_at(SocketAddr::from(([127, 0, 0, 1], at.port())));
}

/// Who finds the queue of a listening socket full is counted by the kernel, and told by metrics.
pub(crate) fn full_queue_is_counted(engine: &str) {
    let pair = Pair::start();
    let at = place();
    let run = Run::start(&pair.both(engine).listen("l", at, "p").add("listener.l", "backlog = 1"));
    let count = |name: &str| -> u64 {
        let metrics = run.get("/metrics").1;
        let line = metrics.lines().find_map(|line| line.strip_prefix(name)).expect(name);
        line.trim().parse().expect("a number")
    };
    let names = ["tidegate_listen_overflows_total", "tidegate_listen_drops_total"];
    let before = names.map(count);
    run.gate.signal(Signal::STOP);
    let clients: Vec<Socket> = (0..10)
        .map(|_| {
            let client = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
            client.set_nonblocking(true).unwrap();
            let _ = client.connect(&at.into());
            client
        })
        .collect();
    run.gate.signal(Signal::CONT);
    // Metrics are given out again for a second.
    let began = Instant::now();
    loop {
        let after = names.map(count);
        if after[0] > before[0] && after[1] > before[1] {
            break;
        }
        assert!(began.elapsed() < PATIENCE, "{before:?} {after:?}");
        thread::sleep(Duration::from_millis(100));
    }
    drop(clients);
}
