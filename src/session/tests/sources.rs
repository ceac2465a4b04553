//! Own addresses that connections to servers come from.

use super::*;
use crate::snapshot::{Conditions, Overrides};

const NO_PORT: Input = Input::Dialed(Err(Fault::NoPorts));

/// One server, one try, and three addresses, of which session number 7 begins with the second.
fn three_sources() -> Config {
    let mut config = config(&[1]);
    let sources = ["10.0.0.0", "10.0.0.1", "10.0.0.2"].map(|source| source.parse().expect("an address"));
    config.pools[0].source = Source::Addresses(sources.to_vec());
    config.pools[0].retry.tries = 1;
    config
}

fn begun(snapshot: &Snapshot, now: u64) -> (Session, Order) {
    Session::new(7, ListenerId(0), None, Context { now: Tick(now), snapshot })
}

fn dial(to: u32, last: u8) -> Order {
    Order::Dial { to: ServerId(to), from: Some(Ipv4Addr::new(10, 0, 0, last).into()) }
}

#[test]
fn an_address_that_had_no_port_a_moment_ago_is_not_tried() {
    let config = three_sources();
    let snapshot = Snapshot::new(&config, 1000);
    let at =
        |session: &mut Session, now| session.handle(NO_PORT, Context { now: Tick(now), snapshot: &snapshot });
    let (mut one, first) = begun(&snapshot, 0);
    assert_eq!(first, dial(0, 1));
    assert_eq!(at(&mut one, 5), Some(dial(0, 2)));
    // Others know that, behind a reload too, for a moment.
    let next = snapshot.next(&config, 1000, &Overrides::new(), &Conditions::new(), Tick(6)).unwrap();
    assert_eq!(begun(&next, 104).1, dial(0, 2));
    assert_eq!(begun(&next, 105).1, dial(0, 1));
    let (mut other, first) = begun(&next, 50);
    assert_eq!(first, dial(0, 2));
    assert_eq!(at(&mut other, 51), Some(dial(0, 0)));
    assert_eq!(at(&mut other, 52), Some(Order::Reset { spare: None }));
    let record = other.record(0, Tick(52));
    assert_eq!((record.tries, record.cause), (1, Some(Cause::NoSourcePort)));
    // Where none has one, nothing is tried at all, and nothing is left counted.
    let (third, first) = begun(&next, 53);
    assert_eq!(first, Order::Reset { spare: None });
    assert_eq!(third.record(0, Tick(53)).cause, Some(Cause::NoSourcePort));
    assert_eq!(begun(&next, 105).1, dial(0, 1));
}

#[test]
fn a_session_tries_each_address_once_however_long_that_takes() {
    let snapshot = Snapshot::new(&three_sources(), 1000);
    let (mut slow, first) = begun(&snapshot, 0);
    let mut rest =
        [200, 400, 600].map(|now| slow.handle(NO_PORT, Context { now: Tick(now), snapshot: &snapshot }));
    rest.rotate_right(1);
    assert_eq!(rest, [Some(Order::Reset { spare: None }), Some(dial(0, 2)), Some(dial(0, 0))]);
    assert_eq!(first, dial(0, 1));
}

#[test]
fn a_server_without_a_port_towards_it_is_passed_over_for_the_next() {
    let mut config = config(&[1, 1]);
    config.pools[0].retry.tries = 2;
    let snapshot = Snapshot::new(&config, 1000);
    let servers = [0, 1].map(|server| Order::Dial { to: ServerId(server), from: None });
    let (mut one, first) = begun(&snapshot, 0);
    assert_eq!(first, servers[0]);
    let cx = Context { now: Tick(1), snapshot: &snapshot };
    assert_eq!(one.handle(NO_PORT, cx), Some(servers[1]));
    // It would be the first one's turn.
    let (mut other, first) = begun(&snapshot, 2);
    assert_eq!(first, servers[1]);
    assert_eq!(other.record(0, Tick(2)).tries, 2);
    assert_eq!(snapshot.server(ServerId(0)).connections.count(), 0);
    other.uncount(&snapshot);
    assert_eq!(snapshot.server(ServerId(1)).connections.count(), 1);
    assert_eq!(begun(&snapshot, 101).1, servers[0]);
}

/// Its first look comes from what others have found, the next one is its own.
#[test]
fn where_no_other_server_is_left_it_is_tried_after_same_server_delay() {
    let snapshot = Snapshot::new(&config(&[1]), 1000);
    let dial = Order::Dial { to: ServerId(0), from: None };
    let (mut one, first) = begun(&snapshot, 0);
    assert_eq!(first, dial);
    assert_eq!(one.handle(NO_PORT, Context { now: Tick(1), snapshot: &snapshot }), None);
    assert_eq!(one.deadline(), Some(Tick(1_002)));
    let at = |now| Context { now: Tick(now), snapshot: &snapshot };
    let others = [2, 3].map(|now| begun(&snapshot, now));
    assert_eq!(one.handle(Input::Deadline(None), at(1_002)), Some(dial));
    let [(mut other, waits), (mut leaves, also_waits)] = others;
    assert_eq!((waits, also_waits, other.deadline()), (Order::Queue, Order::Queue, Some(Tick(1_003))));
    assert_eq!(other.handle(Input::Deadline(None), at(1_003)), Some(dial));
    assert_eq!(leaves.handle(Input::ClientLeft, at(1_003)), Some(Order::Reset { spare: None }));
    assert_eq!(leaves.record(0, Tick(1_003)).cause, Some(Cause::ClientLeft));
    assert_eq!(snapshot.server(ServerId(0)).connections.count(), 2);
}

/// The next one's address may have ports.
#[test]
fn a_clients_own_address_is_nobody_elses() {
    let mut config = config(&[1]);
    config.pools[0].source = Source::Client;
    config.pools[0].retry.tries = 1;
    let mut life = Life::new(&config);
    let order = life.at(1, NO_PORT);
    life.assert_given_up(order, Cause::NoSourcePort, 1);
    let cx = Context { now: Tick(1), snapshot: &life.snapshot };
    let client = Some((Ipv4Addr::LOCALHOST, 40_001).into());
    let (_, first) = Session::new(8, ListenerId(0), client, cx);
    assert_eq!(first, Order::Dial { to: ServerId(0), from: Some(Ipv4Addr::LOCALHOST.into()) });
}

/// Whoever had its turn and met a server without ports has left the queue.
#[test]
fn a_turn_at_a_server_without_a_port_is_a_turn() {
    let mut config = three_sources();
    config.pools[0].servers[0].maxconn = std::num::NonZeroU32::new(1);
    let snapshot = Snapshot::new(&config, 1000);
    let queue = &snapshot.pool(PoolId(0)).queue;
    let at = |now| Context { now: Tick(now), snapshot: &snapshot };
    let (mut holder, first) = begun(&snapshot, 0);
    let (mut waits, queued) = begun(&snapshot, 1);
    assert_eq!((first, queued, queue.count()), (dial(0, 1), Order::Queue, 1));
    // The first one gives up, and its place is free.
    let ends = [2, 3, 4].map(|now| holder.handle(NO_PORT, at(now)));
    assert_eq!(ends[2], Some(Order::Reset { spare: None }));
    assert_eq!(waits.handle(Input::Turn, at(5)), Some(Order::Reset { spare: None }));
    assert_eq!((queue.count(), snapshot.server(ServerId(0)).connections.count()), (0, 0));
    assert_eq!(waits.record(0, Tick(5)).cause, Some(Cause::NoSourcePort));
}
