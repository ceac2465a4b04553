//! The state as metrics, for Prometheus and whoever reads the same text.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::{self, Write as _};

use super::model::{
    Bytes, Health, Histogram, List, Listener, Name, Paths, Phase, Pool, Process, Route, Server, ServerState,
    Serving, Status, Worker,
};
use crate::cause::Cause;

/// How metrics are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// OpenMetrics 1.0.
    OpenMetrics,
    /// The older text format 0.0.4, which every Prometheus reads.
    Text,
}

impl Format {
    /// Its content type.
    #[must_use]
    pub fn content_type(self) -> &'static str {
        match self {
            Self::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
            Self::Text => "text/plain; version=0.0.4; charset=utf-8",
        }
    }

    /// The one that a client prefers, by its `Accept`; who does not say gets the older one.
    #[must_use]
    pub fn preferred(accept: &str) -> Self {
        let weight = |wanted: &[&str]| {
            let mut best: f32 = 0.0;
            for range in accept.split(',') {
                let mut parts = range.split(';').map(str::trim);
                let named = parts.next().is_some_and(|name| wanted.contains(&name));
                let weight = parts.find_map(|part| part.strip_prefix("q=")?.parse().ok()).unwrap_or(1.0);
                best = if named { best.max(weight) } else { best };
            }
            best
        };
        let open = weight(&["application/openmetrics-text"]);
        if open > 0.0 && open >= weight(&["text/plain", "text/*"]) { Self::OpenMetrics } else { Self::Text }
    }
}

/// All metrics; those of each server only if that is wanted.
#[must_use]
pub fn render(status: &Status, per_server: bool, format: Format) -> String {
    let mut page = Page { format, text: String::new() };
    process(&mut page, status);
    listeners(&mut page, &status.listeners);
    routes(&mut page, &status.listeners);
    pools(&mut page, &status.pools);
    upstream_connections(&mut page, &status.pools, per_server);
    if per_server {
        servers(&mut page, &status.pools);
    }
    names(&mut page, &status.names);
    lists(&mut page, &status.lists);
    paths(&mut page, status, per_server);
    workers(&mut page, &status.workers);
    if format == Format::OpenMetrics {
        page.text.push_str("# EOF\n");
    }
    page.text
}

fn process(page: &mut Page, status: &Status) {
    let engines: BTreeSet<&str> = status.workers.iter().map(|worker| worker.engine.as_str()).collect();
    let engines = engines.into_iter().collect::<Vec<_>>().join(",");
    let build = [("version", status.version.as_str()), ("engine", &engines)];
    page.family(
        INFO,
        "build",
        "The program's version, and its engines in use.",
        [(labels(&build), true.into())],
    );
    let mut one = |kind: Kind, name: &str, help: &str, value: Value| {
        page.family(kind, name, help, [(String::new(), value)]);
    };
    let (process, config) = (&status.process, &status.config);
    one(gauge("seconds"), "start_time_seconds", "When the process was started.", status.started_at.into());
    one(gauge(""), "ready", "Whether new connections are taken: what /readyz says.", status.ready.into());
    one(
        gauge(""),
        "draining",
        "Whether the process is about to end.",
        (status.phase != Phase::Serving).into(),
    );
    one(gauge(""), "connections", "Client connections now.", process.connections.into());
    one(gauge(""), "maxconn", "The most client connections that there may be.", process.maxconn.into());
    let used = process.descriptors as f64 / process.descriptor_limit.max(1) as f64;
    one(gauge("ratio"), "fds_used_ratio", "The part of the file descriptors that is in use.", used.into());
    let successful = config.last_reload_successful.into();
    one(gauge(""), "config_last_reload_successful", "Whether the last reload succeeded.", successful);
    let help = "When the configuration in effect was loaded.";
    one(gauge("seconds"), "config_last_reload_timestamp_seconds", help, config.loaded_at.into());
    let help = "How often the configuration was changed since the start.";
    one(gauge(""), "config_generation", help, config.generation.into());
    queues(page, process);
}

