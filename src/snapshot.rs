//! What workers read: the configuration made dense and immutable, with the few counts that must be true
//! for the whole process beside it.
//!
//! A reload makes a new one ([`Snapshot::next`]), which shares the counts of everything that keeps its name, under the
//! same id. What was removed keeps its id, too, as long as connections belong to it and a while longer.

mod choice;
mod leads;
mod listener;
mod overrides;
mod queue;
mod routes;
mod sources;

use std::collections::HashMap;
use std::num::{NonZeroU32, NonZeroU64};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

use arc_swap::ArcSwap;
use tokio::sync::Notify;

use crate::admission::Admission;
pub use crate::balance::ServerId;
use crate::balance::{
    self, Balancer, BySource, First, Latency, LeastConnections, Loads, PeakEwma, Rotate, TwoChoices,
};
use crate::config::{self, AcceptBalance, AtMaxconn, OnRemoved, ServerState, WhenNoUpstream};
use crate::health;
use crate::tally::{ListenerTally, ServerTally};
use crate::tick::Tick;
pub use choice::{Choice, Serving};
pub use leads::{Leads, Led};
use listener::put_listener;
pub use overrides::{Override, Overrides, override_of};
pub use queue::Queue;
pub use routes::{ReadsHello, Route, RouteTo, Routes};
pub use sources::{DrySources, Local};

/// How long the id of something that was removed is not given to anything else once its last connection has ended: log
/// records with it may be on their way.
const ID_RESTS: Duration = Duration::from_secs(60);

