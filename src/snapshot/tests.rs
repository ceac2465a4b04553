use std::num::NonZeroU16;

use super::*;
use crate::balance::{Client, Pick};
use crate::config::parse;

/// Pools as `name: server=address …`, and a listener for each.
fn config(pools: &[(&str, &[(&str, u16)])]) -> config::Config {
    let mut text = String::new();
    for (number, (pool, servers)) in pools.iter().enumerate() {
        text +=
            &format!("[listener.of-{pool}]\nbind = [\"127.0.0.1:{}\"]\npool = \"{pool}\"\n", 8000 + number);
        let servers = servers
            .iter()
            .map(|(name, port)| format!("{{ name = \"{name}\", addr = \"127.0.0.1:{port}\" }}"));
        text += &format!("[pool.{pool}]\nserver = [{}]\n", servers.collect::<Vec<_>>().join(", "));
    }
    parse(&text, "test").unwrap_or_else(|report| panic!("{report}"))
}

fn next(snapshot: &Snapshot, pools: &[(&str, &[(&str, u16)])], now_ms: u64) -> Snapshot {
    snapshot
        .next(&config(pools), 100, &Overrides::new(), &Conditions::new(), Tick(now_ms))
        .expect("few names")
}

fn server(snapshot: &Snapshot, name: &str) -> u32 {
    let place = snapshot.servers.iter().position(|server| server.removed.is_none() && *server.name == *name);
    u32::try_from(place.expect("it is there")).expect("few")
}

#[test]
fn what_keeps_its_name_keeps_its_id_and_its_counts() {
    let first = Snapshot::new(&config(&[("a", &[("x", 1), ("y", 2)]), ("b", &[("z", 3)])]), 100);
    assert!(first.server(ServerId(1)).connections.take());
    first.server(ServerId(1)).tally.redispatched.add(7);
    assert!(first.listener(ListenerId(1)).connections.take());
    assert!(first.connections.take());
    let second = next(&first, &[("b", &[("z", 3)]), ("new", &[("w", 4)]), ("a", &[("y", 2)])], 5);
    assert_eq!((server(&second, "y"), server(&second, "z")), (1, 2));
    assert_eq!(second.server(ServerId(1)).connections.count(), 1);
    assert_eq!(second.server(ServerId(1)).tally.redispatched.get(), 7);
    assert_eq!((second.pool_named("a"), second.pool_named("b")), (Some(PoolId(0)), Some(PoolId(1))));
    assert_eq!(second.listener_id("of-b"), Some(ListenerId(1)));
    assert_eq!((second.listener(ListenerId(1)).connections.count(), second.connections.count()), (1, 1));
    first.server(ServerId(1)).connections.give();
    assert_eq!(second.server(ServerId(1)).connections.count(), 0, "it is the same count");
    assert_eq!(
        second.pool(PoolId(0)).choice.pick(&[], 9, Client::default(), &|_| Some(0)),
        Pick::Server(ServerId(1))
    );
}

#[test]
fn an_id_is_not_given_out_again_while_connections_belong_to_it_nor_soon_after() {
    let first = Snapshot::new(&config(&[("a", &[("x", 1), ("y", 2)])]), 100);
    assert!(first.server(ServerId(0)).connections.take());
    let mut snapshot = next(&first, &[("a", &[("y", 2)])], 1_000);
    assert_eq!(snapshot.server(ServerId(0)).removed, Some(NEVER));
    snapshot = next(&snapshot, &[("a", &[("y", 2), ("v", 3)])], 1_000_000);
    assert_eq!(server(&snapshot, "v"), 2, "x has a connection");
    first.server(ServerId(0)).connections.give();
    snapshot = next(&snapshot, &[("a", &[("y", 2), ("v", 3)])], 2_000_000);
    snapshot = next(&snapshot, &[("a", &[("y", 2), ("v", 3), ("w", 4)])], 2_059_999);
    assert_eq!(server(&snapshot, "w"), 3, "its last one may just have ended");
    snapshot = next(&snapshot, &[("a", &[("y", 2), ("v", 3), ("w", 4), ("u", 5)])], 2_061_000);
    assert_eq!(server(&snapshot, "u"), 0);
    assert_eq!(snapshot.servers.len(), 4);
}

