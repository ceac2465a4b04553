//! Lives of sessions, told from outside: inputs at given ticks, orders and deadlines that follow.

mod answering;
mod closing;
mod hellos;
mod inspecting;
mod queueing;
mod sources;

use std::net::Ipv4Addr;

use proptest::prelude::*;

use super::*;
use crate::config::{self, AtMaxconn, Balance, Config, Source};
use crate::relay::Progress;

const PORT: u16 = 9000;

const RELAY: Order = Order::Relay { limited: [false; 2], awaited: false };

/// A configuration with one listener, and one pool with a server for each weight.
fn config(weights: &[u16]) -> Config {
    let server = |(index, weight): (u16, &u16)| config::Server {
        name: format!("s{index}"),
        addr: (Ipv4Addr::LOCALHOST, PORT + index).into(),
        weight: *weight,
        maxconn: None,
        backup: false,
        state: config::ServerState::Ready,
        origin: config::Origin::File,
    };
    Config {
        process: config::Process::default(),
        admin: None,
        log: config::Log::default(),
        access: config::Access::default(),
        metrics: config::Metrics::default(),
        dns: config::Dns::default(),
        timeouts: config::Timeouts::default(),
        tcp: config::Tcp::default(),
        retry: config::Retry::default(),
        listeners: vec![config::Listener {
            name: "main".to_string(),
            bind: vec![(Ipv4Addr::LOCALHOST, 8080).into()],
            pool: 0,
            engine: None,
            backlog: None,
            accept_balance: config::AcceptBalance::Reuseport,
            accept_burst: 16,
            v6only: true,
            maxconn: None,
            at_maxconn: AtMaxconn::Wait,
            when_no_upstream: WhenNoUpstream::Rst,
            accept_proxy: None,
            routes: Vec::new(),
            server_speaks_first: false,
            max_client_hello: 16 << 10,
            timeouts: config::OwnTimeouts::default(),
            tcp: config::Tcp::default(),
            access: config::AccessRules::default(),
            limits: config::Limits::default(),
        }],
        pools: vec![config::Pool {
            name: "web".to_string(),
            balance: Balance::RoundRobin,
            all_down: config::AllDown::Reject,
            on_down: config::OnDown::Keep,
            on_removed: config::OnRemoved::Drain,
            slow_start: None,
            check: config::Check::Off,
            passive: config::Passive::default(),
            drain_timeout: None,
            close_rate: 100,
            source: Source::System,
            send_proxy: None,
            timeouts: config::OwnTimeouts::default(),
            tcp: config::Tcp::default(),
            retry: config::Retry::default(),
            queue_max: 1000,
            servers: (0..).zip(weights).map(server).collect(),
            named: Vec::new(),
            lists: Vec::new(),
            servers_poll: Duration::from_secs(5),
        }],
    }
}

fn sight(moved: [u64; 2], waiting_for: Option<Side>) -> Sight {
    Sight { progress: Progress { moved, waiting_for }, ..Sight::default() }
}

fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

/// One session and the configuration that it lives under.
struct Life {
    snapshot: Snapshot,
    session: Session,
    /// What it ordered first.
    first: Order,
}

impl Life {
    /// It begins at tick 0.
    fn new(config: &Config) -> Self {
        let snapshot = Snapshot::new(config, 1000);
        let cx = Context { now: Tick(0), snapshot: &snapshot };
        let client = Some((Ipv4Addr::LOCALHOST, 40_000).into());
        let (session, first) = Session::new(7, ListenerId(0), client, cx);
        Self { snapshot, session, first }
    }

    /// With three servers, the timeouts and tries being the defaults.
    fn usual() -> Self {
        Self::new(&config(&[1, 1, 1]))
    }

    /// The same, connected at tick 10.
    fn connected() -> Self {
        let mut life = Self::usual();
        assert_eq!(life.at(10, Input::Dialed(Ok(()))), Some(RELAY));
        life
    }

    fn at(&mut self, tick: u64, input: Input) -> Option<Order> {
        self.session.handle(input, Context { now: Tick(tick), snapshot: &self.snapshot })
    }

    fn refused(&mut self, tick: u64) -> Option<Order> {
        self.at(tick, Input::Dialed(Err(Fault::Refused)))
    }

    fn ended(&mut self, tick: u64, end: End, unsent: bool) -> Option<Order> {
        self.at(tick, Input::Ended { end, moved: [3, 4], unsent })
    }

