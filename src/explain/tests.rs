use std::time::Duration;

use super::*;
use crate::config::parse;
use crate::snapshot::{Condition, Conditions, Overrides, Serving};

const TWO: &str = r#"server = [
    { name = "a", addr = "10.0.0.1:80" }, { name = "b", addr = "10.0.0.2:80" }, { name = "c", addr = "10.0.0.3:80", weight = 0 },
    { name = "d", addr = "10.0.0.4:80", state = "drain" }, { name = "e", addr = "10.0.0.5:80", state = "maint" },
    { name = "f", addr = "10.0.0.6:80", backup = true }, { name = "g", addr = "10.0.0.7:80" },
    { name = "h", addr = "10.0.0.8:80" }, { name = "i", addr = "10.0.0.9:80", maxconn = 1 },
]"#;

fn config(pool: &str, listener: &str) -> Config {
    let text = format!(
        "[listener.web]\nbind = [\"127.0.0.1:80\"]\npool = \"web\"\n{listener}\n[listener.path]\nbind = [\"unix:/x\"]\n\
         pool = \"web\"\n[pool.web]\n{pool}\n{TWO}"
    );
    parse(&text, "test").unwrap_or_else(|report| panic!("{report}"))
}

fn question(listener: &str, source: &str) -> Question {
    Question { listener: Some(listener.to_owned()), source: source.parse().ok(), ..Question::default() }
}

/// `g` is down, `h` is ejected, `i` is full, and `a` has three connections.
fn told(pool: &str, listener: &str, question: &Question) -> Explanation {
    let config = config(pool, listener);
    let condition = |name: &str, health| {
        (("web".to_owned(), name.to_owned()), Condition { health, ..Condition::default() })
    };
    let conditions = Conditions::from([condition("g", Health::Down), condition("h", Health::Ejected)]);
    let snapshot = Snapshot::new(&config, 100)
        .next(&config, 100, &Overrides::new(), &conditions, Tick(0))
        .expect("few names");
    let id =
        |name: &str| snapshot.servers.iter().position(|server| *server.name == *name).expect("it is there");
    for name in ["a", "a", "a", "i"] {
        assert!(snapshot.servers[id(name)].connections.take());
    }
    if let Some(latency) = &snapshot.servers[id("b")].latency {
        latency.connect.saw(Tick(7), Duration::from_millis(3));
        latency.answer.saw(Tick(7), Duration::from_millis(20));
    }
    let before: Vec<_> = snapshot.servers.iter().map(|server| server.connections.count()).collect();
    let told = explain(&config, &snapshot, question, Tick(7), |_, server| Some(format!("{server} is dead")));
    let after: Vec<_> = snapshot.servers.iter().map(|server| server.connections.count()).collect();
    assert_eq!(before, after, "it is only asked");
    told.expect("it is told")
}

fn why(told: &Explanation, server: &str) -> String {
    told.servers.iter().find(|one| one.name == server).expect("it is there").why.clone()
}

#[test]
fn who_cannot_be_chosen_is_told_with_the_reason() {
    let told = told("balance = \"round_robin\"", "", &question("web", "192.0.2.1"));
    assert_eq!((told.outcome, told.server.as_deref()), (Outcome::Server, Some("a")));
    assert!(told.servers[0].chosen && told.servers[0].name == "a");
    for (server, reason) in [
        ("a", "it is its turn"),
        ("b", "its turn comes later"),
        ("c", "its weight is 0"),
        ("d", "it drains"),
        ("e", "it is in maintenance"),
        ("f", "a backup server, and others take connections"),
        ("g", "down: g is dead"),
        ("h", "ejected: too many connects in a row have failed"),
        ("i", "full: 1 of 1 connections"),
    ] {
        assert_eq!(why(&told, server), reason, "{server}");
    }
}

