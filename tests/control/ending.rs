//! Sessions that an operator ends.

use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::thread;
use std::time::Duration;

use socket2::{Domain, Socket, Type};

use crate::control::servers::Pair;
use crate::control::{Run, goes_on};
use crate::support::peer::{End, Peer};

fn killed(run: &Run, mut client: Peer) {
    let address = client.address();
    assert_eq!(client.receive_to_end(), End::Reset);
    drop(client);
    let access = run.gate.access(address);
    assert_eq!((access.cause.as_str(), access.closer.as_str()), ("killed", "proxy"));
}

pub(crate) fn kill_by_server(engine: &str) {
    let pair = Pair::start();
    let run = Run::start(&pair.both(engine));
    let (those, mut others): (Vec<Peer>, Vec<Peer>) =
        run.sessions(6).into_iter().partition(|client| run.server_of(client) == "a");
    let said = run.ctl(&["kill", "--server", "p/a"]).well();
    assert!(said.contains("3 connections"), "{said}");
    those.into_iter().for_each(|client| killed(&run, client));
    others.iter_mut().for_each(goes_on);
    assert_eq!([run.server("a").connections, run.server("b").connections], [0, 3]);
    assert_eq!(run.listener("l").closed["killed"], 3);
}

/// From another of the machine's own addresses.
fn session_from(run: &Run, source: Ipv4Addr) -> Peer {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    socket.bind(&SocketAddr::from((source, 0)).into()).unwrap();
    socket.connect(&run.gate.address_of("l").into()).unwrap();
    let mut client = Peer::client(TcpStream::from(socket));
    client.expect_echo();
    goes_on(&mut client);
    client
}

pub(crate) fn kill_by_source_age_and_number(engine: &str) {
    let pair = Pair::start();
    let run = Run::start(&pair.both(engine));
    let from = |last| session_from(&run, Ipv4Addr::new(127, 9, 9, last));
    let [one, two, mut other] = [from(1), from(2), run.session()];
    run.ctl(&["kill", "--source", "127.9.9.1"]).well();
    killed(&run, one);
    run.ctl(&["kill", "--source", "127.9.9.0/24"]).well();
    killed(&run, two);
    goes_on(&mut other);
    thread::sleep(Duration::from_millis(2_200));
    let mut young = run.session();
    run.ctl(&["kill", "--older-than", "2s"]).well();
    killed(&run, other);
    goes_on(&mut young);
    let [first, mut second] = [run.session(), run.session()];
    let address = first.address();
    let number = run.connections().into_iter().find(|it| it.client == Some(address)).expect("it is there").id;
    run.ctl(&["kill", "--id", &number]).well();
    assert_eq!(run.gate.access(address).id.trim_start_matches('0'), number.trim_start_matches('0'));
    killed(&run, first);
    goes_on(&mut second);
    goes_on(&mut young);
    run.ctl(&["kill", "--id", &number]).refused();
    run.ctl(&["kill", "--all"]).well();
    killed(&run, second);
    killed(&run, young);
}

/// Nobody has looked at them before: since when they are idle is known all the same.
pub(crate) fn kill_finds_the_idle_at_the_first_look(engine: &str) {
    let pair = Pair::start();
    let run = Run::start(&pair.both(engine));
    let [quiet, mut busy] = [run.session(), run.session()];
    thread::sleep(Duration::from_millis(2_200));
    goes_on(&mut busy);
    run.ctl(&["kill", "--idle-for", "2s"]).well();
    killed(&run, quiet);
    goes_on(&mut busy);
}

/// After a server was added, half of what the old one has leaves, those first that are idle.
pub(crate) fn rebalance_evens_out_and_takes_the_idle_first(engine: &str) {
    let pair = Pair::start();
    let file = crate::control::File::serving(engine, &[pair.a()]);
    let run = Run::start(&file);
    let idle = run.sessions(10);
    thread::sleep(Duration::from_millis(1_500));
    let mut busy = run.sessions(10);
    run.reload(&file.pool("p", &[pair.a(), pair.b()]));
    for client in &mut busy {
        goes_on(client);
    }
    let said = run.ctl(&["rebalance", "p", "--rate", "100/s"]).well();
    assert!(said.contains("10 connections"), "{said}");
    for mut client in idle {
        let address = client.address();
        assert_eq!(client.receive_to_end(), End::Fin);
        drop(client);
        assert_eq!(run.cause(address), "rebalanced");
    }
    busy.iter_mut().for_each(goes_on);
    run.wait_for("the end of it", |status| status.closings.is_empty() && status.process.connections == 10);
    // They come back, to where there is room.
    let back = run.sessions(20);
    assert_eq!([run.server("a").connections, run.server("b").connections], [20, 10]);
    drop(back);
}

/// Whoever waits for a server is ended too.
pub(crate) fn kill_reaches_who_is_on_the_way(engine: &str) {
    let hole = crate::support::servers::BlackHole::new();
    let file = crate::control::File::serving(engine, &[crate::control::Member::new("a", hole.address())]);
    let run = Run::start(&file);
    let stream = TcpStream::connect(run.gate.address_of("l")).unwrap();
    run.wait_for("the client", |status| status.process.connections == 1);
    let shown = &run.connections()[0];
    assert_eq!(serde_json::to_value(shown.state).unwrap(), "connecting");
    run.ctl(&["kill", "--server", "a"]).well();
    killed(&run, Peer::client(stream));
    assert_eq!(run.server("a").connections, 0);
}
