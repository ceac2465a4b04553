//! `[[listener.NAME.route]]`, `server_speaks_first` and `max_client_hello`.

use std::net::IpAddr;

use super::*;
use crate::client_hello::tests::{alpn, in_one_record, sni};
use crate::client_hello::{First, Reader, ServerName};

/// A listener with these keys, and two pools.
fn listening(keys: &str) -> String {
    let pool = |name: &str| format!("[pool.{name}]\nserver = [{{ name = \"s\", addr = \"10.0.0.1:1\" }}]\n");
    format!("[listener.x]\nbind = [\"127.0.0.1:1\"]\n{keys}\n{}{}", pool("web"), pool("db"))
}

fn routes(routes: &str) -> Vec<Route> {
    good(&listening(&format!("route = [{routes}]"))).listeners.remove(0).routes
}

/// The number of the route that a client gets which asks for a name, offers protocols and comes from somewhere.
fn taken(routes: &[Route], name: &str, protocols: &[&str], source: &str) -> Option<usize> {
    let mut extensions = Vec::new();
    if !name.is_empty() {
        extensions.push(sni(name.as_bytes()));
    }
    if !protocols.is_empty() {
        extensions.push(alpn(&protocols.iter().map(|name| name.as_bytes()).collect::<Vec<_>>()));
    }
    let bytes = in_one_record(&extensions);
    let Ok(First::Hello(hello)) = Reader::default().look(&bytes, bytes.len()) else { panic!("{name}") };
    found(routes, &Asked { hello: Some(hello), starttls: false, source: source.parse().ok() })
}

fn found(routes: &[Route], asked: &Asked<'_>) -> Option<usize> {
    routes.iter().position(|route| route.takes(asked))
}

#[test]
fn routes_are_read() {
    let text = listening(
        r#"
max_client_hello = "4KiB"
[[listener.x.route]]
sni = ["DB.example.com.", "*.db.example.com"]
alpn = ["postgresql"]
source = ["10.0.0.0/8", "::1"]
starttls = "postgres"
pool = "db"
[[listener.x.route]]
alpn = ["h2"]
action = "close"
default = false
[[listener.x.route]]
default = true
action = "reject"
"#,
    );
    let listener = good(&text).listeners.remove(0);
    let name = |name: &str| ServerName::new(name.as_bytes()).unwrap();
    let none = Route {
        sni: vec![],
        alpn: vec![],
        source: vec![],
        starttls: Starttls::Off,
        default: false,
        to: RouteTo::Reject,
    };
    let first = Route {
        sni: vec![NamePattern::Exact(name("db.example.com")), NamePattern::Below(name("db.example.com"))],
        alpn: vec!["postgresql".to_owned()],
        source: vec!["10.0.0.0/8".parse().unwrap(), "::1/128".parse().unwrap()],
        starttls: Starttls::Postgres,
        to: RouteTo::Pool(1),
        ..none.clone()
    };
    let second = Route { alpn: vec!["h2".to_owned()], to: RouteTo::Close, ..none.clone() };
    assert_eq!(listener.routes, [first, second, Route { default: true, ..none }]);
    assert_eq!((listener.pool, listener.max_client_hello), (1, 4096));

    let listener = good(&listening("pool = \"db\"\nserver_speaks_first = true")).listeners.remove(0);
    assert_eq!((listener.pool, listener.server_speaks_first, listener.routes.len()), (1, true, 0));
    let both = "route = [{ sni = [\"a\"], pool = \"db\" }, { default = true, pool = \"web\" }]";
    assert_eq!(good(&listening(both)).listeners[0].pool, 0);
    // An address needs nothing of the client.
    let source = "server_speaks_first = true\nroute = [{ source = [\"::1\"], pool = \"db\" }]";
    assert_eq!(good(&listening(source)).listeners[0].pool, 1);
}

