//! `[listener.NAME]` and `[pool.NAME]`, and what they say of each other.

use std::collections::{HashMap, HashSet};
use std::net::IpAddr;
use std::num::NonZeroU32;
use std::path::Path;

use toml::de::DeValue;

use super::address::Target;
use super::admin::DraftAdmin;
use super::health::DraftCheck;
use super::read::{At, Draft, Key, Reader, Section, Value};
use super::route::DraftRoute;
use super::sockets::Edits;
use super::tables::count_or;
use super::value::{self, Fault, Parsed};
use super::{
    AcceptBalance, Address, AllDown, AtMaxconn, Balance, Config, DnsName, EngineKind, HashKey, ListAt,
    Listener, OnDown, OnRemoved, Origin, Pool, Retry, SPREAD, Server, ServerState, Source, Spread, Table,
    Tcp, Timeouts, WhenNoUpstream, address, known, least_share, lists,
};

/// Listeners, and pools, in one configuration.
const MOST_TABLES: usize = 4096;

/// Servers in all pools together.
const MOST_SERVERS: usize = 65535;

/// `hash`, whose key `balance` may say, which may stand behind it.
#[derive(Clone, Copy)]
struct DraftHash {
    spread: Spread,
    key: Option<HashKey>,
}

/// A listener and where it stands, with what it says of pools by their names.
pub(super) struct DraftListener {
    at: At,
    listener: Listener,
    /// Where each of its addresses stands.
    bind_at: Vec<At>,
    pool: Option<(String, At)>,
    routes: Vec<DraftRoute>,
    tcp: Edits<Tcp>,
}

/// A pool and where it stands, with the defaults where its own settings are to be.
pub(super) struct DraftPool {
    at: At,
    pub(super) pool: Pool,
    tcp: Edits<Tcp>,
    retry: Edits<Retry>,
    pub(super) check: Option<DraftCheck>,
    /// Where its check stands.
    pub(super) check_at: Option<At>,
}

/// NAME of `listener.NAME` or `pool.NAME`.
fn name_of(section: &Section<'_>) -> String {
    section.path.split_once('.').map_or("", |(_, name)| name).to_owned()
}

/// Elsewhere one worker's socket would get every connection of a port, and keep it.
fn only_where_ports_are_shared(balance: AcceptBalance) -> Parsed<AcceptBalance> {
    if cfg!(any(target_os = "linux", target_os = "freebsd")) || balance == AcceptBalance::LeastLoaded {
        return Ok(balance);
    }
    let fault = Fault::new("this system does not spread the connections of a port over several sockets");
    Err(fault.help("write \"least_loaded\", or leave it out"))
}

/// The name of an engine, or `"inherit"`.
fn engine_or_inherit(value: &DeValue<'_>) -> Parsed<Option<EngineKind>> {
    let names = EngineKind::NAMES.map(|(name, kind)| (name, Some(kind)));
    let names: Vec<_> = std::iter::once(("inherit", None)).chain(names).collect();
    value::choice(value, &names, &[])
}

/// Elsewhere there is no such option, or it has no meaning with a port that is chosen later.
fn only_where_transparent(source: Source) -> Parsed<Source> {
    if cfg!(target_os = "linux") {
        return Ok(source);
    }
    let fault = Fault::new("on this system a connection cannot come from its client's address");
    Err(fault.help("leave it out; send_proxy tells a server who the client is"))
}

/// One address of this host.
fn source_address(value: &DeValue<'_>, others: &[IpAddr]) -> Parsed<IpAddr> {
    let text = value::text(value)?;
    if text == "client" {
        let fault = Fault::new("\"client\" stands alone: a connection has one source");
        return Err(fault.help("write source = [\"client\"]"));
    }
    let Ok(address) = text.parse::<IpAddr>() else {
        let fault = Fault::new(format!("expected an IP address, or \"client\" alone, found {text:?}"));
        return Err(match text.parse::<std::net::SocketAddr>() {
            Ok(with_port) => {
                fault.help(format!("write \"{}\": ports are chosen as they are free", with_port.ip()))
            }
            Err(_) => fault.help("write one that this host has, such as \"192.0.2.10\""),
        });
    };
    if address.is_unspecified() || address.is_multicast() {
        let fault = Fault::new(format!("no connection comes from {address}"));
        return Err(fault.help("leave `source` out, and the system chooses"));
    }
    if others.contains(&address) {
        return Err(Fault::new(format!("{address} is in the list twice")));
    }
    Ok(address)
}