/// Too many listeners or pools got other names in a short time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "there is no number left for a new {0}: those of what earlier reloads removed rest for {ID_RESTS:?}, and while \
     connections belong to them"
)]
pub struct NoIds(&'static str);

/// A listener: an index into [`Snapshot::listeners`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ListenerId(pub u16);

/// A pool: an index into [`Snapshot::pools`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct PoolId(pub u16);

/// Everything a worker needs to know, shared by all of them and never changed.
#[derive(Debug)]
pub struct Snapshot {
    /// Listeners, by [`ListenerId`].
    pub listeners: Vec<Listener>,
    /// Pools, by [`PoolId`].
    pub pools: Vec<Pool>,
    /// The servers of all pools, by [`ServerId`].
    pub servers: Vec<Server>,
    /// When the system is asked about paths.
    pub metrics: config::Metrics,
    /// How the process ends.
    pub drain: config::Drain,
    /// Bytes that the buffers of each worker may have together; `None`: as many as its engine was given.
    pub buffer_share: Option<usize>,
    /// Client connections in the process.
    pub connections: Limit,
    /// Keeps failing accepts from flooding the log.
    pub accept_failures: Arc<Throttle>,
    /// Keeps failing servers from flooding the log.
    pub dial_failures: Arc<Throttle>,
    /// Tells the control plane of a server to which too many connects in a row have failed.
    pub alarm: Arc<Alarm>,
}

/// What a worker needs to know of a listener.
#[derive(Clone, Debug)]
pub struct Listener {
    /// NAME of `[listener.NAME]`
    pub name: Arc<str>,
    /// The pools that its connections go to.
    pub leads: Leads,
    /// Who goes to which, if it has any; without them all go to its own pool.
    pub routes: Option<Arc<Routes>>,
    /// What it reads of a client's hello.
    pub reads_hello: Option<ReadsHello>,
    /// Which worker gets a new connection.
    pub accept_balance: AcceptBalance,
    /// As [`config::Listener::accept_burst`].
    pub accept_burst: u16,
    /// What a client meets at a limit.
    pub at_maxconn: AtMaxconn,
    /// What a client meets for which no server can be had.
    pub when_no_upstream: WhenNoUpstream,
    /// Whose headers of the PROXY protocol it reads.
    pub accept_proxy: Option<Arc<config::AcceptProxy>>,
    /// As [`config::Tcp::dead_peer`], for its clients.
    pub dead_peer: Option<Duration>,
    /// As [`config::Tcp::rst_on_error`], for its clients.
    pub rst_on_error: bool,
    /// When silent clients are probed.
    pub keepalive: Option<config::Keepalive>,
    /// Its connections, in all workers.
    pub connections: Limit,
    /// Its clients that wait in a worker's lobby.
    pub waiting: Limit,
    /// Who is let in, and how many of each source.
    pub admission: Admission,
    /// Bytes a second that each of its connections may take, by [`crate::relay::Dir::index`].
    pub rates: [Option<NonZeroU64>; 2],
    /// What is counted for it.
    pub tally: Arc<ListenerTally>,
    /// Keeps its clients that meet a limit or a rule from flooding the log.
    pub refusals: Arc<Throttle>,
    /// It is not in the configuration any more: since when it was seen to have nobody, or the latest of all times.
    pub removed: Option<Tick>,
}

/// What a worker needs to know of a pool.
#[derive(Debug)]
pub struct Pool {
    /// NAME of `[pool.NAME]`
    pub name: Arc<str>,
    /// How it chooses among its servers.
    pub balance: config::Balance,
    /// What chooses.
    pub choice: Choice,
    /// What becomes of the connections of a server that is removed.
    pub on_removed: OnRemoved,
    /// When those end that were asked to leave and have not; `None` is never.
    pub drain_timeout: Option<Duration>,
    /// Connections that are closed in a second, where many are.
    pub close_rate: u32,
    /// As [`config::Timeouts::connect`].
    pub connect: Option<Duration>,
    /// Attempts to reach a server.
    pub retry: config::Retry,
    /// Options of the sockets towards its servers.
    pub tcp: config::Tcp,
    /// Where those come from.
    pub source: config::Source,
    /// What its servers are told before a client's bytes.
    pub send_proxy: Option<config::SendProxy>,
    /// Clients that wait until one of its servers has room.
    pub queue: Queue,
    /// It is not in the configuration any more.
    pub removed: bool,
}

/// What a worker needs to know of a server.
#[derive(Clone, Debug)]
pub struct Server {
    /// Its name, unique in its pool.
    pub name: Arc<str>,
    /// The pool it belongs to.
    pub pool: PoolId,
    /// Where it listens.
    pub addr: config::Address,
    /// Its share of new connections.
    pub weight: u16,
    /// It is for when no other server of its pool takes connections.
    pub backup: bool,
    /// Whether it gets new connections.
    pub state: ServerState,
    /// What checks and connects have found; only one that is up gets new connections.
    pub health: Health,
    /// How long it takes; kept only where its pool chooses by that.
    pub latency: Option<Arc<Latency>>,
    /// Connects that fail in a row until that is told; 0 is never.
    pub max_fails: u32,
    /// Its connections, in all workers, those that are being made included, and its `maxconn`.
    pub connections: Limit,
    /// Source addresses that have no port left towards it.
    pub dry: Arc<DrySources>,
    /// What is counted for it.
    pub tally: Arc<ServerTally>,
    /// As a listener's.
    pub removed: Option<Tick>,
}

/// Whether a server can be used.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Health {
    /// It can, as far as is known.
    #[default]
    Up,
    /// Checks have failed.
    Down,
    /// Too many connects in a row have failed: it is left out for a while.
    Ejected,
}

/// What is known of a server at run time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Condition {
    /// Whether it can be used.
    pub health: Health,
    /// The step of its slow start, 1 to [`health::STEPS`].
    pub step: u32,
}

impl Default for Condition {
    fn default() -> Self {
        Self { health: Health::Up, step: health::STEPS }
    }
}

/// What is known at run time, by pool and server; nothing of those that are as they should be.
pub type Conditions = HashMap<(String, String), Condition>;

/// A count with an upper limit, shared by all workers; touched when a connection begins and ends, never
/// for a message. A clone is the same count. It is never above its limit, not even for a moment, in which somebody who
/// waits could look; and sequentially consistent with who waits ([`Queue`]).
#[derive(Clone, Debug)]
pub struct Limit {
    count: Arc<Held>,
    most: u32,
}