/// Where the system does not tell, there are none.
fn queues(page: &mut Page, process: &Process) {
    let mut count = |name: &str, help: &str, count: Option<u64>| {
        page.family(counter(""), name, help, count.map(|count| (String::new(), count.into())));
    };
    let help = "Clients that found the queue of a listening socket full, of all programs in this network namespace (ListenOverflows).";
    count("listen_overflows", help, process.listen_overflows);
    let help = "Clients that were dropped before they were accepted, of all programs in this network namespace (ListenDrops).";
    count("listen_drops", help, process.listen_drops);
}

fn listeners(page: &mut Page, all: &[Listener]) {
    let each = |value: fn(&Listener) -> Value| {
        all.iter().map(move |it| (labels(&[("listener", &it.name)]), value(it)))
    };
    page.family(
        gauge(""),
        "listener_connections",
        "Client connections now.",
        each(|it| it.connections.into()),
    );
    let limited = all.iter().filter_map(|it| {
        Some((labels(&[("listener", &it.name)]), Value::from(it.maxconn.filter(|_| !it.removed)?)))
    });
    page.family(gauge(""), "listener_maxconn", "The most client connections that there may be.", limited);
    let help = "Whether it listens: with \"stop_listening\" it does not while nobody serves its pool, or another process has \
                taken its address since.";
    let listening = all.iter().filter(|it| !it.removed);
    let listening = listening.map(|it| (labels(&[("listener", &it.name)]), (!it.shut).into()));
    page.family(gauge(""), "listener_listening", help, listening);
    let help = "Connections that were accepted.";
    page.family(counter(""), "listener_accepted", help, each(|it| it.accepted.into()));
    let help = "Connections that were turned away by a limit or a rule, by reason.";
    let rejected = all.iter().flat_map(|it| {
        let reasons =
            it.closed.iter().filter(|(cause, _)| Cause::TURNED_AWAY.iter().any(|one| one.name() == *cause));
        reasons
            .map(|(reason, count)| (labels(&[("listener", &it.name), ("reason", reason)]), (*count).into()))
    });
    page.family(counter(""), "listener_rejected", help, rejected);
    let help = "Connections that were over a limit and let in for dry_run, by the reason to turn them away.";
    let let_off = all.iter().flat_map(|it| {
        let limits = it.let_off.iter();
        limits.map(|(reason, count)| (labels(&[("listener", &it.name), ("reason", reason)]), (*count).into()))
    });
    page.family(counter(""), "listener_dry_run_rejected", help, let_off);
    let help = "Connections whose source was not counted, since the table of sources was full of others.";
    page.family(counter(""), "listener_untracked", help, each(|it| it.untracked.into()));
    let help = "Bytes that were moved: up from clients, down to them.";
    page.family(
        counter("bytes"),
        "listener_bytes",
        help,
        all.iter().flat_map(|it| directions(&[("listener", &it.name)], it.bytes)),
    );
    let help = "Connections that were there only to see that somebody listens: checks of a proxy in front.";
    page.family(counter(""), "listener_probes", help, each(|it| it.probes.into()));
    let help = "Connections that have ended, by cause as in the access log; the pool is that of each, or empty if a route led it to none.";
    let ended = all.iter().flat_map(|it| {
        it.closed_by_pool.iter().flat_map(move |(pool, closed)| {
            closed.iter().map(move |(cause, count)| {
                (labels(&[("listener", &it.name), ("pool", pool), ("cause", cause)]), (*count).into())
            })
        })
    });
    page.family(counter(""), "connections_closed", help, ended);
}

