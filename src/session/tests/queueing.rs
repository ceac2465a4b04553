//! Waiting for a server that has room.

use super::*;
use crate::snapshot::{Conditions, Overrides};

/// A life on one server with room for one, which somebody else has.
fn waiting(queue: Option<Duration>, connect_total: Option<Duration>) -> Life {
    let mut config = config(&[1]);
    config.pools[0].servers[0].maxconn = std::num::NonZeroU32::new(1);
    (config.timeouts.queue, config.timeouts.connect_total) = (queue, connect_total);
    let snapshot = Snapshot::new(&config, 1000);
    assert!(snapshot.server(ServerId(0)).connections.take());
    let cx = Context { now: Tick(0), snapshot: &snapshot };
    let (session, first) = Session::new(7, ListenerId(0), None, cx);
    assert_eq!((first, session.doing()), (Order::Queue, Doing::Queued));
    assert_eq!(session.place(), Some(Place { pool: PoolId(0), since: Tick(0) }));
    Life { snapshot, session, first }
}

/// What a reload makes of `before`.
fn next_snapshot(before: &Snapshot, config: &Config) -> Snapshot {
    let (overrides, conditions) = (Overrides::new(), Conditions::new());
    before.next(config, 1000, &overrides, &conditions, Tick(30)).expect("there are ids enough")
}

impl Life {
    fn queued(&self) -> u32 {
        self.snapshot.pool(PoolId(0)).queue.count()
    }

    fn free(&self) {
        self.snapshot.server(ServerId(0)).connections.give();
    }
}

#[test]
fn who_finds_every_server_full_waits_for_its_turn() {
    let mut life = waiting(Some(ms(500)), Some(ms(2_000)));
    assert_eq!((life.deadline(), life.queued()), (Some(501), 1));
    assert_eq!(life.at(10, Input::Turn), None, "no server has room");
    assert_eq!((life.session.doing(), life.queued()), (Doing::Queued, 1));
    // Whoever comes now comes behind it, although there is room.
    life.free();
    let cx = Context { now: Tick(20), snapshot: &life.snapshot };
    let (mut next, order) = Session::new(8, ListenerId(0), None, cx);
    assert_eq!((order, life.queued()), (Order::Queue, 2));
    assert_eq!(life.at(120, Input::Turn), dial(0));
    assert_eq!((life.session.doing(), life.session.queue_ms(), life.queued()), (Doing::Connecting, 120, 1));
    assert_eq!(life.snapshot.pool(PoolId(0)).queue.waits.sum_ms.get(), 120);
    assert_eq!(life.session.counted_by(), Some(ServerId(0)));
    let cx = Context { now: Tick(121), snapshot: &life.snapshot };
    assert_eq!(next.handle(Input::Turn, cx), None, "the only place is taken");
    assert_eq!(life.at(150, Input::Dialed(Ok(()))), Some(RELAY));
    assert_eq!((life.record().queue_ms, life.record().connect_ms), (120, Some(150)));
}

#[test]
fn waiting_ends_at_the_first_of_its_limits() {
    for (queue, total, at) in [(Some(500), Some(900), 501), (Some(900), Some(500), 501), (None, Some(70), 71)]
    {
        let mut life = waiting(queue.map(ms), total.map(ms));
        assert_eq!(life.deadline(), Some(at));
        let order = life.at(at, Input::Deadline(None));
        life.assert_given_up(order, Cause::QueueTimeout, 0);
        assert_eq!((life.queued(), life.record().queue_ms, life.record().server), (0, at as u32, None));
    }
    assert_eq!(waiting(None, None).deadline(), None);
}

#[test]
fn who_leaves_or_is_ended_while_waiting_gives_its_place_in_the_queue_back() {
    for (input, cause) in
        [(Input::ClientLeft, Cause::ClientLeftQueue), (Input::Kill(Cause::Drain), Cause::Drain)]
    {
        let mut life = waiting(None, None);
        let order = life.at(40, input);
        life.assert_given_up(order, cause, 0);
        assert_eq!((life.queued(), life.session.place(), life.record().queue_ms), (0, None, 40));
        assert_eq!(life.snapshot.server(ServerId(0)).connections.count(), 1, "somebody else's");
    }
}

#[test]
fn a_full_queue_turns_away() {
    let life = waiting(None, None);
    let mut config = config(&[1]);
    config.pools[0].queue_max = 1;
    let snapshot = next_snapshot(&life.snapshot, &config);
    let cx = Context { now: Tick(5), snapshot: &snapshot };
    let (session, order) = Session::new(8, ListenerId(0), None, cx);
    assert_eq!(order, Order::Reset { spare: None });
    assert_eq!((session.record(0, Tick(5)).cause, life.queued()), (Some(Cause::QueueFull), 1));
}

#[test]
fn who_has_failed_elsewhere_waits_a_moment_and_then_in_the_queue() {
    let mut config = config(&[1, 1]);
    config.pools[0].servers[1].maxconn = std::num::NonZeroU32::new(1);
    let mut life = Life::new(&config);
    assert_eq!(Some(life.first), dial(0));
    assert!(life.snapshot.server(ServerId(1)).connections.take());
    assert_eq!(life.refused(10), None, "the other one is full");
    assert_eq!((life.session.doing(), life.deadline(), life.queued()), (Doing::Connecting, Some(1_011), 0));
    assert_eq!(life.at(1_011, Input::Deadline(None)), dial(0), "it is tried again");
}

#[test]
fn an_attempt_that_takes_too_long_keeps_its_place_until_the_next_one() {
    let mut config = config(&[1]);
    config.pools[0].servers[0].maxconn = std::num::NonZeroU32::new(1);
    let mut life = Life::new(&config);
    assert_eq!(life.at(5_001, Input::Deadline(None)), None);
    assert_eq!(life.session.counted_by(), Some(ServerId(0)), "it goes on meanwhile");
    assert_eq!(life.at(5_500, Input::Dialed(Ok(()))), Some(RELAY));
    assert_eq!(life.snapshot.server(ServerId(0)).connections.count(), 1);
}

#[test]
fn who_waits_follows_its_listener_to_another_pool() {
    let mut life = waiting(None, None);
    let mut config = config(&[1]);
    let mut other = config.pools[0].clone();
    other.name = "other".to_owned();
    config.pools.push(other);
    config.listeners[0].pool = 1;
    life.snapshot = next_snapshot(&life.snapshot, &config);
    let of_other = life.snapshot.listener(ListenerId(0)).leads.own.pool;
    let Some(Order::Dial { to, .. }) = life.at(50, Input::Turn) else { panic!("the other pool has room") };
    assert_eq!(life.snapshot.server(to).pool, of_other);
    assert_eq!((life.queued(), life.session.queue_ms()), (0, 50));
}
