//! What one configuration changes of another, in words for people. Pure.

use std::fmt::{Display, Write as _};
use std::num::NonZeroU32;
use std::time::Duration;

use super::model::Effect;
use crate::config::{
    Address, Check, Config, Listener, OnRemoved, Pool, Route, RouteTo, Server, Tcp, duration_text,
};

/// How many connections there are.
pub trait Counts {
    /// Of a listener.
    fn of_listener(&self, name: &str) -> u32;
    /// Of a server.
    fn of_server(&self, pool: &str, server: &Server) -> u32;
    /// Of all servers that a name stands for.
    fn of_named(&self, pool: &str, name: &str) -> u32;
}

/// What only a new process can change, and is not the same in both.
#[must_use]
pub fn needs_restart(old: &Config, new: &Config) -> Vec<String> {
    let mut differ = Vec::new();
    let mut compare = |key: &str, same: bool| {
        if !same {
            differ.push(key.to_owned());
        }
    };
    let (was, is) = (&old.process, &new.process);
    compare("process.workers", was.workers == is.workers);
    compare("process.cpu_affinity", was.cpu_affinity == is.cpu_affinity);
    compare("process.buffer_size", was.buffer_size == is.buffer_size);
    compare("process.buffer_budget", was.buffer_budget == is.buffer_budget);
    compare("process.splice", was.splice == is.splice);
    compare("process.user", was.user == is.user);
    compare("[process.uring]", was.uring == is.uring);
    compare("[admin]", old.admin == new.admin);
    compare("log.output", old.log.output == new.log.output);
    compare("log.format", old.log.format == new.log.format);
    compare("[log.access]", old.access == new.access);
    for listener in &new.listeners {
        let before = old.listeners.iter().find(|other| other.name == listener.name);
        let same = before.is_none_or(|before| before.limits.table_size == listener.limits.table_size);
        compare(&format!("listener.{}.limits.table_size", listener.name), same);
        for at in listener.bind.iter().filter(|at| at.is_all_of_ipv6()) {
            compare(&format!("listener.{}.v6only of {at}", listener.name), keeps_v6only(old, listener, at));
        }
    }
    differ
}

/// Whether an address that stays open for this listener, whichever had it, stands for what it stood for: no socket changes
/// that once it is bound (ipv6(7)).
fn keeps_v6only(old: &Config, listener: &Listener, at: &Address) -> bool {
    let is_any_port = at.ip().is_some_and(|at| at.port() == 0);
    let has = |one: &&Listener| one.bind.contains(at) && (!is_any_port || one.name == listener.name);
    old.listeners.iter().find(has).is_none_or(|before| before.v6only == listener.v6only)
}

/// What a reload from `old` to `new` does.
#[must_use]
pub fn effect(old: &Config, new: &Config, counts: &impl Counts) -> Effect {
    let mut lines = Vec::new();
    settings(old, new, &mut lines);
    listeners(old, new, counts, &mut lines);
    for pool in &new.pools {
        match old.pools.iter().find(|other| other.name == pool.name) {
            None => {
                let lists: String = pool.lists.iter().map(|at| format!(", and those of {at}")).collect();
                let count = pool.servers.len() + pool.named.len();
                lines.push(format!("pool {} added: {count} servers{lists}", pool.name));
            }
            Some(before) => {
                if before.timeouts != pool.timeouts {
                    lines.push(format!(
                        "pool {}: timeouts changed, idle and half_close for connections that are there too",
                        pool.name
                    ));
                }
                let tcp = own_tcp((&before.tcp, &old.tcp), (&pool.tcp, &new.tcp));
                lines.extend(tcp.map(|changed| format!("pool {}: {changed}", pool.name)));
                if before.retry != pool.retry && old.retry == new.retry {
                    lines.push(format!("pool {}: retry changed", pool.name));
                }
                changed_check((old, before), (new, pool), &mut lines);
                changed_pool(before, pool, counts, &mut lines);
            }
        }
    }
    for gone in old.pools.iter().filter(|gone| new.pools.iter().all(|pool| pool.name != gone.name)) {
        lines.push(format!("pool {} removed", gone.name));
        for server in &gone.servers {
            lines.push(removed(&gone.name, server, gone.on_removed, counts.of_server(&gone.name, server)));
        }
        for server in &gone.named {
            lines.push(removed(
                &gone.name,
                server,
                gone.on_removed,
                counts.of_named(&gone.name, &server.name),
            ));
        }
    }
    Effect { unchanged: old == new, lines }
}

