//! Servers that come, go and change while clients are there.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use crate::control::knocking::Knocking;
use crate::control::{File, Member, Run, goes_on};
use crate::support::peer::{End, Peer};
use crate::support::servers::Server;

/// Two servers that echo, and what they are called.
pub(crate) struct Pair {
    servers: [Server; 2],
}

impl Pair {
    pub(crate) fn start() -> Self {
        Self { servers: [Server::echo(), Server::echo()] }
    }

    pub(crate) fn address(&self, place: usize) -> SocketAddr {
        self.servers[place].address()
    }

    pub(crate) fn a(&self) -> Member {
        Member::new("a", self.address(0))
    }

    pub(crate) fn b(&self) -> Member {
        Member::new("b", self.address(1))
    }

    pub(crate) fn both(&self, engine: &str) -> File {
        File::serving(engine, &[self.a(), self.b()])
    }
}

/// Sessions with the server of that name, and those with the other one.
fn split(run: &Run, sessions: Vec<Peer>, name: &str) -> (Vec<Peer>, Vec<Peer>) {
    sessions.into_iter().partition(|client| run.server_of(client) == name)
}

fn end_all(run: &Run, sessions: Vec<Peer>, end: End, cause: &str) {
    for mut client in sessions {
        let address = client.address();
        assert_eq!(client.receive_to_end(), end);
        drop(client);
        assert_eq!(run.cause(address), cause);
    }
}

pub(crate) fn weights_hold_for_new_connections(engine: &str) {
    let pair = Pair::start();
    let file = pair.both(engine);
    let run = Run::start(&file);
    let mut before = run.sessions(4);
    let said = run.reload(&file.pool("p", &[pair.a().with("weight = 3"), pair.b()]));
    assert!(said.contains("server p/a: weight 1 -> 3"), "{said}");
    let after = run.sessions(8);
    before.iter_mut().for_each(goes_on);
    assert_eq!([run.server("a").connections, run.server("b").connections], [2 + 6, 2 + 2]);
    assert_eq!(run.server("a").weight, 3);
    let addresses: Vec<SocketAddr> = before.iter().chain(&after).map(Peer::address).collect();
    drop((before, after));
    assert!(addresses.into_iter().all(|address| run.cause(address) == "done"));
}

pub(crate) fn server_is_added(engine: &str) {
    let pair = Pair::start();
    let file = File::serving(engine, &[pair.a()]);
    let run = Run::start(&file);
    let mut first = run.session();
    let said = run.reload(&file.pool("p", &[pair.a(), pair.b()]));
    assert!(said.contains("server p/b added"), "{said}");
    let sessions = run.sessions(4);
    assert_eq!([run.server("a").connections, run.server("b").connections], [1 + 2, 2]);
    goes_on(&mut first);
    drop(sessions);
}

/// Idle sessions leave with FIN, at once; a busy one at its first quiet moment.
pub(crate) fn removed_server_drains(engine: &str) {
    let pair = Pair::start();
    let file = pair.both(engine);
    let run = Run::start(&file);
    let (mut leaving, staying) = split(&run, run.sessions(8), "a");
    let mut busy = leaving.pop().expect("half of them");
    thread::sleep(Duration::from_millis(300));
    let are_gone = Arc::new(AtomicBool::new(false));
    let quiet = Arc::clone(&are_gone);
    let talk = thread::spawn(move || {
        // Always within the quiet that it would leave at, until the others have left.
        while !quiet.load(Ordering::Relaxed) {
            goes_on(&mut busy);
            thread::sleep(Duration::from_millis(20));
        }
        busy
    });
    thread::sleep(Duration::from_millis(50));
    let said = run.reload(&file.pool("p", &[pair.b()]));
    assert!(said.contains("server p/a removed") && said.contains("4 drain"), "{said}");
    end_all(&run, leaving, End::Fin, "server_removed");
    let shown = run.find_server("a", pair.address(0)).expect("as long as it has a session");
    assert!(shown.removed && shown.connections == 1, "{shown:?}");
    are_gone.store(true, Ordering::Relaxed);
    let busy = talk.join().expect("it was not cut");
    end_all(&run, vec![busy], End::Fin, "server_removed");
    run.wait_for("the end of the removed server", |status| status.pools[0].servers.len() == 1);
    assert_eq!(staying.len(), 4);
    for mut client in staying {
        goes_on(&mut client);
    }
}

