//! A configuration as a file that gives it again.

use std::fmt::Display;
use std::num::{NonZeroU32, NonZeroU64};
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::proxy::{self, AcceptProxy, Untrusted};
use super::tables::LEVELS;
use super::value::{DURATION_UNITS, SIZE_UNITS};
use super::{
    AcceptBalance, Access, AccessFormat, AccessRules, Admin, AllDown, AtMaxconn, Balance, Check, CheckClose,
    Config, CpuAffinity, Dns, DnsName, EngineKind, HashKey, Initial, Kind, Limits, ListAt, ListUrl, Listener,
    LogFormat, LogOutput, MatchOn, OnRemoved, OwnTimeouts, Passive, Pool, Probe, Process, Resolvers, Retry,
    Route, RouteTo, Server, Source, Spread, Starttls, Step, Table, Tcp, Tls, WhenNoUpstream, name_in,
};
use crate::proxy_header::Version;

/// The whole configuration with every default written out, as TOML that [`parse`](super::parse) reads back
/// to an equal one. References such as `${NAME}` have become what they stood for.
#[must_use]
pub fn dump(config: &Config) -> String {
    let Config { process, admin, log, access, metrics, dns, timeouts, tcp, retry, listeners, pools } = config;
    let mut out = Lines(String::new());
    out.key("config_version", 1);
    out.process(process);
    if let Some(admin) = admin {
        out.admin(admin);
    }
    out.header("[log]");
    out.key("level", quoted(name_in(&LEVELS, &log.level)));
    out.key("output", quoted(&log.output.to_string()));
    out.key("format", quoted(name_in(&LogFormat::NAMES, &log.format)));
    out.access(access);
    out.header("[metrics]");
    out.key("per_server", metrics.per_server);
    out.key("tcp_info", quoted(metrics.tcp_info.name()));
    out.key("tcp_info_sample_every", duration(metrics.tcp_info_sample_every));
    out.dns(dns);
    out.timeouts("[defaults.timeouts]", &OwnTimeouts::from(*timeouts));
    out.key("max_lifetime_jitter", format!("{:?}", timeouts.max_lifetime_jitter));
    out.tcp("[defaults.tcp]", tcp);
    out.retry("[defaults.retry]", *retry);
    for listener in listeners {
        out.listener(listener, &pools[listener.pool]);
        let path = format!("listener.{}", bare(&listener.name));
        out.timeouts(&format!("[{path}.timeouts]"), &listener.timeouts);
        if listener.tcp != *tcp {
            out.tcp(&format!("[{path}.tcp]"), &listener.tcp);
        }
        out.access_rules(&format!("[{path}.access]"), &listener.access);
        out.limits(&format!("[{path}.limits]"), &listener.limits);
        listener.routes.iter().for_each(|route| out.route(&path, route, pools));
    }
    for pool in pools {
        out.pool(pool, pools);
        let path = format!("pool.{}", bare(&pool.name));
        out.timeouts(&format!("[{path}.timeouts]"), &pool.timeouts);
        if pool.tcp != *tcp {
            out.tcp(&format!("[{path}.tcp]"), &pool.tcp);
        }
        if pool.retry != *retry {
            out.retry(&format!("[{path}.retry]"), pool.retry);
        }
    }
    out.0
}

/// The lines of a file.
struct Lines(String);

impl Lines {
    fn header(&mut self, header: &str) {
        self.0.push('\n');
        self.0.push_str(header);
        self.0.push('\n');
    }

    fn key(&mut self, key: &str, value: impl Display) {
        self.0.push_str(&format!("{key} = {value}\n"));
    }

    fn process(&mut self, process: &Process) {
        self.header("[process]");
        self.key("workers", number_or("auto", process.workers));
        self.key(
            "cpu_affinity",
            match &process.cpu_affinity {
                CpuAffinity::Cpus(cpus) => array(cpus),
                word => quoted(name_in(&CpuAffinity::NAMES, word)),
            },
        );
        self.key("engine", quoted(process.engine.name()));
        self.key("engine_fallback", process.engine_fallback);
        self.key("maxconn", number_or("auto", process.maxconn));
        self.key("buffer_size", size(process.buffer_size.into()));
        self.key("buffer_budget", size(process.buffer_budget));
        self.key("splice", quoted(process.splice.name()));
        self.key("watch", process.watch);
        self.key("user", quoted(process.user.as_deref().unwrap_or_default()));
        self.header("[process.drain]");
        self.key("grace", duration(process.drain.grace));
        self.key("idle_first", process.drain.idle_first);
        self.key("spread", duration(process.drain.spread));
        self.key("hard_stop", duration_or_off(process.drain.hard_stop));
        self.header("[process.uring]");
        self.key("entries", process.uring.entries);
        self.key("buffers", process.uring.buffers);
        self.key("multishot", process.uring.multishot);
    }