fn settings(old: &Config, new: &Config, out: &mut Vec<String>) {
    const TOO: &str = ", for connections that are there too";
    const LATER: &str = ", for new connections";
    let limit = |limit: Option<Duration>| limit.map_or_else(|| "off".to_owned(), duration_text);
    let shown = |config: &Config| {
        let Config { timeouts, retry, tcp, process, log, metrics, .. } = config;
        [
            ("defaults.timeouts.idle", limit(timeouts.idle), TOO),
            ("defaults.timeouts.half_close", limit(timeouts.half_close), TOO),
            ("defaults.timeouts.connect", limit(timeouts.connect), LATER),
            ("defaults.timeouts.connect_total", limit(timeouts.connect_total), LATER),
            ("defaults.timeouts.queue", limit(timeouts.queue), LATER),
            ("defaults.timeouts.preread", limit(timeouts.preread), LATER),
            ("defaults.timeouts.max_lifetime", limit(timeouts.max_lifetime), TOO),
            ("defaults.timeouts.max_lifetime_jitter", timeouts.max_lifetime_jitter.to_string(), TOO),
            ("defaults.retry.tries", retry.tries.to_string(), ""),
            ("defaults.retry.same_server_delay", duration_text(retry.same_server_delay), ""),
            ("defaults.tcp.dead_peer", limit(tcp.dead_peer), TOO),
            ("defaults.tcp.rst_on_error", tcp.rst_on_error.to_string(), TOO),
            ("process.maxconn", number_or("auto", process.maxconn), ""),
            ("process.engine", process.engine.name().to_owned(), ""),
            ("process.engine_fallback", process.engine_fallback.to_string(), ""),
            ("process.watch", process.watch.to_string(), ""),
            ("metrics.per_server", metrics.per_server.to_string(), ""),
            ("metrics.tcp_info", metrics.tcp_info.name().to_owned(), ""),
            ("metrics.tcp_info_sample_every", duration_text(metrics.tcp_info_sample_every), ""),
            ("log.level", log.level.as_str().to_ascii_lowercase(), ""),
        ]
    };
    for ((what, was, then), (_, is, _)) in shown(old).into_iter().zip(shown(new)) {
        if was != is {
            out.push(format!("{what}: {was} -> {is}{then}"));
        }
    }
    if options(&old.tcp) != options(&new.tcp) {
        out.push(format!("[defaults.tcp] changed{LATER}"));
    }
    if old.dns != new.dns {
        out.push("[dns] changed".to_owned());
    }
    if old.process.drain != new.process.drain {
        out.push("[process.drain] changed".to_owned());
    }
}

/// Socket options: those that hold from a connection's start.
fn options(tcp: &Tcp) -> Tcp {
    Tcp { dead_peer: None, rst_on_error: true, ..tcp.clone() }
}

/// What a listener or a pool has of its own and has changed. What is the default's, is told of there.
fn own_tcp(old: (&Tcp, &Tcp), new: (&Tcp, &Tcp)) -> Option<&'static str> {
    let is_own = old.0 != old.1 || new.0 != new.1;
    (is_own && old.0 != new.0)
        .then_some("tcp changed, for new connections (dead_peer, rst_on_error: for all)")
}