#[test]
fn a_thousand_reloads_take_no_more_room_than_what_is_removed_in_a_minute() {
    let mut snapshot = Snapshot::new(&config(&[("a", &[("x", 1)])]), 100);
    for number in 0..1_000 {
        let (pool, name) = (format!("p{number}"), format!("s{number}"));
        snapshot = next(&snapshot, &[("a", &[("x", 1)]), (&pool, &[(&name, 9)])], number * 1_000);
    }
    assert!(snapshot.servers.len() <= 64 && snapshot.pools.len() <= 130, "{snapshot:?}");
    assert!(snapshot.listeners.len() <= 64, "{}", snapshot.listeners.len());
}

#[test]
fn a_server_with_another_address_is_another_one() {
    let first = Snapshot::new(&config(&[("a", &[("x", 1)])]), 100);
    assert!(first.server(ServerId(0)).connections.take());
    let second = next(&first, &[("a", &[("x", 2)])], 5);
    assert_eq!((server(&second, "x"), second.server(ServerId(1)).connections.count()), (1, 0));
    assert!(second.server(ServerId(0)).removed.is_some());
    let third = next(&second, &[("a", &[("x", 1)])], 6);
    assert_eq!((server(&third, "x"), third.server(ServerId(0)).connections.count()), (0, 1), "it is back");
}

#[test]
fn what_an_operator_has_set_goes_before_the_file() {
    let config = config(&[("a", &[("x", 1), ("y", 2), ("z", 3)])]);
    let key = |name: &str| ("a".to_owned(), name.to_owned());
    let overrides = Overrides::from([
        (key("x"), Override { weight: Some(0), state: None }),
        (key("y"), Override { weight: Some(500), state: Some(ServerState::Drain) }),
        (key("gone"), Override { weight: Some(5), state: None }),
    ]);
    let snapshot = Snapshot::new(&config, 100)
        .next(&config, 100, &overrides, &Conditions::new(), Tick(0))
        .expect("few names");
    let pool = snapshot.pool(PoolId(0));
    assert!((0..100).all(
        |seed| pool.choice.pick(&[], seed, Client::default(), &|_| Some(0)) == Pick::Server(ServerId(2))
    ));
    let y = snapshot.server(ServerId(1));
    assert_eq!((y.weight, y.state), (500, ServerState::Drain));
}

#[test]
fn round_robin_goes_on_where_it_was() {
    let mut config = config(&[("a", &[("x", 1), ("y", 2), ("z", 3)])]);
    config.pools[0].balance = config::Balance::RoundRobin;
    let first = Snapshot::new(&config, 100);
    let pick =
        |snapshot: &Snapshot| snapshot.pool(PoolId(0)).choice.pick(&[], 0, Client::default(), &|_| Some(0));
    assert_eq!(pick(&first), Pick::Server(ServerId(0)));
    let second = first.next(&config, 100, &Overrides::new(), &Conditions::new(), Tick(1)).expect("few names");
    assert_eq!([pick(&second), pick(&second), pick(&second)], [1, 2, 0].map(|id| Pick::Server(ServerId(id))));
}

#[test]
fn an_id_that_got_a_connection_again_is_not_free() {
    let first = Snapshot::new(&config(&[("a", &[("x", 1), ("y", 2)])]), 100);
    let without = next(&first, &[("a", &[("y", 2)])], 1_000);
    // A dial that was under way when the server was removed.
    assert!(first.server(ServerId(0)).connections.take());
    let later = next(&without, &[("a", &[("y", 2), ("z", 3)])], 100_000);
    assert_eq!(server(&later, "z"), 2);
    assert_eq!(later.server(ServerId(0)).removed, Some(NEVER));
}