#[test]
fn each_way_to_choose_says_why() {
    let source = question("web", "192.0.2.1");
    let explain = |balance: &str| told(&format!("balance = \"{balance}\""), "", &source);
    let least = explain("least_conn");
    assert_eq!(least.server.as_deref(), Some("b"));
    assert_eq!(why(&least, "b"), "the fewest for its weight: 0 connections, weight 1");
    assert_eq!(why(&least, "a"), "as many for its weight, or more: 3 connections, weight 1");
    let drawn = explain("p2c");
    // `a` wins where it is drawn with the one that is full, alone.
    let share =
        |name: &str| drawn.servers.iter().find(|one| one.name == name).unwrap().draws_percent.unwrap();
    assert!((28..38).contains(&share("a")) && share("a") + share("b") == 100, "{drawn:?}");
    assert!(why(&drawn, "a").contains("3 connections, weight 1"));
    let timed = explain("least_time");
    assert!(why(&timed, "a").ends_with("3 connections, weight 1"), "{timed:?}");
    assert!(
        why(&timed, "b").ends_with("0 connections, weight 1, reached in 3.0 ms, answers in 20.0 ms"),
        "{timed:?}"
    );
    let random = explain("random");
    let share =
        |name: &str| random.servers.iter().find(|one| one.name == name).unwrap().draws_percent.unwrap();
    // A draw of the full server becomes one of its neighbour.
    assert!(share("a") + share("b") == 100 && share("b") >= 30, "{random:?}");
    let hashed = explain("source");
    let [chosen, other] = if hashed.server.as_deref() == Some("a") { ["a", "b"] } else { ["b", "a"] };
    assert!(
        why(&hashed, chosen).starts_with("192.0.2.1 belongs to it")
            || why(&hashed, chosen).starts_with("the next one")
    );
    assert!(why(&hashed, other).contains("belongs"), "{hashed:?}");
}

#[test]
fn the_first_rule_that_names_the_client_is_told() {
    let rules = "access = { default = \"deny\", rules = [\"deny 10.9.0.0/16\", \"allow 10.0.0.0/8\"] }";
    for (source, allowed, rule) in [
        ("10.1.2.3", true, Some("allow 10.0.0.0/8")),
        ("10.9.2.3", false, Some("deny 10.9.0.0/16")),
        ("::ffff:10.9.2.3", false, Some("deny 10.9.0.0/16")),
        ("192.0.2.1", false, None),
        ("2001:db8::1", false, None),
    ] {
        let told = told("", rules, &question("web", source));
        assert_eq!((told.access.allowed, told.access.rule.as_deref()), (allowed, rule), "{source}");
        assert_eq!(told.outcome == Outcome::Denied, !allowed, "{source}");
    }
    let unix = told("", rules, &question("path", ""));
    assert!(unix.access.allowed && unix.server.is_some());
}

#[test]
fn what_cannot_be_told_says_what_is_wanted() {
    let config = config("", "");
    let snapshot = Snapshot::new(&config, 100);
    for (question, kind, words) in [
        (question("wbe", "192.0.2.1"), RefusalKind::NotFound, "there is web, path"),
        (question("web", ""), RefusalKind::Invalid, "--source 192.0.2.1"),
        (Question::default(), RefusalKind::Invalid, "name one of them: web, path"),
    ] {
        let refusal = explain(&config, &snapshot, &question, Tick(0), |_, _| None).unwrap_err();
        assert!(refusal.kind == kind && refusal.to_string().contains(words), "{refusal}");
    }
}