/// By the route's number and by whom it takes: numbers are those of logs and errors, and change when one is put in between.
fn routes(page: &mut Page, all: &[Listener]) {
    let each = || all.iter().flat_map(|it| it.routes.iter().map(move |route| (it, route)));
    let label = |it: &Listener, route: &Route, pool: Option<&str>| {
        let number = route.number.map_or_else(|| "none".to_owned(), |number| number.to_string());
        let mut names = vec![("listener", it.name.as_str()), ("route", &number), ("match", &route.matches)];
        names.extend(pool.map(|pool| ("pool", pool)));
        labels(&names)
    };
    let help = "Connections that the route has led to its pool.";
    let led = each().filter_map(|(it, route)| {
        Some((label(it, route, Some(route.pool.as_ref()?)), route.connections.into()))
    });
    page.family(counter(""), "route_connections", help, led);
    let help = "Connections that the route has turned away (action), or that no route has taken.";
    let refused = each().filter(|(_, route)| route.pool.is_none());
    let refused = refused.map(|(it, route)| (label(it, route, None), route.connections.into()));
    page.family(counter(""), "route_rejected", help, refused);
}

fn pools(page: &mut Page, pools: &[Pool]) {
    let each_pool =
        |value: fn(&Pool) -> Value| pools.iter().map(move |it| (labels(&[("pool", &it.name)]), value(it)));
    let help = "Clients that wait until a server of the pool has room.";
    page.family(gauge(""), "queue_length", help, each_pool(|it| it.queued.into()));
    let help = "Who gets the new connections of the pool: its servers, its backup servers, those that are down, or nobody.";
    let serving = pools.iter().flat_map(|it| {
        Serving::NAMES.iter().map(move |(name, serving)| {
            (labels(&[("pool", it.name.as_str()), ("serving", name)]), (it.serving == *serving).into())
        })
    });
    page.family(gauge(""), "pool_serving", help, serving);
    let help = "The most clients that may wait.";
    page.family(gauge(""), "queue_limit", help, each_pool(|it| it.queue_max.into()));
    let help = "How long clients have waited that got a server.";
    let times = each_pool(|it| Value::Times(it.queue_seconds.clone()));
    page.family(histogram("seconds"), "queue_seconds", help, times);
}

/// By server, or by pool. What only grows has no such sum: it would fall when a server is removed, which is taken for a restart.
fn upstream_connections(page: &mut Page, pools: &[Pool], per_server: bool) {
    let counts = pools.iter().flat_map(|pool| {
        pool.servers.iter().map(move |it| {
            let names = [("pool", pool.name.as_str()), ("server", it.name.as_str())];
            (labels(if per_server { &names } else { &names[..1] }), it.connections.into())
        })
    });
    let help = "Connections to the server now, those that are being made included.";
    page.family(gauge(""), "upstream_connections", help, counts);
}

