//! What is no error in a configuration, and hardly meant.

use std::collections::{HashMap, HashSet};
use std::num::NonZeroU32;
use std::path::Path;
use std::time::Duration;

use super::listener::ACCEPT_BURST;
use super::{
    Address, Check, Config, DnsName, EngineKind, Kind, Listener, OnDown, Pool, Probe, Starttls, Timeouts,
    address, duration_text,
};

/// Warnings about a configuration, in words: those for which nothing but itself is looked at.
#[must_use]
pub fn oddities(config: &Config) -> Vec<String> {
    let mut found: Vec<String> = too_long(&config.timeouts);
    found = found.into_iter().map(|what| format!("[defaults.timeouts]: {what}")).collect();
    let drain = &config.process.drain;
    if let Some(hard_stop) = drain.hard_stop.filter(|limit| *limit < drain.spread) {
        let [spread, hard_stop] = [drain.spread, hard_stop].map(duration_text);
        found.push(format!(
            "[process.drain]: `spread` ({spread}) is longer than `hard_stop` ({hard_stop}), which resets what is left by then"
        ));
    }
    for listener in &config.listeners {
        let of_listener = of_listener(config, listener).into_iter();
        found.extend(of_listener.map(|what| format!("listener {}: {what}", listener.name)));
    }
    let used = used(config);
    let owners = Owners::new(config);
    for (index, pool) in config.pools.iter().enumerate() {
        let mut of_pool = of_pool(pool);
        if !used.contains(&index) {
            of_pool.push("no listener leads to it".to_owned());
        }
        of_pool.extend(owners.loops(config, index));
        let addressed = pool.servers.iter().map(|server| (&server.name, server.maxconn));
        let mut servers = addressed.chain(pool.named.iter().map(|server| (&server.name, server.maxconn)));
        of_pool.extend(servers.find_map(|(name, maxconn)| {
            let over = never_reached(("maxconn", maxconn), ("process.maxconn", config.process.maxconn));
            over.map(|what| format!("server {name}: {what}"))
        }));
        let timeouts = config.timeouts.but(&pool.timeouts);
        if timeouts != config.timeouts {
            let told = too_long(&config.timeouts);
            of_pool.extend(too_long(&timeouts).into_iter().filter(|what| !told.contains(what)));
        }
        found.extend(of_pool.into_iter().map(|what| format!("pool {}: {what}", pool.name)));
    }
    found
}

/// Limits that another one never lets be reached.
fn too_long(timeouts: &Timeouts) -> Vec<String> {
    let Some(total) = timeouts.connect_total else { return Vec::new() };
    let parts = [("connect", timeouts.connect), ("queue", timeouts.queue)];
    let longer =
        parts.into_iter().filter_map(|(key, limit)| Some((key, limit.filter(|limit| *limit > total)?)));
    let said = |(key, limit): (&str, Duration)| {
        let [limit, total] = [limit, total].map(duration_text);
        format!("`{key}` ({limit}) is longer than `connect_total` ({total}), which ends it first")
    };
    longer.map(said).collect()
}

fn of_listener(config: &Config, listener: &Listener) -> Vec<String> {
    let mut found = Vec::new();
    let from = listener.accept_proxy.iter().flat_map(|accept| &accept.from);
    found.extend(from.filter(|network| network.prefix_len() == 0).map(|all| {
        format!(
            "`from` of accept_proxy has {all}, so whoever connects can say to be anybody: name your proxies"
        )
    }));
    let is_postgres = |pool: usize| {
        matches!(&config.pools[pool].check, Check::Own(Probe { kind: Kind::Postgres, port: None, .. }))
    };
    let takes_starttls = listener.routes.iter().any(|route| route.starttls != Starttls::Off);
    let mut by_name = listener.routes.iter().filter(|route| !route.sni.is_empty());
    if !takes_starttls && by_name.any(|route| route.to.pool().is_some_and(is_postgres)) {
        found.push(
            "its routes by `sni` lead to PostgreSQL, whose clients ask for TLS before they name anybody: \
             write `starttls = \"postgres\"` in these routes, else most clients take the default route"
                .to_owned(),
        );
    }
    found.extend(of_who_speaks_first(config, listener));
    let per_source = listener.limits.per_source_conns;
    let process = ("process.maxconn", config.process.maxconn);
    found.extend(never_reached(("maxconn", listener.maxconn), process));
    found.extend(
        never_reached(("per_source_conns", per_source), ("maxconn", listener.maxconn))
            .or_else(|| never_reached(("per_source_conns", per_source), process)),
    );
    found.extend(of_sockets(config, listener));
    found
}

/// Keys about a listener's sockets that say nothing.
fn of_sockets(config: &Config, listener: &Listener) -> Vec<String> {
    let mut found = Vec::new();
    if !listener.v6only && !listener.bind.iter().any(Address::is_all_of_ipv6) {
        found.push(
            "`v6only` = false does nothing: only an address such as \"[::]:80\" can stand for IPv4, too"
                .to_owned(),
        );
    }
    let engine = listener.engine.unwrap_or(config.process.engine).resolved();
    if listener.accept_burst != ACCEPT_BURST && engine == EngineKind::IoUring {
        found.push(
            "`accept_burst` does nothing with the engine io_uring: the kernel accepts by itself".to_owned(),
        );
    }
    found
}

/// A number of connections that another one, which comes first, never lets be reached.
fn never_reached(
    (key, limit): (&str, Option<NonZeroU32>),
    (first, most): (&str, Option<NonZeroU32>),
) -> Option<String> {
    let (limit, most) = (limit?, most?);
    (limit > most).then(|| format!("`{key}` ({limit}) is never reached: `{first}` is {most}"))
}

