//! The whole state at one moment.

use std::collections::{BTreeMap, HashMap};

use super::wards::{Probing, Shown};
use super::{Live, State};
use crate::cause::Cause;
use crate::config::{DnsName, ServerState};
use crate::control::check::{Target, Verdict};
use crate::control::discovery::{self, ListOutcome, Outcome};
use crate::control::model::{
    Bytes, Check, Configuration, Health, Histogram, List, Listener, Name, Paths, Phase, Pool, Process, Route,
    Server, Status, Worker,
};
use crate::health::STEPS;
use crate::snapshot::{self, RouteTo, Routes, ServerId, Snapshot};
use crate::sys;
use crate::tally::{self, Attempt, BOUNDS_MS, Count, PerCause, RTT_BOUNDS_US, Times};
use crate::tick::Tick;
use crate::worker;

/// The moment that is told of.
#[derive(Clone, Copy)]
struct Now {
    tick: Tick,
    wall_ms: i64,
}

impl Live {
    /// The whole state now.
    pub(super) async fn state_now(&self) -> Status {
        let state = self.state.lock().await;
        let snapshot = self.published.current();
        let phase = match self.crew.phase() {
            worker::Phase::Serving => Phase::Serving,
            worker::Phase::Draining => Phase::Draining,
            worker::Phase::Stopping => Phase::Stopping,
        };
        let history = &state.history;
        let now = Now { tick: self.clock.now(), wall_ms: self.clock.wall_ms() };
        let queues = sys::overflows();
        Status {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            phase,
            ready: phase == Phase::Serving && state.shut.is_empty(),
            started_at: self.started_at,
            uptime_s: now.tick.0 / 1_000,
            process: Process {
                connections: snapshot.connections.count(),
                maxconn: snapshot.connections.most(),
                descriptors: sys::open_descriptors(),
                descriptor_limit: sys::descriptor_limit(),
                listen_overflows: queues.map(|queues| queues.overflows),
                listen_drops: queues.map(|queues| queues.drops),
            },
            config: Configuration {
                file: self
                    .source
                    .as_ref()
                    .map_or_else(String::new, |source| source.file.display().to_string()),
                generation: history.generation,
                loaded_at: history.loaded_at,
                last_reload_successful: history.error.is_none(),
                last_reload_error: history.error.clone(),
                confirm_within_s: state.trial.as_ref().map(|trial| trial.left(now.tick).as_secs()),
            },
            listeners: listeners(&state, &snapshot),
            pools: pools(&state, &snapshot, now),
            names: names(&state, now.tick),
            lists: lists(&state, now.tick),
            workers: self.workers(&state),
            closings: state.closings.running.clone(),
        }
    }

    fn workers(&self, state: &State) -> Vec<Worker> {
        let worker = |(number, times): (u16, &std::sync::Arc<Times>)| Worker {
            number,
            engine: state.sets.engine_of(number).name().to_owned(),
            connections: self.crew.connections(number).count(),
            turns: self.crew.turns(number).unwrap_or(0),
            cpu_seconds: self
                .crew
                .thread(number)
                .and_then(sys::cpu_time_of)
                .map_or(0.0, |time| time.as_secs_f64()),
            answer_seconds: histogram(times),
        };
        (0..).zip(&state.answers).map(worker).collect()
    }
}