fn servers(page: &mut Page, pools: &[Pool]) {
    let all = || pools.iter().flat_map(|pool| pool.servers.iter().map(move |server| (pool, server)));
    let each = |value: fn(&Server) -> Value| {
        all().map(move |(pool, it)| (labels(&[("pool", &pool.name), ("server", &it.name)]), value(it)))
    };
    let present = |value: fn(&Server) -> Value| {
        all()
            .filter(|(_, it)| !it.removed)
            .map(move |(pool, it)| (labels(&[("pool", &pool.name), ("server", &it.name)]), value(it)))
    };
    let limited = all().filter(|(_, it)| !it.removed).filter_map(|(pool, it)| {
        Some((labels(&[("pool", &pool.name), ("server", &it.name)]), Value::from(it.maxconn?)))
    });
    page.family(gauge(""), "upstream_maxconn", "The most connections that the server may have.", limited);
    let help = "Source ports towards the server that are in use, as a part of those that there are.";
    let ports = all().filter(|(_, it)| !it.removed).filter_map(|(pool, it)| {
        Some((labels(&[("pool", &pool.name), ("server", &it.name)]), Value::from(it.ports_used_ratio?)))
    });
    page.family(gauge("ratio"), "ephemeral_ports_used_ratio", help, ports);
    let help = "Attempts to connect to the server, by result.";
    let attempts = all().flat_map(|(pool, it)| {
        it.attempts.iter().map(move |(result, count)| {
            let names = [("pool", pool.name.as_str()), ("server", &it.name), ("result", result)];
            (labels(&names), (*count).into())
        })
    });
    page.family(counter(""), "upstream_connect_attempts", help, attempts);
    let help = "How long successful attempts to connect to the server took.";
    let times = each(|it| Value::Times(it.connect_seconds.clone()));
    page.family(histogram("seconds"), "upstream_connect_seconds", help, times);
    let help = "Connections that went to another server after an attempt on this one had failed.";
    page.family(counter(""), "upstream_redispatches", help, each(|it| it.redispatched.into()));
    let help = "Whether the server can be used: it is neither down nor ejected.";
    page.family(gauge(""), "upstream_up", help, present(|it| (it.health == Health::Up).into()));
    let help = "Whether the server is in that state: ready, drain or maint as it is set, down or ejected as was found.";
    let states = all().filter(|(_, it)| !it.removed).flat_map(|(pool, it)| {
        let set = ServerState::NAMES.iter().map(|(name, state)| (*name, it.state == *state));
        let found = Health::NAMES.iter().skip(1).map(|(name, health)| (*name, it.health == *health));
        set.chain(found).map(move |(name, is_so)| {
            (labels(&[("pool", pool.name.as_str()), ("server", &it.name), ("state", name)]), is_so.into())
        })
    });
    page.family(gauge(""), "upstream_state", help, states);
    let checks = || all().filter_map(|(pool, it)| Some((pool, it, it.check.as_ref()?)));
    let help = "Checks of the server, by result; unable are those that were not possible for want of something here.";
    let results = checks().flat_map(|(pool, it, check)| {
        check.results.iter().map(move |(result, count)| {
            let names = [("pool", pool.name.as_str()), ("server", &it.name), ("result", result)];
            (labels(&names), (*count).into())
        })
    });
    page.family(counter(""), "upstream_check", help, results);
    let times = checks().map(|(pool, it, check)| {
        (labels(&[("pool", pool.name.as_str()), ("server", &it.name)]), Value::Times(check.seconds.clone()))
    });
    page.family(histogram("seconds"), "upstream_check_seconds", "How long checks took.", times);
    let help = "When the server's certificate ends, as the last TLS handshake has shown it.";
    let ends = checks().filter_map(|(pool, it, check)| {
        let ends_at = check.certificate?.ends_at;
        Some((labels(&[("pool", pool.name.as_str()), ("server", &it.name)]), ends_at.into()))
    });
    page.family(gauge("seconds"), "upstream_certificate_expiry_timestamp_seconds", help, ends);
    let help = "The server's share of new connections, as it is set now.";
    page.family(gauge(""), "upstream_weight", help, present(|it| it.weight.into()));
    let help = "Bytes that were moved: up to the server, down from it.";
    let bytes =
        all().flat_map(|(pool, it)| directions(&[("pool", &pool.name), ("server", &it.name)], it.bytes));
    page.family(counter("bytes"), "upstream_bytes", help, bytes);
}

fn names(page: &mut Page, all: &[Name]) {
    let label = |it: &Name| labels(&[("name", &it.name)]);
    let help = "How long ago the name was found the last time.";
    let ages = all.iter().filter_map(|it| Some((label(it), it.age_s?.into())));
    page.family(gauge("seconds"), "dns_age_seconds", help, ages);
    let help = "Servers that the name stands for.";
    page.family(
        gauge(""),
        "dns_servers",
        help,
        all.iter().map(|it| (label(it), (it.addresses.len() as u64).into())),
    );
    let help = "Servers that the name stands for beside these: more than are used.";
    let left_out = all.iter().map(|it| (label(it), (it.left_out as u64).into()));
    page.family(gauge(""), "dns_left_out", help, left_out);
    let help = "Lookups of the name, by result: missing is that there is none, failed that nobody could say.";
    let lookups = all.iter().flat_map(|it| {
        it.lookups
            .iter()
            .map(|(result, count)| (labels(&[("name", &it.name), ("result", result)]), (*count).into()))
    });
    page.family(counter(""), "dns_lookups", help, lookups);
}