    fn deadline(&self) -> Option<u64> {
        self.session.deadline().map(|tick| tick.0)
    }

    fn record(&self) -> Record {
        self.session.record(2, Tick(999))
    }

    /// Asserts that it was given up, with this cause after so many attempts.
    fn assert_given_up(&self, order: Option<Order>, cause: Cause, tries: u8) {
        assert_eq!(order, Some(Order::Reset { spare: None }));
        assert_eq!((self.record().cause, self.record().tries), (Some(cause), tries));
        assert_eq!(self.deadline(), None);
    }
}

/// The order to dial the `index`-th server.
fn dial(index: u16) -> Option<Order> {
    Some(Order::Dial { to: ServerId(index.into()), from: None })
}

#[test]
fn the_first_order_is_to_dial_the_server_whose_turn_it_is() {
    let mut life = Life::usual();
    assert_eq!(Some(life.first), dial(0));
    assert_eq!(life.deadline(), Some(5_001));
    let cx = Context { now: Tick(3), snapshot: &life.snapshot };
    let (second, order) = Session::new(8, ListenerId(0), life.session.client, cx);
    assert_eq!(Some(order), dial(1));
    assert_eq!(second.deadline(), Some(Tick(5_004)));
    assert_eq!(life.at(1, Input::Dialed(Ok(()))), Some(RELAY));
    assert_eq!(life.record().server, Some(ServerId(0)));
}

#[test]
fn a_server_that_refuses_is_followed_by_the_next_at_once() {
    let mut life = Life::usual();
    assert_eq!(life.refused(5), dial(1));
    assert_eq!(life.refused(5), dial(2));
    let order = life.refused(5);
    life.assert_given_up(order, Cause::ConnectRefused, 3);
    assert_eq!(life.record().server, Some(ServerId(2)), "the last one that was tried");
}

#[test]
fn when_all_have_refused_the_same_ones_are_tried_after_a_pause() {
    let mut life = Life::new(&config(&[1, 1]));
    assert_eq!(life.refused(5), dial(1));
    assert_eq!(life.refused(6), None);
    assert_eq!(life.deadline(), Some(6 + 1_000 + 1));
    assert!(matches!(life.at(1_007, Input::Deadline(None)), Some(Order::Dial { .. })));
    let order = life.refused(1_008);
    life.assert_given_up(order, Cause::ConnectRefused, 3);
}

#[test]
fn a_single_server_has_a_pause_before_each_further_try() {
    let mut life = Life::new(&config(&[1]));
    for begun in [0, 1_001, 2_002] {
        assert_eq!(life.record().tries, u8::try_from(begun / 1_000 + 1).expect("small"));
        if begun < 2_002 {
            assert_eq!(life.refused(begun), None);
            assert_eq!(life.at(begun + 1_001, Input::Deadline(None)), dial(0));
        }
    }
    let order = life.refused(2_002);
    life.assert_given_up(order, Cause::ConnectRefused, 3);
    assert!(!life.record().redispatched, "there was no other server");
}

#[test]
fn more_servers_than_are_remembered_are_all_tried_before_one_is_tried_twice() {
    let mut config = config(&[1; 12]);
    config.pools[0].retry.tries = 12;
    let mut life = Life::new(&config);
    let tried: Vec<Option<Order>> =
        std::iter::once(Some(life.first)).chain((1..12).map(|_| life.refused(1))).collect();
    assert_eq!(tried, (0..12).map(dial).collect::<Vec<_>>());
    let order = life.refused(1);
    life.assert_given_up(order, Cause::ConnectRefused, 12);
}

#[test]
fn of_more_servers_than_are_remembered_the_one_that_failed_first_is_forgotten_first() {
    let mut config = config(&[1; 9]);
    config.pools[0].retry.tries = 12;
    let mut life = Life::new(&config);
    let tried: Vec<Option<Order>> = (1..12).map(|_| life.refused(1)).collect();
    assert_eq!(tried, [1, 2, 3, 4, 5, 6, 7, 8, 0, 1, 2].map(dial));
}

#[test]
fn without_a_server_the_client_is_reset_at_once() {
    let life = Life::new(&config(&[0, 0]));
    life.assert_given_up(Some(life.first), Cause::NoServer, 0);
    assert_eq!(life.record().server, None);
}