impl Reader {
    pub(super) fn listener(&mut self, section: &Section<'_>, draft: &mut Draft) {
        let mut listener = Listener::named(name_of(section));
        let routes = self.routing(section, &mut listener);
        let (mut bind_at, mut pool, mut tcp) = (Vec::new(), None, Edits::default());
        for (key, value) in section.keys {
            match key.get_ref().as_ref() {
                "bind" => {
                    for item in self.list(value, "an array of addresses such as [\"0.0.0.0:8080\"]") {
                        let addresses = self.take(item, address::binds).unwrap_or_default();
                        bind_at.extend(addresses.iter().map(|_| self.at(item.span().start)));
                        listener.bind.extend(addresses);
                    }
                }
                "v6only" => self.set(&mut listener.v6only, value, value::boolean),
                "pool" => {
                    let at = self.at(value.span().start);
                    pool = self.take(value, value::text).map(|name| (name, at));
                }
                "engine" => self.set(&mut listener.engine, value, engine_or_inherit),
                "backlog" => self.set(&mut listener.backlog, value, |v| count_or("auto", v)),
                "accept_balance" => {
                    self.set(&mut listener.accept_balance, value, |v| {
                        value::choice(v, &AcceptBalance::NAMES, &[]).and_then(only_where_ports_are_shared)
                    });
                }
                "accept_burst" => {
                    self.set(&mut listener.accept_burst, value, |v| value::integer(v, 1..=1024));
                }
                "maxconn" => self.set(&mut listener.maxconn, value, |v| count_or("off", v)),
                "at_maxconn" => {
                    self.set(&mut listener.at_maxconn, value, |v| value::choice(v, &AtMaxconn::NAMES, &[]));
                }
                "when_no_upstream" => self.set(&mut listener.when_no_upstream, value, |v| {
                    value::choice(v, &WhenNoUpstream::NAMES, &[])
                }),
                "route" | "server_speaks_first" | "max_client_hello" => {}
                "accept_proxy" => listener.accept_proxy = self.accept_proxy(section, key, value),
                "timeouts" => self.with(section, key, value, "listener.NAME.timeouts", |reader, section| {
                    listener.timeouts = reader.timeouts(section);
                }),
                "tcp" => self.with(section, key, value, "defaults.tcp", |r, section| tcp = r.tcp(section)),
                "access" => self.with(section, key, value, "listener.NAME.access", |reader, section| {
                    listener.access = reader.access_rules(section);
                }),
                "limits" => self.with(section, key, value, "listener.NAME.limits", |reader, section| {
                    listener.limits = reader.limits(section);
                }),
                "protocol" => self.protocol(section, key, value),
                _ => self.unread(section, key, value),
            }
        }
        self.require(section, "bind", "write bind = [\"0.0.0.0:8080\"]");
        if !section.keys.contains_key("route") {
            self.require(section, "pool", "write pool = \"NAME\", the NAME of a [pool.NAME]");
        }
        draft.listeners.push(DraftListener { at: section.at, listener, bind_at, pool, routes, tcp });
    }

    /// There is no choice of protocols, and who makes one is told so.
    fn protocol(&mut self, section: &Section<'_>, key: &Key<'_>, value: &Value<'_>) {
        let is = |name: &str| value.get_ref().as_str().is_some_and(|text| text.eq_ignore_ascii_case(name));
        let fault = if is("udp") {
            let help = "leave `protocol` out for TCP; nginx (`listen … udp` in `stream`) and Envoy (`udp_proxy`) relay UDP";
            Fault::new("UDP is not supported: every listener relays TCP only").help(help)
        } else {
            let message = format!("`protocol` in [{}] is no key: every listener relays TCP", section.path);
            Fault::new(message).help("leave it out")
        };
        self.problem(self.at(key.span().start), fault);
    }