fn number_or(word: &str, number: Option<NonZeroU32>) -> String {
    number.map_or_else(|| word.to_owned(), |number| number.to_string())
}

fn listeners(old: &Config, new: &Config, counts: &impl Counts, out: &mut Vec<String>) {
    for listener in &new.listeners {
        let pools = pools(new, listener);
        let Some(before) = old.listeners.iter().find(|other| other.name == listener.name) else {
            let at = listener.bind.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
            out.push(format!("listener {} added: {at}, {pools}", listener.name));
            continue;
        };
        let mut changes = changed_listener(before, listener);
        if before.timeouts != listener.timeouts {
            changes.push("timeouts changed, for connections that are there too".to_owned());
        }
        changes.extend(own_tcp((&before.tcp, &old.tcp), (&listener.tcp, &new.tcp)).map(str::to_owned));
        let was = self::pools(old, before);
        if was != pools {
            changes.push(format!("{was} -> {}", pools.trim_start_matches("pool ")));
        }
        if routing(old, before) != routing(new, listener) {
            let what = "routes, server_speaks_first or max_client_hello changed, for new connections";
            changes.push(what.to_owned());
        }
        let engine = |config: &Config, listener: &Listener| {
            listener.engine.unwrap_or(config.process.engine).resolved()
        };
        let [was, is] = [engine(old, before), engine(new, listener)].map(crate::config::EngineKind::name);
        if was != is {
            changes.push(format!("engine {was} -> {is} for new connections"));
        }
        let count = counts.of_listener(&listener.name);
        let mut line = format!("listener {}: ", listener.name);
        for change in changes {
            let _ = write!(line, "{change}; ");
        }
        out.push(line + &format!("0 of {count} connections affected"));
    }
    for gone in old.listeners.iter().filter(|gone| new.listeners.iter().all(|one| one.name != gone.name)) {
        let count = counts.of_listener(&gone.name);
        out.push(format!(
            "listener {} removed: no new connections; its {count} connections go on",
            gone.name
        ));
    }
}

/// Where a listener leads, by names.
fn pools(config: &Config, listener: &Listener) -> String {
    let names: Vec<&str> = listener.pools().map(|pool| config.pools[pool].name.as_str()).collect();
    format!("pool {}", names.join(", "))
}