#[test]
fn an_attempt_that_takes_too_long_is_followed_by_the_next() {
    let mut life = Life::usual();
    assert_eq!(life.at(5_001, Input::Deadline(None)), dial(1));
    // The second may last as long as all together may: 10 s.
    assert_eq!(life.deadline(), Some(10_001));
    let order = life.at(10_001, Input::Deadline(None));
    life.assert_given_up(order, Cause::ConnectTimeout, 2);
}

#[test]
fn an_attempt_that_took_too_long_may_still_connect_while_nothing_else_is_tried() {
    let mut life = Life::new(&config(&[1]));
    assert_eq!(life.at(5_001, Input::Deadline(None)), None);
    assert_eq!(life.deadline(), Some(6_002));
    assert_eq!(life.at(5_500, Input::Dialed(Ok(()))), Some(RELAY));
    let record = life.record();
    assert_eq!((record.server, record.tries, record.connect_ms), (Some(ServerId(0)), 1, Some(5_500)));
}

#[test]
fn an_attempt_that_reaches_a_server_it_was_to_leave_leaves_it() {
    for ask in [Input::Leave(Cause::ServerRemoved, Tick(5_100)), Input::Kill(Cause::ServerRemoved)] {
        let mut life = Life::new(&config(&[1]));
        assert_eq!(life.at(5_001, Input::Deadline(None)), None);
        assert_eq!(life.at(5_100, ask), None, "no other server is tried yet");
        assert_eq!(life.at(5_500, Input::Dialed(Ok(()))), Some(RELAY));
        let look = life.deadline().expect("it looks for a quiet moment");
        assert!(look < 6_000, "{look}");
        life.at(look, Input::Deadline(Some(sight([1, 1], None))));
        let order = life.at(look + 1_000, Input::Deadline(Some(sight([1, 1], None))));
        assert_eq!(order, Some(Order::Stop(End::Drained)));
    }
}

#[test]
fn an_attempt_that_took_too_long_is_not_counted_again_when_it_fails() {
    let mut life = Life::new(&config(&[1]));
    assert_eq!(life.at(5_001, Input::Deadline(None)), None);
    assert_eq!(life.refused(5_500), None);
    assert_eq!(life.deadline(), Some(6_002), "the pause goes on");
    assert_eq!(life.at(6_002, Input::Deadline(None)), dial(0));
    assert_eq!(life.record().tries, 2);
}

#[test]
fn a_pause_that_would_outlast_connect_total_is_not_begun() {
    let mut config = config(&[1]);
    config.timeouts.connect_total = Some(ms(1_000));
    let mut life = Life::new(&config);
    let order = life.refused(1);
    life.assert_given_up(order, Cause::ConnectRefused, 1);
}

#[test]
fn without_limits_an_attempt_has_no_deadline() {
    let mut config = config(&[1, 1]);
    (config.timeouts.connect, config.timeouts.connect_total) = (None, None);
    let mut life = Life::new(&config);
    assert_eq!(life.deadline(), None);
    assert_eq!(life.refused(1_000_000), dial(1));
    assert_eq!(life.deadline(), None);
}

#[test]
fn a_shortage_here_is_waited_out_and_is_no_try() {
    for (fault, cause) in [
        (Fault::NoFiles, Cause::NoResources),
        (Fault::NoMemory, Cause::NoResources),
        (Fault::Busy, Cause::ConnectTimeout),
    ] {
        let mut life = Life::new(&config(&[1]));
        let mut now = 0;
        // A hundred and one milliseconds a wait, and 10 s for all.
        for _ in 0..99 {
            assert_eq!(life.at(now, Input::Dialed(Err(fault))), None);
            assert_eq!((life.deadline(), life.record().tries), (Some(now + 101), 0));
            now += 101;
            assert_eq!(life.at(now, Input::Deadline(None)), dial(0), "at {now}");
            assert_eq!(life.record().tries, 1);
        }
        let order = life.at(now, Input::Dialed(Err(fault)));
        life.assert_given_up(order, cause, 0);
    }
}

#[test]
fn what_failed_last_is_the_cause() {
    for (fault, cause) in [
        (Fault::Refused, Cause::ConnectRefused),
        (Fault::Reset, Cause::ConnectRefused),
        (Fault::Closed, Cause::ConnectRefused),
        (Fault::TimedOut, Cause::ConnectTimeout),
        (Fault::Unreachable, Cause::ConnectUnreachable),
        (Fault::NoPorts, Cause::NoSourcePort),
        (Fault::Denied, Cause::ConnectFailed),
        (Fault::Other(71), Cause::ConnectFailed),
    ] {
        let mut life = Life::usual();
        life.refused(1);
        life.refused(1);
        let order = life.at(1, Input::Dialed(Err(fault)));
        life.assert_given_up(order, cause, 3);
    }
}