/// It has a cache line of its own, so that its neighbours do not slow it down.
#[derive(Debug, Default)]
#[repr(align(64))]
struct Held(AtomicU32);

impl Limit {
    /// A count of zero that goes up to `most`.
    #[must_use]
    pub fn new(most: u32) -> Self {
        Self { count: Arc::default(), most }
    }

    /// The same count with another limit.
    #[must_use]
    pub fn with_most(&self, most: u32) -> Self {
        Self { count: Arc::clone(&self.count), most }
    }

    /// Counts one more, or says `false` when the limit is reached.
    #[must_use]
    pub fn take(&self) -> bool {
        let more = |count: u32| (count < self.most).then(|| count + 1);
        self.count.0.fetch_update(Ordering::SeqCst, Ordering::SeqCst, more).is_ok()
    }

    /// Counts one less: the end of what a [`Limit::take`] began.
    pub fn give(&self) {
        let before = self.count.0.fetch_sub(1, Ordering::SeqCst);
        debug_assert!(before > 0, "given more often than taken");
    }

    /// How many there are now, or `None` when there are as many as may be.
    #[must_use]
    pub fn below(&self) -> Option<u32> {
        Some(self.count()).filter(|count| *count < self.most)
    }

    /// Whether a [`Limit::take`] would succeed now.
    #[must_use]
    pub fn has_room(&self) -> bool {
        self.count() < self.most
    }

    /// How many there are now.
    #[must_use]
    pub fn count(&self) -> u32 {
        self.count.0.load(Ordering::SeqCst)
    }

    /// The upper limit.
    #[must_use]
    pub fn most(&self) -> u32 {
        self.most
    }
}

/// Lets one message a second pass, for all workers together.
#[derive(Debug, Default)]
pub struct Throttle {
    /// The second of the last message, counted from 1.
    last: AtomicU64,
}

impl Throttle {
    /// Whether nobody has spoken in this second yet; whoever gets `true` speaks.
    #[must_use]
    pub fn may_speak(&self, now: Tick) -> bool {
        let second = now.0 / 1000 + 1;
        self.last.fetch_max(second, Ordering::Relaxed) < second
    }
}

/// Wakes one who waits, from any thread; however often it is rung meanwhile.
#[derive(Debug, Default)]
pub struct Alarm {
    is_rung: AtomicBool,
    bell: Notify,
}

impl Alarm {
    /// Rings it. What was written before is seen by who hears it.
    pub fn ring(&self) {
        if !self.is_rung.swap(true, Ordering::AcqRel) {
            self.bell.notify_one();
        }
    }

    /// Waits until it is rung.
    pub async fn heard(&self) {
        self.bell.notified().await;
        // Whoever finds it rung has written before this, and needs not ring again; others ring.
        self.is_rung.swap(false, Ordering::AcqRel);
    }
}

/// The snapshot that is in effect.
#[derive(Debug)]
pub struct Published {
    current: ArcSwap<Snapshot>,
    /// Changes with it.
    generation: AtomicU64,
}

impl Published {
    /// The first one.
    #[must_use]
    pub fn new(snapshot: Arc<Snapshot>) -> Self {
        Self { current: ArcSwap::new(snapshot), generation: AtomicU64::new(0) }
    }

    /// Puts another one in its place. Workers see it in their next turn; whoever calls this wakes them.
    pub fn publish(&self, snapshot: Arc<Snapshot>) {
        // Whoever sees the number change finds the snapshot changed.
        self.current.store(snapshot);
        self.generation.fetch_add(1, Ordering::Release);
    }

    /// The one that is in effect.
    #[must_use]
    pub fn current(&self) -> Arc<Snapshot> {
        self.current.load_full()
    }

    /// How many there were before it.
    #[must_use]
    pub fn generation(&self) -> u64 {
        self.generation.load(Ordering::Acquire)
    }
}