#[test]
fn the_first_route_that_takes_a_client_decides() {
    let all = routes(
        r#"{ sni = ["a.example"], source = ["10.0.0.0/8"], pool = "web" },
           { sni = ["a.example", "*.a.example"], alpn = ["h2", "h3"], pool = "db" },
           { sni = ["*.a.example"], pool = "web" },
           { source = ["192.0.2.0/24", "2001:db8::/32"], pool = "db" },
           { default = true, action = "reject" }"#,
    );
    for (name, protocols, source, route) in [
        ("a.example", &[][..], "10.1.2.3", 0),
        ("a.example", &["h2"], "10.1.2.3", 0),
        ("A.EXAMPLE.", &[], "::ffff:10.1.2.3", 0),
        ("a.example", &["x", "h3"], "11.0.0.1", 1),
        ("a.example", &["x", "h3"], "", 1),
        ("a.example", &["H2"], "11.0.0.1", 4),
        ("b.a.example", &["h2"], "10.1.2.3", 1),
        ("b.a.example", &[], "10.1.2.3", 2),
        // A star is one part, and never none.
        ("c.b.a.example", &["h2"], "11.0.0.1", 4),
        ("a.example", &[], "11.0.0.1", 4),
        ("ba.example", &["h2"], "11.0.0.1", 4),
        ("", &["h2"], "192.0.2.9", 3),
        ("other", &[], "2001:db8::1", 3),
        ("", &[], "2001:db9::1", 4),
    ] {
        assert_eq!(taken(&all, name, protocols, source), Some(route), "{name} {protocols:?} {source}");
    }
    assert_eq!(taken(&all[..4], "", &[], ""), None);
    // Without TLS only the address counts.
    let plain = |source: &str| {
        found(&all, &Asked { hello: None, starttls: false, source: source.parse::<IpAddr>().ok() })
    };
    assert_eq!([plain("10.1.2.3"), plain("192.0.2.9"), plain("")], [Some(4), Some(3), Some(4)]);
}

#[test]
fn who_asks_for_tls_is_taken_by_routes_that_answer() {
    let all = routes(
        r#"{ sni = ["a", "b"], pool = "web" },
           { sni = ["b", "c"], starttls = "postgres", pool = "db" },
           { default = true, action = "reject" }"#,
    );
    let asked = |name: &str, starttls| {
        let bytes = in_one_record(&[sni(name.as_bytes())]);
        let Ok(First::Hello(hello)) = Reader::default().look(&bytes, bytes.len()) else { panic!("{name}") };
        found(&all, &Asked { hello: Some(hello), starttls, source: None })
    };
    assert_eq!(["a", "b", "c"].map(|name| asked(name, false)), [Some(0), Some(0), Some(1)]);
    assert_eq!(["a", "b", "c"].map(|name| asked(name, true)), [Some(2), Some(1), Some(1)]);
    assert!(all[1].needs_hello() && !all[2].needs_hello());
}

#[test]
fn errors_in_one_route() {
    for (route, start, part) in [
        ("{ sni = [\"a\"] }", "neither `pool` nor `action`", "write pool = \"NAME\" or action"),
        ("{ default = true }", "neither `pool` nor `action`", ""),
        ("{ sni = [\"a\"], pool = \"web\", action = \"close\" }", "both `pool` and `action`", ""),
        ("{ pool = \"web\" }", "this route would take every client", "default = true if that is meant"),
        ("{ starttls = \"postgres\", pool = \"web\" }", "this route would take every client", ""),
        ("{ default = true, sni = [\"a\"], pool = \"web\" }", "the default route has `sni`", "remove it"),
        ("{ default = true, pool = \"wbe\" }", "there is no pool \"wbe\"", "did you mean \"web\"?"),
        ("{ default = true, action = \"reject\" }", "no route of this listener leads to a pool", ""),
        ("{ default = true, action = \"deny\" }", "expected \"reject\" or \"close\"", ""),
        ("{ default = 1, pool = \"web\" }", "expected true or false", ""),
        ("{ sni = \"a\", pool = \"web\" }", "expected an array of names", "in brackets"),
        ("{ sni = [], pool = \"web\" }", "expected an array of names", "an empty one"),
        ("{ sni = [\"a\", \"A.\"], pool = \"web\" }", "\"a\" is in the list twice", ""),
        ("{ sni = [\"a b\"], pool = \"web\" }", "\"a b\" is not a name that a client can ask for", "0x20"),
        ("{ sni = [\"*\"], pool = \"web\" }", "\"*\" is not a name", "default = true instead of `sni`"),
        ("{ sni = [\"*.*.x\"], pool = \"web\" }", "\"*.*.x\" is not a name", "one whole part"),
        ("{ sni = [\"*a.x\"], pool = \"web\" }", "\"*a.x\" is not a name", "not a.b.example.com"),
        ("{ sni = [\"*.\"], pool = \"web\" }", "\"*.\" is not a name", "is empty"),
        ("{ sni = [\"a:443\"], pool = \"web\" }", "\"a:443\" is not a name", "without a port"),
        ("{ sni = [\"bücher\"], pool = \"web\" }", "\"bücher\" is not a name", "xn--"),
        ("{ sni = [\"10.0.0.1\"], pool = \"web\" }", "it is an address, not a name", "`source` is about"),
        ("{ alpn = [\"\"], pool = \"web\" }", "\"\" is not the name of a protocol", "1 to 255 bytes"),
        ("{ alpn = [\"h2\", \"h2\"], pool = \"web\" }", "\"h2\" is in the list twice", ""),
        ("{ source = [\"10.0.0.1/8\"], pool = \"web\" }", "has bits set behind its prefix", ""),
        ("{ sni = [\"a\"], starttls = \"smtp\", pool = \"web\" }", "expected \"off\" or \"postgres\"", ""),
        (
            "{ snl = [\"a\"], pool = \"web\" }",
            "unknown key `snl` in [listener.x.route]",
            "did you mean `sni`?",
        ),
        ("1", "expected a route: { default = true", "found the number 1"),
    ] {
        let errors = errors(&listening(&format!("route = [{route}]")));
        let found = errors.iter().any(|error| error.contains(start) && error.contains(part));
        assert!(found, "{route}: {errors:#?}");
    }
}