/// The session's number is 7: of two addresses it begins with the second, of three too.
#[test]
fn an_address_without_a_port_is_followed_by_the_next_and_then_by_the_next_server() {
    let dry = Input::Dialed(Err(Fault::NoPorts));
    let from = |to: u32, last: u8| {
        Some(Order::Dial { to: ServerId(to), from: Some(Ipv4Addr::new(10, 0, 0, last).into()) })
    };
    let mut config = config(&[1, 1]);
    let sources = ["10.0.0.0", "::1", "10.0.0.1"].map(|source| source.parse().expect("an address"));
    config.pools[0].source = Source::Addresses(sources.to_vec());
    config.pools[0].retry.tries = 2;
    let mut life = Life::new(&config);
    assert_eq!(Some(life.first), from(0, 1));
    assert_eq!(life.at(1, dry), from(0, 0));
    assert_eq!(life.record().tries, 1, "it is one attempt at that server");
    assert_eq!(life.at(1, dry), from(1, 1));
    let order = life.refused(1);
    life.assert_given_up(order, Cause::ConnectRefused, 2);
    let mut life = Life::new(&config);
    for order in [from(0, 0), from(1, 1), from(1, 0)] {
        assert_eq!(life.at(1, dry), order);
    }
    let order = life.at(1, dry);
    life.assert_given_up(order, Cause::NoSourcePort, 2);
}

#[test]
fn with_the_clients_address_there_is_one_and_a_client_without_has_none() {
    let mut config = config(&[1]);
    config.pools[0].source = Source::Client;
    let life = Life::new(&config);
    let to = ServerId(0);
    assert_eq!(life.first, Order::Dial { to, from: Some(Ipv4Addr::LOCALHOST.into()) });
    let cx = Context { now: Tick(0), snapshot: &life.snapshot };
    assert_eq!(Session::new(8, ListenerId(0), None, cx).1, Order::Dial { to, from: None });
}

#[test]
fn a_client_that_leaves_is_not_connected() {
    let mut life = Life::usual();
    let order = life.at(3, Input::ClientLeft);
    life.assert_given_up(order, Cause::ClientLeft, 1);
    let mut waiting = Life::new(&config(&[1]));
    assert_eq!(waiting.refused(3), None);
    let order = waiting.at(4, Input::ClientLeft);
    waiting.assert_given_up(order, Cause::ClientLeft, 1);
}

#[test]
fn every_state_can_be_killed() {
    let mut dialing = Life::usual();
    let order = dialing.at(1, Input::Kill(Cause::Drain));
    dialing.assert_given_up(order, Cause::Drain, 1);

    let mut relaying = Life::connected();
    assert_eq!(relaying.at(20, Input::Kill(Cause::Drain)), Some(Order::Stop(End::Killed)));
    assert_eq!(relaying.ended(20, End::Killed, true), Some(Order::Reset { spare: None }));
    assert_eq!((relaying.record().cause, relaying.deadline()), (Some(Cause::Drain), None));

    let mut closing = Life::connected();
    closing.ended(20, End::Reset { by: Side::Client, fault: Fault::Reset }, true);
    assert_eq!(closing.at(21, Input::Kill(Cause::Drain)), Some(Order::Reset { spare: None }));
    assert_eq!(closing.record().cause, Some(Cause::ClientReset), "that is why it ended");
}