#[test]
fn who_gets_no_server_is_told_what_happens_then() {
    let mut config = config("", "when_no_upstream = \"close\"");
    config.pools[0].servers.truncate(1);
    config.pools[0].servers[0].maxconn = std::num::NonZeroU32::new(1);
    config.pools[0].queue_max = 1;
    let snapshot = Snapshot::new(&config, 100);
    let ask = |snapshot: &Snapshot| {
        explain(&config, snapshot, &question("web", "192.0.2.1"), Tick(0), |_, _| None).expect("told")
    };
    assert!(snapshot.servers[0].connections.take());
    assert_eq!(ask(&snapshot).outcome, Outcome::Queued);
    assert!(snapshot.pools[0].queue.enter());
    let told = ask(&snapshot);
    assert_eq!((told.outcome, told.then.starts_with("is closed")), (Outcome::QueueFull, true));
    config.pools[0].servers[0].weight = 0;
    let told =
        explain(&config, &Snapshot::new(&config, 100), &question("web", "192.0.2.1"), Tick(0), |_, _| None);
    let told = told.expect("told");
    assert_eq!((told.outcome, told.serving), (Outcome::NoServer, Serving::Nobody));
}

#[test]
fn names_and_who_told_of_servers_are_shown() {
    use crate::control::discovery::{Found, in_effect};

    let text = "[listener.l]\nbind = [\"127.0.0.1:1\"]\npool = \"p\"\n[pool.p]\n\
        server = [{ name = \"a\", addr = \"10.0.0.1:1\" }, { name = \"x\", addr = \"db.example:1\" }]\n";
    let file = parse(text, "test").unwrap();
    let found =
        [Found { priority: 0, addr: "10.0.0.2:1".parse().unwrap(), weight: None, host: String::new() }];
    let rows = |config: &Config| -> Vec<[String; 3]> {
        let told =
            explain(config, &Snapshot::new(config, 9), &question("l", "192.0.2.1"), Tick(0), |_, _| None);
        let mut rows: Vec<_> =
            told.unwrap().servers.into_iter().map(|one| [one.name, one.address, one.origin]).collect();
        rows.sort_unstable();
        rows
    };
    assert_eq!(rows(&file), [["a", "10.0.0.1:1", "file"], ["x", "db.example:1", "file"]]);
    let known = in_effect(&file, |_| &found, |_, _| &[]);
    assert_eq!(
        rows(&known),
        [["a", "10.0.0.1:1", "file"], ["x@10.0.0.2:1", "10.0.0.2:1", "dns db.example:1"]]
    );
}

#[test]
fn a_newcomer_stands_behind_those_who_wait_and_a_port_that_is_shut_refuses() {
    let mut config = config("balance = \"random\"", "when_no_upstream = \"stop_listening\"");
    let snapshot = Snapshot::new(&config, 100);
    let ask = |config: &Config, snapshot: &Snapshot, listener: &str| {
        explain(config, snapshot, &question(listener, "192.0.2.1"), Tick(0), |_, _| None).expect("told")
    };
    assert_eq!(ask(&config, &snapshot, "web").outcome, Outcome::Server);
    assert!(snapshot.pools[0].queue.enter());
    let told = ask(&config, &snapshot, "web");
    assert_eq!((told.outcome, told.server), (Outcome::Queued, None));
    config.pools[0].servers.iter_mut().for_each(|server| server.weight = 0);
    let told = ask(&config, &Snapshot::new(&config, 100), "web");
    assert!(told.then.contains("a port that refuses"), "{}", told.then);
}

#[test]
fn who_is_over_a_limit_is_turned_away_or_waits() {
    let per_source = "[listener.web.limits]\nper_source_conns = 2";
    let rate = "[listener.web.limits]\nper_source_rate = { rate = \"1/s\", burst = 2 }";
    let client: IpAddr = "192.0.2.1".parse().expect("an address");
    for (listener, ends, outcome, said) in [
        (per_source, false, Outcome::Limited, "per_source_conns"),
        (rate, true, Outcome::Limited, "per_source_rate"),
        ("maxconn = 2", false, Outcome::Waits, "the listener's maxconn"),
        ("maxconn = 2\nat_maxconn = \"reject\"", false, Outcome::Limited, "is reset: the listener's maxconn"),
    ] {
        let config = config("", listener);
        let snapshot = Snapshot::new(&config, 100);
        let known = &snapshot.listeners[0];
        let ask = || {
            explain(&config, &snapshot, &question("web", "192.0.2.1"), Tick(0), |_, _| None).expect("told")
        };
        for _ in 0..2 {
            assert_eq!(ask().outcome, Outcome::Server, "{listener}");
            assert!(known.connections.take());
            let place = known.admission.enter(Some(client), Tick(0), &known.tally).expect("let in");
            if ends {
                known.admission.leave(place);
                known.connections.give();
            }
        }
        let told = ask();
        assert_eq!((told.outcome, told.server), (outcome, None), "{listener}");
        assert!(told.then.contains(said), "{}", told.then);
    }
}