pub(crate) fn drain_timeout_resets_the_rest(engine: &str) {
    let pair = Pair::start();
    let file = pair.both(engine).add("pool.p", "drain_timeout = \"1s\"");
    let run = Run::start(&file);
    let (mut leaving, _staying) = split(&run, run.sessions(2), "a");
    let mut busy = leaving.pop().expect("one of two");
    let address = busy.address();
    // A question every 10 ms and never a quiet moment.
    let talk = thread::spawn(move || {
        loop {
            if let Err(error) = exchange(&mut busy) {
                break (Instant::now(), error);
            }
            thread::sleep(Duration::from_millis(10));
        }
    });
    let began = Instant::now();
    run.reload(&file.pool("p", &[pair.b()]).add("pool.p", "drain_timeout = \"1s\""));
    let (ended, error) = talk.join().unwrap();
    assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset);
    let took = ended - began;
    assert!(took >= Duration::from_secs(1), "{took:?}");
    assert_eq!(run.cause(address), "server_removed");
}

fn exchange(client: &mut Peer) -> std::io::Result<()> {
    use std::io::{Read as _, Write as _};
    let mut byte = [0];
    (&*client.socket()).write_all(&byte)?;
    match (&*client.socket()).read(&mut byte)? {
        0 => Err(std::io::ErrorKind::UnexpectedEof.into()),
        _ => Ok(()),
    }
}

pub(crate) fn removed_server_closes(engine: &str) {
    let pair = Pair::start();
    let file = pair.both(engine).add("pool.p", "on_removed = \"close\"");
    let run = Run::start(&file);
    let (leaving, mut staying) = split(&run, run.sessions(8), "a");
    run.reload(&file.pool("p", &[pair.b()]).add("pool.p", "on_removed = \"close\""));
    end_all(&run, leaving, End::Reset, "server_removed");
    staying.iter_mut().for_each(goes_on);
}

pub(crate) fn removed_server_keeps(engine: &str) {
    let pair = Pair::start();
    let file = pair.both(engine).add("pool.p", "on_removed = \"keep\"");
    let run = Run::start(&file);
    let (kept, staying) = split(&run, run.sessions(8), "a");
    let said = run.reload(&file.pool("p", &[pair.b()]).add("pool.p", "on_removed = \"keep\""));
    assert!(said.contains("4 go on"), "{said}");
    thread::sleep(Duration::from_secs(1));
    let new = run.sessions(3);
    assert_eq!(run.server("b").connections, 7);
    assert_eq!(run.find_server("a", pair.address(0)).map(|server| server.connections), Some(4));
    for mut client in kept.into_iter().chain(staying).chain(new) {
        goes_on(&mut client);
        let address = client.address();
        client.finish();
        assert_eq!(client.receive_to_end(), End::Fin);
        assert_eq!(run.cause(address), "done");
    }
}

/// 40 sessions at 20 a second take two seconds.
pub(crate) fn close_rate_holds(engine: &str) {
    let pair = Pair::start();
    let rate = "on_removed = \"close\"\nclose_rate = \"20/s\"";
    let file = pair.both(engine).pool("p", &[pair.a(), pair.b().with("weight = 0")]);
    let run = Run::start(&file.clone().add("pool.p", rate));
    let sessions = run.sessions(40);
    run.reload(&file.pool("p", &[pair.b()]).add("pool.p", rate));
    let ended = sessions.into_iter().map(|mut client| {
        assert_eq!(client.receive_to_end(), End::Reset);
        client.address()
    });
    run.assert_closed_in_turn(&ended.collect::<Vec<_>>(), 20, Duration::ZERO);
}