#[test]
fn how_a_relay_ends_decides_how_it_is_closed() {
    let reset = |by, fault| End::Reset { by, fault };
    let half_idle = |waiting_for| End::HalfIdle { waiting_for };
    let (client, server) = (Side::Client, Side::Server);
    let spare = |side| Order::Reset { spare: Some(side) };
    let no_spare = Order::Reset { spare: None };
    for (end, unsent, order, cause, hap_ts, closer) in [
        (End::Clean, false, Order::Close, "done", "--", "both"),
        (reset(client, Fault::Reset), false, spare(server), "client_reset", "CD", "client"),
        (reset(client, Fault::Closed), false, spare(server), "client_reset", "CD", "client"),
        (reset(client, Fault::TimedOut), false, spare(server), "client_vanished", "cD", "client"),
        (reset(server, Fault::Reset), true, no_spare, "server_reset", "SD", "server"),
        (reset(server, Fault::Other(5)), false, spare(client), "server_reset", "SD", "server"),
        (reset(server, Fault::TimedOut), false, spare(client), "server_vanished", "sD", "server"),
        (End::Idle, false, Order::Close, "idle_timeout", "cD", "proxy"),
        (End::Idle, true, no_spare, "idle_timeout", "cD", "proxy"),
        (half_idle(server), false, Order::Close, "half_close_timeout", "sD", "proxy"),
        (half_idle(client), false, Order::Close, "half_close_timeout", "cD", "proxy"),
        (half_idle(client), true, no_spare, "half_close_timeout", "cD", "proxy"),
        (End::Drained, false, Order::Close, "drain", "KD", "proxy"),
        (End::Killed, false, no_spare, "drain", "KD", "proxy"),
    ] {
        let mut life = Life::connected();
        assert_eq!(life.ended(50, end, unsent), Some(order), "{end:?}");
        let cause_seen = life.record().cause.expect("it has ended");
        assert_eq!(
            (cause_seen.name(), cause_seen.hap_ts(), cause_seen.closer()),
            (cause, hap_ts, closer),
            "{end:?}"
        );
        assert_eq!((life.record().bytes_in, life.record().bytes_out), (3, 4));
        assert_eq!(life.deadline().is_some(), matches!(order, Order::Reset { spare: Some(_) }), "{end:?}");
    }
}

/// Lets every look at a spared peer find it waiting; returns the gaps between looks, and when it was given
/// up.
fn looks(life: &mut Life, most: usize) -> (Vec<u64>, Option<u64>) {
    let mut now = 100;
    life.ended(now, End::Reset { by: Side::Server, fault: Fault::Reset }, false);
    let mut gaps = Vec::new();
    while gaps.len() < most {
        let look = life.deadline().expect("it looks again");
        gaps.push(look - now);
        now = look;
        match life.at(now, Input::Deadline(None)) {
            Some(Order::Reset { spare: Some(Side::Client) }) => {}
            Some(Order::Reset { spare: None }) => return (gaps, Some(now)),
            other => panic!("not a reset: {other:?}"),
        }
    }
    (gaps, None)
}

#[test]
fn a_spared_peer_is_looked_at_less_and_less_often() {
    // A deadline is the first tick that is surely late enough: one more than the wait.
    let expected = [1, 2, 4, 8, 16, 32, 64, 128, 250, 250, 250].map(|wait| wait + 1);
    assert_eq!(looks(&mut Life::connected(), 11), (expected.into(), None));
}

#[test]
fn a_spared_peer_is_given_up_after_half_close_and_asked_for_no_more() {
    let mut config = config(&[1]);
    config.timeouts.half_close = Some(ms(2_000));
    let mut life = Life::new(&config);
    life.at(0, Input::Dialed(Ok(())));
    let (_, given_up) = looks(&mut life, 100);
    let given_up = given_up.expect("2 s are fewer than 100 looks");
    assert!((2_101..=2_351).contains(&given_up), "{given_up}");
    assert_eq!(life.deadline(), None, "a deadline that is due at once again keeps a worker in a circle");
}

#[test]
fn without_half_close_a_spared_peer_is_never_given_up() {
    let mut config = config(&[1]);
    config.timeouts.half_close = None;
    let mut life = Life::new(&config);
    life.at(0, Input::Dialed(Ok(())));
    assert_eq!(looks(&mut life, 10_000).1, None);
}

#[test]
fn what_comes_too_late_changes_nothing() {
    let ended = Input::Ended { end: End::Clean, moved: [0; 2], unsent: false };
    let mut closing = Life::connected();
    closing.ended(20, End::Clean, false);
    let mut spared = Life::connected();
    spared.ended(20, End::Reset { by: Side::Client, fault: Fault::Reset }, false);
    let refused = Input::Dialed(Err(Fault::Refused));
    for (mut life, inputs) in [
        (Life::usual(), vec![ended]),
        (Life::connected(), vec![refused, Input::Dialed(Ok(())), Input::ClientLeft, Input::Deadline(None)]),
        (closing, vec![refused, Input::Dialed(Ok(())), Input::ClientLeft, ended]),
        (spared, vec![refused, Input::Dialed(Ok(())), Input::ClientLeft, ended]),
    ] {
        let before = format!("{:?}", life.session);
        for input in inputs {
            assert_eq!(life.at(21, input), None, "{input:?} in {before}");
            assert_eq!(format!("{:?}", life.session), before, "{input:?}");
        }
    }
}