fn listeners(state: &State, snapshot: &Snapshot) -> Vec<Listener> {
    let in_file = |name: &str| state.config.listeners.iter().position(|one| one.name == *name);
    let mut shown: Vec<(usize, Listener)> = Vec::new();
    for one in &snapshot.listeners {
        let is_gone = one.removed.is_some();
        if is_gone && one.clients() == 0 {
            continue;
        }
        let index = in_file(&one.name).filter(|_| !is_gone);
        let engine = index.map_or("", |index| state.sets.engine_for(index).name());
        let places = state.places.iter().filter(|place| !is_gone && *place.listener == *one.name);
        let most = one.connections.most();
        let why_shut = state.shut.why(&one.name).filter(|_| !is_gone);
        let listener = Listener {
            name: one.name.to_string(),
            addresses: places.flat_map(|place| place.locals.iter().map(ToString::to_string)).collect(),
            pool: one.leads.pools().map(|pool| &*snapshot.pool(pool).name).collect::<Vec<_>>().join(","),
            engine: engine.to_owned(),
            connections: one.connections.count(),
            maxconn: (most != u32::MAX).then_some(most),
            accepted: one.tally.accepted.get(),
            bytes: bytes(&one.tally.bytes),
            paths: paths(&one.tally.paths),
            closed: by_cause(one.leads.closed().chain([&one.tally.closed])),
            closed_by_pool: closed_by_pool(one),
            probes: one.tally.probes.get(),
            routes: one.routes.as_ref().map_or_else(Vec::new, |routes| self::routes(routes, snapshot)),
            let_off: by_name(Cause::LET_OFF.into_iter().map(Cause::name).zip(&one.tally.let_off)),
            untracked: one.tally.untracked.get(),
            shut: why_shut.is_some(),
            reason: why_shut.unwrap_or_default(),
            removed: is_gone,
        };
        shown.push((index.unwrap_or(usize::MAX), listener));
    }
    shown.sort_by_key(|(place, _)| *place);
    shown.into_iter().map(|(_, listener)| listener).collect()
}

fn by_cause<'a>(closed: impl IntoIterator<Item = &'a PerCause>) -> BTreeMap<String, u64> {
    by_name(closed.into_iter().flat_map(|closed| Cause::ALL.into_iter().map(Cause::name).zip(closed.iter())))
}

/// Those that had no pool are told of where there may be some, or have been.
fn closed_by_pool(listener: &snapshot::Listener) -> BTreeMap<String, BTreeMap<String, u64>> {
    let of_pools = listener.leads.all().map(|led| (led.name.to_string(), by_cause([&*led.closed])));
    let mut by_pool: BTreeMap<_, _> = of_pools.collect();
    let nowhere = by_cause([&listener.tally.closed]);
    if listener.routes.is_some() || nowhere.values().any(|count| *count > 0) {
        by_pool.insert(String::new(), nowhere);
    }
    by_pool
}

fn routes(routes: &Routes, snapshot: &Snapshot) -> Vec<Route> {
    let named = routes.numbered().map(|(number, route)| Route {
        number: Some(number.get()),
        matches: route.matches.clone(),
        pool: match route.to {
            RouteTo::Pool(pool) => Some(snapshot.pool(pool).name.to_string()),
            RouteTo::Reject | RouteTo::Close => None,
        },
        connections: route.taken.get(),
    });
    let none = Route { number: None, matches: "none".to_owned(), pool: None, connections: routes.untaken() };
    named.chain([none]).collect()
}

fn pools(state: &State, snapshot: &Snapshot, now: Now) -> Vec<Pool> {
    let in_file = places(state.config.pools.iter().map(|pool| &*pool.name));
    let mut members = vec![Vec::new(); snapshot.pools.len()];
    for (id, server) in (0..).map(ServerId).zip(&snapshot.servers) {
        members[usize::from(server.pool.0)].push((id, server));
    }
    let mut shown: Vec<(usize, Pool)> = Vec::new();
    for (pool, members) in snapshot.pools.iter().zip(members) {
        let index = in_file.get(&*pool.name).copied().filter(|_| !pool.removed);
        let servers = servers(state, snapshot, &members, index, now);
        if index.is_some() || !servers.is_empty() {
            let pool = Pool {
                name: pool.name.to_string(),
                balance: pool.balance.name().to_owned(),
                serving: pool.choice.serving,
                queued: pool.queue.count(),
                queue_max: pool.queue.most(),
                queue_seconds: histogram(&pool.queue.waits),
                servers,
            };
            shown.push((index.unwrap_or(usize::MAX), pool));
        }
    }
    shown.sort_by_key(|(place, _)| *place);
    shown.into_iter().map(|(_, pool)| pool).collect()
}