    /// Notes that a key without a default is not there.
    pub(super) fn require(&mut self, section: &Section<'_>, key: &str, help: &str) {
        if !section.keys.contains_key(key) {
            let fault = Fault::new(format!("[{}] has no `{key}`", section.path));
            self.missing(section.at, fault.help(help));
        }
    }

    pub(super) fn pool(&mut self, section: &Section<'_>, draft: &mut Draft) {
        let mut pool = Pool { send_proxy: self.send_proxy(section), ..Pool::named(name_of(section)) };
        let (mut tcp, mut retry, mut check) = (Edits::default(), Edits::default(), None);
        let mut hash = None;
        for (key, value) in section.keys {
            match key.get_ref().as_ref() {
                "hash" => self
                    .with(section, key, value, "pool.NAME.hash", |r, section| hash = Some(r.hash(section))),
                "balance" => {
                    self.set(&mut pool.balance, value, |v| value::choice(v, &Balance::NAMES, &[]));
                }
                "all_down" => {
                    self.set(&mut pool.all_down, value, |v| value::choice(v, &AllDown::NAMES, &[]));
                }
                "on_down" => self.set(&mut pool.on_down, value, |v| value::choice(v, &OnDown::NAMES, &[])),
                "on_removed" => {
                    self.set(&mut pool.on_removed, value, |v| value::choice(v, &OnRemoved::NAMES, &[]));
                }
                "drain_timeout" => self.set(&mut pool.drain_timeout, value, value::duration_or_off),
                "close_rate" => self.set(&mut pool.close_rate, value, value::rate),
                "slow_start" => self.set(&mut pool.slow_start, value, value::duration_or_off),
                "check" => {
                    self.with(section, key, value, "pool.NAME.check", |r, s| check = Some(r.check(s)));
                }
                "passive" => self
                    .with(section, key, value, "pool.NAME.passive", |r, s| r.passive(s, &mut pool.passive)),
                "queue" => self.with(section, key, value, "pool.NAME.queue", |reader, section| {
                    reader.queue(section, &mut pool.queue_max);
                }),
                "server" => self.servers(section, value, &mut pool),
                "servers_file" => {
                    pool.lists.extend(self.take(value, lists::file).flatten());
                }
                "servers_url" => {
                    let list = self.servers_url(section, key, value);
                    pool.lists.extend(list);
                }
                "servers_etcd" => {
                    self.with(section, key, value, "pool.NAME.servers_etcd", |reader, section| {
                        pool.lists.extend(reader.etcd(section).map(|etcd| ListAt::Etcd(Box::new(etcd))));
                    });
                }
                "servers_poll" => self.set(&mut pool.servers_poll, value, lists::poll),
                "source" => pool.source = self.source(value),
                "send_proxy" | "proxy_tlvs" => {}
                "timeouts" => self.with(section, key, value, "pool.NAME.timeouts", |reader, section| {
                    pool.timeouts = reader.timeouts(section);
                }),
                "tcp" => self.with(section, key, value, "defaults.tcp", |r, section| tcp = r.tcp(section)),
                "retry" => {
                    self.with(section, key, value, "defaults.retry", |r, section| retry = r.retry(section));
                }
                _ => self.unread(section, key, value),
            }
        }
        self.fit_hash(section, &mut pool.balance, hash);
        self.check_choice(section, &pool);
        if let Some(at) = section.keys.get("source").map(|value| self.at(value.span().start)) {
            self.check_source(at, &pool);
        }
        pool.lists.sort_unstable();
        let is_empty =
            |value: &Value<'_>| matches!(value.get_ref(), DeValue::String(text) if text.is_empty());
        if ["servers_file", "servers_url"].iter().all(|key| section.keys.get(*key).is_none_or(is_empty))
            && !section.keys.contains_key("servers_etcd")
        {
            let help =
                format!("write [[{}.server]] with a `name` and an `addr`, or `servers_file`", section.path);
            self.require(section, "server", &help);
        }
        draft.pools.push(DraftPool { at: section.at, pool, tcp, retry, check, check_at: None });
    }

