//! What is no error, and warned of.

use super::*;

/// The least configuration with these lines behind it.
fn odd(lines: &str) -> Vec<String> {
    oddities(&good(&format!("{LEAST}{lines}")))
}

fn pool(servers: &str) -> String {
    format!(
        "[listener.x]\nbind = [\"127.0.0.1:9\", \"[::]:7\"]\npool = \"x\"\n[pool.x]\nserver = [{servers}]\n"
    )
}

#[test]
fn nothing_is_odd_about_the_least_configuration_and_the_example() {
    assert_eq!(odd(""), Vec::<String>::new());
    assert_eq!(oddities(&good(include_str!("../../../proxy.toml"))), Vec::<String>::new());
}

#[test]
fn a_pool_has_servers_to_choose_from() {
    let same = pool("{ name = \"a\", addr = \"10.0.0.1:1\" }, { name = \"b\", addr = \"10.0.0.1:1\" }");
    let said = "pool x: the servers a and b are one: both have 10.0.0.1:1; `weight` gives one a larger share";
    assert_eq!(odd(&same), [said]);
    let light = pool("{ name = \"a\", addr = \"10.0.0.1:1\", weight = 0 }");
    assert_eq!(odd(&light), ["pool x: every server has weight 0, so none gets a connection"]);
    let service = "{ name = \"b\", addr = \"srv:_b._tcp.example\" }";
    assert_eq!(odd(&light.replace("}]", &format!("}}, {service}]"))), Vec::<String>::new());
    assert_eq!(
        odd(&light
            .replace("weight = 0", "weight = 0, backup = false")
            .replace("}]", "}, { name = \"b\", addr = \"10.0.0.2:1\" }]")),
        Vec::<String>::new()
    );
}

#[test]
fn a_pool_is_there_for_somebody() {
    let server = "server = [{ name = \"a\", addr = \"10.0.0.1:1\" }]\n";
    let unused = format!("[pool.y]\n{server}[pool.y.check]\n");
    assert_eq!(odd(&unused), ["pool y: no listener leads to it"]);
    let tracking = pool("{ name = \"a\", addr = \"10.0.0.2:1\" }") + "[pool.x.check]\ntrack = \"y/a\"\n";
    assert_eq!(odd(&(tracking + &unused)), Vec::<String>::new());
    let route = "[[listener.z.route]]\ndefault = true\npool = \"y\"\n";
    assert_eq!(
        odd(&format!("{unused}[listener.z]\nbind = [\"127.0.0.1:9\"]\n{route}")),
        Vec::<String>::new()
    );
}

#[test]
fn on_down_takes_checks() {
    let close = pool("{ name = \"a\", addr = \"10.0.0.1:1\" }") + "on_down = \"close\"\n";
    let said = "pool x: `on_down` = \"close\" does nothing without checks, which find a server down: write [pool.x.check]";
    assert_eq!(odd(&close), [said]);
    assert_eq!(odd(&(close + "[pool.x.check]\n")), Vec::<String>::new());
}

#[test]
fn no_limit_hides_another_one() {
    let text = "[defaults.timeouts]\nconnect = \"30s\"\nqueue = \"10s\"\n[process.drain]\nspread = \"1h\"\n";
    let said =
        "[defaults.timeouts]: `connect` (30s) is longer than `connect_total` (10s), which ends it first";
    let drain =
        "[process.drain]: `spread` (1h) is longer than `hard_stop` (5m), which resets what is left by then";
    assert_eq!(odd(text), [said, drain]);
    assert_eq!(odd("[process.drain]\nspread = \"1h\"\nhard_stop = \"off\"\n"), Vec::<String>::new());
    // Of the defaults it is told once, of a pool what it adds.
    let own = pool("{ name = \"a\", addr = \"10.0.0.1:1\" }") + "[pool.x.timeouts]\n";
    assert_eq!(
        odd(&(own.clone() + "queue = \"1m\"\n")),
        ["pool x: `queue` (1m) is longer than `connect_total` (10s), which ends it first"]
    );
    assert_eq!(odd(&(own + "queue = \"1m\"\nconnect_total = \"off\"\n")), Vec::<String>::new());
}

#[test]
fn no_count_is_larger_than_one_that_comes_first() {
    let server = "{ name = \"a\", addr = \"10.0.0.1:1\", maxconn = 500 }";
    let limits = |most: u32, listener: u32, source: u32| {
        pool(server).replace("pool = \"x\"", &format!("pool = \"x\"\nmaxconn = {listener}"))
            + &format!("[listener.x.limits]\nper_source_conns = {source}\n[process]\nmaxconn = {most}\n")
    };
    assert_eq!(
        odd(&limits(50, 100, 200)),
        [
            "listener x: `maxconn` (100) is never reached: `process.maxconn` is 50",
            "listener x: `per_source_conns` (200) is never reached: `maxconn` is 100",
            "pool x: server a: `maxconn` (500) is never reached: `process.maxconn` is 50",
        ]
    );
    assert_eq!(odd(&limits(500, 500, 500)), Vec::<String>::new());
    let named = limits(50, 50, 50).replace("10.0.0.1:1", "db.example.com:1");
    assert_eq!(odd(&named), ["pool x: server a: `maxconn` (500) is never reached: `process.maxconn` is 50"]);
    let unlimited = limits(500, 100, 501).replace("maxconn = 100\n", "");
    assert_eq!(
        odd(&unlimited),
        ["listener x: `per_source_conns` (501) is never reached: `process.maxconn` is 500"]
    );
}

