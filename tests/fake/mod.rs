//! A process that is made up: it is what a test says, and notes every change that it is told to make.

// Each test file uses its own part of this.
#![allow(dead_code)]

use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use log::LevelFilter;
use tidegate::control::model::{
    Access, Changed, Closing, Connection, Effect, ExplainedServer, Explanation, Filter, Outcome, Path,
    ProxyHeader, Question, Refusal, RefusalKind, Server, ServerState, Serving, Status,
};
use tidegate::control::select::Selection;
use tidegate::control::{Control, Cursor};

pub(crate) mod served;

/// Connections in one answer of the real process.
const PIECE: u32 = 100;

/// What it is, which a test may change at any time.
pub(crate) struct World {
    pub(crate) status: Status,
    /// How the state has moved after so long.
    pub(crate) moved: fn(Status, Duration) -> Status,
    /// What `metrics.per_server` says.
    pub(crate) per_server: bool,
    /// How many live connections there are, and each by its number.
    pub(crate) connections: u32,
    pub(crate) connection: fn(u32) -> Connection,
    /// The last filter that connections were asked for with.
    pub(crate) asked: Filter,
    /// Changes that were made, in words.
    pub(crate) changes: Vec<String>,
}

pub(crate) struct Fake {
    world: Mutex<World>,
    began: Instant,
    /// How long a change takes.
    pub(crate) change_takes: Duration,
    /// How often the state, and a piece of the connections, was asked for.
    pub(crate) states: AtomicUsize,
    pub(crate) pieces: AtomicUsize,
}

impl Fake {
    pub(crate) fn new(status: Status, connections: u32, connection: fn(u32) -> Connection) -> Self {
        let moved = |status, _| status;
        let (per_server, asked, changes) = (true, Filter::default(), Vec::new());
        Self {
            world: Mutex::new(World { status, moved, per_server, connections, connection, asked, changes }),
            began: Instant::now(),
            change_takes: Duration::ZERO,
            states: AtomicUsize::new(0),
            pieces: AtomicUsize::new(0),
        }
    }

    /// Reads or changes the world.
    pub(crate) fn world<T>(&self, work: impl FnOnce(&mut World) -> T) -> T {
        work(&mut self.world.lock().unwrap())
    }

    pub(crate) fn changes(&self) -> Vec<String> {
        self.world(|world| world.changes.clone())
    }

    async fn note(&self, change: String) {
        tokio::time::sleep(self.change_takes).await;
        self.world(|world| world.changes.push(change));
    }

    fn server<T>(&self, pool: &str, server: &str, work: impl FnOnce(&mut Server) -> T) -> Result<T, Refusal> {
        self.world(|world| world.server(pool, server).map(work))
    }
}

impl World {
    /// One of its servers.
    pub(crate) fn server(&mut self, pool: &str, server: &str) -> Result<&mut Server, Refusal> {
        let missing = |what: String| Refusal::new(RefusalKind::NotFound, what);
        let known = self.status.pools.iter_mut().find(|known| known.name == pool);
        let known = known.ok_or_else(|| missing(format!("there is no pool {pool:?}")))?;
        let found = known.servers.iter_mut().find(|known| known.name == server);
        found.ok_or_else(|| missing(format!("pool {pool} has no server {server:?}")))
    }
}

pub(crate) fn closing(why: &str, rate: Option<u32>) -> Closing {
    Closing { id: 1, why: why.to_owned(), connections: 120, told: 7, rate }
}

fn changed(what: String) -> Changed {
    Changed { what, next_reload: "keeps it".to_owned() }
}

impl Control for Fake {
    async fn status(&self) -> Status {
        self.states.fetch_add(1, Ordering::Relaxed);
        self.world(|world| (world.moved)(world.status.clone(), self.began.elapsed()))
    }

    fn has_metrics_per_server(&self) -> bool {
        self.world(|world| world.per_server)
    }

    async fn connections(
        &self,
        filter: &Filter,
        after: Option<Cursor>,
        with_paths: bool,
    ) -> Result<(Vec<Connection>, Option<Cursor>), Refusal> {
        self.pieces.fetch_add(1, Ordering::Relaxed);
        let selection = Selection::new(filter)?;
        if let (Some(pool), Some(server)) = selection.server() {
            self.server(pool, server, |_| ())?;
        }
        let path = with_paths.then_some(Path { rtt_us: 18_400, retransmits: 3 });
        Ok(self.world(|world| {
            world.asked = filter.clone();
            let start = after.unwrap_or_default().slot;
            let end = start.saturating_add(PIECE).min(world.connections);
            let all = (start..end).map(world.connection).filter(|it| selection.has(it));
            let found = all.map(|it| Connection { client_path: path, server_path: path, ..it }).collect();
            (found, (end < world.connections).then_some(Cursor { worker: 0, slot: end }))
        }))
    }