    fn dns(&mut self, dns: &Dns) {
        self.header("[dns]");
        self.key(
            "resolvers",
            match &dns.resolvers {
                Resolvers::System => quoted("system"),
                Resolvers::Listed(all) => array(all),
            },
        );
        self.key("ttl_min", duration(dns.ttl_min));
        self.key("ttl_max", duration(dns.ttl_max));
        self.key("hold", duration(dns.hold));
        self.key("timeout", duration(dns.timeout));
        self.key("tries", dns.tries);
        self.key("prefer", quoted(dns.prefer.name()));
    }

    fn admin(&mut self, admin: &Admin) {
        let path = |path: &Option<PathBuf>, none: &str| {
            quoted(&path.as_ref().map_or_else(|| none.to_owned(), |path| path.display().to_string()))
        };
        self.header("[admin]");
        self.key("socket", path(&admin.socket, "off"));
        self.key("socket_mode", quoted(&format!("{:04o}", admin.socket_mode)));
        self.key("http", quoted(&admin.http.map_or_else(|| "off".to_owned(), |at| at.to_string())));
        self.key("http_token_file", path(&admin.http_token_file, ""));
        self.key("http_write", admin.http_write);
    }

    fn access(&mut self, access: &Access) {
        self.header("[log.access]");
        let output = access.output.as_ref().map_or_else(|| "off".to_owned(), LogOutput::to_string);
        self.key("output", quoted(&output));
        self.key("format", quoted(access.format.name()));
        if let AccessFormat::Template(template) = &access.format {
            self.key("template", quoted(&template.to_string()));
        }
        let events: Vec<&str> = access.events.iter().map(|event| event.name()).collect();
        self.key("events", array(&events));
        self.key("update_every", duration_or_off(access.update_every));
        self.key("skip_empty", access.skip_empty);
        self.key("sample", format!("{:?}", access.sample));
    }

    /// Nothing, where nothing is set.
    fn timeouts(&mut self, header: &str, own: &OwnTimeouts) {
        if *own == OwnTimeouts::default() {
            return;
        }
        self.header(header);
        for (key, limit) in [
            ("connect", own.connect),
            ("connect_total", own.connect_total),
            ("idle", own.idle),
            ("half_close", own.half_close),
            ("preread", own.preread),
            ("queue", own.queue),
            ("max_lifetime", own.max_lifetime),
        ] {
            if let Some(limit) = limit {
                self.key(key, duration_or_off(limit));
            }
        }
    }

    fn retry(&mut self, header: &str, retry: Retry) {
        self.header(header);
        self.key("tries", retry.tries);
        self.key("same_server_delay", duration(retry.same_server_delay));
    }

    fn tcp(&mut self, header: &str, tcp: &Tcp) {
        self.header(header);
        self.key("nodelay", tcp.nodelay);
        let keepalive = tcp.keepalive.map(|keepalive| {
            let idle = duration(keepalive.idle);
            let interval = duration(keepalive.interval);
            format!("{{ idle = {idle}, interval = {interval}, count = {} }}", keepalive.count)
        });
        self.key("keepalive", keepalive.unwrap_or_else(|| quoted("off")));
        self.key("dead_peer", duration_or_off(tcp.dead_peer));
        self.key("user_timeout", duration_or_off(tcp.user_timeout));
        self.key("rst_on_error", tcp.rst_on_error);
        self.key("congestion", quoted(tcp.congestion.as_deref().unwrap_or("")));
        let buffer = |bytes: Option<u32>| bytes.map_or_else(|| quoted("auto"), |bytes| size(bytes.into()));
        self.key("rcvbuf", buffer(tcp.rcvbuf));
        self.key("sndbuf", buffer(tcp.sndbuf));
        self.key("dscp", number_or("off", tcp.dscp));
        self.key("mark", number_or("off", tcp.mark));
        self.key("interface", quoted(tcp.interface.as_deref().unwrap_or("")));
    }