impl Snapshot {
    /// Makes a checked configuration dense. `maxconn` is the process's limit, already made a number.
    #[must_use]
    pub fn new(config: &config::Config, maxconn: u32) -> Self {
        let none = Self {
            listeners: Vec::new(),
            pools: Vec::new(),
            servers: Vec::new(),
            metrics: config.metrics,
            drain: config.process.drain,
            buffer_share: None,
            connections: Limit::new(maxconn),
            accept_failures: Arc::default(),
            dial_failures: Arc::default(),
            alarm: Arc::default(),
        };
        let first = none.next(config, maxconn, &Overrides::new(), &Conditions::new(), Tick(0));
        first.expect("configuration limits the number of listeners and pools")
    }

    /// The one for another configuration, with the ids and the counts of this one.
    ///
    /// # Errors
    /// What was removed a short time ago has too many of the 65,536 ids of listeners, or of pools.
    pub fn next(
        &self,
        config: &config::Config,
        maxconn: u32,
        overrides: &Overrides,
        conditions: &Conditions,
        now: Tick,
    ) -> Result<Self, NoIds> {
        let mut servers = self.servers.clone();
        for server in &mut servers {
            server.removed = Some(at_rest_since(server.removed, server.connections.count(), now));
        }
        let mut listeners = self.listeners.clone();
        for listener in &mut listeners {
            listener.removed = Some(at_rest_since(listener.removed, listener.clients(), now));
        }
        let mut pools: Vec<Pool> = self.pools.iter().map(Pool::as_removed).collect();
        let mut places = Places::new(self, &servers, &listeners, now);
        let mut ids = Vec::with_capacity(config.pools.len());
        for pool in &config.pools {
            let id = places.pool(&pool.name, pools.len())?;
            let mut members = Vec::with_capacity(pool.servers.len());
            for server in &pool.servers {
                let key = (pool.name.clone(), server.name.clone());
                let over = override_of(overrides, &pool.name, &server.name);
                let condition = conditions.get(&key).copied().unwrap_or_default();
                let index = places.server(id, server, &servers);
                let server = Server::new(id, server, over, condition.health, pool);
                members.push((put_server(&mut servers, index, server), condition.step));
            }
            let choice = self.choice(id, pool, &members, &servers, now);
            let queue = self.queue(id, pool);
            let pool = Pool {
                name: pool.name.as_str().into(),
                balance: pool.balance,
                choice,
                on_removed: pool.on_removed,
                drain_timeout: pool.drain_timeout,
                close_rate: pool.close_rate,
                connect: config.timeouts.but(&pool.timeouts).connect,
                retry: pool.retry,
                tcp: pool.tcp.clone(),
                source: pool.source.clone(),
                send_proxy: pool.send_proxy,
                queue,
                removed: false,
            };
            put(&mut pools, usize::from(id.0), pool);
            ids.push(id);
        }
        for listener in &config.listeners {
            let index = places.listener(&listener.name, listeners.len())?;
            put_listener(&mut listeners, index, listener, config, (&ids, &pools));
        }
        Ok(Self {
            listeners,
            pools,
            servers,
            metrics: config.metrics,
            drain: config.process.drain,
            buffer_share: self.buffer_share,
            connections: self.connections.with_most(maxconn),
            accept_failures: Arc::clone(&self.accept_failures),
            dial_failures: Arc::clone(&self.dial_failures),
            alarm: Arc::clone(&self.alarm),
        })
    }

    /// What chooses among `members` of `servers`, each at a step of its slow start.
    fn choice(
        &self,
        id: PoolId,
        pool: &config::Pool,
        members: &[(ServerId, u32)],
        servers: &[Server],
        now: Tick,
    ) -> Choice {
        let server = |id: ServerId| &servers[id.0 as usize];
        let all: Vec<&Server> = members.iter().map(|(id, _)| server(*id)).collect();
        let serving = Serving::of(&all, pool.all_down == config::AllDown::TryAll);
        let serve = all.iter().filter(|server| serving.takes(server));
        let latencies = serve.filter_map(|server| server.latency.as_deref());
        begin_at_the_median(latencies.clone().map(|latency| &latency.connect), now);
        begin_at_the_median(latencies.map(|latency| &latency.answer), now);
        let before = self.pools.get(usize::from(id.0)).map(|pool| &pool.choice);
        let among = |serving: Serving, before| {
            let weight = |id| if serving.takes(server(id)) { server(id).weight } else { 0 };
            let weights: Vec<_> = members.iter().map(|(id, step)| (*id, weight(*id), *step)).collect();
            balancer(pool.balance, &weights, servers, before)
        };
        let has_backups = all.iter().any(|server| Serving::Backups.takes(server));
        let with_backups = serving == Serving::Servers && has_backups;
        Choice {
            serving,
            balancer: among(serving, before.map(|choice| &choice.balancer)),
            backups: with_backups
                .then(|| among(Serving::Backups, before.and_then(|choice| choice.backups.as_ref()))),
        }
    }