#[test]
fn an_idle_relay_is_stopped_and_a_busy_one_is_not() {
    let mut config = config(&[1]);
    config.timeouts.idle = Some(ms(1_000));
    config.timeouts.half_close = Some(ms(1_000));
    let mut life = Life::new(&config);
    life.at(0, Input::Dialed(Ok(())));
    let mut delivered = 0;
    let stopped = loop {
        let now = life.deadline().expect("it is watched");
        delivered += u64::from(now < 5_000);
        match life.at(now, Input::Deadline(Some(sight([delivered, 0], None)))) {
            None => assert!(now < 7_000, "it is not found"),
            Some(order) => break (now, order),
        }
    };
    assert_eq!(stopped.1, Order::Stop(End::Idle));
    assert!(stopped.0 >= 5_000 + 750, "{}", stopped.0);
}

#[test]
fn the_record_tells_the_whole_life() {
    let config = config(&[1, 1]);
    let snapshot = Snapshot::new(&config, 1000);
    let client = Some("[2001:db8::7]:40000".parse().expect("an address"));
    let at = |tick| Context { now: Tick(tick), snapshot: &snapshot };
    let (mut session, _) = Session::new(1 << 48 | 9, ListenerId(0), client, at(1_000));
    assert_eq!(session.listener(), ListenerId(0));
    assert_eq!(session.handle(Input::Dialed(Err(Fault::Refused)), at(1_002)), dial(1));
    session.handle(Input::Dialed(Ok(())), at(1_040));
    let opened = session.opened(3, Tick(1_040));
    assert_eq!((opened.event, opened.cause, opened.connect_ms), (Event::Open, None, Some(40)));
    assert_eq!((opened.id, opened.server, opened.ended), (1 << 48 | 9, Some(ServerId(1)), Tick(1_040)));
    assert_eq!((opened.bytes_in, opened.bytes_out), (0, 0));
    session.handle(Input::Ended { end: End::Clean, moved: [11, u64::MAX], unsent: false }, at(9_000));
    let record = session.record(3, Tick(9_001));
    assert_eq!((record.id, record.worker, record.client), (1 << 48 | 9, 3, client));
    assert_eq!((record.server, record.tries, record.connect_ms), (Some(ServerId(1)), 2, Some(40)));
    assert!(record.redispatched);
    assert_eq!((record.began, record.ended), (Tick(1_000), Tick(9_001)));
    assert_eq!((record.bytes_in, record.bytes_out), (11, u64::MAX));
    assert_eq!((record.event, record.cause), (Event::Close, Some(Cause::Done)));
}

/// What happens next to a session whose last order was `order`.
fn some_input(order: Order, choice: u8) -> Input {
    let faults = [Fault::Refused, Fault::Unreachable, Fault::NoFiles, Fault::NoPorts, Fault::Reset];
    let fault = faults[usize::from(choice >> 3) % faults.len()];
    let by = if choice & 8 == 0 { Side::Client } else { Side::Server };
    let sight = sight([u64::from(choice >> 6); 2], (choice & 8 == 0).then_some(by));
    match (order, choice % 8) {
        (_, 0) if choice == 0 => Input::Kill(Cause::Drain),
        (Order::Dial { .. }, 0..5) => Input::Dialed(Err(fault)),
        (Order::Dial { .. }, 5) if choice & 64 == 0 => Input::Dialed(Ok(())),
        (Order::Relay { .. }, 0) => {
            Input::Ended { end: End::Reset { by, fault }, moved: [1, 1], unsent: true }
        }
        (Order::Stop(end), _) => Input::Ended { end, moved: [2, 2], unsent: choice & 8 == 0 },
        (Order::Relay { .. }, _) => Input::Deadline(Some(sight)),
        _ => Input::Deadline(None),
    }
}

/// The `step`-th of an endless row of numbers without order.
fn mixed(seed: u64, step: u64) -> u64 {
    let mut mixed = seed.wrapping_add(step.wrapping_mul(0x9e37_79b9_7f4a_7c15));
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed ^ (mixed >> 27)
}