#[test]
fn a_listener_whose_clients_wait_keeps_its_id() {
    let pool: (&str, &[(&str, u16)]) = ("a", &[("x", 1)]);
    let first = Snapshot::new(&config(&[pool, ("b", &[("y", 2)])]), 100);
    let waiting = &first.listener(ListenerId(1)).waiting;
    assert!(waiting.take());
    let mut snapshot = next(&first, &[pool], 1_000);
    snapshot = next(&snapshot, &[pool, ("c", &[("z", 3)])], 100_000);
    assert_eq!(snapshot.listener_id("of-c"), Some(ListenerId(2)), "it would serve the clients of b");
    waiting.give();
    snapshot = next(&snapshot, &[pool], 200_000);
    snapshot = next(&snapshot, &[pool, ("d", &[("z", 3)])], 261_000);
    assert!(matches!(snapshot.listener_id("of-d"), Some(ListenerId(1 | 2))), "all are gone");
}

/// `count` listeners and pools whose names nobody had before.
fn renamed(of: &config::Config, count: usize, round: u64) -> config::Config {
    let mut config = of.clone();
    let name = |kind: &str, number: usize| format!("{kind}-{round}-{number}");
    let pool = |number| config::Pool { name: name("p", number), ..of.pools[0].clone() };
    config.pools = (0..count).map(pool).collect();
    let listener =
        |number| config::Listener { name: name("l", number), pool: number, ..of.listeners[0].clone() };
    config.listeners = (0..count).map(listener).collect();
    config
}

#[test]
fn more_names_in_a_minute_than_there_are_ids_are_refused_and_later_they_are_not() {
    let one = config(&[("a", &[("x", 1)])]);
    let mut snapshot = Snapshot::new(&renamed(&one, 4_096, 0), 100);
    let next = |snapshot: &Snapshot, config: &config::Config, now_ms| {
        snapshot.next(config, 100, &Overrides::new(), &Conditions::new(), Tick(now_ms))
    };
    for round in 1..16 {
        snapshot = next(&snapshot, &renamed(&one, 4_096, round), round).expect("sixteen times 4,096 ids");
    }
    let more = renamed(&one, 4_096, 16);
    let refused = next(&snapshot, &more, 16).expect_err("every id is in use, or rests");
    assert!(refused.to_string().contains("no number left for a new pool"), "{refused}");
    // New listeners before pools that stay.
    let mut listeners = renamed(&one, 4_096, 15);
    listeners.listeners = renamed(&one, 4_096, 16).listeners;
    assert_eq!(next(&snapshot, &listeners, 16).err(), Some(NoIds("listener")));
    let later = next(&snapshot, &renamed(&one, 4_096, 15), 100_000).expect("nothing new");
    let later = next(&later, &more, 200_000).expect("the ids have rested");
    assert!(later.listeners.len() <= 1 << 16 && later.pools.len() <= 1 << 16);
}

/// The pool's, then the listener's, then the default.
#[test]
fn of_two_limits_the_pools_holds() {
    const LEAST: &str = "[listener.web]\nbind = [\"127.0.0.1:1\"]\npool = \"web\"\n\
        [pool.web]\nserver = [{ name = \"a\", addr = \"127.0.0.1:2\" }]";
    let seconds = |seconds| Some(Duration::from_secs(seconds));
    for (tables, idle, half_close, connect) in [
        ("", seconds(3_600), seconds(300), seconds(5)),
        ("[listener.web.timeouts]\nidle = \"1s\"", seconds(1), seconds(300), seconds(5)),
        ("[pool.web.timeouts]\nidle = \"2s\"\nconnect = \"3s\"", seconds(2), seconds(300), seconds(3)),
        (
            "[listener.web.timeouts]\nidle = \"1s\"\nhalf_close = \"7s\"\n[pool.web.timeouts]\nidle = \"off\"\n\
             [defaults.timeouts]\nconnect = \"off\"",
            None,
            seconds(7),
            None,
        ),
    ] {
        let text = format!("{LEAST}\n{tables}");
        let config = parse(&text, "test").unwrap_or_else(|report| panic!("{report}"));
        let snapshot = Snapshot::new(&config, 10);
        let timeouts = snapshot.listeners[0].leads.own.timeouts;
        let found = (timeouts.idle, timeouts.half_close, timeouts.connect);
        assert_eq!(found, (idle, half_close, connect), "{tables}");
        assert_eq!(snapshot.pools[0].connect, connect, "{tables}");
    }
}