    async fn set_state(&self, pool: &str, server: &str, state: ServerState) -> Result<Changed, Refusal> {
        self.server(pool, server, |server| server.state = state)?;
        self.note(format!("state {pool}/{server} {state:?}")).await;
        Ok(changed(format!("server {pool}/{server}: state ready -> {state:?}")))
    }

    async fn set_weight(&self, pool: &str, server: &str, weight: u16) -> Result<Changed, Refusal> {
        self.server(pool, server, |server| server.weight = weight)?;
        self.note(format!("weight {pool}/{server} {weight}")).await;
        Ok(changed(format!("server {pool}/{server}: weight 1 -> {weight}")))
    }

    async fn kill(&self, filter: Filter, rate: Option<u32>) -> Result<Closing, Refusal> {
        let filter = serde_json::to_string(&filter).unwrap();
        self.note(format!("kill {filter} {rate:?}")).await;
        Ok(closing("kill", rate))
    }

    async fn rebalance(&self, pool: &str, rate: Option<u32>) -> Result<Closing, Refusal> {
        self.server(pool, "alpha", |_| ())?;
        self.note(format!("rebalance {pool} {rate:?}")).await;
        Ok(closing("rebalance", rate))
    }

    async fn reload(&self, confirm: Option<Duration>) -> Result<Effect, Refusal> {
        self.note(format!("reload {confirm:?}")).await;
        Ok(Effect { lines: vec!["listener web: 0 of 6 connections affected".to_owned()], unchanged: false })
    }

    async fn confirm(&self) -> Result<Changed, Refusal> {
        if self.world(|world| world.status.config.confirm_within_s.is_none()) {
            return Err(Refusal::new(RefusalKind::Conflict, "no reload waits for a confirmation"));
        }
        self.note("confirm".to_owned()).await;
        Ok(changed("the configuration is kept".to_owned()))
    }

    async fn roll_back(&self) -> Result<Effect, Refusal> {
        self.note("roll back".to_owned()).await;
        Ok(Effect { lines: Vec::new(), unchanged: true })
    }

    async fn diff(&self, text: &str) -> Result<Effect, Refusal> {
        match tidegate::config::parse(text, "diff") {
            Ok(config) => {
                let lines = config.listeners.iter().map(|it| format!("listener {}: as it was", it.name));
                Ok(Effect { lines: lines.collect(), unchanged: false })
            }
            Err(report) => Err(Refusal::new(RefusalKind::Invalid, report.to_string())),
        }
    }

    async fn set_log_level(&self, level: LevelFilter) -> Changed {
        self.note(format!("log level {level}")).await;
        changed(format!("log level: info -> {level}"))
    }

    async fn explain(&self, question: &Question) -> Result<Explanation, Refusal> {
        let Status { listeners, pools, .. } = self.status().await;
        let named = |one: &&tidegate::control::model::Listener| {
            question.listener.as_ref().is_none_or(|name| *name == one.name)
        };
        let Some(listener) = listeners.iter().find(named) else {
            return Err(Refusal::new(RefusalKind::NotFound, "there is no such listener"));
        };
        let server = &pools[0].servers[0];
        Ok(Explanation {
            listener: listener.name.clone(),
            source: question.source,
            peer: question.peer,
            proxy_header: ProxyHeader::Off,
            sni: question.sni.clone(),
            alpn: question.alpn.clone(),
            access: Access { allowed: true, rule: Some("allow 10.0.0.0/8".to_owned()), number: Some(2) },
            source_connections: Some(3),
            source_connections_most: Some(200),
            route: Some(1),
            pool: pools[0].name.clone(),
            balance: "p2c".to_owned(),
            serving: Serving::Servers,
            outcome: Outcome::Server,
            server: Some(server.name.clone()),
            then: "is connected to it".to_owned(),
            servers: vec![ExplainedServer {
                name: server.name.clone(),
                address: server.address.clone(),
                origin: server.origin.clone(),
                chosen: true,
                draws_percent: Some(50),
                why: "drawn".to_owned(),
            }],
        })
    }

    async fn dump(&self) -> String {
        "config_version = 1\n".to_owned()
    }
}