/// Where each of these names stands. There may be thousands, which are not to be searched for each of them.
fn places<'a>(names: impl Iterator<Item = &'a str>) -> HashMap<&'a str, usize> {
    names.zip(0..).collect()
}

/// The servers of a pool, which is the one at `index` in the configuration.
fn servers(
    state: &State,
    snapshot: &Snapshot,
    members: &[(ServerId, &snapshot::Server)],
    index: Option<usize>,
    now: Now,
) -> Vec<Server> {
    let in_file = index.map_or(&[][..], |index| &state.config.pools[index].servers);
    let places = places(in_file.iter().map(|server| &*server.name));
    let mut shown: Vec<(usize, Server)> = Vec::new();
    for &(id, one) in members {
        let is_gone = one.removed.is_some();
        if is_gone && one.connections.count() == 0 {
            continue;
        }
        let place = places.get(&*one.name).copied().filter(|_| !is_gone);
        let file = place.map(|place| &in_file[place]);
        let name = (snapshot.pool(one.pool).name.to_string(), one.name.to_string());
        let ward = if is_gone { None } else { state.wards.shown(&name, now.tick) };
        let mut told = server(one, file, ward.as_ref(), now);
        told.ports_used_ratio = ports_used(snapshot, id, one);
        shown.push((place.unwrap_or(usize::MAX), told));
    }
    shown.sort_by_key(|(place, _)| *place);
    shown.into_iter().map(|(_, server)| server).collect()
}

fn server(
    one: &snapshot::Server,
    file: Option<&crate::config::Server>,
    ward: Option<&Shown<'_>>,
    now: Now,
) -> Server {
    let tally = &one.tally;
    let health = match ward.map_or(one.health, |ward| ward.health) {
        snapshot::Health::Up => Health::Up,
        snapshot::Health::Down => Health::Down,
        snapshot::Health::Ejected => Health::Ejected,
    };
    let ejected = ward.and_then(|ward| ward.ejected_until).map(|until| until.since(now.tick));
    let step = ward.map(|ward| ward.step).filter(|step| *step < STEPS);
    Server {
        health,
        ejected_for_s: ejected.map(|left| left.as_millis().div_ceil(1000).try_into().unwrap_or(u64::MAX)),
        slow_start_percent: step.map(|step| step * 100 / STEPS),
        check: ward.and_then(|ward| ward.check).map(|(target, probing)| check(target, probing, now.wall_ms)),
        name: one.name.to_string(),
        address: one.addr.to_string(),
        origin: file.map_or_else(String::new, |file| file.origin.to_string()),
        state: one.state,
        file_state: file.map(|file| file.state).filter(|state: &ServerState| *state != one.state),
        weight: one.weight,
        file_weight: file.map(|file| file.weight).filter(|weight| *weight != one.weight),
        backup: one.backup,
        connections: one.connections.count(),
        maxconn: Some(one.connections.most()).filter(|most| *most != u32::MAX),
        ports_used_ratio: None,
        attempts: by_name(Attempt::ALL.into_iter().map(|(_, name)| name).zip(&tally.attempts)),
        connect_seconds: histogram(&tally.connect),
        redispatched: tally.redispatched.get(),
        bytes: bytes(&tally.bytes),
        paths: paths(&tally.paths),
        removed: one.removed.is_some(),
    }
}

/// What part of the source ports towards a server is in use.
fn ports_used(snapshot: &Snapshot, id: ServerId, server: &snapshot::Server) -> Option<f64> {
    let is_own = snapshot.pool(server.pool).source != crate::config::Source::Client;
    server.addr.ip().filter(|_| is_own)?;
    let sources = u32::try_from(snapshot.sources(id).count().max(1)).ok()?;
    Some(f64::from(server.connections.count()) / (f64::from(sys::source_ports()?) * f64::from(sources)))
}