/// What is read of its clients, and what is made of it; pools by their names.
fn routing<'c>(config: &'c Config, listener: &Listener) -> (Vec<(Route, Option<&'c str>)>, bool, u32) {
    let routes = listener.routes.iter().map(|route| match route.to {
        RouteTo::Pool(pool) => {
            let route = Route { to: RouteTo::Pool(0), ..route.clone() };
            (route, Some(config.pools[pool].name.as_str()))
        }
        RouteTo::Reject | RouteTo::Close => (route.clone(), None),
    });
    (routes.collect(), listener.server_speaks_first, listener.max_client_hello)
}

fn changed_listener(old: &Listener, new: &Listener) -> Vec<String> {
    let mut changes = Vec::new();
    let missing = |from: &Listener, of: &Listener| {
        let gone = of.bind.iter().filter(|at| !from.bind.contains(at)).map(ToString::to_string);
        gone.collect::<Vec<_>>().join(", ")
    };
    let (gone, come) = (missing(new, old), missing(old, new));
    if !gone.is_empty() {
        changes.push(format!("no longer on {gone}"));
    }
    if !come.is_empty() {
        changes.push(format!("also on {come}"));
    }
    if old.maxconn != new.maxconn {
        let (was, is) = (number_or("off", old.maxconn), number_or("off", new.maxconn));
        changes.push(format!("maxconn {was} -> {is}"));
    }
    if old.access != new.access {
        let rules = |listener: &Listener| listener.access.rules.len();
        changes.push(format!("access changed ({} -> {} rules), for new connections", rules(old), rules(new)));
    }
    if old.limits != new.limits {
        changes
            .push("limits changed, for new connections (rates of bytes: for all that have one)".to_owned());
    }
    if old.accept_proxy != new.accept_proxy {
        changes.push("accept_proxy changed, for new connections".to_owned());
    }
    if old.when_no_upstream != new.when_no_upstream {
        changes.push("when_no_upstream changed".to_owned());
    }
    if old.accept_burst != new.accept_burst {
        changes.push(format!("accept_burst {} -> {}", old.accept_burst, new.accept_burst));
    }
    let rest = |listener: &Listener| (listener.backlog, listener.accept_balance, listener.at_maxconn);
    if rest(old) != rest(new) {
        changes.push("backlog, accept_balance or at_maxconn changed".to_owned());
    }
    changes
}

fn changed_pool(old: &Pool, new: &Pool, counts: &impl Counts, out: &mut Vec<String>) {
    let name = &new.name;
    if old.balance != new.balance {
        let [was, is] = [old, new].map(|pool| pool.balance.name());
        let what = if was == is { "hash changed".to_owned() } else { format!("balance {was} -> {is}") };
        out.push(format!("pool {name}: {what}"));
    }
    if old.queue_max != new.queue_max {
        out.push(format!("pool {name}: queue.max {} -> {}", old.queue_max, new.queue_max));
    }
    if old.all_down != new.all_down {
        out.push(format!("pool {name}: all_down changed"));
    }
    let rest = |pool: &Pool| (pool.on_down, pool.on_removed, pool.drain_timeout, pool.close_rate);
    if rest(old) != rest(new) {
        out.push(format!("pool {name}: on_down, on_removed, drain_timeout or close_rate changed"));
    }
    if old.slow_start != new.slow_start {
        out.push(format!("pool {name}: slow_start changed, for servers that come into use from now on"));
    }
    if old.passive != new.passive {
        out.push(format!("pool {name}: passive changed"));
    }
    if old.source != new.source {
        out.push(format!("pool {name}: source changed, for new connections"));
    }
    if old.send_proxy != new.send_proxy {
        out.push(format!("pool {name}: send_proxy or proxy_tlvs changed, for new connections and checks"));
    }
    if old.servers_poll != new.servers_poll {
        out.push(format!("pool {name}: servers_poll changed"));
    }
    let gone = old.lists.iter().filter(|at| !new.lists.iter().any(|other| other.is_like(at)));
    out.extend(gone.map(|at| format!("pool {name}: {at} is left, and its servers are removed")));
    let come = new.lists.iter().filter(|at| !old.lists.iter().any(|other| other.is_like(at)));
    out.extend(come.map(|at| format!("pool {name}: has the servers of {at}, too")));
    let policy = new.on_removed;
    changed_servers((name, &old.servers, &new.servers), policy, |gone| counts.of_server(name, gone), out);
    changed_servers((name, &old.named, &new.named), policy, |gone| counts.of_named(name, &gone.name), out);
}

fn changed_check((old, was): (&Config, &Pool), (new, is): (&Config, &Pool), out: &mut Vec<String>) {
    let is_same = match (tracked(old, was), tracked(new, is)) {
        (None, None) => was.check == is.check,
        (was, is) => was == is,
    };
    if !is_same {
        out.push(format!(
            "pool {}: check changed; servers stay up or down until it finds otherwise",
            is.name
        ));
    }
}

/// The names of the server that a pool tracks and of its pool: places in a file say nothing to another file.
fn tracked<'c>(config: &'c Config, pool: &Pool) -> Option<(&'c str, &'c str)> {
    let Check::Track { pool, server } = pool.check else { return None };
    let pool = &config.pools[pool];
    Some((&pool.name, &pool.servers[server].name))
}