#[test]
fn routes_that_nobody_gets_to() {
    let default = "{ default = true, pool = \"web\" }";
    for (routes, expected) in [
        (format!("{default}, {{ sni = [\"a\"], pool = \"db\" }}"), Some("as far as this route: route 1 takes")),
        (format!("{default}, {default}"), Some("as far as this route: route 1 takes")),
        ("{ sni = [\"a\"], pool = \"db\" }, { sni = [\"b\", \"a\"], pool = \"web\" }".into(), Some("gets here by a: route 1")),
        ("{ sni = [\"*.a\"], pool = \"db\" }, { sni = [\"b.a\"], pool = \"web\" }".into(), Some("gets here by b.a: route 1")),
        ("{ sni = [\"*.a\"], pool = \"db\" }, { sni = [\"*.a\"], alpn = [\"h2\"], pool = \"web\" }".into(), Some("gets here by *.a: route 1")),
        ("{ alpn = [\"h2\"], pool = \"db\" }, { sni = [\"a\"], alpn = [\"h2\"], pool = \"web\" }".into(), Some("as far as this route: route 1 takes")),
        ("{ sni = [\"a\"], starttls = \"postgres\", pool = \"db\" }, { sni = [\"a\"], pool = \"web\" }".into(), Some("gets here by a: route 1")),
        // The narrower one first, and conditions that differ.
        ("{ sni = [\"b.a\"], pool = \"db\" }, { sni = [\"*.a\"], pool = \"web\" }".into(), None),
        ("{ sni = [\"*.a\"], pool = \"db\" }, { sni = [\"a\", \"c.b.a\"], pool = \"web\" }".into(), None),
        ("{ sni = [\"a\"], alpn = [\"h2\"], pool = \"db\" }, { sni = [\"a\"], pool = \"web\" }".into(), None),
        ("{ sni = [\"a\"], source = [\"::1\"], pool = \"db\" }, { sni = [\"a\"], source = [\"::2\"], pool = \"web\" }".into(), None),
        ("{ sni = [\"a\"], pool = \"db\" }, { sni = [\"a\"], starttls = \"postgres\", pool = \"web\" }".into(), None),
        ("{ alpn = [\"h2\"], pool = \"db\" }, { alpn = [\"h3\"], pool = \"web\" }".into(), None),
    ] {
        let text = listening(&format!("route = [{routes}]"));
        match expected {
            None => assert_eq!(good(&text).listeners[0].routes.len(), 2, "{routes}"),
            Some(part) => {
                let errors = errors(&text);
                let is_it = errors.len() == 1 && errors[0].contains(part) && errors[0].contains("narrower one first");
                assert!(is_it, "{routes}: {errors:#?}");
            }
        }
    }
}

#[test]
fn who_waits_for_its_server_is_not_waited_for() {
    let by_name = "route = [{ sni = [\"a\"], pool = \"db\" }]";
    let by_address = "route = [{ source = [\"::1\"], pool = \"db\" }]";
    for (keys, check, is_right) in [
        (by_name, "kind = \"mysql\"", false),
        (by_name, "kind = \"smtp\"", false),
        // The check is about another service.
        (by_name, "kind = \"smtp\"\nport = 25", true),
        (by_name, "kind = \"postgres\"", true),
        (by_address, "kind = \"mysql\"", true),
        ("pool = \"db\"", "kind = \"mysql\"", true),
        ("pool = \"db\"\nserver_speaks_first = true", "kind = \"smtp\"", true),
    ] {
        let text = format!("{}[pool.db.check]\n{check}\n", listening(keys));
        if is_right {
            good(&text);
        } else {
            let errors = errors(&text);
            let is_it = errors.len() == 1 && errors[0].contains("of pool db wait for their server");
            assert!(is_it, "{keys} {check}: {errors:#?}");
        }
    }
}