    /// Puts `hash` where it belongs: to `balance = "source"` or `"sni"`, which may stand behind it.
    fn fit_hash(&mut self, section: &Section<'_>, balance: &mut Balance, hash: Option<DraftHash>) {
        let Some(DraftHash { spread, key }) = hash else { return };
        let at = section.keys.get("hash").map_or(section.at, |value| self.at(value.span().start));
        match balance {
            Balance::Source(own) if key.is_none_or(|key| key == own.key) => {
                *own = Spread { key: own.key, ..spread };
            }
            Balance::Source(_) => {
                let fault = Fault::new("`balance` and the `key` of `hash` do not agree");
                self.problem(at, fault.help("write the same for both, or remove `key`"));
            }
            _ => {
                let fault = Fault::new("`hash` says how clients are spread by their addresses or names");
                let help = "write balance = \"source\" or \"sni\" beside it, or remove it";
                self.problem(at, fault.help(help));
            }
        }
    }

    /// Whether there is something to choose from.
    fn check_choice(&mut self, section: &Section<'_>, pool: &Pool) {
        let at = |key: &str| section.keys.get(key).map_or(section.at, |value| self.at(value.span().start));
        let backups = pool.servers.iter().map(|server| server.backup);
        let mut backups = backups.chain(pool.named.iter().map(|server| server.backup)).peekable();
        if pool.lists.is_empty() && backups.peek().is_some() && backups.all(|is_backup| is_backup) {
            let fault = Fault::new("every server of the pool is a backup server");
            return self
                .problem(at("server"), fault.help("remove `backup` from those that are to serve as a rule"));
        }
        // A name or a list may be several, and stands behind those with an address.
        let named = || pool.named.iter().filter(|server| !server.backup);
        let is_last = usize::from(named().next().is_none() && pool.lists.is_empty());
        let all_but_the_last = pool.servers.iter().rev().filter(|server| !server.backup).skip(is_last);
        let mut all_but_the_last = all_but_the_last
            .map(|server| (&server.name, server.maxconn))
            .chain(named().map(|server| (&server.name, server.maxconn)));
        if pool.balance == Balance::First
            && let Some((name, _)) = all_but_the_last.find(|(_, maxconn)| maxconn.is_none())
        {
            let message = format!(
                "with \"first\" and no `maxconn`, {name:?} is never full: others serve only while it is down"
            );
            let help = "give it a `maxconn`, from which on the next one serves too; or, if the others are to stand in for it, \
                 write `backup = true` for each of them";
            self.problem(at("balance"), Fault::new(message).help(help));
        }
    }

    fn hash(&mut self, section: &Section<'_>) -> DraftHash {
        let (mut spread, mut hash_key) = (SPREAD, None);
        let (mut method, mut size) = ("maglev", 65_537);
        for (key, value) in section.keys {
            match key.get_ref().as_ref() {
                "method" => {
                    self.set(&mut method, value, |v| {
                        value::choice(v, &[("maglev", "maglev"), ("ring", "ring")], &[])
                    });
                }
                "table" => self.set(&mut size, value, prime),
                "key" => hash_key = self.take(value, |v| value::choice(v, &HashKey::NAMES, &[])),
                "ipv6_prefix" => {
                    self.set(&mut spread.ipv6_prefix, value, |v| value::integer(v, 0..=128));
                }
                "bounded_load" => self.set(&mut spread.bound, value, bound),
                _ => self.unread(section, key, value),
            }
        }
        spread.table = if method == "ring" { Table::Ring } else { Table::Maglev(size) };
        DraftHash { spread, key: hash_key }
    }