    /// The queue of a pool: the one that there is, if its id was its own before.
    fn queue(&self, id: PoolId, pool: &config::Pool) -> Queue {
        let own = self.pools.get(usize::from(id.0)).filter(|own| *own.name == *pool.name);
        own.map_or_else(|| Queue::new(pool.queue_max), |own| own.queue.with_most(pool.queue_max))
    }

    /// The listener of that id.
    #[must_use]
    pub fn listener(&self, id: ListenerId) -> &Listener {
        &self.listeners[usize::from(id.0)]
    }

    /// The pool of that id.
    #[must_use]
    pub fn pool(&self, id: PoolId) -> &Pool {
        &self.pools[usize::from(id.0)]
    }

    /// The server of that id.
    #[must_use]
    pub fn server(&self, id: ServerId) -> &Server {
        &self.servers[id.0 as usize]
    }

    /// The id of a listener that is in the configuration.
    #[must_use]
    pub fn listener_id(&self, name: &str) -> Option<ListenerId> {
        let index = self.listeners.iter().position(|one| one.removed.is_none() && *one.name == *name);
        index.and_then(dense).map(ListenerId)
    }

    /// The id of a pool that is in the configuration.
    #[must_use]
    pub fn pool_named(&self, name: &str) -> Option<PoolId> {
        let index = self.pools.iter().position(|pool| !pool.removed && *pool.name == *name);
        index.and_then(dense).map(PoolId)
    }

    /// What a pick is told of the servers.
    #[must_use]
    pub fn loads(&self, now: Tick) -> Now<'_> {
        Now { snapshot: self, now }
    }

    /// The servers of a pool with their ids, those that were removed too.
    pub fn members(&self, pool: PoolId) -> impl Iterator<Item = (ServerId, &Server)> {
        (0..).map(ServerId).zip(&self.servers).filter(move |(_, server)| server.pool == pool)
    }
}

/// Chooses among `weights` of `servers`, each at a step of its slow start; what was there `before` and fits goes on: who had the
/// last turn, or a table.
fn balancer(
    balance: config::Balance,
    weights: &[(ServerId, u16, u32)],
    servers: &[Server],
    before: Option<&Balancer>,
) -> Balancer {
    let steps: Vec<_> = weights.iter().map(|(_, weight, step)| (*weight, *step)).collect();
    let members: Vec<_> = weights.iter().map(|(id, ..)| *id).zip(health::shares(&steps)).collect();
    let members = &*members;
    match balance {
        config::Balance::TwoChoices => Balancer::TwoChoices(TwoChoices::new(members)),
        config::Balance::Random => Balancer::Random(TwoChoices::new(members)),
        config::Balance::LeastConnections => {
            let least = LeastConnections::new(members);
            Balancer::LeastConnections(match before {
                Some(Balancer::LeastConnections(before)) => least.after(before),
                _ => least,
            })
        }
        config::Balance::LeastTime => Balancer::LeastTime(TwoChoices::new(members)),
        config::Balance::First => Balancer::First(First::new(members)),
        config::Balance::RoundRobin => {
            let rotate = Rotate::new(members);
            Balancer::RoundRobin(match before {
                Some(Balancer::RoundRobin(before)) => rotate.after(before),
                _ => rotate,
            })
        }
        config::Balance::Source(spread) => {
            // A step of a slow start is a twentieth.
            let weight = |weight: u16, step| u32::from(weight) * step;
            let name = |id: ServerId| &*servers[id.0 as usize].name;
            let named = || weights.iter().map(|(id, own, step)| (*id, weight(*own, *step), name(*id)));
            Balancer::BySource(match before {
                Some(Balancer::BySource(before)) if before.is_over(named(), spread) => Arc::clone(before),
                _ => Arc::new(BySource::new(named(), spread)),
            })
        }
    }
}