fn lists(page: &mut Page, all: &[List]) {
    let label = |it: &List| labels(&[("pool", &it.pool), ("list", &it.list)]);
    let help = "How long ago the list of servers was known to be as it is.";
    let ages = all.iter().filter_map(|it| Some((label(it), it.age_s?.into())));
    page.family(gauge("seconds"), "list_age_seconds", help, ages);
    let help = "Servers of the last good list.";
    page.family(
        gauge(""),
        "list_servers",
        help,
        all.iter().map(|it| (label(it), (it.servers as u64).into())),
    );
    let help = "What is in the list and no server of the pool: not right, or its name is taken, or nothing reaches it.";
    let left_out = all.iter().map(|it| (label(it), (it.left_out as u64).into()));
    page.family(gauge(""), "list_left_out", help, left_out);
    let help = "Looks at the list, by result: refused is that it is no list, failed that nobody could say.";
    let looks = all.iter().flat_map(|it| {
        it.looks.iter().map(|(result, count)| {
            (labels(&[("pool", &it.pool), ("list", &it.list), ("result", result)]), (*count).into())
        })
    });
    page.family(counter(""), "list_looks", help, looks);
}

/// What the system told of the network on both sides: of clients by listener, of servers each.
fn paths(page: &mut Page, status: &Status, per_server: bool) {
    let clients =
        status.listeners.iter().map(|it| (labels(&[("side", "client"), ("listener", &it.name)]), &it.paths));
    let servers = status.pools.iter().filter(|_| per_server).flat_map(|pool| {
        pool.servers
            .iter()
            .map(|it| (labels(&[("side", "server"), ("pool", &pool.name), ("server", &it.name)]), &it.paths))
    });
    let all: Vec<(String, &Paths)> = clients.chain(servers).collect();
    let each = |value: fn(&Paths) -> Value| all.iter().map(move |(labels, it)| (labels.clone(), value(it)));
    let help = "Round-trip times as the system had them at the end of connections, and of samples.";
    page.family(
        histogram("seconds"),
        "tcp_rtt_seconds",
        help,
        each(|it| Value::Times(it.rtt_seconds.clone())),
    );
    let help = "Segments that were sent again.";
    page.family(counter(""), "tcp_retransmits", help, each(|it| it.retransmits.into()));
    let help = "Segments with data that were sent, again or for the first time.";
    page.family(counter(""), "tcp_segments_sent", help, each(|it| it.segments.into()));
}

fn workers(page: &mut Page, all: &[Worker]) {
    let each = |value: fn(&Worker) -> Value| {
        all.iter()
            .map(move |it| (labels(&[("worker", &it.number.to_string()), ("engine", &it.engine)]), value(it)))
    };
    let help = "Client connections that the worker carries now.";
    page.family(gauge(""), "worker_connections", help, each(|it| it.connections.into()));
    page.family(counter(""), "worker_turns", "Turns of the worker's loop.", each(|it| it.turns.into()));
    let help = "Time that the worker's thread had on a CPU; 0 where the system does not tell.";
    page.family(counter("seconds"), "worker_cpu_seconds", help, each(|it| it.cpu_seconds.into()));
    let help = "How long the worker took to answer, asked once a second: how long its turns are.";
    let times = each(|it| Value::Times(it.answer_seconds.clone()));
    page.family(histogram("seconds"), "worker_answer_seconds", help, times);
}

fn directions(names: &[(&str, &str)], bytes: Bytes) -> [(String, Value); 2] {
    [("up", bytes.up), ("down", bytes.down)].map(|(direction, count)| {
        let names = [names, &[("direction", direction)]].concat();
        (labels(&names), count.into())
    })
}

/// What kind of metric a family has.
#[derive(Clone, Copy)]
struct Kind {
    name: &'static str,
    /// The unit that the name ends with; none if empty.
    unit: &'static str,
    /// What the name of a sample has more than that of its family.
    suffix: &'static str,
}

const INFO: Kind = Kind { name: "info", unit: "", suffix: "_info" };

const fn gauge(unit: &'static str) -> Kind {
    Kind { name: "gauge", unit, suffix: "" }
}

const fn counter(unit: &'static str) -> Kind {
    Kind { name: "counter", unit, suffix: "_total" }
}

const fn histogram(unit: &'static str) -> Kind {
    Kind { name: "histogram", unit, suffix: "" }
}