proptest! {
    /// However a life goes, no deadline is due twice, attempts and time have their limits, and it ends.
    #[test]
    fn every_life_keeps_its_limits_and_ends(
        servers in 1_usize..12,
        tries in 1_u8..8,
        limits in prop::array::uniform4(1_u64..3_000),
        pause in 0_u64..2_000,
        seed in any::<u64>(),
    ) {

        let mut config = config(&vec![1; servers]);
        let [connect, connect_total, idle, half_close] = limits.map(|limit| Some(ms(limit)));
        config.timeouts = config::Timeouts { connect, connect_total, idle, half_close, ..config.timeouts };
        config.pools[0].retry = config::Retry { tries, same_server_delay: ms(pause) };
        let mut life = Life::new(&config);
        let (mut now, mut order) = (0, life.first);
        let total_ends = limits[1] + 1;
        let mut over = false;
        for step in 0..4_000 {
            let random = mixed(seed, step);
            let (choice, wait) = (random as u8, (random >> 8) % 500);
            if order == Order::Close || order == (Order::Reset { spare: None }) {
                over = true;
                break;
            }
            let deadline = life.deadline();
            let mut input = some_input(order, choice);
            now = match deadline {
                Some(deadline) if matches!(input, Input::Deadline(_)) || now + wait >= deadline => {
                    // A worker tells of the deadline first.
                    if matches!(input, Input::Dialed(_)) {
                        input = Input::Deadline(None);
                    }
                    deadline.max(now)
                }
                _ => now + wait,
            };
            let is_deadline = matches!(input, Input::Deadline(_));
            let answer = life.at(now, input);
            if is_deadline {
                prop_assert!(life.deadline().is_none_or(|next| next > now), "due again: {:?}", life.session);
            }
            prop_assert!(life.session.tries <= tries);
            if matches!(order, Order::Dial { .. }) {
                let may_last = answer.is_some_and(|order| !matches!(order, Order::Dial { .. }));
                prop_assert!(now < total_ends || may_last, "still dialing at {now}: {:?}", life.session);
                prop_assert!(now <= total_ends, "{now}");
            }
            order = answer.unwrap_or(order);
        }
        prop_assert!(over, "it does not end: {:?}", life.session);
    }
}

#[test]
fn a_connection_ends_at_the_first_quiet_moment_after_its_lifetime() {
    let mut config = config(&[1]);
    (config.timeouts.max_lifetime, config.timeouts.max_lifetime_jitter) = (Some(ms(60_000)), 0.0);
    let mut life = Life::new(&config);
    life.at(10, Input::Dialed(Ok(())));
    assert_eq!(life.deadline(), Some(60_001));
    // It moves bytes until then, and on.
    for (tick, moved) in [(60_001, 10), (60_250, 20), (60_500, 30)] {
        assert_eq!(life.at(tick, Input::Deadline(Some(sight([0, moved], None)))), None);
        assert!(
            life.deadline().is_some_and(|next| next > tick && next <= tick + 250),
            "{:?}",
            life.deadline()
        );
    }
    let quiet = Input::Deadline(Some(sight([0, 30], None)));
    assert_eq!(life.at(60_701, quiet), Some(Order::Stop(End::Drained)));
    assert_eq!(life.ended(60_701, End::Drained, false), Some(Order::Close));
    assert_eq!(life.record().cause, Some(Cause::MaxLifetime));
}

#[test]
fn who_was_asked_to_leave_for_another_reason_says_so() {
    let mut config = config(&[1]);
    (config.timeouts.max_lifetime, config.timeouts.max_lifetime_jitter) = (Some(ms(60_000)), 0.0);
    let mut life = Life::new(&config);
    life.at(10, Input::Dialed(Ok(())));
    life.at(59_000, Input::Leave(Cause::Rebalanced, Tick(70_000)));
    assert_eq!(life.at(61_000, Input::Deadline(Some(sight([0, 0], None)))), Some(Order::Stop(End::Drained)));
    life.ended(61_000, End::Drained, false);
    assert_eq!(life.record().cause, Some(Cause::Rebalanced));
}