    fn listener(&mut self, listener: &Listener, pool: &Pool) {
        self.header(&format!("[listener.{}]", bare(&listener.name)));
        self.key("bind", array(&listener.bind));
        self.key("v6only", listener.v6only);
        if listener.routes.is_empty() {
            self.key("pool", quoted(&pool.name));
        }
        self.key("engine", quoted(listener.engine.map_or("inherit", EngineKind::name)));
        self.key("backlog", number_or("auto", listener.backlog));
        self.key("accept_balance", quoted(name_in(&AcceptBalance::NAMES, &listener.accept_balance)));
        self.key("accept_burst", listener.accept_burst);
        self.key("maxconn", number_or("off", listener.maxconn));
        self.key("at_maxconn", quoted(name_in(&AtMaxconn::NAMES, &listener.at_maxconn)));
        let word = name_in(&WhenNoUpstream::NAMES, &listener.when_no_upstream);
        self.key("when_no_upstream", quoted(word));
        self.key("server_speaks_first", listener.server_speaks_first);
        self.key("max_client_hello", size(listener.max_client_hello.into()));
        if let Some(accept) = &listener.accept_proxy {
            self.accept_proxy(accept);
        }
    }

    fn route(&mut self, listener: &str, route: &Route, pools: &[Pool]) {
        self.header(&format!("[[{listener}.route]]"));
        let mut condition = |key: &str, words: Vec<String>| {
            if !words.is_empty() {
                self.key(key, array(&words));
            }
        };
        condition("sni", route.sni.iter().map(ToString::to_string).collect());
        condition("alpn", route.alpn.clone());
        condition("source", route.source.iter().map(ToString::to_string).collect());
        self.key("starttls", quoted(name_in(&Starttls::NAMES, &route.starttls)));
        self.key("default", route.default);
        match route.to {
            RouteTo::Pool(pool) => self.key("pool", quoted(&pools[pool].name)),
            action => self.key("action", quoted(name_in(&RouteTo::NAMES, &action))),
        }
    }

    fn accept_proxy(&mut self, accept: &AcceptProxy) {
        let unix = accept.from_unix.then(|| "unix".to_owned());
        let from: Vec<String> = accept.from.iter().map(ToString::to_string).chain(unix).collect();
        let numbers: Vec<String> = Version::BOTH
            .iter()
            .filter(|version| accept.versions.allow(**version))
            .map(|version| version.number().to_string())
            .collect();
        let (from, versions) = (array(&from), numbers.join(", "));
        let untrusted = quoted(name_in(&Untrusted::NAMES, &accept.untrusted));
        self.key(
            "accept_proxy",
            format!("{{ from = {from}, versions = [{versions}], untrusted = {untrusted} }}"),
        );
    }

    fn access_rules(&mut self, header: &str, access: &AccessRules) {
        self.header(header);
        let rules = access.rules.iter();
        let rules: Vec<String> =
            rules.map(|rule| format!("{} {}", rule.action.name(), rule.network)).collect();
        self.key("default", quoted(access.default.name()));
        self.key("rules", array(&rules));
        self.key("match_on", quoted(name_in(&MatchOn::NAMES, &access.match_on)));
    }

    fn limits(&mut self, header: &str, limits: &Limits) {
        self.header(header);
        self.key("per_source_conns", number_or("off", limits.per_source_conns));
        let source_rate =
            limits.per_source_rate.map(|it| format!("{{ rate = \"{}/s\", burst = {} }}", it.rate, it.burst));
        self.key("per_source_rate", source_rate.unwrap_or_else(|| quoted("off")));
        self.key("rate", quoted(&limits.rate.map_or_else(|| "off".to_owned(), |rate| format!("{rate}/s"))));
        self.key("ipv6_prefix", limits.ipv6_prefix);
        self.key("table_size", limits.table_size);
        self.key("dry_run", limits.dry_run);
        let bytes = |rate: Option<NonZeroU64>| {
            rate.map_or_else(|| "off".to_owned(), |rate| in_units(rate.get(), SIZE_UNITS) + "/s")
        };
        self.key("upload", quoted(&bytes(limits.upload)));
        self.key("download", quoted(&bytes(limits.download)));
    }