/// A table is made anew only where something of it has changed.
#[test]
fn a_table_of_sources_stays_as_long_as_its_servers_do() {
    let text = |weight: u16, bound: &str| {
        format!(
            "[listener.web]\nbind = [\"127.0.0.1:1\"]\npool = \"web\"\n\
             [pool.web]\nbalance = \"source\"\nhash = {{ bounded_load = {bound} }}\n\
             server = [{{ name = \"a\", addr = \"127.0.0.1:2\", weight = {weight} }}, {{ name = \"b\", addr = \"127.0.0.1:3\" }}]"
        )
    };
    let config = |text: String| parse(&text, "test").unwrap_or_else(|report| panic!("{report}"));
    let table = |snapshot: &Snapshot| match &snapshot.pool(PoolId(0)).choice.balancer {
        Balancer::BySource(table) => Arc::clone(table),
        other => panic!("{other:?}"),
    };
    let first = Snapshot::new(&config(text(1, "1.5")), 10);
    for (text, stays) in [(text(1, "1.5"), true), (text(2, "1.5"), false), (text(1, "\"off\""), false)] {
        let next =
            first.next(&config(text), 10, &Overrides::new(), &Conditions::new(), Tick(0)).expect("few names");
        assert_eq!(Arc::ptr_eq(&table(&first), &table(&next)), stays);
    }
}

#[test]
fn only_a_server_that_is_up_has_a_share_and_one_on_its_way_a_part_of_it() {
    let mut config = config(&[("a", &[("x", 1), ("y", 2), ("z", 3), ("w", 4)])]);
    config.pools[0].balance = config::Balance::RoundRobin;
    let condition =
        |name: &str, health, step| (("a".to_owned(), name.to_owned()), Condition { health, step });
    let conditions = Conditions::from([
        condition("x", Health::Down, health::STEPS),
        condition("y", Health::Ejected, health::STEPS),
        condition("z", Health::Up, 5),
    ]);
    let snapshot = Snapshot::new(&config, 100).next(&config, 100, &Overrides::new(), &conditions, Tick(0));
    let snapshot = snapshot.expect("few names");
    let balancer = &snapshot.pool(PoolId(0)).choice.balancer;
    let mut picks = [0; 4];
    for _ in 0..100 {
        let Pick::Server(server) = balancer.pick(&[], 0, Client::default(), &|_| Some(0)) else {
            panic!("two are up")
        };
        picks[server.0 as usize] += 1;
    }
    assert_eq!(picks, [0, 0, 20, 80]);
    assert_eq!(snapshot.server(ServerId(0)).health, Health::Down);
}

/// Of four servers, of which `z` and `w` are backup servers, who serves and who gets connections, when some are down.
fn served(down: &[&str], all_down: config::AllDown) -> (Serving, String) {
    let mut config = config(&[("a", &[("x", 1), ("y", 2), ("z", 3), ("w", 4)])]);
    config.pools[0].servers[2].backup = true;
    config.pools[0].servers[3].backup = true;
    config.pools[0].all_down = all_down;
    let condition = |name: &&str| {
        (("a".to_owned(), (*name).to_owned()), Condition { health: Health::Down, step: health::STEPS })
    };
    let conditions = down.iter().map(condition).collect();
    let snapshot = Snapshot::new(&config, 100).next(&config, 100, &Overrides::new(), &conditions, Tick(0));
    let snapshot = snapshot.expect("few names");
    let choice = &snapshot.pool(PoolId(0)).choice;
    let mut picked = std::collections::BTreeSet::new();
    for seed in 0..100 {
        if let Pick::Server(id) = choice.pick(&[], seed, Client::default(), &snapshot.loads(Tick(0))) {
            picked.insert(snapshot.server(id).name.to_string());
        }
    }
    (choice.serving, picked.into_iter().collect())
}