/// What is told of one set of labels.
enum Value {
    Whole(u64),
    Real(f64),
    Times(Histogram),
}

impl From<u64> for Value {
    fn from(value: u64) -> Self {
        Self::Whole(value)
    }
}

impl From<u32> for Value {
    fn from(value: u32) -> Self {
        Self::Whole(value.into())
    }
}

impl From<u16> for Value {
    fn from(value: u16) -> Self {
        Self::Whole(value.into())
    }
}

impl From<bool> for Value {
    fn from(value: bool) -> Self {
        Self::Whole(value.into())
    }
}

impl From<f64> for Value {
    fn from(value: f64) -> Self {
        Self::Real(value)
    }
}

impl Value {
    /// Both together. What was removed and what has come in its place may have one name, and a name with the same
    /// labels must not stand there twice.
    fn and(self, other: Self) -> Self {
        match (self, other) {
            (Self::Whole(one), Self::Whole(other)) => Self::Whole(one.saturating_add(other)),
            (Self::Times(one), Self::Times(other)) => Self::Times(sum(one, &other)),
            (_, other) => other,
        }
    }
}

fn sum(mut one: Histogram, other: &Histogram) -> Histogram {
    for (bound, count) in &other.buckets {
        match one.buckets.iter_mut().find(|(known, _)| known == bound) {
            Some((_, sum)) => *sum += count,
            None => one.buckets.push((*bound, *count)),
        }
    }
    one.buckets.sort_by(|(one, _), (other, _)| one.total_cmp(other));
    Histogram { buckets: one.buckets, count: one.count + other.count, sum: one.sum + other.sum }
}

/// The text as it grows.
struct Page {
    format: Format,
    text: String,
}

impl Page {
    /// One name with all its labels; nothing if there are none.
    fn family(
        &mut self,
        kind: Kind,
        name: &str,
        help: &str,
        rows: impl IntoIterator<Item = (String, Value)>,
    ) {
        let mut merged: BTreeMap<String, Value> = BTreeMap::new();
        for (labels, value) in rows {
            let value = match merged.remove(&labels) {
                Some(first) => first.and(value),
                None => value,
            };
            merged.insert(labels, value);
        }
        if merged.is_empty() {
            return;
        }
        let sample = format!("tidegate_{name}{}", kind.suffix);
        // The older format names a family as its samples, and has no type for what only informs.
        let (family, type_of) = match self.format {
            Format::OpenMetrics => (format!("tidegate_{name}"), kind.name),
            Format::Text => (sample.clone(), if kind.name == "info" { "gauge" } else { kind.name }),
        };
        let _ = writeln!(self.text, "# HELP {family} {help}\n# TYPE {family} {type_of}");
        if self.format == Format::OpenMetrics && !kind.unit.is_empty() {
            let _ = writeln!(self.text, "# UNIT {family} {}", kind.unit);
        }
        for (labels, value) in merged {
            let _ = match value {
                Value::Whole(value) => writeln!(self.text, "{sample}{labels} {value}"),
                Value::Real(value) => writeln!(self.text, "{sample}{labels} {}", Real(value)),
                Value::Times(times) => self.times(&sample, &labels, &times),
            };
        }
    }

    /// Buckets count all below them, too, where ours do not.
    fn times(&mut self, sample: &str, labels: &str, times: &Histogram) -> fmt::Result {
        let inner = labels.strip_prefix('{').and_then(|labels| labels.strip_suffix('}')).unwrap_or("");
        let comma = if inner.is_empty() { "" } else { "," };
        let mut below = 0;
        for (bound, count) in &times.buckets {
            below += count;
            writeln!(self.text, "{sample}_bucket{{{inner}{comma}le=\"{}\"}} {below}", Real(*bound))?;
        }
        // Counts that are read one after the other may disagree; a histogram must not.
        let count = times.count.max(below);
        writeln!(self.text, "{sample}_bucket{{{inner}{comma}le=\"+Inf\"}} {count}")?;
        writeln!(self.text, "{sample}_count{labels} {count}")?;
        writeln!(self.text, "{sample}_sum{labels} {}", Real(times.sum))
    }
}