/// Two pools, and a listener with routes between them.
const ROUTED: &str = r#"
[listener.tls]
bind = ["127.0.0.1:443"]
[[listener.tls.route]]
sni = ["db.example.com"]
alpn = ["postgresql"]
pool = "db"
[[listener.tls.route]]
sni = ["*.example.com"]
pool = "web"
[[listener.tls.route]]
source = ["10.0.0.0/8"]
action = "close"
[pool.db]
server = [{ name = "d", addr = "10.0.0.1:5432" }]
[pool.web]
balance = "sni"
server = [{ name = "a", addr = "10.0.0.1:443" }, { name = "b", addr = "10.0.0.2:443" }, { name = "c", addr = "10.0.0.3:443" }]
"#;

#[test]
fn the_route_that_takes_a_client_is_told() {
    let config = parse(ROUTED, "test").unwrap_or_else(|report| panic!("{report}"));
    let snapshot = Snapshot::new(&config, 100);
    let ask = |source: &str, sni: Option<&str>, alpn: &[&str]| {
        let sni = sni.map(str::to_owned);
        let alpn = alpn.iter().map(|name| (*name).to_owned()).collect();
        let question = Question { source: source.parse().ok(), sni, alpn, ..Question::default() };
        explain(&config, &snapshot, &question, Tick(1), |_, _| None)
    };
    for (sni, alpn, route, pool) in [
        (Some("DB.example.com"), ["postgresql"].as_slice(), Some(1), "db"),
        (Some("db.example.com"), &["h2"], Some(2), "web"),
        (Some("a.b.example.com"), &[], None, ""),
        (None, &["h2"], None, ""),
    ] {
        let told = ask("192.0.2.1", sni, alpn).expect("it is told");
        assert_eq!((told.route, told.pool.as_str()), (route, pool), "{sni:?} {alpn:?}");
        let is_lost = pool.is_empty();
        assert_eq!(told.outcome, if is_lost { Outcome::NoRoute } else { Outcome::Server });
        assert_eq!(told.then.contains("unrecognized_name"), is_lost);
    }
    let closed = ask("10.1.2.3", None, &[]).expect("it is told");
    assert_eq!(
        (closed.route, closed.outcome, closed.then.as_str()),
        (Some(3), Outcome::NoRoute, "is closed")
    );
    let reset = ask("192.0.2.1", None, &[]).expect("it is told");
    assert_eq!(reset.route, None);
    assert!(reset.then.starts_with("is reset"), "{}", reset.then);
    let told = ask("192.0.2.1", Some("x.example.com"), &[]).expect("it is told");
    assert!(why(&told, told.server.as_deref().expect("one")).contains("x.example.com belongs to it"));
    assert!(ask("192.0.2.1", Some("10.0.0.1"), &[]).is_err());
}

#[test]
fn postgres_clients_take_the_routes_that_are_for_them() {
    let text = ROUTED.replace("alpn = [\"postgresql\"]", "starttls = \"postgres\"");
    let text = text.replace("sni = [\"*.example.com\"]", "sni = [\"*.example.com\", \"db.other\"]");
    let config = parse(&text, "test").unwrap_or_else(|report| panic!("{report}"));
    let snapshot = Snapshot::new(&config, 100);
    let ask = |sni: &str, starttls| {
        let source = "192.0.2.1".parse().ok();
        let question = Question { source, sni: Some(sni.to_owned()), starttls, ..Question::default() };
        explain(&config, &snapshot, &question, Tick(1), |_, _| None).expect("it is told").route
    };
    assert_eq!((ask("db.example.com", true), ask("db.example.com", false)), (Some(1), Some(1)));
    assert_eq!((ask("db.other", true), ask("db.other", false)), (None, Some(2)));
}