#[test]
fn backup_servers_serve_when_no_other_does_and_those_that_are_down_when_it_is_asked_for() {
    use config::AllDown::{Reject, TryAll};
    for (down, all_down, serving, who) in [
        (&[][..], Reject, Serving::Servers, "xy"),
        (&["x"], Reject, Serving::Servers, "y"),
        (&["x", "y"], Reject, Serving::Backups, "wz"),
        (&["x", "y"], TryAll, Serving::Backups, "wz"),
        (&["x", "y", "z"], Reject, Serving::Backups, "w"),
        (&["x", "y", "z", "w"], Reject, Serving::Nobody, ""),
        (&["x", "y", "z", "w"], TryAll, Serving::Down, "wxyz"),
    ] {
        assert_eq!(served(down, all_down), (serving, who.to_owned()), "{down:?} {all_down:?}");
    }
}

#[test]
fn a_client_that_has_failed_at_all_servers_is_let_to_a_backup_server() {
    let mut config = config(&[("a", &[("x", 1), ("y", 2), ("z", 3)])]);
    config.pools[0].servers[1].backup = true;
    config.pools[0].servers[2].state = ServerState::Maint;
    let snapshot = Snapshot::new(&config, 100);
    let pick = |tried: &[ServerId], snapshot: &Snapshot| {
        snapshot.pool(PoolId(0)).choice.pick(tried, 7, Client::default(), &snapshot.loads(Tick(0)))
    };
    assert_eq!(pick(&[], &snapshot), Pick::Server(ServerId(0)));
    assert_eq!(pick(&[ServerId(0)], &snapshot), Pick::Server(ServerId(1)));
    assert_eq!(pick(&[ServerId(0), ServerId(1)], &snapshot), Pick::None);
    config.pools[0].servers[0].maxconn = NonZeroU32::new(1);
    let snapshot = Snapshot::new(&config, 100);
    assert!(snapshot.server(ServerId(0)).connections.take());
    assert_eq!(pick(&[], &snapshot), Pick::Full, "who finds a server full waits for it");
}

/// Of 100,000 connections, each of which lasts as long as 200 more come, what four servers with the weights 1 to 4 get, in
/// thousandths.
fn shares(keys: &str) -> [u32; 4] {
    const PICKS: u32 = 100_000;
    let servers = (1..=4).map(|number| {
        format!("{{ name = \"s{number}\", addr = \"10.0.0.{number}:1\", weight = {number}, maxconn = 1000 }}")
    });
    let servers = servers.collect::<Vec<_>>().join(", ");
    let listener = "[listener.l]\nbind = [\"127.0.0.1:1\"]\npool = \"p\"";
    let config = parse(&format!("{listener}\n[pool.p]\n{keys}\nserver = [{servers}]"), "test");
    let snapshot = Snapshot::new(&config.unwrap_or_else(|report| panic!("{report}")), 10);
    let mut there = std::collections::VecDeque::new();
    let mut picks = [0; 4];
    for number in 0..PICKS {
        let address = std::net::Ipv4Addr::from_bits(number.wrapping_mul(2_654_435_761)).into();
        let client = Client { address: Some(address), name: None };
        let choice = &snapshot.pool(PoolId(0)).choice;
        let pick = choice.pick(&[], number.into(), client, &snapshot.loads(Tick(0)));
        let Pick::Server(id) = pick else { panic!("{pick:?}") };
        assert!(snapshot.server(id).connections.take());
        picks[id.0 as usize] += 1;
        there.push_back(id);
        if there.len() > 200 {
            snapshot.server(there.pop_front().expect("somebody")).connections.give();
        }
    }
    picks.map(|count| count / (PICKS / 1000))
}