    fn probe(&mut self, probe: &Probe) {
        self.key("kind", quoted(probe.kind.name()));
        match &probe.kind {
            Kind::SendExpect(steps) => {
                let steps: Vec<String> = steps.iter().map(step).collect();
                self.key("steps", format!("[{}]", steps.join(", ")));
            }
            Kind::Http { path, status } => {
                self.key("path", quoted(path));
                let code = |range: &std::ops::RangeInclusive<u16>| match (range.start(), range.end()) {
                    (first, last) if first == last => first.to_string(),
                    (first, last) => format!("{first}-{last}"),
                };
                self.key("status", array(&status.iter().map(code).collect::<Vec<_>>()));
            }
            Kind::Tls { sni } => self.key("sni", quoted(sni)),
            Kind::Exec(argv) => self.key("argv", array(argv)),
            Kind::Tcp | Kind::Postgres | Kind::Mysql | Kind::Redis | Kind::RedisMaster | Kind::Smtp => {}
        }
        if let Some(port) = probe.port {
            self.key("port", port);
        }
        self.key("interval", duration(probe.interval));
        self.key("fast_interval", duration(probe.fast_interval));
        self.key("down_interval", duration(probe.down_interval));
        self.key("timeout", duration(probe.timeout));
        self.key("fall", probe.fall);
        self.key("rise", probe.rise);
        self.key("jitter", format!("{:?}", f64::from(probe.jitter) / 1000.0));
        self.key("initial", quoted(name_in(&Initial::NAMES, &probe.initial)));
        self.key("close", quoted(name_in(&CheckClose::NAMES, &probe.close)));
    }

    fn pool(&mut self, pool: &Pool, all: &[Pool]) {
        let name = bare(&pool.name);
        self.header(&format!("[pool.{name}]"));
        self.key("balance", quoted(pool.balance.name()));
        if let Balance::Source(Spread { key, table, ipv6_prefix, bound }) = pool.balance {
            let table = match table {
                Table::Maglev(size) => format!("method = \"maglev\", table = {size}"),
                Table::Ring => "method = \"ring\"".to_owned(),
            };
            let bound =
                bound.map_or_else(|| quoted("off"), |bound| format!("{}.{:02}", bound / 100, bound % 100));
            let key = quoted(name_in(&HashKey::NAMES, &key));
            let rest = format!("key = {key}, ipv6_prefix = {ipv6_prefix}, bounded_load = {bound}");
            self.key("hash", format!("{{ {table}, {rest} }}"));
        }
        self.key("all_down", quoted(name_in(&AllDown::NAMES, &pool.all_down)));
        self.key("on_down", quoted(pool.on_down.name()));
        self.key("on_removed", quoted(name_in(&OnRemoved::NAMES, &pool.on_removed)));
        self.key("drain_timeout", duration_or_off(pool.drain_timeout));
        self.key("close_rate", quoted(&format!("{}/s", pool.close_rate)));
        let source: &[String] = match &pool.source {
            Source::System => &[],
            Source::Addresses(all) => &all.iter().map(ToString::to_string).collect::<Vec<_>>(),
            Source::Client => &["client".to_owned()],
        };
        self.key("source", array(source));
        let version = pool.send_proxy.map(|send| send.version);
        self.key("send_proxy", quoted(name_in(&proxy::SEND, &version)));
        self.key("proxy_tlvs", array(&pool.send_proxy.map(|send| send.tlvs.names()).unwrap_or_default()));
        self.key("slow_start", duration_or_off(pool.slow_start));
        self.key("queue", format!("{{ max = {} }}", pool.queue_max));
        pool.lists.iter().for_each(|at| self.key(at.key(), list(at)));
        self.key("servers_poll", duration(pool.servers_poll));
        match &pool.check {
            Check::Off => {}
            Check::Own(probe) => {
                self.header(&format!("[pool.{name}.check]"));
                self.probe(probe);
            }
            Check::Track { pool, server } => {
                self.header(&format!("[pool.{name}.check]"));
                let pool = &all[*pool];
                self.key("track", quoted(&format!("{}/{}", pool.name, pool.servers[*server].name)));
            }
        }
        let Passive { max_fails, eject, eject_max, max_ejected } = pool.passive;
        self.header(&format!("[pool.{name}.passive]"));
        self.key("max_fails", max_fails);
        self.key("eject", duration(eject));
        self.key("eject_max", duration(eject_max));
        self.key("max_ejected", quoted(&format!("{max_ejected}%")));
        pool.servers.iter().for_each(|server| self.server(&name, server, true));
        for server in &pool.named {
            self.server(&name, server, matches!(server.addr, DnsName::Host(..)));
        }
    }