/// Those that `drain_timeout` resets go at that rate, too: 20 at 10 a second take two seconds.
pub(crate) fn close_rate_holds_for_the_rest(engine: &str) {
    let pair = Pair::start();
    let rate = "drain_timeout = \"500ms\"\nclose_rate = \"10/s\"";
    let file = pair.both(engine).pool("p", &[pair.a(), pair.b().with("weight = 0")]);
    let run = Run::start(&file.clone().add("pool.p", rate));
    // They never have a quiet moment.
    let busy = run.sessions(20).into_iter().map(|mut client| {
        thread::spawn(move || {
            client.send_until_broken();
            client.address()
        })
    });
    let busy: Vec<_> = busy.collect();
    run.reload(&file.pool("p", &[pair.b()]).add("pool.p", rate));
    let ended: Vec<SocketAddr> = busy.into_iter().map(|it| it.join().unwrap()).collect();
    run.assert_closed_in_turn(&ended, 10, Duration::from_millis(500));
}

/// What comes back is what it was: its count is the old one, and those who were not told to leave yet stay.
pub(crate) fn server_that_comes_back_has_its_old_count(engine: &str) {
    let pair = Pair::start();
    let keep = "on_removed = \"keep\"";
    let file = pair.both(engine).add("pool.p", keep);
    let run = Run::start(&file);
    let mut sessions = run.sessions(6);
    run.reload(&file.clone().pool("p", &[pair.b()]).add("pool.p", keep));
    run.reload(&file);
    let back = run.server("a");
    assert!(!back.removed && back.connections == 3 && back.attempts["ok"] == 3, "{back:?}");
    sessions.extend(run.sessions(2));
    assert_eq!([run.server("a").connections, run.server("b").connections], [4, 4]);
    sessions.iter_mut().for_each(goes_on);
    drop(sessions);
    run.wait_for("no connection", |status| status.process.connections == 0);
    assert_eq!([run.server("a").connections, run.server("b").connections], [0, 0]);
}

/// Sessions of a server that is back before it was their turn to leave stay.
pub(crate) fn server_that_comes_back_keeps_who_was_not_told(engine: &str) {
    let pair = Pair::start();
    let rate = "on_removed = \"close\"\nclose_rate = \"2/s\"";
    let file = pair.both(engine).pool("p", &[pair.a(), pair.b().with("weight = 0")]).add("pool.p", rate);
    let run = Run::start(&file);
    let mut sessions = run.sessions(20);
    run.reload(&file.clone().pool("p", &[pair.b()]).add("pool.p", rate));
    thread::sleep(Duration::from_millis(500));
    run.reload(&file);
    thread::sleep(Duration::from_secs(2));
    let stayed = sessions.iter_mut().filter_map(|client| exchange(client).ok()).count();
    assert!((10..20).contains(&stayed), "{stayed} of 20 are there");
    assert_eq!(run.server("a").connections as usize, stayed);
    assert!(run.status().closings.is_empty(), "{:?}", run.status().closings);
}

/// Under another address it is another server.
pub(crate) fn address_of_a_server_changes(engine: &str) {
    let pair = Pair::start();
    let file = File::serving(engine, &[pair.a()]);
    let run = Run::start(&file);
    let old = run.sessions(3);
    let said = run.reload(&file.pool("p", &[Member::new("a", pair.address(1))]));
    assert!(said.contains("server p/a added") && said.contains("server p/a removed"), "{said}");
    let mut new = run.session();
    assert_eq!(run.gate.accesses().len(), 0, "nobody leaves before a quiet moment");
    end_all(&run, old, End::Fin, "server_removed");
    goes_on(&mut new);
    let address = new.address();
    drop(new);
    assert_eq!(run.gate.access(address).server_addr, Some(pair.address(1).to_string()));
}