    fn source(&mut self, value: &Value<'_>) -> Source {
        if value.get_ref().as_array().is_some_and(|items| items.is_empty()) {
            return Source::System;
        }
        let items = self.list(value, "an array of addresses such as [\"192.0.2.10\"], or [\"client\"]");
        if items.len() == 1 && matches!(items[0].get_ref(), DeValue::String(text) if text == "client") {
            return self.take(&items[0], |_| only_where_transparent(Source::Client)).unwrap_or_default();
        }
        let mut addresses = Vec::new();
        for item in items {
            if let Some(address) = self.take(item, |item| source_address(item, &addresses)) {
                addresses.push(address);
            }
        }
        if addresses.len() > Source::MOST {
            let message =
                format!("there are {} addresses, and {} is the most", addresses.len(), Source::MOST);
            self.problem(self.at(value.span().start), Fault::new(message));
        }
        if addresses.is_empty() { Source::System } else { Source::Addresses(addresses) }
    }

    /// Each server needs an address of its family.
    fn check_source(&mut self, at: At, pool: &Pool) {
        let Source::Addresses(sources) = &pool.source else { return };
        let lacks = |server: &&Server| {
            let to = server.addr.ip();
            to.is_some_and(|to| sources.iter().all(|from| from.is_ipv4() != to.is_ipv4()))
        };
        if let Some(server) = pool.servers.iter().find(lacks) {
            let family = if server.addr.ip().is_some_and(|to| to.is_ipv6()) { "IPv6" } else { "IPv4" };
            let message =
                format!("no source is of {family}, as the server {:?} ({}) is", server.name, server.addr);
            self.problem(at, Fault::new(message).help(format!("add an {family} address of this host")));
        }
    }

    fn queue(&mut self, section: &Section<'_>, max: &mut u32) {
        for (key, value) in section.keys {
            match key.get_ref().as_ref() {
                "max" => self.set(max, value, |v| value::integer(v, 0..=u32::MAX)),
                _ => self.unread(section, key, value),
            }
        }
    }

    fn servers(&mut self, section: &Section<'_>, value: &Value<'_>, pool: &mut Pool) {
        if value.get_ref().is_table() {
            let fault = Fault::new(format!("[{}.server] is one table where there may be many", section.path));
            let help = format!("write it in double brackets: [[{}.server]]", section.path);
            return self.problem(self.at(value.span().start), fault.help(help));
        }
        let mut names = HashSet::new();
        for item in self.list(value, "an array of servers: [{ name = \"a\", addr = \"127.0.0.1:9001\" }]") {
            let at = self.at(item.span().start);
            let DeValue::Table(keys) = item.get_ref() else {
                let expected = "a server: { name = \"a\", addr = \"127.0.0.1:9001\" }";
                self.problem(at, Fault::mismatch(expected, item.get_ref()));
                continue;
            };
            let path = format!("{}.server", section.path);
            let section = Section { kind: "pool.NAME.server", path, at, keys };
            self.server(&section, &mut names, pool);
        }
    }

    fn server(&mut self, section: &Section<'_>, names: &mut HashSet<String>, pool: &mut Pool) {
        let mut name = None;
        let mut addr = None;
        let mut weight = 1;
        let mut maxconn = 0;
        let (mut backup, mut state) = (false, ServerState::Ready);
        for (key, value) in section.keys {
            match key.get_ref().as_ref() {
                "name" => {
                    name = self.take(value, |v| {
                        let text = value::text(v)?;
                        value::name(&text)?;
                        if !names.insert(text.clone()) {
                            let fault = Fault::new(format!("the pool has two servers named {text:?}"));
                            return Err(fault.help("names tell servers apart: choose another one"));
                        }
                        Ok(text)
                    });
                }
                "addr" => addr = self.take(value, address::server),
                "weight" => self.set(&mut weight, value, |v| value::integer(v, 0..=u16::MAX)),
                "maxconn" => self.set(&mut maxconn, value, |v| value::integer(v, 0..=u32::MAX)),
                "backup" => self.set(&mut backup, value, value::boolean),
                "state" => self.set(&mut state, value, |v| value::choice(v, &ServerState::NAMES, &[])),
                _ => self.unread(section, key, value),
            }
        }
        self.require(section, "name", "write name = \"a\", unique in its pool");
        self.require(section, "addr", "write addr = \"127.0.0.1:9001\"");
        let (Some(name), Some(addr)) = (name, addr) else { return };
        let (maxconn, origin) = (NonZeroU32::new(maxconn), Origin::File);
        match addr {
            Target::At(addr) => {
                pool.servers.push(Server { name, addr, weight, maxconn, backup, state, origin });
            }
            Target::Named(addr) => {
                self.check_weight(section, &addr);
                pool.named.push(Server { name, addr, weight, maxconn, backup, state, origin });
            }
        }
    }