    /// Where records have a weight each, there is none to set.
    fn server<A: Display>(&mut self, pool: &str, server: &Server<A>, has_weight: bool) {
        self.header(&format!("[[pool.{pool}.server]]"));
        self.key("name", quoted(&server.name));
        self.key("addr", quoted(&server.addr.to_string()));
        if has_weight {
            self.key("weight", server.weight);
        }
        self.key("maxconn", server.maxconn.map_or(0, NonZeroU32::get));
        self.key("backup", server.backup);
        self.key("state", quoted(server.state.name()));
    }
}

/// Where a list stands.
fn list(at: &ListAt) -> String {
    let mut keys = Vec::new();
    let tls = match at {
        ListAt::File(_) | ListAt::Url(ListUrl { tls: None, .. }) => return quoted(&at.value()),
        ListAt::Url(ListUrl { tls, .. }) => {
            keys.push(format!("url = {}", line(&at.value())));
            tls
        }
        ListAt::Etcd(etcd) => {
            keys.push(format!("endpoints = {}", array(&etcd.endpoints)));
            keys.push(format!("prefix = {}", line(&etcd.prefix)));
            if let Some((name, password)) = &etcd.user {
                keys.push(format!("password_file = {}", path(password)));
                keys.push(format!("username = {}", line(name)));
            }
            &etcd.tls
        }
    };
    if let Some(Tls { ca, client }) = tls {
        keys.push(format!("ca = {}", path(ca)));
        if let Some((certificate, key)) = client {
            keys.push(format!("client_cert = {}", path(certificate)));
            keys.push(format!("client_key = {}", path(key)));
        }
    }
    format!("{{ {} }}", keys.join(", "))
}

fn path(path: &Path) -> String {
    line(&path.display().to_string())
}

/// A step of a check, as text where it is some.
fn step(step: &Step) -> String {
    let (key, bytes) = match step {
        Step::Send(bytes) => ("send", bytes),
        Step::Expect(bytes) => ("expect", bytes),
    };
    match std::str::from_utf8(bytes) {
        Ok(text) => format!("{{ {key} = {} }}", line(text)),
        Err(_) => {
            let digits: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
            format!("{{ {key}_hex = {} }}", quoted(&digits))
        }
    }
}

/// A TOML string on one line.
fn line(text: &str) -> String {
    let mut out = String::from("\"");
    for char in text.replace("${", "$${").chars() {
        match char {
            '"' | '\\' => out.extend(['\\', char]),
            char if char.is_control() => out.push_str(&format!("\\u{:04x}", u32::from(char))),
            char => out.push(char),
        }
    }
    out + "\""
}

/// A name as a part of a header; one with a dot needs quotes there.
fn bare(name: &str) -> String {
    if name.contains('.') { format!("\"{name}\"") } else { name.to_owned() }
}

/// A TOML string that means `text` itself, whatever is in it.
fn quoted(text: &str) -> String {
    toml::Value::from(text.replace("${", "$${")).to_string()
}

fn array<T: ToString>(items: &[T]) -> String {
    let items: Vec<String> = items.iter().map(|item| quoted(&item.to_string())).collect();
    format!("[{}]", items.join(", "))
}

fn number_or<T: Display>(word: &str, number: Option<T>) -> String {
    number.map_or_else(|| quoted(word), |number| number.to_string())
}

fn duration(duration: Duration) -> String {
    quoted(&duration_text(duration))
}

/// A length of time as [`super::duration`] reads it, in the largest unit that leaves a whole number.
#[must_use]
pub fn duration_text(duration: Duration) -> String {
    if duration.is_zero() {
        return "0s".to_owned();
    }
    in_units(u64::try_from(duration.as_millis()).unwrap_or(u64::MAX), DURATION_UNITS)
}

fn duration_or_off(limit: Option<Duration>) -> String {
    limit.map_or_else(|| quoted("off"), duration)
}

fn size(bytes: u64) -> String {
    quoted(&in_units(bytes, SIZE_UNITS))
}

/// `amount` in the largest of the units, given largest first, that divides it; the last one if none does.
fn in_units(amount: u64, units: &[(&str, u64)]) -> String {
    let whole = units.iter().find(|(_, factor)| amount.is_multiple_of(*factor)).or_else(|| units.last());
    whole.map_or_else(String::new, |(unit, factor)| format!("{}{unit}", amount / factor))
}

#[cfg(test)]
mod tests;