#[test]
fn names_that_nobody_reads_decide_nothing() {
    let text = "[listener.x]\nbind = [\"127.0.0.1:443\"]\nserver_speaks_first = true\npool = \"web\"\n";
    let pool = &ROUTED[ROUTED.find("[pool.web]").expect("there")..];
    let config = parse(&format!("{text}{pool}"), "test").unwrap_or_else(|report| panic!("{report}"));
    let snapshot = Snapshot::new(&config, 100);
    let server = |sni: String| {
        let question = Question { source: "192.0.2.1".parse().ok(), sni: Some(sni), ..Question::default() };
        explain(&config, &snapshot, &question, Tick(1), |_, _| None).expect("it is told").server
    };
    let all: Vec<_> = (0..20).map(|number| server(format!("n{number}.example"))).collect();
    assert!(all.iter().all(|one| one.is_some() && *one == all[0]), "by its address: {all:?}");
}

#[test]
fn who_may_send_a_proxy_header_is_told() {
    let accepts = |untrusted: &str, more: &str| {
        format!("accept_proxy = {{ from = [\"10.0.0.0/8\"], untrusted = \"{untrusted}\" }}\n{more}")
    };
    let ask = |listener: &str, source: &str, peer: Option<&str>| {
        let peer = peer.map(|peer| peer.parse().expect("an address"));
        told("", listener, &Question { peer, ..question("web", source) })
    };
    let [rejects, passes] = ["reject", "payload"].map(|untrusted| accepts(untrusted, ""));
    let stranger = ask(&rejects, "192.0.2.1", None);
    assert_eq!((stranger.outcome, stranger.proxy_header), (Outcome::Untrusted, ProxyHeader::Rejected));
    assert!(stranger.server.is_none() && stranger.then.contains("is reset"), "{stranger:?}");
    let proxy = ask(&rejects, "10.1.2.3", None);
    assert_eq!((proxy.outcome, proxy.proxy_header), (Outcome::Server, ProxyHeader::Required));
    let behind = ask(&rejects, "192.0.2.1", Some("10.1.2.3"));
    assert_eq!((behind.outcome, behind.proxy_header), (Outcome::Server, ProxyHeader::Required));
    assert_eq!((behind.source, behind.peer), ("192.0.2.1".parse().ok(), "10.1.2.3".parse().ok()));
    // What a stranger says of itself is not believed.
    let passed = ask(&passes, "10.9.9.9", Some("192.0.2.1"));
    assert_eq!((passed.outcome, passed.proxy_header), (Outcome::Server, ProxyHeader::Payload));
    assert_eq!(passed.source, "192.0.2.1".parse().ok());
    // Rules are about whom `match_on` says.
    for (match_on, allowed) in [("client", false), ("peer", true)] {
        let rules = format!("access = {{ rules = [\"deny 192.0.2.0/24\"], match_on = \"{match_on}\" }}");
        let told = ask(&accepts("reject", &rules), "192.0.2.1", Some("10.1.2.3"));
        assert_eq!((told.access.allowed, told.outcome == Outcome::Denied), (allowed, !allowed), "{match_on}");
    }
    let config = config("", "");
    let snapshot = Snapshot::new(&config, 100);
    let asked = Question { peer: "10.0.0.1".parse().ok(), ..question("web", "192.0.2.1") };
    let refusal = explain(&config, &snapshot, &asked, Tick(0), |_, _| None).expect_err("it has no peers");
    assert!(refusal.message.contains("reads no PROXY header"), "{refusal}");
}