/// Servers of a pool as they were and as they are.
fn changed_servers<A: Display + PartialEq>(
    (name, old, new): (&str, &[Server<A>], &[Server<A>]),
    policy: OnRemoved,
    count: impl Fn(&Server<A>) -> u32,
    out: &mut Vec<String>,
) {
    for server in new {
        let Some(before) = old.iter().find(|other| is_same(other, server)) else {
            out.push(format!("server {name}/{} added: {}", server.name, server.addr));
            continue;
        };
        if before.weight != server.weight {
            out.push(format!("server {name}/{}: weight {} -> {}", server.name, before.weight, server.weight));
        }
        if before.maxconn != server.maxconn {
            let [was, is] = [before.maxconn, server.maxconn].map(|most| number_or("0", most));
            out.push(format!("server {name}/{}: maxconn {was} -> {is}", server.name));
        }
        if before.backup != server.backup {
            let is = if server.backup { "is a backup server now" } else { "is no backup server any more" };
            out.push(format!("server {name}/{} {is}", server.name));
        }
        if before.state != server.state {
            let (was, is) = (before.state.name(), server.state.name());
            out.push(format!("server {name}/{}: {was} -> {is}", server.name));
        }
    }
    for gone in old.iter().filter(|gone| !new.iter().any(|one| is_same(gone, one))) {
        out.push(removed(name, gone, policy, count(gone)));
    }
}

/// One with another address is another server.
fn is_same<A: PartialEq>(one: &Server<A>, other: &Server<A>) -> bool {
    one.name == other.name && one.addr == other.addr
}