#[test]
fn a_fast_interval_is_no_slower_one() {
    let check = |fast: &str| {
        pool("{ name = \"a\", addr = \"10.0.0.1:1\" }")
            + &format!("[pool.x.check]\ninterval = \"1s\"\nfast_interval = \"{fast}\"\n")
    };
    let said = "pool x: `fast_interval` (5s) is longer than `interval` (1s), so what seems to change is looked at less often";
    assert_eq!(odd(&check("5s")), [said]);
    assert_eq!(odd(&check("1s")), Vec::<String>::new());
}

#[test]
fn a_server_is_not_the_listener_before_it() {
    let to = |addr: &str| pool(&format!("{{ name = \"a\", addr = \"{addr}\" }}"));
    let said = |addr: &str, listener: &str| {
        format!(
            "pool x: the server a ({addr}) is this process itself: its connections come back by listener {listener}"
        )
    };
    assert_eq!(odd(&to("127.0.0.1:9")), [said("127.0.0.1:9", "x")]);
    assert_eq!(odd(&to("[::1]:7")), [said("[::1]:7", "x")]);
    // Another host's, as far as is known; another family; another port; a listener that leads elsewhere.
    for other in ["[2001:db8::1]:7", "127.0.0.1:7", "127.0.0.1:10", "127.0.0.1:8080"] {
        assert_eq!(odd(&to(other)), Vec::<String>::new(), "{other}");
    }
    // By a second pool.
    let way = "[listener.y]\nbind = [\"unix:/y\"]\npool = \"y\"\n[pool.y]\n\
        server = [{ name = \"a\", addr = \"127.0.0.1:9\" }]\n";
    let first = said("unix:/y", "x");
    assert_eq!(
        odd(&(to("unix:/y") + way)),
        [
            first.clone(),
            first
                .replace("pool x", "pool y")
                .replace("unix:/y", "127.0.0.1:9")
                .replace("listener x", "listener y")
        ]
    );
}

#[test]
fn headers_come_from_proxies_and_names_from_who_says_them() {
    let listener = |keys: &str| {
        format!(
            "[listener.x]\nbind = [\"127.0.0.1:9\"]\n{keys}[pool.x]\nserver = [{{ name = \"a\", addr = \"10.0.0.1:1\" }}]\n\
             [pool.x.check]\nkind = \"postgres\"\n"
        )
    };
    let anybody = listener("pool = \"x\"\naccept_proxy = { from = [\"10.0.0.0/8\", \"0.0.0.0/0\"] }\n");
    let said = "listener x: `from` of accept_proxy has 0.0.0.0/0, so whoever connects can say to be anybody: name your proxies";
    assert_eq!(odd(&anybody), [said]);
    assert_eq!(odd(&anybody.replace(", \"0.0.0.0/0\"", "")), Vec::<String>::new());
    let routes = |keys: &str| {
        let named = format!("[[listener.x.route]]\nsni = [\"a.example\"]\npool = \"x\"\n{keys}");
        odd(&listener(&format!("{named}[[listener.x.route]]\ndefault = true\npool = \"x\"\n")))
    };
    let told = routes("");
    assert!(told.len() == 1 && told[0].contains("starttls"), "{told:?}");
    assert_eq!(routes("starttls = \"postgres\"\n"), Vec::<String>::new());
}

#[test]
fn servers_that_speak_first_are_known_by_their_ports() {
    let listener = |bind: &str, keys: &str, server: &str| {
        odd(&format!(
            "[listener.x]\nbind = [\"127.0.0.1:{bind}\"]\n{keys}\n[pool.x]\n{server}\n\
             [pool.x.check]\n"
        ))
    };
    let at = |server: &str| format!("server = [{{ name = \"a\", addr = \"{server}\" }}]");
    let by_name = "route = [{ sni = [\"a\"], pool = \"x\" }]";
    for (bind, server) in [("3306", "10.0.0.1:9"), ("9", "10.0.0.1:25"), ("9", "mail.example:143")] {
        let told = listener(bind, by_name, &at(server));
        assert!(told.len() == 1 && told[0].contains("wait for their server"), "{bind} {server}: {told:?}");
    }
    let quiet = [
        listener("443", by_name, &at("10.0.0.1:443")),
        listener("3306", "pool = \"x\"", &at("10.0.0.1:3306")),
        listener("3306", "server_speaks_first = true\npool = \"x\"", &at("10.0.0.1:3306")),
        listener("3306", "route = [{ source = [\"::1\"], pool = \"x\" }]", &at("10.0.0.1:9")),
    ];
    assert_eq!(quiet, [const { Vec::<String>::new() }; 4]);
    let idle = listener(
        "9",
        "server_speaks_first = true\npool = \"x\"",
        &(at("10.0.0.1:9") + "\nbalance = \"sni\""),
    );
    assert!(idle.len() == 1 && idle[0].contains("do nothing here"), "{idle:?}");
}