/// Ports of protocols whose clients wait until their server has spoken: FTP, SMTP, POP3, IMAP, MySQL.
const SERVER_SPEAKS_FIRST: [u16; 6] = [21, 25, 110, 143, 587, 3306];

/// A listener that reads its clients' hellos, or does not, where the opposite seems to be meant.
fn of_who_speaks_first(config: &Config, listener: &Listener) -> Option<String> {
    let pools = || listener.pools().map(|pool| &config.pools[pool]);
    if !listener.needs_hello(&config.pools) {
        return None;
    }
    if listener.server_speaks_first {
        let pool = pools().find(|pool| pool.needs_hello())?;
        return Some(format!(
            "`server_speaks_first` is true, so nobody's name is known: `balance` and `proxy_tlvs` of pool {} that go by \
             it do nothing here",
            pool.name
        ));
    }
    let port = |at: &Address| at.ip().map(|at| at.port());
    let servers = pools().flat_map(|pool| {
        let named = pool.named.iter().filter_map(|one| match one.addr {
            DnsName::Host(_, port) => Some(port),
            DnsName::Service(_) => None,
        });
        pool.servers.iter().filter_map(|server| port(&server.addr)).chain(named)
    });
    let mut ports = listener.bind.iter().filter_map(port).chain(servers);
    let port = ports.find(|port| SERVER_SPEAKS_FIRST.contains(port))?;
    Some(format!(
        "it waits for its clients' first bytes, and those of port {port} are used to wait for their server: if so, write \
         `server_speaks_first = true` and routes by `source` only"
    ))
}

/// The pools that a listener leads to, or whose checks another pool goes by.
fn used(config: &Config) -> HashSet<usize> {
    let of_listeners = config.listeners.iter().flat_map(Listener::pools);
    let tracked = config.pools.iter().filter_map(|pool| match pool.check {
        Check::Track { pool, .. } => Some(pool),
        Check::Off | Check::Own(_) => None,
    });
    of_listeners.chain(tracked).collect()
}

fn of_pool(pool: &Pool) -> Vec<String> {
    let mut found = Vec::new();
    let mut first: HashMap<&Address, &str> = HashMap::new();
    for server in &pool.servers {
        match first.get(&server.addr) {
            Some(other) => found.push(format!(
                "the servers {other} and {} are one: both have {}; `weight` gives one a larger share",
                server.name, server.addr
            )),
            None => drop(first.insert(&server.addr, &server.name)),
        }
    }
    let weighs_nothing = pool.servers.iter().all(|server| server.weight == 0)
        && pool.named.iter().all(|one| one.weight == 0 && matches!(one.addr, DnsName::Host(..)));
    if weighs_nothing && pool.lists.is_empty() {
        found.push("every server has weight 0, so none gets a connection".to_owned());
    }
    if let Check::Own(Probe { interval, fast_interval, .. }) = pool.check
        && fast_interval > interval
    {
        let [fast, usual] = [fast_interval, interval].map(duration_text);
        found.push(format!(
            "`fast_interval` ({fast}) is longer than `interval` ({usual}), so what seems to change is looked at less often"
        ));
    }
    if pool.on_down == OnDown::Close && pool.check == Check::Off {
        found.push(format!(
            "`on_down` = \"close\" does nothing without checks, which find a server down: write [pool.{}.check]",
            pool.name
        ));
    }
    found
}

/// Which listeners have an address.
struct Owners<'c>(HashMap<(u16, &'c Path), Vec<Owner<'c>>>);

/// A listener, by its place in the configuration, that has an address.
struct Owner<'c> {
    addr: &'c Address,
    listener: usize,
    v6only: bool,
}

impl<'c> Owners<'c> {
    fn new(config: &'c Config) -> Self {
        let mut owners: HashMap<_, Vec<Owner<'_>>> = HashMap::new();
        for (index, listener) in config.listeners.iter().enumerate() {
            for addr in &listener.bind {
                owners.entry(addr.place()).or_default().push(Owner {
                    addr,
                    listener: index,
                    v6only: listener.v6only,
                });
            }
        }
        Self(owners)
    }

    /// The listeners that a connection to this server comes to. One that listens on all addresses surely has those of
    /// loopback; which others this host has is not known here.
    fn of<'s>(&'s self, server: &'s Address) -> impl Iterator<Item = usize> {
        let is_it = move |Owner { addr, v6only, .. }: &&Owner<'_>| {
            let comes_to = address::overlap(addr, server) || !*v6only && address::meet(addr, server);
            *addr == server || comes_to && server.ip().is_some_and(|server| server.ip().is_loopback())
        };
        let all = self.0.get(&server.place()).into_iter().flatten();
        all.filter(is_it).map(|owner| owner.listener)
    }

    /// Servers of a pool that are listeners which lead to it, at once or by other pools.
    fn loops(&self, config: &Config, pool: usize) -> Vec<String> {
        let of_pool = |pool: usize| config.pools[pool].servers.iter();
        let mut found = Vec::new();
        for server in of_pool(pool) {
            let mut way: Vec<usize> = self.of(&server.addr).collect();
            let mut next = 0;
            while let Some(listener) = way.get(next).map(|index| &config.listeners[*index]) {
                next += 1;
                if listener.pools().any(|led_to| led_to == pool) {
                    found.push(format!(
                        "the server {} ({}) is this process itself: its connections come back by listener {}",
                        server.name, server.addr, listener.name
                    ));
                    break;
                }
                let servers = listener.pools().flat_map(of_pool);
                for further in servers.flat_map(|server| self.of(&server.addr)) {
                    if !way.contains(&further) {
                        way.push(further);
                    }
                }
            }
        }
        found
    }
}