    /// Records of a service have weights of their own.
    fn check_weight(&mut self, section: &Section<'_>, addr: &DnsName) {
        if let (DnsName::Service(_), Some(value)) = (addr, section.keys.get("weight")) {
            let fault = Fault::new(format!("`weight` beside {addr}, whose records have a weight each"));
            self.problem(
                self.at(value.span().start),
                fault.help("remove it; state = \"drain\" takes new connections from all of them"),
            );
        }
    }

    /// Checks what listeners and pools say of each other, and puts them into a configuration.
    pub(super) fn join(&mut self, mut draft: Draft) -> Option<Config> {
        draft.listeners.sort_by_key(|listener| listener.at);
        draft.pools.sort_by_key(|pool| pool.at);
        self.check_counts(&draft);
        self.check_overlaps(&draft);
        self.join_checks(&mut draft.pools);
        let (tcp, retry) = (draft.tcp.over(Tcp::default()), draft.retry.over(Retry::default()));
        let with_own = |draft: DraftPool| Pool {
            tcp: draft.tcp.over(tcp.clone()),
            retry: draft.retry.over(retry),
            ..draft.pool
        };
        let pools: Vec<Pool> = draft.pools.into_iter().map(with_own).collect();
        let indices: HashMap<&str, usize> =
            pools.iter().enumerate().map(|(index, pool)| (pool.name.as_str(), index)).collect();
        let mut listeners = Vec::new();
        for draft in draft.listeners {
            let find = |reader: &mut Self, name: &str, at: At| {
                let found = indices.get(name).copied();
                if found.is_none() {
                    let near = known::nearest(name, pools.iter().map(|pool| pool.name.as_str()));
                    let help = near.map_or_else(
                        || format!("write a table [pool.{name}]"),
                        |near| format!("did you mean {near:?}?"),
                    );
                    reader.missing_table(at, Fault::new(format!("there is no pool {name:?}")).help(help));
                }
                found
            };
            let own = draft.pool.and_then(|(name, at)| find(self, &name, at));
            let (routes, last) = self.join_routes(draft.routes, find);
            let Some(pool) = own.or(last) else { continue };
            let joined = Listener { pool, routes, tcp: draft.tcp.over(tcp.clone()), ..draft.listener };
            self.check_who_waits(draft.at, &joined, &pools);
            listeners.push(joined);
        }
        self.check_budget(&draft.process, draft.budget_at, least_share(&draft.process, &listeners, &pools));
        let jitter = draft.jitter.unwrap_or_else(|| Timeouts::default().max_lifetime_jitter);
        (!listeners.is_empty()).then_some(Config {
            process: draft.process,
            admin: draft.admin.map(|draft| draft.admin),
            log: draft.log,
            access: draft.access,
            metrics: draft.metrics,
            dns: draft.dns,
            timeouts: Timeouts { max_lifetime_jitter: jitter, ..Timeouts::default().but(&draft.timeouts) },
            tcp,
            retry,
            listeners,
            pools,
        })
    }

    fn check_counts(&mut self, draft: &Draft) {
        let servers = |pool: &Pool| pool.servers.len() + pool.named.len();
        let servers: usize = draft.pools.iter().map(|draft| servers(&draft.pool)).sum();
        let counts = [
            ("listeners", draft.listeners.len(), MOST_TABLES),
            ("pools", draft.pools.len(), MOST_TABLES),
            ("servers", servers, MOST_SERVERS),
        ];
        for (what, count, most) in counts {
            if count > most {
                self.problem(
                    At::START,
                    Fault::new(format!("there are {count} {what}, and {most} is the most")),
                );
            }
        }
        if draft.listeners.is_empty() {
            let help = "write [listener.NAME] with `bind` and `pool`";
            self.missing_table(At::START, Fault::new("there is no listener").help(help));
        }
    }