/// What waits for the client is named: a route, or the pool itself.
#[test]
fn a_pool_that_waits_for_hellos_is_told_what_to_take_out() {
    let pool = "send_proxy = \"v2\"\nproxy_tlvs = [\"authority\"]\n[pool.db.check]\nkind = \"mysql\"\n";
    let found = errors(&format!("{}\n{pool}", listening("pool = \"db\"").trim_end()));
    assert!(
        found.len() == 1 && found[0].contains("or take out of pool db") && found[0].contains("proxy_tlvs"),
        "{found:#?}"
    );
}

#[test]
fn pools_that_go_by_names_need_hellos() {
    let needs = |pool: &str| {
        let text = format!("{}\n{pool}", listening("pool = \"db\"").trim_end());
        let config = good(&text);
        config.listeners[0].needs_hello(&config.pools)
    };
    assert!(!needs("balance = \"source\""));
    assert!(needs("balance = \"sni\""));
    assert!(needs("balance = \"sni\"\nhash = { key = \"sni\", method = \"ring\" }"));
    assert!(!needs("send_proxy = \"v2\"\nproxy_tlvs = [\"unique_id\"]"));
    assert!(needs("send_proxy = \"v2\"\nproxy_tlvs = [\"authority\"]"));
}

#[test]
fn errors_of_routes_and_their_listener() {
    let sni = "route = [{ sni = [\"a\"], pool = \"db\" }]";
    let starttls = "route = [{ source = [\"::1\"], starttls = \"postgres\", pool = \"db\" }]";
    for (keys, start, part) in [
        (format!("{sni}\npool = \"db\""), "4:8 [listener.x] has routes and a `pool`", "with default = true"),
        (
            format!("{sni}\nserver_speaks_first = true"),
            "3:10 this route waits for the client",
            "remove `sni`",
        ),
        (format!("{starttls}\nserver_speaks_first = true"), "3:10 this route waits for the client", ""),
        ("server_speaks_first = 1\npool = \"db\"".into(), "3:23 expected true or false", ""),
        (
            "max_client_hello = \"512KiB\"\npool = \"db\"".into(),
            "3:20 expected a size from 1KiB to 32KiB",
            "",
        ),
        ("max_client_hello = 4096\npool = \"db\"".into(), "3:20 expected a size", "a size has a unit"),
        ("route = []".into(), "3:9 expected an array of routes", "found an empty one"),
        ("route = true".into(), "3:9 expected an array of routes", "found true"),
        (
            "route = { default = true, pool = \"db\" }".into(),
            "3:9 [listener.x.route] is one table where there may be many",
            "[[listener.x.route]]",
        ),
        (String::new(), "1:1 [listener.x] has no `pool`", ""),
    ] {
        let errors = errors(&listening(&keys));
        let found = errors.iter().any(|error| error.starts_with(start) && error.contains(part));
        assert!(found, "{keys}: {errors:#?}");
    }
}

#[test]
fn budget_holds_a_hello_for_each_worker() {
    let with = |budget: u32, keys: &str| {
        let process =
            format!("[process]\nworkers = 2\nbuffer_size = \"4KiB\"\nbuffer_budget = \"{budget}KiB\"\n");
        format!("{process}{}", listening(keys))
    };
    let sni = "route = [{ sni = [\"a\"], pool = \"db\" }]";
    let error = "4:17 buffer_budget is 63 KiB, less than the 64 KiB that 2 workers need for hellos of up to 16 KiB \
                 (max_client_hello of listener x) / write buffer_budget = \"64KiB\" or more";
    assert_eq!(errors(&with(63, sni)), [error]);
    let larger = format!("{sni}\nmax_client_hello = \"17KiB\"");
    assert!(
        errors(&with(255, &larger))[0].contains("the 256 KiB that 2 workers need for hellos of up to 17 KiB")
    );
    let small = format!("{sni}\nmax_client_hello = \"4KiB\"");
    for (budget, keys) in [(64, sni), (256, &larger), (8, &small), (8, "pool = \"db\"")] {
        good(&with(budget, keys));
    }
}