/// Whoever is on the way to a server that is removed gets to another one, and stays there.
pub(crate) fn client_on_its_way_to_a_removed_server_is_not_its(engine: &str) {
    for policy in ["drain", "close"] {
        let hole = crate::support::servers::BlackHole::new();
        let pair = Pair::start();
        let policy = format!("on_removed = \"{policy}\"");
        let timeouts = "connect = \"2s\"";
        let file = File::serving(engine, &[Member::new("hole", hole.address())])
            .set("defaults.timeouts", timeouts)
            .add("pool.p", &policy);
        let run = Run::start(&file);
        let at = run.gate.address_of("l");
        let stream = std::net::TcpStream::connect(at).unwrap();
        run.wait_for("the client", |status| status.process.connections == 1);
        run.reload(&file.pool("p", &[pair.b()]).add("pool.p", &policy));
        let mut client = Peer::client(stream);
        client.expect_echo();
        goes_on(&mut client);
        // Longer than any quiet moment that would be waited for.
        thread::sleep(Duration::from_secs(3));
        goes_on(&mut client);
        assert_eq!(run.server_of(&client), "b");
    }
}

/// An attempt that took too long has its place until the next one begins, and may succeed after the server was removed; but with the engine
/// `threads`, whose connect(2) has ended.
pub(crate) fn client_that_reaches_a_removed_server_late_leaves_it(engine: &str) {
    for policy in ["drain", "close"] {
        let hole = crate::support::servers::BlackHole::new();
        let pair = Pair::start();
        let policy = format!("on_removed = \"{policy}\"");
        let file = File::serving(engine, &[Member::new("hole", hole.address())])
            .set("defaults.timeouts", "connect = \"1100ms\"")
            .set("defaults.retry", "same_server_delay = \"5s\"")
            .add("pool.p", &policy);
        let run = Run::start(&file);
        let mut client = Peer::client(std::net::TcpStream::connect(run.gate.address_of("l")).unwrap());
        run.wait_for("the first attempt's end", |status| {
            status.pools[0].servers[0].attempts.get("timeout") == Some(&1)
        });
        assert_eq!(run.server("hole").connections, 1);
        run.reload(&file.pool("p", &[pair.b()]).add("pool.p", &policy));
        let address = client.address();
        let late = thread::spawn(move || hole.open());
        assert_eq!(client.receive_to_end(), End::Fin);
        drop((client, late.join().unwrap()));
        assert_eq!(run.cause(address), "server_removed");
    }
}

pub(crate) fn pool_of_a_listener_changes(engine: &str) {
    let pair = Pair::start();
    let file = File::serving(engine, &[pair.a()]).pool("q", &[pair.b()]);
    let run = Run::start(&file);
    let mut old = run.session();
    let knocking = Knocking::start(run.gate.address_of("l"), 1, Duration::from_millis(5));
    let said = run.reload(&file.listen("l", "127.0.0.1:0", "q"));
    assert!(said.contains("pool p -> q") && said.contains("connections affected"), "{said}");
    let new = run.session();
    assert_eq!([run.server_of(&old), run.server_of(&new)], ["a", "b"]);
    goes_on(&mut old);
    knocking.all_were_served();
    let address = new.address();
    drop(new);
    assert_eq!(run.gate.access(address).pool.as_deref(), Some("q"));
}

/// 500 clients of a server that is taken out and put back, over and over: none is lost, and the counts are right.
pub(crate) fn members_come_and_go_under_new_connections(engine: &str) {
    let pair = Pair::start();
    let file = pair.both(engine);
    let run = Run::start(&file);
    let knocking = Knocking::start(run.gate.address_of("l"), 2, Duration::from_millis(5));
    for round in 0..20 {
        match round % 2 {
            0 => run.reload(&file.clone().pool("p", &[pair.b()])),
            _ => run.reload(&file),
        };
        knocking.wait_for(10);
    }
    knocking.all_were_served();
    run.wait_for("no connection", |status| status.process.connections == 0);
    assert_eq!([run.server("a").connections, run.server("b").connections], [0, 0]);
}