#[test]
fn over_100_000_picks_each_way_to_choose_keeps_the_shares_of_the_weights() {
    for (keys, off_by) in [
        ("balance = \"round_robin\"", 0),
        ("balance = \"random\"", 5),
        ("balance = \"p2c\"", 10),
        ("balance = \"least_conn\"", 2),
        ("balance = \"least_time\"", 10),
        ("balance = \"source\"\nhash = { bounded_load = \"off\" }", 5),
        ("balance = \"source\"", 10),
        ("balance = \"source\"\nhash = { method = \"ring\", bounded_load = \"off\" }", 40),
    ] {
        let shares = shares(keys);
        println!("{keys}: {shares:?} of 1000");
        for (share, expected) in shares.into_iter().zip([100, 200, 300, 400_u32]) {
            assert!(share.abs_diff(expected) <= off_by, "{keys}: {shares:?}");
        }
    }
    assert_eq!(shares("balance = \"first\""), [1000, 0, 0, 0]);
}

#[test]
fn who_is_new_begins_at_the_median_of_how_long_it_takes_to_reach_the_others() {
    let mut all = config(&[("a", &[("x", 1), ("y", 2), ("z", 3), ("new", 4)])]);
    all.pools[0].balance = config::Balance::LeastTime;
    let mut three = all.clone();
    three.pools[0].servers.pop();
    let first = Snapshot::new(&three, 100);
    for (id, connect, answer) in [(0, 5, 300), (1, 70, 100), (2, 20, 200)] {
        let latency = first.server(ServerId(id)).latency.as_ref().expect("kept");
        latency.connect.saw(Tick(9), Duration::from_millis(connect));
        latency.answer.saw(Tick(9), Duration::from_millis(answer));
    }
    let second = first.next(&all, 100, &Overrides::new(), &Conditions::new(), Tick(9)).expect("few names");
    let means = |id| second.server(ServerId(id)).latency.as_ref().expect("kept").means_ms(Tick(9));
    let expected = [[5.0, 300.0], [70.0, 100.0], [20.0, 200.0], [20.0, 200.0]];
    assert_eq!([0, 1, 2, 3].map(means), expected.map(|means| means.map(Some)));
}

/// What was known of it before has faded meanwhile.
#[test]
fn who_comes_back_begins_at_the_median_of_those_that_serve() {
    let mut config = config(&[("a", &[("x", 1), ("y", 2), ("z", 3), ("w", 4)])]);
    config.pools[0].balance = config::Balance::LeastTime;
    let first = Snapshot::new(&config, 100);
    let key = |name: &str| ("a".to_owned(), name.to_owned());
    let down = |name: &str| (key(name), Condition { health: Health::Down, ..Condition::default() });
    let reach = |snapshot: &Snapshot, id, at: Tick| {
        snapshot.server(ServerId(id)).latency.as_ref().and_then(|latency| latency.connect.mean_ms(at))
    };
    for (id, ms) in [(0, 20), (1, 30), (2, 500), (3, 40)] {
        first
            .server(ServerId(id))
            .latency
            .as_ref()
            .expect("kept")
            .connect
            .saw(Tick(0), Duration::from_millis(ms));
    }
    let none = Overrides::new();
    let later = Tick(60_000);
    let away = first.next(&config, 100, &none, &[down("x"), down("z")].into(), Tick(0)).expect("few names");
    for (id, ms) in [(1, 30), (3, 40)] {
        away.server(ServerId(id))
            .latency
            .as_ref()
            .expect("kept")
            .connect
            .saw(later, Duration::from_millis(ms));
    }
    assert!(reach(&away, 0, later).is_some_and(|ms| ms < 0.1), "it has faded");
    let back = away.next(&config, 100, &none, &[down("z")].into(), later).expect("few names");
    assert_eq!(reach(&back, 0, later), Some(40.0), "the middle of those that serve; z has no say");
    let kept = back.next(&config, 100, &none, &[down("z")].into(), later).expect("few names");
    assert_eq!(reach(&kept, 1, later), Some(30.0), "who was there goes on");
}

#[tokio::test]
async fn an_alarm_is_heard_once_for_all_that_rang_and_never_missed() {
    let alarm = Alarm::default();
    alarm.ring();
    alarm.ring();
    alarm.heard().await;
    alarm.ring();
    alarm.heard().await;
    let silent = tokio::time::timeout(Duration::from_millis(20), alarm.heard()).await;
    assert!(silent.is_err(), "nobody rang");
}