/// Servers of which nothing is known yet begin in the middle of the others: neither does everybody run to them nor does nobody
/// try them.
fn begin_at_the_median<'a>(all: impl Iterator<Item = &'a PeakEwma> + Clone, now: Tick) {
    if let Some(median) = balance::median(all.clone().filter_map(|time| time.mean_ms(now))) {
        all.for_each(|time| time.begin(now, median));
    }
}

/// The servers as a pick sees them.
#[derive(Clone, Copy, Debug)]
pub struct Now<'a> {
    snapshot: &'a Snapshot,
    now: Tick,
}

impl Loads for Now<'_> {
    fn load(&self, server: ServerId) -> Option<u32> {
        self.snapshot.server(server).connections.below()
    }

    fn connections(&self, server: ServerId) -> u32 {
        self.snapshot.server(server).connections.count()
    }

    fn latency_ms(&self, server: ServerId) -> [Option<f32>; 2] {
        let latency = &self.snapshot.server(server).latency;
        latency.as_ref().map_or([None; 2], |latency| latency.weighed_ms(self.now))
    }
}

/// Where things are put in the next snapshot: what keeps its name keeps its place.
struct Places<'a> {
    pools: HashMap<&'a str, usize>,
    free_pools: Vec<usize>,
    servers: HashMap<(PoolId, &'a str), Vec<usize>>,
    free_servers: Vec<usize>,
    listeners: HashMap<&'a str, usize>,
    free_listeners: Vec<usize>,
}

impl<'a> Places<'a> {
    /// The places of `before`, whose servers and listeners are as these by now: one may have got a connection again.
    fn new(before: &'a Snapshot, servers: &[Server], listeners: &[Listener], now: Tick) -> Self {
        let (free_listeners, kept): (Vec<usize>, Vec<usize>) =
            (0..listeners.len()).partition(|index| is_free(listeners[*index].removed, now));
        let is_free = |server: &Server| is_free(server.removed, now);
        let mut is_used: Vec<bool> = before.pools.iter().map(|pool| !pool.removed).collect();
        let holders = servers.iter().filter(|server| !is_free(server)).map(|server| server.pool);
        for pool in holders.chain(kept.iter().flat_map(|index| listeners[*index].leads.pools())) {
            is_used[usize::from(pool.0)] = true;
        }
        let mut named: HashMap<_, Vec<usize>> = HashMap::new();
        let mut free_servers = Vec::new();
        for (index, (server, now)) in before.servers.iter().zip(servers).enumerate() {
            if is_free(now) {
                free_servers.push(index);
            } else {
                named.entry((server.pool, &*server.name)).or_default().push(index);
            }
        }
        let pools = before.pools.iter().enumerate();
        Self {
            free_pools: (0..is_used.len()).filter(|index| !is_used[*index]).collect(),
            pools: pools
                .filter(|(index, _)| is_used[*index])
                .map(|(index, pool)| (&*pool.name, index))
                .collect(),
            servers: named,
            free_servers,
            listeners: kept.into_iter().map(|index| (&*before.listeners[index].name, index)).collect(),
            free_listeners,
        }
    }

    /// The id that a pool has, or gets.
    fn pool(&mut self, name: &str, count: usize) -> Result<PoolId, NoIds> {
        let own = self.pools.get(name).copied();
        let index = own.or_else(|| self.free_pools.pop()).unwrap_or(count);
        dense(index).map(PoolId).ok_or(NoIds("pool"))
    }