#[test]
fn lifetimes_are_spread_by_their_jitter_and_never_longer() {
    let mut config = config(&[1]);
    (config.timeouts.max_lifetime, config.timeouts.max_lifetime_jitter) = (Some(ms(100_000)), 0.25);
    let snapshot = Snapshot::new(&config, 1000);
    let ends = (0..1_000).map(|id| lives_until(id, Tick(0), snapshot.listener(ListenerId(0))).unwrap().0);
    let mut ends: Vec<u64> = ends.collect();
    ends.sort_unstable();
    assert!(ends[0] >= 75_000 && ends[999] <= 100_001, "{} to {}", ends[0], ends[999]);
    for (place, quarter) in [(250, 81_250), (500, 87_500), (750, 93_750)] {
        assert!(ends[place].abs_diff(quarter) < 1_500, "{place}: {}", ends[place]);
    }
}

#[test]
fn when_no_upstream_says_what_a_client_meets_that_gets_no_server() {
    for (way, order) in [
        (WhenNoUpstream::Rst, Order::Reset { spare: None }),
        (WhenNoUpstream::Close, Order::Dismiss { peer: Side::Client }),
    ] {
        let mut config = config(&[0]);
        config.listeners[0].when_no_upstream = way;
        let life = Life::new(&config);
        assert_eq!((life.first, life.record().cause), (order, Some(Cause::NoServer)));
        config.pools[0].servers[0].weight = 1;
        config.pools[0].retry.tries = 1;
        let mut life = Life::new(&config);
        assert_eq!(life.refused(5), Some(order));
        // A close may have to wait until the client has what it was told: the session asks for it again.
        assert_eq!(life.session.deadline().is_some(), way == WhenNoUpstream::Close);
        // Who is ended for another reason is reset.
        let mut life = Life::new(&config);
        assert_eq!(life.at(5, Input::Kill(Cause::Killed)), Some(Order::Reset { spare: None }));
    }
}

#[test]
fn a_session_is_small() {
    let size = size_of::<Session>();
    println!("a session has {size} bytes");
    assert!(size <= 256, "{size}");
}

#[test]
fn failed_connects_in_a_row_are_the_servers_unless_the_fault_is_ours() {
    let failures = |life: &Life, server| life.snapshot.server(ServerId(server)).tally.failures.get();
    for ours in [Fault::NoPorts, Fault::NoFiles, Fault::NoMemory, Fault::Denied, Fault::Busy] {
        let mut life = Life::usual();
        life.at(1, Input::Dialed(Err(ours)));
        assert_eq!(failures(&life, 0), 0, "{ours:?}");
    }
    for theirs in [Fault::Refused, Fault::Unreachable, Fault::TimedOut, Fault::Reset, Fault::Other(2)] {
        let mut life = Life::usual();
        assert_eq!(life.at(1, Input::Dialed(Err(theirs))), dial(1));
        assert_eq!((failures(&life, 0), failures(&life, 1)), (1, 0), "{theirs:?}");
        life.at(2, Input::Dialed(Ok(())));
        assert_eq!((failures(&life, 0), failures(&life, 1)), (1, 0), "it was another one that took it");
    }
    let mut life = Life::usual();
    life.snapshot.server(ServerId(0)).tally.failures.failed();
    life.at(1, Input::Dialed(Ok(())));
    assert_eq!(failures(&life, 0), 0);
}

#[test]
fn a_server_that_cannot_be_reached_has_failed_for_a_while() {
    let mut config = config(&[1, 1]);
    config.pools[0].balance = Balance::LeastTime;
    let snapshot = Snapshot::new(&config, 1000);
    let cx = |ms| Context { now: Tick(ms), snapshot: &snapshot };
    let (mut session, order) = Session::new(7, ListenerId(0), None, cx(0));
    let Order::Dial { to, .. } = order else { panic!("{order:?}") };
    session.handle(Input::Dialed(Err(Fault::Refused)), cx(1));
    let failed = |id, ms| snapshot.server(id).latency.as_ref().expect("kept").has_failed(Tick(ms));
    assert!(failed(to, 1_001) && !failed(to, 1_002), "for a second");
    session.handle(Input::Dialed(Err(Fault::NoPorts)), cx(2));
    assert!(!failed(ServerId(1 - to.0), 2), "what is short here speaks against nobody");
}

#[test]
fn a_connect_to_a_server_that_goes_down_is_one_to_another() {
    let mut life = Life::usual();
    assert_eq!(life.at(1, Input::Kill(Cause::ServerDown)), dial(1));
    assert_eq!(life.at(2, Input::Dialed(Ok(()))), Some(RELAY));
    assert_eq!(life.ended(3, End::Clean, false), Some(Order::Close));
    assert_eq!((life.record().cause, life.record().tries), (Some(Cause::Done), 1));
}