    /// Every address may be listened on once.
    fn check_overlaps(&mut self, draft: &Draft) {
        let admin = draft.admin.as_ref().map(DraftAdmin::places).unwrap_or_default();
        let admin = admin.iter().map(|(addr, at)| Claim { addr, at: *at, v6only: true });
        let bound = draft.listeners.iter().flat_map(|draft| {
            let v6only = draft.listener.v6only;
            let bound = draft.listener.bind.iter().zip(&draft.bind_at);
            bound.map(move |(addr, at)| Claim { addr, at: *at, v6only })
        });
        let mut taken: HashMap<(u16, &Path), Vec<Claim<'_>>> = HashMap::new();
        for claim in admin.chain(bound) {
            let others = taken.entry(claim.addr.place()).or_default();
            if let Some((other, help)) = others.iter().find_map(|other| Some((other, claim.against(other)?)))
            {
                let (addr, other, first) = (claim.addr, other.addr, self.describe(other.at));
                let message = format!("{addr} is taken by {other} at {first}");
                self.problem(claim.at, Fault::new(message).help(help));
            }
            others.push(claim);
        }
    }
}

/// An address that is to be listened on.
struct Claim<'a> {
    addr: &'a Address,
    at: At,
    v6only: bool,
}

impl Claim<'_> {
    /// What to do about it, if not both can be had.
    fn against(&self, other: &Self) -> Option<&'static str> {
        if address::overlap(self.addr, other.addr) {
            return Some(match self.addr {
                Address::Ip(_) => "use another port, or addresses that differ",
                Address::Unix(_) => "use another path",
                Address::Abstract(_) => "use another name",
                Address::Handed(_) => {
                    "give one of the sockets another FileDescriptorName= in its .socket unit"
                }
            });
        }
        let takes = |one: &Self, other: &Self| !one.v6only && address::meet(one.addr, other.addr);
        (takes(self, other) || takes(other, self)).then_some(
            "with v6only = false \"[::]\" stands for all addresses of IPv4, too: leave those of IPv4 out, or write \
             v6only = true",
        )
    }
}

/// The largest table of Envoy, too.
const TABLE_MAX: u32 = 5_000_011;

/// Each server walks through all places of a table in steps of its own, which takes it everywhere only where the number of
/// places is prime.
fn prime(value: &DeValue<'_>) -> Parsed<u32> {
    let size = value::integer(value, 2..=TABLE_MAX)?;
    let is_prime =
        |number: u32| (2..).take_while(|by| by * by <= number).all(|by| !number.is_multiple_of(by));
    if is_prime(size) {
        return Ok(size);
    }
    let next = (size..).find(|number| is_prime(*number)).unwrap_or(TABLE_MAX);
    Err(Fault::new(format!("{size} is not prime")).help(format!("the next prime number is {next}")))
}

/// Hundredths, rounded; `None` is without a bound.
fn bound(value: &DeValue<'_>) -> Parsed<Option<u32>> {
    const EXPECTED: &str = "\"off\" or a number from 1.0 to 1000.0";
    let number = match value {
        DeValue::String(text) if text == "off" => return Ok(None),
        DeValue::Float(number) => number.as_str().parse().ok(),
        DeValue::Integer(number) => number.as_str().parse().ok(),
        _ => None,
    };
    match number.map(|number: f64| (number * 100.0).round()) {
        // In range, so nothing is cut off.
        Some(hundredths) if (100.0..=100_000.0).contains(&hundredths) => Ok(Some(hundredths as u32)),
        Some(_) => Err(Fault::new(format!("expected {EXPECTED}"))
            .help("1.5 lets a server have half as much again as its share")),
        None => Err(Fault::mismatch(EXPECTED, value)),
    }
}