/// Whoever rings is heard: what it wrote before is seen by then, or later.
#[test]
fn no_ring_is_lost_between_threads() {
    const RINGS: u64 = 20_000;
    let (alarm, written) = (Alarm::default(), AtomicU64::new(0));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().expect("a runtime");
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for _ in 0..RINGS {
                written.fetch_add(1, Ordering::Relaxed);
                alarm.ring();
            }
        });
        let hear = async {
            while written.load(Ordering::Relaxed) < RINGS {
                alarm.heard().await;
            }
        };
        let heard = runtime.block_on(async { tokio::time::timeout(Duration::from_secs(20), hear).await });
        assert!(heard.is_ok(), "a ring was lost");
    });
}

/// A listener with this key, and pools of one server.
fn leading(key: &str, pools: &[&str]) -> config::Config {
    let pools = pools
        .iter()
        .map(|name| format!("[pool.{name}]\nserver = [{{ name = \"s\", addr = \"127.0.0.1:1\" }}]\n"));
    let text = format!("[listener.l]\nbind = [\"127.0.0.1:2\"]\n{key}\n{}", pools.collect::<String>());
    parse(&text, "test").unwrap_or_else(|report| panic!("{report}"))
}

/// One with these routes.
fn routed(routes: &str, pools: &[&str]) -> config::Config {
    leading(&format!("route = [{routes}]"), pools)
}

/// How many connections of the only listener have ended at each pool.
fn ends_of(snapshot: &Snapshot) -> String {
    let led = snapshot.listeners[0].leads.all();
    let mut ends: Vec<String> = led.map(|led| format!("{} {}", led.name, led.closed[0].get())).collect();
    ends.sort_unstable();
    ends.join("; ")
}

#[test]
fn counts_of_routes_follow_them_and_those_of_pools_stay() {
    let (a, b) = ("{ sni = [\"a.test\", \"c.test\"], pool = \"p\" }", "{ sni = [\"b.test\"], pool = \"q\" }");
    let first = Snapshot::new(&routed(&format!("{a}, {b}"), &["p", "q"]), 100);
    let listener = first.listener(ListenerId(0));
    let routes = listener.routes.as_ref().expect("it has some");
    for number in [1, 2, 2, 0] {
        routes.count(NonZeroU16::new(number));
    }
    for (pool, count) in [(Some(PoolId(0)), 3), (Some(PoolId(1)), 4), (None, 5)] {
        listener.closed(pool)[0].add(count);
    }
    let next = |before: &Snapshot, routes: &str, pools: &[&str], now| {
        let config = routed(routes, pools);
        before.next(&config, 100, &Overrides::new(), &Conditions::new(), Tick(now)).expect("few names")
    };
    let shown = |snapshot: &Snapshot| {
        let routes = snapshot.listeners[0].routes.as_ref().expect("it has some");
        let taken = |route: &Route| format!("{} {}", route.matches, route.taken.get());
        let all: Vec<String> = routes.numbered().map(|(_, route)| taken(route)).collect();
        (all.join("; "), routes.untaken(), ends_of(snapshot))
    };
    let told = |routes: &str, untaken, ends: &str| (routes.to_owned(), untaken, ends.to_owned());
    assert_eq!(shown(&first), told("sni=a.test,... 1; sni=b.test 2", 1, "p 3; q 4"));
    assert_eq!(listener.tally.closed[0].get(), 5);
    // One is put before them, and one leads elsewhere: that is another one.
    let new = "{ source = [\"10.0.0.0/8\"], sni = [\"a.test\"], action = \"close\" }";
    let turned = b.replace("\"q\"", "\"p\"");
    let second = next(&first, &format!("{new}, {a}, {turned}"), &["p", "q"], 1);
    let now = "sni=a.test source=10.0.0.0/8 0; sni=a.test,... 1; sni=b.test 0";
    // Connections to where no route leads any more are counted for that as well.
    assert_eq!(shown(&second), told(now, 1, "p 3; q 4"));
    second.listener(ListenerId(0)).closed(Some(PoolId(1)))[0].add(1);
    // A pool that has the id of one that is gone does not have its counts.
    let third = next(&second, a, &["p"], 2);
    let fourth = next(&third, a, &["p"], 100_000);
    let fifth = next(&fourth, &format!("{a}, {}", b.replace("\"q\"", "\"r\"")), &["p", "r"], 200_000);
    assert_eq!(fifth.pool_named("r"), Some(PoolId(1)));
    assert_eq!(shown(&fifth), told("sni=a.test,... 1; sni=b.test 0", 1, "p 3; r 0"));
}