fn check(target: &Target, probing: &Probing, wall_ms: i64) -> Check {
    let last = probing.last.as_ref();
    Check {
        kind: target.probe.kind.name().to_owned(),
        address: target.addr.to_string(),
        last_result: last.map(|last| Verdict::NAMES[last.verdict as usize].to_owned()),
        reason: last.map(|last| last.reason.clone()).unwrap_or_default(),
        received: last.map(|last| last.received.escape_ascii().to_string()).unwrap_or_default(),
        certificate: probing.certificate.shown(wall_ms),
        results: by_name(Verdict::NAMES.into_iter().zip(&probing.results)),
        seconds: histogram(&probing.times),
    }
}

fn names(state: &State, now: Tick) -> Vec<Name> {
    let of = |(of, name): (&DnsName, &discovery::Name)| {
        let last = name.last();
        let pools = state.file.pools.iter().filter(|pool| pool.named.iter().any(|one| one.addr == *of));
        let counts = Outcome::NAMES.iter().map(|(name, _)| (*name).to_owned()).zip(name.counts());
        Name {
            name: of.to_string(),
            pools: pools.map(|pool| pool.name.clone()).collect(),
            addresses: name.servers().iter().map(|found| found.addr.to_string()).collect(),
            left_out: name.left_out(),
            last_result: last.map(|(outcome, _)| outcome.name().to_owned()),
            reason: last.and_then(|(_, why)| why).unwrap_or_default().to_owned(),
            age_s: name.found_at().map(|at| now.since(at).as_secs()),
            next_s: name.next().since(now).as_secs(),
            lookups: counts.collect(),
        }
    };
    state.sources.names.all().map(of).collect()
}

fn lists(state: &State, now: Tick) -> Vec<List> {
    let all = state.sources.lists.all();
    let of = all.map(|(key, known)| {
        let (pool, at) = key;
        let (list, last) = (&known.list, known.list.last());
        let counts = ListOutcome::NAMES.iter().map(|(name, _)| (*name).to_owned()).zip(list.counts());
        List {
            pool: pool.clone(),
            list: at.to_string(),
            servers: list.servers().len(),
            left_out: state.sources.lists.left_out(key, &state.file) + known.unfit,
            last_result: last.map(|(outcome, _)| outcome.name().to_owned()),
            reason: last.map(|(_, why)| why.to_owned()).unwrap_or_default(),
            age_s: list.good_at().map(|at| now.since(at).as_secs()),
            looks: counts.collect(),
        }
    });
    of.collect()
}

fn bytes(counts: &[Count; 2]) -> Bytes {
    Bytes { up: counts[0].get(), down: counts[1].get() }
}

/// Counts by name; two of one name are one.
fn by_name<'a>(counts: impl Iterator<Item = (&'static str, &'a Count)>) -> BTreeMap<String, u64> {
    let mut named = BTreeMap::new();
    for (name, count) in counts {
        *named.entry(name.to_owned()).or_default() += count.get();
    }
    named
}

#[expect(
    clippy::cast_precision_loss,
    reason = "a sum of milliseconds that is not exact any more is a few centuries"
)]
fn histogram(times: &Times) -> Histogram {
    of_buckets(&times.buckets, BOUNDS_MS.map(|ms| f64::from(ms) / 1e3), times.sum_ms.get() as f64 / 1e3)
}

#[expect(clippy::cast_precision_loss, reason = "as above, and longer")]
fn paths(paths: &tally::Paths) -> Paths {
    let bounds = RTT_BOUNDS_US.map(|us| f64::from(us) / 1e6);
    Paths {
        rtt_seconds: of_buckets(&paths.rtt, bounds, paths.rtt_sum_us.get() as f64 / 1e6),
        retransmits: paths.retransmits.get(),
        segments: paths.segments.get(),
    }
}

fn of_buckets(counts: &[Count], bounds: impl IntoIterator<Item = f64>, sum: f64) -> Histogram {
    let counts: Vec<u64> = counts.iter().map(Count::get).collect();
    Histogram {
        buckets: bounds.into_iter().zip(counts.iter().copied()).collect(),
        count: counts.iter().sum(),
        sum,
    }
}