/// A number that is not whole by nature; `1` is `1.0`.
struct Real(f64);

impl fmt::Display for Real {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            value if value.is_nan() => out.write_str("NaN"),
            value if value.is_infinite() => out.write_str(if value > 0.0 { "+Inf" } else { "-Inf" }),
            value => write!(out, "{value:?}"),
        }
    }
}

/// `{name="value",…}`.
fn labels(names: &[(&str, &str)]) -> String {
    let names: Vec<String> =
        names.iter().map(|(name, value)| format!("{name}=\"{}\"", escaped(value))).collect();
    format!("{{{}}}", names.join(","))
}

fn escaped(value: &str) -> Cow<'_, str> {
    if value.contains(['\\', '"', '\n']) {
        Cow::Owned(value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n"))
    } else {
        Cow::Borrowed(value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn page(format: Format, rows: Vec<(String, Value)>, kind: Kind) -> String {
        let mut page = Page { format, text: String::new() };
        page.family(kind, "x", "What it is.", rows);
        page.text
    }

    #[test]
    fn families_are_named_as_each_format_wants() {
        let rows = || vec![(labels(&[("a", "b")]), Value::Whole(7))];
        assert_eq!(
            page(Format::OpenMetrics, rows(), counter("")),
            "# HELP tidegate_x What it is.\n# TYPE tidegate_x counter\ntidegate_x_total{a=\"b\"} 7\n"
        );
        assert_eq!(
            page(Format::Text, rows(), counter("")),
            "# HELP tidegate_x_total What it is.\n# TYPE tidegate_x_total counter\ntidegate_x_total{a=\"b\"} 7\n"
        );
        assert!(page(Format::OpenMetrics, rows(), INFO).contains("# TYPE tidegate_x info\ntidegate_x_info{"));
        assert!(page(Format::Text, rows(), INFO).contains("# TYPE tidegate_x_info gauge\ntidegate_x_info{"));
        assert_eq!(page(Format::Text, Vec::new(), INFO), "");
    }

    #[test]
    fn labels_cannot_break_out() {
        assert_eq!(labels(&[("a", "\"\\\n"), ("b", "é")]), "{a=\"\\\"\\\\\\n\",b=\"é\"}");
    }

    #[test]
    fn the_same_labels_never_stand_there_twice() {
        let times =
            |bound: f64| Value::Times(Histogram { buckets: vec![(0.5, 1), (bound, 2)], count: 4, sum: 1.5 });
        let rows = vec![(labels(&[]), times(1.0)), (labels(&[]), times(2.0))];
        let expected = "tidegate_x_bucket{le=\"0.5\"} 2\ntidegate_x_bucket{le=\"1.0\"} 4\n\
                        tidegate_x_bucket{le=\"2.0\"} 6\ntidegate_x_bucket{le=\"+Inf\"} 8\n\
                        tidegate_x_count{} 8\ntidegate_x_sum{} 3.0\n";
        let text = page(Format::Text, rows, histogram("seconds"));
        assert!(text.ends_with(expected), "{text}");
        let rows = vec![(labels(&[]), 3_u16.into()), (labels(&[]), u64::MAX.into())];
        assert!(page(Format::Text, rows, gauge("")).ends_with(&format!("tidegate_x{{}} {}\n", u64::MAX)));
    }

    #[test]
    fn a_client_gets_the_format_that_it_prefers() {
        let prometheus =
            "application/openmetrics-text;version=1.0.0;q=0.6,text/plain;version=0.0.4;q=0.5,*/*;q=0.1";
        let cases = [
            (prometheus, Format::OpenMetrics),
            ("application/openmetrics-text", Format::OpenMetrics),
            ("text/plain, application/openmetrics-text; q=0.5", Format::Text),
            ("application/openmetrics-text;q=0", Format::Text),
            ("*/*", Format::Text),
            ("", Format::Text),
        ];
        for (accept, format) in cases {
            assert_eq!(Format::preferred(accept), format, "{accept}");
        }
    }
}