/// By the pools' names, as metrics have them: none falls, and none is another one's later.
#[test]
fn counts_of_a_listener_stay_with_its_pools_when_routes_come_and_go() {
    let next = |before: &Snapshot, config: &config::Config, now| {
        before.next(config, 100, &Overrides::new(), &Conditions::new(), Tick(now)).expect("few names")
    };
    let shown = |snapshot: &Snapshot| {
        let listener = &snapshot.listeners[0];
        let in_all: u64 = listener.leads.closed().chain([&listener.tally.closed]).map(|it| it[0].get()).sum();
        (ends_of(snapshot), listener.tally.closed[0].get(), in_all)
    };
    let told = |ends: &str, nowhere, in_all| (ends.to_owned(), nowhere, in_all);
    let (p, q) = (Some(PoolId(0)), Some(PoolId(1)));
    let count = |snapshot: &Snapshot, pool, count| snapshot.listeners[0].closed(pool)[0].add(count);
    let plain = leading("pool = \"p\"", &["p", "q"]);
    let first = Snapshot::new(&plain, 100);
    count(&first, p, 3);
    // Who is turned away is one of its only pool.
    count(&first, None, 2);
    assert_eq!(shown(&first), told("p 5", 0, 5));
    let second = next(&first, &routed("{ source = [\"10.0.0.0/8\"], pool = \"q\" }", &["p", "q"]), 1);
    count(&second, p, 1);
    count(&second, q, 4);
    count(&second, None, 7);
    assert_eq!(shown(&second), told("p 6; q 4", 7, 17));
    let third = next(&second, &plain, 2);
    assert_eq!(shown(&third), told("p 6; q 4", 7, 17));
    // A pool that has the id of one that is gone has none of its counts, and the listener has them still.
    let alone = leading("pool = \"p\"", &["p"]);
    let later = next(&next(&third, &alone, 3), &alone, 100_000);
    let last = next(&later, &leading("pool = \"r\"", &["p", "r"]), 200_000);
    assert_eq!(last.pool_named("r"), q);
    assert_eq!(shown(&last), told("p 6; r 0", 7, 17));
}

/// Its own, as long as there is a table of it, and then those that it had.
#[test]
fn who_stays_at_a_pool_that_nobody_is_led_to_any_more_has_that_pools_limits() {
    let config = |listener: &str, pools: &[&str], limits: &str| {
        leading(&format!("pool = \"{listener}\"\n{limits}"), pools)
    };
    let idle = |limit: &str| format!("[pool.p.timeouts]\nidle = \"{limit}\"");
    let next = |before: &Snapshot, config: &config::Config| {
        before.next(config, 100, &Overrides::new(), &Conditions::new(), Tick(1)).expect("few names")
    };
    let shown = |snapshot: &Snapshot| {
        let listener = &snapshot.listeners[0];
        (listener.leads.pools().collect::<Vec<_>>(), listener.timeouts_to(PoolId(0)).idle)
    };
    let seconds = |seconds| Some(Duration::from_secs(seconds));
    let first = Snapshot::new(&config("p", &["p", "q"], &idle("10s")), 100);
    assert_eq!(shown(&first), (vec![PoolId(0)], seconds(10)));
    let second = next(&first, &config("q", &["p", "q"], &idle("20s")));
    assert_eq!(shown(&second), (vec![PoolId(1)], seconds(20)));
    assert_eq!(second.listeners[0].timeouts_to(PoolId(1)).idle, seconds(3_600));
    let third = next(&second, &config("q", &["q"], ""));
    assert_eq!(shown(&third), (vec![PoolId(1)], seconds(20)));
}