fn removed<A: Display>(pool: &str, server: &Server<A>, policy: OnRemoved, count: u32) -> String {
    let then = match policy {
        OnRemoved::Drain => "drain",
        OnRemoved::Close => "are closed",
        OnRemoved::Keep => "go on",
    };
    format!("server {pool}/{} removed ({}): {count} {then}", server.name, server.addr)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::parse;

    const FILE: &str = "[listener.pg]\nbind = [\"127.0.0.1:1\"]\npool = \"pg\"\n\
        [listener.web]\nbind = [\"127.0.0.1:2\"]\npool = \"web\"\n\
        [pool.pg]\nserver = [{ name = \"db1\", addr = \"10.0.0.1:1\" }, { name = \"db3\", addr = \"10.0.0.3:1\" }]\n\
        [pool.web]\non_removed = \"keep\"\nserver = [{ name = \"a\", addr = \"10.0.0.9:1\" }]\n";

    struct Known;

    impl Counts for Known {
        fn of_listener(&self, name: &str) -> u32 {
            if name == "pg" { 4213 } else { 7 }
        }

        fn of_server(&self, _: &str, server: &Server) -> u32 {
            if server.name == "db3" { 212 } else { 3 }
        }

        fn of_named(&self, _: &str, _: &str) -> u32 {
            40
        }
    }

    fn lines(change: impl Fn(&str) -> String) -> Vec<String> {
        let read = |text: &str| parse(text, "test").unwrap_or_else(|report| panic!("{report}"));
        effect(&read(FILE), &read(&change(FILE)), &Known).lines
    }

    #[test]
    fn every_listener_is_told_how_many_are_affected_and_every_server_what_becomes_of_its_connections() {
        let without = lines(|file| file.replace(", { name = \"db3\", addr = \"10.0.0.3:1\" }", ""));
        let expected = [
            "listener pg: 0 of 4213 connections affected",
            "listener web: 0 of 7 connections affected",
            "server pg/db3 removed (10.0.0.3:1): 212 drain",
        ];
        assert_eq!(without, expected);
    }

    #[test]
    fn each_change_is_named() {
        let cases = [
            (
                "10.0.0.9:1",
                "10.0.0.9:2",
                "server web/a added: 10.0.0.9:2|server web/a removed (10.0.0.9:1): 3 go on",
            ),
            ("name = \"db1\",", "name = \"db1\", weight = 5,", "server pg/db1: weight 1 -> 5"),
            ("name = \"db1\",", "name = \"db1\", state = \"maint\",", "server pg/db1: ready -> maint"),
            (
                "127.0.0.1:2",
                "127.0.0.1:3",
                "listener web: no longer on 127.0.0.1:2; also on 127.0.0.1:3; 0 of 7",
            ),
            ("pool = \"web\"", "pool = \"pg\"", "listener web: pool web -> pg; 0 of 7 connections affected"),
            (
                "pool = \"web\"",
                "pool = \"web\"\nengine = \"poll\"",
                "listener web: engine mio -> poll for new",
            ),
            ("pool = \"web\"", "pool = \"web\"\nmaxconn = 9", "listener web: maxconn off -> 9; 0 of"),
            (
                "[pool.web]",
                "[listener.web.access]\nrules = [\"deny 10.0.0.0/8\"]\n[pool.web]",
                "listener web: access changed (0 -> 1 rules), for new connections; 0 of",
            ),
            (
                "[pool.web]",
                "[listener.web.limits]\nper_source_conns = 5\n[pool.web]",
                "listener web: limits changed, for new connections (rates of bytes: for all that have one); 0 of",
            ),
            ("[pool.web]", "[pool.web]\nbalance = \"round_robin\"", "pool web: balance p2c -> round_robin"),
            ("[pool.web]", "[pool.web.check]\n[pool.web]", "pool web: check changed; servers stay"),
            (
                "[pool.web]",
                "[pool.web]\nslow_start = \"9s\"",
                "pool web: slow_start changed, for servers that come",
            ),
            ("[pool.web]", "[pool.web.passive]\nmax_fails = 9\n[pool.web]", "pool web: passive changed"),
            (
                "[pool.web]",
                "[pool.web]\non_down = \"close\"",
                "pool web: on_down, on_removed, drain_timeout or",
            ),
            (
                "[listener.pg]",
                "[defaults.timeouts]\nidle = \"5m\"\n[listener.pg]",
                "defaults.timeouts.idle: 1h -> 5m, for connections",
            ),
            (
                "10.0.0.9:1",
                "db.example:1",
                "server web/a added: db.example:1|server web/a removed (10.0.0.9:1): 3 go on",
            ),
            (
                "[pool.web]",
                "[defaults.tcp]\nrst_on_error = false\n[pool.web]",
                "defaults.tcp.rst_on_error: true",
            ),
            ("[listener.pg]", "[dns]\nhold = \"9s\"\n[listener.pg]", "[dns] changed"),
            ("[listener.pg]", "[log]\nlevel = \"debug\"\n[listener.pg]", "log.level: info -> debug"),
            (
                "listener.web",
                "listener.site",
                "listener site added: 127.0.0.1:2, pool web|listener web removed: no new connections; its 7",
            ),
        ];
        cases.into_iter().for_each(assert_told);
    }

    #[test]
    fn what_is_made_of_first_bytes_is_named() {
        [
            (
                "pool = \"web\"",
                "pool = \"web\"\naccept_proxy = { from = [\"10.0.0.0/8\"] }",
                "listener web: accept_proxy changed, for new connections; 0 of",
            ),
            (
                "pool = \"web\"",
                "route = [{ default = true, pool = \"web\" }]",
                "listener web: routes, server_speaks_first or max_client_hello changed, for new",
            ),
            (
                "[pool.web]",
                "[pool.web]\nsend_proxy = \"v2\"",
                "pool web: send_proxy or proxy_tlvs changed, for",
            ),
        ]
        .into_iter()
        .for_each(assert_told);
    }

    #[test]
    fn another_burst_is_named() {
        let with = "pool = \"web\"\naccept_burst = 9";
        assert_told(("pool = \"web\"", with, "listener web: accept_burst 16 -> 9; 0 of"));
    }

    #[test]
    fn lists_of_servers_are_named() {
        let with = "[pool.web]\nservers_file = \"/x\"\nservers_poll = \"1s\"";
        let parts = "pool web: has the servers of servers_file /x, too|pool web: servers_poll changed";
        assert_told(("[pool.web]", with, parts));
        let read = |text: &str| parse(text, "test").unwrap();
        let listed = FILE.replace("[pool.web]", with);
        let lines = effect(&read(&listed), &read(FILE), &Known).lines;
        let gone = "pool web: servers_file /x is left, and its servers are removed".to_owned();
        assert!(lines.contains(&gone), "{lines:#?}");
    }

    /// Lines that begin so are there when the first text has become the second.
    fn assert_told((from, to, parts): (&str, &str, &str)) {
        let lines = lines(|file| file.replacen(from, to, 1));
        for part in parts.split('|') {
            assert!(lines.iter().any(|line| line.starts_with(part)), "{part}: {lines:#?}");
        }
    }

    #[test]
    fn a_name_that_is_removed_takes_all_its_servers_along() {
        let read = |text: &str| parse(text, "test").unwrap();
        let named = FILE.replace("10.0.0.9:1", "srv:_db._tcp.example");
        let lines = effect(&read(&named), &read(FILE), &Known).lines;
        assert!(
            lines.contains(&"server web/a removed (srv:_db._tcp.example): 40 go on".to_owned()),
            "{lines:#?}"
        );
    }

    /// Whom a pool tracks goes by names, wherever they stand in the file.
    #[test]
    fn another_server_that_is_tracked_is_told_and_another_order_is_not() {
        let read = |servers: &str, tracked: &str| {
            let servers = servers
                .split(' ')
                .map(|name| format!("{{ name = \"{name}\", addr = \"10.0.0.9:{}\" }}", name.len()));
            let servers = servers.collect::<Vec<_>>().join(", ");
            let text = FILE.replace("{ name = \"a\", addr = \"10.0.0.9:1\" }", &servers);
            parse(&format!("{text}[pool.web.check]\n[pool.pg.check]\ntrack = \"web/{tracked}\"\n"), "test")
                .unwrap()
        };
        let tells = |old: &Config, new: &Config| {
            effect(old, new, &Known).lines.iter().any(|line| line.starts_with("pool pg: check changed"))
        };
        let both = read("a bb", "a");
        assert!(tells(&both, &read("bb", "bb")), "the first one is another server now");
        assert!(tells(&both, &read("a bb", "bb")));
        assert!(!tells(&both, &read("bb a", "a")), "it only stands elsewhere");
        assert!(!tells(&both, &read("a", "a")));
    }

    #[test]
    fn the_same_file_changes_nothing() {
        let read = || parse(FILE, "test").unwrap();
        assert!(effect(&read(), &read(), &Known).unchanged);
    }

    #[test]
    fn what_needs_another_process_is_named() {
        let read = |process: &str| parse(&format!("{process}\n{FILE}"), "test").unwrap();
        let differ =
            needs_restart(&read(""), &read("[process]\nworkers = 3\nbuffer_size = \"64KiB\"\nmaxconn = 9"));
        assert_eq!(differ, ["process.workers", "process.buffer_size"]);
        let named = |name: &str, v6only: bool| {
            let listener = format!("[listener.{name}]\nbind = [\"[::]:7\", \"[::1]:8\"]\npool = \"web\"");
            read(&format!("{listener}\nv6only = {v6only}"))
        };
        // Whichever listener has it now, the socket is the same.
        for name in ["x", "y"] {
            let differ = needs_restart(&named("x", true), &named(name, false));
            assert_eq!(differ, [format!("listener.{name}.v6only of [::]:7")]);
            assert_eq!(needs_restart(&named("x", false), &named(name, false)), [""; 0]);
        }
        assert_eq!(needs_restart(&read(""), &named("x", false)), [""; 0], "it is bound anew");
        let table = read("[listener.web.limits]\ntable_size = 16");
        assert_eq!(needs_restart(&read(""), &table), ["listener.web.limits.table_size"]);
    }
}