    /// The place that a listener has, or gets: an id, too.
    fn listener(&mut self, name: &str, count: usize) -> Result<usize, NoIds> {
        let own = self.listeners.get(name).copied();
        let index = own.or_else(|| self.free_listeners.pop()).unwrap_or(count);
        dense(index).map(|_| index).ok_or(NoIds("listener"))
    }

    /// The place of a server. One with another address is another server: connections to the old one belong to that.
    fn server(&mut self, pool: PoolId, server: &config::Server, all: &[Server]) -> usize {
        let own = self.servers.get(&(pool, server.name.as_str()));
        let own = own.and_then(|own| own.iter().copied().find(|index| all[*index].addr == server.addr));
        own.or_else(|| self.free_servers.pop()).unwrap_or(all.len())
    }
}

impl Listener {
    /// Those whom it has accepted and who are still there.
    #[must_use]
    pub fn clients(&self) -> u32 {
        self.connections.count() + self.waiting.count()
    }
}

impl Pool {
    fn as_removed(&self) -> Self {
        Self {
            name: Arc::clone(&self.name),
            balance: self.balance,
            choice: Choice {
                serving: Serving::Nobody,
                balancer: Balancer::First(First::new(&[])),
                backups: None,
            },
            on_removed: self.on_removed,
            drain_timeout: self.drain_timeout,
            close_rate: self.close_rate,
            connect: self.connect,
            retry: self.retry,
            tcp: self.tcp.clone(),
            source: self.source.clone(),
            send_proxy: self.send_proxy,
            queue: self.queue.clone(),
            removed: true,
        }
    }
}

/// Since when something that is not in the configuration has nobody; the latest of all times while it has.
fn at_rest_since(before: Option<Tick>, count: u32, now: Tick) -> Tick {
    match before {
        _ if count > 0 => NEVER,
        Some(since) if since != NEVER => since,
        _ => now,
    }
}

const NEVER: Tick = Tick(u64::MAX);

/// Whether an id can be given to something else.
fn is_free(removed: Option<Tick>, now: Tick) -> bool {
    removed.is_some_and(|since| since != NEVER && since.after(ID_RESTS) <= now)
}

fn put<T>(all: &mut Vec<T>, index: usize, one: T) {
    if index == all.len() {
        all.push(one);
    } else {
        all[index] = one;
    }
}

impl Server {
    /// One that has no connection yet.
    fn new(pool: PoolId, server: &config::Server, over: Override, health: Health, of: &config::Pool) -> Self {
        Self {
            name: server.name.as_str().into(),
            pool,
            addr: server.addr.clone(),
            weight: over.weight.unwrap_or(server.weight),
            backup: server.backup,
            state: over.state.unwrap_or(server.state),
            health,
            latency: (of.balance == config::Balance::LeastTime).then(Arc::default),
            max_fails: of.passive.max_fails,
            connections: Limit::new(server.maxconn.map_or(u32::MAX, NonZeroU32::get)),
            dry: Arc::default(),
            tally: Arc::default(),
            removed: None,
        }
    }
}

/// Puts a server of the configuration in its place, with the counts of the one that is there if it is the same.
fn put_server(all: &mut Vec<Server>, index: usize, mut server: Server) -> ServerId {
    let is_own =
        |one: &&Server| one.pool == server.pool && one.name == server.name && one.addr == server.addr;
    if let Some(own) = all.get(index).filter(is_own) {
        let connections = own.connections.with_most(server.connections.most());
        (server.connections, server.tally) = (connections, Arc::clone(&own.tally));
        server.dry = Arc::clone(&own.dry);
        // What was known of one that comes back has faded, and says that it is near.
        let is_used = |one: &Server| one.health == Health::Up && one.state == ServerState::Ready;
        if server.latency.is_some() && own.latency.is_some() && (is_used(own) || !is_used(&server)) {
            server.latency.clone_from(&own.latency);
        }
    }
    put(all, index, server);
    ServerId(u32::try_from(index).expect("configuration limits the number of servers"))
}

/// The id that an index is; there are as many as 16 bits can tell apart.
fn dense(index: usize) -> Option<u16> {
    u16::try_from(index).ok()
}

#[cfg(test)]
mod tests;
